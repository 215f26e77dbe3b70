//! Why a request has no result, and which of the many wordings mean a rate limit.

use std::fmt;
use std::time::{Duration, SystemTime};

use hyper::header::{HeaderMap, RETRY_AFTER};

use super::Outcome;
use crate::text;

/// A server's `Retry-After` is not followed beyond this.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// No more characters of a server's words are looked at.
const LONGEST_MESSAGE: usize = 10_000;

/// What is said of an answer without a result: as a rule it was asked for a block that is not there.
pub(super) const NO_RESULT: &str = "null or no result";

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What became of it; never [`Outcome::Ok`].
    pub outcome: Outcome,
    /// For a person: one line, no URL.
    pub message: String,
    /// The server's code, of a JSON-RPC error.
    pub code: Option<i64>,
    /// The status, of an HTTP error.
    pub status: Option<hyper::StatusCode>,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error of this kind; the words are made fit for a log line.
    pub fn new(outcome: Outcome, message: impl fmt::Display) -> Self {
        Self { outcome, message: one_line(&message.to_string()), code: None, status: None, retry_after: None }
    }

    /// A JSON-RPC error object.
    pub fn rpc(code: i64, message: &str) -> Self {
        Self::told(code, format_args!("error {code}: {message}"))
    }

    /// An error with this code and these words.
    pub fn told(code: i64, message: impl fmt::Display) -> Self {
        let mut error = Self { code: Some(code), ..Self::new(Outcome::RpcError, message) };
        if is_rate_limit(code, &error.message) {
            error.outcome = Outcome::RateLimited;
        }
        error
    }

    /// An HTTP status that carries no JSON-RPC answer.
    pub fn http(status: hyper::StatusCode, headers: &HeaderMap) -> Self {
        let limited = status == hyper::StatusCode::TOO_MANY_REQUESTS;
        let outcome = if limited { Outcome::RateLimited } else { Outcome::Http };
        Self {
            status: Some(status),
            retry_after: retry_after(headers),
            ..Self::new(outcome, format_args!("HTTP {status}"))
        }
    }

    /// The endpoint failed as a whole, so that another call to it now would fail as well.
    pub fn is_endpoint_failure(&self) -> bool {
        match self.outcome {
            Outcome::Timeout | Outcome::Transport | Outcome::RateLimited => true,
            // Some providers refuse too wide a range with a status that finds fault with the request.
            Outcome::Http => !self.status.is_some_and(|status| matches!(status.as_u16(), 400 | 413 | 422)),
            Outcome::Ok | Outcome::RpcError | Outcome::Invalid => false,
        }
    }

    /// The replica that answered does not have the block yet; another one may.
    pub fn is_behind(&self) -> bool {
        let missing = ["not found", "unknown block", "beyond", "last accepted", "could not find block"];
        match self.outcome {
            Outcome::Invalid => self.message == NO_RESULT,
            Outcome::RpcError => !self.names_state() && self.says(&missing),
            _ => false,
        }
    }

    /// The node has the block, but not the state of the contract at it any more, and says so.
    pub fn means_no_state(&self) -> bool {
        self.outcome == Outcome::RpcError && !self.is_revert() && self.names_state()
    }

    /// It may mean that in words of its own, if it goes on. Some errors come and go whatever they say: rate
    /// limits, inner errors, replicas that lag.
    pub fn may_mean_no_state(&self) -> bool {
        let passes = matches!(self.code, Some(-32005 | -32603)) || self.is_behind();
        self.means_no_state() || (self.outcome == Outcome::RpcError && !self.is_revert() && !passes)
    }

    /// Its words are about state that is not kept.
    pub fn names_state(&self) -> bool {
        self.says(&["missing trie node", "state", "pruned", "pruning", "archive"])
    }

    /// The call itself was executed and refused by the contract: a view that does not exist.
    pub fn is_revert(&self) -> bool {
        self.outcome == Outcome::RpcError
            && (self.code == Some(3)
                || self.says(&["revert", "vm execution error", "invalid opcode", "out of gas"]))
    }

    fn says(&self, words: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// How long `Retry-After` asks to wait, in either of its forms; a past date asks for nothing.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).ok()?,
    };
    Some(wait.min(LONGEST_WAIT))
}

/// Codes are shared between rate limits and refused ranges, so the words decide.
fn is_rate_limit(code: i64, message: &str) -> bool {
    let words = message.to_ascii_lowercase();
    let has = |list: &[&str]| list.iter().any(|word| words.contains(word));
    code == 429
        || has(&[
            "rate limit",
            "rate-limit",
            "ratelimit",
            "rate exceeded",
            "too many requests",
            "request limit",
            "throttl",
        ])
        || has(&["requests per", "per second", "/second", "/sec", "request count", "capacity", "quota"])
            && !has(&["block range", "blocks range", "results", "logs"])
}

fn one_line(text: &str) -> String {
    let text: String = text::one_line(text).take(LONGEST_MESSAGE).collect();
    // A server may quote the URL it was asked at, key and all.
    text.split(' ')
        .map(|word| if word.contains("://") { "<url>" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_is_told_from_a_refused_range() {
        for (code, message) in [
            (429, "Your app has exceeded its compute units per second capacity."),
            (-32005, "daily request count exceeded, request rate limited"),
            (-32007, "50/second request limit reached - reduce calls per second"),
            (-32000, "Too Many Requests"),
            (-32005, "project ID request rate exceeded"),
        ] {
            assert_eq!(Error::rpc(code, message).outcome, Outcome::RateLimited, "{message}");
        }
        for (code, message) in [
            (-32005, "query returned more than 10000 results"),
            (-32600, "You can make eth_getLogs requests with up to a 10 block range."),
            (-32602, "block range limit exceeded"),
            (-32614, "eth_getLogs is limited to a 10,000 range"),
            (35, "ranges over 10000 blocks are not supported on freetier"),
            (-32000, "header not found"),
        ] {
            assert_eq!(Error::rpc(code, message).outcome, Outcome::RpcError, "{message}");
        }
    }

    #[test]
    fn state_that_is_gone_is_told_from_errors_that_pass() {
        for (code, message) in [
            (-32000, "missing trie node 7c2b0d (path ) state 0x7c2b0d is not available, not found"),
            (-32603, "historical state is not available"),
            (-32002, "No state available for block 0x12"),
            (4444, "pruned history unavailable"),
        ] {
            let error = Error::rpc(code, message);
            assert!(error.means_no_state() && error.may_mean_no_state() && !error.is_behind(), "{message}");
        }
        for (code, message) in [
            (-32602, "BlockOutOfRangeError: block height is 4016 but requested was 0"),
            (-32000, "execution aborted (timeout = 5s)"),
        ] {
            let error = Error::rpc(code, message);
            assert!(!error.means_no_state() && error.may_mean_no_state(), "{message}");
        }
        for (code, message) in [
            (-32005, "limit exceeded"),
            (-32603, "internal error"),
            (-32000, "header not found"),
            (-32005, "project ID request rate exceeded"),
            (3, "execution reverted"),
        ] {
            let error = Error::rpc(code, message);
            assert!(!error.means_no_state() && !error.may_mean_no_state(), "{message}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let wait = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("99999"), Some(LONGEST_WAIT));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), None);
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let seconds = wait(&date).unwrap().as_secs();
        assert!((58..=60).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_message_is_one_line_without_urls() {
        let error = Error::rpc(1, "bad\nrequest to https://node.example/v2/KEY was refused");
        assert_eq!(error.message, "error 1: bad request to <url> was refused");
    }

    proptest::proptest! {
        #[test]
        fn any_words_are_taken(code: i64, message in ".*") {
            let error = Error::rpc(code, &message);
            proptest::prop_assert!(!error.message.contains('\n'));
        }
    }
}
