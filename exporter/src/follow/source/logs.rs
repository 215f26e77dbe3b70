//! Logs of the contract, asked of one endpoint: of a range in parts, of a block by its hash, by topic where one answer
//! cannot hold them, and of another endpoint once more.
//!
//! Judges nothing: what they prove is decided in `verify`.

use std::ops::RangeInclusive;

use serde_json::json;
use web3::types::H256;

use super::{Second, Source, size_of};
use crate::chain::{self, Header, Log};
use crate::decode;
use crate::follow::failure::{CycleError, asked as asked_of};
use crate::follow::verify::Candidate;
use crate::plan::{Asked, Fetch};
use crate::rpc::{self, Answer, Call, Endpoint, ErrorKind, Method, Refusal};

/// A second endpoint is not asked for a range in more parts than this: one with a low cap would hold up a first sync.
const MOST_PARTS: u64 = 4;

/// How many parts of a range are asked for in one exchange.
const PARTS_AT_ONCE: usize = 4;

/// A second answer that is refused is asked for so many times more.
const MORE_TRIES: u32 = 2;

impl Source {
    /// Asks for the logs of a range once more: another endpoint, where there is one that answers the same, or this one,
    /// whose answer may come from another replica, and in smaller and smaller parts until no log is new.
    pub(super) async fn second_answers(
        &self,
        fetch: &Fetch,
        candidate: &mut Candidate,
    ) -> Result<Option<(usize, Asked)>, CycleError> {
        let blocks = size_of(fetch);
        let mut asked = None;
        let second = self.second.as_ref().filter(|second| blocks.div_ceil(second.size) <= MOST_PARTS);
        if let Some(Second { endpoint, size }) = second {
            let (became, settled) = match self.logs_in_parts(endpoint, fetch.blocks.clone(), *size).await {
                Ok(logs) => {
                    let became = Asked::Answered { size: blocks.min(*size), logs: logs.len() };
                    (became, !candidate.add_second(logs, true)?)
                }
                Err(CycleError::Range { blocks, first, error }) => {
                    (asked_of(error.kind, blocks, first), false)
                }
                Err(_) => (Asked::Failed, false),
            };
            asked = Some((endpoint.index, became));
            if settled {
                return Ok(asked);
            }
        }
        // Of two blocks, the second one would end a part again.
        let mut parts = if candidate.is_empty() || blocks <= 2 { 1 } else { 2 };
        loop {
            let logs = self.logs_again(fetch, parts, !candidate.is_empty()).await?;
            if !candidate.add_second(logs, false)? || parts >= blocks {
                return Ok(asked);
            }
            asked = Some((self.endpoint.index, Asked::TooLarge { size: blocks }));
            parts *= 2;
        }
    }

    /// The logs of a range in this many parts. `beyond`: with the next block, as the last block of an answer is where nodes
    /// are short of logs; but not where that one is too much.
    async fn logs_again(&self, fetch: &Fetch, parts: u64, beyond: bool) -> Result<Vec<Log>, CycleError> {
        let (first, last) = fetch.blocks.clone().into_inner();
        if beyond && last < self.head.number {
            let size = (size_of(fetch) + 1).div_ceil(parts);
            match self.logs_in_parts(&self.endpoint, first..=last + 1, size).await {
                Err(CycleError::Range { error, .. }) if !error.kind.is_endpoint_failure() => {}
                logs => return logs,
            }
        }
        self.logs_in_parts(&self.endpoint, first..=last, size_of(fetch).div_ceil(parts)).await
    }

    /// The logs of the contract in these blocks as an endpoint has them, in log order.
    pub(in crate::follow) async fn logs_of_contract(
        &self,
        endpoint: &Endpoint,
        blocks: RangeInclusive<u64>,
        size: u64,
    ) -> Result<Vec<Log>, CycleError> {
        let logs = self.logs_in_parts(endpoint, blocks.clone(), size).await?;
        let mut logs = chain::arrange(logs, blocks, self.contract)?;
        logs.retain(decode::is_known);
        Ok(logs)
    }

    /// The logs of these blocks as an endpoint has them, `size` blocks at a time.
    async fn logs_in_parts(
        &self,
        endpoint: &Endpoint,
        blocks: RangeInclusive<u64>,
        size: u64,
    ) -> Result<Vec<Log>, CycleError> {
        let (first, last) = blocks.into_inner();
        let size = size.max(1);
        let starts = std::iter::successors(Some(first), |first| first.checked_add(size));
        let starts: Vec<_> = starts.take_while(|first| *first <= last).collect();
        let mut logs = Vec::new();
        for starts in starts.chunks(PARTS_AT_ONCE) {
            let parts = starts.iter().map(|first| *first..=last.min(first.saturating_add(size - 1)));
            let calls: Vec<_> =
                parts.clone().map(|blocks| self.logs_call(*blocks.start(), *blocks.end())).collect();
            let answers = endpoint.send(&calls).await;
            for ((blocks, call), answer) in parts.zip(&calls).zip(answers) {
                logs.extend(self.logs_of_part(endpoint, call, answer, &blocks).await?);
            }
        }
        Ok(logs)
    }

    /// The logs of these blocks from the answer to this call. The endpoint has just answered as much, so that a refusal is
    /// hardly one of the size.
    async fn logs_of_part(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        mut answer: Answer,
        blocks: &RangeInclusive<u64>,
    ) -> Result<Vec<Log>, CycleError> {
        for _ in 0..MORE_TRIES {
            if !matches!(answer, Err(rpc::Error { kind: ErrorKind::Rpc(_), .. })) {
                break;
            }
            answer = endpoint.ask(call.clone()).await;
        }
        let mut logs = self.logs_of_range(endpoint, call, answer, blocks).await?;
        logs.retain(|log| blocks.contains(&log.block));
        Ok(logs)
    }

    /// The logs of one block, from the answer to a call by its hash. Some nodes know no such call: it is then asked
    /// for by its number, and logs of another hash are nobody's.
    pub(super) async fn block_logs(&self, answer: Answer, header: &Header) -> Result<Vec<Log>, CycleError> {
        let mut call = self.block_logs_call(header.block.hash);
        let is_refused = |answer: &Answer| {
            answer.as_ref().is_err_and(|error| error.kind == ErrorKind::Rpc(Refusal::Other))
        };
        let mut answer = answer;
        if is_refused(&answer) {
            answer = self.endpoint.ask(call.clone()).await;
            if is_refused(&answer) {
                let number = header.block.number;
                call = self.logs_call(number, number);
                answer = self.endpoint.ask(call.clone()).await;
            }
        }
        self.logs_by_topic(&self.endpoint, &call, answer).await
    }

    /// The logs of a range from the answer to this call.
    pub(super) async fn logs_of_range(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        answer: Answer,
        blocks: &RangeInclusive<u64>,
    ) -> Result<Vec<Log>, CycleError> {
        let (first, last) = blocks.clone().into_inner();
        let logs = if first == last {
            self.logs_by_topic(endpoint, call, answer).await
        } else {
            answer.map_err(CycleError::from).and_then(|raw| Ok(chain::logs(&raw)?))
        };
        logs.map_err(|error| match error {
            CycleError::Rpc(error) => CycleError::Range { blocks: last - first + 1, first, error },
            error => error,
        })
    }

    /// The logs of one block from the answer to this call. Where one answer cannot hold them, they are asked for by kind
    /// of event, in as few answers as hold them.
    async fn logs_by_topic(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        answer: Answer,
    ) -> Result<Vec<Log>, CycleError> {
        if answer.as_ref().err().is_none_or(|error| error.kind != ErrorKind::TooLarge) {
            return Ok(chain::logs(&answer?)?);
        }
        let halves = |topics: &[H256]| {
            let (a, b) = topics.split_at(topics.len() / 2);
            [a.to_vec(), b.to_vec()]
        };
        let mut todo = Vec::from(halves(&decode::topics().copied().collect::<Vec<_>>()));
        let mut logs = Vec::new();
        while let Some(topics) = todo.pop() {
            let mut call = call.clone();
            call.params[0]["topics"] = json!([topics]);
            match endpoint.ask(call).await {
                Err(error) if error.kind == ErrorKind::TooLarge && topics.len() > 1 => {
                    todo.extend(halves(&topics));
                }
                answer => logs.extend(chain::logs(&answer?)?),
            }
        }
        Ok(logs)
    }

    pub(super) fn logs_call(&self, first: u64, last: u64) -> Call {
        let blocks = (chain::hex(first), chain::hex(last));
        let filter = json!({"address": self.contract, "fromBlock": blocks.0, "toBlock": blocks.1});
        Call { method: Method::GetLogs, params: json!([filter]) }
    }

    pub(super) fn block_logs_call(&self, hash: H256) -> Call {
        let filter = json!({"address": self.contract, "blockHash": hash});
        Call { method: Method::GetLogs, params: json!([filter]) }
    }
}
