//! Benchmarks of the built exporter: its cost beside the least that the same work can cost, in one run.
//!
//! `cargo run --release -p tesseract-tests --bin bench` prints tables; PERFORMANCE.md says how to read them. The
//! node is a ready-made [`provider`] in a process of its own, the least is a [`floor`] in another. No figure is
//! judged: what fails a run is an exporter that did not come to the numbers of the chain.

mod catching_up;
pub mod floor;
mod following;
pub mod ledger;
mod measure;
pub mod networks;
mod pending;
pub mod provider;
pub mod scrape;
mod setting;
mod subject;
mod table;

use std::fmt;

use clap::ValueEnum;
use procfs::Current;

use crate::process::Launch;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A million logs over a million blocks, from a node that answers at once.
    Dense,
    /// A node that takes 50 ms for each answer.
    Latency,
    /// A provider that allows 25 requests a second.
    Limited,
    /// A thousand events in twenty million blocks.
    Sparse,
    /// New blocks as they come, in real time.
    Following,
    /// One, two hundred and a thousand networks in one process.
    Networks,
    /// Up to a million pending transactions on one network.
    Pending,
    /// Scrapes without a pause.
    Scrape,
}

/// How much of each scenario is run.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Part of the history's length.
    pub scale: f64,
    /// As little as shows that everything works.
    pub short: bool,
}

impl Extent {
    /// So much of a number, at least one.
    fn of(self, full: u64) -> u64 {
        let scale = if self.short { self.scale / 100.0 } else { self.scale };
        ((full as f64 * scale) as u64).max(1)
    }
}

/// What was not as the chain has it.
#[derive(Debug)]
pub struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is measured, on what: a line for the head of the tables.
pub async fn heading() -> String {
    let version = Launch::bare().arg("--version").run().await.stdout;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = procfs::LoadAverage::current().map_or(f32::NAN, |load| load.one);
    format!(
        "{}; {cores} cores, load average {load:.1} at the start",
        version.lines().next().unwrap_or_default()
    )
}

/// Runs one scenario and prints its tables.
///
/// # Errors
/// The exporter, the floor and the chain do not agree.
pub async fn run(scenario: Scenario, extent: Extent) -> Result<(), Wrong> {
    match scenario {
        Scenario::Dense => catching_up::dense(extent).await,
        Scenario::Latency => catching_up::latency(extent).await,
        Scenario::Limited => catching_up::limited(extent).await,
        Scenario::Sparse => catching_up::sparse(extent).await,
        Scenario::Following => following::following(extent).await,
        Scenario::Networks => networks::networks(extent).await,
        Scenario::Pending => pending::pending(extent).await,
        Scenario::Scrape => scrape::scrape(extent).await,
    }
}
