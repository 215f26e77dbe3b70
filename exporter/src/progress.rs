//! Shows how far catching up is: a bar a network on a terminal, a log line every 5 s elsewhere.
//!
//! Only looks at snapshots. Keeping up with the head, a few blocks at a time, is not catching up.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::snapshot::{Feed, Snapshot};

/// How often a line is logged, and how long a network that was synced before may trail unremarked.
const EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of one network until `shutdown` becomes true or a sender is gone.
///
/// Bars are drawn where `bars` is given, otherwise lines are logged. Either way `publish` gets how fast it goes.
pub async fn run(
    mut feed: Feed,
    publish: watch::Sender<Option<Progress>>,
    bars: Option<MultiProgress>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut catching_up: Option<CatchingUp> = None;
    loop {
        let tick = tokio::select! {
            _ = ticks.tick() => true,
            changed = feed.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        let snapshot = feed.borrow_and_update().clone();
        let Some(now) = Point::of(&snapshot) else {
            catching_up = None;
            publish.send_replace(None);
            continue;
        };
        let run = catching_up.get_or_insert_with(|| {
            ticks.reset();
            CatchingUp { start: now, last: now, bar: None }
        });
        if tick {
            let progress = Progress::between(run.start, run.last, now);
            if bars.is_none() {
                now.log(&snapshot.network, &progress);
            }
            publish.send_replace(Some(progress));
            run.last = now;
        }
        if let Some(bars) = &bars {
            if run.bar.is_none() && (tick || !snapshot.synced) {
                run.bar = Some(new_bar(bars, &snapshot.network));
            }
            run.draw(now);
        }
    }
}

/// One network on its way to the newest confirmed block.
struct CatchingUp {
    start: Point,
    /// Where the last line was logged.
    last: Point,
    bar: Option<ProgressBar>,
}

impl CatchingUp {
    fn draw(&self, now: Point) {
        let Some(bar) = &self.bar else { return };
        let done = now.processed.saturating_sub(self.start.processed);
        bar.set_length(done.saturating_add(now.left));
        bar.set_position(done);
    }
}

impl Drop for CatchingUp {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(bars: &MultiProgress, network: &str) -> ProgressBar {
    const TEMPLATE: &str = "{prefix} {wide_bar} {human_pos}/{human_len} blocks, {rate}/s, {eta} left";
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    // The built-in rate shows four decimals, which nobody can read while they change.
    let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.0}", state.per_sec());
    });
    bars.add(ProgressBar::new(0).with_style(style).with_prefix(network.to_owned()))
}

/// How far a network was, and when.
#[derive(Clone, Copy)]
struct Point {
    at: Instant,
    processed: u64,
    left: u64,
}

impl Point {
    /// `None` where nothing is left to do, or nothing is known yet.
    fn of(snapshot: &Snapshot) -> Option<Self> {
        let left = snapshot.sync_remaining.filter(|left| *left > 0)?;
        Some(Self { at: Instant::now(), processed: snapshot.processed?.number, left })
    }

    fn log(&self, network: &str, progress: &Progress) {
        tracing::info!(
            network,
            processed_block = self.processed,
            blocks_done = progress.done,
            blocks_left = self.left,
            blocks_per_second = progress.per_second,
            seconds_left = progress.seconds_left,
            "catching up"
        );
    }
}

/// How fast catching up goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Blocks since it began.
    pub done: u64,
    /// Blocks a second in the last 5 s, to one decimal.
    pub per_second: f64,
    /// At that rate; not known while nothing moves.
    pub seconds_left: Option<u64>,
}

impl Progress {
    fn between(start: Point, last: Point, now: Point) -> Self {
        let seconds = now.at.duration_since(last.at).as_secs_f64().max(0.001);
        let per_second = now.processed.saturating_sub(last.processed) as f64 / seconds;
        Self {
            done: now.processed.saturating_sub(start.processed),
            per_second: (per_second * 10.0).round() / 10.0,
            seconds_left: (per_second > 0.0).then(|| (now.left as f64 / per_second).ceil() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_stretch() {
        let at = Instant::now();
        let start = Point { at, processed: 100, left: 10_000 };
        let last = Point { at: at + Duration::from_secs(5), processed: 600, left: 9_500 };
        let now = Point { at: at + Duration::from_secs(10), processed: 4_600, left: 5_500 };
        let expected = Progress { done: 4_500, per_second: 800.0, seconds_left: Some(7) };
        assert_eq!(Progress::between(start, last, now), expected);
    }

    #[test]
    fn a_standstill_has_no_time_left() {
        let point = Point { at: Instant::now(), processed: 5, left: 10 };
        let expected = Progress { done: 0, per_second: 0.0, seconds_left: None };
        assert_eq!(Progress::between(point, point, point), expected);
    }
}
