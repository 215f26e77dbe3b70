//! An exporter on a chain that is known to the last log, and what it must show there.
//!
//! The [`Oracle`] folds the chain once and is then asked for any block. [`confirmed`] cuts the confirmed
//! series out of an exposition, so that two exporters can be compared byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, interval};
use web3::types::H160;

use crate::fold::{self, Block, Truth};
use crate::json_rpc::Client;
use crate::process::Exporter;
use crate::series::Series;

/// What the network is called in every configuration made here.
pub const NETWORK: &str = "cell";

/// How often an exporter is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// A configuration of one network.
#[derive(Clone, Debug)]
pub struct Setup {
    /// In order of preference.
    pub urls: Vec<String>,
    /// The contract.
    pub contract: H160,
    /// The chain's id; `None` to leave it out.
    pub chain_id: Option<u64>,
    /// The first block; `None` to have it found.
    pub start_block: Option<u64>,
    /// Blocks on top before one counts.
    pub confirmations: u64,
    /// Time between cycles.
    pub poll: Duration,
    /// Time-out of one request.
    pub timeout: Duration,
    /// Upper bound of one range.
    pub range: u64,
}

impl Setup {
    /// Short intervals and ranges, so that a short chain shows what a long one would.
    pub fn new(urls: &[&str], contract: H160) -> Self {
        Self {
            urls: urls.iter().map(ToString::to_string).collect(),
            contract,
            chain_id: Some(1337),
            start_block: None,
            confirmations: 2,
            poll: Duration::from_millis(200),
            timeout: Duration::from_secs(2),
            range: 40,
        }
    }

    /// As `exporter.yml`.
    pub fn yaml(&self, state: Option<&Path>) -> String {
        let mut text = String::new();
        if let Some(state) = state {
            let _ = writeln!(text, "state_dir: {}", state.display());
        }
        let _ = write!(
            text,
            "networks:\n  - name: {NETWORK}\n    rpc_urls: {:?}\n    contract: \"{:#x}\"\n    \
             confirmations: {}\n    poll_interval: {}ms\n    request_timeout: {}ms\n    max_block_range: {}\n",
            self.urls,
            self.contract,
            self.confirmations,
            self.poll.as_millis(),
            self.timeout.as_millis(),
            self.range,
        );
        if let Some(id) = self.chain_id {
            let _ = writeln!(text, "    chain_id: {id}");
        }
        if let Some(block) = self.start_block {
            let _ = writeln!(text, "    start_block: {block}");
        }
        text
    }
}

/// What every confirmed series must be, at every block of a chain that does not change any more.
pub struct Oracle {
    blocks: Vec<Block>,
    truths: Mutex<BTreeMap<u64, Arc<Truth>>>,
}

impl Oracle {
    /// Reads the chain from a node that is healthy and keeps all state.
    pub async fn read(url: &str, contract: H160, head: u64) -> Self {
        let blocks = fold::read(&Client::new(url), contract, 0..=head).await;
        Self { blocks, truths: Mutex::default() }
    }

    /// Where an exposition is wrong: a line for each series, nothing when none is confirmed yet.
    pub fn differences(&self, exposition: &str) -> Vec<String> {
        let series = Series::parse(exposition).of(NETWORK);
        if !series.0.contains_key(&named("tesseract_transactions_pending")) {
            return Vec::new();
        }
        let Some(at) = processed(&series) else { return vec!["confirmed series without a block".to_owned()] };
        let Ok(at) = usize::try_from(at) else { return vec![format!("block {at}")] };
        if at >= self.blocks.len() {
            return vec![format!("block {at} of a chain that ends at {}", self.blocks.len() - 1)];
        }
        let differences = fold::differences(&self.at(at as u64), &series);
        differences.into_iter().map(|line| format!("at block {at}: {line}")).collect()
    }

    /// What is true with the chain processed up to this block.
    pub fn at(&self, block: u64) -> Arc<Truth> {
        let mut truths = self.truths.lock().unwrap_or_else(PoisonError::into_inner);
        let truth = || Arc::new(fold::truth(&self.blocks, block, NETWORK));
        truths.entry(block).or_insert_with(truth).clone()
    }
}

/// The truth with counters that hold at what was shown before.
pub fn raised(truth: &Truth, floor: &Series) -> Truth {
    let mut truth = truth.clone();
    for (key, value) in truth.series.iter_mut().filter(|(key, _)| is_counter(key)) {
        let held =
            floor.0.keys().find(|shown| fold::canonical(shown) == *key).and_then(|shown| floor.get(shown));
        *value = value.max(held.unwrap_or(0.0));
    }
    truth
}

/// Whether a series is one that may never go down while a process lives.
pub fn is_counter(key: &str) -> bool {
    let name = key.split(['{', ' ']).next().unwrap_or(key);
    // A view of the contract, whatever its name sounds like.
    name != "tesseract_transaction_count"
        && name.starts_with("tesseract_")
        && ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end))
}

/// Counters that went down from one scrape of a process to the next, a line each.
pub fn fallen(before: &Series, after: &Series) -> Vec<String> {
    let fell =
        |key: &&String| is_counter(key) && after.get(key).is_some_and(|now| Some(now) < before.get(key));
    before
        .0
        .keys()
        .filter(fell)
        .map(|key| format!("{key} fell from {:?} to {:?}", before.get(key), after.get(key)))
        .collect()
}

/// What says that the numbers may not be the truth: gauges that ought to be 0.
pub fn flags(series: &Series) -> Option<String> {
    let flags = ["tesseract_missing_events", "tesseract_unproven_blocks"]
        .into_iter()
        .filter_map(|name| series.get(&named(name)).filter(|value| *value != 0.0).map(|value| (name, value)));
    let told: Vec<String> = flags.map(|(name, value)| format!("{name} {value}")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// The confirmed series of an OpenMetrics exposition, exemplars included, sorted.
pub fn confirmed(exposition: &str) -> Vec<String> {
    let is_confirmed = |line: &&str| fold::CONFIRMED.iter().any(|family| line.starts_with(family));
    let mut lines: Vec<String> = exposition.lines().filter(is_confirmed).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// What OpenMetrics shows now.
pub async fn exposition(exporter: &Exporter) -> String {
    let accept = [("Accept", "application/openmetrics-text; version=1.0.0")];
    exporter.get_with("/metrics", &accept).await.text()
}

/// The processed block of the network, also before its first sync is done.
pub fn processed(series: &Series) -> Option<u64> {
    series.get(&named("tesseract_processed_block_number")).map(|block| block as u64)
}

/// Whether the confirmed series are shown, and reach this block.
pub fn reached(exposition: &str, block: u64) -> bool {
    let series = Series::parse(exposition);
    processed(&series) == Some(block) && series.0.contains_key(&named("tesseract_missing_events"))
}

/// A series of the network without further labels.
pub fn named(name: &str) -> String {
    format!("{name}{{network=\"{NETWORK}\"}}")
}

/// Looks at an exporter again and again until `done`, and hands every new exposition to `check`.
///
/// Returns the last exposition, or what went wrong: a complaint of `check`, or the time is over.
pub async fn watch(
    exporter: &Exporter,
    within: Duration,
    mut done: impl FnMut(&str) -> bool,
    mut check: impl FnMut(&str) -> Vec<String>,
) -> Result<String, String> {
    let deadline = Instant::now() + within;
    let mut last = Vec::new();
    let mut ticks = interval(LOOK);
    loop {
        ticks.tick().await;
        let text = exposition(exporter).await;
        let lines = confirmed(&text);
        if lines != last {
            let complaints = check(&text);
            if !complaints.is_empty() {
                return Err(complaints.join("; "));
            }
            last = lines;
        }
        if done(&text) {
            return Ok(text);
        }
        if Instant::now() >= deadline {
            let series = Series::parse(&text);
            let (at, problem) = (processed(&series), problem(exporter));
            return Err(format!("not within {within:?}: processed {at:?}, last problem: {problem}"));
        }
    }
}

/// The last complaint in an exporter's log.
fn problem(exporter: &Exporter) -> String {
    let grave =
        |line: &&String| line.contains("\"WARN\"") || line.contains("\"ERROR\"") || line.contains("warn");
    exporter.log().iter().rev().find(grave).cloned().unwrap_or_else(|| exporter.log().join("\n"))
}
