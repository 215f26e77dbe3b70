//! What a node answers: JSON-RPC over a [`Chain`].
//!
//! Pure: bytes in, bytes out. An honest node; faults are put in front of it by others.

use serde::Serialize;
use serde_json::{Value, json};
use web3::types::{Block, Bytes, H160, H256, U64, U256};

use super::chain::{Chain, PlacedLog};
use super::event::{self, Variant};
use super::multicall;

/// Answers a request or a batch; the answers of a batch stand in its order.
pub fn answer(chain: &Chain, body: &[u8]) -> Vec<u8> {
    match serde_json::from_slice(body) {
        Ok(Value::Array(batch)) if !batch.is_empty() => {
            joined(batch.iter().map(|request| respond(chain, request)))
        }
        Ok(Value::Array(_)) => failure(&Value::Null, &Error::new(-32600, "empty batch")),
        Ok(request) => respond(chain, &request),
        Err(error) => failure(&Value::Null, &Error::new(-32700, format!("parse error: {error}"))),
    }
}

/// A block as `eth_getBlockByNumber` answers it, with the hashes of its transactions.
pub fn block_object(chain: &Chain, height: u64) -> Vec<u8> {
    written(&block(chain, height))
}

/// A log as `eth_getLogs` answers it.
pub fn log_object(chain: &Chain, log: PlacedLog) -> Vec<u8> {
    written(&object(chain, log))
}

/// A JSON-RPC error.
#[derive(Serialize)]
struct Error {
    code: i64,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'static str>,
}

impl Error {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    fn params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }
}

/// A log as nodes write it. web3's own type lacks `blockTimestamp`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogObject {
    address: H160,
    topics: Vec<H256>,
    data: Bytes,
    block_number: U64,
    block_hash: H256,
    transaction_hash: H256,
    transaction_index: U64,
    log_index: U64,
    removed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_timestamp: Option<U64>,
}

fn respond(chain: &Chain, request: &Value) -> Vec<u8> {
    let id = request.get("id").unwrap_or(&Value::Null);
    let Some(method) = request.get("method").and_then(Value::as_str) else {
        return failure(id, &Error::new(-32600, "no method"));
    };
    let params = request.get("params").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match method {
        "eth_chainId" => success(id, &U64::from(chain.params().chain_id)),
        "net_version" => success(id, &chain.params().chain_id.to_string()),
        "web3_clientVersion" => success(id, &"simchain"),
        "eth_blockNumber" => success(id, &U64::from(chain.head())),
        "eth_getBlockByNumber" => {
            finish(id, tagged(chain, param(params, 0)).map(|at| at.map(|at| block(chain, at))))
        }
        "eth_getBlockByHash" => finish(
            id,
            parse::<H256>(param(params, 0)).map(|hash| chain.height(hash).map(|at| block(chain, at))),
        ),
        "eth_getLogs" => finish(id, logs(chain, param(params, 0))),
        "eth_getCode" => finish(id, code(chain, params)),
        "eth_call" => finish(id, call(chain, params)),
        _ => failure(id, &Error::new(-32601, format!("the method {method} does not exist"))),
    }
}

fn block(chain: &Chain, height: u64) -> Block<H256> {
    let parent = height.checked_sub(1).map_or(H256::zero(), |parent| chain.hash(parent));
    Block {
        hash: Some(chain.hash(height)),
        parent_hash: parent,
        number: Some(height.into()),
        timestamp: chain.time(height).into(),
        logs_bloom: Some(chain.bloom(height)),
        receipts_root: receipts_root(chain, height),
        gas_limit: 30_000_000.into(),
        // Some libraries insist on these.
        size: Some(1000.into()),
        mix_hash: Some(H256::zero()),
        nonce: Some(web3::types::H64::zero()),
        total_difficulty: Some(U256::zero()),
        base_fee_per_gas: Some(1_000_000_000.into()),
        // Every log has a transaction of its own.
        transactions: chain.logs(height..=height).map(|log| transaction_hash(chain, &log)).collect(),
        ..Block::default()
    }
}

/// That of an empty trie where nothing happened. Otherwise some hash: the receipts are not simulated.
fn receipts_root(chain: &Chain, height: u64) -> H256 {
    match chain.logs(height..=height).next() {
        None => H256(web3::signing::keccak256(&[0x80])),
        Some(_) => H256(web3::signing::keccak256(chain.hash(height).as_bytes())),
    }
}

fn transaction_hash(chain: &Chain, log: &PlacedLog) -> H256 {
    let block = chain.hash(log.block);
    H256(web3::signing::keccak256(&[block.as_bytes(), &log.index.to_be_bytes()].concat()))
}

fn logs(chain: &Chain, filter: &Value) -> Result<Vec<LogObject>, Error> {
    let (from, to) = match filter.get("blockHash").filter(|hash| !hash.is_null()) {
        Some(hash) => {
            let height = chain.height(parse(hash)?).ok_or_else(|| Error::new(-32000, "unknown block"))?;
            (height, height)
        }
        None => {
            let bound = |key: &str| match filter.get(key).unwrap_or(&Value::Null) {
                Value::Null => Ok(chain.head()),
                // What lies beyond the head holds no logs.
                value => Ok(tagged(chain, value)?.unwrap_or(u64::MAX)),
            };
            (bound("fromBlock")?, bound("toBlock")?)
        }
    };
    if from > to {
        return Err(Error::params("invalid block range: fromBlock is greater than toBlock"));
    }
    let addresses = one_or_many::<H160>(filter.get("address").unwrap_or(&Value::Null))?;
    if addresses.is_some_and(|wanted| !wanted.contains(&chain.contract())) {
        return Ok(Vec::new());
    }
    let topics = filter.get("topics").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let topics = topics.iter().map(one_or_many::<H256>).collect::<Result<Vec<_>, _>>()?;
    let matches = |log: &PlacedLog| {
        topics.iter().enumerate().all(|(place, wanted)| match (wanted, log.raw.topics.get(place)) {
            (None, _) => true,
            (Some(wanted), Some(topic)) => wanted.contains(topic),
            (Some(_), None) => false,
        })
    };
    Ok(chain.logs(from..=to).filter(matches).map(|log| object(chain, log)).collect())
}

fn object(chain: &Chain, log: PlacedLog) -> LogObject {
    LogObject {
        address: chain.contract(),
        block_number: log.block.into(),
        block_hash: chain.hash(log.block),
        transaction_hash: transaction_hash(chain, &log),
        transaction_index: log.index.into(),
        log_index: log.index.into(),
        removed: false,
        block_timestamp: chain.params().log_timestamps.then(|| chain.time(log.block).into()),
        topics: log.raw.topics,
        data: Bytes(log.raw.data),
    }
}

fn code(chain: &Chain, params: &[Value]) -> Result<Bytes, Error> {
    let at = state_height(chain, param(params, 1))?;
    let deployed = parse::<H160>(param(params, 0))? == chain.contract() && chain.views(at).is_some();
    Ok(Bytes(if deployed { b"\x60\x80simulated".to_vec() } else { Vec::new() }))
}

fn call(chain: &Chain, params: &[Value]) -> Result<Bytes, Error> {
    let request = param(params, 0);
    let at = state_height(chain, param(params, 1))?;
    let to: H160 = parse(request.get("to").unwrap_or(&Value::Null))?;
    let input = request.get("input").or_else(|| request.get("data")).unwrap_or(&Value::Null);
    let Bytes(input) = parse(input)?;
    let returned = if to == multicall::ADDRESS {
        multicall::respond(&input, chain.params().chain_id, &|to, input| view(chain, at, to, input))
    } else {
        view(chain, at, to, &input)
    };
    let revert = || Error { code: 3, message: "execution reverted".to_owned(), data: Some("0x") };
    returned.map(Bytes).ok_or_else(revert)
}

/// What a contract returns; `None` where it reverts.
fn view(chain: &Chain, at: u64, to: H160, input: &[u8]) -> Option<Vec<u8>> {
    let Some(views) = chain.views(at).filter(|_| to == chain.contract()) else {
        // No code there: a call succeeds and returns nothing.
        return Some(Vec::new());
    };
    let buffer = chain.params().variant == Variant::Buffer;
    let called = |view: &str| input.get(..4) == Some(&event::topic(view).as_bytes()[..4]);
    let word = if called("owner()") {
        event::padded(views.owner)
    } else if called("transaction_count()") {
        H256::from_low_u64_be(chain.transaction_count(at))
    } else if called("coordination_window()") {
        H256::from_low_u64_be(views.window.into())
    } else if buffer && called("paused()") {
        H256::from_low_u64_be(views.paused.into())
    } else if buffer && called("circuit_breaker_active()") {
        H256::from_low_u64_be(views.breaker.into())
    } else if buffer && called("emergency_admin()") {
        event::padded(views.emergency_admin)
    } else {
        return None;
    };
    Some(word.as_bytes().to_vec())
}

/// The height that a state is read at: a number, a tag, or an object as in EIP-1898.
fn state_height(chain: &Chain, value: &Value) -> Result<u64, Error> {
    let height = match value {
        Value::Null => Some(chain.head()),
        Value::Object(object) => match object.get("blockHash") {
            Some(hash) => chain.height(parse(hash)?),
            None => tagged(chain, object.get("blockNumber").unwrap_or(&Value::Null))?,
        },
        value => tagged(chain, value)?,
    };
    let height = height.ok_or_else(|| Error::new(-32000, "header not found"))?;
    match chain.params().state_depth {
        Some(depth) if height + depth < chain.head() => {
            Err(Error::new(-32000, format!("missing trie node: state of block {height} is not available")))
        }
        _ => Ok(height),
    }
}

/// The height that a number or a tag means; `None` beyond the head.
fn tagged(chain: &Chain, value: &Value) -> Result<Option<u64>, Error> {
    let head = chain.head();
    let height = match value.as_str() {
        Some("latest" | "pending") => head,
        Some("safe") => head.saturating_sub(chain.params().safe_depth),
        Some("finalized") => head.saturating_sub(chain.params().finalized_depth),
        Some("earliest") => 0,
        _ => parse::<U64>(value)?.as_u64(),
    };
    Ok((height <= head).then_some(height))
}

fn param(params: &[Value], place: usize) -> &Value {
    params.get(place).unwrap_or(&Value::Null)
}

fn parse<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| Error::params(format!("invalid argument {value}: {error}")))
}

/// A filter's member: nothing for anything, one value, or any of several.
fn one_or_many<T: serde::de::DeserializeOwned>(value: &Value) -> Result<Option<Vec<T>>, Error> {
    match value {
        Value::Null => Ok(None),
        Value::Array(values) if values.is_empty() => Ok(None),
        Value::Array(values) => values.iter().map(parse).collect::<Result<_, _>>().map(Some),
        value => Ok(Some(vec![parse(value)?])),
    }
}

fn finish<T: Serialize>(id: &Value, result: Result<T, Error>) -> Vec<u8> {
    match result {
        Ok(result) => success(id, &result),
        Err(error) => failure(id, &error),
    }
}

fn success<T: Serialize>(id: &Value, result: &T) -> Vec<u8> {
    written(&Response { jsonrpc: "2.0", id, body: Body::Result(result) })
}

fn failure(id: &Value, error: &Error) -> Vec<u8> {
    written(&Response::<()> { jsonrpc: "2.0", id, body: Body::Error(error) })
}

#[derive(Serialize)]
struct Response<'a, T> {
    jsonrpc: &'static str,
    id: &'a Value,
    #[serde(flatten)]
    body: Body<'a, T>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Body<'a, T> {
    Result(&'a T),
    Error(&'a Error),
}

fn written<T: Serialize>(response: &T) -> Vec<u8> {
    serde_json::to_vec(response)
        .unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string().into())
}

fn joined(responses: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut batch = responses.fold(vec![b'['], |mut batch, response| {
        batch.extend(response);
        batch.push(b',');
        batch
    });
    batch.pop();
    batch.push(b']');
    batch
}
