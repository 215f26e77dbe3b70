//! What is remembered of one transaction: gathered from the last snapshots. Pure; asks no node.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use web3::types::{H256, U256};

use super::health::number;
use crate::decode::Reason;
use crate::ledger::{Took, Waiting, What};
use crate::snapshot::{Snapshot, hex};

/// A transaction on one network.
#[derive(Debug, Default, Serialize)]
pub(super) struct Life {
    pub(super) network: String,
    pub(super) status: Status,
    /// The agreed time, seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "wide")]
    pub(super) scheduled: Option<U256>,
    /// The last moment at which it may become ready.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "wide")]
    pub(super) deadline: Option<U256>,
    /// Seconds from buffered to ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resolution_time_seconds: Option<u64>,
    /// Seconds from due to ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resolution_delay_seconds: Option<u64>,
    /// In the order of their times.
    pub(super) events: Vec<Event>,
    /// The chain's time as far as it was processed, to measure a deadline against.
    #[serde(skip)]
    pub(super) chain_time: Option<u64>,
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Pending,
    Ready,
    Expired,
    SwapGroupTimeout,
    /// A failure is remembered, and not what became of it.
    #[default]
    Failed,
}

/// One thing that happened to it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Event {
    #[serde(serialize_with = "kind_name")]
    pub(super) event: Kind,
    /// Block time of a log, or the deadline that passed; seconds since the Unix epoch.
    pub(super) timestamp: u64,
    /// Number of the block; of an expiry, the one that showed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) block: Option<u64>,
    /// The Ethereum transaction that logged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tx_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "class_label")]
    pub(super) class: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) explorer: Option<String>,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Buffered,
    Ready,
    Failed,
    Expired,
}

impl Kind {
    /// As in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Buffered => "TransactionBuffered",
            Self::Ready => "TransactionReady",
            Self::Failed => "TransactionFailed",
            Self::Expired => "TransactionExpired",
        }
    }
}

/// Its life on each network that remembers it.
pub(super) fn find(id: &H256, networks: &[Arc<Snapshot>]) -> Vec<Life> {
    networks.iter().filter_map(|of| life(id, of)).collect()
}

fn life(id: &H256, of: &Snapshot) -> Option<Life> {
    let gauges = of.confirmed.as_ref()?.gauges.as_ref()?;
    let mut life = Life {
        network: of.network.clone(),
        chain_time: of.processed.map(|block| block.timestamp),
        ..Life::default()
    };
    let mut gathering = Gathering { life: &mut life, explorer: of.explorer.as_deref() };
    // Newest first: what was known last of its deadline, which may move with the window, holds.
    let waiting = gauges.lives.waiting.iter().find(|waiting| waiting.tx_id == *id);
    if let Some(waiting) = waiting {
        gathering.buffered(waiting);
    }
    for happened in gauges.lives.recent.iter().filter(|happened| happened.tx_id == *id) {
        if let Some(before) = &happened.before {
            gathering.buffered(before);
        }
        let (kind, class, reason) = match &happened.what {
            What::Ready(took) => {
                gathering.took(*took);
                (Kind::Ready, None, None)
            }
            What::Failed(class, reason) => (Kind::Failed, Some(*class), Some(&**reason)),
            What::Expired => (Kind::Expired, None, None),
        };
        let block = Some(happened.block);
        gathering.add(kind, happened.time, block, happened.tx_hash.as_ref(), class, reason);
    }
    // Known from a saved state, what happened before the start.
    for failure in gauges.newest.failures.iter().filter(|failure| failure.tx_id == *id) {
        let (hash, class) = (Some(&failure.tx_hash), Some(failure.class));
        gathering.add(Kind::Failed, failure.timestamp, None, hash, class, Some(&failure.reason));
    }
    for expiry in gauges.newest.expiries.iter().filter(|expiry| expiry.tx_id == *id) {
        gathering.add(Kind::Expired, expiry.deadline, None, None, None, None);
    }
    if life.events.is_empty() {
        return None;
    }
    life.events.sort_by_key(|event| event.timestamp);
    life.status = status(waiting.is_some(), &life.events);
    Some(life)
}

/// What came first decides, as it does for the counters.
fn status(waits: bool, events: &[Event]) -> Status {
    if waits {
        return Status::Pending;
    }
    let settled = events.iter().find_map(|event| match (event.event, event.class) {
        (Kind::Ready, _) => Some(Status::Ready),
        (Kind::Expired, _) | (_, Some(Reason::Expired)) => Some(Status::Expired),
        (_, Some(Reason::SwapGroupTimeout)) => Some(Status::SwapGroupTimeout),
        _ => None,
    });
    settled.unwrap_or_default()
}

struct Gathering<'a> {
    life: &'a mut Life,
    explorer: Option<&'a str>,
}

impl Gathering<'_> {
    fn buffered(&mut self, of: &Waiting) {
        if self.life.scheduled.is_none() {
            (self.life.scheduled, self.life.deadline) = (Some(of.scheduled), of.deadline);
        }
        self.add(Kind::Buffered, of.buffered, Some(of.block), Some(&of.tx_hash), None, None);
    }

    fn took(&mut self, took: Option<Took>) {
        if let Some(Took { time, delay }) = took {
            self.life.resolution_time_seconds = Some(time);
            self.life.resolution_delay_seconds = Some(delay);
        }
    }

    /// Once, also where it is remembered in two places.
    fn add(
        &mut self,
        event: Kind,
        timestamp: u64,
        block: Option<u64>,
        tx_hash: Option<&H256>,
        class: Option<Reason>,
        reason: Option<&str>,
    ) {
        let tx_hash = tx_hash.map(hex);
        let known = |it: &Event| {
            it.event == event
                && it.timestamp == timestamp
                && it.tx_hash == tx_hash
                && it.reason.as_deref() == reason
        };
        if self.life.events.iter().any(known) {
            return;
        }
        let explorer = self.explorer.zip(tx_hash.as_ref()).map(|(of, hash)| format!("{of}/tx/{hash}"));
        self.life.events.push(Event {
            event,
            timestamp,
            block,
            tx_hash,
            class,
            reason: reason.map(str::to_owned),
            explorer,
        });
    }
}

fn kind_name<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    kind.name().serialize(serializer)
}

fn class_label<S: Serializer>(class: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    class.map(Reason::label).serialize(serializer)
}

fn wide<S: Serializer>(value: &Option<U256>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(number).serialize(serializer)
}
