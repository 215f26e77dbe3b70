//! The fault table: every fault of the hostile node, at every stage, for both variants; and of those that may
//! pass, each for a share of the requests.
//!
//! In every cell an exporter runs against the hostile node in front of a chain of its own. Whatever it
//! shows on the way must be the truth at its block, and at the end byte for byte what a healthy exporter
//! shows there, exemplars included. Times are printed and not judged; requests are.
#![allow(clippy::unwrap_used)]

mod cell;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tesseract_tests::hostile::{Fault, Kind};
use tesseract_tests::sim::Variant;
use tokio::sync::Semaphore;

use cell::{Cell, Met, World};

/// Shares of the requests, in percent, that meet a fault which may pass. `SHARE=50` adds another one: exact as
/// well, but at half of the requests chance decides how long a first sync takes.
const SHARES: [u32; 2] = [1, 20];

/// Cells that run at the same time.
const AT_ONCE: usize = 24;

/// Long enough for a busy machine: what a cell asks for must not depend on its speed.
const POLL: Duration = Duration::from_secs(1);

/// What a poll asks for that finds nothing new: the head.
const IDLE: u64 = 1;

/// The calls that it takes to prove that batches are refused, not just one.
const PROOF: u64 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// What a cell cost.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    calls: u64,
}

impl Cost {
    /// The calls of this cell had it gone on to poll for so long.
    fn over(self, time: Duration) -> u64 {
        self.calls + IDLE * time.saturating_sub(self.time).div_duration_f64(POLL) as u64
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_stage_leaves_the_truth() {
    let only = std::env::var("FAULT").ok();
    let faults: Vec<Fault> = Fault::all()
        .filter(|fault| fault.kind() != Kind::Special)
        .filter(|fault| only.as_deref().is_none_or(|name| fault.name().starts_with(name)))
        .collect();
    let worlds = tokio::join!(World::new(Variant::Simple), World::new(Variant::Buffer));
    let worlds = [Arc::new(worlds.0), Arc::new(worlds.1)];

    let mut healthy = BTreeMap::new();
    for (variant, world) in worlds.iter().enumerate() {
        for stage in STAGES {
            let cost = Cell::new(world, None).await.run(stage).await.unwrap();
            healthy.insert((variant, stage), cost);
        }
    }

    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut cells = Vec::new();
    for (fault, percent) in
        faults.into_iter().flat_map(|fault| shares(fault).map(move |share| (fault, share)))
    {
        for stage in STAGES {
            for (variant, world) in worlds.iter().enumerate() {
                let (world, places) = (world.clone(), places.clone());
                let name = format!("{fault:22} {percent:3} % {stage:10} {:7}", VARIANTS[variant]);
                let met = Met { fault, percent, seed: seed(&name) };
                let cell = async move {
                    let _place = places.acquire().await.unwrap();
                    Cell::new(&world, Some(met)).await.run(stage).await
                };
                cells.push((name, met, healthy[&(variant, stage)], tokio::spawn(cell)));
            }
        }
    }

    let mut failures = Vec::new();
    println!(
        "{:22} {:5} {:10} {:7} {:>16} {:>18}  result",
        "fault", "share", "stage", "variant", "time", "calls"
    );
    for ((variant, stage), cost) in &healthy {
        let (time, variant) = (time(*cost, None), VARIANTS[*variant]);
        println!("{:28} {stage:10} {variant:7} {time:>16} {:>18}  exact", "none", cost.calls);
    }
    for (name, met, well, cell) in cells {
        let outcome = cell.await.unwrap_or_else(|panic| Err(panic.to_string()));
        let (costs, result) = match outcome {
            Ok(cost) => {
                let healthy = well.over(cost.time);
                let result = match cost.calls > 2 * healthy + PROOF && !may_ask_for_more(met) {
                    true => Err("too many calls".to_owned()),
                    false => Ok(()),
                };
                let calls = format!("{} ({:.1}x)", cost.calls, cost.calls as f64 / healthy as f64);
                ([time(cost, Some(well)), calls], result)
            }
            Err(why) => (["-".to_owned(), "-".to_owned()], Err(why)),
        };
        let [time, calls] = costs;
        let shown = result.as_ref().err().map_or("exact", String::as_str);
        println!("{name} {time:>16} {calls:>18}  {shown}");
        if let Err(why) = result {
            failures.push(format!("{name}: {why}"));
        }
    }
    assert!(failures.is_empty(), "{} cells failed:\n{}", failures.len(), failures.join("\n"));
}

/// The shares of the requests, in percent, that are to meet a fault: all, and less where what fails or is
/// behind may be right the next time.
fn shares(fault: Fault) -> impl Iterator<Item = u32> {
    let passes = match fault {
        // The provider's words matter to all or none.
        Fault::Rate(_) => fault.name() == "infura-rate" || fault.name() == "cloudflare-rate",
        // A matter of the block, not of the moment.
        Fault::LogsFull => false,
        // The same time-out as with a node that hangs, and megabytes to read for the same error.
        Fault::Trickle | Fault::OversizedJson => false,
        fault => matches!(fault.kind(), Kind::Outage | Kind::RateLimit | Kind::Behind),
    };
    let added = std::env::var("SHARE").ok().and_then(|share| share.parse().ok());
    // Beyond this it is the time-out that decides how long a cell takes: longer than a test may.
    let most = if fault == Fault::Hang { 1 } else { 99 };
    SHARES.into_iter().chain(added).filter(move |share| passes && *share <= most).chain([100])
}

/// A block that is over a cap by itself makes for small ranges, as any cap does; and what fails is asked for
/// again.
fn may_ask_for_more(met: Met) -> bool {
    met.percent < 100
        || matches!(met.fault.kind(), Kind::Capped | Kind::RateLimit)
        || matches!(met.fault, Fault::LogsFull | Fault::BatchCounted | Fault::Flaky)
        // That batches are refused is proven by three tries of one, which here is most of all calls.
        || met.fault == Fault::BatchSmall
        // What can be had in one piece in no way is asked for in several.
        || met.fault == Fault::NoBlockHash
}

/// Each cell draws its own, and the same in every run.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

const VARIANTS: [&str; 2] = ["simple", "buffer"];

fn time(cost: Cost, well: Option<Cost>) -> String {
    let seconds = cost.time.as_secs_f64();
    match well {
        Some(well) => format!("{seconds:.2} s ({:+.2} s)", seconds - well.time.as_secs_f64()),
        None => format!("{seconds:.2} s"),
    }
}
