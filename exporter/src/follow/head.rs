//! The chain's head as one endpoint tells it, and whether that endpoint may be believed at all.

use std::sync::Arc;

use jsonrpc_core::Value;

use super::Follower;
use super::trouble::Trouble;
use crate::chain::{self, BlockRef};
use crate::config::{Confirmations, Network};
use crate::rpc::{self, Endpoint, Pool};

/// What an endpoint says of its chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainHead {
    pub chain_id: u64,
    pub block: BlockRef,
    /// The newest block that counts as confirmed; `None` while there are too few.
    pub confirmed: Option<u64>,
}

/// Asks for head, chain and the newest confirmed block in one exchange.
pub(super) async fn read(endpoint: &Arc<Endpoint>, network: &Network) -> Result<ChainHead, Trouble> {
    let block = |tag: &str| {
        rpc::call("eth_getBlockByNumber", vec![Value::String(tag.to_owned()), Value::Bool(false)])
    };
    let mut calls = vec![rpc::call("eth_chainId", vec![]), block("latest")];
    calls.extend(match network.confirmations {
        Confirmations::Blocks(_) => None,
        Confirmations::Safe => Some(block("safe")),
        Confirmations::Finalized => Some(block("finalized")),
    });
    let mut answers = endpoint.send(calls).await.into_iter();
    let mut next = || answers.next().unwrap_or(Err(rpc::Error::new(rpc::Outcome::Invalid, "no answer")));
    let chain_id = chain::quantity(&next()?)?;
    let head = chain::header(&next()?)?.block;
    let confirmed = match network.confirmations {
        Confirmations::Blocks(blocks) => head.number.checked_sub(blocks),
        // Another replica may have told of a later one than the head.
        Confirmations::Safe | Confirmations::Finalized => {
            Some(chain::header(&next()?)?.block.number.min(head.number))
        }
    };
    Ok(ChainHead { chain_id, block: head, confirmed })
}

impl Follower {
    /// Whether the endpoint is on the right chain and not far behind the others.
    pub(super) fn accept_head(&mut self, endpoint: &Endpoint, head: &ChainHead) -> Result<(), Trouble> {
        // What was told at first sight binds only once something was read of that chain.
        let unread = self.ledger.block().is_none() && !self.snapshot.synced;
        if self.network.chain_id.is_none() && unread {
            self.chain_id = Some(head.chain_id);
        }
        let expected = *self.chain_id.get_or_insert(head.chain_id);
        note_head(&self.pool, &self.network.name, endpoint, head, expected)?;
        self.snapshot.chain_id = Some(head.chain_id);
        Ok(())
    }

    /// Asks the endpoints that are not in use how they are, without waiting for them.
    pub(super) fn probe(&self, active: Option<usize>) {
        for endpoint in self.pool.due(active) {
            let (pool, network, expected) = (self.pool.clone(), self.network.clone(), self.chain_id);
            tokio::spawn(async move {
                if let Ok(head) = read(&endpoint, &network).await {
                    // A wrong chain or a low head was noted in the pool, which is all that a probe is for.
                    let expected = expected.unwrap_or(head.chain_id);
                    let _ = note_head(&pool, &network.name, &endpoint, &head, expected);
                }
                pool.probed(endpoint.place);
            });
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
