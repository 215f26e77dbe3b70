//! Faults of JSON-RPC: ids, results, errors and batches. Asks the node behind the proxy for the right
//! answer to every call, and spoils it.

use serde_json::{Value, json};
use web3::types::H160;

use super::fault::Fault;
use super::refusal::{Cap, Refusal, html};
use super::transport::{LATE, pause};
use super::{Shared, bulk, lock, logs, multicall, quantity, replica, silent};

/// Every so many blocks one has more logs than [`Fault::LogsFull`] gives.
const FULL: u64 = 8;

/// A whole answer, before what happens to its bytes.
pub(super) struct Outcome {
    pub(super) status: u16,
    pub(super) json: bool,
    pub(super) text: String,
}

impl Outcome {
    fn json(status: u16, answer: &Value) -> Self {
        Self { status, json: true, text: answer.to_string() }
    }

    fn page(status: u16, text: String) -> Self {
        Self { status, json: false, text }
    }
}

/// Answers a call or a batch of them. An error means that the node behind the proxy did not answer.
pub(super) async fn answers(shared: &Shared, fault: Fault, asked: Value) -> Result<Outcome, String> {
    let lagging = match fault {
        Fault::Lagging | Fault::LaggingStrict => true,
        Fault::Flapping | Fault::FlappingStrict => shared.every_other(),
        _ => false,
    };
    let calls = match asked {
        Value::Array(calls) => match refuse_batch(fault, calls.len()) {
            Some(outcome) => return Ok(outcome),
            None => calls,
        },
        call => {
            return Ok(match one(shared, fault, &call, lagging).await? {
                Reply::Answer(answer) => Outcome::json(status(fault, &answer), &answer),
                Reply::Page(refusal) => Outcome::page(refusal.status, refusal.html()),
            });
        }
    };
    if fault == Fault::SlowCalls {
        pause(LATE * u32::try_from(calls.len()).unwrap_or(u32::MAX)).await;
    }
    let mut batch = Vec::with_capacity(calls.len());
    for call in &calls {
        let lagging = lagging || (fault == Fault::FlappingParts && shared.either());
        match one(shared, fault, call, lagging).await? {
            Reply::Answer(answer) => batch.push(answer),
            Reply::Page(refusal) => return Ok(Outcome::page(refusal.status, refusal.html())),
        }
    }
    spoil_batch(fault, &mut batch);
    if fault == Fault::BatchFirstOnly {
        return Ok(Outcome::json(200, &batch.swap_remove(0)));
    }
    Ok(Outcome::json(200, &Value::Array(batch)))
}

/// What becomes of one call.
enum Reply {
    /// A JSON-RPC answer.
    Answer(Value),
    /// A page of HTML in place of everything.
    Page(&'static Refusal),
}

async fn one(shared: &Shared, fault: Fault, call: &Value, lagging: bool) -> Result<Reply, String> {
    let method = call["method"].as_str().unwrap_or_default();
    let params = &call["params"];
    if let Some(reply) = refuse(fault, call) {
        return Ok(reply);
    }
    if let Some(answer) = multicall::instead(fault, call, shared) {
        return Ok(Reply::Answer(answer));
    }
    let mut answer = if lagging {
        let strict = matches!(fault, Fault::LaggingStrict | Fault::FlappingStrict);
        replica::lagging(shared, method, params, strict).await?
    } else {
        match fault {
            Fault::HeadJumps => replica::jumping(shared, method, params).await?,
            Fault::LogsLate => replica::without_new_logs(shared, method, params).await?,
            Fault::NoOldState
            | Fault::NoOldCode
            | Fault::NoOldStateOdd
            | Fault::StateEmpty
            | Fault::CodeEmpty => replica::pruned(shared, method, params, fault).await?,
            Fault::StateErrors | Fault::BadUpstream | Fault::StatePassing | Fault::StateGone => {
                replica::failing(shared, method, params, fault).await?
            }
            _ => shared.ask(method, params).await?,
        }
    };
    answer["id"] = call["id"].clone();
    if method == "eth_getLogs" {
        if let Fault::Range(refusal) = fault
            && let Some((from, to, cap)) = exceeds(shared, refusal, params, &answer).await?
        {
            if refusal.code.is_none() {
                return Ok(Reply::Page(refusal));
            }
            answer = error(call, &refusal.error(from, to, cap));
        }
        if fault == Fault::LogsFull
            && let Some((from, to)) = logs::range(shared, params).await?
            && to / FULL * FULL >= from
        {
            answer = too_many(call);
        }
        if let Some(result) = answer.get_mut("result") {
            logs::spoil(fault, result, params, shared).await?;
            silent::spoil(fault, result, params, shared).await?;
        }
    }
    if let Some(result) = answer.get_mut("result") {
        spoil_header(fault, result, *lock(&shared.contract));
    }
    spoil(fault, &mut answer);
    bulk::mark(fault, method, &mut answer);
    Ok(Reply::Answer(answer))
}

/// An answer that needs nothing from the node.
fn refuse(fault: Fault, call: &Value) -> Option<Reply> {
    let method = call["method"].as_str().unwrap_or_default();
    let answer = match (fault, method) {
        (Fault::Rate(refusal), _) => error(call, &refusal.error(0, 0, Cap::None)),
        (Fault::WrongChain, "eth_chainId") => {
            json!({"jsonrpc": "2.0", "id": call["id"], "result": "0xdead"})
        }
        (Fault::NoBlockHash, "eth_getLogs") if call["params"][0].get("blockHash").is_some() => {
            error(call, &json!({"code": -32602, "message": "invalid argument 0: unknown field blockHash"}))
        }
        (Fault::StateAtLatest, "eth_call" | "eth_getCode") if call["params"][1] != "latest" => {
            let message = "QUANTITY not supported, just support TAG as latest";
            error(call, &json!({"code": -32602, "message": message}))
        }
        (Fault::FinalizedUnknown, "eth_getBlockByNumber") => match call["params"][0].as_str() {
            Some(tag @ ("safe" | "finalized")) => {
                error(call, &json!({"code": -32000, "message": format!("{tag} block not found")}))
            }
            _ => return None,
        },
        (Fault::LogsRefused, "eth_getLogs") => too_many(call),
        (Fault::LogsNull, "eth_getLogs") => json!({"jsonrpc": "2.0", "id": call["id"], "result": null}),
        (Fault::ErrorOk, _) => error(call, &json!({"code": -32603, "message": "internal error"})),
        (Fault::MethodMissing, _) => {
            let message = format!("the method {method} does not exist/is not available");
            error(call, &json!({"code": -32601, "message": message}))
        }
        _ => return None,
    };
    Some(Reply::Answer(answer))
}

fn too_many(call: &Value) -> Value {
    error(call, &json!({"code": -32005, "message": "query returned more than 10000 results"}))
}

fn error(call: &Value, error: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": call["id"], "error": error})
}

/// The blocks asked for and the cap in force, when the answer is more than the provider allows.
async fn exceeds(
    shared: &Shared,
    refusal: &Refusal,
    params: &Value,
    answer: &Value,
) -> Result<Option<(u64, u64, Cap)>, String> {
    let Some((from, to)) = logs::range(shared, params).await? else { return Ok(None) };
    let cap = refusal.cap.scaled(shared.scale.load(std::sync::atomic::Ordering::Relaxed));
    let results = answer["result"].as_array().map_or(0, Vec::len) as u64;
    let too_much = match cap {
        Cap::Blocks(cap) => to.saturating_sub(from) + 1 > cap,
        // One block is always allowed: no provider leaves a block that cannot be read at all.
        Cap::Results(cap) => results > cap && to > from,
        Cap::None => false,
    };
    Ok((too_much && from <= to).then_some((from, to, cap)))
}

fn status(fault: Fault, answer: &Value) -> u16 {
    match fault {
        Fault::Range(refusal) | Fault::Rate(refusal) if !answer["error"].is_null() => refusal.status,
        _ => 200,
    }
}

/// Faults of any single answer.
fn spoil(fault: Fault, answer: &mut Value) {
    let Some(fields) = answer.as_object_mut() else { return };
    let set = |fields: &mut serde_json::Map<String, Value>, name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    match fault {
        Fault::WrongId => {
            let id = fields["id"].as_u64().unwrap_or(0);
            set(fields, "id", json!(id + 1_000_000));
        }
        Fault::NullId => set(fields, "id", Value::Null),
        Fault::NullResult => set(fields, "result", Value::Null),
        Fault::NoResult => {
            fields.remove("result");
        }
        Fault::ErrorWithNullResult => {
            set(fields, "result", Value::Null);
            set(fields, "error", json!({"code": -32000, "message": "header not found"}));
        }
        Fault::NullError if fields.contains_key("result") => set(fields, "error", Value::Null),
        _ => {}
    }
}

/// Faults of block headers, in whatever answer they come.
fn spoil_header(fault: Fault, result: &mut Value, contract: H160) {
    let Some(header) = result.as_object_mut().filter(|it| it.contains_key("logsBloom")) else { return };
    match fault {
        Fault::OwnParent => {
            header.insert("parentHash".to_owned(), header["hash"].clone());
        }
        Fault::BloomAbsent | Fault::ReadyOmitted => {
            header.remove("logsBloom");
        }
        Fault::BloomZero => {
            header.insert("logsBloom".to_owned(), json!(format!("0x{}", "00".repeat(256))));
        }
        Fault::BloomFull => {
            header.insert("logsBloom".to_owned(), json!(format!("0x{}", "ff".repeat(256))));
        }
        Fault::BloomShort => {
            header.insert("logsBloom".to_owned(), json!("0x"));
        }
        Fault::BloomFalseOnce => silent::promise(header, contract),
        Fault::BloomPartial => silent::leave_out(header),
        _ => {}
    }
}

fn refuse_batch(fault: Fault, members: usize) -> Option<Outcome> {
    let refusal = |status, message| {
        let error = json!({"code": -32600, "message": message});
        Some(Outcome::json(status, &json!({"jsonrpc": "2.0", "id": null, "error": error})))
    };
    match fault {
        Fault::BatchRefused | Fault::NoBlockHash => refusal(200, "batch requests are not supported"),
        Fault::BatchRefused400 => refusal(400, "Invalid Request"),
        Fault::BatchRefusedHtml => Some(Outcome::page(405, html("405 Method Not Allowed"))),
        Fault::BatchEmpty => Some(Outcome::json(200, &json!([]))),
        Fault::BatchHollow => {
            Some(Outcome { status: 200, json: true, text: format!("[{}{{}}]", "{},".repeat(bulk::MASS / 3)) })
        }
        Fault::BatchSmall if members > 3 => refusal(200, "batch size too large"),
        Fault::BatchCounted if members > 12 => refusal(429, "15/second request limit reached"),
        Fault::Rate(refused) if refused.status == 429 => {
            let error = refused.error(0, 0, Cap::None);
            Some(Outcome::json(429, &json!({"jsonrpc": "2.0", "id": null, "error": error})))
        }
        _ => None,
    }
}

fn spoil_batch(fault: Fault, batch: &mut Vec<Value>) {
    match fault {
        Fault::BatchReordered => batch.reverse(),
        Fault::BatchMissing => {
            batch.pop();
        }
        Fault::BatchMembersRefused => batch.iter_mut().for_each(|answer| {
            *answer = error(answer, &json!({"code": -32600, "message": "batch requests are not supported"}));
        }),
        Fault::BatchTwice => batch.extend(batch.first().cloned()),
        _ => {}
    }
}

/// The block of a call's parameter: a number, a tag, or absent, which means the newest.
pub(super) fn block_of(parameter: &Value, head: u64) -> Option<u64> {
    match parameter.as_str() {
        None | Some("latest" | "pending") => Some(head),
        Some("earliest") => Some(0),
        Some(_) => quantity(parameter),
    }
}
