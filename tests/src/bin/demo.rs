//! The demo: a simulated chain with three networks, the exporter on them, and its figures as they change.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tesseract_tests::demo::{Demo, table};
use tesseract_tests::process::binary;
use tesseract_tests::stack::{Settings, Stack};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

/// Runs a simulated chain with three networks and the exporter on them. Ctrl-C ends it.
#[derive(Parser)]
#[command(name = "demo")]
struct Options {
    /// Port of the exporter on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Prometheus and Alertmanager too, as they are shipped. Receivers of alerts are switched on by the
    /// environment, as in .env.example
    #[arg(long)]
    stack: bool,
    /// Port of Prometheus on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 9090, requires = "stack")]
    prometheus_port: u16,
    /// Port of Alertmanager on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 9093, requires = "stack")]
    alertmanager_port: u16,
    /// Installs those two first, from Debian's packages
    #[arg(long, requires = "stack")]
    install: bool,
}

/// What the environment may say of receivers.
const RECEIVERS: [&str; 6] = [
    "SLACK_WEBHOOK_URL",
    "SLACK_CHANNEL",
    "PAGERDUTY_KEY",
    "PAGERDUTY_URL",
    "ALERT_WEBHOOK_URL",
    "HEARTBEAT_URL",
];

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
    if options.install {
        install()?;
    }
    // From here on Ctrl-C is a request, not an end.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupted = Box::pin(async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    });
    let log = target().join(format!("demo-{}.log", options.port));
    let mut demo = tokio::select! {
        demo = Demo::start(options.port, &log) => demo?,
        _ = &mut interrupted => return Ok(()),
    };
    let stack = match options.stack {
        true => tokio::select! {
            stack = start_stack(&demo, options) => Some(stack?),
            _ = &mut interrupted => return demo.stop().await,
        },
        false => None,
    };
    println!("{}", introduction(&demo.url(), &log, stack.as_ref()));
    let result = tokio::select! {
        result = show(&mut demo) => result,
        _ = &mut interrupted => Ok(()),
    };
    eprintln!("stopping");
    if let Some(stack) = stack {
        stack.stop().await.map_err(|error| format!("cannot stop the stack: {error}"))?;
    }
    result.and(demo.stop().await)
}

/// What to open, what the figures are, and how to end it; within 80 columns, but for long paths and addresses.
fn introduction(url: &str, log: &Path, stack: Option<&Stack>) -> String {
    let mut text = format!(
        "
  {url}/           the networks and how they are
  {url}/metrics    what Prometheus scrapes
  {url}/runbooks/  what to do about each alert
"
    );
    if let Some(stack) = stack {
        let (prometheus, alertmanager) = (stack.prometheus_url(), stack.alertmanager_url());
        // Debian's Alertmanager has no page, and its Prometheus none at /alerts.
        text += &format!(
            "
  {prometheus}/graph?g0.expr=tesseract_transactions_pending&g0.tab=0&g0.range_input=5m
  {prometheus}/graph?g0.expr=ALERTS&g0.tab=1
  amtool --alertmanager.url={alertmanager} alert
"
        );
    }
    text + &format!(
        "
Log: {}
Ctrl-C ends it.

`failed` counts attempts: a transaction may fail more than once, and still
become ready or expire.
",
        log.display()
    )
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    binary().ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

async fn start_stack(demo: &Demo, options: &Options) -> Result<Stack, String> {
    let receivers = RECEIVERS.map(|name| (name.to_owned(), std::env::var(name).unwrap_or_default()));
    let settings = Settings {
        exporters: vec![demo.address()],
        prometheus_port: Some(options.prometheus_port),
        alertmanager_port: Some(options.alertmanager_port),
        environment: receivers.into_iter().chain([("EXPORTER_URL".to_owned(), demo.url())]).collect(),
        ..Settings::default()
    };
    Stack::start(&settings).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{error}; cargo demo --stack --install installs it on Debian")
        }
        _ => format!("the stack does not start: {error}"),
    })
}

fn install() -> Result<(), String> {
    let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/setup");
    let status = std::process::Command::new(setup).arg("servers").status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{setup}: {status}")),
        Err(error) => Err(format!("{setup}: {error}")),
    }
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
