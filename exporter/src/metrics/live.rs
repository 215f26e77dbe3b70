//! What is always exposed: the node, its head, and the contract's views there.
//!
//! What was not read in the last cycle has no series: never 0, never the last good value.

use std::fmt;
use std::sync::Arc;

use web3::types::H160;

use super::unix_seconds;
use super::writer::{Buckets, Wide, Writer};
use crate::rpc::{DURATION_BUCKETS, EndpointStats, Outcome};
use crate::snapshot::Snapshot;

pub(super) fn encode(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    node(writer, networks)?;
    contract(writer, networks)?;
    owner(writer, networks)?;
    progress(writer, networks)?;
    rpc(writer, networks)
}

fn node(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.gauge(
        "tesseract_node_connected",
        "1 when at least one endpoint of the network answered in the last cycle, else 0.",
        each(networks, |of| Some(u64::from(of.connected))),
    )?;
    writer.gauge(
        "tesseract_head_block_number",
        "Number of the newest block of the chain.",
        each(networks, |of| Some(of.head?.number)),
    )?;
    writer.gauge(
        "tesseract_head_block_timestamp_seconds",
        "Block time of the newest block of the chain, in seconds since the Unix epoch.",
        each(networks, |of| Some(of.head?.timestamp)),
    )?;
    writer.info(
        "tesseract_network_info",
        "Chain id, watched contract, contract variant and configured block explorer of the network; always 1.",
        networks.iter().filter_map(|of| {
            let mut labels = vec![
                ("network", of.network.clone()),
                ("chain_id", of.chain_id?.to_string()),
                ("contract", address(&of.contract)),
                ("variant", of.views.variant?.to_owned()),
            ];
            labels.extend(of.explorer.clone().map(|explorer| ("explorer", explorer)));
            Some(labels)
        }),
    )
}

fn contract(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.gauge(
        "tesseract_contract_exists",
        "1 when there is code at the contract's address, else 0.",
        each(networks, |of| of.views.exists.map(u64::from)),
    )?;
    writer.gauge(
        "tesseract_transaction_count",
        "The contract's transaction_count() at the head: transactions ever buffered.",
        each(networks, |of| of.views.transaction_count.map(Wide)),
    )?;
    writer.gauge(
        "tesseract_contract_paused",
        "1 when the contract is paused, else 0; absent when the contract has no such view.",
        each(networks, |of| of.views.paused.map(u64::from)),
    )?;
    writer.gauge(
        "tesseract_circuit_breaker_active",
        "1 when the contract's circuit breaker is tripped, else 0; absent when the contract has no such view.",
        each(networks, |of| of.views.circuit_breaker.map(u64::from)),
    )?;
    writer.gauge(
        "tesseract_coordination_window_seconds",
        "How many seconds after its scheduled time a transaction may still become ready.",
        each(networks, |of| of.views.coordination_window.map(Wide)),
    )
}

fn owner(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.info(
        "tesseract_contract_owner_info",
        "The contract's owner; always 1.",
        networks
            .iter()
            .filter_map(|of| Some([("network", of.network.clone()), ("address", address(&of.views.owner?))])),
    )?;
    writer.gauge(
        "tesseract_contract_owner_expected",
        "1 when the contract's owner is the configured expected_owner, else 0; absent when none is configured.",
        each(networks, |of| of.owner_expected.map(u64::from)),
    )
}

fn progress(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.gauge(
        "tesseract_synced",
        "1 once the network's first sync is done, else 0.",
        each(networks, |of| Some(u64::from(of.synced))),
    )?;
    writer.gauge(
        "tesseract_sync_remaining_blocks",
        "Blocks between the processed block and the newest confirmed one.",
        each(networks, |of| of.sync_remaining),
    )?;
    writer.gauge(
        "tesseract_unproven_blocks",
        "Processed blocks whose logs rest on the word of one endpoint so far; absent before the first sync is done.",
        each(networks, |of| of.unproven),
    )?;
    writer.gauge(
        "tesseract_last_success_timestamp_seconds",
        "End of the last full cycle by the exporter's clock, in seconds since the Unix epoch.",
        each(networks, |of| of.last_success.map(unix_seconds)),
    )?;
    writer.counter(
        "tesseract_reorgs_total",
        "Reorganisations of the chain that reached a processed block.",
        each(networks, |of| Some(of.reorgs)),
    )?;
    writer.counter(
        "tesseract_exporter_panics_total",
        "Panics of the network's task, each a bug of the exporter; the task is restarted.",
        each(networks, |of| Some(of.panics)),
    )
}

fn rpc(writer: &mut Writer<'_>, networks: &[Arc<Snapshot>]) -> fmt::Result {
    writer.gauge(
        "tesseract_rpc_endpoint_healthy",
        "1 when the endpoint's last use succeeded, 0 while it rests after failures, is on another chain, or contradicts the \
         others.",
        endpoints(networks).filter_map(|(network, number, stats)| {
            let labels = [("network", network.to_owned()), ("endpoint", number.to_string())];
            Some((labels, u64::from(stats.healthy?)))
        }),
    )?;
    let serving = networks.iter().filter_map(|of| Some((of, of.serving?)));
    writer.gauge(
        "tesseract_rpc_endpoint_serving",
        "1 for the endpoint that carried the last full cycle, 0 for the others.",
        serving.flat_map(|(of, serving)| {
            (0..of.endpoints.len()).map(move |index| {
                let labels = [("network", of.network.clone()), ("endpoint", (index + 1).to_string())];
                (labels, u64::from(index == serving))
            })
        }),
    )?;
    writer.counter(
        "tesseract_rpc_requests_total",
        "JSON-RPC requests by endpoint (its number in the configured list, from 1), method and outcome.",
        endpoints(networks).flat_map(|(network, number, stats)| {
            stats.requests.iter().flat_map(move |(method, by_outcome)| {
                Outcome::ALL.iter().zip(by_outcome).map(move |(outcome, count)| {
                    let labels = [
                        ("network", network.to_owned()),
                        ("endpoint", number.to_string()),
                        ("method", (*method).to_owned()),
                        ("outcome", outcome.label().to_owned()),
                    ];
                    (labels, *count)
                })
            })
        }),
    )?;
    writer.histogram(
        "tesseract_rpc_request_duration_seconds",
        "Duration of HTTP exchanges with an endpoint (its number in the configured list, from 1), in seconds.",
        endpoints(networks).map(|(network, number, stats)| {
            let bounds = DURATION_BUCKETS.into_iter().chain([f64::INFINITY]);
            let buckets = Buckets {
                sum: stats.duration_sum,
                buckets: bounds.zip(stats.durations).collect(),
                native: &stats.native_durations,
                exemplars: &[],
            };
            ([("network", network.to_owned()), ("endpoint", number.to_string())], buckets)
        }),
    )
}

/// One series for each network for which there is a value.
fn each<V>(
    networks: &[Arc<Snapshot>],
    value: impl Fn(&Snapshot) -> Option<V>,
) -> impl Iterator<Item = ([(&'static str, &str); 1], V)> {
    networks.iter().filter_map(move |of| Some(([("network", of.network.as_str())], value(of)?)))
}

fn endpoints(networks: &[Arc<Snapshot>]) -> impl Iterator<Item = (&str, usize, &EndpointStats)> {
    networks
        .iter()
        .flat_map(|of| (1..).zip(&of.endpoints).map(|(number, stats)| (of.network.as_str(), number, stats)))
}

fn address(of: &H160) -> String {
    format!("{of:#x}")
}
