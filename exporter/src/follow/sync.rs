//! When the ledger has caught up with the chain, and whether chain and ledger can both be right: nothing
//! confirmed is shown before. Pure.

use std::time::Duration;

/// A head below the processed block is a lag for this long, and a contradiction afterwards.
const LONGEST_LAG: Duration = Duration::from_secs(30);

/// A chain that ends earlier than it did while it was caught up with is believed after this many cycles.
const LOW_TARGETS: u32 = 20;

/// The newest block that was confirmed while catching up, and how many cycles in a row ended below it.
///
/// A replica far behind, or one that is syncing itself, would end a first sync too early.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    highest_target: u64,
    low_targets: u32,
}

impl CatchUp {
    /// A cycle is to read up to this block.
    pub(super) fn saw_target(&mut self, target: u64) {
        self.highest_target = self.highest_target.max(target);
    }

    /// Whether a cycle that ended with everything read up to `target` has caught up.
    pub(super) fn has_caught_up(&mut self, target: u64) -> bool {
        self.low_targets = if target < self.highest_target { self.low_targets + 1 } else { 0 };
        let caught_up = target >= self.highest_target || self.low_targets >= LOW_TARGETS;
        if caught_up {
            (self.highest_target, self.low_targets) = (target, 0);
        }
        caught_up
    }
}

/// Whether a head can be that of the chain whose history was read.
#[derive(Debug, PartialEq)]
pub(super) enum Judgement {
    /// It can.
    Plausible,
    /// It is lower than what was read already, which a node that lags explains.
    Lagging,
    /// It cannot, for this reason.
    Contradiction(String),
}

/// Whether a head with nothing to read below it goes with a history that was `processed` so far, or is to
/// begin at `start_block`. `behind_for`: how long the head has been below the processed block.
pub(super) fn judge(
    head: u64,
    processed: Option<u64>,
    start_block: Option<u64>,
    behind_for: Option<Duration>,
) -> Judgement {
    let lag = LONGEST_LAG.as_secs();
    match (processed, start_block, behind_for) {
        (Some(_), _, Some(time)) if time < LONGEST_LAG => Judgement::Lagging,
        (Some(processed), _, Some(_)) => Judgement::Contradiction(format!(
            "head {head} is below the processed block {processed} for more than {lag} s: the endpoints are still \
             syncing, or serve another chain or an older copy of it; check them, or remove the saved state if the \
             chain was begun anew"
        )),
        (None, Some(start), _) if start > head => Judgement::Contradiction(format!(
            "start_block {start} is above the head {head}: nothing is followed until the chain gets there; \
             check `start_block`, `chain_id` and the endpoints"
        )),
        _ => Judgement::Plausible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_held_against_what_was_read() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (head, processed, start, behind, says) in [
            (10, None, None, None, None),
            (10, None, Some(10), None, None),
            (10, Some(8), Some(20), None, None),
            (10, None, Some(20), None, Some("start_block 20 is above the head 10")),
            (10, Some(50), None, seconds(30), Some("head 10 is below the processed block 50")),
        ] {
            match (judge(head, processed, start, behind), says) {
                (Judgement::Plausible, None) => {}
                (Judgement::Contradiction(why), Some(says)) => assert!(why.starts_with(says), "{why}"),
                (judgement, _) => panic!("{head}, {processed:?}, {start:?}: {judgement:?}"),
            }
        }
        assert_eq!(judge(10, Some(50), None, seconds(29)), Judgement::Lagging);
    }

    #[test]
    fn a_lower_target_is_believed_only_in_the_long_run() {
        let mut catch_up = CatchUp::default();
        catch_up.saw_target(100);
        for _ in 1..LOW_TARGETS {
            assert!(!catch_up.has_caught_up(90));
        }
        assert!(catch_up.has_caught_up(90));
        catch_up.saw_target(120);
        assert!(!catch_up.has_caught_up(119));
        assert!(catch_up.has_caught_up(120));
        assert!(!catch_up.has_caught_up(119));
    }
}
