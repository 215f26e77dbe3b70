//! Runs the benchmarks: `cargo run --release -p tesseract-tests --bin bench -- [SCENARIO…] [--short]`.
//!
//! Prints tables, as in PERFORMANCE.md, which explains them. Exits 1 when the exporter did not come to the chain's
//! own figures.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tesseract_tests::bench::{self, Extent, Scenario, floor, ledger, networks, provider, scrape};

/// The exporter's cost beside the least possible, in one run.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    /// What is measured; all of it by default.
    scenarios: Vec<Scenario>,
    /// As little of each as shows that it works.
    #[arg(long)]
    short: bool,
    /// Part of the length of the histories.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What further processes are started for.
#[derive(Subcommand)]
enum Part {
    /// Serves the chains of a setting on standard input.
    #[command(hide = true)]
    Provider,
    /// Reads a history at the least cost.
    #[command(hide = true)]
    Floor(floor::Plan),
    /// Builds or loads a ledger.
    #[command(hide = true, subcommand)]
    Ledger(ledger::Part),
    /// Polls many networks at the least cost.
    #[command(hide = true)]
    Poller(networks::Plan),
    /// Serves the series of an exposition on standard input.
    #[command(hide = true)]
    Registry,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Options { scenarios, short, scale, part } = Options::parse();
    match part {
        Some(Part::Provider) => provider::serve().await,
        Some(Part::Floor(plan)) => floor::run(plan).await,
        Some(Part::Ledger(part)) => ledger::run_part(&part),
        Some(Part::Poller(plan)) => networks::poll(plan).await,
        Some(Part::Registry) => scrape::serve().await,
        None => {
            let all = if scenarios.is_empty() { Scenario::value_variants().to_vec() } else { scenarios };
            println!("{}", bench::heading().await);
            for scenario in all {
                if let Err(wrong) = bench::run(scenario, Extent { scale, short }).await {
                    eprintln!("not exact: {wrong}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}
