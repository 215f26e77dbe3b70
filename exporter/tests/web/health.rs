//! `/health` and `/-/ready`.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tesseract_exporter::snapshot::Snapshot;
use web3::types::U256;

use crate::server::{Server, unknown, well};

#[tokio::test(flavor = "multi_thread")]
async fn health_has_exactly_the_named_keys() {
    let server = Server::start([well("sepolia"), unknown("base")]).await;
    let before = unix_now();
    let answer = server.ask("GET", "/health", "");
    assert_eq!(answer.status, 503);

    let mut body: Value = serde_json::from_str(&answer.body).unwrap();
    for network in ["sepolia", "base"] {
        let timestamp = body["networks"][network]["timestamp"].take().as_u64().unwrap();
        assert!((before..=unix_now()).contains(&timestamp), "{timestamp}");
    }
    let last_success = body["networks"]["sepolia"]["last_success"].take().as_u64().unwrap();
    assert!((before - 60..=unix_now()).contains(&last_success), "{last_success}");
    let expected = json!({
        "healthy": false,
        "networks": {
            "sepolia": {
                "timestamp": null, "connected": true, "contract_exists": true,
                "owner": "0x1111111111111111111111111111111111111111", "paused": false, "transaction_count": 7,
                "block_number": 120, "synced": true, "processed_block": 118, "last_success": null,
            },
            "base": {
                "timestamp": null, "connected": false, "contract_exists": null, "owner": null, "paused": null,
                "transaction_count": null, "block_number": null, "synced": false, "processed_block": null,
                "last_success": null, "problem": "no endpoint answered",
            },
        },
    });
    assert_eq!(body, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_name_what_is_wrong() {
    let server = Server::start([well("sepolia"), well("base")]).await;
    let check = |change: fn(&mut Snapshot), health: u16, ready: u16, reasons: &str| {
        server.change("sepolia", |of| {
            *of = well("sepolia");
            change(of);
        });
        assert_eq!(server.ask("GET", "/health", "").status, health, "{reasons}");
        let answer = server.ask("GET", "/-/ready", "");
        assert_eq!((answer.status, answer.body.as_str()), (ready, reasons));
    };

    check(|_| (), 200, 200, "ready\n");
    check(|of| of.connected = false, 503, 200, "ready\n");
    check(|of| of.views.exists = Some(false), 503, 200, "ready\n");
    check(|of| of.views.exists = None, 503, 200, "ready\n");
    check(|of| of.views.paused = Some(true), 200, 200, "ready\n");
    check(|of| of.synced = false, 503, 503, "sepolia: first sync not done, 0 blocks left\n");
    let catching_up = |of: &mut Snapshot| {
        of.synced = false;
        of.sync_remaining = Some(1200);
        of.problem = Some("timeout".into());
    };
    check(catching_up, 503, 503, "sepolia: first sync not done, 1200 blocks left: timeout\n");
    check(|of| of.last_success = None, 503, 503, "sepolia: no full cycle yet\n");
    // A clock that was set back is no reason to alarm anyone.
    check(|of| of.last_success = Some(SystemTime::now() + Duration::from_secs(600)), 200, 200, "ready\n");

    server.change("sepolia", |of| {
        *of = well("sepolia");
        of.last_success = Some(SystemTime::now() - Duration::from_secs(90));
        of.problem = Some("rate limited".into());
    });
    server.change("base", |of| *of = unknown("base"));
    let answer = server.ask("GET", "/-/ready", "");
    assert_eq!(answer.status, 503);
    let mut lines = answer.body.lines();
    let stale = lines.next().unwrap();
    assert!(stale.starts_with("sepolia: no full cycle for 9"), "{stale}");
    assert!(stale.ends_with(" s: rate limited"), "{stale}");
    assert_eq!(lines.next(), Some("base: first sync not done: no endpoint answered"));
    assert_eq!(server.ask("GET", "/-/healthy", "").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_values_leave_the_json_valid() {
    let mut snapshot = well("\"quoted\\\n\u{7}");
    snapshot.views.transaction_count = Some(U256::MAX);
    snapshot.problem = Some("</script>\"\u{0}\u{2028}".into());
    let server = Server::start([snapshot]).await;
    let body: Value = serde_json::from_str(&server.ask("GET", "/health", "").body).unwrap();
    let network = &body["networks"]["\"quoted\\\n\u{7}"];
    assert_eq!(network["transaction_count"], U256::MAX.to_string());
    assert_eq!(network["problem"], "</script>\"\u{0}\u{2028}");
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
