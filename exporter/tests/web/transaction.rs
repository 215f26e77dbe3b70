//! The page of a transaction: what is remembered, as HTML and as JSON, and nothing that a contract can inject.

use std::sync::Arc;

use tesseract_exporter::decode::Reason;
use tesseract_exporter::ledger::{Expiry, Failure, Newest};
use tesseract_exporter::snapshot::{Snapshot, hex};
use web3::types::H256;

use crate::server::{Server, well};

fn with_newest(newest: Newest) -> Snapshot {
    let mut snapshot = well("sepolia");
    snapshot.explorer = Some("https://explorer.example".to_owned());
    let confirmed = snapshot.confirmed.as_mut().unwrap();
    confirmed.gauges.as_mut().unwrap().newest = Arc::new(newest);
    snapshot
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_of_a_transaction_is_shown() {
    let (failed, expired, hash) = (H256::repeat_byte(1), H256::repeat_byte(2), H256::repeat_byte(3));
    let failure = Failure {
        tx_id: failed,
        tx_hash: hash,
        class: Reason::Other,
        reason: "<img src=x onerror=alert(1)> & \"more\"".into(),
        timestamp: 1_700_000_000,
    };
    let expiry = Expiry { tx_id: expired, tx_hash: hash, deadline: u64::MAX, at: 7 };
    let newest = Newest { failures: vec![failure], expiries: vec![expiry] };
    let server = Server::start([with_newest(newest), well("other")]).await;

    let page = server.ask("GET", &format!("/tx/{}", hex(&failed)), "Accept: text/html, */*\r\n");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.body.contains("Tue, 14 Nov 2023 22:13:20 GMT"), "{}", page.body);
    assert!(page.body.contains("&lt;img src=x onerror=alert(1)&gt; &amp; &quot;more&quot;"), "{}", page.body);
    assert!(!page.body.contains("<img"), "{}", page.body);
    let link = format!("<a href=\"https://explorer.example/tx/{0}\" rel=\"noreferrer\">{0}</a>", hex(&hash));
    assert!(page.body.contains(&link), "{}", page.body);

    let json = server.ask("GET", &format!("/tx/{}", hex(&expired)), "Accept: application/json\r\n");
    assert_eq!((json.status, json.header("content-type")), (200, "application/json"));
    let expected = format!(
        "{{\"tx_id\":\"{id}\",\"events\":[{{\"network\":\"sepolia\",\"event\":\"TransactionExpired\",\
         \"timestamp\":{time},\"tx_hash\":\"{hash}\",\"explorer\":\"https://explorer.example/tx/{hash}\"}}]}}\n",
        id = hex(&expired),
        time = u64::MAX,
        hash = hex(&hash),
    );
    assert_eq!(json.body, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_remembered_is_said_to_be_so() {
    let server = Server::start([well("sepolia")]).await;
    let unknown = server.ask("GET", &format!("/tx/{}", hex(&H256::repeat_byte(9))), "");
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("is not remembered: the newest 16 failures"), "{}", unknown.body);
    for wrong in ["", "0x", "0x12", "1234", "0xzz", &"0".repeat(66), "../metrics"] {
        let answer = server.ask("GET", &format!("/tx/{wrong}"), "");
        assert_eq!(answer.status, 404, "{wrong}");
        assert!(answer.body.contains("expected /tx/ and a transaction id"), "{wrong}: {}", answer.body);
    }
}
