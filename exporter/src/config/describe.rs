//! A configuration as it was understood, for people. Secrets are masked.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::value::checksummed;
use super::{Config, Confirmations, Endpoint, Network};

impl Config {
    /// YAML with every default filled in, and with every secret masked.
    pub fn describe(&self) -> String {
        let shown = Shown {
            state_dir: self.state_dir.as_deref(),
            grafana_url: self.grafana_url.as_deref(),
            log_level: self.log_level.map(|level| level.to_string()),
            networks: self.networks.iter().map(ShownNetwork::new).collect(),
        };
        serde_yaml::to_string(&shown).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grafana_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<String>,
    networks: Vec<ShownNetwork<'a>>,
}

#[derive(Serialize)]
struct ShownNetwork<'a> {
    name: &'a str,
    rpc_urls: Vec<ShownEndpoint<'a>>,
    contract: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_block: Option<u64>,
    confirmations: serde_yaml::Value,
    poll_interval: String,
    request_timeout: String,
    max_block_range: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explorer_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'a Path>,
}

#[derive(Serialize)]
struct ShownEndpoint<'a> {
    url: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, String>,
}

impl<'a> ShownNetwork<'a> {
    fn new(network: &'a Network) -> Self {
        Self {
            name: &network.name,
            rpc_urls: network.endpoints.iter().map(ShownEndpoint::new).collect(),
            contract: checksummed(&network.contract),
            chain_id: network.chain_id,
            start_block: network.start_block,
            confirmations: match network.confirmations {
                Confirmations::Blocks(count) => count.into(),
                Confirmations::Safe => "safe".into(),
                Confirmations::Finalized => "finalized".into(),
            },
            poll_interval: format!("{:?}", network.poll_interval),
            request_timeout: format!("{:?}", network.request_timeout),
            max_block_range: network.max_block_range,
            expected_owner: network.expected_owner.as_ref().map(checksummed),
            explorer_url: network.explorer_url.as_deref(),
            ca_file: network.authorities.as_ref().map(|it| it.file.as_path()),
        }
    }
}

impl<'a> ShownEndpoint<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        // That there is more to the URL may be known, what it is may not.
        let rest = endpoint.url.expose().path_and_query().is_some_and(|rest| rest.as_str() != "/");
        let headers = endpoint.headers.iter();
        Self {
            url: format!("{}{}", endpoint.url, if rest { "/***" } else { "" }),
            headers: headers.map(|(name, value)| (name.as_str(), format!("{value:?}"))).collect(),
        }
    }
}
