//! The networks that are followed, each by a task of its own: started, stopped, and replaced when the
//! configuration changes.
//!
//! A network whose configuration is the same never notices a change of the others. Knows nothing of what the
//! tasks do, nor where a configuration comes from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::MultiProgress;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Network;
use crate::progress::Progress;
use crate::snapshot::{Feed, Snapshot};
use crate::web::Source;
use crate::{follow, progress, state, supervise};

/// What a network's numbers are until its task has published something, after its configuration changed.
const CHANGED: &str = "starting with a changed configuration";

/// Every network that runs, and those that are about to end.
pub(crate) struct Networks {
    state_dir: Option<PathBuf>,
    bars: Option<MultiProgress>,
    /// In the order of the configuration.
    running: Vec<Running>,
    /// Told to stop. One that comes back waits for its end, as both have the same state file.
    leaving: Vec<Running>,
}

/// The task of one network.
struct Running {
    network: Network,
    feed: Feed,
    progress: watch::Receiver<Option<Progress>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What became of the networks: their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) started: Vec<String>,
    pub(crate) stopped: Vec<String>,
    pub(crate) changed: Vec<String>,
    pub(crate) unchanged: usize,
}

impl Networks {
    /// None yet. `state_dir` holds the state files, `bars` the progress bars, where there are such.
    pub(crate) fn new(state_dir: Option<PathBuf>, bars: Option<MultiProgress>) -> Self {
        Self { state_dir, bars, running: Vec::new(), leaving: Vec::new() }
    }

    /// Where the state files are.
    pub(crate) fn state_dir(&self) -> Option<&Path> {
        self.state_dir.as_deref()
    }

    /// Where each network's snapshots and progress arrive, in the order of the configuration.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let source = |it: &Running| Source { feed: it.feed.clone(), progress: it.progress.clone() };
        self.running.iter().map(source).collect()
    }

    /// Follows just these networks from now on.
    pub(crate) fn set(&mut self, wanted: Vec<Network>) -> Changes {
        let mut changes = Changes::default();
        let mut before = std::mem::take(&mut self.running);
        self.leaving.retain(|network| !network.task.is_finished());
        for network in wanted {
            match take(&mut before, &network.name) {
                Some(same) if same.network == network => {
                    changes.unchanged += 1;
                    self.running.push(same);
                }
                Some(other) => {
                    changes.changed.push(network.name.clone());
                    self.start(network, Some(other));
                }
                None => {
                    changes.started.push(network.name.clone());
                    let leaving = take(&mut self.leaving, &network.name);
                    self.start(network, leaving);
                }
            }
        }
        for network in before {
            changes.stopped.push(network.network.name.clone());
            network.stop.send_replace(true);
            self.leaving.push(network);
        }
        changes
    }

    /// Stops all of them, and waits for their ends.
    pub(crate) async fn stop(self) {
        for network in &self.running {
            network.stop.send_replace(true);
        }
        for network in self.running.into_iter().chain(self.leaving) {
            // Its panic was logged.
            let _ = network.task.await;
        }
    }

    /// Starts a network once the one that had its name before has ended.
    fn start(&mut self, network: Network, before: Option<Running>) {
        let (stop, shutdown) = watch::channel(false);
        let last = before.as_ref().and_then(|before| before.last_for(&network));
        let first =
            last.map_or_else(|| Snapshot::unknown(&network), |last| last.without_node(CHANGED.into()));
        let (publish, feed) = watch::channel(Arc::new(first));
        let file = self.state_dir.as_deref().map(|dir| state::file(dir, &network.name));
        let (report, progress) = watch::channel(None);
        let shown = progress::run(feed.clone(), report, self.bars.clone(), shutdown.clone());
        let followed = follow_after(before, network.clone(), file, publish, shutdown);
        let task = tokio::spawn(async move {
            tokio::join!(shown, followed);
        });
        self.running.push(Running { network, feed, progress, stop, task });
    }
}

impl Running {
    /// What was published last, where counters go on from it in a network that is configured otherwise.
    fn last_for(&self, network: &Network) -> Option<Arc<Snapshot>> {
        let last = self.feed.borrow().clone();
        has_same_history(&self.network, network, last.chain_id).then_some(last)
    }
}

/// Follows a network until `shutdown`, restarting after a panic, once the one before has ended and saved its
/// state.
async fn follow_after(
    before: Option<Running>,
    network: Network,
    file: Option<PathBuf>,
    publish: watch::Sender<Arc<Snapshot>>,
    shutdown: watch::Receiver<bool>,
) {
    let mut last = None;
    if let Some(mut before) = before {
        before.stop.send_replace(true);
        // Its panic was logged.
        let _ = (&mut before.task).await;
        last = before.last_for(&network).map(|last| Arc::new(last.without_node(CHANGED.into())));
        if let Some(last) = &last {
            publish.send_replace(last.clone());
        }
    }
    let start = |last| follow::run(network.clone(), file.clone(), last, publish.clone(), shutdown.clone());
    supervise::keep_running(&publish, shutdown.clone(), last, start).await;
}

/// Whether what was counted with one configuration is part of what will be counted with another, where
/// `chain_id` is the chain's that was followed, as far as it is known.
fn has_same_history(before: &Network, after: &Network, chain_id: Option<u64>) -> bool {
    let same_chain = after.chain_id.is_none() || after.chain_id == chain_id.or(before.chain_id);
    before.contract == after.contract && before.start_block == after.start_block && same_chain
}

fn take(networks: &mut Vec<Running>, name: &str) -> Option<Running> {
    let index = networks.iter().position(|network| network.network.name == name)?;
    Some(networks.remove(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Variables};

    fn network(more: &[(&str, &str)]) -> Network {
        let contract = format!("0x{}", "1".repeat(40));
        let env = [("TESSERACT_RPC_URL", "http://h"), ("TESSERACT_CONTRACT", contract.as_str())];
        let env: Variables =
            env.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::find(None, &env).unwrap().networks.remove(0)
    }

    #[test]
    fn counters_go_on_where_the_same_events_are_counted() {
        let other_contract = format!("0x{}", "2".repeat(40));
        let chain = |id| ("TESSERACT_CHAIN_ID", id);
        type Settings<'a> = &'a [(&'a str, &'a str)];
        let table: [(Settings<'_>, Settings<'_>, Option<u64>, bool); 11] = [
            (&[], &[], None, true),
            (&[], &[("TESSERACT_RPC_URL", "http://other")], Some(1), true),
            (&[], &[("TESSERACT_CONFIRMATIONS", "9")], Some(1), true),
            (&[], &[("TESSERACT_CONTRACT", &other_contract)], Some(1), false),
            (&[], &[("TESSERACT_START_BLOCK", "5")], Some(1), false),
            (&[], &[chain("1")], Some(1), true),
            (&[], &[chain("2")], Some(1), false),
            // Nothing was read yet.
            (&[], &[chain("2")], None, false),
            (&[chain("1")], &[chain("1")], None, true),
            (&[chain("1")], &[chain("2")], Some(1), false),
            (&[chain("1")], &[], Some(1), true),
        ];
        for (before, after, chain_id, expected) in table {
            assert_eq!(
                has_same_history(&network(before), &network(after), chain_id),
                expected,
                "{before:?} {after:?} {chain_id:?}"
            );
        }
    }
}
