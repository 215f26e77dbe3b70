//! A block that does not follow from the processed one: another branch, or a balancer that wavers.

use super::Follower;
use super::fetch::{CALLS_AT_ONCE, Source};
use super::trouble::Trouble;

/// Most reorganisations are short: so many blocks are compared before all others.
const NEWEST: usize = 8;

/// The other branch must be told this often in a row before it is followed.
const CHECKS: usize = 4;

/// So many left branches are remembered.
const BRANCHES: usize = 64;

impl Follower {
    /// Rewinds to the newest block that both branches share, or begins anew where none is left.
    pub(super) async fn reorganised(&mut self, source: &Source, processed: u64) -> Result<(), Trouble> {
        let Some(old) = self.ledger.block().filter(|block| block.number == processed) else {
            return Err(Trouble::Incomplete("range does not follow from the processed block".to_owned()));
        };
        let mut new_hash = None;
        for _ in 0..CHECKS {
            let header = source.headers(&[processed]).await?.pop();
            new_hash = header.map(|header| header.block.hash);
            if new_hash.is_none_or(|hash| hash == old.hash) {
                return Err(Trouble::Incomplete(format!("answers waver about block {processed}")));
            }
        }
        let Some(new_hash) = new_hash else { return Ok(()) };
        let boundaries: Vec<_> = self.ledger.boundaries().collect();
        let mut shared = None;
        let (newest, others) = boundaries.split_at(NEWEST.min(boundaries.len()));
        for boundaries in std::iter::once(newest).chain(others.chunks(CALLS_AT_ONCE as usize)) {
            let numbers: Vec<u64> = boundaries.iter().rev().map(|boundary| boundary.number).collect();
            let headers = source.headers(&numbers).await?.into_iter().rev();
            let same = boundaries.iter().zip(headers).find(|(ours, theirs)| ours.hash == theirs.block.hash);
            shared = same.map(|(ours, _)| ours.number);
            if shared.is_some() {
                break;
            }
        }
        if shared == Some(processed) {
            return Err(Trouble::Incomplete(format!("answers waver about block {processed}")));
        }
        let returning = self.left_branches.contains(&new_hash);
        self.left_branches.push_back(old.hash);
        if self.left_branches.len() > BRANCHES {
            self.left_branches.pop_front();
        }
        self.snapshot.reorgs += u64::from(!returning);
        tracing::warn!(network = %self.network.name, block = processed, old_hash = ?old.hash, new_hash = ?new_hash,
            rewound_to = shared, returning,
            "reorganisation of processed blocks: what it undoes is computed again from the chain");
        self.go_back(shared);
        Ok(())
    }

    /// Takes the ledger back to a block, or to the beginning where the journal does not reach that far.
    pub(super) fn go_back(&mut self, block: Option<u64>) {
        let Some(block) = block.filter(|block| self.ledger.rewind(*block)) else {
            self.begin_anew(self.network.start_block);
            return;
        };
        let undone = self.gaps.known.iter().position(|gap| gap.last > block);
        let missing = match undone.and_then(|place| self.gaps.known.drain(place..).next()) {
            Some(gap) => gap.missing_before,
            None => self.compared.map(|(_, missing)| missing),
        };
        self.compared = missing.map(|missing| (block, missing));
    }
}
