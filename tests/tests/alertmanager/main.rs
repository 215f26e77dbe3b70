//! The shipped Alertmanager configuration in a real Alertmanager, and its messages as they arrive at a local
//! stand-in for Slack, PagerDuty and a webhook.
#![allow(clippy::unwrap_used)]

mod delivery;
mod server;
mod switches;

use serde_json::{Value, json};
use tesseract_tests::stand_in::{Message, Service, StandIn};

use server::{Alertmanager, PATIENCE, shipped_alerts};

const TX: &str = "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn a_first_failure_at_slack_and_the_webhook() {
    let (stand_in, alertmanager) = everything_on().await;
    let mut failed = failed("sepolia", "dependency", "Dependencies not satisfied");
    failed["startsAt"] = json!("2026-01-02T03:04:05Z");
    alertmanager.post(&[failed]).await;

    let slack = stand_in.wait_for("Slack", PATIENCE, |it| it.service == Service::Slack).await;
    let attachment = &slack.body["attachments"][0];
    assert_eq!(slack.body["channel"], "#other-channel");
    assert_eq!(attachment["title"], "[WARNING] TesseractTransactionFailed on sepolia");
    assert_eq!(attachment["color"], "warning");
    let dashboard =
        "http://localhost:3000/d/tesseract-overview?var-network=sepolia&from=1767321245000&to=now";
    assert_eq!(attachment["title_link"], dashboard);
    let text = attachment["text"].as_str().unwrap();
    for part in [
        "*Tesseract on sepolia: a transaction failed (dependency)*",
        "`Dependencies not satisfied`",
        "*Severity:* warning",
        "*Network:* sepolia",
        "*Since:* 2026-01-02 03:04:05 UTC",
        &format!("• <http://localhost:8000/tx/{TX}|{TX}> (<https://explorer.example/tx/0xabc|explorer>)"),
        "<http://localhost:8000/runbooks/TesseractTransactionFailed|Runbook>",
        "<http://localhost:3000/d/tesseract-overview?var-network=sepolia&amp;from=1767321245000&amp;to=now|Dashboard>",
        "<http://localhost:8000/networks/sepolia|Network>",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let silence = format!(
        "{}/#/silences/new?filter=%7Balertname%3D%22TesseractTransactionFailed%22%2Cnetwork%3D%22sepolia%22%7D",
        alertmanager.url()
    );
    assert!(slack.links().contains(&silence), "{silence} is not in {:?}", slack.links());

    let webhook = stand_in.wait_for("the webhook", PATIENCE, |it| it.service == Service::Webhook).await;
    assert!(webhook.body["alerts"][0]["annotations"]["transactions"].as_str().unwrap().starts_with(TX));
    assert!(stand_in.messages_for(Service::PagerDuty).is_empty(), "a warning wakes nobody");
}

#[tokio::test]
async fn a_critical_one_fires_and_resolves_everywhere() {
    let (stand_in, alertmanager) = everything_on().await;
    let mut paused = alert("TesseractContractPaused", "sepolia", "critical");
    alertmanager.post(&[paused.clone()]).await;
    let slack = stand_in.wait_for("Slack", PATIENCE, |it| it.service == Service::Slack).await;
    assert_eq!(slack.body["attachments"][0]["title"], "[CRITICAL] TesseractContractPaused on sepolia");
    assert_eq!(slack.body["attachments"][0]["color"], "danger");
    let page = stand_in.wait_for("PagerDuty", PATIENCE, |it| it.body["event_action"] == "trigger").await;
    assert_eq!(page.body["routing_key"], ROUTING_KEY);
    assert_eq!(
        page.body["payload"]["summary"],
        "[CRITICAL] TesseractContractPaused on sepolia: Summary of TesseractContractPaused on sepolia"
    );
    assert_eq!(page.body["payload"]["severity"], "critical");
    assert_eq!(page.body["payload"]["group"], "sepolia");
    assert_eq!(page.body["links"][0]["href"], "http://localhost:8000/runbooks/TesseractContractPaused");
    assert_eq!(page.body["links"][2]["href"], "http://localhost:8000/networks/sepolia");

    paused["endsAt"] = json!("2026-01-02T04:04:05Z");
    alertmanager.post(&[paused]).await;
    let resolved = |it: &Message| it.service == Service::Slack && it.text().contains("[RESOLVED]");
    let slack = stand_in.wait_for("Slack, resolved", PATIENCE, resolved).await;
    assert_eq!(slack.body["attachments"][0]["title"], "[RESOLVED] TesseractContractPaused on sepolia");
    assert_eq!(slack.body["attachments"][0]["color"], "good");
    assert!(slack.text().contains("*Until:* 2026-01-02 04:04:05 UTC"), "{}", slack.text());
    let told_in_the_past = slack.text().contains("It is over.") && !slack.text().contains("What it means.");
    assert!(told_in_the_past, "{}", slack.text());
    let closed =
        stand_in.wait_for("PagerDuty, resolved", PATIENCE, |it| it.body["event_action"] == "resolve").await;
    assert_eq!(closed.body["dedup_key"], page.body["dedup_key"]);
    stand_in
        .wait_for("the webhook, resolved", PATIENCE, |it| {
            it.service == Service::Webhook && it.body["status"] == "resolved"
        })
        .await;
}

#[tokio::test]
async fn one_message_for_the_reasons_of_one_network_and_another_for_the_next_network() {
    let (stand_in, alertmanager) = everything_on().await;
    alertmanager
        .post(&[
            failed("a", "expired", "one"),
            failed("a", "dependency", "two"),
            failed("b", "other", "three"),
        ])
        .await;
    let of = |network: &'static str| {
        move |it: &Message| it.service == Service::Slack && it.text().contains(network)
    };
    let first =
        stand_in.wait_for("network a", PATIENCE, of("[WARNING x2] TesseractTransactionFailed on a\n")).await;
    assert!(first.text().contains("`one`") && first.text().contains("`two`"), "{}", first.text());
    assert!(!first.text().contains("`three`"), "{}", first.text());
    stand_in.wait_for("network b", PATIENCE, of("[WARNING] TesseractTransactionFailed on b\n")).await;
}

#[tokio::test]
async fn what_follows_from_a_disconnection_is_held_back_on_that_network_alone() {
    let follows =
        ["TesseractLowThroughput", "TesseractChainStalled", "TesseractRpcErrors", "TesseractMissingEvents"];
    held_back(alert("TesseractNodeDisconnected", "a", "critical"), &follows).await;
}

#[tokio::test]
async fn what_follows_from_a_pause_is_held_back_on_that_network_alone() {
    let follows = [
        "TesseractLowThroughput",
        "TesseractHighFailureRate",
        "TesseractLowSuccessRate",
        "TesseractSlowResolution",
    ];
    held_back(alert("TesseractContractPaused", "a", "critical"), &follows).await;
    held_back(alert("TesseractCircuitBreakerActive", "a", "critical"), &follows).await;
}

/// On network b the same alerts come through, and only there.
async fn held_back(cause: Value, follows: &[&str]) {
    let (stand_in, alertmanager) = everything_on().await;
    let name = cause["labels"]["alertname"].as_str().unwrap().to_owned();
    alertmanager.post(&[cause]).await;
    stand_in.wait_for("the cause", PATIENCE, |it| it.text().contains(&name)).await;

    let on = |network: &str| -> Vec<_> { follows.iter().map(|it| alert(it, network, "warning")).collect() };
    alertmanager.post(&on("a")).await;
    alertmanager.post(&on("b")).await;
    for follower in follows {
        let title = format!("{follower} on b");
        stand_in
            .wait_for(&title, PATIENCE, |it| it.service == Service::Slack && it.text().contains(&title))
            .await;
        let state = (format!("{follower}/a"), "suppressed".to_owned());
        assert!(
            alertmanager.states().await.contains(&state),
            "{state:?} is not in {:?}",
            alertmanager.states().await
        );
        assert!(
            stand_in.messages().iter().all(|it| !it.text().contains(&format!("{follower} on a"))),
            "{follower} came through"
        );
    }
}

#[tokio::test]
async fn with_no_exporter_left_only_its_absence_is_told() {
    let (stand_in, alertmanager) = everything_on().await;
    alertmanager.post(&[alert("TesseractExporterDown", "", "critical")]).await;
    stand_in
        .wait_for("the exporter's absence", PATIENCE, |it| {
            it.text().contains("[CRITICAL] TesseractExporterDown")
        })
        .await;
    alertmanager
        .post(&[alert("TesseractLowThroughput", "a", "warning"), alert("StackAlert", "", "warning")])
        .await;
    stand_in.wait_for("an alert that is not ours", PATIENCE, |it| it.text().contains("StackAlert")).await;
    assert!(
        alertmanager
            .states()
            .await
            .contains(&("TesseractLowThroughput/a".to_owned(), "suppressed".to_owned()))
    );
    assert!(stand_in.messages().iter().all(|it| !it.text().contains("LowThroughput")));
}

#[tokio::test]
async fn one_exporter_of_two_down_holds_back_only_what_that_one_said() {
    let (stand_in, alertmanager) = everything_on().await;
    let with_instance = |name: &str, network: &str, instance: &str| {
        let mut alert = alert(name, network, "critical");
        alert["labels"]["instance"] = json!(instance);
        alert
    };
    alertmanager.post(&[with_instance("TesseractExporterDown", "", "x:8000")]).await;
    stand_in.wait_for("the cause", PATIENCE, |it| it.text().contains("TesseractExporterDown")).await;
    alertmanager
        .post(&[
            with_instance("TesseractContractPaused", "a", "x:8000"),
            with_instance("TesseractContractPaused", "b", "y:8000"),
        ])
        .await;
    stand_in
        .wait_for("the other one", PATIENCE, |it| it.text().contains("TesseractContractPaused on b"))
        .await;
    assert!(
        alertmanager
            .states()
            .await
            .contains(&("TesseractContractPaused/a".to_owned(), "suppressed".to_owned()))
    );
    assert!(stand_in.messages().iter().all(|it| !it.text().contains("TesseractContractPaused on a")));
}

#[tokio::test]
async fn a_hostile_reason_pings_nobody_and_breaks_nothing() {
    let (stand_in, alertmanager) = everything_on().await;
    let reason = "<!channel> <@U123> <https://evil.example|click> & \"quotes' `ticks` *bold* _it_ \
                  https://evil.example\u{202e}{{ .Status }}";
    alertmanager.post(&[failed("a", "other", reason)]).await;
    let slack = stand_in.wait_for("Slack", PATIENCE, |it| it.service == Service::Slack).await;
    let text = slack.body["attachments"][0]["text"].as_str().unwrap();
    // What Slack takes for a command, a mention or a link stands between < and >: only our own links do.
    let commands: Vec<_> = text.split('<').skip(1).map(|it| it.split(['|', '>']).nth(1).unwrap()).collect();
    assert_eq!(commands, [TX, "explorer", "Runbook", "Dashboard", "Network", "Silence"], "{text}");
    // All of it is code, in which nothing is formatted or linked, and it cannot end the code.
    let code = "`&lt;!channel&gt; &lt;@U123&gt; &lt;https://evil.example|click&gt; &amp; \"quotes' 'ticks' *bold* \
                _it_ https://evil.example {{ .Status }}`";
    assert!(text.contains(code), "{text}");
    assert!(!text.contains('\u{202e}'), "{text}");
    let webhook = stand_in.wait_for("the webhook", PATIENCE, |it| it.service == Service::Webhook).await;
    assert!(webhook.text().contains(reason), "the webhook has it as it is");
}

#[tokio::test]
async fn long_texts_and_many_alerts_stay_readable() {
    let (stand_in, alertmanager) = everything_on().await;
    let long = |n| {
        let mut alert = alert("TesseractRpcErrors", &format!("n{n}"), "warning");
        alert["labels"]["kind"] = json!("monitor");
        alert["annotations"]["description"] = json!("<long> ".repeat(2000));
        alert
    };
    let alerts: Vec<_> = (0..40).map(long).collect();
    alertmanager.post(&alerts).await;
    let all = |it: &Message| it.service == Service::Slack && it.text().contains("[WARNING x40]");
    let slack = stand_in.wait_for("Slack, with all of them", PATIENCE, all).await;
    let text = slack.body["attachments"][0]["text"].as_str().unwrap();
    assert!(text.contains("… 40 in all; the first 8 are shown."), "{text}");
    assert!(text.ends_with("|Silence>"), "the links are still there");
    // Slack cuts a text off at 40 000 characters.
    assert!(text.chars().count() < 20_000, "{} characters", text.chars().count());
    assert!(
        !text.split(['\n', ' ']).any(|word| word.ends_with("&l") || word.ends_with("&lt")),
        "half an entity"
    );
}

#[tokio::test]
async fn every_alert_of_the_rules_arrives_at_slack() {
    let (stand_in, alertmanager) = everything_on().await;
    let mut alerts = shipped_alerts();
    alerts.retain(|(name, ..)| name != "TesseractWatchdog");
    // TesseractOwnerUnexpected is there twice: as a state and as an event. None of the others holds back another.
    assert_eq!(alerts.len(), 33);
    // Each on a network and an instance of its own, so that none holds back another.
    let on_its_own = |(name, severity, kind): &(String, String, String)| {
        let mut alert = alert(name, &format!("net-{name}-{kind}"), severity);
        alert["labels"]["kind"] = json!(kind);
        alert["labels"]["instance"] = json!(format!("{name}:8000"));
        alert
    };
    alertmanager.post(&alerts.iter().map(on_its_own).collect::<Vec<_>>()).await;
    for (name, severity, kind) in alerts {
        let title = format!("[{}] {name} on net-{name}-{kind}", severity.to_uppercase());
        let arrived = |it: &Message| it.body["attachments"][0]["title"] == title;
        let message = stand_in.wait_for(&title, PATIENCE, arrived).await;
        let runbook = format!("http://localhost:8000/runbooks/{name}");
        assert!(message.links().contains(&runbook), "{name}: {:?}", message.links());
    }
}

#[tokio::test]
async fn an_alert_of_somebody_else_without_texts_and_links_arrives_too() {
    let (stand_in, alertmanager) = everything_on().await;
    alertmanager
        .post(&[
            json!({"labels": {"alertname": "AlertmanagerDown", "severity": "critical"}, "annotations": {}}),
        ])
        .await;
    let slack = stand_in.wait_for("Slack", PATIENCE, |it| it.service == Service::Slack).await;
    let text = slack.body["attachments"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("*AlertmanagerDown*\n*Severity:* critical  *Since:* "), "{text}");
    assert!(!text.contains("Runbook") && text.ends_with("|Silence>"), "{text}");
    stand_in.wait_for("PagerDuty", PATIENCE, |it| it.service == Service::PagerDuty).await;
}

/// With every receiver on, and none but the stand-in behind them.
async fn everything_on() -> (StandIn, Alertmanager) {
    let stand_in = StandIn::start().await.unwrap();
    let (slack, pagerduty) = (stand_in.url(Service::Slack), stand_in.url(Service::PagerDuty));
    let (webhook, heartbeat) = (stand_in.url(Service::Webhook), stand_in.url(Service::Heartbeat));
    let alertmanager = Alertmanager::start(&[
        ("SLACK_WEBHOOK_URL", &slack),
        ("SLACK_CHANNEL", "#other-channel"),
        ("PAGERDUTY_KEY", ROUTING_KEY),
        ("PAGERDUTY_URL", &pagerduty),
        ("ALERT_WEBHOOK_URL", &webhook),
        ("HEARTBEAT_URL", &heartbeat),
    ])
    .await;
    (stand_in, alertmanager)
}

/// An alert as Prometheus sends it when it begins to fire; without a network where that is empty. It names no start, which
/// is then now: an old one would be told at once, with whatever else has been taken by then, and not after `group_wait`.
fn alert(name: &str, network: &str, severity: &str) -> Value {
    let mut labels = json!({"alertname": name, "severity": severity});
    if !network.is_empty() {
        labels["network"] = json!(network);
    }
    json!({
        "labels": labels,
        "annotations": {
            "summary": format!("Summary of {name} on {network}"),
            "description": "What it means.",
            "resolved": "It is over.",
            "runbook_url": format!("http://localhost:8000/runbooks/{name}"),
            "dashboard_url": format!("http://localhost:3000/d/tesseract-overview?var-network={network}"),
        },
        "generatorURL": "http://localhost:9090/graph",
    })
}

/// A failure as the rules tell it; `event` is always 1.
fn failed(network: &str, class: &str, reason: &str) -> Value {
    let mut alert = alert("TesseractTransactionFailed", network, "warning");
    alert["labels"]["reason"] = json!(class);
    alert["labels"]["kind"] = json!("event");
    alert["labels"]["event"] = json!("1");
    alert["annotations"]["summary"] =
        json!(format!("Tesseract on {network}: a transaction failed ({class})"));
    alert["annotations"]["transactions"] =
        json!(format!("{TX} http://localhost:8000/tx/{TX} https://explorer.example/tx/0xabc {reason}"));
    alert
}
