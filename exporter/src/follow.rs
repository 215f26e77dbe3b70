//! The only loop: one task a network, which publishes an immutable snapshot after every step.
//!
//! A cycle asks one endpoint for the head, the views and the blocks in between, and applies these to the
//! ledger. Errors never end the loop: they are logged, published, and tried again. Nothing that fails in
//! one network is seen by another.

mod advance;
mod beginning;
mod contract;
mod events;
mod failure;
mod gaps;
mod head;
mod history;
mod memory;
mod pace;
mod probe;
mod publish;
mod reorg;
mod save;
mod source;
mod sync;
#[cfg(test)]
mod tests;
mod trail;
mod verify;
mod windows;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use web3::types::H256;

use crate::chain::BlockRef;
use crate::config::Network;
use crate::ledger::Counts;
use crate::plan::{Asked, Change};
use crate::rpc::{Endpoint, ErrorKind, Pool, Refusal};
use crate::snapshot::Snapshot;
use crate::views::Views;
use advance::Advance;
use failure::{CycleError, Known, Next};
use head::ChainHead;
use history::History;
use memory::EndpointMemory;
use pace::Pace;
use save::Saver;
use source::{Second, Source};
use sync::CatchUp;
use trail::Trail;
use windows::Bisection;

/// While catching up, head and views are read this often.
const CATCH_UP_TIME: Duration = Duration::from_secs(5);

/// A cycle that lasts longer than this is ended; every request has a deadline of its own.
const LONGEST_CYCLE: Duration = Duration::from_secs(300);

/// Follows one network until `shutdown` becomes true or its sender is gone.
///
/// `state` is the file that progress is saved to; `last` is what was published before a panic, from where
/// counters go on.
pub async fn run(
    network: Network,
    state: Option<PathBuf>,
    last: Option<Arc<Snapshot>>,
    publish: watch::Sender<Arc<Snapshot>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut follower = Follower::new(network, state, last.as_deref(), publish);
    let mut due = Instant::now();
    loop {
        tokio::select! {
            // An error means that the sender is gone, which ends the loop as well.
            _ = shutdown.wait_for(|stop| *stop) => break,
            () = async {
                sleep_until(due).await;
                if let Some(available) = follower.pool.next_available() {
                    sleep_until(available).await;
                }
                let started = Instant::now();
                follower.cycle().await;
                due = follower.next_cycle(started);
            } => {}
        }
        follower.save(false).await;
    }
    follower.save(true).await;
}

/// Everything the loop of one network knows.
struct Follower {
    network: Network,
    pool: Arc<Pool>,
    /// By index of the endpoint.
    memories: Vec<EndpointMemory>,
    history: History,
    /// Configured, or what the network was before: another chain is never followed.
    chain_id: Option<u64>,
    /// The search for the block at which the history begins, while it goes on.
    search: Option<Bisection>,
    /// Counters never fall below what was exposed.
    last_exposed: Counts,
    catch_up: CatchUp,
    /// The gauges are being computed anew after a deep reorganisation.
    recomputing: bool,
    /// The endpoint that is being asked, to blame it where a cycle does not end.
    active: Option<Arc<Endpoint>>,
    /// The highest block that was processed since the start.
    highest_block: u64,
    /// The last head that was found to be on the branch of the history.
    checked_head: Option<H256>,
    /// Since when the head lies below the processed block.
    behind_since: Option<Instant>,
    gap_schedule: gaps::Schedule,
    /// When what was counted is compared with a later answer, after one that did not prove it.
    check_schedule: Option<gaps::Schedule>,
    /// The views of the last heads: the same block has the same views.
    views: VecDeque<(H256, Views)>,
    trail: Trail,
    pace: Pace,
    snapshot: Snapshot,
    publish: watch::Sender<Arc<Snapshot>>,
    saver: Saver,
}

impl Follower {
    fn new(
        network: Network,
        state: Option<PathBuf>,
        last: Option<&Snapshot>,
        publish: watch::Sender<Arc<Snapshot>>,
    ) -> Self {
        let memory = |_| EndpointMemory::new(network.max_block_range);
        let mut follower = Self {
            pool: Arc::new(Pool::new(&network)),
            memories: network.endpoints.iter().map(memory).collect(),
            history: History::new(network.start_block),
            chain_id: network.chain_id,
            search: None,
            last_exposed: Counts::default(),
            catch_up: CatchUp::default(),
            recomputing: false,
            active: None,
            highest_block: 0,
            checked_head: None,
            behind_since: None,
            gap_schedule: gaps::Schedule::new(),
            check_schedule: None,
            views: VecDeque::new(),
            trail: Trail::default(),
            pace: Pace::default(),
            snapshot: Snapshot::unknown(&network),
            publish,
            saver: Saver::new(state),
            network,
        };
        follower.resume();
        if let Some(last) = last {
            follower.go_on_from(last);
        }
        follower
    }

    /// What was exposed holds until all of it is computed again, as after a deep reorganisation.
    fn go_on_from(&mut self, last: &Snapshot) {
        self.pool.go_on_from(&last.endpoints);
        (self.snapshot.reorgs, self.snapshot.panics) = (last.reorgs, last.panics);
        // What is read again is no news, and numbers go on only of the chain that they are of.
        self.highest_block = last.processed.map_or(0, |block| block.number).max(self.highest_block);
        self.chain_id = self.chain_id.or(last.chain_id);
        if let Some(confirmed) = &last.confirmed {
            self.last_exposed = Counts::clone(&confirmed.counts);
            (self.snapshot.synced, self.recomputing) = (true, true);
        }
    }

    /// One cycle: tries endpoints until one carries it to the end, then publishes what is known now.
    async fn cycle(&mut self) {
        self.snapshot.connected = false;
        self.snapshot.head = None;
        self.snapshot.views = Views::default();
        self.snapshot.owner_expected = None;
        self.snapshot.sync_remaining = None;
        let result = timeout(LONGEST_CYCLE, self.attempts()).await;
        let problem = match result {
            // All was read, but there is nothing to follow: that must not look like a network that is healthy.
            Ok(Ok(())) => (self.snapshot.views.exists == Some(false)).then(|| {
                let contract = self.network.contract;
                format!("no code at {contract:#x}: expected the contract; check `contract`, `chain_id` and the endpoints")
            }),
            Ok(Err(problem)) => Some(problem),
            Err(_) => {
                let problem = format!("cycle timed out after {} s; restarting", LONGEST_CYCLE.as_secs());
                // The next cycle begins with another endpoint, where there is one.
                if let Some(endpoint) = &self.active {
                    endpoint.record_unproductive(&problem);
                }
                Some(problem)
            }
        };
        let before = std::mem::replace(&mut self.snapshot.problem, problem);
        // First, so that readiness agrees with what is read in the log.
        self.publish();
        let problem = &self.snapshot.problem;
        if problem.is_some() && *problem != before {
            tracing::warn!(network = %self.network.name, problem, "cycle not completed");
        } else if problem.is_none() && before.is_some() {
            tracing::info!(network = %self.network.name, "cycle completed again");
        }
    }

    async fn attempts(&mut self) -> Result<(), String> {
        let mut problem = None;
        let mut tries = vec![0; self.network.endpoints.len()];
        loop {
            self.active = self.pool.pick();
            self.probe();
            let Some(endpoint) = self.active.clone() else {
                // Nobody was asked in this cycle: what kept us from it before still does.
                let before = || self.snapshot.problem.clone();
                return Err(problem.or_else(before).unwrap_or_else(|| "no endpoint can be asked".to_owned()));
            };
            // All had their turn and nobody has shown a head: that is to be shown before one is tried again after its rest.
            let again = tries[endpoint.index] > 0 && !endpoint.is_healthy();
            if let Some(problem) = problem.take_if(|_| again && !self.snapshot.connected) {
                return Err(problem);
            }
            let Err(error) = self.step(&endpoint).await else {
                endpoint.record_completed();
                self.memories[endpoint.index].record_progress();
                self.note_serving(&endpoint);
                return Ok(());
            };
            tries[endpoint.index] += 1;
            let known = Known {
                tries: tries[endpoint.index],
                smaller: self.learn(&endpoint, &error) == Change::Smaller,
                healthy: endpoint.is_healthy(),
                alone: self.memories.len() == 1,
            };
            let shown = format!("endpoint {} ({}): {error}", endpoint.number(), endpoint.url());
            tracing::debug!(network = %self.network.name, endpoint = endpoint.number(), %error, "step failed");
            match failure::decide(&error, known) {
                Next::Again => {}
                Next::Failover => endpoint.record_unproductive(&error.to_string()),
                Next::Report => return Err(error.to_string()),
            }
            problem = Some(shown);
        }
    }

    /// Whoever carried a cycle to its end serves the network.
    fn note_serving(&mut self, endpoint: &Endpoint) {
        let before = self.snapshot.serving.replace(endpoint.index);
        if before != Some(endpoint.index) {
            let before = before.map(|index| index + 1);
            tracing::info!(network = %self.network.name, endpoint = endpoint.number(), url = %endpoint.url(), before,
                "endpoint serves the network");
        }
    }

    /// What an error says about the endpoint that it came from.
    fn learn(&mut self, endpoint: &Endpoint, error: &CycleError) -> Change {
        let memory = &mut self.memories[endpoint.index];
        match error {
            CycleError::Range { blocks, first, error } => {
                memory.ranges.observe(failure::asked(error.kind, *blocks, *first))
            }
            CycleError::Late { blocks, .. } if *blocks > 1 => {
                memory.ranges.observe(Asked::TooLarge { size: *blocks })
            }
            CycleError::Rpc(error) => {
                if matches!(error.kind, ErrorKind::Rpc(Refusal::NoState | Refusal::Other)) {
                    memory.record_unknown_failure(Instant::now());
                }
                Change::None
            }
            _ => Change::None,
        }
    }

    /// Carries everything as far as this endpoint lets it.
    async fn step(&mut self, endpoint: &Arc<Endpoint>) -> Result<(), CycleError> {
        let ChainHead { header, confirmed } = head::read(endpoint, &self.network).await?;
        let head = header.block;
        // Whoever was on the right chain is so until it says otherwise.
        if self.memories[endpoint.index].accepted_head.is_some() {
            self.show_head(head);
        }
        let views = self.read_chain_and_views(endpoint, &header).await?;
        head::record_head(&self.pool, endpoint, head.number)?;
        self.show_head(head);
        self.pace.observe(head, Instant::now());
        let views = self.show_views(endpoint, head, views).await;
        if !endpoint.is_healthy() {
            return views;
        }
        let confirmed = confirmed?;
        let mut source = self.source(endpoint, head);
        self.mend_gaps(&source).await;
        let first = self.find_first_block(&source).await?;
        // None while there is no contract, or none of its blocks is confirmed: nothing is left to read.
        let target = confirmed.filter(|target| first.is_some_and(|first| *target >= first));
        let first = first.unwrap_or_default();
        let remaining = |history: &History| {
            target.map_or(0, |target| (target + 1).saturating_sub(history.next_block(first)))
        };
        self.snapshot.sync_remaining = target.map(|_| remaining(&self.history));
        if let Some(target) = target.filter(|_| !self.snapshot.synced || self.recomputing) {
            self.catch_up.saw_target(target);
        }
        if remaining(&self.history) == 0 && self.checked_head != Some(head.hash) {
            if self.check_branch(&source).await? {
                return Ok(());
            }
            self.checked_head = Some(head.hash);
        }
        let deadline = Instant::now() + CATCH_UP_TIME;
        while let Some(target) = target.filter(|_| remaining(&self.history) > 0 && Instant::now() < deadline)
        {
            source = self.source(endpoint, head);
            if self.advance(&source, first, target, deadline).await? == Advance::TakenBack {
                // The next cycle finds out where it goes on.
                return Ok(());
            }
            self.checked_head = Some(head.hash);
        }
        self.check_counted(&source).await?;
        // Views that could not be read are absent, and no reason to leave the blocks unread.
        views?;
        self.snapshot.sync_remaining = target.map(|_| remaining(&self.history));
        if remaining(&self.history) == 0 {
            self.finish(target, head.number)?;
        }
        Ok(())
    }

    fn source(&self, endpoint: &Arc<Endpoint>, head: BlockRef) -> Source {
        let memory = &self.memories[endpoint.index];
        Source {
            endpoint: endpoint.clone(),
            contract: self.network.contract,
            oldest_state: memory.horizon.map_or(0, |horizon| horizon.block),
            errors_persist: memory.errors_persist(Instant::now()),
            head,
            second: self.pool.second(endpoint.index, head.number).map(|endpoint| {
                let size = self.memories[endpoint.index].ranges.size();
                Second { endpoint, size }
            }),
            absent: self.snapshot.views.absent(),
            thorough: memory.is_waiting(),
            seen: self
                .trail
                .between(head.hash, self.history.next_block(0), head.number)
                .unwrap_or_default()
                .into(),
            rules_out: memory.blooms.rules_out(),
            unbound: self.chain_id.filter(|_| self.history.ledger.block().is_none()),
        }
    }

    /// The block at which the history begins; `None` while there is no contract.
    async fn find_first_block(&mut self, source: &Source) -> Result<Option<u64>, CycleError> {
        if self.history.first_block.is_none() && self.snapshot.views.exists == Some(true) {
            let range = self.network.max_block_range;
            let search = self.search.get_or_insert_with(|| Bisection::new(None, source.head.number));
            let first = beginning::find(source, search, &self.network.name, range).await?;
            self.search = None;
            tracing::info!(network = %self.network.name, block = first, "history begins");
            self.history.begins_at(first);
        }
        Ok(self.history.first_block)
    }
}
