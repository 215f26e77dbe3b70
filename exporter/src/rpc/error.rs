//! Why a call has no result.
//!
//! The only place that reads a server's words, once, where the error is made; what follows is decided by
//! the [`ErrorKind`] alone. Words are hints all the same: nothing is taken for proven because of them.

use std::fmt;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};

use super::Outcome;
use crate::text;

/// A server's `Retry-After` is not followed beyond this.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// No more characters of a server's words are looked at.
const LONGEST_MESSAGE: usize = 10_000;

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What it means for whoever decides.
    pub kind: ErrorKind,
    /// For a person: one line, no URL.
    pub message: String,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// The ways in which a call can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No answer within the request time-out.
    Timeout,
    /// Name, connection or TLS failed: nothing was sent.
    Connect,
    /// The connection broke within the exchange.
    Broken,
    /// An HTTP status that carries no JSON-RPC answer, other than 429.
    Http(u16),
    /// HTTP 429, or a JSON-RPC error that means the same.
    RateLimited,
    /// The answer is larger than is ever read.
    TooLarge,
    /// `null` or no result: as a rule the block asked for is not there.
    Empty,
    /// No JSON-RPC, or an answer to something else.
    Unreadable,
    /// A JSON-RPC error.
    Rpc(Refusal),
}

/// What a JSON-RPC error seems to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The contract refused the call: it was executed, and has no such view.
    Reverted,
    /// The node has the block, but not the state of the contract at it any more.
    NoState,
    /// The replica that answered does not have the block yet.
    NoBlock,
    /// An internal error or a limit, by its code: these come and go.
    Internal,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// As it is counted.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Timeout => Outcome::Timeout,
            Self::Connect | Self::Broken => Outcome::Transport,
            Self::Http(_) => Outcome::Http,
            Self::RateLimited => Outcome::RateLimited,
            Self::TooLarge | Self::Empty | Self::Unreadable => Outcome::Invalid,
            // A contract that refuses a call was asked all right.
            Self::Rpc(Refusal::Reverted) => Outcome::Ok,
            Self::Rpc(_) => Outcome::RpcError,
        }
    }

    /// The endpoint failed as a whole, so that another call to it now would fail as well.
    pub fn is_endpoint_failure(self) -> bool {
        match self {
            Self::Timeout | Self::Connect | Self::Broken | Self::RateLimited => true,
            // Some providers refuse too wide a range with a status that finds fault with the request.
            Self::Http(status) => !matches!(status, 400 | 413 | 422),
            Self::TooLarge | Self::Empty | Self::Unreadable | Self::Rpc(_) => false,
        }
    }

    /// The replica that answered does not have the block; another one may.
    pub fn is_behind(self) -> bool {
        matches!(self, Self::Empty | Self::Rpc(Refusal::NoBlock))
    }
}

impl Error {
    /// An error of this kind; the words are made fit for a log line.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: one_line(&message.to_string()), retry_after: None }
    }

    /// A JSON-RPC error object.
    pub fn rpc(code: i64, message: &str) -> Self {
        let error = Self::new(ErrorKind::Unreadable, format_args!("error {code}: {message}"));
        Self { kind: kind_of(code, message), ..error }
    }

    /// An HTTP status that carries no JSON-RPC answer.
    pub fn http(status: StatusCode, headers: &HeaderMap) -> Self {
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        let kind = if limited { ErrorKind::RateLimited } else { ErrorKind::Http(status.as_u16()) };
        Self { retry_after: retry_after(headers), ..Self::new(kind, format_args!("HTTP {status}")) }
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

/// "Method not found"
const METHOD_NOT_FOUND: i64 = -32601;

/// What a server means by an error: providers share codes among meanings, so its words decide.
fn kind_of(code: i64, message: &str) -> ErrorKind {
    let words: String = message.chars().take(LONGEST_MESSAGE).collect::<String>().to_ascii_lowercase();
    let says = |list: &[&str]| list.iter().any(|word| words.contains(word));
    let has_word =
        |list: &[&str]| words.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| list.contains(&word));
    ErrorKind::Rpc(if is_rate_limit(code, &says) {
        return ErrorKind::RateLimited;
    } else if code == 3 || says(&["revert", "vm execution error", "invalid opcode", "out of gas"]) {
        Refusal::Reverted
    } else if says(&["missing trie node"])
        || has_word(&["state", "states", "pruned", "pruning", "archive", "archival"])
    {
        Refusal::NoState
    } else if code != METHOD_NOT_FOUND
        && says(&["not found", "unknown block", "beyond", "last accepted", "could not find block"])
    {
        Refusal::NoBlock
    } else if matches!(code, -32603 | -32005) {
        Refusal::Internal
    } else {
        Refusal::Other
    })
}

fn is_rate_limit(code: i64, says: &impl Fn(&[&str]) -> bool) -> bool {
    code == 429
        || says(&[
            "rate limit",
            "rate-limit",
            "ratelimit",
            "rate exceeded",
            "too many requests",
            "request limit",
            "throttl",
        ])
        || says(&["requests per", "per second", "/second", "/sec", "request count", "capacity", "quota"])
            && !says(&["block range", "blocks range", "results", "logs"])
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
    use super::ErrorKind::{RateLimited, Rpc};
    use super::*;

    #[test]
    fn a_server_s_words_have_one_meaning() {
        for (code, message, kind) in [
            (429, "Your app has exceeded its compute units per second capacity.", RateLimited),
            (-32005, "daily request count exceeded, request rate limited", RateLimited),
            (-32007, "50/second request limit reached - reduce calls per second", RateLimited),
            (-32000, "Too Many Requests", RateLimited),
            (-32005, "project ID request rate exceeded", RateLimited),
            (-32005, "query returned more than 10000 results", Rpc(Refusal::Internal)),
            (-32005, "limit exceeded", Rpc(Refusal::Internal)),
            (-32603, "internal error", Rpc(Refusal::Internal)),
            (-32603, "Internal Error - canceling statement due to statement timeout", Rpc(Refusal::Internal)),
            (-32600, "You can make eth_getLogs requests with up to a 10 block range.", Rpc(Refusal::Other)),
            (-32602, "block range limit exceeded", Rpc(Refusal::Other)),
            (-32614, "eth_getLogs is limited to a 10,000 range", Rpc(Refusal::Other)),
            (35, "ranges over 10000 blocks are not supported on freetier", Rpc(Refusal::Other)),
            (-32000, "execution aborted (timeout = 5s)", Rpc(Refusal::Other)),
            (-32602, "BlockOutOfRangeError: block height is 4016 but requested was 0", Rpc(Refusal::Other)),
            (-32601, "the method eth_call was not found", Rpc(Refusal::Other)),
            (-32000, "header not found", Rpc(Refusal::NoBlock)),
            (-32602, "block range extends beyond current head block", Rpc(Refusal::NoBlock)),
            (-32000, "missing trie node 7c2b0d (path ) is not available, not found", Rpc(Refusal::NoState)),
            (-32603, "historical state is not available", Rpc(Refusal::NoState)),
            (-32002, "No state available for block 0x12", Rpc(Refusal::NoState)),
            (4444, "pruned history unavailable", Rpc(Refusal::NoState)),
            (3, "execution reverted", Rpc(Refusal::Reverted)),
            (-32000, "execution reverted: no such view", Rpc(Refusal::Reverted)),
        ] {
            assert_eq!(Error::rpc(code, message).kind, kind, "{message}");
        }
    }

    #[test]
    fn every_kind_is_counted_and_may_mean_that_the_endpoint_failed() {
        for (kind, outcome, endpoint, behind) in [
            (ErrorKind::Timeout, Outcome::Timeout, true, false),
            (ErrorKind::Connect, Outcome::Transport, true, false),
            (ErrorKind::Broken, Outcome::Transport, true, false),
            (ErrorKind::Http(502), Outcome::Http, true, false),
            (ErrorKind::Http(413), Outcome::Http, false, false),
            (ErrorKind::RateLimited, Outcome::RateLimited, true, false),
            (ErrorKind::TooLarge, Outcome::Invalid, false, false),
            (ErrorKind::Empty, Outcome::Invalid, false, true),
            (ErrorKind::Unreadable, Outcome::Invalid, false, false),
            (Rpc(Refusal::Reverted), Outcome::Ok, false, false),
            (Rpc(Refusal::NoState), Outcome::RpcError, false, false),
            (Rpc(Refusal::NoBlock), Outcome::RpcError, false, true),
            (Rpc(Refusal::Internal), Outcome::RpcError, false, false),
            (Rpc(Refusal::Other), Outcome::RpcError, false, false),
        ] {
            let found = (kind.outcome(), kind.is_endpoint_failure(), kind.is_behind());
            assert_eq!(found, (outcome, endpoint, behind), "{kind:?}");
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
