//! What the contract logs: kept small in memory, written out as topics and data on request.
//!
//! Knows the shape of every event and nothing of the rules that lead to one.

use std::sync::LazyLock;

use web3::ethabi::{self, Token};
use web3::signing::keccak256;
use web3::types::{H160, H256, U256};

/// Which of the known contracts is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// S: short events; a failed resolution is logged and leaves the transaction buffered.
    Simple,
    /// B: long events; a failed resolution reverts; pause, breaker, roles and swap groups.
    Buffer,
    /// B's Buffered with its frozen deadline, S's Ready, either form of Failed, logged as in S.
    Mixed,
}

/// Topics and data of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawLog {
    /// topic0 and the indexed parameters.
    pub topics: Vec<H256>,
    /// The other parameters, ABI-encoded.
    pub data: Vec<u8>,
}

/// One transaction, in the order of buffering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tx {
    pub id: H256,
    /// Index of the transaction that must be ready first, or [`NONE`].
    pub dependency: u32,
    /// Index of its swap group, or [`NONE`].
    pub group: u32,
    /// When it should be executed, seconds since the Unix epoch.
    pub scheduled: U256,
    /// The window in force when it was buffered, seconds.
    pub window: u32,
    /// The block that buffered it.
    pub block: u32,
    /// The block that made it ready, or [`NONE`].
    pub ready: u32,
    /// The block that failed it for good, or [`NONE`].
    pub failed: u32,
    /// Origin and target, as indices into [`rollup`].
    pub route: (u8, u8),
}

/// Stands for "no such thing" in a [`Tx`].
pub(super) const NONE: u32 = u32::MAX;

/// One log, in 24 bytes: a million of them must be cheap.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub block: u32,
    pub event: Event,
}

/// The frequent events refer to their transaction; the rest is encoded at once.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Buffered(u32),
    Ready(u32),
    Failed(u32, Reason),
    Other(Box<RawLog>),
}

/// Why the contract logs a TransactionFailed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reason {
    Expired,
    Dependency,
    SwapGroupTimeout,
}

/// keccak-256 of the canonical signature.
pub fn topic(signature: &str) -> H256 {
    H256(keccak256(signature.as_bytes()))
}

/// An address that nobody holds the key of, the same for the same name.
pub fn address(name: &str) -> H160 {
    H160::from_slice(&keccak256(name.as_bytes())[12..])
}

/// One of the rollups that transactions come from and go to.
pub(super) fn rollup(index: u8) -> H160 {
    static ROLLUPS: LazyLock<[H160; ROLLUP_COUNT as usize]> =
        LazyLock::new(|| std::array::from_fn(|i| address(&format!("rollup {i}"))));
    ROLLUPS[usize::from(index % ROLLUP_COUNT)]
}

/// How many rollups there are.
pub(super) const ROLLUP_COUNT: u8 = 6;

/// An address as a topic.
pub(super) fn padded(address: H160) -> H256 {
    H256::from(address)
}

/// Numbers as ABI-encoded data.
pub(super) fn words(values: &[U256]) -> Vec<u8> {
    ethabi::encode(&values.iter().map(|value| Token::Uint(*value)).collect::<Vec<_>>())
}

/// A TransactionFailed in either form; the reason may be any bytes.
pub(super) fn failed(tx_id: H256, reason: &[u8], failed_at: Option<u64>) -> RawLog {
    let signature = &SIGNATURES[if failed_at.is_some() { 5 } else { 4 }];
    // A string and bytes are encoded alike, and `Token::String` cannot hold invalid UTF-8.
    let mut tokens = vec![Token::Bytes(reason.to_vec())];
    tokens.extend(failed_at.map(|time| Token::Uint(time.into())));
    RawLog { topics: vec![*signature, tx_id], data: ethabi::encode(&tokens) }
}

static SIGNATURES: LazyLock<[H256; 6]> = LazyLock::new(|| {
    [
        "TransactionBuffered(bytes32,address,address,uint256)",
        "TransactionBuffered(bytes32,address,address,bytes32,uint256)",
        "TransactionReady(bytes32)",
        "TransactionReady(bytes32,uint256)",
        "TransactionFailed(bytes32,string)",
        "TransactionFailed(bytes32,string,uint256)",
    ]
    .map(topic)
});

/// Topics and data of an event, logged by `variant` in a block of `time`.
pub(super) fn encode(event: &Event, txs: &[Tx], variant: Variant, time: u64) -> RawLog {
    match event {
        Event::Buffered(tx) => {
            let tx = &txs[*tx as usize];
            let (signature, dependency) = match variant {
                Variant::Simple => (SIGNATURES[0], None),
                Variant::Buffer | Variant::Mixed => (SIGNATURES[1], Some(dependency_id(tx, txs))),
            };
            let topics = vec![signature, tx.id, padded(rollup(tx.route.0)), padded(rollup(tx.route.1))];
            let words_of = dependency.map(|id| U256::from_big_endian(id.as_bytes()));
            RawLog { topics, data: words(&words_of.into_iter().chain([tx.scheduled]).collect::<Vec<_>>()) }
        }
        Event::Ready(tx) => {
            let id = txs[*tx as usize].id;
            match variant {
                Variant::Buffer => RawLog { topics: vec![SIGNATURES[3], id], data: words(&[time.into()]) },
                Variant::Simple | Variant::Mixed => {
                    RawLog { topics: vec![SIGNATURES[2], id], data: Vec::new() }
                }
            }
        }
        Event::Failed(tx, reason) => {
            let id = txs[*tx as usize].id;
            match (variant, reason) {
                (_, Reason::SwapGroupTimeout) => failed(id, b"Swap group timeout", Some(time)),
                (Variant::Simple, Reason::Dependency) => failed(id, b"Dependencies not satisfied", None),
                (_, Reason::Dependency) => failed(id, b"Dependencies not satisfied or timing invalid", None),
                (Variant::Simple, Reason::Expired) => failed(id, b"Transaction expired", None),
                (_, Reason::Expired) => failed(id, b"Transaction expired", Some(time)),
            }
        }
        Event::Other(raw) => (**raw).clone(),
    }
}

fn dependency_id(tx: &Tx, txs: &[Tx]) -> H256 {
    txs.get(tx.dependency as usize).map_or(H256::zero(), |dependency| dependency.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_those_of_the_deployed_contracts() {
        let expected = [
            "82f04bca3c86d80210a78dfa27d4cb42b598d7affde61ee6023e07d07b94e2d9",
            "3db219f671440fd1cd8dc231c95535f84e7861603be08ed614224c240b33b32e",
            "4fe734ce83839d4373098e81ed34170e439d9610e6014da41e0a552835ae0cd5",
            "f021a9b06fba27725197cb7b74999e773e9703c15ba4a03179a5cedb0364d329",
            "a3897ec9f635f9e079f0cc337815d014bf44b6ea44b6a6fe16660183bf4cf4d8",
            "42b7f8b3da320241d0fa06d1b0739d36ede82cd40b4bfaa12ee25531b907617a",
        ];
        assert_eq!(SIGNATURES.map(|topic| format!("{topic:x}")), expected);
    }

    #[test]
    fn a_log_stays_small() {
        assert!(size_of::<Log>() <= 24, "{}", size_of::<Log>());
    }
}
