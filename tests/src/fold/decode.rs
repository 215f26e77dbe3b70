//! Logs as the contract facts describe them, taken apart word by word.
//!
//! Shares nothing with the exporter's decoder, not even the ABI library: two readings of one description.

use std::sync::LazyLock;

use web3::signing::keccak256;
use web3::types::{H256, U256};

/// A log of the contract.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The Ethereum transaction that logged it.
    pub tx_hash: H256,
    /// Its topics, at most four.
    pub topics: Vec<H256>,
    /// Its data.
    pub data: Vec<u8>,
}

/// What a log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// TransactionBuffered; `frozen` in the form with a dependency, whose deadline is fixed at buffering.
    Buffered { tx_id: H256, scheduled: U256, frozen: bool },
    /// TransactionReady.
    Ready { tx_id: H256 },
    /// TransactionFailed, with the reason's raw bytes.
    Failed { tx_id: H256, reason: Vec<u8> },
    /// Any other known event, by name.
    Other(&'static str),
    /// It has the topic of a known event and does not decode.
    Undecodable,
}

#[derive(Clone, Copy)]
enum Kind {
    Buffered { scheduled_word: usize },
    Ready,
    Failed,
    Other(&'static str),
}

struct Form {
    signature: &'static str,
    topics: usize,
    words: usize,
    kind: Kind,
}

const fn form(signature: &'static str, topics: usize, words: usize, kind: Kind) -> Form {
    Form { signature, topics, words, kind }
}

/// Signature, number of topics, least number of data words.
const FORMS: [Form; 14] = [
    form("TransactionBuffered(bytes32,address,address,uint256)", 4, 1, Kind::Buffered { scheduled_word: 0 }),
    form(
        "TransactionBuffered(bytes32,address,address,bytes32,uint256)",
        4,
        2,
        Kind::Buffered { scheduled_word: 1 },
    ),
    form("TransactionReady(bytes32)", 2, 0, Kind::Ready),
    form("TransactionReady(bytes32,uint256)", 2, 1, Kind::Ready),
    form("TransactionFailed(bytes32,string)", 2, 2, Kind::Failed),
    form("TransactionFailed(bytes32,string,uint256)", 2, 3, Kind::Failed),
    form("EmergencyPause(address,uint256)", 2, 1, Kind::Other("EmergencyPause")),
    form("EmergencyUnpause(address,uint256)", 2, 1, Kind::Other("EmergencyUnpause")),
    form("RoleGranted(bytes32,address,address)", 4, 0, Kind::Other("RoleGranted")),
    form("RoleRevoked(bytes32,address,address)", 4, 0, Kind::Other("RoleRevoked")),
    form("TransactionRevealed(bytes32,uint256)", 2, 1, Kind::Other("TransactionRevealed")),
    form("TransactionRefunded(bytes32,address,uint256)", 3, 1, Kind::Other("TransactionRefunded")),
    form("SwapGroupCreated(bytes32,address,uint256)", 3, 1, Kind::Other("SwapGroupCreated")),
    form("SwapGroupCompleted(bytes32,uint256)", 2, 1, Kind::Other("SwapGroupCompleted")),
];

static TOPICS: LazyLock<[H256; FORMS.len()]> =
    LazyLock::new(|| std::array::from_fn(|i| topic0(FORMS[i].signature)));

/// Names of the known events besides buffered, ready and failed.
pub(super) fn other_events() -> impl Iterator<Item = &'static str> {
    FORMS.iter().filter_map(|form| match form.kind {
        Kind::Other(name) => Some(name),
        _ => None,
    })
}

/// First topic of an event.
pub(super) fn topic0(signature: &str) -> H256 {
    H256(keccak256(signature.as_bytes()))
}

/// What a log says, if its first topic is known.
pub(super) fn decode(log: &Log) -> Option<Event> {
    let topic0 = log.topics.first()?;
    let form = &FORMS[TOPICS.iter().position(|topic| topic == topic0)?];
    if log.topics.len() != form.topics || log.data.len() < form.words * 32 {
        return Some(Event::Undecodable);
    }
    let tx_id = log.topics[1];
    Some(match form.kind {
        Kind::Buffered { scheduled_word } => {
            let scheduled = U256::from_big_endian(&log.data[scheduled_word * 32..][..32]);
            Event::Buffered { tx_id, scheduled, frozen: scheduled_word == 1 }
        }
        Kind::Ready => Event::Ready { tx_id },
        Kind::Failed => match string(&log.data) {
            Some(reason) => Event::Failed { tx_id, reason: reason.to_vec() },
            None => Event::Undecodable,
        },
        Kind::Other(name) => Event::Other(name),
    })
}

/// The bytes of a string whose offset is the first word: there, its length, then itself.
fn string(data: &[u8]) -> Option<&[u8]> {
    let at = size(data, 0)?;
    let length = size(data, at)?;
    data.get(at.checked_add(32)?..)?.get(..length)
}

fn size(data: &[u8], at: usize) -> Option<usize> {
    let word = U256::from_big_endian(data.get(at..at.checked_add(32)?)?);
    (word <= U256::from(usize::MAX)).then(|| word.as_usize())
}
