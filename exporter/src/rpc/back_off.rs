//! The health of an endpoint, a circuit breaker: healthy, resting after a failure, on trial after the rest.
//!
//! Tells exchanges that fail from uses that come to nothing although exchanges succeed: of an endpoint that
//! only fails at logs, the head can be read again and again. Never waits, never logs; the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// The first rest; it doubles with each further failure in a row.
const FIRST: Duration = Duration::from_millis(500);

/// Failures of a call and its retries rest like this many: until the trial fails too, they may be chance.
const FIRST_ROW: u32 = 2;

/// Longer than this an endpoint is never left alone, so that it is back soon after it recovers.
const LONGEST: Duration = Duration::from_secs(20);

/// Whether an endpoint is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its last exchange succeeded, and its last use was no failure.
    Healthy,
    /// It failed, and is left alone until then.
    Resting { until: Instant },
    /// The rest is over, and nothing has shown yet that it recovered.
    OnTrial,
}

/// What an exchange that succeeded says about the failures before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing new.
    None,
    /// The first failure after it was healthy.
    Failed,
    /// It recovered after this many failures.
    Recovered { failures: u32 },
}

#[derive(Debug, Default)]
pub(super) struct BackOff {
    /// Failed exchanges since one succeeded.
    failures: u32,
    /// Unproductive uses since one was completed.
    unproductive: u32,
    /// When the last exchange failed.
    failed_at: Option<Instant>,
    until: Option<Instant>,
}

impl BackOff {
    pub(super) fn state(&self, now: Instant) -> State {
        match self.until.filter(|until| *until > now) {
            Some(until) => State::Resting { until },
            None if self.failures == 0 => State::Healthy,
            None => State::OnTrial,
        }
    }

    /// The last exchange did not fail, nor did a use since.
    pub(super) fn is_healthy(&self) -> bool {
        self.failures == 0
    }

    /// An exchange that was `started` then failed, the last of `row` in a row, and the server may have asked for a
    /// rest. Exchanges that were under way together fail together, and count once.
    pub(super) fn record_failure(
        &mut self,
        row: u32,
        started: Instant,
        now: Instant,
        asked: Option<Duration>,
    ) -> News {
        if self.failures > 0 && self.failed_at.is_some_and(|failed| started <= failed) {
            self.rest(now, asked, 1);
            return News::None;
        }
        let news = if self.failures == 0 && self.unproductive == 0 { News::Failed } else { News::None };
        let rests = if self.failures == 0 { row.min(FIRST_ROW) } else { self.failures.saturating_add(row) };
        self.failures = self.failures.saturating_add(row);
        self.failed_at = Some(now);
        self.rest(now, asked, rests.max(self.unproductive));
        news
    }

    /// A use of the endpoint came to nothing.
    pub(super) fn record_unproductive(&mut self, now: Instant) -> News {
        let known = self.failures > 0 || self.unproductive > 0;
        self.failures = self.failures.max(1);
        self.failed_at = Some(now);
        self.unproductive = self.unproductive.saturating_add(1);
        self.rest(now, None, self.failures.max(self.unproductive));
        if known { News::None } else { News::Failed }
    }

    /// An exchange that was `started` then succeeded. One from before the last failure shows nothing.
    pub(super) fn record_success(&mut self, started: Instant) -> News {
        if self.failures == 0 || self.failed_at.is_some_and(|failed| started < failed) {
            return News::None;
        }
        let failures = std::mem::take(&mut self.failures);
        self.until = None;
        if self.unproductive > 0 { News::None } else { News::Recovered { failures } }
    }

    /// A use of the endpoint was completed, or got something done.
    pub(super) fn record_completed(&mut self) -> News {
        match std::mem::take(&mut self.unproductive) {
            0 => News::None,
            failures => News::Recovered { failures },
        }
    }

    fn rest(&mut self, now: Instant, asked: Option<Duration>, row: u32) {
        let rest = FIRST.saturating_mul(1 << row.saturating_sub(1).min(10)).min(LONGEST);
        // The jitter keeps many exporters from coming back at the same moment.
        let rest = rest.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.until = self.until.max(Some(now + asked.map_or(rest, |asked| asked.max(rest))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_failure_rests_a_trial_shows_a_success_ends_it() {
        let (mut back_off, mut now) = (BackOff::default(), Instant::now());
        assert_eq!(back_off.state(now), State::Healthy);
        assert_eq!(back_off.record_failure(1, now, now, None), News::Failed);
        assert!(matches!(back_off.state(now), State::Resting { .. }));
        now += 2 * SECOND;
        assert_eq!(back_off.state(now), State::OnTrial);
        assert_eq!(back_off.record_failure(1, now, now, None), News::None);
        now += 2 * LONGEST;
        assert_eq!(back_off.record_success(now), News::Recovered { failures: 2 });
        assert_eq!(back_off.state(now), State::Healthy);
    }

    #[test]
    fn rests_grow_with_failures_in_a_row_alone() {
        let (mut back_off, mut now) = (BackOff::default(), Instant::now());
        for row in 0..9 {
            back_off.record_failure(1, now, now, None);
            let State::Resting { until } = back_off.state(now) else { panic!("no rest") };
            let expected = FIRST.saturating_mul(1 << row).min(LONGEST);
            let rest = until - now;
            assert!(rest >= expected.mul_f64(0.75) && rest <= expected.mul_f64(1.25), "{row}: {rest:?}");
            now = until;
        }
        back_off.record_success(now);
        back_off.record_failure(1, now, now, None);
        let State::Resting { until } = back_off.state(now) else { panic!("no rest") };
        assert!(until - now <= FIRST.mul_f64(1.25));
    }

    #[test]
    fn retries_are_failures_in_a_row_once_a_trial_has_failed() {
        let (mut back_off, now) = (BackOff::default(), Instant::now());
        assert_eq!(back_off.record_failure(3, now, now, None), News::Failed);
        let State::Resting { until } = back_off.state(now) else { panic!("no rest") };
        assert!(until - now <= (2 * FIRST).mul_f64(1.25), "{:?}", until - now);
        assert_eq!(back_off.record_failure(1, until, until, None), News::None);
        let State::Resting { until: later } = back_off.state(until) else { panic!("no rest") };
        assert!(later - until >= (8 * FIRST).mul_f64(0.75), "{:?}", later - until);
        assert_eq!(back_off.record_success(later), News::Recovered { failures: 4 });
    }

    #[test]
    fn exchanges_that_fail_together_count_once() {
        let (mut back_off, start) = (BackOff::default(), Instant::now());
        for after in 1..=3 {
            back_off.record_failure(1, start, start + after * SECOND, None);
        }
        assert_eq!(back_off.record_success(start + 4 * SECOND), News::Recovered { failures: 1 });
    }

    #[test]
    fn a_success_ends_failures_but_not_unproductive_uses() {
        let (mut back_off, mut now) = (BackOff::default(), Instant::now());
        assert_eq!(back_off.record_unproductive(now), News::Failed);
        for uses in 1..8 {
            now += 2 * LONGEST;
            assert_eq!(back_off.record_success(now), News::None);
            assert_eq!(back_off.state(now), State::Healthy);
            assert_eq!(back_off.record_unproductive(now), News::None);
            let State::Resting { until } = back_off.state(now) else { panic!("no rest") };
            assert!(until - now >= FIRST.saturating_mul(1 << uses).min(LONGEST).mul_f64(0.75), "{uses}");
        }
        now += 2 * LONGEST;
        back_off.record_success(now);
        assert_eq!(back_off.record_completed(), News::Recovered { failures: 8 });
        assert_eq!(back_off.record_completed(), News::None);
    }

    #[test]
    fn what_the_server_asks_for_is_kept_to_until_an_answer_shows_better() {
        let (mut back_off, now) = (BackOff::default(), Instant::now());
        let minute = 60 * SECOND;
        back_off.record_failure(1, now, now, Some(minute));
        back_off.record_unproductive(now);
        // One that was under way when the other failed.
        assert_eq!(back_off.record_success(now - SECOND), News::None);
        assert_eq!(back_off.state(now), State::Resting { until: now + minute });
        back_off.record_success(now + SECOND);
        assert_eq!(back_off.state(now + SECOND), State::Healthy);
    }
}
