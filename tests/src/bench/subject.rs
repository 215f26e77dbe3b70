//! The exporter under measurement: when it has caught up, and whether it shows what the chains hold.
//!
//! Asks over HTTP, as a scraper would; never measures.

use std::time::Duration;

use super::Wrong;
use super::provider::Provider;
use super::provider::ready::Figures;
use super::setting::name;
use crate::process::Exporter;
use crate::series::Series;

/// How long catching up may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1800);

/// What is printed where [`exact`] found no difference.
pub(crate) const EXACT: &str = "Exact: every network shows its chain's figures at its processed block";

/// Waits until every network has finished its first sync.
pub(crate) async fn caught_up(exporter: &Exporter, networks: usize) {
    let synced = |number| format!("tesseract_synced{{network=\"{}\"}}", name(number));
    exporter
        .wait_for("all networks catch up", PATIENCE, |series| {
            (0..networks).all(|number| series.get(&synced(number)) == Some(1.0))
        })
        .await;
}

/// Compares every network with its chain, at the block that the exporter has come to.
///
/// # Errors
/// A network whose figures differ.
pub(crate) async fn exact(exporter: &Exporter, provider: &Provider, networks: usize) -> Result<(), Wrong> {
    let series = exporter.scrape().await;
    for number in 0..networks {
        let processed = format!("tesseract_processed_block_number{{network=\"{}\"}}", name(number));
        let processed = series.get(&processed).unwrap_or_else(|| panic!("{processed} is absent"));
        let truth = provider.figures(number, processed as u64).await;
        let shown = figures(&series, number);
        if shown != truth {
            return Err(Wrong(format!("network {number} at block {processed}: {shown:?}, chain {truth:?}")));
        }
    }
    Ok(())
}

/// What the exporter shows of a network. Panics where a series is absent.
pub(crate) fn figures(series: &Series, network: usize) -> Figures {
    let network = name(network);
    let of = |family: &str, label: &str| {
        let key = format!("tesseract_{family}{{network=\"{network}\"{label}}}");
        series.get(&key).unwrap_or_else(|| panic!("{key} is absent")) as u64
    };
    let reasons = ["dependency", "expired", "other", "swap_group_timeout"];
    let failed = |reason| of("transactions_failed_total", &format!(",reason=\"{reason}\""));
    let (buffered, ready) = (of("transactions_buffered_total", ""), of("transactions_ready_total", ""));
    Figures {
        buffered,
        ready,
        failed: reasons.into_iter().map(failed).sum(),
        seconds: Some(of("resolution_time_seconds_sum", "")),
    }
}
