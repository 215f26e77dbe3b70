//! The dashboards: laid out well, understood by Grafana, in step with the metrics, the rules and the
//! runbooks, and every query answered by a real Prometheus.
//!
//! How they look is for people to judge, with `tests/preview`.

#![allow(clippy::unwrap_used)]

mod files;
mod queries;
mod replicas;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One file.
struct Dashboard {
    file: PathBuf,
    text: String,
    json: Value,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn dashboards() -> Vec<Dashboard> {
    let files = std::fs::read_dir(root().join("dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|it| it == "json")).collect();
    files.sort();
    assert_eq!(files.len(), 2, "two dashboards");
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Dashboard { file, text, json }
    };
    files.into_iter().map(read).collect()
}

impl Dashboard {
    fn uid(&self) -> &str {
        self.json["uid"].as_str().unwrap()
    }

    fn name(&self, panel: &Value) -> String {
        format!("{}: {}", self.uid(), panel["title"].as_str().unwrap_or("a panel without a title"))
    }

    fn all_panels(&self) -> impl Iterator<Item = &Value> {
        self.json["panels"].as_array().unwrap().iter()
    }

    /// Without the headings.
    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.all_panels().filter(|panel| panel["type"] != "row")
    }

    /// `templating` or `annotations`.
    fn list(&self, of: &str) -> impl Iterator<Item = &Value> {
        self.json[of]["list"].as_array().unwrap().iter()
    }

    /// Every PromQL expression, with the place where it stands.
    fn expressions(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for panel in self.panels() {
            for target in panel["targets"].as_array().unwrap() {
                let place = format!("{} {}", self.name(panel), target["refId"].as_str().unwrap());
                all.push((place, target["expr"].as_str().unwrap().to_owned()));
            }
        }
        for annotation in self.list("annotations") {
            let place = format!("{}: annotation {}", self.uid(), annotation["name"].as_str().unwrap());
            all.push((place, annotation["target"]["expr"].as_str().unwrap().to_owned()));
        }
        for variable in self.list("templating").filter(|variable| variable["type"] == "query") {
            let place = format!("{}: variable {}", self.uid(), variable["name"].as_str().unwrap());
            let query = variable["query"]["query"].as_str().unwrap();
            let (selector, _) = query.strip_prefix("label_values(").unwrap().rsplit_once(", ").unwrap();
            all.push((place, selector.to_owned()));
        }
        all
    }
}
