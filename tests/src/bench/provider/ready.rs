//! Answers of a chain that stands still, encoded once: logs of any range and headers of blocks with logs are slices
//! of one buffer each.
//!
//! Holds no answer that the simulated node would not give; whatever is not here is asked of it.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use web3::types::{H160, H256};

use crate::sim::{Chain, block_object, log_object, topic};

/// All logs of a chain and the headers of their blocks.
pub(crate) struct Ready {
    contract: H160,
    /// Blocks with logs, in order.
    heights: Vec<u64>,
    /// Where the logs of each of them begin, and where the last ones end.
    logs_at: Vec<usize>,
    /// JSON objects, each with a comma behind it.
    logs: Bytes,
    headers_at: Vec<usize>,
    headers: Bytes,
    /// The topics of the events that occur.
    topics: Vec<H256>,
}

impl Ready {
    /// Encodes everything.
    pub(crate) fn of(chain: &Chain) -> Self {
        let (mut heights, mut logs_at, mut logs) = (Vec::new(), Vec::new(), Vec::new());
        let mut topics: Vec<H256> = Vec::new();
        for log in chain.logs(0..=chain.head()) {
            if heights.last() != Some(&log.block) {
                heights.push(log.block);
                logs_at.push(logs.len());
            }
            let new = log.raw.topics.first().copied().filter(|topic| !topics.contains(topic));
            topics.extend(new);
            logs.extend(log_object(chain, log));
            logs.push(b',');
        }
        logs_at.push(logs.len());
        let (mut headers_at, mut headers) = (vec![0], Vec::new());
        for height in &heights {
            headers.extend(block_object(chain, *height));
            headers_at.push(headers.len());
        }
        let contract = chain.contract();
        Self { contract, heights, logs_at, logs: logs.into(), headers_at, headers: headers.into(), topics }
    }

    /// Whether a filter for this address and these topics lets every log pass.
    pub(crate) fn all_match(&self, address: Option<H160>, topics: &[Option<Vec<H256>>]) -> bool {
        let contract = address.is_none_or(|address| address == self.contract);
        contract
            && match topics {
                [] | [None] => true,
                [Some(kinds)] => self.topics.iter().all(|topic| kinds.contains(topic)),
                _ => false,
            }
    }

    /// The logs of a range of blocks, separated by commas.
    pub(crate) fn logs(&self, blocks: RangeInclusive<u64>) -> Bytes {
        let from = self.heights.partition_point(|height| height < blocks.start());
        let to = self.heights.partition_point(|height| height <= blocks.end());
        if from >= to { Bytes::new() } else { self.logs.slice(self.logs_at[from]..self.logs_at[to] - 1) }
    }

    /// The header of a block with logs.
    pub(crate) fn header(&self, height: u64) -> Option<Bytes> {
        let at = self.heights.binary_search(&height).ok()?;
        Some(self.headers.slice(self.headers_at[at]..self.headers_at[at + 1]))
    }
}

/// What whoever reads a chain must come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Transactions that were buffered.
    pub buffered: u64,
    /// Those that became ready.
    pub ready: u64,
    /// Those that failed.
    pub failed: u64,
    /// From buffered to ready, of all together; `None` where no time is known.
    pub seconds: Option<u64>,
}

impl Figures {
    /// Those of a chain up to a block, from its own record of events.
    pub(crate) fn of(chain: &Chain, last: u64) -> Self {
        let [buffered, ready, failed] = [
            "TransactionBuffered(bytes32,address,address,uint256)",
            "TransactionReady(bytes32)",
            "TransactionFailed(bytes32,string)",
        ]
        .map(topic);
        let mut figures = Self::default();
        let (mut waiting, mut seconds) = (HashMap::new(), 0);
        for log in chain.logs(0..=last) {
            let [kind, id, ..] = log.raw.topics[..] else { continue };
            if kind == buffered {
                figures.buffered += 1;
                waiting.insert(id, chain.time(log.block));
            } else if kind == ready {
                figures.ready += 1;
                seconds += waiting.remove(&id).map_or(0, |since| chain.time(log.block) - since);
            } else if kind == failed {
                figures.failed += 1;
            }
        }
        figures.seconds = Some(seconds);
        figures
    }
}
