//! What headers and logs are taken for, and what is refused.

use proptest::prelude::*;
use web3::ethabi::ethereum_types::BloomInput;

use super::*;

fn log(block: u64, index: u64) -> Log {
    Log { block, block_hash: H256::from_low_u64_be(block), index, ..Log::default() }
}

fn raw(json: &str) -> Raw {
    serde_json::value::RawValue::from_string(json.to_owned()).unwrap()
}

#[test]
fn noise_is_left_out_and_order_restored() {
    let foreign = Log { address: H160::repeat_byte(9), ..log(2, 0) };
    let answer = vec![log(3, 1), log(2, 1), log(3, 0), log(2, 1), log(9, 0), foreign];
    let places = |logs: Vec<Log>| logs.iter().map(|log| (log.block, log.index)).collect::<Vec<_>>();
    let arranged = arrange(answer, 1..=4, H160::zero()).unwrap();
    assert_eq!(places(arranged), [(2, 1), (3, 0), (3, 1)]);
}

#[test]
fn logs_counted_by_transaction_are_each_kept_in_the_order_of_their_transactions() {
    let of = |tx: u64, index| Log { tx_hash: H256::from_low_u64_be(tx), tx_index: tx, ..log(2, index) };
    let arranged = arrange(vec![of(7, 0), of(3, 1), of(3, 0), of(7, 0)], 1..=4, H160::zero()).unwrap();
    assert_eq!(arranged, [of(3, 0), of(3, 1), of(7, 0)]);
}

#[test]
fn one_place_holds_one_log() {
    let other = Log { data: Bytes(vec![1]), ..log(2, 0) };
    assert!(arrange(vec![log(2, 0), other], 1..=2, H160::zero()).is_err());
    // Which of two blocks is the right one is for its header to say.
    let orphaned = Log { block_hash: H256::repeat_byte(8), ..log(2, 0) };
    assert_eq!(arrange(vec![log(2, 0), orphaned], 1..=2, H160::zero()).unwrap().len(), 2);
}

#[test]
fn two_answers_are_united_however_their_logs_are_counted() {
    let of = |tx: u64, index| Log { tx_hash: H256::from_low_u64_be(tx), tx_index: tx, ..log(2, index) };
    // The same failure twice in one transaction.
    let ours = vec![of(1, 0), of(1, 1), of(2, 2)];
    let (logs, alike) = unite(ours.clone(), &[of(1, 0), of(1, 1), of(2, 0)]);
    assert_eq!((logs, alike), (ours.clone(), true));
    let (logs, alike) = unite(ours.clone(), &[of(1, 0)]);
    assert_eq!((logs, alike), (ours.clone(), false));
    let (logs, alike) = unite(vec![of(2, 2), of(1, 0)], &ours);
    assert_eq!((logs, alike), (ours, false));
}

#[test]
fn neighbours_must_be_of_one_branch() {
    let header = |number: u64, parent: u64| {
        let (hash, parent) = (H256::from_low_u64_be(number), H256::from_low_u64_be(parent));
        Header { block: BlockRef { number, hash, parent, time: 0 }, bloom: None }
    };
    assert!(linked([header(3, 2), header(4, 3), header(9, 7)].iter()).is_ok());
    assert_eq!(
        linked([header(3, 2), header(4, 2)].iter()).unwrap_err().to_string(),
        "block 4 does not follow from the one before"
    );
}

#[test]
fn a_bloom_hits_for_a_contract_with_a_topic() {
    let (contract, topic) = (H160::repeat_byte(1), H256::repeat_byte(2));
    let mut bloom = Bloom::default();
    bloom.accrue(BloomInput::Raw(contract.as_bytes()));
    bloom.accrue(BloomInput::Raw(topic.as_bytes()));
    let hits = |contract: H160, topic: H256| {
        let topic = BloomKey::of(topic.as_bytes());
        bloom_hits(&bloom, &BloomKey::of(contract.as_bytes()), std::iter::once(&topic))
    };
    assert!(hits(contract, topic));
    assert!(!hits(contract, H256::repeat_byte(4)));
    assert!(!hits(H160::repeat_byte(3), topic));
    assert!(false_positive_rate(&bloom, 14, false) < 1e-9);
    assert!(false_positive_rate(&bloom, 14, true) < 1e-5);
    assert!(false_positive_rate(&Bloom::repeat_byte(0x55), 14, false) > 0.1);
    assert!(false_positive_rate(&Bloom::repeat_byte(0xff), 14, false) > 0.99);
}

#[test]
fn a_log_is_taken_whatever_is_left_out_that_is_not_needed() {
    let with = |fields: &str| {
        let json = format!(r#"[{{"address":"0x{}","topics":[],"data":"0x"{fields}}}]"#, "0".repeat(40));
        logs(&raw(&json)).map(|logs| logs.len())
    };
    let zeros = "0".repeat(64);
    let block = format!(r#","blockNumber":"0x1","blockHash":"0x{zeros}""#);
    let transaction = format!(r#","logIndex":"0x0","transactionHash":"0x{zeros}""#);
    for (fields, taken) in [
        (format!("{block}{transaction}"), Ok(1)),
        (format!(r#"{block}{transaction},"removed":null,"transactionIndex":null"#), Ok(1)),
        (format!(r#"{block}{transaction},"removed":false,"blockTimestamp":[1,{{"":0}}]"#), Ok(1)),
        (format!(r#"{block}{transaction},"removed":true"#), Ok(0)),
        // Pending.
        (r#","blockNumber":null,"blockHash":null,"logIndex":null,"transactionHash":null"#.to_owned(), Ok(0)),
        (transaction.clone(), Ok(0)),
        (block.clone(), Err(())),
        (format!(r#"{block},"logIndex":"0x0","transactionHash":null"#), Err(())),
    ] {
        assert_eq!(with(&fields).map_err(|_| ()), taken, "{fields}");
    }
}

#[test]
fn a_block_beyond_any_is_refused() {
    let zeros = "0".repeat(64);
    let read = |number: u64, time: u64| {
        header(&raw(&format!(
            r#"{{"number":"{number:#x}","hash":"0x{zeros}","parentHash":"0x{zeros}","timestamp":"{time:#x}"}}"#
        )))
    };
    assert!(read((1 << 53) - 1, (1 << 53) - 1).is_ok());
    assert_eq!(
        read(u64::MAX, 7).unwrap_err().to_string(),
        "block 18446744073709551615 of time 7: expected numbers below 2^53"
    );
    assert!(read(7, 1 << 53).is_err());
}

#[test]
fn a_bloom_is_taken_only_where_it_is_one() {
    let with = |bloom: &str| {
        let zeros = "0".repeat(64);
        let json = format!(
            r#"{{"number":"0x1","hash":"0x{zeros}","parentHash":"0x{zeros}","timestamp":"0x1"{bloom}}}"#
        );
        header(&raw(&json)).unwrap().bloom.is_some()
    };
    assert!(with(&format!(r#","logsBloom":"0x{}""#, "01".repeat(256))));
    for bloom in
        ["", r#","logsBloom":null"#, r#","logsBloom":"0x""#, r#","logsBloom":"0x01""#, r#","logsBloom":[{}]"#]
    {
        assert!(!with(bloom), "{bloom}");
    }
    // An empty one is believed of a block without receipts alone.
    let empty = format!(r#","logsBloom":"0x{}""#, "00".repeat(256));
    let root = |root: &str| format!(r#"{empty},"receiptsRoot":"{root}""#);
    let none = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421";
    assert!(with(&root(none)));
    for bloom in [empty.clone(), root(&none.replace("56e8", "56e9")), root("0x")] {
        assert!(!with(&bloom), "{bloom}");
    }
}

#[test]
fn a_block_has_no_receipts_where_their_trie_is_empty() {
    // The empty trie is one empty string in RLP.
    assert_eq!(web3::signing::keccak256(&[0x80]), NO_RECEIPTS);
}

proptest! {
    #[test]
    fn a_key_is_in_the_blooms_that_it_was_added_to(added: Vec<[u8; 20]>, other: [u8; 20]) {
        let mut bloom = Bloom::default();
        for bytes in &added {
            bloom.accrue(BloomInput::Raw(bytes));
            prop_assert!(BloomKey::of(bytes).is_in(&bloom));
        }
        prop_assert_eq!(BloomKey::of(&other).is_in(&bloom), bloom.contains_input(BloomInput::Raw(&other)));
    }

    #[test]
    fn any_json_is_taken(text in "[\\[\\{\"a-z0-9x:,\\}\\]]*") {
        if let Ok(raw) = serde_json::value::RawValue::from_string(text) {
            let _ = (header(&raw), logs(&raw), quantity(&raw));
        }
    }
}
