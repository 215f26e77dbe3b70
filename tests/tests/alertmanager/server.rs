//! A real Alertmanager with the shipped configuration, started by the shipped script, with shorter waits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tempfile::TempDir;
use tesseract_tests::http::get;
use tesseract_tests::process::free_port;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

/// How long anything may take that is not itself under test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The variables that hold a secret and switch a receiver on.
pub(crate) const SWITCHES: [&str; 4] =
    ["SLACK_WEBHOOK_URL", "PAGERDUTY_KEY", "ALERT_WEBHOOK_URL", "HEARTBEAT_URL"];

/// A running Alertmanager; killed when dropped.
pub(crate) struct Alertmanager {
    child: Child,
    url: String,
    dir: TempDir,
}

impl Alertmanager {
    /// Starts it with these variables and nothing else of the environment, and waits until it is ready.
    pub(crate) async fn start(env: &[(&str, &str)]) -> Self {
        let dir = TempDir::with_prefix("alertmanager-").unwrap();
        let url = format!("http://127.0.0.1:{}", free_port());
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::from(entrypoint(dir.path(), &program("alertmanager"), env))
            .env("ALERTMANAGER_URL", &url)
            .arg(format!("--web.listen-address={}", url.trim_start_matches("http://")))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let alertmanager = Self { child, url, dir };
        alertmanager
            .wait_for("it is ready", async || {
                get(&format!("{}/-/ready", alertmanager.url), &[]).await.is_ok_and(|it| it.status == 200)
            })
            .await;
        alertmanager
    }

    /// Where it listens, which is also where its links point.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Hands it alerts, as Prometheus does.
    pub(crate) async fn post(&self, alerts: &[Value]) {
        let request = Request::post(format!("{}/api/v2/alerts", self.url))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(json!(alerts).to_string()))
            .unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client.request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    }

    /// The alerts that it holds, as `alertname/network` with their state.
    pub(crate) async fn states(&self) -> Vec<(String, String)> {
        let alerts = get(&format!("{}/api/v2/alerts", self.url), &[]).await.unwrap().json();
        let of = |alert: &Value| {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
            let state = alert["status"]["state"].as_str().unwrap_or_default().to_owned();
            (format!("{}/{}", label("alertname"), label("network")), state)
        };
        alerts.as_array().unwrap().iter().map(of).collect()
    }

    /// The sum of one of its counters over all labels.
    pub(crate) async fn counter(&self, name: &str) -> f64 {
        let metrics = get(&format!("{}/metrics", self.url), &[]).await.unwrap().text();
        let of_name =
            |line: &&str| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "));
        metrics
            .lines()
            .filter(of_name)
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until something holds.
    pub(crate) async fn wait_for(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let mut ticks = interval(Duration::from_millis(50));
        let waiting = async {
            loop {
                ticks.tick().await;
                if condition().await {
                    return;
                }
            }
        };
        assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}: not within {PATIENCE:?};\n{}", self.log());
    }
}

/// The shipped script in a copy of `alerting/` whose waits are shorter, to write its files below `dir`.
pub(crate) fn entrypoint(dir: &Path, alertmanager: &Path, env: &[(&str, &str)]) -> std::process::Command {
    let copy = dir.join("alerting");
    fs::create_dir_all(copy.join("templates")).unwrap();
    for name in ["entrypoint.sh", "templates/tesseract.tmpl"] {
        fs::copy(alerting().join(name), copy.join(name)).unwrap();
    }
    let mut config = fs::read_to_string(alerting().join("alertmanager.yml")).unwrap();
    for (shipped, short) in [
        ("group_wait: 10s", "group_wait: 2s"),
        ("group_interval: 1m", "group_interval: 1s"),
        ("group_interval: 30s", "group_interval: 1s"),
        ("repeat_interval: 50s", "repeat_interval: 1s"),
    ] {
        assert!(config.contains(shipped), "alertmanager.yml has no {shipped:?} any more");
        config = config.replace(shipped, short);
    }
    fs::write(copy.join("alertmanager.yml"), config).unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .arg(copy.join("entrypoint.sh"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("ALERTMANAGER_BIN", alertmanager)
        .env("ALERTMANAGER_RUN_DIR", dir.join("run"))
        .envs(env.iter().copied());
    command
}

/// `alertmanager` or `amtool`: from the directory in `ALERTMANAGER_DIR`, to test another version, else from
/// the path, under the name that Debian gives it or its own.
pub(crate) fn program(name: &str) -> PathBuf {
    let dirs: Vec<PathBuf> = match std::env::var_os("ALERTMANAGER_DIR") {
        Some(dir) => vec![dir.into()],
        None => std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect(),
    };
    let names = [name.to_owned(), format!("prometheus-{name}")];
    dirs.iter()
        .flat_map(|dir| names.iter().map(|it| dir.join(it)))
        .find(|it| it.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; see tests/setup"))
}

/// The shipped directory.
pub(crate) fn alerting() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../alerting")
}

/// Every alert of the shipped rules, with its severity and kind.
pub(crate) fn shipped_alerts() -> Vec<(String, String, String)> {
    let rules = fs::read_to_string(alerting().join("../rules/tesseract.alerts.yml")).unwrap();
    let rules: serde_yaml::Value = serde_yaml::from_str(&rules).unwrap();
    let groups = rules["groups"].as_sequence().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_sequence().unwrap());
    let text = |value: &serde_yaml::Value| value.as_str().unwrap().to_owned();
    rules
        .filter(|rule| rule.get("alert").is_some())
        .map(|rule| {
            let labels = &rule["labels"];
            (text(&rule["alert"]), text(&labels["severity"]), text(&labels["kind"]))
        })
        .collect()
}

/// The receivers that amtool finds for these labels.
pub(crate) fn receivers(config: &Path, labels: &[(&str, &str)]) -> String {
    let output = std::process::Command::new(program("amtool"))
        .args(["config", "routes", "test"])
        .arg(format!("--config.file={}", config.display()))
        .args(labels.iter().map(|(name, value)| format!("{name}={value}")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
