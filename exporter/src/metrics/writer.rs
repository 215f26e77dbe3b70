//! Families written one after another, each with its head once and only when it has a series.
//!
//! Names are given in full, as the interface lists them, so that searching for a name finds it here;
//! what the encoder adds by itself (`_total`, `_info`, the unit) is taken off before.

use std::collections::HashMap;
use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, GaugeValueEncoder,
    MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;
use web3::types::U256;

/// Writes families.
pub(super) struct Writer<'a>(DescriptorEncoder<'a>);

/// Buckets as the encoder wants them: upper bound and observations, not cumulative.
pub(super) struct Buckets {
    /// Sum of all observations.
    pub(super) sum: f64,
    /// The last bound is infinite.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    pub(super) fn counter<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, series, |encoder, (labels, value)| {
            encoder.encode_family(&labels)?.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
        })
    }

    pub(super) fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, series, |encoder, (labels, value)| {
            encoder.encode_family(&labels)?.encode_gauge(&value)
        })
    }

    pub(super) fn info<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = L>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Info, series, |encoder, labels| encoder.encode_info(&labels))
    }

    pub(super) fn histogram<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, Buckets)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            MetricType::Histogram,
            series,
            |encoder, (labels, Buckets { sum, buckets })| {
                let count = buckets.iter().map(|(_, count)| count).sum();
                let none = None::<&HashMap<usize, Exemplar<NoLabelSet, f64>>>;
                encoder.encode_family(&labels)?.encode_histogram(sum, count, &buckets, none)
            },
        )
    }

    fn family<T>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let (stem, unit) = stem_and_unit(name, kind);
        let mut encoder = self.0.encode_descriptor(stem, help, unit.as_ref(), kind)?;
        series.try_for_each(|one| write(&mut encoder, one))
    }
}

/// A 256-bit number as a gauge: exact while it fits 64 bits, then the nearest float, always finite.
pub(super) struct Wide(pub(super) U256);

impl EncodeGaugeValue for Wide {
    fn encode(&self, encoder: &mut GaugeValueEncoder<'_>) -> fmt::Result {
        if self.0.bits() <= 64 {
            EncodeGaugeValue::encode(&self.0.low_u64(), encoder)
        } else {
            EncodeGaugeValue::encode(&nearest(self.0), encoder)
        }
    }
}

fn nearest(number: U256) -> f64 {
    let dropped = number.bits().saturating_sub(64);
    let top = number >> dropped;
    // A bit that stands for everything dropped lets the conversion round as if it saw all of it.
    let sticky = u64::from(top << dropped != number);
    let exponent = i32::try_from(dropped).unwrap_or(i32::MAX);
    (top.low_u64() | sticky) as f64 * 2f64.powi(exponent)
}

fn stem_and_unit(name: &str, kind: MetricType) -> (&str, Option<Unit>) {
    let name = match kind {
        MetricType::Counter => name.strip_suffix("_total").unwrap_or(name),
        MetricType::Info => name.strip_suffix("_info").unwrap_or(name),
        _ => name,
    };
    let seconds = name.strip_suffix("_seconds").map(|stem| (stem, Some(Unit::Seconds)));
    let bytes = || name.strip_suffix("_bytes").map(|stem| (stem, Some(Unit::Bytes)));
    seconds.or_else(bytes).unwrap_or((name, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_numbers_round_to_the_nearest_float() {
        let numbers = [
            U256::from(u64::MAX) + 1,
            (U256::one() << 117) + 1,
            // Half way between two floats, and just above half way.
            (U256::one() << 100) + (U256::one() << 47),
            (U256::one() << 100) + (U256::one() << 47) + 1,
            U256::MAX - 1,
            U256::MAX,
        ];
        for number in numbers {
            let expected: f64 = number.to_string().parse().unwrap();
            assert_eq!(nearest(number), expected, "{number}");
            assert!(nearest(number).is_finite());
        }
    }
}
