//! State that is gone, and answers that are wrong without a word.

use tesseract_tests::hostile::{CUT, HOLES, PRUNED, STATE};

use super::*;

fn blocks(got: &Got) -> Vec<u64> {
    got.result().as_array().unwrap().iter().map(|log| number(&log["blockNumber"])).collect()
}

impl Rig {
    async fn by_hash(&self, block: u64) -> Got {
        let hash = self.sim.chain().hash(block);
        self.call("eth_getLogs", json!([{"blockHash": hash}])).await
    }

    /// The newest block of so many logs that no other fault speaks of.
    fn block_with(&self, logs: usize) -> u64 {
        let chain = self.sim.chain();
        (HOLES..HEAD - 2 * HOLES).rev().find(|block| chain.logs(*block..=*block).count() >= logs).unwrap()
    }
}

#[tokio::test]
async fn of_the_last_block_of_a_range_only_the_first_log() {
    let rig = Rig::start().await;
    let last = rig.block_with(3);
    let right = blocks(&rig.logs(1, last).await);
    rig.proxy.set(Fault::LogsFirstOnly);
    let got = blocks(&rig.logs(1, last).await);
    assert_eq!(got.iter().filter(|block| **block == last).count(), 1);
    let others = right.iter().filter(|block| **block != last).count();
    assert_eq!(got.len(), others + 1, "all of the other blocks");
    assert!(blocks(&rig.by_hash(last).await).len() >= 3, "all of it by its hash");
}

#[tokio::test]
async fn an_index_with_holes_leaves_out_old_blocks_in_which_nothing_was_buffered() {
    // Less traffic: where it is lively every block buffers something.
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(HEAD);
    let proxy = Proxy::start(&sim.url()).await;
    let rig = Rig { sim, proxy };
    let right = blocks(&rig.logs(1, HEAD).await);
    rig.proxy.set(Fault::LogsHoles);
    let got = blocks(&rig.logs(1, HEAD).await);
    let missing: BTreeSet<u64> = right.into_iter().filter(|block| !got.contains(block)).collect();
    assert!(missing.len() > 10 && missing.iter().all(|block| block + HOLES <= HEAD), "{missing:?}");
    let counted = |block: u64| {
        let chain = rig.sim.chain();
        chain.transaction_count(block) - chain.transaction_count(block - 1)
    };
    assert!(missing.iter().all(|block| counted(*block) == 0), "the count says nothing");
    let hole = *missing.first().unwrap();
    assert!(!blocks(&rig.by_hash(hole).await).is_empty());
}

#[tokio::test]
async fn answers_are_cut_and_old_logs_are_gone() {
    let rig = Rig::with(Fault::LogsCut).await;
    assert_eq!(blocks(&rig.logs(1, HEAD).await).len(), CUT);
    rig.proxy.set(Fault::LogsPruned);
    let got = blocks(&rig.logs(1, HEAD).await);
    assert!(!got.is_empty() && got.iter().all(|block| block + PRUNED > HEAD), "{got:?}");
    assert_eq!(rig.by_hash(rig.block_with(1).min(HEAD - PRUNED)).await.result(), &json!([]));
}

#[tokio::test]
async fn what_became_ready_is_left_out_and_no_bloom_tells() {
    let rig = Rig::start().await;
    let kinds = async || {
        let got = rig.logs(1, HEAD).await;
        let logs = got.result().as_array().unwrap();
        logs.iter().map(|log| log["topics"][0].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let right = kinds().await;
    rig.proxy.set(Fault::ReadyOmitted);
    let left = kinds().await;
    let ready = format!("{:?}", tesseract_tests::sim::topic("TransactionReady(bytes32)"));
    assert_eq!(right.difference(&left).collect::<Vec<_>>(), [&ready]);
    let header = rig.header(json!(hex(HEAD))).await;
    assert!(header["hash"].is_string() && header["logsBloom"].is_null());
    rig.proxy.set(Fault::OwnParent);
    let header = rig.header(json!(hex(HEAD))).await;
    assert_eq!(header["parentHash"], header["hash"]);
}

#[tokio::test]
async fn logs_of_no_block_of_the_chain() {
    let rig = Rig::start().await;
    let right = rig.logs(1, HEAD).await.result().as_array().unwrap().clone();
    for fault in [Fault::StaleLog, Fault::LogsPending] {
        rig.proxy.set(fault);
        let got = rig.logs(1, HEAD).await.result().as_array().unwrap().clone();
        let more: Vec<&Value> = got.iter().filter(|log| !right.contains(log)).collect();
        assert!(!more.is_empty() && got.len() == right.len() + more.len(), "{fault}");
        for log in more {
            let (hash, block) = (&log["blockHash"], &log["blockNumber"]);
            if fault == Fault::LogsPending {
                assert!(hash.is_null() && block.is_null() && log["logIndex"].is_null());
            } else {
                assert_ne!(*hash, json!(rig.sim.chain().hash(number(block))));
                assert_eq!(number(&log["blockTimestamp"]), rig.sim.chain().time(number(block)));
            }
        }
        let one = rig.logs(HEAD - 1, HEAD - 1).await.result().as_array().unwrap().len();
        let there = rig.sim.chain().logs(HEAD - 1..=HEAD - 1).count();
        assert_eq!(one - there, usize::from(fault == Fault::LogsPending), "{fault}: near the head");
    }
}

#[tokio::test]
async fn fields_of_logs() {
    let rig = Rig::start().await;
    let block = rig.block_with(2);
    let seen = async |fault| {
        rig.proxy.set(fault);
        rig.logs(block, block).await.result().as_array().unwrap().clone()
    };
    for log in seen(Fault::RemovedNull).await {
        assert!(log.get("removed").is_some_and(Value::is_null));
    }
    for log in seen(Fault::RemovedAbsent).await {
        assert!(log.get("removed").is_none());
    }
    let logs = seen(Fault::IndexPerTx).await;
    assert!(logs.iter().all(|log| log["logIndex"] == "0x0"));
    assert_ne!(logs[0]["transactionIndex"], logs[1]["transactionIndex"]);
}

#[tokio::test]
async fn old_state() {
    let rig = Rig::with(Fault::NoOldState).await;
    let contract = rig.sim.chain().contract();
    let owner = json!({"to": contract, "data": "0x8da5cb5b"});
    let read = async |method: &str, subject: Value, block: u64| {
        rig.call(method, json!([subject, hex(block)])).await.result().is_string()
    };
    let call = async |block| read("eth_call", owner.clone(), block).await;
    let code = async |block| read("eth_getCode", json!(contract), block).await;
    assert!(call(HEAD).await && call(HEAD - 127).await && !call(HEAD - 128).await);
    assert!(code(HEAD - 128).await);
    rig.proxy.set(Fault::NoOldStateOdd);
    assert!(call(HEAD - 127).await && !call(HEAD - 128).await && code(HEAD - 128).await);
    rig.proxy.set(Fault::NoOldCode);
    assert!(code(HEAD - 127).await && !code(HEAD - 128).await && !call(HEAD - 128).await);
}

#[tokio::test]
async fn state_that_is_gone_or_empty() {
    let rig = Rig::with(Fault::StateGone).await;
    let contract = rig.sim.chain().contract();
    let ask = async |method: &str, block: u64| {
        let subject = match method {
            "eth_call" => json!({"to": contract, "data": "0x8da5cb5b"}),
            _ => json!(contract),
        };
        rig.call(method, json!([subject, hex(block)])).await.json().clone()
    };
    for method in ["eth_call", "eth_getCode"] {
        assert_eq!(ask(method, HEAD).await["error"]["code"], -32000, "{method}");
    }
    for (fault, empty, other) in
        [(Fault::StateEmpty, "eth_call", "eth_getCode"), (Fault::CodeEmpty, "eth_getCode", "eth_call")]
    {
        rig.proxy.set(fault);
        assert_eq!(ask(empty, HEAD - STATE).await["result"], "0x", "{fault}");
        assert_ne!(ask(empty, HEAD - STATE + 1).await["result"], "0x", "{fault}");
        assert_ne!(ask(other, HEAD - STATE).await["result"], "0x", "{fault}");
    }
}

#[tokio::test]
async fn another_chain_answers() {
    let rig = Rig::with(Fault::ChainSwap).await;
    let other = Sim::start(Params { chain_id: 7, seed: 9, ..Params::default() }).await.unwrap();
    other.advance(30);
    rig.proxy.rival(&other.url());
    assert_eq!(number(rig.head().await.result()), 30);
    assert_eq!(rig.call("eth_chainId", json!([])).await.result(), "0x7");
}

#[tokio::test]
async fn without_hashes_of_blocks_or_finality() {
    let rig = Rig::with(Fault::NoBlockHash).await;
    assert_eq!(rig.by_hash(HEAD).await.json()["error"]["code"], -32602);
    assert_eq!(rig.post(&json!([call(1, "eth_chainId", &json!([]))])).await.json()["error"]["code"], -32600);
    assert!(rig.logs(1, HEAD).await.result().is_array());
    rig.proxy.set(Fault::FinalizedUnknown);
    for tag in ["safe", "finalized"] {
        let got = rig.call("eth_getBlockByNumber", json!([tag, false])).await;
        assert_eq!(got.json()["error"]["message"], format!("{tag} block not found"));
    }
    assert!(rig.header(json!("latest")).await.is_object());
}

#[tokio::test]
async fn blooms_that_are_short_or_promise_too_much() {
    let rig = Rig::start().await;
    let bloom = async |block: u64| rig.header(json!(hex(block))).await["logsBloom"].clone();
    let right = [bloom(300).await, bloom(301).await];
    rig.proxy.set(Fault::BloomFalseOnce);
    let got = [bloom(300).await, bloom(301).await];
    assert!(got[0] != right[0] && got[0].as_str().unwrap().len() == 514 && got[1] == right[1]);
    rig.proxy.set(Fault::BloomShort);
    assert_eq!(bloom(300).await, "0x");
    rig.proxy.set(Fault::BloomPartial);
    assert_ne!(bloom(300).await, right[0], "an even one");
    assert_eq!(bloom(301).await, right[1], "an odd one");
}

#[tokio::test]
async fn a_block_has_more_logs_than_anybody_reads_but_not_of_one_kind() {
    let rig = Rig::with(Fault::LogsOversized).await;
    let kinds = |block: u64| {
        let chain = rig.sim.chain();
        chain.logs(block..=block).map(|log| log.raw.topics[0]).collect::<BTreeSet<_>>()
    };
    let crowded = (1..=HEAD).find(|block| block.is_multiple_of(50) && kinds(*block).len() > 1).unwrap();
    let all = rig.sim.chain().logs(crowded..=crowded).count();
    assert!(matches!(rig.logs(crowded, crowded).await, Got::Text(200, text) if text == "oversized"));
    let topic = *kinds(crowded).first().unwrap();
    let filter = json!([{"fromBlock": hex(crowded), "toBlock": hex(crowded), "topics": [topic]}]);
    let some = rig.call("eth_getLogs", filter).await;
    let left = some.result().as_array().unwrap().len();
    assert!(left > 0 && left < all);
}
