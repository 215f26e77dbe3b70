//! What a scrape costs, with few and many networks, beside a bare registry with the same series.
//!
//! Scrapers keep their connections and ask again as soon as they have their answer. They share the machine with the
//! server, whose own time on processors stands beside.

mod access;
mod bare;
pub(super) mod load;

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::measure::usage;
use super::provider::Provider;
use super::setting::{Network, Setting};
use super::table::{Table, megabytes, number};
use super::{Extent, Wrong, subject};
use crate::process::{self, Launch};
use crate::sim::Regular;
pub use bare::serve;
use load::{Load, load};

/// Some of everything: twenty transactions, each ready 20 s later.
const TRAFFIC: Regular = Regular { every: 10, buffered: 1, resolved_after: Some(1) };
const HISTORY: u64 = 205;

/// Networks, the exporter's settings for each, and what they mean for a scrape.
const RUNS: [(usize, &[&str], &str); 3] = [
    (3, &[], "3 networks"),
    (1000, &["poll_interval: 60s"], "1000 networks, little changes between two scrapes"),
    (1000, &[], "1000 networks, 500 of them change every second"),
];

pub(super) async fn scrape(extent: Extent) -> Result<(), Wrong> {
    process::binary();
    let time =
        if extent.short { Duration::from_millis(200) } else { Duration::from_secs(5).mul_f64(extent.scale) };
    let runs = if extent.short { &RUNS[..1] } else { &RUNS[..] };
    for (networks, configuration, title) in runs {
        let configuration = configuration.iter().map(ToString::to_string).collect();
        let network = Network { configuration, ..Network::still(TRAFFIC, HISTORY) };
        let setting = Setting { networks: vec![network; *networks], latency: Duration::ZERO, rate: None };
        let provider = Provider::start(&setting).await;
        let exporter = Launch::config(&setting.configuration(provider.url())).start().await;
        subject::caught_up(&exporter, *networks).await;
        let text = exporter.get("/metrics").await.text();
        let bare = Bare::start(&text).await;
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        let headings = [
            "",
            "scrapes/s",
            "p50 ms",
            "p99 ms",
            "server CPU ms each",
            "kB each",
            "server peak MB",
            "beside: p99 ms",
        ];
        let mut table = Table::new(headings);
        for gzip in [false, true] {
            for connections in [1, 8] {
                for (who, url, pid) in
                    [("registry", bare.url.clone(), bare.pid()), ("exporter", exporter.url(), exporter.pid())]
                {
                    let before = usage(pid).cpu;
                    let result = load(&Load { url, connections, gzip, time, ..Load::default() }).await;
                    let after = usage(pid);
                    let cpu = (after.cpu - before).as_secs_f64() * 1e3 / result.scrapes as f64;
                    let encoding = if gzip { "gzip" } else { "plain" };
                    table.row([
                        format!("{who}, {connections} at once, {encoding}"),
                        number((result.scrapes as f64 / time.as_secs_f64()) as u64),
                        format!("{:.3}", result.median.as_secs_f64() * 1e3),
                        format!("{:.3}", result.slow.as_secs_f64() * 1e3),
                        format!("{cpu:.3}"),
                        format!("{:.1}", result.bytes as f64 / 1e3),
                        megabytes(after.peak),
                        format!("{:.3}", result.beside.as_secs_f64() * 1e3),
                    ]);
                }
            }
        }
        println!("\n### scrape: {title}\n\n{} series\n\n{table}", number(series as u64));
        println!("beside: GET /-/healthy on a connection of its own meanwhile\n");
        subject::exact(&exporter, &provider, *networks).await?;
        println!("{}\n", subject::EXACT);
    }
    access::access(time).await;
    Ok(())
}

/// The bare registry's process; killed when dropped.
struct Bare {
    child: Child,
    url: String,
}

impl Bare {
    async fn start(exposition: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the path of this program"))
            .arg("registry")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start the registry");
        let mut input = child.stdin.take().expect("standard input is piped");
        input.write_all(exposition.as_bytes()).await.expect("tell the registry its series");
        drop(input);
        let mut url = String::new();
        let output = child.stdout.as_mut().expect("standard output is piped");
        BufReader::new(output).read_line(&mut url).await.expect("read where the registry listens");
        Self { child, url: url.trim().to_owned() }
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("the registry runs")
    }
}
