//! Progress on the disk: taken up at the start, written now and then and on the way out.
//!
//! A state file that cannot be written or believed costs time, never a number.

use std::borrow::Cow;

use tokio::task::block_in_place;
use tokio::time::Instant;

use super::Follower;
use crate::state::{self, Saved};

impl Follower {
    /// Goes on from saved progress, if it is of this chain.
    pub(super) fn resume(&mut self, saved: Saved<'static>, chain_id: u64) {
        let network = &self.network.name;
        if saved.chain_id != chain_id {
            tracing::warn!(
                network,
                saved = saved.chain_id,
                chain_id,
                "saved state is of another chain: everything is read from the chain again"
            );
            return;
        }
        tracing::info!(
            network,
            block = saved.ledger.block().map(|block| block.number),
            "resuming from saved state"
        );
        self.first_block = Some(saved.first_block);
        self.compared = saved.compared;
        self.saved_block = saved.ledger.block().map(|block| block.number);
        self.ledger = saved.ledger.into_owned();
    }

    /// Saves progress when that is due and there is any.
    pub(super) fn save_if(&mut self, due: bool) {
        let block = self.ledger.block().map(|block| block.number);
        let (Some(path), Some(chain_id), Some(first_block)) = (&self.state, self.chain_id, self.first_block)
        else {
            return;
        };
        if !due || block.is_none() || block == self.saved_block {
            return;
        }
        self.saved_at = Instant::now();
        let saved = Saved {
            chain_id,
            contract: self.network.contract,
            start_block: self.network.start_block,
            first_block,
            compared: self.compared,
            ledger: Cow::Borrowed(&self.ledger),
        };
        // The disk may be slow; scrapes go on meanwhile on the other worker.
        match block_in_place(|| state::save(path, &saved)) {
            Ok(()) => (self.saved_block, self.save_failed) = (block, false),
            Err(error) => {
                if !self.save_failed {
                    tracing::error!(network = %self.network.name, file = %path.display(), %error,
                        "progress cannot be saved: a restart will read more of the chain again");
                }
                self.save_failed = true;
            }
        }
    }
}
