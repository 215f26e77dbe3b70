//! Starts every task, and stops them all on SIGTERM or SIGINT.
//!
//! Everything that can be refused is refused before the first task starts. Afterwards only a signal
//! ends the process: a network that fails, or even panics, does not.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::MultiProgress;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cli::Options;
use crate::config::{Config, Network};
use crate::snapshot::Snapshot;
use crate::{follow, log, progress, state, supervise, web};

/// One task a network, and a server that waits for none of them.
const WORKERS: usize = 2;
/// The tasks have this long to end after a signal; together with the next, under 5 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// Work that cannot be interrupted, such as looking up a name, has this long.
const BLOCKING_TIMEOUT: Duration = Duration::from_millis(500);

const BUILD: web::Build = web::Build {
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("TESSERACT_REVISION"),
    rustc: env!("TESSERACT_RUSTC"),
};

/// Runs until a signal.
///
/// # Errors
/// One line: what kept it from starting.
pub fn serve(options: &Options, config: Config, access: web::Access) -> Result<(), String> {
    let logging = log::init(options.log_level, options.log_format);
    let logging = logging.map_err(|error| format!("cannot log: {error}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let result = runtime.block_on(run(options, config, access, logging.bars.clone()));
    runtime.shutdown_timeout(BLOCKING_TIMEOUT);
    result
}

async fn run(
    options: &Options,
    config: Config,
    access: web::Access,
    bars: Option<MultiProgress>,
) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let _lock: Option<File> = config.state_dir.as_deref().map(state::lock).transpose()?;
    let address = &options.listen_address;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!(
            "cannot listen on {address}: {error}; stop what uses it, or choose another --web.listen-address"
        )
    })?;
    let bound = listener.local_addr().map_err(|error| format!("cannot listen on {address}: {error}"))?;

    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut feeds = Vec::new();
    let networks = config.networks.len();
    if !config.unused_variables.is_empty() {
        tracing::info!(variables = config.unused_variables.join(", "), file = %config.source,
            "these TESSERACT_* variables are set but not used, as a configuration file is read");
    }
    for network in config.networks {
        let (publish, feed) = watch::channel(Arc::new(Snapshot::unknown(&network)));
        let file = config.state_dir.as_deref().map(|dir| state::file(dir, &network.name));
        tasks.spawn(progress::run(feed.clone(), bars.clone(), stopped.clone()));
        tasks.spawn(keep_following(network, file, publish, stopped.clone()));
        feeds.push(feed);
    }
    let site = web::Site {
        feeds,
        telemetry_path: options.telemetry_path.clone(),
        build: BUILD,
        access: Arc::new(access),
    };
    let mut server = tokio::spawn(web::serve(listener, site, stopped));
    tracing::info!(address = %bound, networks, configuration = %config.source, version = BUILD.version,
        revision = BUILD.revision, "listening");

    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "stopping"),
        _ = &mut server => return Err("the web server ended by itself".to_owned()),
    }
    // No receiver is left where every task has ended already.
    let _ = stop.send(true);
    let all = async {
        while tasks.join_next().await.is_some() {}
        // Its panic was logged.
        let _ = server.await;
    };
    match timeout(STOP_TIMEOUT, all).await {
        Ok(()) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped without waiting for every task"),
    }
    Ok(())
}

/// Follows a network until `shutdown`, restarting after a panic.
async fn keep_following(
    network: Network,
    file: Option<PathBuf>,
    publish: watch::Sender<Arc<Snapshot>>,
    shutdown: watch::Receiver<bool>,
) {
    let start = |last| follow::run(network.clone(), file.clone(), last, publish.clone(), shutdown.clone());
    supervise::keep_running(&publish, shutdown.clone(), start).await;
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The name of the next one that stops the process. A hangup must not: it is answered in the log.
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => tracing::warn!(
                    "SIGHUP: this version does not reread its configuration; restart it to apply a new one"
                ),
            }
        }
    }
}
