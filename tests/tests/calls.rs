//! How many calls a history costs; what they must bring is for other tests. Never looks at time.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tesseract_tests::process::Exporter;
use tesseract_tests::rig::{NETWORK, Setup, named};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim};

const PATIENCE: Duration = Duration::from_secs(30);

/// Ranges of 40 blocks.
const BLOCKS: u64 = 2_000;

#[tokio::test]
async fn where_events_are_few_a_range_has_several_calls_for_logs_and_one_proof() {
    let params = Params { buffered_per_hour: 0, incidents_per_day: 0, ..Params::default() };
    let sim = Sim::start(params).await.unwrap();
    sim.advance(BLOCKS);
    let setup = Setup::new(&[&sim.url()], sim.chain().contract());
    let exporter = Exporter::start(&setup.yaml(None)).await;
    let synced = |series: &Series| series.get(&named("tesseract_synced")) == Some(1.0);
    let series = exporter.wait_for("synced", PATIENCE, synced).await;
    let calls = |method: &str| {
        let key = format!(
            "tesseract_rpc_requests_total{{endpoint=\"1\",method=\"{method}\",network=\"{NETWORK}\",outcome=\"ok\"}}"
        );
        series.get(&key).unwrap()
    };
    let ranges = (BLOCKS / setup.range) as f64;
    // Each block is asked for twice.
    assert!(calls("eth_getLogs") >= 2.0 * ranges, "{series}");
    // Window and count, of four ranges together, and the views at the head.
    assert!(calls("eth_call") < ranges, "{series}");
}
