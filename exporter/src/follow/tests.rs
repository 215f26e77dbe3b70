//! Cycles that never end, or in vain. What the loop does with everything else is shown over real sockets, in the
//! project's `tests`.

use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::config::{self, Config};

/// A network of two endpoints that take connections and never answer.
async fn silent_network() -> ([TcpListener; 2], Network) {
    let silent =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let urls = silent.each_ref().map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    let yaml = format!(
        "networks: [{{name: a, rpc_urls: {urls:?}, contract: '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'}}]"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, yaml).unwrap();
    let mut config = Config::find(Some(file.path()), &config::Variables::new()).unwrap();
    (silent, config.networks.pop().unwrap())
}

/// Follows the network until it has such a problem, within a time by the paused clock, which passes as soon as nothing else
/// is to be done.
async fn follow_until(
    network: Network,
    within: Duration,
    is: impl Fn(&str) -> bool,
) -> AbortOnDropHandle<()> {
    let (publish, mut snapshots) = watch::channel(Arc::new(Snapshot::unknown(&network)));
    let (running, shutdown) = watch::channel(false);
    let following = AbortOnDropHandle::new(tokio::spawn(async move {
        // It stops when this is gone.
        let _running = running;
        run(network, None, None, publish, shutdown).await;
    }));
    let has_it = |snapshot: &Arc<Snapshot>| snapshot.problem.as_deref().is_some_and(&is);
    timeout(within, snapshots.wait_for(has_it)).await.unwrap().unwrap();
    following
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_are_all_silent_are_reported_when_each_had_its_turn() {
    let (_silent, mut network) = silent_network().await;
    network.request_timeout = Duration::from_secs(60);
    let _following = follow_until(network, Duration::from_secs(150), |_| true).await;
}

#[tokio::test(start_paused = true)]
async fn a_cycle_that_never_ends_is_blamed_on_its_endpoint_and_restarted() {
    let (silent, mut network) = silent_network().await;
    // Longer than can be configured, and than a cycle.
    network.request_timeout = Duration::from_secs(3600);
    let timed_out = |problem: &str| problem == "cycle timed out after 300 s; restarting";
    let _following = follow_until(network, 2 * LONGEST_CYCLE, timed_out).await;
    // The first cycle's connection, and a probe and the second cycle's.
    silent[0].accept().await.unwrap();
    for _ in 0..2 {
        silent[1].accept().await.unwrap();
    }
}
