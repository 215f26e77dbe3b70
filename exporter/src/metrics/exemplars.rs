//! Exemplars on the bucket lines of an OpenMetrics text.
//!
//! `prometheus_client::metrics::exemplar::Exemplar` can only be made by its own histogram types, which
//! observe values one by one and cannot be rewound; a ledger's exemplars cannot be handed to the
//! encoder. So they are appended to the encoded text, where the format wants them: at the end of a
//! bucket's line.

use std::fmt::Write;

use crate::ledger::Exemplar;
use crate::snapshot;

/// The families that carry exemplars, by the start of their bucket lines.
const BUCKETS: [&str; 2] =
    ["tesseract_resolution_time_seconds_bucket{", "tesseract_resolution_delay_seconds_bucket{"];

/// Appends to every bucket line its exemplar; `exemplars` come in the order in which buckets were
/// written. A label's value has its line feeds escaped, so every line of the text is one sample's.
pub(super) fn append(text: &str, exemplars: impl IntoIterator<Item = Option<Exemplar>>) -> String {
    let mut exemplars = exemplars.into_iter();
    let mut out = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        out.push_str(line);
        if BUCKETS.iter().any(|start| line.starts_with(start))
            && let Some(Exemplar { tx_id, value, timestamp }) = exemplars.next().flatten()
        {
            let tx_id = snapshot::hex(&tx_id);
            // Writing to a string cannot fail.
            let _ = write!(out, " # {{tx_id=\"{tx_id}\"}} {value} {timestamp}");
        }
        out.push('\n');
    }
    out
}
