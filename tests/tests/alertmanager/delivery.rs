//! That each event arrives once, whatever the receivers do meanwhile; that storms are one message; that environments
//! leave each other alone, and messages say which one they are about; and that the heartbeat stops when messages to
//! people fail.

use std::collections::BTreeSet;

use hyper::StatusCode;
use serde_json::{Value, json};
use tesseract_tests::stand_in::{Message, Service, StandIn};

use crate::server::{Alertmanager, PATIENCE};
use crate::{alert, everything_on, failed};

#[tokio::test]
async fn each_failure_is_a_message_of_its_own_and_none_is_called_off() {
    let (stand_in, alertmanager) = everything_on().await;
    let mut told: Vec<Value> = Vec::new();
    for number in 1..=3 {
        // As Prometheus does: what was told stays, and is sent again with what is new.
        told.push(event("a", number));
        alertmanager.post(&told).await;
        let this = format!("`reason {number}`");
        stand_in.wait_for(&this, PATIENCE, slack(&this)).await;
    }
    for alert in &mut told {
        alert["endsAt"] = json!("2026-01-02T04:04:05Z");
    }
    alertmanager.post(&told).await;
    an_interval_later(&stand_in, &alertmanager).await;
    let messages = failures(&stand_in);
    assert_eq!(messages.len(), 3, "{messages:#?}");
    for (number, text) in (1..).zip(messages) {
        let named: Vec<_> = (1..=3).filter(|it| text.contains(&format!("`reason {it}`"))).collect();
        assert_eq!(named, [number], "{text}");
        assert!(!text.contains("RESOLVED"), "{text}");
    }
}

#[tokio::test]
async fn a_failure_while_slack_refuses_is_told_once_it_takes_messages_again() {
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS] {
        let (stand_in, alertmanager) = everything_on().await;
        alertmanager.post(&[event("a", 1)]).await;
        stand_in.wait_for("the first", PATIENCE, slack("`reason 1`")).await;
        stand_in.refuse(Service::Slack, status);
        alertmanager.post(&[event("a", 1), event("a", 2)]).await;
        let refused = async || alertmanager.counter("alertmanager_notifications_failed_total").await > 0.5;
        alertmanager.wait_for("a notification fails", refused).await;
        stand_in.recover();
        stand_in.wait_for("the second, later", PATIENCE, slack("`reason 2`")).await;
        an_interval_later(&stand_in, &alertmanager).await;
        let messages = failures(&stand_in);
        assert_eq!(messages.len(), 2, "{status}: no old news: {messages:#?}");
        // The other way was open all the time.
        let webhook = stand_in.messages_for(Service::Webhook);
        assert!(webhook.iter().any(|it| it.text().contains("reason 2")), "{webhook:#?}");
    }
}

#[tokio::test]
async fn fifty_networks_down_at_once_are_one_message_and_one_incident() {
    let (stand_in, alertmanager) = everything_on().await;
    let down = |number| {
        let mut alert = alert("TesseractNodeDisconnected", &format!("net-{number:02}"), "critical");
        alert["labels"]["kind"] = json!("monitor");
        alert
    };
    alertmanager.post(&(0..50).map(down).collect::<Vec<_>>()).await;
    let message = stand_in.wait_for("Slack", PATIENCE, slack("TesseractNodeDisconnected")).await;
    let title = message.body["attachments"][0]["title"].as_str().unwrap();
    assert!(title.starts_with("[CRITICAL x50] TesseractNodeDisconnected on net-"), "{title}");
    assert!(title.ends_with(", …"), "{title}");
    an_interval_later(&stand_in, &alertmanager).await;
    let of = |service| {
        let mut messages = stand_in.messages_for(service);
        messages.retain(|it| it.text().contains("TesseractNodeDisconnected"));
        messages
    };
    assert_eq!(of(Service::Slack).len(), 1);
    let incidents: BTreeSet<_> =
        of(Service::PagerDuty).iter().map(|it| it.body["dedup_key"].to_string()).collect();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
}

#[tokio::test]
async fn one_environment_does_not_silence_another() {
    let (stand_in, alertmanager) = everything_on().await;
    let within = |name: &str, severity: &str, environment: &str| {
        let mut alert = alert(name, "a", severity);
        alert["labels"]["environment"] = json!(environment);
        alert
    };
    let causes = ["TesseractNodeDisconnected", "TesseractContractPaused", "TesseractExporterDown"];
    alertmanager.post(&causes.map(|name| within(name, "critical", "staging"))).await;
    stand_in.wait_for("the cause", PATIENCE, slack("TesseractContractPaused")).await;
    alertmanager.post(&[within("TesseractLowThroughput", "warning", "staging")]).await;
    alertmanager.post(&[within("TesseractLowThroughput", "warning", "production")]).await;
    stand_in.wait_for("production", PATIENCE, slack("TesseractLowThroughput on a")).await;
    let states = alertmanager.states().await;
    let of = |wanted: &str| {
        let wanted = ("TesseractLowThroughput/a".to_owned(), wanted.to_owned());
        states.iter().filter(|it| **it == wanted).count()
    };
    assert_eq!((of("active"), of("suppressed")), (1, 1), "{states:?}");
}

#[tokio::test]
async fn a_message_names_its_environment_and_its_silence_holds_for_nothing_else() {
    let (stand_in, alertmanager) = everything_on().await;
    let down = |network: &str, environment: &str, cluster: Option<&str>| {
        let mut alert = alert("TesseractNodeDisconnected", network, "critical");
        alert["labels"]["kind"] = json!("monitor");
        alert["labels"]["environment"] = json!(environment);
        if let Some(cluster) = cluster {
            alert["labels"]["cluster"] = json!(cluster);
        }
        alert
    };
    let posted = [
        down("sepolia", "production", None),
        down("a", "staging", Some("eu-1")),
        down("b", "staging", Some("eu-1")),
    ];
    alertmanager.post(&posted).await;
    let wanted = [
        (
            "[CRITICAL] TesseractNodeDisconnected on sepolia (production)",
            "*Network:* sepolia  *Environment:* production  *Since:*",
            "{alertname=\"TesseractNodeDisconnected\",environment=\"production\",network=\"sepolia\"}",
        ),
        (
            "[CRITICAL x2] TesseractNodeDisconnected on a, b (staging, eu-1)",
            "*Network:* b  *Environment:* staging  *Cluster:* eu-1  *Since:*",
            "{alertname=\"TesseractNodeDisconnected\",cluster=\"eu-1\",environment=\"staging\"}",
        ),
    ];
    for (title, place, filter) in wanted {
        let titled = |it: &Message| it.body["attachments"][0]["title"] == title;
        let message = stand_in.wait_for(title, PATIENCE, titled).await;
        assert!(message.text().contains(place), "{place} is not in {}", message.text());
        let link = message.links().into_iter().find(|it| it.contains("/#/silences/new?filter=")).unwrap();
        let marks = [("%7B", "{"), ("%7D", "}"), ("%22", "\""), ("%2C", ","), ("%3D", "=")];
        let silenced = marks.iter().fold(link, |link, (code, mark)| link.replace(code, mark));
        assert!(silenced.ends_with(&format!("filter={filter}")), "{silenced}, not {filter}");
    }
}

#[tokio::test]
async fn the_heartbeat_stops_when_messages_to_people_fail() {
    let (stand_in, alertmanager) = everything_on().await;
    let mut watchdog = alert("TesseractWatchdog", "", "none");
    watchdog["labels"]["kind"] = json!("monitor");
    alertmanager.post(&[watchdog]).await;
    stand_in.wait_for("a beat", PATIENCE, |it| it.service == Service::Heartbeat).await;
    let mut failing = alert("AlertmanagerFailedToSendAlerts", "", "critical");
    failing["labels"]["integration"] = json!("slack");
    alertmanager.post(&[failing]).await;
    let held = ("TesseractWatchdog/".to_owned(), "suppressed".to_owned());
    alertmanager.wait_for("it is held back", async || alertmanager.states().await.contains(&held)).await;
    // One may have been on its way; from then on there is none, although intervals pass.
    let before = stand_in.messages_for(Service::Heartbeat).len();
    an_interval_later(&stand_in, &alertmanager).await;
    an_interval_later(&stand_in, &alertmanager).await;
    an_interval_later(&stand_in, &alertmanager).await;
    let beats = stand_in.messages_for(Service::Heartbeat).len() - before;
    assert!(beats <= 1, "{beats} beats");
}

/// A failure; the number is that of the event.
fn event(network: &str, number: u32) -> Value {
    let mut alert = failed(network, "other", &format!("reason {number}"));
    alert["labels"]["event"] = json!(number.to_string());
    alert
}

fn slack(part: &str) -> impl Fn(&Message) -> bool {
    move |it| it.service == Service::Slack && it.text().contains(part)
}

/// The failures that Slack was told of, in order.
fn failures(stand_in: &StandIn) -> Vec<String> {
    let messages = stand_in.messages_for(Service::Slack);
    messages.iter().map(Message::text).filter(|it| it.contains("TesseractTransactionFailed")).collect()
}

/// Waits for both messages of another alert, which take a group's first wait and its interval: so whatever was posted
/// before has had its time to be sent again.
async fn an_interval_later(stand_in: &StandIn, alertmanager: &Alertmanager) {
    let title = format!("Marker on m{}", stand_in.messages().len());
    let mut marker = alert("Marker", title.trim_start_matches("Marker on "), "warning");
    alertmanager.post(&[marker.clone()]).await;
    stand_in.wait_for("the marker", PATIENCE, slack(&title)).await;
    marker["endsAt"] = json!("2026-01-02T04:04:05Z");
    alertmanager.post(&[marker]).await;
    let resolved = |it: &Message| slack(&title)(it) && it.text().contains("[RESOLVED]");
    stand_in.wait_for("the end of the marker", PATIENCE, resolved).await;
}
