//! The body of a scrape, encoded once for as long as nothing changed.
//!
//! However many scrape at once, one encodes and the others get the same bytes; what is kept is one body for
//! each format, plain and compressed. Never encodes for long on a thread that others wait for.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::accept::Coding;
use crate::metrics::{Build, Format, ProcessStats, Reload, encode_exporter, encode_networks};
use crate::snapshot::Snapshot;

/// The process's own figures are this old at most: reading them takes longer than all else.
const PROCESS_AGE: Duration = Duration::from_secs(1);
/// Higher ones take longer, and make these texts no smaller.
const ZSTD_LEVEL: i32 = 1;
/// With this many networks encoding takes a while, and is done apart.
const MANY_NETWORKS: usize = 32;

/// The last bodies.
#[derive(Default)]
pub(super) struct Scrapes {
    prometheus_text: Mutex<Option<Scrape>>,
    open_metrics: Mutex<Option<Scrape>>,
    protobuf: Mutex<Option<Scrape>>,
}

#[derive(Clone)]
struct Scrape {
    /// What was encoded; the pointers tell whether it is the same.
    networks: Vec<Arc<Snapshot>>,
    encoded: Bytes,
    /// When the exporter's own part was encoded.
    at: Instant,
    plain: Bytes,
    /// By [`Coding`], those that were asked for.
    compressed: [Option<Bytes>; Coding::ALL.len()],
}

impl Scrapes {
    /// The body for these snapshots, compressed as wanted.
    pub(super) async fn body(
        &self,
        networks: Vec<Arc<Snapshot>>,
        (build, reload): (Build, Reload),
        format: Format,
        coding: Option<Coding>,
    ) -> Result<Bytes, fmt::Error> {
        let slot = match format {
            Format::PrometheusText => &self.prometheus_text,
            Format::OpenMetrics => &self.open_metrics,
            Format::Protobuf => &self.protobuf,
        };
        let mut last = slot.lock().await;
        let current = last.as_ref().filter(|it| it.shows(&networks) && it.at.elapsed() < PROCESS_AGE);
        if let Some(body) = current.and_then(|scrape| scrape.body(coding)) {
            return Ok(body);
        }
        let before = last.clone();
        let many = networks.len() >= MANY_NETWORKS;
        let make = move || {
            let mut scrape = Scrape::make(before, networks, (build, reload), format)?;
            if let Some(coding) = coding {
                scrape.compressed[coding as usize] = Some(compress(&scrape.plain, coding)?);
            }
            Ok(scrape)
        };
        let scrape = if many {
            // A panic there was logged.
            tokio::task::spawn_blocking(make).await.map_err(|_| fmt::Error)??
        } else {
            make()?
        };
        let body = scrape.body(coding).ok_or(fmt::Error);
        *last = Some(scrape);
        body
    }
}

impl Scrape {
    /// From what holds of the last one.
    fn make(
        before: Option<Self>,
        networks: Vec<Arc<Snapshot>>,
        (build, reload): (Build, Reload),
        format: Format,
    ) -> Result<Self, fmt::Error> {
        let same = before.filter(|it| it.shows(&networks));
        if let Some(same) = same.as_ref().filter(|it| it.at.elapsed() < PROCESS_AGE) {
            return Ok(same.clone());
        }
        let encoded = match same {
            Some(same) => same.encoded,
            None => encode_networks(&networks, format)?.into(),
        };
        let exporter = encode_exporter(build, reload, ProcessStats::read().ok(), format)?;
        let plain = [&encoded[..], &exporter].concat().into();
        Ok(Self { networks, encoded, at: Instant::now(), plain, compressed: Default::default() })
    }

    /// `None` where it was not compressed in this way yet.
    fn body(&self, coding: Option<Coding>) -> Option<Bytes> {
        coding.map_or_else(|| Some(self.plain.clone()), |coding| self.compressed[coding as usize].clone())
    }

    fn shows(&self, networks: &[Arc<Snapshot>]) -> bool {
        self.networks.len() == networks.len()
            && self.networks.iter().zip(networks).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

fn compress(plain: &[u8], coding: Coding) -> Result<Bytes, fmt::Error> {
    let compressed = match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
            encoder.write_all(plain).and_then(|()| encoder.finish())
        }
        Coding::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL),
    };
    // Writing to memory cannot fail.
    compressed.map(Bytes::from).map_err(|_| fmt::Error)
}
