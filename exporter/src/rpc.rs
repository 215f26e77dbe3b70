//! One HTTP client for all endpoints of a network.

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A result.
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
    /// Requests by method, then by [`Outcome`] in the order of [`Outcome::ALL`].
    pub requests: Vec<(&'static str, [u64; Outcome::ALL.len()])>,
    /// HTTP exchanges by duration, not cumulative; the last has no upper bound.
    pub durations: [u64; DURATION_BUCKETS.len() + 1],
    /// Sum of the durations, seconds.
    pub duration_sum: f64,
}
