//! Runs the simulator: `cargo run -p tesseract-tests --bin simulate -- --seeds 1000 --from 1`.
//!
//! Prints every life that was not exact, and exits 1 when one was wrong without a word, or got stuck. A single
//! one again: `--from SEED --seeds 1`, with `--log` to see what the exporter logged.

use std::process::ExitCode;

use clap::Parser;
use tesseract_tests::simulation;

/// Short lives of an exporter in front of hostile nodes, each drawn from a seed, against the fold.
#[derive(Parser)]
struct Arguments {
    /// How many lives.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many at the same time.
    #[arg(long, default_value_t = 12)]
    at_once: usize,
    /// The exact ones as well.
    #[arg(long)]
    all: bool,
    /// What the exporter logged, where it was not exact.
    #[arg(long)]
    log: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { seeds, from, at_once, all, log } = Arguments::parse();
    let mut wrong = 0;
    let summary = simulation::run(from..=from + seeds.max(1) - 1, at_once, |ending| {
        wrong += u64::from(ending.verdict.is_wrong());
        if all || ending.verdict != simulation::Verdict::Exact {
            println!("{ending}");
            if log {
                println!("{}", ending.log.join("\n"));
            }
        }
    })
    .await;
    println!("{summary}");
    ExitCode::from(u8::from(wrong > 0))
}
