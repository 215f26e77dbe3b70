//! The least that reading a history can cost: a bare client that asks for logs in the widest ranges, parses them
//! into structs, counts, and pairs each buffered with its ready. It takes every answer for the truth.
//!
//! Never checks, retries, or keeps anything that is not needed for these figures; it is no exporter.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use web3::types::H256;

use super::measure::{Usage, own_usage};
use super::provider::ready::Figures;
use super::provider::since_epoch;

/// Headers in one batch, as many as providers commonly take.
const HEADERS: usize = 100;

const BUFFERED: &str = "0x82f04bca3c86d80210a78dfa27d4cb42b598d7affde61ee6023e07d07b94e2d9";
const READY: &str = "0x4fe734ce83839d4373098e81ed34170e439d9610e6014da41e0a552835ae0cd5";
const FAILED: &str = "0xa3897ec9f635f9e079f0cc337815d014bf44b6ea44b6a6fe16660183bf4cf4d8";

/// What a floor reads, and how.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// Host and port of the node.
    #[arg(long)]
    pub(crate) host: String,
    /// Path of the network.
    #[arg(long)]
    pub(crate) path: String,
    /// The contract.
    #[arg(long)]
    pub(crate) contract: String,
    /// The last block.
    #[arg(long)]
    pub(crate) last: u64,
    /// Blocks in a range.
    #[arg(long)]
    pub(crate) range: u64,
    /// How many requests go on at once.
    #[arg(long)]
    pub(crate) connections: usize,
    /// Times are not in the logs: the header of every block with logs is fetched.
    #[arg(long)]
    pub(crate) headers: bool,
}

impl Plan {
    /// As arguments of the floor's process.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["floor".to_owned()];
        for (name, value) in [
            ("host", self.host.clone()),
            ("path", self.path.clone()),
            ("contract", self.contract.clone()),
            ("last", self.last.to_string()),
            ("range", self.range.to_string()),
            ("connections", self.connections.to_string()),
        ] {
            arguments.push(format!("--{name}={value}"));
        }
        arguments.extend(self.headers.then(|| "--headers".to_owned()));
        arguments
    }
}

/// What a floor came to, and what it used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub figures: Figures,
    pub usage: Usage,
}

/// The floor's own process: prints its outcome as JSON.
pub async fn run(plan: Plan) {
    let shared = Arc::new(Shared { next: AtomicU64::new(0), found: Mutex::default(), plan });
    let connections = (0..shared.plan.connections).map(|_| tokio::spawn(read(Arc::clone(&shared))));
    for connection in connections.collect::<Vec<_>>() {
        connection.await.expect("the provider answers");
    }
    let figures = shared.found.lock().unwrap_or_else(PoisonError::into_inner).figures;
    let outcome = Outcome { figures, usage: own_usage() };
    println!("{}", serde_json::to_string(&outcome).expect("figures are JSON"));
}

struct Shared {
    plan: Plan,
    /// First block of the next range.
    next: AtomicU64,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    figures: Figures,
    /// Times of events whose other one has not come: ranges end in any order.
    alone: HashMap<H256, u64>,
}

async fn read(shared: Arc<Shared>) {
    let plan = &shared.plan;
    let stream = TcpStream::connect(&plan.host).await.expect("connect to the provider");
    stream.set_nodelay(true).expect("set an option of a socket");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("speak HTTP");
    tokio::spawn(connection);
    loop {
        let first = shared.next.fetch_add(plan.range, Ordering::Relaxed);
        if first > plan.last {
            return;
        }
        let last = plan.last.min(first + plan.range - 1);
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{{"address":"{}","fromBlock":"{first:#x}","toBlock":"{last:#x}"}}]}}"#,
            plan.contract
        );
        let body = post(&mut sender, plan, call).await;
        let logs: Answer<Vec<Log<'_>>> = serde_json::from_slice(&body).expect("logs");
        let times = if plan.headers { times(&mut sender, plan, &logs.result).await } else { HashMap::new() };
        shared.found.lock().unwrap_or_else(PoisonError::into_inner).add(&logs.result, &times);
    }
}

impl Found {
    fn add(&mut self, logs: &[Log<'_>], times: &HashMap<u64, u64>) {
        for log in logs {
            match log.topics[0] {
                BUFFERED => self.figures.buffered += 1,
                READY => self.figures.ready += 1,
                FAILED => {
                    self.figures.failed += 1;
                    continue;
                }
                _ => continue,
            }
            let written = log.block_timestamp.map(number);
            let Some(time) = written.or_else(|| times.get(&number(log.block_number)).copied()) else {
                continue;
            };
            let id: H256 = log.topics[1].parse().expect("an id");
            match self.alone.remove(&id) {
                Some(other) => *self.figures.seconds.get_or_insert(0) += time.abs_diff(other),
                None => drop(self.alone.insert(id, time)),
            }
        }
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Log<'a> {
    #[serde(borrow)]
    topics: Vec<&'a str>,
    block_number: &'a str,
    block_timestamp: Option<&'a str>,
}

#[derive(Deserialize)]
struct Header<'a> {
    number: &'a str,
    timestamp: &'a str,
}

/// The times of all blocks with these logs, in batches.
async fn times(sender: &mut SendRequest<Full<Bytes>>, plan: &Plan, logs: &[Log<'_>]) -> HashMap<u64, u64> {
    let mut blocks: Vec<&str> = logs.iter().map(|log| log.block_number).collect();
    blocks.dedup();
    let mut times = HashMap::new();
    for part in blocks.chunks(HEADERS) {
        let mut calls = String::new();
        for (id, block) in part.iter().enumerate() {
            calls.push(if id == 0 { '[' } else { ',' });
            let written = write!(
                calls,
                r#"{{"jsonrpc":"2.0","id":{id},"method":"eth_getBlockByNumber","params":["{block}",false]}}"#
            );
            written.expect("write to memory");
        }
        calls.push(']');
        let body = post(sender, plan, calls).await;
        let headers: Vec<Answer<Header<'_>>> = serde_json::from_slice(&body).expect("headers");
        times.extend(headers.iter().map(|of| (number(of.result.number), number(of.result.timestamp))));
    }
    times
}

async fn post(sender: &mut SendRequest<Full<Bytes>>, plan: &Plan, body: String) -> Bytes {
    loop {
        let request = Request::post(&plan.path)
            .header("host", &plan.host)
            .header("content-type", "application/json")
            .body(Full::from(body.clone()))
            .expect("a request");
        sender.ready().await.expect("the provider keeps the connection");
        let response = sender.send_request(request).await.expect("the provider answers");
        let wait = response.headers().get("retry-after").is_some();
        let body = response.into_body().collect().await.expect("the provider's answer").to_bytes();
        if !wait {
            return body;
        }
        // The provider counts requests by seconds of the clock: the next one begins then.
        let into_second = Duration::from_nanos(since_epoch().subsec_nanos().into());
        sleep_until(Instant::now() + Duration::from_secs(1) - into_second).await;
    }
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a quantity")
}
