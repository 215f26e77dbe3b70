//! The contract's events as log lines: `info` for what is new at the head, `debug` for history. However many logs of a
//! range do not decode, that is one line.

use web3::types::{H160, H256};

use super::verify::{EventBlock, ProvenRange};
use crate::decode::{self, Event, Logged};
use crate::ledger::Expired;

/// Logs every event of a range that was applied, and what expired in it.
pub(super) fn log(network: &str, range: &ProvenRange, expired: &[Expired], following: bool) {
    let mut undecodable = Vec::new();
    for EventBlock { number, events, .. } in &range.blocks {
        for Logged { tx_hash, event } in events {
            match event {
                Event::Undecodable { name } => undecodable.push((name, number, tx_hash)),
                event => log_event(network, *number, tx_hash, event, following),
            }
        }
    }
    if let Some((event, block, tx_hash)) = undecodable.first() {
        tracing::warn!(
            network,
            event,
            block,
            ?tx_hash,
            logs = undecodable.len(),
            "log of a known event does not decode"
        );
    }
    for expired in expired {
        log_expired(network, expired, following);
    }
}

/// What a line says besides where the event stands.
#[derive(Default)]
struct Line<'a> {
    name: &'a str,
    tx_id: Option<&'a H256>,
    origin: Option<&'a H160>,
    target: Option<&'a H160>,
    reason: Option<&'a str>,
}

fn log_event(network: &str, block: u64, tx_hash: &H256, event: &Event, following: bool) {
    let line = match event {
        Event::Buffered { tx_id, origin, target, .. } => Line {
            name: "TransactionBuffered",
            tx_id: Some(tx_id),
            origin: Some(origin),
            target: Some(target),
            reason: None,
        },
        Event::Ready { tx_id } => Line { name: "TransactionReady", tx_id: Some(tx_id), ..Line::default() },
        Event::Failed { tx_id, reason, .. } => {
            Line { name: "TransactionFailed", tx_id: Some(tx_id), reason: Some(reason), ..Line::default() }
        }
        Event::Other { index, tx_id } => {
            Line { name: decode::OTHER_EVENTS[*index], tx_id: tx_id.as_ref(), ..Line::default() }
        }
        Event::Undecodable { name } => Line { name, ..Line::default() },
    };
    let Line { name, tx_id, origin, target, reason } = line;
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                network,
                event = name,
                tx_id = tx_id.map(tracing::field::debug),
                block,
                ?tx_hash,
                origin = origin.map(tracing::field::debug),
                target = target.map(tracing::field::debug),
                reason,
                "contract event"
            )
        };
    }
    if following {
        event!(info);
    } else {
        event!(debug);
    }
}

/// The only trace of most losses, as if the contract had logged it.
fn log_expired(network: &str, expired: &Expired, following: bool) {
    let Expired { tx_id, tx_hash, deadline, block } = expired;
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                network,
                event = "TransactionExpired",
                ?tx_id,
                block,
                ?tx_hash,
                deadline,
                "deadline passed"
            )
        };
    }
    if following {
        event!(info);
    } else {
        event!(debug);
    }
}
