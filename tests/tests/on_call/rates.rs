//! Rates that hold for every confirmation setting and every traffic, for six hours and a half: two minutes are a second.
//!
//! With `finalized` on Ethereum everything confirmed advances in steps of 384 s.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tesseract_tests::scripted::Value;

use crate::rig::{Rig, minutes, seconds};

const SPEED: u64 = 120;

const STEP: Duration = seconds(384);
const READY: &str = "transactions_settled_total{outcome=\"ready\"}";
const EXPIRED: &str = "transactions_settled_total{outcome=\"expired\"}";
const BUFFERED: &str = "transactions_buffered_total";

/// Which alert is looked at on a network, and whether it is to fire and stay.
const EXPECTED: [(&str, &str, bool); 8] = [
    ("all-expire-in-steps", "TesseractHighFailureRate", true),
    ("all-expire-one-by-one", "TesseractHighFailureRate", true),
    ("one-in-twenty-in-a-step", "TesseractHighFailureRate", false),
    ("one-in-twenty-one-by-one", "TesseractHighFailureRate", false),
    ("six-a-step", "TesseractLowThroughput", true),
    ("seven-a-step", "TesseractLowThroughput", false),
    ("by-chance", "TesseractLowThroughput", false),
    ("by-chance", "TesseractHighFailureRate", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn rates_hold_in_steps_and_for_little_traffic() {
    let rig = Rig::with(1, SPEED, &[]).await;
    let mut networks: Vec<_> = EXPECTED.map(|(network, ..)| network).into();
    networks.dedup();
    rig.watch(&networks).await;
    let still = Value::Frozen;
    let arrivals: &[Duration] = arrivals().leak();
    let all: [(&str, &[(&str, Value)]); 7] = [
        ("all-expire-in-steps", &[(READY, still), (EXPIRED, Value::Step(10.0, STEP))]),
        ("all-expire-one-by-one", &[(READY, still), (EXPIRED, Value::Every(seconds(360)))]),
        ("one-in-twenty-in-a-step", &[(READY, Value::Step(20.0, STEP)), (EXPIRED, Value::By(1.0))]),
        ("one-in-twenty-one-by-one", &[(READY, Value::Every(seconds(176))), (EXPIRED, Value::By(1.0))]),
        ("six-a-step", &[(BUFFERED, Value::Step(6.0, STEP))]),
        ("seven-a-step", &[(BUFFERED, Value::Step(7.0, STEP))]),
        ("by-chance", &[(BUFFERED, Value::At(arrivals))]),
    ];
    // The others in all have enough of what they are not about.
    for (network, changes) in all {
        rig.set(network, changes);
    }
    rig.pass(minutes(390)).await;

    let mut wrong = Vec::new();
    println!("{:26} {:26} {:>8} {:>8}  minutes after the beginning", "network", "alert", "fires", "then for");
    for (network, alert, expected) in EXPECTED {
        let of = format!("{{alertname=\"{alert}\", network=\"{network}\", alertstate=\"firing\"}}");
        let ever = rig.holds(&format!("count(count_over_time(ALERTS{of}[1h]))")).await;
        // Since when it is true without a break: the state keeps the time when it began.
        let since = "ALERTS_FOR_STATE".to_owned() + &of.replace(", alertstate=\"firing\"", "");
        let held = rig.stack.query(&format!("(time() - {since}) * {SPEED} / 60")).await.unwrap();
        let held = held.first().copied().filter(|_| ever);
        println!("{network:26} {alert:26} {:>8} {:>8.0}", ever, held.unwrap_or_default());
        let kept = match alert {
            "TesseractLowThroughput" => held.is_some(),
            _ => held.is_some_and(|minutes| minutes > 350.0),
        };
        if expected && !kept || !expected && ever {
            wrong.push((network, alert));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// 1.2 a minute as chance would have it, for seven hours.
fn arrivals() -> Vec<Duration> {
    let mut random = ChaCha8Rng::seed_from_u64(14);
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    while at < 7.0 * 3600.0 {
        let chance: f64 = random.random();
        at += -(1.0 - chance).ln() * 60.0 / 1.2;
        arrivals.push(Duration::from_secs_f64(at));
    }
    arrivals
}
