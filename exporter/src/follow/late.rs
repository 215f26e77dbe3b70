//! Logs that must be there and did not come: waited for, then done without, and asked for again until they
//! come.
//!
//! Never counts a log itself: what came late is read again with all that follows it.

use std::ops::RangeInclusive;
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

/// One endpoint's logs that must be there did not come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
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

    /// The ledger was carried past one more.
    pub(super) fn add(&mut self, gap: Gap) {
        let mut known = std::mem::take(&mut self.known);
        if known.len() < GAPS {
            known.push(gap);
        }
        *self = Self::new(known);
    }
}

impl Follower {
    /// An error, for a while, where logs that must be there did not come; then what is done without.
    pub(super) fn wait_for_logs(
        &mut self,
        source: &Source,
        fetched: &Fetched,
    ) -> Result<Option<Gap>, Trouble> {
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
            return Ok(None);
        };
        let now = Instant::now();
        // Time in which this endpoint was not asked is no time in which logs did not come.
        let pause = PATIENCE.max(2 * self.network.poll_interval);
        let known = self.waiting[place].filter(|waiting| waiting.last.elapsed() < pause);
        let since = known.map_or(now, |waiting| waiting.since);
        self.waiting[place] = Some(Waiting { since, last: now });
        if since.elapsed() < PATIENCE {
            return Err(Trouble::Late(why));
        }
        tracing::warn!(network = %self.network.name, endpoint = source.endpoint.number(),
            "{why}, and did not come within {PATIENCE:?}: the endpoint is believed");
        Ok(Some(Gap {
            first: fetched.first.number,
            last: fetched.last.number,
            logs: fetched.logs(),
            missing_before: self.compared.map(|(_, missing)| missing),
        }))
    }

    /// Asks again, now and then, for what the gaps lack. What has come is read with all that follows it.
    pub(super) async fn mend_gaps(&mut self, source: &Source) {
        if self.gaps.known.is_empty() || self.gaps.asked.elapsed() < self.gaps.pause {
            return;
        }
        self.gaps.asked = Instant::now();
        self.gaps.pause = (self.gaps.pause * 2).min(LONGEST_PAUSE);
        for gap in self.gaps.known.clone() {
            match self.count_logs(source, gap.first..=gap.last).await {
                Ok(logs) if logs > gap.logs => {
                    tracing::warn!(network = %self.network.name, first = gap.first, last = gap.last,
                        "logs that did not come in time are there now: what follows is computed again");
                    self.blooms_mislead.fill(false);
                    self.go_back(gap.first.checked_sub(1));
                    return;
                }
                Ok(_) => {}
                // No problem of this cycle, which goes on without.
                Err(trouble) => {
                    tracing::debug!(network = %self.network.name, error = %trouble, "gap not read");
                    return;
                }
            }
        }
    }

    /// How many logs there are, asked for in ranges that the endpoint takes.
    async fn count_logs(&self, source: &Source, blocks: RangeInclusive<u64>) -> Result<usize, Trouble> {
        let (mut first, last) = blocks.into_inner();
        let size = self.limits[source.endpoint.place].size();
        let mut logs = 0;
        while first <= last {
            let blocks = first..=last.min(first + size - 1);
            first = blocks.end() + 1;
            logs += source.fetch(Fetch { blocks, near_head: false }).await?.logs();
        }
        Ok(logs)
    }
}
