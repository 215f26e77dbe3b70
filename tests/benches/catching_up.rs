//! What catching up costs: reading an answer of `eth_getLogs`, straight to the exporter's own type and by way
//! of a tree of values; and, for scale, making the history that it is read from.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;
use serde_json::value::RawValue;
use tesseract_exporter::chain;
use tesseract_tests::sim::{Chain, Params, Variant, answer};

const LOGS: usize = 10_000;

/// What a node says to a request for all logs: the `result` alone.
fn logs_of(simulated: &Chain) -> Box<RawValue> {
    #[derive(serde::Deserialize)]
    struct Answer {
        result: Box<RawValue>,
    }
    let request = br#"{"id": 1, "method": "eth_getLogs", "params": [{"fromBlock": "0x0"}]}"#;
    let answer: Answer = serde_json::from_slice(&answer(simulated, request)).expect("the node answers");
    answer.result
}

fn reading(criterion: &mut Criterion) {
    let mut simulated = Chain::new(Params { variant: Variant::Buffer, ..Params::default() });
    simulated.advance_to_logs(LOGS);
    let raw = logs_of(&simulated);
    let mut group = criterion.benchmark_group("reading logs");
    group.throughput(Throughput::Elements(simulated.log_count() as u64));
    group.bench_function("to the exporter's type", |bencher| {
        bencher.iter(|| chain::logs(black_box(&raw)).expect("the logs are well-formed"));
    });
    group.bench_function("by way of a tree of values", |bencher| {
        bencher.iter(|| {
            let tree: Value = serde_json::from_str(black_box(raw.get())).expect("an answer is JSON");
            serde_json::from_value::<Vec<web3::types::Log>>(tree).expect("the logs are well-formed")
        });
    });
    group.finish();
}

fn making(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("making a history");
    group.throughput(Throughput::Elements(LOGS as u64));
    for (name, variant) in
        [("simple", Variant::Simple), ("buffer", Variant::Buffer), ("mixed", Variant::Mixed)]
    {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut simulated = Chain::new(Params { variant, ..Params::default() });
                simulated.advance_to_logs(LOGS);
                simulated
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reading, making);
criterion_main!(benches);
