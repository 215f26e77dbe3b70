//! Logs that the ledger was carried past without: asked for again, ever more rarely, until they come. And logs that
//! nobody knows to be missing: what was counted near the head is compared with a later answer.
//!
//! Never counts a log itself: what came late is read again with all that follows it.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use super::Follower;
use super::failure::CycleError;
use super::source::Source;
use crate::plan::Fetch;
use crate::proof::{Stretch, Verdict};

/// They are asked for again after so long, then at growing intervals.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest interval; what was counted and is not answered again by then is given up.
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

    fn is_at_its_longest(&self) -> bool {
        self.pause == LONGEST_PAUSE
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
                    self.read_late_logs(source, gap.first, gap.last).await;
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

    /// Asks once more for what was counted near the head, when no log of it can be late any more. What was not counted
    /// is read with all that follows it.
    ///
    /// # Errors
    /// Another endpoint has logs that this one did not show: it would leave them out again.
    pub(super) async fn check_counted(&mut self, source: &Source) -> Result<(), CycleError> {
        // A head below what was read lags, or is another branch's: neither says anything of the history.
        if self.history.next_block(0) > source.head.number + 1 {
            return Ok(());
        }
        let Some(blocks) = self.history.proof.due(source.head.time).map(Stretch::blocks) else {
            return Ok(());
        };
        let waits =
            |schedule: &mut Schedule| !schedule.is_at_its_longest() && !schedule.is_due(Instant::now());
        if self.check_schedule.as_mut().is_some_and(waits) {
            return Ok(());
        }
        // With the next block: the last one of an answer is where nodes are short of logs.
        let (first, last) = blocks.into_inner();
        let asked = first..=(last + 1).min(source.head.number);
        let others = source.second.iter().map(|second| (&second.endpoint, second.size));
        let itself = (&source.endpoint, self.memories[source.endpoint.index].ranges.size());
        for (endpoint, size) in others.chain([itself]) {
            let number = endpoint.number();
            let later = source.logs_of_contract(endpoint, asked.clone(), size).await;
            match later.map(|later| self.history.proof.check(&later)) {
                Ok(Verdict::Same) => {
                    self.check_schedule = None;
                    return Ok(());
                }
                Ok(Verdict::More) => {
                    let answered = Source { endpoint: endpoint.clone(), ..source.clone() };
                    if !self.read_late_logs(&answered, first, last).await {
                        continue;
                    }
                    if endpoint.index == source.endpoint.index {
                        return Ok(());
                    }
                    let why = format!("lacks logs of blocks {first} to {last} that endpoint {number} has");
                    return Err(CycleError::Late { why, blocks: 1 });
                }
                Ok(Verdict::Fewer) => tracing::debug!(network = %self.network.name, first, last,
                    endpoint = number, "logs that were counted are not answered any more"),
                // Not a problem of this cycle, which goes on without.
                Err(error) => {
                    tracing::debug!(network = %self.network.name, first, last, endpoint = number, %error,
                        "logs not asked for again");
                }
            }
        }
        // A node that has thrown its logs away will not have them again. Those of later blocks may still be there, and
        // are asked for once each until one proves what was counted.
        if self.check_schedule.get_or_insert_with(Schedule::new).is_at_its_longest() {
            self.history.proof.give_up();
        }
        Ok(())
    }

    /// Logs that were not counted are there now: what follows is read again. False: the endpoint that has them may be on
    /// another branch by now, which is for the next cycle's reorganisation to find.
    async fn read_late_logs(&mut self, source: &Source, first: u64, last: u64) -> bool {
        let endpoint = source.endpoint.number();
        if !self.is_on_branch(source).await {
            tracing::debug!(network = %self.network.name, endpoint, first, last, "logs of another branch, perhaps");
            return false;
        }
        tracing::warn!(network = %self.network.name, endpoint, first, last,
            "logs that did not come in time are there now: computing what follows again");
        self.memories.iter_mut().for_each(|memory| memory.blooms.record_late());
        self.rewind(first.checked_sub(1));
        true
    }

    /// How many logs there are, asked for in ranges that the endpoint takes.
    async fn count_logs(&self, source: &Source, blocks: RangeInclusive<u64>) -> Result<usize, CycleError> {
        let (mut first, last) = blocks.into_inner();
        let size = self.memories[source.endpoint.index].ranges.size();
        let mut logs = 0;
        while first <= last {
            let blocks = first..=last.min(first + size - 1);
            first = blocks.end() + 1;
            logs += source.fetch(Fetch { blocks, part: size, near_head: false }).await?.range.logs;
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
