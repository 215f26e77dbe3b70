//! The confirmed series: functions of the chain up to the processed block.
//!
//! None of them exists before a network's first sync is done; then each has every label value, at 0
//! where nothing happened yet.

use std::fmt;
use std::sync::Arc;

use super::writer::{Buckets, Wide, Writer};
use crate::decode::{OTHER_EVENTS, Reason};
use crate::ledger::{BUCKETS, Counts, Exemplar, Histogram, Outcome};
use crate::snapshot::{Gauges, Head, Snapshot, hex};

pub(super) fn encode(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    transactions(writer, networks)?;
    resolution(writer, networks)?;
    pending(writer, networks)?;
    newest(writer, networks)?;
    completeness(writer, networks)
}

/// The exemplars of all resolution buckets, in the order in which [`encode`] writes the buckets.
pub(super) fn exemplars(networks: &[Arc<Snapshot>]) -> impl Iterator<Item = Option<Exemplar>> {
    let time = counts(networks).flat_map(|(_, counts)| counts.resolution_time.exemplars);
    let delay = counts(networks).flat_map(|(_, counts)| counts.resolution_delay.exemplars);
    time.chain(delay)
}

fn transactions(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.counter(
        "tesseract_transactions_buffered_total",
        "TransactionBuffered events up to the processed block.",
        counts(networks).map(|(network, counts)| ([("network", network)], counts.buffered)),
    )?;
    writer.counter(
        "tesseract_transactions_ready_total",
        "TransactionReady events up to the processed block.",
        counts(networks).map(|(network, counts)| ([("network", network)], counts.ready)),
    )?;
    writer.counter(
        "tesseract_transactions_failed_total",
        "TransactionFailed events up to the processed block, by the kind of reason; one transaction may fail several times.",
        counts(networks).flat_map(|(network, counts)| {
            let by_reason = Reason::ALL.iter().zip(counts.failed);
            by_reason.map(move |(reason, n)| ([("network", network), ("reason", reason.label())], n))
        }),
    )?;
    writer.counter(
        "tesseract_transactions_settled_total",
        "Buffered transactions by how they ended, each counted once, by whatever came first; buffered = settled + pending.",
        counts(networks).flat_map(|(network, counts)| {
            let by_outcome = Outcome::ALL.iter().zip(counts.settled);
            by_outcome.map(move |(outcome, n)| ([("network", network), ("outcome", outcome.label())], n))
        }),
    )?;
    writer.counter(
        "tesseract_contract_events_total",
        "Every other known event of the contract up to the processed block, by name.",
        counts(networks).flat_map(|(network, counts)| {
            let by_event = OTHER_EVENTS.iter().zip(counts.events);
            by_event.map(move |(event, n)| ([("network", network), ("event", *event)], n))
        }),
    )
}

fn resolution(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.histogram(
        "tesseract_resolution_time_seconds",
        "Seconds from the block that buffered a transaction to the block that made it ready, the agreed wait included.",
        counts(networks).map(|(network, counts)| ([("network", network)], buckets(&counts.resolution_time))),
    )?;
    writer.histogram(
        "tesseract_resolution_delay_seconds",
        "Seconds from the later of buffered and scheduled to the block that made a transaction ready: how late it was.",
        counts(networks).map(|(network, counts)| ([("network", network)], buckets(&counts.resolution_delay))),
    )
}

fn pending(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.gauge(
        "tesseract_transactions_pending",
        "Transactions buffered and not yet settled at the processed block.",
        gauges(networks).map(|(network, gauges)| ([("network", network)], gauges.pending)),
    )?;
    writer.gauge(
        "tesseract_oldest_pending_timestamp_seconds",
        "Block time at which the oldest pending transaction was buffered, in seconds since the Unix epoch; absent when none is pending.",
        gauges(networks).filter_map(|(network, gauges)| Some(([("network", network)], gauges.oldest_pending?))),
    )?;
    writer.gauge(
        "tesseract_next_deadline_timestamp_seconds",
        "The nearest deadline among the pending transactions, in seconds since the Unix epoch; absent when none is pending.",
        gauges(networks)
            .filter_map(|(network, gauges)| Some(([("network", network)], Wide(gauges.next_deadline?)))),
    )
}

fn newest(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.gauge(
        "tesseract_failed_transaction_timestamp_seconds",
        "Block time of the newest 16 TransactionFailed, in seconds since the Unix epoch, each with its reason as logged.",
        gauges(networks).flat_map(|(network, gauges)| {
            gauges.newest.failures.iter().map(move |failure| {
                let labels = [
                    ("network", network.to_owned()),
                    ("tx_id", hex(&failure.tx_id)),
                    ("tx_hash", hex(&failure.tx_hash)),
                    ("class", failure.class.label().to_owned()),
                    ("reason", failure.reason.to_string()),
                ];
                (labels, failure.timestamp)
            })
        }),
    )?;
    writer.gauge(
        "tesseract_expired_transaction_timestamp_seconds",
        "The deadline that passed, in seconds since the Unix epoch, of the newest 16 transactions that settled as expired, each with the hash of its buffering.",
        gauges(networks).flat_map(|(network, gauges)| {
            gauges.newest.expiries.iter().map(move |expiry| {
                let labels = [
                    ("network", network.to_owned()),
                    ("tx_id", hex(&expiry.tx_id)),
                    ("tx_hash", hex(&expiry.tx_hash)),
                ];
                (labels, expiry.deadline)
            })
        }),
    )
}

fn completeness(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.counter(
        "tesseract_undecodable_logs_total",
        "Logs up to the processed block that carry the topic of a known event and do not decode.",
        counts(networks).map(|(network, counts)| ([("network", network)], counts.undecodable)),
    )?;
    writer.gauge(
        "tesseract_missing_events",
        "The contract's transaction_count() at the processed block minus the buffered events counted to it; 0 is right.",
        gauges(networks).filter_map(|(network, gauges)| Some(([("network", network)], gauges.missing_events?))),
    )?;
    writer.gauge(
        "tesseract_processed_block_number",
        "Number of the block up to which the confirmed series reach.",
        processed(networks).map(|(network, block)| ([("network", network)], block.number)),
    )?;
    writer.gauge(
        "tesseract_processed_block_timestamp_seconds",
        "Block time of the block up to which the confirmed series reach, in seconds since the Unix epoch.",
        processed(networks).map(|(network, block)| ([("network", network)], block.timestamp)),
    )
}

fn counts(networks: &[Arc<Snapshot>]) -> impl Iterator<Item = (&str, &Counts)> {
    networks.iter().filter_map(|of| Some((of.network.as_str(), &*of.confirmed.as_ref()?.counts)))
}

fn gauges(networks: &[Arc<Snapshot>]) -> impl Iterator<Item = (&str, &Gauges)> {
    networks.iter().filter_map(|of| Some((of.network.as_str(), of.confirmed.as_ref()?.gauges.as_ref()?)))
}

fn processed(networks: &[Arc<Snapshot>]) -> impl Iterator<Item = (&str, Head)> {
    networks.iter().filter_map(|of| {
        of.confirmed.as_ref()?;
        Some((of.network.as_str(), of.processed?))
    })
}

fn buckets(histogram: &Histogram) -> Buckets<'_> {
    let bounds = BUCKETS.iter().map(|&bound| bound as f64).chain([f64::INFINITY]);
    Buckets {
        sum: histogram.sum as f64,
        buckets: bounds.zip(histogram.buckets).collect(),
        native: &histogram.native,
        exemplars: &histogram.exemplars,
    }
}
