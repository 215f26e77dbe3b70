//! All that is learned of one endpoint as a source of this contract's history. What it is worth as a server of
//! calls is the business of `rpc`.

use std::time::Duration;

use tokio::time::Instant;
use web3::types::H256;

use super::contract::Aggregation;
use super::windows::Horizon;
use crate::plan::Sizer;

/// For this long a node may be late with logs of blocks that it has: what does not add up is read again
/// until then, and believed afterwards.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Calls for old state that fail for this long without a known reason may fail for lack of it.
const ERRORS_PERSIST: Duration = Duration::from_secs(30);

/// After a first bloom that hit for nothing no other one is waited for for so long; it doubles with each in a row.
const FIRST_DISTRUST: Duration = Duration::from_secs(30);

/// Blooms rule out what they do not hit for once they held for the logs of so many blocks.
const PROVEN: u32 = 8;

/// So many ranges are asked for at once at first, and at most.
const FIRST_IN_FLIGHT: usize = 3;
const MOST_IN_FLIGHT: usize = 8;

/// And never for longer.
const LONGEST_DISTRUST: Duration = Duration::from_secs(3600);

/// What was learned of one endpoint.
#[derive(Debug)]
pub(super) struct EndpointMemory {
    /// How many blocks it gives the logs of.
    pub ranges: Sizer,
    /// From where on it has state; `None` while nothing was found missing.
    pub horizon: Option<Horizon>,
    /// The last head that it had while it was on the right chain.
    pub accepted_head: Option<H256>,
    /// What its blooms are worth.
    pub blooms: BloomTrust,
    /// Whether its views can be read by Multicall3.
    pub aggregation: Aggregation,
    /// How many ranges it is asked for at once.
    pub in_flight: InFlight,
    /// A range that was refused passed when its logs were asked for alone.
    pub passed_alone: bool,
    /// Since when calls fail for a reason that is not known.
    failing_since: Option<Instant>,
    /// Since when logs are missing that must be there, and when they were asked for last.
    waiting: Option<(Instant, Instant)>,
}

/// What an endpoint's blooms are worth, in both directions.
///
/// Blooms that hit for what never came are not waited for any more, for ever longer; what they hit for is asked for
/// again later all the same. Blooms that hit for everything that did come rule out what they do not hit for, until one
/// does not.
#[derive(Debug, Default)]
pub(super) struct BloomTrust {
    /// Hits in a row that came to nothing.
    row: u32,
    until: Option<Instant>,
    /// Blocks whose logs their blooms hit for.
    held: u32,
    /// A block had logs that its bloom ruled out.
    broken: bool,
}

/// How blooms compared with the logs that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Blooms {
    /// Blocks with logs, for all of which their blooms hit.
    pub held: u32,
    /// There was a block with logs that its bloom ruled out.
    pub broken: bool,
}

impl BloomTrust {
    pub(super) fn waits(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// What a bloom hit for did not come, though it was waited for.
    pub(super) fn record_false(&mut self, now: Instant) {
        let pause = FIRST_DISTRUST.saturating_mul(1 << self.row.min(10)).min(LONGEST_DISTRUST);
        self.row = self.row.saturating_add(1);
        self.until = Some(now + pause);
    }

    /// What a bloom hit for came after all.
    pub(super) fn record_true(&mut self) {
        (self.row, self.until) = (0, None);
    }

    /// What a bloom does not hit for is not there.
    pub(super) fn rules_out(&self) -> bool {
        !self.broken && self.held >= PROVEN
    }

    /// Blooms were compared with the logs that came.
    pub(super) fn record(&mut self, blooms: Blooms) {
        self.held = self.held.saturating_add(blooms.held);
        self.broken |= blooms.broken;
    }

    /// Logs came late, perhaps because a bloom ruled them out: it is to prove itself again.
    pub(super) fn record_late(&mut self) {
        self.held = 0;
        self.record_true();
    }
}

/// How many ranges are asked for at once: one more for each that led on, half as many when the endpoint limits its rate.
#[derive(Debug)]
pub(super) struct InFlight {
    ranges: usize,
    /// How often it had limited its rate when that was looked at last.
    limited: u64,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { ranges: FIRST_IN_FLIGHT, limited: 0 }
    }
}

impl InFlight {
    /// How many now, given how often the endpoint has limited its rate so far.
    pub(super) fn next(&mut self, limited: u64) -> usize {
        if limited > std::mem::replace(&mut self.limited, limited) {
            self.ranges = (self.ranges / 2).max(1);
        }
        self.ranges
    }

    /// A range led on.
    pub(super) fn record_progress(&mut self) {
        self.ranges = (self.ranges + 1).min(MOST_IN_FLIGHT);
    }
}

impl EndpointMemory {
    pub(super) fn new(max_block_range: u64) -> Self {
        Self {
            ranges: Sizer::new(max_block_range),
            horizon: None,
            accepted_head: None,
            blooms: BloomTrust::default(),
            aggregation: Aggregation::default(),
            in_flight: InFlight::default(),
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

    /// Logs are missing that are waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
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
    fn blooms_that_mislead_are_trusted_again_ever_later() {
        let (mut blooms, mut now) = (BloomTrust::default(), Instant::now());
        for seconds in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert!(blooms.waits(now));
            blooms.record_false(now);
            assert!(!blooms.waits(now + seconds * SECOND - SECOND), "{seconds}");
            now += seconds * SECOND;
        }
        blooms.record_false(now);
        blooms.record_true();
        assert!(blooms.waits(now));
    }

    #[test]
    fn blooms_rule_out_once_they_held_and_never_after_one_that_did_not() {
        let mut blooms = BloomTrust::default();
        assert!(!blooms.rules_out());
        blooms.record(Blooms { held: PROVEN - 1, broken: false });
        assert!(!blooms.rules_out());
        blooms.record(Blooms { held: 1, broken: false });
        assert!(blooms.rules_out());
        blooms.record_late();
        assert!(!blooms.rules_out());
        blooms.record(Blooms { held: PROVEN, broken: true });
        assert!(!blooms.rules_out());
        blooms.record(Blooms { held: 100 * PROVEN, broken: false });
        assert!(!blooms.rules_out());
    }

    #[test]
    fn ranges_in_flight_grow_until_the_endpoint_limits_its_rate() {
        let mut in_flight = InFlight::default();
        assert_eq!((in_flight.next(0), in_flight.next(0)), (3, 3));
        (0..20).for_each(|_| in_flight.record_progress());
        assert_eq!(in_flight.next(0), 8);
        assert_eq!([5, 9, 9, 10, 11].map(|limited| in_flight.next(limited)), [4, 2, 2, 1, 1]);
        in_flight.record_progress();
        assert_eq!(in_flight.next(11), 2);
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
