//! Faults of logs: their block times, and noise among them that a reader must see through.

use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::answer::block_of;
use super::fault::Fault;
use super::{Shared, hex, lock, quantity};

/// The blocks that an `eth_getLogs` asks for; `None` where it names one by its hash.
pub(super) async fn range(shared: &Shared, params: &Value) -> Result<Option<(u64, u64)>, String> {
    let filter = &params[0];
    if filter.get("blockHash").is_some() {
        return Ok(None);
    }
    let head = shared.head().await?;
    let from = block_of(&filter["fromBlock"], head);
    let to = block_of(&filter["toBlock"], head);
    Ok(from.zip(to))
}

/// Whether a call asks for the logs of more than one block.
pub(super) fn of_several_blocks(call: &Value) -> bool {
    let filter = &call["params"][0];
    call["method"] == "eth_getLogs" && quantity(&filter["fromBlock"]) < quantity(&filter["toBlock"])
}

/// Spoils the logs of an answer.
pub(super) async fn spoil(
    fault: Fault,
    result: &mut Value,
    params: &Value,
    shared: &Shared,
) -> Result<(), String> {
    let Some(logs) = result.as_array_mut() else { return Ok(()) };
    match fault {
        Fault::TimestampsPresent => {
            for log in &mut *logs {
                let block = shared.ask("eth_getBlockByNumber", &json!([log["blockNumber"], false])).await?;
                log["blockTimestamp"] = block["result"]["timestamp"].clone();
            }
        }
        Fault::TimestampsNull => each(logs, |log| log["blockTimestamp"] = Value::Null),
        Fault::TimestampsZero => each(logs, |log| log["blockTimestamp"] = json!("0x0")),
        Fault::TimestampsMalformed => each(logs, |log| log["blockTimestamp"] = json!("yesterday")),
        Fault::TimestampsAbsent => each(logs, |log| {
            log.as_object_mut().and_then(|log| log.remove("blockTimestamp"));
        }),
        Fault::RemovedNull => each(logs, |log| log["removed"] = Value::Null),
        Fault::RemovedAbsent => each(logs, |log| {
            log.as_object_mut().and_then(|log| log.remove("removed"));
        }),
        // On the simulated chain every log has a transaction of its own.
        Fault::IndexPerTx => each(logs, |log| log["logIndex"] = hex(0)),
        Fault::NoiseTwice => *logs = logs.iter().flat_map(|log| [log.clone(), log.clone()]).collect(),
        Fault::NoiseUnordered => logs.shuffle(&mut *lock(&shared.rng)),
        Fault::NoiseForeign => add(logs, |log| log["address"] = json!(format!("0x{}", "fe".repeat(20)))),
        Fault::NoiseRemoved => add(logs, |log| {
            log["removed"] = json!(true);
            log["blockHash"] = json!(format!("0x{}", "0d".repeat(32)));
        }),
        Fault::NoiseTopics => {
            add(logs, |log| log["topics"] = json!([format!("0x{}", "ab".repeat(32))]));
            add(logs, |log| log["topics"] = json!([]));
        }
        Fault::NoiseRange => {
            let Some((from, to)) = range(shared, params).await? else { return Ok(()) };
            add(logs, |log| {
                log["blockNumber"] =
                    hex(if quantity(&log["blockNumber"]) == Some(from) { to + 1 } else { to + 2 });
                log["blockHash"] = json!(format!("0x{}", "0e".repeat(32)));
            });
        }
        _ => {}
    }
    Ok(())
}

fn each(logs: &mut [Value], change: impl Fn(&mut Value)) {
    logs.iter_mut().for_each(change);
}

/// Adds a changed copy of the first log and of the last one, with places of their own in the block.
fn add(logs: &mut Vec<Value>, change: impl Fn(&mut Value)) {
    let copies: Vec<Value> = logs.first().into_iter().chain(logs.last()).cloned().collect();
    for mut copy in copies {
        copy["logIndex"] = hex(0xf000 + logs.len() as u64);
        change(&mut copy);
        logs.insert(0, copy);
    }
}
