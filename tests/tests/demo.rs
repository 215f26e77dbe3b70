//! The demo shows live figures of all its networks, and ends cleanly.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tesseract_tests::demo::{Demo, networks, table};
use tesseract_tests::process::binary;
use tesseract_tests::sim::{Chain, Sim};
use tokio::time::{interval, timeout};

#[tokio::test]
async fn every_network_is_live_and_moves() {
    binary();
    let mut demo = Demo::start(0).await.unwrap();
    let first = demo.sims().iter().map(Sim::head).collect::<Vec<_>>();
    let mut ticks = interval(Duration::from_millis(200));
    let live = async {
        loop {
            ticks.tick().await;
            let shown = table(&demo.scrape().await.unwrap());
            // One that is paused at this very time of day is as well as a live one.
            let synced =
                |line: &&str| [" live", " paused", " breaker"].iter().any(|state| line.ends_with(state));
            let moved = demo.sims().iter().zip(&first).any(|(sim, first)| sim.head() > *first);
            if moved && shown.lines().skip(1).filter(synced).count() == 3 {
                break;
            }
        }
    };
    timeout(Duration::from_secs(120), live).await.unwrap();
    demo.stop().await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let problem = Demo::start(address.port()).await.err().unwrap();
    let expected = format!("cannot listen on {address}: ");
    assert!(problem.starts_with(&expected) && problem.ends_with("choose another --port"), "{problem}");
    assert_eq!(problem.lines().count(), 1);
}

/// The compose demo names contracts that the simulated chain derives from its seed.
#[test]
fn the_compose_demo_follows_these_networks() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/demo.yml")).unwrap();
    let config: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let followed = config["networks"].as_sequence().unwrap().iter().map(|network| {
        let text = |key: &str| network[key].as_str().unwrap().to_owned();
        (text("name"), text("contract"), network["chain_id"].as_u64().unwrap())
    });
    let simulated = networks(1, 0).into_iter().map(|(name, params)| {
        let chain_id = params.chain_id;
        (name, format!("{:#x}", Chain::new(params).contract()), chain_id)
    });
    assert_eq!(followed.collect::<Vec<_>>(), simulated.collect::<Vec<_>>());
}
