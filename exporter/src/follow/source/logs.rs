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
use crate::plan::{self, Asked, Fetch};
use crate::rpc::{self, Answer, Call, Endpoint, ErrorKind, Method, Raw, Refusal};

/// A second endpoint is not asked for a range in more parts than this: one with a low cap would hold up a first sync.
const MOST_PARTS: u64 = 4;

/// How many parts of a range are asked for in one exchange.
const PARTS_AT_ONCE: usize = 4;

/// What is refused, and hardly for its size, is asked for so many times more.
const MORE_TRIES: u32 = 2;

/// What a second answer about a range is.
#[derive(Debug)]
enum Again {
    /// The logs of the first one, word for word.
    Same,
    /// Perhaps others.
    Logs(Vec<Log>),
}

impl Source {
    /// Asks for the logs of a range once more: another endpoint, where there is one that answers the same, or this one,
    /// whose answer may come from another replica, and in smaller and smaller parts until no log is new.
    pub(super) async fn second_answers(
        &self,
        fetch: &Fetch,
        candidate: &mut Candidate,
    ) -> Result<Option<(usize, Asked)>, CycleError> {
        let mut asked = None;
        let is_worth_it = |second: &&Second| fetch.part.div_ceil(second.size) <= MOST_PARTS;
        let second = self.second.as_ref().filter(is_worth_it);
        if let Some(Second { endpoint, size }) = second {
            let parts = plan::split(fetch.blocks.clone(), *size);
            let (became, settled) = match self.second_answer(endpoint, &parts, candidate).await {
                Ok(Again::Same) => {
                    candidate.record_seconded();
                    (Asked::Answered { size: size_of(fetch), logs: candidate.answered() }, true)
                }
                Ok(Again::Logs(logs)) => {
                    let became = Asked::Answered { size: size_of(fetch), logs: logs.len() };
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
        let mut pieces = 2;
        loop {
            let has_more = match self.logs_again(fetch, pieces, candidate).await? {
                Again::Same => false,
                Again::Logs(logs) => candidate.add_second(logs, false)?,
            };
            if !has_more || pieces > fetch.part {
                return Ok(asked);
            }
            asked = Some((self.endpoint.index, Asked::TooLarge { size: fetch.part }));
            pieces *= 2;
        }
    }

    /// The logs of a range once more, each part of it with logs in so many pieces and with the next block, as the last
    /// block of an answer is where nodes are short of logs; but not where that one is too much. A part without logs in half as many.
    async fn logs_again(
        &self,
        fetch: &Fetch,
        pieces: u64,
        candidate: &Candidate,
    ) -> Result<Again, CycleError> {
        let again = |beyond: u64| -> Vec<_> {
            let split = |part: RangeInclusive<u64>| {
                let (first, last) = part.clone().into_inner();
                let has_logs = candidate.has_logs_in(&part);
                // Of two blocks, the second one would end a piece again.
                let pieces = if has_logs && last - first > 1 { pieces } else { pieces / 2 };
                let last = if has_logs { self.head.number.min(last + beyond).max(last) } else { last };
                plan::split(first..=last, (last - first + 1).div_ceil(pieces))
            };
            fetch.parts().into_iter().flat_map(split).collect()
        };
        match self.second_answer(&self.endpoint, &again(1), candidate).await {
            Err(CycleError::Range { error, .. }) if !error.kind.is_endpoint_failure() => {
                self.second_answer(&self.endpoint, &again(0), candidate).await
            }
            again => again,
        }
    }

    /// The logs of these ranges, unless their text shows that they are those of the first answer.
    async fn second_answer(
        &self,
        endpoint: &Endpoint,
        ranges: &[RangeInclusive<u64>],
        candidate: &Candidate,
    ) -> Result<Again, CycleError> {
        if ranges.len() > PARTS_AT_ONCE {
            return Ok(Again::Logs(self.logs_of_all(endpoint, ranges).await?));
        }
        let answers = endpoint.send(&self.logs_calls(ranges)).await;
        let texts: Option<Vec<&Raw>> = answers.iter().map(|answer| answer.as_ref().ok()).collect();
        if texts.is_some_and(|texts| candidate.is_repeated(&texts)) {
            return Ok(Again::Same);
        }
        Ok(Again::Logs(self.logs_of_answers(endpoint, ranges, answers).await?))
    }

    /// The logs of the contract in these blocks as an endpoint has them, in log order.
    pub(in crate::follow) async fn logs_of_contract(
        &self,
        endpoint: &Endpoint,
        blocks: RangeInclusive<u64>,
        size: u64,
    ) -> Result<Vec<Log>, CycleError> {
        let logs = self.logs_of_all(endpoint, &plan::split(blocks.clone(), size)).await?;
        let mut logs = chain::arrange(logs, blocks, self.contract)?;
        logs.retain(decode::is_known);
        Ok(logs)
    }

    /// The logs of several ranges as an endpoint has them.
    async fn logs_of_all(
        &self,
        endpoint: &Endpoint,
        ranges: &[RangeInclusive<u64>],
    ) -> Result<Vec<Log>, CycleError> {
        let mut logs = Vec::new();
        for ranges in ranges.chunks(PARTS_AT_ONCE) {
            let answers = endpoint.send(&self.logs_calls(ranges)).await;
            logs.extend(self.logs_of_answers(endpoint, ranges, answers).await?);
        }
        Ok(logs)
    }

    async fn logs_of_answers(
        &self,
        endpoint: &Endpoint,
        ranges: &[RangeInclusive<u64>],
        answers: Vec<Answer>,
    ) -> Result<Vec<Log>, CycleError> {
        let mut logs = Vec::new();
        for (blocks, answer) in ranges.iter().zip(answers) {
            logs.extend(self.logs_of_part(endpoint, blocks, answer).await?);
        }
        Ok(logs)
    }

    /// The logs of these blocks from the answer to a call for them. The endpoint has just answered as much, so that a refusal is
    /// hardly one of the size.
    async fn logs_of_part(
        &self,
        endpoint: &Endpoint,
        blocks: &RangeInclusive<u64>,
        answer: Answer,
    ) -> Result<Vec<Log>, CycleError> {
        let answer = unless_refused(endpoint, &self.logs_call(blocks), answer).await;
        let mut logs = self.logs_of_range(endpoint, blocks, answer).await?;
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
                call = self.logs_call(&(number..=number));
                answer = self.endpoint.ask(call.clone()).await;
            }
        }
        self.logs_by_topic(&self.endpoint, &call, answer).await
    }

    /// The logs of a range from the answer to a call for them.
    pub(super) async fn logs_of_range(
        &self,
        endpoint: &Endpoint,
        blocks: &RangeInclusive<u64>,
        answer: Answer,
    ) -> Result<Vec<Log>, CycleError> {
        let (first, last) = blocks.clone().into_inner();
        let logs = if first == last {
            // Less cannot be asked for: with a rest after each refusal, a balancer over nodes of which one refuses would take hours.
            let call = self.logs_call(blocks);
            let answer = unless_refused(endpoint, &call, answer).await;
            self.logs_by_topic(endpoint, &call, answer).await
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

    fn logs_calls(&self, ranges: &[RangeInclusive<u64>]) -> Vec<Call> {
        ranges.iter().map(|blocks| self.logs_call(blocks)).collect()
    }

    pub(super) fn logs_call(&self, blocks: &RangeInclusive<u64>) -> Call {
        let (first, last) = (chain::hex(*blocks.start()), chain::hex(*blocks.end()));
        let filter = json!({"address": self.contract, "fromBlock": first, "toBlock": last});
        Call { method: Method::GetLogs, params: json!([filter]) }
    }

    pub(super) fn block_logs_call(&self, hash: H256) -> Call {
        let filter = json!({"address": self.contract, "blockHash": hash});
        Call { method: Method::GetLogs, params: json!([filter]) }
    }
}

/// The answer to a call, or that to one of a few more of it while it is refused: perhaps by one replica of several.
async fn unless_refused(endpoint: &Endpoint, call: &Call, mut answer: Answer) -> Answer {
    for _ in 0..MORE_TRIES {
        if !matches!(answer, Err(rpc::Error { kind: ErrorKind::Rpc(_), .. })) {
            break;
        }
        answer = endpoint.ask(call.clone()).await;
    }
    answer
}
