//! The chain's head as one endpoint has it, and whether that endpoint may be believed at all. The contract's views at
//! it are read in `contract`.

use std::path::PathBuf;

use serde_json::json;

use super::Follower;
use super::failure::CycleError;
use crate::chain::{self, BlockRef, Header};
use crate::config::{Confirmations, Network};
use crate::rpc::{self, Answer, Call, Check, Endpoint, ErrorKind, Method, Pool};
use crate::snapshot::Head;
use crate::views::Views;

/// What an endpoint says of its chain.
#[derive(Clone, Debug)]
pub(super) struct ChainHead {
    pub header: Header,
    /// The newest block that counts as confirmed; `None` while there are too few. A young chain, or a node that has
    /// just started, may not know it.
    pub confirmed: Result<Option<u64>, CycleError>,
}

/// Asks for head and newest confirmed block in one exchange.
pub(super) async fn read(endpoint: &Endpoint, network: &Network) -> Result<ChainHead, CycleError> {
    let tag = match network.confirmations {
        Confirmations::Blocks(_) => None,
        Confirmations::Safe => Some("safe"),
        Confirmations::Finalized => Some("finalized"),
    };
    let calls: Vec<_> = std::iter::once("latest").chain(tag).map(block_call).collect();
    let mut answers = endpoint.send(&calls).await.into_iter();
    let mut next = || answers.next().unwrap_or_else(no_answer);
    let header = chain::header(&next()?)?;
    let head = header.block;
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
    Ok(ChainHead { header, confirmed })
}

/// The call that asks which chain an endpoint is on.
pub(super) fn chain_call() -> Call {
    Call { method: Method::ChainId, params: json!([]) }
}

pub(super) fn no_answer() -> Answer {
    Err(rpc::Error::new(ErrorKind::Unreadable, "no answer"))
}

pub(super) fn block_call(tag: &str) -> Call {
    Call { method: Method::GetBlockByNumber, params: json!([tag, false]) }
}

impl Follower {
    pub(super) fn show_head(&mut self, block: BlockRef) {
        // Those of another head are not this one's.
        self.snapshot.views = Views::default();
        self.snapshot.owner_expected = None;
        self.snapshot.connected = true;
        self.snapshot.head = Some(Head { number: block.number, timestamp: block.time });
    }

    /// Whether the endpoint is on the right chain.
    pub(super) fn accept_chain(&mut self, endpoint: &Endpoint, chain_id: u64) -> Result<(), CycleError> {
        // The chain of the first endpoint binds only once something was read of it.
        let unread = self.history.ledger.block().is_none() && !self.snapshot.synced;
        if self.network.chain_id.is_none() && unread {
            self.chain_id = Some(chain_id);
        }
        self.chain_id.get_or_insert(chain_id);
        let expected = self.expected_chain();
        if let Err(error) = record_chain(&self.pool, &self.network.name, endpoint, chain_id, &expected) {
            (self.snapshot.connected, self.snapshot.head) = (false, None);
            self.memories[endpoint.index].accepted_head = None;
            return Err(error);
        }
        self.snapshot.chain_id = Some(chain_id);
        Ok(())
    }

    /// Which chain is followed, and what says so.
    pub(super) fn expected_chain(&self) -> ExpectedChain {
        let source = match (self.network.chain_id, self.saver.file()) {
            (Some(_), _) => ChainSource::Configured,
            (None, Some(file)) => ChainSource::Saved(file.to_owned()),
            (None, None) => ChainSource::Endpoint,
        };
        ExpectedChain { id: self.chain_id, source }
    }
}

/// The chain that is followed.
#[derive(Clone, Debug)]
pub(super) struct ExpectedChain {
    /// `None` while nothing says which one it is.
    pub id: Option<u64>,
    pub source: ChainSource,
}

/// What says which chain is followed.
#[derive(Clone, Debug)]
pub(super) enum ChainSource {
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

/// Notes in the pool which chain an endpoint is on; an error when it is not to be used.
pub(super) fn record_chain(
    pool: &Pool,
    network: &str,
    endpoint: &Endpoint,
    chain_id: u64,
    expected: &ExpectedChain,
) -> Result<(), CycleError> {
    let (number, url) = (endpoint.number(), endpoint.url());
    match pool.record_chain(endpoint.index, expected.id.is_none_or(|id| id == chain_id)) {
        Check::Passed => {}
        Check::PassedAgain => {
            tracing::info!(network, endpoint = number, %url, chain_id, "endpoint is back on the expected chain");
        }
        Check::Failed { news } => {
            if news {
                tracing::error!(network, endpoint = number, %url, chain_id, %expected,
                    "endpoint is on another chain and is not used");
            }
            return Err(CycleError::Unusable(format!("is on chain {chain_id}, expected {expected}")));
        }
    }
    Ok(())
}

/// Notes in the pool how far an endpoint is; an error when it is not to be used.
pub(super) fn record_head(pool: &Pool, endpoint: &Endpoint, head: u64) -> Result<(), CycleError> {
    if pool.record_head(endpoint.index, head) {
        return Err(CycleError::Unusable(format!("head {head} trails the other endpoints")));
    }
    Ok(())
}
