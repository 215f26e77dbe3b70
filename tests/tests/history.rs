//! Where a history begins and ends: what cannot be is said with both numbers, and a chain begun anew under the
//! same chain id is read anew.
//!
//! A lower head may be a node that lags for up to a minute, so all cases wait side by side, in one test.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tempfile::TempDir;
use tesseract_tests::fold;
use tesseract_tests::hostile::Proxy;
use tesseract_tests::http::Reply;
use tesseract_tests::process::Exporter;
use tesseract_tests::rig::{
    NETWORK, Oracle, Setup, confirmed, exposition, fallen, named, raised, reached, watch,
};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim};
use tokio::task::LocalSet;

/// The product may take a minute to be sure.
const PATIENCE: Duration = Duration::from_secs(75);

const CONFIRMATIONS: u64 = 2;

/// The chain before anything happens to it.
const HEAD: u64 = 300;

/// The block that deploys the contract.
const DEPLOYED: u64 = 10;

/// A chain behind a proxy, and an exporter that follows it.
struct Rig {
    sim: Sim,
    proxy: Proxy,
    setup: Setup,
    state: TempDir,
    exporter: Exporter,
    /// The last scrape of the process that runs.
    last: Series,
}

impl Rig {
    async fn start(change: impl FnOnce(&mut Setup), head: u64) -> Self {
        let sim = chain(Params::default(), head).await;
        let proxy = Proxy::start(&sim.url()).await;
        let mut setup = Setup::new(&[&proxy.url()], sim.chain().contract());
        change(&mut setup);
        let state = TempDir::new().unwrap();
        let exporter = Exporter::start(&setup.yaml(Some(state.path()))).await;
        Self { sim, proxy, setup, state, exporter, last: Series::default() }
    }

    /// One that has read its chain to the end.
    async fn synced() -> Self {
        let mut rig = Self::start(|_| {}, HEAD).await;
        rig.catch_up().await;
        rig
    }

    fn target(&self) -> u64 {
        self.sim.head() - CONFIRMATIONS
    }

    /// From now on another chain, under the same URL.
    fn move_to(&mut self, sim: Sim) {
        self.proxy.move_to(&sim.url());
        self.sim = sim;
    }

    async fn stop(&mut self) {
        assert!(self.exporter.terminate().await.success());
        self.last = Series::default();
    }

    async fn start_again(&mut self) {
        self.exporter = Exporter::start(&self.setup.yaml(Some(self.state.path()))).await;
    }

    /// Waits for the newest confirmed block; no counter may fall on the way.
    async fn catch_up(&mut self) -> String {
        let (target, mut last) = (self.target(), std::mem::take(&mut self.last));
        let check = |text: &str| {
            let series = Series::parse(text);
            let complaints = fallen(&last, &series);
            last = series;
            complaints
        };
        let text = watch(&self.exporter, PATIENCE, |text| reached(text, target), check).await.unwrap();
        self.last = Series::parse(&text);
        text
    }

    /// Waits for the newest confirmed block of a chain begun anew: its own numbers, but for counters that hold
    /// at what this process showed before.
    async fn tells_the_new_truth(&mut self) {
        let before = self.last.clone();
        let (at, contract) = (self.target(), self.setup.contract);
        let oracle = Oracle::read(&self.sim.url(), contract, self.sim.head()).await;
        let truth = raised(&oracle.at(at), &before);
        let right = |text: &str| reached(text, at) && differences(&truth, text).is_empty();
        let seen = watch(&self.exporter, PATIENCE, right, |_| Vec::new()).await;
        let now = exposition(&self.exporter).await;
        if let Err(why) = seen {
            panic!("at block {at}: {why}\n{}", differences(&truth, &now).join("\n"));
        }
        let series = Series::parse(&now);
        assert_eq!(fallen(&before, &series), Vec::<String>::new());
        self.last = series;
    }

    /// The problem is told in the log, by `/health` and by `/-/ready`.
    async fn says(&self, problem: &str) {
        let of = |line: &str| line.contains("\"warn\"") || line.contains("\"error\"");
        self.exporter.wait_for_line(problem, PATIENCE, |line| of(line) && line.contains(problem)).await;
        let told = |reply: &Reply| reply.status == 503 && reply.text().contains(problem);
        self.exporter.wait_for_reply("/-/ready", PATIENCE, told).await;
        let told = |reply: &Reply| {
            let health: serde_json::Value = serde_json::from_str(&reply.text()).unwrap();
            let told = health["networks"][NETWORK]["problem"].as_str().unwrap_or_default();
            reply.status == 503 && told.contains(problem)
        };
        self.exporter.wait_for_reply("/health", PATIENCE, told).await;
    }

    async fn is_ready(&self) {
        self.exporter.wait_for_reply("/-/ready", PATIENCE, |reply| reply.status == 200).await;
    }
}

fn differences(truth: &fold::Truth, text: &str) -> Vec<String> {
    fold::differences(truth, &Series::parse(text).of(NETWORK))
}

async fn chain(params: Params, head: u64) -> Sim {
    let sim = Sim::start(params).await.unwrap();
    sim.advance(head);
    sim
}

/// The same contract under the same chain id, on a chain with another genesis and another life.
async fn begun_anew(head: u64) -> Sim {
    let genesis_time = Params::default().genesis_time + 100_000;
    chain(Params { genesis_time, buffered_per_hour: 400, ..Params::default() }, head).await
}

/// A node of the same chain that has lost its newest blocks: no history is begun anew for it.
async fn left_behind(head: u64) -> Sim {
    chain(Params::default(), head).await
}

#[tokio::test]
async fn what_cannot_be_is_said_and_a_chain_begun_anew_is_read_anew() {
    let cases = LocalSet::new();
    macro_rules! case {
        ($name:ident($($argument:expr)?)) => {
            (stringify!($name($($argument)?)), cases.spawn_local($name($($argument)?)))
        };
    }
    let started = [
        case!(a_head_below_the_processed_block_is_said_until_it_is_over()),
        case!(a_head_below_the_saved_block_is_said_until_it_is_over()),
        case!(a_chain_begun_anew_is_read_anew_while_running(40)),
        case!(a_chain_begun_anew_is_read_anew_while_running(HEAD + 100)),
        case!(a_chain_begun_anew_is_read_anew_after_a_restart_with_state(40)),
        case!(a_chain_begun_anew_is_read_anew_after_a_restart_with_state(HEAD + 100)),
        case!(a_chain_begun_anew_is_read_anew_once_its_contract_is_there()),
        case!(a_start_block_above_the_head_is_said_until_it_is_over()),
        case!(a_start_block_after_the_deployment_is_warned_of_once_with_both_counts()),
    ];
    cases.await;
    let mut failed = Vec::new();
    for (name, case) in started {
        // What went wrong is printed by the case itself.
        match case.await {
            Ok(()) => println!("{name}: ok"),
            Err(_) => failed.push(name),
        }
    }
    assert!(failed.is_empty(), "failed, see above: {failed:#?}");
}

async fn a_head_below_the_processed_block_is_said_until_it_is_over() {
    let mut rig = Rig::synced().await;
    let shown = confirmed(&exposition(&rig.exporter).await);
    rig.move_to(left_behind(40).await);
    rig.says("head 40 is below the processed block 298").await;
    assert_eq!(confirmed(&exposition(&rig.exporter).await), shown, "it is the same chain");
    rig.sim.advance(HEAD - 40 + 20);
    rig.is_ready().await;
    rig.tells_the_new_truth().await;
}

async fn a_head_below_the_saved_block_is_said_until_it_is_over() {
    let mut rig = Rig::synced().await;
    rig.stop().await;
    rig.move_to(left_behind(40).await);
    rig.start_again().await;
    rig.says("head 40 is below the processed block 298").await;
    rig.sim.advance(HEAD - 40 + 20);
    rig.is_ready().await;
    rig.tells_the_new_truth().await;
}

async fn a_chain_begun_anew_is_read_anew_while_running(head: u64) {
    let mut rig = Rig::synced().await;
    rig.move_to(begun_anew(head).await);
    rig.tells_the_new_truth().await;
    rig.sim.advance(30);
    rig.tells_the_new_truth().await;
    rig.is_ready().await;
}

async fn a_chain_begun_anew_is_read_anew_after_a_restart_with_state(head: u64) {
    let mut rig = Rig::synced().await;
    rig.stop().await;
    rig.move_to(begun_anew(head).await);
    rig.start_again().await;
    rig.tells_the_new_truth().await;
    // Nothing of the old history is left in the state either.
    rig.stop().await;
    rig.sim.advance(30);
    rig.start_again().await;
    rig.tells_the_new_truth().await;
    rig.is_ready().await;
}

async fn a_chain_begun_anew_is_read_anew_once_its_contract_is_there() {
    let mut rig = Rig::synced().await;
    rig.move_to(begun_anew(DEPLOYED - 5).await);
    let seen = |series: &Series| series.get(&named("tesseract_head_block_number")) == Some(5.0);
    rig.exporter.wait_for("the new head", PATIENCE, seen).await;
    rig.sim.advance(55);
    rig.tells_the_new_truth().await;
    rig.is_ready().await;
}

async fn a_start_block_above_the_head_is_said_until_it_is_over() {
    let mut rig = Rig::start(|setup| setup.start_block = Some(5000), 40).await;
    rig.says("start_block 5000 is above the head 40").await;
    rig.sim.advance(5100 - 40);
    rig.catch_up().await;
    rig.is_ready().await;
}

async fn a_start_block_after_the_deployment_is_warned_of_once_with_both_counts() {
    const START: u64 = 150;
    let mut rig = Rig::start(|setup| setup.start_block = Some(START), HEAD).await;
    rig.catch_up().await;
    let before = rig.sim.chain().transaction_count(START - 1);
    let since = rig.sim.chain().transaction_count(rig.target()) - before;
    let is_it = |line: &str| {
        let holds = |count: u64| line.split(|c: char| !c.is_ascii_digit()).any(|n| n == count.to_string());
        line.contains("\"warn\"") && line.contains("start_block") && holds(before) && holds(since)
    };
    let what = format!("{before} before and {since} since");
    rig.exporter.wait_for_line(&what, PATIENCE, is_it).await;
    for _ in 0..5 {
        rig.sim.advance(3);
        rig.catch_up().await;
    }
    let warnings = |rig: &Rig| {
        let log = rig.exporter.log().into_iter();
        log.filter(|line| line.contains("\"warn\"") && line.contains("start_block")).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&rig).len(), 1, "{:?}", warnings(&rig));

    // The deployment itself leaves nothing out.
    let mut rig = Rig::start(|setup| setup.start_block = Some(DEPLOYED), HEAD).await;
    for _ in 0..5 {
        rig.sim.advance(3);
        rig.catch_up().await;
    }
    assert_eq!(warnings(&rig), Vec::<String>::new());
}
