//! How a network is, in plain words: one judgement for every page. Pure; the time is passed in.

use std::time::SystemTime;

use super::words::{counted, duration};
use crate::progress::Progress;
use crate::snapshot::Snapshot;

/// How a network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) level: Level,
    /// One sentence: what is so, and why.
    pub(super) text: String,
    /// The runbook that says what to do.
    pub(super) runbook: Option<&'static str>,
}

/// The worst that can be said of it, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Everything is known, up to the newest confirmed block.
    Well,
    /// It is catching up, which ends by itself.
    Syncing,
    /// It is followed, and somebody should look at it.
    Attention,
    /// What it does now is not known.
    Ill,
}

impl Level {
    pub(super) const ALL: [Self; 4] = [Self::Well, Self::Syncing, Self::Attention, Self::Ill];

    /// One word, also the name of its style.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Syncing => "syncing",
            Self::Attention => "attention",
            Self::Ill => "ill",
        }
    }
}

/// Judges a network by its last snapshot.
pub(super) fn judge(of: &Snapshot, progress: Option<Progress>, now: SystemTime) -> State {
    let because = of.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
    let state = |level, text: String, runbook| State { level, text, runbook };
    if of.views.exists == Some(false) {
        return state(
            Level::Ill,
            "There is no contract at the configured address".to_owned(),
            Some("TesseractContractMissing"),
        );
    }
    if !of.connected {
        return state(Level::Ill, format!("No endpoint answers{because}"), Some("TesseractNodeDisconnected"));
    }
    let left = of.sync_remaining.unwrap_or(0);
    if !of.synced {
        if of.problem.is_some() {
            let text = format!("The first sync is held up{because}");
            return state(Level::Attention, text, Some("TesseractNotSynced"));
        }
        let how_far = of.sync_remaining.map(|left| format!(": {}", remaining(left, progress)));
        return state(Level::Syncing, format!("First sync{}", how_far.unwrap_or_default()), None);
    }
    // A clock that was set back makes the last cycle lie ahead: recent enough.
    let age = of.last_success.map(|last| now.duration_since(last).unwrap_or_default());
    let stalled = match age {
        None => of.problem.is_some().then(|| format!("No full cycle yet{because}")),
        Some(age) => {
            (age > of.stale_after).then(|| format!("No full cycle for {}{because}", duration(age.as_secs())))
        }
    };
    if let Some(text) = stalled {
        return state(Level::Ill, text, Some("TesseractExporterStalled"));
    }
    if of.problem.is_some() {
        return state(Level::Attention, format!("The last cycle was not completed{because}"), None);
    }
    let gauges = of.confirmed.as_ref().and_then(|confirmed| confirmed.gauges.as_ref());
    let missing = gauges.and_then(|gauges| gauges.missing_events).is_some_and(|missing| missing != 0);
    let reasons = [
        (of.views.paused == Some(true), "the contract is paused", "TesseractContractPaused"),
        (
            of.views.circuit_breaker == Some(true),
            "the circuit breaker is active",
            "TesseractCircuitBreakerActive",
        ),
        (of.owner_expected == Some(false), "the owner is not the expected one", "TesseractOwnerUnexpected"),
        (missing, "events are missing", "TesseractMissingEvents"),
    ];
    let reasons = reasons.into_iter().filter(|(so, ..)| *so);
    let (texts, runbooks): (Vec<_>, Vec<_>) = reasons.map(|(_, text, runbook)| (text, runbook)).unzip();
    if !texts.is_empty() {
        let text = format!("Followed, but {}", texts.join(", "));
        return state(Level::Attention, text, runbooks.first().copied());
    }
    if of.confirmed.is_some() && gauges.is_none() {
        return state(Level::Syncing, format!("Computing again: {}", remaining(left, progress)), None);
    }
    // Of a few blocks there is nothing to be said: they are read within the next cycle.
    if progress.is_some() && left > 0 {
        return state(Level::Syncing, format!("Catching up: {}", remaining(left, progress)), None);
    }
    state(Level::Well, "Followed up to the newest confirmed block".to_owned(), None)
}

fn remaining(left: u64, progress: Option<Progress>) -> String {
    let time = progress.and_then(|progress| progress.seconds_left);
    let time = time.map(|seconds| format!(", about {}", duration(seconds))).unwrap_or_default();
    format!("{} left{time}", counted(left, "block"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, Variables};
    use crate::snapshot::{Confirmed, Gauges};

    fn well(now: SystemTime) -> Snapshot {
        let env =
            [("TESSERACT_RPC_URL", "http://h"), ("TESSERACT_CONTRACT", &format!("0x{}", "1".repeat(40)))];
        let env: Variables = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut of = Snapshot::unknown(&Config::find(None, &env).unwrap().networks[0]);
        (of.connected, of.synced, of.problem) = (true, true, None);
        (of.views.exists, of.sync_remaining, of.last_success) = (Some(true), Some(0), Some(now));
        of.confirmed = Some(Confirmed { counts: Default::default(), gauges: Some(Gauges::default()) });
        of
    }

    #[test]
    fn each_state_is_said_with_its_reason() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let fast = Some(Progress { done: 10, per_second: 10.0, seconds_left: Some(125) });
        type Change = fn(&mut Snapshot);
        let refused = |of: &mut Snapshot| of.problem = Some("refused".into());
        let table: [(Change, Option<Progress>, Level, &str); 14] = [
            (|_| {}, None, Level::Well, "Followed up to the newest confirmed block"),
            (|of| of.sync_remaining = Some(3), None, Level::Well, "Followed up to"),
            (
                |of| of.sync_remaining = Some(3),
                fast,
                Level::Syncing,
                "Catching up: 3 blocks left, about 2 min 5 s",
            ),
            (|of| (of.synced, of.sync_remaining) = (false, None), None, Level::Syncing, "First sync"),
            (
                |of| (of.synced, of.sync_remaining) = (false, Some(1)),
                None,
                Level::Syncing,
                "First sync: 1 block left",
            ),
            (
                |of| (of.synced, of.problem) = (false, Some("x".into())),
                None,
                Level::Attention,
                "The first sync is held up: x",
            ),
            (|of| of.views.exists = Some(false), None, Level::Ill, "There is no contract"),
            (
                |of| (of.connected, of.problem) = (false, Some("x".into())),
                None,
                Level::Ill,
                "No endpoint answers: x",
            ),
            (
                |of| of.views.paused = Some(true),
                None,
                Level::Attention,
                "Followed, but the contract is paused",
            ),
            (|of| of.owner_expected = Some(false), None, Level::Attention, "Followed, but the owner"),
            (refused, None, Level::Attention, "The last cycle was not completed: refused"),
            (
                |of| of.last_success = of.last_success.map(|at| at - Duration::from_secs(125)),
                None,
                Level::Ill,
                "No full cycle for 2 min 5 s",
            ),
            (
                |of| of.confirmed.as_mut().unwrap().gauges = None,
                fast,
                Level::Syncing,
                "Computing again: 0 blocks left, about 2 min 5 s",
            ),
            (
                |of| of.confirmed.as_mut().unwrap().gauges.as_mut().unwrap().missing_events = Some(2),
                None,
                Level::Attention,
                "Followed, but events are missing",
            ),
        ];
        for (change, progress, level, text) in table {
            let mut of = well(now);
            change(&mut of);
            let state = judge(&of, progress, now);
            assert_eq!(state.level, level, "{state:?}");
            assert!(state.text.starts_with(text), "{state:?}, expected {text:?}");
            let known = state.runbook.is_none_or(|name| super::super::pages::runbook(name).is_some());
            assert!(known, "{state:?}");
        }
    }
}
