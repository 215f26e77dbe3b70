//! A native histogram: observations in exponentially wide buckets, kept sparse.
//!
//! Counts only, in exact integers: which bucket an observation falls into is no matter of rounding, and two
//! exporters agree. Never holds a sum; what has one keeps it beside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Each power of two is divided into 2^4 buckets, so that one is 4.4 % wide: a quantile, which is known to
/// lie in a bucket, is known to 5 % wherever it lies there. With 2^3 it would be 9 %.
pub const SCHEMA: u32 = 4;

/// Buckets to a power of two.
const BUCKETS: i16 = 1 << SCHEMA;

/// Where the bounds lie between 2^63 and 2^64: the whole part of 2^(63 + n/16). All other bounds are these, shifted.
const BOUNDS: [u64; BUCKETS as usize] = [
    0x8000_0000_0000_0000,
    0x85aa_c367_cc48_7b14,
    0x8b95_c1e3_ea8b_d6e6,
    0x91c3_d373_ab11_c336,
    0x9837_f051_8db8_a96f,
    0x9ef5_3260_91a1_11ad,
    0xa5fe_d6a9_b151_38ea,
    0xad58_3eea_42a1_4ac6,
    0xb504_f333_f9de_6484,
    0xbd08_a39f_580c_36be,
    0xc567_2a11_5506_dadd,
    0xce24_8c15_1f84_80e3,
    0xd744_fcca_d69d_6af4,
    0xe0cc_deec_2a94_e111,
    0xeac0_c6e7_dd24_392e,
    0xf525_7d15_2486_cc2c,
];

/// Durations are counted in units of 2^-30 s, a little less than a nanosecond.
const UNITS: u32 = 30;

/// A native histogram of seconds, without its sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Native {
    /// Observations of 0 s.
    pub zero: u64,
    /// The buckets that have any: number and observations, in rising order. That of number n holds what is over
    /// 2^((n - 1) / 16) s, and at most 2^(n / 16) s.
    pub buckets: Vec<(i16, u64)>,
}

impl Native {
    /// Counts one observation of whole seconds.
    pub fn observe(&mut self, seconds: u64) {
        self.count(seconds, 0);
    }

    /// Counts one observation.
    pub fn observe_duration(&mut self, duration: Duration) {
        let units = (duration.as_nanos() << UNITS).div_ceil(1_000_000_000);
        self.count(u64::try_from(units).unwrap_or(u64::MAX), UNITS);
    }

    /// All observations.
    pub fn total(&self) -> u64 {
        self.zero + self.buckets.iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Never below `least`, bucket by bucket: one that falls is a restart to Prometheus.
    pub fn at_least(&self, least: &Self) -> Self {
        let mut raised = Self { zero: self.zero.max(least.zero), buckets: self.buckets.clone() };
        for &(number, count) in &least.buckets {
            let bucket = raised.bucket(number);
            *bucket = count.max(*bucket);
        }
        raised
    }

    /// Counts one observation in units of 2^-`unit` s.
    fn count(&mut self, observation: u64, unit: u32) {
        match number(observation, unit) {
            Some(number) => *self.bucket(number) += 1,
            None => self.zero += 1,
        }
    }

    fn bucket(&mut self, number: i16) -> &mut u64 {
        let place = self.buckets.binary_search_by_key(&number, |(number, _)| *number);
        let place = place.unwrap_or_else(|place| {
            self.buckets.insert(place, (number, 0));
            place
        });
        &mut self.buckets[place].1
    }
}

/// The number of the bucket for an observation in units of 2^-`unit` s; `None` for 0.
fn number(observation: u64, unit: u32) -> Option<i16> {
    let power = observation.checked_ilog2()?;
    // Whole numbers are under a bound where they are under its whole part, also when both are shifted.
    let place = BOUNDS.partition_point(|bound| *bound < observation << (63 - power));
    // Both are under 65.
    Some((power as i16 - unit as i16) * BUCKETS + place as i16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A large number to the 16th power, as digits to the base 2^32, the lowest first: the plainest way.
    fn to_the_16th(number: u128) -> Vec<u32> {
        let digits: Vec<u32> = (0..4).map(|digit| (number >> (32 * digit)) as u32).collect();
        (0..16).fold(vec![1], |power, _| {
            let mut product = vec![0u32; power.len() + digits.len()];
            for (place, digit) in power.iter().enumerate() {
                let mut carry = 0u64;
                for (other, factor) in digits.iter().enumerate() {
                    carry += u64::from(product[place + other]) + u64::from(*digit) * u64::from(*factor);
                    product[place + other] = carry as u32;
                    carry >>= 32;
                }
                product[place + digits.len()] = carry as u32;
            }
            product
        })
    }

    /// Whether number^16 is at most 2^power.
    fn is_within(number: u128, power: u32) -> bool {
        let digits = to_the_16th(number);
        let top = digits.iter().rposition(|digit| *digit != 0).unwrap_or(0);
        let bits = 32 * top as u32 + (32 - digits[top].leading_zeros());
        let is_power = digits[..top].iter().all(|digit| *digit == 0) && digits[top].is_power_of_two();
        bits <= power || (bits == power + 1 && is_power)
    }

    #[test]
    fn bounds_are_exact() {
        for (place, bound) in (0..).zip(BOUNDS) {
            let power = 63 * 16 + place;
            assert!(is_within(bound.into(), power) && !is_within(u128::from(bound) + 1, power), "{place}");
        }
    }

    proptest! {
        #[test]
        fn an_observation_is_within_its_bucket_alone(bits in 0..64u32, any in 1u64..) {
            let observation = (any >> bits).max(1);
            let number = number(observation, 0).unwrap();
            prop_assert!(is_within(observation.into(), number as u32));
            prop_assert!(number == 0 || !is_within(observation.into(), number as u32 - 1));
        }

        #[test]
        fn a_duration_is_in_the_bucket_that_a_logarithm_gives(nanoseconds in 1..20_000_000_000u64) {
            let duration = Duration::from_nanos(nanoseconds);
            let mut native = Native::default();
            native.observe_duration(duration);
            let [(number, 1)] = native.buckets[..] else { panic!("{native:?}") };
            let exact = duration.as_secs_f64().log2() * 16.0;
            // A unit and a rounding of the logarithm away from a bound both are right.
            let doubt = 16.0 * 2f64.powi(-30) / duration.as_secs_f64();
            prop_assert!(exact <= f64::from(number) + doubt && exact > f64::from(number - 1) - doubt, "{exact} {number}");
        }

        #[test]
        fn what_is_held_never_falls(old: Vec<u8>, new: Vec<u8>) {
            let observed = |all: &[u8]| {
                let mut native = Native::default();
                all.iter().for_each(|seconds| native.observe((*seconds).into()));
                native
            };
            let (old, new) = (observed(&old), observed(&new));
            let held = new.at_least(&old);
            for least in [&old, &new] {
                prop_assert!(held.zero >= least.zero && held.total() >= least.total());
                for (number, count) in &least.buckets {
                    let of = held.buckets.iter().find(|(held, _)| held == number);
                    prop_assert!(of.is_some_and(|(_, held)| held >= count));
                }
            }
            prop_assert!(held.buckets.is_sorted_by(|one, other| one.0 < other.0));
            prop_assert_eq!(new.at_least(&new), new);
        }
    }

    #[test]
    fn buckets_by_example() {
        let mut native = Native::default();
        for seconds in [0, 1, 2, 12, 12, 86_400, u64::MAX, 0] {
            native.observe(seconds);
        }
        let buckets = vec![(0, 1), (16, 1), (58, 2), (263, 1), (1024, 1)];
        assert_eq!((native.zero, native.total()), (2, 8));
        assert_eq!(native.buckets, buckets);
        let mut native = Native::default();
        for duration in [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(1), Duration::MAX] {
            native.observe_duration(duration);
        }
        assert_eq!(native, Native { zero: 1, buckets: vec![(-16, 1), (0, 1), (544, 1)] });
    }
}
