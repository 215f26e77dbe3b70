//! What a known transaction costs: memory, state file, saving, loading, and applying a block beside it; and the same
//! of a bare map from its id to 64 bytes, written to a file as it is.
//!
//! Each line is measured in two processes of its own, one that builds and saves and one that loads, so that none
//! inherits the memory of another.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use tesseract_exporter::chain::BlockRef;
use tesseract_exporter::decode::{Event, Logged};
use tesseract_exporter::ledger::{Block, Ledger};
use tesseract_exporter::proof::Proof;
use tesseract_exporter::state::{self, Saved};
use web3::types::{H160, H256, U256};

use super::measure::own_usage;
use super::table::{Table, megabytes, number, ratio};

/// Transactions buffered in one block of the history.
const PER_BLOCK: u64 = 100;

/// Of a block that is timed: as many are buffered as become ready.
const EVENTS: u64 = 5;

/// Blocks that are timed, each as one step.
const TIMED: u64 = 201;

/// Block time of the first block, and how late what is pending is scheduled.
const START: u64 = 1_700_000_000;
const FAR: u64 = 1_000_000_000;

/// What the processes are started for.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// Builds a ledger, times blocks, and saves it.
    Build {
        /// What its transactions are.
        kind: Kind,
        /// How many.
        transactions: u64,
        /// Where to.
        file: PathBuf,
    },
    /// Loads it.
    Load {
        /// Where from.
        file: PathBuf,
    },
    /// Builds and writes a bare map.
    Map {
        /// Of how many.
        transactions: u64,
        /// Where to.
        file: PathBuf,
    },
}

/// What all transactions of a ledger are.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Kind {
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

/// A part's own process: prints its figures as JSON.
pub fn run_part(part: &Part) {
    match part {
        Part::Build { kind, transactions, file } => print(&build(*kind, *transactions, file)),
        Part::Load { file } => print(&load(file)),
        Part::Map { transactions, file } => print(&map(*transactions, file)),
    }
}

/// Every kind, in ledgers of these sizes.
pub(super) fn table(transactions: &[u64]) -> Table {
    let mut table = Table::new([
        "transactions",
        "bytes each",
        "in the file",
        "apply us",
        "gauges us",
        "save ms",
        "saving, +MB",
        "load ms",
        "resident MB",
        "loading, peak",
    ]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = state::file(directory.path(), "figures");
    let path = file.to_str().expect("a path in UTF-8");
    for number in transactions {
        let map: Built = run(&["map", &number.to_string(), path]);
        let rest = [(); 4].map(|()| "-".to_owned());
        table.row(built("bare map", *number, &map).into_iter().chain(rest));
        for kind in Kind::value_variants() {
            let name = kind.to_possible_value().expect("no kind is hidden").get_name().to_owned();
            let figures: Built = run(&["build", &name, &number.to_string(), path]);
            let loaded: Loaded = run(&["load", path]);
            table.row(built(&name, *number, &figures).into_iter().chain([
                megabytes(figures.save_peak),
                format!("{:.1}", loaded.load.as_secs_f64() * 1e3),
                megabytes(loaded.resident),
                ratio(loaded.peak as f64, loaded.resident as f64),
            ]));
        }
    }
    table
}

fn built(name: &str, transactions: u64, figures: &Built) -> Vec<String> {
    vec![
        format!("{} {name}", number(transactions)),
        (figures.resident / transactions).to_string(),
        (figures.file / transactions).to_string(),
        format!("{:.1}", figures.apply.as_secs_f64() * 1e6),
        format!("{:.2}", figures.gauges.as_secs_f64() * 1e6),
        format!("{:.1}", figures.save.as_secs_f64() * 1e3),
    ]
}

fn run<T: for<'a> Deserialize<'a>>(args: &[&str]) -> T {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program).arg("ledger").args(args).output().expect("start this program");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("what `print` writes")
}

fn print(figures: &impl Serialize) {
    println!("{}", serde_json::to_string(figures).expect("numbers are JSON"));
}

fn build(kind: Kind, transactions: u64, file: &Path) -> Built {
    let before = own_usage().resident;
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
    let resident = own_usage().resident.saturating_sub(before);
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
    let before_saving = own_usage().resident;
    let begun = Instant::now();
    state::save(file, &saved(Cow::Borrowed(&ledger))).expect("save");
    let save = begun.elapsed();
    Built {
        resident,
        file: fs::metadata(file).expect("the file that was saved").len(),
        apply: times[times.len() / 2],
        gauges,
        save,
        save_peak: own_usage().peak.saturating_sub(before_saving),
    }
}

fn load(file: &Path) -> Loaded {
    let before = own_usage().resident;
    reset_peak();
    let begun = Instant::now();
    let loaded = state::load(file, H160::zero(), None).expect("a file of ours").expect("a file");
    let load = begun.elapsed();
    let (resident, peak) =
        (own_usage().resident.saturating_sub(before), own_usage().peak.saturating_sub(before));
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

/// The peak begins again at what is resident now.
fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("reset the peak");
}

/// What the least keeper of pending transactions holds of each, 64 bytes beside the id.
fn map(transactions: u64, file: &Path) -> Built {
    let before = own_usage().resident;
    let mut known = HashMap::new();
    for n in 0..transactions {
        known.insert(id(n), [n; 8]);
    }
    let resident = own_usage().resident.saturating_sub(before);
    let mut times = Vec::new();
    for step in 0..TIMED {
        let begun = Instant::now();
        for n in 0..EVENTS {
            black_box(known.insert(id(transactions + step * EVENTS + n), [n; 8]));
            black_box(known.remove(&id((step * EVENTS + n) * 7919 % transactions)));
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let begun = Instant::now();
    let mut bytes = Vec::new();
    for (id, of) in &known {
        bytes.extend_from_slice(id.as_bytes());
        of.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    }
    fs::write(file, bytes).expect("write the map");
    let save = begun.elapsed();
    Built {
        resident,
        file: fs::metadata(file).expect("the file that was written").len(),
        apply: times[times.len() / 2],
        gauges: Duration::ZERO,
        save,
        save_peak: 0,
    }
}
