//! Logs that the ledger was carried past without: asked for again, ever more rarely, until they come.
//!
//! Never counts a log itself: what came late is read again with all that follows it.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use super::Follower;
use super::failure::CycleError;
use super::source::Source;
use crate::plan::Fetch;

/// They are asked for again after so long, then at growing intervals.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest interval.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// When gaps are looked at again.
#[derive(Debug)]
pub(super) struct Schedule {
    pause: Duration,
    asked: Instant,
}

impl Schedule {
    pub(super) fn new() -> Self {
        Self { pause: FIRST_PAUSE, asked: Instant::now() }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = now - self.asked >= self.pause;
        if due {
            *self = Self { pause: (self.pause * 2).min(LONGEST_PAUSE), asked: now };
        }
        due
    }
}

impl Follower {
    /// Asks again, now and then, for what the gaps lack. What has come is read with all that follows it.
    pub(super) async fn mend_gaps(&mut self, source: &Source) {
        if self.history.gaps.is_empty() || !self.gap_schedule.is_due(Instant::now()) {
            return;
        }
        for gap in self.history.gaps.clone() {
            match self.count_logs(source, gap.first..=gap.last).await {
                Ok(logs) if logs > gap.logs => {
                    tracing::warn!(network = %self.network.name, first = gap.first, last = gap.last,
                        "logs that did not come in time are there now: computing what follows again");
                    self.memories.iter_mut().for_each(|memory| memory.blooms_mislead = false);
                    self.rewind(gap.first.checked_sub(1));
                    return;
                }
                Ok(_) => {}
                // Not a problem of this cycle, which goes on without.
                Err(error) => {
                    tracing::debug!(network = %self.network.name, %error, "gap not read");
                    return;
                }
            }
        }
    }

    /// How many logs there are, asked for in ranges that the endpoint takes.
    async fn count_logs(&self, source: &Source, blocks: RangeInclusive<u64>) -> Result<usize, CycleError> {
        let (mut first, last) = blocks.into_inner();
        let size = self.memories[source.endpoint.index].ranges.size();
        let mut logs = 0;
        while first <= last {
            let blocks = first..=last.min(first + size - 1);
            first = blocks.end() + 1;
            logs += source.fetch(Fetch { blocks, near_head: false }).await?.logs;
        }
        Ok(logs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gaps_are_looked_at_ever_more_rarely() {
        let mut schedule = Schedule::new();
        let mut now = Instant::now();
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let pause = Duration::from_secs(seconds);
            assert!(!schedule.is_due(now + pause - Duration::from_millis(1)), "{seconds}");
            now += pause;
            assert!(schedule.is_due(now), "{seconds}");
        }
    }
}
