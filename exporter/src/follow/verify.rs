//! What nodes answered about a range of blocks, and whether that is the whole truth.
//!
//! Pure: a [`Candidate`] names what is still to be asked, is given the answers, and becomes a
//! [`ProvenRange`], or turns out to be inconsistent. Knows nothing of the blocks before it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use web3::types::{H160, H256, U256};

use super::memory::Blooms;
use crate::chain::{self, BlockRef, BloomKey, Header, Incomplete, Log, Text};
use crate::decode::{self, Event, Logged};
use crate::plan::Fetch;
use crate::proof::{self, Witness};
use crate::rpc::Raw;

/// A bloom that hits by chance more often than this proves nothing: at this rate a chain of 2 s a block has
/// one false alarm in two days at most.
const FALSE_POSITIVE_RATE: f64 = 1e-5;

/// A block with logs is not asked for again where its bloom is so full that it would nearly always hit.
const WORTH_ASKING: f64 = 1e-2;

/// A number that the contract returned at some block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// What it returned; `None` where it has no such view.
    Known(Option<U256>),
    /// The node does not have the state of that block any more.
    Unavailable,
}

/// A range as it was answered.
#[derive(Debug)]
pub(super) struct RawRange {
    pub fetch: Fetch,
    /// Of its first and last block, and near the head of all.
    pub headers: Vec<Header>,
    pub logs: Vec<Log>,
    /// The logs as they came, where all came in one answer and are to be asked for again.
    pub text: Option<Text>,
    /// `coordination_window()` at the last block.
    pub window: Reading,
    /// `transaction_count()` at the last block.
    pub count: Reading,
}

/// A range of blocks with all events of the contract in it.
#[derive(Debug)]
pub(super) struct ProvenRange {
    pub first: BlockRef,
    pub last: BlockRef,
    /// Every header was read.
    pub near_head: bool,
    /// Logs of known events.
    pub logs: usize,
    /// Logs of the contract in the first answer, those of unknown events included.
    pub answered: usize,
    /// The blocks with known events.
    pub blocks: Vec<EventBlock>,
    /// A block whose bloom hits for an event of the contract that did not come.
    pub unmatched: Option<u64>,
    /// How blooms compared with what came.
    pub blooms: Blooms,
    /// Whose word all this is.
    pub witness: Witness,
    /// `coordination_window()` at the last block.
    pub window: Reading,
    /// `transaction_count()` at the last block.
    pub count: Reading,
}

/// A block with its known events in log order.
#[derive(Debug)]
pub(super) struct EventBlock {
    pub number: u64,
    /// Block time, seconds since the Unix epoch.
    pub time: u64,
    pub events: Vec<Logged>,
}

impl ProvenRange {
    /// How many blocks there are.
    pub(super) fn size(&self) -> u64 {
        self.last.number - self.first.number + 1
    }

    /// Whether its first block has a RoleGranted, as the one that deploys a contract with roles does.
    pub(super) fn begins_with_a_role(&self) -> bool {
        let first = self.blocks.first().filter(|block| block.number == self.first.number);
        let is_role = |logged: &Logged| matches!(logged.event, Event::Other { index, .. } if decode::OTHER_EVENTS[index] == "RoleGranted");
        first.is_some_and(|block| block.events.iter().any(is_role))
    }

    /// How many TransactionBuffered events there are.
    pub(super) fn buffered(&self) -> u64 {
        let events = self.blocks.iter().flat_map(|block| &block.events);
        events.filter(|logged| matches!(logged.event, Event::Buffered { .. })).count() as u64
    }
}

/// A range on its way to being proven.
#[derive(Debug)]
pub(super) struct Candidate {
    contract: H160,
    /// The contract as blooms have it.
    in_blooms: BloomKey,
    fetch: Fetch,
    first: BlockRef,
    last: BlockRef,
    window: Reading,
    count: Reading,
    /// By number: of its first and last block, of those with logs, and near the head of all.
    headers: BTreeMap<u64, Header>,
    /// Those of known events, in log order.
    logs: Vec<Log>,
    answered: usize,
    /// The first answer.
    text: Option<Text>,
    /// Blocks with logs of unknown events.
    unknown: BTreeSet<u64>,
    /// Blocks of which logs of another branch came.
    orphaned: BTreeSet<u64>,
    /// Blocks whose logs were asked for by their hash.
    asked: BTreeSet<u64>,
    /// Another endpoint answered with the same logs.
    seconded: bool,
    /// No block with logs is believed to have no others.
    thorough: bool,
}

impl Candidate {
    /// # Errors
    /// The answers contradict each other, or the headers of the range's ends are not there.
    pub(super) fn new(raw: RawRange, contract: H160, thorough: bool) -> Result<Self, Incomplete> {
        let end = |number: u64| {
            let header = raw.headers.iter().find(|header| header.block.number == number);
            header.map(|header| header.block).ok_or_else(|| no_header(number))
        };
        let (first, last) = (end(*raw.fetch.blocks.start())?, end(*raw.fetch.blocks.end())?);
        let logs = chain::arrange(raw.logs, raw.fetch.blocks.clone(), contract)?;
        let mut candidate = Self {
            contract,
            in_blooms: BloomKey::of(contract.as_bytes()),
            first,
            last,
            window: raw.window,
            count: raw.count,
            headers: BTreeMap::new(),
            answered: logs.len(),
            text: raw.text,
            logs: Vec::new(),
            unknown: BTreeSet::new(),
            orphaned: BTreeSet::new(),
            asked: BTreeSet::new(),
            seconded: false,
            thorough,
            fetch: raw.fetch,
        };
        candidate.logs = candidate.known(logs);
        candidate.add_headers(raw.headers)?;
        Ok(candidate)
    }

    /// How many logs the first answer had.
    pub(super) fn answered(&self) -> usize {
        self.answered
    }

    /// Whether any log of these blocks came so far.
    pub(super) fn has_logs_in(&self, blocks: &RangeInclusive<u64>) -> bool {
        self.logs.iter().any(|log| blocks.contains(&log.block))
    }

    /// Whether these answers, one after the other, hold the very logs of the first answer, and no more about the range.
    pub(super) fn is_repeated(&self, answers: &[&Raw]) -> bool {
        let rest = self.text.as_ref().and_then(|text| text.rest(answers));
        rest.is_some_and(|rest| rest.iter().all(|log| !self.fetch.blocks.contains(&log.block)))
    }

    /// Another endpoint answered with the same logs.
    pub(super) fn record_seconded(&mut self) {
        self.seconded = true;
    }

    /// What a second answer about the range has more is added; `of_another`: it is another endpoint's. Returns whether
    /// there is any.
    pub(super) fn add_second(&mut self, logs: Vec<Log>, of_another: bool) -> Result<bool, Incomplete> {
        let before = self.logs.len();
        let logs = chain::arrange(logs, self.fetch.blocks.clone(), self.contract)?;
        let logs = self.known(logs);
        let (logs, alike) = chain::unite(std::mem::take(&mut self.logs), &logs);
        self.logs = logs;
        self.seconded = alike && of_another;
        self.leave_out_orphaned()?;
        Ok(self.logs.len() > before)
    }

    /// The blocks with logs whose headers are to be read, for their times, their hashes and their blooms.
    pub(super) fn headers_wanted(&self) -> Vec<u64> {
        let mut blocks: Vec<u64> = self.logs.iter().map(|log| log.block).collect();
        blocks.dedup();
        blocks.retain(|number| !self.headers.contains_key(number));
        blocks
    }

    /// The headers of [`Self::headers_wanted`]. Logs of a block with another hash are not of this chain: far from the
    /// head they are left out, and the block's own are to be asked for.
    ///
    /// # Errors
    /// The headers are not of one branch; near the head, logs of another one.
    pub(super) fn add_headers(&mut self, headers: Vec<Header>) -> Result<(), Incomplete> {
        self.headers.extend(headers.into_iter().map(|header| (header.block.number, header)));
        self.leave_out_orphaned()?;
        chain::linked(self.headers.values())
    }

    fn leave_out_orphaned(&mut self) -> Result<(), Incomplete> {
        let Self { headers, orphaned, logs, .. } = self;
        let before = orphaned.len();
        logs.retain(|log| {
            let is_orphaned =
                headers.get(&log.block).is_some_and(|header| header.block.hash != log.block_hash);
            if is_orphaned {
                orphaned.insert(log.block);
            }
            !is_orphaned
        });
        match orphaned.last() {
            Some(number) if self.fetch.near_head && orphaned.len() > before => {
                Err(Incomplete(format!("logs and header of block {number} differ")))
            }
            _ => Ok(()),
        }
    }

    /// The blocks that may hold more logs than came: those are to be asked for by hash.
    pub(super) fn doubtful(&self) -> Vec<Header> {
        let is_doubtful = |header: &&Header| {
            let number = header.block.number;
            !self.asked.contains(&number)
                && (self.orphaned.contains(&number)
                    || (self.thorough && !self.logs_of(number).is_empty())
                    || self.chance(header).is_some_and(|(logged, rate)| !logged || rate < WORTH_ASKING))
        };
        self.headers.values().filter(is_doubtful).cloned().collect()
    }

    /// The logs of one of [`Self::doubtful`].
    pub(super) fn add_block(&mut self, header: &Header, mut logs: Vec<Log>) -> Result<(), Incomplete> {
        let BlockRef { number, hash, .. } = header.block;
        logs.retain(|log| log.block_hash == hash);
        let logs = chain::arrange(logs, number..=number, self.contract)?;
        let logs = self.known(logs);
        (self.logs, _) = chain::unite(std::mem::take(&mut self.logs), &logs);
        self.asked.insert(number);
        Ok(())
    }

    /// The range with its events.
    ///
    /// # Errors
    /// A header is missing.
    pub(super) fn prove(self) -> Result<ProvenRange, Incomplete> {
        let is_unmatched = |header: &&Header| {
            // Where the contract did log, the kind may be that of another contract of its kind in the same block.
            self.chance(header).is_some_and(|(logged, rate)| !logged && rate < FALSE_POSITIVE_RATE)
        };
        let unmatched = self.headers.values().find(is_unmatched).map(|header| header.block.number);
        let blooms = self.blooms();
        let mut blocks = Vec::new();
        for logs in self.logs.chunk_by(|a, b| a.block == b.block) {
            let number = logs[0].block;
            let time = self.headers.get(&number).ok_or_else(|| no_header(number))?.block.time;
            let logged = |log: &Log| Some(Logged { tx_hash: log.tx_hash, event: decode::decode(log)? });
            let events: Vec<_> = logs.iter().filter_map(logged).collect();
            if !events.is_empty() {
                blocks.push(EventBlock { number, time, events });
            }
        }
        let witness = match (self.fetch.near_head, self.seconded) {
            (true, _) => Witness::Blooms(proof::counted(&self.logs)),
            (false, true) => Witness::TwoEndpoints,
            (false, false) => Witness::OneEndpoint,
        };
        Ok(ProvenRange {
            first: self.first,
            last: self.last,
            near_head: self.fetch.near_head,
            logs: self.logs.len(),
            answered: self.answered,
            blocks,
            unmatched,
            blooms,
            witness,
            window: self.window,
            count: self.count,
        })
    }

    /// How blooms compare with the logs of their blocks.
    fn blooms(&self) -> Blooms {
        let mut blooms = Blooms::default();
        for logs in self.logs.chunk_by(|a, b| a.block == b.block) {
            let header = self.headers.get(&logs[0].block);
            let Some(bloom) = header.and_then(|header| header.bloom.as_ref()) else { continue };
            let held = |log: &Log| {
                let own = decode::topics_in_blooms().filter(|(topic, _)| log.topics.first() == Some(topic));
                chain::bloom_hits(bloom, &self.in_blooms, own.map(|(_, key)| key))
            };
            match logs.iter().all(held) {
                true => blooms.held += 1,
                false => blooms.broken = true,
            }
        }
        blooms
    }

    /// The logs of known events; where the others are is noted.
    fn known(&mut self, mut logs: Vec<Log>) -> Vec<Log> {
        logs.retain(|log| {
            let is_known = decode::is_known(log);
            if !is_known {
                self.unknown.insert(log.block);
            }
            is_known
        });
        logs
    }

    fn logs_of(&self, number: u64) -> &[Log] {
        let start = self.logs.partition_point(|log| log.block < number);
        let end = self.logs.partition_point(|log| log.block <= number);
        &self.logs[start..end]
    }

    /// Of a block whose bloom hits for a kind of event of the contract that did not come: whether others did, and how
    /// likely that hit is by chance.
    fn chance(&self, header: &Header) -> Option<(bool, f64)> {
        let bloom = header.bloom.as_ref()?;
        let logs = self.logs_of(header.block.number);
        let came = |topic: &H256| logs.iter().any(|log| log.topics.first() == Some(topic));
        let absent = || decode::topics_in_blooms().filter_map(|(topic, key)| (!came(topic)).then_some(key));
        let logged = !logs.is_empty() || self.unknown.contains(&header.block.number);
        chain::bloom_hits(bloom, &self.in_blooms, absent())
            .then(|| (logged, chain::false_positive_rate(bloom, absent().count(), logged)))
    }
}

fn no_header(number: u64) -> Incomplete {
    Incomplete(format!("no header of block {number}"))
}
