//! Chains on a socket, driven by hand or by a clock.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::chain::{Chain, Params};
use super::contract::{Call, Revert};
use super::node;

/// Larger requests are refused.
const MAX_REQUEST_BYTES: usize = 16 << 20;

/// A chain that answers on a socket. Its blocks come by hand, or from [`Sim::run`]. Gone when dropped.
pub struct Sim {
    chain: Shared,
    url: String,
    clock: Option<JoinHandle<()>>,
    /// Ends with the last chain that it serves.
    _server: Arc<Server>,
}

type Shared = Arc<RwLock<Chain>>;

/// Path of each chain on one socket, with its slash, or [`ANY`].
type Routes = Arc<[(String, Shared)]>;

/// Every path leads to the chain, also one with a key in it.
const ANY: &str = "";

struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sim {
    /// An empty chain on a free port of the loopback, under every path.
    pub async fn start(params: Params) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let chain = Arc::new(RwLock::new(Chain::new(params)));
        let routes = Arc::from([(ANY.to_owned(), Arc::clone(&chain))]);
        let server = Arc::new(Server(tokio::spawn(accept(listener, routes))));
        Ok(Self { chain, url, clock: None, _server: server })
    }

    /// Puts chains, with whatever history they have, on one socket, each under its name as the path.
    pub fn serve(listener: TcpListener, chains: Vec<(String, Chain)>) -> io::Result<Vec<Self>> {
        let address = listener.local_addr()?;
        let routes: Routes = chains
            .into_iter()
            .map(|(name, chain)| (format!("/{name}"), Arc::new(RwLock::new(chain))))
            .collect();
        let server = Arc::new(Server(tokio::spawn(accept(listener, Arc::clone(&routes)))));
        let sim = |(path, chain): &(String, Shared)| Self {
            chain: Arc::clone(chain),
            url: format!("http://{address}{path}"),
            clock: None,
            _server: Arc::clone(&server),
        };
        Ok(routes.iter().map(sim).collect())
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The chain, to look at; it stands still until the guard is dropped.
    pub fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Height of the newest block.
    pub fn head(&self) -> u64 {
        self.chain().head()
    }

    /// Adds so many blocks and returns the new height.
    pub fn advance(&self, blocks: u64) -> u64 {
        let mut chain = write(&self.chain);
        chain.advance(blocks);
        chain.head()
    }

    /// Replaces the last `depth` blocks with as many others; see [`Chain::reorg`].
    pub fn reorg(&self, depth: u64) {
        write(&self.chain).reorg(depth);
    }

    /// Adds a block that starts with this call; see [`Chain::call`].
    pub fn call(&self, call: Call) -> Result<(), Revert> {
        write(&self.chain).call(call)
    }

    /// Adds a block that starts with these calls; see [`Chain::call_all`].
    pub fn call_all(&self, calls: Vec<Call>) -> Result<(), Revert> {
        write(&self.chain).call_all(calls)
    }

    /// From now on blocks come by themselves, `speed` times as fast as their timestamps say.
    pub fn run(&mut self, speed: f64) {
        self.halt();
        self.clock = Some(tokio::spawn(tick(Arc::clone(&self.chain), speed)));
    }

    /// No more blocks come by themselves. When they come again, their times go on where they stopped.
    pub fn halt(&mut self) {
        if let Some(clock) = self.clock.take() {
            clock.abort();
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.halt();
    }
}

fn write(chain: &RwLock<Chain>) -> RwLockWriteGuard<'_, Chain> {
    chain.write().unwrap_or_else(PoisonError::into_inner)
}

async fn tick(chain: Shared, speed: f64) {
    let block_time = write(&chain).params().block_time.div_f64(speed);
    let (started, first) = (Instant::now(), write(&chain).head());
    // Many small blocks at once rather than a timer faster than anybody looks.
    let mut interval = tokio::time::interval(block_time.max(Duration::from_millis(20)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        let blocks = started.elapsed().as_secs_f64() / block_time.as_secs_f64();
        write(&chain).advance_to(first + blocks as u64);
    }
}

async fn accept(listener: TcpListener, routes: Routes) {
    // Dropping the set ends the connections with the server.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that is gone before it is taken is nobody's loss.
                let Ok((stream, _)) = accepted else { continue };
                // Answers are small and the client waits for each of them.
                let _ = stream.set_nodelay(true);
                let routes = Arc::clone(&routes);
                connections.spawn(async move {
                    let service = service_fn(move |request| respond(request, Arc::clone(&routes)));
                    // What goes wrong on a connection is the client's to notice.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn respond(request: Request<Incoming>, routes: Routes) -> Result<Response<Full<Bytes>>, Infallible> {
    let Some((_, chain)) = routes.iter().find(|(path, _)| path == ANY || path == request.uri().path()) else {
        return Ok(plain(StatusCode::NOT_FOUND, "no such chain\n"));
    };
    if request.method() != Method::POST {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "JSON-RPC by POST only\n"));
    }
    let Ok(body) = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "request too large or broken off\n"));
    };
    let answer = node::answer(&chain.read().unwrap_or_else(PoisonError::into_inner), &body.to_bytes());
    let mut response = Response::new(Full::from(answer));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
