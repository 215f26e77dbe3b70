//! Whether an endpoint answers batches.
//!
//! One broken answer proves nothing: batches are given up when every try of one failed alike although the same
//! calls passed one by one, and are tried again later. Pure: the time is passed in; never logs.

use std::time::Duration;

use tokio::time::Instant;

/// For so long batches are given up at first; it doubles each time.
const FIRST: Duration = Duration::from_secs(5);

/// And never for longer.
const LONGEST: Duration = Duration::from_secs(600);

/// What is known of an endpoint's batches.
#[derive(Debug, Default)]
pub(super) struct Batching {
    /// The smallest batch that was refused.
    refused: Option<usize>,
    /// Refusals since a batch of that size was answered.
    row: u32,
    until: Option<Instant>,
}

impl Batching {
    /// Whether calls may be sent together.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// A batch of this many calls was answered whole. One that is smaller than what was refused shows nothing.
    pub(super) fn answered(&mut self, calls: usize) {
        if self.refused.is_some_and(|refused| calls >= refused) {
            *self = Self::default();
        }
    }

    /// A batch of this many calls came to nothing, though they passed one by one. Returns for how long batches
    /// are given up, if that is news.
    pub(super) fn refused(&mut self, calls: usize, now: Instant) -> Option<Duration> {
        if !self.allows(now) {
            return None;
        }
        let time = FIRST.saturating_mul(1 << self.row.min(10)).min(LONGEST);
        self.refused = Some(self.refused.map_or(calls, |refused| refused.min(calls)));
        self.row = self.row.saturating_add(1);
        self.until = Some(now + time);
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_tried_again_ever_more_rarely() {
        let (mut batching, mut now) = (Batching::default(), Instant::now());
        for time in [5, 10, 20, 40, 80, 160, 320, 600, 600] {
            assert!(batching.allows(now));
            assert_eq!(batching.refused(2, now), Some(Duration::from_secs(time)));
            assert_eq!(batching.refused(2, now), None);
            assert!(!batching.allows(now));
            now += Duration::from_secs(time);
        }
        batching.answered(2);
        assert_eq!(batching.refused(2, now), Some(FIRST));
    }

    #[test]
    fn a_smaller_batch_that_is_answered_says_nothing_about_larger_ones() {
        let (mut batching, now) = (Batching::default(), Instant::now());
        assert_eq!(batching.refused(6, now), Some(FIRST));
        batching.answered(2);
        assert_eq!(batching.refused(6, now + FIRST), Some(2 * FIRST));
    }
}
