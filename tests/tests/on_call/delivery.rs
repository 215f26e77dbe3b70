//! Each failure is told, by name; a receiver that is away misses nothing; a storm is one message; and the heartbeat stops
//! when messages to people fail.

use std::collections::BTreeSet;

use hyper::StatusCode;
use tesseract_tests::scripted::Value;
use tesseract_tests::scripted::healthy::series;
use tesseract_tests::stand_in::{Message, Service};

use crate::rig::{PATIENCE, Rig, SPEED, minutes, seconds, title};

#[tokio::test(flavor = "multi_thread")]
async fn three_failures_two_minutes_apart_are_three_messages() {
    let rig = Rig::start(1).await;
    rig.watch(&["a"]).await;
    for (number, class) in [(1, "dependency"), (2, "swap_group_timeout"), (3, "dependency")] {
        fail(&rig, "a", class, &[number]);
        rig.told(&format!("`reason {number}`")).await;
        rig.pass(minutes(2)).await;
    }
    // Whatever would be told again has had an hour of its time.
    rig.pass(minutes(60)).await;
    let messages = rig.slack_about("TesseractTransactionFailed on a");
    assert_eq!(messages.len(), 3, "{:#?}", messages.iter().map(title).collect::<Vec<_>>());
    for (number, message) in (1..).zip(&messages) {
        assert_eq!(named(message), BTreeSet::from([number]), "{}", message.text());
        let links = message.links();
        let [page, explorer] = [
            format!("http://exporter.example/tx/{}", id(number)),
            format!("https://explorer.example/tx/{}", hash(number)),
        ];
        assert!(links.contains(&page) && links.contains(&explorer), "{links:?}");
        assert!(!title(message).contains("RESOLVED"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_within_a_scrape_are_one_message_and_forty_in_four_minutes_about_one_a_minute() {
    let rig = Rig::start(1).await;
    rig.watch(&["together", "many"]).await;
    let at_once = [failure("together", "dependency", &[1, 2]), failure("together", "other", &[3])];
    rig.exporters[0].set(at_once.concat());
    rig.told("`reason 3`").await;
    for number in 1..=40 {
        fail(&rig, "many", "other", &[number]);
        // The exporter shows the newest 16.
        if number > 16 {
            rig.set("many", &[(&name("other", number - 16), Value::Absent)]);
        }
        rig.pass(seconds(6)).await;
    }
    let told = || rig.slack_about("TesseractTransactionFailed on many");
    let number = |it: &Message| named(it).len() as u64 + unnamed(it);
    rig.until("all forty are told", || async { told().iter().map(number).sum::<u64>() >= 40 }).await;
    rig.pass(minutes(60)).await;
    let messages = told();
    assert_eq!(messages.iter().map(number).sum::<u64>(), 40, "none is told twice");
    assert!((3..=6).contains(&messages.len()), "{} messages", messages.len());
    println!("forty failures in four minutes: {} messages", messages.len());

    let messages = rig.slack_about("TesseractTransactionFailed on together");
    assert_eq!(messages.len(), 1);
    assert_eq!(named(&messages[0]), BTreeSet::from([1, 2, 3]), "{}", messages[0].text());
}

/// 15 minutes, twice as long as in the audit that found the loss. Alertmanager tries a 500 again by itself, but not a 429.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_during_an_outage_of_slack_is_told_afterwards_and_old_news_is_not() {
    let rig = Rig::start(1).await;
    rig.watch(&["a"]).await;
    fail(&rig, "a", "other", &[1]);
    rig.told("`reason 1`").await;
    for (number, status) in [(2, StatusCode::INTERNAL_SERVER_ERROR), (3, StatusCode::TOO_MANY_REQUESTS)] {
        rig.people.refuse(Service::Slack, status);
        fail(&rig, "a", "other", &[number]);
        // The second way is open all the time.
        let this = format!("reason {number}");
        let second_way = |it: &Message| it.service == Service::Webhook && it.text().contains(&this);
        rig.people.wait_for("the webhook", PATIENCE, second_way).await;
        rig.pass(minutes(15)).await;
        assert!(!rig.slack().iter().any(|it| it.text().contains(&this)), "refused");
        rig.people.recover();
        rig.told(&format!("`{this}`")).await;
    }
    rig.pass(minutes(60)).await;
    let messages = rig.slack_about("TesseractTransactionFailed");
    let named: Vec<_> = messages.iter().flat_map(named).collect();
    assert_eq!(named, [1, 2, 3], "each once, in order");
}

/// Ten times as fast only: fifty networks are more work for Prometheus than it can do sixty times as fast.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_networks_down_at_once_are_one_message_and_one_incident() {
    let rig = Rig::with(1, 10, &[]).await;
    let networks: Vec<_> = (0..50).map(|number| format!("net-{number:02}")).collect();
    rig.watch(&networks.iter().map(String::as_str).collect::<Vec<_>>()).await;
    rig.exporters[0].set(
        networks.iter().map(|it| (format!("tesseract_node_connected{{network=\"{it}\"}}"), Value::Is(0.0))),
    );
    let message = rig.told("TesseractNodeDisconnected").await;
    let heading = title(&message);
    assert!(heading.starts_with("[CRITICAL x50] TesseractNodeDisconnected on net-"), "{heading}");
    assert!(heading.ends_with(", …"), "{heading}");
    // More than a group interval.
    rig.pass(minutes(3)).await;
    assert_eq!(rig.slack_about("TesseractNodeDisconnected").len(), 1);
    let pages = rig.people.messages_for(Service::PagerDuty);
    let incidents: BTreeSet<_> = pages.iter().map(|it| it.body["dedup_key"].to_string()).collect();
    assert_eq!((pages.len(), incidents.len()), (1, 1), "{pages:#?}");
    println!("fifty networks down: {heading:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_comes_every_minute_and_stops_when_messages_to_people_fail() {
    let rig = Rig::start(1).await;
    rig.watch(&["a"]).await;
    let beats = || rig.people.messages_for(Service::Heartbeat);
    rig.until("eleven beats", || async { beats().len() > 10 }).await;
    let gaps: Vec<_> = beats().windows(2).map(|pair| (pair[1].at - pair[0].at) * SPEED as u32).collect();
    // Not at every group interval of 30 s, which a gap under 50 s would be.
    assert!(gaps.iter().all(|gap| *gap > seconds(45)), "{gaps:?}");
    let mut sorted = gaps;
    sorted.sort_unstable();
    let median = sorted[sorted.len() / 2];
    // It has no near miss and no end, as it always fires; and it is told nowhere else.
    let runbook = "http://exporter.example/runbooks/TesseractWatchdog";
    assert!(beats().iter().all(|it| it.body["status"] == "firing" && it.text().contains(runbook)));
    let others = rig.people.messages().into_iter().filter(|it| it.service != Service::Heartbeat);
    assert_eq!(others.filter(|it| it.text().contains("TesseractWatchdog")).count(), 0);
    println!("the heartbeat comes every {median:?} (median of {}, as the stack counts)", sorted.len());

    rig.people.refuse(Service::Slack, StatusCode::TOO_MANY_REQUESTS);
    fail(&rig, "a", "other", &[1]);
    rig.until_query("count(ALERTS{alertname=\"AlertmanagerFailedToSendAlerts\", alertstate=\"firing\"})")
        .await;
    rig.pass(minutes(2)).await;
    let before = beats().len();
    rig.pass(minutes(10)).await;
    assert_eq!(beats().len(), before, "Prometheus is well, and nobody is told: the heart stands still");
    rig.people.recover();
    rig.until("it beats again", || async { beats().len() > before }).await;
    rig.told("`reason 1`").await;
}

/// Logs these failures on a network, all in one scrape.
fn fail(rig: &Rig, network: &str, class: &str, numbers: &[u32]) {
    rig.exporters[0].set(failure(network, class, numbers));
}

fn failure(network: &str, class: &str, numbers: &[u32]) -> Vec<(String, Value)> {
    let counter = format!("transactions_failed_total{{reason=\"{class}\"}}");
    let mut changes = vec![(series(network, &counter), Value::By(numbers.len() as f64))];
    for number in numbers {
        let time = Value::Is(f64::from(*number));
        changes.push((series(network, &name(class, *number)), time));
    }
    changes
}

/// The series that names a failure.
fn name(class: &str, number: u32) -> String {
    format!(
        "failed_transaction_timestamp_seconds{{tx_id=\"{}\",tx_hash=\"{}\",class=\"{class}\",reason=\"reason {number}\"}}",
        id(number),
        hash(number)
    )
}

fn id(number: u32) -> String {
    format!("0x{number:064x}")
}

fn hash(number: u32) -> String {
    format!("0xffff{number:060x}")
}

/// Which failures a message names.
fn named(message: &Message) -> BTreeSet<u32> {
    let text = message.text();
    (1..=40).filter(|number| text.contains(&format!("`reason {number}`"))).collect()
}

/// How many more it counts without their names.
fn unnamed(message: &Message) -> u64 {
    let text = message.text();
    let more = text.lines().find_map(|line| line.strip_prefix("and ")?.strip_suffix(" more")?.parse().ok());
    more.unwrap_or(0)
}
