//! One network described by variables alone, so that a container needs no edited file.

use super::value::{self, Written};
use super::{Config, Confirmations, Network, defaults};

/// Reads the `TESSERACT_*` variables; one that is set but empty counts as not set.
pub(super) fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<String>> {
    let mut reader = Reader { env, mistakes: Vec::new() };
    if reader.get("TESSERACT_RPC_URL").is_none() && reader.get("TESSERACT_CONTRACT").is_none() {
        let what = "no configuration: write exporter.yml, name another file with --config.file, \
                    or set TESSERACT_RPC_URL and TESSERACT_CONTRACT";
        return Err(vec![what.to_owned()]);
    }
    let config = reader.config();
    match config {
        Some(config) if reader.mistakes.is_empty() => Ok(config),
        _ => Err(reader.mistakes),
    }
}

struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
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
        let chain_id = self.optional("TESSERACT_CHAIN_ID", |it| value::number(it, 1));
        let start_block = self.optional("TESSERACT_START_BLOCK", |it| value::number(it, 0));
        let confirmations: Option<Confirmations> =
            self.optional("TESSERACT_CONFIRMATIONS", value::confirmations);
        let state_dir = self.optional("TESSERACT_STATE_DIR", value::path);
        let expected_owner = self.optional("TESSERACT_EXPECTED_OWNER", value::address);
        let network = Network {
            name: name.unwrap_or_else(|| "default".to_owned()),
            endpoints: urls?,
            contract: contract?,
            chain_id,
            start_block,
            confirmations: confirmations.unwrap_or(defaults::CONFIRMATIONS),
            poll_interval: defaults::POLL_INTERVAL,
            request_timeout: defaults::REQUEST_TIMEOUT,
            max_block_range: defaults::MAX_BLOCK_RANGE,
            expected_owner,
            authorities: None,
        };
        Some(Config { state_dir, networks: vec![network] })
    }

    fn required<T>(&mut self, name: &str, parse: impl Fn(&Written) -> Result<T, String>) -> Option<T> {
        if self.get(name).is_none() {
            self.mistakes.push(format!("{name}: is not set, expected it, or a file named by --config.file"));
        }
        self.optional(name, parse)
    }

    fn optional<T>(&mut self, name: &str, parse: impl Fn(&Written) -> Result<T, String>) -> Option<T> {
        let written = Written { text: self.get(name)?, ..Written::default() };
        parse(&written).map_err(|what| self.mistakes.push(format!("{name}: {what}"))).ok()
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }
}
