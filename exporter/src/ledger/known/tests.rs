//! Packed records, index and heaps against a map that is searched from end to end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Numbers around every edge of the packing: 29, 32, 64 and 256 bits.
fn numbers() -> impl Strategy<Value = U256> {
    let edge = (prop_oneof![Just(29_u32), Just(32), Just(64), Just(255)], 0..3_u64);
    prop_oneof![
        (0..200_u64).prop_map(U256::from),
        edge.prop_map(|(bits, n)| (U256::one() << bits) - 1 + n),
        (0..3_u64).prop_map(|n| U256::MAX - n),
    ]
}

fn transactions() -> impl Strategy<Value = Transaction> {
    let deadline = prop_oneof![
        Just(Deadline::Floating),
        Just(Deadline::Never),
        numbers().prop_map(Deadline::Frozen),
        numbers().prop_map(Deadline::Guessed),
        numbers().prop_map(Deadline::Assumed),
    ];
    let times = (any::<u64>(), prop_oneof![0..50_u64, Just(u64::MAX)]);
    let pending = (times, numbers(), deadline).prop_map(|((block, buffered), scheduled, deadline)| {
        let tx_hash = H256::from_low_u64_be(block);
        Transaction::Pending(Pending { tx_hash, block, buffered, scheduled, deadline })
    });
    let settled = (any::<u64>(), any::<u64>());
    let settled = settled.prop_map(|(buffered, due)| Transaction::Settled(Settled { buffered, due }));
    prop_oneof![3 => pending, 1 => settled]
}

proptest! {
    #[test]
    fn agrees_with_a_map_that_is_searched_from_end_to_end(
        changes in proptest::collection::vec((0..60_u64, proptest::option::of(transactions())), 1..300),
        window in proptest::option::of(numbers()),
        time in prop_oneof![0..400_u64, Just(u64::MAX)],
    ) {
        let (mut known, mut model) = (Known::default(), BTreeMap::new());
        for (id, to) in changes {
            let id = H256::from_low_u64_be(id);
            let before = match to {
                Some(to) => model.insert(id, to),
                None => model.remove(&id),
            };
            prop_assert_eq!(known.set(id, to), before);
            let pending: Vec<(H256, Pending)> = model
                .iter()
                .filter_map(|(id, transaction)| match transaction {
                    Transaction::Pending(pending) => Some((*id, *pending)),
                    Transaction::Settled(_) => None,
                })
                .collect();
            let deadlines = pending.iter().filter_map(|(id, it)| Some((it.deadline(window)?, *id)));
            let next = deadlines.min();
            let mut waiting: Vec<_> =
                pending.iter().map(|(id, it)| Waiting::new(*id, it, window)).collect();
            waiting.sort_by_key(|it| (it.deadline.is_none(), it.deadline, it.tx_id));
            prop_assert_eq!(&known.waiting(window, 60)[..], &waiting[..]);
            // Where not all are wanted, the nearest deadlines are, whosesoever they are.
            let deadlines = |of: &[Waiting]| of.iter().filter_map(|it| it.deadline).take(5).collect::<Vec<_>>();
            prop_assert_eq!(deadlines(&known.waiting(window, 5)), deadlines(&waiting));
            prop_assert_eq!(known.pending(), pending.len() as u64);
            prop_assert_eq!(known.oldest_pending(), pending.iter().map(|(_, it)| it.buffered).min());
            prop_assert_eq!(known.next_deadline(window), next.map(|(deadline, _)| deadline));
            let late = next.filter(|(deadline, _)| *deadline < time.into());
            prop_assert_eq!(known.first_late(time, window), late.map(|(_, id)| id));
            for all in [false, true] {
                let mut found: Vec<_> = known.guessed(all, time).collect();
                found.sort_by_key(|(id, _)| *id);
                let is_asked = |it: &Pending| match it.deadline {
                    Deadline::Guessed(_) => all || it.is_late(time, None),
                    Deadline::Assumed(_) => it.is_late(time, None),
                    _ => false,
                };
                let expected: Vec<_> = pending.iter().filter(|(_, it)| is_asked(it)).copied().collect();
                prop_assert_eq!(found, expected);
            }
        }
        for (id, transaction) in &model {
            prop_assert_eq!(known.get(id), Some(*transaction));
        }
        let mut listed: Vec<_> = known.all_pending().map(|(id, it)| (id, Transaction::Pending(it))).collect();
        listed.extend(known.all_settled().map(|(id, it)| (id, Transaction::Settled(it))));
        prop_assert_eq!(listed.into_iter().collect::<BTreeMap<_, _>>(), model);
    }
}
