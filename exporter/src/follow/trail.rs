//! The newest blocks as they came as heads, found by their hashes: what was read of one is not asked for again when it
//! is confirmed.
//!
//! Pure. Whatever it says of a block below a head is linked to that head by the hashes of parents; it never mixes
//! branches, nor guesses what lies between.

use std::collections::VecDeque;

use web3::ethabi::ethereum_types::Bloom;
use web3::types::H256;

use super::verify::Reading;
use crate::chain::{self, BlockRef, BloomKey, Header};
use crate::decode;

/// So many blocks are remembered: enough for `finalized` of Ethereum.
const LONGEST: usize = 128;

/// What a block's bloom says of the contract's events.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Bloomed {
    /// There are none in it.
    RuledOut,
    /// There may be.
    Hits(Box<Bloom>),
    /// The node sends no bloom.
    Unknown,
}

/// A block that was a head, or lies between two that were.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub block: BlockRef,
    pub bloom: Bloomed,
    /// `coordination_window()` and `transaction_count()` at it, where they were read.
    pub state: Option<[Reading; 2]>,
}

impl Seen {
    pub(super) fn new(header: &Header, contract: &BloomKey) -> Self {
        let topics = || decode::topics_in_blooms().map(|(_, key)| key);
        let bloom = match &header.bloom {
            None => Bloomed::Unknown,
            Some(bloom) if chain::bloom_hits(bloom, contract, topics()) => Bloomed::Hits(Box::new(*bloom)),
            Some(_) => Bloomed::RuledOut,
        };
        Self { block: header.block, bloom, state: None }
    }

    /// Its header; a bloom that rules everything out is an empty one, which does just that.
    pub(super) fn header(&self) -> Header {
        let bloom = match &self.bloom {
            Bloomed::Hits(bloom) => Some(**bloom),
            Bloomed::RuledOut => Some(Bloom::zero()),
            Bloomed::Unknown => None,
        };
        Header { block: self.block, bloom }
    }
}

/// The blocks that are remembered, those seen last at the end.
#[derive(Debug, Default)]
pub(super) struct Trail {
    blocks: VecDeque<Seen>,
}

impl Trail {
    /// Remembers a block, unless it is known.
    pub(super) fn add(&mut self, seen: Seen) {
        if self.find(seen.block.hash).is_none() {
            self.blocks.push_back(seen);
        }
        if self.blocks.len() > LONGEST {
            self.blocks.pop_front();
        }
    }

    /// Notes the contract's window and count at a block.
    pub(super) fn note_state(&mut self, hash: H256, state: [Reading; 2]) {
        if let Some(seen) = self.blocks.iter_mut().find(|seen| seen.block.hash == hash) {
            seen.state = Some(state);
        }
    }

    /// The blocks between `head` and the highest one below it that is known, where they are few.
    pub(super) fn missing_below(&self, head: u64, most: u64) -> Vec<u64> {
        let below = self.blocks.iter().map(|seen| seen.block.number).filter(|number| *number < head).max();
        let missing = below.map_or(head..head, |below| below + 1..head);
        if missing.end - missing.start > most { Vec::new() } else { missing.collect() }
    }

    /// The chain that ends with this head, downwards, as far as it is known without a gap.
    pub(super) fn chain_below(&self, head: H256) -> impl Iterator<Item = &Seen> {
        // Numbers fall, so that it ends whatever a node calls a block's parent.
        std::iter::successors(self.find(head), |seen| {
            self.find(seen.block.parent).filter(|below| below.block.number + 1 == seen.block.number)
        })
    }

    /// The blocks from `first` to `last` of the chain that ends with this head, if all are known.
    pub(super) fn between(&self, head: H256, first: u64, last: u64) -> Option<Vec<Seen>> {
        let mut blocks: Vec<_> = self
            .chain_below(head)
            .skip_while(|seen| seen.block.number > last)
            .take_while(|seen| seen.block.number >= first)
            .cloned()
            .collect();
        blocks.reverse();
        let complete = blocks.first().is_some_and(|seen| seen.block.number == first)
            && blocks.last().is_some_and(|seen| seen.block.number == last);
        complete.then_some(blocks)
    }

    fn find(&self, hash: H256) -> Option<&Seen> {
        self.blocks.iter().rev().find(|seen| seen.block.hash == hash)
    }
}

#[cfg(test)]
mod tests {
    use web3::ethabi::ethereum_types::BloomInput;

    use super::*;

    fn hash(branch: u64, number: u64) -> H256 {
        H256::from_low_u64_be(branch * 1000 + number)
    }

    fn seen(branch: u64, number: u64, parent: H256) -> Seen {
        let block = BlockRef { number, hash: hash(branch, number), parent, time: number };
        Seen { block, bloom: Bloomed::Unknown, state: None }
    }

    fn numbers(blocks: &[Seen]) -> Vec<u64> {
        blocks.iter().map(|seen| seen.block.number).collect()
    }

    #[test]
    fn a_chain_is_what_its_hashes_link() {
        let mut trail = Trail::default();
        for number in 1..=9 {
            trail.add(seen(1, number, hash(1, number - 1)));
        }
        // Another branch from block 6 on.
        trail.add(seen(2, 7, hash(1, 6)));
        trail.add(seen(2, 8, hash(2, 7)));
        let between = |head, first, last| trail.between(head, first, last).map(|blocks| numbers(&blocks));
        assert_eq!(between(hash(1, 9), 5, 8), Some(vec![5, 6, 7, 8]));
        assert_eq!(between(hash(2, 8), 6, 7), Some(vec![6, 7]));
        let branch = trail.between(hash(2, 8), 7, 7).unwrap();
        assert_eq!(branch[0].block.hash, hash(2, 7));
        assert_eq!(between(hash(2, 8), 8, 9), None);
        assert_eq!(between(hash(1, 9), 0, 3), None);
        assert_eq!(between(hash(3, 9), 5, 8), None);
    }

    #[test]
    fn no_block_is_its_own_parent() {
        let mut trail = Trail::default();
        trail.add(seen(1, 5, hash(1, 5)));
        assert_eq!(trail.between(hash(1, 5), 0, 5).map(|blocks| numbers(&blocks)), None);
        trail.add(seen(1, 6, hash(1, 7)));
        trail.add(seen(1, 7, hash(1, 6)));
        assert_eq!(trail.chain_below(hash(1, 7)).count(), 2);
        assert_eq!(trail.chain_below(hash(1, 6)).count(), 1);
    }

    #[test]
    fn a_gap_is_named_where_it_is_short() {
        let mut trail = Trail::default();
        assert_eq!(trail.missing_below(9, 3), Vec::<u64>::new());
        trail.add(seen(1, 5, hash(1, 4)));
        assert_eq!(trail.missing_below(6, 3), Vec::<u64>::new());
        assert_eq!(trail.missing_below(9, 3), vec![6, 7, 8]);
        assert_eq!(trail.missing_below(10, 3), Vec::<u64>::new());
        // A head that goes back.
        assert_eq!(trail.missing_below(4, 3), Vec::<u64>::new());
        trail.add(seen(1, 9, hash(1, 8)));
        assert_eq!(trail.between(hash(1, 9), 5, 9).map(|blocks| blocks.len()), None);
        for number in 6..9 {
            trail.add(seen(1, number, hash(1, number - 1)));
        }
        assert_eq!(trail.between(hash(1, 9), 5, 9).map(|blocks| blocks.len()), Some(5));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_known_once() {
        let mut trail = Trail::default();
        for number in 1..=1000 {
            for _ in 0..2 {
                trail.add(seen(1, number, hash(1, number - 1)));
            }
        }
        assert_eq!(trail.chain_below(hash(1, 1000)).count(), LONGEST);
        let state = [Reading::Known(None), Reading::Unavailable];
        trail.note_state(hash(1, 999), state);
        let blocks = trail.between(hash(1, 1000), 999, 1000).unwrap();
        assert_eq!((blocks[0].state, blocks[1].state), (Some(state), None));
    }

    #[test]
    fn a_bloom_rules_out_what_has_not_both_address_and_topic() {
        let contract = web3::types::H160::from_low_u64_be(7);
        let with = |inputs: &[&[u8]]| {
            let mut bloom = Bloom::default();
            inputs.iter().for_each(|input| bloom.accrue(BloomInput::Raw(input)));
            Seen::new(
                &Header { block: BlockRef::default(), bloom: Some(bloom) },
                &BloomKey::of(contract.as_bytes()),
            )
            .bloom
        };
        let topic = decode::topics().next().unwrap();
        assert_eq!(with(&[contract.as_bytes()]), Bloomed::RuledOut);
        // What came nevertheless is held against it.
        let ruled_out = Seen { bloom: Bloomed::RuledOut, ..seen(1, 1, hash(1, 0)) };
        assert_eq!(ruled_out.header().bloom, Some(Bloom::zero()));
        assert_eq!(with(&[topic.as_bytes()]), Bloomed::RuledOut);
        assert!(matches!(with(&[contract.as_bytes(), topic.as_bytes()]), Bloomed::Hits(_)));
        let none = Header { block: BlockRef::default(), bloom: None };
        assert_eq!(Seen::new(&none, &BloomKey::of(contract.as_bytes())).bloom, Bloomed::Unknown);
    }
}
