//! What failed or settled last, and what waits, to tell the life of one transaction.
//!
//! Bounded, never saved, and part of no number: a page shows it, and nothing is counted from it.

use std::collections::VecDeque;
use std::sync::Arc;

use web3::types::{H256, U256};

use super::transaction::{Pending, Settled};
use crate::decode::Reason;

/// How many failures and settlements are remembered.
pub const MOST_HAPPENED: usize = 1000;

/// How many waiting ones are shown; beyond, those nearest to their deadline.
pub const MOST_WAITING: usize = 10_000;

/// What is known of single transactions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lives {
    /// The newest failures and settlements.
    pub recent: Arc<Recent>,
    /// The pending ones by their deadlines, nearest first and those without one last. Where more than
    /// [`MOST_WAITING`] wait, the nearest of those with a deadline.
    pub waiting: Arc<[Waiting]>,
}

/// The newest failures and settlements of the blocks that were applied since the start, newest last. Copied
/// while a snapshot still shows it, so it holds pointers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent(VecDeque<Arc<Happened>>);

/// A failure or a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// The transaction.
    pub tx_id: H256,
    /// What happened to it.
    pub what: What,
    /// Number of the block: that of the log, or the one that showed an expiry.
    pub block: u64,
    /// Seconds since the Unix epoch: block time of the log, or the deadline that passed.
    pub time: u64,
    /// The Ethereum transaction that logged it; there is none of an expiry.
    pub tx_hash: Option<H256>,
    /// The transaction as it waited; `None` where it was settled before, or never seen.
    pub before: Option<Waiting>,
}

/// What happened to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A TransactionReady was logged, so long after the buffering and after it was due, in seconds; `None` where
    /// the buffering was never seen.
    Ready(Option<Took>),
    /// A TransactionFailed was logged, with this reason.
    Failed(Reason, Arc<str>),
    /// Its deadline passed.
    Expired,
}

/// How long a transaction took, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// Since it was buffered.
    pub time: u64,
    /// Since it was due: the later of buffered and scheduled.
    pub delay: u64,
}

/// A transaction that waits, or waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The transaction.
    pub tx_id: H256,
    /// The Ethereum transaction that buffered it.
    pub tx_hash: H256,
    /// Number of the block of the buffering.
    pub block: u64,
    /// Its time, seconds since the Unix epoch.
    pub buffered: u64,
    /// The scheduled time, seconds since the Unix epoch.
    pub scheduled: U256,
    /// The last moment at which it may become ready, seconds since the Unix epoch; `None` where there is none.
    pub deadline: Option<U256>,
}

impl Recent {
    pub(super) fn push(&mut self, happened: Happened) {
        if self.0.len() == MOST_HAPPENED {
            self.0.pop_front();
        }
        self.0.push_back(Arc::new(happened));
    }

    /// Forgets what happened after this block. What fell out meanwhile does not come back: it is the oldest, and
    /// to keep it for each step would cost more than it tells.
    pub(super) fn rewind(&mut self, block: u64) {
        self.0.retain(|happened| happened.block <= block);
    }

    /// Newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Happened> {
        self.0.iter().rev().map(|happened| &**happened)
    }
}

impl Waiting {
    /// With this window in force.
    pub(super) fn new(tx_id: H256, pending: &Pending, window: Option<U256>) -> Self {
        let Pending { tx_hash, block, buffered, scheduled, .. } = *pending;
        Self { tx_id, tx_hash, block, buffered, scheduled, deadline: pending.deadline(window) }
    }
}

impl Took {
    pub(super) fn new(of: Settled, ready: u64) -> Self {
        Self { time: ready.saturating_sub(of.buffered), delay: ready.saturating_sub(of.due) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Block, Ledger};
    use super::*;
    use crate::chain::BlockRef;
    use crate::decode::{Event, Logged};

    fn id(n: u64) -> H256 {
        H256::from_low_u64_be(n)
    }

    fn apply(ledger: &mut Ledger, number: u64, events: Vec<Event>) {
        let events = events.into_iter().map(|event| Logged { tx_hash: id(number), event }).collect();
        let block = Block { number, time: number * 10, window: Some(30.into()), guessed: false, events };
        ledger.apply(&[], &[block], BlockRef { number, time: number * 10, ..BlockRef::default() });
    }

    fn buffered(n: u64, scheduled: u64) -> Event {
        let (origin, target) = Default::default();
        Event::Buffered { tx_id: id(n), origin, target, scheduled: scheduled.into(), frozen: false }
    }

    fn waiting(n: u64, scheduled: u64) -> Waiting {
        Waiting {
            tx_id: id(n),
            tx_hash: id(1),
            block: 1,
            buffered: 10,
            scheduled: scheduled.into(),
            deadline: Some((scheduled + 30).into()),
        }
    }

    #[test]
    fn what_happened_is_told_as_it_was_before_it_and_a_rewind_forgets_it() {
        let mut ledger = Ledger::default();
        apply(&mut ledger, 1, vec![buffered(7, 20), buffered(8, 10)]);
        let before = ledger.lives();
        assert_eq!(*before.waiting, [waiting(8, 10), waiting(7, 20)]);
        apply(&mut ledger, 3, vec![Event::Ready { tx_id: id(7) }, Event::Ready { tx_id: id(9) }]);
        apply(&mut ledger, 5, Vec::new());
        let happened = |n, what, block, time, tx_hash, before| Happened {
            tx_id: id(n),
            what,
            block,
            time,
            tx_hash,
            before,
        };
        let took = Some(Took { time: 20, delay: 10 });
        let expected = [
            happened(8, What::Expired, 5, 40, None, Some(waiting(8, 10))),
            happened(9, What::Ready(None), 3, 30, Some(id(3)), None),
            happened(7, What::Ready(took), 3, 30, Some(id(3)), Some(waiting(7, 20))),
        ];
        assert!(ledger.lives().recent.iter().eq(&expected), "{:#?}", ledger.lives());
        assert!(ledger.rewind(1));
        assert_eq!(ledger.lives(), before);
    }

    #[test]
    fn no_more_than_the_newest_are_remembered() {
        let mut ledger = Ledger::default();
        let most = MOST_HAPPENED as u64;
        for n in 0..most + 5 {
            apply(&mut ledger, n + 1, vec![Event::Ready { tx_id: id(n) }]);
        }
        let recent = ledger.lives().recent;
        assert_eq!(recent.iter().count(), MOST_HAPPENED);
        assert!(recent.iter().map(|it| it.tx_id).eq((5..most + 5).rev().map(id)));
    }
}
