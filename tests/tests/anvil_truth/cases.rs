//! Single situations on a real node.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use tesseract_tests::anvil::{Anvil, Artifact, Contract, Options};
use tesseract_tests::fold;
use tesseract_tests::process::{Exporter, free_port};
use tesseract_tests::series::Series;
use tesseract_tests::traffic::{Pace, Traffic};
use web3::ethabi::{Event, Token};
use web3::signing::keccak256;
use web3::types::{H256, U256};

use crate::watcher::{CATCH_UP, WHILE_MINED};
use crate::{GENESIS, network, processed};

/// Logs that a lagging replica may still bring are waited for before a difference is believed.
const A_WHILE: Duration = Duration::from_secs(120);

#[test]
fn the_test_contracts_declare_the_events_of_the_contract_facts() {
    let topics = |name: &str| {
        let topics: Vec<_> = Artifact::load(name).abi.events().map(Event::signature).collect();
        assert!(!topics.is_empty(), "{name}");
        topics
    };
    let [short, long] = [
        [
            "82f04bca3c86d80210a78dfa27d4cb42b598d7affde61ee6023e07d07b94e2d9",
            "4fe734ce83839d4373098e81ed34170e439d9610e6014da41e0a552835ae0cd5",
            "a3897ec9f635f9e079f0cc337815d014bf44b6ea44b6a6fe16660183bf4cf4d8",
        ],
        [
            "3db219f671440fd1cd8dc231c95535f84e7861603be08ed614224c240b33b32e",
            "f021a9b06fba27725197cb7b74999e773e9703c15ba4a03179a5cedb0364d329",
            "42b7f8b3da320241d0fa06d1b0739d36ede82cd40b4bfaa12ee25531b907617a",
        ],
    ]
    .map(|facts| facts.map(|topic| topic.parse::<H256>().unwrap()));
    let others = [
        "EmergencyPause(address,uint256)",
        "EmergencyUnpause(address,uint256)",
        "RoleGranted(bytes32,address,address)",
        "RoleRevoked(bytes32,address,address)",
        "TransactionRevealed(bytes32,uint256)",
        "TransactionRefunded(bytes32,address,uint256)",
        "SwapGroupCreated(bytes32,address,uint256)",
        "SwapGroupCompleted(bytes32,uint256)",
    ]
    .map(|signature| H256(keccak256(signature.as_bytes())));
    let sorted = |mut topics: Vec<H256>| {
        topics.sort();
        topics
    };
    assert_eq!(sorted(topics("simple")), sorted(short.to_vec()));
    assert_eq!(sorted(topics("buffer")), sorted([&long[..], &others].concat()));
    assert_eq!(sorted(topics("mixed")), sorted(vec![long[0], short[1], long[2]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_network_delays_no_other() {
    let anvil = Anvil::start(&Options { genesis: GENESIS, ..Options::default() }).await;
    let mut traffic = Traffic::start(&anvil, 1, Pace::Even(2_000), GENESIS + 10).await;
    let address = traffic.contract("simple").address;
    // Takes connections and never answers, for longer than this test waits for anything.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let networks = [
        network("refused", &format!("http://127.0.0.1:{}", free_port()), address, "0"),
        network("silent", &silent_url, address, "0") + "    request_timeout: 1m\n",
        network("live", anvil.url(), address, WHILE_MINED),
    ];
    let exporter = Exporter::start(&format!("networks:\n{}", networks.concat())).await;

    for _ in 0..5 {
        for _ in 0..10 {
            traffic.block(&anvil).await;
        }
        let scrape = confirmed(&exporter, &anvil, "live", 1).await;
        let connected = |name: &str| scrape.get(&format!("tesseract_node_connected{{network=\"{name}\"}}"));
        assert_eq!(
            [connected("refused"), connected("silent"), connected("live")],
            [Some(0.0), Some(0.0), Some(1.0)]
        );
        exact(&anvil, traffic.contract("simple"), "live", &scrape).await;
    }
    for name in ["refused", "silent"] {
        let confirmed = scrape_of(&exporter, name).await;
        assert!(!confirmed.to_string().contains("tesseract_transactions_"), "{confirmed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_numbers_and_reasons_give_right_numbers_and_valid_texts() {
    let anvil = Anvil::start(&Options { genesis: GENESIS, ..Options::default() }).await;
    let emitter = anvil.deploy("emitter", GENESIS + 10).await;
    let config = network("hostile", anvil.url(), emitter.address, "0");
    let exporter = Exporter::start(&format!("networks:\n{config}")).await;

    let tx_id = H256::repeat_byte(0xab);
    let buffered = [topic("TransactionBuffered(bytes32,address,address,uint256)"), tx_id, tx_id, tx_id];
    emit(&anvil, &emitter, &buffered, word(U256::MAX)).await;
    count(&anvil, &emitter, 1).await;
    anvil.mine_at(GENESIS + 20).await;
    let scrape = at_head(&exporter, &anvil, "hostile").await;
    let deadline = scrape.get("tesseract_next_deadline_timestamp_seconds{network=\"hostile\"}");
    assert_eq!(deadline, Some(2f64.powi(256)), "the deadline saturates");

    let reasons: [(&[u8], &str); 7] = [
        (b"say \"no\" \\ and \\n", r#"say \"no\" \\ and \\n"#),
        (b"two\nlines\r\n\tand a tab", "two lines   and a tab"),
        (b"nul\0 bell\x07 \x1b[31mred", "nul  bell   [31mred"),
        (b"invalid \xff\xfe and cut \xe2\x82", "invalid \u{fffd}\u{fffd} and cut \u{fffd}"),
        ("\u{202e}txt \u{1f600}\u{85}".as_bytes(), "txt \u{1f600} "),
        (&[b'x'; 256], &"x".repeat(128)),
        (b"", ""),
    ];
    for ((logged, shown), time) in reasons.into_iter().zip(GENESIS + 21..) {
        let mut data = [word(32.into()), word(logged.len().into()), logged.to_vec()].concat();
        data.resize(data.len().next_multiple_of(32), 0);
        emit(&anvil, &emitter, &[topic("TransactionFailed(bytes32,string)"), tx_id], data).await;
        anvil.mine_at(time).await;
        let scrape = at_head(&exporter, &anvil, "hostile").await;
        exact(&anvil, &emitter, "hostile", &scrape).await;
        let newest = |key: &&String| {
            key.starts_with("tesseract_failed_transaction_timestamp_seconds{class=\"other\"")
                && key.contains(&format!("reason=\"{shown}\""))
        };
        let key = scrape.0.keys().find(newest).unwrap_or_else(|| panic!("{shown:?} in {scrape}"));
        assert_eq!(scrape.get(key), Some(time as f64), "{scrape}");
        promtool_accepts(&exporter.get("/metrics").await.text());
    }
    let scrape = scrape_of(&exporter, "hostile").await;
    let other = "tesseract_transactions_failed_total{network=\"hostile\",reason=\"other\"}";
    assert_eq!(scrape.get(other), Some(7.0));

    let reasons_logged = exporter.log().into_iter().filter(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a log line is JSON");
        line["reason"].is_string()
    });
    assert_eq!(reasons_logged.count(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_within_the_confirmations_leaves_no_trace() {
    let anvil = Anvil::start(&Options { genesis: GENESIS, ..Options::default() }).await;
    let mut traffic = Traffic::start(&anvil, 3, Pace::Even(2_000), GENESIS + 10).await;
    let buffer = traffic.contract("buffer").clone();
    let config = network("fork", anvil.url(), buffer.address, "4");
    let exporter = Exporter::start(&format!("networks:\n{config}")).await;
    for round in 0..8 {
        for _ in 0..6 {
            traffic.block(&anvil).await;
        }
        let (snapshot, before) = (anvil.snapshot().await, traffic.clone());
        for _ in 0..3 {
            traffic.block(&anvil).await;
        }
        confirmed(&exporter, &anvil, "fork", 4).await;
        anvil.revert(&snapshot).await;
        traffic = before;
        traffic.reseed(100 + round);
        for _ in 0..5 {
            traffic.block(&anvil).await;
        }
        let scrape = confirmed(&exporter, &anvil, "fork", 4).await;
        exact(&anvil, &buffer, "fork", &scrape).await;
        assert_eq!(scrape.get("tesseract_reorgs_total{network=\"fork\"}"), Some(0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_contradicts_the_logs_is_shown() {
    let anvil = Anvil::start(&Options { genesis: GENESIS, ..Options::default() }).await;
    let emitter = anvil.deploy("emitter", GENESIS + 10).await;
    let config = network("liar", anvil.url(), emitter.address, "0");
    let exporter = Exporter::start(&format!("networks:\n{config}")).await;
    anvil.mine_at(GENESIS + 20).await;
    let scrape = at_head(&exporter, &anvil, "liar").await;
    assert_eq!(scrape.get("tesseract_missing_events{network=\"liar\"}"), Some(0.0));

    count(&anvil, &emitter, 3).await;
    anvil.mine_at(GENESIS + 30).await;
    let target = anvil.head().await as f64;
    let believed = |scrape: &Series| scrape.get(&processed("liar")) == Some(target);
    let scrape = exporter.wait_for("the count is believed", A_WHILE, believed).await;
    assert_eq!(scrape.get("tesseract_missing_events{network=\"liar\"}"), Some(3.0));
    exact(&anvil, &emitter, "liar", &scrape).await;
}

async fn emit(anvil: &Anvil, emitter: &Contract, topics: &[H256], data: Vec<u8>) {
    let topics = topics.iter().map(|topic| Token::FixedBytes(topic.0.to_vec())).collect();
    let arguments = [Token::Array(topics), Token::Bytes(data)];
    anvil.send(anvil.accounts()[0], emitter, "emit", &arguments).await;
}

async fn count(anvil: &Anvil, emitter: &Contract, count: u64) {
    let count = Token::Uint(count.into());
    anvil.send(anvil.accounts()[0], emitter, "set_transaction_count", &[count]).await;
}

async fn at_head(exporter: &Exporter, anvil: &Anvil, name: &str) -> Series {
    confirmed(exporter, anvil, name, 0).await
}

/// Waits until all is processed but the newest blocks, this many; far sooner than any time-out of a dead
/// network.
async fn confirmed(exporter: &Exporter, anvil: &Anvil, name: &str, confirmations: u64) -> Series {
    let target = (anvil.head().await - confirmations) as f64;
    exporter.wait_for(name, CATCH_UP, |scrape| scrape.get(&processed(name)) == Some(target)).await
}

async fn scrape_of(exporter: &Exporter, name: &str) -> Series {
    exporter.scrape().await.of(name)
}

async fn exact(anvil: &Anvil, contract: &Contract, name: &str, scrape: &Series) {
    let blocks = fold::read(anvil.rpc(), contract.address, 0..=anvil.head().await).await;
    let at = scrape.get(&processed(name)).unwrap() as u64;
    let differences = fold::differences(&fold::truth(&blocks, at, name), &scrape.of(name));
    assert!(differences.is_empty(), "block {at}: {}", differences.join("\n"));
}

fn promtool_accepts(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: run tests/setup");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    // Names are final, and `transaction_count` is what the contract calls the view.
    let accepted =
        "tesseract_transaction_count non-histogram and non-summary metrics should not have \"_count\" suffix";
    let findings = String::from_utf8_lossy(&output.stderr);
    assert!(findings.lines().all(|line| line == accepted), "{findings}\n{text}");
    assert!(output.status.success() || output.status.code() == Some(3), "{:?}: {text}", output.status);
}

fn topic(signature: &str) -> H256 {
    H256(keccak256(signature.as_bytes()))
}

fn word(number: U256) -> Vec<u8> {
    let mut word = [0; 32];
    number.to_big_endian(&mut word);
    word.to_vec()
}
