//! Native histograms and quantiles of what was observed, in the plainest way.
//!
//! Shares no code with the exporter: a bucket is found by looking at one after the other.

use std::collections::BTreeMap;

/// Buckets to a power of two, as 2 to this power.
const SCHEMA: u32 = 4;

/// Whole seconds in exponentially wide buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Native {
    /// Of 0 s.
    pub zero: u64,
    /// Number of a bucket to how many are in it; only those that have any.
    pub buckets: BTreeMap<i32, u64>,
}

impl Native {
    /// Of these, seconds.
    pub fn of(observations: &[u64]) -> Self {
        let mut native = Self::default();
        for &seconds in observations {
            if seconds == 0 {
                native.zero += 1;
            } else {
                *native.buckets.entry(bucket(seconds as f64)).or_default() += 1;
            }
        }
        native
    }
}

/// The first bucket from 1 s on whose upper bound is not below.
fn bucket(seconds: f64) -> i32 {
    let width = 1.0 / f64::from(1 << SCHEMA);
    (0..).find(|number| 2f64.powf(f64::from(*number) * width) >= seconds).expect("some bound is above")
}

/// The exact quantile: the least of them that this share of all is not above. Panics when there are none.
pub fn quantile(share: f64, observations: &[u64]) -> u64 {
    let mut sorted = observations.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.max(1) - 1]
}
