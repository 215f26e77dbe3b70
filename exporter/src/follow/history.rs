//! The history of the contract as far as it was read: the ledger, where it begins, how its count compares with
//! the contract's own, and what is known to be missing.
//!
//! Pure: decides whether a range follows, and never asks a node, looks at a clock or logs.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use web3::types::{H256, U256};

use super::verify::{ProvenRange, Reading};
use super::windows::Resolved;
use crate::chain::BlockRef;
use crate::ledger::{Expired, Ledger};
use crate::proof::Proof;
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
    /// Whose word it is that nothing else is missing.
    pub proof: Proof,
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

/// What a range is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Missing logs are waited for; otherwise the endpoint is believed.
    pub patient: bool,
    /// A block whose bloom hits is waited for.
    pub trusts_blooms: bool,
    /// The contract logs a RoleGranted when it is deployed.
    pub grants_roles: bool,
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

    /// Whether a range follows.
    pub(super) fn place(&self, range: &ProvenRange, rules: Rules) -> Placement {
        let first = range.first.number;
        if self.ledger.block().is_some_and(|block| block.hash != range.first.parent) {
            return Placement::Diverged { at: first - 1 };
        }
        let counted = self.missing(range).is_none_or(|missing| missing == self.missing_before());
        // A node that misled about where the history begins does not come to its senses.
        let found = self.start_block.is_none() && self.first_block == Some(first) && first > 0;
        let misled = !counted || (rules.grants_roles && !range.begins_with_a_role());
        if found && misled && !self.reread {
            return Placement::Restart { from: Some(0) };
        }
        let missing = match range.unmatched {
            _ if !counted => Missing::Counted { block: range.last.number },
            Some(block) => Missing::Bloom { block },
            None => return Placement::Next { gap: None },
        };
        let waits = match missing {
            Missing::Counted { .. } => rules.patient,
            Missing::Bloom { .. } => rules.patient && rules.trusts_blooms,
        };
        if waits {
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
        self.proof.extend(
            range.first,
            range.last,
            &range.witness,
            gap.is_none() && range.unmatched.is_none(),
        );
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
        self.count_check = match undone.and_then(|index| self.gaps.drain(index..).next()) {
            Some(gap) => gap.missing_before.map(|missing| CountCheck { block, missing }),
            // What was compared at an older block says nothing of this one.
            None => self.count_check.map(|check| CountCheck { block: check.block.min(block), ..check }),
        };
        self.proof.rewind(block);
        Rewound::To(block)
    }

    /// Begins with nothing.
    pub(super) fn restart(&mut self, from: Option<u64>) {
        self.ledger = Ledger::default();
        self.anchor = None;
        self.count_check = None;
        self.buffered_before = None;
        self.gaps.clear();
        self.proof = Proof::default();
        self.first_block = from;
    }

    /// From now on a difference does not have everything read again.
    pub(super) fn mark_reread(&mut self) {
        self.reread = true;
    }

    /// The blocks at which branches were left, above the newest one that is `shared` with all that follow, up to `head`.
    pub(super) fn left_branches(&self, shared: Option<u64>, head: u64) -> Vec<BlockRef> {
        let decides = |tip: &&BlockRef| tip.number <= head && shared.is_none_or(|shared| tip.number > shared);
        self.left_branches.iter().filter(decides).copied().collect()
    }

    /// Remembers how far the branch was read that is being left for another, which was left at these blocks before: what
    /// was left and is followed again tells nothing of the next one.
    pub(super) fn leave_branch(&mut self, left_before: &[BlockRef]) {
        self.left_branches.retain(|tip| !left_before.contains(tip));
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
