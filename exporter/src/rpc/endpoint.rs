//! One endpoint: what it is, what was learned of it as a server of calls, and what is logged about that.
//!
//! How calls are sent stands in `send`. Never knows what the calls are about.

mod send;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::back_off::{BackOff, News, State};
use super::batching::Batching;
use super::http::{HttpClient, HttpEndpoint};
use super::{EndpointStats, Error, Outcome};
use crate::config;
use crate::plan::Sizer;
pub use send::Batched;

/// No more calls than this are put into one exchange.
const CALLS_AT_ONCE: u64 = 100;

/// One endpoint of a network. Cheap to share; all that changes is behind one short lock.
#[derive(Debug)]
pub struct Endpoint {
    /// Its index in the configuration's list, from 0.
    pub index: usize,
    network: String,
    http: HttpEndpoint,
    timeout: Duration,
    memory: Mutex<Memory>,
}

/// What was learned of an endpoint as one that answers calls.
#[derive(Debug)]
struct Memory {
    stats: EndpointStats,
    /// How its last failure was logged.
    failure: Option<String>,
    back_off: BackOff,
    batching: Batching,
    /// How many calls it answers in one exchange.
    calls: Sizer,
}

impl Endpoint {
    /// The endpoint at this index of the list.
    pub(super) fn new(index: usize, network: &config::Network, client: HttpClient) -> Self {
        let memory = Memory {
            stats: EndpointStats::default(),
            failure: None,
            back_off: BackOff::default(),
            batching: Batching::default(),
            calls: Sizer::new(CALLS_AT_ONCE),
        };
        Self {
            index,
            network: network.name.clone(),
            http: HttpEndpoint::new(&network.endpoints[index], client),
            timeout: network.request_timeout,
            memory: Mutex::new(memory),
        }
    }

    /// Its number in the list, from 1: the `endpoint` label.
    pub fn number(&self) -> usize {
        self.index + 1
    }

    /// Prints as scheme, host and port: all of the URL that may be shown.
    pub fn url(&self) -> &config::Url {
        self.http.url()
    }

    /// What became of the requests so far.
    pub fn stats(&self) -> EndpointStats {
        let memory = self.memory();
        let used = !memory.stats.requests.is_empty();
        let healthy = memory.back_off.is_healthy();
        let problem = memory.failure.clone().filter(|_| !healthy);
        EndpointStats { healthy: used.then_some(healthy), problem, ..memory.stats.clone() }
    }

    /// How many calls it refused for coming too fast.
    pub fn times_limited(&self) -> u64 {
        let memory = self.memory();
        memory.stats.requests.iter().map(|(_, outcomes)| outcomes[Outcome::RateLimited as usize]).sum()
    }

    /// Counts on top of these.
    pub fn go_on_from(&self, stats: EndpointStats) {
        self.memory().stats = stats;
    }

    /// Whether calls that are sent together are answered by one exchange, and so by one replica.
    pub fn batches(&self) -> bool {
        self.memory().batching.allows(Instant::now())
    }

    /// How many calls it answers in one exchange, as far as is known.
    pub fn calls_at_once(&self) -> u64 {
        self.memory().calls.size()
    }

    /// Its last exchange did not fail, nor its last use.
    pub fn is_healthy(&self) -> bool {
        self.memory().back_off.is_healthy()
    }

    /// Until when it is to be left alone after failures; `None` when it need not be.
    pub fn resting_until(&self) -> Option<Instant> {
        match self.memory().back_off.state(Instant::now()) {
            State::Resting { until } => Some(until),
            State::Healthy | State::OnTrial => None,
        }
    }

    /// A use of it came to nothing, though exchanges with it may have succeeded.
    pub fn record_unproductive(&self, why: &str) {
        let news = self.memory().back_off.record_unproductive(Instant::now());
        self.log_failure(news, why);
    }

    /// A use of it was completed, or got something done.
    pub fn record_completed(&self) {
        let news = self.memory().back_off.record_completed();
        self.log_recovery(news);
    }

    /// Calls that came to nothing in one exchange passed one by one.
    pub fn record_refused_batch(&self, calls: usize, why: &Error) {
        let given_up = self.memory().batching.refused(calls, Instant::now());
        self.log_batching(given_up, &why.message);
    }

    /// Once for a row of failures: one that goes on for days must not fill a disk.
    fn log_failure(&self, news: News, error: &str) {
        self.memory().failure = Some(error.to_owned());
        let (network, endpoint, url) = (&self.network, self.number(), self.url());
        if news == News::Failed {
            tracing::warn!(network, endpoint, %url, error, "endpoint failed");
        } else {
            tracing::debug!(network, endpoint, %url, error, "endpoint failed again");
        }
    }

    fn log_recovery(&self, news: News) {
        if let News::Recovered { failures } = news {
            tracing::info!(network = %self.network, endpoint = self.number(), url = %self.url(), failures,
                "endpoint recovered");
        }
    }

    fn log_batching(&self, given_up: Option<Duration>, why: &str) {
        if let Some(time) = given_up {
            tracing::info!(network = %self.network, endpoint = self.number(), url = %self.url(), why,
                retry_seconds = time.as_secs(), "endpoint does not answer batches: sending calls one by one");
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
