//! JSON-RPC over one HTTP client for all endpoints of a network: typed outcomes, deadlines, a size
//! limit, batches, retries, back-off and counts.
//!
//! An [`Error`] gets its [`ErrorKind`] where it is made; nobody reads its words afterwards. Never knows the
//! contract, and never puts more of a URL into an error than scheme, host and port.

mod back_off;
mod batching;
mod endpoint;
mod error;
mod http;
mod pool;
mod reply;
mod retry;

use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::native::Native;
pub use endpoint::{Batched, Endpoint};
pub use error::{Error, ErrorKind, Refusal};
pub use pool::{Check, Pool};

/// A JSON result as it came, not yet parsed.
pub type Raw = Box<RawValue>;

/// The result of a call, or why it has none.
pub type Answer = Result<Raw, Error>;

/// A JSON-RPC call; the endpoint numbers it when it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is called.
    pub method: Method,
    /// A JSON array.
    pub params: Value,
}

/// Every method that is ever called, which gives the `method` label a fixed set of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `eth_call`
    Call,
    /// `eth_chainId`
    ChainId,
    /// `eth_getBlockByNumber`
    GetBlockByNumber,
    /// `eth_getCode`
    GetCode,
    /// `eth_getLogs`
    GetLogs,
}

impl Method {
    /// Its name in JSON-RPC, and the value of the `method` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Call => "eth_call",
            Self::ChainId => "eth_chainId",
            Self::GetBlockByNumber => "eth_getBlockByNumber",
            Self::GetCode => "eth_getCode",
            Self::GetLogs => "eth_getLogs",
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A result, or the refusal of a call by the contract itself.
    Ok,
    /// No answer within the request time-out.
    Timeout,
    /// Name, connection or TLS failed, or the connection broke.
    Transport,
    /// An HTTP status other than 200 without a JSON-RPC answer.
    Http,
    /// HTTP 429, or a JSON-RPC error that means the same.
    RateLimited,
    /// A JSON-RPC error.
    RpcError,
    /// Not what was asked for: no JSON, a wrong id, a missing or null result, too large.
    Invalid,
}

impl Outcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Timeout,
        Self::Transport,
        Self::Http,
        Self::RateLimited,
        Self::RpcError,
        Self::Invalid,
    ];

    /// The value of the `outcome` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Timeout => "timeout",
            Self::Transport => "transport",
            Self::Http => "http",
            Self::RateLimited => "rate_limited",
            Self::RpcError => "rpc_error",
            Self::Invalid => "invalid",
        }
    }
}

/// Upper bounds of the request duration histogram, seconds; a last bucket without a bound follows.
pub const DURATION_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What became of the requests to one endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointStats {
    /// Its last use succeeded, and it is on the right chain; `None` before the first use.
    pub healthy: Option<bool>,
    /// Why it is not used, or only where no other is; without secrets.
    pub problem: Option<String>,
    /// Requests by method, then by [`Outcome`] in the order of [`Outcome::ALL`].
    pub requests: Vec<(&'static str, [u64; Outcome::ALL.len()])>,
    /// HTTP exchanges by duration, not cumulative; the last has no upper bound.
    pub durations: [u64; DURATION_BUCKETS.len() + 1],
    /// The same, finely.
    pub native_durations: Native,
    /// Sum of the durations, seconds.
    pub duration_sum: f64,
}

impl EndpointStats {
    fn count(&mut self, method: Method, outcome: Outcome) {
        let name = method.name();
        let index = self.requests.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.requests.push((name, [0; Outcome::ALL.len()]));
            self.requests.len() - 1
        });
        self.requests[index].1[outcome as usize] += 1;
    }

    fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound);
        self.durations[bucket.unwrap_or(DURATION_BUCKETS.len())] += 1;
        self.native_durations.observe_duration(duration);
        self.duration_sum += seconds;
    }
}
