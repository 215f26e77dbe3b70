//! Sends calls to one endpoint, in a batch where batches work, and gives each its own outcome.
//!
//! Tries again at once what fails in passing (see `retry`); everything else goes to the caller and to
//! the back-off. Never waits for more than the request time-out an exchange.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::Endpoint;
use crate::plan::Asked;
use crate::rpc::reply::{batch_replies, single_reply};
use crate::rpc::retry::{self, Next};
use crate::rpc::{Answer, Call, Error, ErrorKind, Method, Outcome};

/// So few calls are not refused for their number.
const FEW: u64 = 8;

/// What became of calls that one replica had to answer together.
#[derive(Debug)]
pub enum Batched {
    /// One outcome each, in their order. From the bound on, all of one exchange.
    Answered(Vec<Answer>),
    /// The endpoint does not seem to answer them in one exchange: they are to be asked for in another way.
    /// If that succeeds, [`Endpoint::record_refused_batch`] is to hear of it.
    Refused(Error),
}

/// How an exchange ended; an error is one of the exchange as such.
type Exchange = Result<Vec<Answer>, Error>;

/// What became of a batch.
enum Batch {
    /// One outcome each, in their order.
    Answered(Vec<Answer>),
    /// Each of its tries failed alike, perhaps for being a batch.
    Refused { error: Error, tries: u32 },
    /// It was one of too many calls.
    TooMany(TooMany),
    /// Its last tries failed; what was answered before stands.
    Failed { answers: Vec<Answer>, error: Error },
}

/// The endpoint wants to be asked less, and each call may count: fewer are to be sent after this pause.
struct TooMany {
    error: Error,
    pause: Duration,
}

impl Endpoint {
    /// Sends one call.
    pub async fn ask(&self, call: Call) -> Answer {
        self.single(&call, 0).await
    }

    /// Sends calls that do not depend on each other: one outcome each, in their order, with as many in one
    /// exchange as the endpoint answers.
    ///
    /// After the first failure of the endpoint itself the rest fail alike without being sent.
    pub async fn send(&self, calls: &[Call]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(calls.len());
        while answers.len() < calls.len() {
            let rest = &calls[answers.len()..];
            let most = usize::try_from(self.memory().calls.size()).unwrap_or(usize::MAX);
            let part = &rest[..most.min(rest.len())];
            let of_part = match self.send_part(part).await {
                Ok(answers) => answers,
                Err(TooMany { error, pause }) => {
                    self.record_size(part.len(), Some(&error));
                    sleep(pause).await;
                    continue;
                }
            };
            let failure = of_part.iter().find_map(endpoint_failure).cloned();
            self.record_size(part.len(), failure.as_ref());
            answers.extend(of_part);
            if let Some(error) = failure {
                answers.resize_with(calls.len(), || Err(error.clone()));
            }
        }
        answers
    }

    /// Sends calls of which those from `bound` on prove something together, and must be answered by one
    /// replica. Calls for later blocks go after those for earlier ones.
    pub async fn send_batched(&self, calls: &[Call], bound: usize) -> Batched {
        if !self.batches() {
            return Batched::Refused(Error::new(ErrorKind::Unreadable, "batches are not answered"));
        }
        match self.batch(calls, bound).await {
            Batch::Answered(answers) => {
                self.record_size(calls.len(), answers.iter().find_map(endpoint_failure));
                Batched::Answered(answers)
            }
            Batch::Refused { error, .. } => Batched::Refused(error),
            Batch::Failed { answers, error } => {
                self.record_size(calls.len(), Some(&error));
                Batched::Answered(answers)
            }
            Batch::TooMany(TooMany { error, .. }) => {
                self.record_size(calls.len(), Some(&error));
                Batched::Answered(vec![Err(error); calls.len()])
            }
        }
    }

    /// Learns how many calls are answered in one exchange.
    fn record_size(&self, calls: usize, failure: Option<&Error>) {
        let size = calls as u64;
        self.memory().calls.observe(match failure.map(|error| error.kind) {
            None => Asked::Answered { size, logs: 0 },
            // Each call of a batch may count against the rate.
            Some(ErrorKind::Timeout | ErrorKind::RateLimited) if size > FEW => Asked::Refused { size },
            Some(_) => Asked::Failed,
        });
    }

    async fn send_part(&self, calls: &[Call]) -> Result<Vec<Answer>, TooMany> {
        if calls.len() < 2 || !self.batches() {
            return Ok(self.unbatched(calls, 0).await);
        }
        Ok(match self.batch(calls, calls.len()).await {
            Batch::Answered(answers) => answers,
            Batch::TooMany(too_many) => return Err(too_many),
            Batch::Refused { error, tries } => {
                // They may pass one by one; otherwise the endpoint is failing, which says nothing about batches.
                let answers = self.unbatched(calls, tries).await;
                let passed =
                    |answer: &Answer| matches!(answer, Ok(_) | Err(Error { kind: ErrorKind::Rpc(_), .. }));
                if answers.iter().all(passed) && answers.iter().any(Result::is_ok) {
                    self.record_refused_batch(calls.len(), &error);
                }
                answers
            }
            Batch::Failed { answers, .. } => answers,
        })
    }

    /// Calls in one exchange; where one fails in passing, it and all after it in another, but always all from
    /// `bound` on.
    async fn batch(&self, calls: &[Call], bound: usize) -> Batch {
        let (mut answers, mut from) = (Vec::new(), 0);
        // The tries of the whole batch failed alike, so far.
        let mut alike: Option<ErrorKind> = None;
        // Exchanges that failed since one succeeded, and when the first of them began.
        let (mut row, mut row_started) = (0, Instant::now());
        for retries in 0.. {
            let started = Instant::now();
            let failed = match self.exchange(&calls[from..]).await {
                Ok(of_part) => {
                    row = 0;
                    answers.truncate(from);
                    answers.extend(of_part);
                    if is_split(calls, &answers) {
                        return Batch::Refused { error: self.give_up_split_batches(), tries: 0 };
                    }
                    self.worth_retrying(calls, &answers, retries)
                }
                Err(error) => {
                    row_started = if row == 0 { started } else { row_started };
                    row += 1;
                    let same = retries == 0 || alike == Some(error.kind);
                    alike = Some(error.kind).filter(|_| same);
                    match self.retry(&error, calls[from].method, retries) {
                        Next::Again { after: pause } if row > 1 && is_too_many(&error, &calls[from..]) => {
                            return Batch::TooMany(TooMany { error, pause });
                        }
                        Next::Again { after } => Some((from, after)),
                        Next::GiveUp if from == 0 && alike.is_some_and(may_be_the_batch) => {
                            return Batch::Refused { error, tries: retries + 1 };
                        }
                        Next::GiveUp => {
                            self.record_failure(&error, row, row_started);
                            answers.truncate(from);
                            answers.resize_with(calls.len(), || Err(error.clone()));
                            return Batch::Failed { answers, error };
                        }
                    }
                }
            };
            let Some((first, after)) = failed else {
                if let Some(error) = answers.iter().find_map(endpoint_failure) {
                    self.record_failure(error, 1, started);
                }
                break;
            };
            sleep(after).await;
            from = first.min(bound);
        }
        Batch::Answered(answers)
    }

    /// The first call of a batch that failed in passing, and the pause before it is sent again.
    fn worth_retrying(&self, calls: &[Call], answers: &[Answer], retries: u32) -> Option<(usize, Duration)> {
        let next = |(call, answer): (&Call, &Answer)| match answer {
            Ok(_) => Next::GiveUp,
            Err(error) => self.retry(error, call.method, retries),
        };
        calls.iter().zip(answers).map(next).enumerate().find_map(|(index, next)| match next {
            Next::Again { after } => Some((index, after)),
            Next::GiveUp => None,
        })
    }

    /// The members of a batch were answered by replicas that know more and less: that needs no further proof.
    fn give_up_split_batches(&self) -> Error {
        let given_up = self.memory().batching.refused(2, Instant::now());
        let why = "members of a batch are answered by replicas that lag";
        self.log_batching(given_up, why);
        Error::new(ErrorKind::Unreadable, why)
    }

    /// Calls in an exchange each; `tries` of them in one failed just now.
    async fn unbatched(&self, calls: &[Call], mut tries: u32) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            answers.push(self.single(call, std::mem::take(&mut tries)).await);
            if let Some(error) = answers.last().and_then(endpoint_failure).cloned() {
                answers.resize_with(calls.len(), || Err(error.clone()));
                break;
            }
        }
        answers
    }

    async fn single(&self, call: &Call, tries: u32) -> Answer {
        let started = Instant::now();
        for retries in tries.. {
            let answer = self.exchange(std::slice::from_ref(call)).await;
            let answer = answer.and_then(|mut answers| answers.pop().unwrap_or_else(|| Err(no_answer())));
            let Err(error) = &answer else { return answer };
            match self.retry(error, call.method, retries) {
                Next::Again { after } => sleep(after).await,
                Next::GiveUp => {
                    self.record_failure(error, retries + 1, started);
                    return answer;
                }
            }
        }
        Err(no_answer())
    }

    fn retry(&self, error: &Error, method: Method, retries: u32) -> Next {
        retry::next(error, method, retries, self.is_healthy())
    }

    /// One HTTP exchange, counted: a JSON array where there are several calls.
    async fn exchange(&self, calls: &[Call]) -> Exchange {
        let numbered = (1..).zip(calls).map(|(id, call)| Request {
            jsonrpc: "2.0",
            id,
            method: call.method.name(),
            params: &call.params,
        });
        let requests: Vec<_> = numbered.collect();
        let body = match &requests[..] {
            [request] => serde_json::to_vec(request),
            requests => serde_json::to_vec(requests),
        };
        let body = body.map_err(|error| Error::new(ErrorKind::Unreadable, error))?;
        let started = Instant::now();
        let answer = timeout(self.timeout, self.http.post(body)).await;
        let duration = started.elapsed();
        let answer = answer.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format_args!("no answer within {:?}", self.timeout)))
        });
        let answers = answer.and_then(|body| match calls {
            [_] => Ok(vec![single_reply(&body)]),
            _ => batch_replies(&body, calls.len()),
        });
        let answers = answers.and_then(|answers| refused_alike(&answers).map_or(Ok(answers), Err));
        self.record_exchange(calls, self.redacted(answers), started, duration)
    }

    fn record_exchange(
        &self,
        calls: &[Call],
        answers: Exchange,
        started: Instant,
        duration: Duration,
    ) -> Exchange {
        let mut memory = self.memory();
        memory.stats.observe(duration);
        for (index, call) in calls.iter().enumerate() {
            let outcome = match &answers {
                Ok(answers) => answers[index].as_ref().err().map(|error| error.kind),
                Err(error) => Some(error.kind),
            };
            memory.stats.count(call.method, outcome.map_or(Outcome::Ok, ErrorKind::outcome));
        }
        // A limit that spares some members of a batch is a limit.
        let succeeded = |answers: &Vec<Answer>| {
            answers.iter().any(Result::is_ok) && answers.iter().find_map(endpoint_failure).is_none()
        };
        if !answers.as_ref().is_ok_and(succeeded) {
            return answers;
        }
        if calls.len() > 1 {
            memory.batching.answered(calls.len());
        }
        let news = memory.back_off.record_success(started);
        drop(memory);
        self.log_recovery(news);
        answers
    }

    /// Records a failure of the endpoint itself, the last of `row`, once retries are used up.
    fn record_failure(&self, error: &Error, row: u32, started: Instant) {
        if error.kind.is_endpoint_failure() {
            let (now, asked) = (Instant::now(), error.retry_after);
            let news = self.memory().back_off.record_failure(row, started, now, asked);
            self.log_failure(news, &error.message);
        }
    }

    fn redacted(&self, answers: Exchange) -> Exchange {
        let answers = answers.map_err(|error| self.http.redacted(error))?;
        Ok(answers.into_iter().map(|answer| answer.map_err(|error| self.http.redacted(error))).collect())
    }
}

#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'static str,
    id: usize,
    method: &'static str,
    params: &'a serde_json::Value,
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Unreadable, "no answer")
}

fn endpoint_failure(answer: &Answer) -> Option<&Error> {
    answer.as_ref().err().filter(|error| error.kind.is_endpoint_failure())
}

/// The endpoint limits its rate, and may have counted each of these calls. Once is chance.
fn is_too_many(error: &Error, calls: &[Call]) -> bool {
    error.kind == ErrorKind::RateLimited && calls.len() as u64 > FEW
}

/// An exchange that failed in this way may do so because it was a batch.
fn may_be_the_batch(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Http(_) | ErrorKind::Empty | ErrorKind::Unreadable | ErrorKind::Rpc(_) => true,
        ErrorKind::Timeout
        | ErrorKind::Connect
        | ErrorKind::Broken
        | ErrorKind::RateLimited
        | ErrorKind::TooLarge => false,
    }
}

/// The one error of all members: the batch as such may be refused. A contract, a replica that lags and a
/// node without state refuse calls for what they ask.
fn refused_alike(answers: &[Answer]) -> Option<Error> {
    use crate::rpc::Refusal::{Internal, Other};
    let [Err(first), _, ..] = answers else { return None };
    let alike = |answer: &Answer| answer.as_ref().is_err_and(|error| error == first);
    let of_the_batch = matches!(first.kind, ErrorKind::Rpc(Internal | Other) | ErrorKind::RateLimited);
    (of_the_batch && answers.iter().all(alike)).then(|| first.clone())
}

/// Whether replicas that know more and less answered parts of a batch: an answer follows one for which the
/// replica was behind. Logs say nothing, as one that is behind answers with those that it has.
fn is_split(calls: &[Call], answers: &[Answer]) -> bool {
    let behind = |answer: &&Answer| answer.as_ref().is_err_and(|error| error.kind.is_behind());
    let answers = calls.iter().zip(answers).filter(|(call, _)| call.method != Method::GetLogs);
    answers.map(|(_, answer)| answer).skip_while(|answer| !behind(answer)).any(Result::is_ok)
}
