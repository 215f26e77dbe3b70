//! A chain on which Multicall3 is not what it is elsewhere.

use serde_json::{Value, json};
use web3::ethabi::{self, Token};

use super::Shared;
use super::fault::Fault;
use crate::sim::MULTICALL;

/// The answer to a call of Multicall3; `None` where the node's own is right.
pub(super) fn instead(fault: Fault, call: &Value, shared: &Shared) -> Option<Value> {
    let params = &call["params"];
    if call["method"] != "eth_call" {
        return None;
    }
    let by_hash = params[1].get("blockHash").is_some();
    let of_multicall = params[0]["to"].as_str().is_some_and(|to| to.parse().ok() == Some(MULTICALL));
    let result = |result: Value| Some(json!({"jsonrpc": "2.0", "id": call["id"], "result": result}));
    let error = |code: i64, message: &str| {
        let error = json!({"code": code, "message": message});
        Some(json!({"jsonrpc": "2.0", "id": call["id"], "error": error}))
    };
    match fault {
        Fault::NoHashState if by_hash => error(-32602, "invalid argument 1: hex string without 0x prefix"),
        _ if !of_multicall => None,
        Fault::MulticallAbsent => result(json!("0x")),
        Fault::MulticallPassing if shared.every_other() => result(json!("0x")),
        Fault::MulticallReverts => error(3, "execution reverted"),
        Fault::MulticallLies => result(json!(web3::types::Bytes(ones()))),
        _ => None,
    }
}

/// Six results of 1, the first of which is the chain's id.
fn ones() -> Vec<u8> {
    let one = ethabi::encode(&[Token::Uint(1.into())]);
    let result = Token::Tuple(vec![Token::Bool(true), Token::Bytes(one)]);
    ethabi::encode(&[Token::Array(vec![result; 6])])
}
