//! What one network looked like at the end of the last step of its loop.
//!
//! A snapshot is an immutable value: the loop publishes a new one, and a scrape, `/health` and the
//! status page read the last one. It holds no URL and no secret, computes nothing and reads no clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use web3::types::{H160, H256, U256};

use crate::config::Network;
use crate::ledger::{Counts, Lives, Newest};
use crate::rpc::EndpointStats;
use crate::views::Views;

/// Where a network's snapshots arrive; reading the last one never waits for the loop.
pub type Feed = watch::Receiver<Arc<Snapshot>>;

/// A network counts as stale after this many poll intervals, but not before [`STALE_AFTER`].
const STALE_POLLS: u32 = 10;
const STALE_AFTER: Duration = Duration::from_secs(60);

/// One network as its loop last saw it. `None` always means "not known", never zero.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Value of the `network` label.
    pub network: String,
    /// The watched contract.
    pub contract: H160,
    /// The configured block explorer's URL, without a slash at its end.
    pub explorer: Option<String>,
    /// The chain's id, once an endpoint answered with it.
    pub chain_id: Option<u64>,
    /// An endpoint answered in the last cycle.
    pub connected: bool,
    /// The chain's head in the last cycle.
    pub head: Option<Head>,
    /// The contract's views at the head in the last cycle.
    pub views: Views,
    /// Whether the owner is the configured `expected_owner`; `None` without one or without an owner.
    pub owner_expected: Option<bool>,
    /// The first sync is done. Never goes back to false.
    pub synced: bool,
    /// How far the chain has been applied, also before the first sync is done.
    pub processed: Option<Head>,
    /// Processed blocks whose logs are the word of one endpoint, asked once; from the first sync on.
    pub unproven: Option<u64>,
    /// Blocks between the processed block and the newest confirmed one.
    pub sync_remaining: Option<u64>,
    /// End of the last full cycle, wall clock.
    pub last_success: Option<SystemTime>,
    /// After this long without a full cycle the network counts as not ready.
    pub stale_after: Duration,
    /// Why the last cycle was not full: one line, without secrets.
    pub problem: Option<String>,
    /// The confirmed series, from the first sync on.
    pub confirmed: Option<Confirmed>,
    /// Reorganisations that reached a processed block.
    pub reorgs: u64,
    /// How often the network's task panicked.
    pub panics: u64,
    /// The index of the endpoint that carried the last full cycle.
    pub serving: Option<usize>,
    /// What became of the requests to each endpoint, in the order of the configuration.
    pub endpoints: Vec<EndpointStats>,
}

impl Snapshot {
    /// What is known of a network before its first step: nothing.
    pub fn unknown(network: &Network) -> Self {
        Self {
            network: network.name.clone(),
            contract: network.contract,
            explorer: network.explorer_url.clone(),
            chain_id: None,
            connected: false,
            head: None,
            views: Views::default(),
            owner_expected: None,
            synced: false,
            processed: None,
            unproven: None,
            sync_remaining: None,
            last_success: None,
            stale_after: (network.poll_interval * STALE_POLLS).max(STALE_AFTER),
            problem: Some("starting".to_owned()),
            confirmed: None,
            reorgs: 0,
            panics: 0,
            serving: None,
            endpoints: vec![EndpointStats::default(); network.endpoints.len()],
        }
    }

    /// What is known of a network while its task is down, for this reason: what was counted, and nothing of the
    /// node.
    pub(crate) fn without_node(&self, problem: String) -> Self {
        let confirmed = self.confirmed.as_ref();
        Self {
            problem: Some(problem),
            connected: false,
            head: None,
            views: Views::default(),
            owner_expected: None,
            sync_remaining: None,
            confirmed: confirmed.map(|last| Confirmed { counts: last.counts.clone(), gauges: None }),
            ..self.clone()
        }
    }
}

/// A block's number and time: the newest of the chain, or the processed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Block number.
    pub number: u64,
    /// Block time, seconds since the Unix epoch.
    pub timestamp: u64,
}

/// Functions of the chain up to the processed block; two exporters at one block hold equal values.
#[derive(Clone, Debug, PartialEq)]
pub struct Confirmed {
    /// Counters and histograms; they hold while a deep reorganisation is recomputed.
    pub counts: Arc<Counts>,
    /// `None` while they are being recomputed.
    pub gauges: Option<Gauges>,
}

/// What may rise and fall with the processed block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Buffered and not yet settled.
    pub pending: u64,
    /// Block time at which the oldest pending transaction was buffered.
    pub oldest_pending: Option<u64>,
    /// The nearest deadline among the pending ones, seconds since the Unix epoch.
    pub next_deadline: Option<U256>,
    /// The newest failures and expiries.
    pub newest: Arc<Newest>,
    /// What is known of single transactions.
    pub lives: Lives,
    /// `transaction_count()` at the processed block minus the buffered events up to it.
    pub missing_events: Option<i64>,
}

/// The hash of a transaction as it is shown: `0x` and 64 hex digits.
pub fn hex(id: &H256) -> String {
    format!("{id:#x}")
}
