//! The chain's head as one endpoint has it, and whether that endpoint may be believed at all.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::Follower;
use super::failure::CycleError;
use crate::chain::{self, BlockRef};
use crate::config::{Confirmations, Network};
use crate::rpc::{self, Call, ChainCheck, Endpoint, ErrorKind, Method, Pool};
use crate::supervise;

/// What an endpoint says of its chain.
#[derive(Clone, Debug)]
pub(super) struct ChainHead {
    pub chain_id: u64,
    pub block: BlockRef,
    /// The newest block that counts as confirmed; `None` while there are too few. A young chain, or a node that has
    /// just started, may not know it.
    pub confirmed: Result<Option<u64>, CycleError>,
}

/// Asks for head, chain and the newest confirmed block in one exchange.
pub(super) async fn read(endpoint: &Endpoint, network: &Network) -> Result<ChainHead, CycleError> {
    let block = |tag: &str| Call { method: Method::GetBlockByNumber, params: json!([tag, false]) };
    let mut calls = vec![Call { method: Method::ChainId, params: json!([]) }, block("latest")];
    let tag = match network.confirmations {
        Confirmations::Blocks(_) => None,
        Confirmations::Safe => Some("safe"),
        Confirmations::Finalized => Some("finalized"),
    };
    calls.extend(tag.map(block));
    let mut answers = endpoint.send(&calls).await.into_iter();
    let mut next = || answers.next().unwrap_or(Err(rpc::Error::new(ErrorKind::Unreadable, "no answer")));
    let chain_id = chain::quantity(&next()?)?;
    let head = chain::header(&next()?)?.block;
    let confirmed = match (network.confirmations, tag) {
        (Confirmations::Blocks(blocks), _) => Ok(head.number.checked_sub(blocks)),
        (_, tag) => match next() {
            // Another replica may have answered with a later one than the head.
            Ok(block) => Ok(Some(chain::header(&block)?.block.number.min(head.number))),
            Err(error) if error.kind.is_endpoint_failure() => return Err(error.into()),
            Err(error) => {
                let tag = tag.unwrap_or_default();
                let why = format!("the node knows no {tag} block yet, so that nothing is confirmed: {error}");
                Err(CycleError::Unconfirmed(why))
            }
        },
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
        self.chain_id.get_or_insert(head.chain_id);
        record_head(&self.pool, &self.network.name, endpoint, head, &self.expected_chain())?;
        self.snapshot.chain_id = Some(head.chain_id);
        Ok(())
    }

    /// Which chain is followed, and what says so.
    fn expected_chain(&self) -> ExpectedChain {
        let source = match (self.network.chain_id, self.saver.file()) {
            (Some(_), _) => ChainSource::Configured,
            (None, Some(file)) => ChainSource::Saved(file.to_owned()),
            (None, None) => ChainSource::Endpoint,
        };
        ExpectedChain { id: self.chain_id, source }
    }

    /// Asks the endpoints that are not in use how they are, without waiting for them.
    pub(super) fn probe(&self, active: Option<usize>) {
        for endpoint in self.pool.due(active) {
            let (pool, network, expected) = (self.pool.clone(), self.network.clone(), self.expected_chain());
            supervise::spawn(probe(pool, network, endpoint, expected));
        }
    }
}

/// The chain that is followed.
#[derive(Clone, Debug)]
struct ExpectedChain {
    /// `None` while nothing says which one it is.
    id: Option<u64>,
    source: ChainSource,
}

/// What says which chain is followed.
#[derive(Clone, Debug)]
enum ChainSource {
    Configured,
    /// This file.
    Saved(PathBuf),
    /// The first endpoint that was read.
    Endpoint,
}

impl std::fmt::Display for ExpectedChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.id.unwrap_or_default();
        match &self.source {
            ChainSource::Configured => write!(f, "{id} as configured"),
            ChainSource::Saved(file) => {
                write!(
                    f,
                    "{id} as in the saved state {}; remove it if the chain was begun anew",
                    file.display()
                )
            }
            ChainSource::Endpoint => write!(f, "{id} as answered at first; configure `chain_id`"),
        }
    }
}

async fn probe(pool: Arc<Pool>, network: Network, endpoint: Arc<Endpoint>, expected: ExpectedChain) {
    if let Ok(head) = read(&endpoint, &network).await {
        // A wrong chain or a low head was noted in the pool, which is all that a probe is for.
        let _ = record_head(&pool, &network.name, &endpoint, &head, &expected);
    }
    pool.probed(endpoint.index);
}

/// Notes in the pool what an endpoint said; an error when it is not to be used.
fn record_head(
    pool: &Pool,
    network: &str,
    endpoint: &Endpoint,
    head: &ChainHead,
    expected: &ExpectedChain,
) -> Result<(), CycleError> {
    let (number, url, chain_id) = (endpoint.number(), endpoint.url(), head.chain_id);
    match pool.record_chain(endpoint.index, expected.id.is_none_or(|id| id == chain_id)) {
        ChainCheck::Right => {}
        ChainCheck::RightAgain => {
            tracing::info!(network, endpoint = number, %url, chain_id, "endpoint is back on the expected chain");
        }
        ChainCheck::Wrong { news } => {
            if news {
                tracing::error!(network, endpoint = number, %url, chain_id, %expected,
                    "endpoint is on another chain and is not used");
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
