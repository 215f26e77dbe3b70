//! Catching up with a history: the exporter beside the floor, from the same provider, one after the other.
//!
//! Each scenario is a history and a kind of provider. Both must come to the chain's own figures.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::floor::{Outcome, Plan};
use super::measure::{Usage, usage};
use super::provider::Provider;
use super::provider::counts::Report;
use super::provider::ready::Figures;
use super::setting::{Network, Setting};
use super::subject;
use super::table::{Table, megabytes, number, ratio};
use super::{Extent, Wrong};
use crate::process::{self, Launch};
use crate::sim::Regular;

/// How long any of it may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Blocks on top before the exporter counts, by default.
const CONFIRMATIONS: u64 = 2;

/// Blocks after the last event, so that all of them are confirmed.
const TAIL: u64 = 5;

/// Blocks in a range by default, and of the floor's.
const RANGE: u64 = 10_000;

/// Ten logs in every tenth block, five transactions that become ready 20 s later.
const DENSE: Regular = Regular { every: 10, buffered: 5, resolved_after: Some(1) };

/// One scenario.
struct Run<'a> {
    title: &'a str,
    setting: Setting,
    range: u64,
    connections: usize,
}

pub(super) async fn dense(extent: Extent) -> Result<(), Wrong> {
    let blocks = extent.of(1_000_000);
    for log_timestamps in [true, false] {
        let network = Network { log_timestamps, ..Network::still(DENSE, blocks + TAIL) };
        let title = if log_timestamps { "dense, times in the logs" } else { "dense, times to be fetched" };
        let run = Run { title, setting: Setting::of(network), range: RANGE, connections: 2 };
        run.measure().await?;
    }
    Ok(())
}

pub(super) async fn latency(extent: Extent) -> Result<(), Wrong> {
    let network = Network { log_timestamps: false, ..Network::still(DENSE, extent.of(100_000) + TAIL) };
    let latency = Duration::from_millis(50);
    let run = Run {
        title: "50 ms of latency, times to be fetched",
        setting: Setting { latency, ..Setting::of(network) },
        range: RANGE,
        connections: 2,
    };
    let measured = run.measure().await?;
    for (who, of) in [("floor", &measured.floor), ("exporter", &measured.exporter)] {
        let requests = of.report.networks[0].requests;
        let in_flight = of.report.most_in_flight;
        let least = latency.as_secs_f64() * requests as f64 / in_flight as f64;
        println!(
            "{who}: {in_flight} requests in flight at most; requests x latency / in flight = {least:.2} s, wall {}\n",
            ratio(of.wall.as_secs_f64(), least)
        );
    }
    if let Some((until, requests)) = measured.exporter.beginning {
        let rest = measured.exporter.report.networks[0].requests - requests;
        println!(
            "exporter: {:.2} s and {requests} requests until the beginning is found, {:.2} s for the {rest} others\n",
            until.as_secs_f64(),
            (measured.exporter.wall - until).as_secs_f64()
        );
    }
    Ok(())
}

pub(super) async fn limited(extent: Extent) -> Result<(), Wrong> {
    let rate = 25;
    let network = Network { log_timestamps: false, ..Network::still(DENSE, extent.of(100_000) + TAIL) };
    let run = Run {
        title: "25 requests a second, times to be fetched",
        setting: Setting { rate: Some(rate), ..Setting::of(network) },
        range: RANGE,
        connections: 2,
    };
    let measured = run.measure().await?;
    for (who, of) in [("floor", &measured.floor), ("exporter", &measured.exporter)] {
        let counts = &of.report.networks[0];
        let allowed = u64::from(rate) * of.report.seconds;
        println!(
            "{who}: {:.0} % of the limit used, {} of {} requests refused\n",
            100.0 * (counts.requests - counts.refused) as f64 / allowed as f64,
            counts.refused,
            counts.requests
        );
    }
    Ok(())
}

pub(super) async fn sparse(extent: Extent) -> Result<(), Wrong> {
    let blocks = extent.of(20_000_000);
    let traffic = Regular { every: blocks / 500, buffered: 1, resolved_after: Some(0) };
    for (title, range) in
        [("sparse, ranges of 10,000 blocks", RANGE), ("sparse, ranges of 1,000,000 blocks", 1_000_000)]
    {
        let configuration = vec![format!("max_block_range: {range}")];
        let network = Network { configuration, ..Network::still(traffic, blocks + TAIL) };
        let run = Run { title, setting: Setting::of(network), range, connections: 2 };
        run.measure().await?;
    }
    Ok(())
}

/// What reading the history took.
struct Read {
    wall: Duration,
    usage: Usage,
    report: Report,
    /// The provider's time on processors meanwhile.
    provider: Duration,
    figures: Figures,
    /// When the exporter knew where the history begins, and its HTTP requests until then; the floor is told.
    beginning: Option<(Duration, u64)>,
}

struct Measured {
    floor: Read,
    exporter: Read,
}

impl Run<'_> {
    async fn measure(&self) -> Result<Measured, Wrong> {
        process::binary();
        let network = &self.setting.networks[0];
        let last = network.blocks - CONFIRMATIONS;
        let provider = Provider::start(&self.setting).await;
        let truth = provider.figures(0, last).await;
        let floor = self.floor(&provider, last).await;
        let exporter = self.exporter(&provider).await;
        println!("\n### {}\n", self.title);
        println!(
            "{} logs over {} blocks\n",
            number(truth.buffered + truth.ready + truth.failed),
            number(network.blocks)
        );
        println!("{}", table(&floor, &exporter));
        println!("exporter asked: {}\n", exporter.report.networks[0].by_method());
        let known = truth == exporter.figures && truth == floor.figures;
        if !known {
            let (floor, exporter) = (floor.figures, exporter.figures);
            return Err(Wrong(format!(
                "{}: chain {truth:?}, floor {floor:?}, exporter {exporter:?}",
                self.title
            )));
        }
        println!(
            "Exact: buffered {}, ready {}, failed {}, {} s from buffered to ready in all: floor = exporter = chain\n",
            truth.buffered,
            truth.ready,
            truth.failed,
            truth.seconds.unwrap_or_default()
        );
        Ok(Measured { floor, exporter })
    }

    async fn floor(&self, provider: &Provider, last: u64) -> Read {
        let network = &self.setting.networks[0];
        let plan = Plan {
            host: provider.url().trim_start_matches("http://").to_owned(),
            path: "/0".to_owned(),
            contract: format!("{:#x}", network.chain(0).contract()),
            last,
            range: self.range,
            connections: self.connections,
            headers: !network.log_timestamps,
        };
        provider.forget().await;
        let before = provider.usage().cpu;
        let begun = Instant::now();
        let output = Command::new(std::env::current_exe().expect("the path of this program"))
            .args(plan.arguments())
            .stderr(Stdio::inherit())
            .output()
            .await
            .expect("run the floor");
        let wall = begun.elapsed();
        let Outcome { figures, usage } =
            serde_json::from_slice(&output.stdout).expect("the floor prints its outcome");
        let provider_cpu = provider.usage().cpu - before;
        let report = provider.report().await;
        Read { wall, usage, report, provider: provider_cpu, figures, beginning: None }
    }

    async fn exporter(&self, provider: &Provider) -> Read {
        let launch = Launch::config(&self.setting.configuration(provider.url()));
        provider.forget().await;
        let before = provider.usage().cpu;
        let begun = Instant::now();
        let exporter = launch.start().await;
        exporter.wait_for_line("it begins", PATIENCE, |line| line.contains("history begins")).await;
        let beginning = Some((begun.elapsed(), provider.report().await.networks[0].requests));
        exporter.wait_for_line("it catches up", PATIENCE, |line| line.contains("first sync done")).await;
        let (wall, usage) = (begun.elapsed(), usage(exporter.pid()));
        let (report, provider_cpu) = (provider.report().await, provider.usage().cpu - before);
        subject::caught_up(&exporter, 1).await;
        let figures = subject::figures(&exporter.scrape().await, 0);
        Read { wall, usage, report, provider: provider_cpu, figures, beginning }
    }
}

fn table(floor: &Read, exporter: &Read) -> Table {
    let headings = [
        "",
        "wall s",
        "CPU s",
        "peak MB",
        "HTTP requests",
        "calls",
        "eth_getLogs",
        "units",
        "MB read",
        "provider CPU s",
    ];
    let mut table = Table::new(headings);
    let figures = |read: &Read| {
        let counts = &read.report.networks[0];
        [
            read.wall.as_secs_f64(),
            read.usage.cpu.as_secs_f64(),
            read.usage.peak as f64,
            counts.requests as f64,
            counts.all_calls() as f64,
            counts.calls.get("eth_getLogs").copied().unwrap_or_default() as f64,
            counts.units() as f64,
            counts.bytes as f64,
            read.provider.as_secs_f64(),
        ]
    };
    for (name, read) in [("floor", floor), ("exporter", exporter)] {
        let cells = figures(read).into_iter().enumerate().map(|(column, value)| match column {
            0 | 1 | 8 => format!("{value:.2}"),
            2 | 7 => megabytes(value as u64),
            _ => number(value as u64),
        });
        table.row(std::iter::once(name.to_owned()).chain(cells));
    }
    let ratios = figures(exporter).into_iter().zip(figures(floor)).map(|(one, other)| ratio(one, other));
    table.row(std::iter::once("exporter / floor".to_owned()).chain(ratios));
    table
}
