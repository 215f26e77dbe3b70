//! Prometheus and Alertmanager as processes, with the shipped configuration: the stack without Docker, for
//! the demo and for tests.
//!
//! What is started reads copies in a temporary directory. In them only addresses, what an older Prometheus does not
//! take and, for tests, times differ from what is shipped; without a `speed` the rule files are copied byte for byte.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

use crate::http::get;
use crate::process::free_port;
use crate::prometheus::before_3_9;
use crate::speed::faster;

/// How long a server may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// What Prometheus waits for by itself, at its defaults.
const SERVER_TIMES: [&str; 4] = [
    "--query.lookback-delta=5m",
    "--rules.alert.resend-delay=1m",
    "--rules.alert.for-outage-tolerance=1h",
    "--rules.alert.for-grace-period=10m",
];

/// What differs from one stack to the next.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where each exporter answers.
    pub exporters: Vec<SocketAddr>,
    /// Of Prometheus; a free one of the loopback when absent.
    pub prometheus_port: Option<u16>,
    /// Of Alertmanager; a free one of the loopback when absent.
    pub alertmanager_port: Option<u16>,
    /// What the compose stack takes from `.env`: `SLACK_WEBHOOK_URL`, `GRAFANA_URL` and so on.
    pub environment: Vec<(String, String)>,
    /// Texts to replace in `prometheus.yml` and `alertmanager.yml`: shorter intervals for tests.
    pub replace: Vec<(&'static str, &'static str)>,
    /// How many times as fast as it is shipped everything waits, looks back and repeats.
    pub speed: Option<u64>,
    /// What Prometheus has in its database at the start: a file of OpenMetrics text with timestamps.
    pub history: Option<PathBuf>,
}

/// Both servers; they end when this is dropped.
pub struct Stack {
    prometheus: Server,
    alertmanager: Server,
    /// The copies and the data; gone with the stack.
    dir: TempDir,
}

struct Server {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Stack {
    /// Starts both and waits until they are ready.
    ///
    /// # Errors
    /// When one is not installed or does not get ready: what it logged.
    pub async fn start(settings: &Settings) -> io::Result<Self> {
        let dir = TempDir::with_prefix("tesseract-stack-")?;
        let alertmanager = Self::alertmanager(settings, dir.path()).await?;
        let prometheus = Self::prometheus(settings, dir.path(), alertmanager.address).await?;
        Ok(Self { prometheus, alertmanager, dir })
    }

    /// `http://` and the address of Prometheus.
    pub fn prometheus_url(&self) -> String {
        format!("http://{}", self.prometheus.address)
    }

    /// `http://` and the address of Alertmanager.
    pub fn alertmanager_url(&self) -> String {
        format!("http://{}", self.alertmanager.address)
    }

    /// The alerts that Prometheus knows now, pending and firing ones.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn alerts(&self) -> Result<Vec<Value>, String> {
        let reply = get(&format!("{}/api/v1/alerts", self.prometheus_url()), &[]).await?;
        Ok(reply.json()["data"]["alerts"].as_array().cloned().unwrap_or_default())
    }

    /// Every alert that fired at any time within the last hour: its name, and its network or else its instance.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn alerts_that_fired(&self) -> Result<BTreeSet<(String, String)>, String> {
        let samples = self.samples("last_over_time(ALERTS{alertstate=\"firing\"}[1h])").await?;
        let label = |sample: &Value, name: &str| sample["metric"][name].as_str().map(str::to_owned);
        let about = |sample| label(sample, "network").or_else(|| label(sample, "instance"));
        let name = |sample| label(sample, "alertname").unwrap_or_default();
        Ok(samples.iter().map(|sample| (name(sample), about(sample).unwrap_or_default())).collect())
    }

    /// The values that Prometheus answers a query with.
    ///
    /// # Errors
    /// When it does not answer, or refuses the query.
    pub async fn query(&self, query: &str) -> Result<Vec<f64>, String> {
        let samples = self.samples(query).await?;
        let value = |sample: &Value| sample["value"][1].as_str().and_then(|it| it.parse().ok());
        samples.iter().map(value).collect::<Option<_>>().ok_or_else(|| format!("{samples:?}"))
    }

    /// The samples that Prometheus answers a query with, with their labels.
    ///
    /// # Errors
    /// When it does not answer, or refuses the query.
    pub async fn samples(&self, query: &str) -> Result<Vec<Value>, String> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let reply = get(&format!("{}/api/v1/query?query={escaped}", self.prometheus_url()), &[]).await?;
        let data = reply.json()["data"].clone();
        match data["result"].as_array() {
            // A scalar is a time and a value.
            Some(pair) if data["resultType"] == "scalar" => Ok(vec![serde_json::json!({"value": pair})]),
            Some(samples) => Ok(samples.clone()),
            None => Err(reply.text()),
        }
    }

    /// Replaces a text of Prometheus's copy of `prometheus.yml`, which must be in it, and has it read anew.
    ///
    /// # Errors
    /// When the text is not there, the copy cannot be written, or Prometheus is gone.
    pub fn reconfigure(&self, old: &str, new: &str) -> io::Result<()> {
        let file = self.dir().join("rules/prometheus.yml");
        let text = std::fs::read_to_string(&file)?;
        if !text.contains(old) {
            return Err(io::Error::other(format!("{old:?} is not in {text}")));
        }
        std::fs::write(&file, text.replace(old, new))?;
        let pid = self.prometheus.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Ok(kill_process(pid.ok_or_else(|| io::Error::other("Prometheus has ended"))?, Signal::HUP)?)
    }

    /// What both servers have logged so far, for a message when something went wrong.
    pub fn logs(&self) -> String {
        [&self.prometheus, &self.alertmanager].map(|server| read_tail(&server.log)).join("\n")
    }

    /// Where the data and the copies of the configuration are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops both and waits for their end.
    ///
    /// # Errors
    /// When one cannot be waited for.
    pub async fn stop(mut self) -> io::Result<()> {
        self.prometheus.child.kill().await?;
        self.alertmanager.child.kill().await
    }

    async fn alertmanager(settings: &Settings, dir: &Path) -> io::Result<Server> {
        let address = address(settings.alertmanager_port)?;
        let config = dir.join("alerting");
        copy_files("alerting", &config, "alertmanager.yml", &settings.replace)?;
        speed_up(&config, settings.speed)?;
        let mut command = bare("sh");
        command
            .arg(config.join("entrypoint.sh"))
            .arg(format!("--storage.path={}", dir.join("alertmanager").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .env("ALERTMANAGER_BIN", program(&["alertmanager", "prometheus-alertmanager"])?)
            .env("ALERTMANAGER_RUN_DIR", dir.join("run"))
            .env("ALERTMANAGER_URL", format!("http://{address}"));
        std::fs::create_dir(dir.join("run"))?;
        Server::start(command, settings, address, dir.join("alertmanager.log")).await
    }

    async fn prometheus(settings: &Settings, dir: &Path, alertmanager: SocketAddr) -> io::Result<Server> {
        let address = address(settings.prometheus_port)?;
        let exporters: Vec<_> = settings.exporters.iter().map(|exporter| format!("\"{exporter}\"")).collect();
        let mut replace = settings.replace.clone();
        let addresses = [
            ("\"exporter:8000\"", exporters.join(", ")),
            ("\"alertmanager:9093\"", format!("\"{alertmanager}\"")),
            ("\"localhost:9090\"", format!("\"{address}\"")),
        ];
        replace.extend(addresses.iter().map(|(from, to)| (*from, to.as_str())));
        let config = dir.join("rules");
        copy_files("rules", &config, "prometheus.yml", &replace)?;
        let file = config.join("prometheus.yml");
        std::fs::write(&file, before_3_9(&std::fs::read_to_string(&file)?))?;
        speed_up(&config, settings.speed)?;
        if let Some(history) = &settings.history {
            import(history, &dir.join("prometheus")).await?;
        }
        let mut command = bare(program(&["prometheus"])?);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--web.external-url=http://{address}"))
            // Prometheus 2 expands external labels only when asked to.
            .arg("--enable-feature=exemplar-storage,expand-external-labels");
        if let Some(speed) = settings.speed {
            // Prometheus's own waits, at their defaults otherwise.
            command.args(SERVER_TIMES.map(|flag| faster(flag, speed)));
        }
        Server::start(command, settings, address, dir.join("prometheus.log")).await
    }
}

impl Server {
    async fn start(
        mut command: Command,
        settings: &Settings,
        address: SocketAddr,
        log: PathBuf,
    ) -> io::Result<Self> {
        let file = std::fs::File::create(&log)?;
        command
            .envs(settings.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true);
        let mut server = Self { child: command.spawn()?, address, log };
        match timeout(PATIENCE, server.ready()).await {
            Ok(true) => Ok(server),
            _ => Err(io::Error::other(format!("did not get ready:\n{}", read_tail(&server.log)))),
        }
    }

    /// Whether it became ready before it ended.
    async fn ready(&mut self) -> bool {
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            if get(&format!("http://{}/-/ready", self.address), &[]).await.is_ok_and(|it| it.status == 200) {
                return true;
            }
        }
    }
}

/// Makes a file of OpenMetrics text the data of a Prometheus that does not run yet.
async fn import(history: &Path, data: &Path) -> io::Result<()> {
    let mut command = bare(program(&["promtool"])?);
    command.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(history).arg(data);
    let output = command.output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Inherits nothing but the search path: no test may find somebody's real webhook in the environment.
fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    command
}

/// The first of these that is installed.
fn program(names: &[&str]) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = names
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|it| it.is_file()));
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{} is not installed", names[0]));
    found.ok_or_else(missing)
}

/// A free address of the loopback; an error when the port that was asked for is taken, since whatever has
/// it might answer in place of what is started.
fn address(port: Option<u16>) -> io::Result<SocketAddr> {
    let address = SocketAddr::from(([127, 0, 0, 1], port.unwrap_or_else(free_port)));
    let bound = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// Copies a directory of the repository; in its file `edited` each text is replaced by another.
fn copy_files(name: &str, to: &Path, edited: &str, replace: &[(&str, &str)]) -> io::Result<()> {
    copy_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name), to)?;
    let mut text = std::fs::read_to_string(to.join(edited))?;
    for (old, new) in replace {
        text = text.replace(old, new);
    }
    std::fs::write(to.join(edited), text)
}

/// Rewrites the configurations and rules of a directory with their times divided.
fn speed_up(dir: &Path, speed: Option<u64>) -> io::Result<()> {
    let Some(speed) = speed else { return Ok(()) };
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "yml") {
            std::fs::write(&path, faster(&std::fs::read_to_string(&path)?, speed))?;
        }
    }
    Ok(())
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() { copy_directory(&path, &to)? } else { std::fs::copy(&path, &to).map(drop)? }
    }
    Ok(())
}

/// The end of a log, or why it cannot be read.
fn read_tail(log: &Path) -> String {
    match std::fs::read_to_string(log) {
        Ok(text) => {
            text.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("{}: {error}", log.display()),
    }
}
