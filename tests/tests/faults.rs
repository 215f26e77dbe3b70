//! The fault table: every fault of the hostile node, at every stage, for both variants.
//!
//! In every cell an exporter runs against the hostile node in front of a chain of its own. Whatever it
//! shows on the way must be the truth at its block, and at the end byte for byte what a healthy exporter
//! shows there, exemplars included. Times are printed and not judged; requests are.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tesseract_tests::hostile::{Fault, Kind, LAG, Proxy};
use tesseract_tests::process::Exporter;
use tesseract_tests::rig::{NETWORK, Oracle, Setup, confirmed, processed, reached, watch};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim, Variant};
use tokio::sync::Semaphore;

/// The chain when the exporter starts.
const HISTORY: u64 = 600;

/// While it follows, the chain grows by so many blocks so many times.
const STEP: u64 = 7;
const STEPS: u64 = 3;
const END: u64 = HISTORY + STEP * STEPS;

const CONFIRMATIONS: u64 = 2;

/// Real caps are divided by this: the chain is that much shorter than a real one.
const SCALE: u64 = 500;

/// Cells that run at the same time.
const AT_ONCE: usize = 24;

/// Long enough for a busy machine: what a cell asks for must not depend on its speed.
const POLL: Duration = Duration::from_secs(1);

/// What a poll asks for that finds nothing new: chain and head.
const IDLE: u64 = 2;

/// Nothing may take longer; far beyond what anything takes.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    FirstSync,
    Following,
    Resuming,
}

const STAGES: [Stage; 3] = [Stage::FirstSync, Stage::Following, Stage::Resuming];

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FirstSync => "first sync",
            Self::Following => "following",
            Self::Resuming => "resuming",
        })
    }
}

/// What a cell cost.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    calls: u64,
}

impl Cost {
    /// The calls of this cell had it gone on to poll for so long.
    fn over(self, time: Duration) -> u64 {
        self.calls + IDLE * time.saturating_sub(self.time).div_duration_f64(POLL) as u64
    }
}

/// One variant's chain, and what is true on it.
struct World {
    params: Params,
    oracle: Oracle,
    /// What a healthy exporter shows at each block from shortly before [`HISTORY`] on.
    healthy: BTreeMap<u64, Vec<String>>,
}

impl World {
    async fn new(variant: Variant) -> Self {
        // A window that never changed can be read anywhere, so that a node without old state hides nothing.
        let steady = |seed: &u64| {
            let mut chain = tesseract_tests::sim::Chain::new(params(variant, *seed));
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

/// One cell's chain, hostile node and directories.
struct Cell<'a> {
    world: &'a World,
    fault: Option<Fault>,
    sim: Sim,
    proxy: Proxy,
    state: TempDir,
    /// Nodes on other branches, kept alive.
    rivals: Vec<Sim>,
}

impl<'a> Cell<'a> {
    async fn new(world: &'a World, fault: Option<Fault>) -> Self {
        let sim = Sim::start(world.params.clone()).await.unwrap();
        sim.advance(HISTORY);
        let proxy = Proxy::start(&sim.url()).await;
        proxy.scale(SCALE);
        Self { world, fault, sim, proxy, state: TempDir::new().unwrap(), rivals: Vec::new() }
    }

    async fn run(mut self, stage: Stage) -> Result<Cost, String> {
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
        if self.fault == Some(Fault::TwoBranches) {
            let rival = Sim::start(self.world.params.clone()).await.unwrap();
            rival.advance(self.sim.head());
            rival.reorg(1);
            self.proxy.rival(&rival.url());
            self.rivals.push(rival);
        }
        if let Some(fault) = self.fault {
            self.proxy.set(fault);
        }
    }

    /// Sees an exporter through the fault, up to the newest block that it can know.
    async fn through(&self, exporter: &Exporter) -> Result<(), String> {
        let target = self.sim.head() - CONFIRMATIONS;
        match self.fault.map(Fault::kind) {
            Some(Kind::Behind) => return self.expect(exporter, target - LAG).await,
            Some(Kind::Outage | Kind::RateLimit) => {
                // What only logs suffer from must meet requests for logs.
                let only_logs = self.fault.is_some_and(|fault| fault.name().starts_with("logs-"));
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
            Some(Kind::Quirk | Kind::Capped) | None => {}
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_stage_leaves_the_truth() {
    let only = std::env::var("FAULT").ok();
    let faults: Vec<Fault> = Fault::all()
        .filter(|fault| only.as_deref().is_none_or(|name| fault.name().starts_with(name)))
        .collect();
    let worlds = tokio::join!(World::new(Variant::Simple), World::new(Variant::Buffer));
    let worlds = [Arc::new(worlds.0), Arc::new(worlds.1)];

    let mut healthy = BTreeMap::new();
    for (variant, world) in worlds.iter().enumerate() {
        for stage in STAGES {
            let cost = Cell::new(world, None).await.run(stage).await.unwrap();
            healthy.insert((variant, stage), cost);
        }
    }

    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut cells = Vec::new();
    for fault in faults {
        for stage in STAGES {
            for (variant, world) in worlds.iter().enumerate() {
                let (world, places) = (world.clone(), places.clone());
                let cell = async move {
                    let _place = places.acquire().await.unwrap();
                    Cell::new(&world, Some(fault)).await.run(stage).await
                };
                cells.push((fault, stage, variant, tokio::spawn(cell)));
            }
        }
    }

    let mut failures = Vec::new();
    println!("{:22} {:10} {:7} {:>16} {:>18}  result", "fault", "stage", "variant", "time", "calls");
    for (variant, stage) in healthy.keys() {
        let cost = healthy[&(*variant, *stage)];
        println!(
            "{:22} {stage:10} {:7} {:>16} {:>18}  exact",
            "none",
            VARIANTS[*variant],
            time(cost, None),
            cost.calls
        );
    }
    for (fault, stage, variant, cell) in cells {
        let well = healthy[&(variant, stage)];
        let outcome = cell.await.unwrap_or_else(|panic| Err(panic.to_string()));
        let (costs, result) = match outcome {
            Ok(cost) => {
                let healthy = well.over(cost.time);
                let many = cost.calls > 2 * healthy;
                // A block that is over a cap by itself makes for small ranges, as any cap does.
                let aside = matches!(fault.kind(), Kind::Capped | Kind::RateLimit)
                    || matches!(fault, Fault::LogsFull | Fault::BatchCounted);
                let result = if many && !aside { Err("too many calls".to_owned()) } else { Ok(()) };
                (
                    [
                        time(cost, Some(well)),
                        format!("{} ({:.1}x)", cost.calls, cost.calls as f64 / healthy as f64),
                    ],
                    result,
                )
            }
            Err(why) => (["-".to_owned(), "-".to_owned()], Err(why)),
        };
        let [time, calls] = costs;
        let shown = result.as_ref().err().map_or("exact", String::as_str);
        println!("{fault:22} {stage:10} {:7} {time:>16} {calls:>18}  {shown}", VARIANTS[variant]);
        if let Err(why) = result {
            failures.push(format!("{fault}, {stage}, {}: {why}", VARIANTS[variant]));
        }
    }
    assert!(failures.is_empty(), "{} cells failed:\n{}", failures.len(), failures.join("\n"));
}

const VARIANTS: [&str; 2] = ["simple", "buffer"];

fn time(cost: Cost, well: Option<Cost>) -> String {
    let seconds = cost.time.as_secs_f64();
    match well {
        Some(well) => format!("{seconds:.2} s ({:+.2} s)", seconds - well.time.as_secs_f64()),
        None => format!("{seconds:.2} s"),
    }
}
