//! The shipped rules and runbooks: valid, tested by promtool, complete, and about metrics that exist.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;
use tesseract_tests::prometheus::prometheus_3;

/// All alerts with their severity: what users may rely on.
const ALERTS: [(&str, &str); 33] = [
    ("TesseractChainStalled", "warning"),
    ("TesseractCircuitBreakerActive", "critical"),
    ("TesseractClockSkew", "warning"),
    ("TesseractConfigReloadFailed", "warning"),
    ("TesseractConfirmationLag", "critical"),
    ("TesseractContractMissing", "critical"),
    ("TesseractContractPaused", "critical"),
    ("TesseractEndpointDown", "warning"),
    ("TesseractExporterDown", "critical"),
    ("TesseractExporterRestarting", "warning"),
    ("TesseractExporterStalled", "critical"),
    ("TesseractHighFailureRate", "critical"),
    ("TesseractLowSuccessRate", "warning"),
    ("TesseractLowThroughput", "warning"),
    ("TesseractMissingEvents", "critical"),
    ("TesseractNetworkGone", "warning"),
    ("TesseractNodeDisconnected", "critical"),
    ("TesseractNotSynced", "warning"),
    ("TesseractOwnerUnexpected", "critical"),
    ("TesseractPausedBriefly", "warning"),
    ("TesseractReorg", "warning"),
    ("TesseractReplicaBlind", "warning"),
    ("TesseractReplicasDisagree", "critical"),
    ("TesseractRolesChanged", "warning"),
    ("TesseractRpcErrors", "warning"),
    ("TesseractRulesIncomplete", "critical"),
    ("TesseractSlowResolution", "warning"),
    ("TesseractSyncLagging", "warning"),
    ("TesseractTransactionFailed", "warning"),
    ("TesseractTransactionsExpired", "warning"),
    ("TesseractUndecodableLogs", "warning"),
    ("TesseractWatchdog", "none"),
    ("TesseractWindowChanged", "warning"),
];

const HEADINGS: [&str; 5] = ["Meaning", "Impact", "How to tell", "What to do", "When it is not an emergency"];

#[test]
fn promtool_accepts_every_rule() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &rule_files());
}

#[test]
fn promtool_passes_every_unit_test() {
    let files = files("tests/rules", ".test.yml");
    assert!(files.len() >= 5, "{files:?}");
    promtool(&["test", "rules"], &files);
}

/// All of them, and those whose notation an older promtool does not read.
#[test]
fn promtool_3_passes_every_unit_test() {
    let Some(program) = prometheus_3("promtool") else { return };
    let all = [files("tests/rules", ".test.yml"), files("tests/rules/prometheus3", ".test.yml")].concat();
    run(&program, &["test", "rules"], &all);
}

#[test]
fn the_alerts_are_the_promised_ones() {
    let shipped: BTreeMap<_, _> =
        alerts().iter().map(|rule| (text(&rule["alert"]), text(&rule["labels"]["severity"]))).collect();
    let promised = ALERTS.iter().map(|(name, severity)| ((*name).to_owned(), (*severity).to_owned()));
    assert_eq!(shipped, promised.collect());
}

#[test]
fn every_alert_says_what_it_should() {
    let uids: BTreeSet<_> = files("dashboards", ".json")
        .iter()
        .map(|path| serde_yaml::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap())
        .map(|dashboard| text(&dashboard["uid"]))
        .collect();
    for rule in alerts() {
        let name = text(&rule["alert"]);
        let annotation = |key: &str| {
            let value = rule["annotations"][key].as_str();
            value.unwrap_or_else(|| panic!("{name} has no {key}")).to_owned()
        };
        assert!(
            annotation("summary").len() > 10 && annotation("description").len() > 40,
            "{name}: too terse"
        );
        assert!(annotation("runbook_url").ends_with(&format!("/runbooks/{name}")), "{name}");
        let dashboard = annotation("dashboard_url");
        let uid = dashboard.split("/d/").nth(1).unwrap().split('?').next().unwrap();
        assert!(uids.contains(uid), "{name}: there is no dashboard {uid}");
        assert_eq!(
            dashboard.contains("var-network="),
            annotation("summary").contains("$labels.network"),
            "{name}: a network in the text or the link only"
        );
    }
}

/// One network name may exist in several clusters and environments: a message must not speak of another's.
#[test]
fn what_a_message_looks_up_is_of_its_own_cluster_and_environment() {
    for rule in alerts() {
        let texts = [texts_of(&rule["labels"]), texts_of(&rule["annotations"])].concat();
        for text in texts {
            let of_a_network = text.matches("network=%q").count();
            let whole = text.matches("network=%q, cluster=%q, environment=%q").count();
            let filled_in = text.matches("$labels.network $labels.cluster $labels.environment").count();
            assert_eq!([whole, filled_in], [of_a_network; 2], "{}: {text}", rule["alert"].as_str().unwrap());
        }
    }
}

/// In a unit test a row lists all that fires at that moment, and the name of a case begins with the alert
/// that it is about.
#[test]
fn every_alert_has_a_case_where_it_fires_and_one_where_it_does_not() {
    let (mut fires, mut silent, mut spelled_out) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for case in files("tests/rules", ".test.yml").iter().flat_map(|path| list(&yaml(path)["tests"])) {
        let subject = case["name"].as_str().and_then(|name| name.split_once(": ")).map(|it| it.0.to_owned());
        for row in list(&case["promql_expr_test"]).iter().filter(|row| text(&row["expr"]).contains("ALERTS"))
        {
            let listed = list(&row["exp_samples"]).iter().map(|it| text(&it["labels"])).collect::<String>();
            for name in names() {
                if listed.contains(&format!("alertname=\"{name}\"")) {
                    fires.insert(name);
                } else if subject.as_deref() == Some(name) {
                    silent.insert(name);
                }
            }
        }
        for row in list(&case["alert_rule_test"]) {
            let named = names().find(|name| row["alertname"] == **name);
            spelled_out.extend(named.filter(|_| !list(&row["exp_alerts"]).is_empty()));
        }
    }
    let all: BTreeSet<_> = names().collect();
    assert_eq!(fires, all);
    assert_eq!(spelled_out, all);
    let can_be_silent = all.into_iter().filter(|name| *name != "TesseractWatchdog");
    assert_eq!(silent, can_be_silent.collect());
}

#[test]
fn every_metric_in_rules_tests_and_runbooks_is_exposed_or_recorded() {
    let golden = read("tests/golden/metrics.prom");
    // A native histogram is one series, of the family's name.
    let native = read("tests/golden/metrics.protobuf.txt");
    let native = native.lines().filter(|line| line.contains(" kind=4 "));
    let exposed: BTreeSet<_> = golden
        .lines()
        .filter(|line| !line.starts_with('#'))
        .chain(native)
        .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
        .collect();
    let recorded: BTreeSet<_> =
        rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect();
    let places = [tesseract_rules(), rule_tests(), files("alerting/runbooks", ".md")].concat();
    for path in places {
        for (name, _) in metrics(&fs::read_to_string(&path).unwrap()) {
            // Prometheus itself makes `up`.
            let known = name == "up" || exposed.contains(&name) || recorded.contains(&name);
            assert!(known, "{}: {name} is neither exposed nor recorded", path.display());
        }
    }
}

#[test]
fn every_selector_asks_for_the_job() {
    for path in [tesseract_rules(), files("alerting/runbooks", ".md")].concat() {
        let runbook = path.extension().is_some_and(|it| it == "md");
        let whole = fs::read_to_string(&path).unwrap();
        // A comment may name a metric without selecting anything, and so may the prose of a runbook.
        let text = if runbook {
            queries(&whole).join("\n")
        } else {
            whole.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
        };
        for (name, matchers) in metrics(&text).into_iter().filter(|(name, _)| !name.contains(':')) {
            let asks = matchers.as_deref().is_some_and(|it| it.contains("job=\"tesseract\""));
            assert!(asks, "{}: {name}{{{}}}", path.display(), matchers.unwrap_or_default());
        }
    }
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let pages: BTreeSet<_> = files("alerting/runbooks", ".md")
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(pages, names().map(str::to_owned).collect());
}

#[test]
fn every_runbook_has_the_same_headings_and_something_below_each() {
    for name in names() {
        let page = read(&format!("alerting/runbooks/{name}.md"));
        let headings: Vec<_> = page.lines().filter(|line| line.starts_with('#')).collect();
        let expected = [format!("# {name}")].into_iter().chain(HEADINGS.iter().map(|it| format!("## {it}")));
        assert_eq!(headings, expected.collect::<Vec<_>>(), "{name}");
        for section in page.split("\n## ").skip(1) {
            let (heading, body) = section.split_once('\n').unwrap();
            assert!(body.trim().len() > 20, "{name}: nothing under {heading}");
        }
    }
}

/// Under compose, systemd and Kubernetes.
#[test]
fn a_runbook_that_sends_people_to_a_log_says_how_to_read_it() {
    for name in names() {
        let page = read(&format!("alerting/runbooks/{name}.md"));
        if !["the log", "exporter's log", "its log"].iter().any(|it| page.contains(it)) {
            continue;
        }
        for command in ["docker compose logs", "journalctl -u", "kubectl logs"] {
            assert!(page.contains(command), "{name}: no {command}");
        }
    }
}

#[test]
fn every_query_of_a_runbook_is_one() {
    let mut file = String::from("groups:\n  - name: runbooks\n    rules:\n");
    for name in names() {
        let page = read(&format!("alerting/runbooks/{name}.md"));
        let how_to_tell = page.split("## How to tell").nth(1).unwrap().split("\n## ").next().unwrap();
        let queries = queries(how_to_tell);
        assert!(!queries.is_empty(), "{name}: no query to paste");
        for (number, query) in queries.iter().enumerate() {
            let query = serde_yaml::to_string(query).unwrap();
            file.push_str(&format!(
                "      - record: runbook:{name}:query{number}\n        expr: {}\n",
                query.trim_end()
            ));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runbooks.yml");
    fs::write(&path, file).unwrap();
    promtool(&["check", "rules", "--lint=none"], &[path]);
}

fn names() -> impl Iterator<Item = &'static str> {
    ALERTS.iter().map(|(name, _)| *name)
}

/// Rules about the exporter; `stack.alerts.yml` is about the stack around it.
fn tesseract_rules() -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("tesseract.");
    rule_files().into_iter().filter(is_ours).collect()
}

fn rule_files() -> Vec<PathBuf> {
    [files("rules", ".rules.yml"), files("rules", ".alerts.yml")].concat()
}

fn rule_tests() -> Vec<PathBuf> {
    [files("tests/rules", ".test.yml"), files("tests/rules/prometheus3", ".test.yml")].concat()
}

fn rules() -> Vec<Value> {
    let groups: Vec<_> = tesseract_rules().iter().flat_map(|path| list(&yaml(path)["groups"])).collect();
    groups.iter().flat_map(|group| list(&group["rules"])).collect()
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule.get("alert").is_some()).collect()
}

/// The values of a mapping.
fn texts_of(mapping: &Value) -> Vec<String> {
    mapping.as_mapping().into_iter().flatten().map(|(_, value)| text(value)).collect()
}

/// The queries in the fences of a page.
fn queries(page: &str) -> Vec<String> {
    let fences = page.split("```promql\n").skip(1);
    fences.map(|it| it.split("\n```").next().unwrap().to_owned()).collect()
}

/// Every metric in a text, with what stands in the braces after it, if there are any.
fn metrics(text: &str) -> Vec<(String, Option<String>)> {
    let part_of_name = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == ':';
    let ours = |it: &str| {
        ["tesseract_", "tesseract:", "process_"].iter().any(|prefix| it.starts_with(prefix)) || it == "up"
    };
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(part_of_name) {
        let name: String = rest[start..].chars().take_while(|it| part_of_name(*it)).collect();
        rest = &rest[start + name.len()..];
        // `up` may be a word of the prose, also right before a template.
        let selects = rest.starts_with('{') && !rest.starts_with("{{");
        // The volume of the stack has a hyphen in its name, and no expression has one next to a metric.
        let is_volume = rest.starts_with('-');
        if ours(&name) && (name != "up" || selects) && !name.ends_with(['_', ':']) && !is_volume {
            let matchers = rest.strip_prefix('{').map(|inside| inside.split('}').next().unwrap().to_owned());
            found.push((name, matchers));
        }
    }
    found
}

fn promtool(args: &[&str], files: &[PathBuf]) {
    run("promtool".as_ref(), args, files);
}

fn run(promtool: &Path, args: &[&str], files: &[PathBuf]) {
    let output = Command::new(promtool).args(args).args(files).output().expect("promtool, see tests/setup");
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    assert!(output.status.success(), "promtool {args:?}: {}\n{said}", output.status);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(dir: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(dir)).unwrap_or_else(|error| panic!("{dir}: {error}"));
    let mut files: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().ends_with(ending));
    files.sort();
    assert!(!files.is_empty(), "no {ending} in {dir}");
    files
}

fn yaml(path: &Path) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_sequence().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().map(str::to_owned).unwrap_or_default()
}
