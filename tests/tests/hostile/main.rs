//! The hostile node itself, seen over a socket: every fault does what its line says, and nothing else.
#![allow(clippy::unwrap_used)]

mod bulk;
mod mixtures;
mod multicall;
mod silent;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tesseract_tests::hostile::{Cap, Fault, Kind, LAG, Proxy};
use tesseract_tests::sim::{Params, Sim};
use tokio::time::timeout;

const HEAD: u64 = 400;

/// What one request got.
#[derive(Debug, PartialEq)]
enum Got {
    NoAnswer,
    Reset,
    Text(u16, String),
    Json(u16, Value),
}

/// Whoever has not answered by then never will: a busy machine takes its time.
const NO_ANSWER: Duration = Duration::from_secs(5);

impl Got {
    fn json(&self) -> &Value {
        match self {
            Self::Json(200, value) => value,
            other => panic!("not JSON with status 200: {other:?}"),
        }
    }

    fn result(&self) -> &Value {
        &self.json()["result"]
    }
}

struct Rig {
    sim: Sim,
    proxy: Proxy,
}

impl Rig {
    async fn start() -> Self {
        let sim = lively().await;
        let proxy = Proxy::start(&sim.url()).await;
        Self { sim, proxy }
    }

    async fn with(fault: Fault) -> Self {
        let rig = Self::start().await;
        rig.proxy.set(fault);
        rig
    }

    async fn post(&self, body: &Value) -> Got {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::post(self.proxy.url()).body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let exchange = async {
            let Ok(response) = client.request(request).await else { return Got::Reset };
            let status = response.status().as_u16();
            match Limited::new(response.into_body(), 8 << 20).collect().await {
                Ok(body) => {
                    let body = body.to_bytes();
                    let text = || Got::Text(status, String::from_utf8_lossy(&body).into_owned());
                    serde_json::from_slice(&body).map_or_else(|_| text(), |value| Got::Json(status, value))
                }
                Err(error) if error.is::<LengthLimitError>() => Got::Text(status, "oversized".to_owned()),
                Err(_) => Got::Reset,
            }
        };
        timeout(NO_ANSWER, exchange).await.unwrap_or(Got::NoAnswer)
    }

    async fn call(&self, method: &str, params: Value) -> Got {
        self.post(&call(7, method, &params)).await
    }

    async fn head(&self) -> Got {
        self.call("eth_blockNumber", json!([])).await
    }

    async fn header(&self, block: Value) -> Value {
        self.call("eth_getBlockByNumber", json!([block, false])).await.result().clone()
    }

    async fn logs(&self, from: u64, to: u64) -> Got {
        self.call("eth_getLogs", json!([{"fromBlock": hex(from), "toBlock": hex(to)}])).await
    }
}

async fn lively() -> Sim {
    let sim = Sim::start(Params { buffered_per_hour: 3600, ..Params::default() }).await.unwrap();
    sim.advance(HEAD);
    sim
}

fn call(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(&value.as_str().unwrap()[2..], 16).unwrap()
}

#[tokio::test]
async fn without_a_fault_it_is_the_node_and_counts() {
    let rig = Rig::start().await;
    assert_eq!(number(rig.head().await.result()), HEAD);
    let batch = json!([call(1, "eth_chainId", &json!([])), call(2, "eth_blockNumber", &json!([]))]);
    assert_eq!(rig.post(&batch).await.json().as_array().unwrap().len(), 2);
    let counts = rig.proxy.counts();
    assert_eq!((counts.http, counts.faulty, counts.total()), (2, 0, 3));
    assert_eq!((counts.of("eth_blockNumber"), counts.of("eth_chainId"), counts.of("eth_getLogs")), (2, 1, 0));
}

#[test]
fn names_are_unique_and_lead_back() {
    for fault in Fault::all() {
        assert_eq!(Fault::named(fault.name()), Some(fault), "{fault}");
        assert!(!fault.about().is_empty());
    }
    let capped = Fault::all().filter(|fault| fault.kind() == Kind::Capped);
    let providers: BTreeSet<_> = capped.filter_map(|fault| fault.name().split('-').next()).collect();
    assert!(providers.len() >= 20, "{providers:?}");
}

#[tokio::test]
async fn an_outage_never_gives_the_right_answer() {
    let rig = Rig::start().await;
    let single = call(7, "eth_getLogs", &json!([{"fromBlock": "0x0", "toBlock": hex(HEAD)}]));
    let header = call(8, "eth_getBlockByNumber", &json!([hex(HEAD), false]));
    let code = call(10, "eth_getCode", &json!([rig.sim.chain().contract(), "latest"]));
    let batch = json!([single, header, call(9, "eth_chainId", &json!([])), code]);
    let (right_single, right_batch) = (rig.post(&single).await, rig.post(&batch).await);
    let outages = Fault::all().filter(|fault| matches!(fault.kind(), Kind::Outage | Kind::RateLimit));
    for fault in outages {
        rig.proxy.set(fault);
        if !matches!(fault, Fault::WrongChain | Fault::StateGone) {
            assert_ne!(rig.post(&single).await, right_single, "{fault}");
        }
        assert_ne!(rig.post(&batch).await, right_batch, "{fault}");
        rig.proxy.clear();
        assert_eq!(rig.post(&single).await, right_single, "after {fault}");
    }
}

#[tokio::test]
async fn faults_of_transport_and_envelope() {
    let rig = Rig::start().await;
    let right = json!({"jsonrpc": "2.0", "id": 7, "result": hex(HEAD)});
    let with = |key: &str, value: Value| {
        let mut answer = right.clone();
        answer[key] = value;
        Got::Json(200, answer)
    };
    for (fault, wanted) in [
        (Fault::Hang, Got::NoAnswer),
        (Fault::Trickle, Got::NoAnswer),
        (Fault::ResetBefore, Got::Reset),
        (Fault::ResetMidBody, Got::Reset),
        (Fault::OversizedJson, Got::Text(200, "oversized".to_owned())),
        (Fault::EmptyBody, Got::Text(200, String::new())),
        (Fault::Forbidden, Got::Json(403, json!({"message": "Forbidden"}))),
        (Fault::WrongId, with("id", json!(1_000_007))),
        (Fault::NullId, with("id", Value::Null)),
        (Fault::NullResult, with("result", Value::Null)),
        (Fault::NoResult, Got::Json(200, json!({"jsonrpc": "2.0", "id": 7}))),
        (Fault::NullError, with("error", Value::Null)),
        (Fault::Slow, with("id", json!(7))),
        (Fault::CloseAfterEach, with("id", json!(7))),
    ] {
        rig.proxy.set(fault);
        assert_eq!(rig.head().await, wanted, "{fault}");
    }
    for (fault, status) in [(Fault::HtmlOk, 200), (Fault::BadGateway, 502), (Fault::Unavailable, 503)] {
        rig.proxy.set(fault);
        let Got::Text(got, page) = rig.head().await else { panic!("{fault}") };
        assert!(got == status && page.starts_with("<!DOCTYPE html>"), "{fault}: {got} {page}");
    }
}

#[tokio::test]
async fn retry_after_comes_in_both_forms() {
    let rig = Rig::start().await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut forms = Vec::new();
    for fault in [Fault::RetryAfterSeconds, Fault::RetryAfterDate] {
        rig.proxy.set(fault);
        let response = client.get(rig.proxy.url().parse().unwrap()).await.unwrap();
        assert_eq!(response.status(), 429);
        forms.push(response.headers()["retry-after"].to_str().unwrap().to_owned());
    }
    assert_eq!(forms[0], "1");
    let wait = httpdate::parse_http_date(&forms[1]).unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(wait <= Duration::from_secs(2), "{wait:?}");
}

#[tokio::test]
async fn every_wording_caps_what_it_says_and_nothing_below() {
    let rig = Rig::start().await;
    rig.proxy.scale(100);
    for fault in Fault::all() {
        let Fault::Range(refusal) = fault else { continue };
        rig.proxy.set(fault);
        let refused = rig.logs(0, HEAD).await;
        match (&refused, refusal.code) {
            (Got::Json(status, value), Some(code)) => {
                assert_eq!((*status, &value["error"]["code"]), (refusal.status, &json!(code)), "{fault}");
                let message = value["error"]["message"].as_str().unwrap();
                assert!(!message.contains('{') && !message.is_empty(), "{fault}: {message}");
            }
            (Got::Text(status, page), None) => {
                assert!(*status == refusal.status && page.contains("<html>"), "{fault}");
            }
            other => panic!("{fault}: {other:?}"),
        }
        if let Cap::Blocks(cap) = refusal.cap.scaled(100) {
            let allowed = rig.logs(101, 100 + cap).await;
            assert!(allowed.result().is_array(), "{fault}: {cap} blocks are allowed");
            let more = rig.logs(101, 101 + cap).await;
            assert!(!matches!(more, Got::Json(_, value) if value["result"].is_array()), "{fault}: one more");
        }
        assert!(rig.logs(HEAD, HEAD).await.result().is_array(), "{fault}: one block is allowed");
        assert_eq!(number(rig.head().await.result()), HEAD, "{fault}: other calls are allowed");
    }
}

#[tokio::test]
async fn a_lagging_replica_does_not_have_the_newest_blocks() {
    let rig = Rig::with(Fault::Lagging).await;
    let newest = HEAD - LAG;
    assert_eq!(number(rig.head().await.result()), newest);
    assert_eq!(number(&rig.header(json!("latest")).await["number"]), newest);
    assert!(rig.header(json!(hex(newest))).await.is_object());
    assert!(rig.header(json!(hex(newest + 1))).await.is_null());
    let (known, unknown) = (rig.sim.chain().hash(newest), rig.sim.chain().hash(HEAD));
    assert!(rig.call("eth_getBlockByHash", json!([known, false])).await.result().is_object());
    assert!(rig.call("eth_getBlockByHash", json!([unknown, false])).await.result().is_null());
    let logs = rig.logs(0, HEAD).await.result().as_array().unwrap().clone();
    assert!(!logs.is_empty() && logs.iter().all(|log| number(&log["blockNumber"]) <= newest));
    assert_eq!(rig.logs(newest + 1, HEAD).await.result(), &json!([]));
    let by_hash = rig.call("eth_getLogs", json!([{"blockHash": unknown}])).await;
    assert_eq!(by_hash.json()["error"]["message"], "unknown block");
    let contract = rig.sim.chain().contract();
    let code = async |block: u64| rig.call("eth_getCode", json!([contract, hex(block)])).await;
    assert!(code(newest).await.result().is_string());
    assert_eq!(code(HEAD).await.json()["error"]["message"], "header not found");
    rig.proxy.set(Fault::LaggingStrict);
    assert_eq!(rig.logs(0, HEAD).await.json()["error"]["code"], -32602);
    assert!(rig.logs(0, newest).await.result().is_array());
}

#[tokio::test]
async fn flapping_replicas_take_turns() {
    let rig = Rig::with(Fault::Flapping).await;
    let mut heads = Vec::new();
    for _ in 0..4 {
        heads.push(number(rig.head().await.result()));
    }
    assert_eq!(heads, [HEAD, HEAD - LAG, HEAD, HEAD - LAG]);
    rig.proxy.set(Fault::FlappingParts);
    let batch: Vec<Value> = (0..20).map(|id| call(id, "eth_blockNumber", &json!([]))).collect();
    let got = rig.post(&json!(batch)).await;
    let heads: BTreeSet<u64> =
        got.json().as_array().unwrap().iter().map(|answer| number(&answer["result"])).collect();
    assert_eq!(heads, BTreeSet::from([HEAD - LAG, HEAD]));
}

#[tokio::test]
async fn late_logs_and_jumping_heads() {
    let rig = Rig::with(Fault::LogsLate).await;
    assert_eq!(number(rig.head().await.result()), HEAD);
    assert!(rig.header(json!(hex(HEAD))).await.is_object());
    assert_eq!(rig.logs(HEAD - LAG + 1, HEAD).await.result(), &json!([]));
    rig.proxy.set(Fault::HeadJumps);
    let mut heads = BTreeSet::new();
    for _ in 0..40 {
        heads.insert(number(rig.head().await.result()));
    }
    assert!(heads.len() > 2 && heads.iter().all(|head| (HEAD - 2 * LAG..=HEAD).contains(head)), "{heads:?}");
    assert!(rig.header(json!(hex(HEAD))).await.is_object());
}

#[tokio::test]
async fn another_branch_answers_every_other_time() {
    let rig = Rig::with(Fault::TwoBranches).await;
    let rival = lively().await;
    rival.reorg(2);
    rig.proxy.rival(&rival.url());
    let hash = async |block: u64| rig.header(json!(hex(block))).await["hash"].clone();
    assert_ne!(hash(HEAD).await, hash(HEAD).await);
    assert_eq!(hash(HEAD - 2).await, hash(HEAD - 2).await);
}

#[tokio::test]
async fn another_node_takes_the_place_of_the_first() {
    let rig = Rig::start().await;
    let other = Sim::start(Params { genesis_time: 1_800_000_000, ..Params::default() }).await.unwrap();
    other.advance(20);
    rig.proxy.move_to(&other.url());
    assert_eq!(number(rig.head().await.result()), 20);
    assert_eq!(rig.header(json!("0x14")).await["hash"], json!(other.chain().hash(20)));
}

#[tokio::test]
async fn batches() {
    let rig = Rig::start().await;
    let members: Vec<Value> = (1..=4).map(|id| call(id, "eth_chainId", &json!([]))).collect();
    let got = async |fault| {
        rig.proxy.set(fault);
        rig.post(&json!(members)).await
    };
    let ids = |got: &Got| -> Vec<u64> {
        got.json().as_array().unwrap().iter().map(|answer| answer["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&got(Fault::BatchReordered).await), [4, 3, 2, 1]);
    assert_eq!(ids(&got(Fault::BatchMissing).await), [1, 2, 3]);
    assert_eq!(ids(&got(Fault::BatchTwice).await), [1, 2, 3, 4, 1]);
    assert_eq!(got(Fault::BatchEmpty).await.json(), &json!([]));
    assert!(matches!(got(Fault::BatchHollow).await, Got::Text(200, text) if text == "oversized"));
    assert_eq!(got(Fault::BatchFirstOnly).await.json()["id"], 1);
    assert_eq!(got(Fault::BatchRefused).await.json()["error"]["code"], -32600);
    assert_eq!(got(Fault::BatchSmall).await.json()["error"]["code"], -32600);
    assert!(matches!(got(Fault::BatchCounted).await, Got::Json(200, _)));
    assert!(matches!(got(Fault::BatchRefused400).await, Got::Json(400, _)));
    assert!(matches!(got(Fault::BatchRefusedHtml).await, Got::Text(405, _)));
    let start = Instant::now();
    assert_eq!(ids(&got(Fault::SlowCalls).await), [1, 2, 3, 4]);
    assert!(start.elapsed() >= Duration::from_millis(160), "40 ms for each call");
    let chain_id = async || rig.call("eth_chainId", json!([])).await;
    for fault in Fault::all().filter(|fault| fault.name().starts_with("batch-")) {
        rig.proxy.set(fault);
        assert_eq!(chain_id().await.result(), "0x539", "{fault}: single calls are answered");
    }
}

#[tokio::test]
async fn timestamps_of_logs() {
    let rig = Rig::start().await;
    let seen = async |fault| {
        rig.proxy.set(fault);
        rig.logs(0, HEAD).await.result()[0].clone()
    };
    let log = seen(Fault::TimestampsPresent).await;
    let time = rig.sim.chain().time(number(&log["blockNumber"]));
    assert_eq!(number(&log["blockTimestamp"]), time);
    assert_eq!(seen(Fault::TimestampsNull).await["blockTimestamp"], Value::Null);
    assert_eq!(seen(Fault::TimestampsZero).await["blockTimestamp"], "0x0");
    assert_eq!(seen(Fault::TimestampsMalformed).await["blockTimestamp"], "yesterday");
    assert!(seen(Fault::TimestampsAbsent).await.get("blockTimestamp").is_none());
}

#[tokio::test]
async fn noise_is_added_and_nothing_taken_away() {
    let rig = Rig::start().await;
    let logs = async || rig.logs(50, 100).await.result().as_array().unwrap().clone();
    let right = logs().await;
    assert!(right.len() > 10);
    for fault in Fault::all().filter(|fault| fault.name().starts_with("noise-")) {
        rig.proxy.set(fault);
        let got = logs().await;
        assert_ne!(got, right, "{fault}");
        assert!(right.iter().all(|log| got.contains(log)), "{fault}");
        let foreign = got.iter().any(|log| !right.contains(log));
        assert_eq!(foreign, !matches!(fault, Fault::NoiseTwice | Fault::NoiseUnordered), "{fault}");
    }
}

#[tokio::test]
async fn blooms() {
    let rig = Rig::start().await;
    let bloom = async |fault| {
        rig.proxy.set(fault);
        let header = rig.header(json!("latest")).await;
        header.get("logsBloom").map(|bloom| bloom.as_str().unwrap()[2..].to_owned())
    };
    assert_eq!(bloom(Fault::BloomAbsent).await, None);
    assert_eq!(bloom(Fault::BloomZero).await, Some("0".repeat(512)));
    assert_eq!(bloom(Fault::BloomFull).await, Some("f".repeat(512)));
}
