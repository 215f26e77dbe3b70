//! Which blocks to ask for next, and in ranges of what size. Pure: no I/O, no clock.

mod sizer;

use std::ops::RangeInclusive;

pub use sizer::{Asked, Change, Sizer};

/// This close below the head every header is read: a replica may lag, and a bloom may show what it left
/// out.
pub const NEAR_HEAD: u64 = 64;

/// For this many seconds a replica may lag whose answers look like those of others.
const LAG: u64 = 120;

/// No more blocks than this are near the head.
const MOST_NEAR: u64 = 1000;

/// How many headers are read in one exchange.
const NEAR_RANGE: u64 = 32;

/// Some blocks to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The blocks.
    pub blocks: RangeInclusive<u64>,
    /// The logs of so many blocks are asked for in one call.
    pub part: u64,
    /// They are so close to the head that every header is to be read.
    pub near_head: bool,
}

impl Fetch {
    /// The blocks, as many together as one call is for.
    pub fn parts(&self) -> Vec<RangeInclusive<u64>> {
        split(self.blocks.clone(), self.part)
    }
}

/// Blocks in parts of `size`, the last one perhaps smaller.
pub fn split(blocks: RangeInclusive<u64>, size: u64) -> Vec<RangeInclusive<u64>> {
    let (first, last) = blocks.into_inner();
    let size = size.max(1);
    let starts = std::iter::successors(Some(first), |first| first.checked_add(size));
    let starts = starts.take_while(|first| *first <= last);
    starts.map(|first| first..=last.min(first.saturating_add(size - 1))).collect()
}

/// How many blocks below the head are near it where each answer may come from another replica, given that
/// `blocks` came in `seconds`.
pub fn near_replicas(blocks: u64, seconds: u64) -> u64 {
    (blocks.saturating_mul(LAG) / seconds.max(1)).clamp(NEAR_HEAD, MOST_NEAR)
}

/// How much may be asked for at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Blocks in a call for logs.
    pub blocks: u64,
    /// Such calls in a range far below the head.
    pub parts: u64,
    /// Headers in an exchange.
    pub headers: u64,
}

/// The next blocks to fetch, from `next` up to `target`; `None` is to wait for more blocks. The last `near`
/// ones are near the head.
///
/// A target below `next` is a node that lags: nothing is to be done.
pub fn next(next: u64, target: u64, head: u64, limits: Limits, near: u64) -> Option<Fetch> {
    let far_end = head.saturating_sub(near);
    let near_head = next > far_end;
    let (part, size, last) = if near_head {
        let size = limits.blocks.min(limits.headers).min(NEAR_RANGE);
        (size, size, target)
    } else {
        (limits.blocks, limits.blocks.saturating_mul(limits.parts), target.min(far_end))
    };
    let end = last.min(next.saturating_add(size.max(1) - 1));
    (next <= target).then_some(Fetch { blocks: next..=end, part, near_head })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fetches_tile_the_blocks_and_end_at_the_target(
            start in 0..5000_u64, length in 0..5000_u64, behind in 0..200_u64, limit in 1..3000_u64, parts in 1..5_u64,
            near in 1..500_u64,
        ) {
            let (target, head) = (start + length, start + length + behind);
            let (mut at, mut steps) = (start, 0);
            let limits = Limits { blocks: limit, parts, headers: 20 };
            while let Some(fetch) = next(at, target, head, limits, near) {
                prop_assert_eq!(*fetch.blocks.start(), at);
                let size = fetch.blocks.end() - at + 1;
                prop_assert!(size >= 1 && size <= limit * parts);
                let blocks: Vec<u64> = fetch.parts().into_iter().flatten().collect();
                prop_assert!(blocks.into_iter().eq(fetch.blocks.clone()));
                prop_assert!(fetch.parts().iter().all(|part| part.end() - part.start() < limit));
                let most = if fetch.near_head { 1 } else { parts };
                prop_assert!(fetch.parts().len() as u64 <= most);
                prop_assert_eq!(fetch.near_head, *fetch.blocks.end() > head.saturating_sub(near));
                prop_assert!(!fetch.near_head || size <= 20);
                at = fetch.blocks.end() + 1;
                steps += 1;
            }
            prop_assert_eq!(at, target + 1);
            prop_assert!(steps <= length / limit.min(20) + 3);
        }

        #[test]
        fn numbers_at_the_edge_are_taken(
            at: u64, target: u64, head: u64, blocks: u64, parts: u64, headers: u64, near: u64,
        ) {
            if let Some(fetch) = next(at, target, head, Limits { blocks, parts, headers }, near) {
                prop_assert!(fetch.blocks.end() <= &target && fetch.blocks.start() <= fetch.blocks.end());
            }
        }
    }

    #[test]
    fn a_lower_head_is_waited_out() {
        assert_eq!(next(11, 5, 7, Limits { blocks: 100, parts: 4, headers: 100 }, NEAR_HEAD), None);
    }

    #[test]
    fn two_minutes_of_blocks_are_near_but_not_without_end() {
        assert_eq!(near_replicas(600, 150), 480);
        assert_eq!(near_replicas(10, 120), NEAR_HEAD);
        assert_eq!(near_replicas(u64::MAX, 0), MOST_NEAR);
    }
}
