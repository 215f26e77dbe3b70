//! From a contract to somebody's telephone: a chain, the exporter, Prometheus and Alertmanager with the rules
//! and the configuration that are shipped, and a stand-in for Slack. Each trouble is brought about, its alert
//! must fire, its message arrive with links that work, and both must resolve once the trouble is over.
#![allow(clippy::unwrap_used)]

mod grafana;
mod scenarios;
mod world;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tesseract_tests::http::get;
use tesseract_tests::stand_in::{Message, Service, StandIn};
use tokio::time::{interval, timeout};

use scenarios::{SCENARIOS, Scenario};
use world::World;

/// The longest `for` is five minutes, and as long is what the rules look back over.
const PATIENCE: Duration = Duration::from_secs(450);

/// What a message says of an alert.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Firing,
    Resolved,
}

/// What became of a scenario: seconds since its cause, or since it was put right.
#[derive(Default)]
struct Outcome {
    fired: Option<u64>,
    message: Option<u64>,
    links: usize,
    resolved: Option<u64>,
    resolved_message: Option<u64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trouble_reaches_slack_and_is_called_off() {
    let slack = StandIn::start().await.unwrap();
    let grafana = grafana::start().await;
    let world = World::start(|exporter| {
        vec![
            ("SLACK_WEBHOOK_URL".to_owned(), slack.url(Service::Slack)),
            ("EXPORTER_URL".to_owned(), exporter.url()),
            ("GRAFANA_URL".to_owned(), grafana.clone()),
        ]
    })
    .await;
    world.synced().await;
    world.seen_by_prometheus().await;

    let outcomes = join_all(SCENARIOS.iter().map(|scenario| play(scenario, &world, &slack))).await;

    let mut missing = Vec::new();
    println!(
        "{:30} {:>8} {:>8} {:>6} {:>9} {:>9}  seconds",
        "alert", "fires", "message", "links", "resolves", "message"
    );
    for (scenario, outcome) in SCENARIOS.iter().zip(&outcomes) {
        let cells = [outcome.fired, outcome.message, outcome.resolved, outcome.resolved_message];
        let [fired, message, resolved, resolved_message] =
            cells.map(|cell| cell.map_or("-".to_owned(), |it| it.to_string()));
        let links = outcome.links;
        let note = scenario.lasts.unwrap_or_default();
        println!(
            "{:30} {fired:>8} {message:>8} {links:>6} {resolved:>9} {resolved_message:>9}  {note}",
            scenario.alert
        );
        let resolves =
            scenario.lasts.is_some() || (outcome.resolved.is_some() && outcome.resolved_message.is_some());
        if outcome.fired.is_none() || outcome.message.is_none() || links == 0 || !resolves {
            missing.push(scenario.alert);
        }
    }
    if !missing.is_empty() {
        panic!("{missing:?}: not as wanted\n{}", world.story().await);
    }
    world.stack.stop().await.unwrap();
}

async fn play(scenario: &Scenario, world: &World, slack: &StandIn) -> Outcome {
    let mut outcome = Outcome::default();
    let begun = Instant::now();
    world.cause(scenario.alert).await;
    outcome.fired = wait(begun, || async { firing(scenario, world).await }).await;
    if outcome.fired.is_some() {
        outcome.message = wait(begun, || async { message(scenario, slack, Status::Firing).is_some() }).await;
    }
    if let Some(message) = message(scenario, slack, Status::Firing) {
        outcome.links = follow_links(&message).await;
    }
    let healed = Instant::now();
    world.heal(scenario.alert).await;
    if scenario.lasts.is_none() && outcome.message.is_some() {
        outcome.resolved = wait(healed, || async { !firing(scenario, world).await }).await;
        outcome.resolved_message =
            wait(healed, || async { message(scenario, slack, Status::Resolved).is_some() }).await;
    }
    outcome
}

/// Seconds until something holds; none when that takes too long.
async fn wait<F: Future<Output = bool>>(since: Instant, condition: impl Fn() -> F) -> Option<u64> {
    let mut ticks = interval(Duration::from_millis(500));
    let waiting = async {
        loop {
            ticks.tick().await;
            if condition().await {
                return since.elapsed().as_secs();
            }
        }
    };
    timeout(PATIENCE, waiting).await.ok()
}

/// Whether Prometheus sees the alert firing where the trouble is.
async fn firing(scenario: &Scenario, world: &World) -> bool {
    let alerts = world.stack.alerts().await.unwrap_or_default();
    alerts.iter().any(|alert| {
        let labels = &alert["labels"];
        alert["state"] == "firing"
            && labels["alertname"] == scenario.alert
            && labels["network"].as_str() == scenario.network()
    })
}

/// The newest message at Slack about the scenario, when it says that this is so.
fn message(scenario: &Scenario, slack: &StandIn, status: Status) -> Option<Message> {
    let mut title = format!("] {}", scenario.alert);
    if let Some(network) = scenario.network() {
        title += &format!(" on {network}");
    }
    let newest = slack.messages_for(Service::Slack).into_iter().rfind(|it| is_titled(it, &title))?;
    let resolved = newest.body["attachments"][0]["title"].as_str()?.starts_with("[RESOLVED]");
    (resolved == (status == Status::Resolved)).then_some(newest)
}

fn is_titled(message: &Message, title: &str) -> bool {
    message.body["attachments"][0]["title"].as_str().is_some_and(|it| it.ends_with(title))
}

/// Follows every link of a message; returns how many there were. One that leads nowhere fails the test.
async fn follow_links(message: &Message) -> usize {
    let links = message.links();
    for link in &links {
        let reply = get(link.split('#').next().unwrap(), &[]).await;
        let status = reply.as_ref().map(|reply| reply.status);
        assert_eq!(status, Ok(200), "{link}, in {}", message.text());
    }
    for part in ["/runbooks/", "/d/tesseract-", "/#/silences/new"] {
        assert!(links.iter().any(|link| link.contains(part)), "no link with {part} in {}", message.text());
    }
    links.len()
}
