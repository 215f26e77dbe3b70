//! The page of a transaction: what is remembered, as HTML and as JSON, and nothing that a contract can inject.

use serde_json::{Value, json};
use tesseract_exporter::chain::BlockRef;
use tesseract_exporter::decode::{Event, Logged, Reason};
use tesseract_exporter::ledger::{Block, Ledger};
use tesseract_exporter::snapshot::{Snapshot, hex};
use web3::types::{H160, H256};

use crate::server::{Server, well};

const BUFFERED: u64 = 1_700_000_000;
const HOSTILE: &str = "<img src=x onerror=alert(1)> & \"more\" 'x'";

fn id(n: u64) -> H256 {
    H256::from_low_u64_be(n)
}

fn hash(n: u64) -> H256 {
    H256::repeat_byte(u8::try_from(n).unwrap())
}

fn block(number: u64, time: u64, events: Vec<(u64, Event)>) -> Block {
    let logged = |(n, event)| Logged { tx_hash: hash(n), event };
    Block {
        number,
        time,
        window: Some(30.into()),
        guessed: false,
        events: events.into_iter().map(logged).collect(),
    }
}

fn buffered(n: u64, scheduled: u64) -> (u64, Event) {
    let (origin, target) = (H160::zero(), H160::zero());
    (n, Event::Buffered { tx_id: id(n), origin, target, scheduled: scheduled.into(), frozen: false })
}

fn failed(n: u64, class: Reason, reason: &str) -> (u64, Event) {
    (0x50 + n, Event::Failed { tx_id: id(n), reason: reason.to_owned(), class })
}

/// One that is ready, one that expired and was ready afterwards, one that waits after a failure, one of which
/// only a failure is known, one that never ends.
fn network() -> Snapshot {
    let mut ledger = Ledger::default();
    let blocks = [
        block(
            100,
            BUFFERED,
            vec![
                buffered(1, BUFFERED + 10),
                buffered(2, BUFFERED),
                buffered(3, BUFFERED + 500),
                buffered(5, u64::MAX),
            ],
        ),
        block(
            101,
            BUFFERED + 15,
            vec![
                (0x51, Event::Ready { tx_id: id(1) }),
                failed(3, Reason::Dependency, "Dependencies not satisfied"),
                failed(4, Reason::Other, HOSTILE),
            ],
        ),
        // The deadline of the second passes here.
        block(102, BUFFERED + 35, Vec::new()),
        block(103, BUFFERED + 40, vec![(0x52, Event::Ready { tx_id: id(2) })]),
    ];
    ledger.apply(&[], &blocks, BlockRef { number: 103, time: BUFFERED + 40, ..BlockRef::default() });
    let mut snapshot = well("sepolia");
    snapshot.explorer = Some("https://explorer.example".to_owned());
    let gauges = snapshot.confirmed.as_mut().unwrap().gauges.as_mut().unwrap();
    (gauges.lives, gauges.newest) = (ledger.lives(), ledger.newest().clone());
    snapshot
}

fn event(event: &str, timestamp: u64, block: u64, tx_hash: Option<u64>) -> Value {
    let mut value = json!({ "event": event, "timestamp": timestamp, "block": block });
    if let Some(n) = tx_hash {
        value["tx_hash"] = hex(&hash(n)).into();
        value["explorer"] = format!("https://explorer.example/tx/{}", hex(&hash(n))).into();
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_life_is_told_as_json() {
    let server = Server::start([network(), well("other")]).await;
    let mut dependency = event("TransactionFailed", BUFFERED + 15, 101, Some(0x53));
    (dependency["class"], dependency["reason"]) = ("dependency".into(), "Dependencies not satisfied".into());
    let mut other = event("TransactionFailed", BUFFERED + 15, 101, Some(0x54));
    (other["class"], other["reason"]) = ("other".into(), HOSTILE.into());
    let table = [
        (
            1,
            json!({
                "status": "ready", "scheduled": BUFFERED + 10, "deadline": BUFFERED + 40,
                "resolution_time_seconds": 15, "resolution_delay_seconds": 5,
                "events": [
                    event("TransactionBuffered", BUFFERED, 100, Some(1)),
                    event("TransactionReady", BUFFERED + 15, 101, Some(0x51)),
                ],
            }),
        ),
        (
            2,
            json!({
                "status": "expired", "scheduled": BUFFERED, "deadline": BUFFERED + 30,
                "resolution_time_seconds": 40, "resolution_delay_seconds": 40,
                "events": [
                    event("TransactionBuffered", BUFFERED, 100, Some(2)),
                    event("TransactionExpired", BUFFERED + 30, 102, None),
                    event("TransactionReady", BUFFERED + 40, 103, Some(0x52)),
                ],
            }),
        ),
        (
            3,
            json!({
                "status": "pending", "scheduled": BUFFERED + 500, "deadline": BUFFERED + 530,
                "events": [event("TransactionBuffered", BUFFERED, 100, Some(3)), dependency],
            }),
        ),
        (4, json!({ "status": "failed", "events": [other] })),
        (
            5,
            json!({
                "status": "pending", "scheduled": u64::MAX, "deadline": (u128::from(u64::MAX) + 30).to_string(),
                "events": [event("TransactionBuffered", BUFFERED, 100, Some(5))],
            }),
        ),
    ];
    for (n, mut expected) in table {
        let answer = server.ask("GET", &format!("/tx/{}", hex(&id(n))), "Accept: application/json\r\n");
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        expected["network"] = "sepolia".into();
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told, json!({ "tx_id": hex(&id(n)), "networks": [expected] }), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_is_shown_and_nothing_is_injected() {
    let server = Server::start([network()]).await;
    let page = |n| server.ask("GET", &format!("/tx/{}", hex(&id(n))), "Accept: text/html, */*\r\n");
    let ready = page(1);
    assert_eq!((ready.status, ready.header("content-type")), (200, "text/html; charset=utf-8"));
    for shown in
        ["14 Nov 2023 22:13:20 UTC", "It became ready.", "<dd>5 s</dd>", "href=\"../networks/sepolia\""]
    {
        assert!(ready.body.contains(shown), "{shown} in {}", ready.body);
    }
    let link = format!(
        "<a href=\"https://explorer.example/tx/{0}\" rel=\"noreferrer\"><code>{0}</code></a>",
        hex(&hash(0x51))
    );
    assert!(ready.body.contains(&link), "{}", ready.body);
    assert!(page(2).body.contains("Its deadline passed, and it became ready afterwards."));
    assert!(page(3).body.contains("It waits; resolving it has failed, and may be tried again."));
    assert!(page(5).body.contains("after the year 9999"));

    for path in [format!("/tx/{}", hex(&id(4))), "/networks/sepolia".to_owned()] {
        let page = server.ask("GET", &path, "");
        assert!(
            page.body.contains("&lt;img src=x onerror=alert(1)&gt; &amp; &quot;more&quot;"),
            "{}",
            page.body
        );
        assert!(!page.body.contains("<img") && !page.body.contains("<script"), "{}", page.body);
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_from_a_saved_state_is_told_too() {
    let mut snapshot = network();
    // As after a restart: the newest failures are saved, lives are not.
    let gauges = snapshot.confirmed.as_mut().unwrap().gauges.as_mut().unwrap();
    gauges.lives = Ledger::default().lives();
    let server = Server::start([snapshot]).await;
    let told = server.ask("GET", &format!("/tx/{}", hex(&id(4))), "Accept: application/json\r\n").body;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["networks"][0]["events"][0]["reason"], HOSTILE);
    let told = server.ask("GET", &format!("/tx/{}", hex(&id(2))), "Accept: application/json\r\n").body;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["networks"][0]["status"], "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_remembered_is_said_to_be_so() {
    let server = Server::start([well("sepolia")]).await;
    for (accept, content_type) in
        [("", "text/html; charset=utf-8"), ("Accept: application/json\r\n", "application/json")]
    {
        let unknown = server.ask("GET", &format!("/tx/{}", hex(&id(9))), accept);
        assert_eq!((unknown.status, unknown.header("content-type")), (404, content_type));
        for said in
            ["not remembered", "every pending transaction", "the newest 1,000 failures and settlements"]
        {
            assert!(unknown.body.contains(said), "{said} in {}", unknown.body);
        }
    }
    for wrong in ["", "0x", "0x12", "1234", "0xzz", &"0".repeat(66), "../metrics"] {
        let answer = server.ask("GET", &format!("/tx/{wrong}"), "");
        assert_eq!(answer.status, 404, "{wrong}");
        assert!(answer.body.contains("expected /tx/ and a transaction id"), "{wrong}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_for_those_who_prefer_it() {
    let server = Server::start([network()]).await;
    let (html, json) = ("text/html; charset=utf-8", "application/json");
    let table = [
        ("", html),
        ("Accept: */*\r\n", html),
        ("Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n", html),
        ("Accept: application/json\r\n", json),
        ("Accept: application/json;q=0.1, text/html;q=0.9\r\n", html),
        ("Accept: text/html;q=0.1, application/json;q=0.9\r\n", json),
        ("Accept: text/html;q=0.1\r\nAccept: application/json\r\n", json),
    ];
    for (accept, content_type) in table {
        for (n, status) in [(1, 200), (9, 404)] {
            let answer = server.ask("GET", &format!("/tx/{}", hex(&id(n))), accept);
            assert_eq!((answer.status, answer.header("content-type")), (status, content_type), "{accept}");
            assert_eq!(answer.header("vary"), "Accept", "{accept}");
        }
    }
}
