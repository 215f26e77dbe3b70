//! The chain: blocks one after another, each a function of seed, fork and height.
//!
//! Pure: no clock, no I/O. Blocks are not stored at all: number, hash and time follow from the height, and
//! logs, transactions and changes of views are found by binary search. Around 70 bytes an event remain.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use web3::ethabi::ethereum_types::{Bloom, BloomInput};
use web3::signing::keccak256;
use web3::types::{H160, H256, H2048};

use super::contract::{Block, Call, Contract, Revert, Views};
use super::event::{self, Event, Log, NONE, RawLog, Tx, Variant};
use super::traffic::Traffic;

/// Everything that a history is a function of, together with the calls and reorganisations by hand.
#[derive(Clone, Debug)]
pub struct Params {
    /// Another seed, another history.
    pub seed: u64,
    /// What `eth_chainId` answers.
    pub chain_id: u64,
    /// Which contract is deployed.
    pub variant: Variant,
    /// Where it is, as when a deployer puts it at one address on several chains; `None` for an address that
    /// follows from seed and chain.
    pub contract: Option<H160>,
    /// Time between blocks, in whole milliseconds. Blocks faster than a second share timestamps.
    pub block_time: Duration,
    /// Blocks of a fork come so much later than those whose place they take.
    pub fork_delay: Duration,
    /// Time of block 0, seconds since the Unix epoch.
    pub genesis_time: u64,
    /// The block that deploys the contract.
    pub deployed_at: u64,
    /// Transactions that users buffer; 0 for none at all.
    pub buffered_per_hour: u64,
    /// The same traffic for ever instead, of which every figure can be told beforehand.
    pub regular: Option<Regular>,
    /// Pauses, window changes, new owners.
    pub incidents_per_day: u64,
    /// The coordination window never changes by itself: no node needs old state.
    pub steady_window: bool,
    /// Blocks from `latest` back to `safe`.
    pub safe_depth: u64,
    /// Blocks from `latest` back to `finalized`.
    pub finalized_depth: u64,
    /// Logs carry `blockTimestamp`.
    pub log_timestamps: bool,
    /// How many blocks back the node still knows the state; `None` for an archive node.
    pub state_depth: Option<u64>,
}

impl Default for Params {
    /// A chain of 2 s with lively traffic from the block 10 on, in the past.
    fn default() -> Self {
        Self {
            seed: 1,
            chain_id: 1337,
            variant: Variant::Simple,
            contract: None,
            block_time: Duration::from_secs(2),
            fork_delay: Duration::ZERO,
            genesis_time: 1_700_000_000,
            deployed_at: 10,
            buffered_per_hour: 1200,
            regular: None,
            incidents_per_day: 12,
            steady_window: false,
            safe_depth: 4,
            finalized_depth: 8,
            log_timestamps: true,
            state_depth: None,
        }
    }
}

/// Traffic in every so many blocks and none in between, incidents neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regular {
    /// Blocks from one with traffic to the next.
    pub every: u64,
    /// Transactions buffered in each of them.
    pub buffered: u64,
    /// How many such blocks later they are made ready; `None` for never: they are scheduled for a time far away.
    pub resolved_after: Option<u64>,
}

/// One log with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedLog {
    /// Height of its block.
    pub block: u64,
    /// Its place within the block.
    pub index: u64,
    /// What was logged.
    pub raw: RawLog,
}

/// A chain up to its head.
#[derive(Debug)]
pub struct Chain {
    params: Params,
    contract_address: H160,
    head: u64,
    rng: ChaCha8Rng,
    /// First block and salt of each fork, by height; the salt is also the generator's stream.
    forks: Vec<(u64, u64)>,
    reorgs: u64,
    txs: Vec<Tx>,
    logs: Vec<Log>,
    /// The views from a block on.
    views: Vec<(u64, Views)>,
    calls: BTreeMap<u64, Vec<Call>>,
    state: State,
    /// States at past blocks, to fork from; the first is the empty chain.
    checkpoints: VecDeque<(u64, State)>,
}

/// What the next block depends on besides the transactions.
#[derive(Clone, Debug, Default)]
struct State {
    contract: Option<Contract>,
    traffic: Traffic,
}

/// Blocks between checkpoints, and how many are kept: a fork older than they reach replays from the start.
const CHECKPOINT_EVERY: u64 = 128;
const CHECKPOINTS: usize = 9;

impl Chain {
    /// A chain that holds nothing but block 0.
    pub fn new(params: Params) -> Self {
        let own = || event::address(&format!("contract {} {}", params.seed, params.chain_id));
        let contract_address = params.contract.unwrap_or_else(own);
        Self {
            contract_address,
            head: 0,
            rng: ChaCha8Rng::seed_from_u64(params.seed ^ params.chain_id.rotate_left(32)),
            forks: Vec::new(),
            reorgs: 0,
            txs: Vec::new(),
            logs: Vec::new(),
            views: Vec::new(),
            calls: BTreeMap::new(),
            state: State::default(),
            checkpoints: VecDeque::from([(0, State::default())]),
            params,
        }
    }

    /// Adds blocks up to this height.
    pub fn advance_to(&mut self, height: u64) {
        while self.head < height {
            self.skip_quiet_blocks(height);
            // Only calls by hand can revert; when they are replayed, their result is known.
            let _ = self.mine();
        }
    }

    /// Adds so many blocks.
    pub fn advance(&mut self, blocks: u64) {
        self.advance_to(self.head + blocks);
    }

    /// Adds blocks until there are so many logs.
    pub fn advance_to_logs(&mut self, logs: usize) {
        while self.logs.len() < logs {
            let _ = self.mine();
        }
    }

    /// Adds one block that starts with this call. A call that reverts is as if it had never been.
    pub fn call(&mut self, call: Call) -> Result<(), Revert> {
        self.call_all(vec![call])
    }

    /// Adds one block that starts with these calls, and tells the first revert.
    pub fn call_all(&mut self, calls: Vec<Call>) -> Result<(), Revert> {
        self.calls.insert(self.head + 1, calls);
        self.mine()
    }

    /// Replaces the last `depth` blocks with as many others. Calls by hand in them are gone.
    pub fn reorg(&mut self, depth: u64) {
        let head = self.head;
        let fork = head.saturating_sub(depth) + 1;
        self.calls.split_off(&fork);
        self.rewind(fork - 1);
        self.advance_to(fork - 1);
        self.reorgs += 1;
        self.forks.retain(|(from, _)| *from < fork);
        self.forks.push((fork, self.reorgs));
        self.advance_to(head);
    }

    /// What the chain was made from.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Where the contract is.
    pub fn contract(&self) -> H160 {
        self.contract_address
    }

    /// Height of the newest block.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Number of logs on the chain.
    pub fn log_count(&self) -> usize {
        self.logs.len()
    }

    /// Time of a block, seconds since the Unix epoch.
    pub fn time(&self, height: u64) -> u64 {
        let late = if self.salt(height) > 0 { self.params.fork_delay.as_secs() } else { 0 };
        self.params.genesis_time + height * self.params.block_time.as_millis() as u64 / 1000 + late
    }

    /// Hash of a block on this chain: 24 bytes of keccak-256, then its height, so that a hash leads back to its
    /// block without a table.
    pub fn hash(&self, height: u64) -> H256 {
        let Params { seed, chain_id, genesis_time, .. } = self.params;
        let words = [seed, chain_id, genesis_time, height, self.salt(height)];
        let mut hash = keccak256(&words.map(u64::to_be_bytes).concat());
        hash[24..].copy_from_slice(&height.to_be_bytes());
        H256(hash)
    }

    /// Height of the block with this hash, if it is on the chain.
    pub fn height(&self, hash: H256) -> Option<u64> {
        let height = hash.to_low_u64_be();
        (height <= self.head && self.hash(height) == hash).then_some(height)
    }

    /// What the views return at a block; `None` before the deployment.
    pub fn views(&self, height: u64) -> Option<Views> {
        let after = self.views.partition_point(|(from, _)| *from <= height);
        after.checked_sub(1).map(|at| self.views[at].1)
    }

    /// `transaction_count()` at a block.
    pub fn transaction_count(&self, height: u64) -> u64 {
        self.txs.partition_point(|tx| u64::from(tx.block) <= height) as u64
    }

    /// The logs of a range of blocks, in order.
    pub fn logs(&self, heights: RangeInclusive<u64>) -> impl Iterator<Item = PlacedLog> {
        let from = self.logs.partition_point(|log| u64::from(log.block) < *heights.start());
        let to = self.logs.partition_point(|log| u64::from(log.block) <= *heights.end());
        let mut index = 0;
        let mut last = u32::MAX;
        self.logs[from..to.max(from)].iter().map(move |log| {
            index = if log.block == last { index + 1 } else { 0 };
            last = log.block;
            let block = u64::from(log.block);
            let raw = event::encode(&log.event, &self.txs, self.params.variant, self.time(block));
            PlacedLog { block, index, raw }
        })
    }

    /// The bloom filter of a block's logs.
    pub fn bloom(&self, height: u64) -> H2048 {
        let mut bloom = Bloom::zero();
        for log in self.logs(height..=height) {
            bloom.accrue(BloomInput::Raw(self.contract_address.as_bytes()));
            log.raw.topics.iter().for_each(|topic| bloom.accrue(BloomInput::Raw(topic.as_bytes())));
        }
        H2048(bloom.0)
    }

    /// The salt of the fork that a block belongs to.
    fn salt(&self, height: u64) -> u64 {
        let after = self.forks.partition_point(|(from, _)| *from <= height);
        after.checked_sub(1).map_or(0, |at| self.forks[at].1)
    }

    /// Goes to just before the next block, up to this one, in which anything happens. A block is nothing but its height.
    fn skip_quiet_blocks(&mut self, height: u64) {
        if let Some(regular) = self.params.regular {
            let next = self.head + 1;
            let busy = [
                Some(next.next_multiple_of(regular.every)),
                Some(self.params.deployed_at).filter(|at| *at >= next),
                self.calls.range(next..).next().map(|(at, _)| *at),
            ];
            let first = busy.into_iter().flatten().fold(height, u64::min);
            self.head = first - 1;
        }
    }

    fn mine(&mut self) -> Result<(), Revert> {
        self.head += 1;
        let (height, time) = (self.head, self.time(self.head));
        let salt = self.salt(height);
        let mut block = Block { number: height as u32, time, txs: &mut self.txs, logs: &mut self.logs };
        let mut result = Ok(());
        if height == self.params.deployed_at {
            let name = format!("contract {}", self.params.seed);
            self.state.contract = Some(Contract::deploy(self.params.variant, &name, &mut block));
        }
        if let Some(contract) = &mut self.state.contract {
            // A block's own part of the stream: nothing that another block drew can move it.
            self.rng.set_stream(salt);
            self.rng.set_word_pos(u128::from(height) << 20);
            for call in self.calls.get(&height).into_iter().flatten() {
                result = result.and(contract.call(call, &mut block));
            }
            self.state.traffic.block(contract, &mut block, &mut self.rng, &self.params);
            if self.views.last().is_none_or(|(_, views)| *views != contract.views) {
                self.views.push((height, contract.views));
            }
        } else if self.calls.contains_key(&height) {
            result = Err(Revert("No contract"));
        }
        if height.is_multiple_of(CHECKPOINT_EVERY) {
            if self.checkpoints.len() == CHECKPOINTS {
                self.checkpoints.remove(1);
            }
            self.checkpoints.push_back((height, self.state.clone()));
        }
        result
    }

    /// Goes back to the newest checkpoint at or before a block.
    fn rewind(&mut self, height: u64) {
        self.checkpoints.retain(|(at, _)| *at <= height);
        let Some((at, state)) = self.checkpoints.back() else { return };
        self.head = *at;
        self.state = state.clone();
        let head = self.head;
        self.txs.truncate(self.txs.partition_point(|tx| u64::from(tx.block) <= head));
        let kept = self.logs.partition_point(|log| u64::from(log.block) <= head);
        for log in self.logs.drain(kept..) {
            match log.event {
                Event::Ready(tx) => {
                    if let Some(tx) = self.txs.get_mut(tx as usize) {
                        tx.ready = NONE;
                    }
                }
                Event::Failed(tx, _) => {
                    if let Some(tx) = self.txs.get_mut(tx as usize) {
                        tx.failed = NONE;
                    }
                }
                Event::Buffered(_) | Event::Other(_) => {}
            }
        }
        self.views.retain(|(from, _)| *from <= head);
    }
}
