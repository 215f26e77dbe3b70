//! What a known transaction costs: memory, state file, saving, loading, and applying a block beside it.
//!
//! `cargo run --release -p tesseract-tests --bin ledger` prints a table. Each line is measured in two
//! processes of its own, one that builds and saves and one that loads, so that none inherits the memory of
//! another. Looks at numbers only, and judges none.

use std::borrow::Cow;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use tesseract_exporter::chain::BlockRef;
use tesseract_exporter::decode::{Event, Logged};
use tesseract_exporter::ledger::{Block, Ledger};
use tesseract_exporter::proof::Proof;
use tesseract_exporter::state::{self, Saved};
use web3::types::{H160, H256, U256};

/// Transactions buffered in one block of the history.
const PER_BLOCK: u64 = 100;

/// Of a block that is timed: as many are buffered as become ready.
const EVENTS: u64 = 5;

/// Blocks that are timed, each as one step.
const TIMED: u64 = 201;

/// Block time of the first block, and how late what is pending is scheduled.
const START: u64 = 1_700_000_000;
const FAR: u64 = 1_000_000_000;

#[derive(Parser)]
struct Options {
    /// Numbers of transactions.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    transactions: Vec<u64>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the processes are started for.
#[derive(Subcommand)]
enum Part {
    /// Builds a ledger, times blocks, and saves it.
    Build { kind: Kind, transactions: u64, file: PathBuf },
    /// Loads it.
    Load { file: PathBuf },
}

/// What all transactions of a ledger are.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    /// Pending, with a deadline that follows the window.
    Floating,
    /// Pending, with a deadline fixed at buffering.
    Frozen,
    /// The same, with a window that is still to be read.
    Guessed,
    /// Pending, scheduled beyond 64 bits.
    FloatingWide,
    /// The same of the long form.
    FrozenWide,
    /// Settled as expired.
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Built {
    resident: u64,
    file: u64,
    apply: Duration,
    gauges: Duration,
    save: Duration,
    save_peak: u64,
}

#[derive(Serialize, Deserialize)]
struct Loaded {
    resident: u64,
    peak: u64,
    load: Duration,
}

fn main() {
    let options = Options::parse();
    match options.part {
        Some(Part::Build { kind, transactions, file }) => print(&build(kind, transactions, &file)),
        Some(Part::Load { file }) => print(&load(&file)),
        None => table(&options.transactions),
    }
}

fn table(transactions: &[u64]) {
    println!(
        "{:<14} {:>9} | {:>8} {:>8} | {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9} {:>9}",
        "kind", "number", "bytes", "file", "apply", "gauges", "save", "peak", "load", "resident", "peak"
    );
    println!(
        "{:<14} {:>9} | {:>8} {:>8} | {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9} {:>9}",
        "", "", "each", "each", "us", "us", "ms", "+MiB", "ms", "MiB", "of it"
    );
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = state::file(directory.path(), "figures");
    let path = file.to_str().expect("a path in UTF-8");
    for kind in Kind::value_variants() {
        for number in transactions {
            let name = kind.to_possible_value().expect("no kind is hidden").get_name().to_owned();
            let built: Built = run(&["build", &name, &number.to_string(), path]);
            let loaded: Loaded = run(&["load", path]);
            println!(
                "{name:<14} {number:>9} | {:>8} {:>8} | {:>9.1} {:>9.2} | {:>9.1} {:>9.1} | {:>9.1} {:>9.1} {:>9.2}",
                built.resident / number,
                built.file / number,
                built.apply.as_secs_f64() * 1e6,
                built.gauges.as_secs_f64() * 1e6,
                built.save.as_secs_f64() * 1e3,
                mebibytes(built.save_peak),
                loaded.load.as_secs_f64() * 1e3,
                mebibytes(loaded.resident),
                loaded.peak as f64 / loaded.resident.max(1) as f64,
            );
        }
    }
}

fn run<T: for<'a> Deserialize<'a>>(args: &[&str]) -> T {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program).args(args).output().expect("start this program");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("what `print` writes")
}

fn print(figures: &impl Serialize) {
    println!("{}", serde_json::to_string(figures).expect("numbers are JSON"));
}

fn build(kind: Kind, transactions: u64, file: &Path) -> Built {
    let before = memory("VmRSS");
    let mut ledger = Ledger::default();
    let mut next = 0;
    let mut number = 0;
    while next < transactions {
        number += 1;
        let count = PER_BLOCK.min(transactions - next);
        let block = block(kind, number, (next..next + count).map(|n| buffered(kind, n, number)).collect());
        next += count;
        apply(&mut ledger, &block);
    }
    let resident = memory("VmRSS").saturating_sub(before);
    let settled = ledger.counts().settled.iter().sum::<u64>();
    let expected = if kind == Kind::Expired { transactions } else { 0 };
    assert_eq!((settled, ledger.pending()), (expected, transactions - expected));

    let mut times = Vec::new();
    for step in 0..TIMED {
        number += 1;
        let opened = (0..EVENTS).map(|n| buffered(kind, next + n, number));
        // From all over what is known.
        let closed = (0..EVENTS).map(|n| ready((step * EVENTS + n) * 7919 % transactions));
        let block = block(kind, number, opened.chain(closed).collect());
        next += EVENTS;
        let begun = Instant::now();
        // All that a window might change is asked for at the head, but where nothing was read yet.
        black_box(ledger.doubts(std::slice::from_ref(&block), kind != Kind::Guessed));
        apply(&mut ledger, &block);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let begun = Instant::now();
    for _ in 0..1000 {
        black_box((ledger.pending(), ledger.oldest_pending(), ledger.next_deadline()));
    }
    let gauges = begun.elapsed() / 1000;

    reset_peak();
    let before_saving = memory("VmRSS");
    let begun = Instant::now();
    state::save(file, &saved(Cow::Borrowed(&ledger))).expect("save");
    let save = begun.elapsed();
    Built {
        resident,
        file: fs::metadata(file).expect("the file that was saved").len(),
        apply: times[times.len() / 2],
        gauges,
        save,
        save_peak: memory("VmHWM").saturating_sub(before_saving),
    }
}

fn load(file: &Path) -> Loaded {
    let before = memory("VmRSS");
    reset_peak();
    let begun = Instant::now();
    let loaded = state::load(file, H160::zero(), None).expect("a file of ours").expect("a file");
    let load = begun.elapsed();
    let (resident, peak) = (memory("VmRSS").saturating_sub(before), memory("VmHWM").saturating_sub(before));
    black_box(loaded);
    Loaded { resident, peak, load }
}

fn saved(ledger: Cow<'_, Ledger>) -> Saved<'_> {
    Saved {
        chain_id: 1,
        contract: H160::zero(),
        start_block: None,
        first_block: 1,
        anchor: None,
        compared: None,
        gaps: Cow::Owned(Vec::new()),
        proof: Cow::Owned(Proof::default()),
        ledger,
    }
}

fn apply(ledger: &mut Ledger, block: &Block) {
    let end = BlockRef { number: block.number, time: block.time, ..BlockRef::default() };
    black_box(ledger.apply(&[], std::slice::from_ref(block), end));
}

fn block(kind: Kind, number: u64, events: Vec<Logged>) -> Block {
    let guessed = kind == Kind::Guessed;
    Block { number, time: time(number), window: Some(30.into()), guessed, events }
}

fn time(number: u64) -> u64 {
    START + 2 * number
}

/// The `n`th transaction, buffered in this block.
fn buffered(kind: Kind, n: u64, number: u64) -> Logged {
    let frozen = !matches!(kind, Kind::Floating | Kind::FloatingWide);
    let scheduled = match kind {
        // All at other times, and in no order.
        Kind::Floating | Kind::Frozen | Kind::Guessed => (time(number) + FAR + n * 7919 % FAR).into(),
        Kind::FloatingWide | Kind::FrozenWide => U256::MAX - n,
        // Its deadline has passed when it is buffered.
        Kind::Expired => (time(number) - 31).into(),
    };
    let (origin, target) = (H160::zero(), H160::zero());
    logged(n, Event::Buffered { tx_id: id(n), origin, target, scheduled, frozen })
}

fn ready(n: u64) -> Logged {
    logged(n, Event::Ready { tx_id: id(n) })
}

fn logged(n: u64, event: Event) -> Logged {
    Logged { tx_hash: H256::from_low_u64_le(n), event }
}

fn id(n: u64) -> H256 {
    H256::from_low_u64_be(n)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What the kernel says of this process's memory, bytes.
fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the process's own status");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a line of the status");
    let number = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    number.expect("a number of kB") * 1024
}

/// The peak begins again at what is resident now.
fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("reset the peak");
}
