//! Reorganisations: what they undo is right at once, and what was counted is never taken back.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tempfile::TempDir;
use tesseract_tests::fold;
use tesseract_tests::hostile::{Fault, LAG, Proxy};
use tesseract_tests::process::Exporter;
use tesseract_tests::prometheus::Prometheus;
use tesseract_tests::rig::{
    NETWORK, Oracle, Setup, confirmed, exposition, fallen, is_counter, named, raised, reached, watch,
};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim, Variant};

const PATIENCE: Duration = Duration::from_secs(60);

const CONFIRMATIONS: u64 = 2;

/// A chain with a history, and an exporter that has read it.
struct Rig {
    sim: Sim,
    exporter: Exporter,
    state: TempDir,
    /// The last scrape, which every later one is held against.
    last: Series,
}

impl Rig {
    async fn start(variant: Variant, history: u64) -> Self {
        let sim = chain(variant, history).await;
        let state = TempDir::new().unwrap();
        let exporter = Exporter::start(&setup(&sim).yaml(Some(state.path()))).await;
        let mut rig = Self { sim, exporter, state, last: Series::default() };
        rig.catch_up().await;
        rig
    }

    /// On a chain of 300 blocks, with an exporter that sees what a proxy shows of it, and saves nothing.
    async fn behind_a_proxy(params: Params) -> (Self, Proxy) {
        let sim = Sim::start(params).await.unwrap();
        sim.advance(300);
        let proxy = Proxy::start(&sim.url()).await;
        let mut setup = setup(&sim);
        setup.urls = vec![proxy.url()];
        let exporter = Exporter::start(&setup.yaml(None)).await;
        let mut rig = Self { sim, exporter, state: TempDir::new().unwrap(), last: Series::default() };
        rig.catch_up().await;
        (rig, proxy)
    }

    fn target(&self) -> u64 {
        self.sim.head() - CONFIRMATIONS
    }

    /// Waits for the newest confirmed block; no counter may fall on the way.
    async fn catch_up(&mut self) -> String {
        let target = self.target();
        self.until(|text| reached(text, target)).await
    }

    async fn until(&mut self, done: impl FnMut(&str) -> bool) -> String {
        let mut last = std::mem::take(&mut self.last);
        let check = |text: &str| {
            let series = Series::parse(text);
            let complaints = fallen(&last, &series);
            last = series;
            complaints
        };
        let text = watch(&self.exporter, PATIENCE, done, check).await.unwrap();
        self.last = Series::parse(&text);
        text
    }

    fn reorgs(&self) -> u64 {
        self.last.get(&named("tesseract_reorgs_total")).unwrap() as u64
    }

    async fn oracle(&self) -> Oracle {
        let contract = self.sim.chain().contract();
        Oracle::read(&self.sim.url(), contract, self.sim.head()).await
    }

    /// Replaces blocks, grows by one, and waits until the other branch is read to its end.
    async fn reorganise(&mut self, depth: u64) {
        let before = self.last.clone();
        self.sim.reorg(depth);
        self.sim.advance(1);
        self.catch_up().await;
        let truth = self.oracle().await.at(self.target());
        assert_eq!(
            fold::differences(&raised(&truth, &before), &self.last.of(NETWORK)),
            Vec::<String>::new(),
            "{depth} blocks"
        );
    }

    async fn restart(&mut self) {
        assert!(self.exporter.terminate().await.success());
        self.exporter = Exporter::start(&setup(&self.sim).yaml(Some(self.state.path()))).await;
        self.last = Series::default();
        self.catch_up().await;
    }
}

async fn chain(variant: Variant, history: u64) -> Sim {
    let sim = Sim::start(Params { variant, ..Params::default() }).await.unwrap();
    sim.advance(history);
    sim
}

/// Another branch of the same chain: of so many blocks, the newest `depth` of its own.
async fn forked(params: &Params, blocks: u64, depth: u64) -> Sim {
    let sim = Sim::start(params.clone()).await.unwrap();
    sim.advance(blocks);
    sim.reorg(depth);
    sim
}

fn setup(sim: &Sim) -> Setup {
    let mut setup = Setup::new(&[&sim.url()], sim.chain().contract());
    setup.poll = Duration::from_millis(50);
    setup
}

#[tokio::test]
async fn within_the_confirmations_it_has_no_effect() {
    let mut rig = Rig::start(Variant::Simple, 300).await;
    let before = confirmed(&exposition(&rig.exporter).await);
    rig.sim.reorg(CONFIRMATIONS);
    let asked = |text: &str| {
        let series = Series::parse(text).of(NETWORK);
        let ok = series.0.keys().filter(|key| key.starts_with("tesseract_rpc_requests_total"));
        ok.filter_map(|key| series.get(key)).sum::<f64>()
    };
    let now = asked(&exposition(&rig.exporter).await);
    let text = rig.until(|text| asked(text) > now + 10.0).await;
    assert_eq!(confirmed(&text), before);
    rig.sim.advance(5);
    let text = rig.catch_up().await;
    assert_eq!(rig.oracle().await.differences(&text), Vec::<String>::new());
    assert_eq!(rig.reorgs(), 0);
}

#[tokio::test]
async fn one_of_three_and_one_of_two_hundred_count_once_each() {
    for variant in [Variant::Simple, Variant::Buffer] {
        let mut rig = Rig::start(variant, 500).await;
        rig.reorganise(3).await;
        assert_eq!(rig.reorgs(), 1);
        let both =
            |line: &str| ["old_hash", "new_hash"].iter().all(|key| line.contains(&format!("\"{key}\":\"0x")));
        rig.exporter.wait_for_line("both hashes", PATIENCE, both).await;
        rig.reorganise(200).await;
        assert_eq!(rig.reorgs(), 2);
        rig.sim.advance(30);
        rig.catch_up().await;
        assert_eq!(rig.reorgs(), 2);
    }
}

#[tokio::test]
async fn deeper_than_any_journal_all_is_recomputed() {
    let mut rig = Rig::start(Variant::Buffer, 2000).await;
    rig.reorganise(1995).await;
    assert_eq!(rig.reorgs(), 1);
    // And what was read again is no news, but for the blocks close to the head, which are others now.
    let is_news = |line: &&String| line.contains("\"info\"") && line.contains("\"contract event\"");
    let log = rig.exporter.log();
    let blocks: Vec<u64> = log.iter().filter(is_news).map(|line| block_of(line)).collect();
    assert!(blocks.iter().all(|block| *block > rig.target() - 200), "{blocks:?}");
}

/// The block that a log line names.
fn block_of(line: &str) -> u64 {
    let fields: serde_json::Value = serde_json::from_str(line).unwrap();
    fields["block"].as_u64().unwrap()
}

#[tokio::test]
async fn nodes_that_disagree_settle_without_counting_for_ever() {
    let mut rig = Rig::start(Variant::Simple, 300).await;
    let rival = forked(&Params::default(), 300, 4).await;
    let proxy = Proxy::start(&rig.sim.url()).await;
    proxy.rival(&rival.url());
    proxy.set(Fault::TwoBranches);
    let mut flapping = setup(&rig.sim);
    flapping.urls = vec![proxy.url()];
    rig.exporter = Exporter::start(&flapping.yaml(None)).await;
    rig.last = Series::default();
    rig.until(|_| proxy.counts().http >= 200).await;
    proxy.clear();
    rig.sim.advance(6);
    let text = rig.catch_up().await;
    let truth = rig.oracle().await.at(rig.target());
    let wrong = fold::differences(&raised(&truth, &rig.last), &Series::parse(&text).of(NETWORK));
    assert_eq!(wrong, Vec::<String>::new());
    assert!(rig.reorgs() <= 2, "{} reorganisations between two branches", rig.reorgs());
}

#[tokio::test]
async fn a_lower_head_of_the_same_branch_is_none() {
    let (mut rig, proxy) = Rig::behind_a_proxy(Params::default()).await;
    let before = confirmed(&rig.catch_up().await);
    proxy.set(Fault::Lagging);
    let lower = (rig.sim.head() - LAG) as f64;
    let head = |text: &str| Series::parse(text).get(&named("tesseract_head_block_number"));
    let text = rig.until(|text| head(text) == Some(lower)).await;
    assert_eq!(confirmed(&text), before);
    proxy.clear();
    rig.sim.advance(4);
    let text = rig.catch_up().await;
    assert_eq!(rig.oracle().await.differences(&text), Vec::<String>::new());
    assert_eq!(rig.reorgs(), 0);
}

#[tokio::test]
async fn a_lower_head_of_another_branch_is_one_at_once() {
    let (mut rig, proxy) = Rig::behind_a_proxy(Params::default()).await;
    // Block by block: what was read at one go is compared by its end alone.
    for _ in 0..2 * LAG {
        rig.sim.advance(1);
        rig.catch_up().await;
    }
    let before = rig.last.clone();
    proxy.set(Fault::Lagging);
    rig.sim.reorg(2 * LAG);
    let lower = rig.target() - LAG;
    rig.until(|text| reached(text, lower)).await;
    assert_eq!(rig.reorgs(), 1);
    let truth = raised(&rig.oracle().await.at(lower), &before);
    assert_eq!(fold::differences(&truth, &rig.last.of(NETWORK)), Vec::<String>::new());
}

/// Logs that are asked for once more are those of the other branch already, while the head was the old one's.
#[tokio::test]
async fn one_between_the_head_and_the_second_look_counts() {
    let params = Params { block_time: Duration::from_secs(20), ..Params::default() };
    let rival = forked(&params, 300, 30).await;
    let (mut rig, proxy) = Rig::behind_a_proxy(params).await;
    proxy.move_at_range(&rival.url());
    // By then every block of the other branch has been looked at again.
    for _ in 0..20 {
        rival.advance(1);
        rig.sim.advance(1);
        rig.catch_up().await;
    }
    assert_eq!(rig.reorgs(), 1);
    let contract = rival.chain().contract();
    let oracle = Oracle::read(&rival.url(), contract, rival.head()).await;
    let mut wrong = fold::differences(&oracle.at(rig.target()), &rig.last.of(NETWORK));
    // Counters hold what the branch that was left had more of.
    wrong.retain(|line| !is_counter(line));
    assert_eq!(wrong, Vec::<String>::new());
}

/// The newest block that it must share with the history lies below its first one, as what was read at one go is compared by
/// its end alone; and its blocks are so late that all of the history could be looked at again.
#[tokio::test]
async fn one_that_is_seen_first_below_what_was_read_counts() {
    let params = Params { fork_delay: Duration::from_secs(1000), ..Params::default() };
    let rival = forked(&params, 290, 10).await;
    let (mut rig, proxy) = Rig::behind_a_proxy(params).await;
    proxy.move_to(&rival.url());
    let head = |text: &str| Series::parse(text).get(&named("tesseract_head_block_number"));
    rig.until(|text| head(text) == Some(290.0)).await;
    assert_eq!(rig.reorgs(), 0, "it may be a node that lags");
    let target = rival.advance(40) - CONFIRMATIONS;
    rig.until(|text| reached(text, target)).await;
    assert_eq!(rig.reorgs(), 1);
}

#[tokio::test]
async fn a_branch_that_is_returned_to_is_not_counted_again() {
    let rival = forked(&Params::default(), 300, 4).await;
    let (mut rig, proxy) = Rig::behind_a_proxy(Params::default()).await;
    for turn in 1..=3 {
        proxy.move_to(&rival.url());
        rival.advance(5);
        let target = rival.head() - CONFIRMATIONS;
        rig.until(|text| reached(text, target)).await;
        assert_eq!(rig.reorgs(), 1, "to the other branch, turn {turn}");
        proxy.move_to(&rig.sim.url());
        rig.sim.advance(rival.head() - rig.sim.head() + 2);
        rig.catch_up().await;
        assert_eq!(rig.reorgs(), 1, "and back, turn {turn}");
    }
    // That it was returned to is no reason to take its own for a return.
    rig.sim.reorg(3);
    rig.sim.advance(1);
    rig.catch_up().await;
    assert_eq!(rig.reorgs(), 2);
}

#[tokio::test]
async fn different_lives_end_in_the_same_bytes() {
    for variant in [Variant::Simple, Variant::Buffer] {
        let mut rig = Rig::start(variant, 400).await;
        rig.reorganise(3).await;
        rig.reorganise(120).await;
        // A new process holds no counter above the truth.
        rig.restart().await;
        rig.sim.advance(20);
        let lived = confirmed(&rig.catch_up().await);
        let fresh = Exporter::start(&setup(&rig.sim).yaml(None)).await;
        let target = rig.target();
        let text = watch(&fresh, PATIENCE, |text| reached(text, target), |_| Vec::new()).await.unwrap();
        assert_eq!(confirmed(&text), lived);
        assert!(lived.iter().any(|line| line.contains("# {tx_id=")), "exemplars are compared");
    }
}

#[tokio::test]
async fn a_real_prometheus_sees_no_burst() {
    let mut rig = Rig::start(Variant::Simple, 500).await;
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n  - job_name: tesseract\n    \
         static_configs: [{{targets: ['{}']}}]\n",
        rig.exporter.address()
    );
    let prometheus = Prometheus::start(&config, &[]).await;
    let samples = "min(count_over_time(tesseract_transactions_buffered_total[1h]))";
    enough(&prometheus, samples, 5.0).await;
    let before = rig.last.clone();
    for (depth, count) in [(3, 1), (200, 2)] {
        rig.sim.reorg(depth);
        rig.sim.advance(1);
        rig.until(|text| counted(text) == count).await;
        rig.catch_up().await;
    }
    let scraped = value(&prometheus, samples).await;
    enough(&prometheus, samples, scraped + 5.0).await;
    for family in
        ["transactions_buffered_total", "transactions_settled_total", "resolution_time_seconds_bucket"]
    {
        let resets = format!("sum(resets(tesseract_{family}[1h]))");
        assert_eq!(value(&prometheus, &resets).await, 0.0, "{family}");
    }
    // A counter rose by what the other branch has more, and by nothing else.
    let truth = rig.oracle().await.at(rig.target());
    let more = |(key, value): (&String, &f64)| (value - before.get(key).unwrap_or(0.0)).max(0.0);
    for name in ["transactions_buffered", "transactions_ready", "transactions_settled", "contract_events"] {
        let family = format!("tesseract_{name}_total");
        let own = truth.series.iter().filter(|(key, _)| key.starts_with(&family));
        let total = own.map(more).sum::<f64>();
        let grown = format!("sum(max_over_time({family}[1h]) - min_over_time({family}[1h]))");
        let seen = value(&prometheus, &grown).await;
        assert!(seen <= total, "{family}: Prometheus saw {seen} events, the branch has {total} more");
    }
}

fn counted(text: &str) -> u64 {
    Series::parse(text).get(&named("tesseract_reorgs_total")).unwrap() as u64
}

async fn value(prometheus: &Prometheus, query: &str) -> f64 {
    let result = prometheus.query(query).await.unwrap();
    result.first().map_or(0.0, |sample| sample["value"][1].as_str().unwrap().parse().unwrap())
}

async fn enough(prometheus: &Prometheus, query: &str, wanted: f64) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        while value(prometheus, query).await < wanted {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}
