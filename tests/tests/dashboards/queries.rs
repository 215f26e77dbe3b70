//! Every query of every panel, annotation and variable, on a real Prometheus that scrapes the exporter on two
//! simulated chains, with the shipped rules.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use serde_json::Value;
use tesseract_tests::process::{Exporter, free_port};
use tesseract_tests::prometheus::Prometheus;
use tesseract_tests::sim::{Call, Params, Sim, Variant};
use tokio::time::{interval, timeout};
use web3::types::H160;

use crate::{Dashboard, dashboards, root};

/// Queries that give nothing although all is well, each with its reason. None at present: the test makes
/// happen what a panel waits for.
const EXPECTED_EMPTY: [&str; 0] = [];

/// A minute of traffic in a second.
const SPEED: f64 = 60.0;

/// Everything has been seen within half a minute; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn every_query_gives_data() {
    let simple = lively(Variant::Simple, 1).await;
    let buffer = lively(Variant::Buffer, 2).await;
    let exporter = Exporter::start(&config(&simple, &buffer)).await;
    exporter
        .wait_for("both are synced", PATIENCE, |series| {
            ["simple", "buffer"]
                .iter()
                .all(|name| series.get(&format!("tesseract_synced{{network=\"{name}\"}}")) == Some(1.0))
        })
        .await;
    let rules = ["tesseract.rules.yml", "tesseract.alerts.yml"].map(|name| root().join("rules").join(name));
    let prometheus = Prometheus::start(&scrape(&exporter), &[&rules[0], &rules[1]]).await;

    let mut waiting: BTreeSet<_> = dashboards().iter().flat_map(Dashboard::expressions).collect();
    let number = waiting.len();
    waiting.retain(|(place, _)| !EXPECTED_EMPTY.contains(&place.as_str()));
    assert_eq!(number - waiting.len(), EXPECTED_EMPTY.len(), "a query that is declared empty does not exist");

    let all_seen = async {
        let mut ticks = interval(Duration::from_secs(1));
        loop {
            // The incidents that annotations mark, over and over: a first one before Prometheus knew the
            // state before it would go unseen.
            for _ in 0..6 {
                ticks.tick().await;
                let answers = join_all(waiting.iter().map(|query| gives_data(&prometheus, query))).await;
                let mut answers = answers.into_iter();
                waiting.retain(|_| !answers.next().unwrap());
                if waiting.is_empty() {
                    return;
                }
            }
            incidents(&simple, &buffer);
        }
    };
    let done = timeout(PATIENCE, all_seen).await;
    assert!(done.is_ok(), "no data within {PATIENCE:?} of {number}: {waiting:#?}");

    let networks = prometheus.label_values("network", "tesseract_node_connected{job=\"tesseract\"}").await;
    assert_eq!(networks, Ok(vec!["buffer".to_owned(), "simple".to_owned()]), "what the variable offers");
}

/// A chain with a history, whose blocks go on coming.
async fn lively(variant: Variant, seed: u64) -> Sim {
    let history = 2_000;
    let block_time = Duration::from_secs(2);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let genesis_time = now - history * block_time.as_secs();
    // No incidents but those that the test causes: a pause of its own must not meet another's.
    let incidents_per_day = 0;
    let params = Params { seed, variant, block_time, genesis_time, incidents_per_day, ..Params::default() };
    let mut sim = Sim::start(params).await.unwrap();
    sim.advance(history);
    sim.run(SPEED);
    sim
}

/// A reorganisation on one chain, of more blocks than come between two looks at the head; a new owner, and a
/// pause or its end, on the other.
fn incidents(simple: &Sim, buffer: &Sim) {
    simple.reorg(100);
    buffer.call(Call::SetOwner(H160::from_low_u64_be(buffer.head()))).unwrap();
    let paused = buffer.chain().views(buffer.head()).unwrap().paused;
    buffer.call(if paused { Call::Unpause } else { Call::Pause }).unwrap();
}

/// The first endpoint of one network is dead, so that there are errors to show.
fn config(simple: &Sim, buffer: &Sim) -> String {
    let owner = buffer.chain().views(buffer.head()).unwrap().owner;
    let [simple_contract, buffer_contract] = [simple, buffer].map(|sim| sim.chain().contract());
    format!(
        "networks:
  - name: simple
    rpc_urls: [\"http://127.0.0.1:{dead}\", \"{simple}\"]
    contract: \"{simple_contract:#x}\"
    poll_interval: 200ms
  - name: buffer
    rpc_urls: [\"{buffer}\"]
    contract: \"{buffer_contract:#x}\"
    expected_owner: \"{owner:#x}\"
    poll_interval: 200ms
",
        dead = free_port(),
        simple = simple.url(),
        buffer = buffer.url(),
    )
}

/// Once a second instead of every 15 s, and the shipped rules as often.
fn scrape(exporter: &Exporter) -> String {
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [tesseract.rules.yml, tesseract.alerts.yml]
scrape_configs:
  - job_name: tesseract
    static_configs: [{{targets: [\"{}\"]}}]
",
        exporter.address()
    )
}

/// Whether a query, with the variables as Grafana would fill them in, gives at least one number.
async fn gives_data(prometheus: &Prometheus, (place, expression): &(String, String)) -> bool {
    let query = expression.replace("$__rate_interval", "6s").replace("$network", ".+");
    assert!(!query.contains('$'), "{place}: a variable that Grafana does not fill in: {query}");
    let series = prometheus.query(&query).await.unwrap_or_else(|error| panic!("{place}: {error} in {query}"));
    let is_number = |value: &Value| value.as_str().is_some_and(|value| value != "NaN");
    series.iter().any(|series| is_number(&series["value"][1]))
}
