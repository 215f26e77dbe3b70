//! Each pure stage alone, in the order in which data passes through them: parse, decode, verify, ledger, encode.
//!
//! Beside each stage stands the least that handles the same bytes. Whole runs are the bench program's.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tesseract_exporter::chain::{self, BlockRef, Header, Log};
use tesseract_exporter::config::Config;
use tesseract_exporter::decode::{self, Event, Logged};
use tesseract_exporter::ledger::{Block, Ledger};
use tesseract_exporter::metrics::{self, Format};
use tesseract_exporter::snapshot::{Confirmed, Gauges, Snapshot};
use tesseract_tests::sim::{Chain, Params, Regular, answer, block_object};

/// Blocks, and about as many logs, of a range that is well filled.
const BLOCKS: u64 = 10_000;

/// Ten logs in every tenth block.
const TRAFFIC: Regular = Regular { every: 10, buffered: 5, resolved_after: Some(1) };

fn simulated() -> Chain {
    let mut chain = Chain::new(Params { regular: Some(TRAFFIC), ..Params::default() });
    chain.advance_to(BLOCKS);
    chain
}

/// What a node says to a request for all logs: the `result` alone.
fn raw_logs(chain: &Chain) -> Box<RawValue> {
    #[derive(Deserialize)]
    struct Answer {
        result: Box<RawValue>,
    }
    let request = br#"{"id": 1, "method": "eth_getLogs", "params": [{"fromBlock": "0x0"}]}"#;
    let answer: Answer = serde_json::from_slice(&answer(chain, request)).expect("the node answers");
    answer.result
}

/// What it says to a request for a block with logs.
fn raw_header(chain: &Chain) -> Box<RawValue> {
    let header = String::from_utf8(block_object(chain, BLOCKS)).expect("JSON is UTF-8");
    RawValue::from_string(header).expect("a block is JSON")
}

fn logs(chain: &Chain) -> Vec<Log> {
    chain::logs(&raw_logs(chain)).expect("the logs are well-formed")
}

fn parse(criterion: &mut Criterion) {
    let chain = simulated();
    let (logs, header) = (raw_logs(&chain), raw_header(&chain));
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Bytes(logs.get().len() as u64));
    group.bench_function("logs", |bencher| {
        bencher.iter(|| chain::logs(black_box(&logs)).expect("the logs are well-formed"));
    });
    group.bench_function("logs, floor: JSON alone", |bencher| {
        bencher.iter(|| serde_json::from_str::<Vec<IgnoredAny>>(black_box(logs.get())).expect("JSON"));
    });
    group.throughput(Throughput::Bytes(header.get().len() as u64));
    group.bench_function("header", |bencher| {
        bencher.iter(|| chain::header(black_box(&header)).expect("the header is well-formed"));
    });
    group.bench_function("header, floor: JSON alone", |bencher| {
        bencher.iter(|| serde_json::from_str::<IgnoredAny>(black_box(header.get())).expect("JSON"));
    });
    group.finish();
}

fn decode_and_verify(criterion: &mut Criterion) {
    let chain = simulated();
    let logs = logs(&chain);
    let Header { bloom, .. } = chain::header(&raw_header(&chain)).expect("the header is well-formed");
    let bloom = bloom.expect("the simulated blooms are whole");
    let mut group = criterion.benchmark_group("decode and verify");
    group.throughput(Throughput::Elements(logs.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| black_box(&logs).iter().filter_map(decode::decode).count());
    });
    group.bench_function("decode, floor: look at the topic", |bencher| {
        bencher.iter(|| black_box(&logs).iter().filter(|log| decode::is_known(log)).count());
    });
    group.bench_function("arrange", |bencher| {
        let arrange = |logs| chain::arrange(logs, 0..=BLOCKS, chain.contract()).expect("in order");
        bencher.iter_batched(|| logs.clone(), arrange, BatchSize::LargeInput);
    });
    group.bench_function("unite two answers", |bencher| {
        bencher.iter_batched(|| logs.clone(), |ours| chain::unite(ours, &logs), BatchSize::LargeInput);
    });
    let again = logs.clone();
    group.bench_function("arrange and unite, floor: compare one by one", |bencher| {
        bencher.iter(|| black_box(&logs) == black_box(&again));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("bloom of one header", |bencher| {
        let contract = chain::BloomKey::of(chain.contract().as_bytes());
        let topics = || decode::topics_in_blooms().map(|(_, key)| key);
        bencher.iter(|| chain::bloom_hits(black_box(&bloom), &contract, topics()));
    });
    group.finish();
}

fn ledger(criterion: &mut Criterion) {
    let blocks = blocks(&simulated());
    let end =
        blocks.last().map(|last| BlockRef { number: last.number, time: last.time, ..BlockRef::default() });
    let end = end.expect("blocks with events");
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(blocks.iter().map(|block| block.events.len() as u64).sum()));
    group.bench_function("apply a range", |bencher| {
        let apply = |ledger: &mut Ledger| ledger.apply(&[], &blocks, end);
        bencher.iter_batched_ref(Ledger::default, apply, BatchSize::LargeInput);
    });
    group.bench_function("apply, floor: count by kind", |bencher| {
        let is_buffered = |logged: &&Logged| matches!(logged.event, Event::Buffered { .. });
        let of = |block: &Block| block.events.iter().filter(is_buffered).count();
        bencher.iter(|| black_box(&blocks).iter().map(of).sum::<usize>());
    });
    group.finish();
}

/// The blocks with events, as the ledger takes them.
fn blocks(chain: &Chain) -> Vec<Block> {
    let logs = logs(chain);
    let in_block = logs.chunk_by(|one, other| one.block == other.block);
    let logged =
        |log: &Log| Logged { tx_hash: log.tx_hash, event: decode::decode(log).expect("a known event") };
    let block = |logs: &[Log]| Block {
        number: logs[0].block,
        time: chain.time(logs[0].block),
        window: Some(30.into()),
        guessed: false,
        events: logs.iter().map(logged).collect(),
    };
    in_block.map(block).collect()
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for networks in [3, 1000] {
        let snapshots: Vec<_> = (0..networks).map(|number| Arc::new(snapshot(number))).collect();
        let encode = || metrics::encode_networks(&snapshots, Format::PrometheusText).expect("encode");
        let text = encode();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("{networks} networks"), |bencher| bencher.iter(encode));
        group.bench_function(format!("{networks} networks, floor: copy the text"), |bencher| {
            bencher.iter(|| black_box(&text).clone());
        });
    }
    group.finish();
}

/// A network that has caught up with a chain in which nothing happened.
fn snapshot(number: usize) -> Snapshot {
    let variables = [
        ("TESSERACT_NETWORK", format!("n{number}")),
        ("TESSERACT_RPC_URL", "http://localhost".to_owned()),
        ("TESSERACT_CONTRACT", format!("{:#x}", Chain::new(Params::default()).contract())),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
    let config = Config::find(None, &variables).expect("a configuration");
    let ledger = Ledger::default();
    let gauges = Gauges {
        pending: ledger.pending(),
        oldest_pending: ledger.oldest_pending(),
        next_deadline: ledger.next_deadline(),
        newest: ledger.newest().clone(),
        missing_events: Some(0),
        ..Gauges::default()
    };
    let mut snapshot = Snapshot::unknown(&config.networks[0]);
    (snapshot.connected, snapshot.synced) = (true, true);
    snapshot.confirmed = Some(Confirmed { counts: Arc::new(ledger.counts().clone()), gauges: Some(gauges) });
    snapshot
}

criterion_group!(benches, parse, decode_and_verify, ledger, encode);
criterion_main!(benches);
