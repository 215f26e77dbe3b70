//! Whether an endpoint answers batches, and of how many calls.
//!
//! One broken answer proves nothing: batches are given up when two in a row came to nothing although the
//! same calls passed one by one, and are tried again later. Pure: told the time, never logs.

use std::time::Duration;

use tokio::time::Instant;

/// For so long batches are given up at first; it doubles each time.
const FIRST: Duration = Duration::from_secs(30);

/// And never for longer.
const LONGEST: Duration = Duration::from_secs(600);

/// So many refusals in a row prove that batches are not answered.
const PROOF: u32 = 2;

/// What is known of an endpoint's batches.
#[derive(Debug, Default)]
pub(super) struct Batching {
    /// The smallest batch that was refused; smaller ones may be answered.
    refused: Option<usize>,
    /// Refusals since a batch of that size was answered.
    row: u32,
    until: Option<Instant>,
}

impl Batching {
    /// Whether so many calls may be sent together.
    pub(super) fn allows(&self, calls: usize, now: Instant) -> bool {
        self.refused.is_none_or(|refused| calls < refused) || self.until.is_none_or(|until| now >= until)
    }

    /// A batch of so many calls was answered whole.
    pub(super) fn answered(&mut self, calls: usize) {
        if self.refused.is_some_and(|refused| calls >= refused) {
            *self = Self::default();
        }
    }

    /// A batch of so many calls came to nothing, though they passed one by one. Returns for how long such
    /// batches are given up, if that is news.
    pub(super) fn refused(&mut self, calls: usize, now: Instant) -> Option<Duration> {
        if !self.allows(calls, now) {
            return None;
        }
        self.refused = Some(self.refused.map_or(calls, |refused| refused.min(calls)));
        self.row = self.row.saturating_add(1);
        let doublings = self.row.checked_sub(PROOF)?;
        let time = FIRST.saturating_mul(1 << doublings.min(10)).min(LONGEST);
        self.until = Some(now + time);
        Some(time)
    }

    /// The members of a batch were answered by different replicas: that needs no further proof.
    pub(super) fn split(&mut self, now: Instant) -> Option<Duration> {
        self.row = self.row.max(PROOF - 1);
        self.refused(2, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_answer_proves_nothing() {
        let (mut batching, now) = (Batching::default(), Instant::now());
        assert_eq!(batching.refused(6, now), None);
        assert!(batching.allows(6, now));
        batching.answered(6);
        assert_eq!(batching.refused(6, now), None);
        assert_eq!(batching.refused(6, now), Some(FIRST));
        assert!(!batching.allows(6, now) && !batching.allows(99, now) && batching.allows(5, now));
    }

    #[test]
    fn what_was_refused_is_tried_again_ever_more_rarely() {
        let (mut batching, mut now) = (Batching::default(), Instant::now());
        batching.refused(2, now);
        for time in [30, 60, 120, 240, 480, 600, 600] {
            assert_eq!(batching.refused(2, now), Some(Duration::from_secs(time)));
            assert_eq!(batching.refused(2, now), None);
            assert!(!batching.allows(2, now));
            now += Duration::from_secs(time);
            assert!(batching.allows(2, now));
        }
        batching.answered(2);
        assert_eq!(batching.refused(2, now), None);
    }

    #[test]
    fn a_smaller_batch_that_is_answered_says_nothing_about_larger_ones() {
        let (mut batching, now) = (Batching::default(), Instant::now());
        batching.refused(6, now);
        batching.answered(2);
        assert_eq!(batching.refused(6, now), Some(FIRST));
    }

    #[test]
    fn a_batch_that_is_taken_apart_is_given_up_at_once() {
        let (mut batching, now) = (Batching::default(), Instant::now());
        assert_eq!(batching.split(now), Some(FIRST));
        assert!(!batching.allows(2, now));
    }
}
