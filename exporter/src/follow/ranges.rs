//! Ranges of blocks from one endpoint: several in flight, applied in order, as large as it takes them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::Follower;
use super::fetch::Source;
use super::trouble::{Trouble, is_lag};
use crate::plan;
use crate::rpc::Outcome;

/// So many ranges are asked for at once while catching up.
const IN_FLIGHT: usize = 3;

impl Follower {
    /// Fetches some ranges, several at a time, and applies them in order.
    pub(super) async fn advance(
        &mut self,
        source: &Source,
        first: u64,
        target: u64,
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let limit = AtomicU64::new(self.limits[source.endpoint.place].size());
        let mut next = self.next_block(first);
        let near = match self.ledger.block() {
            Some(block) if !source.endpoint.batches() => plan::near_replicas(
                source.head.number.saturating_sub(block.number),
                source.head.time.saturating_sub(block.time),
            ),
            _ => plan::NEAR_HEAD,
        };
        let fetches = std::iter::from_fn(|| {
            let fetch = plan::next(next, target, source.head.number, limit.load(Relaxed), near);
            let fetch = fetch.filter(|_| Instant::now() < deadline)?;
            next = fetch.blocks.end() + 1;
            Some(source.fetch(fetch))
        });
        let mut all = stream::iter(fetches).buffered(IN_FLIGHT);
        while let Some(fetched) = all.next().await {
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(trouble) => {
                    // What is in flight is not waited for.
                    drop(all);
                    let blamed = source.blamed(&trouble).await;
                    // Once is chance, twice means that the range is too large in the company of other calls.
                    let passes_alone = matches!(blamed, Trouble::Incomplete(_));
                    let again = std::mem::replace(&mut self.passed_alone, passes_alone);
                    return Err(if passes_alone && again { trouble } else { blamed });
                }
            };
            let blocks = fetched.fetch.blocks.end() - fetched.fetch.blocks.start() + 1;
            if let Some(limit) = self.limits[source.endpoint.place].accept(blocks, fetched.logs()) {
                tracing::info!(network = %self.network.name, endpoint = source.endpoint.number(), blocks = limit,
                    "the endpoint takes only ranges of so many blocks");
            }
            if !self.apply(source, fetched).await? {
                // Rewound or begun anew: what is in flight belongs to another history.
                return Ok(());
            }
            source.endpoint.served();
            self.unknown_since[source.endpoint.place] = None;
            self.passed_alone = false;
            self.snapshot.sync_remaining = Some(target.saturating_sub(self.next_block(first) - 1));
            self.publish();
            let now = self.limits[source.endpoint.place].size();
            if now < limit.swap(now, Relaxed) {
                // What is in flight may be too large already.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes the next range smaller after a failure that may be due to its size; true when it did.
    pub(super) fn shrink(&mut self, place: usize, trouble: &Trouble) -> bool {
        let Trouble::Range { blocks: blocks @ 2.., first, error } = trouble else { return false };
        let again = self.failed_at.replace(*first) == Some(*first);
        let limit = &mut self.limits[place];
        let before = limit.size();
        match error.outcome {
            Outcome::Transport if error.message.starts_with("cannot connect") => {}
            // Each call of a batch may count against the limit.
            Outcome::RateLimited if !again => {}
            Outcome::RpcError if !is_lag(error) => limit.refuse(*blocks),
            Outcome::Http if !error.is_endpoint_failure() => limit.refuse(*blocks),
            // An endpoint that is silent for a smaller range than it is allowed is hardly so for its size.
            Outcome::Timeout | Outcome::Transport if *blocks < before && !again => {}
            _ => limit.shrink(*blocks),
        }
        limit.size() < before && !error.is_endpoint_failure()
    }
}
