//! What many pending transactions of one network cost: the ledger alone, and the whole exporter while it follows.
//!
//! With pending ones that never end, so that every figure is of as many as it says.

use std::time::{Duration, Instant};

use super::measure::usage;
use super::provider::Provider;
use super::scrape::load::{Load, load};
use super::setting::{Network, Setting};
use super::table::{Table, megabytes, number};
use super::{Extent, Wrong, ledger, subject};
use crate::process::{self, Launch};
use crate::sim::Regular;

/// Buffered in every thirtieth block, which is a minute.
const AT_ONCE: u64 = 500;
const EVERY: u64 = 30;
const BLOCK_TIME: Duration = Duration::from_secs(2);

pub(super) async fn pending(extent: Extent) -> Result<(), Wrong> {
    process::binary();
    let sizes = if extent.short { vec![1000] } else { vec![1000, extent.of(100_000), extent.of(1_000_000)] };
    let measured_for = Duration::from_secs(if extent.short { 1 } else { 62 });
    println!("\n### pending: the ledger alone\n\n{}", ledger::table(&sizes));
    let mut table = Table::new([
        "pending",
        "first sync s",
        "resident MB",
        "bytes each",
        "CPU % while following",
        "scrape p50 ms",
        "scrape p99 ms",
    ]);
    let mut first = None;
    for size in sizes {
        let traffic = Regular { every: EVERY, buffered: AT_ONCE, resolved_after: None };
        let network = Network::live(traffic, EVERY * size.div_ceil(AT_ONCE) + 5, BLOCK_TIME);
        let setting = Setting::of(network);
        let provider = Provider::start(&setting).await;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state_dir = format!("state_dir: {}\n", directory.path().display());
        let begun = Instant::now();
        let exporter = Launch::config(&(state_dir + &setting.configuration(provider.url()))).start().await;
        subject::caught_up(&exporter, 1).await;
        let synced = begun.elapsed().as_secs_f64();
        let before = usage(exporter.pid());
        exporter.runs_for(measured_for).await;
        let after = usage(exporter.pid());
        let cpu = 100.0 * (after.cpu - before.cpu).as_secs_f64() / measured_for.as_secs_f64();
        let time = measured_for.min(Duration::from_secs(2));
        let scrapes = load(&Load { url: exporter.url(), connections: 1, time, ..Load::default() }).await;
        let (least, of) = *first.get_or_insert((after.resident, size));
        let each = if size > of {
            (after.resident.saturating_sub(least) / (size - of)).to_string()
        } else {
            "-".to_owned()
        };
        table.row([
            number(size),
            format!("{synced:.1}"),
            megabytes(after.resident),
            each,
            format!("{cpu:.1}"),
            format!("{:.3}", scrapes.median.as_secs_f64() * 1e3),
            format!("{:.3}", scrapes.slow.as_secs_f64() * 1e3),
        ]);
        subject::exact(&exporter, &provider, 1).await?;
    }
    println!(
        "\n### pending: the exporter, {AT_ONCE} more every minute, saved\n\n{table}\n{}\n",
        subject::EXACT
    );
    Ok(())
}
