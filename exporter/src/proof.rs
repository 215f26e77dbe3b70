//! Whose word it is that nothing is missing from what was counted.
//!
//! Far below the head an answer counts as proven when another endpoint said the same. Near the head every bloom is
//! looked at, and the logs are asked for once more when they can no longer be late. Pure: asks nobody, counts nothing.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::chain::{BlockRef, Log};

/// Logs are asked for again once their block is this old, in seconds of chain time: none is that late.
const LATEST: u64 = 120;

/// No more blocks than this are asked for again at once, but for a range that is larger by itself.
const MOST_BLOCKS: u64 = 64;

/// No more stretches of believed blocks are remembered one by one.
const STRETCHES: usize = 1000;

/// Whose word the logs of a range are.
#[derive(Debug, PartialEq)]
pub enum Witness {
    /// Every header was read, and no bloom hits for more; by block, what was counted.
    Blooms(Vec<Counted>),
    /// Two endpoints answered alike.
    TwoEndpoints,
    /// One endpoint.
    OneEndpoint,
}

/// The logs of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Block number.
    block: u64,
    /// How many there are.
    logs: u64,
    /// Another one for other logs, in whatever order they are.
    digest: u64,
}

/// What was counted of some blocks in a row, of which the logs are to be asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    first: u64,
    last: u64,
    /// Block time of the last block when the first was new.
    since: u64,
    /// Block time of the last block.
    until: u64,
    counted: Vec<Counted>,
}

/// What a later answer about a stretch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The logs that were counted.
    Same,
    /// Others than were counted, or more.
    More,
    /// Some that were counted are not in it.
    Fewer,
}

/// How far a history is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// First and last of blocks in a row that are the word of one endpoint.
    believed: Vec<(u64, u64)>,
    unchecked: VecDeque<Stretch>,
}

/// What is counted of each block, for logs in the order of their blocks.
pub fn counted(logs: &[Log]) -> Vec<Counted> {
    let of_block = |logs: &[Log]| Counted {
        block: logs[0].block,
        logs: logs.len() as u64,
        digest: logs.iter().map(digest).fold(0, u64::wrapping_add),
    };
    logs.chunk_by(|a, b| a.block == b.block).map(of_block).collect()
}

/// Of what a log says, and where; not of its number, as not all nodes count logs alike.
fn digest(log: &Log) -> u64 {
    let mut context = Context::new(&SHA256);
    context.update(log.block_hash.as_bytes());
    context.update(log.tx_hash.as_bytes());
    for topic in &log.topics {
        context.update(topic.as_bytes());
    }
    context.update(&log.data.0);
    let digest = context.finish();
    digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Stretch {
    /// The blocks.
    pub fn blocks(&self) -> RangeInclusive<u64> {
        self.first..=self.last
    }

    fn compare(&self, later: &[Counted]) -> Verdict {
        let by_block = |counted: &[Counted]| {
            let within = counted.iter().filter(|of| self.blocks().contains(&of.block));
            within.map(|of| (of.block, *of)).collect::<BTreeMap<_, _>>()
        };
        let (ours, later) = (by_block(&self.counted), by_block(later));
        let is_new = |of: &Counted| {
            ours.get(&of.block).is_none_or(|ours| of.logs >= ours.logs && of.digest != ours.digest)
        };
        if later.values().any(is_new) {
            Verdict::More
        } else if ours == later {
            Verdict::Same
        } else {
            Verdict::Fewer
        }
    }
}

impl Proof {
    /// The history went on over these blocks. `complete`: nothing is known to be missing from them.
    pub fn extend(&mut self, first: BlockRef, last: BlockRef, witness: &Witness, complete: bool) {
        match witness {
            Witness::Blooms(counted) if complete => self.check_later(first, last, counted),
            Witness::TwoEndpoints if complete => {}
            _ => self.believe(first.number, last.number),
        }
    }

    fn check_later(&mut self, first: BlockRef, last: BlockRef, counted: &[Counted]) {
        let follows = |stretch: &&mut Stretch| {
            stretch.last + 1 == first.number
                && last.number - stretch.first < MOST_BLOCKS
                && last.time.saturating_sub(stretch.since) < LATEST
        };
        if let Some(stretch) = self.unchecked.back_mut().filter(follows) {
            (stretch.last, stretch.until) = (last.number, last.time);
            stretch.counted.extend_from_slice(counted);
            return;
        }
        self.unchecked.push_back(Stretch {
            first: first.number,
            last: last.number,
            since: last.time,
            until: last.time,
            counted: counted.to_vec(),
        });
    }

    /// What is due was not answered again, for too long: it stays the word of one endpoint.
    pub fn give_up(&mut self) {
        if let Some(stretch) = self.unchecked.pop_front() {
            self.believe(stretch.first, stretch.last);
        }
    }

    fn believe(&mut self, first: u64, last: u64) {
        let place = self.believed.partition_point(|(before, _)| *before < first);
        match place.checked_sub(1).map(|before| &mut self.believed[before]).filter(|(_, it)| it + 1 == first)
        {
            Some((_, before)) => *before = last,
            None => self.believed.insert(place, (first, last)),
        }
        if self.believed.len() > STRETCHES {
            // What lies between is counted as believed, too.
            let (_, last) = self.believed.remove(1);
            self.believed[0].1 = last;
        }
    }

    /// The history ends at this block now.
    pub fn rewind(&mut self, to: u64) {
        self.believed.retain(|(first, _)| *first <= to);
        if let Some((_, last)) = self.believed.last_mut() {
            *last = to.min(*last);
        }
        self.unchecked.retain(|stretch| stretch.first <= to);
        if let Some(stretch) = self.unchecked.back_mut() {
            stretch.last = to.min(stretch.last);
            stretch.counted.retain(|of| of.block <= to);
        }
    }

    /// What is to be asked for again now, given the time of the head.
    pub fn due(&self, now: u64) -> Option<&Stretch> {
        self.unchecked.front().filter(|stretch| stretch.until.saturating_add(LATEST) <= now)
    }

    /// Compares the stretch that is due with the logs of a later answer; the same ones prove it.
    pub fn check(&mut self, later: &[Log]) -> Verdict {
        let verdict =
            self.unchecked.front().map_or(Verdict::Same, |stretch| stretch.compare(&counted(later)));
        if verdict == Verdict::Same {
            self.unchecked.pop_front();
        }
        verdict
    }

    /// How many blocks are not proven, or not yet.
    pub fn unproven(&self) -> u64 {
        let believed = self.believed.iter().map(|(first, last)| last - first + 1);
        let unchecked = self.unchecked.iter().map(|stretch| stretch.last - stretch.first + 1);
        believed.chain(unchecked).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use web3::types::H256;

    use super::*;

    fn block(number: u64) -> BlockRef {
        BlockRef { number, time: number * 2, ..BlockRef::default() }
    }

    fn log(block: u64, data: u8) -> Log {
        Log { block, data: vec![data].into(), block_hash: H256::from_low_u64_be(block), ..Log::default() }
    }

    fn near(proof: &mut Proof, block_number: u64, logs: &[Log]) {
        let block = block(block_number);
        proof.extend(block, block, &Witness::Blooms(counted(logs)), true);
    }

    #[test]
    fn a_later_answer_is_held_against_what_was_counted() {
        let counted = [log(10, 1), log(10, 2), log(12, 3)];
        for (later, verdict) in [
            (vec![log(10, 1), log(10, 2), log(12, 3)], Verdict::Same),
            (vec![log(10, 2), log(10, 1), log(12, 3)], Verdict::Same),
            // Blocks beside the stretch do not matter.
            (vec![log(9, 7), log(10, 1), log(10, 2), log(12, 3), log(14, 7)], Verdict::Same),
            (vec![log(10, 1), log(10, 2), log(12, 3), log(12, 4)], Verdict::More),
            (vec![log(10, 1), log(10, 2), log(11, 9), log(12, 3)], Verdict::More),
            (vec![log(10, 1), log(10, 9), log(12, 3)], Verdict::More),
            (vec![log(10, 1), log(12, 3)], Verdict::Fewer),
            (vec![log(12, 3)], Verdict::Fewer),
            (vec![], Verdict::Fewer),
            (vec![log(11, 9), log(12, 3)], Verdict::More),
        ] {
            let mut proof = Proof::default();
            proof.extend(block(10), block(13), &Witness::Blooms(super::counted(&counted)), true);
            assert_eq!(proof.check(&later), verdict, "{later:?}");
            assert_eq!(proof.unproven(), if verdict == Verdict::Same { 0 } else { 4 }, "{later:?}");
        }
    }

    #[test]
    fn blocks_near_the_head_are_due_once_nothing_can_be_late() {
        let mut proof = Proof::default();
        for number in 100..=250 {
            near(&mut proof, number, &[log(number, 1)]);
        }
        assert_eq!(proof.unproven(), 151);
        let first = proof.due(block(250).time).unwrap().clone();
        // As many as came in two minutes.
        assert_eq!(first.blocks(), 100..=159);
        assert!(proof.due(block(159).time + LATEST - 1).is_none());
        let logs: Vec<_> = first.blocks().map(|number| log(number, 1)).collect();
        assert_eq!(proof.check(&logs), Verdict::Same);
        assert_eq!(proof.unproven(), 91);
        assert!(proof.due(block(250).time).is_none());
    }

    #[test]
    fn what_is_never_answered_again_holds_nothing_up() {
        let mut proof = Proof::default();
        for number in 100..=250 {
            near(&mut proof, number, &[log(number, 1)]);
        }
        // Meanwhile the endpoint is believed about a later block.
        proof.extend(block(251), block(260), &Witness::OneEndpoint, true);
        assert_eq!((proof.check(&[]), proof.unproven()), (Verdict::Fewer, 161));
        proof.give_up();
        assert_eq!((proof.unproven(), proof.due(u64::MAX).unwrap().blocks()), (161, 160..=219));
        let mut logs: Vec<_> = (160..=219).map(|number| log(number, 1)).collect();
        logs.push(log(200, 2));
        assert_eq!(proof.check(&logs), Verdict::More);
        proof.rewind(199);
        assert_eq!(proof.unproven(), 100);
    }

    #[test]
    fn far_from_the_head_only_another_endpoint_proves_anything() {
        let mut proof = Proof::default();
        proof.extend(block(10), block(19), &Witness::OneEndpoint, true);
        proof.extend(block(20), block(29), &Witness::TwoEndpoints, true);
        assert_eq!(proof.unproven(), 10);
        proof.extend(block(30), block(39), &Witness::TwoEndpoints, false);
        proof.extend(block(40), block(40), &Witness::Blooms(Vec::new()), false);
        assert_eq!(proof.unproven(), 21);
        assert!(proof.due(u64::MAX).is_none());
    }

    proptest! {
        #[test]
        fn no_block_is_counted_twice_and_none_beyond_the_end(steps in proptest::collection::vec((0..5_u8, 1..50_u64), 0..60)) {
            // Naively, by block: whether it is proven.
            let (mut proof, mut naive) = (Proof::default(), vec![true]);
            for (step, size) in steps {
                let first = naive.len() as u64;
                if step == 4 {
                    proof.give_up();
                    continue;
                }
                if step == 3 {
                    let to = first.saturating_sub(size).max(1) - 1;
                    proof.rewind(to);
                    naive.truncate(to as usize + 1);
                    continue;
                }
                let witness = [Witness::OneEndpoint, Witness::TwoEndpoints, Witness::Blooms(Vec::new())];
                proof.extend(block(first), block(first + size - 1), &witness[usize::from(step)], true);
                naive.extend(std::iter::repeat_n(step == 1, size as usize));
            }
            prop_assert_eq!(proof.unproven(), naive.iter().filter(|proven| !**proven).count() as u64);
            while proof.due(u64::MAX).is_some() {
                prop_assert_eq!(proof.check(&[]), Verdict::Same);
            }
        }
    }
}
