//! Who may read what is served, and over what: the file of `--web.config.file`, in the format of every
//! Prometheus component.
//!
//! Never ignores a key: what this server cannot do is refused by name. A file that turns bad while the
//! exporter runs changes nothing; neither does one that would open what was closed: a restart does that.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

use self::basic::Basic;
use self::document::Settings;
use self::seen::Seen;

pub(super) mod basic;
mod certificates;
mod document;
mod reader;
mod seen;
mod tls;

/// How often the files are looked at for a change.
const LOOK: Duration = Duration::from_secs(5);

/// What holds for connections and requests now.
#[derive(Debug)]
pub struct Access {
    file: Option<PathBuf>,
    rules: watch::Sender<Arc<Rules>>,
    /// Held while the files are read, so that of two readings the later one holds.
    last: Mutex<Reading>,
    /// What was last read was taken over.
    is_current: AtomicBool,
}

/// What is remembered of the last reading.
#[derive(Debug)]
struct Reading {
    seen: Seen,
    /// Why it was not taken over.
    refused: Option<String>,
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
    verifies_clients: bool,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Access {
    /// Plain HTTP for everybody.
    pub fn open() -> Self {
        let rules = Rules {
            tls: None,
            headers: Vec::new(),
            basic: None,
            excluded: Vec::new(),
            verifies_clients: false,
        };
        Self::new(None, rules, Seen::default())
    }

    /// As a file says. A relative path in it is relative to its directory.
    ///
    /// # Errors
    /// Every mistake on a line of its own: file, line, key, what is wrong, what is expected. No secret.
    pub fn read(file: &Path) -> Result<Self, String> {
        let (settings, seen) = document::read(file);
        Ok(Self::new(Some(file.to_owned()), Rules::new(settings?, None), seen))
    }

    fn new(file: Option<PathBuf>, rules: Rules, seen: Seen) -> Self {
        let last = Mutex::new(Reading { seen, refused: None });
        Self { file, rules: watch::Sender::new(Arc::new(rules)), last, is_current: AtomicBool::new(true) }
    }

    /// Reads the file again, and the certificates. Nothing changes where there is none.
    ///
    /// # Errors
    /// As of [`Access::read`], or why what the file says cannot be taken over; everything stays as it was.
    pub fn reload(&self) -> Result<(), String> {
        self.read_again(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again, and the certificates, and takes nothing over.
    ///
    /// # Errors
    /// As of [`Access::reload`].
    pub fn check(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        self.rules().may_become(&document::read(file).0?, file)
    }

    /// What was read last is what holds, not something that was refused.
    pub(super) fn is_current(&self) -> bool {
        self.is_current.load(Ordering::Relaxed)
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.borrow())
    }

    /// Reloads whenever a file has changed, until `shutdown`. Warns, at first and whenever something was taken over, that
    /// everybody can read what is served, where they can and the port is `exposed` to more than this machine.
    pub(super) async fn watch(self: Arc<Self>, exposed: bool, mut shutdown: watch::Receiver<bool>) {
        let mut rules = self.rules.subscribe();
        rules.mark_changed();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // Its sender is `self`, so there is always one.
                _ = rules.changed() => {
                    if exposed && rules.borrow().is_open() {
                        tracing::warn!("anybody who reaches the port can read what is served; in --web.config.file, \
                            users or a client_auth_type of RequireAndVerifyClientCert keep others out");
                    }
                    continue;
                }
                _ = shutdown.wait_for(|stop| *stop) => return,
                _ = looks.tick(), if self.file.is_some() => (),
            }
            let access = Arc::clone(&self);
            // A disk may be slow.
            tell(tokio::task::spawn_blocking(move || access.look()).await);
        }
    }

    /// Reads the files again where one has changed, or where what they held was refused. `None` where nothing new is
    /// to be said.
    fn look(&self) -> Option<Result<(), String>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = last.seen.has_changed();
        let refused = last.refused.clone();
        if !changed && refused.is_none() {
            return None;
        }
        let read = self.read_again(&mut last);
        let is_known = !changed && read.as_ref().err() == refused.as_ref();
        (!is_known).then_some(read)
    }

    fn read_again(&self, last: &mut Reading) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let (settings, seen) = document::read(file);
        let before = self.rules();
        let taken = settings.and_then(|settings| {
            before.may_become(&settings, file)?;
            self.rules.send_replace(Arc::new(Rules::new(settings, before.basic.as_ref())));
            Ok(())
        });
        *last = Reading { seen, refused: taken.as_ref().err().cloned() };
        self.is_current.store(taken.is_ok(), Ordering::Relaxed);
        taken
    }
}

/// Logs what a look came to.
fn tell(looked: Result<Option<Result<(), String>>, JoinError>) {
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

impl Rules {
    fn new(settings: Settings, before: Option<&Basic>) -> Self {
        let verifies_clients = settings.verifies_clients();
        let Settings { tls, headers, users, excluded } = settings;
        Self {
            tls: tls.map(|it| it.acceptor),
            headers,
            basic: (!users.is_empty()).then(|| Basic::new(users, before)),
            excluded,
            verifies_clients,
        }
    }

    /// Whoever reaches the port can read everything. A certificate that nobody verified keeps nobody out: anybody
    /// can make one, with any name in it.
    fn is_open(&self) -> bool {
        self.basic.is_none() && !self.verifies_clients
    }

    /// Who may come in is the file's to say, that somebody is kept out is not: each lock stays.
    fn may_become(&self, settings: &Settings, file: &Path) -> Result<(), String> {
        let is_new = |path: &String| !self.excluded.contains(path);
        let what = if self.tls.is_some() != settings.tls.is_some() {
            "tls_server_config came or went"
        } else if self.basic.is_some() && settings.users.is_empty() {
            "basic_auth_users are gone, which would open what is closed"
        } else if self.verifies_clients && !settings.verifies_clients() {
            "client_auth_type is no longer RequireAndVerifyClientCert, which would open what is closed"
        } else if self.basic.is_some() && settings.excluded.iter().any(is_new) {
            "auth_excluded_paths has a new path, which would open what is closed"
        } else {
            return Ok(());
        };
        Err(format!("{}: {what}; restart to change that", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use tempfile::TempDir;

    use super::*;

    const ALICE: &str =
        "basic_auth_users: {alice: $2y$04$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze}\n";

    fn written(text: &str) -> (TempDir, PathBuf, Access) {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("web.yml");
        fs::write(&file, text).unwrap();
        let access = Access::read(&file).unwrap();
        (directory, file, access)
    }

    /// By another file, as most editors do: within the same tick of the file system's clock only that tells them apart.
    fn replace(file: &Path, text: &str) {
        let new = file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, file).unwrap();
    }

    #[test]
    fn a_change_of_the_same_length_and_time_is_seen() {
        let (_directory, file, access) = written(ALICE);
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        assert_eq!(access.look(), None);
        replace(&file, &ALICE.replace("alice", "carol"));
        File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert_eq!(access.look(), Some(Ok(())));
        assert_eq!(access.look(), None);
    }

    #[test]
    fn a_refusal_is_said_once_tried_again_and_over_with_what_is_right() {
        let (_directory, file, access) = written(ALICE);
        fs::write(&file, "nonsense: 1\n").unwrap();
        let refusal = access.look();
        assert!(matches!(&refusal, Some(Err(mistake)) if mistake.contains("nonsense")), "{refusal:?}");
        assert!(!access.is_current());
        assert_eq!(access.look(), None, "the same once more");
        assert!(!access.is_current());
        replace(&file, "nonsense: 1\n");
        assert_eq!(access.look(), refusal, "somebody has written it again");
        // As where no stamp tells that it has become right.
        fs::write(&file, ALICE).unwrap();
        access.last.lock().unwrap().seen = document::read(&file).1;
        assert_eq!(access.look(), Some(Ok(())));
        assert!(access.is_current());
        assert_eq!(access.look(), None);
    }
}
