//! The soak: an exporter on two simulated chains behind hostile nodes, with everything that goes wrong
//! drawn from a seed.
//!
//! A round does one bad thing while the chains grow, then waits until all is quiet and compares every
//! confirmed series with the naive fold. Counters may only rise while a process lives, and hold after a
//! reorganisation; gauges are exact. What the machine does to timing is the only thing not in the seed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use crate::fold;
use crate::hostile::{Fault, Proxy};
use crate::json_rpc::Client;
use crate::process::{Exporter, Series};
use crate::rig::{fallen, is_counter, raised};
use crate::sim::{Params, Sim, Variant};

/// The chains when the exporter starts, blocks.
const HISTORY: u64 = 300;

const CONFIRMATIONS: u64 = 2;

/// Configured, for otherwise an endpoint that is wrong about it at the first start would be believed.
const CHAIN_ID: u64 = 1337;

/// Real caps are divided by this: the chains are that much shorter than real ones.
const SCALE: u64 = 500;

/// A quiet point must come within this.
const PATIENCE: Duration = Duration::from_secs(90);

/// A fault that nothing meets is over after this.
const FAULT: Duration = Duration::from_millis(2500);

/// After so many differences there is no point in going on.
const ENOUGH: usize = 20;

/// What happened.
#[derive(Debug, Default)]
pub struct Report {
    /// Rounds that reached a quiet point.
    pub rounds: u64,
    /// Faults that a request met.
    pub faults: u64,
    /// Faults by name.
    pub by_name: BTreeMap<&'static str, u64>,
    /// Reorganisations, of any depth.
    pub reorgs: u64,
    /// Those that reached a processed block.
    pub deep_reorgs: u64,
    /// SIGKILLs.
    pub kills: u64,
    /// Restarts by SIGTERM.
    pub stops: u64,
    /// State files that were damaged or made old.
    pub torn: u64,
    /// SIGHUPs.
    pub hangups: u64,
    /// Comparisons of one network with its fold.
    pub comparisons: u64,
    /// Series compared.
    pub series: u64,
    /// What was wrong, a line each.
    pub differences: Vec<String>,
    /// Resident memory at the quiet points, KiB.
    pub rss: Vec<u64>,
    /// Open files at the quiet points.
    pub files: Vec<u64>,
    /// Blocks of the longer chain.
    pub blocks: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rounds            {}", self.rounds)?;
        writeln!(f, "faults            {} of {} kinds", self.faults, self.by_name.len())?;
        writeln!(f, "reorganisations   {}, {} of processed blocks", self.reorgs, self.deep_reorgs)?;
        writeln!(f, "kill -9           {}", self.kills)?;
        writeln!(f, "SIGTERM           {}", self.stops)?;
        writeln!(f, "torn state files  {}", self.torn)?;
        writeln!(f, "SIGHUP            {}", self.hangups)?;
        writeln!(f, "blocks            {}", self.blocks)?;
        writeln!(f, "comparisons       {} of {} series", self.comparisons, self.series)?;
        writeln!(f, "differences       {}", self.differences.len())?;
        writeln!(f, "resident memory   {} KiB (min, median, max)", spread(&self.rss))?;
        write!(f, "open files        {} (min, median, max)", spread(&self.files))
    }
}

fn spread(values: &[u64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(least), Some(median), Some(most)) => format!("{least}, {median}, {most}"),
        _ => "none".to_owned(),
    }
}

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

/// One network of the soak.
struct Network {
    name: &'static str,
    sim: Sim,
    proxy: Proxy,
    /// What counters may not be below, and need not be above unless the truth is.
    low: Series,
    high: Series,
    /// Reorganisations of processed blocks: the running process must have seen the first number of them,
    /// and may have seen the second.
    reorgs: (u64, u64),
}

struct Soak {
    rng: ChaCha8Rng,
    networks: Vec<Network>,
    state: TempDir,
    exporter: Exporter,
    /// An older copy of a state file, to come back with.
    old_state: Option<Vec<u8>>,
    report: Report,
}

impl Soak {
    async fn start(seed: u64) -> Self {
        let mut networks = Vec::new();
        for (name, variant) in [("simple", Variant::Simple), ("buffer", Variant::Buffer)] {
            let params =
                Params { seed, variant, chain_id: CHAIN_ID, buffered_per_hour: 400, ..Params::default() };
            let sim = Sim::start(params).await.expect("a port for the simulated chain");
            sim.advance(HISTORY);
            let proxy = Proxy::start(&sim.url()).await;
            proxy.scale(SCALE);
            let (low, high) = (Series::default(), Series::default());
            networks.push(Network { name, sim, proxy, low, high, reorgs: (0, 0) });
        }
        let state = TempDir::with_prefix("soak-").expect("a temporary directory");
        let exporter = Exporter::start(&config(&networks, &state)).await;
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { rng, networks, state, exporter, old_state: None, report: Report::default() }
    }

    /// One bad thing, or two.
    async fn round(&mut self) -> String {
        let mut story = Vec::new();
        // Only at a quiet point, where what was shown last is known.
        if self.rng.random_ratio(1, 7) {
            story.push(self.reorganise());
        }
        for network in &self.networks {
            // At least one, so that no block of a branch that was left passes for the newest.
            network.sim.advance(self.rng.random_range(1..12));
        }
        if self.rng.random_ratio(3, 4) {
            let faults: Vec<Fault> = Fault::all().filter(|fault| *fault != Fault::TwoBranches).collect();
            for network in &self.networks {
                let fault = *faults.choose(&mut self.rng).expect("there are faults");
                network.proxy.set(fault);
                *self.report.by_name.entry(fault.name()).or_default() += 1;
                story.push(format!("{fault} on {}", network.name));
            }
            let enough = self.rng.random_range(1..4);
            self.report.faults += self.met(enough).await;
            // The chain goes on while the fault lasts.
            for network in &self.networks {
                network.sim.advance(self.rng.random_range(0..4));
            }
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

    fn reorganise(&mut self) -> String {
        let depth = match self.rng.random_range(0..10) {
            0..8 => self.rng.random_range(1..9),
            8 => self.rng.random_range(9..80),
            _ => self.rng.random_range(150..280),
        };
        let place = self.rng.random_range(0..self.networks.len());
        let network = &mut self.networks[place];
        network.sim.reorg(depth);
        self.report.reorgs += 1;
        if depth > CONFIRMATIONS {
            network.reorgs = (network.reorgs.0 + 1, network.reorgs.1 + 1);
            self.report.deep_reorgs += 1;
        }
        format!("{depth} blocks of {} reorganised", network.name)
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
        let path = self.state.path().join(format!("{name}.json"));
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
        for network in &mut self.networks {
            network.low = Series::default();
            // One of this round may be news to the new process.
            network.reorgs = (0, 1);
        }
        self.exporter = Exporter::start(&config(&self.networks, &self.state)).await;
    }

    /// Waits until both networks are read to the end, and compares them with their folds.
    async fn quiet(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = interval(Duration::from_millis(50));
        let mut last = Series::default();
        let series = loop {
            ticks.tick().await;
            let series = self.exporter.scrape().await;
            let fallen = fallen(&last, &series);
            if !fallen.is_empty() {
                self.complain(fallen);
                return;
            }
            if self.networks.iter().all(|network| network.is_read(&series)) {
                break series;
            }
            if Instant::now() > deadline {
                let (health, log) = (self.exporter.get("/health").await.text(), self.exporter.log());
                let tail = log[log.len().saturating_sub(20)..].join("\n");
                let targets: Vec<u64> = self.networks.iter().map(Network::target).collect();
                let story = format!("not read to {targets:?} within {PATIENCE:?}: {health}\n{tail}");
                self.complain(vec![story]);
                self.exporter.kill().await;
                self.restart().await;
                return;
            }
            last = series;
        };
        for place in 0..self.networks.len() {
            let (compared, wrong) = self.networks[place].compare(&series).await;
            self.report.comparisons += 1;
            self.report.series += compared;
            self.complain(wrong);
        }
        self.report.blocks = self.networks.iter().map(|network| network.sim.head()).max().unwrap_or(0);
        self.record();
    }

    fn complain(&mut self, differences: Vec<String>) {
        let round = self.report.rounds + 1;
        self.report.differences.extend(differences.into_iter().map(|line| format!("round {round}: {line}")));
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

impl Network {
    fn target(&self) -> u64 {
        self.sim.head() - CONFIRMATIONS
    }

    fn key(&self, name: &str) -> String {
        format!("{name}{{network=\"{}\"}}", self.name)
    }

    /// Whether the confirmed series are shown, compared with the contract, and of the newest block.
    fn is_read(&self, series: &Series) -> bool {
        let own = self.key("tesseract_processed_block_number");
        let whole = series.0.contains_key(&self.key("tesseract_missing_events"));
        whole && series.get(&own) == Some(self.target() as f64)
    }

    /// How many series were compared, and what is wrong.
    async fn compare(&mut self, scrape: &Series) -> (u64, Vec<String>) {
        let contract = self.sim.chain().contract();
        let blocks = fold::read(&Client::new(self.sim.url()), contract, self.sim.head()).await;
        let truth = fold::truth(&blocks, self.target(), self.name);
        let shown = scrape.of(self.name);
        let compared = truth.series.len() as u64;
        let mut wrong = fold::differences(&raised(&truth, &self.low), &shown);
        if !wrong.is_empty() {
            // After a restart the process may hold what it found in its state, up to what was shown last.
            let above = fold::differences(&raised(&truth, &self.high), &shown);
            wrong.retain(|line| above.contains(line) || !is_counter(line));
        }
        let reorgs = shown.get(&self.key("tesseract_reorgs_total")).unwrap_or(0.0) as u64;
        if !(self.reorgs.0..=self.reorgs.1).contains(&reorgs) {
            wrong.push(format!("{reorgs} reorganisations counted, expected {:?}", self.reorgs));
        }
        self.reorgs = (reorgs, reorgs);
        self.low = shown.clone();
        self.high = shown;
        (compared, wrong.into_iter().map(|line| format!("{}: {line}", self.name)).collect())
    }
}

fn config(networks: &[Network], state: &TempDir) -> String {
    let mut text = format!("state_dir: {}\nnetworks:\n", state.path().display());
    for Network { name, sim, proxy, .. } in networks {
        let (url, contract) = (proxy.url(), sim.chain().contract());
        text += &format!(
            "  - name: {name}\n    rpc_urls: [{url}]\n    chain_id: {CHAIN_ID}\n    contract: \"{contract:#x}\"\n    \
             confirmations: {CONFIRMATIONS}\n    poll_interval: 100ms\n    request_timeout: 500ms\n    \
             max_block_range: 40\n"
        );
    }
    text
}
