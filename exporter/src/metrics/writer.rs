//! Families written one after another, each with its head once and only when it has a series.
//!
//! Names are given in full, as the interface lists them, so that searching for a name finds it here;
//! what the text encoder adds by itself (`_total`, `_info`, the unit) is taken off before.

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

use super::protobuf::{self, Family, Metric};
use crate::ledger;
use crate::native::Native;

/// Writes families.
pub(super) enum Writer<'a> {
    /// In either text format.
    Text(DescriptorEncoder<'a>),
    /// As delimited messages.
    Protobuf(&'a mut Vec<u8>),
}

/// A histogram, in classic and in native buckets.
pub(super) struct Buckets<'a> {
    /// Sum of all observations.
    pub(super) sum: f64,
    /// Upper bound and observations, not cumulative; the last bound is infinite.
    pub(super) buckets: Vec<(f64, u64)>,
    /// The same observations; no text format has them.
    pub(super) native: &'a Native,
    /// Those of `buckets`, as far as there are any; texts get theirs afterwards.
    pub(super) exemplars: &'a [Option<ledger::Exemplar>],
}

impl Writer<'_> {
    pub(super) fn counter<S, L, V>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result
    where
        S: AsRef<str>,
        L: EncodeLabelSet + AsRef<[(&'static str, S)]>,
        V: EncodeCounterValue + Float,
    {
        let text = |encoder: &mut MetricEncoder<'_>, (labels, value): (L, V)| {
            encoder.encode_family(&labels)?.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
        };
        let message = |(labels, value): (L, V)| Metric::counter(labels.as_ref(), value.float());
        self.family(name, help, MetricType::Counter, series, text, message)
    }

    pub(super) fn gauge<S, L, V>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result
    where
        S: AsRef<str>,
        L: EncodeLabelSet + AsRef<[(&'static str, S)]>,
        V: EncodeGaugeValue + Float,
    {
        let text = |encoder: &mut MetricEncoder<'_>, (labels, value): (L, V)| {
            encoder.encode_family(&labels)?.encode_gauge(&value)
        };
        let message = |(labels, value): (L, V)| Metric::gauge(labels.as_ref(), value.float());
        self.family(name, help, MetricType::Gauge, series, text, message)
    }

    pub(super) fn info<S, L>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = L>,
    ) -> fmt::Result
    where
        S: AsRef<str>,
        L: EncodeLabelSet + AsRef<[(&'static str, S)]>,
    {
        let text = |encoder: &mut MetricEncoder<'_>, labels: L| encoder.encode_info(&labels);
        let message = |labels: L| Metric::gauge(labels.as_ref(), 1.0);
        self.family(name, help, MetricType::Info, series, text, message)
    }

    pub(super) fn histogram<'b, S, L>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, Buckets<'b>)>,
    ) -> fmt::Result
    where
        S: AsRef<str>,
        L: EncodeLabelSet + AsRef<[(&'static str, S)]>,
    {
        let text = |encoder: &mut MetricEncoder<'_>, (labels, it): (L, Buckets<'_>)| {
            let count = it.buckets.iter().map(|(_, count)| count).sum();
            let none = None::<&HashMap<usize, Exemplar<NoLabelSet, f64>>>;
            encoder.encode_family(&labels)?.encode_histogram(it.sum, count, &it.buckets, none)
        };
        let message = |(labels, buckets): (L, Buckets<'_>)| Metric::histogram(labels.as_ref(), &buckets);
        self.family(name, help, MetricType::Histogram, series, text, message)
    }

    fn family<T>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: impl IntoIterator<Item = T>,
        mut text: impl FnMut(&mut MetricEncoder<'_>, T) -> fmt::Result,
        message: impl FnMut(T) -> Metric,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let (stem, unit) = stem_and_unit(name, kind);
        match self {
            Self::Text(encoder) => {
                let mut encoder = encoder.encode_descriptor(stem, help, unit.as_ref(), kind)?;
                series.try_for_each(|one| text(&mut encoder, one))
            }
            Self::Protobuf(out) => {
                let unit = unit.as_ref().map(Unit::as_str);
                Family::new(name, help, unit, protobuf::Kind::of(kind), series.map(message)).append(out);
                Ok(())
            }
        }
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

/// A value as a protobuf message has it.
pub(super) trait Float {
    /// The nearest float.
    fn float(&self) -> f64;
}

impl Float for u64 {
    fn float(&self) -> f64 {
        *self as f64
    }
}

impl Float for i64 {
    fn float(&self) -> f64 {
        *self as f64
    }
}

impl Float for f64 {
    fn float(&self) -> f64 {
        *self
    }
}

impl Float for Wide {
    fn float(&self) -> f64 {
        nearest(self.0)
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
