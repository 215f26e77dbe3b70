//! The history of the contract as far as it was read: the ledger, where it begins, how its count compares with
//! the contract's own, and what is known to be missing.
//!
//! Pure: decides whether a range follows, and never asks a node, looks at a clock or logs.

use std::collections::VecDeque;

use web3::types::{H256, U256};

use super::verify::{ProvenRange, Reading};
use super::windows::Resolved;
use crate::chain::BlockRef;
use crate::ledger::{Expired, Ledger};
use crate::state::Gap;

/// How many gaps are remembered, the oldest ones: whoever goes back to one reads all later ones again.
const GAPS: usize = 16;

/// How many left branches are remembered.
const BRANCHES: usize = 16;

/// What was read of one network's chain.
#[derive(Debug, Default)]
pub(super) struct History {
    pub ledger: Ledger,
    /// The block at which it begins; `None` until it is found.
    pub first_block: Option<u64>,
    /// The configured beginning.
    start_block: Option<u64>,
    /// The first block that was read: on another chain it has another hash.
    pub anchor: Option<BlockRef>,
    /// How the counts compared last.
    pub count_check: Option<CountCheck>,
    /// Events that were buffered before a configured beginning.
    pub buffered_before: Option<i64>,
    /// A difference of unknown origin was answered by reading everything again.
    reread: bool,
    /// Logs that the ledger was carried past without, oldest first.
    pub gaps: Vec<Gap>,
    /// How far branches were read that were left, so that going back to one is not counted again.
    left_branches: VecDeque<BlockRef>,
}

/// The contract's own count compared with that of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountCheck {
    /// The block at which they were compared.
    pub block: u64,
    /// `transaction_count()` minus buffered events.
    pub missing: i64,
}

/// Whether a range follows on a history.
#[derive(Debug, PartialEq)]
pub(super) enum Placement {
    /// It does; `gap` is what is then done without.
    Next { gap: Option<Gap> },
    /// The chain has another block here, where the history was read already.
    Diverged { at: u64 },
    /// Logs are missing from it, and may still come.
    Wait(Missing),
    /// The history is to be read again, from this block, or from one that is yet to be found.
    Restart { from: Option<u64> },
}

/// Logs that must be there and did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// `transaction_count()` at this block counts more.
    Counted { block: u64 },
    /// The bloom of this block hits.
    Bloom { block: u64 },
}

/// What a range brought.
#[derive(Debug)]
pub(super) struct Extended {
    /// What expired in it.
    pub expired: Vec<Expired>,
    /// The counts differ, and did not before.
    pub difference: Option<CountCheck>,
}

/// How the history changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rewound {
    /// It ends at this block now.
    To(u64),
    /// The journal does not reach that far: it is to be read again from this block, or from one that is yet to
    /// be found.
    Restart { from: Option<u64> },
}

impl History {
    pub(super) fn new(start_block: Option<u64>) -> Self {
        Self { start_block, first_block: start_block, ..Self::default() }
    }

    /// The block that follows, given where the history begins.
    pub(super) fn next_block(&self, first: u64) -> u64 {
        self.ledger.block().map_or(first, |block| block.number + 1)
    }

    /// The block of deployment was found: nothing was counted before it.
    pub(super) fn begins_at(&mut self, first: u64) {
        self.first_block = Some(first);
        self.count_check = Some(CountCheck { block: first.saturating_sub(1), missing: 0 });
    }

    /// The configured beginning may lie after the deployment: what was counted before it is not missing. `count`
    /// is `transaction_count()` right before the first block.
    pub(super) fn begins_after(&mut self, block: u64, count: U256) {
        let missing = signed(count);
        self.count_check = Some(CountCheck { block, missing });
        self.buffered_before = Some(missing);
    }

    /// Nothing is known yet of the events before the first block.
    pub(super) fn needs_count_before(&self) -> bool {
        self.ledger.block().is_none() && self.count_check.is_none()
    }

    /// Whether a range follows. `patient`: missing logs are waited for; otherwise the endpoint is believed.
    /// `trusts_blooms`: a block whose bloom hits lacks a log.
    pub(super) fn place(&self, range: &ProvenRange, patient: bool, trusts_blooms: bool) -> Placement {
        let first = range.first.number;
        if self.ledger.block().is_some_and(|block| block.hash != range.first.parent) {
            return Placement::Diverged { at: first - 1 };
        }
        let counted = self.missing(range).is_none_or(|missing| missing == self.missing_before());
        let unmatched = range.unmatched.filter(|_| trusts_blooms);
        let missing = match unmatched {
            _ if !counted => Missing::Counted { block: range.last.number },
            Some(block) => Missing::Bloom { block },
            None => return Placement::Next { gap: None },
        };
        // A node that misled about where the history begins does not come to its senses.
        let misled = self.start_block.is_none() && self.first_block == Some(first) && first > 0;
        if !counted && misled && !self.reread {
            return Placement::Restart { from: Some(0) };
        }
        if patient {
            return Placement::Wait(missing);
        }
        // The difference may be older than this range.
        let compared_before = self.count_check.is_some_and(|check| check.block + 1 == first);
        if !counted && !self.reread && !compared_before {
            return Placement::Restart { from: self.first_block };
        }
        let missing_before = self.count_check.map(|check| check.missing);
        Placement::Next {
            gap: Some(Gap { first, last: range.last.number, logs: range.logs, missing_before }),
        }
    }

    /// Carries the history over a range that follows.
    pub(super) fn extend(&mut self, range: &ProvenRange, resolved: &Resolved, gap: Option<Gap>) -> Extended {
        self.anchor.get_or_insert(range.first);
        let expired = self.ledger.apply(&resolved.buffered_before, &resolved.blocks, range.last);
        self.gaps.extend(gap.filter(|_| self.gaps.len() < GAPS));
        Extended { expired, difference: self.compare(range) }
    }

    /// Notes how the counts compare; returns a difference that is news.
    fn compare(&mut self, range: &ProvenRange) -> Option<CountCheck> {
        let Reading::Known(Some(count)) = range.count else { return None };
        let missing = signed(count) - signed(self.ledger.counts().buffered.into());
        let check = CountCheck { block: range.last.number, missing };
        let before = self.count_check.replace(check);
        (missing != 0 && before.is_none_or(|before| before.missing != missing)).then_some(check)
    }

    /// Goes back to a block, the newest that is known to be right; `None`: nothing is.
    pub(super) fn rewind(&mut self, to: Option<u64>) -> Rewound {
        let Some(block) = to.filter(|block| self.ledger.rewind(*block)) else {
            // A beginning that was found, and was wrong, is not looked for again.
            return Rewound::Restart { from: if self.reread { self.first_block } else { self.start_block } };
        };
        let undone = self.gaps.iter().position(|gap| gap.last > block);
        let missing = match undone.and_then(|index| self.gaps.drain(index..).next()) {
            Some(gap) => gap.missing_before,
            None => self.count_check.map(|check| check.missing),
        };
        self.count_check = missing.map(|missing| CountCheck { block, missing });
        Rewound::To(block)
    }

    /// Begins with nothing.
    pub(super) fn restart(&mut self, from: Option<u64>) {
        self.ledger = Ledger::default();
        self.anchor = None;
        self.count_check = None;
        self.buffered_before = None;
        self.gaps.clear();
        self.first_block = from;
    }

    /// From now on a difference does not have everything read again.
    pub(super) fn mark_reread(&mut self) {
        self.reread = true;
    }

    /// The blocks below `head` at which branches were left.
    pub(super) fn left_branches(&self, head: u64) -> Vec<BlockRef> {
        self.left_branches.iter().filter(|tip| tip.number <= head).copied().collect()
    }

    /// Remembers how far the branch was read that is being left.
    pub(super) fn leave_branch(&mut self) {
        self.left_branches.extend(self.ledger.block());
        if self.left_branches.len() > BRANCHES {
            self.left_branches.pop_front();
        }
    }

    /// Of a chain that ends at `head`: the newest block that it must share with the history, and its hash.
    pub(super) fn known_hash(&self, head: u64) -> Option<(u64, H256)> {
        let known = self.ledger.boundaries().chain(self.anchor).find(|block| block.number <= head);
        known.map(|block| (block.number, block.hash))
    }

    fn missing_before(&self) -> i64 {
        self.count_check.map_or(0, |check| check.missing)
    }

    /// What would be missing with this range. What cannot be compared is `None`.
    fn missing(&self, range: &ProvenRange) -> Option<i64> {
        let Reading::Known(Some(count)) = range.count else { return None };
        Some(signed(count) - signed(self.ledger.counts().buffered.into()) - signed(range.buffered().into()))
    }
}

fn signed(number: U256) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counted { block } => {
                write!(f, "transaction_count() counts events up to block {block} that are missing")
            }
            Self::Bloom { block } => {
                write!(f, "the bloom of block {block} hits for an event that is missing")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Event, Logged};
    use crate::follow::verify::EventBlock;

    fn block(number: u64, branch: u64) -> BlockRef {
        let hash = |number: u64| H256::from_low_u64_be(branch * 1000 + number);
        BlockRef { number, hash: hash(number), parent: hash(number.wrapping_sub(1)), time: number * 2 }
    }

    /// A range of a branch with this many buffered events in its last block, of which the contract counts `count`.
    fn range(
        blocks: std::ops::RangeInclusive<u64>,
        branch: u64,
        events: u64,
        count: Option<u64>,
    ) -> ProvenRange {
        let (first, last) = (block(*blocks.start(), branch), block(*blocks.end(), branch));
        let buffered = |index: u64| Logged {
            tx_hash: H256::zero(),
            event: Event::Buffered {
                tx_id: H256::from_low_u64_be(last.number * 100 + index),
                origin: Default::default(),
                target: Default::default(),
                scheduled: 1.into(),
                frozen: false,
            },
        };
        let events =
            EventBlock { number: last.number, time: last.time, events: (0..events).map(buffered).collect() };
        ProvenRange {
            first,
            last,
            near_head: false,
            logs: events.events.len(),
            blocks: vec![events],
            unmatched: None,
            window: Reading::Unavailable,
            count: count.map_or(Reading::Unavailable, |count| Reading::Known(Some(count.into()))),
        }
    }

    fn extend(history: &mut History, range: &ProvenRange) -> Option<CountCheck> {
        let block = |of: &EventBlock| crate::ledger::Block {
            number: of.number,
            time: of.time,
            window: None,
            guessed: false,
            events: of.events.clone(),
        };
        let blocks = range.blocks.iter().map(block).collect();
        history.extend(range, &Resolved { blocks, buffered_before: Vec::new() }, None).difference
    }

    /// A history from block 5 to 9 with 2 events.
    fn history(start_block: Option<u64>) -> History {
        let mut history = History::new(start_block);
        history.first_block = Some(5);
        history.count_check = Some(CountCheck { block: 4, missing: 0 });
        assert_eq!(extend(&mut history, &range(5..=9, 1, 2, Some(2))), None);
        history
    }

    #[test]
    fn a_range_is_placed_by_its_hash_its_count_and_its_blooms() {
        let gap = |missing_before| Gap { first: 10, last: 12, logs: 1, missing_before };
        for (name, range, patient, trusts, placement) in [
            ("follows", range(10..=12, 1, 1, Some(3)), true, true, Placement::Next { gap: None }),
            ("no count", range(10..=12, 1, 1, None), true, true, Placement::Next { gap: None }),
            ("another branch", range(10..=12, 2, 1, Some(3)), true, true, Placement::Diverged { at: 9 }),
            (
                "one is missing",
                range(10..=12, 1, 1, Some(4)),
                true,
                true,
                Placement::Wait(Missing::Counted { block: 12 }),
            ),
            (
                "and did not come",
                range(10..=12, 1, 1, Some(4)),
                false,
                true,
                Placement::Next { gap: Some(gap(Some(0))) },
            ),
            (
                "a bloom hits",
                ProvenRange { unmatched: Some(11), ..range(10..=12, 1, 1, Some(3)) },
                true,
                true,
                Placement::Wait(Missing::Bloom { block: 11 }),
            ),
            (
                "of an endpoint whose blooms mislead",
                ProvenRange { unmatched: Some(11), ..range(10..=12, 1, 1, Some(3)) },
                true,
                false,
                Placement::Next { gap: None },
            ),
        ] {
            assert_eq!(history(Some(5)).place(&range, patient, trusts), placement, "{name}");
        }
    }

    #[test]
    fn a_difference_of_unknown_origin_has_the_history_read_once_more() {
        let one_missing = range(5..=9, 1, 1, Some(2));
        // A beginning that was found is not believed; one that was configured is.
        let mut found = History::new(None);
        found.begins_at(5);
        assert_eq!(found.place(&one_missing, true, true), Placement::Restart { from: Some(0) });
        found.mark_reread();
        let wait = Placement::Wait(Missing::Counted { block: 9 });
        assert_eq!(found.place(&one_missing, true, true), wait);
        let mut configured = History::new(Some(5));
        configured.begins_after(4, 0.into());
        assert_eq!(configured.place(&one_missing, true, true), wait);

        // Not compared right before the range: the difference may be older.
        let mut history = history(Some(5));
        extend(&mut history, &range(10..=12, 1, 1, None));
        let later = range(13..=15, 1, 0, Some(4));
        assert!(matches!(history.place(&later, true, true), Placement::Wait(_)));
        assert_eq!(history.place(&later, false, true), Placement::Restart { from: Some(5) });
        history.mark_reread();
        assert!(matches!(history.place(&later, false, true), Placement::Next { gap: Some(_) }));
    }

    #[test]
    fn what_was_counted_before_the_beginning_is_no_difference() {
        let mut history = History::new(Some(10));
        history.begins_after(9, 7.into());
        let range = range(10..=12, 1, 1, Some(8));
        assert_eq!(history.place(&range, true, true), Placement::Next { gap: None });
        let check = extend(&mut history, &range);
        assert_eq!((check, history.count_check), (None, Some(CountCheck { block: 12, missing: 7 })));
    }

    #[test]
    fn a_history_is_rewound_to_what_is_right_or_begun_anew() {
        for (to, rewound) in [
            (Some(9), Rewound::To(9)),
            (Some(7), Rewound::Restart { from: None }),
            (None, Rewound::Restart { from: None }),
        ] {
            let mut history = history(None);
            extend(&mut history, &range(10..=12, 1, 1, Some(3)));
            assert_eq!(history.rewind(to), rewound);
            let check = CountCheck { block: if rewound == Rewound::To(9) { 9 } else { 12 }, missing: 0 };
            assert_eq!(history.count_check, Some(check));
        }
        let mut wrong_beginning = history(None);
        wrong_beginning.mark_reread();
        assert_eq!(wrong_beginning.rewind(None), Rewound::Restart { from: Some(5) });
        wrong_beginning.restart(Some(5));
        assert_eq!((wrong_beginning.next_block(5), wrong_beginning.anchor), (5, None));
    }

    #[test]
    fn a_chain_that_ends_lower_is_known_by_the_newest_block_both_have() {
        let mut history = history(None);
        extend(&mut history, &range(10..=12, 1, 1, Some(3)));
        for (head, known) in [(20, Some(12)), (12, Some(12)), (11, Some(9)), (8, Some(5)), (4, None)] {
            assert_eq!(history.known_hash(head).map(|(number, _)| number), known, "{head}");
        }
    }

    #[test]
    fn a_gap_that_is_undone_gives_back_its_difference() {
        let mut history = history(Some(5));
        let lacking = range(10..=12, 1, 0, Some(3));
        let Placement::Next { gap } = history.place(&lacking, false, true) else { panic!("not placed") };
        let resolved = Resolved { blocks: Vec::new(), buffered_before: Vec::new() };
        let check = history.extend(&lacking, &resolved, gap).difference;
        assert_eq!(check, Some(CountCheck { block: 12, missing: 1 }));
        assert_eq!(history.rewind(Some(9)), Rewound::To(9));
        assert_eq!((history.gaps.len(), history.count_check.map(|check| check.missing)), (0, Some(0)));
    }
}
