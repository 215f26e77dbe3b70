//! A backup that serves a made-up chain, a thousand blocks longer than the one that is followed: it takes nobody's place,
//! neither when it is there from the start nor when the honest one fails, and both are named.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tesseract_tests::hostile::{Fault, Proxy};
use tesseract_tests::process::Exporter;
use tesseract_tests::rig::{NETWORK, Oracle, Setup, named, reached, watch};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim};

const PATIENCE: Duration = Duration::from_secs(90);

const HISTORY: u64 = 300;

const CONFIRMATIONS: u64 = 2;

fn of_endpoint(name: &str, number: u32) -> String {
    format!("{name}{{endpoint=\"{number}\",network=\"{NETWORK}\"}}")
}

async fn sees(exporter: &Exporter, oracle: &Oracle, target: u64) {
    let check = |text: &str| oracle.differences(text);
    watch(exporter, PATIENCE, |text| reached(text, target), check).await.unwrap();
}

#[tokio::test]
async fn a_made_up_chain_is_never_followed_however_long() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(HISTORY);
    let honest = Proxy::start(&sim.url()).await;
    // The same contract with another history.
    let made_up = Sim::start(Params::default()).await.unwrap();
    made_up.advance(HISTORY);
    made_up.reorg(HISTORY / 2);
    made_up.advance(1000);
    let contract = sim.chain().contract();
    // The same history as it will be.
    let later = Sim::start(Params::default()).await.unwrap();
    later.advance(HISTORY + 100);
    let oracle = Oracle::read(&later.url(), contract, HISTORY + 100).await;
    let setup = Setup::new(&[&honest.url(), &made_up.url()], contract);
    let mut exporter = Exporter::start(&setup.yaml(None)).await;
    sees(&exporter, &oracle, HISTORY - CONFIRMATIONS).await;

    let refused = |series: &Series| {
        series.get(&of_endpoint("tesseract_rpc_endpoint_healthy", 2)) == Some(0.0)
            && series.get(&of_endpoint("tesseract_rpc_endpoint_serving", 1)) == Some(1.0)
    };
    exporter.wait_for("the contradiction", PATIENCE, refused).await;
    let named_both = |line: &str| {
        line.contains("contradict each other")
            && line.contains("\"endpoint\":2")
            && line.contains("\"other\":1")
    };
    exporter.wait_for_line("the contradiction", PATIENCE, named_both).await;

    // Nor does it take over: what it says is known to be another history.
    honest.set(Fault::ResetBefore);
    let down = |series: &Series| series.get(&named("tesseract_node_connected")) == Some(0.0);
    let series = exporter.wait_for("nobody to be asked", PATIENCE, down).await;
    assert_eq!(series.get(&named("tesseract_reorgs_total")), Some(0.0));
    honest.clear();
    sim.advance(100);
    sees(&exporter, &oracle, HISTORY + 100 - CONFIRMATIONS).await;
    assert!(exporter.terminate().await.success());
}
