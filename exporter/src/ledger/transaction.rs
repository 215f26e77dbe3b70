//! One transaction and its deadline.

use web3::types::{H256, U256};

use super::Block;

/// What is known of a transaction that was buffered and is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transaction {
    /// Not settled yet.
    Pending(Pending),
    /// Settled, but not by a ready.
    Settled(Settled),
}

/// A transaction that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The Ethereum transaction that buffered it.
    pub tx_hash: H256,
    /// Number of the block of the buffering, where its window may have to be read.
    pub block: u64,
    /// Block time of the buffering, seconds since the Unix epoch.
    pub buffered: u64,
    /// The scheduled time, seconds since the Unix epoch.
    pub scheduled: U256,
    /// Until when it may become ready.
    pub deadline: Deadline,
}

/// All that is kept of a settled one: a ready that comes late is measured, and nothing else can still
/// change a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Block time of the buffering, seconds since the Unix epoch.
    pub buffered: u64,
    /// The later of buffered and scheduled; a schedule beyond 64 bits is later than any block.
    pub due: u64,
}

/// Until when a transaction may become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// The scheduled time plus the window in force at the block under view.
    Floating,
    /// The scheduled time plus this window, which was in force at the block of the buffering.
    Frozen(U256),
    /// The same, but with a window that was not read at that block, and may be.
    Guessed(U256),
    /// The same after a node had no state there: read again only where it decides.
    Assumed(U256),
    /// There was no window at buffering.
    Never,
}

impl Transaction {
    /// What is measured of it once it is ready.
    pub(super) fn settled(&self) -> Settled {
        match self {
            Self::Pending(pending) => pending.settled(),
            Self::Settled(settled) => *settled,
        }
    }
}

impl Pending {
    /// As it is right after it was buffered in this block.
    pub(super) fn buffered(block: &Block, tx_hash: H256, scheduled: U256, frozen: bool) -> Self {
        let deadline = match (frozen, block.window) {
            (false, _) => Deadline::Floating,
            (true, None) => Deadline::Never,
            (true, Some(window)) if block.guessed => Deadline::Guessed(window),
            (true, Some(window)) => Deadline::Frozen(window),
        };
        Self { tx_hash, block: block.number, buffered: block.time, scheduled, deadline }
    }

    /// With a deadline that was not made from the window of its own block.
    pub(super) fn is_guessed(&self) -> bool {
        matches!(self.deadline, Deadline::Guessed(_) | Deadline::Assumed(_))
    }

    /// The last moment at which it may become ready, with this window in force.
    pub(super) fn deadline(&self, window: Option<U256>) -> Option<U256> {
        let window = match self.deadline {
            Deadline::Floating => window?,
            Deadline::Frozen(window) | Deadline::Guessed(window) | Deadline::Assumed(window) => window,
            Deadline::Never => return None,
        };
        Some(self.scheduled.saturating_add(window))
    }

    /// Whether its deadline has passed at this time with this window.
    pub(super) fn is_late(&self, time: u64, window: Option<U256>) -> bool {
        self.deadline(window).is_some_and(|deadline| deadline < U256::from(time))
    }

    /// What is kept of it once it is settled.
    pub(super) fn settled(&self) -> Settled {
        let scheduled = u64::try_from(self.scheduled).unwrap_or(u64::MAX);
        Settled { buffered: self.buffered, due: scheduled.max(self.buffered) }
    }
}
