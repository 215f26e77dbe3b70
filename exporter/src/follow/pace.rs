//! When the next block is due: an endpoint is asked for its head shortly before, not all the time.
//!
//! Pure; the time is passed in. Never waits longer than [`LONGEST`] beyond what the network's blocks have shown, and
//! never less than the configured interval.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::chain::BlockRef;

/// So many heads show how fast blocks come.
const HEADS: usize = 5;

/// However rare blocks are, the head is asked for this often.
const LONGEST: Duration = Duration::from_secs(10);

/// The newest heads, and when each was seen first.
#[derive(Debug, Default)]
pub(super) struct Pace {
    heads: VecDeque<(BlockRef, Instant)>,
}

impl Pace {
    /// A head was read.
    pub(super) fn observe(&mut self, head: BlockRef, now: Instant) {
        match self.heads.back() {
            Some((last, _)) if last.hash == head.hash => return,
            // A head that does not rise shows nothing about what comes.
            Some((last, _)) if last.number >= head.number => self.heads.clear(),
            _ => {}
        }
        self.heads.push_back((head, now));
        if self.heads.len() > HEADS {
            self.heads.pop_front();
        }
    }

    /// When the head is to be asked for next, where it is asked for once each `interval` at most.
    pub(super) fn next(&self, interval: Duration, now: Instant) -> Instant {
        let (soon, latest) = (now + interval, now + LONGEST.max(interval));
        match (self.heads.back(), self.block_time()) {
            (Some((_, seen)), Some(block_time)) => {
                // The head was seen up to an interval late.
                (*seen + block_time.saturating_sub(interval)).clamp(soon, latest)
            }
            _ => soon,
        }
    }

    /// The shortest time between blocks, by their own clocks and by when they were seen; `None` while few were.
    fn block_time(&self) -> Option<Duration> {
        if self.heads.len() < HEADS {
            return None;
        }
        let pairs = self.heads.iter().zip(self.heads.iter().skip(1));
        let by_chain = pairs.map(|((a, _), (b, _))| {
            Duration::from_secs(b.time.saturating_sub(a.time))
                / u32::try_from(b.number - a.number).unwrap_or(u32::MAX)
        });
        let ((first, since), (last, until)) = (self.heads.front()?, self.heads.back()?);
        let seen = (*until - *since) / u32::try_from(last.number - first.number).unwrap_or(u32::MAX);
        by_chain.chain([seen]).min()
    }
}

#[cfg(test)]
mod tests {
    use web3::types::H256;

    use super::*;

    const POLL: Duration = Duration::from_secs(2);

    /// Blocks that came at these seconds, seen as soon as they came, with times that say so.
    fn paced(seconds: &[u64], start: Instant) -> (Pace, Instant) {
        let (mut pace, mut now) = (Pace::default(), start);
        for (number, second) in (0..).zip(seconds) {
            now = start + Duration::from_secs(*second);
            pace.observe(
                BlockRef {
                    number,
                    hash: H256::from_low_u64_be(number),
                    time: *second,
                    ..BlockRef::default()
                },
                now,
            );
        }
        (pace, now)
    }

    #[test]
    fn the_head_is_asked_for_shortly_before_a_block_is_due() {
        let regular =
            |step: usize| (0..100).step_by(step).take(HEADS).map(|second| second as u64).collect::<Vec<_>>();
        for (seconds, wait) in [
            (regular(12), 10),
            (regular(2), 2),
            (regular(1), 2),
            // A slot without a block is no reason to come late to the next one.
            (vec![0, 12, 36, 48, 72], 10),
            // Blocks come whenever they like.
            (vec![0, 60, 61, 90, 131], 2),
            // Nothing is known yet.
            (vec![0, 12, 24], 2),
        ] {
            let (pace, now) = paced(&seconds, Instant::now());
            assert_eq!(pace.next(POLL, now) - now, Duration::from_secs(wait), "{seconds:?}");
        }
    }

    #[test]
    fn a_block_that_is_late_is_asked_for_at_each_interval() {
        let start = Instant::now();
        let (pace, now) = paced(&[0, 12, 24, 36, 48], start);
        let mut asked = vec![];
        let mut at = now;
        for _ in 0..4 {
            at = pace.next(POLL, at);
            asked.push((at - now).as_secs());
        }
        assert_eq!(asked, [10, 12, 14, 16]);
    }

    #[test]
    fn clocks_of_the_chain_alone_prove_nothing() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for number in 0..HEADS as u64 {
            // A chain in fast motion.
            let block = BlockRef {
                number,
                hash: H256::from_low_u64_be(number),
                time: number * 12,
                ..BlockRef::default()
            };
            pace.observe(block, start + Duration::from_millis(100 * number));
        }
        let now = start + Duration::from_millis(700);
        assert_eq!(pace.next(POLL, now), now + POLL);
        // One that goes back is no rhythm.
        pace.observe(
            BlockRef { number: 3, hash: H256::from_low_u64_be(99), time: 36, ..BlockRef::default() },
            now,
        );
        assert_eq!(pace.next(POLL, now), now + POLL);
    }
}
