//! A cycle that never ends. What the loop does with everything else is shown over real sockets, in the
//! project's `tests`.

use tokio::net::TcpListener;

use super::*;
use crate::config::{self, Config};

#[tokio::test(start_paused = true)]
async fn a_cycle_that_never_ends_is_given_up_and_begun_anew() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = format!(
        "networks: [{{name: a, rpc_urls: ['http://{}'], \
         contract: '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'}}]",
        silent.local_addr().unwrap()
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, yaml).unwrap();
    let mut config = Config::find(Some(file.path()), &config::Variables::new()).unwrap();
    let mut network = config.networks.pop().unwrap();
    // Longer than can be configured: a request that its time-out does not end.
    network.request_timeout = 12 * LONGEST_CYCLE;
    let (publish, mut snapshots) = watch::channel(Arc::new(Snapshot::unknown(&network)));
    let (_running, shutdown) = watch::channel(false);
    let following = tokio::spawn(run(network, None, None, publish, shutdown));
    let given_up = |snapshot: &Arc<Snapshot>| {
        snapshot.problem.as_deref() == Some("no end after 300s: given up and begun anew")
    };
    // By the paused clock, which passes as soon as nothing else is to be done.
    timeout(2 * LONGEST_CYCLE, snapshots.wait_for(given_up)).await.unwrap().unwrap();
    // The first cycle's connection, and one for each cycle after it.
    for _ in 0..3 {
        silent.accept().await.unwrap();
    }
    following.abort();
}
