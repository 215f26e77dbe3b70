//! A scrape as a table: one line a network.

use std::collections::BTreeSet;

use crate::series::Series;

/// With a space between two of them they fit a terminal of 80 columns.
const COLUMNS: [(&str, usize); 9] = [
    ("network", 13),
    ("block", 7),
    ("buffered", 8),
    ("ready", 7),
    ("failed", 6),
    ("expired", 7),
    ("pending", 7),
    ("p95 delay", 9),
    ("state", 7),
];

/// One line for the heads of the columns, then one a network. A figure that is not known is a dash.
pub fn table(series: &Series) -> String {
    let networks: BTreeSet<&str> = series.0.keys().filter_map(|key| label(key, "network")).collect();
    let mut lines = vec![line(&COLUMNS.map(|(name, _)| name.to_owned()))];
    lines.extend(networks.into_iter().map(|network| line(&row(&series.of(network), network))));
    lines.join("\n")
}

fn row(series: &Series, network: &str) -> [String; COLUMNS.len()] {
    let sum = |name: &str, label: &str| {
        let of_it = |key: &&String| key.starts_with(&format!("{name}{{")) && key.contains(label);
        let values: Vec<f64> = series.0.keys().filter(of_it).filter_map(|key| series.get(key)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>())
    };
    let whole = |name: &str, label: &str| sum(name, label).map_or_else(dash, |value| format!("{value:.0}"));
    let is = |name: &str| sum(name, "") == Some(1.0);
    let state = if !is("tesseract_node_connected") {
        "no node"
    } else if !is("tesseract_synced") {
        "syncing"
    } else if is("tesseract_contract_paused") {
        "paused"
    } else if is("tesseract_circuit_breaker_active") {
        "breaker"
    } else {
        "live"
    };
    [
        network.to_owned(),
        whole("tesseract_processed_block_number", ""),
        whole("tesseract_transactions_buffered_total", ""),
        whole("tesseract_transactions_ready_total", ""),
        whole("tesseract_transactions_failed_total", ""),
        whole("tesseract_transactions_settled_total", "outcome=\"expired\""),
        whole("tesseract_transactions_pending", ""),
        p95(series).map_or_else(dash, |seconds| format!("{seconds:.1} s")),
        state.to_owned(),
    ]
}

/// The 95th percentile of the resolution delay since the beginning, interpolated as Prometheus does; `None`
/// without observations, or when it lies beyond the last bound.
fn p95(series: &Series) -> Option<f64> {
    let mut buckets: Vec<(f64, f64)> = series
        .0
        .keys()
        .filter(|key| key.starts_with("tesseract_resolution_delay_seconds_bucket{"))
        .filter_map(|key| Some((label(key, "le")?.parse().ok()?, series.get(key)?)))
        .collect();
    buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let rank = buckets.last().filter(|(_, count)| *count > 0.0)?.1 * 0.95;
    let at = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (lower, below) = at.checked_sub(1).map_or((0.0, 0.0), |before| buckets[before]);
    let (upper, count) = buckets[at];
    upper.is_finite().then(|| lower + (upper - lower) * (rank - below) / (count - below))
}

/// The value of a label in a series' key; none of those wanted here holds a quote.
fn label<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = key.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

fn line(cells: &[String; COLUMNS.len()]) -> String {
    let padded = cells.iter().zip(COLUMNS).enumerate().map(|(place, (cell, (_, width)))| {
        if place == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    padded.collect::<Vec<_>>().join(" ")
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_figures() {
        let scrape = Series::parse(
            r#"tesseract_node_connected{network="a"} 1
tesseract_synced{network="a"} 1
tesseract_processed_block_number{network="a"} 120
tesseract_transactions_failed_total{network="a",reason="expired"} 2
tesseract_transactions_failed_total{network="a",reason="other"} 1
tesseract_transactions_settled_total{network="a",outcome="expired"} 4
tesseract_transactions_settled_total{network="a",outcome="ready"} 90
tesseract_resolution_delay_seconds_bucket{le="1",network="a"} 0
tesseract_resolution_delay_seconds_bucket{le="2",network="a"} 90
tesseract_resolution_delay_seconds_bucket{le="5",network="a"} 100
tesseract_resolution_delay_seconds_bucket{le="+Inf",network="a"} 100
tesseract_node_connected{network="b"} 0
tesseract_synced{network="b"} 0
"#,
        );
        let table = table(&scrape);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["a", "120", "-", "-", "3", "4", "-", "3.5", "s", "live"]);
        assert_eq!(lines[2], ["b", "-", "-", "-", "-", "-", "-", "-", "no", "node"]);
    }
}
