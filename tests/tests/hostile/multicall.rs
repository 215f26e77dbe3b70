//! Multicall3 as it is, and as it is not; state that is asked for by the hash of a block, or only at the newest one.

use tesseract_tests::sim::MULTICALL;
use web3::ethabi::{self, ParamType, Token};
use web3::types::{Bytes, H160};

use super::*;

/// `getChainId()` of Multicall3 and `transaction_count()` of the contract, in one call.
async fn aggregated(rig: &Rig, block: Value) -> Got {
    let call = |to: H160, input: &[u8]| {
        Token::Tuple(vec![Token::Address(to), Token::Bool(true), Token::Bytes(input.to_vec())])
    };
    let count = tesseract_tests::sim::topic("transaction_count()");
    let calls = vec![
        call(MULTICALL, &[0x34, 0x08, 0xe4, 0x70]),
        call(rig.sim.chain().contract(), &count.as_bytes()[..4]),
    ];
    let input = [&[0x82, 0xad, 0x56, 0xcb][..], &ethabi::encode(&[Token::Array(calls)])].concat();
    rig.call("eth_call", json!([{"to": MULTICALL, "data": Bytes(input)}, block])).await
}

/// What each call returned.
fn returned(got: &Got) -> Vec<u64> {
    let Bytes(bytes) = serde_json::from_value(got.result().clone()).unwrap();
    let results = ParamType::Array(Box::new(ParamType::Tuple(vec![ParamType::Bool, ParamType::Bytes])));
    let results = ethabi::decode(&[results], &bytes).unwrap().remove(0).into_array().unwrap();
    let number = |result: Token| {
        let bytes = result.into_tuple().unwrap().remove(1).into_bytes().unwrap();
        ethabi::decode(&[ParamType::Uint(256)], &bytes).unwrap().remove(0).into_uint().unwrap().as_u64()
    };
    results.into_iter().map(number).collect()
}

#[tokio::test]
async fn multicall_is_what_it_is_elsewhere_or_is_not() {
    let rig = Rig::start().await;
    let (chain_id, count) = (rig.sim.chain().params().chain_id, rig.sim.chain().transaction_count(HEAD));
    let block = json!({"blockHash": rig.sim.chain().hash(HEAD)});
    for block in [&block, &json!(hex(HEAD)), &json!("latest")] {
        assert_eq!(returned(&aggregated(&rig, block.clone()).await), [chain_id, count]);
    }
    rig.proxy.set(Fault::MulticallAbsent);
    assert_eq!(aggregated(&rig, block.clone()).await.result(), "0x");
    rig.proxy.set(Fault::MulticallReverts);
    assert_eq!(aggregated(&rig, block.clone()).await.json()["error"]["code"], 3);
    rig.proxy.set(Fault::MulticallLies);
    assert_eq!(returned(&aggregated(&rig, block.clone()).await), [1; 6]);
    rig.proxy.set(Fault::MulticallPassing);
    let mut answers = BTreeSet::new();
    for _ in 0..2 {
        answers.insert(aggregated(&rig, block.clone()).await.result() == "0x");
    }
    assert_eq!(answers.len(), 2, "there and not there in turn");
}

#[tokio::test]
async fn state_is_not_given_for_every_name_of_a_block() {
    let rig = Rig::with(Fault::NoHashState).await;
    let by_hash = json!({"blockHash": rig.sim.chain().hash(HEAD)});
    assert_eq!(aggregated(&rig, by_hash.clone()).await.json()["error"]["code"], -32602);
    assert_eq!(returned(&aggregated(&rig, json!(hex(HEAD))).await).len(), 2);
    rig.proxy.set(Fault::StateAtLatest);
    for block in [by_hash, json!(hex(HEAD))] {
        assert_eq!(aggregated(&rig, block).await.json()["error"]["code"], -32602);
    }
    assert_eq!(returned(&aggregated(&rig, json!("latest")).await).len(), 2);
}
