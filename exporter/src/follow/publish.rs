//! What a cycle leads to: whether everything was read, what is shown of it, and when the next cycle is due.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Follower;
use super::failure::CycleError;
use super::sync::{self, Judgement};
use crate::snapshot::{Confirmed, Gauges, Head};

impl Follower {
    /// When the next cycle is due, after one that was `started` then.
    pub(super) fn next_cycle(&self, started: Instant) -> Instant {
        let interval = self.network.poll_interval;
        let all_read = self.snapshot.problem.is_none() && self.snapshot.sync_remaining == Some(0);
        if self.snapshot.synced && all_read { self.pace.next(interval, started) } else { started + interval }
    }

    /// A cycle in which everything was read, up to this block, unless the head contradicts what was read before.
    pub(super) fn finish(&mut self, target: Option<u64>, head: u64) -> Result<(), CycleError> {
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

    pub(super) fn publish(&mut self) {
        let ledger = &self.history.ledger;
        let block = ledger.block();
        self.snapshot.processed = block.map(|block| Head { number: block.number, timestamp: block.time });
        self.snapshot.endpoints = self.pool.stats();
        self.snapshot.unproven = self.snapshot.synced.then(|| self.history.proof.unproven());
        self.snapshot.confirmed = self.snapshot.synced.then(|| {
            self.last_exposed = ledger.counts().at_least(&self.last_exposed);
            let check = self.history.count_check;
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
