//! What a candidate asks for, and what it proves.

use web3::ethabi::ethereum_types::{Bloom, BloomInput};
use web3::types::H256;

use super::*;

fn header(number: u64) -> Header {
    let hash = H256::from_low_u64_be;
    let block = BlockRef { number, hash: hash(number), parent: hash(number - 1), time: number * 2 };
    Header { block, bloom: None }
}

fn log(block: u64, index: u64) -> Log {
    let topics = vec![*decode::topics().nth(index as usize).unwrap()];
    Log { block, index, topics, block_hash: H256::from_low_u64_be(block), ..Log::default() }
}

fn bloom(topics: usize) -> Bloom {
    let mut bloom = Bloom::default();
    bloom.accrue(BloomInput::Raw(H160::zero().as_bytes()));
    decode::topics().take(topics).for_each(|topic| bloom.accrue(BloomInput::Raw(topic.as_bytes())));
    bloom
}

fn candidate(logs: Vec<Log>, near_head: bool, bloom: Bloom) -> Candidate {
    let fetch = Fetch { blocks: 10..=20, part: 11, near_head };
    let headers = vec![header(10), Header { bloom: Some(bloom), ..header(20) }];
    let (window, count) = (Reading::Unavailable, Reading::Unavailable);
    Candidate::new(RawRange { fetch, headers, logs, text: None, window, count }, H160::zero(), false).unwrap()
}

#[test]
fn the_header_of_every_block_with_logs_is_wanted() {
    let mut candidate = candidate(vec![log(11, 0), log(11, 1), log(12, 0), log(20, 0)], false, bloom(0));
    assert_eq!(candidate.headers_wanted(), [11, 12]);
    candidate.add_headers(vec![header(11), header(12)]).unwrap();
    assert_eq!(candidate.headers_wanted(), [0; 0]);
    let times: Vec<_> = candidate.prove().unwrap().blocks.iter().map(|block| block.time).collect();
    assert_eq!(times, [22, 24, 40]);
}

#[test]
fn where_logs_are_missing_every_block_with_logs_is_doubtful() {
    let mut candidate = candidate(vec![log(20, 0)], true, bloom(1));
    assert!(candidate.doubtful().is_empty());
    candidate.thorough = true;
    assert_eq!(candidate.doubtful().len(), 1);
}

#[test]
fn a_range_without_its_ends_proves_nothing() {
    let fetch = Fetch { blocks: 10..=20, part: 11, near_head: false };
    let (window, count) = (Reading::Unavailable, Reading::Unavailable);
    let raw = RawRange { fetch, headers: vec![header(10)], logs: vec![], text: None, window, count };
    assert_eq!(Candidate::new(raw, H160::zero(), false).unwrap_err().0, "no header of block 20");
}

#[test]
fn a_log_of_an_orphaned_block_has_that_block_asked_for_by_its_hash() {
    let stale = Log { block_hash: H256::repeat_byte(7), ..log(12, 0) };
    let mut far = candidate(vec![stale.clone()], false, bloom(0));
    far.add_headers(vec![header(12)]).unwrap();
    let doubtful: Vec<_> = far.doubtful().iter().map(|header| header.block.number).collect();
    assert_eq!(doubtful, [12]);
    far.add_block(&header(12), vec![stale.clone(), log(12, 1)]).unwrap();
    assert!(far.doubtful().is_empty());
    assert_eq!(far.prove().unwrap().logs, 1);
    // In a second answer, too, also of a block whose header is known already.
    let mut far = candidate(vec![], false, bloom(0));
    far.add_second(vec![Log { block_hash: H256::repeat_byte(7), ..log(20, 0) }], true).unwrap();
    assert_eq!((far.doubtful().len(), far.prove().unwrap().logs), (1, 0));
    let mut near = candidate(vec![stale], true, bloom(0));
    let error = near.add_headers(vec![header(12)]).unwrap_err();
    assert_eq!(error.0, "logs and header of block 12 differ");
}

#[test]
fn a_bloom_hit_is_matched_by_logs_of_its_kind_or_left_unmatched_unless_it_is_by_chance() {
    for (bloom, before, by_hash, doubtful, unmatched) in [
        (bloom(1), vec![], vec![], true, Some(20)),
        (bloom(1), vec![], vec![log(20, 0)], true, None),
        (bloom(1), vec![log(20, 0)], vec![], false, None),
        // A part of the logs.
        (bloom(2), vec![log(20, 0)], vec![log(20, 0), log(20, 1)], true, None),
        // Another contract of the same kind.
        (bloom(2), vec![log(20, 0)], vec![log(20, 0)], true, None),
        // An event that is not known, beside that other contract.
        (bloom(1), vec![], vec![Log { topics: Vec::new(), ..log(20, 0) }], true, None),
        // By chance.
        (Bloom::repeat_byte(0xff), vec![], vec![], true, None),
        (Bloom::repeat_byte(0xff), vec![log(20, 0)], vec![], false, None),
    ] {
        let mut candidate = candidate(before, true, bloom);
        let blocks = candidate.doubtful();
        assert_eq!(blocks.len(), usize::from(doubtful), "{bloom:?}");
        for block in blocks {
            candidate.add_block(&block, by_hash.clone()).unwrap();
        }
        assert!(candidate.doubtful().is_empty());
        assert_eq!(candidate.prove().unwrap().unmatched, unmatched, "{bloom:?}");
    }
}

#[test]
fn a_range_is_the_word_of_one_endpoint_until_another_one_says_the_same() {
    for (near_head, second, witness) in [
        (false, None, Witness::OneEndpoint),
        (false, Some((vec![log(20, 0)], true)), Witness::TwoEndpoints),
        (false, Some((vec![log(20, 0)], false)), Witness::OneEndpoint),
        (false, Some((vec![], true)), Witness::OneEndpoint),
        (false, Some((vec![log(20, 0), log(20, 1)], true)), Witness::OneEndpoint),
        (true, None, Witness::Blooms(proof::counted(&[log(20, 0)]))),
    ] {
        let mut candidate = candidate(vec![log(20, 0)], near_head, bloom(0));
        let more = second.as_ref().map_or(1, |(logs, _)| logs.len().max(1));
        if let Some((logs, of_another)) = second {
            candidate.add_second(logs, of_another).unwrap();
        }
        let range = candidate.prove().unwrap();
        assert_eq!((range.witness, range.logs), (witness, more));
    }
}

#[test]
fn blooms_hold_or_are_broken_by_the_logs_that_came() {
    let nothing = bloom(0);
    let of = |bloom: Option<Bloom>| {
        let mut candidate = candidate(vec![log(11, 0), log(11, 1)], false, nothing);
        candidate.add_headers(vec![Header { bloom, ..header(11) }]).unwrap();
        candidate.prove().unwrap().blooms
    };
    assert_eq!(of(Some(bloom(2))), Blooms { held: 1, broken: false });
    assert_eq!(of(Some(bloom(1))), Blooms { held: 0, broken: true });
    assert_eq!(of(Some(Bloom::zero())), Blooms { held: 0, broken: true });
    assert_eq!(of(None), Blooms::default());
}
