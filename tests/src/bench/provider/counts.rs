//! What a provider was asked: requests, calls by method, and what these weigh.
//!
//! The weights are Alchemy's compute units as published at alchemy.com/docs/reference/compute-unit-costs, of the
//! methods that are used here. A method without a published weight here panics rather than counting as free.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Compute units of one call.
const WEIGHTS: [(&str, u64); 14] = [
    ("eth_blockNumber", 10),
    ("eth_call", 26),
    ("eth_chainId", 0),
    ("eth_getBlockByHash", 20),
    ("eth_getBlockByNumber", 20),
    ("eth_getBlockReceipts", 20),
    ("eth_getCode", 20),
    ("eth_getFilterChanges", 20),
    ("eth_getLogs", 60),
    ("eth_getStorageAt", 20),
    ("eth_getTransactionReceipt", 20),
    ("eth_newFilter", 20),
    ("net_version", 0),
    ("web3_clientVersion", 20),
];

/// Compute units of a call of this method.
pub(crate) fn weight(method: &str) -> u64 {
    let found = WEIGHTS.iter().find(|(name, _)| *name == method);
    found.unwrap_or_else(|| panic!("{method}: its weight is not in the table")).1
}

/// What was asked on behalf of one network.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// HTTP requests, refused ones too.
    pub requests: u64,
    /// Of these, answered with 429.
    pub refused: u64,
    /// Calls that were answered.
    pub calls: BTreeMap<String, u64>,
    /// Of these, those that asked for the newest block.
    pub polls: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// Height of the chain, at the time of a report.
    pub head: u64,
}

impl Counts {
    /// Calls of all methods.
    pub(crate) fn all_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    /// What all calls weigh.
    pub(crate) fn units(&self) -> u64 {
        self.calls.iter().map(|(method, calls)| weight(method) * calls).sum()
    }

    /// Calls by method, the most frequent first.
    pub(crate) fn by_method(&self) -> String {
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
        calls.iter().map(|(method, calls)| format!("{method} {calls}")).collect::<Vec<_>>().join(", ")
    }
}

/// What a provider tells of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// By number of the network.
    pub networks: Vec<Counts>,
    /// The most requests that were being answered at once.
    pub most_in_flight: u64,
    /// Where requests are limited: seconds of the clock from the first one to the last, both included.
    pub seconds: u64,
}
