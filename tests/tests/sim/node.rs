//! The node over a real socket, read with web3's types.

use std::time::Duration;

use serde_json::{Value, json};
use tesseract_tests::http::get;
use tesseract_tests::json_rpc::Client;
use tesseract_tests::sim::{Call, Chain, Params, Sim, Variant, topic};
use tokio::net::TcpListener;
use tokio::time::{interval, timeout};
use web3::ethabi::ethereum_types::{Bloom, BloomInput};
use web3::types::{Block, Bytes, H256, Log, U64, U256};

async fn node(params: Params) -> (Sim, Client) {
    let sim = Sim::start(params).await.unwrap();
    let client = Client::new(sim.url());
    (sim, client)
}

async fn ask<T: serde::de::DeserializeOwned>(client: &Client, method: &str, params: Value) -> T {
    let answer = client.call(method, params.clone()).await;
    let value = answer.unwrap_or_else(|error| panic!("{method} {params}: {error}"));
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{method} {params}: {error}"))
}

fn call(sim: &Sim, view: &str, at: impl Into<Value>) -> Value {
    let input = format!("0x{}", &format!("{:x}", topic(view))[..8]);
    json!([{"to": sim.chain().contract(), "data": input}, at.into()])
}

async fn view(client: &Client, sim: &Sim, view: &str, at: impl Into<Value>) -> U256 {
    let Bytes(word) = ask(client, "eth_call", call(sim, view, at)).await;
    assert_eq!(word.len(), 32, "{view}");
    U256::from_big_endian(&word)
}

#[tokio::test]
async fn blocks_and_logs_agree() {
    let (sim, client) = node(Params { variant: Variant::Buffer, ..Params::default() }).await;
    sim.advance(600);
    let contract = sim.chain().contract();
    let filter = json!([{"address": contract, "fromBlock": "0x0", "toBlock": "latest"}]);
    let logs: Vec<Log> = ask(&client, "eth_getLogs", filter).await;
    assert!(logs.len() > 300, "{}", logs.len());
    let mut parent = H256::zero();
    let mut seen = 0;
    for height in 0..=600 {
        let block: Block<H256> =
            ask(&client, "eth_getBlockByNumber", json!([U64::from(height), false])).await;
        let hash = block.hash.unwrap();
        assert_eq!(block.number, Some(height.into()));
        assert_eq!(block.parent_hash, parent);
        assert_eq!(block.timestamp, (1_700_000_000 + height * 2).into());
        parent = hash;
        let by_hash: Block<H256> = ask(&client, "eth_getBlockByHash", json!([hash, false])).await;
        assert_eq!(by_hash, block);

        let of_block: Vec<&Log> = logs.iter().filter(|log| log.block_hash == Some(hash)).collect();
        let mut bloom = Bloom::zero();
        for (place, log) in of_block.iter().enumerate() {
            assert_eq!(log.address, contract);
            assert_eq!(log.block_number, Some(height.into()));
            assert_eq!(log.log_index, Some(place.into()));
            assert_eq!(log.transaction_hash, Some(block.transactions[place]));
            assert_eq!(log.removed, Some(false));
            bloom.accrue(BloomInput::Raw(log.address.as_bytes()));
            log.topics.iter().for_each(|topic| bloom.accrue(BloomInput::Raw(topic.as_bytes())));
        }
        assert_eq!(block.logs_bloom.unwrap().0, bloom.0, "the bloom promises what the block holds");
        seen += of_block.len();
        let by_hash: Vec<Log> = ask(&client, "eth_getLogs", json!([{"blockHash": hash}])).await;
        assert_eq!(by_hash.iter().collect::<Vec<_>>(), of_block);
    }
    assert_eq!(seen, logs.len(), "every log is in a block");
}

#[tokio::test]
async fn filters_choose_by_address_topics_and_range() {
    let (sim, client) = node(Params::default()).await;
    sim.advance(2000);
    let of = |filter: Value| {
        let client = client.clone();
        async move { ask::<Vec<Log>>(&client, "eth_getLogs", json!([filter])).await }
    };
    let all = of(json!({"fromBlock": "0x0"})).await;
    let buffered = topic("TransactionBuffered(bytes32,address,address,uint256)");
    let ready = topic("TransactionReady(bytes32)");
    let wanted = |wanted: &[H256]| {
        all.iter().filter(|log| wanted.contains(&log.topics[0])).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of(json!({"fromBlock": "0x0", "topics": [buffered]})).await, wanted(&[buffered]));
    assert_eq!(
        of(json!({"fromBlock": "0x0", "topics": [[buffered, ready]]})).await,
        wanted(&[buffered, ready])
    );
    let id = wanted(&[ready])[0].topics[1];
    assert_eq!(of(json!({"fromBlock": "0x0", "topics": [ready, id]})).await.len(), 1);
    assert!(of(json!({"fromBlock": "0x0", "topics": [null, id]})).await.len() >= 2);
    assert_eq!(of(json!({"fromBlock": "0x0", "address": [sim.chain().contract()]})).await, all);
    assert!(of(json!({"fromBlock": "0x0", "address": web3::types::H160::zero()})).await.is_empty());
    let (first, rest): (Vec<Log>, Vec<Log>) =
        all.iter().cloned().partition(|log| log.block_number.unwrap() <= 1000.into());
    assert_eq!(of(json!({"fromBlock": "0x0", "toBlock": "0x3e8"})).await, first);
    assert_eq!(of(json!({"fromBlock": "0x3e9", "toBlock": "0x100000"})).await, rest);
    assert!(of(json!({"fromBlock": "0x100000", "toBlock": "0x100001"})).await.is_empty());
}

#[tokio::test]
async fn views_are_read_at_any_block() {
    let params =
        Params { variant: Variant::Buffer, buffered_per_hour: 0, incidents_per_day: 0, ..Params::default() };
    let (sim, client) = node(params).await;
    sim.advance(20);
    for (call, height) in [(Call::SetWindow(60), 21), (Call::Pause, 22), (Call::TripBreaker, 23)] {
        sim.call(call).unwrap();
        assert_eq!(sim.head(), height);
    }
    let at = |height: u64| format!("{height:#x}");
    assert_eq!(view(&client, &sim, "coordination_window()", at(20)).await, 30.into());
    assert_eq!(view(&client, &sim, "coordination_window()", at(21)).await, 60.into());
    assert_eq!(view(&client, &sim, "paused()", at(21)).await, 0.into());
    assert_eq!(view(&client, &sim, "paused()", "latest").await, 1.into());
    assert_eq!(view(&client, &sim, "circuit_breaker_active()", at(22)).await, 0.into());
    let hash = sim.chain().hash(23);
    assert_eq!(view(&client, &sim, "circuit_breaker_active()", json!({"blockHash": hash})).await, 1.into());

    let contract = sim.chain().contract();
    assert_eq!(ask::<Bytes>(&client, "eth_getCode", json!([contract, at(9)])).await, Bytes(vec![]));
    assert_ne!(ask::<Bytes>(&client, "eth_getCode", json!([contract, at(10)])).await, Bytes(vec![]));
    let before = client.call("eth_call", call(&sim, "owner()", at(9))).await;
    assert_eq!(before, Ok(json!("0x")), "without code a call returns nothing");
}

#[tokio::test]
async fn the_count_is_that_of_the_buffered_logs() {
    let (sim, client) = node(Params::default()).await;
    sim.advance(1500);
    let buffered = topic("TransactionBuffered(bytes32,address,address,uint256)");
    for height in [10, 11, 700, 1500] {
        let filter = json!([{"fromBlock": "0x0", "toBlock": U64::from(height), "topics": [buffered]}]);
        let logs: Vec<Log> = ask(&client, "eth_getLogs", filter).await;
        let count = view(&client, &sim, "transaction_count()", format!("{height:#x}")).await;
        assert_eq!(count, logs.len().into(), "at {height}");
    }
}

#[tokio::test]
async fn a_missing_view_reverts_with_empty_data() {
    let (sim, client) = node(Params::default()).await;
    sim.advance(20);
    for missing in ["paused()", "circuit_breaker_active()", "emergency_admin()", "nothing()"] {
        let error: Value =
            serde_json::from_str(&client.call("eth_call", call(&sim, missing, "latest")).await.unwrap_err())
                .unwrap();
        assert_eq!(error, json!({"code": 3, "message": "execution reverted", "data": "0x"}), "{missing}");
    }
}

#[tokio::test]
async fn a_node_that_prunes_forgets_old_state_but_no_logs() {
    let (sim, client) = node(Params { state_depth: Some(128), ..Params::default() }).await;
    sim.advance(1000);
    assert!(client.call("eth_call", call(&sim, "owner()", format!("{:#x}", 871))).await.is_err());
    assert!(client.call("eth_call", call(&sim, "owner()", format!("{:#x}", 872))).await.is_ok());
    assert!(!ask::<Vec<Log>>(&client, "eth_getLogs", json!([{"fromBlock": "0x0"}])).await.is_empty());
}

#[tokio::test]
async fn tags_and_ids() {
    let (sim, client) = node(Params::default()).await;
    sim.advance(100);
    for (tag, height) in [("latest", 100), ("safe", 96), ("finalized", 92), ("earliest", 0)] {
        let block: Block<H256> = ask(&client, "eth_getBlockByNumber", json!([tag, false])).await;
        assert_eq!(block.number, Some(height.into()), "{tag}");
    }
    assert_eq!(ask::<U64>(&client, "eth_blockNumber", json!([])).await, 100.into());
    assert_eq!(ask::<U64>(&client, "eth_chainId", json!([])).await, 1337.into());
    assert_eq!(ask::<String>(&client, "net_version", json!([])).await, "1337");
    let with_a_key = Client::new(format!("{}/v3/key?more", sim.url()));
    assert_eq!(ask::<U64>(&with_a_key, "eth_blockNumber", json!([])).await, 100.into());
    assert_eq!(client.call("eth_getBlockByNumber", json!(["0x65", false])).await, Ok(Value::Null));
    assert_eq!(client.call("eth_getBlockByHash", json!([H256::zero(), false])).await, Ok(Value::Null));
}

#[tokio::test]
async fn mistakes_have_their_codes() {
    let (sim, client) = node(Params::default()).await;
    sim.advance(10);
    for (method, params, code) in [
        ("eth_sendTransaction", json!([]), -32601),
        ("eth_getBlockByNumber", json!(["first", false]), -32602),
        ("eth_getLogs", json!([{"fromBlock": "0x2", "toBlock": "0x1"}]), -32602),
        ("eth_getLogs", json!([{"blockHash": H256::zero()}]), -32000),
        ("eth_getCode", json!(["0x12", "latest"]), -32602),
    ] {
        let error = client.call(method, params.clone()).await.unwrap_err();
        let error: Value = serde_json::from_str(&error).unwrap();
        assert_eq!(error["code"], code, "{method} {params}: {error}");
    }
}

#[test]
fn a_batch_is_answered_in_its_order() {
    let chain = Chain::new(Params::default());
    let batch =
        br#"[{"jsonrpc":"2.0","id":7,"method":"eth_chainId"},{"id":"x","method":"nothing"},{"id":3}]"#;
    let answers: Value = serde_json::from_slice(&tesseract_tests::sim::answer(&chain, batch)).unwrap();
    assert_eq!(answers[0], json!({"jsonrpc": "2.0", "id": 7, "result": "0x539"}));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!("x"), &json!(-32601)));
    assert_eq!((&answers[2]["id"], &answers[2]["error"]["code"]), (&json!(3), &json!(-32600)));
    for (body, code) in [("[]", -32600), ("{", -32700), ("1", -32600)] {
        let answer: Value =
            serde_json::from_slice(&tesseract_tests::sim::answer(&chain, body.as_bytes())).unwrap();
        assert_eq!(answer["error"]["code"], code, "{body}");
    }
}

#[tokio::test]
async fn block_times_in_logs_are_an_option() {
    for log_timestamps in [true, false] {
        let (sim, client) = node(Params { log_timestamps, ..Params::default() }).await;
        sim.advance(200);
        let logs: Vec<Value> = ask(&client, "eth_getLogs", json!([{"fromBlock": "0x0"}])).await;
        for log in logs {
            let height: U64 = serde_json::from_value(log["blockNumber"].clone()).unwrap();
            let time = json!(U64::from(sim.chain().time(height.as_u64())));
            assert_eq!(log.get("blockTimestamp"), log_timestamps.then_some(&time));
        }
    }
}

#[tokio::test]
async fn a_clock_makes_blocks_until_it_is_halted() {
    let block_time = Duration::from_millis(250);
    let (mut sim, client) = node(Params { block_time, ..Params::default() }).await;
    sim.run(100.0);
    let mut ticks = interval(Duration::from_millis(10));
    let grown = async {
        while ask::<U64>(&client, "eth_blockNumber", json!([])).await < 50.into() {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(20), grown).await.unwrap();
    sim.halt();
    assert!(sim.head() >= 50);
    sim.reorg(3);
    let head = sim.head();
    assert_eq!(sim.advance(1), head + 1);
}

#[tokio::test]
async fn several_chains_share_a_socket() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let chain = |chain_id| Chain::new(Params { chain_id, ..Params::default() });
    let sims = Sim::serve(listener, vec![("a".to_owned(), chain(1)), ("b".to_owned(), chain(2))]).unwrap();
    for (sim, id) in sims.iter().zip([1, 2]) {
        assert_eq!(ask::<U64>(&Client::new(sim.url()), "eth_chainId", json!([])).await, id.into());
    }
    let elsewhere = sims[0].url().replace("/a", "/c");
    assert_eq!(get(&elsewhere, &[]).await.unwrap().status, 404);
    assert_eq!(get(&sims[0].url(), &[]).await.unwrap().status, 405);
}
