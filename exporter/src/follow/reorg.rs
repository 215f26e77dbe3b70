//! A block that does not follow from the processed one: another branch, another chain under the same id, or
//! replicas that disagree.

use super::Follower;
use super::failure::CycleError;
use super::history::Rewound;
use super::probe::record_contradiction;
use super::source::Source;
use crate::chain::BlockRef;
use web3::types::H256;

/// Most reorganisations are short: this many blocks are compared before all others.
const NEWEST: usize = 8;

/// How many blocks are compared at once.
const AT_ONCE: usize = 100;

/// The other branch must answer this often in a row before it is followed.
const CHECKS: usize = 4;

impl Follower {
    /// A chain on which there is nothing to read may have other blocks where the history was read: the newest
    /// block that both have decides. True: the history was taken back.
    pub(super) async fn check_branch(&mut self, source: &Source) -> Result<bool, CycleError> {
        let Some((number, ours)) = self.history.known_hash(source.head.number) else { return Ok(false) };
        let linked = self.trail.chain_below(source.head.hash).find(|seen| seen.block.number == number);
        let theirs = match linked {
            Some(seen) => Some(seen.block.hash),
            None => source.headers(&[number]).await?.pop().map(|header| header.block.hash),
        };
        if theirs.is_none_or(|theirs| theirs == ours) {
            return Ok(false);
        }
        self.reorganise(source, number).await?;
        Ok(true)
    }

    /// Whether the endpoint has the newest processed block now: it may have changed branches since its head was read. False
    /// also where that head is lower, which may be another branch that is still short.
    pub(super) async fn is_on_branch(&self, source: &Source) -> bool {
        let Some(ours) = self.history.ledger.block().filter(|block| block.number <= source.head.number)
        else {
            return false;
        };
        let headers = source.headers(&[ours.number]).await;
        headers.is_ok_and(|headers| headers.iter().all(|header| header.block.hash == ours.hash))
    }

    /// The chain has another block at `at`: goes back to the newest block that both share, or begins anew
    /// where none is left.
    pub(super) async fn reorganise(&mut self, source: &Source, at: u64) -> Result<(), CycleError> {
        let boundaries: Vec<BlockRef> = self
            .history
            .ledger
            .boundaries()
            .chain(self.history.anchor)
            .filter(|block| block.number <= at)
            .collect();
        let Some(old) = boundaries.first().filter(|old| old.number == at).copied() else {
            let why = format!("range does not follow on block {at}");
            return Err(CycleError::Inconsistent(why));
        };
        let inconsistent = || CycleError::Inconsistent(format!("inconsistent hashes of block {at}"));
        let mut new_hash = old.hash;
        for _ in 0..CHECKS {
            // An endpoint that changes its chain for a moment has other blocks, too.
            new_hash = match self.chain_id {
                Some(chain_id) => source.header_of_chain(at, chain_id).await?.block.hash,
                None => old.hash,
            };
            if new_hash == old.hash {
                return Err(inconsistent());
            }
        }
        self.ask_preferred(source, old, new_hash).await?;
        let shared = newest_shared(source, &boundaries).await?;
        if shared == Some(at) {
            return Err(inconsistent());
        }
        let left_before = self.left_branches(source, shared).await?;
        let returning = !left_before.is_empty();
        self.history.leave_branch(&left_before);
        self.snapshot.reorgs += u64::from(!returning);
        tracing::warn!(network = %self.network.name, block = at, old_hash = ?old.hash, new_hash = ?new_hash,
            rewound_to = shared, returning,
            "reorganisation of processed blocks: computing what it undoes again from the chain");
        self.rewind(shared);
        Ok(())
    }

    /// A block that an endpoint with precedence still has is not given up for this one's.
    async fn ask_preferred(&self, source: &Source, ours: BlockRef, theirs: H256) -> Result<(), CycleError> {
        for endpoint in self.pool.preferred_over(source.endpoint.index) {
            let number = endpoint.number();
            let preferred = Source { endpoint, ..source.clone() };
            let Ok(headers) = preferred.headers(&[ours.number]).await else { continue };
            if headers.first().is_some_and(|header| header.block.hash == ours.hash) {
                let (pool, network) = (&self.pool, &self.network.name);
                return Err(record_contradiction(pool, network, &source.endpoint, number, (ours, theirs)));
            }
        }
        Ok(())
    }

    /// Goes back to a block, or begins anew.
    pub(super) fn rewind(&mut self, to: Option<u64>) {
        match self.history.rewind(to) {
            Rewound::To(_) => {}
            Rewound::Restart { from } => self.restart(from),
        }
    }

    /// The blocks above the newest `shared` one at which the endpoint's branch was left before, if it ever was.
    async fn left_branches(&self, source: &Source, shared: Option<u64>) -> Result<Vec<BlockRef>, CycleError> {
        let mut tips = self.history.left_branches(shared, source.head.number);
        let headers = source.headers(&tips.iter().map(|tip| tip.number).collect::<Vec<_>>()).await?;
        let mut headers = headers.into_iter();
        tips.retain(|tip| headers.next().is_some_and(|header| tip.hash == header.block.hash));
        Ok(tips)
    }
}

/// The newest of these blocks, newest first, that the endpoint has as well.
async fn newest_shared(source: &Source, blocks: &[BlockRef]) -> Result<Option<u64>, CycleError> {
    let (newest, others) = blocks.split_at(NEWEST.min(blocks.len()));
    for blocks in std::iter::once(newest).chain(others.chunks(AT_ONCE)) {
        // Later blocks go last: a replica that lags lacks those.
        let numbers: Vec<u64> = blocks.iter().rev().map(|block| block.number).collect();
        let headers = source.headers(&numbers).await?.into_iter().rev();
        let shared = blocks.iter().zip(headers).find(|(ours, theirs)| ours.hash == theirs.block.hash);
        if let Some((ours, _)) = shared {
            return Ok(Some(ours.number));
        }
    }
    Ok(None)
}
