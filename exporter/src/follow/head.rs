//! The chain's head as one endpoint tells it, and whether that endpoint may be believed at all.

use std::sync::Arc;

use jsonrpc_core::Value;

use super::fetch::Trouble;
use crate::chain::{self, BlockRef};
use crate::config::{Confirmations, Network};
use crate::rpc::{self, Endpoint};

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
        Confirmations::Safe | Confirmations::Finalized => Some(chain::header(&next()?)?.block.number),
    };
    Ok(ChainHead { chain_id, block: head, confirmed })
}
