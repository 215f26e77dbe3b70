//! Starts the built exporter as a process of its own, and asks it what a user would ask.
//!
//! Never reaches into the program: what a test learns comes over HTTP, from the log, or from the exit
//! status. Every wait is for a condition and has a deadline; a missed one panics with the log so far.

mod binary;

use std::hash::BuildHasher;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use crate::http::{Reply, get};
use crate::series::Series;
pub use binary::binary;

/// How long anything may take that is not itself under test.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition over HTTP is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How to start the exporter: nothing is inherited from the environment of the test.
pub struct Launch {
    dir: TempDir,
    listen: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    descriptors: Option<u32>,
}

impl Launch {
    /// With this text as `exporter.yml`, in a directory of its own, which is the working directory.
    pub fn config(text: &str) -> Self {
        Self::bare().file("exporter.yml", text)
    }

    /// Without a configuration file, in an empty directory.
    pub fn bare() -> Self {
        Self {
            dir: TempDir::with_prefix("exporter-").expect("a temporary directory"),
            listen: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            descriptors: None,
        }
    }

    /// One more file in the working directory.
    pub fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.dir.path().join(name), text).expect("write a file of the exporter");
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// One more variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The most file descriptors it may have open.
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Where to listen, instead of a free port of 127.0.0.1.
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// The working directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and waits until it listens.
    pub async fn start(self) -> Exporter {
        let mut child = self.spawn();
        let log = follow_log(&mut child);
        let mut exporter =
            Exporter { child, address: SocketAddr::from(([0, 0, 0, 0], 0)), log, dir: self.dir };
        let line = exporter.wait_for_line("it listens", PATIENCE, |line| message(line) == "listening").await;
        let fields: serde_json::Value = serde_json::from_str(&line).expect("the line was parsed before");
        exporter.address = fields["address"].as_str().and_then(|it| it.parse().ok()).expect("an address");
        exporter
    }

    /// Starts it with its standard error a pipe that nobody reads; it is to listen on an address with a port.
    pub async fn start_unread(self) -> Exporter {
        let child = self.spawn();
        let address = self.listen.parse().expect("an address with a port");
        let listening = async {
            let mut looks = interval(Duration::from_millis(25));
            while TcpStream::connect(address).await.is_err() {
                looks.tick().await;
            }
        };
        timeout(PATIENCE, listening).await.expect("the exporter listens in time");
        let (_, log) = watch::channel(Log::default());
        Exporter { child, address, log, dir: self.dir }
    }

    /// Runs it to its end, for what ends by itself: mistakes, `--config.check`, `health`.
    pub async fn run(self) -> Finished {
        let output = timeout(PATIENCE, self.command().output())
            .await
            .expect("the exporter ends by itself")
            .expect("run the exporter");
        Finished {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn spawn(&self) -> Child {
        self.command()
            .arg(format!("--web.listen-address={}", self.listen))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the exporter")
    }

    fn command(&self) -> Command {
        let mut command = match self.descriptors {
            None => Command::new(binary()),
            Some(limit) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]).arg(binary());
                shell
            }
        };
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// What a run left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A running exporter; killed when dropped.
pub struct Exporter {
    child: Child,
    address: SocketAddr,
    log: watch::Receiver<Log>,
    dir: TempDir,
}

/// What it wrote to standard error so far.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

impl Exporter {
    /// Starts one with this configuration and waits until it listens.
    pub async fn start(config: &str) -> Self {
        Launch::config(config).start().await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its working directory, with `exporter.yml` where there is one.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the exporter runs")
    }

    /// Every line on standard error so far.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().lines.clone()
    }

    /// Waits for a line on standard error, also among those already written.
    pub async fn wait_for_line(
        &self,
        what: &str,
        within: Duration,
        condition: impl Fn(&str) -> bool,
    ) -> String {
        let mut log = self.log.clone();
        let find = |log: &Log| log.lines.iter().find(|line| condition(line)).cloned();
        let found = timeout(within, log.wait_for(|log| log.ended || find(log).is_some())).await;
        let line = found.ok().and_then(Result::ok).and_then(|log| find(&log));
        line.unwrap_or_else(|| panic!("{what}: no such line within {within:?}; {}", self.story()))
    }

    /// Waits until so many lines on standard error have this in them, and returns all that do.
    pub async fn wait_for_lines(&self, number: usize, what: &str, within: Duration) -> Vec<String> {
        let mut log = self.log.clone();
        let find = |log: &Log| -> Vec<String> {
            log.lines.iter().filter(|line| line.contains(what)).cloned().collect()
        };
        let found = timeout(within, log.wait_for(|log| log.ended || find(log).len() >= number)).await;
        let lines = found.ok().and_then(Result::ok).map_or_else(Vec::new, |log| find(&log));
        assert!(lines.len() >= number, "{number} times {what:?}: not within {within:?}; {}", self.story());
        lines
    }

    /// GET a path.
    pub async fn get(&self, path: &str) -> Reply {
        self.get_with(path, &[]).await
    }

    /// GET a path with headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        match get(&format!("{}{path}", self.url()), headers).await {
            Ok(reply) => reply,
            Err(error) => panic!("GET {path}: {error}; {}", self.story()),
        }
    }

    /// What `/metrics` shows now.
    pub async fn scrape(&self) -> Series {
        let reply = self.get("/metrics").await;
        assert_eq!(reply.status, 200, "/metrics: {}", reply.text());
        Series::parse(&reply.text())
    }

    /// Waits until `/metrics` shows what is wanted, and returns that scrape.
    pub async fn wait_for(
        &self,
        what: &str,
        within: Duration,
        condition: impl Fn(&Series) -> bool,
    ) -> Series {
        let mut last = Series::default();
        let mut ticks = interval(POLL);
        let waiting = async {
            loop {
                ticks.tick().await;
                last = self.scrape().await;
                if condition(&last) {
                    return;
                }
            }
        };
        let result = timeout(within, waiting).await;
        assert!(result.is_ok(), "{what}: not within {within:?}; the last scrape:\n{last}\n{}", self.story());
        last
    }

    /// Waits until a path answers with what is wanted, and returns that answer.
    pub async fn wait_for_reply(
        &self,
        path: &str,
        within: Duration,
        condition: impl Fn(&Reply) -> bool,
    ) -> Reply {
        let mut last = None;
        let mut ticks = interval(POLL);
        let waiting = async {
            loop {
                ticks.tick().await;
                let reply = self.get(path).await;
                let done = condition(&reply);
                last = Some(reply);
                if done {
                    return;
                }
            }
        };
        let result = timeout(within, waiting).await;
        let last = last.map(|reply| (reply.status, reply.text(), reply));
        match (result, last) {
            (Ok(()), Some((.., reply))) => reply,
            (_, last) => {
                let last = last.map(|(status, text, _)| format!("{status} {text}"));
                panic!("{path}: not as wanted within {within:?}; the last answer: {last:?}; {}", self.story())
            }
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("send a signal to the exporter");
    }

    /// SIGTERM; returns how it ended, which must come within 5 s.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(5)).await
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(PATIENCE).await
    }

    /// Waits for its end, and for the last line of its log.
    pub async fn wait(&mut self, within: Duration) -> ExitStatus {
        let mut log = self.log.clone();
        let ended = async {
            let status = self.child.wait().await;
            // Its sender is gone only once the log has ended.
            let _ = log.wait_for(|log| log.ended).await;
            status
        };
        match timeout(within, ended).await {
            Ok(status) => status.expect("wait for the exporter"),
            Err(_) => panic!("the exporter still runs after {within:?}; {}", self.story()),
        }
    }

    /// Lets it run for so long, to measure it meanwhile; panics at once where it ends before.
    pub async fn runs_for(&self, time: Duration) {
        let mut log = self.log.clone();
        let ended = timeout(time, log.wait_for(|log| log.ended)).await.is_ok();
        assert!(!ended, "the exporter ended within {time:?}; {}", self.story());
    }

    fn story(&self) -> String {
        let log = self.log.borrow();
        let state = if log.ended { "it has ended" } else { "it runs" };
        let skipped = log.lines.len().saturating_sub(60);
        format!("{state}; its log (without the first {skipped} lines):\n{}", log.lines[skipped..].join("\n"))
    }
}

/// A port of 127.0.0.1 that was free a moment ago, for a server that cannot be given port 0.
///
/// Below the range from which the system takes the ports of connections, so that none of these gets it
/// meanwhile, and at random, so that neither does another test.
pub fn free_port() -> u16 {
    let seed = std::collections::hash_map::RandomState::new();
    let mut drawn = (0_u64..).map(|draw| 15_000 + (seed.hash_one(draw) % 15_000) as u16);
    drawn.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn follow_log(child: &mut Child) -> watch::Receiver<Log> {
    let stderr = child.stderr.take().expect("standard error is piped");
    let (sender, receiver) = watch::channel(Log::default());
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|log| log.lines.push(line));
        }
        sender.send_modify(|log| log.ended = true);
    });
    receiver
}

/// The message of a JSON log line, empty for anything else.
fn message(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    value["message"].as_str().unwrap_or_default().to_owned()
}
