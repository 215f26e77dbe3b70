//! The scripted hostile node: a JSON-RPC proxy in front of a healthy one, with a switch for every fault.
//!
//! Without a fault it passes bytes through and only counts. With one it does exactly that one thing, to every
//! request or to a share of them. It never decides by itself when to misbehave, and what it draws at random
//! comes from a seed.

mod answer;
mod bulk;
mod fault;
mod logs;
mod mixture;
mod multicall;
mod refusal;
mod replica;
mod silent;
mod transport;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use web3::types::H160;

pub use fault::{Fault, Kind};
pub use refusal::{Cap, RANGES, RATES, Refusal};
pub use replica::{LAG, STATE};
pub use silent::{CUT, HOLES, PRUNED};

use mixture::{Content, Mixture};
use transport::{Body, Cut};

/// A running proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

/// What the connections of a proxy share.
struct Shared {
    upstream: Mutex<Uri>,
    /// A node on another branch, or of another chain.
    rival: Mutex<Option<Uri>>,
    /// The node that takes over with the next question for logs of several blocks.
    successor: Mutex<Option<Uri>>,
    /// Whose events are promised.
    contract: Mutex<H160>,
    client: Client<HttpConnector, Full<Bytes>>,
    mixture: Mutex<Mixture>,
    /// How late every answer to a call of a method is, fault or none.
    delays: Mutex<BTreeMap<&'static str, Duration>>,
    /// Caps are those of real chains divided by this.
    scale: AtomicU64,
    /// Odd and even requests meet different replicas.
    turn: AtomicU64,
    rng: Mutex<ChaCha8Rng>,
    /// With [`Proxy::seed_by_content`].
    content: Mutex<Option<Content>>,
    counts: watch::Sender<Counts>,
}

/// What has been asked of a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// HTTP requests.
    pub http: u64,
    /// HTTP requests that met a fault.
    pub faulty: u64,
    /// JSON-RPC calls by method, each member of a batch for itself.
    pub calls: BTreeMap<String, u64>,
}

impl Counts {
    /// JSON-RPC calls of all methods.
    pub fn total(&self) -> u64 {
        self.calls.values().sum()
    }

    /// JSON-RPC calls of one method.
    pub fn of(&self, method: &str) -> u64 {
        self.calls.get(method).copied().unwrap_or(0)
    }
}

impl Proxy {
    /// Starts one in front of `upstream`, an `http://` URL, on a free port of 127.0.0.1.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind the proxy");
        let address = listener.local_addr().expect("a bound port has an address");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(uri(upstream)),
            rival: Mutex::new(None),
            successor: Mutex::new(None),
            contract: Mutex::default(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            mixture: Mutex::default(),
            delays: Mutex::default(),
            scale: AtomicU64::new(1),
            turn: AtomicU64::new(0),
            rng: Mutex::new(ChaCha8Rng::seed_from_u64(0)),
            content: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let listening = tokio::spawn(listen(listener, shared.clone()));
        Self { address, shared, listening }
    }

    /// Where to send requests.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this fault, and no other.
    pub fn set(&self, fault: Fault) {
        self.mix(&[fault], 100);
    }

    /// From now on this share of the HTTP requests, in percent, meets one of these faults, drawn for each.
    pub fn mix(&self, faults: &[Fault], percent: u32) {
        *lock(&self.shared.mixture) = Mixture { faults: faults.to_vec(), percent };
    }

    /// From now on healthy.
    pub fn clear(&self) {
        *lock(&self.shared.mixture) = Mixture::default();
    }

    /// What is drawn at random from now on follows from this seed, and from the order of the requests.
    pub fn seed(&self, seed: u64) {
        *lock(&self.shared.rng) = ChaCha8Rng::seed_from_u64(seed);
    }

    /// From now on which fault a request meets follows from this seed, from what it asks for, and from how often
    /// that was asked before: in whatever order requests come that are sent side by side, they meet the same.
    pub fn seed_by_content(&self, seed: u64) {
        self.seed(seed);
        *lock(&self.shared.content) = Some(Content::new(seed));
    }

    /// From now on answers to calls of this method are so late, or up to half as much again, beside any fault;
    /// a batch is as late as the latest of its members.
    pub fn delay(&self, method: &'static str, by: Duration) {
        lock(&self.shared.delays).insert(method, by);
    }

    /// Divides every cap, so that a short chain meets them.
    pub fn scale(&self, scale: u64) {
        self.shared.scale.store(scale, Ordering::Relaxed);
    }

    /// The node that [`Fault::TwoBranches`] asks every other time, and [`Fault::ChainSwap`] always.
    pub fn rival(&self, url: &str) {
        *lock(&self.shared.rival) = Some(uri(url));
    }

    /// The contract whose ready [`Fault::BloomFalseOnce`] promises.
    pub fn contract(&self, contract: H160) {
        *lock(&self.shared.contract) = contract;
    }

    /// From now on another node behind it, as when a chain is begun anew under the same address.
    pub fn move_to(&self, upstream: &str) {
        *lock(&self.shared.upstream) = uri(upstream);
    }

    /// Another node behind it, from the next question for logs of several blocks on: one that changes branches between
    /// the head and what is asked of the blocks below it.
    pub fn move_at_range(&self, upstream: &str) {
        *lock(&self.shared.successor) = Some(uri(upstream));
    }

    /// What has been asked so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts.borrow().clone()
    }

    /// Every change of the counts, to wait for.
    pub fn watch(&self) -> watch::Receiver<Counts> {
        self.shared.counts.subscribe()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping the set, when the proxy is dropped, ends the connections as well.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        // Whoever closes first: this proxy closes a connection only to reset it.
        let _ = stream.set_zero_linger();
        let shared = shared.clone();
        if lock(&shared.mixture).faults.contains(&Fault::EndlessInterim) {
            connections.spawn(bulk::interim(stream, move || shared.count(&Value::Null, true)));
            continue;
        }
        connections.spawn(async move {
            let service = service_fn(move |request| exchange(shared.clone(), request));
            // An error here is the reset that the fault asked for, or a client that went away.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn exchange(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let body = request.into_body().collect().await.map_err(|_| Cut)?.to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if members(&asked).iter().any(logs::of_several_blocks)
        && let Some(successor) = lock(&shared.successor).take()
    {
        *lock(&shared.upstream) = successor;
    }
    let fault = shared.draw(&asked);
    shared.count(&asked, fault.is_some());
    let late = shared.delay_of(&asked);
    if !late.is_zero() {
        transport::pause(late).await;
    }
    let Some(fault) = fault else {
        let bytes = shared.forward(&shared.upstream(), body).await.map_err(|_| Cut)?;
        return Ok(transport::respond(200, "application/json", bytes));
    };
    let rival = lock(&shared.rival).clone();
    if let Some(rival) = rival
        && (fault == Fault::ChainSwap || (fault == Fault::TwoBranches && shared.every_other()))
    {
        let bytes = shared.forward(&rival, body).await.map_err(|_| Cut)?;
        return Ok(transport::respond(200, "application/json", bytes));
    }
    if let Some(outcome) = transport::instead(fault).await {
        return outcome;
    }
    let outcome = answer::answers(&shared, fault, asked).await.map_err(|_| Cut)?;
    transport::send(fault, outcome, &shared.rng).await
}

impl Shared {
    fn count(&self, asked: &Value, faulty: bool) {
        self.counts.send_modify(|counts| {
            counts.http += 1;
            counts.faulty += u64::from(faulty);
            for call in members(asked) {
                let method = call["method"].as_str().unwrap_or("none");
                *counts.calls.entry(method.to_owned()).or_default() += 1;
            }
        });
    }

    /// What this request meets.
    fn draw(&self, asked: &Value) -> Option<Fault> {
        let mixture = lock(&self.mixture);
        match &mut *lock(&self.content) {
            Some(content) => mixture.draw(&mut content.rng(members(asked))),
            None => mixture.draw(&mut lock(&self.rng)),
        }
    }

    fn upstream(&self) -> Uri {
        lock(&self.upstream).clone()
    }

    fn delay_of(&self, asked: &Value) -> Duration {
        let delays = lock(&self.delays);
        let methods = members(asked).iter().filter_map(|call| call["method"].as_str());
        let latest = methods.filter_map(|method| delays.get(method)).max();
        latest.map_or(Duration::ZERO, |by| by.mul_f64(lock(&self.rng).random_range(1.0..1.5)))
    }

    /// A node's bytes; an error says only that there are none.
    async fn forward(&self, node: &Uri, body: Bytes) -> Result<Bytes, String> {
        let request = Request::post(node.clone())
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| error.to_string())?;
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok(body.to_bytes())
    }

    /// The upstream's answer to one call.
    async fn ask(&self, method: &str, params: &Value) -> Result<Value, String> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let bytes = self.forward(&self.upstream(), call.to_string().into()).await?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// The upstream's head.
    async fn head(&self) -> Result<u64, String> {
        let answer = self.ask("eth_blockNumber", &json!([])).await?;
        quantity(&answer["result"]).ok_or_else(|| format!("no head in {answer}"))
    }

    /// True or false at random.
    fn either(&self) -> bool {
        lock(&self.rng).random()
    }

    /// True for every other caller.
    fn every_other(&self) -> bool {
        self.turn.fetch_add(1, Ordering::Relaxed) % 2 == 1
    }
}

fn uri(url: &str) -> Uri {
    url.parse().expect("the URL of a node")
}

/// The calls of a batch, or the only one.
fn members(asked: &Value) -> &[Value] {
    asked.as_array().map_or(std::slice::from_ref(asked), Vec::as_slice)
}

/// A number as JSON-RPC writes it.
fn quantity(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

fn hex(number: u64) -> Value {
    Value::String(format!("{number:#x}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
