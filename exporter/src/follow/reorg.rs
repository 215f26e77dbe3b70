//! A block that does not follow from the processed one: another branch, or a balancer that wavers.

use super::Follower;
use super::fetch::{CALLS_AT_ONCE, Source};
use super::trouble::Trouble;

/// Most reorganisations are short: so many blocks are compared before all others.
const NEWEST: usize = 8;

/// The other branch must be told this often in a row before it is followed.
const CHECKS: usize = 4;

/// So many left branches are remembered.
const BRANCHES: usize = 16;

impl Follower {
    /// A chain that ends below the processed block is a node that lags, or a shorter branch: that is told by
    /// the newest block that both have.
    pub(super) async fn check_lower_end(&mut self, source: &Source) -> Result<(), Trouble> {
        let Some(ours) = self.ledger.boundaries().find(|block| block.number <= source.head.number) else {
            return Ok(());
        };
        let theirs = source.headers(&[ours.number]).await?.pop();
        if theirs.is_some_and(|header| header.block.hash != ours.hash) {
            return self.reorganised(source, ours.number).await;
        }
        Ok(())
    }

    /// Another branch has another block in the place of this one: rewinds to the newest block that both
    /// share, or begins anew where none is left.
    pub(super) async fn reorganised(&mut self, source: &Source, place: u64) -> Result<(), Trouble> {
        let boundaries: Vec<_> = self.ledger.boundaries().skip_while(|block| block.number > place).collect();
        let Some((tip, old)) =
            self.ledger.block().zip(boundaries.first()).filter(|(_, old)| old.number == place)
        else {
            return Err(Trouble::Incomplete("range does not follow from the processed block".to_owned()));
        };
        let mut new_hash = None;
        for _ in 0..CHECKS {
            let header = source.headers(&[place]).await?.pop();
            new_hash = header.map(|header| header.block.hash);
            if new_hash.is_none_or(|hash| hash == old.hash) {
                return Err(Trouble::Incomplete(format!("answers waver about block {place}")));
            }
        }
        let Some(new_hash) = new_hash else { return Ok(()) };
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
        if shared == Some(place) {
            return Err(Trouble::Incomplete(format!("answers waver about block {place}")));
        }
        let returning = self.is_left_branch(source).await?;
        self.left_branches.push_back(tip);
        if self.left_branches.len() > BRANCHES {
            self.left_branches.pop_front();
        }
        self.snapshot.reorgs += u64::from(!returning);
        tracing::warn!(network = %self.network.name, block = place, old_hash = ?old.hash, new_hash = ?new_hash,
            rewound_to = shared, returning,
            "reorganisation of processed blocks: what it undoes is computed again from the chain");
        self.go_back(shared);
        Ok(())
    }

    /// Whether the node's branch is one that was left: it has the block at which that was done.
    async fn is_left_branch(&self, source: &Source) -> Result<bool, Trouble> {
        let tips: Vec<_> = self.left_branches.iter().filter(|tip| tip.number <= source.head.number).collect();
        let numbers: Vec<u64> = tips.iter().map(|tip| tip.number).collect();
        let headers = source.headers(&numbers).await?;
        Ok(tips.iter().zip(headers).any(|(tip, header)| tip.hash == header.block.hash))
    }

    /// Takes the ledger back to a block, or to the beginning where the journal does not reach that far.
    pub(super) fn go_back(&mut self, block: Option<u64>) {
        let Some(block) = block.filter(|block| self.ledger.rewind(*block)) else {
            // A beginning that was found, and was wrong, is not looked for again.
            self.begin_anew(if self.reread { self.first_block } else { self.network.start_block });
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
