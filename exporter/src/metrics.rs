//! The exposition: names, help, units and labels of every series, encoded from snapshots.
//!
//! A pure function of the values passed in: it never reads a clock, a file or the network, keeps
//! nothing between two scrapes and takes no lock. Three absences are kept apart: what is not known
//! has no series, what is zero says 0, and what does not apply (no deadline, no such view) has no
//! series either. A family without a series is left out whole.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;

pub use self::process::ProcessStats;
use self::writer::Writer;
use crate::snapshot::Snapshot;

mod confirmed;
mod exemplars;
mod live;
mod process;
mod protobuf;
mod writer;

/// Everything one scrape shows.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// The last snapshot of every network, in the order of the configuration.
    pub networks: Vec<Arc<Snapshot>>,
    /// What was built.
    pub build: Build,
    /// How the last reading of the configuration went.
    pub reload: Reload,
    /// The exporter's own process; `None` where the system does not tell.
    pub process: Option<ProcessStats>,
}

/// What was built, from what, by what.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The exporter's version.
    pub version: &'static str,
    /// The commit it was built from.
    pub revision: &'static str,
    /// The compiler's version.
    pub rustc: &'static str,
}

/// How the last reading of the configuration went.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// The last reading was taken over.
    pub successful: bool,
    /// When a reading was last taken over.
    pub last_success: SystemTime,
}

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4
    PrometheusText,
    /// OpenMetrics text 1.0.0, with exemplars
    OpenMetrics,
    /// Prometheus protobuf, delimited, with exemplars and native histograms
    Protobuf,
}

impl Format {
    /// The value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::PrometheusText => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Encodes everything. The error is the encoder's own and carries nothing; writing to memory has none.
pub fn encode(exposition: Exposition, format: Format) -> Result<Vec<u8>, fmt::Error> {
    let Exposition { networks, build, reload, process } = exposition;
    Ok([encode_networks(&networks, format)?, encode_exporter(build, reload, process, format)?].concat())
}

/// Encodes what the networks' snapshots show, in their order; [`encode_exporter`] ends it.
pub fn encode_networks(networks: &[Arc<Snapshot>], format: Format) -> Result<Vec<u8>, fmt::Error> {
    let families = Networks(networks.to_vec());
    Ok(match format {
        Format::PrometheusText => prometheus_text(families)?.into_bytes(),
        Format::OpenMetrics => {
            exemplars::append(&open_metrics(families)?, confirmed::exemplars(networks)).into_bytes()
        }
        Format::Protobuf => messages(&families)?,
    })
}

/// Encodes what the exporter shows of itself, and the end of the exposition.
pub fn encode_exporter(
    build: Build,
    reload: Reload,
    process: Option<ProcessStats>,
    format: Format,
) -> Result<Vec<u8>, fmt::Error> {
    let families = Exporter { build, reload, process };
    Ok(match format {
        Format::PrometheusText => prometheus_text(families)?.into_bytes(),
        Format::OpenMetrics => {
            let mut body = open_metrics(families)?;
            text::encode_eof(&mut body)?;
            body.into_bytes()
        }
        Format::Protobuf => messages(&families)?,
    })
}

fn prometheus_text(families: impl Families) -> Result<String, fmt::Error> {
    let mut body = String::new();
    prometheus_text::encode(&mut body, &registry(families))?;
    Ok(body)
}

fn open_metrics(families: impl Families) -> Result<String, fmt::Error> {
    let mut body = String::new();
    text::encode_registry(&mut body, &registry(families))?;
    Ok(body)
}

fn messages(families: &impl Families) -> Result<Vec<u8>, fmt::Error> {
    let mut body = Vec::new();
    families.write(&mut Writer::Protobuf(&mut body))?;
    Ok(body)
}

fn registry(families: impl Families) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Text(families)));
    registry
}

/// A part of the exposition, the same in every format.
trait Families: fmt::Debug + Send + Sync + 'static {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result;
}

/// What the text encoders ask for families.
#[derive(Debug)]
struct Text<F>(F);

impl<F: Families> Collector for Text<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.write(&mut Writer::Text(encoder))
    }
}

#[derive(Debug)]
struct Networks(Vec<Arc<Snapshot>>);

impl Families for Networks {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        confirmed::encode(writer, &self.0)?;
        live::encode(writer, &self.0)
    }
}

#[derive(Debug)]
struct Exporter {
    build: Build,
    reload: Reload,
    process: Option<ProcessStats>,
}

impl Families for Exporter {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        process::encode(writer, self)
    }
}

/// Seconds since the Unix epoch, with the fraction. A clock before 1970 reads as 0.
fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
