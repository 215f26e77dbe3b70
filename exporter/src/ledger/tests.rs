//! The ledger against a naive model that looks at every block from the beginning.

mod naive;

use std::collections::HashMap;

use proptest::prelude::*;
use web3::types::{H160, H256, U256};

use super::*;
use crate::plan::{self, Limits};
use crate::state;
use naive::{Truth, naive};

const GENESIS: u64 = 1000;

/// Schedules at the edges of 64 and of 256 bits, with and without a window of 30 s.
const EDGES: [U256; 8] = [
    U256::MAX,
    U256([u64::MAX - 30, u64::MAX, u64::MAX, u64::MAX]),
    U256([0, 0, 0, 1 << 63]),
    U256([7, 1, 0, 0]),
    U256([0, 1, 0, 0]),
    U256([u64::MAX, 0, 0, 0]),
    U256([u64::MAX - 30, 0, 0, 0]),
    U256([0; 4]),
];

fn id(n: u8) -> H256 {
    H256::repeat_byte(n)
}

fn at(number: u64, time: u64) -> BlockRef {
    BlockRef { number, time, hash: H256::from_low_u64_be(number), ..BlockRef::default() }
}

/// Logged by an Ethereum transaction of its own.
fn logged(event: Event) -> Logged {
    let tx_hash = match &event {
        Event::Buffered { tx_id, .. } | Event::Ready { tx_id } | Event::Failed { tx_id, .. } => {
            H256(tx_id.0.map(|byte| !byte))
        }
        Event::Other { .. } | Event::Undecodable { .. } => H256::zero(),
    };
    Logged { tx_hash, event }
}

fn buffered(n: u8, scheduled: U256, frozen: bool) -> Logged {
    logged(Event::Buffered { tx_id: id(n), origin: H160::zero(), target: H160::zero(), scheduled, frozen })
}

fn ready(n: u8) -> Logged {
    logged(Event::Ready { tx_id: id(n) })
}

fn failed(n: u8, class: Reason) -> Logged {
    logged(Event::Failed { tx_id: id(n), reason: class.label().to_owned(), class })
}

/// What happens in a block: events as transaction, kind, schedule and form, the time since the block before,
/// and a number that now and then becomes the window.
type Draft = (Vec<(u8, u8, u64, bool)>, u64, u64);

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let event = (0..24_u8, 0..8_u8, 0..90_u64, any::<bool>());
    let block = (
        proptest::collection::vec(event, 0..4),
        0..25_u64,
        prop_oneof![5..40_u64, Just(30), Just(1 << 29), Just((1 << 29) - 5), Just(u64::MAX)],
    );
    proptest::collection::vec(block, 1..40)
}

fn history() -> impl Strategy<Value = Vec<Block>> {
    drafts().prop_map(|drafts| blocks(&drafts))
}

/// Buffered at most once and ready at most once for each transaction, as the contract assures. The same
/// first drafts make the same first blocks.
fn blocks(drafts: &[Draft]) -> Vec<Block> {
    let (mut seen, mut closed) = (HashMap::new(), HashMap::new());
    let mut time = GENESIS;
    let mut window = 30;
    let mut history = Vec::new();
    for (number, (events, pause, new_window)) in (1..).zip(drafts) {
        time += pause;
        if new_window % 5 == 0 {
            window = *new_window;
        }
        let events = events.iter().filter_map(|&(n, kind, offset, frozen)| match kind {
            0..3 => seen.insert(n, ()).is_none().then(|| {
                let scheduled = match offset {
                    // Every edge of what fits, and deadlines that fit although the schedule does, or not.
                    0..8 => EDGES[offset as usize],
                    _ => U256::from(time + offset - 30),
                };
                buffered(n, scheduled, frozen)
            }),
            3 | 4 => closed.insert(n, ()).is_none().then(|| ready(n)),
            5 => Some(failed(n, Reason::Expired)),
            6 => Some(failed(n, Reason::SwapGroupTimeout)),
            _ => Some(failed(n, Reason::Dependency)),
        });
        let events = events.collect();
        history.push(Block { number, time, window: Some(window.into()), guessed: false, events });
    }
    history
}

fn apply(ledger: &mut Ledger, blocks: &[Block]) {
    if let Some(last) = blocks.last() {
        ledger.apply(&[], blocks, at(last.number, last.time));
    }
}

/// What the naive model tells as well.
fn shown(ledger: &Ledger) -> Truth {
    let newest = ledger.newest();
    Truth {
        buffered: ledger.counts().buffered,
        settled: ledger.counts().settled,
        pending: ledger.pending(),
        oldest: ledger.oldest_pending(),
        next: ledger.next_deadline(),
        failures: newest.failures.iter().map(|it| (it.tx_id, it.class, it.timestamp)).collect(),
        expiries: newest.expiries.iter().map(|it| (it.tx_id, it.tx_hash, it.deadline)).collect(),
    }
}

/// Everything that is exposed of a ledger.
fn exposed(ledger: &Ledger) -> impl PartialEq + std::fmt::Debug + use<> {
    (ledger.block(), ledger.counts().clone(), ledger.newest().clone(), shown(ledger))
}

proptest! {
    #[test]
    fn agrees_with_the_naive_model_and_buffered_is_settled_plus_pending(history in history()) {
        let mut ledger = Ledger::default();
        for n in 0..history.len() {
            apply(&mut ledger, &history[n..=n]);
            prop_assert_eq!(shown(&ledger), naive(&history[..=n]));
            let counts = ledger.counts();
            prop_assert_eq!(counts.buffered, counts.settled.iter().sum::<u64>() + ledger.pending());
        }
    }

    #[test]
    fn steps_of_any_size_give_the_same(history in history(), cuts in proptest::collection::vec(1..9_usize, 40)) {
        let (mut whole, mut pieces) = (Ledger::default(), Ledger::default());
        apply(&mut whole, &history);
        let mut rest = &history[..];
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            apply(&mut pieces, piece);
            rest = after;
        }
        apply(&mut pieces, rest);
        prop_assert_eq!(exposed(&whole), exposed(&pieces));
    }

    #[test]
    fn blocks_without_events_may_be_left_out(history in history(), keep in proptest::collection::vec(any::<bool>(), 40)) {
        let (mut whole, mut thin) = (Ledger::default(), Ledger::default());
        apply(&mut whole, &history);
        let is_kept = |place: usize| {
            let (block, next) = (&history[place], history.get(place + 1));
            // As `Ledger::apply` and `Ledger::doubts` ask for them.
            let decides = |next: &Block| next.window != block.window || !next.events.is_empty();
            keep[place] || !block.events.is_empty() || next.is_none_or(decides)
        };
        let kept: Vec<Block> =
            (0..history.len()).filter(|place| is_kept(*place)).map(|place| history[place].clone()).collect();
        apply(&mut thin, &kept);
        prop_assert_eq!(exposed(&whole), exposed(&thin));
    }

    #[test]
    fn a_rewind_leaves_no_trace(old in history(), new in history(), keep in 0..40_usize) {
        let keep = keep.min(old.len());
        let (mut straight, mut winding) = (Ledger::default(), Ledger::default());
        for block in old.iter().take(keep) {
            apply(&mut straight, std::slice::from_ref(block));
        }
        for block in &old {
            apply(&mut winding, std::slice::from_ref(block));
        }
        prop_assume!(keep > 0);
        prop_assert!(winding.rewind(keep as u64));
        prop_assert_eq!(exposed(&straight), exposed(&winding));
        apply(&mut straight, &new);
        apply(&mut winding, &new);
        prop_assert_eq!(exposed(&straight), exposed(&winding));
    }

    #[test]
    fn a_life_of_reorganisations_agrees_with_the_naive_model(
        lives in proptest::collection::vec((drafts(), 0..60_usize, 1..50_u64, 0..4_u64), 1..6),
    ) {
        let (mut ledger, mut drafts) = (Ledger::default(), Vec::new());
        for (branch, depth, limit, confirmations) in lives {
            drafts.truncate(drafts.len().saturating_sub(depth));
            let shared = drafts.len() as u64;
            drafts.extend(branch);
            let chain = blocks(&drafts);
            if ledger.block().is_some_and(|block| block.number > shared) {
                let boundary = ledger.boundaries().map(|block| block.number).find(|number| *number <= shared);
                if !boundary.is_some_and(|number| ledger.rewind(number)) {
                    ledger = Ledger::default();
                }
            }
            let at = |ledger: &Ledger| ledger.block().map_or(0, |block| block.number);
            let head = chain.len() as u64;
            let next = |at: u64| plan::next(at + 1, head.saturating_sub(confirmations), head, Limits { blocks: limit, parts: 1, headers: 100 }, 64);
            while let Some(fetch) = next(at(&ledger)) {
                apply(&mut ledger, &chain[*fetch.blocks.start() as usize - 1..*fetch.blocks.end() as usize]);
            }
            let chain = &chain[..at(&ledger) as usize];
            prop_assert_eq!(shown(&ledger), naive(chain));
            let mut straight = Ledger::default();
            apply(&mut straight, chain);
            prop_assert_eq!(exposed(&straight), exposed(&ledger));
        }
    }

    #[test]
    fn a_saved_ledger_goes_on_alike(first in history(), second in history()) {
        let mut ledger = Ledger::default();
        apply(&mut ledger, &first);
        let mut loaded = state::tests::saved_and_loaded(&ledger);
        prop_assert_eq!(exposed(&ledger), exposed(&loaded));
        apply(&mut ledger, &second);
        apply(&mut loaded, &second);
        prop_assert_eq!(exposed(&ledger), exposed(&loaded));
    }

    #[test]
    fn held_counts_never_fall_and_stay_cumulative(old in history(), new in history()) {
        let (mut before, mut after) = (Ledger::default(), Ledger::default());
        apply(&mut before, &old);
        apply(&mut after, &new);
        let (floor, truth) = (before.counts(), after.counts());
        let raised = truth.at_least(floor);
        prop_assert!(raised.buffered >= floor.buffered && raised.buffered >= truth.buffered);
        let cumulative = |histogram: &Histogram| {
            histogram.buckets.iter().scan(0, |sum, n| { *sum += n; Some(*sum) }).collect::<Vec<_>>()
        };
        for ((raised, floor), truth) in cumulative(&raised.resolution_time)
            .into_iter()
            .zip(cumulative(&floor.resolution_time))
            .zip(cumulative(&truth.resolution_time))
        {
            prop_assert_eq!(raised, floor.max(truth));
        }
        prop_assert_eq!(&truth.at_least(truth), truth);
    }
}

fn block(number: u64, time: u64, window: u64, events: Vec<Logged>) -> Block {
    Block { number, time, window: Some(window.into()), guessed: false, events }
}

#[test]
fn a_simple_deadline_follows_the_window_and_a_frozen_one_does_not() {
    let mut ledger = Ledger::default();
    let both = vec![buffered(1, 1100.into(), false), buffered(2, 1100.into(), true)];
    ledger.apply(&[], &[block(1, 1000, 30, both), block(2, 1131, 300, vec![])], at(2, 1131));
    assert_eq!(ledger.counts().settled, [0, 1, 0]);
    assert_eq!(ledger.next_deadline(), Some(1400.into()));
    ledger.apply(&[], &[block(3, 1400, 300, vec![ready(1)])], at(3, 1400));
    assert_eq!(ledger.counts().settled, [1, 1, 0]);
}

#[test]
fn a_late_ready_is_measured_and_changes_no_outcome() {
    let mut ledger = Ledger::default();
    ledger.apply(&[], &[block(1, 1000, 30, vec![buffered(1, 1300.into(), false)])], at(1, 1000));
    ledger.apply(&[], &[block(2, 1331, 30, vec![])], at(2, 1331));
    ledger.apply(&[], &[block(3, 1340, 300, vec![ready(1)])], at(3, 1340));
    let counts = ledger.counts();
    assert_eq!((counts.ready, counts.settled), (1, [0, 1, 0]));
    assert_eq!((counts.resolution_time.sum, counts.resolution_delay.sum), (340, 40));
    let exemplar = Exemplar { tx_id: id(1), value: 40, timestamp: 1340 };
    assert_eq!(counts.resolution_delay.exemplars[6], Some(exemplar));
}

#[test]
fn a_schedule_beyond_all_time_never_expires() {
    let mut ledger = Ledger::default();
    ledger.apply(&[], &[block(1, 1000, 300, vec![buffered(1, U256::MAX, true)])], at(1, 1000));
    ledger.apply(&[], &[block(2, u64::MAX, 300, vec![])], at(2, u64::MAX));
    assert_eq!((ledger.pending(), ledger.next_deadline()), (1, Some(U256::MAX)));
}

#[test]
fn what_was_never_buffered_is_counted_and_settles_nothing() {
    let mut ledger = Ledger::default();
    let events = vec![ready(1), failed(2, Reason::SwapGroupTimeout), failed(3, Reason::Expired)];
    ledger.apply(&[], &[block(1, 1000, 30, events)], at(1, 1000));
    let counts = ledger.counts();
    assert_eq!((counts.ready, counts.failed, counts.settled), (1, [1, 0, 1, 0], [0; 3]));
    assert_eq!(counts.resolution_time, Histogram::default());
}

#[test]
fn a_timeout_after_a_ready_changes_no_outcome() {
    let mut ledger = Ledger::default();
    let events = vec![buffered(1, 900.into(), true), ready(1), failed(1, Reason::SwapGroupTimeout)];
    ledger.apply(&[], &[block(1, 910, 30, events)], at(1, 910));
    assert_eq!((ledger.counts().settled, ledger.pending()), ([1, 0, 0], 0));
}

#[test]
fn the_journal_is_bounded_and_says_where_it_ends() {
    let mut ledger = Ledger::default();
    for number in 1..=1000 {
        ledger.apply(&[], &[block(number, number, 30, vec![])], at(number, number));
    }
    assert!(!ledger.rewind(700));
    assert!(ledger.rewind(800));
    assert_eq!(ledger.block().map(|block| block.number), Some(800));
}

/// A block whose window was taken from elsewhere.
fn guess(number: u64, time: u64, events: Vec<Logged>) -> Block {
    Block { guessed: true, ..block(number, time, 30, events) }
}

#[test]
fn doubts_are_raised_where_the_window_decides_and_nowhere_else() {
    let ledger = Ledger::default();
    let opening = vec![buffered(1, 1000.into(), true), buffered(2, 1000.into(), false)];
    let ready = vec![ready(1), ready(2)];
    let doubts = |time, all| {
        ledger.doubts(&[guess(5, 1000, opening.clone()), guess(9, time, ready.clone())], all).blocks
    };
    assert_eq!(doubts(1030, true), BTreeSet::new());
    assert_eq!(doubts(1031, false), BTreeSet::from([5, 8, 9]));
    let waiting =
        |time, all| ledger.doubts(&[guess(5, 1000, opening.clone()), guess(9, time, vec![])], all).blocks;
    assert_eq!(waiting(1030, false), BTreeSet::new());
    assert_eq!(waiting(1031, false), BTreeSet::from([5]));
    assert_eq!(waiting(1030, true), BTreeSet::from([5]));
}

#[test]
fn a_guessed_deadline_is_read_before_it_decides() {
    let mut ledger = Ledger::default();
    ledger.apply(&[], &[guess(5, 1000, vec![buffered(1, 1000.into(), true)])], at(5, 1000));
    let next = [guess(9, 1040, vec![])];
    let expected = Doubts { blocks: BTreeSet::new(), buffered_before: vec![(id(1), 5)] };
    assert_eq!(ledger.doubts(&next, false), expected);
    ledger.apply(&[(id(1), WindowRead::Known(Some(60.into())))], &next, at(9, 1040));
    assert_eq!((ledger.pending(), ledger.next_deadline()), (1, Some(1060.into())));
    assert_eq!(ledger.doubts(&[guess(10, 1050, vec![])], true), Doubts::default());
    assert!(ledger.rewind(5));
    assert_eq!(ledger.next_deadline(), Some(1030.into()));
}

#[test]
fn a_guess_that_no_node_can_mend_is_not_asked_for_again_until_it_decides() {
    let mut ledger = Ledger::default();
    ledger.apply(&[], &[guess(5, 1000, vec![buffered(1, 1000.into(), true)])], at(5, 1000));
    let asked = Doubts { blocks: BTreeSet::new(), buffered_before: vec![(id(1), 5)] };
    assert_eq!(ledger.doubts(&[guess(6, 1001, vec![])], true), asked);
    ledger.apply(&[(id(1), WindowRead::NoState)], &[guess(6, 1001, vec![])], at(6, 1001));
    assert_eq!(ledger.doubts(&[guess(7, 1030, vec![])], true), Doubts::default());
    assert_eq!(ledger.doubts(&[guess(7, 1031, vec![])], false), asked);
    ledger.apply(&[(id(1), WindowRead::Known(Some(60.into())))], &[guess(7, 1031, vec![])], at(7, 1031));
    assert_eq!(ledger.next_deadline(), Some(1060.into()));
}

#[test]
fn what_expired_is_returned_once_with_its_buffering_in_the_order_of_deadlines() {
    let mut ledger = Ledger::default();
    let events =
        vec![buffered(1, 1020.into(), false), buffered(2, 1010.into(), true), buffered(3, 1030.into(), true)];
    assert_eq!(ledger.apply(&[], &[block(1, 1000, 30, events)], at(1, 1000)), []);
    let expired = ledger.apply(&[], &[block(2, 1055, 30, vec![failed(3, Reason::Expired)])], at(2, 1055));
    let expected = |n, deadline| Expired { tx_id: id(n), tx_hash: id(!n), deadline, block: 2 };
    assert_eq!(expired, [expected(3, 1055), expected(2, 1040), expected(1, 1050)]);
    assert_eq!(ledger.apply(&[], &[block(3, 2000, 30, vec![failed(1, Reason::Expired)])], at(3, 2000)), []);
    assert!(ledger.rewind(1));
    assert_eq!(*ledger.newest(), Arc::default());
    let expired = ledger.apply(&[], &[block(2, 1041, 30, vec![])], at(2, 1041));
    assert_eq!(expired, [expected(2, 1040)]);
}

#[test]
fn a_shorter_window_makes_old_deadlines_the_newest_expiries() {
    let mut ledger = Ledger::default();
    let events =
        |numbers: std::ops::Range<u8>, frozen| numbers.map(|n| buffered(n, 1000.into(), frozen)).collect();
    let ids = |ledger: &Ledger| ledger.newest().expiries.iter().map(|it| it.tx_id).collect::<Vec<_>>();
    // Those of the long form expire at 1040. The others, whose deadline becomes 1005 after that, are newer.
    ledger.apply(&[], &[block(1, 1000, 300, events(0..4, false))], at(1, 1000));
    ledger.apply(&[], &[block(2, 1010, 40, events(4..20, true)), block(3, 1041, 300, vec![])], at(3, 1041));
    assert_eq!(ids(&ledger), (4..20).map(id).collect::<Vec<_>>());
    ledger.apply(&[], &[block(4, 1060, 5, vec![])], at(4, 1060));
    assert_eq!(ids(&ledger), (8..20).chain(0..4).map(id).collect::<Vec<_>>());
}
