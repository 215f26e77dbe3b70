//! The random simulator: short lives of an exporter, each drawn from a seed, in front of hostile nodes.
//!
//! A seed decides the chain, the endpoints, what goes wrong with each of them, and what happens meanwhile:
//! growth, reorganisations, kills and restarts. In between all is well for a while, and every confirmed
//! series must then be the truth, or something must say that it may not be. What the machine does to timing,
//! and so which request meets a fault, is the only thing not in the seed.

mod draw;
mod life;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::process;

/// What a life came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whenever all was quiet, everything shown was true.
    Exact,
    /// Something shown was not true, and a gauge said so.
    Flagged(String),
    /// Something shown was not true and nothing said so, an event was counted that never was, or a counter fell.
    Silent(String),
    /// The newest block was not reached, or the process ended.
    Stuck(String),
}

impl Verdict {
    /// Whether a life may not end like this.
    pub fn is_wrong(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Stuck(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Flagged(why) => write!(f, "flagged: {why}"),
            Self::Silent(why) => write!(f, "SILENT: {why}"),
            Self::Stuck(why) => write!(f, "stuck: {why}"),
        }
    }
}

/// One life.
#[derive(Clone, Debug)]
pub struct Ending {
    /// From which all of it was drawn.
    pub seed: u64,
    /// What was drawn.
    pub story: Vec<String>,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub time: Duration,
    /// What the last process logged.
    pub log: Vec<String>,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, story, verdict, time, .. } = self;
        write!(f, "seed {seed}, {:.1} s: {verdict}\n    {}", time.as_secs_f64(), story.join("\n    "))
    }
}

/// How many lives ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// See [`Verdict::Exact`].
    pub exact: u64,
    /// See [`Verdict::Flagged`].
    pub flagged: u64,
    /// See [`Verdict::Silent`].
    pub silent: u64,
    /// See [`Verdict::Stuck`].
    pub stuck: u64,
    /// The longest life.
    pub longest: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exact, flagged, silent, stuck, longest } = self;
        let longest = longest.as_secs_f64();
        write!(
            f,
            "{exact} exact, {flagged} flagged, {silent} SILENT, {stuck} stuck; the longest took {longest:.1} s"
        )
    }
}

/// Lives through these seeds, so many at a time, and tells every ending to `tell`, in order of the seeds.
pub async fn run(seeds: RangeInclusive<u64>, at_once: usize, mut tell: impl FnMut(&Ending)) -> Summary {
    // Built now where it has to be, so that no life waits for it.
    process::binary();
    let places = Arc::new(Semaphore::new(at_once));
    let started: Vec<_> = seeds
        .map(|seed| {
            let places = Arc::clone(&places);
            let life = async move {
                let _place = places.acquire().await.expect("nobody closes it");
                live(seed).await
            };
            (seed, tokio::spawn(life))
        })
        .collect();
    let mut summary = Summary::default();
    for (seed, life) in started {
        let ending = life.await.unwrap_or_else(|panic| Ending {
            seed,
            story: Vec::new(),
            verdict: Verdict::Stuck(panic.to_string()),
            time: Duration::ZERO,
            log: Vec::new(),
        });
        *match ending.verdict {
            Verdict::Exact => &mut summary.exact,
            Verdict::Flagged(_) => &mut summary.flagged,
            Verdict::Silent(_) => &mut summary.silent,
            Verdict::Stuck(_) => &mut summary.stuck,
        } += 1;
        summary.longest = summary.longest.max(ending.time);
        tell(&ending);
    }
    summary
}

async fn live(seed: u64) -> Ending {
    let started = Instant::now();
    let plan = draw::plan(seed);
    let story = plan.story();
    let (verdict, log) = life::live(plan).await;
    Ending { seed, story, verdict, time: started.elapsed(), log }
}
