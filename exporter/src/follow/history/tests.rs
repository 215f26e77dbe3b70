//! Where a range is placed, and what a rewind leaves.

use super::*;
use crate::decode::{Event, Logged};
use crate::follow::verify::EventBlock;

const PATIENT: Rules = Rules { patient: true, trusts_blooms: true, grants_roles: false };

fn block(number: u64, branch: u64) -> BlockRef {
    let hash = |number: u64| H256::from_low_u64_be(branch * 1000 + number);
    BlockRef { number, hash: hash(number), parent: hash(number.wrapping_sub(1)), time: number * 2 }
}

/// A range of a branch with this many buffered events in its last block, of which the contract counts `count`.
fn range(blocks: std::ops::RangeInclusive<u64>, branch: u64, events: u64, count: Option<u64>) -> ProvenRange {
    let (first, last) = (block(*blocks.start(), branch), block(*blocks.end(), branch));
    let buffered = |index: u64| Logged {
        tx_hash: H256::zero(),
        event: Event::Buffered {
            tx_id: H256::from_low_u64_be(last.number * 100 + index),
            origin: Default::default(),
            target: Default::default(),
            scheduled: 1.into(),
            frozen: false,
        },
    };
    let events =
        EventBlock { number: last.number, time: last.time, events: (0..events).map(buffered).collect() };
    ProvenRange {
        first,
        last,
        near_head: false,
        logs: events.events.len(),
        answered: events.events.len(),
        blocks: vec![events],
        blooms: crate::follow::memory::Blooms::default(),
        unmatched: None,
        witness: crate::proof::Witness::OneEndpoint,
        window: Reading::Unavailable,
        count: count.map_or(Reading::Unavailable, |count| Reading::Known(Some(count.into()))),
    }
}

fn extend(history: &mut History, range: &ProvenRange) -> Option<CountCheck> {
    let block = |of: &EventBlock| crate::ledger::Block {
        number: of.number,
        time: of.time,
        window: None,
        guessed: false,
        events: of.events.clone(),
    };
    let blocks = range.blocks.iter().map(block).collect();
    history.extend(range, &Resolved { blocks, buffered_before: Vec::new() }, None).difference
}

/// A history from block 5 to 9 with 2 events.
fn history(start_block: Option<u64>) -> History {
    let mut history = History::new(start_block);
    history.first_block = Some(5);
    history.count_check = Some(CountCheck { block: 4, missing: 0 });
    assert_eq!(extend(&mut history, &range(5..=9, 1, 2, Some(2))), None);
    history
}

#[test]
fn a_range_is_placed_by_its_hash_its_count_and_its_blooms() {
    let gap = |missing_before| Gap { first: 10, last: 12, logs: 1, missing_before };
    for (name, range, patient, trusts, placement) in [
        ("follows", range(10..=12, 1, 1, Some(3)), true, true, Placement::Next { gap: None }),
        ("no count", range(10..=12, 1, 1, None), true, true, Placement::Next { gap: None }),
        ("another branch", range(10..=12, 2, 1, Some(3)), true, true, Placement::Diverged { at: 9 }),
        (
            "one is missing",
            range(10..=12, 1, 1, Some(4)),
            true,
            true,
            Placement::Wait(Missing::Counted { block: 12 }),
        ),
        (
            "and did not come",
            range(10..=12, 1, 1, Some(4)),
            false,
            true,
            Placement::Next { gap: Some(gap(Some(0))) },
        ),
        (
            "a bloom hits",
            ProvenRange { unmatched: Some(11), ..range(10..=12, 1, 1, Some(3)) },
            true,
            true,
            Placement::Wait(Missing::Bloom { block: 11 }),
        ),
        (
            "of an endpoint whose blooms mislead",
            ProvenRange { unmatched: Some(11), ..range(10..=12, 1, 1, Some(3)) },
            true,
            false,
            Placement::Next { gap: Some(gap(Some(0))) },
        ),
    ] {
        assert_eq!(
            history(Some(5)).place(&range, Rules { patient, trusts_blooms: trusts, ..PATIENT }),
            placement,
            "{name}"
        );
    }
}

#[test]
fn a_difference_of_unknown_origin_has_the_history_read_once_more() {
    let one_missing = range(5..=9, 1, 1, Some(2));
    // So does one that lacks what a contract with roles logs when it is deployed.
    let mut roles = History::new(None);
    roles.begins_at(5);
    let none_missing = range(5..=9, 1, 1, Some(1));
    let with_roles = Rules { grants_roles: true, ..PATIENT };
    assert_eq!(roles.place(&none_missing, PATIENT), Placement::Next { gap: None });
    assert_eq!(roles.place(&none_missing, with_roles), Placement::Restart { from: Some(0) });
    let mut deployed = range(5..=5, 1, 1, Some(1));
    let index = crate::decode::OTHER_EVENTS.iter().position(|name| *name == "RoleGranted").unwrap();
    deployed.blocks[0].events[0].event = Event::Other { index, tx_id: None };
    deployed.count = Reading::Known(Some(0.into()));
    assert_eq!(roles.place(&deployed, with_roles), Placement::Next { gap: None });
    // A beginning that was found is not believed; one that was configured is.
    let mut found = History::new(None);
    found.begins_at(5);
    assert_eq!(found.place(&one_missing, PATIENT), Placement::Restart { from: Some(0) });
    found.mark_reread();
    let wait = Placement::Wait(Missing::Counted { block: 9 });
    assert_eq!(found.place(&one_missing, PATIENT), wait);
    let mut configured = History::new(Some(5));
    configured.begins_after(4, 0.into());
    assert_eq!(configured.place(&one_missing, PATIENT), wait);

    // Not compared right before the range: the difference may be older.
    let mut history = history(Some(5));
    extend(&mut history, &range(10..=12, 1, 1, None));
    let later = range(13..=15, 1, 0, Some(4));
    assert!(matches!(history.place(&later, PATIENT), Placement::Wait(_)));
    assert_eq!(
        history.place(&later, Rules { patient: false, ..PATIENT }),
        Placement::Restart { from: Some(5) }
    );
    history.mark_reread();
    assert!(matches!(
        history.place(&later, Rules { patient: false, ..PATIENT }),
        Placement::Next { gap: Some(_) }
    ));
}

#[test]
fn what_was_counted_before_the_beginning_is_no_difference() {
    let mut history = History::new(Some(10));
    history.begins_after(9, 7.into());
    let range = range(10..=12, 1, 1, Some(8));
    assert_eq!(history.place(&range, PATIENT), Placement::Next { gap: None });
    let check = extend(&mut history, &range);
    assert_eq!((check, history.count_check), (None, Some(CountCheck { block: 12, missing: 7 })));
}

#[test]
fn a_history_is_rewound_to_what_is_right_or_begun_anew() {
    for (to, rewound) in [
        (Some(9), Rewound::To(9)),
        (Some(7), Rewound::Restart { from: None }),
        (None, Rewound::Restart { from: None }),
    ] {
        let mut history = history(None);
        extend(&mut history, &range(10..=12, 1, 1, Some(3)));
        assert_eq!(history.rewind(to), rewound);
        let check = CountCheck { block: if rewound == Rewound::To(9) { 9 } else { 12 }, missing: 0 };
        assert_eq!(history.count_check, Some(check));
    }
    let mut wrong_beginning = history(None);
    wrong_beginning.mark_reread();
    assert_eq!(wrong_beginning.rewind(None), Rewound::Restart { from: Some(5) });
    wrong_beginning.restart(Some(5));
    assert_eq!((wrong_beginning.next_block(5), wrong_beginning.anchor), (5, None));
}

#[test]
fn what_was_not_compared_is_not_by_going_back() {
    let mut history = history(Some(5));
    for first in [10, 13] {
        extend(&mut history, &range(first..=first + 2, 1, 1, None));
    }
    assert_eq!(history.rewind(Some(12)), Rewound::To(12));
    assert_eq!(history.count_check, Some(CountCheck { block: 9, missing: 0 }));
}

#[test]
fn a_return_to_a_branch_is_told_once_by_where_it_was_left() {
    let mut history = history(None);
    let left = block(9, 1);
    assert!(history.left_branches(None, 20).is_empty());
    history.leave_branch(&[]);
    for (shared, head, decides) in
        [(None, 20, true), (Some(8), 9, true), (Some(9), 20, false), (Some(8), 8, false)]
    {
        let tips = history.left_branches(shared, head);
        assert_eq!(tips, if decides { vec![left] } else { vec![] }, "{shared:?} {head}");
    }
    extend(&mut history, &range(10..=12, 1, 1, None));
    history.leave_branch(&[left]);
    assert_eq!(history.left_branches(None, 20), [block(12, 1)]);
}

#[test]
fn a_chain_that_ends_lower_is_known_by_the_newest_block_both_have() {
    let mut history = history(None);
    extend(&mut history, &range(10..=12, 1, 1, Some(3)));
    for (head, known) in [(20, Some(12)), (12, Some(12)), (11, Some(9)), (8, Some(5)), (4, None)] {
        assert_eq!(history.known_hash(head).map(|(number, _)| number), known, "{head}");
    }
}

#[test]
fn a_gap_that_is_undone_gives_back_its_difference() {
    let mut history = history(Some(5));
    let lacking = range(10..=12, 1, 0, Some(3));
    let Placement::Next { gap } = history.place(&lacking, Rules { patient: false, ..PATIENT }) else {
        panic!("not placed")
    };
    let resolved = Resolved { blocks: Vec::new(), buffered_before: Vec::new() };
    let check = history.extend(&lacking, &resolved, gap).difference;
    assert_eq!(check, Some(CountCheck { block: 12, missing: 1 }));
    assert_eq!(history.rewind(Some(9)), Rewound::To(9));
    assert_eq!((history.gaps.len(), history.count_check.map(|check| check.missing)), (0, Some(0)));
}
