//! The demo: a simulated chain with three networks, and the exporter on them as a process of its own.
//!
//! What it shows is read from `/metrics`, as a user would. It needs nothing but this repository, and leaves
//! nothing behind but the exporter's log.

mod status;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

use crate::http::get;
use crate::process::binary;
use crate::series::Series;
use crate::sim::{Chain, Params, Sim, Variant};
pub use status::table;

/// How long the exporter may take to answer at first, and to stop at last.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running demo. Everything ends when it is dropped.
pub struct Demo {
    sims: Vec<Sim>,
    exporter: Child,
    address: SocketAddr,
    log: PathBuf,
    _dir: TempDir,
}

/// Three networks as different as real ones, by name.
///
/// `genesis_time` is the time of their first block, seconds since the Unix epoch.
pub fn networks(seed: u64, genesis_time: u64) -> Vec<(String, Params)> {
    let network = |name: &str, chain_id, variant, block_ms| {
        let params = Params {
            seed,
            chain_id,
            variant,
            block_time: Duration::from_millis(block_ms),
            genesis_time,
            deployed_at: 100,
            ..Params::default()
        };
        (name.to_owned(), params)
    };
    vec![
        network("arbitrum-demo", 1_337_001, Variant::Simple, 250),
        network("base-demo", 1_337_002, Variant::Buffer, 2000),
        network("ethereum-demo", 1_337_003, Variant::Mixed, 12_000),
    ]
}

/// Midnight UTC before at least so much history: within a day, a restarted chain is the same chain.
pub fn genesis_time(history: Duration) -> u64 {
    let start = now() - history.as_secs();
    start - start % 86_400
}

/// A chain with its history up to this moment.
pub fn up_to_now(params: Params) -> Chain {
    let height = (now() - params.genesis_time) * 1000 / params.block_time.as_millis() as u64;
    let mut chain = Chain::new(params);
    chain.advance_to(height);
    chain
}

/// The configuration of an exporter that follows these networks, in their order.
pub fn config(sims: &[Sim], names: &[String]) -> String {
    let mut config = "networks:\n".to_owned();
    for (sim, name) in sims.iter().zip(names) {
        let (url, chain) = (sim.url(), sim.chain());
        config += &format!(
            "  - name: {name}\n    rpc_urls: [\"{url}\"]\n    contract: \"{:#x}\"\n    chain_id: {}\n",
            chain.contract(),
            chain.params().chain_id,
        );
    }
    config
}

impl Demo {
    /// Starts the chains and, on this port of the loopback, the exporter, whose log replaces this file; waits until
    /// it answers.
    ///
    /// # Errors
    /// One line: what kept it from starting.
    pub async fn start(port: u16, log: &Path) -> Result<Self, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let free = std::net::TcpListener::bind(address).and_then(|socket| socket.local_addr());
        let address =
            free.map_err(|error| format!("cannot listen on {address}: {error}; choose another --port"))?;
        let failed = |error: std::io::Error| format!("cannot start the demo: {error}");

        let (names, chains): (Vec<_>, Vec<_>) =
            networks(1, genesis_time(Duration::from_secs(6 * 3600))).into_iter().unzip();
        let chains = names.iter().cloned().zip(chains.into_iter().map(up_to_now)).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let mut sims = Sim::serve(listener, chains).map_err(failed)?;
        sims.iter_mut().for_each(|sim| sim.run(1.0));

        let dir = TempDir::with_prefix("tesseract-demo-").map_err(failed)?;
        std::fs::write(dir.path().join("exporter.yml"), config(&sims, &names)).map_err(failed)?;
        let exporter = Command::new(binary())
            .arg(format!("--web.listen-address={address}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(log).map_err(failed)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut demo = Self { sims, exporter, address, log: log.to_owned(), _dir: dir };
        demo.wait_until_it_answers().await?;
        Ok(demo)
    }

    /// Where the exporter answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and the exporter's address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The simulated networks.
    pub fn sims(&self) -> &[Sim] {
        &self.sims
    }

    /// What `/metrics` shows now.
    ///
    /// # Errors
    /// One line: that the exporter ended, or why it does not answer.
    pub async fn scrape(&mut self) -> Result<Series, String> {
        self.still_running()?;
        let reply = get(&format!("{}/metrics", self.url()), &[]).await?;
        Ok(Series::parse(&reply.text()))
    }

    /// Stops the exporter as Ctrl-C would.
    ///
    /// # Errors
    /// One line: that it did not end, or not well.
    pub async fn stop(mut self) -> Result<(), String> {
        if let Some(pid) =
            self.exporter.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
        {
            // It may have ended already: Ctrl-C on a terminal reaches it as well.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        match timeout(PATIENCE, self.exporter.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the exporter ended with {status}: {}", self.last_line())),
            Ok(Err(error)) => Err(format!("cannot wait for the exporter: {error}")),
            Err(_) => Err(format!("the exporter still ran {PATIENCE:?} after its signal")),
        }
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let health = format!("{}/-/healthy", self.url());
        let mut ticks = interval(Duration::from_millis(50));
        let answers = timeout(PATIENCE, async {
            loop {
                ticks.tick().await;
                self.still_running()?;
                if get(&health, &[]).await.is_ok_and(|reply| reply.status == 200) {
                    return Ok(());
                }
            }
        });
        let answers = answers.await;
        answers.unwrap_or_else(|_| Err(format!("the exporter did not answer within {PATIENCE:?}")))
    }

    fn still_running(&mut self) -> Result<(), String> {
        match self.exporter.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("the exporter ended with {status}: {}", self.last_line())),
            Err(error) => Err(format!("cannot look after the exporter: {error}")),
        }
    }

    fn last_line(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().last().unwrap_or("it logged nothing").to_owned()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
