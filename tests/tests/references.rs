//! The references in `docs/` hold all that there is and nothing else: metrics and alerts are written from the golden
//! exposition and the rules, keys, flags and variables are held to what the program says of itself.
//!
//! `UPDATE_GOLDEN=1` writes the first two anew. Judges names, types and defaults; not whether the words are true.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use serde_yaml::Value;
use tesseract_tests::fold::CONFIRMED;
use tesseract_tests::process::Launch;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const METRICS: &str = "\
# Metrics

Every family that the exporter serves, written from the exposition that its tests compare. All but the last ones carry
`network`. *Confirmed* families reach up to the processed block, appear once the first sync is done, and are functions of the
chain alone; what else is not known is absent, never 0. In OpenMetrics a counter's family is named without `_total`, an info
without `_info`, and histograms carry exemplars with the `tx_id`. In Prometheus protobuf they carry native buckets beside the
classic ones, 16 to a power of two, and quantiles of these are within 5 % of exact.

| metric | type | labels | unit | absent | meaning |
|---|---|---|---|---|---|
";

const ALERTS: &str = "\
# Alerts

Every alert of `rules/`, written from the rules. Those of Tesseract have a runbook, which the exporter serves as
`/runbooks/<alert>`; what is in italics comes from the alert's labels and value. Thresholds can be overridden for one network: see
[rules](../rules/README.md).

Of every alert tests show, with the real Prometheus and Alertmanager between scripted exporters and stand-ins for Slack,
PagerDuty, a webhook and the heartbeat receiver, that it fires and its near miss does not, that it is told at each place named
here, with a link to a runbook, and told again the next time, and that it is called off where this says so and never otherwise
(`tests/tests/on_call`). TesseractWatchdog always fires, so it has no near miss and no end: it is told again every minute, and
not while messages to people fail. Each fires and stays silent in unit tests of the rules too (`tests/rules`), and each of
Tesseract has its runbook (`tests/tests/rules.rs`); the others share the one of TesseractWatchdog.

| alert | severity | for | keeps firing for | told at | one message for | called off | says |
|---|---|---|---|---|---|---|---|
";

/// When a family is absent, where neither its help nor an exporter without a node tells.
const ABSENT: [(&str, &str); 5] = [
    ("tesseract_processed_block_number", "before a block is processed"),
    ("tesseract_processed_block_timestamp_seconds", "before a block is processed"),
    ("tesseract_failed_transaction_timestamp_seconds", "while there is none"),
    ("tesseract_expired_transaction_timestamp_seconds", "while there is none"),
    ("tesseract_missing_events", "where the node has no state of the processed block"),
];

/// An exporter that knows nothing of its network yet.
const NO_NODE: &str = "networks: [{name: a, rpc_urls: ['http://127.0.0.1:1'], \
                       contract: '0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed'}]";

#[tokio::test]
async fn metrics() {
    let (text, open) = (read("tests/golden/metrics.prom"), read("tests/golden/metrics.openmetrics.txt"));
    let units: BTreeMap<&str, &str> =
        open.lines().filter_map(|line| line.strip_prefix("# UNIT ")?.split_once(' ')).collect();
    let from_the_start = Launch::config(NO_NODE).start().await.scrape().await.to_string();
    let mut page = METRICS.to_owned();
    let mut families = 0;
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        families += 1;
        let (name, meaning) = help.split_once(' ').unwrap();
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| of_family(line, name, kind)).collect();
        assert!(!samples.is_empty(), "{name} has no sample");
        let labels: BTreeSet<&str> = samples.iter().flat_map(|line| labels(line)).collect();
        let exception = ABSENT.iter().find(|(of, _)| *of == name).map(|(_, when)| *when);
        let absent =
            match exception.or_else(|| Some(meaning.split_once("; absent ")?.1.trim_end_matches('.'))) {
                Some(when) => when,
                None if CONFIRMED.contains(&name) => "before the first sync is done",
                None if labels.contains("endpoint") => "before the endpoint is asked",
                None if name.starts_with("process_") => "where the system does not tell",
                None if from_the_start.lines().any(|line| of_family(line, name, kind)) => "never",
                None => "while it is not known",
            };
        let labels: Vec<String> =
            labels.iter().filter(|it| **it != "network").map(|it| format!("`{it}`")).collect();
        let unit = units.get(name.trim_end_matches("_total")).unwrap_or(&"");
        let meaning = meaning.split("; absent ").next().unwrap().trim_end_matches('.');
        writeln!(page, "| `{name}` | {kind} | {} | {unit} | {absent} | {meaning} |", labels.join(", "))
            .unwrap();
    }
    assert!(families > 40, "{families}");
    is_written("docs/metrics.md", &page);
}

#[test]
fn alerts() {
    let mut rows = BTreeMap::<_, Vec<String>>::new();
    for file in ["tesseract.rules.yml", "tesseract.alerts.yml", "stack.alerts.yml"] {
        let rules: Value = serde_yaml::from_str(&read(&format!("rules/{file}"))).unwrap();
        let groups = rules["groups"].as_sequence().unwrap();
        for rule in groups.iter().flat_map(|group| group["rules"].as_sequence().unwrap()) {
            let Some(name) = rule["alert"].as_str() else { continue };
            let time = |key: &str| rule.get(key).map_or("", |it| it.as_str().unwrap());
            let severity = rule["labels"]["severity"].as_str().unwrap();
            let summary = plain(rule["annotations"]["summary"].as_str().unwrap());
            let runbook = match fs::exists(format!("{ROOT}/alerting/runbooks/{name}.md")).unwrap() {
                true => format!("[{name}](../alerting/runbooks/{name}.md)"),
                false => name.to_owned(),
            };
            let (wait, keep) = (time("for"), time("keep_firing_for"));
            let told = match severity {
                "critical" => "Slack, PagerDuty, webhook",
                "warning" => "Slack, webhook",
                _ => "heartbeat",
            };
            let (one, off) = match rule["labels"]["kind"].as_str() {
                Some("event") => ("the event", "never"),
                Some("monitor") => ("all networks", if severity == "none" { "never" } else { "yes" }),
                Some(_) => ("the network", "yes"),
                None => ("the alert", "yes"),
            };
            let row =
                format!("| {runbook} | {severity} | {wait} | {keep} | {told} | {one} | {off} | {summary} |");
            rows.entry(name.to_owned()).or_default().push(row);
        }
    }
    assert!(rows.len() > 33, "{rows:#?}");
    let rows: Vec<String> = rows.into_values().flatten().collect();
    is_written("docs/alerts.md", &(ALERTS.to_owned() + &rows.join("\n") + "\n"));
}

/// The program refuses a key that it does not know, and says which ones it does.
#[tokio::test]
async fn configuration() {
    let page = read("docs/configuration.md");
    let config = "nothing: 1\nnetworks:\n- {nothing: 1, rpc_urls: [{nothing: 1}]}\n";
    let refused = Launch::config(config).arg("--config.check").run().await;
    let known: BTreeSet<String> = refused
        .stderr
        .lines()
        .filter_map(|line| line.split_once("unknown key, expected one of "))
        .flat_map(|(_, keys)| keys.split(", ").map(str::to_owned))
        .collect();
    assert!(known.len() > 15, "{refused:?}");
    assert_eq!(first_column(&page, "key"), known);

    let described = Launch::config(NO_NODE).arg("--config.check").run().await.stdout;
    for key in ["confirmations", "poll_interval", "request_timeout", "max_block_range"] {
        let value = described.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: "))).unwrap();
        let row = page.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).unwrap();
        assert!(row.contains(&format!("| `{value}` |")), "{key}: the default is {value}: {row}");
    }

    let help = Launch::bare().arg("--help").run().await.stdout;
    let flags =
        help.lines().filter_map(|line| line.trim_start().split(' ').find(|word| word.starts_with("--")));
    let flags: BTreeSet<String> = flags.map(str::to_owned).collect();
    let documented = first_column(&page, "flag");
    let documented: BTreeSet<String> =
        documented.iter().map(|code| code.split('=').next().unwrap().to_owned()).collect();
    assert_eq!(documented, flags);
    for (flag, default) in defaults(&help) {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{flag}="))).unwrap();
        assert!(row.contains(&format!("`{default}`")), "{flag}: the default is {default}: {row}");
    }
    let variables = help.lines().filter_map(|line| line.trim_start().split(' ').next());
    let variables: BTreeSet<String> =
        variables.filter(|word| word.starts_with("TESSERACT_")).map(str::to_owned).collect();
    assert!(variables.len() > 5, "{help}");
    assert_eq!(first_column(&page, "variable"), variables);
}

/// Every key of the toolkit stands in the table, and is read or refused by name.
#[tokio::test]
async fn web_configuration() {
    let page = read("docs/web-config.md");
    let config = "nothing: 1\ntls_server_config: {nothing: 1}\nhttp_server_config: {nothing: 1, headers: {nothing: 1}}\n";
    let launch = Launch::config(NO_NODE).file("web.yml", config).arg("--web.config.file=web.yml");
    let refused = launch.arg("--config.check").run().await;
    let known: BTreeSet<&str> = refused
        .stderr
        .lines()
        .filter_map(|line| line.split_once("unknown key, expected one of "))
        .flat_map(|(_, keys)| keys.split(", "))
        .collect();
    // What the toolkit documents; `auth_excluded_paths` is known to some components only.
    let toolkit = "tls_server_config cert_file key_file client_auth_type client_ca_file client_allowed_sans min_version \
                   max_version cipher_suites prefer_server_cipher_suites curve_preferences cert key client_ca \
                   http_server_config http2 headers Content-Security-Policy X-Frame-Options X-Content-Type-Options \
                   X-XSS-Protection Strict-Transport-Security basic_auth_users rate_limit auth_excluded_paths";
    assert_eq!(known, toolkit.split_whitespace().collect(), "{refused:?}");
    let rows = first_column(&page, "key");
    let documented: BTreeSet<&str> = rows.iter().map(|key| key.rsplit('.').next().unwrap()).collect();
    for key in known {
        let is_section = ["tls_server_config", "http_server_config"].contains(&key);
        let in_headers = page.lines().any(|line| {
            line.starts_with("| `http_server_config.headers` |") && line.contains(&format!("`{key}`"))
        });
        assert!(documented.contains(key) || in_headers || is_section, "{key} is not in docs/web-config.md");
    }
}

/// What the log complains of, and why a network is not ready: each has a line.
#[test]
fn troubleshooting() {
    let page = read("TROUBLESHOOTING.md");
    let messages: BTreeSet<String> = sources().iter().flat_map(|source| complaints(source)).collect();
    assert!(messages.len() > 20, "{messages:#?}");
    let told = first_column(&page, "log line");
    let about = |message: &str| told.iter().any(|line| message.starts_with(line.as_str()));
    let missing: Vec<&String> = messages.iter().filter(|message| !about(message)).collect();
    assert!(missing.is_empty(), "TROUBLESHOOTING.md does not know {missing:#?}");
    let gone: Vec<&String> = told
        .iter()
        .filter(|line| !messages.iter().any(|message| message.starts_with(line.as_str())))
        .collect();
    assert!(gone.is_empty(), "no longer logged: {gone:#?}");
    for reason in ["first sync not done", "no full cycle yet", "no full cycle for"] {
        assert!(read("exporter/src/web/health.rs").contains(reason) && page.contains(reason), "{reason}");
    }
}

/// What TROUBLESHOOTING.md quotes beside log lines is in the sources, but for the status of a node's answer.
#[test]
fn troubleshooting_quotes_what_the_program_says() {
    let page = read("TROUBLESHOOTING.md");
    let sources = sources();
    let code = sources.iter().flat_map(|source| source.lines()).map(str::trim_start);
    let code: String = code.filter(|line| !line.starts_with("//")).collect();
    let quoted: Vec<String> =
        ["it says", "reason", "problem"].iter().flat_map(|heading| first_column(&page, heading)).collect();
    assert!(quoted.len() > 15, "{quoted:?}");
    let unsaid: Vec<_> =
        quoted.iter().filter(|it| !it.starts_with("HTTP ") && !code.contains(it.as_str())).collect();
    assert!(unsaid.is_empty(), "the program does not say {unsaid:#?}");
}

/// The program's, without their tests.
fn sources() -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![format!("{ROOT}/exporter/src")];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                None => ahead.push(path.display().to_string()),
                Some(_) if path.ends_with("tests.rs") => {}
                Some(_) => {
                    let source = fs::read_to_string(&path).unwrap();
                    found.push(source.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned());
                }
            }
        }
    }
    found
}

/// Each flag that has a default, and that; of one in words the first.
fn defaults(help: &str) -> Vec<(&str, &str)> {
    let mut flag = "";
    let mut found = Vec::new();
    for line in help.lines().take_while(|line| !line.starts_with("Environment")) {
        flag = line.split_whitespace().find(|word| word.starts_with("--")).unwrap_or(flag);
        let default =
            line.split_once("[default: ").map(|(_, rest)| rest.split([',', ' ', ']']).next().unwrap());
        found.extend(default.map(|default| (flag, default)));
    }
    assert!(found.len() > 4, "{found:?}");
    found
}

/// The messages of warnings and errors in a source, up to their first value.
fn complaints(source: &str) -> Vec<String> {
    let calls = ["tracing::warn!(", "tracing::error!("].iter().flat_map(|call| source.split(call).skip(1));
    let message = |call: &str| {
        let mut depth = 1_i32;
        let mut quoted = false;
        let mut texts = vec![String::new()];
        for c in call.chars() {
            match (quoted, c) {
                (_, '"') => {
                    quoted = !quoted;
                    if quoted {
                        texts.push(String::new());
                    }
                }
                (true, c) => texts.last_mut()?.push(c),
                (false, '(') => depth += 1,
                (false, ')') => depth -= 1,
                (false, _) => {}
            }
            if depth == 0 {
                break;
            }
        }
        // The message is the longest text; a line that goes on has a backslash.
        let text = texts.into_iter().max_by_key(String::len)?.replace("\\\n", "");
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        let known = text.split('{').next()?.trim().trim_end_matches(':').to_owned();
        (!known.is_empty()).then_some(known)
    };
    calls.filter_map(message).collect()
}

/// What stands in code in the first column of the tables whose heading begins like this.
fn first_column(page: &str, heading: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in page.lines() {
        if !line.starts_with('|') {
            inside = false;
        } else if line.starts_with(&format!("| {heading} |")) {
            inside = true;
        } else if inside && line.starts_with("| `") {
            let cell = line[2..].split(" | ").next().unwrap();
            let codes = cell.split('`').skip(1).step_by(2);
            found.extend(codes.map(str::to_owned));
        }
    }
    found
}

/// A template with its first alternatives, and names in italics for what only an alert knows.
fn plain(template: &str) -> String {
    let mut text = String::new();
    // Whether each open `if` or `with` is in its second part.
    let mut open = Vec::new();
    for (place, part) in template.split("{{").enumerate() {
        let (action, rest) = if place == 0 { ("", part) } else { part.split_once("}}").unwrap() };
        let action = action.trim();
        match action.split(' ').next().unwrap() {
            "if" | "with" => open.push(false),
            "else" => *open.last_mut().unwrap() = true,
            "end" => _ = open.pop(),
            _ if open.contains(&true) || action.is_empty() => {}
            "." => text.push_str("*instance*"),
            name => {
                write!(text, "*{}*", name.trim_start_matches("$labels.").trim_start_matches('$')).unwrap();
            }
        }
        if !open.contains(&true) {
            text.push_str(rest);
        }
    }
    text.trim_start_matches("Tesseract on *network*: ").to_owned()
}

/// Whether a line is a sample of a family.
fn of_family(line: &str, name: &str, kind: &str) -> bool {
    let sample = line.split(['{', ' ']).next().unwrap();
    let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_count", "_sum"] } else { &[""] };
    suffixes.iter().any(|suffix| sample.strip_suffix(suffix) == Some(name))
}

fn labels(line: &str) -> Vec<&str> {
    let Some((_, inside)) = line.split_once('{') else { return Vec::new() };
    let names = inside.split("=\"").filter_map(|before| before.rsplit(['{', ',', '"', ' ']).next());
    let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let mut names: Vec<&str> = names.filter(is_name).collect();
    names.retain(|name| line.contains(&format!("{name}=\"")));
    names
}

fn is_written(path: &str, page: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(format!("{ROOT}/{path}"), page).unwrap();
        return;
    }
    let written = read(path);
    let different = written.lines().zip(page.lines()).find(|(written, now)| written != now);
    assert!(written == page, "{path} differs: {different:#?}; run again with UPDATE_GOLDEN=1");
}

fn read(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{path}")).unwrap()
}
