//! Who may read what is served, and over what: the file of `--web.config.file`, in the format of every
//! Prometheus component.
//!
//! Never ignores a key: what this server cannot do is refused by name. A file that turns bad while the
//! exporter runs changes nothing; neither does one that would open what was closed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

use self::basic::Basic;
use self::document::Settings;

pub(super) mod basic;
mod certificates;
mod document;
mod reader;
mod tls;

/// How often the files are looked at for a change.
const LOOK: Duration = Duration::from_secs(5);

/// What holds for connections and requests now.
#[derive(Debug)]
pub struct Access {
    file: Option<PathBuf>,
    rules: watch::Sender<Arc<Rules>>,
    seen: Mutex<Seen>,
}

/// One reading of the file.
pub(super) struct Rules {
    /// Absent for plain HTTP.
    pub(super) tls: Option<TlsAcceptor>,
    /// Sent with every answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Absent where no user is named.
    pub(super) basic: Option<Basic>,
    /// Paths that need no user.
    pub(super) excluded: Vec<String>,
    demands_certificate: bool,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// The files of one reading, each with its state then; `None` where there was none.
type Seen = Vec<(PathBuf, Option<Stamp>)>;

type Stamp = (SystemTime, u64);

impl Access {
    /// Plain HTTP for everybody.
    pub fn open() -> Self {
        let rules = Rules {
            tls: None,
            headers: Vec::new(),
            basic: None,
            excluded: Vec::new(),
            demands_certificate: false,
        };
        Self { file: None, rules: watch::Sender::new(Arc::new(rules)), seen: Mutex::default() }
    }

    /// As a file says. A relative path in it is relative to its directory.
    ///
    /// # Errors
    /// Every mistake on a line of its own: file, line, key, what is wrong, what is expected. No secret.
    pub fn read(file: &Path) -> Result<Self, String> {
        let (settings, seen) = read(file);
        let rules = Rules::new(settings?, None);
        let rules = watch::Sender::new(Arc::new(rules));
        Ok(Self { file: Some(file.to_owned()), rules, seen: Mutex::new(seen) })
    }

    /// Reads the file again, and the certificates. Nothing changes where there is none.
    ///
    /// # Errors
    /// As of [`Access::read`], or why what the file says cannot be taken over; everything stays as it was.
    pub fn reload(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let (settings, seen) = read(file);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        let settings = settings?;
        let before = self.rules();
        before.may_become(&settings, file)?;
        self.rules.send_replace(Arc::new(Rules::new(settings, before.basic.as_ref())));
        Ok(())
    }

    /// Reads the file again, and the certificates, and takes nothing over.
    ///
    /// # Errors
    /// As of [`Access::reload`].
    pub fn check(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        self.rules().may_become(&read(file).0?, file)
    }

    /// Whoever reaches the port can read everything.
    pub(super) fn is_open(&self) -> bool {
        let rules = self.rules();
        rules.basic.is_none() && !rules.demands_certificate
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.borrow())
    }

    /// Reloads whenever a file has changed, until `shutdown`.
    pub(super) async fn watch(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        if self.file.is_none() {
            return;
        }
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => (),
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            let access = Arc::clone(&self);
            // A disk may be slow.
            let looked =
                tokio::task::spawn_blocking(move || access.has_changed().then(|| access.reload())).await;
            match looked {
                Ok(None) => (),
                Ok(Some(Ok(()))) => tracing::info!("the web configuration has changed and was reread"),
                Ok(Some(Err(mistakes))) => {
                    for mistake in mistakes.lines() {
                        tracing::warn!(mistake, "new web configuration rejected, keeping the current one");
                    }
                }
                Err(error) => tracing::error!(%error, "looking for changes of the web configuration failed"),
            }
        }
    }

    fn has_changed(&self) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|(file, before)| stamp(file) != *before)
    }
}

impl Rules {
    fn new(settings: Settings, before: Option<&Basic>) -> Self {
        let Settings { tls, headers, users, excluded, .. } = settings;
        let demands_certificate = tls.as_ref().is_some_and(|it| it.demands_certificate);
        Self {
            tls: tls.map(|it| it.acceptor),
            headers,
            basic: (!users.is_empty()).then(|| Basic::new(users, before)),
            excluded,
            demands_certificate,
        }
    }

    fn may_become(&self, settings: &Settings, file: &Path) -> Result<(), String> {
        let refused = |what: &str| Err(format!("{}: {what}; restart to change that", file.display()));
        if self.tls.is_some() != settings.tls.is_some() {
            return refused("tls_server_config came or went");
        }
        if self.basic.is_some() && settings.users.is_empty() {
            return refused("basic_auth_users are gone");
        }
        Ok(())
    }
}

/// The settings, and every file that was read for them as it was before.
fn read(file: &Path) -> (Result<Settings, String>, Seen) {
    // Looked at before it is read: what changes meanwhile is read again.
    let own = (file.to_owned(), stamp(file));
    let (settings, files) = document::read(file);
    let others = files.into_iter().map(|file| {
        let stamp = stamp(&file);
        (file, stamp)
    });
    (settings, std::iter::once(own).chain(others).collect())
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
