//! A cycle that never ends. What the loop does with everything else is shown over real sockets, in the
//! project's `tests`.

use tokio::net::TcpListener;

use super::*;
use crate::config::{self, Config};

#[tokio::test(start_paused = true)]
async fn a_cycle_that_never_ends_is_blamed_on_its_endpoint_and_restarted() {
    let silent =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let urls = silent.each_ref().map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    let yaml = format!(
        "networks: [{{name: a, rpc_urls: {urls:?}, contract: '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'}}]"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, yaml).unwrap();
    let mut config = Config::find(Some(file.path()), &config::Variables::new()).unwrap();
    let mut network = config.networks.pop().unwrap();
    // Longer than can be configured, and than a cycle.
    network.request_timeout = Duration::from_secs(3600);
    let (publish, mut snapshots) = watch::channel(Arc::new(Snapshot::unknown(&network)));
    let (_running, shutdown) = watch::channel(false);
    let following = tokio::spawn(run(network, None, None, publish, shutdown));
    let timed_out = |snapshot: &Arc<Snapshot>| {
        snapshot.problem.as_deref() == Some("cycle timed out after 300 s; restarting")
    };
    // By the paused clock, which passes as soon as nothing else is to be done.
    timeout(2 * LONGEST_CYCLE, snapshots.wait_for(timed_out)).await.unwrap().unwrap();
    // The first cycle's connection, and a probe and the second cycle's.
    silent[0].accept().await.unwrap();
    for _ in 0..2 {
        silent[1].accept().await.unwrap();
    }
    following.abort();
}
