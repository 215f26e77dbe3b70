//! Replicas that know less than the node behind the proxy: without the newest blocks, without their
//! logs, without old state. What they do answer is right.

use rand::RngExt;
use serde_json::{Value, json};

use super::answer::block_of;
use super::fault::Fault;
use super::{Shared, hex, lock, logs, quantity};

/// How many blocks a lagging replica is behind.
pub const LAG: u64 = 3;

/// How far back state is kept by a node that prunes.
pub const STATE: u64 = 128;

/// A replica that does not have the last [`LAG`] blocks; a strict one says so in an error where others
/// answer with less.
pub(super) async fn lagging(
    shared: &Shared,
    method: &str,
    params: &Value,
    strict: bool,
) -> Result<Value, String> {
    let newest = shared.head().await?.saturating_sub(LAG);
    let mut params = params.clone();
    match method {
        "eth_blockNumber" => return Ok(result(&hex(newest))),
        "eth_getBlockByNumber" => match block_of(&params[0], newest) {
            Some(number) if number > newest => return Ok(result(&Value::Null)),
            Some(number) => params[0] = hex(number),
            // "safe" and "finalized" lie behind the newest blocks anyway.
            None => {}
        },
        "eth_getBlockByHash" => {
            let answer = shared.ask(method, &params).await?;
            let known = quantity(&answer["result"]["number"]).is_some_and(|number| number <= newest);
            return Ok(if known { answer } else { result(&Value::Null) });
        }
        "eth_getLogs" => {
            if let Some(hash) = params[0].get("blockHash") {
                let block = shared.ask("eth_getBlockByHash", &json!([hash, false])).await?;
                if quantity(&block["result"]["number"]).is_none_or(|number| number > newest) {
                    return Ok(error(-32000, "unknown block"));
                }
            } else if let Some((from, to)) = logs::range(shared, &params).await? {
                if strict && to > newest {
                    return Ok(error(-32602, "block range extends beyond current head block"));
                }
                if from > newest {
                    return Ok(result(&json!([])));
                }
                params[0]["toBlock"] = hex(to.min(newest));
            }
        }
        "eth_call" | "eth_getCode" => {
            let number = match params[1].get("blockHash") {
                Some(hash) => {
                    let block = shared.ask("eth_getBlockByHash", &json!([hash, false])).await?;
                    Some(quantity(&block["result"]["number"]).unwrap_or(u64::MAX))
                }
                None => block_of(params[1].get("blockNumber").unwrap_or(&params[1]), newest),
            };
            match number {
                Some(number) if number > newest => return Ok(error(-32000, "header not found")),
                Some(number) => params[1] = hex(number),
                None => {}
            }
        }
        _ => {}
    }
    shared.ask(method, &params).await
}

/// A balancer whose replicas disagree about the head, though all blocks are there.
pub(super) async fn jumping(shared: &Shared, method: &str, params: &Value) -> Result<Value, String> {
    let asks_for_head = method == "eth_getBlockByNumber" && params[0] == "latest";
    if method != "eth_blockNumber" && !asks_for_head {
        return shared.ask(method, params).await;
    }
    let back = if shared.every_other() { lock(&shared.rng).random_range(1..=2 * LAG) } else { 0 };
    let head = shared.head().await?.saturating_sub(back);
    if asks_for_head {
        return shared.ask(method, &json!([hex(head), params[1]])).await;
    }
    Ok(result(&hex(head)))
}

/// A node that knows its blocks before it has indexed the logs of the last [`LAG`] ones.
pub(super) async fn without_new_logs(shared: &Shared, method: &str, params: &Value) -> Result<Value, String> {
    let mut answer = shared.ask(method, params).await?;
    if method == "eth_getLogs" {
        let indexed = shared.head().await?.saturating_sub(LAG);
        if let Some(found) = answer["result"].as_array_mut() {
            found.retain(|log| quantity(&log["blockNumber"]).is_some_and(|number| number <= indexed));
        }
    }
    Ok(answer)
}

/// A node that keeps the state of the last [`STATE`] blocks only, and says so or answers with nothing;
/// without old code, `eth_getCode` is state as well.
pub(super) async fn pruned(
    shared: &Shared,
    method: &str,
    params: &Value,
    fault: Fault,
) -> Result<Value, String> {
    let affected = match method {
        "eth_call" => fault != Fault::CodeEmpty,
        "eth_getCode" => matches!(fault, Fault::NoOldCode | Fault::CodeEmpty),
        _ => false,
    };
    if affected {
        let head = shared.head().await?;
        let old = |number: u64| number + STATE <= head;
        if block_of(&params[1], head).is_some_and(old) {
            return Ok(match fault {
                Fault::StateEmpty | Fault::CodeEmpty => result(&json!("0x")),
                Fault::NoOldStateOdd => error(-32000, "height too low"),
                _ => error(-32000, "missing trie node 7c2b0d (path ) state 0x7c2b0d is not available"),
            });
        }
    }
    shared.ask(method, params).await
}

/// A busy node, which now and then, or as long as the state is gone always, breaks off where it must execute
/// or look into state.
pub(super) async fn failing(
    shared: &Shared,
    method: &str,
    params: &Value,
    fault: Fault,
) -> Result<Value, String> {
    let looks = matches!(method, "eth_call" | "eth_getCode");
    if looks && (fault == Fault::StateGone || lock(&shared.rng).random_ratio(1, 50)) {
        return Ok(match fault {
            Fault::BadUpstream => error(-32000, "upstream connection in bad state, retry"),
            Fault::StatePassing | Fault::StateGone if shared.either() => {
                error(-32000, "missing trie node 7c2b0d (path ) state 0x7c2b0d is not available")
            }
            Fault::StatePassing | Fault::StateGone => {
                error(-32000, "Internal Error - canceling statement due to statement timeout")
            }
            _ => error(-32000, "execution aborted (timeout = 5s)"),
        });
    }
    shared.ask(method, params).await
}

fn result(result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "result": result})
}

fn error(code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}})
}
