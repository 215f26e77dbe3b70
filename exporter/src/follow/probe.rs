//! The endpoints that are not in use: whether they could be, and whether they agree with what was read from others.
//!
//! Never holds up the cycle. A head counts only of an endpoint that has the block up to which the history was read: whoever
//! serves another history, however long, takes nobody's place.

use std::sync::Arc;

use web3::types::H256;

use super::Follower;
use super::failure::CycleError;
use super::head::{ExpectedChain, block_call, chain_call, no_answer, record_chain, record_head};
use super::source::header_call;
use crate::chain::{self, BlockRef};
use crate::rpc::{Answer, Check, Endpoint, Pool};
use crate::supervise;

/// What an endpoint has where the history was read up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// The same block.
    Same,
    /// Another block.
    Other { hash: H256 },
    /// No such block, or none was read yet.
    Unknown,
}

/// What the answer to a call for the block up to which was read says.
fn link(processed: BlockRef, answer: Answer) -> Link {
    match answer.ok().and_then(|raw| chain::header(&raw).ok()).map(|header| header.block) {
        Some(theirs) if theirs.hash == processed.hash => Link::Same,
        Some(theirs) if theirs.number == processed.number => Link::Other { hash: theirs.hash },
        _ => Link::Unknown,
    }
}

/// What is asked of an endpoint, and by whom.
struct Probe {
    pool: Arc<Pool>,
    network: String,
    expected: ExpectedChain,
    /// The block up to which the history was read.
    processed: Option<BlockRef>,
    /// The index of the endpoint that it was read from last.
    serving: usize,
}

/// Whether another block is a contradiction, or a reorganisation that is to be followed: that of whoever served the history
/// last, and of those that are preferred over it.
fn may_contradict(index: usize, serving: usize) -> bool {
    index > serving
}

impl Follower {
    /// Asks the endpoints that are not in use how they are, without waiting for them.
    pub(super) fn probe(&self) {
        for endpoint in self.pool.due(self.active.as_ref().map(|active| active.index)) {
            let probe = Probe {
                pool: self.pool.clone(),
                network: self.network.name.clone(),
                expected: self.expected_chain(),
                processed: self.history.ledger.block(),
                serving: self.snapshot.serving.unwrap_or_default(),
            };
            supervise::spawn(async move {
                // That it is not to be used is noted in the pool, which is all that a probe is for.
                let _ = probe.read(&endpoint).await;
                probe.pool.probed(endpoint.index, probe.processed.is_none());
            });
        }
    }
}

impl Probe {
    async fn read(&self, endpoint: &Endpoint) -> Result<(), CycleError> {
        let mut calls = vec![chain_call()];
        calls.extend(self.processed.map(|block| header_call(block.number)));
        calls.push(block_call("latest"));
        let mut answers = endpoint.send(&calls).await;
        let head = chain::header(&answers.pop().unwrap_or_else(no_answer)?)?.block.number;
        let chain_id = chain::quantity(&answers.remove(0)?)?;
        record_chain(&self.pool, &self.network, endpoint, chain_id, &self.expected)?;
        let Some(processed) = self.processed else { return Ok(()) };
        match link(processed, answers.pop().unwrap_or_else(no_answer)) {
            Link::Same => {
                self.record_agreement(endpoint);
                record_head(&self.pool, endpoint, head)
            }
            Link::Other { hash } if may_contradict(endpoint.index, self.serving) => {
                let (pool, network, serving) = (&self.pool, &self.network, self.serving + 1);
                Err(record_contradiction(pool, network, endpoint, serving, (processed, hash)))
            }
            Link::Other { .. } => {
                self.record_agreement(endpoint);
                record_head(&self.pool, endpoint, head.min(processed.number))
            }
            Link::Unknown => record_head(&self.pool, endpoint, head.min(processed.number)),
        }
    }

    fn record_agreement(&self, endpoint: &Endpoint) {
        if self.pool.record_agreement(endpoint.index, true) == Check::PassedAgain {
            tracing::info!(network = %self.network, endpoint = endpoint.number(), url = %endpoint.url(),
                "endpoint agrees with the others again");
        }
    }
}

/// Notes that an endpoint has another block than ours, which is what an endpoint that is preferred says, and why it is
/// not to be used.
pub(super) fn record_contradiction(
    pool: &Pool,
    network: &str,
    endpoint: &Endpoint,
    other: usize,
    (ours, theirs): (BlockRef, H256),
) -> CycleError {
    let block = ours.number;
    if let Check::Failed { news: true } = pool.record_agreement(endpoint.index, false) {
        tracing::error!(network, endpoint = endpoint.number(), url = %endpoint.url(), other, block, hash = ?theirs,
            other_hash = ?ours.hash, "endpoints contradict each other: this one is not used");
    }
    CycleError::Unusable(format!(
        "contradicts endpoint {other}: block {block} is {theirs:#x} here and {:#x} there",
        ours.hash
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rpc::{Error, ErrorKind};

    #[test]
    fn the_order_of_the_endpoints_decides_who_contradicts() {
        // The only one, or the one that served: its chain was reorganised.
        assert!(!may_contradict(0, 0) && !may_contradict(1, 1));
        assert!(may_contradict(1, 0));
        assert!(!may_contradict(0, 1), "the preferred one is back");
    }

    #[test]
    fn a_block_links_by_its_hash() {
        let hash = H256::from_low_u64_be;
        let processed = BlockRef { number: 7, hash: hash(70), ..BlockRef::default() };
        let answer = |number: u64, own: u64| {
            let block = json!({"number": chain::hex(number), "hash": hash(own), "parentHash": hash(1), "timestamp": "0x1"});
            Ok(serde_json::value::to_raw_value(&block).unwrap())
        };
        assert_eq!(link(processed, answer(7, 70)), Link::Same);
        assert_eq!(link(processed, answer(7, 71)), Link::Other { hash: hash(71) });
        // An answer about something else proves nothing.
        assert_eq!(link(processed, answer(8, 71)), Link::Unknown);
        assert_eq!(link(processed, Err(Error::new(ErrorKind::Empty, "no block"))), Link::Unknown);
    }
}
