//! How much one request may ask of an endpoint. Pure: no I/O, no clock.

/// An answer with more logs than this, about a megabyte, makes the next ranges smaller, which bounds the memory.
const MANY_LOGS: usize = 2000;

/// So many ranges of the largest size are read as one where logs are few: calls that prove a range are then fewer, and
/// the exchange is one of so few calls that none is refused for it.
const PARTS: u64 = 4;

/// The size of the first range, of which nothing is known yet.
const FIRST_RANGE: u64 = 100;

/// After this many answers in a row a larger range is tried.
const STREAK: u32 = 8;

/// So many times larger it is at most while nothing was too much yet.
const FASTEST_GROWTH: u64 = 16;

/// After this many the endpoint may have changed its mind about what it refused.
const LONG_STREAK: u32 = 256;

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
    /// The logs in the last answer of the size asked for, and that size.
    last: Option<(usize, u64)>,
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
            last: None,
        }
    }

    /// The size to ask for.
    pub fn size(&self) -> u64 {
        self.now
    }

    /// How many requests of this size may be made as one: several where they cannot be larger and have few logs.
    pub fn parts(&self) -> u64 {
        let cannot_grow = self.now == self.most || self.refused.is_some();
        let are_few = self.last.is_some_and(|(logs, size)| {
            let each = u128::from(self.now) * logs as u128 / u128::from(size.max(1));
            each * u128::from(PARTS) <= MANY_LOGS as u128 / 2
        });
        if are_few && cannot_grow { PARTS } else { 1 }
    }

    fn at_once(&self) -> u64 {
        self.now.saturating_mul(self.parts())
    }

    /// Whether the size still grows with every answer, so that few are to be asked for at once.
    pub fn is_growing(&self) -> bool {
        !self.cautious && self.now < self.most
    }

    /// Learns from what became of a request.
    pub fn observe(&mut self, asked: Asked) -> Change {
        let before = self.at_once();
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
        if self.at_once() < before { Change::Smaller } else { Change::None }
    }

    fn refuse(&mut self, size: u64) {
        // Several requests that were one show nothing about the size of each.
        if size > self.most {
            return;
        }
        self.refused = Some(self.refused.map_or(size, |least| least.min(size)));
    }

    fn shrink(&mut self, size: u64) {
        (self.cautious, self.last) = (true, None);
        self.now = self.now.min((size / 2).max(1));
        self.streak = 0;
    }

    /// Whether the last failure was there, too.
    fn again(&mut self, at: u64) -> bool {
        self.failed_at.replace(at) == Some(at)
    }

    fn answered(&mut self, size: u64, logs: usize) -> Change {
        let parts = usize::try_from(size.div_ceil(self.now).max(1)).unwrap_or(usize::MAX);
        if size >= self.now {
            self.last = Some((logs, size));
        }
        if logs > MANY_LOGS {
            if parts == 1 {
                self.shrink(size);
            }
            return Change::Smaller;
        }
        let logs = logs / parts;
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
    fn several_are_made_as_one_while_they_can_be_no_larger_and_have_few_logs() {
        let few = |size| Asked::Answered { size, logs: 10 };
        let many = |size| Asked::Answered { size, logs: 10_000 };
        for (outcomes, last, size, parts) in [
            // The size is the largest at once.
            (&[few(100)][..], Change::None, 1000, PARTS),
            (&[Asked::Answered { size: 100, logs: 80 }], Change::None, 1000, 1),
            (&[few(100), few(1000)], Change::None, 1000, PARTS),
            (&[few(100), few(1000), few(4000)], Change::None, 1000, PARTS),
            (&[few(100), Asked::Refused { size: 1000 }, few(500)], Change::Learned(500), 500, PARTS),
            (&[few(100), few(1000), Asked::Answered { size: 1000, logs: 400 }], Change::None, 1000, 1),
            // Of those together many came, of each not too many.
            (&[few(100), few(1000), many(4000)], Change::Smaller, 1000, 1),
            (&[few(100), few(1000), many(1000)], Change::Smaller, 500, 1),
            // What failed for all of them together says nothing of the size of each.
            (&[few(100), few(1000), Asked::TooLarge { size: 4000 }], Change::Smaller, 1000, 1),
            (&[few(100), few(1000), Asked::Unanswered { size: 4000, at: 1 }], Change::Smaller, 1000, 1),
            (&[few(100), few(1000), Asked::Refused { size: 1000 }], Change::Smaller, 500, 1),
        ] {
            let mut sizer = Sizer::new(1000);
            let changes: Vec<_> = outcomes.iter().map(|outcome| sizer.observe(*outcome)).collect();
            assert_eq!(
                (changes.last(), sizer.size(), sizer.parts()),
                (Some(&last), size, parts),
                "{outcomes:?}"
            );
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
}
