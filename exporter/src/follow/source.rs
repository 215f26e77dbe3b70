//! One endpoint, asked on behalf of one network: ranges of blocks, headers, and state at past blocks.
//!
//! I/O only: what the answers prove is decided in `verify` and `windows`. Changes nothing but the endpoint's
//! own memory, so that several ranges can be in flight.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use web3::ethabi::Token;
use web3::types::{H160, H256};

use super::failure::CycleError;
use super::verify::{Candidate, ProvenRange, RawRange, Reading};
use crate::chain::{self, BlockRef, Header, Log};
use crate::plan::Fetch;
use crate::rpc::{self, Answer, Batched, Call, Endpoint, ErrorKind, Method, Refusal};
use crate::views::{self, Unread};

/// Nodes keep the state of about the last 128 blocks.
const RECENT_STATE: u64 = 100;

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
    pub(super) async fn fetch(&self, fetch: Fetch) -> Result<ProvenRange, CycleError> {
        let (first, last) = fetch.blocks.clone().into_inner();
        self.prove(fetch).await.map_err(|error| match error {
            CycleError::Rpc(error) if last > first && error.kind.is_endpoint_failure() => {
                CycleError::Range { blocks: last - first + 1, first, error }
            }
            error => error,
        })
    }

    async fn prove(&self, fetch: Fetch) -> Result<ProvenRange, CycleError> {
        let mut candidate = Candidate::new(self.read(fetch).await?, self.contract)?;
        let hits = candidate.bloom_hits();
        let calls: Vec<_> = hits.iter().map(|header| self.block_logs_call(header.block.hash)).collect();
        for (answer, header) in self.endpoint.send(&calls).await.into_iter().zip(&hits) {
            candidate.add_block(header, chain::logs(&answer?)?)?;
        }
        loop {
            let undated = candidate.undated();
            if undated.is_empty() {
                return Ok(candidate.prove()?);
            }
            candidate.date(&self.headers(&undated).await?)?;
        }
    }

    /// Everything in one exchange where that works, and so from one replica: whoever has the header of the
    /// range's end has the logs below it.
    async fn read(&self, fetch: Fetch) -> Result<RawRange, CycleError> {
        let end = *fetch.blocks.end();
        let numbers = headers_of(&fetch);
        let mut calls: Vec<Call> = numbers.iter().map(|number| header_call(*number)).collect();
        calls.extend(self.state_calls(end));
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
        let state = answers.split_off(numbers.len());
        let headers = read_headers(answers, &numbers)?;
        let [window, count] = self.state_at_end(state, end)?;
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
                logs.extend(chain::logs(&answer?)?);
            }
        }
        let answers = self.endpoint.send(&self.state_calls(end)).await;
        let [window, count] = self.state_at_end(answers, end)?;
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
            readings.push(match self.reading(WINDOW, answers.next().unwrap_or_else(no_answer))? {
                Reading::Unavailable => self.window_at(*block, Persistence::Some).await?,
                known @ Reading::Known(_) => known,
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
        let value = self.state(&call, |answer| views::value(view, answer), tries).await?;
        Ok(value.map_or(Reading::Unavailable, known))
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
            match read(self.endpoint.ask(call.clone()).await) {
                Ok(value) => return Ok(Some(value)),
                Err(Unread::Rpc(error)) if self.may_mean_no_state(&error) => {}
                Err(error) => return Err(error.into()),
            }
            if done < tries {
                sleep(pause).await;
            }
        }
        Ok(None)
    }

    fn reading(&self, view: &str, answer: Answer) -> Result<Reading, CycleError> {
        match views::value(view, answer) {
            Ok(value) => Ok(known(value)),
            Err(Unread::Rpc(error)) if self.may_mean_no_state(&error) => Ok(Reading::Unavailable),
            Err(error) => Err(error.into()),
        }
    }

    /// Window and count at the end of a range.
    fn state_at_end(&self, answers: Vec<Answer>, block: u64) -> Result<[Reading; 2], CycleError> {
        let mut state = [Reading::Unavailable; 2];
        for ((reading, view), answer) in state.iter_mut().zip([WINDOW, COUNT]).zip(answers) {
            *reading = self.reading(view, answer)?;
            // Every node keeps the state close to the head: there its absence is a replica that lags.
            if *reading == Reading::Unavailable && block + RECENT_STATE > self.head.number {
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

const WINDOW: &str = "coordination_window";
const COUNT: &str = "transaction_count";

fn known(value: Option<Token>) -> Reading {
    Reading::Known(value.and_then(Token::into_uint))
}

fn no_answer() -> Answer {
    Err(rpc::Error::new(ErrorKind::Unreadable, "no answer"))
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
