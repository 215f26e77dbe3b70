//! One endpoint: sends calls, in a batch where batches work, and gives each its own outcome.
//!
//! Never retries and never waits for more than the request time-out an exchange.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonrpc_core::{Call, Id};

use super::reply::{batch_replies, is_rpc, single_reply};
use super::{EndpointStats, Error, Outcome, Raw};
use crate::config;

/// An answer is cut off beyond this; the range that caused it is then made smaller.
const LARGEST_ANSWER: usize = 16 << 20;

/// An endpoint that refused a batch is given another chance after this long.
const BATCH_RETRY: Duration = Duration::from_secs(600);

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A server's words are cut to this many characters before they reach a log.
const LONGEST_MESSAGE: usize = 200;

/// The same calls are sent this often when a replica does not have their blocks.
const TRIES: u32 = 2;

/// The first back-off after a failure; it doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);

/// Longer than this an endpoint is never left alone, so that it is back soon after it is well.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(16);

/// One endpoint of a network. Cheap to share; all state is behind short locks.
#[derive(Debug)]
pub struct Endpoint {
    /// Its place in the configuration's list, from 0.
    pub place: usize,
    network: String,
    url: config::Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    client: HttpClient,
    stats: Mutex<EndpointStats>,
    singles_until: Mutex<Option<Instant>>,
    back_off: Mutex<BackOff>,
}

#[derive(Debug, Default)]
struct BackOff {
    /// Failures since the last success.
    failures: u32,
    until: Option<Instant>,
}

/// A client for any number of endpoints: HTTP/1 and 2, TLS with the roots built in, keep-alive.
pub(super) fn http_client() -> HttpClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let https = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build(https)
}

impl Endpoint {
    /// The endpoint at this place of the list. Headers that HTTP does not allow were refused by `config`.
    pub fn new(place: usize, network: &config::Network, client: HttpClient) -> Self {
        let endpoint = &network.endpoints[place];
        let headers = endpoint.headers.iter().filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        });
        Self {
            place,
            network: network.name.clone(),
            url: endpoint.url.clone(),
            headers: headers.collect(),
            timeout: network.request_timeout,
            client,
            stats: Mutex::default(),
            singles_until: Mutex::default(),
            back_off: Mutex::default(),
        }
    }

    /// Its place as people count, from 1: the `endpoint` label.
    pub fn number(&self) -> usize {
        self.place + 1
    }

    /// Scheme, host and port: all of the URL that may be shown.
    pub fn shown(&self) -> &config::Url {
        &self.url
    }

    /// What became of the requests so far.
    pub fn stats(&self) -> EndpointStats {
        locked(&self.stats).clone()
    }

    /// Whether calls sent together are answered by one exchange, and so by one replica.
    pub fn batches(&self) -> bool {
        locked(&self.singles_until).is_none_or(|until| Instant::now() >= until)
    }

    /// Its last exchange did not fail.
    pub fn is_well(&self) -> bool {
        locked(&self.back_off).failures == 0
    }

    /// Until when it is to be left alone after failures; `None` when it need not be.
    pub fn backs_off_until(&self) -> Option<Instant> {
        locked(&self.back_off).until.filter(|until| *until > Instant::now())
    }

    /// Leaves the endpoint alone for a while, longer with every failure in a row, or as long as it asks.
    pub fn fail(&self, error: &Error) {
        let mut back_off = locked(&self.back_off);
        let wait = FIRST_BACK_OFF.saturating_mul(1 << back_off.failures.min(10)).min(LONGEST_BACK_OFF);
        // The jitter keeps many exporters from coming back at the same moment.
        let wait = wait.mul_f64(0.75 + fastrand::f64() / 2.0);
        let wait = error.retry_after.map_or(wait, |asked| asked.max(wait));
        back_off.until = Some(Instant::now() + wait);
        back_off.failures = back_off.failures.saturating_add(1);
        if back_off.failures == 1 {
            tracing::warn!(network = %self.network, endpoint = self.number(), url = %self.url, error = %error.message,
                "endpoint failed");
        } else {
            tracing::debug!(network = %self.network, endpoint = self.number(), url = %self.url,
                error = %error.message, failures = back_off.failures, "endpoint failed again");
        }
    }

    fn succeed(&self) {
        let mut back_off = locked(&self.back_off);
        if back_off.failures > 0 {
            tracing::info!(network = %self.network, endpoint = self.number(), url = %self.url,
                failures = back_off.failures, "endpoint is well again");
            *back_off = BackOff::default();
        }
    }

    /// Sends calls together: one outcome each, in their order.
    ///
    /// Where the endpoint does not do batches they go one after the other, up to the first failure of
    /// the endpoint itself; the rest then fail alike without being sent.
    pub async fn send(&self, mut calls: Vec<Call>) -> Vec<Result<Raw, Error>> {
        for (id, call) in (1..).zip(calls.iter_mut()) {
            if let Call::MethodCall(call) = call {
                call.id = Id::Num(id);
            }
        }
        if calls.len() < 2 || !self.batches() {
            return self.one_by_one(&calls).await;
        }
        let mut results = self.batch(&calls).await;
        for _ in 1..TRIES {
            if !results.iter().any(is_behind) || !self.batches() {
                return results;
            }
            results = self.batch(&calls).await;
        }
        if results.iter().any(is_behind) {
            self.give_up_batches("parts of a batch are answered by replicas that lag");
        }
        results
    }

    async fn batch(&self, calls: &[Call]) -> Vec<Result<Raw, Error>> {
        let answer = self.exchange(calls).await;
        match answer.and_then(|body| batch_replies(&body, calls.len())) {
            Ok(results) => self.counted(calls, results),
            Err(error) => match error.outcome {
                Outcome::Http | Outcome::Invalid | Outcome::RpcError => {
                    self.without_batch(calls, error).await
                }
                _ => self.counted(calls, calls.iter().map(|_| Err(error.clone())).collect()),
            },
        }
    }

    /// Sends one call.
    pub async fn send_one(&self, call: Call) -> Result<Raw, Error> {
        let nothing = Error::new(Outcome::Invalid, "no answer");
        self.send(vec![call]).await.pop().unwrap_or(Err(nothing))
    }

    /// A batch was refused. Batches are given up only if the same calls pass one by one, for otherwise
    /// the endpoint is ill, and that says nothing about batches.
    async fn without_batch(&self, calls: &[Call], refusal: Error) -> Vec<Result<Raw, Error>> {
        let results = self.one_by_one(calls).await;
        let passed = |result: &Result<Raw, Error>| {
            result.as_ref().err().is_none_or(|error| error.outcome == Outcome::RpcError)
        };
        if results.iter().all(passed) {
            self.give_up_batches(&self.redacted(refusal).message);
        }
        results
    }

    fn give_up_batches(&self, why: &str) {
        *locked(&self.singles_until) = Some(Instant::now() + BATCH_RETRY);
        tracing::info!(network = %self.network, endpoint = self.number(), url = %self.url, why,
            "the endpoint does not answer batches as it should: calls go to it one by one");
    }

    async fn one_by_one(&self, calls: &[Call]) -> Vec<Result<Raw, Error>> {
        let mut results = Vec::with_capacity(calls.len());
        for mut call in calls.iter().cloned() {
            if let Call::MethodCall(call) = &mut call {
                call.id = Id::Num(1);
            }
            let call = std::slice::from_ref(&call);
            let mut result = self.single(call).await;
            for _ in 1..TRIES {
                if result.iter().any(is_behind) {
                    result = self.single(call).await;
                }
            }
            results.extend(result);
            if let Some(Err(error)) = results.last()
                && error.is_endpoint_failure()
            {
                let error = error.clone();
                results.resize_with(calls.len(), || Err(error.clone()));
                break;
            }
        }
        results
    }

    async fn single(&self, call: &[Call]) -> Vec<Result<Raw, Error>> {
        let answer = self.exchange(call).await;
        self.counted(call, vec![answer.and_then(|body| single_reply(&body))])
    }

    /// One HTTP exchange, a JSON array where there are several calls.
    async fn exchange(&self, calls: &[Call]) -> Result<Bytes, Error> {
        let body = match calls {
            [call] => serde_json::to_vec(call),
            calls => serde_json::to_vec(calls),
        };
        let body = body.map_err(|error| Error::new(Outcome::Invalid, error))?;
        let start = Instant::now();
        let answer = tokio::time::timeout(self.timeout, self.post(body)).await;
        locked(&self.stats).observe(start.elapsed());
        answer.unwrap_or_else(|_| {
            Err(Error::new(Outcome::Timeout, format_args!("no answer within {:?}", self.timeout)))
        })
    }

    async fn post(&self, body: Vec<u8>) -> Result<Bytes, Error> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.expose().clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().extend(self.headers.iter().cloned());
        let response = self.client.request(request).await.map_err(|error| connection_error(&error))?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, LARGEST_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let limit = LARGEST_ANSWER >> 20;
                return Err(Error::new(Outcome::Invalid, format_args!("answer of more than {limit} MiB")));
            }
            Err(_) => return Err(Error::new(Outcome::Transport, "connection broke within the answer")),
        };
        if head.status == StatusCode::OK || (head.status != StatusCode::TOO_MANY_REQUESTS && is_rpc(&body)) {
            Ok(body)
        } else {
            Err(Error::http(head.status, &head.headers))
        }
    }

    fn counted(&self, calls: &[Call], mut results: Vec<Result<Raw, Error>>) -> Vec<Result<Raw, Error>> {
        for (call, result) in calls.iter().zip(&mut results) {
            // A contract that refuses a call was asked all right.
            let failed = result.as_ref().err().filter(|error| !error.is_revert());
            locked(&self.stats).count(call, failed.map_or(Outcome::Ok, |error| error.outcome));
            if let Err(error) = result {
                *error = self.redacted(error.clone());
            }
        }
        match results.iter().filter_map(|r| r.as_ref().err()).find(|error| error.is_endpoint_failure()) {
            Some(error) => self.fail(error),
            None if results.iter().any(Result::is_ok) => self.succeed(),
            None => {}
        }
        results
    }

    /// A server's words may repeat the key that it was asked with: the whole header, or what follows its
    /// scheme.
    fn redacted(&self, mut error: Error) -> Error {
        let headers = self.headers.iter().filter_map(|(_, value)| value.to_str().ok());
        let tokens = headers.clone().filter_map(|value| Some(value.rsplit_once(' ')?.1));
        for secret in self.url.secrets().chain(headers).chain(tokens) {
            error.message = error.message.replace(secret, "***");
        }
        // Not before: a cut through a key would leave a part of it that looks like none.
        error.message = error.message.chars().take(LONGEST_MESSAGE).collect();
        error
    }
}

/// Behind a balancer the next answer may come from a replica that has the block.
fn is_behind(result: &Result<Raw, Error>) -> bool {
    result.as_ref().is_err_and(Error::is_behind)
}

/// The innermost cause; hyper's own words never hold the URL.
fn connection_error(error: &hyper_util::client::legacy::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let step = if error.is_connect() { "cannot connect" } else { "request failed" };
    Error::new(Outcome::Transport, format_args!("{step}: {cause}"))
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
