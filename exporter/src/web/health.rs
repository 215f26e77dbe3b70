//! `/health` and `/-/ready`: whether every network is well, and if not, why.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::StatusCode;
use serde::Serialize;
use web3::types::U256;

use super::words::unix_seconds;
use super::{Answer, answer, text};
use crate::snapshot::Snapshot;

/// All networks as JSON; 200 when every one is well, else 503.
pub(super) fn health(networks: &[Arc<Snapshot>], now: SystemTime) -> Answer {
    let healthy = networks.iter().all(|network| is_healthy(network, now));
    let networks = networks.iter().map(|of| (of.network.as_str(), report(of, now))).collect();
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_string(&Health { healthy, networks }) {
        Ok(body) => answer(status, "application/json", body + "\n"),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the health report\n"),
    }
}

/// 200 once every network is synced and its last full cycle recent, else 503 with a line for each that is not.
pub(super) fn ready(networks: &[Arc<Snapshot>], now: SystemTime) -> Answer {
    let mut reasons = String::new();
    for network in networks {
        if let Some(reason) = not_ready(network, now) {
            // Writing to a string cannot fail.
            let _ = writeln!(reasons, "{}: {reason}", network.network);
        }
    }
    if reasons.is_empty() {
        text(StatusCode::OK, "ready\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, reasons)
    }
}

/// Keys as in the interface; `null` is what is not known.
#[derive(Serialize)]
struct Health<'a> {
    healthy: bool,
    networks: BTreeMap<&'a str, Report<'a>>,
}

#[derive(Serialize)]
struct Report<'a> {
    timestamp: u64,
    connected: bool,
    contract_exists: Option<bool>,
    owner: Option<String>,
    paused: Option<bool>,
    transaction_count: Option<serde_json::Value>,
    block_number: Option<u64>,
    synced: bool,
    processed_block: Option<u64>,
    last_success: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

fn report(of: &Snapshot, now: SystemTime) -> Report<'_> {
    Report {
        timestamp: unix_seconds(now),
        connected: of.connected,
        contract_exists: of.views.exists,
        owner: of.views.owner.map(|owner| format!("{owner:#x}")),
        paused: of.views.paused,
        transaction_count: of.views.transaction_count.map(number),
        block_number: of.head.map(|head| head.number),
        synced: of.synced,
        processed_block: of.processed.map(|block| block.number),
        last_success: of.last_success.map(unix_seconds),
        problem: of.problem.as_deref(),
    }
}

fn is_healthy(of: &Snapshot, now: SystemTime) -> bool {
    of.connected && of.views.exists == Some(true) && not_ready(of, now).is_none()
}

fn not_ready(of: &Snapshot, now: SystemTime) -> Option<String> {
    let because = of.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
    if !of.synced {
        let left = of.sync_remaining.map(|blocks| format!(", {blocks} blocks left")).unwrap_or_default();
        return Some(format!("first sync not done{left}{because}"));
    }
    let Some(last_success) = of.last_success else {
        return Some(format!("no full cycle yet{because}"));
    };
    // A clock that was set back makes the last cycle lie ahead: recent enough.
    let age = now.duration_since(last_success).unwrap_or_default();
    (age > of.stale_after).then(|| format!("no full cycle for {} s{because}", age.as_secs()))
}

/// A number while it fits 64 bits, which every true count does; beyond that its digits as a string.
pub(super) fn number(value: U256) -> serde_json::Value {
    if value.bits() <= 64 { value.low_u64().into() } else { value.to_string().into() }
}
