//! Saved state: a restart reads only what is new, and a file that cannot be believed costs time alone.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use tempfile::TempDir;
use tesseract_tests::hostile::{Fault, Proxy};
use tesseract_tests::process::{Exporter, Launch};
use tesseract_tests::rig::{NETWORK, Oracle, Setup, confirmed, named, reached, watch};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Chain, Params, Sim};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(60);

const CONFIRMATIONS: u64 = 2;

/// That of the state files which this version writes.
const FORMAT: u32 = 3;

/// A chain, a proxy that counts in front of it, and a directory for the state.
struct Rig {
    sim: Sim,
    proxy: Proxy,
    state: TempDir,
    setup: Setup,
}

impl Rig {
    async fn start(chain: Chain) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let sim = Sim::serve(listener, vec![(String::new(), chain)]).unwrap().remove(0);
        let proxy = Proxy::start(&sim.url()).await;
        let setup = Setup::new(&[&proxy.url()], sim.chain().contract());
        Self { sim, proxy, state: TempDir::new().unwrap(), setup }
    }

    async fn short() -> Self {
        let mut chain = Chain::new(Params::default());
        chain.advance_to(300);
        Self::start(chain).await
    }

    fn file(&self) -> PathBuf {
        self.state.path().join(format!("{NETWORK}.state"))
    }

    async fn exporter(&self) -> Exporter {
        Exporter::start(&self.setup.yaml(Some(self.state.path()))).await
    }

    /// Waits until the newest confirmed block is shown.
    async fn read(&self, exporter: &Exporter) -> String {
        let target = self.sim.head() - CONFIRMATIONS;
        watch(exporter, PATIENCE, |text| reached(text, target), |_| Vec::new()).await.unwrap()
    }

    async fn check(&self, exposition: &str) {
        let contract = self.sim.chain().contract();
        let oracle = Oracle::read(&self.sim.url(), contract, self.sim.head()).await;
        assert_eq!(oracle.differences(exposition), Vec::<String>::new());
    }

    /// Leaves the state of a whole run behind.
    async fn saved() -> Self {
        let rig = Self::short().await;
        let mut exporter = rig.exporter().await;
        rig.read(&exporter).await;
        assert!(exporter.terminate().await.success());
        assert!(rig.file().exists());
        rig
    }

    /// Starts on the state as it lies there: the line must come, and the right numbers.
    async fn expect_line(&self, line: &str) {
        let mut exporter = self.exporter().await;
        exporter.wait_for_line(line, PATIENCE, |written| written.contains(line)).await;
        let text = self.read(&exporter).await;
        self.check(&text).await;
        // Until it has ended, the directory is locked.
        exporter.kill().await;
    }
}

#[tokio::test]
async fn a_restart_reads_only_what_is_new() {
    let rig = Rig::saved().await;
    let first = rig.proxy.counts();
    rig.sim.advance(10);
    let exporter = rig.exporter().await;
    exporter.wait_for_line("resuming", PATIENCE, |line| line.contains("resuming from saved state")).await;
    let text = rig.read(&exporter).await;
    rig.check(&text).await;
    let logs = rig.proxy.counts().of("eth_getLogs") - first.of("eth_getLogs");
    assert!(logs <= 3, "{logs} requests for logs of 10 new blocks");
    assert_eq!(rig.proxy.counts().of("eth_getCode"), first.of("eth_getCode"), "where it begins is known");
}

#[tokio::test]
async fn a_state_file_that_cannot_be_believed_is_said_and_not_used() {
    let rig = Rig::saved().await;
    let whole = fs::read(rig.file()).unwrap();
    let line = |format: u32| format!("{{\"format\":{format}}}\n").into_bytes();
    assert!(whole.starts_with(&line(FORMAT)));
    let format = |format: u32| [line(format), whole[line(FORMAT).len()..].to_vec()].concat();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for (bytes, line) in [
        (whole[..whole.len() / 2].to_vec(), "saved state is torn or damaged"),
        (changed, "saved state is torn or damaged"),
        (Vec::new(), "saved state is torn or damaged"),
        (vec![0xff; 1000], "saved state is torn or damaged"),
        (format(FORMAT - 1), "was written by an older version"),
        (format(FORMAT + 1), "was written by a newer version"),
    ] {
        fs::write(rig.file(), bytes).unwrap();
        rig.expect_line(line).await;
    }
}

#[tokio::test]
async fn a_state_of_something_else_is_said_and_not_used() {
    let rig = Rig::saved().await;
    let mut other_start = rig.setup.clone();
    other_start.start_block = Some(5);
    let whole = fs::read(rig.file()).unwrap();
    let rig = Rig { setup: other_start, ..rig };
    rig.expect_line("was made with another start_block").await;

    let mut chain = Chain::new(Params { seed: 2, ..Params::default() });
    chain.advance_to(300);
    let other = Rig::start(chain).await;
    fs::write(other.file(), &whole).unwrap();
    other.expect_line("is of another contract").await;

    let mut rig = Rig::saved().await;
    rig.setup.chain_id = Some(0xdead);
    rig.proxy.set(Fault::WrongChain);
    rig.expect_line("saved state is of another chain").await;
}

#[tokio::test]
async fn an_endpoint_of_another_chain_than_the_saved_one_is_not_used_until_it_is_right() {
    let mut rig = Rig::saved().await;
    rig.setup.chain_id = None;
    rig.proxy.set(Fault::WrongChain);
    let exporter = rig.exporter().await;
    let refused = "endpoint is on another chain and is not used";
    exporter.wait_for_line(refused, PATIENCE, |line| line.contains(refused)).await;
    rig.proxy.clear();
    let text = rig.read(&exporter).await;
    rig.check(&text).await;
}

#[tokio::test]
async fn where_nothing_can_be_written_the_numbers_are_right_all_the_same() {
    let rig = Rig::short().await;
    let (planted, victim) =
        (rig.state.path().join(format!("{NETWORK}.tmp")), rig.state.path().join("victim"));
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, planted).unwrap();
    let mut exporter = rig.exporter().await;
    let text = rig.read(&exporter).await;
    rig.check(&text).await;
    assert!(exporter.terminate().await.success());
    let said = format!("{NETWORK}.tmp is a symbolic link, expected a regular file");
    let refused = |line: &str| line.contains("progress cannot be saved") && line.contains(&said);
    exporter.wait_for_line("the link is refused", PATIENCE, refused).await;
    assert!(!rig.file().exists());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");

    // A directory in which nobody may create a file, root included.
    let config = rig.setup.yaml(Some("/proc/self".as_ref()));
    let refused = Launch::config(&config).run().await;
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("state_dir /proc/self: cannot be written"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_file_is_refused_and_nobody_waits_for_its_other_end() {
    let rig = Rig::short().await;
    let lock = rig.state.path().join("lock");
    mkfifoat(CWD, &lock, Mode::RUSR | Mode::WUSR).unwrap();
    let refused = Launch::config(&rig.setup.yaml(Some(rig.state.path()))).run().await;
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("lock is not a regular file"), "{}", refused.stderr);
    fs::remove_file(lock).unwrap();

    mkfifoat(CWD, rig.file(), Mode::RUSR | Mode::WUSR).unwrap();
    rig.expect_line(&format!("saved state cannot be read: {NETWORK}.state is not a regular file")).await;
}

#[tokio::test]
async fn kill_9_at_any_moment_leaves_the_truth() {
    let rig = Rig::saved().await;
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for _ in 0..8 {
        rig.sim.advance(rng.random_range(1..20));
        let mut exporter = rig.exporter().await;
        // Half of them on the way out, while the state is being written.
        if rng.random() {
            rig.read(&exporter).await;
            exporter.signal(Signal::TERM);
        }
        let moment = Duration::from_micros(rng.random_range(0..20_000));
        let _ = tokio::time::timeout(moment, std::future::pending::<()>()).await;
        exporter.kill().await;
        let mut exporter = rig.exporter().await;
        let text = rig.read(&exporter).await;
        rig.check(&text).await;
        assert!(!exporter.log().iter().any(|line| line.contains("torn")), "a state file was torn");
        exporter.terminate().await;
    }
}

#[tokio::test]
async fn a_long_history_is_there_again_at_once() {
    let events = std::env::var("EVENTS").map_or(60_000, |events| events.parse().unwrap());
    let mut chain = Chain::new(Params { buffered_per_hour: 36_000, ..Params::default() });
    chain.advance_to_logs(events);
    let mut rig = Rig::start(chain).await;
    rig.setup.range = 200;
    rig.setup.timeout = Duration::from_secs(10);
    let target = rig.sim.head() - CONFIRMATIONS;
    let begun = Instant::now();
    let mut exporter = rig.exporter().await;
    let long = Duration::from_secs(600);
    let text = watch(&exporter, long, |text| reached(text, target), |_| Vec::new()).await.unwrap();
    let (replay, first) = (begun.elapsed(), rig.proxy.counts());
    assert!(exporter.terminate().await.success());

    let begun = Instant::now();
    let exporter = rig.exporter().await;
    let again = rig.read(&exporter).await;
    let restart = begun.elapsed();
    assert_eq!(confirmed(&again), confirmed(&text));
    let buffered = Series::parse(&again).get(&named("tesseract_transactions_buffered_total"));
    assert_eq!(buffered, Some(rig.sim.chain().transaction_count(target) as f64));
    let calls = rig.proxy.counts().total() - first.total();
    let size = fs::metadata(rig.file()).unwrap().len();
    println!(
        "{events} events: first sync {replay:.2?} with {} calls; with {size} bytes of state {restart:.2?} with {calls} calls",
        first.total()
    );
    assert!(calls <= 60, "{calls} calls after a restart");
}
