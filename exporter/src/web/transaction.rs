//! `/tx/<tx_id>`: what the last snapshots hold of one transaction, as HTML or JSON.
//!
//! Asks no node. Knows the newest failures and expiries of each network, which is what messages link to.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use hyper::header::ACCEPT;
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use web3::types::H256;

use super::pages::{escape, page};
use super::{Answer, answer, html, text};
use crate::snapshot::{Snapshot, hex};

const EXPECTED: &str = "expected /tx/ and a transaction id: 0x and 64 hexadecimal digits\n";

/// The answer for the part of the path after `/tx/`.
pub(super) fn answer_for(id: &str, headers: &HeaderMap, networks: &[Arc<Snapshot>]) -> Answer {
    let digits = id.strip_prefix("0x").filter(|digits| digits.len() == 64);
    let Some(id) = digits.and_then(|digits| digits.parse::<H256>().ok()) else {
        return text(StatusCode::NOT_FOUND, EXPECTED);
    };
    let events = find(&id, networks);
    if events.is_empty() {
        let what = "is not remembered: the newest 16 failures and the newest 16 expiries of each network are";
        return text(StatusCode::NOT_FOUND, format!("transaction {} {what}\n", hex(&id)));
    }
    if prefers_json(headers) {
        return match serde_json::to_string(&Life { tx_id: hex(&id), events }) {
            Ok(body) => answer(StatusCode::OK, "application/json", body + "\n"),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the transaction\n"),
        };
    }
    html(shown(&id, &events))
}

/// A transaction as far as it is remembered.
#[derive(Serialize)]
struct Life {
    tx_id: String,
    events: Vec<Event>,
}

/// One thing that happened to it.
#[derive(Debug, PartialEq, Serialize)]
struct Event {
    network: String,
    event: &'static str,
    /// Block time of a failure, or the deadline that passed; seconds since the Unix epoch.
    timestamp: u64,
    /// The Ethereum transaction that logged the failure, or that buffered what expired.
    tx_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explorer: Option<String>,
}

fn find(id: &H256, networks: &[Arc<Snapshot>]) -> Vec<Event> {
    let mut events = Vec::new();
    for of in networks {
        let gauges = of.confirmed.as_ref().and_then(|confirmed| confirmed.gauges.as_ref());
        let Some(newest) = gauges.map(|gauges| &gauges.newest) else { continue };
        let event = |event, timestamp, tx_hash: &H256, reason| Event {
            network: of.network.clone(),
            event,
            timestamp,
            tx_hash: hex(tx_hash),
            reason,
            explorer: of.explorer.as_ref().map(|explorer| format!("{explorer}/tx/{}", hex(tx_hash))),
        };
        let failures = newest.failures.iter().filter(|failure| failure.tx_id == *id);
        events.extend(failures.map(|failure| {
            let reason = Some(failure.reason.to_string());
            event("TransactionFailed", failure.timestamp, &failure.tx_hash, reason)
        }));
        let expiries = newest.expiries.iter().filter(|expiry| expiry.tx_id == *id);
        events.extend(
            expiries.map(|expiry| event("TransactionExpired", expiry.deadline, &expiry.tx_hash, None)),
        );
    }
    events.sort_by_key(|event| event.timestamp);
    events
}

fn shown(id: &H256, events: &[Event]) -> String {
    let mut rows = String::new();
    for event in events {
        let hash = escape(&event.tx_hash);
        let hash = match &event.explorer {
            Some(link) => format!("<a href=\"{}\" rel=\"noreferrer\">{hash}</a>", escape(link)),
            None => hash,
        };
        let time = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(event.timestamp.min(LATEST)));
        let reason = event.reason.as_deref().map(escape).unwrap_or_default();
        let (network, name) = (escape(&event.network), event.event);
        // Writing to a string cannot fail.
        let _ = writeln!(
            rows,
            "<tr><td>{network}</td><td>{name}</td><td>{time}</td><td>{reason}</td>\
             <td><code>{hash}</code></td></tr>"
        );
    }
    let body = format!(
        "<p><a href=\"../\">Home</a></p>\n<h1>Transaction</h1>\n<p><code>{}</code></p>\n<table>\n\
         <tr><th>Network</th><th>Event</th><th>Time (of a failure: its block; of an expiry: the deadline)</th>\
         <th>Reason</th><th>Ethereum transaction</th></tr>\n{rows}</table>\n\
         <p>The newest 16 failures and the newest 16 expiries of each network are remembered.</p>\n",
        hex(id)
    );
    page("Transaction", &body)
}

/// The end of the year 9999, beyond which no date can be written.
const LATEST: u64 = 253_402_300_799;

/// A program asks for JSON first; a browser never does.
fn prefers_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let first = accept.split(',').next().unwrap_or("");
    first.split(';').next().is_some_and(|range| range.trim() == "application/json")
}
