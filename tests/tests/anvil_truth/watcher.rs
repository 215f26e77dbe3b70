//! An exporter on a real node, what it was seen to show, and how that compares with the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tesseract_tests::anvil::{Anvil, number};
use tesseract_tests::fold::{self, Exemplar};
use tesseract_tests::process::Exporter;
use tesseract_tests::series::Series;
use tesseract_tests::traffic::Traffic;
use web3::ethabi::Token;

use crate::{network, processed};

pub(crate) const CONTRACTS: [&str; 4] = ["simple", "buffer", "mixed", "emitter"];
/// While blocks are mined, anvil may answer a call at its newest block with the state of the one after it;
/// a real node does not. So whoever follows leaves the newest block alone.
pub(crate) const WHILE_MINED: &str = "1";
pub(crate) const AT_REST: &str = "0";
const DEEPER: [&str; 4] = ["2", "12", "safe", "finalized"];

/// An exporter keeps up when it has polled, fetched and applied what is new; far more than it needs.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(30);

/// One exporter on all contracts, each with other confirmations, and what it was seen to show.
pub(crate) struct Watcher {
    pub(crate) name: &'static str,
    exporter: Exporter,
    confirmations: BTreeMap<&'static str, &'static str>,
    pub(crate) scrapes: Vec<Series>,
    pub(crate) wrong_views: Vec<String>,
}

impl Watcher {
    /// `turn` decides which contract gets which confirmations, of which `shallowest` are the fewest.
    pub(crate) async fn start(
        name: &'static str,
        anvil: &Anvil,
        traffic: &Traffic,
        turn: u64,
        shallowest: &'static str,
    ) -> Self {
        let all = [&[shallowest], &DEEPER[..]].concat();
        let turns = all.iter().cycle().skip(usize::try_from(turn).unwrap() % all.len());
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
    pub(crate) async fn look(&mut self, anvil: &Anvil, traffic: &Traffic) {
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
    pub(crate) async fn judge(&self, contract: &str, blocks: &[fold::Block]) -> Vec<String> {
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
