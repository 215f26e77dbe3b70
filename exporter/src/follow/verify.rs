//! What a node answered about a range of blocks, and whether that is the whole truth.
//!
//! Pure: a [`Candidate`] names what is still to be asked, is given the answers, and becomes a
//! [`ProvenRange`], or turns out to be inconsistent. Knows nothing of the blocks before it.

use std::collections::{BTreeMap, HashMap};

use web3::types::{H160, U256};

use crate::chain::{self, BlockRef, Header, Incomplete, Log};
use crate::decode::{self, Event, Logged};
use crate::plan::Fetch;

/// A bloom with a higher rate of false positives than this proves nothing: at this rate a chain of 2 s a
/// block has one false alarm in two days at most.
const FALSE_POSITIVE_RATE: f64 = 1e-5;

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
    /// Logs of the contract, those of unknown events included.
    pub logs: usize,
    /// The blocks with known events.
    pub blocks: Vec<EventBlock>,
    /// A block whose bloom hits for an event of the contract that did not come.
    pub unmatched: Option<u64>,
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

    /// How many TransactionBuffered events there are.
    pub(super) fn buffered(&self) -> u64 {
        let events = self.blocks.iter().flat_map(|block| &block.events);
        events.filter(|logged| matches!(logged.event, Event::Buffered { .. })).count() as u64
    }
}

/// Whether the times that logs carry are those of their blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogTimes {
    /// Not yet known: one of them is compared with its header.
    Untested,
    /// That one was right.
    Trusted,
    /// Some are missing or wrong: headers are read.
    Refuted,
}

/// A range on its way to being proven.
#[derive(Debug)]
pub(super) struct Candidate {
    contract: H160,
    raw: RawRange,
    first: BlockRef,
    last: BlockRef,
    unmatched: Option<u64>,
    log_times: LogTimes,
    /// By number: the times in headers.
    times: HashMap<u64, u64>,
}

impl Candidate {
    /// # Errors
    /// The answers contradict each other, or the headers of the range's ends are not there.
    pub(super) fn new(mut raw: RawRange, contract: H160) -> Result<Self, Incomplete> {
        raw.logs = chain::arrange(raw.logs, raw.fetch.blocks.clone(), contract, &raw.headers)?;
        chain::linked(&raw.headers)?;
        let end = |number: u64| {
            let header = raw.headers.iter().find(|header| header.block.number == number);
            header.map(|header| header.block).ok_or_else(|| no_header(number))
        };
        let (first, last) = (end(*raw.fetch.blocks.start())?, end(*raw.fetch.blocks.end())?);
        let times = raw.headers.iter().map(|header| (header.block.number, header.block.time)).collect();
        Ok(Self { contract, raw, first, last, unmatched: None, log_times: LogTimes::Untested, times })
    }

    /// The blocks whose bloom hits for an event of the contract, and of which no log came: their logs are to
    /// be asked for by hash.
    pub(super) fn bloom_hits(&self) -> Vec<Header> {
        let hits = chain::bloom_hits(&self.raw.headers, &self.raw.logs, self.contract, decode::topics());
        hits.into_iter().cloned().collect()
    }

    /// The logs of one of [`Self::bloom_hits`]. None at all leave the block unmatched, unless the bloom is so
    /// full that it hits by chance.
    pub(super) fn add_block(&mut self, header: &Header, logs: Vec<Log>) -> Result<(), Incomplete> {
        let number = header.block.number;
        let logs = chain::arrange(logs, number..=number, self.contract, &self.raw.headers)?;
        let topics = decode::topics().count();
        let rate = header.bloom.as_ref().map(|bloom| chain::false_positive_rate(bloom, topics));
        if logs.is_empty() && rate.is_some_and(|rate| rate < FALSE_POSITIVE_RATE) {
            self.unmatched.get_or_insert(number);
        }
        self.raw.logs.extend(logs);
        self.raw.logs.sort_by_key(Log::position);
        Ok(())
    }

    /// The blocks whose headers are to be read for their times; none when all times are known.
    pub(super) fn undated(&self) -> Vec<u64> {
        let blocks = self.log_blocks();
        let unknown: Vec<u64> =
            blocks.keys().filter(|number| !self.times.contains_key(number)).copied().collect();
        let claimed = |number: &u64| self.claimed_time(&blocks[number]).is_some();
        match self.log_times {
            LogTimes::Trusted => Vec::new(),
            LogTimes::Untested if unknown.iter().all(claimed) => {
                unknown.last().copied().into_iter().collect()
            }
            LogTimes::Untested | LogTimes::Refuted => unknown,
        }
    }

    /// The headers of [`Self::undated`].
    pub(super) fn date(&mut self, headers: &[Header]) -> Result<(), Incomplete> {
        let blocks = self.log_blocks();
        let mut right = true;
        for BlockRef { number, hash, time, .. } in headers.iter().map(|header| header.block) {
            let logs = blocks.get(&number).map_or(&[][..], Vec::as_slice);
            if logs.iter().any(|log| log.block_hash != hash) {
                return Err(Incomplete(format!("logs and header of block {number} differ")));
            }
            right &= self.claimed_time(logs) == Some(time);
        }
        self.times.extend(headers.iter().map(|header| (header.block.number, header.block.time)));
        self.log_times = if right { LogTimes::Trusted } else { LogTimes::Refuted };
        Ok(())
    }

    /// The range with its events.
    ///
    /// # Errors
    /// A time is missing.
    pub(super) fn prove(self) -> Result<ProvenRange, Incomplete> {
        let mut blocks = Vec::new();
        for (number, logs) in self.log_blocks() {
            let time = match self.times.get(&number) {
                Some(time) => *time,
                None => self.claimed_time(&logs).ok_or_else(|| no_header(number))?,
            };
            let logged =
                |log: &&Log| Some(Logged { tx_hash: log.transaction_hash, event: decode::decode(log)? });
            let events: Vec<_> = logs.iter().filter_map(logged).collect();
            if !events.is_empty() {
                blocks.push(EventBlock { number, time, events });
            }
        }
        Ok(ProvenRange {
            first: self.first,
            last: self.last,
            near_head: self.raw.fetch.near_head,
            logs: self.raw.logs.len(),
            blocks,
            unmatched: self.unmatched,
            window: self.raw.window,
            count: self.raw.count,
        })
    }

    fn log_blocks(&self) -> BTreeMap<u64, Vec<&Log>> {
        let mut blocks: BTreeMap<u64, Vec<&Log>> = BTreeMap::new();
        for log in &self.raw.logs {
            blocks.entry(log.block()).or_default().push(log);
        }
        blocks
    }

    /// The time that all logs of a block carry, if it lies within the range's.
    fn claimed_time(&self, logs: &[&Log]) -> Option<u64> {
        let time = logs.first()?.time()?;
        let within = (self.first.time..=self.last.time).contains(&time);
        (within && logs.iter().all(|log| log.time() == Some(time))).then_some(time)
    }
}

fn no_header(number: u64) -> Incomplete {
    Incomplete(format!("no header of block {number}"))
}

#[cfg(test)]
mod tests {
    use web3::types::H256;

    use super::*;

    fn header(number: u64) -> Header {
        let hash = H256::from_low_u64_be;
        let block = BlockRef { number, hash: hash(number), parent: hash(number - 1), time: number * 2 };
        Header { block, bloom: None }
    }

    fn log(block: u64, time: Option<u64>) -> Log {
        let time = time.map_or("null".to_owned(), |time| format!("\"{time:#x}\""));
        let zeros = "0".repeat(64);
        let json = format!(
            r#"{{"address": "0x{}", "topics": [], "data": "0x", "blockNumber": "{block:#x}", "logIndex": "0x0",
            "blockHash": "{:#x}", "transactionHash": "0x{zeros}", "blockTimestamp": {time}}}"#,
            "0".repeat(40),
            H256::from_low_u64_be(block),
        );
        serde_json::from_str(&json).unwrap()
    }

    fn candidate(logs: Vec<Log>) -> Result<Candidate, Incomplete> {
        let fetch = Fetch { blocks: 10..=20, near_head: false };
        let headers = vec![header(10), header(20)];
        let (window, count) = (Reading::Unavailable, Reading::Unavailable);
        Candidate::new(RawRange { fetch, headers, logs, window, count }, H160::zero())
    }

    #[test]
    fn times_are_read_from_headers_unless_those_of_the_logs_are_right() {
        for (logs, questions) in [
            // Nothing to ask.
            (vec![], vec![]),
            (vec![log(20, None)], vec![]),
            // The newest is a sample for all.
            (vec![log(11, Some(22)), log(12, Some(24))], vec![vec![12]]),
            // It is wrong, or one is absent: all are read.
            (vec![log(11, Some(22)), log(12, Some(25))], vec![vec![12], vec![11]]),
            (vec![log(11, None), log(12, Some(24))], vec![vec![11, 12]]),
            // No time of this range.
            (vec![log(11, Some(0)), log(12, Some(24))], vec![vec![11, 12]]),
        ] {
            let mut candidate = candidate(logs).unwrap();
            for expected in questions {
                let asked = candidate.undated();
                assert_eq!(asked, expected);
                candidate.date(&asked.into_iter().map(header).collect::<Vec<_>>()).unwrap();
            }
            assert!(candidate.undated().is_empty());
            candidate.prove().unwrap();
        }
    }

    #[test]
    fn a_range_without_its_ends_or_with_another_block_proves_nothing() {
        let fetch = Fetch { blocks: 10..=20, near_head: false };
        let (window, count) = (Reading::Unavailable, Reading::Unavailable);
        let raw = RawRange { fetch, headers: vec![header(10)], logs: vec![], window, count };
        assert_eq!(Candidate::new(raw, H160::zero()).unwrap_err().0, "no header of block 20");

        let mut of_another = candidate(vec![log(12, None)]).unwrap();
        let mut other = header(12);
        other.block.hash = H256::repeat_byte(7);
        assert_eq!(of_another.date(&[other]).unwrap_err().0, "logs and header of block 12 differ");
    }

    #[test]
    fn a_bloom_hit_is_matched_by_logs_or_left_unmatched_unless_it_is_by_chance() {
        use web3::ethabi::ethereum_types::{Bloom, BloomInput};
        let mut bloom = Bloom::default();
        bloom.accrue(BloomInput::Raw(H160::zero().as_bytes()));
        bloom.accrue(BloomInput::Raw(decode::topics().next().unwrap().as_bytes()));
        for (bloom, logs, unmatched) in [
            (bloom, vec![], Some(20)),
            (bloom, vec![log(20, None)], None),
            (Bloom::repeat_byte(0xff), vec![], None),
        ] {
            let mut candidate = candidate(vec![]).unwrap();
            candidate.raw.headers[1].bloom = Some(bloom);
            let hits = candidate.bloom_hits();
            assert_eq!(hits.len(), 1);
            candidate.add_block(&hits[0], logs).unwrap();
            assert_eq!(candidate.prove().unwrap().unmatched, unmatched);
        }
    }
}
