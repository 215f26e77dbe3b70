//! The naive model: every transaction in a list, which is walked at every block.

use web3::types::{H256, U256};

use crate::decode::{Event, Logged, Reason};
use crate::ledger::Block;

/// What the naive model knows of an open transaction.
struct Open {
    id: H256,
    tx_hash: H256,
    buffered: u64,
    scheduled: U256,
    frozen: Option<U256>,
}

/// Everything that is exposed but the histograms.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Truth {
    pub buffered: u64,
    pub settled: [u64; 3],
    pub pending: u64,
    pub oldest: Option<u64>,
    pub next: Option<U256>,
    pub failures: Vec<(H256, Reason, u64)>,
    /// Transaction, buffering, deadline.
    pub expiries: Vec<(H256, H256, u64)>,
}

/// All transactions, block by block, in the plainest way.
pub(super) fn naive(history: &[Block]) -> Truth {
    let mut open: Vec<Open> = Vec::new();
    let mut truth = Truth::default();
    let mut failures: Vec<(H256, Reason, u64)> = Vec::new();
    // When it settled, which, and as above.
    let mut expiries: Vec<(u64, H256, H256, u64)> = Vec::new();
    let mut before = 0;
    for block in history {
        let window = block.window.unwrap();
        let deadline = |open: &Open| open.frozen.unwrap_or(open.scheduled.saturating_add(window));
        let late = |open: &Open| deadline(open) < U256::from(block.time);
        let mut expire = |open: &Open| {
            let passed = if late(open) { deadline(open).as_u64() } else { block.time };
            let earliest = if open.buffered == block.time { block.time } else { before };
            // A frozen one that seems older than the block before was not looked at there.
            let earliest = if open.frozen.is_some() { open.buffered } else { earliest };
            expiries.push((passed.max(earliest), open.id, open.tx_hash, passed));
        };
        for Logged { tx_hash, event } in &block.events {
            let index = |tx: &H256, open: &[Open]| open.iter().position(|o| o.id == *tx);
            match event {
                Event::Buffered { tx_id, scheduled, frozen, .. } => {
                    truth.buffered += 1;
                    open.push(Open {
                        id: *tx_id,
                        tx_hash: *tx_hash,
                        buffered: block.time,
                        scheduled: *scheduled,
                        frozen: frozen.then(|| scheduled.saturating_add(window)),
                    });
                }
                Event::Ready { tx_id } => {
                    if let Some(index) = index(tx_id, &open) {
                        open.remove(index);
                        truth.settled[0] += 1;
                    }
                }
                Event::Failed { tx_id, class, .. } => {
                    failures.push((*tx_id, *class, block.time));
                    let Some(index) = index(tx_id, &open) else { continue };
                    match class {
                        Reason::Expired => expire(&open[index]),
                        Reason::SwapGroupTimeout if late(&open[index]) => expire(&open[index]),
                        Reason::SwapGroupTimeout => truth.settled[2] += 1,
                        _ => continue,
                    }
                    open.remove(index);
                }
                _ => {}
            }
        }
        open.iter().filter(|open| late(open)).for_each(expire);
        open.retain(|open| !late(open));
        before = block.time;
        truth.next = open.iter().map(deadline).min();
    }
    truth.settled[1] = expiries.len() as u64;
    truth.pending = open.len() as u64;
    truth.oldest = open.iter().map(|open| open.buffered).min();
    for failure in failures.into_iter().rev() {
        if truth.failures.len() < 16 && !truth.failures.contains(&failure) {
            truth.failures.insert(0, failure);
        }
    }
    expiries.sort_unstable();
    let newest = &expiries[expiries.len().saturating_sub(16)..];
    truth.expiries = newest.iter().map(|(_, id, tx_hash, passed)| (*id, *tx_hash, *passed)).collect();
    truth
}
