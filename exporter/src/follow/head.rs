//! The chain's head as one endpoint has it, and whether that endpoint may be believed at all.

use std::sync::Arc;

use serde_json::json;

use super::Follower;
use super::failure::CycleError;
use crate::chain::{self, BlockRef};
use crate::config::{Confirmations, Network};
use crate::rpc::{self, Call, ChainCheck, Endpoint, ErrorKind, Method, Pool};
use crate::supervise;

/// What an endpoint says of its chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainHead {
    pub chain_id: u64,
    pub block: BlockRef,
    /// The newest block that counts as confirmed; `None` while there are too few.
    pub confirmed: Option<u64>,
}

/// Asks for head, chain and the newest confirmed block in one exchange.
pub(super) async fn read(endpoint: &Endpoint, network: &Network) -> Result<ChainHead, CycleError> {
    let block = |tag: &str| Call { method: Method::GetBlockByNumber, params: json!([tag, false]) };
    let mut calls = vec![Call { method: Method::ChainId, params: json!([]) }, block("latest")];
    calls.extend(match network.confirmations {
        Confirmations::Blocks(_) => None,
        Confirmations::Safe => Some(block("safe")),
        Confirmations::Finalized => Some(block("finalized")),
    });
    let mut answers = endpoint.send(&calls).await.into_iter();
    let mut next = || answers.next().unwrap_or(Err(rpc::Error::new(ErrorKind::Unreadable, "no answer")));
    let chain_id = chain::quantity(&next()?)?;
    let head = chain::header(&next()?)?.block;
    let confirmed = match network.confirmations {
        Confirmations::Blocks(blocks) => head.number.checked_sub(blocks),
        // Another replica may have answered with a later one than the head.
        Confirmations::Safe | Confirmations::Finalized => {
            Some(chain::header(&next()?)?.block.number.min(head.number))
        }
    };
    Ok(ChainHead { chain_id, block: head, confirmed })
}

impl Follower {
    /// Whether the endpoint is on the right chain and not far behind the others.
    pub(super) fn accept_head(&mut self, endpoint: &Endpoint, head: &ChainHead) -> Result<(), CycleError> {
        // The chain of the first endpoint binds only once something was read of it.
        let unread = self.history.ledger.block().is_none() && !self.snapshot.synced;
        if self.network.chain_id.is_none() && unread {
            self.chain_id = Some(head.chain_id);
        }
        let expected = *self.chain_id.get_or_insert(head.chain_id);
        record_head(&self.pool, &self.network.name, endpoint, head, expected)?;
        self.snapshot.chain_id = Some(head.chain_id);
        Ok(())
    }

    /// Asks the endpoints that are not in use how they are, without waiting for them.
    pub(super) fn probe(&self, active: Option<usize>) {
        for endpoint in self.pool.due(active) {
            let (pool, network, expected) = (self.pool.clone(), self.network.clone(), self.chain_id);
            supervise::spawn(probe(pool, network, endpoint, expected));
        }
    }
}

async fn probe(pool: Arc<Pool>, network: Network, endpoint: Arc<Endpoint>, expected: Option<u64>) {
    if let Ok(head) = read(&endpoint, &network).await {
        // A wrong chain or a low head was noted in the pool, which is all that a probe is for.
        let expected = expected.unwrap_or(head.chain_id);
        let _ = record_head(&pool, &network.name, &endpoint, &head, expected);
    }
    pool.probed(endpoint.index);
}

/// Notes in the pool what an endpoint said; an error when it is not to be used.
fn record_head(
    pool: &Pool,
    network: &str,
    endpoint: &Endpoint,
    head: &ChainHead,
    expected: u64,
) -> Result<(), CycleError> {
    let (number, url, chain_id) = (endpoint.number(), endpoint.url(), head.chain_id);
    match pool.record_chain(endpoint.index, chain_id == expected) {
        ChainCheck::Right => {}
        ChainCheck::RightAgain => {
            tracing::info!(network, endpoint = number, %url, chain_id, "endpoint is back on the expected chain");
        }
        ChainCheck::Wrong { news } => {
            if news {
                tracing::error!(network, endpoint = number, %url, chain_id, expected,
                    "endpoint is on another chain and is not used; check its URL, `chain_id` and the saved state");
            }
            return Err(CycleError::Unusable(format!("is on chain {chain_id}, expected {expected}")));
        }
    }
    let head = head.block.number;
    if pool.record_head(endpoint.index, head) {
        return Err(CycleError::Unusable(format!("head {head} trails the other endpoints")));
    }
    Ok(())
}
