//! That two exporters which watch the same network are shown as the alerts take them: a network has a node as long as one
//! of them has one, and a stalled one is not hidden by the other. Evaluates the queries of the panels with promtool and
//! starts nothing.

use std::process::Command;

use serde_json::json;

use crate::{Dashboard, dashboards};

/// Of network `a` the exporter x is blind and has stalled, of network `b` both are blind.
#[test]
fn two_exporters_are_shown_as_the_alerts_take_them() {
    let series = |name: &str, instance: &str, network: &str, values: &str| {
        json!({
            "series": format!("{name}{{job=\"tesseract\", instance=\"{instance}\", network=\"{network}\"}}"),
            "values": values,
        })
    };
    let input = [
        series("tesseract_node_connected", "x", "a", "0x40"),
        series("tesseract_node_connected", "y", "a", "1x40"),
        series("tesseract_contract_exists", "y", "a", "1x40"),
        series("tesseract_contract_paused", "y", "a", "0x40"),
        series("tesseract_last_success_timestamp_seconds", "x", "a", "0x40"),
        series("tesseract_last_success_timestamp_seconds", "y", "a", "0+15x40"),
        series("tesseract_node_connected", "x", "b", "0x40"),
        series("tesseract_node_connected", "y", "b", "0x40"),
    ];
    let of =
        |network: &str, value: u32| json!({"labels": format!("{{network=\"{network}\"}}"), "value": value});
    let connected = [of("a", 1), of("b", 0)].to_vec();
    let wanted = [
        ("tesseract-overview: Node A", connected.clone()),
        ("tesseract-overview: Networks A", connected),
        // Running, and out of sight.
        ("tesseract-overview: Contract state A", vec![of("a", 0), of("b", 4)]),
        ("tesseract-exporter: Since the last full cycle A", vec![of("a", 600)]),
        ("tesseract-exporter: Time since the last full cycle A", vec![of("a", 600)]),
    ];
    let expressions: Vec<_> = dashboards().iter().flat_map(Dashboard::expressions).collect();
    let asked = wanted.map(|(place, samples)| {
        let (_, expression) =
            expressions.iter().find(|it| it.0 == place).unwrap_or_else(|| panic!("no {place}"));
        json!({"eval_time": "10m", "expr": expression.replace("$network", ".+"), "exp_samples": samples})
    });
    let test = json!({"tests": [{"interval": "15s", "input_series": input, "promql_expr_test": asked}]});

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("replicas.test.yml");
    std::fs::write(&file, test.to_string()).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output().expect("promtool");
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}
