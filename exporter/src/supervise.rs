//! Keeps the task of one network going: a panic is counted, shown and logged, and the task is restarted.
//!
//! A panic is a bug in this program. It must neither end the process nor be seen in another network, nor go
//! unnoticed. Knows nothing of what the task does.

use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::snapshot::Snapshot;

/// How long a network rests after its task panicked.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Of the task that runs on this thread now.
    static WATCHED: Arc<Watched>;
}

/// A task whose panic is of interest.
struct Watched {
    network: String,
    /// Where it panicked: file, line and column.
    location: OnceLock<String>,
}

/// Runs `start` until it ends by itself or `shutdown` becomes true, again and again after a panic.
///
/// `start` is given what was published last, `last` at first and then after each panic: counters go on from
/// there.
pub(crate) async fn keep_running<F>(
    publish: &watch::Sender<Arc<Snapshot>>,
    mut shutdown: watch::Receiver<bool>,
    mut last: Option<Arc<Snapshot>>,
    start: impl Fn(Option<Arc<Snapshot>>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let network = publish.borrow().network.clone();
    loop {
        let watched = Arc::new(Watched { network: network.clone(), location: OnceLock::new() });
        let task = WATCHED.scope(watched.clone(), start(last.take()));
        match tokio::spawn(task).await {
            Err(error) if error.is_panic() => {}
            _ => return,
        }
        let location = watched.location.get().map_or("an unknown location", String::as_str);
        let shown = Arc::new(after_panic(&publish.borrow(), location));
        publish.send_replace(shown.clone());
        if timeout(RESTART_PAUSE, shutdown.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
        tracing::warn!(network, panics = shown.panics, "following again after a panic");
        last = Some(shown);
    }
}

/// Spawns a part of the task that calls this: a panic in it is one of that task.
pub(crate) fn spawn<F>(part: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    match WATCHED.try_with(Arc::clone) {
        Ok(watched) => tokio::spawn(WATCHED.scope(watched, part)),
        Err(_) => tokio::spawn(part),
    }
}

/// Logs a panic, with its network where a task of one panicked. To be called by the panic hook.
pub(crate) fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let reason = text.or(payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
    let network = WATCHED.try_with(|watched| {
        // Already set where unwinding panics again: the first location is the cause.
        let _ = watched.location.set(location.clone());
        watched.network.clone()
    });
    tracing::error!(network = network.ok(), location, reason, "a bug: a task panicked");
}

/// What is shown of a network until its task goes on.
fn after_panic(last: &Snapshot, location: &str) -> Snapshot {
    let mut snapshot = last.without_node(format!(
        "a bug: the network's task panicked at {location}; restarting in {} s",
        RESTART_PAUSE.as_secs()
    ));
    snapshot.panics += 1;
    snapshot
}

#[cfg(test)]
mod tests {
    use std::panic;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::{Config, Variables};
    use crate::ledger::Counts;
    use crate::snapshot::{Confirmed, Head};

    fn snapshot() -> Snapshot {
        let env =
            [("TESSERACT_RPC_URL", "http://h"), ("TESSERACT_CONTRACT", &format!("0x{}", "1".repeat(40)))]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Snapshot::unknown(&Config::find(None, &Variables::from(env)).unwrap().networks[0])
    }

    /// A task that counts one more each time, and panics twice.
    #[tokio::test(start_paused = true)]
    async fn a_panic_is_counted_and_shown_and_counters_go_on() {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            log_panic(panic);
            before(panic);
        }));
        let (publish, mut feed) = watch::channel(Arc::new(snapshot()));
        let (_stop, shutdown) = watch::channel(false);
        let starts = AtomicUsize::new(0);
        let start = |last: Option<Arc<Snapshot>>| {
            let start = starts.fetch_add(1, Ordering::Relaxed);
            let publish = publish.clone();
            async move {
                assert_eq!(last.is_some(), start > 0);
                let mut now = last.map_or_else(snapshot, |last| Snapshot::clone(&last));
                let buffered = now.confirmed.map_or(0, |confirmed| confirmed.counts.buffered) + 1;
                let counts = Arc::new(Counts { buffered, ..Counts::default() });
                now.confirmed = Some(Confirmed { counts, gauges: None });
                (now.connected, now.problem) = (true, None);
                now.head = Some(Head { number: 1, timestamp: 1 });
                publish.send_replace(Arc::new(now));
                if start == 1 {
                    let part = spawn(async move { assert!(start == 2, "a part is broken") });
                    panic::resume_unwind(part.await.unwrap_err().into_panic());
                }
                assert!(start == 2, "broken");
            }
        };
        let seen = async {
            for panics in 1..=2 {
                let shown = feed.wait_for(|now| now.panics == panics).await.unwrap().clone();
                let problem = shown.problem.clone().unwrap();
                assert!(problem.contains("panicked at exporter/src/supervise.rs:"), "{problem}");
                assert_eq!(shown.confirmed.as_ref().unwrap().counts.buffered, panics);
                assert!(!shown.connected && shown.head.is_none());
            }
        };
        tokio::join!(keep_running(&publish, shutdown, None, start), seen);
        let last = publish.borrow();
        assert_eq!((last.panics, last.confirmed.as_ref().unwrap().counts.buffered), (2, 3));
        assert_eq!(last.problem, None);
        drop(panic::take_hook());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_pause_after_a_panic() {
        let (publish, mut feed) = watch::channel(Arc::new(snapshot()));
        let (stop, shutdown) = watch::channel(false);
        let start = |_| async { panic!("broken") };
        let seen = async {
            feed.wait_for(|now| now.panics == 1).await.unwrap();
            stop.send_replace(true);
        };
        tokio::join!(keep_running(&publish, shutdown, None, start), seen);
        assert_eq!(publish.borrow().panics, 1);
    }
}
