//! `/networks/<name>`: one network, from its node to its newest failures.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};
use web3::types::{H160, H256};

use super::super::View;
use super::super::state::{Level, State, judge};
use super::super::words::{count, counted, duration, relative, short, unix_seconds, utc, utc_wide};
use super::{Page, Refresh, badge, outside_link, state_line};
use crate::config::checksummed;
use crate::decode::Reason;
use crate::ledger::{Counts, Outcome, Waiting};
use crate::progress::Progress;
use crate::rpc::{self, EndpointStats};
use crate::snapshot::{Gauges, Head, Snapshot, hex};

/// How many of the pending ones are listed.
const LISTED: usize = 20;

/// The page of a network; `grafana` is where its dashboards are.
pub(in super::super) fn network(
    view: &View,
    grafana: Option<&str>,
    refresh: Refresh,
    now: SystemTime,
) -> String {
    let of = &*view.snapshot;
    let state = judge(of, view.progress, now);
    let seconds = unix_seconds(now);
    let gauges = of.confirmed.as_ref().and_then(|confirmed| confirmed.gauges.as_ref());
    let content = html! {
        (heading(of, &state, grafana))
        (progress(of, view.progress, seconds))
        @if let Some(confirmed) = &of.confirmed { (totals(&confirmed.counts, gauges)) }
        @if let Some(gauges) = gauges {
            (pending(of, gauges))
            (failures(of, gauges, seconds))
            (expiries(of, gauges, seconds))
        } @else {
            p.note {
                "Transactions are shown once every block up to the newest confirmed one is counted."
            }
        }
        (contract(of))
        (endpoints(&of.endpoints, of.serving, view.up))
    };
    Page { title: &of.network, root: "../", refresh: Some(refresh) }.with(&content)
}

fn heading(of: &Snapshot, state: &State, grafana: Option<&str>) -> Markup {
    html! {
        h1 { (of.network) }
        p.state { (state_line(state, "../")) }
        @if let Some(grafana) = grafana {
            // A name holds nothing that a query would have to escape.
            @let dashboard = format!("{grafana}/d/tesseract-overview?var-network={}", of.network);
            p { (outside_link(&dashboard, &html! { "Dashboard in Grafana" })) }
        }
    }
}

fn progress(of: &Snapshot, progress: Option<Progress>, now: u64) -> Markup {
    let left = of.sync_remaining.filter(|left| *left > 0);
    let behind = of.head.zip(of.processed).map(|(head, at)| head.number.saturating_sub(at.number));
    html! {
        section {
            h2 { "Progress" }
            @if let (Some(progress), Some(left)) = (progress, left) {
                progress aria-label="Blocks read" max=(progress.done.saturating_add(left)) value=(progress.done) {}
                p {
                    (counted(progress.done, "block")) " read, " (count(left)) " left at "
                    (progress.per_second) " blocks/s"
                    @if let Some(seconds) = progress.seconds_left { ": about " (duration(seconds)) " to go" }
                    @else { "; nothing moves" }
                }
            }
            dl {
                (fact("Head of the chain", &block(of.head, now)))
                (fact("Processed up to", &block(of.processed, now)))
                @if let Some(behind) = behind { (fact("Behind the head", &html! { (counted(behind, "block")) })) }
                @if let Some(left) = left { (fact("Confirmed and not read yet", &html! { (counted(left, "block")) })) }
                (fact("Last full cycle", &html! {
                    @match of.last_success {
                        Some(at) => (relative(unix_seconds(at), now)),
                        None => "none yet",
                    }
                }))
                @if let Some(blocks) = of.unproven {
                    (fact("Known from one endpoint alone", &html! { (counted(blocks, "block")) }))
                }
                (fact("Reorganisations", &html! { (count(of.reorgs)) }))
                @if of.panics > 0 { (fact("Panics, each a bug", &html! { (count(of.panics)) })) }
            }
        }
    }
}

fn totals(counts: &Counts, gauges: Option<&Gauges>) -> Markup {
    let failed: u64 = counts.failed.iter().sum();
    let by_reason = Reason::ALL.iter().zip(counts.failed).filter(|(_, number)| *number > 0);
    let by_reason: Vec<_> =
        by_reason.map(|(reason, number)| format!("{} {}", reason_name(*reason), count(number))).collect();
    html! {
        section {
            h2 { "Transactions" }
            dl {
                (fact("Buffered", &html! { (count(counts.buffered)) }))
                @if let Some(gauges) = gauges { (fact("Pending", &html! { (count(gauges.pending)) })) }
                @for (outcome, number) in Outcome::ALL.iter().zip(counts.settled) {
                    (fact(outcome_name(*outcome), &html! { (count(number)) }))
                }
                (fact("Failures logged", &html! {
                    (count(failed)) @if failed > 0 { " " span.quiet { "(" (by_reason.join(", ")) ")" } }
                }))
                @if let Some(missing) = gauges.and_then(|gauges| gauges.missing_events).filter(|it| *it != 0) {
                    (fact("Missing events", &html! { (missing) " " (badge(Level::Attention, "should be none")) }))
                }
            }
        }
    }
}

fn pending(of: &Snapshot, gauges: &Gauges) -> Markup {
    let chain_time = of.processed.map(|block| block.timestamp);
    let listed = gauges.lives.waiting.len().min(LISTED);
    html! {
        section {
            h2 { "Pending, nearest deadline first" }
            @if listed == 0 { p { "None." } } @else {
                div.table {
                    table {
                        thead { tr { th { "Transaction" } th { "Buffered" } th { "Deadline" } th { "Time left" } } }
                        tbody { @for waiting in &gauges.lives.waiting[..listed] { (waits(of, waiting, chain_time)) } }
                    }
                }
                p.note {
                    "The time left is that of the chain's own clock."
                    @if gauges.pending > listed as u64 { " " (count(gauges.pending - listed as u64)) " more are pending." }
                }
            }
        }
    }
}

fn waits(of: &Snapshot, waiting: &Waiting, chain_time: Option<u64>) -> Markup {
    let deadline = waiting.deadline.and_then(|deadline| u64::try_from(deadline).ok());
    html! {
        tr {
            td.hash data-label="Transaction" { (transaction(&waiting.tx_id)) }
            td.hash data-label="Buffered" { (utc(waiting.buffered)) " " (logged_by(of, &waiting.tx_hash)) }
            td data-label="Deadline" {
                @match waiting.deadline { Some(at) => (utc_wide(at)), None => "none" }
            }
            td data-label="Time left" {
                @match (deadline, chain_time) {
                    (Some(at), Some(now)) if at < now => { (badge(Level::Ill, "passed")) " " (relative(at, now)) },
                    (Some(at), Some(now)) => (duration(at - now)),
                    _ => "–",
                }
            }
        }
    }
}

fn failures(of: &Snapshot, gauges: &Gauges, now: u64) -> Markup {
    html! {
        section {
            h2 { "Newest failures" }
            @if gauges.newest.failures.is_empty() { p { "None." } } @else {
                div.table {
                    table {
                        thead { tr { th { "Transaction" } th { "When" } th { "Reason" } th { "Logged by" } } }
                        tbody {
                            @for failure in gauges.newest.failures.iter().rev() {
                                tr {
                                    td.hash data-label="Transaction" { (transaction(&failure.tx_id)) }
                                    td data-label="When" { (when(failure.timestamp, now)) }
                                    td data-label="Reason" {
                                        (failure.reason) " " span.quiet { "(" (reason_name(failure.class)) ")" }
                                    }
                                    td.hash data-label="Logged by" { (logged_by(of, &failure.tx_hash)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn expiries(of: &Snapshot, gauges: &Gauges, now: u64) -> Markup {
    html! {
        section {
            h2 { "Newest expiries" }
            @if gauges.newest.expiries.is_empty() { p { "None." } } @else {
                div.table {
                    table {
                        thead { tr { th { "Transaction" } th { "Deadline passed" } th { "Buffered by" } } }
                        tbody {
                            @for expiry in gauges.newest.expiries.iter().rev() {
                                tr {
                                    td.hash data-label="Transaction" { (transaction(&expiry.tx_id)) }
                                    td data-label="Deadline passed" { (when(expiry.deadline, now)) }
                                    td.hash data-label="Buffered by" { (logged_by(of, &expiry.tx_hash)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn contract(of: &Snapshot) -> Markup {
    let views = &of.views;
    html! {
        section {
            h2 { "Contract" }
            dl {
                (wide_fact("Address", &address(of, &of.contract)))
                (fact("Chain id", &html! { @match of.chain_id { Some(id) => (id), None => "not known" } }))
                @if let Some(variant) = views.variant { (fact("Variant", &html! { (variant) })) }
                (wide_fact("Owner", &html! {
                    @match &views.owner { Some(owner) => (address(of, owner)), None => "not known" }
                    @match of.owner_expected {
                        Some(true) => { " " (badge(Level::Well, "as expected")) },
                        Some(false) => { " " (badge(Level::Ill, "not the expected one")) },
                        None => {},
                    }
                }))
                @if let Some(paused) = views.paused { (fact("Paused", &switch(paused))) }
                @if let Some(active) = views.circuit_breaker { (fact("Circuit breaker", &switch(active))) }
                @if let Some(window) = views.coordination_window {
                    (fact("Coordination window", &html! {
                        @match u64::try_from(window) { Ok(seconds) => (duration(seconds)), Err(_) => { (window) " s" } }
                    }))
                }
                @if let Some(number) = views.transaction_count {
                    (fact("Contract's own count", &html! { (count(number)) }))
                }
            }
        }
    }
}

fn endpoints(endpoints: &[EndpointStats], serving: Option<usize>, up: Duration) -> Markup {
    let calls = endpoints.iter().flat_map(|stats| &stats.requests).flat_map(|(_, outcomes)| outcomes).sum();
    html! {
        section {
            h2 { "Endpoints" }
            div.table {
                table {
                    thead {
                        tr {
                            th.key { "Number" } th { "Health" } th.number { "Requests" } th.number { "Failed" }
                            th.number { "Mean time" }
                        }
                    }
                    tbody {
                        @for (index, stats) in endpoints.iter().enumerate() {
                            (endpoint(index + 1, stats, serving == Some(index)))
                        }
                    }
                }
            }
            p.note {
                "By their places in " code { "rpc_urls" } ". Requests are counted since the exporter started "
                (duration(up.as_secs())) " ago"
                @if let Some(calls) = calls_a_day(calls, up) { ": " (count(calls)) " a day" } "."
            }
        }
    }
}

fn endpoint(number: usize, stats: &EndpointStats, serves: bool) -> Markup {
    let by_outcome = |outcome: rpc::Outcome| -> u64 {
        stats.requests.iter().map(|(_, outcomes)| outcomes[outcome as usize]).sum()
    };
    let all: u64 = stats.requests.iter().flat_map(|(_, outcomes)| outcomes).sum();
    let exchanges: u64 = stats.durations.iter().sum();
    html! {
        tr {
            th.key data-label="Number" scope="row" { (number) }
            td data-label="Health" {
                @match (stats.healthy, &stats.problem) {
                    (Some(true), None) if serves => { (badge(Level::Well, "healthy")) " serves the network" },
                    (Some(true), None) => (badge(Level::Well, "healthy")),
                    (Some(true), Some(why)) => { (badge(Level::Attention, "passed over")) " " (why) },
                    (Some(false), Some(why)) => { (badge(Level::Ill, "not used")) " " (why) },
                    (Some(false), None) => (badge(Level::Ill, "not used")),
                    (None, _) => "not asked yet",
                }
            }
            td.number data-label="Requests" { (count(all)) }
            td.number data-label="Failed" { (count(all - by_outcome(rpc::Outcome::Ok))) }
            td.number data-label="Mean time" {
                @if exchanges > 0 {
                    (format!("{:.0} ms", stats.duration_sum / exchanges as f64 * 1000.0))
                } @else { "–" }
            }
        }
    }
}

/// What requests of so long a time are in a day; `None` of less than an hour, most of which the first sync may be.
fn calls_a_day(calls: u64, up: Duration) -> Option<u64> {
    let hours = up.as_secs_f64() / 3600.0;
    (hours >= 1.0).then(|| (calls as f64 * 24.0 / hours) as u64)
}

fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn wide_fact(name: &str, value: &Markup) -> Markup {
    html! { div.wide { dt { (name) } dd { (value) } } }
}

fn block(at: Option<Head>, now: u64) -> Markup {
    html! {
        @match at {
            Some(Head { number, timestamp }) => {
                "block " (count(number)) " " span.quiet.ago title=(utc(timestamp)) { (relative(timestamp, now)) }
            },
            None => "not known",
        }
    }
}

fn when(at: u64, now: u64) -> Markup {
    html! { (utc(at)) " " span.quiet.ago { (relative(at, now)) } }
}

fn switch(on: bool) -> Markup {
    html! { @if on { (badge(Level::Ill, "yes")) } @else { "no" } }
}

fn transaction(id: &H256) -> Markup {
    html! { a href={ "../tx/" (hex(id)) } title=(hex(id)) { code { (short(id)) } } }
}

fn logged_by(of: &Snapshot, hash: &H256) -> Markup {
    let shown = html! { code title=(hex(hash)) { (short(hash)) } };
    match &of.explorer {
        Some(explorer) => outside_link(&format!("{explorer}/tx/{}", hex(hash)), &shown),
        None => shown,
    }
}

fn address(of: &Snapshot, address: &H160) -> Markup {
    let text = checksummed(address);
    let shown = html! { code { (text) } };
    match &of.explorer {
        Some(explorer) => outside_link(&format!("{explorer}/address/{text}"), &shown),
        None => shown,
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ready => "Settled ready",
        Outcome::Expired => "Expired",
        Outcome::SwapGroupTimeout => "Swap group timed out",
    }
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Expired => "expired",
        Reason::Dependency => "dependency",
        Reason::SwapGroupTimeout => "swap group timeout",
        Reason::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_day_are_told_after_an_hour() {
        for (calls, minutes, a_day) in
            [(0, 60, Some(0)), (1000, 59, None), (1000, 60, Some(24_000)), (43_200, 2880, Some(21_600))]
        {
            let up = Duration::from_secs(minutes * 60);
            assert_eq!(calls_a_day(calls, up), a_day, "{calls} in {minutes} min");
        }
    }
}
