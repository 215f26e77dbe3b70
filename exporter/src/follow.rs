//! The only loop: one task a network, which publishes an immutable snapshot after every step.
//!
//! A cycle asks one endpoint for the head, the views and the blocks in between, and applies these to the
//! ledger. Errors never end the loop: they are logged, published, and tried again. Nothing that fails in
//! one network is seen by another.

mod apply;
mod fetch;
mod head;
mod reorg;
mod start;
mod window;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use web3::types::H256;

use crate::chain::BlockRef;
use crate::config::Network;
use crate::ledger::{Counts, Ledger};
use crate::plan::{self, RangeLimit};
use crate::rpc::{Endpoint, Error, Outcome, Pool};
use crate::snapshot::{Confirmed, Gauges, Head, Snapshot, Views};
use crate::state::{self, Saved};
use crate::views;
use fetch::{Source, Trouble};
use head::ChainHead;
use window::Horizon;

/// So many ranges are asked for at once while catching up.
const IN_FLIGHT: usize = 4;

/// While catching up, head and views are read this often.
const CATCH_UP_TIME: Duration = Duration::from_secs(5);

/// An endpoint whose answers do not fit together is asked this often before another one is.
const TRIES: u32 = 4;

/// A cycle that lasts longer than this is abandoned; every request has a deadline of its own, so this is
/// reached only by a fault of this program.
const LONGEST_CYCLE: Duration = Duration::from_secs(300);

/// Progress is saved this often.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

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
            endpoints: vec![crate::rpc::EndpointStats::default(); network.endpoints.len()],
        }
    }
}

/// Follows one network until `shutdown` becomes true or its sender is gone.
///
/// `state` is the file that progress is saved to.
pub async fn run(
    network: Network,
    state: Option<PathBuf>,
    publish: watch::Sender<Arc<Snapshot>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut follower = Follower::new(network, state, publish);
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
    ledger: Ledger,
    /// What was exposed: counters never fall below it.
    floor: Counts,
    /// The block at which the history begins.
    first_block: Option<u64>,
    chain_id: Option<u64>,
    /// `transaction_count()` minus buffered events, and the block at which this was last compared.
    compared: Option<(u64, i64)>,
    /// A difference of unknown origin was answered by reading everything again.
    reread: bool,
    horizon: Option<Horizon>,
    /// Where branches ended that were left, so that going back to one is not counted again.
    left_branches: VecDeque<H256>,
    /// The gauges are being computed anew after a deep reorganisation.
    recomputing: bool,
    /// The views of the last block they were read at: the same block has the same views.
    views: Option<(H256, Views)>,
    snapshot: Snapshot,
    publish: watch::Sender<Arc<Snapshot>>,
    state: Option<PathBuf>,
    /// Loaded, but not yet known to be of this chain.
    loaded: Option<Saved>,
    saved_at: Instant,
    saved_block: Option<u64>,
    save_failed: bool,
}

impl Follower {
    fn new(network: Network, state: Option<PathBuf>, publish: watch::Sender<Arc<Snapshot>>) -> Self {
        let loaded = state.as_ref().and_then(|path| {
            state::load(path, network.contract, network.start_block).unwrap_or_else(|why| {
                tracing::warn!(network = %network.name, file = %path.display(),
                    "saved state {why}: everything is read from the chain again");
                None
            })
        });
        Self {
            pool: Arc::new(Pool::new(&network)),
            limits: vec![RangeLimit::new(network.max_block_range); network.endpoints.len()],
            ledger: Ledger::default(),
            floor: Counts::default(),
            first_block: network.start_block,
            chain_id: network.chain_id,
            compared: None,
            reread: false,
            horizon: None,
            left_branches: VecDeque::new(),
            recomputing: false,
            views: None,
            snapshot: Snapshot::unknown(&network),
            publish,
            state,
            loaded,
            saved_at: Instant::now(),
            saved_block: None,
            save_failed: false,
            network,
        }
    }

    /// One cycle: tries endpoints until one carries it to the end, then publishes what is known now.
    async fn cycle(&mut self) {
        self.snapshot.connected = false;
        self.snapshot.head = None;
        self.snapshot.views = Views::default();
        self.snapshot.owner_expected = None;
        let result = timeout(LONGEST_CYCLE, self.attempts()).await;
        let problem = match result {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some(format!("no end after {LONGEST_CYCLE:?}: given up and begun anew")),
        };
        if problem.is_some() && problem != self.snapshot.problem {
            tracing::warn!(network = %self.network.name, problem, "cycle not completed");
        } else if problem.is_none() && self.snapshot.problem.is_some() {
            tracing::info!(network = %self.network.name, "all is read");
        }
        self.snapshot.problem = problem;
        self.publish();
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
            let Err(trouble) = self.step(&endpoint).await else { return Ok(()) };
            let shrunk = self.shrink(endpoint.place, &trouble);
            problem = Some(format!("endpoint {} ({}): {trouble}", endpoint.number(), endpoint.shown()));
            tracing::debug!(network = %self.network.name, endpoint = endpoint.number(), error = %trouble, "step failed");
            tries[endpoint.place] += u32::from(!shrunk);
            if tries[endpoint.place] >= TRIES && endpoint.is_well() {
                endpoint.fail(&Error::new(Outcome::Invalid, trouble));
            }
        }
    }

    /// Carries everything as far as this endpoint lets it.
    async fn step(&mut self, endpoint: &Arc<Endpoint>) -> Result<(), Trouble> {
        let head = head::read(endpoint, &self.network).await?;
        self.accept_head(endpoint, &head)?;
        self.snapshot.connected = true;
        self.snapshot.head = Some(Head { number: head.block.number, timestamp: head.block.time });
        self.read_views(endpoint, head.block).await?;
        let mut source = Source {
            endpoint: endpoint.clone(),
            contract: self.network.contract,
            oldest_state: self.horizon.map_or(0, |horizon| horizon.block),
            head: head.block.number,
        };
        let Some(first) = self.find_first_block(&source).await? else {
            return Err(Trouble::Incomplete("no contract at the address".to_owned()));
        };
        let Some(target) = head.confirmed.filter(|target| *target >= first) else {
            self.finish();
            return Ok(());
        };
        let deadline = Instant::now() + CATCH_UP_TIME;
        while self.next_block(first) <= target && Instant::now() < deadline {
            source.oldest_state = self.horizon.map_or(0, |horizon| horizon.block);
            self.advance(&source, first, target, deadline).await?;
            if self.first_block != Some(first) {
                // The history begins elsewhere now; the next cycle finds out where.
                return Ok(());
            }
        }
        self.snapshot.sync_remaining = Some((target + 1).saturating_sub(self.next_block(first)));
        if self.snapshot.sync_remaining == Some(0) {
            self.finish();
        }
        Ok(())
    }

    /// Whether the endpoint is on the right chain and not far behind the others.
    fn accept_head(&mut self, endpoint: &Endpoint, head: &ChainHead) -> Result<(), Trouble> {
        let expected = *self.chain_id.get_or_insert(head.chain_id);
        note_head(&self.pool, &self.network.name, endpoint, head, expected)?;
        if let Some(saved) = self.loaded.take() {
            self.resume(saved, head.chain_id);
        }
        self.snapshot.chain_id = Some(head.chain_id);
        Ok(())
    }

    async fn read_views(&mut self, endpoint: &Arc<Endpoint>, block: BlockRef) -> Result<(), Trouble> {
        let known = self.views.take().filter(|(hash, _)| *hash == block.hash);
        let views = match known {
            Some((_, views)) => views,
            None => views::read(endpoint.clone(), self.network.contract, block.number).await?,
        };
        self.snapshot.owner_expected = self.network.expected_owner.zip(views.owner).map(|(a, b)| a == b);
        self.snapshot.views = views.clone();
        self.views = Some((block.hash, views));
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

    /// Fetches some ranges, several at a time, and applies them in order.
    async fn advance(
        &mut self,
        source: &Source,
        first: u64,
        target: u64,
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let limit = self.limits[source.endpoint.place].blocks();
        let mut next = self.next_block(first);
        let fetches = std::iter::from_fn(|| {
            let fetch = plan::next(next, target, source.head, limit).filter(|_| Instant::now() < deadline)?;
            next = fetch.blocks.end() + 1;
            Some(source.fetch(fetch))
        });
        let mut fetched = stream::iter(fetches).buffered(IN_FLIGHT);
        while let Some(fetched) = fetched.next().await {
            let fetched = fetched?;
            let blocks = fetched.fetch.blocks.end() - fetched.fetch.blocks.start() + 1;
            let logs = fetched.blocks.iter().map(|block| block.logs.len()).sum();
            if let Some(limit) = self.limits[source.endpoint.place].accept(blocks, logs) {
                tracing::info!(network = %self.network.name, endpoint = source.endpoint.number(), blocks = limit,
                    "the endpoint takes only ranges of so many blocks");
            }
            if !self.apply(source, fetched).await? {
                // Rewound or begun anew: what is in flight belongs to another history.
                return Ok(());
            }
            self.snapshot.sync_remaining = Some(target.saturating_sub(self.next_block(first) - 1));
            self.publish();
            if self.limits[source.endpoint.place].blocks() < limit {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes the next range smaller after a failure that may be due to its size; true when it did.
    fn shrink(&mut self, place: usize, trouble: &Trouble) -> bool {
        let Trouble::Range { blocks, error, .. } = trouble else { return false };
        let limit = &mut self.limits[place];
        let before = limit.blocks();
        // A replica that lags refuses blocks that it does not have, whatever their number.
        let lags =
            ["not found", "unknown block", "beyond", "head"].iter().any(|word| error.message.contains(word));
        match error.outcome {
            Outcome::Transport if error.message.starts_with("cannot connect") => {}
            Outcome::RpcError if !lags => limit.refuse(*blocks),
            Outcome::Http if !error.is_endpoint_failure() => limit.refuse(*blocks),
            _ => limit.shrink(*blocks),
        }
        limit.blocks() < before && !error.is_endpoint_failure()
    }

    /// A cycle in which everything was read.
    fn finish(&mut self) {
        let newly = !self.snapshot.synced && self.ledger.block().is_some();
        if newly {
            tracing::info!(network = %self.network.name, block = self.ledger.block().map(|block| block.number),
                "first sync done");
        }
        self.snapshot.synced |= newly;
        self.recomputing = false;
        self.snapshot.last_success = Some(SystemTime::now());
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

    /// Asks the endpoints that are not in use how they are, without waiting for them.
    fn probe(&self, active: Option<usize>) {
        for endpoint in self.pool.due(active.unwrap_or(usize::MAX)) {
            let (pool, network, expected) = (self.pool.clone(), self.network.clone(), self.chain_id);
            tokio::spawn(async move {
                if let Ok(head) = head::read(&endpoint, &network).await {
                    // A wrong chain or a low head was noted in the pool, which is all that a probe is for.
                    let expected = expected.unwrap_or(head.chain_id);
                    let _ = note_head(&pool, &network.name, &endpoint, &head, expected);
                }
            });
        }
    }

    /// Goes on from saved progress, if it is of this chain.
    fn resume(&mut self, saved: Saved, chain_id: u64) {
        let network = &self.network.name;
        if saved.chain_id != chain_id {
            tracing::warn!(
                network,
                saved = saved.chain_id,
                chain_id,
                "saved state is of another chain: everything is read from the chain again"
            );
            return;
        }
        tracing::info!(
            network,
            block = saved.ledger.block().map(|block| block.number),
            "resuming from saved state"
        );
        self.first_block = Some(saved.first_block);
        self.compared = saved.compared;
        self.saved_block = saved.ledger.block().map(|block| block.number);
        self.ledger = saved.ledger;
    }

    fn save_if(&mut self, due: bool) {
        let block = self.ledger.block().map(|block| block.number);
        let (Some(path), Some(chain_id), Some(first_block)) = (&self.state, self.chain_id, self.first_block)
        else {
            return;
        };
        if !due || block.is_none() || block == self.saved_block {
            return;
        }
        self.saved_at = Instant::now();
        let saved = Saved {
            chain_id,
            contract: self.network.contract,
            start_block: self.network.start_block,
            first_block,
            compared: self.compared,
            ledger: self.ledger.clone(),
        };
        match state::save(path, &saved) {
            Ok(()) => (self.saved_block, self.save_failed) = (block, false),
            Err(error) => {
                if !self.save_failed {
                    tracing::error!(network = %self.network.name, file = %path.display(), %error,
                        "progress cannot be saved: a restart will read more of the chain again");
                }
                self.save_failed = true;
            }
        }
    }
}

/// Notes in the pool what an endpoint said; an error when it is not to be used.
fn note_head(
    pool: &Pool,
    network: &str,
    endpoint: &Endpoint,
    head: &ChainHead,
    expected: u64,
) -> Result<(), Trouble> {
    let right = head.chain_id == expected;
    if pool.saw_chain(endpoint.place, right) {
        tracing::error!(network, endpoint = endpoint.number(), url = %endpoint.shown(), chain_id = head.chain_id,
            expected, right, "the endpoint's chain changed: one of another chain is never used");
    }
    if !right {
        let why = format!("is on chain {}, expected {expected}", head.chain_id);
        return Err(Trouble::Incomplete(why));
    }
    if pool.saw_head(endpoint.place, head.block.number) {
        return Err(Trouble::Incomplete(format!("head {} trails the other endpoints", head.block.number)));
    }
    Ok(())
}
