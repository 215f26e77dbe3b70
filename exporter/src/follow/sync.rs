//! When the ledger has caught up with the chain: nothing confirmed is shown before.

use std::time::SystemTime;

use super::Follower;

/// A chain that ends earlier than it did while it was caught up with is believed after so many cycles.
const LOW_TARGETS: u32 = 20;

impl Follower {
    /// A cycle in which everything was read, up to this block.
    pub(super) fn finish(&mut self, target: Option<u64>) {
        let caught_up = self.has_caught_up(target);
        let newly = !self.snapshot.synced && caught_up;
        if newly {
            tracing::info!(network = %self.network.name, block = self.ledger.block().map(|block| block.number),
                "first sync done");
        }
        self.snapshot.synced |= newly;
        self.recomputing &= !caught_up;
        self.snapshot.last_success = Some(SystemTime::now());
    }

    /// Whether the ledger stands at the newest block there is. A replica far behind, or one that is syncing
    /// itself, would end a first sync too early, so a target below one that was told before is believed only
    /// after so many cycles in a row.
    fn has_caught_up(&mut self, target: Option<u64>) -> bool {
        let Some(target) = target.filter(|target| self.ledger.block().is_some_and(|b| b.number == *target))
        else {
            return false;
        };
        self.low_targets = if target < self.highest_target { self.low_targets + 1 } else { 0 };
        let caught_up = target >= self.highest_target || self.low_targets >= LOW_TARGETS;
        if caught_up {
            self.highest_target = target;
        }
        caught_up
    }
}
