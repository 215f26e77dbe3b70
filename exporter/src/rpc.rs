//! JSON-RPC over one HTTP client for all endpoints of a network: typed outcomes, deadlines, a size
//! limit, batches, back-off and counts.
//!
//! [`Endpoint`] is also a `web3` transport, so web3's `Eth` and its types ride on it. Never knows the
//! contract, and never puts more of a URL into an error than scheme, host and port.

mod back_off;
mod endpoint;
mod error;
mod http;
mod pool;
mod reply;
mod web3_transport;

use std::time::Duration;

use jsonrpc_core::{Call, Value};
use serde_json::value::RawValue;

pub use endpoint::Endpoint;
pub use error::Error;
pub use pool::Pool;
pub use web3_transport::Node;

/// A JSON result as it came, not yet parsed.
pub type Raw = Box<RawValue>;

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

/// Every method that is ever called, so that the `method` label has a fixed set of values.
const METHODS: [&str; 6] =
    ["eth_blockNumber", "eth_call", "eth_chainId", "eth_getBlockByNumber", "eth_getCode", "eth_getLogs"];

/// Upper bounds of the request duration histogram, seconds; a last bucket without a bound follows.
pub const DURATION_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What became of the requests to one endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointStats {
    /// Requests by method, then by [`Outcome`] in the order of [`Outcome::ALL`].
    pub requests: Vec<(&'static str, [u64; Outcome::ALL.len()])>,
    /// HTTP exchanges by duration, not cumulative; the last has no upper bound.
    pub durations: [u64; DURATION_BUCKETS.len() + 1],
    /// Sum of the durations, seconds.
    pub duration_sum: f64,
}

impl EndpointStats {
    fn count(&mut self, call: &Call, outcome: Outcome) {
        let method = METHODS.into_iter().find(|known| *known == method_of(call)).unwrap_or("other");
        let place = self.requests.iter().position(|(known, _)| *known == method).unwrap_or_else(|| {
            self.requests.push((method, [0; Outcome::ALL.len()]));
            self.requests.len() - 1
        });
        self.requests[place].1[outcome as usize] += 1;
    }

    fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound);
        self.durations[bucket.unwrap_or(DURATION_BUCKETS.len())] += 1;
        self.duration_sum += seconds;
    }
}

/// A call that is yet without an id; the endpoint numbers it when it is sent.
pub fn call(method: &str, params: Vec<Value>) -> Call {
    web3::helpers::build_request(0, method, params)
}

fn method_of(call: &Call) -> &str {
    match call {
        Call::MethodCall(call) => &call.method,
        Call::Notification(_) | Call::Invalid { .. } => "",
    }
}
