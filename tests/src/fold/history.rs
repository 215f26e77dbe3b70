//! All that a node knows of a contract, block by block, read in the plainest way.

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use web3::types::{Address, H256, U256};

use super::decode::Log;
use crate::anvil::{bytes, number};
use crate::json_rpc::Client;

/// How many calls travel in one request.
const BATCH: usize = 500;

/// `coordination_window()` and `transaction_count()`.
const WINDOW: &str = "coordination_window()";
const COUNT: &str = "transaction_count()";

/// One block as far as the contract goes.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Block time, seconds since the Unix epoch.
    pub time: u64,
    /// `coordination_window()` at its end, once there is a contract.
    pub window: Option<U256>,
    /// `transaction_count()` at its end.
    pub count: Option<U256>,
    /// The contract's logs in log order.
    pub logs: Vec<Log>,
}

/// Reads these blocks, each with four calls of its own. Panics when one fails.
///
/// The node must keep the state of every block.
pub async fn read(rpc: &Client, contract: Address, numbers: RangeInclusive<u64>) -> Vec<Block> {
    let view = |signature: &str| {
        let call = json!({"to": contract, "data": crate::anvil::hex(&super::decode::topic0(signature)[..4])});
        move |block: Value| json!([call, block])
    };
    let header = |block: Value| json!([block, false]);
    let logs = |block: Value| json!([{"address": contract, "fromBlock": block, "toBlock": block}]);

    let headers = each(rpc, "eth_getBlockByNumber", numbers.clone(), header).await;
    let logs = each(rpc, "eth_getLogs", numbers.clone(), logs).await;
    let windows = each(rpc, "eth_call", numbers.clone(), view(WINDOW)).await;
    let counts = each(rpc, "eth_call", numbers, view(COUNT)).await;

    let blocks = headers.iter().zip(logs).zip(windows.iter().zip(&counts));
    blocks
        .map(|((header, logs), (window, count))| Block {
            time: number(&header["timestamp"]),
            window: word(window),
            count: word(count),
            logs: in_order(logs),
        })
        .collect()
}

async fn each(
    rpc: &Client,
    method: &str,
    numbers: RangeInclusive<u64>,
    params: impl Fn(Value) -> Value,
) -> Vec<Value> {
    let params: Vec<_> = numbers.map(|block| params(json!(U256::from(block)))).collect();
    let mut answers = Vec::new();
    for params in params.chunks(BATCH) {
        let batch = rpc.batch(method, params).await;
        answers.extend(batch.into_iter().map(|answer| answer.unwrap_or_else(|e| panic!("{method}: {e}"))));
    }
    answers
}

/// A view's number; `0x` before the contract exists.
fn word(answer: &Value) -> Option<U256> {
    let bytes = bytes(answer);
    (bytes.len() == 32).then(|| U256::from_big_endian(&bytes))
}

fn in_order(logs: Value) -> Vec<Log> {
    let Value::Array(mut logs) = logs else { panic!("not a list of logs: {logs}") };
    logs.sort_by_key(|log| number(&log["logIndex"]));
    let topics = |log: &Value| -> Vec<H256> {
        serde_json::from_value(log["topics"].clone()).expect("a log has topics")
    };
    let tx_hash = |log: &Value| {
        serde_json::from_value(log["transactionHash"].clone()).expect("a log has a transaction")
    };
    logs.iter()
        .map(|log| Log { tx_hash: tx_hash(log), topics: topics(log), data: bytes(&log["data"]) })
        .collect()
}
