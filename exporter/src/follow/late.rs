//! Logs that must be there and did not come: waited for, then done without, and asked for again until they
//! come.
//!
//! Never counts a log itself: what came late is read again with all that follows it.

use std::time::Duration;

use tokio::time::Instant;

use super::Follower;
use super::fetch::{Fetched, Source};
use super::trouble::Trouble;
use crate::plan::Fetch;
use crate::state::Gap;

/// For so long a node may be late with logs of blocks that it has: what does not add up is read again
/// until then, and believed afterwards.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was done without is asked for again after so long, then at growing intervals.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest interval.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// So many gaps are remembered, the oldest ones: whoever goes back to one reads all later ones again.
const GAPS: usize = 16;

/// Logs that must be there did not come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// The endpoint, by its place.
    place: usize,
    since: Instant,
    /// When it was asked last.
    last: Instant,
}

/// What the ledger was carried past without, and when that is asked for again.
#[derive(Debug)]
pub(super) struct Gaps {
    /// Oldest first.
    pub known: Vec<Gap>,
    pause: Duration,
    asked: Instant,
}

impl Gaps {
    pub(super) fn new(known: Vec<Gap>) -> Self {
        Self { known, pause: FIRST_PAUSE, asked: Instant::now() }
    }
}

impl Follower {
    /// An error, for a while, where logs that must be there did not come; then a gap.
    pub(super) fn wait_for_logs(&mut self, source: &Source, fetched: &Fetched) -> Result<(), Trouble> {
        let place = source.endpoint.place;
        let unkept = fetched.unkept.filter(|_| !self.blooms_mislead[place]);
        let why = if !self.is_whole(fetched) {
            format!(
                "transaction_count() tells of events up to block {} that are not there",
                fetched.last.number
            )
        } else if let Some(block) = unkept {
            format!("the bloom of block {block} promises an event that is not there")
        } else {
            self.waiting = None;
            return Ok(());
        };
        let now = Instant::now();
        // Time in which this endpoint was not asked is no time in which logs did not come.
        let known =
            self.waiting.filter(|waiting| waiting.place == place && waiting.last.elapsed() < PATIENCE);
        let since = known.map_or(now, |waiting| waiting.since);
        self.waiting = Some(Waiting { place, since, last: now });
        if since.elapsed() < PATIENCE {
            return Err(Trouble::Late(why));
        }
        tracing::warn!(network = %self.network.name, endpoint = source.endpoint.number(),
            "{why}, and did not come within {PATIENCE:?}: the endpoint is believed");
        self.blooms_mislead[place] |= unkept.is_some();
        self.waiting = None;
        let gap = Gap {
            first: fetched.first.number,
            last: fetched.last.number,
            logs: fetched.logs(),
            missing_before: self.compared.map(|(_, missing)| missing),
        };
        let mut known = std::mem::take(&mut self.gaps.known);
        if known.len() < GAPS {
            known.push(gap);
        }
        self.gaps = Gaps::new(known);
        Ok(())
    }

    /// Asks again, now and then, for what the gaps lack. What has come is read with all that follows it.
    pub(super) async fn mend_gaps(&mut self, source: &Source) {
        if self.gaps.known.is_empty() || self.gaps.asked.elapsed() < self.gaps.pause {
            return;
        }
        self.gaps.pause = (self.gaps.pause * 2).min(LONGEST_PAUSE);
        for gap in self.gaps.known.clone() {
            let fetch = Fetch { blocks: gap.first..=gap.last, near_head: false };
            match source.fetch(fetch).await {
                Ok(fetched) if fetched.logs() > gap.logs => {
                    tracing::warn!(network = %self.network.name, first = gap.first, last = gap.last,
                        "logs that did not come in time are there now: what follows is computed again");
                    self.blooms_mislead.fill(false);
                    self.go_back(gap.first.checked_sub(1));
                    break;
                }
                Ok(_) => {}
                // No problem of this cycle, which goes on without.
                Err(trouble) => {
                    tracing::debug!(network = %self.network.name, error = %trouble, "gap not read");
                }
            }
        }
        self.gaps.asked = Instant::now();
    }
}
