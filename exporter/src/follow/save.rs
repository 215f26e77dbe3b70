//! Progress on the disk: taken up at the start, written now and then and on the way out.
//!
//! A state file that cannot be written or believed costs time, never a number.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinHandle, block_in_place, spawn_blocking};
use tokio::time::Instant;

use super::Follower;
use super::history::{CountCheck, History};
use crate::chain::BlockRef;
use crate::ledger::Counts;
use crate::state::{self, Saved};

/// Progress is saved at most this often.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(30);

/// And at least this often: what a crash costs is to read the blocks since then again.
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);

/// No more than one part in this many of the time goes into saving: a large state is saved more rarely.
const SHARE: u32 = 200;

/// The block that a file reaches to, and the counts up to it.
type Progress = (BlockRef, Counts);

/// What is saved of one network's progress, and when.
#[derive(Debug)]
pub(super) struct Saver {
    /// `None` where nothing is to be saved.
    path: Option<PathBuf>,
    /// What the file holds.
    saved: Option<Progress>,
    /// A file that waits for the disk, and what it holds.
    committing: Option<(JoinHandle<io::Result<Duration>>, Progress)>,
    /// When the last save began, and how long it took.
    begun: Instant,
    took: Duration,
    failed: bool,
}

impl Saver {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            saved: None,
            committing: None,
            begun: Instant::now(),
            took: Duration::ZERO,
            failed: false,
        }
    }

    /// The file, once it holds progress of this network.
    pub(super) fn file(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| self.saved.is_some())
    }
}

/// Whether progress is to be saved: rarely where that takes long, and where only blocks without events
/// were added.
fn is_due(since_last: Duration, last_took: Duration, counted: bool) -> bool {
    let interval = (SHARE * last_took).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
    since_last >= if counted { interval } else { LONGEST_INTERVAL }
}

impl Follower {
    /// Goes on from saved progress, if there is any and it is this network's.
    pub(super) fn resume(&mut self) {
        let Some(path) = &self.saver.path else { return };
        let loaded = blocking(|| state::load(path, self.network.contract, self.network.start_block));
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
                let block = saved.ledger.block();
                tracing::info!(network, block = block.map(|block| block.number), chain_id = saved.chain_id,
                    file = %path.display(), "resuming from saved state");
                self.chain_id = Some(saved.chain_id);
                self.history.first_block = Some(saved.first_block);
                self.history.anchor = saved.anchor;
                self.history.count_check =
                    saved.compared.map(|(block, missing)| CountCheck { block, missing });
                self.history.gaps = saved.gaps.into_owned();
                self.history.proof = saved.proof.into_owned();
                self.history.ledger = saved.ledger.into_owned();
                self.saver.saved = block.map(|block| (block, self.history.ledger.counts().clone()));
            }
            Err(why) => tracing::warn!(network, file = %path.display(),
                "saved state {why}: everything is read from the chain again"),
        }
    }

    /// Saves progress when that is due, or when it is the `last` chance, and there is any.
    ///
    /// Writing needs the ledger as it stands, so it is done here, at the speed of memory, while scrapes and
    /// other networks go on on other threads. Waiting for the disk needs it no more, and may take as long as
    /// it likes: it is done beside the loop.
    pub(super) async fn save(&mut self, last: bool) {
        self.end_commit(last).await;
        let Saver { path, saved, committing, begun, took, .. } = &self.saver;
        let History { ledger, first_block, anchor, count_check, gaps, proof, .. } = &self.history;
        let (Some(path), Some(chain_id), Some(first_block)) = (path, self.chain_id, *first_block) else {
            return;
        };
        let Some(block) = ledger.block() else { return };
        let changed = saved.as_ref().is_none_or(|(at, _)| *at != block);
        let counted = saved.as_ref().is_none_or(|(_, counts)| counts != ledger.counts());
        let due = committing.is_none() && is_due(begun.elapsed(), *took, counted);
        if !changed || !(last || due) {
            return;
        }
        let begun = Instant::now();
        let saved = Saved {
            chain_id,
            contract: self.network.contract,
            start_block: self.network.start_block,
            first_block,
            anchor: *anchor,
            compared: count_check.map(|check| (check.block, check.missing)),
            gaps: Cow::Borrowed(gaps),
            proof: Cow::Borrowed(proof),
            ledger: Cow::Borrowed(ledger),
        };
        let written = blocking(|| state::write(path, &saved));
        let held = (block, ledger.counts().clone());
        let commit = move || written?.commit().map(|()| begun.elapsed());
        self.saver.committing = Some((spawn_blocking(commit), held));
        self.saver.begun = begun;
        self.end_commit(last).await;
    }

    /// Notes how the last save ended, if it has; with `wait`, once it has.
    async fn end_commit(&mut self, wait: bool) {
        let Some((task, held)) = self.saver.committing.take_if(|(task, _)| wait || task.is_finished()) else {
            return;
        };
        match task.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(took) => {
                (self.saver.saved, self.saver.took, self.saver.failed) = (Some(held), took, false);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.saver.failed, true) {
                    let path = self.saver.path.clone().unwrap_or_default();
                    tracing::error!(network = %self.network.name, file = %path.display(), %error,
                        "progress cannot be saved: a restart will read more of the chain again");
                }
            }
        }
    }
}

/// Lets other tasks go on on other threads meanwhile, where there are such.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_grows_with_what_saving_takes_and_without_events_it_is_the_longest() {
        let seconds = Duration::from_secs;
        let cases = [
            (29, 0, true, false),
            (30, 0, true, true),
            (199, 1, true, false),
            (200, 1, true, true),
            (599, 3600, true, false),
            (600, 3600, true, true),
            (599, 0, false, false),
            (600, 0, false, true),
        ];
        for (since_last, took, counted, due) in cases {
            assert_eq!(
                is_due(seconds(since_last), seconds(took), counted),
                due,
                "{since_last} {took} {counted}"
            );
        }
    }
}
