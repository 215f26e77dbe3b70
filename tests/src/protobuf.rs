//! Prometheus's protobuf format, read by declarations of the tests' own.
//!
//! Never lenient: what is not a row of delimited `io.prometheus.client.MetricFamily` panics.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use prost::Message;

use crate::series::Series;

/// What a Prometheus that takes native histograms asks for.
pub const ACCEPT: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// `MetricFamily`.
#[derive(Clone, PartialEq, Message)]
pub struct Family {
    /// As in queries.
    #[prost(string, tag = "1")]
    pub name: String,
    /// One line.
    #[prost(string, tag = "2")]
    pub help: String,
    /// 0 counter, 1 gauge, 4 histogram.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    /// Each with labels of its own.
    #[prost(message, repeated, tag = "4")]
    pub metrics: Vec<Metric>,
    /// `seconds` or `bytes`, where there is one.
    #[prost(string, tag = "5")]
    pub unit: String,
}

/// `Metric`.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// In the order in which they came.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Of a gauge.
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Value>,
    /// Of a counter.
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Value>,
    /// Of a histogram.
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
}

/// `LabelPair`.
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value, nothing escaped.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `Gauge` or `Counter`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Value {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
}

/// `Histogram`.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Observations.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// Their sum.
    #[prost(double, tag = "2")]
    pub sum: f64,
    /// Classic ones.
    #[prost(message, repeated, tag = "3")]
    pub buckets: Vec<Bucket>,
    /// Of the native ones: 2 to this power of them to a power of two.
    #[prost(sint32, tag = "5")]
    pub schema: i32,
    /// Up to this an observation is in the bucket for 0.
    #[prost(double, tag = "6")]
    pub zero_threshold: f64,
    /// Observations in that bucket.
    #[prost(uint64, tag = "7")]
    pub zero_count: u64,
    /// Native buckets above 0, in runs.
    #[prost(message, repeated, tag = "12")]
    pub spans: Vec<Span>,
    /// Their counts, each less the one before.
    #[prost(sint64, repeated, tag = "13")]
    pub deltas: Vec<i64>,
}

/// `BucketSpan`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Span {
    /// From the end of the last one.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// How many buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// `Bucket`.
#[derive(Clone, PartialEq, Message)]
pub struct Bucket {
    /// Observations up to its bound.
    #[prost(uint64, tag = "1")]
    pub cumulative_count: u64,
    /// The bound.
    #[prost(double, tag = "2")]
    pub upper_bound: f64,
    /// One of its own observations.
    #[prost(message, optional, tag = "3")]
    pub exemplar: Option<Exemplar>,
}

/// `Exemplar`.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// Names it.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// What was observed.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// When.
    #[prost(message, optional, tag = "3")]
    pub timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Timestamp {
    /// Since the Unix epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And these.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// All families of an exposition.
pub fn parse(mut body: &[u8]) -> Vec<Family> {
    let mut families = Vec::new();
    while !body.is_empty() {
        families.push(Family::decode_length_delimited(&mut body).expect("a delimited MetricFamily"));
    }
    families
}

/// The same series as a text has, native buckets left out.
pub fn series(families: &[Family]) -> Series {
    let mut all = BTreeMap::new();
    let mut add = |name: String, labels: &[Label], le: Option<f64>, value: f64| {
        let mut pairs: Vec<_> = labels.iter().map(ToString::to_string).collect();
        pairs.extend(
            le.map(|le| if le.is_finite() { format!("le=\"{le:?}\"") } else { "le=\"+Inf\"".to_owned() }),
        );
        pairs.sort_unstable();
        let key = if pairs.is_empty() { name } else { format!("{name}{{{}}}", pairs.join(",")) };
        assert!(all.insert(key.clone(), value.to_string()).is_none(), "{key} twice");
    };
    for family in families {
        for metric in &family.metrics {
            let (name, labels) = (family.name.as_str(), metric.labels.as_slice());
            if let Some(Value { value }) = metric.gauge.or(metric.counter) {
                add(name.to_owned(), labels, None, value);
            }
            let Some(histogram) = &metric.histogram else { continue };
            add(format!("{name}_count"), labels, None, histogram.count as f64);
            add(format!("{name}_sum"), labels, None, histogram.sum);
            for bucket in &histogram.buckets {
                let count = bucket.cumulative_count as f64;
                add(format!("{name}_bucket"), labels, Some(bucket.upper_bound), count);
            }
        }
    }
    Series(all)
}

impl Histogram {
    /// Number of each native bucket above 0 to its observations.
    pub fn native(&self) -> BTreeMap<i32, u64> {
        let (mut number, mut count, mut deltas) = (0, 0, self.deltas.iter());
        let mut buckets = BTreeMap::new();
        for span in &self.spans {
            number += span.offset;
            for _ in 0..span.length {
                count += deltas.next().expect("a delta for each bucket");
                buckets.insert(number, u64::try_from(count).expect("no negative count"));
                number += 1;
            }
        }
        assert_eq!(deltas.next(), None, "more deltas than buckets");
        buckets
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} kind={} unit={:?} help={:?}", self.name, self.kind, self.unit, self.help)?;
        for metric in &self.metrics {
            let labels: Vec<_> = metric.labels.iter().map(ToString::to_string).collect();
            write!(f, "  {{{}}}", labels.join(","))?;
            match (&metric.gauge, &metric.counter, &metric.histogram) {
                (Some(Value { value }), None, None) | (None, Some(Value { value }), None) => {
                    writeln!(f, " {value}")?;
                }
                (None, None, Some(histogram)) => write!(f, "\n{histogram}")?,
                _ => panic!("not of one kind: {metric:?}"),
            }
        }
        Ok(())
    }
}

impl Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    count={} sum={}", self.count, self.sum)?;
        writeln!(
            f,
            "    schema={} zero_threshold={:e} zero_count={} native={:?}",
            self.schema,
            self.zero_threshold,
            self.zero_count,
            self.native()
        )?;
        for bucket in &self.buckets {
            write!(f, "    le={} {}", bucket.upper_bound, bucket.cumulative_count)?;
            if let Some(exemplar) = &bucket.exemplar {
                let labels: Vec<_> = exemplar.labels.iter().map(ToString::to_string).collect();
                write!(f, " # {{{}}} {}", labels.join(","), exemplar.value)?;
                exemplar.timestamp.map_or(Ok(()), |at| write!(f, " {}.{:09}", at.seconds, at.nanos))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Display for Label {
    /// As a text escapes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(f, "{}=\"{value}\"", self.name)
    }
}
