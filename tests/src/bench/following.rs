//! What following a chain costs in requests, calls and published units: blocks of 12 s, 2 s and 0.25 s, beside the
//! guide's Python and an indexer that polls.
//!
//! In real time, with nothing sped up: how often the exporter asks depends on clocks as well as on blocks. The two
//! beside it are computed from their code, and said to be so; they are not run.

use std::time::{Duration, Instant};

use super::measure::usage;
use super::provider::Provider;
use super::provider::counts::{Counts, weight};
use super::setting::{Network, Setting};
use super::subject;
use super::table::{Table, number};
use super::{Extent, Wrong};
use crate::process::{self, Launch};
use crate::sim::Regular;

const DAY: f64 = 86_400.0;
const MONTH: f64 = 30.0 * DAY;

/// One transaction a minute, buffered and ready in one block: the least traffic that raises no alert.
const TRAFFIC: Duration = Duration::from_secs(60);

/// Blocks before the first one that is waited for.
const HISTORY: u64 = 300;

/// What is set for a network whose requests are to be few: where blocks come quickly also this many of them on top, as
/// far below the head not every header is read.
const THRIFTY: &str = "poll_interval: 60s";
const THRIFTY_QUICK: &str = "confirmations: 100";
const QUICK: Duration = Duration::from_secs(2);

/// One network that is followed.
struct Followed {
    block_time: Duration,
    setting: &'static str,
    live: bool,
}

impl Followed {
    fn network(&self) -> Network {
        let every = (TRAFFIC.as_millis() / self.block_time.as_millis()) as u64;
        let traffic = Regular { every, buffered: 1, resolved_after: Some(0) };
        let mut configuration = Vec::new();
        if self.setting != "defaults" {
            configuration.push(THRIFTY.to_owned());
            configuration.extend((self.block_time <= QUICK).then(|| THRIFTY_QUICK.to_owned()));
        }
        let network = if self.live {
            Network::live(traffic, HISTORY, self.block_time)
        } else {
            Network::still(traffic, HISTORY)
        };
        Network { configuration, ..network }
    }
}

pub(super) async fn following(extent: Extent) -> Result<(), Wrong> {
    process::binary();
    let measured_for =
        if extent.short { Duration::from_secs(3) } else { Duration::from_secs(240).mul_f64(extent.scale) };
    let block_times = [Duration::from_secs(12), Duration::from_secs(2), Duration::from_millis(250)];
    let mut followed: Vec<_> = ["defaults", "thrifty"]
        .into_iter()
        .flat_map(|setting| block_times.map(|block_time| Followed { block_time, setting, live: true }))
        .collect();
    followed.push(Followed { block_time: block_times[1], setting: "defaults", live: false });
    let networks = followed.iter().map(Followed::network).collect();
    let setting = Setting { networks, latency: Duration::ZERO, rate: None };

    let provider = Provider::start(&setting).await;
    let exporter = Launch::config(&setting.configuration(provider.url())).start().await;
    subject::caught_up(&exporter, followed.len()).await;
    let (before, heads) = (usage(exporter.pid()).cpu, heads(&provider).await);
    provider.forget().await;
    let begun = Instant::now();
    exporter.runs_for(measured_for).await;
    let elapsed = begun.elapsed().as_secs_f64();
    let report = provider.report().await;
    let cpu = usage(exporter.pid()).cpu - before;

    println!("\n### following\n");
    println!(
        "{elapsed:.0} s in real time, one transaction a minute; thrifty: `{THRIFTY}`, and \
         `{THRIFTY_QUICK}` where blocks come in {QUICK:?} or less\n"
    );
    println!("{}", per_block(&followed, &report.networks, &heads));
    println!("{}", per_day(&followed, &report.networks, elapsed));
    for (of, counts) in followed.iter().zip(&report.networks) {
        println!("- {}: {}", title(of), counts.by_method());
    }
    println!("\nAll {} networks: {:.2} s on processors\n", followed.len(), cpu.as_secs_f64());
    subject::exact(&exporter, &provider, followed.len()).await?;
    println!("{}\n", subject::EXACT);
    Ok(())
}

async fn heads(provider: &Provider) -> Vec<u64> {
    provider.report().await.networks.iter().map(|counts| counts.head).collect()
}

fn title(of: &Followed) -> String {
    if of.live {
        format!("{} s blocks, {}", of.block_time.as_secs_f64(), of.setting)
    } else {
        format!("no block comes, {}", of.setting)
    }
}

fn per_block(followed: &[Followed], counts: &[Counts], heads: &[u64]) -> Table {
    let mut table = Table::new([
        "network",
        "blocks",
        "polls",
        "HTTP requests a block",
        "calls a block",
        "units a block",
        "HTTP requests a poll",
        "calls a poll",
    ]);
    for ((of, counts), before) in followed.iter().zip(counts).zip(heads) {
        let blocks = counts.head - before;
        let per = |value: u64, of: u64| {
            if of == 0 { "-".to_owned() } else { format!("{:.2}", value as f64 / of as f64) }
        };
        table.row([
            title(of),
            number(blocks),
            number(counts.polls),
            per(counts.requests, blocks),
            per(counts.all_calls(), blocks),
            per(counts.units(), blocks),
            per(counts.requests, counts.polls),
            per(counts.all_calls(), counts.polls),
        ]);
    }
    table
}

fn per_day(followed: &[Followed], counts: &[Counts], elapsed: f64) -> Table {
    let mut table = Table::new(["a day", "calls", "units", "million units a month"]);
    let mut row = |title: String, calls: f64, units: f64| {
        let month = format!("{:.1}", units * MONTH / DAY / 1e6);
        table.row([title, number(calls as u64), number(units as u64), month]);
    };
    for (of, counts) in followed.iter().zip(counts) {
        let days = elapsed / DAY;
        row(title(of), counts.all_calls() as f64 / days, counts.units() as f64 / days);
    }
    let computed = [
        ("the guide's Python, any blocks (computed)", guide()),
        ("rindexer, any blocks (computed)", rindexer()),
    ];
    for (title, calls) in computed {
        let units = calls.iter().map(|(method, calls)| weight(method) as f64 * calls).sum();
        row(title.to_owned(), calls.iter().map(|(_, calls)| calls).sum(), units);
    }
    table
}

/// The calls of a day of the monitoring guide's two loops as they are written: three filters every 2 s, a health
/// check a minute with `is_connected`, code, three views and the block number. Each call is a request.
fn guide() -> Vec<(&'static str, f64)> {
    let (polls, checks) = (DAY / 2.0, DAY / 60.0);
    vec![
        ("eth_getFilterChanges", 3.0 * polls),
        ("web3_clientVersion", checks),
        ("eth_getCode", checks),
        ("eth_call", 3.0 * checks),
        ("eth_blockNumber", checks),
    ]
}

/// The calls of a day of rindexer with its defaults, as its source has them: the newest block every 200 ms, and
/// logs by event only of blocks whose bloom holds it, here two events in one block a minute. No views are read.
fn rindexer() -> Vec<(&'static str, f64)> {
    vec![("eth_getBlockByNumber", DAY / 0.2), ("eth_getLogs", 2.0 * DAY / TRAFFIC.as_secs_f64())]
}
