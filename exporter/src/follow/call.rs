//! The JSON-RPC calls of the loop; the contract's views are those of `views`.

use jsonrpc_core::{Call, Value};
use serde_json::json;
use web3::types::{H160, H256};

use crate::rpc;

pub(super) fn header_call(number: u64) -> Call {
    rpc::call("eth_getBlockByNumber", vec![quantity(number), Value::Bool(false)])
}

pub(super) fn logs_call(contract: H160, blocks: &std::ops::RangeInclusive<u64>) -> Call {
    let filter = json!({
        "address": contract,
        "fromBlock": quantity(*blocks.start()),
        "toBlock": quantity(*blocks.end()),
    });
    rpc::call("eth_getLogs", vec![filter])
}

pub(super) fn logs_of_block_call(contract: H160, hash: H256) -> Call {
    rpc::call("eth_getLogs", vec![json!({"address": contract, "blockHash": hash})])
}

pub(super) fn quantity(number: u64) -> Value {
    Value::String(format!("{number:#x}"))
}
