//! How long it takes from an event in a block to the message at Slack, and where the time goes: the exporter,
//! Prometheus and Alertmanager with the shipped configuration and its intervals, on simulated chains, and a
//! stand-in for Slack that answers at once.
//!
//! Ten chains with blocks of 2 s and one failure on each, at different points of every interval.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tesseract_tests::process::Exporter;
use tesseract_tests::sim::{Call, Params, Sim};
use tesseract_tests::stack::{Settings, Stack};
use tesseract_tests::stand_in::{Service, StandIn};
use tokio::time::{Instant, interval, sleep_until, timeout};
use web3::types::{H256, U256};

const EVENTS: u32 = 10;
/// No part of a scrape interval, so that the events meet it at different points.
const APART: Duration = Duration::from_millis(7300);
const PATIENCE: Duration = Duration::from_secs(180);
/// How finely the stages in between are told apart.
const POLL: Duration = Duration::from_millis(200);

const STAGES: [&str; 4] =
    ["read by the exporter", "scraped by Prometheus", "alert fires", "message at Slack"];

/// When an event passed each stage, counted from its block.
type Passed = [Duration; STAGES.len()];

#[tokio::main]
async fn main() -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut config = "networks:\n".to_owned();
    let mut chains = Vec::new();
    for number in 0..EVENTS {
        let chain = chain(number).await.map_err(failed)?;
        let (name, url, contract) = (name(number), chain.url(), chain.chain().contract());
        config += &format!("  - {{name: {name}, rpc_urls: [\"{url}\"], contract: \"{contract:#x}\"}}\n");
        chains.push(chain);
    }
    let slack = StandIn::start().await.map_err(failed)?;
    let exporter = Exporter::start(&config).await;
    let settings = Settings {
        exporters: vec![exporter.address()],
        environment: vec![("SLACK_WEBHOOK_URL".to_owned(), slack.url(Service::Slack))],
        ..Settings::default()
    };
    let stack = Stack::start(&settings).await.map_err(failed)?;
    eprintln!("waiting until Prometheus has seen every network once");
    let known = "count(tesseract:events:announced{of=\"failed\", reason=\"dependency\"})";
    until("every network in Prometheus", || async {
        stack.query(known).await == Ok(vec![f64::from(EVENTS)])
    })
    .await?;

    eprintln!("{EVENTS} failures, one every {APART:?}");
    let start = Instant::now();
    let events = chains.iter_mut().zip(0..).map(|(chain, number)| {
        let (exporter, stack, slack) = (&exporter, &stack, &slack);
        async move {
            sleep_until(start + APART * number).await;
            watch(chain, &name(number), exporter, stack, slack).await
        }
    });
    let passed: Vec<Passed> = join_all(events).await.into_iter().collect::<Result<_, _>>()?;
    print(&passed);
    stack.stop().await.map_err(failed)
}

/// Makes a transaction fail, and notes when each stage shows it.
async fn watch(
    chain: &mut Sim,
    network: &str,
    exporter: &Exporter,
    stack: &Stack,
    slack: &StandIn,
) -> Result<Passed, String> {
    // Blocks by hand come out of turn; the clock begins anew behind them.
    chain.halt();
    let tx_id = H256::from_low_u64_be(1);
    let scheduled = U256::from(now() + 3600);
    for call in [Call::Buffer { tx_id, scheduled, dependency: None }, Call::Resolve(tx_id)] {
        chain.call(call).map_err(|revert| format!("{network}: {revert:?}"))?;
    }
    let block = Instant::now();
    chain.run(1.0);

    let counter =
        format!("tesseract_transactions_failed_total{{network=\"{network}\",reason=\"dependency\"}}");
    let read = until("the exporter", || async { exporter.scrape().await.get(&counter) == Some(1.0) });
    let read = read.await?;
    let scraped = until("the scrape", || async { stack.query(&counter).await == Ok(vec![1.0]) }).await?;
    let fires = until("the alert", || async {
        stack.alerts().await.unwrap_or_default().iter().any(|alert| {
            let labels = &alert["labels"];
            labels["alertname"] == "TesseractTransactionFailed" && labels["network"] == network
        })
    });
    let fires = fires.await?;
    let title = format!("] TesseractTransactionFailed on {network}");
    let message = slack
        .wait_for("the message", PATIENCE, |message| message.text().lines().any(|it| it.ends_with(&title)));
    let message = message.await.at;
    Ok([read, scraped, fires, message].map(|at| at - block))
}

/// When a condition first held.
async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) -> Result<Instant, String> {
    let mut ticks = interval(POLL);
    let waiting = async {
        loop {
            ticks.tick().await;
            if condition().await {
                return Instant::now();
            }
        }
    };
    timeout(PATIENCE, waiting).await.map_err(|_| format!("{what}: not within {PATIENCE:?}"))
}

fn print(passed: &[Passed]) {
    println!("{:24}{:>10}{:>10}   seconds, of {} events", "", "median", "worst", passed.len());
    for (stage, label) in STAGES.iter().enumerate() {
        let before = |it: &Passed| if stage == 0 { Duration::ZERO } else { it[stage - 1] };
        // A message may come before the alert is polled for.
        row(label, passed.iter().map(|it| it[stage].saturating_sub(before(it))).collect());
    }
    row("in all", passed.iter().map(|it| it[STAGES.len() - 1]).collect());
}

fn row(label: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let half = times.len() / 2;
    let median = (times[half] + times[times.len() - 1 - half]) / 2;
    println!("{label:24}{:>10.1}{:>10.1}", median.as_secs_f64(), times[times.len() - 1].as_secs_f64());
}

/// A chain up to now without traffic of its own.
async fn chain(number: u32) -> std::io::Result<Sim> {
    let history = 60;
    let params = Params {
        seed: u64::from(number),
        chain_id: 1000 + u64::from(number),
        genesis_time: now() - 2 * history,
        buffered_per_hour: 0,
        incidents_per_day: 0,
        ..Params::default()
    };
    let mut chain = Sim::start(params).await?;
    chain.advance(history);
    chain.run(1.0);
    Ok(chain)
}

fn name(number: u32) -> String {
    format!("network-{number}")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
