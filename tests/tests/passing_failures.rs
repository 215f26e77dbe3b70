//! Failures that pass cost little and prove nothing: an endpoint that is flaky, or slow, carries its network
//! with about the requests of a healthy one.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures_util::future::join_all;
use tesseract_tests::hostile::{Counts, Fault, Proxy};
use tesseract_tests::process::Exporter;
use tesseract_tests::rig::{NETWORK, Oracle, Setup, named, reached, watch};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Call, Params, Sim};

const PATIENCE: Duration = Duration::from_secs(90);

const CONFIRMATIONS: u64 = 2;

/// The block before the deployment.
const BEFORE: u64 = 9;

/// A chain, the hostile node in front of it, and what is true on it.
struct Rig {
    sim: Sim,
    proxy: Proxy,
    setup: Setup,
    oracle: Oracle,
}

impl Rig {
    async fn start(head: u64) -> Self {
        let sim = Sim::start(Params::default()).await.unwrap();
        sim.advance(head);
        Self::on(sim).await
    }

    async fn on(sim: Sim) -> Self {
        let proxy = Proxy::start(&sim.url()).await;
        let contract = sim.chain().contract();
        let setup = Setup::new(&[&proxy.url()], contract);
        let oracle = Oracle::read(&sim.url(), contract, sim.head()).await;
        Self { sim, proxy, setup, oracle }
    }

    async fn exporter(&self) -> Exporter {
        Exporter::start(&self.setup.yaml(None)).await
    }

    /// Waits for the newest confirmed block; whatever is shown on the way must be true.
    async fn exact(&self, exporter: &Exporter) -> Result<Series, String> {
        let target = self.sim.head() - CONFIRMATIONS;
        let check = |text: &str| self.oracle.differences(text);
        watch(exporter, PATIENCE, |text| reached(text, target), check).await.map(|text| Series::parse(&text))
    }

    /// What a first sync asks for.
    async fn first_sync(&self) -> Result<Counts, String> {
        let exporter = self.exporter().await;
        self.exact(&exporter).await?;
        Ok(self.proxy.counts())
    }
}

#[tokio::test]
async fn a_flaky_endpoint_carries_a_first_sync_with_few_requests_more() {
    let head = BEFORE + 89 + CONFIRMATIONS;
    let healthy = Rig::start(head).await.first_sync().await.unwrap();
    let runs = (1..=8).map(|seed| async move {
        let rig = Rig::start(head).await;
        rig.proxy.seed(seed);
        rig.proxy.set(Fault::Flaky);
        (seed, rig.first_sync().await)
    });
    let mut failures = Vec::new();
    for (seed, run) in join_all(runs).await {
        match run {
            // Beyond what fails itself, a few heads and views: a failure may end a cycle, not the batches.
            Ok(counts) if counts.http > 5 * healthy.http => {
                failures.push(format!("seed {seed}: {} requests, {} healthy", counts.http, healthy.http));
            }
            Ok(_) => {}
            Err(why) => failures.push(format!("seed {seed}: {why}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn a_replica_that_refuses_all_logs_ends_few_cycles() {
    const SEEDS: u64 = 8;
    const BLOCKS: u64 = 89;
    let runs = (1..=SEEDS).map(|seed| async move {
        let mut rig = Rig::start(BEFORE + BLOCKS + CONFIRMATIONS).await;
        rig.setup.range = 1;
        rig.proxy.seed(seed);
        rig.proxy.mix(&[Fault::LogsRefused], 20);
        let exporter = rig.exporter().await;
        rig.exact(&exporter).await.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(rig.proxy.counts().faulty > 0, "seed {seed}: nothing was refused");
        exporter.log().iter().filter(|line| line.contains("cycle not completed")).count() as u64
    });
    let ended: u64 = join_all(runs).await.into_iter().sum();
    // A block in five meets it, and one in 125 three times in a row.
    assert!(ended <= SEEDS * BLOCKS / 20, "{ended} cycles for {} blocks were not completed", SEEDS * BLOCKS);
}

#[tokio::test]
async fn batches_go_on_whatever_the_order_of_their_answers() {
    batches_go_on_with(|proxy| proxy.set(Fault::BatchReordered), |_| {}).await;
}

#[tokio::test]
async fn batches_go_on_after_one_broken_answer() {
    for fault in [Fault::TruncatedJson, Fault::BadGateway, Fault::NullResult, Fault::ErrorOk] {
        batches_go_on_with(|proxy| proxy.set(fault), Proxy::clear).await;
    }
}

/// Follows some blocks behind a fault that is set at the first of them, and is over at the second: no more
/// requests than without the fault, but for what failed.
async fn batches_go_on_with(begin: impl Fn(&Proxy), end: impl Fn(&Proxy)) {
    let rig = Rig::start(300).await;
    let mut asked = Vec::new();
    for faulty in [false, true] {
        let sim = Sim::start(Params::default()).await.unwrap();
        sim.advance(300 - 40);
        rig.proxy.move_to(&sim.url());
        let exporter = rig.exporter().await;
        let (first, target) = (sim.head(), |sim: &Sim| sim.head() - CONFIRMATIONS);
        watch(&exporter, PATIENCE, |text| reached(text, target(&sim)), |_| Vec::new()).await.unwrap();
        let before = rig.proxy.counts();
        if faulty {
            begin(&rig.proxy);
            let mut counts = rig.proxy.watch();
            counts.wait_for(|counts| counts.faulty > before.faulty).await.unwrap();
            end(&rig.proxy);
        }
        while sim.head() < first + 40 {
            sim.advance(4);
            let check = |text: &str| rig.oracle.differences(text);
            watch(&exporter, PATIENCE, |text| reached(text, target(&sim)), check).await.unwrap();
        }
        let after = rig.proxy.counts();
        asked.push((after.http - before.http, after.total() - before.total()));
    }
    let [(http, calls), (http_faulty, calls_faulty)] = asked[..] else { unreachable!("two runs") };
    // A poll more or less: the two runs need not meet the blocks at the same moments.
    assert!(
        http_faulty <= 2 * http,
        "{http_faulty} requests for {calls_faulty} calls, healthy {http} for {calls}"
    );
}

#[tokio::test]
async fn an_error_that_passes_does_not_move_the_beginning_of_the_history() {
    let runs = (1..=16).map(|seed| async move {
        let rig = Rig::start(300).await;
        rig.proxy.seed(seed);
        rig.proxy.set(Fault::BadUpstream);
        let exporter = rig.exporter().await;
        let series = rig.exact(&exporter).await;
        let series = series.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let begins =
            exporter.wait_for_line("the beginning", PATIENCE, |line| line.contains("history begins"));
        let line: serde_json::Value = serde_json::from_str(&begins.await).unwrap();
        let refused = format!(
            "tesseract_rpc_requests_total{{endpoint=\"1\",method=\"eth_getCode\",network=\"{NETWORK}\",\
             outcome=\"rpc_error\"}}"
        );
        (seed, line["block"].as_u64(), series.get(&refused).unwrap_or(0.0))
    });
    let runs = join_all(runs).await;
    assert!(runs.iter().any(|(.., refused)| *refused > 0.0), "no search for the beginning met the fault");
    let wrong: Vec<_> = runs.iter().filter(|(_, block, _)| *block != Some(BEFORE + 1)).collect();
    assert!(wrong.is_empty(), "seed, beginning, refused calls for code: {wrong:?}");
}

#[tokio::test]
async fn ranges_in_flight_are_read_while_one_is_applied() {
    // Each change of the window within a range takes a search of seven reads, one after the other.
    let params = Params { incidents_per_day: 0, buffered_per_hour: 1200, ..Params::default() };
    let sim = Sim::start(params).await.unwrap();
    for (blocks, window) in [(60, 40), (99, 60), (99, 30), (99, 45)] {
        sim.advance(blocks);
        sim.call(Call::SetWindow(window)).unwrap();
    }
    sim.advance(120);
    let mut rig = Rig::on(sim).await;
    (rig.setup.range, rig.setup.start_block) = (100, Some(BEFORE + 1));
    for method in ["eth_chainId", "eth_getBlockByNumber", "eth_getLogs"] {
        rig.proxy.delay(method, Duration::from_millis(600));
    }
    rig.proxy.delay("eth_call", Duration::from_millis(450));
    let exporter = rig.exporter().await;
    let series = rig.exact(&exporter).await.unwrap();
    let asked = rig.proxy.counts();
    assert!(asked.of("eth_call") >= 4 * 7, "the windows were not searched for: {asked:?}");
    let timeouts = series.0.keys().filter(|key| key.contains("outcome=\"timeout\""));
    let timeouts: f64 = timeouts.filter_map(|key| series.get(key)).sum();
    assert_eq!(timeouts, 0.0, "the node answers within 0.9 s; {}", exporter.log().join("\n"));
    // No request took longer than 0.9 s; the bucket leaves a busy machine some time.
    let duration = |rest: &str| {
        let prefix = "tesseract_rpc_request_duration_seconds";
        series.get(&format!("{prefix}{rest}")).unwrap_or_else(|| panic!("no {prefix}{rest} in\n{series}"))
    };
    let labels = format!("endpoint=\"1\",network=\"{NETWORK}\"");
    let within = duration(&format!("_bucket{{endpoint=\"1\",le=\"2.5\",network=\"{NETWORK}\"}}"));
    let all = duration(&format!("_count{{{labels}}}"));
    assert_eq!(within, all, "requests that seem to have taken more than 2.5 s");
    assert_eq!(series.get(&named("tesseract_missing_events")), Some(0.0));
}
