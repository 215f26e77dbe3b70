//! Blocks and logs of a chain as a node tells them, and what proves an answer to be whole.
//!
//! Pure: parsing and checking only. Knows nothing of the events in the logs.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer};
use web3::ethabi::ethereum_types::{Bloom, BloomInput};
use web3::types::{Bytes, H160, H256, U64};

use crate::rpc::Raw;

/// A block's place in the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct BlockRef {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: H256,
    /// Hash of the block below.
    pub parent: H256,
    /// Block time, seconds since the Unix epoch.
    pub time: u64,
}

/// What is needed of a block's header.
#[derive(Clone, Debug)]
pub struct Header {
    /// Its place.
    pub block: BlockRef,
    /// Which addresses and topics may have logged in it; `None` where the node leaves it out or empty.
    pub bloom: Option<Bloom>,
}

/// A log as the node tells it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// The contract that logged.
    pub address: H160,
    /// The event's topic and its indexed parameters.
    pub topics: Vec<H256>,
    /// The other parameters.
    pub data: Bytes,
    block_number: U64,
    /// Hash of its block.
    pub block_hash: H256,
    /// Hash of the Ethereum transaction.
    pub transaction_hash: H256,
    log_index: U64,
    #[serde(default)]
    removed: bool,
    /// Only newer nodes tell it, and some as null; what cannot be read counts as absent.
    #[serde(default, deserialize_with = "quantity_if_any")]
    block_timestamp: Option<u64>,
}

impl Log {
    /// Number of its block.
    pub fn block(&self) -> u64 {
        self.block_number.as_u64()
    }

    /// Its place in the chain: block number and log index.
    pub fn position(&self) -> (u64, u64) {
        (self.block_number.as_u64(), self.log_index.as_u64())
    }

    /// Its block's time, where the node sent it.
    pub fn time(&self) -> Option<u64> {
        self.block_timestamp
    }
}

/// An answer that is not the whole truth about its blocks; asking again may help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incomplete(pub String);

impl std::fmt::Display for Incomplete {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A header, from the result of `eth_getBlockByNumber`.
pub fn header(raw: &Raw) -> Result<Header, Incomplete> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Block {
        number: U64,
        hash: H256,
        parent_hash: H256,
        timestamp: U64,
        #[serde(default)]
        logs_bloom: Option<Bloom>,
    }
    let block: Block = parse(raw, "a block")?;
    Ok(Header {
        block: BlockRef {
            number: block.number.as_u64(),
            hash: block.hash,
            parent: block.parent_hash,
            time: block.timestamp.as_u64(),
        },
        // Some chains leave every bloom empty: it then rules nothing out.
        bloom: block.logs_bloom.filter(|bloom| !bloom.is_empty()),
    })
}

/// Logs, from the result of `eth_getLogs`.
pub fn logs(raw: &Raw) -> Result<Vec<Log>, Incomplete> {
    parse(raw, "logs")
}

/// A quantity, from the result of `eth_chainId`.
pub fn quantity(raw: &Raw) -> Result<u64, Incomplete> {
    parse::<U64>(raw, "a number").map(|number| number.as_u64())
}

/// The logs of the contract in these blocks, in log order and each once; what nobody asked for is left out.
///
/// `headers` are those of the range that are known: the logs must be of the same blocks.
pub fn arrange(
    mut logs: Vec<Log>,
    blocks: std::ops::RangeInclusive<u64>,
    contract: H160,
    headers: &[Header],
) -> Result<Vec<Log>, Incomplete> {
    logs.retain(|log| log.address == contract && blocks.contains(&log.block()) && !log.removed);
    logs.sort_by_key(Log::position);
    logs.dedup_by(|a, b| {
        (a.block_hash, a.log_index, &a.topics, &a.data) == (b.block_hash, b.log_index, &b.topics, &b.data)
    });
    for pair in logs.windows(2) {
        let [a, b] = pair else { continue };
        if a.block_number == b.block_number && (a.block_hash != b.block_hash || a.log_index == b.log_index) {
            return Err(Incomplete(format!("logs of block {} contradict each other", a.block())));
        }
    }
    for header in headers {
        let of_block = |log: &&Log| log.block() == header.block.number;
        if logs.iter().filter(of_block).any(|log| log.block_hash != header.block.hash) {
            return Err(Incomplete(format!("logs and header of block {} differ", header.block.number)));
        }
    }
    Ok(logs)
}

/// Whether those of the headers that are neighbours are of one branch.
pub fn linked(headers: &[Header]) -> Result<(), Incomplete> {
    for pair in headers.windows(2) {
        let [Header { block: a, .. }, Header { block: b, .. }] = pair else { continue };
        if a.number + 1 == b.number && a.hash != b.parent {
            return Err(Incomplete(format!("block {} does not follow from the one before", b.number)));
        }
    }
    Ok(())
}

/// The blocks whose bloom hits: it may hold an event of the contract, and there is none among the logs.
pub fn bloom_hits<'a, 't>(
    headers: &'a [Header],
    logs: &[Log],
    contract: H160,
    topics: impl Iterator<Item = &'t H256>,
) -> Vec<&'a Header> {
    let seen: HashSet<u64> = logs.iter().map(Log::block).collect();
    let topics: Vec<_> = topics.collect();
    let hits = |bloom: &Bloom| {
        bloom.contains_input(BloomInput::Raw(contract.as_bytes()))
            && topics.iter().any(|topic| bloom.contains_input(BloomInput::Raw(topic.as_bytes())))
    };
    headers
        .iter()
        .filter(|header| !seen.contains(&header.block.number))
        .filter(|header| header.bloom.as_ref().is_some_and(hits))
        .collect()
}

/// How likely a bloom hits for an event of one contract, with one of `topics` topics, that is not there.
pub fn false_positive_rate(bloom: &Bloom, topics: usize) -> f64 {
    let ones: u32 = bloom.as_bytes().iter().map(|byte| byte.count_ones()).sum();
    // Each address and topic sets three bits.
    let one = (f64::from(ones) / (8 * bloom.as_bytes().len()) as f64).powi(3);
    let topics = i32::try_from(topics).unwrap_or(i32::MAX);
    one * (1.0 - (1.0 - one).powi(topics))
}

/// A result as the type that it should be.
///
/// # Errors
/// Where it is something else.
pub fn parse<'a, T: Deserialize<'a>>(raw: &'a Raw, what: &str) -> Result<T, Incomplete> {
    serde_json::from_str(raw.get()).map_err(|error| unreadable(what, &error))
}

/// A number as JSON-RPC writes quantities.
pub fn hex(number: u64) -> String {
    format!("{number:#x}")
}

/// Where an answer is not what it should be. What it says instead is not repeated: it may hold a key.
fn unreadable(what: &str, error: &serde_json::Error) -> Incomplete {
    Incomplete(format!(
        "cannot read {what}: not as expected at line {}, column {}",
        error.line(),
        error.column()
    ))
}

fn quantity_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    // Skipped over unless it is a string: a node may send any amount of anything here.
    let written = Option::<&serde_json::value::RawValue>::deserialize(deserializer)?;
    let hex = written.and_then(|raw| raw.get().strip_prefix("\"0x")?.strip_suffix('"'));
    Ok(hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(block: u64, index: u64) -> Log {
        Log {
            block_number: block.into(),
            block_hash: H256::from_low_u64_be(block),
            log_index: index.into(),
            ..Log::default()
        }
    }

    fn raw(json: &str) -> Raw {
        serde_json::value::RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn noise_is_left_out_and_order_restored() {
        let foreign = Log { address: H160::repeat_byte(9), ..log(2, 0) };
        let removed = Log { removed: true, ..log(2, 7) };
        let answer = vec![log(3, 1), log(2, 1), log(3, 0), log(2, 1), log(9, 0), foreign, removed];
        let places =
            |logs: Vec<Log>| logs.iter().map(|l| (l.block(), l.log_index.as_u64())).collect::<Vec<_>>();
        let arranged = arrange(answer, 1..=4, H160::zero(), &[]).unwrap();
        assert_eq!(places(arranged), [(2, 1), (3, 0), (3, 1)]);
    }

    #[test]
    fn logs_of_another_block_than_the_header_are_refused() {
        let header = Header {
            block: BlockRef { number: 2, hash: H256::repeat_byte(1), ..BlockRef::default() },
            bloom: None,
        };
        assert!(arrange(vec![log(2, 0)], 1..=2, H160::zero(), &[header]).is_err());
        let other = Log { block_hash: H256::repeat_byte(8), ..log(2, 1) };
        assert!(arrange(vec![log(2, 0), other], 1..=2, H160::zero(), &[]).is_err());
    }

    #[test]
    fn neighbours_must_be_of_one_branch() {
        let header = |number: u64, parent: u64| {
            let (hash, parent) = (H256::from_low_u64_be(number), H256::from_low_u64_be(parent));
            Header { block: BlockRef { number, hash, parent, time: 0 }, bloom: None }
        };
        assert!(linked(&[header(3, 2), header(4, 3), header(9, 7)]).is_ok());
        assert_eq!(
            linked(&[header(3, 2), header(4, 2)]).unwrap_err().to_string(),
            "block 4 does not follow from the one before"
        );
    }

    #[test]
    fn a_bloom_that_hits_without_a_log_names_its_block() {
        let (contract, topic) = (H160::repeat_byte(1), H256::repeat_byte(2));
        let mut bloom = Bloom::default();
        bloom.accrue(BloomInput::Raw(contract.as_bytes()));
        bloom.accrue(BloomInput::Raw(topic.as_bytes()));
        let headers = [Header { block: BlockRef { number: 5, ..BlockRef::default() }, bloom: Some(bloom) }];
        assert_eq!(bloom_hits(&headers, &[], contract, [topic].iter()).len(), 1);
        assert_eq!(bloom_hits(&headers, &[log(5, 0)], contract, [topic].iter()).len(), 0);
        assert_eq!(bloom_hits(&headers, &[], H160::repeat_byte(3), [topic].iter()).len(), 0);
        assert!(false_positive_rate(&bloom, 14) < 1e-9);
        assert!(false_positive_rate(&Bloom::repeat_byte(0x55), 14) > 0.1);
        assert!(false_positive_rate(&Bloom::repeat_byte(0xff), 14) > 0.99);
    }

    #[test]
    fn a_time_is_taken_only_where_it_is_one() {
        let with = |field: &str| {
            let zeros = "0".repeat(64);
            let json = format!(
                r#"[{{"address":"0x{}","topics":[],"data":"0x","blockNumber":"0x1","logIndex":"0x0",
                "blockHash":"0x{zeros}","transactionHash":"0x{zeros}"{field}}}]"#,
                "0".repeat(40)
            );
            logs(&raw(&json)).unwrap()[0].time()
        };
        assert_eq!(with(r#","blockTimestamp":"0x10""#), Some(16));
        for field in [
            "",
            r#","blockTimestamp":null"#,
            r#","blockTimestamp":"soon""#,
            r#","blockTimestamp":[1,[{"":0}]]"#,
            r#","blockTimestamp":16"#,
        ] {
            assert_eq!(with(field), None, "{field}");
        }
    }

    proptest! {
        #[test]
        fn any_json_is_taken(text in "[\\[\\{\"a-z0-9x:,\\}\\]]*") {
            if let Ok(raw) = serde_json::value::RawValue::from_string(text) {
                let _ = (header(&raw), logs(&raw), quantity(&raw));
            }
        }
    }
}
