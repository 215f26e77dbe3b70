//! Native histograms from end to end: a simulated chain, exporters, real Prometheus servers, and what the chain's own
//! data says.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tesseract_tests::fold::{Native, Truth, quantile};
use tesseract_tests::process::Exporter;
use tesseract_tests::prometheus::{Prometheus, prometheus_3};
use tesseract_tests::protobuf::{self, ACCEPT};
use tesseract_tests::rig::{NETWORK, Oracle, Setup, exposition, named, reached, watch};
use tesseract_tests::sim::{Params, Sim};
use tokio::time::{interval, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// The chain's end: an hour of 2 s, with 1200 transactions.
const HEAD: u64 = 1800;

const CONFIRMATIONS: u64 = 2;

const FAMILIES: [&str; 2] = ["tesseract_resolution_time_seconds", "tesseract_resolution_delay_seconds"];

const SHARES: [f64; 7] = [0.01, 0.1, 0.5, 0.75, 0.9, 0.95, 0.99];

/// How far a quantile may be from the exact one.
const TOLERANCE: f64 = 0.05;

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_are_functions_of_the_chain_and_their_quantiles_are_exact_to_5_percent() {
    let (sim, truth) = chain().await;
    let state = TempDir::new().unwrap();
    let setup = Setup::new(&[&sim.url()], sim.chain().contract());
    let mut exporter = Exporter::start(&setup.yaml(Some(state.path()))).await;
    caught_up(&exporter).await;
    shows(&exporter, &truth, "at first").await;

    let older = "prometheus".as_ref();
    let quantiles = prometheus_answers(older, "", &exporter, &truth);
    match prometheus_3("prometheus") {
        Some(newer) => {
            let classic = "always_scrape_classic_histograms: true, ";
            tokio::join!(quantiles, prometheus_answers(&newer, classic, &exporter, &truth));
        }
        None => quantiles.await,
    }

    assert!(exporter.terminate().await.success());
    let exporter = Exporter::start(&setup.yaml(Some(state.path()))).await;
    caught_up(&exporter).await;
    shows(&exporter, &truth, "from the saved state").await;

    let other = Setup { range: 7, ..setup };
    let exporter = Exporter::start(&other.yaml(None)).await;
    caught_up(&exporter).await;
    shows(&exporter, &truth, "read in other ranges").await;
}

/// A chain that does not grow any more, and what is true at its newest confirmed block.
async fn chain() -> (Sim, Truth) {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(HEAD);
    let (url, contract) = (sim.url(), sim.chain().contract());
    let truth = Oracle::read(&url, contract, sim.head()).await.at(HEAD - CONFIRMATIONS);
    for family in FAMILIES {
        let observations = &truth.observations[&named(family)];
        assert!(observations.len() > 500, "{} of {family}", observations.len());
        assert!(Native::of(observations).buckets.len() > 10, "many buckets of {family}");
    }
    (sim, (*truth).clone())
}

async fn caught_up(exporter: &Exporter) {
    let done = |text: &str| reached(text, HEAD - CONFIRMATIONS);
    watch(exporter, PATIENCE, done, |_| Vec::new()).await.unwrap();
}

/// A scrape by protobuf shows the very native buckets of the chain's data.
async fn shows(exporter: &Exporter, truth: &Truth, when: &str) {
    let headers = [("Accept", ACCEPT)];
    let reply = exporter.get_with("/metrics", &headers).await;
    let families = protobuf::parse(&reply.body);
    for name in FAMILIES {
        let family = families.iter().find(|family| family.name == name).unwrap();
        let [metric] = &family.metrics[..] else { panic!("one network: {family}") };
        let histogram = metric.histogram.as_ref().unwrap();
        let observations = &truth.observations[&named(name)];
        let shown = Native { zero: histogram.zero_count, buckets: histogram.native() };
        assert_eq!(shown, Native::of(observations), "{when}, {name}");
        assert_eq!(histogram.schema, 4);
        assert_eq!(histogram.count, observations.len() as u64, "{when}, {name}");
        assert_eq!(histogram.sum, observations.iter().sum::<u64>() as f64, "{when}, {name}");
    }
    // And the classic ones are those of the text, which other tests hold to the truth.
    let (shown, text) = (protobuf::series(&families), exposition(exporter).await);
    for line in text.lines().filter(|line| line.starts_with("tesseract_resolution_")) {
        let (key, value) = line.split(" # ").next().unwrap().rsplit_once(' ').unwrap();
        let sorted = tesseract_tests::series::Series::parse(&format!("{key} {value}\n"));
        let key = sorted.0.keys().next().unwrap();
        assert_eq!(shown.get(key), value.parse().ok(), "{when}, {key}");
    }
}

/// A Prometheus that takes native histograms, with this in its scrape configuration, has them, and has quantiles.
async fn prometheus_answers(program: &Path, classic: &str, exporter: &Exporter, truth: &Truth) {
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- {{job_name: tesseract, {classic}\
         static_configs: [{{targets: [\"{}\"]}}]}}\n",
        exporter.address()
    );
    let features = "native-histograms,exemplar-storage";
    let prometheus = Prometheus::start_program(program, features, &config, &[]).await;
    let version = prometheus.api("status/buildinfo").await.unwrap()["version"].as_str().unwrap().to_owned();
    let rpc = format!("tesseract_rpc_request_duration_seconds{{network=\"{NETWORK}\"}}");
    for family in FAMILIES {
        let (series, observations) = (named(family), &truth.observations[&named(family)]);
        let count = wait_for_number(&prometheus, &format!("histogram_count({series})")).await;
        assert_eq!(count, observations.len() as f64, "{version}, {family}");
        let sum = number(&prometheus, &format!("histogram_sum({series})")).await;
        assert_eq!(sum, Some(observations.iter().sum::<u64>() as f64), "{version}, {family}");
        for share in SHARES {
            let query = format!("histogram_quantile({share}, {series})");
            let (got, exact) =
                (number(&prometheus, &query).await.unwrap(), quantile(share, observations) as f64);
            println!("Prometheus {version}: {query} = {got:.3}, exactly {exact}");
            // Of 0 s a bucket of its own says so, to a threshold that is no time at all.
            assert!(
                (got - exact).abs() <= TOLERANCE * exact + 1e-9,
                "{version}, {query}: {got}, exactly {exact}"
            );
        }
    }
    let median = number(&prometheus, &format!("histogram_quantile(0.5, {rpc})")).await.unwrap();
    let average =
        number(&prometheus, &format!("histogram_sum({rpc}) / histogram_count({rpc})")).await.unwrap();
    assert!(median > 0.0 && average > 0.0, "{version}: {median} {average}");
    // Without the setting a Prometheus leaves the classic series of these families out.
    let buckets = prometheus
        .query(&format!("{{__name__=~\"tesseract_.+_bucket\", network=\"{NETWORK}\"}}"))
        .await
        .unwrap();
    assert_eq!(buckets.is_empty(), classic.is_empty(), "{version}: {buckets:?}");
    if !classic.is_empty() {
        classic_series_are_there(&prometheus, truth, &rpc).await;
    }
}

async fn classic_series_are_there(prometheus: &Prometheus, truth: &Truth, rpc: &str) {
    for (series, value) in
        truth.series.iter().filter(|(key, _)| FAMILIES.iter().any(|it| key.starts_with(it)))
    {
        assert_eq!(number(prometheus, series).await, Some(*value), "{series}");
    }
    let classic = rpc.replace("_seconds{", "_seconds_count{");
    let differing = prometheus.query(&format!("histogram_count({rpc}) != {classic}")).await.unwrap();
    assert!(differing.is_empty(), "{differing:?}");
    assert!(number(prometheus, &classic).await.is_some_and(|count| count > 100.0));

    // Exemplars of the native histogram itself, which Prometheus takes from the classic buckets.
    for family in FAMILIES {
        let query = format!("query_exemplars?query={family}&start=0&end=4102444800");
        let stored = prometheus.api(&query).await.unwrap();
        let named: Vec<&Value> =
            stored.as_array().unwrap().iter().flat_map(|of| of["exemplars"].as_array().unwrap()).collect();
        let known = |exemplar: &&Value| {
            truth.exemplars.values().any(|it| exemplar["labels"]["tx_id"] == it.tx_id.as_str())
        };
        assert!(!named.is_empty() && named.iter().all(known), "{family}: {named:?}");
    }
}

/// The value of the one series that a query gives; `None` when there is none.
async fn number(prometheus: &Prometheus, query: &str) -> Option<f64> {
    let series = prometheus.query(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    assert!(series.len() <= 1, "{query}: {series:?}");
    series.first()?["value"][1].as_str()?.parse().ok()
}

/// The same, once there is one.
async fn wait_for_number(prometheus: &Prometheus, query: &str) -> f64 {
    let waiting = async {
        let mut ticks = interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            if let Some(value) = number(prometheus, query).await {
                return value;
            }
        }
    };
    let value = timeout(PATIENCE, waiting).await;
    value.unwrap_or_else(|_| panic!("{query}: nothing within {PATIENCE:?}\n{}", prometheus.log()))
}
