//! Blocks and logs of a chain as a node tells them, and what proves an answer to be whole.
//!
//! Pure: parsing and checking only. Knows nothing of the events in the logs.

mod text;
mod wire;

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use web3::ethabi::ethereum_types::Bloom;
use web3::types::{Bytes, H160, H256};

use crate::rpc::Raw;
pub use text::Text;
use wire::{Data, Fixed, Quantity};

/// No block has a number or a time as large as this: a sample of a series would not hold it exactly either.
const BEYOND: u64 = 1 << 53;

const BLOOM_BITS: usize = 2048;

/// The root of receipts of a block that has none: the hash of an empty trie.
const NO_RECEIPTS: [u8; 32] = [
    0x56, 0xe8, 0x1f, 0x17, 0x1b, 0xcc, 0x55, 0xa6, 0xff, 0x83, 0x45, 0xe6, 0x92, 0xc0, 0xf8, 0x6e, 0x5b,
    0x48, 0xe0, 0x1b, 0x99, 0x6c, 0xad, 0xc0, 0x01, 0x62, 0x2f, 0xb5, 0xe3, 0x63, 0xb4, 0x21,
];

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
    /// Which addresses and topics may have logged in it; `None` where the node leaves it out, or leaves it empty though the
    /// block has receipts.
    pub bloom: Option<Bloom>,
}

/// A log that is in a block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// The contract that logged.
    pub address: H160,
    /// The event's topic and its indexed parameters.
    pub topics: Vec<H256>,
    /// The other parameters.
    pub data: Bytes,
    /// Number of its block.
    pub block: u64,
    /// Hash of its block.
    pub block_hash: H256,
    /// Hash of the Ethereum transaction.
    pub tx_hash: H256,
    /// The transaction's place in the block.
    pub tx_index: u64,
    /// The log's place in the block; on some chains in its transaction.
    pub index: u64,
}

impl Log {
    /// Its place in the chain, which orders logs whether they are counted by block or by transaction.
    pub fn position(&self) -> (u64, u64, u64) {
        (self.block, self.tx_index, self.index)
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
///
/// # Errors
/// Where it is none, or its number or time is none of a real block.
pub fn header(raw: &Raw) -> Result<Header, Incomplete> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Block {
        number: Quantity,
        hash: Fixed<32>,
        parent_hash: Fixed<32>,
        timestamp: Quantity,
        #[serde(default, deserialize_with = "if_any")]
        logs_bloom: Option<Fixed<256>>,
        #[serde(default, deserialize_with = "if_any")]
        receipts_root: Option<Fixed<32>>,
    }
    let block: Block = parse(raw, "a block")?;
    let (number, time) = (block.number.0, block.timestamp.0);
    if number >= BEYOND || time >= BEYOND {
        return Err(Incomplete(format!("block {number} of time {time}: expected numbers below 2^53")));
    }
    Ok(Header {
        block: BlockRef { number, hash: H256(block.hash.0), parent: H256(block.parent_hash.0), time },
        bloom: block.logs_bloom.map(|bloom| Bloom(bloom.0)).filter(|bloom| {
            // Of a block with receipts it may as well be that of a node that never fills it.
            !bloom.is_zero() || block.receipts_root.is_some_and(|root| root.0 == NO_RECEIPTS)
        }),
    })
}

/// Logs, from the result of `eth_getLogs`, without those that are pending or that a reorganisation removed.
pub fn logs(raw: &Raw) -> Result<Vec<Log>, Incomplete> {
    /// What nodes leave out or send as null is optional.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RawLog {
        address: Fixed<20>,
        topics: Vec<Fixed<32>>,
        data: Data,
        block_number: Option<Quantity>,
        block_hash: Option<Fixed<32>>,
        transaction_hash: Option<Fixed<32>>,
        transaction_index: Option<Quantity>,
        log_index: Option<Quantity>,
        removed: Option<bool>,
    }
    let raw: Vec<RawLog> = parse(raw, "logs")?;
    let mut logs = Vec::with_capacity(raw.len());
    for log in raw.into_iter().filter(|log| log.removed != Some(true)) {
        let (Some(Quantity(block)), Some(block_hash)) = (log.block_number, log.block_hash) else { continue };
        let (Some(tx_hash), Some(index)) = (log.transaction_hash, log.log_index) else {
            return Err(Incomplete(format!(
                "a log of block {block} has no transactionHash or no logIndex: expected both; use another endpoint"
            )));
        };
        logs.push(Log {
            address: H160(log.address.0),
            topics: log.topics.into_iter().map(|topic| H256(topic.0)).collect(),
            data: Bytes(log.data.0),
            block,
            block_hash: H256(block_hash.0),
            tx_hash: H256(tx_hash.0),
            tx_index: log.transaction_index.map_or(0, |index| index.0),
            index: index.0,
        });
    }
    Ok(logs)
}

/// A quantity, from the result of `eth_chainId`.
pub fn quantity(raw: &Raw) -> Result<u64, Incomplete> {
    parse::<Quantity>(raw, "a number").map(|number| number.0)
}

/// The logs of the contract in these blocks, in log order and each once; what nobody asked for is left out.
pub fn arrange(
    mut logs: Vec<Log>,
    blocks: std::ops::RangeInclusive<u64>,
    contract: H160,
) -> Result<Vec<Log>, Incomplete> {
    logs.retain(|log| log.address == contract && blocks.contains(&log.block));
    let place = |log: &Log| (log.block, log.block_hash, log.tx_hash, log.index);
    let mut places: Vec<_> = logs.iter().map(place).collect();
    places.sort_unstable();
    // Rare, and sorting whole logs is not cheap.
    if places.windows(2).any(|pair| pair[0] == pair[1]) {
        logs.sort_by_key(place);
        logs.dedup_by(|a, b| place(a) == place(b) && (&a.topics, &a.data) == (&b.topics, &b.data));
        if let Some(pair) = logs.windows(2).find(|pair| place(&pair[0]) == place(&pair[1])) {
            return Err(Incomplete(format!("logs of block {} contradict each other", pair[0].block)));
        }
    }
    logs.sort_by_key(Log::position);
    Ok(logs)
}

/// The logs of two answers about the same blocks, and whether both hold the same ones. A log is known by what it
/// says and by its transaction, as nodes do not all count logs alike.
pub fn unite(ours: Vec<Log>, theirs: &[Log]) -> (Vec<Log>, bool) {
    fn content(log: &Log) -> (u64, H256, H256, &[H256], &[u8]) {
        (log.block, log.block_hash, log.tx_hash, &log.topics, &log.data.0)
    }
    if ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| content(a) == content(b)) {
        return (ours, true);
    }
    let mut unmatched: HashMap<_, usize> = HashMap::new();
    for log in &ours {
        *unmatched.entry(content(log)).or_default() += 1;
    }
    let mut more = Vec::new();
    for log in theirs {
        match unmatched.get_mut(&content(log)) {
            Some(left) if *left > 0 => *left -= 1,
            _ => more.push(log.clone()),
        }
    }
    let alike = more.is_empty() && unmatched.values().all(|left| *left == 0);
    let mut logs = ours;
    logs.append(&mut more);
    logs.sort_by_key(Log::position);
    (logs, alike)
}

/// Whether those of the headers that are neighbours are of one branch.
pub fn linked<'a>(headers: impl Iterator<Item = &'a Header>) -> Result<(), Incomplete> {
    let mut below: Option<BlockRef> = None;
    for block in headers.map(|header| header.block) {
        if below.is_some_and(|below| below.number + 1 == block.number && below.hash != block.parent) {
            return Err(Incomplete(format!("block {} does not follow from the one before", block.number)));
        }
        below = Some(block);
    }
    Ok(())
}

/// An address or a topic as blooms have it: the three bits that it sets, each as a byte's place and a mask in it.
#[derive(Clone, Debug)]
pub struct BloomKey([(usize, u8); 3]);

impl BloomKey {
    /// Of the bytes of an address or a topic.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = web3::signing::keccak256(bytes);
        // As Ethereum defines it: the lowest 11 bits of each of the first three pairs of bytes; bit 0 is in the last byte.
        Self([0, 2, 4].map(|at| {
            let bit = usize::from(u16::from_be_bytes([hash[at], hash[at + 1]])) % BLOOM_BITS;
            ((BLOOM_BITS - 1 - bit) / 8, 1 << (bit % 8))
        }))
    }

    fn is_in(&self, bloom: &Bloom) -> bool {
        self.0.iter().all(|(byte, mask)| bloom.0[*byte] & mask != 0)
    }
}

/// Whether a block may hold an event of the contract with one of these topics, as far as its bloom says.
pub fn bloom_hits<'t>(
    bloom: &Bloom,
    contract: &BloomKey,
    mut topics: impl Iterator<Item = &'t BloomKey>,
) -> bool {
    contract.is_in(bloom) && topics.any(|topic| topic.is_in(bloom))
}

/// How likely a bloom hits by chance for an event of one contract with one of `topics` topics. `logged`: the
/// contract did log something in that block.
pub fn false_positive_rate(bloom: &Bloom, topics: usize, logged: bool) -> f64 {
    let ones: u32 = bloom.as_bytes().iter().map(|byte| byte.count_ones()).sum();
    // Each address and topic sets three bits.
    let one = (f64::from(ones) / (8 * bloom.as_bytes().len()) as f64).powi(3);
    let topics = i32::try_from(topics).unwrap_or(i32::MAX);
    (if logged { 1.0 } else { one }) * (1.0 - (1.0 - one).powi(topics))
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

/// What is not as it should be is nothing: some nodes send null, "0x", or anything else.
fn if_any<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let written = Option::<&serde_json::value::RawValue>::deserialize(deserializer)?;
    Ok(written.and_then(|raw| serde_json::from_str(raw.get()).ok()))
}

#[cfg(test)]
mod tests;
