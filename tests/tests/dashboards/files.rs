//! The files by themselves: layout, wording, selectors, names, links, and Grafana's types.

use std::collections::BTreeSet;
use std::process::Command;

use crate::{Dashboard, dashboards, root};

/// The width of Grafana's grid.
const COLUMNS: u64 = 24;

#[test]
fn ids_are_unique_and_never_those_of_grafana() {
    let mut uids = BTreeSet::new();
    for dashboard in dashboards() {
        let uid = dashboard.uid();
        assert!(uids.insert(uid.to_owned()), "{uid}: twice");
        assert_eq!(dashboard.file.file_stem().unwrap().to_str(), Some(uid), "the file is named by its uid");
        assert_eq!(dashboard.json.get("id"), None, "{uid}: `id` is for Grafana's database to choose");
        let ids: Vec<_> = dashboard.all_panels().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{uid}: a panel id twice");
    }
}

#[test]
fn panels_fill_the_grid_in_reading_order_and_none_overlap() {
    for dashboard in dashboards() {
        let mut taken = BTreeSet::new();
        let mut before = (0, 0);
        for panel in dashboard.all_panels() {
            let title = dashboard.name(panel);
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{title}: outside the {COLUMNS} columns");
            assert!((y, x) >= before, "{title}: stands in the file after what is below it");
            before = (y, x);
            for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
                assert!(taken.insert(cell), "{title}: overlaps another panel at row and column {cell:?}");
            }
        }
        let rows = taken.iter().map(|(row, _)| row).collect::<BTreeSet<_>>().len() as u64;
        assert_eq!(taken.len() as u64, rows * COLUMNS, "{}: a hole in the grid", dashboard.uid());
    }
}

#[test]
fn every_panel_says_what_it_shows() {
    for dashboard in dashboards() {
        let mut titles = BTreeSet::new();
        for panel in dashboard.panels() {
            let title = dashboard.name(panel);
            assert!(titles.insert(title.clone()), "{title}: two panels with this title");
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
            assert!(!unit.is_empty(), "{title}: no unit");
            let description = panel["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.'), "{title}: no description");
            if let Some(steps) = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array() {
                let values: Vec<_> = steps.iter().map(|step| step["value"].as_f64()).collect();
                assert!(values[0].is_none() && values.is_sorted(), "{title}: thresholds {values:?}");
            }
        }
    }
}

#[test]
fn data_sources_are_named_by_the_variable_only() {
    for dashboard in dashboards() {
        let places = dashboard.all_panels().chain(dashboard.list("annotations"));
        let queried = dashboard.list("templating").filter(|variable| variable["type"] == "query");
        for place in places.chain(queried).filter(|place| place["type"] != "row") {
            let expected = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
            assert_eq!(place["datasource"], expected, "{}: {}", dashboard.uid(), place["title"]);
        }
        let mentions = dashboard.text.matches("\"datasource\":").count();
        let counted = dashboard.panels().count() + dashboard.list("annotations").count() + 1;
        assert_eq!(mentions, counted, "{}: a data source at another place", dashboard.uid());
    }
}

/// A Prometheus may scrape other programs with metrics of the same names, and other networks.
#[test]
fn every_selector_names_the_job_and_the_network() {
    let with_network = series_of(|labels| labels.contains("network=\""));
    for (place, expression) in dashboards().iter().flat_map(Dashboard::expressions) {
        for (metric, matchers) in selectors(&expression) {
            if metric == "ALERTS" {
                // The rules select the job; their alerts need not carry it.
                assert!(
                    matchers.contains("alertname=~\"Tesseract.+\"")
                        && matchers.contains("network=~\"$network|\"")
                );
                continue;
            }
            assert!(matchers.contains("job=\"tesseract\""), "{place}: {metric} of any job in {expression}");
            let wanted = with_network.contains(&metric) && !place.ends_with("variable network");
            assert_eq!(
                matchers.contains("network=~\"$network\""),
                wanted,
                "{place}: {metric}, network, in {expression}"
            );
        }
        // Graphs follow the zoom; the key figures have the windows of the alerts that read the same.
        let windows = ["[$__rate_interval]", "[5m]", "[10m]", "[1h]"];
        let known = windows.iter().map(|window| expression.matches(window).count()).sum::<usize>();
        assert_eq!(known, expression.matches('[').count(), "{place}: another window in {expression}");
    }
}

#[test]
fn every_metric_is_in_the_exposition() {
    let exposed = series_of(|_| true);
    for (place, expression) in dashboards().iter().flat_map(Dashboard::expressions) {
        for (metric, _) in selectors(&expression) {
            // `up` and `ALERTS` are Prometheus's own.
            assert!(
                ["up", "ALERTS"].contains(&metric.as_str()) || exposed.contains(&metric),
                "{place}: no metric {metric}"
            );
        }
    }
}

#[test]
fn thresholds_are_those_of_the_alerts() {
    let same = [
        ("Transactions per minute", "tesseract:buffered_per_minute:threshold"),
        ("Transactions buffered per minute", "tesseract:buffered_per_minute:threshold"),
        ("Success rate, last hour", "tesseract:success_ratio:threshold"),
        ("Success rate, over one hour", "tesseract:success_ratio:threshold"),
        ("Resolution delay, p95", "tesseract:resolution_delay_seconds:threshold"),
        ("Resolution delay", "tesseract:resolution_delay_seconds:threshold"),
        ("Blocks left to process", "tesseract:sync_remaining_blocks:threshold"),
        ("Since the last full cycle", "tesseract:cycle_age_seconds:threshold"),
        ("Time since the last full cycle", "tesseract:cycle_age_seconds:threshold"),
        ("Age of the chain's head", "tesseract:head_age_seconds:threshold"),
        ("RPC requests failing", "tesseract:rpc_error_ratio:threshold"),
        ("Requests failing", "tesseract:rpc_error_ratio:threshold"),
    ];
    let rules = std::fs::read_to_string(root().join("rules/tesseract.rules.yml")).unwrap();
    let dashboards = dashboards();
    for (title, record) in same {
        let rule =
            rules.split(&format!("record: {record}\n")).nth(1).unwrap_or_else(|| panic!("no {record}"));
        let value = rule.split_once("vector(").unwrap().1.split(')').next().unwrap();
        let panel = dashboards.iter().flat_map(Dashboard::panels).find(|panel| panel["title"] == title);
        let steps = &panel.unwrap_or_else(|| panic!("no panel {title:?}"))["fieldConfig"]["defaults"]["thresholds"]
            ["steps"];
        let wanted = value.parse::<f64>().unwrap();
        let found = steps.as_array().unwrap().iter().any(|step| step["value"].as_f64() == Some(wanted));
        assert!(found, "{title}: {steps}, but {record} is {wanted}");
    }
}

#[test]
fn links_lead_to_runbooks_and_dashboards_that_exist() {
    let uids: BTreeSet<_> = dashboards().iter().map(|dashboard| dashboard.uid().to_owned()).collect();
    for dashboard in dashboards() {
        let panels = dashboard.panels().filter_map(|panel| panel["links"].as_array()).flatten();
        for link in panels.chain(dashboard.json["links"].as_array().unwrap()) {
            let url = link["url"].as_str().unwrap();
            if let Some(alert) = url.strip_prefix("${exporter_url}/runbooks/") {
                let page = root().join("alerting/runbooks").join(format!("{alert}.md"));
                assert!(
                    alert.is_empty() || page.is_file(),
                    "{}: no runbook {}",
                    dashboard.uid(),
                    page.display()
                );
            } else {
                let uid =
                    url.strip_prefix("/d/").unwrap_or_else(|| panic!("{}: a link to {url}", dashboard.uid()));
                assert!(uids.contains(uid) && uid != dashboard.uid(), "{}: a link to {url}", dashboard.uid());
            }
        }
    }
    let rules = std::fs::read_to_string(root().join("rules/tesseract.alerts.yml")).unwrap();
    for rest in rules.split("}}/d/").skip(1) {
        let uid = rest.split(['?', '\'']).next().unwrap();
        assert!(uids.contains(uid), "an alert links to the dashboard {uid:?}, which does not exist");
    }
}

/// From a row of a table to the pages of the exporter and the block explorer.
#[test]
fn tables_link_their_transactions_and_networks() {
    let wanted = [
        ("Networks", "Network", "${exporter_url}/networks/${__value.raw}"),
        ("Networks", "Network", "/d/tesseract-overview?var-network=${__value.raw}"),
        ("Newest failed transactions", "Transaction", "${exporter_url}/tx/${__value.raw}"),
        ("Newest failed transactions", "Explorer", "${__value.raw}"),
        ("Newest expired transactions", "Transaction", "${exporter_url}/tx/${__value.raw}"),
        ("Newest expired transactions", "Explorer", "${__value.raw}"),
    ];
    let dashboards = dashboards();
    for (title, column, url) in wanted {
        let panel = dashboards.iter().flat_map(Dashboard::panels).find(|panel| panel["title"] == title);
        let overrides = panel.unwrap()["fieldConfig"]["overrides"].as_array().unwrap();
        let properties = overrides
            .iter()
            .filter(|it| it["matcher"]["options"] == column)
            .flat_map(|it| it["properties"].as_array().unwrap());
        let links =
            properties.filter(|it| it["id"] == "links").flat_map(|it| it["value"].as_array().unwrap());
        assert!(links.into_iter().any(|link| link["url"] == url), "{title}, {column}: no link to {url}");
    }
}

#[test]
fn provisioning_fits_the_compose_stack() {
    let read = |file: &str| -> serde_yaml::Value {
        serde_yaml::from_str(&std::fs::read_to_string(root().join(file)).unwrap()).unwrap()
    };
    let compose = read("docker-compose.yml");
    let provider = read("dashboards/provisioning/dashboards/tesseract.yml");
    let source = read("dashboards/provisioning/datasources/prometheus.yml");
    let path = provider["providers"][0]["options"]["path"].as_str().unwrap();
    for mount in
        [format!("./dashboards:{path}:ro"), "./dashboards/provisioning:/etc/grafana/provisioning:ro".into()]
    {
        let mounts = compose["services"]["grafana"]["volumes"].as_sequence().unwrap();
        assert!(mounts.contains(&mount.as_str().into()), "grafana lacks the mount {mount}");
    }
    let url = source["datasources"][0]["url"].as_str().unwrap();
    let service = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix(":9090")).unwrap();
    assert!(compose["services"].get(service).is_some(), "no service {service} for the data source {url}");
    let options = &source["datasources"][0]["jsonData"];
    let interval = read("rules/prometheus.yml")["global"]["scrape_interval"].clone();
    assert_eq!(options["timeInterval"], interval, "$__rate_interval goes by it");
    // The label of the exemplars, and the address that compose gives to Grafana.
    let exemplar = &options["exemplarTraceIdDestinations"][0];
    let exposition = std::fs::read_to_string(root().join("tests/golden/metrics.openmetrics.txt")).unwrap();
    assert!(exposition.contains(&format!(" # {{{}=\"0x", exemplar["name"].as_str().unwrap())));
    assert_eq!(exemplar["url"], "${EXPORTER_URL}/tx/$${__value.raw}");
    assert!(compose["services"]["grafana"]["environment"].get("EXPORTER_URL").is_some());
}

#[test]
fn grafana_types_accept_the_files() {
    let output = Command::new(root().join("target/venv/bin/python"))
        .arg(root().join("tests/dashboards_check.py"))
        .args(dashboards().iter().map(|dashboard| &dashboard.file))
        .output()
        .expect("run Python; tests/setup installs it");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

/// Every selector in an expression: the metric's name and its matchers. A metric without matchers is
/// found too, with none.
fn selectors(expression: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| is_name(c) || c == '"') {
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = &quoted[quoted.find('"').unwrap() + 1..];
            continue;
        }
        let (name, after) = rest.split_at(rest.find(|c: char| !is_name(c)).unwrap_or(rest.len()));
        let ours = ["tesseract_", "tesseract:", "process_"].iter().any(|prefix| name.starts_with(prefix));
        rest = after;
        if ours || name == "up" || name == "ALERTS" {
            let inside = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            found.push((name.to_owned(), inside.map_or(String::new(), |(matchers, _)| matchers.to_owned())));
        }
    }
    found
}

/// The names in the golden exposition of the series whose labels are wanted.
fn series_of(wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("tests/golden/metrics.prom")).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let split = |line: &str| {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        (name.to_owned(), rest.to_owned())
    };
    let names = samples.map(split).filter(|(_, labels)| wanted(labels)).map(|(name, _)| name);
    // A native histogram is one series, of the family's name.
    let with_native = |name: String| {
        let native = name.strip_suffix("_bucket").map(str::to_owned);
        native.into_iter().chain([name])
    };
    names.flat_map(with_native).collect()
}
