//! Golden files, and what independent parsers say about them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tesseract_exporter::ledger::BUCKETS;
use tesseract_exporter::metrics::{Format, encode};
use tesseract_exporter::snapshot::hex;
use tesseract_tests::fold::canonical;
use tesseract_tests::protobuf;
use tesseract_tests::series::Series;

use crate::fixture;

#[test]
fn prometheus_text_is_as_it_was() {
    is_golden("metrics.prom", &exposition(Format::PrometheusText));
}

#[test]
fn open_metrics_is_as_it_was() {
    is_golden("metrics.openmetrics.txt", &exposition(Format::OpenMetrics));
}

/// The messages, as a text.
#[test]
fn protobuf_is_as_it_was() {
    let families = protobuf::parse(&encode(fixture::exposition(), Format::Protobuf).unwrap());
    is_golden("metrics.protobuf.txt", &families.iter().map(ToString::to_string).collect::<String>());
}

#[test]
fn protobuf_says_what_the_texts_say() {
    let families = protobuf::parse(&encode(fixture::exposition(), Format::Protobuf).unwrap());
    let numbers = |series: &Series| {
        let numbers = series.0.iter().map(|(key, value)| (canonical(key), value.parse::<f64>().unwrap()));
        numbers.collect::<BTreeMap<_, _>>()
    };
    let text = exposition(Format::OpenMetrics);
    assert_eq!(numbers(&protobuf::series(&families)), numbers(&Series::parse(&text)));

    // Each family's help and unit; the text leaves the suffix of counters and infos out.
    for family in &families {
        let stem = ["_total", "_info"].iter().find_map(|suffix| family.name.strip_suffix(suffix));
        let stem = stem.unwrap_or(&family.name);
        assert!(text.contains(&format!("# HELP {stem} {}\n", family.help)), "{family}");
        let unit = text.contains(&format!("# UNIT {stem} {}\n", family.unit));
        assert_eq!(unit, !family.unit.is_empty(), "{family}");
    }

    let histograms =
        families.iter().flat_map(|family| &family.metrics).filter_map(|it| it.histogram.as_ref());
    for histogram in histograms {
        assert_eq!(histogram.count, histogram.zero_count + histogram.native().values().sum::<u64>());
    }
}

#[test]
fn nothing_but_the_own_process_without_networks() {
    let mut empty = fixture::exposition();
    empty.networks.clear();
    let text = String::from_utf8(encode(empty, Format::PrometheusText).unwrap()).unwrap();
    let foreign: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter(|line| !line.starts_with("tesseract_exporter_") && !line.starts_with("process_"))
        .collect();
    assert_eq!(foreign, [""; 0]);
}

/// Not known, zero and not applicable, told apart: see the fixture for what each network is.
#[test]
fn absent_is_never_zero() {
    let series = Series::parse(&exposition(Format::PrometheusText));
    let shown = |key: &str| series.get(key);

    // Before the first sync is done nothing confirmed is known.
    let catching_up = series.of("arbitrum").to_string();
    for name in ["transactions_", "contract_events", "resolution_", "undecodable", "missing", "processed_"] {
        assert!(!catching_up.contains(&format!("tesseract_{name}")), "{name} in {catching_up}");
    }
    assert_eq!(shown("tesseract_synced{network=\"arbitrum\"}"), Some(0.0));
    assert_eq!(shown("tesseract_sync_remaining_blocks{network=\"arbitrum\"}"), Some(1_250_000.0));

    // Out of reach: the flags say so, the head is unknown, counters hold, gauges are being recomputed.
    assert_eq!(shown("tesseract_node_connected{network=\"amoy\"}"), Some(0.0));
    assert_eq!(shown("tesseract_head_block_number{network=\"amoy\"}"), None);
    assert_eq!(shown("tesseract_contract_exists{network=\"amoy\"}"), None);
    assert_eq!(shown("tesseract_transactions_buffered_total{network=\"amoy\"}"), Some(5.0));
    assert_eq!(shown("tesseract_transactions_pending{network=\"amoy\"}"), None);
    assert_eq!(shown("tesseract_missing_events{network=\"amoy\"}"), None);

    // A contract without the view, and a network where nothing failed yet.
    assert_eq!(shown("tesseract_contract_paused{network=\"sepolia\"}"), Some(0.0));
    assert_eq!(shown("tesseract_contract_paused{network=\"base\"}"), None);
    assert_eq!(shown("tesseract_transactions_failed_total{network=\"base\",reason=\"expired\"}"), Some(0.0));
    assert!(!series.of("base").to_string().contains("tesseract_failed_transaction"));
}

/// Prometheus's own linter. Names are final, and `transaction_count` is what the contract calls the view.
#[test]
fn promtool_finds_nothing_to_mend() {
    let accepted = [
        "tesseract_transaction_count non-histogram and non-summary metrics should not have \"_count\" suffix",
    ];
    let output =
        run(Command::new("promtool").args(["check", "metrics"]), &exposition(Format::PrometheusText));
    let findings: Vec<&str> = output.1.lines().collect();
    assert_eq!(findings, accepted, "{}", output.1);
}

/// The OpenMetrics parser of the Python client library, which is the format's reference.
#[test]
fn the_reference_parser_reads_open_metrics_and_its_exemplars() {
    let text = exposition(Format::OpenMetrics);
    let python = workspace().join("target/venv/bin/python");
    assert!(python.exists(), "no {}: run tests/setup first", python.display());
    let (success, output) =
        run(Command::new(python).arg(workspace().join("tests/openmetrics_check.py")), &text);
    assert!(success, "{output}");
    let report: Value = serde_json::from_str(&output).unwrap();

    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!((&report["families"], &report["samples"]), (&families.into(), &samples.into()));
    assert_eq!(report["undocumented"], Value::Array(Vec::new()));
    let in_seconds =
        text.lines().filter(|line| line.starts_with("# TYPE ") && line.contains("_seconds ")).count();
    let seconds = report["units"].as_object().unwrap().values().filter(|unit| *unit == "seconds").count();
    assert_eq!(seconds, in_seconds);

    assert_eq!(report["exemplars"], Value::Array(expected_exemplars()));
}

fn expected_exemplars() -> Vec<Value> {
    let networks = fixture::networks();
    let mut expected = Vec::new();
    for (name, delay) in [("time", false), ("delay", true)] {
        for network in &networks {
            let Some(confirmed) = &network.confirmed else { continue };
            let counts = &confirmed.counts;
            let histogram = if delay { &counts.resolution_delay } else { &counts.resolution_time };
            for (bucket, exemplar) in histogram.exemplars.iter().enumerate() {
                let Some(exemplar) = exemplar else { continue };
                let le = BUCKETS.get(bucket).map_or("+Inf".into(), |&bound| Value::from(bound as f64));
                expected.push(serde_json::json!({
                    "name": format!("tesseract_resolution_{name}_seconds_bucket"),
                    "network": network.network,
                    "le": le,
                    "tx_id": hex(&exemplar.tx_id),
                    "value": exemplar.value as f64,
                    "timestamp": exemplar.timestamp as f64,
                }));
            }
        }
    }
    assert_eq!(expected.len(), 6, "the fixture has exemplars in several buckets, the last one included");
    expected
}

fn exposition(format: Format) -> String {
    String::from_utf8(encode(fixture::exposition(), format).unwrap()).unwrap()
}

fn is_golden(name: &str, text: &str) {
    let path = workspace().join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let different = golden.lines().zip(text.lines()).position(|(golden, now)| golden != now);
    assert!(
        golden == text,
        "{} differs, first in line {:?}; if that is meant, run again with UPDATE_GOLDEN=1",
        path.display(),
        different.map_or(golden.lines().count().min(text.lines().count()) + 1, |line| line + 1),
    );
}

/// Runs a program with `input`; whether it succeeded, and what it said on both streams.
fn run(command: &mut Command, input: &str) -> (bool, String) {
    let program = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run tests/setup first", program.display()));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
