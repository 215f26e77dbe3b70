//! One range of blocks from one endpoint: fetched, and proven whole, or not at all.
//!
//! Changes nothing but the endpoint's own state.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jsonrpc_core::Call;
use web3::ethabi::Token;
use web3::types::{Bytes, H160, U256};

use super::call::{header_call, logs_call, logs_of_block_call, quantity};
use super::trouble::{Trouble, is_lag};
use crate::chain::{self, BlockRef, Header, Incomplete, Log};
use crate::decode;
use crate::plan::{Fetch, RangeLimit};
use crate::rpc::{self, Endpoint, Outcome, Raw};
use crate::views;

/// At most so many calls are put into one exchange.
pub(super) const CALLS_AT_ONCE: u64 = 100;

/// A number that the contract told at some block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// What it told; `None` where it has no such view.
    Known(Option<U256>),
    /// The node does not have the state of that block any more.
    Unavailable,
}

/// A range of blocks with all logs of the contract in it.
#[derive(Debug)]
pub(super) struct Fetched {
    pub fetch: Fetch,
    pub first: BlockRef,
    pub last: BlockRef,
    pub blocks: Vec<LogBlock>,
    /// A block whose bloom promises an event of the contract that did not come.
    pub unkept: Option<u64>,
    /// `coordination_window()` at the last block.
    pub window: Reading,
    /// `transaction_count()` at the last block.
    pub count: Reading,
}

impl Fetched {
    /// How many logs of the contract there are in all.
    pub(super) fn logs(&self) -> usize {
        self.blocks.iter().map(|block| block.logs.len()).sum()
    }
}

/// A block of the range with logs.
#[derive(Debug)]
pub(super) struct LogBlock {
    pub number: u64,
    pub time: u64,
    pub logs: Vec<Log>,
}

/// What to fetch and from whom.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub endpoint: Arc<Endpoint>,
    /// How many calls it answers in one exchange.
    pub calls: Arc<Mutex<RangeLimit>>,
    pub contract: H160,
    /// State below this block was found to be gone: it is not asked for.
    pub oldest_state: u64,
    /// Errors in unknown words went on for so long that they are taken for absent state.
    pub unknown_is_no_state: bool,
    /// The head of the cycle.
    pub head: BlockRef,
}

impl Source {
    /// Fetches a range. Where the endpoint itself fails that may be due to the size, whatever the call.
    pub(super) async fn fetch(&self, fetch: Fetch) -> Result<Fetched, Trouble> {
        let (first, last) = fetch.blocks.clone().into_inner();
        self.whole(fetch).await.map_err(|trouble| match trouble {
            Trouble::Rpc(error) if last > first && error.is_endpoint_failure() => {
                Trouble::Range { blocks: last - first + 1, first, error }
            }
            trouble => trouble,
        })
    }

    async fn whole(&self, fetch: Fetch) -> Result<Fetched, Trouble> {
        let (headers, logs, state) = if self.endpoint.batches() {
            self.together(&fetch).await?
        } else {
            self.one_by_one(&fetch).await?
        };
        let mut logs = chain::arrange(logs, fetch.blocks.clone(), self.contract, &headers)?;
        let unkept = self.check_promises(&headers, &mut logs).await?;
        let ends = |number: &u64| {
            let header = headers.iter().find(|header| header.block.number == *number);
            header
                .map(|header| header.block)
                .ok_or_else(|| Incomplete(format!("no header of block {number}")))
        };
        chain::linked(&headers)?;
        let (first, last) = (ends(fetch.blocks.start())?, ends(fetch.blocks.end())?);
        let blocks = self.dated(logs, &headers, first.time..=last.time).await?;
        let [window, count] = state;
        Ok(Fetched { fetch, first, last, blocks, unkept, window, count })
    }

    /// Everything in one exchange, and so from one replica: whoever has the header of the range's end has
    /// the logs below it. They go last, to be asked for again with a header that was missing at first.
    async fn together(&self, fetch: &Fetch) -> Result<(Vec<Header>, Vec<Log>, [Reading; 2]), Trouble> {
        let numbers = headers_of(fetch);
        let mut calls: Vec<Call> = numbers.iter().map(|number| header_call(*number)).collect();
        calls.extend(self.state_calls(*fetch.blocks.end()));
        calls.push(logs_call(self.contract, &fetch.blocks));
        let mut answers = self.endpoint.send(calls).await;
        if !self.endpoint.batches() {
            // It was no single exchange.
            return self.one_by_one(fetch).await;
        }
        let logs = answers.pop().map(|answer| self.range_logs(answer, fetch));
        // Before the others: an exchange that failed as a whole may have asked for too many blocks.
        let logs = logs.unwrap_or_else(|| Err(Trouble::Incomplete("no answer".to_owned())))?;
        let state = answers.split_off(numbers.len());
        let headers = read_headers(answers, &numbers)?;
        Ok((headers, logs, self.state(state.into_iter(), *fetch.blocks.end())?))
    }

    /// Without batches each answer may come from another replica. Close to the head the logs are therefore
    /// asked for by the hash of their block, which a replica that lags does not know.
    async fn one_by_one(&self, fetch: &Fetch) -> Result<(Vec<Header>, Vec<Log>, [Reading; 2]), Trouble> {
        let numbers = headers_of(fetch);
        let mut logs = Vec::new();
        if !fetch.near_head {
            let answer = self.endpoint.send_one(logs_call(self.contract, &fetch.blocks)).await;
            logs = self.range_logs(answer, fetch)?;
        }
        let headers = self.endpoint.send(numbers.iter().map(|number| header_call(*number)).collect()).await;
        let headers = read_headers(headers, &numbers)?;
        if fetch.near_head {
            for header in &headers {
                let answer =
                    self.endpoint.send_one(logs_of_block_call(self.contract, header.block.hash)).await;
                logs.extend(chain::logs(&answer?)?);
            }
        }
        let end = *fetch.blocks.end();
        let answers = self.endpoint.send(self.state_calls(end)).await;
        Ok((headers, logs, self.state(answers.into_iter(), end)?))
    }

    fn range_logs(&self, answer: Result<Raw, rpc::Error>, fetch: &Fetch) -> Result<Vec<Log>, Trouble> {
        let blocks = fetch.blocks.end() - fetch.blocks.start() + 1;
        match answer {
            Ok(raw) => Ok(chain::logs(&raw)?),
            Err(error) => Err(Trouble::Range { blocks, first: *fetch.blocks.start(), error }),
        }
    }

    /// A bloom that promises an event where no log came: the block is asked for once more by its hash, and
    /// what it holds is added to the logs. Returns the block of a promise that is still not kept, though the
    /// bloom is too empty to promise by chance.
    async fn check_promises(&self, headers: &[Header], logs: &mut Vec<Log>) -> Result<Option<u64>, Trouble> {
        let promised = chain::promised(headers, logs, self.contract, decode::topics());
        let calls = promised.iter().map(|header| logs_of_block_call(self.contract, header.block.hash));
        let answers = self.send_all(calls.collect()).await?;
        let mut unkept = None;
        for (answer, header) in answers.into_iter().zip(&promised) {
            let number = header.block.number;
            let left_out = chain::arrange(chain::logs(&answer?)?, number..=number, self.contract, headers)?;
            let chance =
                header.bloom.as_ref().map(|bloom| chain::false_promise(bloom, decode::topics().count()));
            if left_out.is_empty() && chance.is_some_and(|chance| chance < CHANCE) {
                unkept.get_or_insert(number);
            }
            logs.extend(left_out);
        }
        Ok(unkept)
    }

    /// Whether the size of the range is to blame, and the smallest one that is refused: asked for logs alone,
    /// without all that goes with them. It is not the size where a single block is refused too, nor where
    /// the whole range is not when asked for once more.
    pub(super) async fn blamed(&self, trouble: &Trouble) -> Trouble {
        let Trouble::Range { blocks, first, error } = trouble else { return trouble.clone() };
        let (mut blocks, first) = (*blocks, *first);
        if blocks < 2 || error.is_endpoint_failure() || is_lag(error) {
            return trouble.clone();
        }
        let logs =
            |blocks: u64| self.endpoint.send_one(logs_call(self.contract, &(first..=first + blocks - 1)));
        if let Err(error) = logs(1).await {
            return Trouble::Range { blocks: 1, first, error };
        }
        let Err(mut error) = logs(blocks).await else { return Trouble::Incomplete(trouble.to_string()) };
        while blocks > 3
            && !error.is_endpoint_failure()
            && let Err(again) = logs(blocks / 2).await
        {
            (blocks, error) = (blocks / 2, again);
        }
        Trouble::Range { blocks, first, error }
    }

    /// Puts the logs into their blocks, each with its time: from its header, or from the logs where those of
    /// one block checked against its header tell the truth.
    async fn dated(
        &self,
        logs: Vec<Log>,
        headers: &[Header],
        times: std::ops::RangeInclusive<u64>,
    ) -> Result<Vec<LogBlock>, Trouble> {
        let mut known: HashMap<u64, u64> = headers.iter().map(|h| (h.block.number, h.block.time)).collect();
        let mut blocks: BTreeMap<u64, Vec<Log>> = BTreeMap::new();
        for log in logs {
            blocks.entry(log.block()).or_default().push(log);
        }
        let told = |logs: &[Log]| {
            let time = logs.first()?.time()?;
            logs.iter().all(|log| log.time() == Some(time) && times.contains(&time)).then_some(time)
        };
        let mut unknown: Vec<u64> =
            blocks.keys().filter(|number| !known.contains_key(number)).copied().collect();
        let all_told = unknown.iter().all(|number| told(&blocks[number]).is_some());
        if let Some(sample) = unknown.last().copied().filter(|_| all_told) {
            known.extend(self.block_times(&[sample], &blocks).await?);
            if known.get(&sample).copied() == told(&blocks[&sample]) {
                known.extend(unknown.drain(..).filter_map(|number| Some((number, told(&blocks[&number])?))));
            }
        }
        unknown.retain(|number| !known.contains_key(number));
        known.extend(self.block_times(&unknown, &blocks).await?);
        let dated = blocks.into_iter().map(|(number, logs)| {
            let time = known.get(&number).copied();
            let time = time.ok_or_else(|| Trouble::Incomplete(format!("no header of block {number}")))?;
            Ok(LogBlock { number, time, logs })
        });
        dated.collect()
    }

    async fn block_times(
        &self,
        numbers: &[u64],
        blocks: &BTreeMap<u64, Vec<Log>>,
    ) -> Result<Vec<(u64, u64)>, Trouble> {
        let mut times = Vec::with_capacity(numbers.len());
        for header in self.headers(numbers).await? {
            let (number, hash) = (header.block.number, header.block.hash);
            if blocks.get(&number).is_some_and(|logs| logs.iter().any(|log| log.block_hash != hash)) {
                return Err(Trouble::Incomplete(format!("logs and header of block {number} differ")));
            }
            times.push((number, header.block.time));
        }
        Ok(times)
    }

    /// The headers of these blocks, all of them.
    pub(super) async fn headers(&self, numbers: &[u64]) -> Result<Vec<Header>, Trouble> {
        read_headers(
            self.send_all(numbers.iter().map(|number| header_call(*number)).collect()).await?,
            numbers,
        )
    }

    /// The coordination window in force at each of these blocks.
    pub(super) async fn windows_at(&self, blocks: &[u64]) -> Result<Vec<Reading>, Trouble> {
        let answers =
            self.send_all(blocks.iter().map(|block| self.view_call(WINDOW, *block)).collect()).await?;
        answers.into_iter().map(|answer| self.reading(WINDOW, answer)).collect()
    }

    /// Sends any number of calls, so many at a time as the endpoint answers.
    async fn send_all(&self, calls: Vec<Call>) -> Result<Vec<Result<Raw, rpc::Error>>, Trouble> {
        let limit = || self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut results = Vec::with_capacity(calls.len());
        while results.len() < calls.len() {
            let rest = &calls[results.len()..];
            let most = usize::try_from(limit().size()).unwrap_or(usize::MAX);
            let some = &rest[..most.min(rest.len())];
            let mut answers = self.endpoint.send(some.to_vec()).await;
            let failure = |answer: &Result<Raw, rpc::Error>| {
                answer.as_ref().err().filter(|error| error.is_endpoint_failure()).cloned()
            };
            if let Some(error) = answers.iter().find_map(failure) {
                // Each call of a batch may count against the rate.
                if matches!(error.outcome, Outcome::Timeout | Outcome::RateLimited) {
                    limit().refuse(some.len() as u64);
                }
                return Err(error.into());
            }
            limit().accept(some.len() as u64, 0);
            self.ask_again(some, &mut answers).await;
            results.extend(answers);
        }
        Ok(results)
    }

    /// A busy node breaks off a call now and then: where that befell a few of many, they are sent once more.
    async fn ask_again(&self, calls: &[Call], answers: &mut [Result<Raw, rpc::Error>]) {
        let broken = |answer: &Result<Raw, rpc::Error>| {
            answer.as_ref().is_err_and(|error| error.may_mean_no_state() && !self.is_no_state(error))
        };
        let few = answers.iter().filter(|answer| broken(answer)).count() * 8 <= calls.len();
        for (call, answer) in calls.iter().zip(answers).filter(|(_, answer)| few && broken(answer)) {
            *answer = self.endpoint.send_one(call.clone()).await;
        }
    }

    /// The coordination window in force at a block.
    pub(super) async fn window_at(&self, block: u64) -> Result<Reading, Trouble> {
        self.reading(WINDOW, self.endpoint.send_one(self.view_call(WINDOW, block)).await)
    }

    /// The number of transactions ever buffered at a block.
    pub(super) async fn count_at(&self, block: u64) -> Result<Reading, Trouble> {
        self.reading(COUNT, self.endpoint.send_one(self.view_call(COUNT, block)).await)
    }

    fn state_calls(&self, block: u64) -> Vec<Call> {
        let asked = if block >= self.oldest_state { &[WINDOW, COUNT][..] } else { &[] };
        asked.iter().map(|view| self.view_call(view, block)).collect()
    }

    fn view_call(&self, view: &str, block: u64) -> Call {
        let request = web3::helpers::serialize(&views::request(self.contract, view));
        rpc::call("eth_call", vec![request, quantity(block)])
    }

    /// Whether an error says that the state asked for is not there.
    pub(super) fn is_no_state(&self, error: &rpc::Error) -> bool {
        error.means_no_state() || (self.unknown_is_no_state && error.may_mean_no_state())
    }

    /// What a view's call told, or that the state is not there.
    fn reading(&self, view: &str, answer: Result<Raw, rpc::Error>) -> Result<Reading, Trouble> {
        match answer {
            Ok(raw) => {
                let bytes: Bytes =
                    serde_json::from_str(raw.get()).map_err(|error| chain::unreadable(view, &error))?;
                Ok(Reading::Known(views::decode(view, &bytes).and_then(Token::into_uint)))
            }
            Err(error) if error.is_revert() => Ok(Reading::Known(None)),
            Err(error) if self.is_no_state(&error) => Ok(Reading::Unavailable),
            Err(error) => Err(error.into()),
        }
    }

    fn state(
        &self,
        answers: impl Iterator<Item = Result<Raw, rpc::Error>>,
        block: u64,
    ) -> Result<[Reading; 2], Trouble> {
        let mut state = [Reading::Unavailable; 2];
        for ((place, view), answer) in state.iter_mut().zip([WINDOW, COUNT]).zip(answers) {
            *place = self.reading(view, answer)?;
            // Every node keeps the state close to the head: there its absence is a replica that lags.
            if *place == Reading::Unavailable && block + RECENT_STATE > self.head.number {
                return Err(Trouble::Incomplete(format!("no state of block {block}")));
            }
        }
        Ok(state)
    }
}

const WINDOW: &str = "coordination_window";
const COUNT: &str = "transaction_count";

/// A bloom that would promise an event by chance more often than this proves nothing: at this rate a chain of
/// 2 s a block has one false alarm in two days at most.
const CHANCE: f64 = 1e-5;

/// Nodes keep the state of about the last 128 blocks.
pub(super) const RECENT_STATE: u64 = 100;

fn headers_of(fetch: &Fetch) -> Vec<u64> {
    if fetch.near_head {
        return fetch.blocks.clone().collect();
    }
    let mut ends = vec![*fetch.blocks.start(), *fetch.blocks.end()];
    ends.dedup();
    ends
}

fn read_headers(answers: Vec<Result<Raw, rpc::Error>>, numbers: &[u64]) -> Result<Vec<Header>, Trouble> {
    let read = |(answer, number): (Result<Raw, rpc::Error>, &u64)| {
        let header = chain::header(&answer?)?;
        if header.block.number == *number {
            Ok(header)
        } else {
            Err(Trouble::Incomplete(format!("header of another block than {number}")))
        }
    };
    answers.into_iter().zip(numbers).map(read).collect()
}
