//! Every alert of the rules: it fires, its near miss does not, it is told where it should be, told again, and called off
//! unless it is an event. The table that is printed is the one of `docs/alerts.md` with times.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Instant;

use futures_util::future::join_all;
use tesseract_tests::scripted::healthy::{HEALTHY, healthy, series};
use tesseract_tests::scripted::{Scripted, Value};
use tesseract_tests::stand_in::Message;

use crate::cases::{CASES, Case, DOWN, Near, Place};
use crate::rig::{Rig, SLOWER, title};

/// Shown by tests of their own: the heartbeat in `delivery`, the network that is gone in `states`, and the files of rules,
/// with what the stack says of itself, in `incomplete`.
const ELSEWHERE: [&str; 3] = ["TesseractWatchdog", "TesseractNetworkGone", "TesseractRulesIncomplete"];

/// What the rules say of an alert by its labels: (severity, kind).
type Labels = BTreeMap<(String, bool), (String, String)>;

/// Minutes, as the stack counts them, until each thing came to pass.
struct Outcome {
    told: f64,
    called_off: Option<f64>,
    again: f64,
    places: Vec<&'static str>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_is_told_and_told_again_and_its_near_miss_is_not() {
    let labels = labels();
    let covered: BTreeSet<_> = CASES.iter().map(|case| case.alert.to_owned()).collect();
    let mut shipped: BTreeSet<_> = labels.keys().map(|(alert, _)| alert.clone()).collect();
    shipped.retain(|alert| !ELSEWHERE.contains(&alert.as_str()));
    assert_eq!(covered, shipped, "cases, and alerts of the rules");

    // Each alert about an exporter has two of them to itself, and the replicas have the last one.
    let alone: Vec<_> = CASES.iter().filter(|case| case.place == Place::Exporter).collect();
    let rig = Rig::with(2 * alone.len() + 2, SLOWER, &[]).await;
    let networks = expose(&rig, &alone);
    rig.known(networks).await;
    let outcomes = join_all(CASES.iter().map(|case| play(&rig, case, &alone, &labels))).await;

    println!("{:30} {:>6} {:>10} {:>10}  minutes; told at", "alert", "told", "called off", "told again");
    for (case, outcome) in CASES.iter().zip(&outcomes) {
        let called_off = outcome.called_off.map_or("never".to_owned(), |it| format!("{it:.1}"));
        println!(
            "{:30} {:>6.1} {called_off:>10} {:>10.1}  {}",
            case.alert,
            outcome.told,
            outcome.again,
            outcome.places.join(", ")
        );
    }
    let fired = rig.stack.alerts_that_fired().await.unwrap();
    let near: Vec<_> = CASES.iter().filter(|case| fired.contains(&miss(&rig, case, &alone))).collect();
    let near: Vec<_> = near.iter().map(|case| case.alert).collect();
    assert!(near.is_empty(), "near misses that fired: {near:?}");
}

/// Exposes what all cases need; returns how many networks that are.
fn expose(rig: &Rig, alone: &[&Case]) -> usize {
    let last = rig.exporters.last().unwrap();
    let mut networks = 0;
    for case in &CASES {
        for network in [case.network(), case.near_network()] {
            match case.place {
                Place::Network => rig.exporters[0].set(healthy(&network)),
                Place::Replica => [&rig.exporters[0], last].iter().for_each(|it| it.set(healthy(&network))),
                Place::Exporter => {
                    exporter(rig, case, alone, network.ends_with("-near")).set(healthy(&network));
                }
            }
            networks += 1;
        }
    }
    networks
}

/// The exporter at which a case shows, or its near miss.
fn exporter<'a>(rig: &'a Rig, case: &Case, alone: &[&Case], near: bool) -> &'a Scripted {
    match case.place {
        Place::Network => &rig.exporters[0],
        Place::Replica => rig.exporters.last().unwrap(),
        Place::Exporter => {
            let place = alone.iter().position(|it| it.alert == case.alert).unwrap();
            &rig.exporters[1 + 2 * place + usize::from(near)]
        }
    }
}

async fn play(rig: &Rig, case: &Case, alone: &[&Case], labels: &Labels) -> Outcome {
    let (severity, kind) = &labels[&(case.alert.to_owned(), case.network().ends_with("-event"))];
    let event = kind == "event";
    // An alert about an exporter names the exporter, all others the network.
    let about = match case.place {
        Place::Exporter => exporter(rig, case, alone, false).address().to_string(),
        Place::Network | Place::Replica => case.network(),
    };
    let say = |resolved: bool| rig.slack().iter().filter(|it| says(it, case.alert, &about, resolved)).count();
    let begun = Instant::now();
    let since = |begun: Instant| begun.elapsed().as_secs_f64() * SLOWER as f64 / 60.0;

    almost(rig, case, alone).await;
    cause(rig, case, alone);
    rig.until(&format!("{} is told", case.alert), || async { say(false) > 0 }).await;
    let told = since(begun);

    let healed = Instant::now();
    let before = say(false);
    heal(rig, case, alone);
    let mut called_off = None;
    if !event {
        rig.until(&format!("{} is called off", case.alert), || async { say(true) > 0 }).await;
        called_off = Some(since(healed));
    }
    let anew = Instant::now();
    // An owner or a window that changes back is an event as well.
    if !changes_back(case) {
        cause(rig, case, alone);
    }
    rig.until(&format!("{} is told again", case.alert), || async { say(false) > before }).await;
    let again = since(anew);

    let places = rig.told_at(case.alert, &about, severity).await;
    assert!(!event || say(true) == 0, "{}: an event is never called off", case.alert);
    Outcome { told, called_off, again, places }
}

/// Whether putting it right is another event of the kind.
fn changes_back(case: &Case) -> bool {
    case.alert == "TesseractWindowChanged" || case.network().ends_with("-event")
}

/// Whether a message at Slack has a paragraph about this network or exporter that says so.
fn says(message: &Message, alert: &str, about: &str, resolved: bool) -> bool {
    let text = message.text();
    let paragraph = |line: &str| {
        let names = line.starts_with(&format!("*Tesseract on {about}: "))
            || line.starts_with(&format!("*Tesseract exporter {about}"));
        names && line.ends_with(" (resolved)") == resolved
    };
    title(message).contains(alert) && text.lines().any(paragraph)
}

/// Brings a case about.
fn cause(rig: &Rig, case: &Case, alone: &[&Case]) {
    let exporter = exporter(rig, case, alone, false);
    change(exporter, &case.network(), case.trouble);
}

/// Puts it right; what has been counted stays counted.
fn heal(rig: &Rig, case: &Case, alone: &[&Case]) {
    let exporter = exporter(rig, case, alone, false);
    restore(exporter, &case.network(), case.trouble);
}

/// Almost brings it about, elsewhere.
async fn almost(rig: &Rig, case: &Case, alone: &[&Case]) {
    let (exporter, network) = (exporter(rig, case, alone, true), case.near_network());
    match case.near {
        Near::Kept(changes) => change(exporter, &network, changes),
        Near::Brief => {
            change(exporter, &network, case.trouble);
            let (name, value) = case.trouble[0];
            let Value::Is(value) = value else { unreachable!("a value that can be waited for") };
            let seen = match name {
                DOWN => format!("up{{instance=\"{}\"}} == bool 0", exporter.address()),
                _ => format!("{} == bool {value}", series(&network, name)),
            };
            rig.until_query(&seen).await;
            restore(exporter, &network, case.trouble);
        }
    }
}

fn change(exporter: &Scripted, network: &str, changes: &[(&str, Value)]) {
    for (name, value) in changes {
        match *name {
            DOWN => exporter.down(true),
            name => exporter.set([(full(network, name), *value)]),
        }
    }
}

fn restore(exporter: &Scripted, network: &str, changes: &[(&str, Value)]) {
    for (name, value) in changes {
        let well = HEALTHY.iter().find(|(it, _)| it == name).map(|(_, value)| *value);
        match (*name, value, well) {
            (DOWN, ..) => exporter.down(false),
            (_, Value::By(_), _) => {}
            // What was counted stays counted.
            (name, Value::Every(_) | Value::Step(..), None | Some(Value::Is(_))) => {
                exporter.set([(full(network, name), Value::Frozen)]);
            }
            (name, _, Some(well)) => exporter.set([(full(network, name), well)]),
            (name, _, None) => exporter.set([(full(network, name), Value::Is(1.0))]),
        }
    }
}

/// A series of the network, or of the exporter as a whole.
fn full(network: &str, name: &str) -> String {
    match name {
        "process_start_time_seconds" => name.to_owned(),
        name if name.starts_with("exporter_") => format!("tesseract_{name}"),
        name => series(network, name),
    }
}

/// The alert with the network, or with the exporter, of a near miss.
fn miss(rig: &Rig, case: &Case, alone: &[&Case]) -> (String, String) {
    let about = match case.place {
        Place::Exporter => exporter(rig, case, alone, true).address().to_string(),
        Place::Network | Place::Replica => case.near_network(),
    };
    (case.alert.to_owned(), about)
}

/// Severity and kind of every alert, by its name and whether it is the event of two of that name.
fn labels() -> Labels {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../rules/tesseract.alerts.yml");
    let rules: serde_yaml::Value = serde_yaml::from_str(&fs::read_to_string(rules).unwrap()).unwrap();
    let groups = rules["groups"].as_sequence().unwrap().iter();
    let mut labels = Labels::new();
    for rule in groups.flat_map(|group| group["rules"].as_sequence().unwrap()) {
        let Some(alert) = rule["alert"].as_str() else { continue };
        let of = ["severity", "kind"].map(|label| rule["labels"][label].as_str().unwrap().to_owned());
        let second = labels.contains_key(&(alert.to_owned(), false));
        let [severity, kind] = of;
        labels.insert((alert.to_owned(), second), (severity, kind));
    }
    labels
}
