//! The transactions that may still change something, with the pending ones in the order of their
//! deadlines.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize, Serializer};
use web3::types::{H256, U256};

use super::Block;

/// A transaction that was buffered and is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Transaction {
    /// Number of the block of the buffering.
    pub block: u64,
    /// Block time of the buffering, seconds since the Unix epoch.
    pub buffered: u64,
    /// The scheduled time, seconds since the Unix epoch.
    pub scheduled: U256,
    pub deadline: Deadline,
    /// Not yet settled.
    pub pending: bool,
}

/// Until when a transaction may become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Deadline {
    /// The scheduled time plus the window in force at the block under view.
    Floating,
    /// Fixed at buffering, seconds since the Unix epoch.
    Frozen(U256),
    /// The same, but with a window that was not read at the block of buffering.
    Guessed(U256),
    /// There was no window at buffering.
    Never,
}

impl Deadline {
    fn frozen(scheduled: U256, window: Option<U256>) -> Self {
        window.map_or(Self::Never, |window| Self::Frozen(scheduled.saturating_add(window)))
    }
}

impl Transaction {
    /// As it is right after it was buffered in this block.
    pub(super) fn buffered(block: &Block, scheduled: U256, frozen: bool) -> Self {
        let deadline = match (frozen, block.window) {
            (false, _) => Deadline::Floating,
            (true, Some(window)) if block.guessed => Deadline::Guessed(scheduled.saturating_add(window)),
            (true, window) => Deadline::frozen(scheduled, window),
        };
        Self { block: block.number, buffered: block.time, scheduled, deadline, pending: true }
    }

    /// The same with the window that was read at the block of buffering.
    pub(super) fn with_window(self, window: Option<U256>) -> Self {
        Self { deadline: Deadline::frozen(self.scheduled, window), ..self }
    }

    /// Pending, with a deadline that was not made from the window of its own block.
    pub(super) fn is_guessed(&self) -> bool {
        self.pending && matches!(self.deadline, Deadline::Guessed(_))
    }

    fn deadline(&self, window: Option<U256>) -> Option<U256> {
        match self.deadline {
            Deadline::Floating => window.map(|window| self.scheduled.saturating_add(window)),
            Deadline::Frozen(at) | Deadline::Guessed(at) => Some(at),
            Deadline::Never => None,
        }
    }

    /// Whether its deadline has passed at this time with this window.
    pub(super) fn is_late(&self, time: u64, window: Option<U256>) -> bool {
        self.deadline(window).is_some_and(|deadline| deadline < U256::from(time))
    }
}

/// All transactions that are not ready, and the pending ones by age and deadline.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Vec<(H256, Transaction)>")]
pub(super) struct Known {
    all: HashMap<H256, Transaction>,
    by_age: BTreeSet<(u64, H256)>,
    /// By scheduled time, to which the window is added when it is asked for.
    floating: BTreeSet<(U256, H256)>,
    frozen: BTreeSet<(U256, H256)>,
}

impl Known {
    pub(super) fn get(&self, id: &H256) -> Option<&Transaction> {
        self.all.get(id)
    }

    /// Sets or removes a transaction; returns it as it was.
    pub(super) fn set(&mut self, id: H256, to: Option<Transaction>) -> Option<Transaction> {
        let before = match to {
            Some(transaction) => self.all.insert(id, transaction),
            None => self.all.remove(&id),
        };
        if let Some(old) = before.filter(|old| old.pending) {
            self.by_age.remove(&(old.buffered, id));
            match old.deadline {
                Deadline::Floating => self.floating.remove(&(old.scheduled, id)),
                Deadline::Frozen(at) | Deadline::Guessed(at) => self.frozen.remove(&(at, id)),
                Deadline::Never => false,
            };
        }
        if let Some(new) = to.filter(|new| new.pending) {
            self.by_age.insert((new.buffered, id));
            match new.deadline {
                Deadline::Floating => self.floating.insert((new.scheduled, id)),
                Deadline::Frozen(at) | Deadline::Guessed(at) => self.frozen.insert((at, id)),
                Deadline::Never => false,
            };
        }
        before
    }

    /// The pending ones whose deadline is guessed.
    pub(super) fn guessed(&self) -> impl Iterator<Item = (H256, &Transaction)> {
        let pending = self.frozen.iter().filter_map(|(_, id)| Some((*id, self.all.get(id)?)));
        pending.filter(|(_, transaction)| transaction.is_guessed())
    }

    pub(super) fn pending(&self) -> u64 {
        self.by_age.len() as u64
    }

    pub(super) fn oldest_pending(&self) -> Option<u64> {
        self.by_age.first().map(|(buffered, _)| *buffered)
    }

    pub(super) fn next_deadline(&self, window: Option<U256>) -> Option<U256> {
        let floating = self.floating.first().zip(window).map(|((at, _), window)| at.saturating_add(window));
        let frozen = self.frozen.first().map(|(at, _)| *at);
        floating.into_iter().chain(frozen).min()
    }

    /// The pending ones whose deadline has passed at this time with this window.
    pub(super) fn expired(&self, time: u64, window: Option<U256>) -> Vec<H256> {
        let time = U256::from(time);
        let late = |deadlines: &BTreeSet<(U256, H256)>, window: U256| {
            deadlines
                .iter()
                .take_while(|(at, _)| at.saturating_add(window) < time)
                .map(|(_, id)| *id)
                .collect::<Vec<_>>()
        };
        let mut expired = late(&self.frozen, U256::zero());
        expired.extend(window.map(|window| late(&self.floating, window)).unwrap_or_default());
        expired
    }
}

impl From<Vec<(H256, Transaction)>> for Known {
    fn from(saved: Vec<(H256, Transaction)>) -> Self {
        let mut known = Self::default();
        for (id, transaction) in saved {
            known.set(id, Some(transaction));
        }
        known
    }
}

impl Serialize for Known {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.all)
    }
}
