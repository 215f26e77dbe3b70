//! A real Prometheus under control, with whatever configuration and rules a test gives it.
//!
//! Never a stand-in: it is the server from the system's packages, or a newer one that `tests/compose/prepare` fetched. Every
//! wait is for a condition and has a deadline.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

use crate::http::get;
use crate::process::free_port;
use crate::skip::skipped;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition over HTTP is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A running Prometheus with an empty database of its own; killed when dropped.
pub struct Prometheus {
    _child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Prometheus {
    /// With this text as `prometheus.yml`, and copies of these files next to it.
    pub async fn start(config: &str, files: &[&Path]) -> Self {
        Self::start_program("prometheus".as_ref(), "exemplar-storage", config, files).await
    }

    /// The same with this program, and these features switched on.
    pub async fn start_program(program: &Path, features: &str, config: &str, files: &[&Path]) -> Self {
        let dir = TempDir::with_prefix("prometheus-").expect("a temporary directory");
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("write prometheus.yml");
        for file in files {
            let name = file.file_name().expect("a file has a name");
            std::fs::copy(file, dir.path().join(name))
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = std::fs::File::create(dir.path().join("log")).expect("a file for the log");
        let child = Command::new(program)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--enable-feature={features}"))
            .arg(format!("--web.listen-address={address}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("start prometheus; tests/setup installs it");
        let prometheus = Self { _child: child, address, dir };
        let ready = async {
            let mut ticks = interval(POLL);
            loop {
                ticks.tick().await;
                if get(&format!("{}/-/ready", prometheus.url()), &[])
                    .await
                    .is_ok_and(|reply| reply.status == 200)
                {
                    return;
                }
            }
        };
        assert!(
            timeout(PATIENCE, ready).await.is_ok(),
            "prometheus is not ready after {PATIENCE:?}:\n{}",
            prometheus.log()
        );
        prometheus
    }

    /// `http://` and its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a query gives now: the `result` of `/api/v1/query`. The error is Prometheus's own text.
    pub async fn query(&self, expression: &str) -> Result<Vec<serde_json::Value>, String> {
        self.api(&format!("query?query={}", percent_encoded(expression))).await.map(
            |data| match &data["result"] {
                serde_json::Value::Array(series) => series.clone(),
                other => vec![other.clone()],
            },
        )
    }

    /// The values that a label of these series has.
    pub async fn label_values(&self, label: &str, selector: &str) -> Result<Vec<String>, String> {
        let data = self.api(&format!("label/{label}/values?match[]={}", percent_encoded(selector))).await?;
        serde_json::from_value(data).map_err(|error| error.to_string())
    }

    /// The `data` of what `/api/v1/` answers to a path.
    pub async fn api(&self, path: &str) -> Result<serde_json::Value, String> {
        let mut answer = get(&format!("{}/api/v1/{path}", self.url()), &[]).await?.json();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["data"].take()),
        }
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// A program of the Prometheus 3 that `tests/compose/prepare` fetched: `prometheus` or `promtool`. Where it was not
/// run, `None`, and a line that says so.
pub fn prometheus_3(program: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("target/compose/roots/prometheus/usr/bin").join(program);
    let found = path.is_file().then_some(path);
    if found.is_none() {
        skipped(&format!("what needs {program} 3"), "tests/compose/prepare has not been run");
    }
    found
}

/// A configuration without what Prometheus takes only from 3.9 on, which is newer than any that runs here: native
/// histograms are not scraped with it.
pub fn before_3_9(config: &str) -> String {
    let newer = |line: &&str| {
        line.contains("scrape_native_histograms:") || line.contains("always_scrape_classic_histograms:")
    };
    config.lines().filter(|line| !newer(line)).flat_map(|line| [line, "\n"]).collect()
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
