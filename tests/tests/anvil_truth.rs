//! The exporter on a real node against the naive fold: every confirmed series, every exemplar, every view.
//!
//! Each seed is a chain of its own with all four test contracts and traffic of every kind and fate, watched
//! by an exporter that was there from the start, one that came in the midst, and one that came last.
//! `TESSERACT_SEED=7`, `=7,9` or `=100..200` replays or adds seeds.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde_json::json;
use tesseract_tests::anvil::{Anvil, Options, number};
use tesseract_tests::fold::{self, Exemplar};
use tesseract_tests::process::{Exporter, Series};
use tesseract_tests::traffic::{Pace, Traffic};
use web3::ethabi::Token;

const SEEDS: Range<u64> = 1..25;
const BLOCKS: u64 = 200;
const GENESIS: u64 = 1_700_000_000;

const CONTRACTS: [&str; 4] = ["simple", "buffer", "mixed", "emitter"];
const CONFIRMATIONS: [&str; 5] = ["0", "2", "12", "safe", "finalized"];

/// An exporter keeps up when it has polled, fetched and applied what is new; far more than it needs.
const CATCH_UP: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn every_confirmed_series_is_what_the_fold_says() {
    let (mut total, mut differences) = (BTreeMap::new(), Vec::new());
    let seeds = seeds();
    for seed in &seeds {
        println!("TESSERACT_SEED={seed}");
        differences.extend(one_chain(*seed, &mut total).await);
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    if seeds.len() >= SEEDS.count() {
        assert_everything_happened(&total);
    }
}

/// Runs one chain; adds the final truth of all contracts to `total`, and returns what was wrong.
async fn one_chain(seed: u64, total: &mut BTreeMap<String, f64>) -> Vec<String> {
    let slots_in_an_epoch = 1 + seed % 7;
    let options = Options { chain_id: 1000 + seed, genesis: GENESIS, block_time: None, slots_in_an_epoch };
    let anvil = Anvil::start(&options).await;
    let pace = [Pace::Even(250), Pace::Even(2_000), Pace::Even(12_000), Pace::Ragged];
    let mut traffic =
        Traffic::start(&anvil, seed, pace[usize::try_from(seed % 4).unwrap()], GENESIS + 10).await;

    let mut watchers = vec![Watcher::start("early", &anvil, &traffic, seed).await];
    for block in 1..=BLOCKS {
        traffic.block(&anvil).await;
        if block == BLOCKS / 2 {
            watchers.push(Watcher::start("midway", &anvil, &traffic, seed + 1).await);
        }
        if block > 20 && block % 9 == 0 {
            watchers[0].look(&anvil, &traffic).await;
        }
    }
    watchers.push(Watcher::start("late", &anvil, &traffic, seed + 2).await);

    for watcher in &mut watchers {
        watcher.look(&anvil, &traffic).await;
    }
    let mut wrong = Vec::new();
    for contract in CONTRACTS {
        let blocks = fold::read(anvil.rpc(), traffic.contract(contract).address, anvil.head().await).await;
        for watcher in &watchers {
            for problem in watcher.judge(contract, &blocks).await {
                wrong.push(format!("seed {seed}, {}, {problem}", watcher.name));
            }
        }
        let truth = fold::truth(&blocks, blocks.len() as u64 - 1, contract);
        truth.series.into_iter().for_each(|(series, value)| *total.entry(series).or_default() += value);
    }
    for watcher in watchers {
        wrong.extend(watcher.wrong_views.iter().map(|line| format!("seed {seed}, {}, {line}", watcher.name)));
        for view in ["tesseract_contract_paused", "tesseract_circuit_breaker_active"] {
            let key = format!("{view}{{network=\"buffer\"}}");
            let seen: f64 = watcher.scrapes.iter().filter_map(|scrape| scrape.get(&key)).sum();
            *total.entry(key).or_default() += seen;
        }
    }
    wrong
}

/// One exporter on all contracts, each with other confirmations, and what it was seen to show.
struct Watcher {
    name: &'static str,
    exporter: Exporter,
    confirmations: BTreeMap<&'static str, &'static str>,
    scrapes: Vec<Series>,
    wrong_views: Vec<String>,
}

impl Watcher {
    async fn start(name: &'static str, anvil: &Anvil, traffic: &Traffic, turn: u64) -> Self {
        let turns = CONFIRMATIONS.iter().cycle().skip(usize::try_from(turn).unwrap() % CONFIRMATIONS.len());
        let confirmations: BTreeMap<_, _> = CONTRACTS.into_iter().zip(turns.copied()).collect();
        let networks = confirmations.iter().map(|(contract, confirmations)| {
            network(contract, anvil.url(), traffic.contract(contract).address, confirmations)
        });
        let config = format!("networks:\n{}", networks.collect::<String>());
        let exporter = Exporter::start(&config).await;
        Self { name, exporter, confirmations, scrapes: Vec::new(), wrong_views: Vec::new() }
    }

    /// Waits until every network has seen the head and processed what is confirmed there, keeps that scrape,
    /// and compares its views with the node's own answers.
    async fn look(&mut self, anvil: &Anvil, traffic: &Traffic) {
        let head = anvil.head().await;
        let mut targets = Vec::new();
        for (contract, confirmations) in &self.confirmations {
            targets.push((processed(contract), confirmed_block(anvil, head, confirmations).await as f64));
            targets.push((format!("tesseract_head_block_number{{network=\"{contract}\"}}"), head as f64));
        }
        let reached = |scrape: &Series| targets.iter().all(|(key, to)| scrape.get(key) == Some(*to));
        let scrape = self.exporter.wait_for("all is processed", CATCH_UP, reached).await;
        for contract in CONTRACTS {
            for (series, expected) in views(anvil, traffic, contract).await {
                let shown = scrape.get(&series);
                if shown != expected {
                    let line = format!("head {head}: {series}: expected {expected:?}, got {shown:?}");
                    self.wrong_views.push(line);
                }
            }
        }
        self.scrapes.push(scrape);
    }

    /// Every scrape of one contract, and the exemplars of now, against the fold.
    async fn judge(&self, contract: &str, blocks: &[fold::Block]) -> Vec<String> {
        let mut wrong = Vec::new();
        for scrape in &self.scrapes {
            let at = scrape.get(&processed(contract)).unwrap() as u64;
            let truth = fold::truth(blocks, at, contract);
            let differences = fold::differences(&truth, &scrape.of(contract));
            wrong.extend(differences.iter().map(|line| format!("block {at}: {line}")));
        }
        let at = self.scrapes.last().unwrap().get(&processed(contract)).unwrap() as u64;
        let expected = fold::truth(blocks, at, contract).exemplars;
        let label = format!("network=\"{contract}\"");
        let mut shown = exemplars(&self.exporter).await;
        shown.retain(|key, _| key.contains(&label));
        if shown != expected {
            wrong.push(format!("block {at}: exemplars: expected {expected:#?}, got {shown:#?}"));
        }
        wrong
    }
}

/// What the series of a contract's views must be at the head.
async fn views(anvil: &Anvil, traffic: &Traffic, name: &str) -> Vec<(String, Option<f64>)> {
    let contract = traffic.contract(name);
    let mut expected = Vec::new();
    for (view, series) in [
        ("transaction_count", "tesseract_transaction_count"),
        ("coordination_window", "tesseract_coordination_window_seconds"),
        ("paused", "tesseract_contract_paused"),
        ("circuit_breaker_active", "tesseract_circuit_breaker_active"),
    ] {
        let exists = contract.abi.function(view).is_ok();
        let value = if exists { Some(as_number(anvil.view(contract, view).await)) } else { None };
        expected.push((format!("{series}{{network=\"{name}\"}}"), value));
    }
    let Token::Address(owner) = anvil.view(contract, "owner").await else { panic!("owner is an address") };
    let info = format!("tesseract_contract_owner_info{{address=\"{owner:#x}\",network=\"{name}\"}}");
    expected.push((info, Some(1.0)));
    expected.push((format!("tesseract_contract_exists{{network=\"{name}\"}}"), Some(1.0)));
    expected.push((format!("tesseract_node_connected{{network=\"{name}\"}}"), Some(1.0)));
    expected
}

fn as_number(token: Token) -> f64 {
    match token {
        Token::Uint(number) => number.to_string().parse().unwrap(),
        Token::Bool(flag) => f64::from(u8::from(flag)),
        other => panic!("no number: {other:?}"),
    }
}

async fn confirmed_block(anvil: &Anvil, head: u64, confirmations: &str) -> u64 {
    match confirmations.parse::<u64>() {
        Ok(depth) => head - depth,
        Err(_) => {
            let header = anvil.rpc().call("eth_getBlockByNumber", json!([confirmations, false])).await;
            number(&header.unwrap()["number"])
        }
    }
}

/// The exemplars in an OpenMetrics scrape, by the series of their bucket.
async fn exemplars(exporter: &Exporter) -> BTreeMap<String, Exemplar> {
    let accept = [("accept", "application/openmetrics-text; version=1.0.0")];
    let text = exporter.get_with("/metrics", &accept).await.text();
    let buckets = text.lines().filter(|line| line.starts_with("tesseract_resolution_"));
    let with_exemplar = buckets.filter_map(|line| line.split_once(" # "));
    with_exemplar
        .map(|(sample, exemplar)| {
            let key = Series::parse(sample).0.into_keys().next().unwrap();
            let (tx_id, numbers) = exemplar.strip_prefix("{tx_id=\"").unwrap().split_once("\"} ").unwrap();
            let (value, timestamp) = numbers.split_once(' ').unwrap();
            let exemplar = Exemplar {
                tx_id: tx_id.to_owned(),
                value: value.parse().unwrap(),
                timestamp: timestamp.parse().unwrap(),
            };
            (fold::canonical(&key), exemplar)
        })
        .collect()
}

/// A run that never saw a kind of event or fate has proved nothing about it.
fn assert_everything_happened(total: &BTreeMap<String, f64>) {
    // What a well-behaved contract of that form never does.
    let impossible = |series: &str| {
        let any = |parts: &[&str]| parts.iter().any(|part| series.contains(part));
        let broken = any(&["tesseract_missing_events", "tesseract_undecodable_logs_total"]);
        let foreign = any(&["tesseract_contract_events_total", "swap_group_timeout", "reason=\"other\""]);
        let reverted = any(&["reason=\"dependency\"", "reason=\"expired\"", "reason=\"other\""]);
        match CONTRACTS.into_iter().find(|name| series.contains(&format!("network=\"{name}\""))) {
            Some("simple" | "mixed") => broken || foreign,
            Some("buffer") => broken || reverted,
            _ => false,
        }
    };
    let never = total.iter().filter(|(series, value)| **value == 0.0 && !impossible(series));
    let never: Vec<_> = never.map(|(series, _)| series).collect();
    assert!(never.is_empty(), "never happened: {never:#?}");
}

fn network(name: &str, url: &str, contract: web3::types::Address, confirmations: &str) -> String {
    format!(
        "  - name: {name}\n    rpc_urls: [\"{url}\"]\n    contract: \"{contract:#x}\"\n    \
         confirmations: {confirmations}\n    poll_interval: 50ms\n"
    )
}

fn processed(network: &str) -> String {
    format!("tesseract_processed_block_number{{network=\"{network}\"}}")
}

fn seeds() -> Vec<u64> {
    let Ok(wanted) = std::env::var("TESSERACT_SEED") else { return SEEDS.collect() };
    let number = |text: &str| -> u64 { text.trim().parse().expect("TESSERACT_SEED: 7, 7,9 or 100..200") };
    match wanted.split_once("..") {
        Some((from, to)) => (number(from)..number(to)).collect(),
        None => wanted.split(',').map(number).collect(),
    }
}
