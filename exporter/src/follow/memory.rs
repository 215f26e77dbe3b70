//! All that is learned of one endpoint as a source of this contract's history. What it is worth as a server of
//! calls is the business of `rpc`.

use std::time::Duration;

use tokio::time::Instant;

use super::windows::Horizon;
use crate::plan::Sizer;

/// For this long a node may be late with logs of blocks that it has: what does not add up is read again
/// until then, and believed afterwards.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Calls for old state that fail for this long without a known reason may fail for lack of it.
const ERRORS_PERSIST: Duration = Duration::from_secs(30);

/// What was learned of one endpoint.
#[derive(Debug)]
pub(super) struct EndpointMemory {
    /// How many blocks it gives the logs of.
    pub ranges: Sizer,
    /// From where on it has state; `None` while nothing was found missing.
    pub horizon: Option<Horizon>,
    /// Its blooms hit for what never came.
    pub blooms_mislead: bool,
    /// A range that was refused passed when its logs were asked for alone.
    pub passed_alone: bool,
    /// Since when calls fail for a reason that is not known.
    failing_since: Option<Instant>,
    /// Since when logs are missing that must be there, and when they were asked for last.
    waiting: Option<(Instant, Instant)>,
}

impl EndpointMemory {
    pub(super) fn new(max_block_range: u64) -> Self {
        Self {
            ranges: Sizer::new(max_block_range),
            horizon: None,
            blooms_mislead: false,
            passed_alone: false,
            failing_since: None,
            waiting: None,
        }
    }

    /// A call failed that may be one for state that is gone.
    pub(super) fn record_unknown_failure(&mut self, now: Instant) {
        self.failing_since.get_or_insert(now);
    }

    /// A use of the endpoint led on.
    pub(super) fn record_progress(&mut self) {
        self.failing_since = None;
        self.passed_alone = false;
    }

    /// Whether failures of unknown reason went on for too long to be passing ones.
    pub(super) fn errors_persist(&self, now: Instant) -> bool {
        self.failing_since.is_some_and(|since| now - since >= ERRORS_PERSIST)
    }

    /// Logs that must be there did not come; whether they are still waited for. Time in which this endpoint
    /// was not asked, for more than `pause`, does not count.
    pub(super) fn wait(&mut self, now: Instant, pause: Duration) -> bool {
        let waiting = self.waiting.filter(|(_, asked)| now - *asked < pause);
        let since = waiting.map_or(now, |(since, _)| since);
        self.waiting = Some((since, now));
        now - since < PATIENCE
    }

    /// Nothing is missing.
    pub(super) fn stop_waiting(&mut self) {
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn logs_are_waited_for_while_the_endpoint_is_asked() {
        let (mut memory, start) = (EndpointMemory::new(100), Instant::now());
        for (second, waits) in [(0, true), (20, true), (29, true), (30, false), (31, false)] {
            assert_eq!(memory.wait(start + second * SECOND, PATIENCE), waits, "{second}");
        }
        // It was not asked for so long that nothing is known of the time between.
        assert!(memory.wait(start + 90 * SECOND, PATIENCE));
        memory.stop_waiting();
        assert!(memory.wait(start + 91 * SECOND, PATIENCE));
    }

    #[test]
    fn failures_persist_until_one_use_leads_on() {
        let (mut memory, start) = (EndpointMemory::new(100), Instant::now());
        memory.record_unknown_failure(start);
        memory.record_unknown_failure(start + 20 * SECOND);
        assert!(!memory.errors_persist(start + 29 * SECOND) && memory.errors_persist(start + 30 * SECOND));
        memory.record_progress();
        assert!(!memory.errors_persist(start + 40 * SECOND));
    }
}
