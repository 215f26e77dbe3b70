//! What raises each alert, and what almost does. A name is that of a series without `tesseract_` and without its network.

use std::time::Duration;

use tesseract_tests::scripted::Value::{self, Absent, Ago, Ahead, By, Every, Frozen, Is, Step};

use crate::rig::{minutes, seconds};

/// One alert of the rules.
pub(crate) struct Case {
    pub(crate) alert: &'static str,
    /// Which exporter shows the trouble: the first one, or one of its own that serves no network otherwise.
    pub(crate) place: Place,
    /// What is changed to bring it about.
    pub(crate) trouble: &'static [(&'static str, Value)],
    /// What is not yet enough, on another network or at another exporter.
    pub(crate) near: Near,
}

/// Where the trouble shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a network of its own, at the first exporter.
    Network,
    /// On a network that two exporters watch; the second one shows it.
    Replica,
    /// At an exporter of its own, which is what the alert names.
    Exporter,
}

/// What almost raises an alert.
#[derive(Clone, Copy)]
pub(crate) enum Near {
    /// For as long as the test runs.
    Kept(&'static [(&'static str, Value)]),
    /// The trouble itself, ended as soon as Prometheus has seen it.
    Brief,
}

use Near::{Brief, Kept};
use Place::{Exporter, Network, Replica};

const fn on(alert: &'static str, trouble: &'static [(&'static str, Value)], near: Near) -> Case {
    Case { alert, place: Network, trouble, near }
}

const fn at(
    place: Place,
    alert: &'static str,
    trouble: &'static [(&'static str, Value)],
    near: Near,
) -> Case {
    Case { alert, place, trouble, near }
}

const EXPIRED: &str = "transactions_settled_total{outcome=\"expired\"}";
const SWEPT: &str = "transactions_settled_total{outcome=\"swap_group_timeout\"}";
const FAILED: &str = "transactions_failed_total{reason=\"other\"}";
const PAUSE: &str = "contract_events_total{event=\"EmergencyPause\"}";
const GRANTED: &str = "contract_events_total{event=\"RoleGranted\"}";
const TIMEOUTS: &str = "rpc_requests_total{endpoint=\"1\",method=\"eth_getLogs\",outcome=\"timeout\"}";
const FAST: &str = "resolution_delay_seconds_bucket{le=\"60\"}";
const SLOW: &str = "resolution_delay_seconds_bucket{le=\"120\"}";
const ALL: &str = "resolution_delay_seconds_bucket{le=\"+Inf\"}";
/// Two in a hundred more than one every two seconds.
const NEARLY: Duration = Duration::from_millis(1960);
const FIRST: &str = "rpc_endpoint_healthy{endpoint=\"1\"}";
const SECOND: &str = "rpc_endpoint_healthy{endpoint=\"2\"}";
const OLD_OWNER: &str = "contract_owner_info{address=\"0xaa\"}";

/// The exporter answers no scrape: no series of its own, so it is written like one.
pub(crate) const DOWN: &str = "down";

/// Every alert of the rules but three, which have tests of their own: the watchdog, `TesseractRulesIncomplete`, and
/// `TesseractNetworkGone`, which is silent while any exporter is down.
/// `TesseractOwnerUnexpected` is there twice, as a state and as an event.
pub(crate) const CASES: [Case; 31] = [
    on(
        "TesseractChainStalled",
        &[("head_block_timestamp_seconds", Frozen)],
        Kept(&[("head_block_timestamp_seconds", Ago(seconds(240)))]),
    ),
    on("TesseractCircuitBreakerActive", &[("circuit_breaker_active", Is(1.0))], Kept(&[(SWEPT, By(49.0))])),
    at(
        Exporter,
        "TesseractClockSkew",
        &[("last_success_timestamp_seconds", Ahead(minutes(60)))],
        Kept(&[("last_success_timestamp_seconds", Ago(seconds(15)))]),
    ),
    at(
        Exporter,
        "TesseractConfigReloadFailed",
        &[("exporter_config_last_reload_successful", Is(0.0))],
        Kept(&[("exporter_config_last_reload_successful", Absent)]),
    ),
    on(
        "TesseractConfirmationLag",
        &[("processed_block_timestamp_seconds", Ago(minutes(32)))],
        Kept(&[("processed_block_timestamp_seconds", Ago(minutes(29)))]),
    ),
    on("TesseractContractMissing", &[("contract_exists", Is(0.0))], Kept(&[("contract_exists", Absent)])),
    on("TesseractContractPaused", &[("contract_paused", Is(1.0))], Kept(&[("contract_paused", Absent)])),
    on("TesseractEndpointDown", &[(SECOND, Is(0.0))], Kept(&[(FIRST, Is(0.0)), (SECOND, Is(0.0))])),
    at(Exporter, "TesseractExporterDown", &[(DOWN, Is(1.0))], Brief),
    at(
        Exporter,
        "TesseractExporterRestarting",
        &[("process_start_time_seconds", Every(seconds(60)))],
        Kept(&[("process_start_time_seconds", Every(minutes(8)))]),
    ),
    on(
        "TesseractExporterStalled",
        &[("last_success_timestamp_seconds", Frozen)],
        Kept(&[("last_success_timestamp_seconds", Step(2.25, seconds(45)))]),
    ),
    on("TesseractHighFailureRate", &[(EXPIRED, Every(seconds(10)))], Kept(&[(EXPIRED, Every(seconds(600)))])),
    on("TesseractLowSuccessRate", &[(EXPIRED, Every(seconds(300)))], Kept(&[(EXPIRED, Every(seconds(660)))])),
    on(
        "TesseractLowThroughput",
        &[("transactions_buffered_total", Frozen)],
        Kept(&[("transactions_buffered_total", Every(seconds(55)))]),
    ),
    on("TesseractMissingEvents", &[("missing_events", Is(-2.0))], Brief),
    on("TesseractNodeDisconnected", &[("node_connected", Is(0.0))], Brief),
    on("TesseractNotSynced", &[("synced", Is(0.0))], Brief),
    on(
        "TesseractOwnerUnexpected",
        &[("contract_owner_expected", Is(0.0))],
        Kept(&[("contract_owner_expected", Absent)]),
    ),
    on(
        "TesseractOwnerUnexpected",
        &[(OLD_OWNER, Absent), ("contract_owner_info{address=\"0xbb\"}", Is(1.0))],
        Kept(&[(OLD_OWNER, Absent)]),
    ),
    on(
        "TesseractPausedBriefly",
        &[(PAUSE, By(1.0))],
        Kept(&[("contract_paused", Is(1.0)), (PAUSE, By(1.0))]),
    ),
    on("TesseractReorg", &[("reorgs_total", By(1.0))], Kept(&[("reorgs_total", Is(0.0))])),
    at(Replica, "TesseractReplicaBlind", &[("node_connected", Is(0.0))], Brief),
    at(
        Replica,
        "TesseractReplicasDisagree",
        &[(FAILED, Is(5.0))],
        Kept(&[("processed_block_number", Frozen), ("transactions_buffered_total", Frozen)]),
    ),
    on("TesseractRolesChanged", &[(GRANTED, By(1.0))], Kept(&[(GRANTED, Absent)])),
    on("TesseractRpcErrors", &[(TIMEOUTS, Every(seconds(4)))], Kept(&[(TIMEOUTS, Every(seconds(12)))])),
    on(
        "TesseractSlowResolution",
        &[(FAST, Every(minutes(5)))],
        Kept(&[(FAST, Every(seconds(2))), (SLOW, Every(NEARLY)), (ALL, Every(NEARLY))]),
    ),
    on(
        "TesseractSyncLagging",
        &[("sync_remaining_blocks", Is(101.0))],
        Kept(&[("sync_remaining_blocks", Is(100.0))]),
    ),
    on("TesseractTransactionFailed", &[(FAILED, By(1.0))], Kept(&[(FAILED, Is(6.0))])),
    on("TesseractTransactionsExpired", &[(EXPIRED, By(1.0))], Kept(&[(SWEPT, By(1.0))])),
    on(
        "TesseractUndecodableLogs",
        &[("undecodable_logs_total", By(1.0))],
        Kept(&[("undecodable_logs_total", Is(0.0))]),
    ),
    on(
        "TesseractWindowChanged",
        &[("coordination_window_seconds", Is(1.0))],
        Kept(&[("coordination_window_seconds", Absent)]),
    ),
];

impl Case {
    /// The network it is about, or by which its exporter is known.
    pub(crate) fn network(&self) -> String {
        let owner = self.trouble.iter().any(|(name, _)| *name == OLD_OWNER);
        format!("{}{}", self.alert.trim_start_matches("Tesseract"), if owner { "-event" } else { "" })
    }

    /// The network, or the exporter, of the near miss.
    pub(crate) fn near_network(&self) -> String {
        self.network() + "-near"
    }
}
