//! A state that cannot be seen is not over: it stays told while nobody can say, and what comes after is told anew.

use tesseract_tests::scripted::Value;
use tesseract_tests::scripted::healthy::{HEALTHY, healthy, series};
use tesseract_tests::stand_in::{Message, Service};

use crate::rig::{Rig, minutes, seconds, titles};

/// The states of a contract that a node tells, with the value that raises the alert.
const STATES: [(&str, &str, f64); 4] = [
    ("TesseractContractPaused", "contract_paused", 1.0),
    ("TesseractCircuitBreakerActive", "circuit_breaker_active", 1.0),
    ("TesseractContractMissing", "contract_exists", 0.0),
    ("TesseractOwnerUnexpected", "contract_owner_expected", 0.0),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_unseen_and_begins_anew_is_told_anew() {
    let rig = Rig::start(1).await;
    rig.watch(&["a"]).await;
    let all = |value: fn(f64) -> Value| STATES.map(|(_, view, raised)| (view, value(raised)));
    rig.set("a", &all(Value::Is));
    for (alert, ..) in STATES {
        rig.told(&format!("[CRITICAL] {alert} on a")).await;
    }
    // The node is away for 20 minutes, and meanwhile all of it ends.
    rig.set("a", &all(|_| Value::Absent));
    rig.set("a", &[("node_connected", Value::Is(0.0))]);
    rig.told("[CRITICAL] TesseractNodeDisconnected on a").await;
    rig.pass(minutes(20)).await;
    for (alert, ..) in STATES {
        assert_eq!(titles(&rig, alert), ["[CRITICAL]"], "{alert}: nobody has seen its end");
    }
    rig.set("a", &all(|raised| Value::Is(1.0 - raised)));
    rig.set("a", &[("node_connected", Value::Is(1.0))]);
    for (alert, ..) in STATES {
        rig.told(&format!("[RESOLVED] {alert} on a")).await;
    }
    rig.set("a", &all(Value::Is));
    for (alert, ..) in STATES {
        let again = || async { titles(&rig, alert) == ["[CRITICAL]", "[RESOLVED]", "[CRITICAL]"] };
        rig.until(&format!("{alert} again"), again).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dying_exporter_calls_nothing_off() {
    let rig = Rig::start(1).await;
    rig.watch(&["dark", "losing"]).await;
    rig.set("dark", &[("node_connected", Value::Is(0.0))]);
    let losses = "transactions_settled_total{outcome=\"expired\"}";
    rig.set("losing", &[(losses, Value::Every(seconds(10)))]);
    for alert in ["TesseractNodeDisconnected on dark", "TesseractHighFailureRate on losing"] {
        page(&rig, "trigger", alert).await;
    }
    rig.exporters[0].down(true);
    page(&rig, "trigger", "TesseractExporterDown").await;
    rig.pass(minutes(30)).await;
    let closed: Vec<_> = pages(&rig).into_iter().filter(|it| it.body["event_action"] == "resolve").collect();
    assert!(closed.is_empty(), "{closed:#?}");

    // Back, and well: all three end, and are said to.
    for network in ["dark", "losing"] {
        rig.exporters[0].set(healthy(network));
    }
    rig.set("losing", &[(losses, Value::Frozen)]);
    rig.exporters[0].down(false);
    rig.until("three incidents are closed", || async {
        pages(&rig).iter().filter(|it| it.body["event_action"] == "resolve").count() == 3
    })
    .await;
}

/// Three minutes into the five that a high rate and missing events must last.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_45_seconds_begins_no_wait_anew() {
    let rig = Rig::start(1).await;
    rig.watch(&["a"]).await;
    let losses = ("transactions_settled_total{outcome=\"expired\"}", Value::Every(seconds(10)));
    rig.set("a", &[losses, ("missing_events", Value::Is(3.0))]);
    let pending = "count(ALERTS{alertname=~\"TesseractHighFailureRate|TesseractMissingEvents\", alertstate=\"pending\"}) == 2";
    rig.until_query(pending).await;
    let since = "sum(ALERTS_FOR_STATE{alertname=~\"TesseractHighFailureRate|TesseractMissingEvents\"})";
    let before = rig.stack.query(since).await.unwrap();
    rig.pass(minutes(2)).await;
    rig.exporters[0].down(true);
    rig.until_query("up{job=\"tesseract\"} == bool 0").await;
    rig.pass(seconds(30)).await;
    rig.exporters[0].down(false);
    for alert in ["TesseractHighFailureRate", "TesseractMissingEvents"] {
        rig.told(&format!("[CRITICAL] {alert} on a")).await;
    }
    assert_eq!(rig.stack.query(since).await.unwrap(), before, "both have waited since before the restart");
    assert!(rig.slack_about("TesseractExporterDown").is_empty());
}

/// A network that nobody exposes any more is forgotten after an hour; one whose exporter is down is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_a_network_that_is_not_watched_any_more_ends_after_an_hour() {
    let rig = Rig::start(1).await;
    rig.watch(&["gone", "kept"]).await;
    rig.set("gone", &[("contract_paused", Value::Is(1.0))]);
    rig.told("[CRITICAL] TesseractContractPaused on gone").await;
    rig.exporters[0].set(HEALTHY.iter().map(|(name, _)| (series("gone", name), Value::Absent)));
    rig.told("[WARNING] TesseractNetworkGone on gone").await;
    assert_eq!(titles(&rig, "TesseractContractPaused"), ["[CRITICAL]"]);
    rig.told("[RESOLVED] TesseractContractPaused on gone").await;
    // Watched anew and gone anew, it is told anew; that it is gone is never called off.
    let now = rig.stack.query("time()").await.unwrap()[0];
    rig.exporters[0].set(healthy("gone"));
    rig.until_query(&format!("tesseract:network:seen_timestamp{{network=\"gone\"}} > bool {now}")).await;
    rig.until_query("absent(ALERTS{alertname=\"TesseractNetworkGone\", network=\"gone\"})").await;
    rig.exporters[0].set(HEALTHY.iter().map(|(name, _)| (series("gone", name), Value::Absent)));
    let again = || async { titles(&rig, "TesseractNetworkGone") == ["[WARNING]", "[WARNING]"] };
    rig.until("gone again", again).await;
    rig.told_at("TesseractNetworkGone", "gone", "warning").await;
    // The exporter itself is down: nothing is gone, it is only out of sight.
    rig.exporters[0].down(true);
    rig.told("[CRITICAL] TesseractExporterDown").await;
    rig.pass(minutes(30)).await;
    assert!(rig.slack_about("TesseractNetworkGone on kept").is_empty());
    assert_eq!(titles(&rig, "TesseractNetworkGone"), ["[WARNING]", "[WARNING]"]);
}

/// What PagerDuty was told about Tesseract; the stack speaks of itself too.
fn pages(rig: &Rig) -> Vec<Message> {
    let mut pages = rig.people.messages_for(Service::PagerDuty);
    pages.retain(|it| it.body["payload"]["class"].as_str().is_some_and(|it| it.starts_with("Tesseract")));
    pages
}

/// Waits for what PagerDuty is told of an alert.
async fn page(rig: &Rig, action: &str, alert: &str) {
    let what = format!("{action} {alert}");
    rig.until(&what, || async {
        pages(rig).iter().any(|it| {
            let summary = it.body["payload"]["summary"].as_str().unwrap_or_default();
            it.body["event_action"] == action && summary.contains(alert)
        })
    })
    .await;
}
