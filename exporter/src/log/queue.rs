//! Lines on their way to standard error, written by a thread of their own.
//!
//! Whoever logs never waits: where standard error is blocked, as a pipe that nobody reads, lines beyond a bound are
//! dropped and counted. Never loses a line without that.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

/// So many lines may wait.
const LINES: usize = 4096;

/// Lines that were dropped since the start of the process.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines were dropped since the start of the process.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Relaxed)
}

/// What the thread is given.
enum Entry {
    Line(Vec<u8>),
    /// Everything before this was written: to be said to whoever waits.
    End(SyncSender<()>),
}

/// The end at which lines go in.
#[derive(Clone)]
pub(super) struct Queue(SyncSender<Entry>);

impl Queue {
    /// Starts the thread that hands each line to `write`, in order.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(write: impl FnMut(&[u8]) + Send + 'static) -> io::Result<Self> {
        let (sender, entries) = sync_channel(LINES);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&entries, write))?;
        Ok(Self(sender))
    }

    /// Takes a line, or counts it as dropped.
    pub(super) fn push(&self, line: &[u8]) {
        if let Err(TrySendError::Full(_)) = self.0.try_send(Entry::Line(line.to_vec())) {
            DROPPED.fetch_add(1, Relaxed);
        }
    }

    /// Waits until what was taken is written, but not longer than this.
    pub(super) fn finish(&self, longest: Duration) {
        let (done, written) = sync_channel(1);
        if self.0.try_send(Entry::End(done)).is_ok() {
            // An error is the time being over: what is left then is lost, as nobody reads it.
            let _ = written.recv_timeout(longest);
        }
    }
}

fn write_all(entries: &Receiver<Entry>, mut write: impl FnMut(&[u8])) {
    let mut reported = 0;
    for entry in entries {
        match entry {
            Entry::Line(line) => write(&line),
            Entry::End(done) => {
                // Whoever waited may have gone.
                let _ = done.try_send(());
            }
        }
        let dropped = dropped_lines();
        if dropped > reported {
            tracing::warn!(
                lines = dropped - reported,
                "log lines were dropped while standard error was blocked"
            );
            reported = dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn lines_are_written_in_order_and_whoever_logs_never_waits() {
        let (written, lines) = channel();
        let (unblock, blocked) = channel::<()>();
        let queue = Queue::start(move |line| {
            written.send(line.to_vec()).unwrap();
            // As long as nobody reads; once the sender is gone nothing blocks any more.
            let _ = blocked.recv();
        });
        let queue = queue.unwrap();
        let before = dropped_lines();
        queue.push(b"0");
        assert_eq!(lines.recv().unwrap(), b"0");
        for number in 1..=LINES + 3 {
            queue.push(number.to_string().as_bytes());
        }
        assert_eq!(dropped_lines() - before, 3);
        // Full and blocked: it is given up.
        queue.finish(Duration::from_millis(1));
        drop(unblock);
        for number in 1..=LINES {
            assert_eq!(lines.recv().unwrap(), number.to_string().as_bytes());
        }
        queue.push(b"last");
        queue.finish(Duration::from_secs(60));
        assert_eq!(lines.try_recv().unwrap(), b"last");
    }
}
