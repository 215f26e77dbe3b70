//! Progress on the disk: taken up at the start, written now and then and on the way out.
//!
//! A state file that cannot be written or believed costs time, never a number.

use std::borrow::Cow;

use tokio::task::block_in_place;
use tokio::time::Instant;

use super::Follower;
use super::late::Gaps;
use crate::state::{self, Saved};

impl Follower {
    /// Goes on from saved progress, if there is any and it is this network's.
    pub(super) fn resume(&mut self) {
        let Some(path) = &self.state else { return };
        // The disk may be slow; other networks go on meanwhile on another thread.
        let load = || state::load(path, self.network.contract, self.network.start_block);
        let loaded = block_in_place(load);
        let loaded = loaded.and_then(|saved| match (&saved, self.network.chain_id) {
            (Some(saved), Some(chain_id)) if saved.chain_id != chain_id => {
                Err(format!("is of another chain, {}, expected {chain_id}", saved.chain_id))
            }
            _ => Ok(saved),
        });
        let network = &self.network.name;
        match loaded {
            Ok(None) => {}
            Ok(Some(saved)) => {
                let block = saved.ledger.block().map(|block| block.number);
                tracing::info!(network, block, chain_id = saved.chain_id, "resuming from saved state");
                self.chain_id = Some(saved.chain_id);
                self.first_block = Some(saved.first_block);
                self.compared = saved.compared;
                self.gaps = Gaps::new(saved.gaps.into_owned());
                self.saved_block = saved.ledger.block();
                self.ledger = saved.ledger.into_owned();
            }
            Err(why) => tracing::warn!(network, file = %path.display(),
                "saved state {why}: everything is read from the chain again"),
        }
    }

    /// Saves progress when that is due and there is any.
    pub(super) fn save_if(&mut self, due: bool) {
        let block = self.ledger.block();
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
            gaps: Cow::Borrowed(&self.gaps.known),
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
