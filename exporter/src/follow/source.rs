//! One endpoint, asked on behalf of one network: ranges of blocks, headers, and state at past blocks.
//!
//! I/O only: what the answers prove is decided in `verify` and `windows`. Changes nothing but the endpoint's
//! own memory, so that several ranges can be in flight.

mod logs;
mod seen;
mod state;

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use web3::types::H160;

use super::failure::CycleError;
use super::head::{chain_call, no_answer};
use super::trail::Seen;
use super::verify::{Candidate, ProvenRange, RawRange};
use crate::chain::{self, BlockRef, Header, Text};
use crate::plan::{Asked, Fetch};
use crate::rpc::{self, Answer, Batched, Call, Endpoint, ErrorKind, Method};
use crate::views::{self, COUNT, WINDOW};
pub(super) use state::Persistence;

/// How many exchanges for headers go on at once.
const EXCHANGES_IN_FLIGHT: usize = 3;

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
    /// Logs are missing: those of every block with logs are asked for by its hash as well.
    pub thorough: bool,
    /// The blocks from the next one to the head, where all are known.
    pub seen: Arc<[Seen]>,
    /// A block whose bloom rules the contract's events out has none.
    pub rules_out: bool,
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
        let mut candidate = Candidate::new(self.read(fetch.clone()).await?, self.contract, self.thorough)?;
        let second = match fetch.near_head {
            true => None,
            false => self.second_answers(&fetch, &mut candidate).await?,
        };
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

    /// Everything in one exchange where that works, and so from one replica: whoever has the header of the
    /// range's end has the logs below it.
    async fn read(&self, fetch: Fetch) -> Result<RawRange, CycleError> {
        if fetch.near_head
            && let Some(raw) = self.read_seen(&fetch).await?
        {
            return Ok(raw);
        }
        let end = *fetch.blocks.end();
        // Of blocks that are known the last one's header shows that who answers has them all.
        let known = self.seen_in(&fetch).filter(|_| fetch.near_head && !self.thorough).unwrap_or_default();
        let known: Vec<_> = known.iter().take(known.len().saturating_sub(1)).map(Seen::header).collect();
        let numbers = if known.is_empty() { headers_of(&fetch) } else { vec![end] };
        let mut calls: Vec<Call> = numbers.iter().map(|number| header_call(*number)).collect();
        calls.extend(self.state_calls(end));
        calls.extend(self.unbound.map(|_| chain_call()));
        let state_end = calls.len();
        let parts = fetch.parts();
        calls.extend(parts.iter().map(|part| self.logs_call(part)));
        let mut answers = match self.endpoint.send_batched(&calls, numbers.len() - 1).await {
            Batched::Answered(answers) => answers,
            Batched::Refused(why) => {
                let numbers = headers_of(&fetch);
                let raw = self.read_unbatched(fetch, &numbers).await?;
                self.endpoint.record_refused_batch(calls.len(), &why);
                return Ok(raw);
            }
        };
        let mut of_logs = answers.split_off(state_end).into_iter();
        let is_too_large = |answer: &Answer| answer.as_ref().is_err_and(|it| it.kind == ErrorKind::TooLarge);
        if size_of(&fetch) == 1 && of_logs.as_slice().iter().any(is_too_large) {
            return self.read_unbatched(fetch, &numbers).await;
        }
        // Before the others: an exchange that failed as a whole may have asked for too many blocks.
        let text = text_of(&fetch, of_logs.as_slice());
        let mut logs = Vec::new();
        for part in &parts {
            let answer = of_logs.next().unwrap_or_else(no_answer);
            logs.extend(self.logs_of_range(&self.endpoint, part, answer).await?);
        }
        if let Some(expected) = self.unbound {
            check_chain(answers.pop().unwrap_or_else(no_answer), expected)?;
        }
        let state = answers.split_off(numbers.len());
        let headers = [known, read_headers(answers, &numbers)?].concat();
        let [window, count] = self.state_at_end(state, end, !logs.is_empty())?;
        Ok(RawRange { fetch, headers, logs, text, window, count })
    }

    /// Each answer may come from another replica. Close to the head the logs are therefore asked for by the
    /// hash of their block, which a replica that lags does not know.
    async fn read_unbatched(&self, fetch: Fetch, numbers: &[u64]) -> Result<RawRange, CycleError> {
        let end = *fetch.blocks.end();
        let mut logs = Vec::new();
        if !fetch.near_head {
            for part in fetch.parts() {
                let answer = self.endpoint.ask(self.logs_call(&part)).await;
                logs.extend(self.logs_of_range(&self.endpoint, &part, answer).await?);
            }
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
        Ok(RawRange { fetch, headers, logs, text: None, window, count })
    }

    /// Finds out what a range was refused for, by asking for its logs alone: of one block, of all, and of
    /// ever fewer.
    pub(super) async fn isolate(&self, blocks: u64, first: u64) -> Isolated {
        let ask = |blocks| self.endpoint.ask(self.logs_call(&(first..=first + blocks - 1)));
        match ask(1).await {
            // A single block is read in another way.
            Err(error) if error.kind == ErrorKind::TooLarge => {
                return Isolated::Size(CycleError::Range { blocks: 2, first, error });
            }
            Err(error) => return Isolated::SingleBlock(CycleError::Range { blocks: 1, first, error }),
            Ok(_) => {}
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
        let at_once = usize::try_from(self.endpoint.calls_at_once()).unwrap_or(usize::MAX).max(1);
        let parts: Vec<_> = numbers.chunks(at_once).map(<[u64]>::to_vec).collect();
        let exchanges = parts.into_iter().map(|numbers| self.headers_in_one(numbers));
        stream::iter(exchanges).buffered(EXCHANGES_IN_FLIGHT).try_concat().await
    }

    async fn headers_in_one(&self, numbers: Vec<u64>) -> Result<Vec<Header>, CycleError> {
        let calls: Vec<_> = numbers.iter().map(|number| header_call(*number)).collect();
        read_headers(self.endpoint.send(&calls).await, &numbers)
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

    fn state_calls(&self, block: u64) -> Vec<Call> {
        let views = if block >= self.oldest_state { &[WINDOW, COUNT][..] } else { &[] };
        views.iter().map(|view| self.view_call(view, block)).collect()
    }

    fn view_call(&self, view: &str, block: u64) -> Call {
        views::call(self.contract, view, block)
    }
}

fn check_chain(answer: Answer, expected: u64) -> Result<(), CycleError> {
    let chain_id = chain::quantity(&answer?)?;
    if chain_id == expected {
        return Ok(());
    }
    Err(CycleError::Unusable(format!("is on chain {chain_id}, expected {expected}")))
}

/// The text of the logs that are to be asked for again, where it is that of one answer.
fn text_of(fetch: &Fetch, answers: &[Answer]) -> Option<Text> {
    match answers {
        [Ok(raw)] if !fetch.near_head => Text::of(raw),
        _ => None,
    }
}

fn size_of(fetch: &Fetch) -> u64 {
    fetch.blocks.end() - fetch.blocks.start() + 1
}

pub(super) fn header_call(number: u64) -> Call {
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
