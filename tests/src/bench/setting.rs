//! What a benchmark runs against: networks, and how the provider of all of them behaves.
//!
//! Plain values, handed to the provider's process as JSON. Every chain is a function of its [`Network`] and number.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::sim::{Chain, Params, Regular};

/// All networks of one provider; each is served under its number as the path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub networks: Vec<Network>,
    /// How long each answer takes.
    pub latency: Duration,
    /// Requests in each second that are answered.
    pub rate: Option<u32>,
}

/// One chain with regular traffic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Network {
    pub traffic: Regular,
    /// Its height when the provider begins to answer.
    pub blocks: u64,
    pub block_time: Duration,
    /// Logs carry the time of their block.
    pub log_timestamps: bool,
    /// Blocks keep coming, in real time.
    pub live: bool,
    /// When block 0 was, seconds since the Unix epoch.
    pub genesis_time: u64,
    /// Further lines of the exporter's configuration for it.
    pub configuration: Vec<String>,
}

impl Network {
    /// A chain that stands still, of blocks of 2 s, in the past.
    pub(crate) fn still(traffic: Regular, blocks: u64) -> Self {
        Self {
            traffic,
            blocks,
            block_time: Duration::from_secs(2),
            log_timestamps: true,
            live: false,
            genesis_time: 1_600_000_000,
            configuration: Vec::new(),
        }
    }

    /// A chain on which blocks of this time keep coming, after so many.
    pub(crate) fn live(traffic: Regular, blocks: u64, block_time: Duration) -> Self {
        let genesis_time = genesis(block_time, blocks);
        Self { block_time, genesis_time, live: true, ..Self::still(traffic, blocks) }
    }

    /// An empty chain.
    pub(crate) fn chain(&self, number: usize) -> Chain {
        Chain::new(Params {
            seed: number as u64 + 1,
            block_time: self.block_time,
            genesis_time: self.genesis_time,
            buffered_per_hour: 0,
            incidents_per_day: 0,
            regular: Some(self.traffic),
            log_timestamps: self.log_timestamps,
            ..Params::default()
        })
    }
}

/// When block 0 was, for so many blocks to be there by now.
fn genesis(block_time: Duration, blocks: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    (now - block_time * u32::try_from(blocks).expect("a history that fits")).as_secs()
}

/// The name of a network.
pub(crate) fn name(number: usize) -> String {
    format!("n{number}")
}

impl Setting {
    /// One network, answered at once and without a limit.
    pub(crate) fn of(network: Network) -> Self {
        Self { networks: vec![network], latency: Duration::ZERO, rate: None }
    }

    /// The exporter's configuration, given where the provider answers.
    pub(crate) fn configuration(&self, url: &str) -> String {
        let mut text = "networks:\n".to_owned();
        for (number, network) in self.networks.iter().enumerate() {
            let (name, contract) = (name(number), network.chain(number).contract());
            text += &format!(
                "  - name: {name}\n    rpc_urls: [\"{url}/{number}\"]\n    contract: \"{contract:#x}\"\n"
            );
            for line in &network.configuration {
                text += &format!("    {line}\n");
            }
        }
        text
    }
}
