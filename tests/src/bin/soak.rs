//! Runs the soak: `cargo run -p tesseract-tests --bin soak -- --minutes 30 --seed 1`.
//!
//! Exits 1 when the exporter showed anything that is not so, with a line for each series.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tesseract_tests::soak;

/// An exporter on a real node behind hostile ones, with faults, reorganisations, kills and torn state, against the fold.
#[derive(Parser)]
struct Arguments {
    /// How long it runs.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// What goes wrong, and when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { minutes, seed } = Arguments::parse();
    println!("seed {seed}, {minutes} minutes");
    let report = soak::run(Duration::from_secs_f64(minutes * 60.0), seed, |line| println!("{line}")).await;
    println!("{report}");
    for difference in &report.differences {
        println!("{difference}");
    }
    ExitCode::from(u8::from(!report.differences.is_empty()))
}
