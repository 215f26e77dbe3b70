//! The demo: a simulated chain with three networks, the exporter on them, and its figures as they change.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tesseract_tests::demo::{Demo, table};
use tesseract_tests::process::binary;
use tokio::time::interval;

/// Runs a simulated chain with three networks and the exporter on them. Ctrl-C ends it.
#[derive(Parser)]
#[command(name = "demo")]
struct Options {
    /// Port of the exporter on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 8000)]
    port: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    eprintln!("Building the exporter, and a day of history for three simulated networks ...");
    binary();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("demo: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), String> {
    // From here on Ctrl-C is a request, not an end.
    let mut interrupted = Box::pin(tokio::signal::ctrl_c());
    let mut demo = tokio::select! {
        demo = Demo::start(options.port) => demo?,
        _ = &mut interrupted => return Ok(()),
    };
    let (url, log) = (demo.url(), demo.log().display().to_string());
    println!(
        "
  metrics   {url}/metrics
  health    {url}/health
  overview  {url}/
  log       {log}

  curl -s {url}/metrics | grep tesseract_transactions

Ctrl-C ends it.
"
    );
    let result = tokio::select! {
        result = show(&mut demo) => result,
        _ = &mut interrupted => Ok(()),
    };
    eprintln!("stopping");
    result.and(demo.stop().await)
}

/// Shows the figures every few seconds: in place on a terminal, else one table after another.
async fn show(demo: &mut Demo) -> Result<(), String> {
    let in_place = std::io::stdout().is_terminal();
    let mut ticks = interval(Duration::from_secs(if in_place { 1 } else { 5 }));
    let mut lines = 0;
    loop {
        ticks.tick().await;
        let table = table(&demo.scrape().await?);
        let up = if in_place && lines > 0 { format!("\x1b[{lines}A\x1b[J") } else { String::new() };
        lines = table.lines().count();
        // Whoever closed standard output does not want to see it.
        if writeln!(std::io::stdout(), "{up}{table}").is_err() {
            return Ok(());
        }
    }
}
