//! Which blocks to ask for next, and in ranges of what size. Pure: no I/O, no clock.

use std::ops::RangeInclusive;

/// This close below the head every header is read: a replica may lag, and a bloom may show what it left
/// out.
pub const NEAR_HEAD: u64 = 64;

/// For this many seconds a replica may lag whose answers look like those of others.
const LAG: u64 = 120;

/// No more blocks than this are near the head.
const MOST_NEAR: u64 = 1000;

/// How many headers are read in one exchange.
const NEAR_RANGE: u64 = 32;

/// An answer with more logs than this, about a megabyte, makes the next ranges smaller, which bounds the memory.
const MANY_LOGS: usize = 2000;

/// The size of the first range, of which nothing is known yet.
const FIRST_RANGE: u64 = 100;

/// After this many answers in a row a larger range is tried.
const STREAK: u32 = 8;

/// So many times larger it is at most while nothing was too much yet.
const FASTEST_GROWTH: u64 = 16;

/// After this many the endpoint may have changed its mind about what it refused.
const LONG_STREAK: u32 = 256;

/// Some blocks to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The blocks.
    pub blocks: RangeInclusive<u64>,
    /// They are so close to the head that every header is to be read.
    pub near_head: bool,
}

/// How many blocks below the head are near it where each answer may come from another replica, given that
/// `blocks` came in `seconds`.
pub fn near_replicas(blocks: u64, seconds: u64) -> u64 {
    (blocks.saturating_mul(LAG) / seconds.max(1)).clamp(NEAR_HEAD, MOST_NEAR)
}

/// How much may be asked for at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Blocks in a range.
    pub blocks: u64,
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
    let (size, last) = if near_head {
        (limits.blocks.min(limits.headers).min(NEAR_RANGE), target)
    } else {
        (limits.blocks, target.min(far_end))
    };
    (next <= target)
        .then(|| Fetch { blocks: next..=last.min(next.saturating_add(size.max(1) - 1)), near_head })
}

/// How much one request may ask of an endpoint: blocks for their logs, or calls in a batch.
///
/// Learned from what became of requests alone, never from the number in an error: it may be the one just
/// refused.
#[derive(Clone, Debug)]
pub struct Sizer {
    most: u64,
    now: u64,
    /// The smallest size that was refused.
    refused: Option<u64>,
    /// Answers in a row of the size asked for.
    streak: u32,
    /// Where the last request began that came to nothing without a refusal.
    failed_at: Option<u64>,
    /// The last size that came to nothing without a refusal. Twice is one.
    suspect: Option<u64>,
    announced: bool,
    /// A request was too much once, or its logs were half of what is wanted.
    cautious: bool,
}

/// What became of a request of some size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was answered, with this many logs.
    Answered {
        /// Blocks or calls.
        size: u64,
        /// Logs in the answer.
        logs: usize,
    },
    /// It was refused for its size, as far as is known.
    Refused {
        /// Blocks or calls.
        size: u64,
    },
    /// The answer was larger than is ever read.
    TooLarge {
        /// Blocks or calls.
        size: u64,
    },
    /// The endpoint was silent, or broke off: that may be due to the size.
    Unanswered {
        /// Blocks or calls.
        size: u64,
        /// The first block.
        at: u64,
    },
    /// The endpoint wants to be asked less: each call of a batch may count.
    RateLimited {
        /// Blocks or calls.
        size: u64,
        /// The first block.
        at: u64,
    },
    /// It failed in a way that says nothing about sizes.
    Failed,
}

/// What a sizer makes of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The size stays, or grows.
    None,
    /// The next request is to ask for less.
    Smaller,
    /// The endpoint's limit is known now: no more than this.
    Learned(u64),
}

impl Sizer {
    /// Begins small and grows up to `most`.
    pub fn new(most: u64) -> Self {
        let now = most.min(FIRST_RANGE);
        Self {
            most,
            now,
            refused: None,
            streak: 0,
            failed_at: None,
            suspect: None,
            announced: false,
            cautious: false,
        }
    }

    /// The size to ask for.
    pub fn size(&self) -> u64 {
        self.now
    }

    /// Whether the size still grows with every answer, so that few are to be asked for at once.
    pub fn is_growing(&self) -> bool {
        !self.cautious && self.now < self.most
    }

    /// Learns from what became of a request.
    pub fn observe(&mut self, asked: Asked) -> Change {
        let before = self.now;
        match asked {
            Asked::Answered { size, logs } => return self.answered(size, logs),
            Asked::Refused { size } => {
                self.refuse(size);
                self.shrink(size);
            }
            Asked::TooLarge { size } => self.shrink(size),
            // An endpoint that is silent for less than it is allowed is hardly so for the size.
            Asked::Unanswered { size, at } => {
                if self.again(at) || size >= self.now {
                    if self.suspect.replace(size).is_some_and(|suspect| size >= suspect) {
                        self.refuse(size);
                    }
                    self.shrink(size);
                }
            }
            Asked::RateLimited { size, at } => {
                if self.again(at) {
                    self.shrink(size);
                }
            }
            Asked::Failed => {}
        }
        if self.now < before { Change::Smaller } else { Change::None }
    }

    fn refuse(&mut self, size: u64) {
        self.refused = Some(self.refused.map_or(size, |least| least.min(size)));
    }

    fn shrink(&mut self, size: u64) {
        self.cautious = true;
        self.now = self.now.min((size / 2).max(1));
        self.streak = 0;
    }

    /// Whether the last failure was there, too.
    fn again(&mut self, at: u64) -> bool {
        self.failed_at.replace(at) == Some(at)
    }

    fn answered(&mut self, size: u64, logs: usize) -> Change {
        if logs > MANY_LOGS {
            self.shrink(size);
            return Change::Smaller;
        }
        if logs > MANY_LOGS / 2 {
            self.cautious = true;
            return Change::None;
        }
        if size < self.now {
            return Change::None;
        }
        self.failed_at = None;
        self.streak += 1;
        // Until something was too much, nothing speaks for caution.
        let streak = if self.cautious { STREAK } else { 1 };
        if self.streak.is_multiple_of(streak) && self.now < self.most {
            if self.streak >= LONG_STREAK {
                (self.refused, self.suspect) = (None, None);
            }
            // As many times as its logs would still be few, as far as these tell.
            let logs = logs.max(1) as u64;
            let growth =
                if self.cautious { 2 } else { (MANY_LOGS as u64 / 2 / logs).clamp(2, FASTEST_GROWTH) };
            let grown = self.now.saturating_mul(growth);
            let below = self.refused.map_or(grown, |refused| self.now + (refused - self.now) / 2);
            let larger = grown.min(below).min(self.most);
            if larger > self.now {
                (self.now, self.streak) = (larger, 0);
            }
        }
        if self.refused.is_none() || std::mem::replace(&mut self.announced, true) {
            return Change::None;
        }
        Change::Learned(self.now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fetches_tile_the_blocks_and_end_at_the_target(
            start in 0..5000_u64, length in 0..5000_u64, behind in 0..200_u64, limit in 1..3000_u64, near in 1..500_u64,
        ) {
            let (target, head) = (start + length, start + length + behind);
            let (mut at, mut steps) = (start, 0);
            while let Some(fetch) = next(at, target, head, Limits { blocks: limit, headers: 20 }, near) {
                prop_assert_eq!(*fetch.blocks.start(), at);
                let size = fetch.blocks.end() - at + 1;
                prop_assert!(size >= 1 && size <= limit);
                prop_assert_eq!(fetch.near_head, *fetch.blocks.end() > head.saturating_sub(near));
                prop_assert!(!fetch.near_head || size <= 20);
                at = fetch.blocks.end() + 1;
                steps += 1;
            }
            prop_assert_eq!(at, target + 1);
            prop_assert!(steps <= length / limit.min(20) + 3);
        }

        #[test]
        fn any_cap_is_found_and_kept_to(cap in 1..20_000_u64, most in 1..20_000_u64) {
            let mut sizer = Sizer::new(most);
            let (mut refusals, mut covered) = (0, 0);
            for _ in 0..200 {
                let size = sizer.size();
                prop_assert!(size >= 1 && size <= most);
                if size > cap {
                    sizer.observe(Asked::Refused { size });
                    refusals += 1;
                } else {
                    sizer.observe(Asked::Answered { size, logs: 0 });
                    covered += size;
                }
            }
            prop_assert!(refusals < 40, "{} refusals", refusals);
            prop_assert!(covered >= 50 * cap.min(most) / 2, "{} covered", covered);
        }

        #[test]
        fn numbers_at_the_edge_are_taken(at: u64, target: u64, head: u64, blocks: u64, headers: u64, near: u64) {
            if let Some(fetch) = next(at, target, head, Limits { blocks, headers }, near) {
                prop_assert!(fetch.blocks.end() <= &target && fetch.blocks.start() <= fetch.blocks.end());
            }
        }
    }

    #[test]
    fn each_outcome_has_its_effect_on_the_size() {
        let at = 7;
        let size = 100;
        for (outcomes, last, left) in [
            (&[Asked::Failed][..], Change::None, 100),
            (&[Asked::Answered { size, logs: 0 }], Change::None, 100),
            (&[Asked::Answered { size, logs: MANY_LOGS + 1 }], Change::Smaller, 50),
            (&[Asked::Refused { size }], Change::Smaller, 50),
            (&[Asked::Refused { size }, Asked::Answered { size: 50, logs: 0 }], Change::Learned(50), 50),
            (&[Asked::TooLarge { size }], Change::Smaller, 50),
            (&[Asked::Unanswered { size, at }], Change::Smaller, 50),
            (&[Asked::Unanswered { size: 99, at }], Change::None, 100),
            (&[Asked::Unanswered { size: 99, at: 1 }, Asked::Unanswered { size: 99, at }], Change::None, 100),
            (&[Asked::Unanswered { size: 99, at }, Asked::Unanswered { size: 99, at }], Change::Smaller, 49),
            (&[Asked::RateLimited { size, at }], Change::None, 100),
            (&[Asked::RateLimited { size, at }, Asked::RateLimited { size, at }], Change::Smaller, 50),
        ] {
            let mut sizer = Sizer::new(100);
            let changes: Vec<_> = outcomes.iter().map(|outcome| sizer.observe(*outcome)).collect();
            assert_eq!((changes.last(), sizer.size()), (Some(&last), left), "{outcomes:?}");
        }
    }

    #[test]
    fn a_cap_that_is_never_put_into_words_is_met_a_few_times_only() {
        let (mut sizer, mut met, mut at) = (Sizer::new(10_000), 0, 0);
        for _ in 0..200 {
            let size = sizer.size();
            if size > 10 {
                met += 1;
                sizer.observe(Asked::Unanswered { size, at });
            } else {
                at += size;
                sizer.observe(Asked::Answered { size, logs: 0 });
            }
        }
        assert!(met <= 8 && sizer.size() == 10, "{met} times, {}", sizer.size());
    }

    #[test]
    fn a_learned_limit_is_announced_once() {
        let mut sizer = Sizer::new(100);
        sizer.observe(Asked::Refused { size: 100 });
        assert_eq!(sizer.observe(Asked::Answered { size: 50, logs: 0 }), Change::Learned(50));
        assert_eq!(sizer.observe(Asked::Answered { size: 50, logs: 0 }), Change::None);
    }

    #[test]
    fn a_size_of_one_is_not_made_smaller() {
        let mut sizer = Sizer::new(1);
        assert_eq!(sizer.observe(Asked::Refused { size: 1 }), Change::None);
        assert_eq!(sizer.size(), 1);
    }

    #[test]
    fn a_lower_head_is_waited_out() {
        assert_eq!(next(11, 5, 7, Limits { blocks: 100, headers: 100 }, NEAR_HEAD), None);
    }

    #[test]
    fn two_minutes_of_blocks_are_near_but_not_without_end() {
        assert_eq!(near_replicas(600, 150), 480);
        assert_eq!(near_replicas(10, 120), NEAR_HEAD);
        assert_eq!(near_replicas(u64::MAX, 0), MOST_NEAR);
    }
}
