//! What has been counted: plain numbers, without any logic of transactions.

use serde::{Deserialize, Serialize};
use web3::types::H256;

use super::transaction::Settled;
use crate::decode::{OTHER_EVENTS, Reason};
use crate::native::Native;

/// Upper bounds of the resolution histograms, seconds; a last bucket without a bound follows.
pub const BUCKETS: [u64; 17] =
    [1, 2, 5, 10, 15, 30, 45, 60, 90, 120, 180, 300, 600, 1800, 3600, 21600, 86400];

/// Counters and histograms of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// TransactionBuffered events.
    pub buffered: u64,
    /// TransactionReady events.
    pub ready: u64,
    /// TransactionFailed events, by [`Reason`].
    pub failed: [u64; Reason::ALL.len()],
    /// Buffered transactions by how they ended, by [`Outcome`].
    pub settled: [u64; Outcome::ALL.len()],
    /// Every other known event, in the order of [`OTHER_EVENTS`].
    pub events: [u64; OTHER_EVENTS.len()],
    /// Logs with the topic of a known event that do not decode.
    pub undecodable: u64,
    /// Ready minus buffered.
    pub resolution_time: Histogram,
    /// Ready minus the later of buffered and scheduled.
    pub resolution_delay: Histogram,
}

/// How a buffered transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A TransactionReady came first.
    Ready,
    /// The deadline passed on chain time first.
    Expired,
    /// A "Swap group timeout" came first.
    SwapGroupTimeout,
}

impl Outcome {
    /// Every outcome, in the order of [`Counts::settled`].
    pub const ALL: [Self; 3] = [Self::Ready, Self::Expired, Self::SwapGroupTimeout];

    /// The value of the `outcome` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Expired => "expired",
            Self::SwapGroupTimeout => "swap_group_timeout",
        }
    }
}

/// Observations in whole seconds; exact, so that a replay gives the same sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Observations by bucket, not cumulative; the last has no upper bound.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// The same observations, so finely that quantiles are exact to 5 %.
    pub native: Native,
    /// Sum of all observations, seconds.
    pub sum: u64,
    /// The newest observation of each bucket in log order.
    pub exemplars: [Option<Exemplar>; BUCKETS.len() + 1],
}

/// A transaction that stands for its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemplar {
    /// The transaction.
    pub tx_id: H256,
    /// What was observed, seconds.
    pub value: u64,
    /// Block time of the ready, seconds since the Unix epoch.
    pub timestamp: u64,
}

impl Histogram {
    /// Counts one observation, which becomes the exemplar of its bucket.
    pub fn observe(&mut self, exemplar: Exemplar) {
        let bucket = BUCKETS.iter().position(|bound| exemplar.value <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket] += 1;
        self.native.observe(exemplar.value);
        self.sum = self.sum.saturating_add(exemplar.value);
        self.exemplars[bucket] = Some(exemplar);
    }

    /// Never below `least`: classic buckets cumulatively, native ones each.
    fn at_least(&self, least: &Self) -> Self {
        let mut raised = self.clone();
        let (mut own, mut lower, mut below) = (0, 0, 0);
        for (index, bucket) in raised.buckets.iter_mut().enumerate() {
            own += self.buckets[index];
            lower += least.buckets[index];
            let cumulative = own.max(lower);
            *bucket = cumulative - below;
            below = cumulative;
        }
        raised.native = self.native.at_least(&least.native);
        raised.sum = self.sum.max(least.sum);
        raised
    }
}

impl Counts {
    /// Counts what a transaction's ready took.
    pub(super) fn measure(&mut self, tx_id: H256, of: Settled, time: u64) {
        let exemplar = |since: u64| Exemplar { tx_id, value: time.saturating_sub(since), timestamp: time };
        self.resolution_time.observe(exemplar(of.buffered));
        self.resolution_delay.observe(exemplar(of.due));
    }

    /// Never below `least`, series by series: what was exposed before a reorganisation holds until the
    /// chain catches up.
    pub fn at_least(&self, least: &Self) -> Self {
        let mut raised = self.clone();
        raised.buffered = self.buffered.max(least.buffered);
        raised.ready = self.ready.max(least.ready);
        raised.undecodable = self.undecodable.max(least.undecodable);
        raise(&mut raised.failed, &least.failed);
        raise(&mut raised.settled, &least.settled);
        raise(&mut raised.events, &least.events);
        raised.resolution_time = self.resolution_time.at_least(&least.resolution_time);
        raised.resolution_delay = self.resolution_delay.at_least(&least.resolution_delay);
        raised
    }
}

fn raise(values: &mut [u64], least: &[u64]) {
    for (value, least) in values.iter_mut().zip(least) {
        *value = (*value).max(*least);
    }
}
