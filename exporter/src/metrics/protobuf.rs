//! The messages of Prometheus's protobuf format, `io.prometheus.client.MetricFamily`, as far as they are used.
//!
//! Declared by hand after the published definition: numbers and types are the format. What prometheus-client
//! encodes as protobuf is OpenMetrics', which Prometheus does not read. Never decides what is shown.

use prometheus_client::metrics::MetricType;
use prost::Message;

use super::writer::Buckets;
use crate::ledger;
use crate::native::{Native, SCHEMA};
use crate::snapshot::hex;

/// Up to here an observation is in the bucket for 0: the smallest threshold that is usual.
const ZERO: f64 = 1.0 / (1u128 << 127) as f64 / 2.0;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Family {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "Kind", optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(super) enum Kind {
    Counter = 0,
    Gauge = 1,
    Untyped = 3,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// `Gauge` and `Counter` alike.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    deltas: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

/// Native buckets without a gap between them.
#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    /// From the end of the last span; of the first one from bucket 0.
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

impl Family {
    pub(super) fn new(
        name: &str,
        help: &str,
        unit: Option<&str>,
        kind: Kind,
        metrics: impl Iterator<Item = Metric>,
    ) -> Self {
        Self {
            name: Some(name.to_owned()),
            help: Some(help.to_owned()),
            kind: Some(kind.into()),
            metrics: metrics.collect(),
            unit: unit.map(str::to_owned),
        }
    }

    pub(super) fn append(&self, out: &mut Vec<u8>) {
        out.extend(self.encode_length_delimited_to_vec());
    }
}

impl Kind {
    pub(super) fn of(kind: MetricType) -> Self {
        match kind {
            MetricType::Counter => Self::Counter,
            MetricType::Gauge | MetricType::Info => Self::Gauge,
            MetricType::Histogram => Self::Histogram,
            _ => Self::Untyped,
        }
    }
}

impl Metric {
    pub(super) fn gauge<S: AsRef<str>>(labels: &[(&str, S)], value: f64) -> Self {
        let gauge = Some(Value { value: Some(value) });
        Self { labels: pairs(labels), gauge, ..Self::default() }
    }

    pub(super) fn counter<S: AsRef<str>>(labels: &[(&str, S)], value: f64) -> Self {
        let counter = Some(Value { value: Some(value) });
        Self { labels: pairs(labels), counter, ..Self::default() }
    }

    /// Prometheus refuses native buckets that hold more than the count says. While counts are held after a reorganisation
    /// they may hold more than the classic ones, so that the count, which the last classic bucket repeats, is theirs.
    pub(super) fn histogram<S: AsRef<str>>(labels: &[(&str, S)], of: &Buckets<'_>) -> Self {
        let total = of.native.total();
        let mut cumulative_count = 0;
        let exemplars = of.exemplars.iter().copied().chain(std::iter::repeat(None));
        let buckets = of.buckets.iter().zip(exemplars).map(|(&(bound, count), exemplar)| {
            cumulative_count += count;
            let cumulative_count = if bound.is_finite() { cumulative_count } else { total };
            let exemplar = exemplar.map(Exemplar::from);
            Bucket { cumulative_count: Some(cumulative_count), upper_bound: Some(bound), exemplar }
        });
        let buckets = buckets.collect();
        let (spans, deltas) = spans_and_deltas(of.native);
        let histogram = Some(Histogram {
            count: Some(total),
            sum: Some(of.sum),
            buckets,
            schema: i32::try_from(SCHEMA).ok(),
            zero_threshold: Some(ZERO),
            zero_count: Some(of.native.zero),
            spans,
            deltas,
        });
        Self { labels: pairs(labels), histogram, ..Self::default() }
    }
}

impl From<ledger::Exemplar> for Exemplar {
    fn from(exemplar: ledger::Exemplar) -> Self {
        let ledger::Exemplar { tx_id, value, timestamp } = exemplar;
        Self {
            labels: pairs(&[("tx_id", hex(&tx_id))]),
            value: Some(value as f64),
            timestamp: i64::try_from(timestamp).ok().map(|seconds| Timestamp { seconds }),
        }
    }
}

fn pairs<S: AsRef<str>>(labels: &[(&str, S)]) -> Vec<Label> {
    let label = |(name, value): &(&str, S)| Label {
        name: Some((*name).to_owned()),
        value: Some(value.as_ref().to_owned()),
    };
    labels.iter().map(label).collect()
}

/// Native buckets as runs without gaps, and each count less the one before.
fn spans_and_deltas(native: &Native) -> (Vec<Span>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<Span>, Vec<i64>) = Default::default();
    let (mut next, mut before) = (0, 0);
    for &(number, count) in &native.buckets {
        let (number, count) = (i32::from(number), i64::try_from(count).unwrap_or(i64::MAX));
        match spans.last_mut() {
            Some(Span { length: Some(length), .. }) if number == next => *length += 1,
            _ => spans.push(Span { offset: Some(number - next), length: Some(1) }),
        }
        deltas.push(count - before);
        (next, before) = (number + 1, count);
    }
    (spans, deltas)
}
