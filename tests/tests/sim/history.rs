//! A history is a function of its parameters, of the calls by hand and of the reorganisations.

use tesseract_tests::sim::{Call, Chain, Params, RawLog, Regular, Revert, Variant};
use web3::types::H256;

const VARIANTS: [Variant; 3] = [Variant::Simple, Variant::Buffer, Variant::Mixed];

fn params(variant: Variant, seed: u64) -> Params {
    Params { seed, variant, incidents_per_day: 48, ..Params::default() }
}

fn logs(chain: &Chain) -> Vec<(u64, u64, RawLog)> {
    chain.logs(0..=chain.head()).map(|log| (log.block, log.index, log.raw)).collect()
}

fn grown(params: Params, blocks: u64) -> Chain {
    let mut chain = Chain::new(params);
    chain.advance(blocks);
    chain
}

#[test]
fn the_same_parameters_give_the_same_history() {
    for variant in VARIANTS {
        let at_once = grown(params(variant, 7), 3000);
        let mut bit_by_bit = Chain::new(params(variant, 7));
        for _ in 0..30 {
            bit_by_bit.advance(100);
        }
        assert_eq!(logs(&at_once), logs(&bit_by_bit));
        assert_ne!(logs(&at_once), logs(&grown(params(variant, 8), 3000)));
    }
}

/// Quiet blocks are passed over, wherever an advance or a reorganisation begins.
#[test]
fn regular_traffic_is_as_announced_however_it_is_mined() {
    let regular = Regular { every: 10, buffered: 5, resolved_after: Some(1) };
    let params = Params { regular: Some(regular), ..Params::default() };
    let at_once = grown(params.clone(), 1005);
    let mut bit_by_bit = Chain::new(params.clone());
    (0..1005).for_each(|_| bit_by_bit.advance(1));
    assert_eq!(logs(&at_once), logs(&bit_by_bit));
    assert_eq!((at_once.head(), at_once.transaction_count(1005), at_once.log_count()), (1005, 500, 995));
    assert!(logs(&at_once).iter().all(|(block, ..)| block.is_multiple_of(10)));
    let mut reorganised = at_once;
    reorganised.reorg(7);
    assert_eq!((reorganised.head(), reorganised.log_count()), (1005, 995));
    assert_ne!(logs(&reorganised), logs(&bit_by_bit));

    let mut parked =
        Chain::new(Params { regular: Some(Regular { resolved_after: None, ..regular }), ..params });
    parked.advance(100);
    assert_eq!((parked.transaction_count(100), parked.log_count()), (50, 50));
}

/// A changed generator, library or rule would change every recorded seed without a word.
#[test]
fn a_seed_means_the_same_history_for_ever() {
    let digests = VARIANTS.map(|variant| {
        let mut bytes = Vec::new();
        for (block, index, raw) in logs(&grown(params(variant, 42), 5000)) {
            bytes.extend([block.to_be_bytes(), index.to_be_bytes()].concat());
            raw.topics.iter().for_each(|topic| bytes.extend(topic.as_bytes()));
            bytes.extend(raw.data);
        }
        format!("{:x}", H256(web3::signing::keccak256(&bytes)))
    });
    assert_eq!(
        digests,
        [
            "e12c2b63d43d5454bf883d29d6c3c53ef76fbee838ca79e74cc8978083acf708",
            "62e8d506ac6a4b9e4ac9d3ba2e348f1796793d41c47d33d0889a3762a01c777f",
            "f8c8ff6143daa3d59c1bcd309c2b952349c2c37a42e0d5b5b16c1b15fd53fd63",
        ]
    );
}

#[test]
fn a_reorganisation_replaces_the_last_blocks_and_nothing_else() {
    for variant in VARIANTS {
        let before = grown(params(variant, 5), 4000);
        // 1 and 3 lie behind a checkpoint, 200 spans several, 3900 reaches back to the start.
        for depth in [1, 3, 200, 3900] {
            let mut after = grown(params(variant, 5), 4000);
            after.reorg(depth);
            let fork = 4000 - depth;
            assert_eq!(after.head(), 4000);
            for height in [0, fork / 2, fork] {
                assert_eq!(after.hash(height), before.hash(height));
                assert_eq!(after.views(height), before.views(height));
                assert_eq!(after.transaction_count(height), before.transaction_count(height));
            }
            for height in [fork + 1, 4000] {
                assert_ne!(after.hash(height), before.hash(height));
                assert_eq!(after.height(before.hash(height)), None, "an orphan is not on the chain");
            }
            let kept = |chain: &Chain| chain.logs(0..=fork).collect::<Vec<_>>();
            let replaced = |chain: &Chain| chain.logs(fork + 1..=4000).collect::<Vec<_>>();
            assert_eq!(kept(&after), kept(&before));
            if depth >= 200 {
                assert_ne!(replaced(&after), replaced(&before));
            }
        }
    }
}

#[test]
fn a_fork_shares_some_transactions_with_the_other_branch() {
    let before = grown(params(Variant::Simple, 5), 4000);
    let mut after = grown(params(Variant::Simple, 5), 4000);
    after.reorg(300);
    let ids = |chain: &Chain| {
        chain.logs(3701..=4000).filter(|log| log.raw.topics.len() == 4).map(|log| log.raw.topics[1]).collect()
    };
    let (old, new): (Vec<H256>, Vec<H256>) = (ids(&before), ids(&after));
    let shared = new.iter().filter(|id| old.contains(id)).count();
    assert!(shared > new.len() / 4 && shared < new.len() * 3 / 4, "{shared} of {}", new.len());
}

#[test]
fn reorganisations_one_on_another_replay_too() {
    let twice = || {
        let mut chain = grown(params(Variant::Buffer, 9), 1000);
        chain.reorg(50);
        chain.advance(300);
        chain.reorg(600);
        chain.advance(20);
        chain.reorg(5);
        chain
    };
    let (one, other) = (twice(), twice());
    assert_eq!(logs(&one), logs(&other));
    assert_eq!(one.hash(1320), other.hash(1320));
    // Growing on gives what a chain without checkpoints would: its own history, from the start.
    let mut replayed = twice();
    replayed.reorg(0);
    assert_eq!(logs(&replayed), logs(&one));
}

#[test]
fn calls_by_hand_are_replayed_below_a_fork_and_gone_above_it() {
    let quiet = Params { buffered_per_hour: 0, incidents_per_day: 0, ..params(Variant::Buffer, 1) };
    let mut chain = grown(quiet, 100);
    chain.call(Call::SetWindow(60)).unwrap();
    chain.advance(9);
    chain.call(Call::Pause).unwrap();
    assert_eq!(
        chain.call(Call::Buffer { tx_id: H256::zero(), scheduled: 0.into(), dependency: None }),
        Err(Revert("Paused"))
    );
    chain.reorg(5);
    let views = chain.views(chain.head()).unwrap();
    assert!(!views.paused, "the pause was in a replaced block");
    assert_eq!(views.window, 60, "the window was not");
    assert_eq!(chain.views(100).unwrap().window, 30);
}
