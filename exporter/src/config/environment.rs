//! One network described by variables alone, so that a container needs no edited file.

use std::collections::BTreeMap;

use super::value::{self, Written};
use super::{Config, Confirmations, Network, Source, defaults};

/// The environment by name, as it was when the program started.
pub type Variables = BTreeMap<String, String>;

const PREFIX: &str = "TESSERACT_";

/// Nothing says what to follow.
const NOTHING: &str = "no configuration: write exporter.yml, name another file with --config.file, \
                       or set TESSERACT_RPC_URL and TESSERACT_CONTRACT; \
                       to try it on a simulated chain: cargo demo, or docker compose --env-file demo.env up";

/// Every variable that describes a network, and what it is.
pub const VARIABLES: [(&str, &str); 11] = [
    ("TESSERACT_RPC_URL", "RPC URL, or several separated by commas, in order of preference"),
    ("TESSERACT_CONTRACT", "address of the contract"),
    ("TESSERACT_NETWORK", "value of the `network` label [default: default]"),
    ("TESSERACT_CHAIN_ID", "chain id; endpoints of any other chain are refused"),
    ("TESSERACT_START_BLOCK", "deployment block [default: found by bisection]"),
    ("TESSERACT_CONFIRMATIONS", "blocks on top before an event counts, or safe, finalized [default: 2]"),
    ("TESSERACT_STATE_DIR", "where progress is saved, so that a restart resumes"),
    ("TESSERACT_EXPECTED_OWNER", "address expected to own the contract"),
    ("TESSERACT_EXPLORER_URL", "block explorer, for links"),
    ("TESSERACT_GRAFANA_URL", "Grafana, for links to its dashboards"),
    ("TESSERACT_POLL_INTERVAL", "how often the head is asked for [default: 2s]"),
];

/// Reads the `TESSERACT_*` variables; one that is set but empty counts as not set.
pub(super) fn read(env: &Variables) -> Result<Config, Vec<String>> {
    let mut reader = Reader { env, mistakes: Vec::new() };
    let config = if reader.get("TESSERACT_RPC_URL").is_none() && reader.get("TESSERACT_CONTRACT").is_none() {
        reader.mistakes.push(NOTHING.to_owned());
        None
    } else {
        reader.config()
    };
    let known = VARIABLES.map(|(name, _)| name);
    for name in set(env).filter(|name| !known.contains(name)) {
        reader.mistakes.push(format!("{name}: unknown variable, expected one of {}", known.join(", ")));
    }
    match config {
        Some(config) if reader.mistakes.is_empty() => Ok(config),
        _ => Err(reader.mistakes),
    }
}

/// The names of the `TESSERACT_*` variables that somebody set.
///
/// Kubernetes sets some by itself: a service named `tesseract-exporter` brings
/// `TESSERACT_EXPORTER_SERVICE_HOST`, `TESSERACT_EXPORTER_PORT` and more into every container.
pub(super) fn set(env: &Variables) -> impl Iterator<Item = &str> {
    let services: Vec<_> = env.keys().filter_map(|name| name.strip_suffix("_SERVICE_HOST")).collect();
    let of_service = move |name: &str| {
        let rest = |service: &&str| name.strip_prefix(*service);
        services
            .iter()
            .filter_map(rest)
            .any(|rest| rest.starts_with("_SERVICE_") || rest.starts_with("_PORT"))
    };
    let set = env.iter().filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty());
    set.map(|(name, _)| name.as_str()).filter(move |name| !of_service(name))
}

struct Reader<'a> {
    env: &'a Variables,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn config(&mut self) -> Option<Config> {
        let urls = self.required("TESSERACT_RPC_URL", |it| {
            let parts = it.text.split(',').map(|text| Written { text: text.trim().to_owned(), ..*it });
            parts.map(|part| value::endpoint(&part)).collect()
        });
        let contract = self.required("TESSERACT_CONTRACT", value::address);
        let name = self.optional("TESSERACT_NETWORK", value::name);
        let chain_id = self.optional("TESSERACT_CHAIN_ID", value::positive);
        let start_block = self.optional("TESSERACT_START_BLOCK", value::whole);
        let confirmations: Option<Confirmations> =
            self.optional("TESSERACT_CONFIRMATIONS", value::confirmations);
        let state_dir = self.optional("TESSERACT_STATE_DIR", value::path);
        let expected_owner = self.optional("TESSERACT_EXPECTED_OWNER", value::address);
        let explorer_url = self.optional("TESSERACT_EXPLORER_URL", value::explorer);
        let grafana_url = self.optional("TESSERACT_GRAFANA_URL", value::grafana);
        let poll_interval = self.optional("TESSERACT_POLL_INTERVAL", value::poll_interval);
        let network = Network {
            name: name.unwrap_or_else(|| "default".to_owned()),
            endpoints: urls?,
            contract: contract?,
            chain_id,
            start_block,
            confirmations: confirmations.unwrap_or(defaults::CONFIRMATIONS),
            poll_interval: poll_interval.unwrap_or(defaults::POLL_INTERVAL),
            request_timeout: defaults::REQUEST_TIMEOUT,
            max_block_range: defaults::MAX_BLOCK_RANGE,
            expected_owner,
            explorer_url,
            authorities: None,
        };
        Some(Config {
            state_dir,
            grafana_url,
            log_level: None,
            networks: vec![network],
            source: Source::Environment,
            unused_variables: Vec::new(),
        })
    }

    fn required<T>(&mut self, name: &str, parse: impl Fn(&Written) -> Result<T, String>) -> Option<T> {
        if self.get(name).is_none() {
            self.mistakes.push(format!("{name}: is not set, expected it, or a file named by --config.file"));
        }
        self.optional(name, parse)
    }

    fn optional<T>(&mut self, name: &str, parse: impl Fn(&Written) -> Result<T, String>) -> Option<T> {
        let written = Written { text: self.get(name)?, ..Written::default() };
        literal(&written.text)
            .and_then(|()| parse(&written))
            .map_err(|what| self.mistakes.push(format!("{name}: {what}")))
            .ok()
    }

    fn get(&self, name: &str) -> Option<String> {
        self.env.get(name).filter(|value| !value.is_empty()).cloned()
    }
}

/// That a value holds no variable, which only a shell would have filled in. Other dollar signs may belong to a secret.
fn literal(text: &str) -> Result<(), String> {
    if text.starts_with('$') || text.contains("${") {
        return Err("has the name of a variable in it, expected its value: variables are not expanded here"
            .to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_a_cluster_sets_are_nobodys() {
        for (names, expected) in [
            (&["TESSERACT_RPC_URL", "TESSERACTX", "PATH"][..], &["TESSERACT_RPC_URL"][..]),
            (
                &[
                    "TESSERACT_EXPORTER_PORT",
                    "TESSERACT_EXPORTER_PORT_8000_TCP_ADDR",
                    "TESSERACT_EXPORTER_SERVICE_HOST",
                    "TESSERACT_EXPORTER_SERVICE_PORT_HTTP",
                    "TESSERACT_EXPORTER_X",
                ],
                &["TESSERACT_EXPORTER_X"],
            ),
            (&["TESSERACT_EXPORTER_PORT"], &["TESSERACT_EXPORTER_PORT"]),
        ] {
            let env = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
            assert_eq!(set(&env).collect::<Vec<_>>(), expected);
        }
    }
}
