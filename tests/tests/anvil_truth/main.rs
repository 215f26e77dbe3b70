//! The exporter on a real node against the naive fold.
//!
//! `seeds`: every confirmed series, exemplar and view on random chains. `cases`: single situations, each
//! with its answer worked out by hand. `watcher`: an exporter, what it was seen to show, and the judgement.

#![allow(clippy::unwrap_used)]

mod cases;
mod seeds;
mod watcher;

const GENESIS: u64 = 1_700_000_000;

/// The configuration of one network of an exporter.
pub(crate) fn network(name: &str, url: &str, contract: web3::types::Address, confirmations: &str) -> String {
    format!(
        "  - name: {name}\n    rpc_urls: [\"{url}\"]\n    contract: \"{contract:#x}\"\n    \
         confirmations: {confirmations}\n    poll_interval: 50ms\n"
    )
}

pub(crate) fn processed(network: &str) -> String {
    format!("tesseract_processed_block_number{{network=\"{network}\"}}")
}
