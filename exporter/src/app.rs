//! Starts every task, reads the configuration again on SIGHUP, and stops all on SIGTERM or SIGINT.
//!
//! Everything that can be refused is refused before the first task starts. Afterwards only a signal
//! ends the process: a network that fails, or even panics, does not, and neither does a configuration that
//! turned bad.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::cli::Options;
use crate::config::{Config, Source, Variables};
use crate::networks::{Changes, Networks};
use crate::{log, state, web};

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

/// Runs until a signal. `env` is what the configuration was read with, and is read with again.
///
/// # Errors
/// One line: what kept it from starting.
pub fn serve(options: &Options, env: Variables, config: Config, access: web::Access) -> Result<(), String> {
    let logging = log::init(log_level(options, &config), options.log_format);
    let logging = logging.map_err(|error| format!("cannot log: {error}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let result = runtime.block_on(run(options, env, config, access, &logging));
    runtime.shutdown_timeout(BLOCKING_TIMEOUT);
    result
}

async fn run(
    options: &Options,
    env: Variables,
    config: Config,
    access: web::Access,
    logging: &log::Logging,
) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let _lock: Option<File> = config.state_dir.as_deref().map(state::lock).transpose()?;
    let address = &options.listen_address;
    let listener = TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))?;
    let bound = listener.local_addr().map_err(|error| format!("cannot listen on {address}: {error}"))?;

    if !config.unused_variables.is_empty() {
        tracing::info!(variables = config.unused_variables.join(", "), file = %config.source,
            "these TESSERACT_* variables are set but not used, as a configuration file is read");
    }
    let number = config.networks.len();
    let mut networks = Networks::new(config.state_dir, logging.bars.clone());
    networks.set(config.networks);
    let reload = web::Reload { successful: true, last_success: SystemTime::now() };
    let sources = networks.sources();
    let (follow, followed) =
        watch::channel(web::Followed { sources, grafana_url: config.grafana_url, reload });
    let access = Arc::new(access);
    let (stop, stopped) = watch::channel(false);
    let site = web::Site {
        followed,
        telemetry_path: options.telemetry_path.clone(),
        build: BUILD,
        access: Arc::clone(&access),
    };
    let mut server = tokio::spawn(web::serve(listener, site, stopped));
    tracing::info!(address = %bound, networks = number, configuration = %config.source,
        version = BUILD.version, revision = BUILD.revision, "listening");

    let mut reading: Option<Reading> = None;
    loop {
        tokio::select! {
            signal = stop_signal(&mut signals.terminate, &mut signals.interrupt) => {
                tracing::info!(signal, "stopping");
                break;
            }
            _ = &mut server => return Err("the web server ended by itself".to_owned()),
            // One that comes while the files are being read waits: what is read may be older than it.
            _ = signals.hangup.recv(), if reading.is_none() => {
                let (source, env, access) = (config.source.clone(), env.clone(), Arc::clone(&access));
                let state_dir = networks.state_dir().map(Path::to_owned);
                // A disk may be slow.
                reading = Some(spawn_blocking(move || read_again(&source, &env, state_dir.as_deref(), &access)));
            }
            read = ended(&mut reading) => {
                reading = None;
                let read = read.unwrap_or_else(|error| Err(format!("reading it failed: {error}")));
                if let Ok(config) = &read {
                    logging.set_level(log_level(options, config));
                }
                apply(&mut networks, &follow, &config.source, read);
            }
        }
    }
    // No receiver is left where the server has ended already.
    let _ = stop.send(true);
    let all = async {
        networks.stop().await;
        // Its panic was logged.
        let _ = server.await;
    };
    match timeout(STOP_TIMEOUT, all).await {
        Ok(()) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped without waiting for every task"),
    }
    Ok(())
}

/// What the command line says holds, whatever the configuration says.
fn log_level(options: &Options, config: &Config) -> log::Level {
    options.log_level.or(config.log_level).unwrap_or_default()
}

fn cannot_listen(address: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "stop what uses it, or choose another",
        _ => "choose another",
    };
    format!("cannot listen on {address}: {error}; {hint} --web.listen-address")
}

/// Both, or what is wrong with either, a line each.
pub(crate) fn both<A, B>(
    first: Result<A, impl Display>,
    second: Result<B, impl Display>,
) -> Result<(A, B), String> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Err(first), Err(second)) => Err(format!("{first}\n{second}")),
        (Err(mistakes), _) => Err(mistakes.to_string()),
        (_, Err(mistakes)) => Err(mistakes.to_string()),
    }
}

/// A configuration that is being read, on a thread that may wait for a disk.
type Reading = JoinHandle<Result<Config, String>>;

/// The end of a reading; never, where there is none.
async fn ended(reading: &mut Option<Reading>) -> Result<Result<Config, String>, JoinError> {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

/// Reads the configuration where it was read before, and the web configuration.
///
/// # Errors
/// Every mistake on a line of its own; nothing has changed then.
fn read_again(
    source: &Source,
    env: &Variables,
    state_dir: Option<&Path>,
    access: &web::Access,
) -> Result<Config, String> {
    let config = Config::read_again(source, env).map_err(|mistakes| mistakes.to_string());
    let config = config.and_then(|config| {
        if config.state_dir.as_deref() == state_dir {
            return Ok(config);
        }
        // The lock on the directory, and what other exporters may use, hang on it.
        Err(format!("{source}: state_dir is another one; restart to change that"))
    });
    // Nothing is taken over where either has a mistake.
    let web = if config.is_ok() { access.reload() } else { access.check() };
    both(config, web).map(|(config, ())| config)
}

/// Takes a configuration over, or logs why not.
fn apply(
    networks: &mut Networks,
    follow: &watch::Sender<web::Followed>,
    source: &Source,
    read: Result<Config, String>,
) {
    match read {
        Ok(config) => {
            let Changes { started, stopped, changed, unchanged } = networks.set(config.networks);
            let reload = web::Reload { successful: true, last_success: SystemTime::now() };
            let sources = networks.sources();
            follow.send_replace(web::Followed { sources, grafana_url: config.grafana_url, reload });
            tracing::info!(configuration = %source, started = started.join(", "), stopped = stopped.join(", "),
                changed = changed.join(", "), unchanged, "SIGHUP: the configuration was reread");
        }
        Err(mistakes) => {
            follow.send_modify(|followed| followed.reload.successful = false);
            for mistake in mistakes.lines() {
                tracing::error!(mistake, "SIGHUP: new configuration rejected, keeping the current one");
            }
        }
    }
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
}

/// The name of the next signal that stops the process.
async fn stop_signal(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
