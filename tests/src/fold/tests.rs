//! The fold on histories written by hand, each with the answer worked out by hand.

use web3::types::H256;

use super::decode::{Log, topic0};
use super::{Block, Truth, canonical, differences, truth};
use crate::series::Series;

const SHORT: &str = "TransactionBuffered(bytes32,address,address,uint256)";
const LONG: &str = "TransactionBuffered(bytes32,address,address,bytes32,uint256)";
const FAILED: &str = "TransactionFailed(bytes32,string)";
const FAILED_AT: &str = "TransactionFailed(bytes32,string,uint256)";

#[test]
fn the_topics_are_those_of_the_contract_facts() {
    let known = [
        (SHORT, "82f04bca3c86d80210a78dfa27d4cb42b598d7affde61ee6023e07d07b94e2d9"),
        (LONG, "3db219f671440fd1cd8dc231c95535f84e7861603be08ed614224c240b33b32e"),
        ("TransactionReady(bytes32)", "4fe734ce83839d4373098e81ed34170e439d9610e6014da41e0a552835ae0cd5"),
        (
            "TransactionReady(bytes32,uint256)",
            "f021a9b06fba27725197cb7b74999e773e9703c15ba4a03179a5cedb0364d329",
        ),
        (FAILED, "a3897ec9f635f9e079f0cc337815d014bf44b6ea44b6a6fe16660183bf4cf4d8"),
        (FAILED_AT, "42b7f8b3da320241d0fa06d1b0739d36ede82cd40b4bfaa12ee25531b907617a"),
    ];
    for (signature, hash) in known {
        assert_eq!(format!("{:x}", topic0(signature)), hash, "{signature}");
    }
}

#[test]
fn a_ready_is_observed_from_buffering_and_from_schedule() {
    let truth = fold(&[block(100, 30, [short(1, 160)]), block(170, 30, [ready(1)])]);
    shows(&truth, "tesseract_transactions_settled_total{network=\"n\",outcome=\"ready\"}", Some(1.0));
    shows(&truth, "tesseract_resolution_time_seconds_sum{network=\"n\"}", Some(70.0));
    shows(&truth, "tesseract_resolution_delay_seconds_sum{network=\"n\"}", Some(10.0));
    shows(&truth, "tesseract_resolution_delay_seconds_bucket{le=\"5.0\",network=\"n\"}", Some(0.0));
    shows(&truth, "tesseract_resolution_delay_seconds_bucket{le=\"10.0\",network=\"n\"}", Some(1.0));
    shows(&truth, "tesseract_resolution_delay_seconds_bucket{le=\"+Inf\",network=\"n\"}", Some(1.0));
    let exemplar = &truth.exemplars["tesseract_resolution_delay_seconds_bucket{le=\"10.0\",network=\"n\"}"];
    assert_eq!((exemplar.tx_id.clone(), exemplar.value, exemplar.timestamp), (hex(1), 10.0, 170.0));
    assert_eq!(truth.exemplars.len(), 2);
}

#[test]
fn the_deadline_of_a_short_form_follows_the_window() {
    let blocks =
        [block(100, 30, [short(1, 100)]), block(130, 30, []), block(140, 60, []), block(161, 60, [])];
    deadline(&truth(&blocks, 0, "n"), Some(130.0), 0.0);
    deadline(&truth(&blocks, 1, "n"), Some(130.0), 0.0);
    deadline(&truth(&blocks, 2, "n"), Some(160.0), 0.0);
    deadline(&truth(&blocks, 3, "n"), None, 1.0);
}

#[test]
fn the_deadline_of_a_long_form_is_frozen() {
    let blocks = [block(100, 30, [long(1, 100)]), block(130, 5, []), block(131, 300, [])];
    deadline(&truth(&blocks, 1, "n"), Some(130.0), 0.0);
    deadline(&truth(&blocks, 2, "n"), None, 1.0);
}

#[test]
fn deadlines_saturate() {
    // The nearest float of 2^256 - 1 is 2^256.
    let never = 2f64.powi(256);
    let mut endless = short(1, 0);
    endless.data = vec![0xff; 32];
    deadline(&fold(&[block(100, 30, [endless])]), Some(never), 0.0);
}

#[test]
fn log_order_decides_within_a_block_and_time_comes_last() {
    let truth = fold(&[
        block(100, 30, [long(1, 100), long(2, 100), long(3, 100), long(4, 100)]),
        block(
            131,
            30,
            [
                ready(1),
                failed_at(1, "Swap group timeout"),
                failed(2, "Transaction expired"),
                ready(2),
                failed_at(3, "Swap group timeout"),
                failed_at(4, "Dependencies not satisfied"),
            ],
        ),
    ]);
    let settled =
        |outcome| format!("tesseract_transactions_settled_total{{network=\"n\",outcome=\"{outcome}\"}}");
    shows(&truth, &settled("ready"), Some(1.0));
    shows(&truth, &settled("expired"), Some(3.0));
    shows(&truth, &settled("swap_group_timeout"), Some(0.0));
    shows(&truth, "tesseract_transactions_ready_total{network=\"n\"}", Some(2.0));
    // The late ready of an expired one is observed all the same.
    shows(&truth, "tesseract_resolution_time_seconds_count{network=\"n\"}", Some(2.0));
}

#[test]
fn a_swap_group_timeout_in_time_is_its_own_outcome() {
    let truth = fold(&[
        block(100, 30, [long(1, 100)]),
        block(130, 30, [failed_at(1, "Swap group timeout")]),
        block(200, 30, []),
    ]);
    let outcome = "tesseract_transactions_settled_total{network=\"n\",outcome=\"swap_group_timeout\"}";
    shows(&truth, outcome, Some(1.0));
    shows(&truth, "tesseract_transactions_pending{network=\"n\"}", Some(0.0));
}

#[test]
fn what_was_never_seen_buffered_only_counts_as_an_event() {
    let truth = fold(&[
        block(100, 30, [ready(7), failed(8, "?"), short(9, 100)]),
        block(101, 30, [ready(9), ready(9)]),
    ]);
    shows(&truth, "tesseract_transactions_ready_total{network=\"n\"}", Some(3.0));
    shows(&truth, "tesseract_resolution_time_seconds_count{network=\"n\"}", Some(1.0));
    shows(&truth, "tesseract_transactions_failed_total{network=\"n\",reason=\"other\"}", Some(1.0));
    shows(&truth, "tesseract_transactions_settled_total{network=\"n\",outcome=\"ready\"}", Some(1.0));
}

#[test]
fn a_reason_is_sanitised_and_cut() {
    let mut hostile = failed(1, "");
    hostile.data = string_data(b"a\"\\\n\0\xff<&");
    let truth = fold(&[block(100, 30, [failed(2, "old"), hostile])]);
    shows(&truth, &failure(1, "a\\\"\\\\  \u{fffd}<&"), Some(100.0));
    shows(&truth, &failure(2, "old"), Some(100.0));

    let truth = fold(&[block(100, 30, [failed(1, &"ä".repeat(200))])]);
    shows(&truth, &failure(1, &"ä".repeat(128)), Some(100.0));
}

#[test]
fn the_newest_sixteen_failures_are_named_each_once() {
    let mut blocks: Vec<Block> = (1..=20).map(|n| block(100 + n, 30, [failed(n, "no")])).collect();
    // The third twice more: it is among the newest again, and one series.
    blocks.push(block(130, 30, [failed(3, "no"), failed(3, "no")]));
    let truth = fold(&blocks);
    let named = |n: u64| truth.series.get(&failure(n, "no")).copied();
    assert_eq!(truth.series.keys().filter(|key| key.contains("_failed_transaction_")).count(), 16);
    assert_eq!((named(3), named(5), named(6), named(20)), (Some(130.0), None, Some(106.0), Some(120.0)));
}

#[test]
fn the_newest_sixteen_expiries_are_named_with_the_deadline_that_passed() {
    let expiry = |n: u64| {
        let labels = format!("network=\"n\",tx_hash=\"{}\",tx_id=\"{}\"", hex(0x100 + n), hex(n));
        format!("tesseract_expired_transaction_timestamp_seconds{{{labels}}}")
    };
    let mut blocks: Vec<Block> = (1..=16).map(|n| block(100 + n, 30, [long(n, 100 + n)])).collect();
    // One that floats: its deadline moves from 400 to 105 only after those of all others have passed.
    blocks.insert(0, block(100, 300, [short(20, 100)]));
    blocks.push(block(147, 300, []));
    blocks.push(block(150, 5, []));
    // And one whose log says so, whatever the window.
    blocks.push(block(151, 300, [long(30, 151), failed(30, "Transaction expired")]));
    let shown = |truth: &Truth, n: u64| truth.series.get(&expiry(n)).copied();
    let before = truth(&blocks, 17, "n");
    assert_eq!((shown(&before, 1), shown(&before, 20)), (Some(131.0), None));
    let after = truth(&blocks, 18, "n");
    assert_eq!((shown(&after, 1), shown(&after, 2), shown(&after, 20)), (None, Some(132.0), Some(105.0)));
    let last = fold(&blocks);
    assert_eq!((shown(&last, 2), shown(&last, 20), shown(&last, 30)), (None, Some(105.0), Some(151.0)));
}

#[test]
fn known_topics_with_bad_data_are_counted_and_unknown_ones_are_not() {
    let broken = |mut log: Log, data: &[u8]| {
        log.data = data.to_vec();
        log
    };
    let word = |n: u64| H256::from_low_u64_be(n).0.to_vec();
    let mut few_topics = ready(1);
    few_topics.topics.pop();
    let truth = fold(&[block(
        100,
        30,
        [
            few_topics,
            broken(short(2, 1), &[0; 31]),
            broken(long(3, 1), &[0; 32]),
            broken(failed(4, ""), &[word(64), word(0)].concat()),
            broken(failed(5, ""), &[word(32), word(9), vec![b'x'; 8]].concat()),
            broken(failed(6, ""), &[vec![0xff; 32], vec![0xff; 32]].concat()),
            Log { topics: vec![topic0("Transfer(address,address,uint256)")], ..Log::default() },
            Log::default(),
            log("EmergencyPause(address,uint256)", 1, &word(1)),
        ],
    )]);
    shows(&truth, "tesseract_undecodable_logs_total{network=\"n\"}", Some(6.0));
    shows(&truth, "tesseract_contract_events_total{event=\"EmergencyPause\",network=\"n\"}", Some(1.0));
    shows(&truth, "tesseract_transactions_buffered_total{network=\"n\"}", Some(0.0));
    // The contract says that it buffered one.
    shows(&truth, "tesseract_missing_events{network=\"n\"}", Some(1.0));
}

#[test]
fn differences_are_found_in_both_directions_and_in_confirmed_series_only() {
    let truth = fold(&[block(100, 30, [])]);
    let written = truth.series.iter().map(|(key, value)| (key.replace(".0\"", "\""), value.to_string()));
    let mut scrape = Series(written.collect());
    scrape.0.insert("tesseract_reorgs_total{network=\"n\"}".to_owned(), "5".to_owned());
    assert_eq!(differences(&truth, &scrape), [] as [String; 0]);

    scrape.0.remove("tesseract_transactions_pending{network=\"n\"}");
    scrape.0.insert("tesseract_transactions_ready_total{network=\"n\"}".to_owned(), "2".to_owned());
    scrape.0.insert("tesseract_oldest_pending_timestamp_seconds{network=\"n\"}".to_owned(), "1".to_owned());
    assert_eq!(differences(&truth, &scrape).len(), 3);
}

#[test]
fn bounds_are_compared_as_numbers() {
    assert_eq!(canonical("a_bucket{le=\"86400\",n=\"1\"}"), "a_bucket{le=\"86400.0\",n=\"1\"}");
    assert_eq!(canonical("a_bucket{le=\"+Inf\"}"), "a_bucket{le=\"+Inf\"}");
}

fn fold(blocks: &[Block]) -> Truth {
    truth(blocks, blocks.len() as u64 - 1, "n")
}

fn shows(truth: &Truth, key: &str, value: Option<f64>) {
    assert_eq!(truth.series.get(key).copied(), value, "{key} in {truth:#?}");
}

fn deadline(truth: &Truth, next: Option<f64>, expired: f64) {
    shows(truth, "tesseract_next_deadline_timestamp_seconds{network=\"n\"}", next);
    shows(truth, "tesseract_oldest_pending_timestamp_seconds{network=\"n\"}", next.map(|_| 100.0));
    shows(truth, "tesseract_transactions_settled_total{network=\"n\",outcome=\"expired\"}", Some(expired));
}

fn block<const N: usize>(time: u64, window: u64, logs: [Log; N]) -> Block {
    Block { time, window: Some(window.into()), count: Some(1.into()), logs: logs.into() }
}

fn short(tx: u64, scheduled: u64) -> Log {
    let mut log = log(SHORT, tx, &H256::from_low_u64_be(scheduled).0);
    log.topics.extend([H256::zero(), H256::zero()]);
    log
}

fn long(tx: u64, scheduled: u64) -> Log {
    let mut log = log(LONG, tx, &[[0; 32], H256::from_low_u64_be(scheduled).0].concat());
    log.topics.extend([H256::zero(), H256::zero()]);
    log
}

fn ready(tx: u64) -> Log {
    log("TransactionReady(bytes32)", tx, &[])
}

fn failed(tx: u64, reason: &str) -> Log {
    log(FAILED, tx, &string_data(reason.as_bytes()))
}

fn failed_at(tx: u64, reason: &str) -> Log {
    let word = |n: usize| H256::from_low_u64_be(n as u64).0.to_vec();
    log(FAILED_AT, tx, &[word(64), word(5), word(reason.len()), reason.as_bytes().to_vec()].concat())
}

fn string_data(text: &[u8]) -> Vec<u8> {
    let word = |n: usize| H256::from_low_u64_be(n as u64).0.to_vec();
    [word(32), word(text.len()), text.to_vec()].concat()
}

fn log(signature: &str, tx: u64, data: &[u8]) -> Log {
    let topics = vec![topic0(signature), H256::from_low_u64_be(tx)];
    Log { tx_hash: H256::from_low_u64_be(0x100 + tx), topics, data: data.to_vec() }
}

/// The series of a failure of the class `other`.
fn failure(tx: u64, reason: &str) -> String {
    let (hash, id) = (hex(0x100 + tx), hex(tx));
    let labels =
        format!("class=\"other\",network=\"n\",reason=\"{reason}\",tx_hash=\"{hash}\",tx_id=\"{id}\"");
    format!("tesseract_failed_transaction_timestamp_seconds{{{labels}}}")
}

fn hex(tx: u64) -> String {
    format!("{:#x}", H256::from_low_u64_be(tx))
}
