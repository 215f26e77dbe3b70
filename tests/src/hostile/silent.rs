//! Answers that are wrong without a word: logs that are left out or were never there, and a bloom that promises
//! too much. All is a function of the blocks asked for, so that it can be foretold.

use serde_json::{Map, Value, json};
use web3::ethabi::ethereum_types::{Bloom, BloomInput};
use web3::signing::keccak256;
use web3::types::{H160, H256};

use super::fault::Fault;
use super::{Shared, hex, logs, quantity};
use crate::sim::topic;

/// The most logs of one answer with [`Fault::LogsCut`].
pub const CUT: usize = 20;

/// With [`Fault::LogsHoles`] and [`Fault::StaleLog`] the newest blocks are right, so many of them.
pub const HOLES: u64 = 64;

/// With [`Fault::LogsPruned`] so many of the newest blocks have logs.
pub const PRUNED: u64 = 200;

/// Every so many blocks one has logs of several kinds that are more than [`OVERSIZED`] together.
const CROWDED: u64 = 50;

/// More bytes than a client should ever read.
const OVERSIZED: usize = 17 << 20;

/// Every so many blocks one has a stale log, or a bloom that promises too much.
const STALE: u64 = 50;
const PROMISED: u64 = 100;

const BUFFERED: [&str; 2] = [
    "TransactionBuffered(bytes32,address,address,uint256)",
    "TransactionBuffered(bytes32,address,address,bytes32,uint256)",
];
const READY: [&str; 2] = ["TransactionReady(bytes32)", "TransactionReady(bytes32,uint256)"];

/// Spoils the logs of an answer.
pub(super) async fn spoil(
    fault: Fault,
    result: &mut Value,
    params: &Value,
    shared: &Shared,
) -> Result<(), String> {
    let Some(found) = result.as_array_mut() else { return Ok(()) };
    match fault {
        Fault::LogsCut => found.truncate(CUT),
        Fault::ReadyOmitted => found.retain(|log| !is_one_of(log, READY)),
        Fault::LogsPending => found.push(pending(params)),
        Fault::LogsOversized => {
            let crowded = |log: &&mut Value| block(log).is_some_and(|number| number.is_multiple_of(CROWDED));
            let mut crowded: Vec<_> = found.iter_mut().filter(crowded).collect();
            if crowded.windows(2).any(|pair| pair[0]["topics"][0] != pair[1]["topics"][0]) {
                crowded[0]["padding"] = json!(" ".repeat(OVERSIZED));
            }
        }
        Fault::LogsPruned => {
            let head = shared.head().await?;
            found.retain(|log| block(log).is_some_and(|number| number + PRUNED > head));
        }
        Fault::LogsFirstOnly | Fault::LogsHoles | Fault::StaleLog => {
            return by_range(fault, found, params, shared).await;
        }
        _ => {}
    }
    Ok(())
}

/// What is wrong only where logs are asked for by numbers of blocks.
async fn by_range(
    fault: Fault,
    found: &mut Vec<Value>,
    params: &Value,
    shared: &Shared,
) -> Result<(), String> {
    let head = shared.head().await?;
    let Some((from, to)) = logs::range(shared, params).await? else { return Ok(()) };
    match fault {
        Fault::LogsFirstOnly => {
            let last = to.min(head);
            let first = found.iter().position(|log| block(log) == Some(last));
            let mut place = 0..;
            found.retain(|log| place.next() == first || block(log) != Some(last));
        }
        Fault::LogsHoles => {
            let buffered: Vec<_> = found.iter().filter(|log| is_one_of(log, BUFFERED)).map(block).collect();
            found.retain(|log| {
                block(log).is_some_and(|number| number + HOLES > head) || buffered.contains(&block(log))
            });
        }
        Fault::StaleLog => {
            for number in (from..=to.min(head.saturating_sub(HOLES))).filter(|it| it.is_multiple_of(STALE)) {
                let header = shared.ask("eth_getBlockByNumber", &json!([hex(number), false])).await?;
                found.push(stale(params, number, &header["result"]["timestamp"]));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Adds what a ready of any transaction of this contract adds to a bloom, in some blocks.
pub(super) fn promise(header: &mut Map<String, Value>, contract: H160) {
    if !quantity(&header["number"]).is_some_and(|number| number.is_multiple_of(PROMISED)) {
        return;
    }
    let Ok(mut bloom) = serde_json::from_value::<Bloom>(header["logsBloom"].clone()) else { return };
    bloom.accrue(BloomInput::Raw(contract.as_bytes()));
    for signature in READY {
        bloom.accrue(BloomInput::Raw(topic(signature).as_bytes()));
    }
    header.insert("logsBloom".to_owned(), json!(bloom));
}

/// Leaves one bit of every other bloom: nothing that anybody logged.
pub(super) fn leave_out(header: &mut Map<String, Value>) {
    if quantity(&header["number"]).is_some_and(|number| number.is_multiple_of(2)) {
        header.insert("logsBloom".to_owned(), json!(Bloom::from_low_u64_be(1)));
    }
}

/// A log of a block that is on no chain any more.
fn stale(params: &Value, number: u64, timestamp: &Value) -> Value {
    let mut log = buffered(params, number);
    log["blockNumber"] = hex(number);
    log["blockHash"] = json!(H256(keccak256(&number.to_be_bytes())));
    log["logIndex"] = hex(0);
    log["transactionIndex"] = hex(0);
    log["blockTimestamp"] = timestamp.clone();
    log
}

/// A log of a transaction that no block holds yet.
fn pending(params: &Value) -> Value {
    let mut log = buffered(params, u64::MAX);
    for name in ["blockNumber", "blockHash", "logIndex", "transactionHash", "transactionIndex"] {
        log[name] = Value::Null;
    }
    log
}

/// A transaction that was never buffered, without its place.
fn buffered(params: &Value, salt: u64) -> Value {
    let contract = match &params[0]["address"] {
        Value::Array(several) => several.first().cloned().unwrap_or_default(),
        address => address.clone(),
    };
    let id = H256(keccak256(&[&b"never buffered"[..], &salt.to_be_bytes()].concat()));
    json!({
        "address": contract,
        "topics": [topic(BUFFERED[0]), id, H256::from_low_u64_be(1), H256::from_low_u64_be(2)],
        "data": H256::from_low_u64_be(2_000_000_000),
        "transactionHash": id,
        "removed": false,
    })
}

fn is_one_of(log: &Value, events: [&str; 2]) -> bool {
    serde_json::from_value::<H256>(log["topics"][0].clone())
        .is_ok_and(|first| events.iter().any(|signature| topic(signature) == first))
}

fn block(log: &Value) -> Option<u64> {
    quantity(&log["blockNumber"])
}
