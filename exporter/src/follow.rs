//! The only loop: one task a network, which publishes an immutable snapshot after every step.
//!
//! A cycle asks one endpoint for the head, the views and the blocks in between, and applies these to the
//! ledger. Errors never end the loop: they are logged, published, and tried again. Nothing that fails in
//! one network is seen by another.

mod apply;
mod call;
mod fetch;
mod head;
mod late;
mod ranges;
mod reorg;
mod save;
mod start;
mod sync;
#[cfg(test)]
mod tests;
mod trouble;
mod window;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use web3::types::H256;

use crate::chain::BlockRef;
use crate::config::Network;
use crate::ledger::{Counts, Ledger};
use crate::plan::RangeLimit;
use crate::rpc::{Endpoint, Error, Outcome, Pool};
use crate::snapshot::{Confirmed, Gauges, Head, Snapshot};
use crate::views::{self, Views};
use fetch::{CALLS_AT_ONCE, Source};
use late::{Gaps, Waiting};
use trouble::Trouble;
use window::Horizon;

/// While catching up, head and views are read this often.
const CATCH_UP_TIME: Duration = Duration::from_secs(5);

/// An endpoint whose answers do not fit together is asked this often before another one is.
const TRIES: u32 = 3;

/// A cycle that lasts longer than this is abandoned; every request has a deadline of its own, so this is
/// reached only by a fault of this program.
const LONGEST_CYCLE: Duration = Duration::from_secs(300);

/// Progress is saved this often.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// Calls for old state that fail for so long without a known reason fail for good.
const UNKNOWN_TIME: Duration = Duration::from_secs(30);

/// The views of so many heads are remembered, as replicas that disagree tell them in turn.
const HEADS: usize = 4;

/// A network counts as stale after so many poll intervals, but not before so long.
const STALE_POLLS: u32 = 10;
const STALE_AFTER: Duration = Duration::from_secs(60);

impl Snapshot {
    /// What is known of a network before its first step: nothing.
    pub fn unknown(network: &Network) -> Self {
        Self {
            network: network.name.clone(),
            contract: network.contract,
            chain_id: None,
            connected: false,
            head: None,
            views: Views::default(),
            owner_expected: None,
            synced: false,
            processed: None,
            sync_remaining: None,
            last_success: None,
            stale_after: (network.poll_interval * STALE_POLLS).max(STALE_AFTER),
            problem: Some("starting".to_owned()),
            confirmed: None,
            reorgs: 0,
            panics: 0,
            endpoints: vec![crate::rpc::EndpointStats::default(); network.endpoints.len()],
        }
    }
}

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
                    sleep_until(available.into()).await;
                }
                follower.cycle().await;
            } => {}
        }
        follower.save_if(follower.saved_at.elapsed() >= SAVE_INTERVAL);
    }
    follower.save_if(true);
}

/// Everything the loop of one network knows.
struct Follower {
    network: Network,
    pool: Arc<Pool>,
    limits: Vec<RangeLimit>,
    /// By place of the endpoint: how many calls it answers in one exchange.
    calls: Vec<Arc<Mutex<RangeLimit>>>,
    ledger: Ledger,
    /// What was exposed: counters never fall below it.
    floor: Counts,
    /// The block at which the history begins.
    first_block: Option<u64>,
    /// Configured, or what the network was before: another chain is never followed.
    chain_id: Option<u64>,
    /// `transaction_count()` minus buffered events, and the block at which this was last compared.
    compared: Option<(u64, i64)>,
    /// A difference of unknown origin was answered by reading everything again.
    reread: bool,
    /// By place of the endpoint: logs that must be there are waited for.
    waiting: Vec<Option<Waiting>>,
    /// Logs that were done without.
    gaps: Gaps,
    /// The newest target told while catching up, and how many cycles in a row ended below it.
    highest_target: u64,
    low_targets: u32,
    /// Logs that failed with the other calls of their range did not when asked for alone.
    passed_alone: bool,
    /// Where the last range begins that failed.
    failed_at: Option<u64>,
    /// By place of the endpoint: since when calls for old state fail in words that are not known.
    unknown_since: Vec<Option<Instant>>,
    /// By place of the endpoint: its blooms promised what never came.
    blooms_mislead: Vec<bool>,
    /// By place of the endpoint.
    horizons: Vec<Option<Horizon>>,
    /// How far branches were read that were left, so that going back to one is not counted again.
    left_branches: VecDeque<BlockRef>,
    /// A head below the processed block that was found to be on the same branch.
    lower_head: Option<H256>,
    /// The gauges are being computed anew after a deep reorganisation.
    recomputing: bool,
    /// The views of the last heads: the same block has the same views.
    views: VecDeque<(H256, Views)>,
    snapshot: Snapshot,
    publish: watch::Sender<Arc<Snapshot>>,
    state: Option<PathBuf>,
    saved_at: Instant,
    saved_block: Option<BlockRef>,
    save_failed: bool,
}

impl Follower {
    fn new(
        network: Network,
        state: Option<PathBuf>,
        last: Option<&Snapshot>,
        publish: watch::Sender<Arc<Snapshot>>,
    ) -> Self {
        let mut follower = Self {
            pool: Arc::new(Pool::new(&network)),
            limits: vec![RangeLimit::new(network.max_block_range); network.endpoints.len()],
            calls: network
                .endpoints
                .iter()
                .map(|_| Arc::new(Mutex::new(RangeLimit::new(CALLS_AT_ONCE))))
                .collect(),
            ledger: Ledger::default(),
            floor: Counts::default(),
            first_block: network.start_block,
            chain_id: network.chain_id,
            compared: None,
            reread: false,
            waiting: vec![None; network.endpoints.len()],
            gaps: Gaps::new(Vec::new()),
            highest_target: 0,
            low_targets: 0,
            passed_alone: false,
            failed_at: None,
            unknown_since: vec![None; network.endpoints.len()],
            blooms_mislead: vec![false; network.endpoints.len()],
            horizons: vec![None; network.endpoints.len()],
            left_branches: VecDeque::new(),
            lower_head: None,
            recomputing: false,
            views: VecDeque::new(),
            snapshot: Snapshot::unknown(&network),
            publish,
            state,
            saved_at: Instant::now(),
            saved_block: None,
            save_failed: false,
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
            self.floor = Counts::clone(&confirmed.counts);
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
            // All was read, but there is nothing to follow: that must not look like a network that is well.
            Ok(Ok(())) => (self.snapshot.views.exists == Some(false)).then(|| {
                let contract = self.network.contract;
                format!("no code at {contract:#x}: expected the contract; check `contract`, `chain_id` and the endpoints")
            }),
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some(format!("no end after {LONGEST_CYCLE:?}: given up and begun anew")),
        };
        let before = std::mem::replace(&mut self.snapshot.problem, problem);
        // First, so that whoever read of it in the log finds it told by readiness.
        self.publish();
        let problem = &self.snapshot.problem;
        if problem.is_some() && *problem != before {
            tracing::warn!(network = %self.network.name, problem, "cycle not completed");
        } else if problem.is_none() && before.is_some() {
            tracing::info!(network = %self.network.name, "all is read");
        }
    }

    async fn attempts(&mut self) -> Result<(), String> {
        let mut problem = None;
        let mut tries = vec![0; self.network.endpoints.len()];
        loop {
            let picked = self.pool.pick();
            self.probe(picked.as_ref().map(|endpoint| endpoint.place));
            let Some(endpoint) = picked else {
                // Nobody was asked in this cycle: what kept us from it before still does.
                let before = || self.snapshot.problem.clone();
                return Err(problem.or_else(before).unwrap_or_else(|| "no endpoint can be asked".to_owned()));
            };
            let Err(trouble) = self.step(&endpoint).await else {
                endpoint.served();
                self.unknown_since[endpoint.place] = None;
                return Ok(());
            };
            if matches!(&trouble, Trouble::Rpc(error) if error.may_mean_no_state()) {
                self.unknown_since[endpoint.place].get_or_insert_with(Instant::now);
            }
            let shrunk = self.shrink(endpoint.place, &trouble);
            problem = Some(format!("endpoint {} ({}): {trouble}", endpoint.number(), endpoint.shown()));
            tracing::debug!(network = %self.network.name, endpoint = endpoint.number(), error = %trouble, "step failed");
            tries[endpoint.place] += if trouble.needs_time() { TRIES } else { u32::from(!shrunk) };
            if tries[endpoint.place] >= TRIES || !endpoint.is_well() {
                endpoint.was_in_vain(&Error::new(Outcome::Invalid, trouble));
            }
        }
    }

    /// Carries everything as far as this endpoint lets it.
    async fn step(&mut self, endpoint: &Arc<Endpoint>) -> Result<(), Trouble> {
        let head = head::read(endpoint, &self.network).await?;
        self.accept_head(endpoint, &head)?;
        self.snapshot.connected = true;
        self.snapshot.head = Some(Head { number: head.block.number, timestamp: head.block.time });
        let views = self.read_views(endpoint, head.block).await;
        if !endpoint.is_well() {
            return views;
        }
        let mut source = Source {
            endpoint: endpoint.clone(),
            calls: self.calls[endpoint.place].clone(),
            contract: self.network.contract,
            oldest_state: self.horizons[endpoint.place].map_or(0, |horizon| horizon.block),
            unknown_is_no_state: self.unknown_since[endpoint.place]
                .is_some_and(|since| since.elapsed() >= UNKNOWN_TIME),
            head: head.block,
        };
        self.mend_gaps(&source).await;
        let first = self.find_first_block(&source).await?;
        let Some((first, target)) = first.zip(head.confirmed).filter(|(first, target)| target >= first)
        else {
            // No contract yet, or none of its blocks is confirmed: all there is was read.
            views?;
            self.finish(None);
            return Ok(());
        };
        self.snapshot.sync_remaining = Some((target + 1).saturating_sub(self.next_block(first)));
        if !self.snapshot.synced || self.recomputing {
            self.highest_target = self.highest_target.max(target);
        }
        if self.next_block(first) > target + 1 && self.lower_head != Some(head.block.hash) {
            self.check_lower_end(&source).await?;
            self.lower_head = Some(head.block.hash);
            if self.first_block != Some(first) {
                return Ok(());
            }
        }
        let deadline = Instant::now() + CATCH_UP_TIME;
        while self.next_block(first) <= target && Instant::now() < deadline {
            source.oldest_state = self.horizons[endpoint.place].map_or(0, |horizon| horizon.block);
            self.advance(&source, first, target, deadline).await?;
            if self.first_block != Some(first) {
                // The history begins elsewhere now; the next cycle finds out where.
                return Ok(());
            }
        }
        // Views that could not be read are absent, and no reason to leave the blocks unread.
        views?;
        self.snapshot.sync_remaining = Some((target + 1).saturating_sub(self.next_block(first)));
        if self.snapshot.sync_remaining == Some(0) {
            self.finish(Some(target));
        }
        Ok(())
    }

    async fn read_views(&mut self, endpoint: &Arc<Endpoint>, block: BlockRef) -> Result<(), Trouble> {
        let known = self.views.iter().find(|(hash, _)| *hash == block.hash).map(|(_, views)| views.clone());
        let views = match known {
            Some(views) => views,
            None => {
                let views = views::read(endpoint.clone(), self.network.contract, block.number).await?;
                if views.exists == Some(true) {
                    self.views.truncate(HEADS - 1);
                    self.views.push_front((block.hash, views.clone()));
                }
                views
            }
        };
        self.snapshot.owner_expected = self.network.expected_owner.zip(views.owner).map(|(a, b)| a == b);
        self.snapshot.views = views;
        Ok(())
    }

    /// The block at which the history begins; `None` while there is no contract.
    async fn find_first_block(&mut self, source: &Source) -> Result<Option<u64>, Trouble> {
        if self.first_block.is_none() && self.snapshot.views.exists == Some(true) {
            let range = self.network.max_block_range;
            let first = start::first_block(source, &self.network.name, range).await?;
            tracing::info!(network = %self.network.name, block = first, "history begins");
            self.first_block = Some(first);
            self.compared = Some((first.saturating_sub(1), 0));
        }
        Ok(self.first_block)
    }

    fn next_block(&self, first: u64) -> u64 {
        self.ledger.block().map_or(first, |block| block.number + 1)
    }

    fn publish(&mut self) {
        let block = self.ledger.block();
        self.snapshot.processed = block.map(|block| Head { number: block.number, timestamp: block.time });
        self.snapshot.endpoints = self.pool.stats();
        self.snapshot.confirmed = self.snapshot.synced.then(|| {
            self.floor = self.ledger.counts().hold(&self.floor);
            let gauges = Gauges {
                pending: self.ledger.pending(),
                oldest_pending: self.ledger.oldest_pending(),
                next_deadline: self.ledger.next_deadline(),
                last_failed: self.ledger.last_failed().cloned(),
                missing_events: self
                    .compared
                    .filter(|(at, _)| block.is_some_and(|block| block.number == *at))
                    .map(|(_, missing)| missing),
            };
            Confirmed { counts: Arc::new(self.floor.clone()), gauges: (!self.recomputing).then_some(gauges) }
        });
        self.publish.send_replace(Arc::new(self.snapshot.clone()));
    }
}
