//! A stand-in for the exporter that serves whatever series a test writes down, and changes them when it says so.
//!
//! Counts, times and gauges go on by the clock between two changes, as those of a real exporter would. It follows no chain,
//! checks nothing of what it serves, and answers every path alike.

pub mod healthy;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How a series goes on from the moment it is set. Times are those of the stack, which may run faster than the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// This value.
    Is(f64),
    /// What it was, and this much more: a counter that steps.
    By(f64),
    /// What it was, and whole ones as they come, one every so often.
    Every(Duration),
    /// What it was, and this many every so often, as where blocks become final in steps.
    Step(f64, Duration),
    /// What it was, and one at each of these times, in order.
    At(&'static [Duration]),
    /// The time so long ago, always: a timestamp that keeps up.
    Ago(Duration),
    /// The time so long ahead, always.
    Ahead(Duration),
    /// What it was, for good: a timestamp that stands still.
    Frozen,
    /// Not exposed.
    Absent,
}

/// The stand-in; ends when dropped.
pub struct Scripted {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

struct State {
    series: BTreeMap<String, Running>,
    speed: f64,
    down: bool,
}

struct Running {
    value: Value,
    since: Instant,
    base: f64,
}

impl Running {
    /// At this time of the clock, the same for all series of a scrape.
    fn now(&self, clock: f64, speed: f64) -> Option<f64> {
        let passed = self.since.elapsed().mul_f64(speed);
        let times = |every: Duration| (passed.as_secs_f64() / every.as_secs_f64()).floor();
        match self.value {
            Value::Is(value) => Some(value),
            Value::By(more) => Some(self.base + more),
            Value::Every(every) => Some(self.base + times(every)),
            Value::Step(many, every) => Some(self.base + many * times(every)),
            Value::At(arrivals) => Some(self.base + arrivals.partition_point(|at| *at <= passed) as f64),
            Value::Ago(ago) => Some(clock - ago.as_secs_f64() / speed),
            Value::Ahead(ahead) => Some(clock + ahead.as_secs_f64() / speed),
            Value::Frozen => Some(self.base),
            Value::Absent => None,
        }
    }
}

impl Scripted {
    /// On a free port of the loopback, without a series, for a stack that is so many times as fast as the clock.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(speed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = State { series: BTreeMap::new(), speed: speed as f64, down: false };
        let state = Arc::new(Mutex::new(state));
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes these series, all in the same scrape. A counter goes on from where it is.
    pub fn set<S: Into<String>>(&self, changes: impl IntoIterator<Item = (S, Value)>) {
        let mut state = self.lock();
        let speed = state.speed;
        for (key, value) in changes {
            let key = key.into();
            let base = state.series.get(&key).and_then(|it| it.now(clock(), speed)).unwrap_or(0.0);
            state.series.insert(key, Running { value, since: Instant::now(), base });
        }
    }

    /// Answers no scrape any more, or does again.
    pub fn down(&self, down: bool) {
        self.lock().down = down;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |_| {
                let reply = reply(&state.lock().unwrap_or_else(PoisonError::into_inner));
                async { Ok::<_, Infallible>(reply) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // A scraper that goes away is no matter.
            _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn reply(state: &State) -> Response<Full<Bytes>> {
    let mut text = String::new();
    let clock = clock();
    for (key, value) in
        state.series.iter().filter_map(|(key, running)| Some((key, running.now(clock, state.speed)?)))
    {
        // Writing to a string cannot fail.
        _ = writeln!(text, "{key} {value}");
    }
    let mut response = Response::new(Full::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    if state.down {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
