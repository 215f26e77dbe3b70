//! What the user wrote, turned into values that cannot be wrong.
//!
//! Never reads the network. Secrets are masked by type: a [`Url`] prints scheme, host and port only.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use web3::types::H160;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where snapshots are kept between restarts.
    pub state_dir: Option<PathBuf>,
    /// At least one, with unique names.
    pub networks: Vec<Network>,
}

/// One network to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Value of the `network` label.
    pub name: String,
    /// In order of preference, at least one.
    pub endpoints: Vec<Endpoint>,
    /// The contract to follow.
    pub contract: H160,
    /// The only chain that is accepted.
    pub chain_id: Option<u64>,
    /// Where the history begins; found by bisection when absent.
    pub start_block: Option<u64>,
    /// When a block counts.
    pub confirmations: Confirmations,
    /// How often the head is asked for.
    pub poll_interval: Duration,
    /// How long one HTTP request may take.
    pub request_timeout: Duration,
    /// Upper bound of the blocks in one `eth_getLogs`.
    pub max_block_range: u64,
    /// Who should own the contract.
    pub expected_owner: Option<H160>,
}

/// When a block counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmations {
    /// This many blocks on top of it.
    Blocks(u64),
    /// The node calls it safe.
    Safe,
    /// The node calls it finalized.
    Finalized,
}

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`.
    pub url: Url,
    /// Sent with every request.
    pub headers: Vec<(String, Secret)>,
}

/// An RPC URL: only scheme, host and port can be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(hyper::Uri);

impl Url {
    /// The whole URL, secrets and all, for the one place that connects.
    pub fn expose(&self) -> &hyper::Uri {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme_str().unwrap_or("http"), self.0.host().unwrap_or(""))?;
        self.0.port_u16().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value that cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
