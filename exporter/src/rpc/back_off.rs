//! When an endpoint that failed may be asked again: later with every failure in a row, with jitter.
//!
//! Tells exchanges that fail from uses that come to nothing although exchanges succeed: of an endpoint that
//! only fails at logs, the head can be read again and again. Never waits, never logs, and is told the time.

use std::time::{Duration, Instant};

/// The first wait; it doubles with each further failure.
const FIRST: Duration = Duration::from_millis(500);

/// Longer than this an endpoint is never left alone, so that it is back soon after it is well.
const LONGEST: Duration = Duration::from_secs(16);

#[derive(Debug, Default)]
pub(super) struct BackOff {
    /// Exchanges that failed since one succeeded.
    failures: u32,
    /// Uses in vain since one led to its end.
    in_vain: u32,
    until: Option<Instant>,
}

impl BackOff {
    /// The last exchange did not fail, nor did anything since.
    pub(super) fn is_well(&self) -> bool {
        self.failures == 0
    }

    /// Until when to leave the endpoint alone.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// An exchange failed, and the server may have asked for a wait; true for the first in a row.
    pub(super) fn failed(&mut self, now: Instant, asked: Option<Duration>) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.extend(now, asked);
        self.failures == 1 && self.in_vain == 0
    }

    /// The endpoint was used in vain; true where that is the first one hears of trouble.
    pub(super) fn was_in_vain(&mut self, now: Instant) -> bool {
        let known = self.failures > 0 || self.in_vain > 0;
        self.failures = self.failures.max(1);
        self.in_vain = self.in_vain.saturating_add(1);
        self.extend(now, None);
        !known
    }

    /// An exchange succeeded; the number of failures if they are over with that. One that began before the
    /// last failure ends none.
    pub(super) fn succeeded(&mut self, now: Instant) -> Option<u32> {
        if self.until.is_some_and(|until| until > now) {
            return None;
        }
        let failures = std::mem::take(&mut self.failures);
        if self.in_vain > 0 {
            return None;
        }
        self.until = None;
        Some(failures).filter(|failures| *failures > 0)
    }

    /// The endpoint was used to the end; the number of uses in vain that this ends.
    pub(super) fn served(&mut self) -> Option<u32> {
        Some(std::mem::take(&mut self.in_vain)).filter(|in_vain| *in_vain > 0)
    }

    fn extend(&mut self, now: Instant, asked: Option<Duration>) {
        let before = self.failures.max(self.in_vain).saturating_sub(1);
        let wait = FIRST.saturating_mul(1 << before.min(10)).min(LONGEST);
        // The jitter keeps many exporters from coming back at the same moment.
        let wait = wait.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.until = self.until.max(Some(now + asked.map_or(wait, |asked| asked.max(wait))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_ends_failures_but_not_uses_in_vain() {
        let (mut back_off, mut now) = (BackOff::default(), Instant::now());
        assert!(back_off.failed(now, None) && !back_off.failed(now, None) && !back_off.is_well());
        now += LONGEST;
        assert_eq!(back_off.succeeded(now), Some(2));
        assert!(back_off.is_well() && back_off.until().is_none());

        assert!(back_off.was_in_vain(now) && !back_off.is_well());
        for uses in 2..9 {
            now += 2 * LONGEST;
            assert_eq!(back_off.succeeded(now), None);
            assert!(back_off.is_well() && !back_off.was_in_vain(now) && !back_off.is_well());
            let wait = back_off.until().unwrap() - now;
            let expected = FIRST.saturating_mul(1 << (uses - 1)).min(LONGEST);
            assert!(wait >= expected.mul_f64(0.75) && wait <= expected.mul_f64(1.25), "{uses}: {wait:?}");
        }
        now += 2 * LONGEST;
        assert_eq!(back_off.succeeded(now), None);
        assert_eq!(back_off.served(), Some(8));
        assert_eq!((back_off.served(), back_off.succeeded(now)), (None, None));
        assert!(back_off.until().is_none());
    }

    #[test]
    fn what_the_server_asks_for_is_kept_to() {
        let (mut back_off, now) = (BackOff::default(), Instant::now());
        let minute = Duration::from_secs(60);
        back_off.failed(now, Some(minute));
        back_off.was_in_vain(now);
        // One that was under way when the other failed.
        assert_eq!(back_off.succeeded(now + minute / 2), None);
        assert!(!back_off.is_well());
        assert_eq!(back_off.until(), Some(now + minute));
    }
}
