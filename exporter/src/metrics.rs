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
}

impl Format {
    /// The value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::PrometheusText => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Encodes everything. The error is the encoder's own and carries nothing; writing to memory has none.
pub fn encode(exposition: Exposition, format: Format) -> Result<String, fmt::Error> {
    let exposition = Arc::new(exposition);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Arc::clone(&exposition)));

    let mut body = String::new();
    match format {
        Format::PrometheusText => prometheus_text::encode(&mut body, &registry)?,
        Format::OpenMetrics => {
            text::encode(&mut body, &registry)?;
            body = exemplars::append(&body, confirmed::exemplars(&exposition.networks));
        }
    }
    Ok(body)
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer::new(encoder);
        confirmed::encode(&mut writer, &self.networks)?;
        live::encode(&mut writer, &self.networks)?;
        process::encode(&mut writer, self)
    }
}

/// Seconds since the Unix epoch, with the fraction. A clock before 1970 reads as 0.
fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
