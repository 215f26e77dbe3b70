//! One cell of the table: a chain, a hostile node in front of it, and an exporter seen through the fault.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tesseract_tests::hostile::{Fault, Kind, LAG, Proxy};
use tesseract_tests::process::Exporter;
use tesseract_tests::rig::{NETWORK, Oracle, Setup, confirmed, processed, reached, watch};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Chain, Params, Sim, Variant};

use super::{Cost, POLL, Stage};

/// The chain when the exporter starts.
const HISTORY: u64 = 600;

/// While it follows, the chain grows by so many blocks so many times.
const STEP: u64 = 7;
const STEPS: u64 = 3;
const END: u64 = HISTORY + STEP * STEPS;

const CONFIRMATIONS: u64 = 2;

/// Real caps are divided by this: the chain is that much shorter than a real one.
const SCALE: u64 = 500;

/// Nothing may take longer; far beyond what anything takes.
const PATIENCE: Duration = Duration::from_secs(90);

/// One variant's chain, and what is true on it.
pub(super) struct World {
    params: Params,
    oracle: Oracle,
    /// What a healthy exporter shows at each block from shortly before [`HISTORY`] on.
    healthy: BTreeMap<u64, Vec<String>>,
}

impl World {
    pub(super) async fn new(variant: Variant) -> Self {
        // A window that never changed can be read anywhere, so that a node without old state hides nothing.
        let steady = |seed: &u64| {
            let mut chain = Chain::new(params(variant, *seed));
            chain.advance_to(END);
            let windows = (10..=END).filter_map(|block| chain.views(block)).map(|views| views.window);
            windows.clone().max() == windows.min()
        };
        let params = params(variant, (1..).find(steady).unwrap());
        let sim = Sim::start(params.clone()).await.unwrap();
        sim.advance(END);
        let contract = sim.chain().contract();
        let oracle = Oracle::read(&sim.url(), contract, END).await;
        let healthy = Self::record(&params).await;
        for lines in healthy.values().step_by(12) {
            assert_eq!(oracle.differences(&lines.join("\n")), Vec::<String>::new(), "healthy exporter");
        }
        Self { params, oracle, healthy }
    }

    /// Lets a healthy exporter follow block by block.
    async fn record(params: &Params) -> BTreeMap<u64, Vec<String>> {
        let sim = Sim::start(params.clone()).await.unwrap();
        let first = sim.advance(HISTORY - 2 * LAG);
        let mut setup = Setup::new(&[&sim.url()], sim.chain().contract());
        setup.poll = Duration::from_millis(20);
        let exporter = Exporter::start(&setup.yaml(None)).await;
        let mut healthy = BTreeMap::new();
        for head in first..=END {
            sim.advance(head - sim.head());
            let block = head - CONFIRMATIONS;
            let text = watch(&exporter, PATIENCE, |text| reached(text, block), |_| Vec::new()).await.unwrap();
            healthy.insert(block, confirmed(&text));
        }
        healthy
    }

    /// What is wrong with what an exporter shows.
    fn check(&self, text: &str) -> Vec<String> {
        let series = Series::parse(text);
        let lines = confirmed(text);
        match processed(&series).and_then(|block| self.healthy.get(&block)) {
            Some(healthy) if lines.len() > 2 && lines != *healthy => {
                let missing = healthy.iter().filter(|line| !lines.contains(line));
                let extra = lines.iter().filter(|line| !healthy.contains(line));
                missing.map(|line| format!("- {line}")).chain(extra.map(|line| format!("+ {line}"))).collect()
            }
            Some(_) => Vec::new(),
            None => self.oracle.differences(text),
        }
    }
}

fn params(variant: Variant, seed: u64) -> Params {
    Params { seed, variant, log_timestamps: seed.is_multiple_of(2), ..Params::default() }
}

/// What an exporter meets.
#[derive(Clone, Copy)]
pub(super) struct Met {
    pub(super) fault: Fault,
    /// Of all HTTP requests.
    pub(super) percent: u32,
    /// Which of them.
    pub(super) seed: u64,
}

/// One cell's chain, hostile node and directories.
pub(super) struct Cell<'a> {
    world: &'a World,
    met: Option<Met>,
    sim: Sim,
    proxy: Proxy,
    state: TempDir,
    /// Nodes on other branches, kept alive.
    rivals: Vec<Sim>,
}

impl<'a> Cell<'a> {
    pub(super) async fn new(world: &'a World, met: Option<Met>) -> Self {
        let sim = Sim::start(world.params.clone()).await.unwrap();
        sim.advance(HISTORY);
        let proxy = Proxy::start(&sim.url()).await;
        proxy.scale(SCALE);
        proxy.seed(met.map_or(0, |met| met.seed));
        Self { world, met, sim, proxy, state: TempDir::new().unwrap(), rivals: Vec::new() }
    }

    pub(super) async fn run(mut self, stage: Stage) -> Result<Cost, String> {
        let mut exporter = None;
        if stage != Stage::FirstSync {
            let mut healthy = self.start().await;
            self.expect(&healthy, self.sim.head() - CONFIRMATIONS).await?;
            if stage == Stage::Following {
                exporter = Some(healthy);
            } else {
                healthy.terminate().await;
                self.sim.advance(STEP * STEPS);
            }
        }
        let (started, before) = (Instant::now(), self.proxy.counts().total());
        self.fault().await;
        let exporter = match exporter {
            Some(running) => {
                for _ in 0..STEPS {
                    self.sim.advance(STEP);
                    self.fault().await;
                    self.through(&running).await?;
                }
                running
            }
            None => {
                let started = self.start().await;
                self.through(&started).await?;
                started
            }
        };
        let cost = Cost { time: started.elapsed(), calls: self.proxy.counts().total() - before };
        // What was behind comes up at last.
        self.proxy.clear();
        self.expect(&exporter, self.sim.head() - CONFIRMATIONS).await?;
        Ok(cost)
    }

    async fn start(&self) -> Exporter {
        let mut setup = Setup::new(&[&self.proxy.url()], self.sim.chain().contract());
        setup.poll = POLL;
        Exporter::start(&setup.yaml(Some(self.state.path()))).await
    }

    /// From now on the fault.
    async fn fault(&mut self) {
        let Some(Met { fault, percent, .. }) = self.met else { return };
        if fault == Fault::TwoBranches {
            let rival = Sim::start(self.world.params.clone()).await.unwrap();
            rival.advance(self.sim.head());
            rival.reorg(1);
            self.proxy.rival(&rival.url());
            self.rivals.push(rival);
        }
        self.proxy.mix(&[fault], percent);
    }

    /// Sees an exporter through the fault, up to the newest block that it can know.
    async fn through(&self, exporter: &Exporter) -> Result<(), String> {
        let target = self.sim.head() - CONFIRMATIONS;
        let fault = self.met.filter(|met| met.percent == 100).map(|met| met.fault);
        match fault.map(Fault::kind) {
            Some(Kind::Behind) => return self.expect(exporter, target - LAG).await,
            Some(Kind::Outage | Kind::RateLimit) => {
                // What only logs suffer from must meet requests for logs.
                let only_logs = fault.is_some_and(|fault| fault.name().starts_with("logs-"));
                let met = || match self.proxy.counts() {
                    counts if only_logs => counts.of("eth_getLogs"),
                    counts => counts.faulty,
                };
                let enough = met() + 2;
                // Blocks without logs go on while only logs suffer.
                let held = |text: &str| met() >= enough || reached(text, target);
                watch(exporter, PATIENCE, held, |text| self.world.check(text)).await?;
                self.proxy.clear();
            }
            // A share of the requests that fails keeps nothing from being read in the end.
            Some(Kind::Quirk | Kind::Capped | Kind::Special) | None => {}
        }
        self.expect(exporter, target).await
    }

    async fn expect(&self, exporter: &Exporter, block: u64) -> Result<(), String> {
        let check = |text: &str| self.world.check(text);
        let last = watch(exporter, PATIENCE, |text| reached(text, block), check).await?;
        let reorgs = Series::parse(&last).get(&format!("tesseract_reorgs_total{{network=\"{NETWORK}\"}}"));
        if reorgs == Some(0.0) { Ok(()) } else { Err(format!("reorganisations: {reorgs:?}")) }
    }
}
