//! `/tx/<tx_id>`: the life of one transaction as far as it is remembered, as HTML or JSON.
//!
//! Asks no node, and waits for no loop.

use std::sync::Arc;
use std::time::SystemTime;

use hyper::header::{ACCEPT, VARY};
use hyper::{HeaderMap, StatusCode};
use maud::{Markup, html};
use serde::Serialize;
use web3::types::{H256, U256};

use super::accept::prefers_json;
use super::life::{Event, Kind, Life, Status, find};
use super::pages::{Page, Refresh, badge, outside_link};
use super::state::Level;
use super::words::{count, duration, relative, unix_seconds, utc, utc_wide};
use super::{Answer, answer, html, text, with};
use crate::decode::Reason;
use crate::ledger::{MOST_HAPPENED, MOST_WAITING};
use crate::snapshot::{Snapshot, hex};

const EXPECTED: &str = "expected /tx/ and a transaction id: 0x and 64 hexadecimal digits\n";

/// The answer for the part of the path after `/tx/`.
pub(super) fn answer_for(
    id: &str,
    refresh: Refresh,
    headers: &HeaderMap,
    networks: &[Arc<Snapshot>],
) -> Answer {
    let digits = id.strip_prefix("0x").filter(|digits| digits.len() == 64);
    let Some(id) = digits.and_then(|digits| digits.parse::<H256>().ok()) else {
        return text(StatusCode::NOT_FOUND, EXPECTED);
    };
    let networks = find(&id, networks);
    let answer = match prefers_json(headers.get_all(ACCEPT)) {
        true => json(&id, networks),
        false => page(&id, &networks, refresh),
    };
    with(answer, VARY, "Accept")
}

fn page(id: &H256, networks: &[Life], refresh: Refresh) -> Answer {
    let (status, body) = if networks.is_empty() {
        (StatusCode::NOT_FOUND, html! { p { "It is not remembered by any network." } })
    } else {
        let now = unix_seconds(SystemTime::now());
        (StatusCode::OK, html! { @for life in networks { (section(life, now)) } })
    };
    let body = html! {
        h1 { "Transaction" }
        p { code { (hex(id)) } }
        (body)
        p.note { (remembered()) }
    };
    html(status, Page { title: "Transaction", root: "../", refresh: Some(refresh) }.with(&body))
}

fn remembered() -> String {
    format!(
        "Of each network are remembered: every pending transaction (where more than {} wait, those nearest to their \
         deadline), the newest {} failures and settlements since the exporter started, and from before that the \
         newest 16 failures and the newest 16 expiries. A network tells nothing until its history was read.",
        count(MOST_WAITING),
        count(MOST_HAPPENED)
    )
}

fn json(id: &H256, networks: Vec<Life>) -> Answer {
    /// As far as it is remembered.
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Report {
        Known { tx_id: String, networks: Vec<Life> },
        Unknown { tx_id: String, error: String },
    }
    let tx_id = hex(id);
    let (status, report) = if networks.is_empty() {
        let error = format!("not remembered. {}", remembered());
        (StatusCode::NOT_FOUND, Report::Unknown { tx_id, error })
    } else {
        (StatusCode::OK, Report::Known { tx_id, networks })
    };
    match serde_json::to_string(&report) {
        Ok(body) => answer(status, "application/json", body + "\n"),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the transaction\n"),
    }
}

fn section(life: &Life, now: u64) -> Markup {
    let (level, words) = status(life);
    html! {
        section {
            h2 { a href={ "../networks/" (life.network) } { (life.network) } }
            p.state { (badge(level, status_word(life.status))) " " (words) }
            dl {
                @if let Some(scheduled) = life.scheduled { (moment("Scheduled", scheduled, now)) }
                @if let Some(deadline) = life.deadline { (moment("Deadline", deadline, now)) }
                @if let Some(time) = life.resolution_time_seconds {
                    div { dt { "From buffered to ready" } dd { (duration(time)) } }
                }
                @if let Some(delay) = life.resolution_delay_seconds {
                    div { dt { "Delay, the agreed wait left out" } dd { (duration(delay)) } }
                }
            }
            div.table {
                table {
                    thead { tr { th { "Event" } th { "Time" } th { "Block" } th { "Ethereum transaction" } th { "Reason" } } }
                    tbody { @for event in &life.events { (row(event, now)) } }
                }
            }
        }
    }
}

fn moment(name: &str, at: U256, now: u64) -> Markup {
    html! {
        div {
            dt { (name) }
            dd {
                (utc_wide(at))
                @if let Ok(at) = u64::try_from(at) { " (" (relative(at, now)) ")" }
            }
        }
    }
}

fn row(event: &Event, now: u64) -> Markup {
    let time = html! { (utc(event.timestamp)) " " span.quiet.ago { (relative(event.timestamp, now)) } };
    html! {
        tr {
            td data-label="Event" { (event.event.name()) }
            td data-label=(if event.event == Kind::Expired { "Deadline passed" } else { "Time" }) { (time) }
            td.none[event.block.is_none()] data-label="Block" { @if let Some(block) = event.block { (count(block)) } @else { "–" } }
            td.full.none[event.tx_hash.is_none()] data-label="Ethereum transaction" {
                @match (&event.tx_hash, &event.explorer) {
                    (Some(hash), Some(link)) => (outside_link(link, &html! { code { (hash) } })),
                    (Some(hash), None) => code { (hash) },
                    (None, _) => "–",
                }
            }
            td.none[event.reason.is_none()] data-label="Reason" {
                @if let Some(reason) = &event.reason { (reason) } @else { "–" }
                @if let Some(class) = event.class { " " span.quiet { "(" (class.label()) ")" } }
            }
        }
    }
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Ready => "ready",
        Status::Expired => "expired",
        Status::SwapGroupTimeout => "swap group timeout",
        Status::Failed => "failed",
    }
}

fn status(life: &Life) -> (Level, String) {
    let late = life.chain_time.zip(life.deadline).is_some_and(|(now, deadline)| deadline < now.into());
    let attempts = life.events.iter().filter(|event| event.event == Kind::Failed).count() as u64;
    let ready = life.events.iter().any(|event| event.event == Kind::Ready);
    match life.status {
        Status::Pending if late => (Level::Attention, "It waits, and its deadline has passed.".to_owned()),
        Status::Pending if attempts > 0 => {
            (Level::Attention, "It waits; resolving it has failed, and may be tried again.".to_owned())
        }
        Status::Pending => (Level::Syncing, "It waits to become ready.".to_owned()),
        Status::Ready => (Level::Well, "It became ready.".to_owned()),
        Status::Expired if ready => {
            (Level::Attention, "Its deadline passed, and it became ready afterwards.".to_owned())
        }
        Status::Expired => (Level::Ill, "Its deadline passed before it was ready.".to_owned()),
        Status::SwapGroupTimeout => (Level::Ill, "Its swap group timed out.".to_owned()),
        Status::Failed => {
            let retry = life.events.iter().any(|event| event.class == Some(Reason::Dependency));
            let more = if retry { " A failed dependency may be tried again." } else { "" };
            (Level::Ill, format!("A failure is remembered, and not what became of it since.{more}"))
        }
    }
}
