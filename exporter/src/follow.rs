//! The only loop: one task a network, which publishes an immutable snapshot after every step.
//!
//! A cycle asks one endpoint for the head, the views and the blocks in between, and applies these to the
//! ledger. Errors never end the loop: they are logged, published, and tried again. Nothing that fails in
//! one network is seen by another.

mod advance;
mod beginning;
mod events;
mod failure;
mod gaps;
mod head;
mod history;
mod memory;
mod reorg;
mod save;
mod source;
mod sync;
#[cfg(test)]
mod tests;
mod verify;
mod windows;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use web3::types::H256;

use crate::chain::BlockRef;
use crate::config::Network;
use crate::ledger::Counts;
use crate::plan::{Asked, Change};
use crate::rpc::{Endpoint, ErrorKind, Pool, Refusal};
use crate::snapshot::{Confirmed, Gauges, Head, Snapshot};
use crate::views::Views;
use advance::Advance;
use failure::{CycleError, Known, Next};
use history::History;
use memory::EndpointMemory;
use save::Saver;
use source::{Second, Source};
use sync::{CatchUp, Judgement};
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
    let mut polls = interval(follower.network.poll_interval);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // An error means that the sender is gone, which ends the loop as well.
            _ = shutdown.wait_for(|stop| *stop) => break,
            () = async {
                polls.tick().await;
                if let Some(available) = follower.pool.next_available() {
                    sleep_until(available).await;
                }
                follower.cycle().await;
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
            self.probe(self.active.as_ref().map(|endpoint| endpoint.index));
            let Some(endpoint) = self.active.clone() else {
                // Nobody was asked in this cycle: what kept us from it before still does.
                let before = || self.snapshot.problem.clone();
                return Err(problem.or_else(before).unwrap_or_else(|| "no endpoint can be asked".to_owned()));
            };
            let Err(error) = self.step(&endpoint).await else {
                endpoint.record_completed();
                self.memories[endpoint.index].record_progress();
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
        let head = head::read(endpoint, &self.network).await?;
        // Whoever was on the right chain is so until it says otherwise.
        if self.memories[endpoint.index].accepted_head.is_some() {
            self.show_head(head.block);
        }
        let views = self.read_chain_and_views(endpoint, head.block).await?;
        head::record_head(&self.pool, endpoint, head.block.number)?;
        self.show_head(head.block);
        let views = self.show_views(endpoint, head.block, views).await;
        if !endpoint.is_healthy() {
            return views;
        }
        let confirmed = head.confirmed?;
        let mut source = self.source(endpoint, head.block);
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
        if remaining(&self.history) == 0 && self.checked_head != Some(head.block.hash) {
            if self.check_branch(&source).await? {
                return Ok(());
            }
            self.checked_head = Some(head.block.hash);
        }
        let deadline = Instant::now() + CATCH_UP_TIME;
        while let Some(target) = target.filter(|_| remaining(&self.history) > 0 && Instant::now() < deadline)
        {
            source = self.source(endpoint, head.block);
            if self.advance(&source, first, target, deadline).await? == Advance::TakenBack {
                // The next cycle finds out where it goes on.
                return Ok(());
            }
            self.checked_head = Some(head.block.hash);
        }
        self.check_counted(&source).await;
        // Views that could not be read are absent, and no reason to leave the blocks unread.
        views?;
        self.snapshot.sync_remaining = target.map(|_| remaining(&self.history));
        if remaining(&self.history) == 0 {
            self.finish(target, head.block.number)?;
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

    /// A cycle in which everything was read, up to this block, unless the head contradicts what was read before.
    fn finish(&mut self, target: Option<u64>, head: u64) -> Result<(), CycleError> {
        let processed = self.history.ledger.block().map(|block| block.number);
        let behind_for = processed.filter(|processed| head < *processed).map(|_| {
            let since = *self.behind_since.get_or_insert_with(Instant::now);
            since.elapsed()
        });
        match sync::judge(head, processed, self.network.start_block, behind_for) {
            Judgement::Plausible => self.behind_since = None,
            Judgement::Lagging => return Ok(()),
            Judgement::Contradiction(why) => return Err(CycleError::Contradiction(why)),
        }
        let target = target.filter(|target| processed.is_some_and(|processed| processed >= *target));
        let caught_up = target.is_some_and(|target| self.catch_up.has_caught_up(target));
        if !self.snapshot.synced && caught_up {
            tracing::info!(network = %self.network.name, block = processed, "first sync done");
            self.snapshot.synced = true;
            self.warn_of_late_start();
        }
        self.recomputing &= !caught_up;
        self.snapshot.last_success = Some(SystemTime::now());
        Ok(())
    }

    /// A `start_block` after the deployment shows as missing events, for good.
    fn warn_of_late_start(&self) {
        let before = self.history.buffered_before.filter(|before| *before > 0);
        if let Some((before, start_block)) = before.zip(self.network.start_block) {
            let since = self.history.ledger.counts().buffered;
            tracing::warn!(network = %self.network.name, start_block, buffered_before = before, buffered_since = since,
                "start_block lies after the deployment: {before} transactions were buffered before it and are \
                 not counted, {since} since");
        }
    }

    fn publish(&mut self) {
        let History { ledger, count_check: check, .. } = &self.history;
        let block = ledger.block();
        self.snapshot.processed = block.map(|block| Head { number: block.number, timestamp: block.time });
        self.snapshot.endpoints = self.pool.stats();
        self.snapshot.unproven = self.snapshot.synced.then(|| self.history.proof.unproven());
        self.snapshot.confirmed = self.snapshot.synced.then(|| {
            self.last_exposed = ledger.counts().at_least(&self.last_exposed);
            let gauges = Gauges {
                pending: ledger.pending(),
                oldest_pending: ledger.oldest_pending(),
                next_deadline: ledger.next_deadline(),
                newest: ledger.newest().clone(),
                lives: ledger.lives(),
                missing_events: check
                    .filter(|check| block.is_some_and(|block| block.number == check.block))
                    .map(|check| check.missing),
            };
            Confirmed {
                counts: Arc::new(self.last_exposed.clone()),
                gauges: (!self.recomputing).then_some(gauges),
            }
        });
        self.publish.send_replace(Arc::new(self.snapshot.clone()));
    }
}
