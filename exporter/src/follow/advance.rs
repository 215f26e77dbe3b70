//! Ranges of blocks from one endpoint into the history: several in flight, each a task of its own, applied in
//! order, as large as the endpoint takes them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream::{self, StreamExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::failure::CycleError;
use super::history::{Extended, Missing, Placement, Rules};
use super::memory::PATIENCE;
use super::source::{Fetched, Isolated, Source};
use super::verify::{ProvenRange, Reading};
use super::{Follower, events, windows};
use crate::plan::{self, Asked, Change, Limits};
use crate::supervise;

/// Ranges in flight of all networks together, beyond the one that each may always have: they bound the memory while
/// many catch up at once.
static MORE_IN_FLIGHT: Semaphore = Semaphore::const_new(16);

/// Up to `wanted` ranges in flight but one, as far as the others have left any. Waits for nobody: a network that gets none is slower, and
/// depends on no other.
fn more_in_flight(wanted: usize) -> Option<SemaphorePermit<'static>> {
    let left = MORE_IN_FLIGHT.available_permits().min(wanted.saturating_sub(1));
    MORE_IN_FLIGHT.try_acquire_many(u32::try_from(left).ok()?).ok()
}

/// What became of the ranges that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// They were applied, as far as there was time.
    Extended,
    /// The history was taken back or begun anew: what is in flight belongs to another one.
    TakenBack,
}

/// Logs that a range lacks. Where the contract counts more, and they are not just late, a smaller range may bring
/// them: some endpoints cut answers short without a word.
fn late(missing: Missing, range: &ProvenRange) -> CycleError {
    let blocks = match missing {
        Missing::Counted { .. } if !range.near_head => range.size(),
        Missing::Counted { .. } | Missing::Bloom { .. } => 1,
    };
    CycleError::Late { why: missing.to_string(), blocks }
}

impl Follower {
    /// Fetches ranges up to `target`, several at a time, and applies them in order, until `deadline`.
    pub(super) async fn advance(
        &mut self,
        source: &Source,
        first: u64,
        target: u64,
        deadline: Instant,
    ) -> Result<Advance, CycleError> {
        let index = source.endpoint.index;
        let (blocks, parts) = self.range_limits(index);
        let (blocks, parts) = (AtomicU64::new(blocks), AtomicU64::new(parts));
        let mut next = self.history.next_block(first);
        let near = self.near_head(source);
        let growing = self.memories[index].ranges.is_growing();
        let in_flight = self.memories[index].in_flight.next(source.endpoint.times_limited());
        // Held until these are done.
        let more = more_in_flight(if growing { 1 } else { in_flight });
        let in_flight = 1 + more.as_ref().map_or(0, SemaphorePermit::num_permits);
        let mut unbound = source.unbound;
        let fetches = std::iter::from_fn(|| {
            let headers = source.headers_at_once();
            let limits =
                Limits { blocks: blocks.load(Relaxed), parts: parts.load(Relaxed).min(headers), headers };
            let fetch = plan::next(next, target, source.head.number, limits, near);
            let fetch = fetch.filter(|_| Instant::now() < deadline)?;
            next = fetch.blocks.end() + 1;
            let source = source.clone();
            // What follows on the first range is bound to its chain by hashes.
            let source = Source { unbound: unbound.take(), ..source };
            // A task of its own, so that it goes on while another range is applied; it ends when dropped.
            Some(AbortOnDropHandle::new(supervise::spawn(async move { source.fetch(fetch).await })))
        });
        let mut fetches = stream::iter(fetches).buffered(in_flight);
        while let Some(fetched) = fetches.next().await {
            let Fetched { range, second } = match fetched.map_err(tokio::task::JoinError::try_into_panic) {
                Ok(Ok(fetched)) => fetched,
                Ok(Err(error)) => {
                    drop(fetches);
                    return Err(self.isolate_refused_range(source, error).await);
                }
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // The runtime is ending.
                Err(Err(_)) => return Ok(Advance::Extended),
            };
            if let Some((index, asked)) = second {
                self.memories[index].ranges.observe(asked);
            }
            let (size, logs) = (range.size(), range.answered);
            if self.extend(source, range).await? == Advance::TakenBack {
                return Ok(Advance::TakenBack);
            }
            source.endpoint.record_completed();
            self.memories[index].record_progress();
            self.memories[index].in_flight.record_progress();
            self.snapshot.sync_remaining = Some((target + 1).saturating_sub(self.history.next_block(first)));
            self.publish();
            match self.memories[index].ranges.observe(Asked::Answered { size, logs }) {
                Change::None if growing && !self.memories[index].ranges.is_growing() => {
                    return Ok(Advance::Extended);
                }
                Change::None => {
                    let limits = self.range_limits(index);
                    blocks.store(limits.0, Relaxed);
                    parts.store(limits.1, Relaxed);
                }
                // What is in flight may be too large already.
                Change::Smaller => return Ok(Advance::Extended),
                Change::Learned(blocks) => tracing::info!(network = %self.network.name,
                    endpoint = source.endpoint.number(), blocks, "endpoint limits the size of ranges"),
            }
        }
        Ok(Advance::Extended)
    }

    /// How many blocks an endpoint is asked for in a call for logs, and how many such calls a range has. While anything is
    /// pending its deadline floats with the window, of which less is seen in a larger range.
    fn range_limits(&self, endpoint: usize) -> (u64, u64) {
        let ranges = &self.memories[endpoint].ranges;
        (ranges.size(), if self.history.ledger.pending() == 0 { ranges.parts() } else { 1 })
    }

    /// How many blocks below the head are near it.
    fn near_head(&self, source: &Source) -> u64 {
        match self.history.ledger.block() {
            Some(block) if !source.endpoint.batches() => plan::near_replicas(
                source.head.number.saturating_sub(block.number),
                source.head.time.saturating_sub(block.time),
            ),
            _ => plan::NEAR_HEAD,
        }
    }

    /// A refused range is asked for in other ways before its size is blamed.
    async fn isolate_refused_range(&mut self, source: &Source, error: CycleError) -> CycleError {
        let (blocks, first) = match &error {
            CycleError::Range { blocks, first, error }
                if *blocks > 1 && !error.kind.is_endpoint_failure() && !error.kind.is_behind() =>
            {
                (*blocks, *first)
            }
            _ => return error,
        };
        let memory = &mut self.memories[source.endpoint.index];
        match source.isolate(blocks, first).await {
            Isolated::Size(smallest) => smallest,
            Isolated::SingleBlock(error) => error,
            // Once is chance, twice means that the range is too large in the company of other calls.
            Isolated::PassesAlone if std::mem::replace(&mut memory.passed_alone, true) => error,
            Isolated::PassesAlone => CycleError::Inconsistent(error.to_string()),
        }
    }

    /// Applies a range where it follows; otherwise waits, or takes the history back.
    async fn extend(&mut self, source: &Source, range: ProvenRange) -> Result<Advance, CycleError> {
        let index = source.endpoint.index;
        if self.history.needs_count_before() {
            self.count_before(source, range.first.number).await?;
        }
        let rules = Rules {
            patient: true,
            trusts_blooms: self.memories[index].blooms.waits(Instant::now()),
            grants_roles: self.snapshot.views.paused.is_some(),
        };
        let mut waited = false;
        let gap = match self.history.place(&range, rules) {
            Placement::Next { gap } => gap,
            Placement::Diverged { at } => {
                self.reorganise(source, at).await?;
                return Ok(Advance::TakenBack);
            }
            Placement::Wait(missing) => {
                let pause = PATIENCE.max(2 * self.network.poll_interval);
                if self.memories[index].wait(Instant::now(), pause) {
                    return Err(late(missing, &range));
                }
                waited = true;
                tracing::warn!(network = %self.network.name, endpoint = source.endpoint.number(), %missing,
                    "logs did not come within {} s: believing the endpoint", PATIENCE.as_secs());
                match self.history.place(&range, Rules { patient: false, ..rules }) {
                    Placement::Next { gap } => gap,
                    Placement::Restart { from } => return Ok(self.read_again(from)),
                    Placement::Diverged { .. } | Placement::Wait(_) => return Err(late(missing, &range)),
                }
            }
            Placement::Restart { from } => return Ok(self.read_again(from)),
        };
        // Before the first sync nothing is shown, so that most windows need never be read.
        let all = self.snapshot.synced || range.near_head;
        let horizon = &mut self.memories[index].horizon;
        let had_all = horizon.is_none();
        let resolved = windows::resolve(source, &range, &self.history.ledger, all, horizon).await?;
        if let Some(found) = horizon.filter(|_| had_all) {
            tracing::warn!(network = %self.network.name, endpoint = source.endpoint.number(), block = found.block,
                window = found.window.map(tracing::field::display),
                "endpoint has no state below this block: the coordination window there stands for what lies before");
        }
        let Extended { expired, difference } = self.history.extend(&range, &resolved, gap);
        if let Some(check) = difference {
            tracing::error!(network = %self.network.name, block = check.block, missing = check.missing,
                "events and transaction_count() differ");
        }
        self.memories.iter_mut().for_each(super::memory::EndpointMemory::stop_waiting);
        self.memories[index].blooms.record(range.blooms);
        if waited && range.unmatched.is_some() {
            self.memories[index].blooms.record_false(Instant::now());
        }
        // What a deep reorganisation has read again is no news.
        self.highest_block = self.highest_block.max(range.last.number);
        let is_new = range.last.number + plan::NEAR_HEAD > self.highest_block;
        events::log(&self.network.name, &range, &expired, self.snapshot.synced && is_new);
        Ok(Advance::Extended)
    }

    fn read_again(&mut self, from: Option<u64>) -> Advance {
        tracing::warn!(network = %self.network.name, from,
            "events and transaction_count() differ: reading the history once more");
        self.history.mark_reread();
        self.restart(from);
        Advance::TakenBack
    }

    /// Begins with nothing; counters that were exposed hold.
    pub(super) fn restart(&mut self, from: Option<u64>) {
        self.history.restart(from);
        self.search = None;
        self.memories.iter_mut().for_each(super::memory::EndpointMemory::stop_waiting);
        self.recomputing = self.snapshot.synced;
    }

    /// A configured start may lie after the deployment: what was counted before it is not missing.
    async fn count_before(&mut self, source: &Source, first: u64) -> Result<(), CycleError> {
        let Some(before) = first.checked_sub(1) else { return Ok(()) };
        if let Reading::Known(count) = source.count_at(before).await? {
            self.history.begins_after(before, count.unwrap_or_default());
        }
        Ok(())
    }
}
