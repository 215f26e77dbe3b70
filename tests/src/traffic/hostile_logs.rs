//! Logs that a well-behaved contract never writes: extreme numbers, hostile texts, broken data, strangers.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use web3::signing::keccak256;
use web3::types::{H256, U256};

/// Every known event, with its number of topics and of data words.
const EVENTS: [(&str, usize, usize); 14] = [
    (BUFFERED, 4, 1),
    (BUFFERED_LONG, 4, 2),
    (READY, 2, 0),
    (READY_LONG, 2, 1),
    (FAILED, 2, 2),
    (FAILED_LONG, 2, 3),
    ("EmergencyPause(address,uint256)", 2, 1),
    ("EmergencyUnpause(address,uint256)", 2, 1),
    ("RoleGranted(bytes32,address,address)", 4, 0),
    ("RoleRevoked(bytes32,address,address)", 4, 0),
    ("TransactionRevealed(bytes32,uint256)", 2, 1),
    ("TransactionRefunded(bytes32,address,uint256)", 3, 1),
    ("SwapGroupCreated(bytes32,address,uint256)", 3, 1),
    ("SwapGroupCompleted(bytes32,uint256)", 2, 1),
];

const BUFFERED: &str = "TransactionBuffered(bytes32,address,address,uint256)";
const BUFFERED_LONG: &str = "TransactionBuffered(bytes32,address,address,bytes32,uint256)";
const READY: &str = "TransactionReady(bytes32)";
const READY_LONG: &str = "TransactionReady(bytes32,uint256)";
const FAILED: &str = "TransactionFailed(bytes32,string)";
const FAILED_LONG: &str = "TransactionFailed(bytes32,string,uint256)";

/// The first three mean something; the others must do no harm.
const REASONS: [&[u8]; 16] = [
    b"Transaction expired",
    b"Swap group timeout",
    b"Dependencies not satisfied",
    b"Transaction does not exist",
    b"transaction expired",
    b"Transaction expired\n",
    b"",
    b"say \"no\"",
    b"back\\slash\\n and a last one\\",
    b"two\nlines\r\nand\ttabs",
    b"nul\0 bell\x07 escape\x1b[31m delete\x7f",
    b"invalid \xff\xfe\xc3\x28 and cut \xe2\x82",
    "bidi \u{202e}txt\u{2028}next\u{85}next \u{feff}\u{1f600}".as_bytes(),
    b"<!channel> <script>alert(1)</script> {{ .Labels }} ${HOME} %s",
    b"# HELP x\nx{a=\"b\"} 1 # {} 1",
    &[0xe2; 200],
];

/// Topics and data of one log. What it buffers is added to `transactions`.
pub(super) fn any(
    rng: &mut ChaCha8Rng,
    transactions: &mut Vec<(H256, U256)>,
    now: u64,
) -> (Vec<H256>, Vec<u8>) {
    match rng.random_range(0..100) {
        0..35 => buffered(rng, transactions, now),
        35..55 => {
            let long = rng.random_bool(0.5);
            let tx_id = known_or_not(rng, transactions);
            let data = if long { word(extreme(rng, now)) } else { Vec::new() };
            (vec![topic0(if long { READY_LONG } else { READY }), tx_id], data)
        }
        55..75 => failed(rng, transactions, now),
        75..82 => {
            let (signature, topics, words) = EVENTS[rng.random_range(6..EVENTS.len())];
            (topics_of(rng, signature, topics), (0..words).flat_map(|_| word(extreme(rng, now))).collect())
        }
        82..95 => broken(rng),
        _ => {
            // Nobody's event, or none at all.
            let topics = (0..rng.random_range(0..=4)).map(|_| H256(rng.random())).collect();
            (topics, (0..rng.random_range(0..100)).map(|_| rng.random()).collect())
        }
    }
}

fn buffered(rng: &mut ChaCha8Rng, transactions: &mut Vec<(H256, U256)>, now: u64) -> (Vec<H256>, Vec<u8>) {
    let (tx_id, scheduled) = (H256(rng.random()), extreme(rng, now));
    transactions.push((tx_id, scheduled));
    let parties = [H256(rng.random()), H256::from_low_u64_be(rng.random())];
    let long = rng.random_bool(0.5);
    let data = if long { [vec![7; 32], word(scheduled)].concat() } else { word(scheduled) };
    (vec![topic0(if long { BUFFERED_LONG } else { BUFFERED }), tx_id, parties[0], parties[1]], data)
}

fn failed(rng: &mut ChaCha8Rng, transactions: &[(H256, U256)], now: u64) -> (Vec<H256>, Vec<u8>) {
    let reason = REASONS.choose(rng).expect("there are reasons");
    let long = rng.random_bool(0.5);
    let mut data = word(U256::from(if long { 64 } else { 32 }));
    if long {
        data.extend(word(extreme(rng, now)));
    }
    data.extend(word(reason.len().into()));
    data.extend(*reason);
    data.resize(data.len().next_multiple_of(32), 0);
    (vec![topic0(if long { FAILED_LONG } else { FAILED }), known_or_not(rng, transactions)], data)
}

/// The topic of a known event, and too few or too many topics, too little data, or a string out of bounds.
fn broken(rng: &mut ChaCha8Rng) -> (Vec<H256>, Vec<u8>) {
    let (signature, topics, words) = *EVENTS.choose(rng).expect("there are events");
    if rng.random_bool(0.4) {
        let bad = (1..=4).filter(|count| *count != topics).collect::<Vec<_>>();
        let topics = *bad.choose(rng).expect("three other counts");
        return (topics_of(rng, signature, topics), vec![0; words * 32]);
    }
    let text = rng.random_bool(0.5);
    if text || words == 0 {
        let (signature, words) = if rng.random_bool(0.5) { (FAILED, 2) } else { (FAILED_LONG, 3) };
        let mut data = vec![0; words * 32];
        let head = (words - 1) * 32;
        match rng.random_range(0..4) {
            0 => data[..32].fill(0xff),
            1 => data[..32].copy_from_slice(&word(U256::from(1_000_000))),
            2 => {
                data[..32].copy_from_slice(&word(head.into()));
                data[head..].copy_from_slice(&word(U256::MAX));
            }
            _ => {
                data[..32].copy_from_slice(&word(head.into()));
                data[head..].copy_from_slice(&word(U256::one()));
            }
        }
        return (topics_of(rng, signature, 2), data);
    }
    (topics_of(rng, signature, topics), vec![0xff; words * 32 - 1])
}

/// Now, soon, just past, or where a careless sum wraps around.
fn extreme(rng: &mut ChaCha8Rng, now: u64) -> U256 {
    match rng.random_range(0..10) {
        0..4 => U256::from(now + rng.random_range(0..60)),
        4 => U256::from(now.saturating_sub(rng.random_range(0..600))),
        5 => U256::zero(),
        6 => U256::MAX,
        7 => U256::MAX - rng.random_range(0..300),
        8 => U256::from(u64::MAX),
        _ => U256::from(u64::MAX - rng.random_range(0..300)),
    }
}

fn known_or_not(rng: &mut ChaCha8Rng, transactions: &[(H256, U256)]) -> H256 {
    let recent = &transactions[transactions.len().saturating_sub(12)..];
    let known = recent.choose(rng).filter(|_| rng.random_bool(0.85));
    known.map_or_else(|| H256(rng.random()), |(tx_id, _)| *tx_id)
}

fn topics_of(rng: &mut ChaCha8Rng, signature: &str, count: usize) -> Vec<H256> {
    let rest = (1..count).map(|_| H256(rng.random()));
    [topic0(signature)].into_iter().chain(rest).collect()
}

fn topic0(signature: &str) -> H256 {
    H256(keccak256(signature.as_bytes()))
}

fn word(number: U256) -> Vec<u8> {
    let mut word = [0; 32];
    number.to_big_endian(&mut word);
    word.to_vec()
}
