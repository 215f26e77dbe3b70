//! Faults of sheer mass, as far as a reader with a limit and little patience sees them.

use serde_json::json;
use tesseract_tests::hostile::Fault;

use super::{Got, HEAD, Rig, hex};

#[tokio::test]
async fn one_kind_of_call_is_answered_with_a_tree() {
    let rig = Rig::start().await;
    let contract = rig.sim.chain().contract();
    let calls = [
        ("eth_getCode", json!([contract, "latest"]), Fault::TreeCode),
        ("eth_call", json!([{"to": contract, "data": "0x8da5cb5b"}, "latest"]), Fault::TreeViews),
        ("eth_getLogs", json!([{"fromBlock": "0x0", "toBlock": hex(HEAD)}]), Fault::TreeTimes),
    ];
    for (_, _, fault) in &calls {
        rig.proxy.set(*fault);
        for (method, params, own) in &calls {
            let got = rig.call(method, params.clone()).await;
            let too_much = !matches!(got, Got::Json(200, _));
            assert_eq!(too_much, own == fault, "{fault}: {method}");
        }
    }
}

#[tokio::test]
async fn crumbs_and_interim_answers_take_longer_than_anybody_waits() {
    let rig = Rig::start().await;
    for fault in [Fault::Crumbs, Fault::EndlessInterim] {
        rig.proxy.set(fault);
        assert_eq!(rig.head().await, Got::NoAnswer, "{fault}");
        rig.proxy.clear();
        assert!(matches!(rig.head().await, Got::Json(200, _)), "after {fault}");
    }
}
