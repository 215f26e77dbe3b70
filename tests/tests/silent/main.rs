//! What nobody says: answers that are wrong without an error. Whatever an exporter shows meanwhile is the truth, or
//! a gauge says that it may not be; and once the fault is over and the chain has gone on, it is the truth.
//!
//! A cell for each situation, stage and variant, side by side; `CELL=name` runs those whose names begin so.
//! Times and calls are printed and not judged.
#![allow(clippy::unwrap_used)]

mod chain;
mod head;
mod logs;
mod rig;
mod state;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tesseract_tests::process;
use tesseract_tests::sim::Variant;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use rig::{Windows, World};

/// Cells that run at the same time.
const AT_ONCE: usize = 24;

/// Of what went wrong so much is printed.
const SHOWN: usize = 400;

/// When a fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    FirstSync,
    Following,
    Resuming,
}

const STAGES: [Stage; 3] = [Stage::FirstSync, Stage::Following, Stage::Resuming];

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FirstSync => "first sync",
            Self::Following => "following",
            Self::Resuming => "resuming",
        })
    }
}

/// What was shown while the fault lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing but the truth.
    Exact,
    /// Something else, and that it may be so.
    Flagged,
}

/// How a cell ended, and how many calls it made.
type Outcome = Result<(Told, u64), String>;

/// The chains that cells run on.
struct Worlds {
    /// One for each variant.
    steady: [Arc<World>; 2],
    /// The same with a window that changes.
    changing: [Arc<World>; 2],
}

/// The cells that were begun.
struct Cells {
    only: Option<String>,
    places: Arc<Semaphore>,
    begun: Vec<(String, JoinHandle<(Outcome, Duration)>)>,
}

impl Cells {
    fn add(&mut self, name: String, cell: impl Future<Output = Outcome> + Send + 'static) {
        if self.only.as_deref().is_some_and(|only| !name.starts_with(only)) {
            return;
        }
        let places = Arc::clone(&self.places);
        let task = async move {
            let _place = places.acquire().await.unwrap();
            let started = Instant::now();
            (cell.await, started.elapsed())
        };
        self.begun.push((name, tokio::spawn(task)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_says_is_seen_or_said() {
    // Built now where it has to be, so that no cell waits for it.
    process::binary();
    let worlds = tokio::join!(
        World::new(Variant::Simple, Windows::Steady),
        World::new(Variant::Buffer, Windows::Steady),
        World::new(Variant::Simple, Windows::Changing),
        World::new(Variant::Buffer, Windows::Changing),
    );
    let worlds = Worlds { steady: [worlds.0, worlds.1], changing: [worlds.2, worlds.3] };
    let only = std::env::var("CELL").ok();
    let mut cells = Cells { only, places: Arc::new(Semaphore::new(AT_ONCE)), begun: Vec::new() };
    // Those that wait longest begin first.
    head::cells(&worlds, &mut cells);
    chain::cells(&worlds, &mut cells);
    state::cells(&worlds, &mut cells);
    logs::cells(&worlds, &mut cells);

    let mut failures = Vec::new();
    for (name, cell) in cells.begun {
        let (outcome, time) = cell.await.unwrap_or_else(|panic| (Err(panic.to_string()), Duration::ZERO));
        let (calls, shown) = match &outcome {
            Ok((told, calls)) => (calls.to_string(), format!("{told:?}").to_lowercase()),
            Err(why) => ("-".to_owned(), why.chars().take(SHOWN).collect()),
        };
        println!("{name:58} {:6.2} s {calls:>6} calls  {shown}", time.as_secs_f64());
        if outcome.is_err() {
            failures.push(format!("{name}: {shown}"));
        }
    }
    assert!(failures.is_empty(), "{} cells failed:\n{}", failures.len(), failures.join("\n"));
}
