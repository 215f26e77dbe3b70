//! The whole truth about transactions, in exact integers: [`Ledger::apply`] blocks, [`Ledger::rewind`]
//! to one.
//!
//! Pure: no I/O, no clock, no floats, no logging, no panic. After every block buffered = settled +
//! pending. What a transaction did is forgotten once it is ready; all others are kept, for a late
//! ready must still be measured.

mod counts;
mod known;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};
use web3::types::{H256, U256};

pub use counts::{BUCKETS, Counts, Exemplar, Histogram, LastFailed, Outcome};
use known::{Known, Transaction};

use crate::chain::BlockRef;
use crate::decode::{Event, Reason};

/// So many steps can be taken back.
const LONGEST_JOURNAL: usize = 256;

/// And so many changes of transactions, which bounds the memory of steps with many events.
const LARGEST_JOURNAL: usize = 1 << 12;

/// Everything known of one network's transactions up to a block.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    state: State,
    known: Known,
    /// How to take back the newest steps, oldest first. Not saved: a restart begins without.
    #[serde(skip)]
    journal: VecDeque<Step>,
}

/// The part that is small enough to be copied whole before each step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    block: Option<BlockRef>,
    window: Option<U256>,
    counts: Counts,
    last_failed: Option<LastFailed>,
}

#[derive(Clone, Debug)]
struct Step {
    before: State,
    /// Transactions as they were, in the order in which they were changed.
    changes: Vec<(H256, Option<Transaction>)>,
}

/// A block to apply. Blocks in which nothing happens may be left out, but for the last one before the
/// window changes and the last of all.
#[derive(Clone, Debug)]
pub struct Block {
    /// Number of the block.
    pub number: u64,
    /// Block time, seconds since the Unix epoch.
    pub time: u64,
    /// The coordination window in force at this block, seconds; `None` when there is none.
    pub window: Option<U256>,
    /// The window was not read at this very block, but taken from a block before or after it.
    pub guessed: bool,
    /// Its events in log order.
    pub events: Vec<Event>,
}

/// What a look at every single block might show otherwise than a look at some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Blocks to be looked at, and the window to be read there.
    pub blocks: BTreeSet<u64>,
    /// Transactions buffered before these blocks, and the block at which their window is to be read.
    pub buffered_before: Vec<(H256, u64)>,
}

impl Ledger {
    /// Applies blocks in rising order, up to and including `end`, as one step. `windows` are those that
    /// were read for transactions buffered before.
    pub fn apply(&mut self, windows: &[(H256, Option<U256>)], blocks: &[Block], end: BlockRef) {
        let mut step = Step { before: self.state.clone(), changes: Vec::new() };
        for (id, window) in windows {
            if let Some(transaction) = self.known.get(id).copied() {
                self.change(*id, Some(transaction.with_window(*window)), &mut step);
            }
        }
        for block in blocks {
            self.state.window = block.window;
            for event in &block.events {
                self.event(block, event, &mut step);
            }
            for id in self.known.expired(block.time, block.window) {
                self.settle(id, Outcome::Expired, &mut step);
            }
        }
        self.state.block = Some(end);
        self.journal.push_back(step);
        let mut changes: usize = self.journal.iter().map(|step| step.changes.len()).sum();
        while self.journal.len() > LONGEST_JOURNAL || (changes > LARGEST_JOURNAL && self.journal.len() > 1) {
            changes -= self.journal.pop_front().map_or(0, |step| step.changes.len());
        }
    }

    /// Where the outcome is in doubt before these blocks are applied.
    ///
    /// A window that was told for a stretch of blocks may have been another one inside it. That matters
    /// where a transaction seems to be late; and of those that wait with a frozen deadline, `all` are in
    /// doubt where the next numbers are shown, for their deadline is one of them.
    pub fn doubts(&self, blocks: &[Block], all: bool) -> Doubts {
        let mut doubts = Doubts::default();
        let mut opened: HashMap<H256, Transaction> = HashMap::new();
        let mut closed: HashSet<H256> = HashSet::new();
        let doubt = |doubts: &mut Doubts, id: H256, transaction: &Transaction, before: bool| {
            if transaction.is_guessed() && before {
                doubts.buffered_before.push((id, transaction.block));
            } else if transaction.is_guessed() {
                doubts.blocks.insert(transaction.block);
            }
        };
        for block in blocks {
            for event in &block.events {
                let (tx_id, ready) = match event {
                    Event::Buffered { tx_id, scheduled, frozen, .. } => {
                        opened.insert(*tx_id, Transaction::buffered(block, *scheduled, *frozen));
                        continue;
                    }
                    Event::Ready { tx_id } => (tx_id, true),
                    Event::Failed { tx_id, class: Reason::SwapGroupTimeout, .. } => (tx_id, false),
                    _ => continue,
                };
                let (found, before) = match opened.remove(tx_id) {
                    Some(transaction) => (Some(transaction), false),
                    None => (self.known.get(tx_id).copied(), true),
                };
                let Some(transaction) = found.filter(|transaction| transaction.pending) else { continue };
                closed.insert(*tx_id);
                if !ready {
                    doubts.blocks.insert(block.number);
                    doubt(&mut doubts, *tx_id, &transaction, before);
                } else if transaction.is_late(block.time, block.window) {
                    doubts.blocks.extend([block.number.saturating_sub(1), block.number]);
                    doubt(&mut doubts, *tx_id, &transaction, before);
                }
            }
        }
        let Some(last) = blocks.last() else { return doubts };
        let before = self.known.guessed().map(|(id, transaction)| (id, transaction, true));
        for (id, transaction, before) in before.chain(opened.iter().map(|(id, t)| (*id, t, false))) {
            if !closed.contains(&id) && (all || transaction.is_late(last.time, last.window)) {
                doubt(&mut doubts, id, transaction, before);
            }
        }
        doubts
    }

    /// Takes back steps until the ledger stands at this block; false, and nothing is changed, where the
    /// journal does not reach it.
    pub fn rewind(&mut self, block: u64) -> bool {
        if !self.boundaries().any(|boundary| boundary.number == block) {
            return false;
        }
        while self.state.block.is_some_and(|at| at.number != block) {
            let Some(step) = self.journal.pop_back() else { break };
            for (id, before) in step.changes.into_iter().rev() {
                self.known.set(id, before);
            }
            self.state = step.before;
        }
        true
    }

    /// The blocks that can be rewound to, newest first, beginning with the one it stands at.
    pub fn boundaries(&self) -> impl Iterator<Item = BlockRef> {
        let earlier = self.journal.iter().rev().filter_map(|step| step.before.block);
        self.state.block.into_iter().chain(earlier)
    }

    /// The block up to which everything is counted.
    pub fn block(&self) -> Option<BlockRef> {
        self.state.block
    }

    /// The coordination window at that block.
    pub fn window(&self) -> Option<U256> {
        self.state.window
    }

    /// Counters and histograms.
    pub fn counts(&self) -> &Counts {
        &self.state.counts
    }

    /// The newest TransactionFailed.
    pub fn last_failed(&self) -> Option<&LastFailed> {
        self.state.last_failed.as_ref()
    }

    /// Buffered and not yet settled.
    pub fn pending(&self) -> u64 {
        self.known.pending()
    }

    /// Block time at which the oldest pending transaction was buffered.
    pub fn oldest_pending(&self) -> Option<u64> {
        self.known.oldest_pending()
    }

    /// The nearest deadline among the pending ones, seconds since the Unix epoch.
    pub fn next_deadline(&self) -> Option<U256> {
        self.known.next_deadline(self.state.window)
    }

    fn event(&mut self, block: &Block, event: &Event, step: &mut Step) {
        let counts = &mut self.state.counts;
        match event {
            Event::Buffered { tx_id, scheduled, frozen, .. } => {
                counts.buffered += 1;
                self.change(*tx_id, Some(Transaction::buffered(block, *scheduled, *frozen)), step);
            }
            Event::Ready { tx_id } => {
                counts.ready += 1;
                if let Some(transaction) = self.known.get(tx_id).copied() {
                    self.measure(*tx_id, &transaction, block.time);
                    self.settle(*tx_id, Outcome::Ready, step);
                    self.change(*tx_id, None, step);
                }
            }
            Event::Failed { tx_id, reason, class } => {
                counts.failed[*class as usize] += 1;
                self.state.last_failed =
                    Some(LastFailed { tx_id: *tx_id, reason: reason.clone(), timestamp: block.time });
                let Some(transaction) = self.known.get(tx_id) else { return };
                match class {
                    Reason::Expired => self.settle(*tx_id, Outcome::Expired, step),
                    Reason::SwapGroupTimeout if transaction.is_late(block.time, block.window) => {
                        self.settle(*tx_id, Outcome::Expired, step);
                    }
                    Reason::SwapGroupTimeout => self.settle(*tx_id, Outcome::SwapGroupTimeout, step),
                    Reason::Dependency | Reason::Other => {}
                }
            }
            Event::Other { place, .. } => counts.events[*place] += 1,
            Event::Undecodable { .. } => counts.undecodable += 1,
        }
    }

    /// Settles a transaction, unless something else did before.
    fn settle(&mut self, id: H256, outcome: Outcome, step: &mut Step) {
        if let Some(transaction) = self.known.get(&id).copied().filter(|transaction| transaction.pending) {
            self.state.counts.settled[outcome as usize] += 1;
            self.change(id, Some(Transaction { pending: false, ..transaction }), step);
        }
    }

    fn measure(&mut self, tx_id: H256, transaction: &Transaction, time: u64) {
        let buffered = transaction.buffered;
        // A schedule beyond 64 bits is later than any block.
        let due = u64::try_from(transaction.scheduled).unwrap_or(u64::MAX).max(buffered);
        let exemplar = |since: u64| Exemplar { tx_id, value: time.saturating_sub(since), timestamp: time };
        self.state.counts.resolution_time.observe(exemplar(buffered));
        self.state.counts.resolution_delay.observe(exemplar(due));
    }

    fn change(&mut self, id: H256, to: Option<Transaction>, step: &mut Step) {
        step.changes.push((id, self.known.set(id, to)));
    }
}
