//! The whole truth about transactions, in exact integers: [`Ledger::apply`] blocks, [`Ledger::rewind`]
//! to one.
//!
//! Pure: no I/O, no clock, no floats, no logging, no panic. After every block buffered = settled +
//! pending. What a transaction did is forgotten once it is ready. Of one that settled otherwise as much is
//! kept as the measure of a late ready needs.

mod counts;
mod heap;
mod index;
mod known;
mod newest;
mod recent;
mod record;
#[cfg(test)]
mod tests;
mod transaction;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use web3::types::{H256, U256};

pub use counts::{BUCKETS, Counts, Exemplar, Histogram, Outcome};
use known::Known;
pub use newest::{Expiry, Failure, Newest};
pub use recent::{Happened, Lives, MOST_HAPPENED, MOST_WAITING, Recent, Took, Waiting, What};
pub(crate) use transaction::{Deadline, Pending, Settled, Transaction};

use crate::chain::BlockRef;
use crate::decode::{Event, Logged, Reason};

/// How many steps can be taken back.
const LONGEST_JOURNAL: usize = 256;

/// And how many changes of transactions, which bounds the memory of steps with many events.
const LARGEST_JOURNAL: usize = 1 << 12;

/// Everything known of one network's transactions up to a block.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    state: State,
    recent: Arc<Recent>,
    known: Known,
    /// How to take back the newest steps, oldest first. Not saved: a restart begins without.
    journal: VecDeque<Step>,
}

/// The part that is small enough to be copied whole before each step; what is larger is shared until it
/// changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub block: Option<BlockRef>,
    window: Option<U256>,
    /// Block time of the last block with another window, where one was pending then.
    other_window_until: u64,
    counts: Arc<Counts>,
    newest: Arc<Newest>,
}

#[derive(Clone, Debug)]
struct Step {
    before: State,
    /// Transactions as they were, in the order in which they were changed.
    changes: Vec<(H256, Option<Transaction>)>,
    /// What expired in it. Empty once the step is in the journal.
    expired: Vec<Expired>,
}

/// A transaction that settled as expired in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The transaction.
    pub tx_id: H256,
    /// The Ethereum transaction that buffered it.
    pub tx_hash: H256,
    /// The deadline that passed, seconds since the Unix epoch.
    pub deadline: u64,
    /// The block that showed it: the first after the deadline of those that were applied.
    pub block: u64,
}

/// What was learned of the window at the block at which a transaction was buffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowRead {
    /// The window, seconds; `None` when there was none.
    Known(Option<U256>),
    /// The node has no state there any more: what was guessed stands, and is read again only where it
    /// decides.
    NoState,
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
    pub events: Vec<Logged>,
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
    /// Applies blocks in rising order, up to and including `end`, as one step; returns what expired in it.
    /// `windows` are those that were asked for because transactions had been buffered with a guessed one.
    pub fn apply(&mut self, windows: &[(H256, WindowRead)], blocks: &[Block], end: BlockRef) -> Vec<Expired> {
        let mut step = Step { before: self.state.clone(), changes: Vec::new(), expired: Vec::new() };
        for (id, window) in windows {
            let Some(pending) = self.known.get_pending(id) else { continue };
            let deadline = match (*window, pending.deadline) {
                (WindowRead::Known(window), _) => window.map_or(Deadline::Never, Deadline::Frozen),
                (WindowRead::NoState, Deadline::Guessed(window)) => Deadline::Assumed(window),
                (WindowRead::NoState, _) => continue,
            };
            self.change(*id, Some(Transaction::Pending(Pending { deadline, ..pending })), &mut step);
        }
        let mut before = self.state.block.map_or(0, |block| block.time);
        for block in blocks {
            if self.state.window != block.window {
                (self.state.window, self.state.other_window_until) = (block.window, before);
            }
            for logged in &block.events {
                self.event(block, logged, &mut step);
            }
            while let Some(id) = self.known.first_late(block.time, block.window) {
                self.settle(id, Outcome::Expired, block, &mut step);
            }
            before = block.time;
        }
        self.state.block = Some(end);
        let expired = std::mem::take(&mut step.expired);
        self.journal.push_back(step);
        let mut changes: usize = self.journal.iter().map(|step| step.changes.len()).sum();
        while self.journal.len() > LONGEST_JOURNAL || (changes > LARGEST_JOURNAL && self.journal.len() > 1) {
            changes -= self.journal.pop_front().map_or(0, |step| step.changes.len());
        }
        expired
    }

    /// Where the outcome is in doubt before these blocks are applied.
    ///
    /// A window that was read for a stretch of blocks may have been another one inside it. That matters
    /// where a transaction seems to be late; and of those that wait with a frozen deadline, `all` are in
    /// doubt where the next numbers are shown, for their deadline is one of them.
    pub fn doubts(&self, blocks: &[Block], all: bool) -> Doubts {
        let mut doubts = Doubts::default();
        let mut opened: HashMap<H256, Pending> = HashMap::new();
        let mut closed: HashSet<H256> = HashSet::new();
        let doubt = |doubts: &mut Doubts, id: H256, pending: &Pending, before: bool| {
            if pending.is_guessed() && before {
                doubts.buffered_before.push((id, pending.block));
            } else if pending.is_guessed() {
                doubts.blocks.insert(pending.block);
            }
        };
        for block in blocks {
            for Logged { tx_hash, event } in &block.events {
                let (tx_id, ready) = match event {
                    Event::Buffered { tx_id, scheduled, frozen, .. } => {
                        opened.insert(*tx_id, Pending::buffered(block, *tx_hash, *scheduled, *frozen));
                        continue;
                    }
                    Event::Ready { tx_id } => (tx_id, true),
                    Event::Failed { tx_id, class: Reason::SwapGroupTimeout, .. } => (tx_id, false),
                    _ => continue,
                };
                let (found, before) = match opened.remove(tx_id) {
                    Some(pending) => (Some(pending), false),
                    None => (self.known.get_pending(tx_id), true),
                };
                let Some(pending) = found else { continue };
                closed.insert(*tx_id);
                if !ready {
                    doubts.blocks.insert(block.number);
                    doubt(&mut doubts, *tx_id, &pending, before);
                } else if pending.is_late(block.time, block.window) {
                    doubts.blocks.extend([block.number.saturating_sub(1), block.number]);
                    doubt(&mut doubts, *tx_id, &pending, before);
                }
            }
        }
        let Some(last) = blocks.last() else { return doubts };
        for (id, pending) in self.known.guessed(all, last.time).filter(|(id, _)| !closed.contains(id)) {
            doubt(&mut doubts, id, &pending, true);
        }
        for (id, pending) in opened.iter().filter(|(id, _)| !closed.contains(id)) {
            if all || pending.is_late(last.time, last.window) {
                doubt(&mut doubts, *id, pending, false);
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
        Arc::make_mut(&mut self.recent).rewind(block);
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

    /// The newest failures and expiries.
    pub fn newest(&self) -> &Arc<Newest> {
        &self.state.newest
    }

    /// What waits, and what failed or settled last.
    pub fn lives(&self) -> Lives {
        let waiting = self.known.waiting(self.state.window, MOST_WAITING);
        Lives { recent: self.recent.clone(), waiting }
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

    /// What is saved, which is everything but the journal: the small part, the pending and the settled ones.
    pub(crate) fn saved(
        &self,
    ) -> (
        &State,
        impl ExactSizeIterator<Item = (H256, Pending)>,
        impl ExactSizeIterator<Item = (H256, Settled)>,
    ) {
        (&self.state, self.known.all_pending(), self.known.all_settled())
    }

    /// A saved ledger without its transactions, but with room for them.
    pub(crate) fn restored(state: State, pending: usize, settled: usize) -> Self {
        Self { state, known: Known::with_capacity(pending, settled), ..Self::default() }
    }

    /// One of its transactions.
    pub(crate) fn restore(&mut self, id: H256, transaction: Transaction) {
        self.known.set(id, Some(transaction));
    }

    fn event(&mut self, block: &Block, Logged { tx_hash, event }: &Logged, step: &mut Step) {
        let counts = Arc::make_mut(&mut self.state.counts);
        match event {
            Event::Buffered { tx_id, scheduled, frozen, .. } => {
                counts.buffered += 1;
                let pending = Pending::buffered(block, *tx_hash, *scheduled, *frozen);
                self.change(*tx_id, Some(Transaction::Pending(pending)), step);
            }
            Event::Ready { tx_id } => {
                counts.ready += 1;
                let transaction = self.known.get(tx_id);
                let took = transaction.map(|it| Took::new(it.settled(), block.time));
                self.note(*tx_id, What::Ready(took), block, block.time, Some(*tx_hash));
                let counts = Arc::make_mut(&mut self.state.counts);
                if let Some(transaction) = transaction {
                    counts.measure(*tx_id, transaction.settled(), block.time);
                    self.settle(*tx_id, Outcome::Ready, block, step);
                    self.change(*tx_id, None, step);
                }
            }
            Event::Failed { tx_id, reason, class } => {
                counts.failed[*class as usize] += 1;
                let reason: Arc<str> = reason.as_str().into();
                self.note(*tx_id, What::Failed(*class, reason.clone()), block, block.time, Some(*tx_hash));
                Arc::make_mut(&mut self.state.newest).failed(Failure {
                    tx_id: *tx_id,
                    tx_hash: *tx_hash,
                    class: *class,
                    reason,
                    timestamp: block.time,
                });
                let late = |pending: Pending| pending.is_late(block.time, block.window);
                match class {
                    Reason::Expired => self.settle(*tx_id, Outcome::Expired, block, step),
                    Reason::SwapGroupTimeout if self.known.get_pending(tx_id).is_some_and(late) => {
                        self.settle(*tx_id, Outcome::Expired, block, step);
                    }
                    Reason::SwapGroupTimeout => self.settle(*tx_id, Outcome::SwapGroupTimeout, block, step),
                    Reason::Dependency | Reason::Other => {}
                }
            }
            Event::Other { index, .. } => counts.events[*index] += 1,
            Event::Undecodable { .. } => counts.undecodable += 1,
        }
    }

    /// Settles a transaction, unless something else did before.
    fn settle(&mut self, tx_id: H256, outcome: Outcome, block: &Block, step: &mut Step) {
        let Some(pending) = self.known.get_pending(&tx_id) else { return };
        Arc::make_mut(&mut self.state.counts).settled[outcome as usize] += 1;
        let deadline = pending.deadline(block.window).and_then(|deadline| u64::try_from(deadline).ok());
        // Proven by a log, whatever is known of its deadline: it passed before that block.
        let deadline = deadline.map_or(block.time, |deadline| deadline.min(block.time));
        if outcome == Outcome::Expired {
            self.note(tx_id, What::Expired, block, deadline, None);
        }
        self.change(tx_id, Some(Transaction::Settled(pending.settled())), step);
        if outcome != Outcome::Expired {
            return;
        }
        let since = match pending.deadline {
            Deadline::Floating => self.state.other_window_until.max(pending.buffered),
            _ => pending.buffered,
        };
        let tx_hash = pending.tx_hash;
        Arc::make_mut(&mut self.state.newest).expired(Expiry {
            tx_id,
            tx_hash,
            deadline,
            at: deadline.max(since),
        });
        step.expired.push(Expired { tx_id, tx_hash, deadline, block: block.number });
    }

    /// Remembers what happened to a transaction, before that changes it.
    fn note(&mut self, tx_id: H256, what: What, block: &Block, time: u64, tx_hash: Option<H256>) {
        let pending = self.known.get_pending(&tx_id);
        let before = pending.map(|pending| Waiting::new(tx_id, &pending, block.window));
        let happened = Happened { tx_id, what, block: block.number, time, tx_hash, before };
        Arc::make_mut(&mut self.recent).push(happened);
    }

    fn change(&mut self, id: H256, to: Option<Transaction>, step: &mut Step) {
        step.changes.push((id, self.known.set(id, to)));
    }
}
