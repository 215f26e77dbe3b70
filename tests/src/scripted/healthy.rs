//! A network that is well, as an exporter exposes it: every series that the rules read.

use std::time::Duration;

use super::Value;

/// So many seconds, in a constant.
const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// `name` or `name{labels}` as a series of the network.
pub fn series(network: &str, name: &str) -> String {
    match name.split_once('{') {
        Some((name, labels)) => format!("tesseract_{name}{{network=\"{network}\",{labels}"),
        None => format!("tesseract_{name}{{network=\"{network}\"}}"),
    }
}

/// Two transactions a minute, all of which become ready, and a node that answers.
pub fn healthy(network: &str) -> Vec<(String, Value)> {
    HEALTHY.iter().map(|(name, value)| (series(network, name), *value)).collect()
}

/// How long between two transactions of a healthy network.
const TRAFFIC: Value = Value::Every(seconds(30));

/// Every series that the rules read, of a network that is well.
pub const HEALTHY: [(&str, Value); 40] = [
    ("node_connected", Value::Is(1.0)),
    ("synced", Value::Is(1.0)),
    ("sync_remaining_blocks", Value::Is(0.0)),
    ("last_success_timestamp_seconds", Value::Ago(seconds(1))),
    ("head_block_timestamp_seconds", Value::Ago(seconds(12))),
    ("processed_block_timestamp_seconds", Value::Ago(seconds(36))),
    ("processed_block_number", Value::Every(seconds(12))),
    ("contract_exists", Value::Is(1.0)),
    ("contract_paused", Value::Is(0.0)),
    ("circuit_breaker_active", Value::Is(0.0)),
    ("contract_owner_info{address=\"0xaa\"}", Value::Is(1.0)),
    ("contract_owner_info{address=\"0xbb\"}", Value::Absent),
    ("contract_owner_info{address=\"0xcc\"}", Value::Absent),
    ("contract_owner_expected", Value::Is(1.0)),
    ("coordination_window_seconds", Value::Is(3600.0)),
    ("missing_events", Value::Is(0.0)),
    ("reorgs_total", Value::Is(2.0)),
    ("undecodable_logs_total", Value::Is(1.0)),
    ("contract_events_total{event=\"EmergencyPause\"}", Value::Is(1.0)),
    ("contract_events_total{event=\"RoleGranted\"}", Value::Is(3.0)),
    ("contract_events_total{event=\"RoleRevoked\"}", Value::Is(0.0)),
    ("rpc_endpoint_healthy{endpoint=\"1\"}", Value::Is(1.0)),
    ("rpc_endpoint_healthy{endpoint=\"2\"}", Value::Is(1.0)),
    ("rpc_requests_total{endpoint=\"1\",method=\"eth_getLogs\",outcome=\"ok\"}", Value::Every(seconds(1))),
    ("rpc_requests_total{endpoint=\"1\",method=\"eth_getLogs\",outcome=\"timeout\"}", Value::Is(9.0)),
    (
        "network_info{chain_id=\"1\",contract=\"0xc0\",variant=\"buffer\",explorer=\"https://explorer.example\"}",
        Value::Is(1.0),
    ),
    ("transactions_pending", Value::Is(2.0)),
    ("transactions_buffered_total", TRAFFIC),
    ("transactions_ready_total", TRAFFIC),
    ("transactions_settled_total{outcome=\"ready\"}", TRAFFIC),
    ("transactions_settled_total{outcome=\"expired\"}", Value::Is(5.0)),
    ("transactions_settled_total{outcome=\"swap_group_timeout\"}", Value::Is(0.0)),
    ("transactions_failed_total{reason=\"expired\"}", Value::Is(0.0)),
    ("transactions_failed_total{reason=\"dependency\"}", Value::Is(0.0)),
    ("transactions_failed_total{reason=\"swap_group_timeout\"}", Value::Is(0.0)),
    ("transactions_failed_total{reason=\"other\"}", Value::Is(7.0)),
    ("resolution_delay_seconds_bucket{le=\"60\"}", TRAFFIC),
    ("resolution_delay_seconds_bucket{le=\"120\"}", TRAFFIC),
    ("resolution_delay_seconds_bucket{le=\"+Inf\"}", TRAFFIC),
    ("contract_events_total{event=\"EmergencyUnpause\"}", Value::Is(1.0)),
];
