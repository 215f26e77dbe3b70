//! Two endpoints, the preferred one ill: the other takes over at once, and gives back later.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;
use tesseract_tests::hostile::{Fault, Proxy};
use tesseract_tests::http::Reply;
use tesseract_tests::process::{Exporter, free_port};
use tesseract_tests::rig::{NETWORK, Oracle, Setup, named, reached, watch};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

const HISTORY: u64 = 300;

const CONFIRMATIONS: u64 = 2;

struct Rig {
    sim: Sim,
    preferred: Proxy,
    other: Proxy,
    oracle: Oracle,
}

impl Rig {
    async fn start(fault: Fault) -> Self {
        let sim = Sim::start(Params::default()).await.unwrap();
        sim.advance(HISTORY);
        let (preferred, other) = (Proxy::start(&sim.url()).await, Proxy::start(&sim.url()).await);
        preferred.set(fault);
        let contract = sim.chain().contract();
        let oracle = Oracle::read(&sim.url(), contract, HISTORY).await;
        Self { sim, preferred, other, oracle }
    }

    async fn exporter(&self) -> Exporter {
        let urls = [self.preferred.url(), self.other.url()];
        let setup = Setup::new(&[&urls[0], &urls[1]], self.sim.chain().contract());
        Exporter::start(&setup.yaml(None)).await
    }

    async fn exact(&self, exporter: &Exporter) {
        let target = HISTORY - CONFIRMATIONS;
        let check = |text: &str| self.oracle.differences(text);
        watch(exporter, PATIENCE, |text| reached(text, target), check).await.unwrap();
    }

    /// Waits until the chain is read from the preferred endpoint while it grows.
    async fn gives_back(&self) {
        let mut counts = self.preferred.watch();
        let before = counts.borrow().of("eth_getLogs");
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        let waiting = async {
            while counts.borrow_and_update().of("eth_getLogs") == before {
                self.sim.advance(1);
                ticks.tick().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the preferred endpoint is used again");
    }
}

#[tokio::test]
async fn ill_endpoints_are_passed_over_within_one_time_out_and_come_back() {
    for fault in
        [Fault::Hang, Fault::ResetBefore, Fault::Unavailable, Fault::Garbage, Fault::RetryAfterSeconds]
    {
        let rig = Rig::start(fault).await;
        let mut counts = rig.other.watch();
        let exporter = rig.exporter().await;
        timeout(PATIENCE, counts.wait_for(|counts| counts.http > 0)).await.unwrap().unwrap();
        let asked = rig.preferred.counts().http;
        // A probe may run beside the request that is given up.
        let most = if fault == Fault::Garbage { 8 } else { 2 };
        assert!(asked <= most, "{fault}: {asked} requests before the other endpoint was asked");
        rig.exact(&exporter).await;
        rig.preferred.clear();
        rig.gives_back().await;
    }
}

#[tokio::test]
async fn one_that_hangs_at_some_calls_only_is_left_to_the_other_within_two_time_outs() {
    join_all(["eth_getLogs", "eth_call", "eth_getCode"].map(one_that_hangs_at)).await;
}

async fn one_that_hangs_at(method: &'static str) {
    let rig = Rig::start(Fault::NullError).await;
    // Head and chain are answered: whoever asks for these alone finds nothing wrong.
    rig.preferred.delay(method, Duration::from_secs(3600));
    let urls = [rig.preferred.url(), rig.other.url()];
    let mut setup = Setup::new(&[&urls[0], &urls[1]], rig.sim.chain().contract());
    setup.timeout = Duration::from_secs(4);
    let exporter = Exporter::start(&setup.yaml(None)).await;
    let started = Instant::now();
    rig.exact(&exporter).await;
    assert!(started.elapsed() < 2 * setup.timeout, "{method}: synced after {:?}", started.elapsed());
    let first = rig.preferred.counts().of(method);
    for _ in 0..20 {
        rig.sim.advance(1);
        let target = rig.sim.head() - CONFIRMATIONS;
        watch(&exporter, PATIENCE, |text| reached(text, target), |_| Vec::new()).await.unwrap();
    }
    // Tried again now and then, after rests that grow: not at every block.
    let again = rig.preferred.counts().of(method) - first;
    assert!(again <= 5 * first, "{method}: {first} in vain at first, {again} more within 20 blocks");
}

/// However long it takes until all of them rest at once.
#[tokio::test]
async fn that_all_hang_is_shown_when_each_had_its_turn() {
    let rig = Rig::start(Fault::NullError).await;
    let urls = [rig.preferred.url(), rig.other.url()];
    let mut setup = Setup::new(&[&urls[0], &urls[1]], rig.sim.chain().contract());
    setup.timeout = Duration::from_secs(2);
    let exporter = Exporter::start(&setup.yaml(None)).await;
    rig.exact(&exporter).await;
    rig.preferred.set(Fault::Hang);
    rig.other.set(Fault::Hang);
    let before = rig.preferred.counts().http;
    let nobody = |series: &Series| series.get(&named("tesseract_node_connected")) == Some(0.0);
    exporter.wait_for("nobody is connected", PATIENCE, nobody).await;
    let asked = rig.preferred.counts().http - before;
    assert!(asked <= 2, "asked {asked} times before that was shown");
}

/// Blocks are older than any log can be late when they are confirmed, so that they are looked at again at once.
#[tokio::test]
async fn one_that_leaves_out_logs_gives_way_to_one_that_has_them() {
    const STEPS: u64 = 4;
    let sim = Sim::start(Params { block_time: Duration::from_secs(12), ..Params::default() }).await.unwrap();
    sim.advance(HISTORY);
    let (preferred, other) = (Proxy::start(&sim.url()).await, Proxy::start(&sim.url()).await);
    preferred.set(Fault::ReadyOmitted);
    let mut setup = Setup::new(&[&preferred.url(), &other.url()], sim.chain().contract());
    setup.confirmations = 32;
    let exporter = Exporter::start(&setup.yaml(None)).await;
    for _ in 0..STEPS {
        let target = sim.advance(10) - setup.confirmations;
        let oracle = Oracle::read(&sim.url(), setup.contract, target).await;
        let exact = |text: &str| reached(text, target) && oracle.differences(text).is_empty();
        watch(&exporter, PATIENCE, exact, |_| Vec::new()).await.unwrap();
    }
    let is_late = |line: &&String| line.contains("logs that did not come in time");
    let late = exporter.log().iter().filter(is_late).count() as u64;
    assert!(late <= 3 * STEPS, "{late} times the history was taken back for late logs");
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let rig = Rig::start(Fault::Hang).await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let setup = Setup::new(&[&dead, &rig.other.url()], rig.sim.chain().contract());
    let exporter = Exporter::start(&setup.yaml(None)).await;
    rig.exact(&exporter).await;
}

#[tokio::test]
async fn one_that_trails_is_not_used_for_logs() {
    let rig = Rig::start(Fault::Lagging).await;
    let exporter = rig.exporter().await;
    rig.exact(&exporter).await;
    rig.preferred.clear();
    rig.gives_back().await;
}

#[tokio::test]
async fn a_first_sync_does_not_end_at_the_head_of_a_replica_far_behind() {
    const HEAD: u64 = 20_000;
    let sims = [Sim::start(Params::default()).await.unwrap(), Sim::start(Params::default()).await.unwrap()];
    sims[0].advance(HEAD);
    sims[1].advance(HISTORY);
    let preferred = Proxy::start(&sims[0].url()).await;
    let mut setup = Setup::new(&[&preferred.url(), &sims[1].url()], sims[0].chain().contract());
    (setup.range, setup.poll) = (1, Duration::from_millis(20));
    let exporter = Exporter::start(&setup.yaml(None)).await;
    let get = |series: &Series, name: &str| series.get(&named(name));
    let left = |series: &Series| get(series, "tesseract_sync_remaining_blocks");
    let passed = |series: &Series| left(series).is_some_and(|left| left < (HEAD - 2 * HISTORY) as f64);
    exporter.wait_for("more than the replica has", PATIENCE, passed).await;

    preferred.set(Fault::ResetBefore);
    let looks = Cell::new(0);
    let at_replica = |series: &Series| {
        let at_replica = get(series, "tesseract_head_block_number") == Some(HISTORY as f64);
        looks.set(looks.get() + u32::from(at_replica));
        assert_ne!(get(series, "tesseract_synced"), Some(1.0), "after {looks:?} looks");
        looks.get() > 20
    };
    exporter.wait_for("the replica", PATIENCE, at_replica).await;
    preferred.clear();
    let done = |series: &Series| get(series, "tesseract_synced") == Some(1.0);
    let series = exporter.wait_for("the end", PATIENCE, done).await;
    assert_eq!(get(&series, "tesseract_processed_block_number"), Some((HEAD - CONFIRMATIONS) as f64));
}

#[tokio::test]
async fn one_of_another_chain_is_never_used_and_said_so() {
    let rig = Rig::start(Fault::WrongChain).await;
    let exporter = rig.exporter().await;
    rig.exact(&exporter).await;
    assert_eq!(rig.preferred.counts().of("eth_getLogs"), 0);
    let said = |line: &str| line.contains("another chain") && line.contains("57005");
    exporter.wait_for_line("another chain", PATIENCE, said).await;
}

#[tokio::test]
async fn the_only_one_on_another_chain_is_the_problem_of_its_network() {
    let rig = Rig::start(Fault::WrongChain).await;
    let setup = Setup::new(&[&rig.preferred.url()], rig.sim.chain().contract());
    let exporter = Exporter::start(&setup.yaml(None)).await;
    let told =
        |reply: &Reply| reply.status == 503 && reply.text().contains("is on chain 57005, expected 1337");
    exporter.wait_for_reply("/-/ready", PATIENCE, told).await;
    assert_eq!(rig.preferred.counts().of("eth_getLogs"), 0);
}

#[tokio::test]
async fn a_block_that_is_refused_alone_is_named_again_and_again_while_those_before_it_count() {
    let rig = Rig::start(Fault::LogsFull).await;
    let mut setup = Setup::new(&[&rig.preferred.url()], rig.sim.chain().contract());
    setup.confirmations = 0;
    setup.start_block = Some(HISTORY / 8 * 8 - 5);
    let exporter = Exporter::start(&setup.yaml(None)).await;
    let said = "logs of the single block 296: error -32005: query returned more than 10000 results";
    exporter.wait_for_line("the block", PATIENCE, |line| line.contains(said)).await;
    let told = |reply: &Reply| reply.status == 503 && reply.text().contains(said);
    exporter.wait_for_reply("/-/ready", PATIENCE, told).await;
    let left = |series: &Series| series.get(&named("tesseract_sync_remaining_blocks"));
    exporter.wait_for("the blocks before it", PATIENCE, |series| left(series) == Some(5.0)).await;

    let mut counts = rig.preferred.watch();
    let asked = counts.borrow().of("eth_getLogs");
    timeout(PATIENCE, counts.wait_for(|counts| counts.of("eth_getLogs") >= asked + 3))
        .await
        .unwrap()
        .unwrap();
    exporter.wait_for_reply("/-/ready", PATIENCE, told).await;
    rig.preferred.clear();
    exporter.wait_for("all blocks", PATIENCE, |series| left(series) == Some(0.0)).await;
    let failures = exporter.log().into_iter().filter(|line| line.contains("endpoint failed"));
    assert_eq!(failures.count(), 1, "a row of failures is told once");
}

#[tokio::test]
async fn logs_that_come_too_late_are_counted_all_the_same() {
    tokio::join!(logs_come_too_late(false), logs_come_too_late(true));
}

async fn logs_come_too_late(while_stopped: bool) {
    let rig = Rig::start(Fault::LogsLate).await;
    let state = TempDir::new().unwrap();
    let mut setup = Setup::new(&[&rig.preferred.url()], rig.sim.chain().contract());
    setup.confirmations = 0;
    let config = setup.yaml(Some(state.path()));
    let mut exporter = Exporter::start(&config).await;
    let is = |right: bool| {
        let oracle = &rig.oracle;
        move |text: &str| reached(text, HISTORY) && oracle.differences(text).is_empty() == right
    };
    // It rests ever longer before it is.
    watch(&exporter, 2 * PATIENCE, is(false), |_| Vec::new()).await.expect("the endpoint is believed");
    if while_stopped {
        exporter.terminate().await;
    }
    rig.preferred.clear();
    if while_stopped {
        exporter = Exporter::start(&config).await;
    }
    watch(&exporter, PATIENCE, is(true), |_| Vec::new()).await.expect("what came late is counted");
    assert!(exporter.log().iter().any(|line| line.contains("are there now")));
}

#[tokio::test]
async fn what_became_of_every_request_is_counted() {
    for (fault, outcome) in [
        (Fault::NullError, "ok"),
        (Fault::Hang, "timeout"),
        (Fault::ResetBefore, "transport"),
        (Fault::Unavailable, "http"),
        (Fault::RetryAfterSeconds, "rate_limited"),
        (Fault::ErrorOk, "rpc_error"),
        (Fault::Garbage, "invalid"),
    ] {
        let rig = Rig::start(fault).await;
        let setup = Setup::new(&[&rig.preferred.url()], rig.sim.chain().contract());
        let exporter = Exporter::start(&setup.yaml(None)).await;
        let (labels, method) =
            (format!("network=\"{NETWORK}\",outcome=\"{outcome}\""), "eth_getBlockByNumber");
        let key = format!("tesseract_rpc_requests_total{{endpoint=\"1\",method=\"{method}\",{labels}}}");
        let counted = |series: &Series| series.get(&key).is_some_and(|count| count > 0.0);
        let scrape = exporter.wait_for(outcome, PATIENCE, counted).await;
        let others = scrape.0.keys().filter(|key| key.contains(method) && !key.contains(outcome));
        assert_eq!(others.filter_map(|key| scrape.get(key)).sum::<f64>(), 0.0, "{fault}: {scrape}");
    }
}
