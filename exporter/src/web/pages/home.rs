//! `/`: every network with its state, and links to the rest.

use std::time::SystemTime;

use maud::{Markup, html};

use super::super::state::{Level, State, judge};
use super::super::words::{count, counted, relative, unix_seconds, utc, utc_wide};
use super::super::{Site, View};
use super::{Page, Refresh, badge, outside_link, state_line};
use crate::snapshot::{Gauges, Snapshot};

/// Name, version, the networks, and links.
pub(in super::super) fn home(site: &Site, networks: &[View], refresh: Refresh, now: SystemTime) -> String {
    let states: Vec<(&View, State)> =
        networks.iter().map(|of| (of, judge(&of.snapshot, of.progress, now))).collect();
    let links = [
        (site.telemetry_path.trim_start_matches('/'), "metrics, for Prometheus"),
        ("health", "health of every network, as JSON"),
        ("-/ready", "readiness, with reasons"),
        ("-/healthy", "liveness"),
        ("runbooks/", "runbooks: what an alert means and what to do"),
    ];
    let grafana = site.followed.borrow().grafana_url.clone();
    let dashboards = [
        ("tesseract-overview", "dashboard of the networks, in Grafana"),
        ("tesseract-exporter", "dashboard of the exporter, in Grafana"),
    ];
    let content = html! {
        h1 { "Tesseract networks" }
        p.state.counts { (summary(&states)) }
        div.table {
            table {
                thead {
                    tr {
                        th { "Network" } th { "State" } th.number { "Head" } th.number { "Behind" }
                        th.number { "Pending" } th { "Next deadline" } th { "Last failure" } th { "Last expiry" }
                    }
                }
                tbody { @for (of, state) in &states { (row(&of.snapshot, state, unix_seconds(now))) } }
            }
        }
        h2 { "More" }
        ul {
            @for (to, what) in links { li { a href=(to) { "/" (to) } " – " (what) } }
            @if let Some(grafana) = grafana {
                @for (uid, what) in dashboards {
                    li { (outside_link(&format!("{grafana}/d/{uid}"), &html! { (uid) })) " – " (what) }
                }
            }
        }
        p.note {
            "Version " (site.build.version) ", revision " (site.build.revision) ". A transaction has a page too: "
            code { "/tx/" } " and its id."
        }
    };
    Page { title: "tesseract-exporter", root: "", refresh: Some(refresh) }.with(&content)
}

fn summary(states: &[(&View, State)]) -> Markup {
    let of = |level| states.iter().filter(|(_, state)| state.level == level).count() as u64;
    html! {
        span { (counted(states.len() as u64, "network")) ":" } " "
        @for level in Level::ALL.into_iter().rev().filter(|level| of(*level) > 0) {
            span { (of(level)) " " (badge(level, level.word())) } " "
        }
    }
}

fn row(of: &Snapshot, state: &State, now: u64) -> Markup {
    let gauges = of.confirmed.as_ref().and_then(|confirmed| confirmed.gauges.as_ref());
    let newest = gauges.map(|gauges| gauges.newest.clone()).unwrap_or_default();
    let behind = of.head.zip(of.processed).map(|(head, at)| head.number.saturating_sub(at.number));
    html! {
        tr {
            th data-label="Network" scope="row" { a href={ "networks/" (of.network) } { (of.network) } }
            td data-label="State" { (state_line(state, "")) }
            (cell("Head", true, of.head.map(|head| html! { (count(head.number)) })))
            (cell("Behind", true, behind.map(|blocks| html! { (counted(blocks, "block")) })))
            (cell("Pending", true, gauges.map(|gauges| html! { (count(gauges.pending)) })))
            (cell("Next deadline", false, next_deadline(gauges, of.processed.map(|block| block.timestamp))))
            (cell("Last failure", false, newest.failures.last().map(|it| ago(it.timestamp, now))))
            (cell("Last expiry", false, newest.expiries.last().map(|it| ago(it.deadline, now))))
        }
    }
}

/// A dash where nothing is known, or nothing is there; such a cell is left out where there is little room.
fn cell(label: &str, number: bool, value: Option<Markup>) -> Markup {
    html! {
        td.number[number].none[value.is_none()] data-label=(label) {
            @match value { Some(value) => (value), None => "–" }
        }
    }
}

/// Measured against the chain's time, for it is that which makes it pass.
fn next_deadline(gauges: Option<&Gauges>, chain_time: Option<u64>) -> Option<Markup> {
    let deadline = gauges?.next_deadline?;
    Some(match (u64::try_from(deadline).ok(), chain_time) {
        (Some(at), Some(now)) => ago(at, now),
        _ => html! { (utc_wide(deadline)) },
    })
}

fn ago(at: u64, now: u64) -> Markup {
    html! { span.ago title=(utc(at)) { (relative(at, now)) } }
}
