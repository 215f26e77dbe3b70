//! What a network costs of processor and memory while many are followed in one process, beside a bare poller.
//!
//! The poller asks each chain for its newest block as often as the exporter does, and for the logs of a new one: the
//! least that sees every event, and it proves none.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::measure::{Usage, own_usage, usage};
use super::provider::Provider;
use super::provider::counts::Report;
use super::setting::{Network, Setting};
use super::table::{Table, megabytes, ratio};
use super::{Extent, Wrong, subject};
use crate::process::{self, Launch};
use crate::sim::Regular;

/// Time between blocks, and between two polls by default.
const BLOCK_TIME: Duration = Duration::from_secs(2);

/// One transaction a minute, buffered and ready in one block.
const TRAFFIC: Regular = Regular { every: 30, buffered: 1, resolved_after: Some(0) };

const HISTORY: u64 = 300;

pub(super) async fn networks(extent: Extent) -> Result<(), Wrong> {
    process::binary();
    let (sizes, measured_for) = if extent.short {
        (vec![3], Duration::from_secs(2))
    } else {
        (vec![1, 200, 1000], Duration::from_secs(30).mul_f64(extent.scale))
    };
    let headings =
        ["networks", "CPU % of a core", "resident MB", "HTTP requests/s", "calls/s", "provider CPU %"];
    let mut table = Table::new(headings);
    for networks in sizes {
        let network = Network::live(TRAFFIC, HISTORY, BLOCK_TIME);
        let setting = Setting { networks: vec![network; networks], latency: Duration::ZERO, rate: None };
        let provider = Provider::start(&setting).await;
        let poller = poller(&provider, networks, measured_for).await;
        let exporter = exporter(&setting, &provider, measured_for).await?;
        let figures = |of: &Followed| {
            let seconds = of.seconds;
            let requests: u64 = of.report.networks.iter().map(|counts| counts.requests).sum();
            let calls: u64 = of.report.networks.iter().map(super::provider::counts::Counts::all_calls).sum();
            [
                100.0 * of.usage.cpu.as_secs_f64() / seconds,
                of.usage.resident as f64,
                requests as f64 / seconds,
                calls as f64 / seconds,
                100.0 * of.provider.as_secs_f64() / seconds,
            ]
        };
        for (who, of) in [("poller", &poller), ("exporter", &exporter)] {
            let cells = figures(of).into_iter().enumerate().map(|(column, value)| match column {
                1 => megabytes(value as u64),
                _ => format!("{value:.1}"),
            });
            table.row(std::iter::once(format!("{networks}, {who}")).chain(cells));
        }
        let ratios = figures(&exporter).into_iter().zip(figures(&poller));
        let ratios = ratios.map(|(one, other)| ratio(one, other));
        table.row(std::iter::once(format!("{networks}, exporter / poller")).chain(ratios));
    }
    println!(
        "\n### networks\n\nBlocks of 2 s, {} s\n\n{table}\n{}\n",
        measured_for.as_secs(),
        subject::EXACT
    );
    Ok(())
}

/// What following took.
struct Followed {
    seconds: f64,
    usage: Usage,
    report: Report,
    provider: Duration,
}

async fn exporter(setting: &Setting, provider: &Provider, measured_for: Duration) -> Result<Followed, Wrong> {
    let exporter = Launch::config(&setting.configuration(provider.url())).start().await;
    subject::caught_up(&exporter, setting.networks.len()).await;
    let before = (usage(exporter.pid()), provider.usage().cpu);
    provider.forget().await;
    let begun = Instant::now();
    exporter.runs_for(measured_for).await;
    let (seconds, now) = (begun.elapsed().as_secs_f64(), usage(exporter.pid()));
    let provider_cpu = provider.usage().cpu - before.1;
    let usage = Usage { cpu: now.cpu - before.0.cpu, ..now };
    let followed = Followed { seconds, usage, report: provider.report().await, provider: provider_cpu };
    subject::exact(&exporter, provider, setting.networks.len()).await?;
    Ok(followed)
}

async fn poller(provider: &Provider, networks: usize, measured_for: Duration) -> Followed {
    provider.forget().await;
    let before = provider.usage().cpu;
    let output = Command::new(std::env::current_exe().expect("the path of this program"))
        .args(["poller".to_owned(), format!("--networks={networks}")])
        .args([
            format!("--host={}", provider.url().trim_start_matches("http://")),
            format!("--seconds={}", measured_for.as_secs()),
        ])
        .output()
        .await
        .expect("run the poller");
    let usage = serde_json::from_slice(&output.stdout).expect("the poller prints what it used");
    let provider_cpu = provider.usage().cpu - before;
    Followed {
        seconds: measured_for.as_secs_f64(),
        usage,
        report: provider.report().await,
        provider: provider_cpu,
    }
}

/// What a poller follows.
#[derive(Args, Debug)]
pub struct Plan {
    /// Host and port of the provider.
    #[arg(long)]
    host: String,
    /// How many networks.
    #[arg(long)]
    networks: usize,
    /// For how long.
    #[arg(long)]
    seconds: u64,
}

/// The poller's own process: prints what it used as JSON.
pub async fn poll(plan: Plan) {
    let mut followed: JoinSet<_> =
        (0..plan.networks).map(|number| follow(plan.host.clone(), number)).collect();
    // None ends by itself but by a panic.
    let ended = timeout(Duration::from_secs(plan.seconds), followed.join_next()).await;
    assert!(ended.is_err(), "a network is not followed any more: {ended:?}");
    println!("{}", serde_json::to_string(&own_usage()).expect("figures are JSON"));
}

#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

#[derive(Deserialize)]
struct Head {
    number: String,
}

#[derive(Deserialize)]
struct Log {
    topics: Vec<String>,
}

async fn follow(host: String, network: usize) {
    let stream = TcpStream::connect(&host).await.expect("connect to the provider");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("speak HTTP");
    tokio::spawn(connection);
    let contract = Network::still(TRAFFIC, 0).chain(network).contract();
    let (mut last, mut events) = (String::new(), 0);
    let mut polls = interval(BLOCK_TIME);
    loop {
        polls.tick().await;
        let head: Answer<Head> =
            call(&mut sender, &host, network, "eth_getBlockByNumber", r#"["latest",false]"#).await;
        let number = head.result.number;
        if number != last {
            let filter =
                format!(r#"[{{"address":"{contract:#x}","fromBlock":"{number}","toBlock":"{number}"}}]"#);
            let logs: Answer<Vec<Log>> = call(&mut sender, &host, network, "eth_getLogs", &filter).await;
            events += logs.result.iter().filter(|log| !log.topics.is_empty()).count();
            last = number;
        }
        std::hint::black_box(events);
    }
}

async fn call<T: for<'a> Deserialize<'a>>(
    sender: &mut SendRequest<Full<Bytes>>,
    host: &str,
    network: usize,
    method: &str,
    params: &str,
) -> T {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let request = Request::post(format!("/{network}"))
        .header("host", host)
        .header("content-type", "application/json")
        .body(Full::from(body))
        .expect("a request");
    sender.ready().await.expect("the provider keeps the connection");
    let response = sender.send_request(request).await.expect("the provider answers");
    let body = response.into_body().collect().await.expect("the provider's answer").to_bytes();
    serde_json::from_slice(&body).expect("an answer")
}
