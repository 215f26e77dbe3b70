//! The newest failures and expiries, to name them: functions of the chain as the counts are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use web3::types::H256;

use crate::decode::Reason;

/// How many of each are kept.
const NEWEST: usize = 16;

/// The newest 16 failures and the newest 16 expiries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// In log order, newest last; no two of them with equal labels.
    pub failures: Vec<Failure>,
    /// In the order in which they settled, newest last; no two of them with equal labels.
    pub expiries: Vec<Expiry>,
}

/// A TransactionFailed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The transaction.
    pub tx_id: H256,
    /// The Ethereum transaction that logged it.
    pub tx_hash: H256,
    /// The class of the reason.
    pub class: Reason,
    /// The reason as logged, sanitised.
    pub reason: Arc<str>,
    /// Block time, seconds since the Unix epoch.
    pub timestamp: u64,
}

/// A transaction that settled as expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// The transaction.
    pub tx_id: H256,
    /// The Ethereum transaction that buffered it.
    pub tx_hash: H256,
    /// The deadline that passed, seconds since the Unix epoch. Where a log proves an expiry that the
    /// known window does not explain, the time of its block.
    pub deadline: u64,
    /// When it passed: at the deadline, but not before the transaction was buffered or the window became
    /// so short. Which block shows it depends on the blocks that were looked at; this does not.
    pub at: u64,
}

impl Newest {
    /// Several failures of one Ethereum transaction may be equal: they are one series, at the newest index.
    pub(super) fn failed(&mut self, failure: Failure) {
        self.failures.retain(|other| *other != failure);
        self.failures.push(failure);
        keep_newest(&mut self.failures);
    }

    pub(super) fn expired(&mut self, expiry: Expiry) {
        self.expiries.retain(|other| (other.tx_id, other.tx_hash) != (expiry.tx_id, expiry.tx_hash));
        let index =
            self.expiries.partition_point(|other| (other.at, other.tx_id) <= (expiry.at, expiry.tx_id));
        self.expiries.insert(index, expiry);
        keep_newest(&mut self.expiries);
    }
}

fn keep_newest<T>(items: &mut Vec<T>) {
    items.drain(..items.len().saturating_sub(NEWEST));
}
