//! A provider in a process of its own: regular chains behind answers that were made ready beforehand, so that it
//! costs little more than the bytes it sends.
//!
//! It counts what it is asked, and may be slow or limit requests. What is not ready, the simulated node answers.
//! Never wrong on purpose.

pub(crate) mod counts;
pub(crate) mod ready;
mod respond;

use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::measure::{Usage, usage};
use super::setting::{Network, Setting};
use crate::http::get;
use crate::sim::Chain;
use counts::{Counts, Report};
use ready::{Figures, Ready};

/// A provider's process; killed when dropped.
pub(crate) struct Provider {
    child: Child,
    url: String,
}

/// What it says once it answers.
#[derive(Serialize, Deserialize)]
struct Listening {
    url: String,
}

impl Provider {
    /// Starts one and waits until its answers are ready.
    pub(crate) async fn start(setting: &Setting) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the path of this program"))
            .arg("provider")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start the provider");
        let mut input = child.stdin.take().expect("standard input is piped");
        let text = serde_json::to_vec(setting).expect("a setting is JSON");
        input.write_all(&text).await.expect("tell the provider its setting");
        drop(input);
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("standard output is piped");
        BufReader::new(output).read_line(&mut line).await.expect("read what the provider says");
        let Listening { url } = serde_json::from_str(&line).expect("the provider says where it listens");
        Self { child, url }
    }

    /// Where it answers; a network follows as `/` and its number.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked since it was told to forget it.
    pub(crate) async fn report(&self) -> Report {
        self.ask("report").await
    }

    /// Forgets what it was asked.
    pub(crate) async fn forget(&self) {
        self.ask::<()>("forget").await;
    }

    /// What a reader of a network up to a block must come to.
    pub(crate) async fn figures(&self, network: usize, last: u64) -> Figures {
        self.ask(&format!("figures/{network}/{last}")).await
    }

    /// What the process used so far.
    pub(crate) fn usage(&self) -> Usage {
        usage(self.child.id().expect("the provider runs"))
    }

    async fn ask<T: for<'a> Deserialize<'a>>(&self, what: &str) -> T {
        let reply = get(&format!("{}/{what}", self.url), &[]).await.expect("ask the provider");
        serde_json::from_slice(&reply.body).expect("the provider answers as it was built to")
    }
}

/// The provider's own process: reads its setting from standard input, and answers until it is killed.
pub async fn serve() {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).expect("read the setting");
    let setting: Setting = serde_json::from_slice(&text).expect("a setting");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let state = State::new(&setting);
    println!("{}", serde_json::to_string(&Listening { url }).expect("text is JSON"));
    respond::accept(listener, state).await;
}

/// Everything that the provider answers from.
struct State {
    networks: Vec<Served>,
    latency: std::time::Duration,
    rate: Option<u32>,
    window: Mutex<Window>,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
}

/// What a limit looks at. Every second stands for itself, as with most providers.
#[derive(Default)]
struct Window {
    /// The second that goes on, since the Unix epoch.
    second: u64,
    /// Requests in it.
    requests: u32,
    /// Seconds before it since the first request.
    before: u64,
}

/// One network.
struct Served {
    chain: RwLock<Chain>,
    /// Of a chain that stands still.
    ready: Option<Ready>,
    live: bool,
    counts: Mutex<Counts>,
}

impl State {
    fn new(setting: &Setting) -> Self {
        Self {
            networks: setting.networks.iter().enumerate().map(Served::new).collect(),
            latency: setting.latency,
            rate: setting.rate,
            window: Mutex::default(),
            in_flight: AtomicU64::new(0),
            most_in_flight: AtomicU64::new(0),
        }
    }

    fn report(&self) -> Report {
        Report {
            networks: self.networks.iter().map(Served::counts).collect(),
            most_in_flight: self.most_in_flight.load(Ordering::Relaxed),
            seconds: locked(&self.window).before + 1,
        }
    }

    fn forget(&self) {
        self.networks.iter().for_each(|network| *locked(&network.counts) = Counts::default());
        self.most_in_flight.store(0, Ordering::Relaxed);
        *locked(&self.window) = Window::default();
    }

    /// Whether one more request is within the limit.
    fn admits(&self) -> bool {
        let Some(rate) = self.rate else { return true };
        let now = since_epoch().as_secs();
        let mut window = locked(&self.window);
        if window.second != now {
            let passed = if window.second == 0 { 0 } else { now - window.second };
            *window = Window { second: now, requests: 0, before: window.before + passed };
        }
        window.requests += 1;
        window.requests <= rate
    }
}

impl Served {
    fn new((number, network): (usize, &Network)) -> Self {
        let mut chain = network.chain(number);
        chain.advance_to(network.blocks);
        let ready = (!network.live).then(|| Ready::of(&chain));
        Self { chain: RwLock::new(chain), ready, live: network.live, counts: Mutex::default() }
    }

    fn counts(&self) -> Counts {
        self.keep_up();
        let head = self.chain.read().unwrap_or_else(PoisonError::into_inner).head();
        Counts { head, ..locked(&self.counts).clone() }
    }

    /// Adds the blocks that are due by now.
    fn keep_up(&self) {
        if !self.live {
            return;
        }
        let due = {
            let chain = self.chain.read().unwrap_or_else(PoisonError::into_inner);
            let params = chain.params();
            let age = since_epoch().as_millis().saturating_sub(u128::from(params.genesis_time) * 1000);
            let due = (age / params.block_time.as_millis()) as u64;
            (due > chain.head()).then_some(due)
        };
        if let Some(due) = due {
            self.chain.write().unwrap_or_else(PoisonError::into_inner).advance_to(due);
        }
    }
}

pub(super) fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
