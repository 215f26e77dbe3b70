//! The soak: an exporter on real contracts of a real node (anvil), behind a hostile node for each, with
//! everything that goes wrong drawn from a seed.
//!
//! A round does one bad thing while the chain grows, then waits until all is quiet and compares every
//! confirmed series with the naive fold. Counters may only rise while a process lives, and hold after a
//! reorganisation; gauges are exact. What the machine does to timing is the only thing not in the seed.

mod network;
mod report;

use std::fs;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use crate::anvil::{Anvil, Options};
use crate::hostile::{Fault, Kind, Proxy};
use crate::process::Exporter;
use crate::rig::fallen;
use crate::series::Series;
use crate::traffic::{Pace, Traffic};
use network::Network;

pub use report::Report;

/// The contracts, each a network of its own.
const CONTRACTS: [&str; 2] = ["simple", "buffer"];

/// Time of the first block, seconds since the Unix epoch.
const GENESIS: u64 = 1_700_000_000;

/// The chain when the exporter starts, blocks.
const HISTORY: u64 = 300;

const CONFIRMATIONS: u64 = 2;

/// Configured, for otherwise an endpoint that is wrong about it at the first start would be believed.
const CHAIN_ID: u64 = 1337;

/// Real caps are divided by this: the chain is that much shorter than a real one.
const SCALE: u64 = 500;

/// A quiet point must come within this.
const PATIENCE: Duration = Duration::from_secs(90);

/// A fault that nothing meets is over after this.
const FAULT: Duration = Duration::from_millis(2500);

/// So much of the exporter's log goes with a difference.
const LOG_LINES: usize = 30;

/// After so many differences there is no point in going on.
const ENOUGH: usize = 20;

/// Runs for this long and tells each round to `tell`.
pub async fn run(length: Duration, seed: u64, mut tell: impl FnMut(&str)) -> Report {
    let mut soak = Soak::start(seed).await;
    let deadline = Instant::now() + length;
    soak.quiet().await;
    while Instant::now() < deadline && soak.report.differences.len() < ENOUGH {
        let what = soak.round().await;
        soak.quiet().await;
        soak.report.rounds += 1;
        tell(&format!("round {}: {what}", soak.report.rounds));
    }
    let last = soak.exporter.terminate().await;
    if !last.success() {
        soak.report.differences.push(format!("SIGTERM at the end: {last}"));
    }
    soak.report
}

struct Soak {
    rng: ChaCha8Rng,
    anvil: Anvil,
    traffic: Traffic,
    head: u64,
    networks: Vec<Network>,
    state: TempDir,
    exporter: Exporter,
    /// An older copy of a state file, to come back with.
    old_state: Option<Vec<u8>>,
    report: Report,
}

impl Soak {
    async fn start(seed: u64) -> Self {
        let options = Options { chain_id: CHAIN_ID, genesis: GENESIS, ..Options::default() };
        let anvil = Anvil::start(&options).await;
        let traffic = Traffic::start(&anvil, seed, Pace::Ragged, GENESIS + 10).await;
        let mut networks = Vec::new();
        for name in CONTRACTS {
            let proxy = Proxy::start(anvil.url()).await;
            proxy.scale(SCALE);
            networks.push(Network::new(name, traffic.contract(name).address, proxy));
        }
        let state = TempDir::with_prefix("soak-").expect("a temporary directory");
        let exporter = Exporter::start(&config(&networks, &state)).await;
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let (head, report) = (anvil.head().await, Report::default());
        let mut soak = Self { rng, anvil, traffic, head, networks, state, exporter, old_state: None, report };
        soak.grow(HISTORY).await;
        soak
    }

    /// The chain grows by so many blocks.
    async fn grow(&mut self, blocks: u64) {
        for _ in 0..blocks {
            self.traffic.block(&self.anvil).await;
        }
        self.head += blocks;
    }

    /// One bad thing, or two.
    async fn round(&mut self) -> String {
        let mut story = Vec::new();
        // Only at a quiet point, where what was shown last is known.
        if self.rng.random_ratio(1, 7) {
            story.push(self.reorganise().await);
        }
        // At least one, so that no block of a branch that was left passes for the newest.
        let growth = self.rng.random_range(1..12);
        self.grow(growth).await;
        if self.rng.random_ratio(3, 4) {
            let faults: Vec<Fault> = Fault::all().filter(passes_by_itself).collect();
            for network in &self.networks {
                let fault = *faults.choose(&mut self.rng).expect("there are faults");
                network.proxy.set(fault);
                *self.report.by_name.entry(fault.name()).or_default() += 1;
                story.push(format!("{fault} on {}", network.name));
            }
            let enough = self.rng.random_range(1..4);
            self.report.faults += self.met(enough).await;
            // The chain goes on while the fault lasts.
            let growth = self.rng.random_range(0..4);
            self.grow(growth).await;
        }
        match self.rng.random_range(0..20) {
            0 | 1 => story.push(self.kill().await),
            2 => {
                self.exporter.terminate().await;
                self.report.stops += 1;
                story.push("SIGTERM".to_owned());
                self.restart().await;
            }
            3 => {
                self.exporter.signal(Signal::HUP);
                self.report.hangups += 1;
                story.push("SIGHUP".to_owned());
            }
            _ => {}
        }
        for network in &self.networks {
            network.proxy.clear();
        }
        if story.is_empty() { "nothing bad".to_owned() } else { story.join(", ") }
    }

    /// Other blocks take the place of the newest ones.
    async fn reorganise(&mut self) -> String {
        let depth = match self.rng.random_range(0..10) {
            0..8 => self.rng.random_range(1..9),
            8 => self.rng.random_range(9..80),
            _ => self.rng.random_range(150..280),
        };
        self.traffic.roll_back(&self.anvil, depth).await;
        self.head -= depth;
        self.grow(depth).await;
        self.report.reorgs += 1;
        self.report.deep_reorgs += u64::from(depth > CONFIRMATIONS);
        for network in &mut self.networks {
            network.reorganised(depth);
        }
        format!("{depth} blocks reorganised")
    }

    /// Waits until every fault was met so often, not for long; returns how many were met at all.
    async fn met(&self, enough: u64) -> u64 {
        let before: Vec<u64> = self.networks.iter().map(|network| network.proxy.counts().faulty).collect();
        let all = async {
            for (network, before) in self.networks.iter().zip(&before) {
                let mut counts = network.proxy.watch();
                let _ = counts.wait_for(|counts| counts.faulty >= before + enough).await;
            }
        };
        // A time-out is no failure: an exporter that backs off asks nothing for a while.
        let _ = timeout(FAULT, all).await;
        let met = |(network, before): (&Network, &u64)| network.proxy.counts().faulty > *before;
        self.networks.iter().zip(&before).filter(|pair| met(*pair)).count() as u64
    }

    async fn kill(&mut self) -> String {
        let moment = Duration::from_millis(self.rng.random_range(0..600));
        let never = std::future::pending::<()>();
        let _ = timeout(moment, never).await;
        self.exporter.kill().await;
        self.report.kills += 1;
        let mut story = format!("kill -9 after {moment:?}");
        if self.rng.random_ratio(1, 3) {
            story += &self.tear();
        }
        self.restart().await;
        story
    }

    /// Damages a state file, or puts an old one in its place.
    fn tear(&mut self) -> String {
        let name = self.networks[self.rng.random_range(0..self.networks.len())].name;
        let path = self.state.path().join(format!("{name}.state"));
        let Ok(mut bytes) = fs::read(&path) else { return String::new() };
        let what = match self.rng.random_range(0..3) {
            0 => {
                bytes.truncate(self.rng.random_range(0..bytes.len()));
                "cut"
            }
            1 => {
                let place = self.rng.random_range(0..bytes.len());
                bytes[place] ^= 1 << self.rng.random_range(0..8);
                "changed in a bit"
            }
            _ => {
                let current = bytes.clone();
                bytes = self.old_state.take().unwrap_or(bytes);
                self.old_state = Some(current);
                "replaced by an old one, maybe of the other network"
            }
        };
        fs::write(&path, bytes).expect("write the state file");
        self.report.torn += 1;
        format!(", the state of {name} {what}")
    }

    async fn restart(&mut self) {
        self.networks.iter_mut().for_each(Network::restarted);
        self.exporter = Exporter::start(&config(&self.networks, &self.state)).await;
    }

    /// Waits until all networks are read to the end, and compares them with their folds.
    async fn quiet(&mut self) {
        let target = self.head - CONFIRMATIONS;
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = interval(Duration::from_millis(50));
        let mut last = Series::default();
        let series = loop {
            ticks.tick().await;
            let series = self.exporter.scrape().await;
            let fallen = fallen(&last, &series);
            if !fallen.is_empty() {
                self.complain(&fallen);
                return;
            }
            if self.networks.iter().all(|network| network.is_read(&series, target)) {
                break series;
            }
            if Instant::now() > deadline {
                let health = self.exporter.get("/health").await.text();
                self.complain(&[format!("not read to {target} within {PATIENCE:?}: {health}")]);
                self.exporter.kill().await;
                self.restart().await;
                return;
            }
            last = series;
        };
        for place in 0..self.networks.len() {
            let network = &mut self.networks[place];
            let (compared, wrong) = network.compare(self.anvil.rpc(), target, &series).await;
            self.report.comparisons += 1;
            self.report.series += compared;
            self.complain(&wrong);
        }
        self.report.blocks = self.head;
        self.record();
    }

    fn complain(&mut self, differences: &[String]) {
        if differences.is_empty() {
            return;
        }
        let round = self.report.rounds + 1;
        let log = self.exporter.log();
        let tail = log[log.len().saturating_sub(LOG_LINES)..].join("\n");
        let lines = differences.iter().map(|line| format!("round {round}: {line}"));
        self.report.differences.push(lines.chain([tail]).collect::<Vec<_>>().join("\n"));
    }

    fn record(&mut self) {
        let process = format!("/proc/{}", self.exporter.pid());
        let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
        self.report.rss.extend(rss);
        self.report.files.extend(fs::read_dir(format!("{process}/fd")).map(|files| files.count() as u64));
    }
}

/// Whether a single endpoint is enough to see through a fault, however long it lasts.
fn passes_by_itself(fault: &Fault) -> bool {
    *fault != Fault::TwoBranches && fault.kind() != Kind::Special
}

fn config(networks: &[Network], state: &TempDir) -> String {
    let mut text = format!("state_dir: {}\nnetworks:\n", state.path().display());
    for Network { name, contract, proxy, .. } in networks {
        let url = proxy.url();
        text += &format!(
            "  - name: {name}\n    rpc_urls: [{url}]\n    chain_id: {CHAIN_ID}\n    contract: \"{contract:#x}\"\n    \
             confirmations: {CONFIRMATIONS}\n    poll_interval: 100ms\n    request_timeout: 1500ms\n    \
             max_block_range: 40\n"
        );
    }
    text
}
