//! One endpoint, asked on behalf of one network: ranges of blocks, headers, and state at past blocks.
//!
//! I/O only: what the answers prove is decided in `verify` and `windows`. Changes nothing but the endpoint's
//! own memory, so that several ranges can be in flight.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use web3::types::{H160, H256};

use super::failure::{CycleError, asked as asked_of};
use super::verify::{Candidate, ProvenRange, RawRange, Reading};
use crate::chain::{self, BlockRef, Header, Log};
use crate::plan::{Asked, Fetch};
use crate::rpc::{self, Answer, Batched, Call, Endpoint, ErrorKind, Method, Refusal};
use crate::views::{self, COUNT, Returned, Unread, WINDOW};

/// Nodes keep the state of about the last 128 blocks.
const RECENT_STATE: u64 = 100;

/// The calls that go with the headers of a range: window, count, chain and logs.
const BESIDE_HEADERS: u64 = 4;

/// What is to be read from whom.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub endpoint: Arc<Endpoint>,
    pub contract: H160,
    /// State below this block was found to be gone: it is not asked for.
    pub oldest_state: u64,
    /// Errors of unknown meaning went on for so long that they may mean absent state.
    pub errors_persist: bool,
    /// The head of the cycle.
    pub head: BlockRef,
    /// Who is asked for a second answer about blocks far below the head; the endpoint itself where there is nobody.
    pub second: Option<Second>,
    /// Views that the contract does not have at the head. Of any other, an empty answer about an old block does not
    /// show that it was not there.
    pub absent: Vec<&'static str>,
    /// The chain's id, where nothing that was read before binds a range to that chain.
    pub unbound: Option<u64>,
}

/// Another endpoint, and for the logs of how many blocks it may be asked.
#[derive(Clone, Debug)]
pub(super) struct Second {
    pub endpoint: Arc<Endpoint>,
    pub size: u64,
}

/// A range, and what became of the request to a second endpoint, by its index.
#[derive(Debug)]
pub(super) struct Fetched {
    pub range: ProvenRange,
    pub second: Option<(usize, Asked)>,
}

/// How often state is asked for that seems to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// A few times at once: a balancer may have nodes with and without it.
    Some,
    /// For seconds: what is gone now is taken to be gone for good.
    Proof,
}

impl Persistence {
    fn tries_and_pause(self) -> (u32, Duration) {
        match self {
            Self::Some => (3, Duration::ZERO),
            Self::Proof => (12, Duration::from_millis(500)),
        }
    }
}

/// What a refused range is refused for.
#[derive(Debug)]
pub(super) enum Isolated {
    /// Its size: this is the smallest range that is refused, as far as was tried.
    Size(CycleError),
    /// Not its size: a single block is refused as well.
    SingleBlock(CycleError),
    /// Nothing: its logs come when they are asked for alone.
    PassesAlone,
}

impl Source {
    /// Reads a range and what proves it whole. A failure of the endpoint may be due to the size, whatever
    /// the call.
    pub(super) async fn fetch(&self, fetch: Fetch) -> Result<Fetched, CycleError> {
        let (first, last) = fetch.blocks.clone().into_inner();
        self.prove(fetch).await.map_err(|error| match error {
            CycleError::Rpc(error) if last > first && error.kind.is_endpoint_failure() => {
                CycleError::Range { blocks: last - first + 1, first, error }
            }
            error => error,
        })
    }

    async fn prove(&self, fetch: Fetch) -> Result<Fetched, CycleError> {
        let mut candidate = Candidate::new(self.read(fetch.clone()).await?, self.contract)?;
        let mut second = None;
        if !fetch.near_head {
            let (logs, asked) = self.second_answer(&fetch).await?;
            candidate
                .add_second(logs, asked.is_some_and(|(_, asked)| matches!(asked, Asked::Answered { .. })))?;
            second = asked;
        }
        loop {
            let wanted = candidate.headers_wanted();
            candidate.add_headers(self.headers(&wanted).await?)?;
            let doubtful = candidate.doubtful();
            if doubtful.is_empty() {
                return Ok(Fetched { range: candidate.prove()?, second });
            }
            let calls: Vec<_> =
                doubtful.iter().map(|header| self.block_logs_call(header.block.hash)).collect();
            for (answer, header) in self.endpoint.send(&calls).await.into_iter().zip(&doubtful) {
                candidate.add_block(header, self.block_logs(answer, header).await?)?;
            }
        }
    }

    /// The logs of a range once more: of another endpoint where there is one that answers, else of this one, whose
    /// answer may come from another replica.
    async fn second_answer(&self, fetch: &Fetch) -> Result<(Vec<Log>, Option<(usize, Asked)>), CycleError> {
        let mut asked = None;
        if let Some(Second { endpoint, size }) = &self.second {
            let (logs, became) = match self.logs_in_parts(endpoint, fetch.blocks.clone(), *size).await {
                Ok(logs) => {
                    let became = Asked::Answered { size: (*size).min(size_of(fetch)), logs: logs.len() };
                    (Some(logs), became)
                }
                Err(CycleError::Range { blocks, first, error }) => {
                    (None, asked_of(error.kind, blocks, first))
                }
                Err(_) => (None, Asked::Failed),
            };
            asked = Some((endpoint.index, became));
            if let Some(logs) = logs {
                return Ok((logs, asked));
            }
        }
        let logs = self.logs_in_parts(&self.endpoint, fetch.blocks.clone(), size_of(fetch)).await?;
        Ok((logs, asked))
    }

    /// The logs of the contract in these blocks as an endpoint has them, in log order.
    pub(super) async fn logs_of_contract(
        &self,
        endpoint: &Endpoint,
        blocks: RangeInclusive<u64>,
        size: u64,
    ) -> Result<Vec<Log>, CycleError> {
        let logs = self.logs_in_parts(endpoint, blocks.clone(), size).await?;
        Ok(chain::arrange(logs, blocks, self.contract)?)
    }

    /// The logs of these blocks as an endpoint has them, `size` blocks at a time.
    async fn logs_in_parts(
        &self,
        endpoint: &Endpoint,
        blocks: RangeInclusive<u64>,
        size: u64,
    ) -> Result<Vec<Log>, CycleError> {
        let (mut first, last) = blocks.into_inner();
        let mut logs = Vec::new();
        while first <= last {
            let blocks = first..=last.min(first.saturating_add(size.max(1) - 1));
            let answer = endpoint.ask(self.logs_call(*blocks.start(), *blocks.end())).await;
            first = blocks.end() + 1;
            logs.extend(range_logs(answer, &Fetch { blocks, near_head: false })?);
        }
        Ok(logs)
    }

    /// The logs of one block, from the answer to a call by its hash. Some nodes know no such call: it is then asked
    /// for by its number, and logs of another hash are nobody's.
    async fn block_logs(&self, answer: Answer, header: &Header) -> Result<Vec<Log>, CycleError> {
        let call = || self.block_logs_call(header.block.hash);
        let is_refused = |answer: &Answer| {
            answer.as_ref().is_err_and(|error| error.kind == ErrorKind::Rpc(Refusal::Other))
        };
        let mut answer = answer;
        if is_refused(&answer) {
            answer = self.endpoint.ask(call()).await;
            if is_refused(&answer) {
                let number = header.block.number;
                answer = self.endpoint.ask(self.logs_call(number, number)).await;
            }
        }
        Ok(chain::logs(&answer?)?)
    }

    /// Everything in one exchange where that works, and so from one replica: whoever has the header of the
    /// range's end has the logs below it.
    async fn read(&self, fetch: Fetch) -> Result<RawRange, CycleError> {
        let end = *fetch.blocks.end();
        let numbers = headers_of(&fetch);
        let mut calls: Vec<Call> = numbers.iter().map(|number| header_call(*number)).collect();
        calls.extend(self.state_calls(end));
        calls.extend(self.unbound.map(|_| chain_call()));
        calls.push(self.logs_call(*fetch.blocks.start(), end));
        let mut answers = match self.endpoint.send_batched(&calls, numbers.len() - 1).await {
            Batched::Answered(answers) => answers,
            Batched::Refused(why) => {
                let raw = self.read_unbatched(fetch, &numbers).await?;
                self.endpoint.record_refused_batch(calls.len(), &why);
                return Ok(raw);
            }
        };
        let logs = answers.pop().unwrap_or_else(no_answer);
        // Before the others: an exchange that failed as a whole may have asked for too many blocks.
        let logs = range_logs(logs, &fetch)?;
        if let Some(expected) = self.unbound {
            check_chain(answers.pop().unwrap_or_else(no_answer), expected)?;
        }
        let state = answers.split_off(numbers.len());
        let headers = read_headers(answers, &numbers)?;
        let [window, count] = self.state_at_end(state, end, !logs.is_empty())?;
        Ok(RawRange { fetch, headers, logs, window, count })
    }

    /// Each answer may come from another replica. Close to the head the logs are therefore asked for by the
    /// hash of their block, which a replica that lags does not know.
    async fn read_unbatched(&self, fetch: Fetch, numbers: &[u64]) -> Result<RawRange, CycleError> {
        let end = *fetch.blocks.end();
        let mut logs = Vec::new();
        if !fetch.near_head {
            let answer = self.endpoint.ask(self.logs_call(*fetch.blocks.start(), end)).await;
            logs = range_logs(answer, &fetch)?;
        }
        let headers = self.headers(numbers).await?;
        if fetch.near_head {
            for header in &headers {
                let answer = self.endpoint.ask(self.block_logs_call(header.block.hash)).await;
                logs.extend(self.block_logs(answer, header).await?);
            }
        }
        if let Some(expected) = self.unbound {
            check_chain(self.endpoint.ask(chain_call()).await, expected)?;
        }
        let answers = self.endpoint.send(&self.state_calls(end)).await;
        let [window, count] = self.state_at_end(answers, end, !logs.is_empty())?;
        Ok(RawRange { fetch, headers, logs, window, count })
    }

    /// Finds out what a range was refused for, by asking for its logs alone: of one block, of all, and of
    /// ever fewer.
    pub(super) async fn isolate(&self, blocks: u64, first: u64) -> Isolated {
        let ask = |blocks| self.endpoint.ask(self.logs_call(first, first + blocks - 1));
        if let Err(error) = ask(1).await {
            return Isolated::SingleBlock(CycleError::Range { blocks: 1, first, error });
        }
        let Err(mut error) = ask(blocks).await else { return Isolated::PassesAlone };
        let mut smallest = blocks;
        while smallest > 3
            && !error.kind.is_endpoint_failure()
            && let Err(again) = ask(smallest / 2).await
        {
            (smallest, error) = (smallest / 2, again);
        }
        Isolated::Size(CycleError::Range { blocks: smallest, first, error })
    }

    /// The headers of these blocks, all of them.
    pub(super) async fn headers(&self, numbers: &[u64]) -> Result<Vec<Header>, CycleError> {
        let calls: Vec<_> = numbers.iter().map(|number| header_call(*number)).collect();
        read_headers(self.endpoint.send(&calls).await, numbers)
    }

    /// How many blocks can be read with all their headers in one exchange.
    pub(super) fn headers_at_once(&self) -> u64 {
        self.endpoint.calls_at_once().saturating_sub(BESIDE_HEADERS).max(1)
    }

    /// The header of a block, of the chain of this id.
    pub(super) async fn header_of_chain(&self, number: u64, chain_id: u64) -> Result<Header, CycleError> {
        let mut answers = self.endpoint.send(&[header_call(number), chain_call()]).await;
        check_chain(answers.pop().unwrap_or_else(no_answer), chain_id)?;
        read_headers(answers, &[number])?
            .pop()
            .ok_or_else(|| rpc::Error::new(ErrorKind::Unreadable, "no answer").into())
    }

    /// The coordination window in force at each of these blocks.
    pub(super) async fn windows_at(&self, blocks: &[u64]) -> Result<Vec<Reading>, CycleError> {
        // Blocks below the horizon are not asked for.
        let asked: Vec<u64> = blocks.iter().copied().filter(|block| *block >= self.oldest_state).collect();
        let calls: Vec<_> = asked.iter().map(|block| self.view_call(WINDOW, *block)).collect();
        let mut answers = self.endpoint.send(&calls).await.into_iter();
        let mut readings = Vec::with_capacity(blocks.len());
        for block in blocks {
            if *block < self.oldest_state {
                readings.push(Reading::Unavailable);
                continue;
            }
            let answer = answers.next().unwrap_or_else(no_answer);
            readings.push(match self.available(self.reading(WINDOW, answer))? {
                Some(reading) => reading,
                None => self.window_at(*block, Persistence::Some).await?,
            });
        }
        Ok(readings)
    }

    /// The coordination window in force at a block.
    pub(super) async fn window_at(&self, block: u64, tries: Persistence) -> Result<Reading, CycleError> {
        self.view_at(WINDOW, block, tries).await
    }

    /// The number of transactions ever buffered at a block.
    pub(super) async fn count_at(&self, block: u64) -> Result<Reading, CycleError> {
        self.view_at(COUNT, block, Persistence::Some).await
    }

    /// Whether there was code at a block; `None` where the node does not have its state.
    pub(super) async fn code_at(&self, block: u64, tries: Persistence) -> Result<Option<bool>, CycleError> {
        self.state(&views::code_call(self.contract, block), views::has_code, tries).await
    }

    async fn view_at(&self, view: &str, block: u64, tries: Persistence) -> Result<Reading, CycleError> {
        if block < self.oldest_state {
            return Ok(Reading::Unavailable);
        }
        let call = self.view_call(view, block);
        let reading = self.state(&call, |answer| self.reading(view, answer), tries).await?;
        Ok(reading.unwrap_or(Reading::Unavailable))
    }

    /// State at a block; `None` where it is gone, as far as asking as often as `tries` says shows.
    async fn state<T>(
        &self,
        call: &Call,
        read: impl Fn(Answer) -> Result<T, Unread>,
        tries: Persistence,
    ) -> Result<Option<T>, CycleError> {
        let (tries, pause) = tries.tries_and_pause();
        for done in 1..=tries {
            let answer = self.available(read(self.endpoint.ask(call.clone()).await))?;
            if answer.is_some() {
                return Ok(answer);
            }
            if done < tries {
                sleep(pause).await;
            }
        }
        Ok(None)
    }

    /// What a view returned; that an empty answer means that there is no such view is believed only where the head
    /// says so.
    fn reading(&self, view: &str, answer: Answer) -> Result<Reading, Unread> {
        Ok(match views::returned(view, answer)? {
            Returned::Value(value) => Reading::Known(value.into_uint()),
            Returned::NoView => Reading::Known(None),
            Returned::Nothing if self.absent.contains(&view) => Reading::Known(None),
            Returned::Nothing => Reading::Unavailable,
        })
    }

    /// What was read; `None` where the node said that it has no such state.
    fn available<T>(&self, read: Result<T, Unread>) -> Result<Option<T>, CycleError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Unread::Rpc(error)) if self.may_mean_no_state(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Window and count at the end of a range. `logged`: the contract is there.
    fn state_at_end(
        &self,
        answers: Vec<Answer>,
        block: u64,
        logged: bool,
    ) -> Result<[Reading; 2], CycleError> {
        let mut state = [Reading::Unavailable; 2];
        for ((reading, view), answer) in state.iter_mut().zip([WINDOW, COUNT]).zip(answers) {
            let read = self.available(self.reading(view, answer))?;
            *reading = read.unwrap_or(Reading::Unavailable);
            // Every node keeps the state close to the head: there its absence is a replica that lags.
            let must_be_there = logged || read.is_none();
            if *reading == Reading::Unavailable && must_be_there && block + RECENT_STATE > self.head.number {
                return Err(CycleError::Inconsistent(format!("no state of block {block}")));
            }
        }
        Ok(state)
    }

    fn may_mean_no_state(&self, error: &rpc::Error) -> bool {
        match error.kind {
            ErrorKind::Rpc(Refusal::NoState) => true,
            ErrorKind::Rpc(Refusal::Other) => self.errors_persist,
            _ => false,
        }
    }

    fn state_calls(&self, block: u64) -> Vec<Call> {
        let views = if block >= self.oldest_state { &[WINDOW, COUNT][..] } else { &[] };
        views.iter().map(|view| self.view_call(view, block)).collect()
    }

    fn view_call(&self, view: &str, block: u64) -> Call {
        views::call(self.contract, view, block)
    }

    fn logs_call(&self, first: u64, last: u64) -> Call {
        let blocks = (chain::hex(first), chain::hex(last));
        let filter = json!({"address": self.contract, "fromBlock": blocks.0, "toBlock": blocks.1});
        Call { method: Method::GetLogs, params: json!([filter]) }
    }

    fn block_logs_call(&self, hash: H256) -> Call {
        let filter = json!({"address": self.contract, "blockHash": hash});
        Call { method: Method::GetLogs, params: json!([filter]) }
    }
}

fn no_answer() -> Answer {
    Err(rpc::Error::new(ErrorKind::Unreadable, "no answer"))
}

fn chain_call() -> Call {
    Call { method: Method::ChainId, params: json!([]) }
}

fn check_chain(answer: Answer, expected: u64) -> Result<(), CycleError> {
    let chain_id = chain::quantity(&answer?)?;
    if chain_id == expected {
        return Ok(());
    }
    Err(CycleError::Unusable(format!("is on chain {chain_id}, expected {expected}")))
}

fn size_of(fetch: &Fetch) -> u64 {
    fetch.blocks.end() - fetch.blocks.start() + 1
}

fn header_call(number: u64) -> Call {
    Call { method: Method::GetBlockByNumber, params: json!([chain::hex(number), false]) }
}

fn headers_of(fetch: &Fetch) -> Vec<u64> {
    if fetch.near_head {
        return fetch.blocks.clone().collect();
    }
    let mut ends = vec![*fetch.blocks.start(), *fetch.blocks.end()];
    ends.dedup();
    ends
}

fn range_logs(answer: Answer, fetch: &Fetch) -> Result<Vec<Log>, CycleError> {
    let (first, last) = fetch.blocks.clone().into_inner();
    let raw = answer.map_err(|error| CycleError::Range { blocks: last - first + 1, first, error })?;
    Ok(chain::logs(&raw)?)
}

fn read_headers(answers: Vec<Answer>, numbers: &[u64]) -> Result<Vec<Header>, CycleError> {
    let read = |(answer, number): (Answer, &u64)| {
        let header = chain::header(&answer?)?;
        if header.block.number == *number {
            Ok(header)
        } else {
            Err(CycleError::Inconsistent(format!("header of another block than {number}")))
        }
    };
    answers.into_iter().zip(numbers).map(read).collect()
}
