//! One endpoint: sends calls, in a batch where batches work, and gives each its own outcome.
//!
//! Asks again only where a replica was behind or a batch refused; never waits for more than the request
//! time-out an exchange.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jsonrpc_core::{Call, Id};

use super::back_off::BackOff;
use super::http::{HttpClient, HttpEndpoint};
use super::reply::{batch_replies, single_reply};
use super::{EndpointStats, Error, Outcome, Raw, method_of};
use crate::config;

/// An endpoint that refused a batch is given another chance after this long.
const BATCH_RETRY: Duration = Duration::from_secs(600);

/// One endpoint of a network. Cheap to share; all state is behind short locks.
#[derive(Debug)]
pub struct Endpoint {
    /// Its place in the configuration's list, from 0.
    pub place: usize,
    network: String,
    http: HttpEndpoint,
    timeout: Duration,
    stats: Mutex<EndpointStats>,
    singles_until: Mutex<Option<Instant>>,
    back_off: Mutex<BackOff>,
}

impl Endpoint {
    /// The endpoint at this place of the list.
    pub fn new(place: usize, network: &config::Network, client: HttpClient) -> Self {
        Self {
            place,
            network: network.name.clone(),
            http: HttpEndpoint::new(&network.endpoints[place], client),
            timeout: network.request_timeout,
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
        self.http.url()
    }

    /// What became of the requests so far.
    pub fn stats(&self) -> EndpointStats {
        locked(&self.stats).clone()
    }

    /// Counts on top of these.
    pub fn go_on_from(&self, stats: EndpointStats) {
        *locked(&self.stats) = stats;
    }

    /// Whether calls sent together are answered by one exchange, and so by one replica.
    pub fn batches(&self) -> bool {
        locked(&self.singles_until).is_none_or(|until| Instant::now() >= until)
    }

    /// Its last exchange did not fail, nor its last use.
    pub fn is_well(&self) -> bool {
        locked(&self.back_off).is_well()
    }

    /// Until when it is to be left alone after failures; `None` when it need not be.
    pub fn backs_off_until(&self) -> Option<Instant> {
        locked(&self.back_off).until().filter(|until| *until > Instant::now())
    }

    /// It could not be used to the end, though exchanges with it may have succeeded.
    pub fn was_in_vain(&self, error: &Error) {
        let news = locked(&self.back_off).was_in_vain(Instant::now());
        self.log_failure(news, error);
    }

    /// It was used to the end.
    pub fn served(&self) {
        let over = locked(&self.back_off).served();
        self.log_recovery(over);
    }

    /// Once for a row of failures: one that goes on for days must not fill a disk.
    fn log_failure(&self, first: bool, error: &Error) {
        if first {
            tracing::warn!(network = %self.network, endpoint = self.number(), url = %self.http.url(), error = %error.message,
                "endpoint failed");
        } else {
            tracing::debug!(network = %self.network, endpoint = self.number(), url = %self.http.url(),
                error = %error.message, "endpoint failed again");
        }
    }

    fn log_recovery(&self, failures: Option<u32>) {
        if let Some(failures) = failures {
            tracing::info!(network = %self.network, endpoint = self.number(), url = %self.http.url(), failures,
                "endpoint is well again");
        }
    }

    /// Sends calls together: one outcome each, in their order.
    ///
    /// Where a replica did not have a block, that call and all after it are sent once more: calls for later
    /// blocks go after those for earlier ones, and what such a replica answers in part goes last.
    ///
    /// Where the endpoint does not do batches they go one after the other, up to the first failure of
    /// the endpoint itself; the rest then fail alike without being sent.
    pub async fn send(&self, calls: Vec<Call>) -> Vec<Result<Raw, Error>> {
        if calls.len() < 2 || !self.batches() {
            return self.one_by_one(&calls).await;
        }
        let mut results = self.batch(&calls).await;
        // Logs of one replica prove nothing beside the blocks of another.
        let first = match results.iter().position(is_behind) {
            Some(first) if !asks_for_logs(&calls[first]) => first,
            Some(first) if results[first].as_ref().is_err_and(|error| error.outcome == Outcome::RpcError) => {
                0
            }
            _ => return results,
        };
        let rest = &calls[first..];
        if !self.in_parts(rest, &results[first..]) && self.batches() {
            results.splice(first.., self.batch(rest).await);
        }
        // Logs are of no use but in one exchange with their blocks.
        if self.in_parts(rest, &results[first..]) && !rest.last().is_some_and(asks_for_logs) {
            results.splice(first.., self.one_by_one(rest).await);
        }
        results
    }

    /// Gives up batches where an answer follows one for which the replica was behind: it must be another
    /// replica's. Logs say nothing, as one that is behind answers with those that it has.
    fn in_parts(&self, calls: &[Call], results: &[Result<Raw, Error>]) -> bool {
        let answers = calls.iter().zip(results).filter(|(call, _)| !asks_for_logs(call));
        let parts =
            answers.map(|(_, result)| result).skip_while(|result| !is_behind(result)).any(Result::is_ok);
        if parts && self.batches() {
            self.give_up_batches("parts of a batch are answered by replicas that lag");
        }
        parts
    }

    async fn batch(&self, calls: &[Call]) -> Vec<Result<Raw, Error>> {
        if let [_] = calls {
            return self.single(calls).await;
        }
        let answer = self.exchange(calls).await;
        let answer = answer.and_then(|body| batch_replies(&body, calls.len()));
        let answer = answer.and_then(|results| refused_alike(&results).map_or(Ok(results), Err));
        match answer {
            Ok(results) => self.counted(calls, results),
            Err(error) => match error.outcome {
                Outcome::Http | Outcome::Invalid | Outcome::RpcError => {
                    calls.iter().for_each(|call| locked(&self.stats).count(call, error.outcome));
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
        if results.iter().all(passed) && results.iter().any(Result::is_ok) {
            self.give_up_batches(&self.http.redacted(refusal).message);
        }
        results
    }

    fn give_up_batches(&self, why: &str) {
        *locked(&self.singles_until) = Some(Instant::now() + BATCH_RETRY);
        tracing::info!(network = %self.network, endpoint = self.number(), url = %self.http.url(), why,
            "the endpoint does not answer batches as it should: calls go to it one by one");
    }

    async fn one_by_one(&self, calls: &[Call]) -> Vec<Result<Raw, Error>> {
        let mut results = Vec::with_capacity(calls.len());
        for call in calls.chunks(1) {
            let mut result = self.single(call).await;
            if result.iter().any(is_behind) {
                result = self.single(call).await;
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
        let mut calls = calls.to_vec();
        for (id, call) in (1..).zip(calls.iter_mut()) {
            if let Call::MethodCall(call) = call {
                call.id = Id::Num(id);
            }
        }
        let body = match &calls[..] {
            [call] => serde_json::to_vec(call),
            calls => serde_json::to_vec(calls),
        };
        let body = body.map_err(|error| Error::new(Outcome::Invalid, error))?;
        let start = Instant::now();
        let answer = tokio::time::timeout(self.timeout, self.http.post(body)).await;
        locked(&self.stats).observe(start.elapsed());
        answer.unwrap_or_else(|_| {
            Err(Error::new(Outcome::Timeout, format_args!("no answer within {:?}", self.timeout)))
        })
    }

    fn counted(&self, calls: &[Call], mut results: Vec<Result<Raw, Error>>) -> Vec<Result<Raw, Error>> {
        for (call, result) in calls.iter().zip(&mut results) {
            // A contract that refuses a call was asked all right.
            let failed = result.as_ref().err().filter(|error| !error.is_revert());
            locked(&self.stats).count(call, failed.map_or(Outcome::Ok, |error| error.outcome));
            if let Err(error) = result {
                *error = self.http.redacted(error.clone());
            }
        }
        match results.iter().filter_map(|r| r.as_ref().err()).find(|error| error.is_endpoint_failure()) {
            Some(error) => {
                let first = locked(&self.back_off).failed(Instant::now(), error.retry_after);
                self.log_failure(first, error);
            }
            None if results.iter().any(Result::is_ok) => {
                let over = locked(&self.back_off).succeeded(Instant::now());
                self.log_recovery(over);
            }
            None => {}
        }
        results
    }
}

fn asks_for_logs(call: &Call) -> bool {
    method_of(call) == "eth_getLogs"
}

/// The one error of all members: the batch as such may be refused. A contract, a replica that lags and a
/// node without state refuse calls for what they ask.
fn refused_alike(results: &[Result<Raw, Error>]) -> Option<Error> {
    let first = results.first()?.as_ref().err()?;
    let own = first.is_revert() || first.is_behind() || first.names_state();
    let alike = |result: &Result<Raw, Error>| result.as_ref().is_err_and(|error| error == first);
    (first.outcome == Outcome::RpcError && !own && results.iter().all(alike)).then(|| first.clone())
}

/// Behind a balancer the next answer may come from a replica that has the block.
fn is_behind(result: &Result<Raw, Error>) -> bool {
    result.as_ref().is_err_and(Error::is_behind)
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
