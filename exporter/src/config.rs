//! What the user wrote, turned into values that cannot be wrong.
//!
//! Never reads the network. Secrets are masked by type: a [`Url`] prints scheme, host and port only.

mod describe;
mod document;
mod environment;
mod estimate;
pub(crate) mod file;
pub(crate) mod tree;
mod url;
mod value;
pub(crate) mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use web3::types::H160;

use crate::log::Level;

pub use environment::{VARIABLES, Variables};
pub use url::{Secret, Url};
pub(crate) use value::checksummed;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "exporter.yml";

/// No more mistakes of a file are shown: each costs a look through the file for its line.
const MOST_MISTAKES: usize = 20;

/// What holds for a network that does not say otherwise.
mod defaults {
    use std::time::Duration;

    use super::Confirmations;

    pub(super) const CONFIRMATIONS: Confirmations = Confirmations::Blocks(2);
    pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(2);
    pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
    pub(super) const MAX_BLOCK_RANGE: u64 = 10_000;
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where snapshots are kept between restarts.
    pub state_dir: Option<PathBuf>,
    /// Grafana, for links to its dashboards, without a slash at its end.
    pub grafana_url: Option<String>,
    /// The least important line that is logged.
    pub log_level: Option<Level>,
    /// At least one, with unique names.
    pub networks: Vec<Network>,
    /// Where all of it was read.
    pub source: Source,
    /// `TESSERACT_*` variables that are set, but that nothing asked for as a file was read.
    pub unused_variables: Vec<String>,
}

/// Where a configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this file.
    File(PathBuf),
    /// In the environment.
    Environment,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Environment => f.write_str("TESSERACT_* variables"),
        }
    }
}

impl Config {
    /// The configuration of the named file; without one that of [`DEFAULT_FILE`], or of the environment
    /// where that file does not exist.
    ///
    /// A relative path in a file is relative to the file's directory.
    ///
    /// # Errors
    /// What is wrong, a line each.
    pub fn find(file: Option<&Path>, env: &Variables) -> Result<Self, Mistakes> {
        let default = Path::new(DEFAULT_FILE);
        match file {
            Some(file) => Self::read(file, env),
            None if std::fs::symlink_metadata(default).is_ok() => Self::read(default, env),
            None => environment::read(env).map_err(Mistakes),
        }
    }

    /// The configuration from where one was read before: a file that came or went elsewhere changes nothing.
    ///
    /// # Errors
    /// What is wrong, a line each.
    pub fn read_again(source: &Source, env: &Variables) -> Result<Self, Mistakes> {
        match source {
            Source::File(file) => Self::read(file, env),
            Source::Environment => environment::read(env).map_err(Mistakes),
        }
    }

    fn read(file: &Path, env: &Variables) -> Result<Self, Mistakes> {
        let text = file::text(file);
        let config = text.map_err(|what| vec![(None, what)]).and_then(|text| Self::parse(&text, file, env));
        config.map_err(|mistakes| {
            let line = |(line, what): (Option<usize>, String)| match line {
                Some(line) => format!("{}:{line}: {what}", file.display()),
                None => format!("{}: {what}", file.display()),
            };
            Mistakes(mistakes.into_iter().map(line).collect())
        })
    }

    /// Mistakes come with their line, in the order of the lines.
    fn parse(text: &str, file: &Path, env: &Variables) -> Result<Self, Vec<(Option<usize>, String)>> {
        let root = yaml::parse(text).map_err(|broken| vec![(broken.line, broken.what)])?;
        if root == yaml::Node::Null {
            return Err(vec![(None, "is empty, expected networks, a list of one or more".to_owned())]);
        }
        document::read(&root, file, env).map_err(|mut found| {
            found.sort_by(|a, b| a.path.cmp(&b.path));
            let more = found.len().saturating_sub(MOST_MISTAKES);
            found.truncate(MOST_MISTAKES);
            let located = |it: tree::Found| (yaml::line(text, &it.path), it.to_string());
            let mut mistakes: Vec<_> = found.into_iter().map(located).collect();
            mistakes.sort_by_key(|(line, _)| *line);
            if more > 0 {
                mistakes.push((None, format!("and {more} more mistakes")));
            }
            mistakes
        })
    }
}

/// Everything that is wrong with a configuration, a line each. Holds no secret.
#[derive(Debug)]
pub struct Mistakes(Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

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
    /// Block explorer for links, without a slash at its end.
    pub explorer_url: Option<String>,
    /// Certificate authorities that its endpoints may have besides the usual ones.
    pub authorities: Option<Authorities>,
}

/// Certificate authorities of a `ca_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// The file they were read from.
    pub file: PathBuf,
    /// At least one, and each fit to be a trust anchor.
    pub certificates: Vec<CertificateDer<'static>>,
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

impl FromStr for Endpoint {
    type Err = String;

    /// A URL without headers of its own; a user part becomes one. The error does not quote the text.
    fn from_str(text: &str) -> Result<Self, String> {
        value::endpoint(&value::Written { text: text.to_owned(), ..value::Written::default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINIMAL: &str = "
networks:
  - name: a
    rpc_urls: ['${RPC}']
    contract: '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'
";

    fn parse(text: &str) -> Result<Config, String> {
        let url = "https://user:sesame@host/secret?key=sesame";
        let env = [("RPC".to_owned(), url.to_owned())].into();
        let joined = |(line, what): (Option<usize>, String)| format!("{}: {what}", line.unwrap_or(0));
        Config::parse(text, Path::new("/etc/exporter.yml"), &env)
            .map_err(|mistakes| mistakes.into_iter().map(joined).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn defaults_are_those_of_the_interface() {
        let config = parse(MINIMAL).expect("valid");
        let network = &config.networks[0];
        assert_eq!(network.confirmations, Confirmations::Blocks(2));
        assert_eq!(network.poll_interval, Duration::from_secs(2));
        assert_eq!(network.request_timeout, Duration::from_secs(10));
        assert_eq!(network.max_block_range, 10_000);
        assert_eq!((network.chain_id, network.start_block, network.expected_owner), (None, None, None));
        assert_eq!(config.state_dir, None);
    }

    #[test]
    fn a_relative_path_starts_where_the_file_lies() {
        let config = parse(&format!("state_dir: state{MINIMAL}")).expect("valid");
        assert_eq!(config.state_dir, Some(PathBuf::from("/etc/state")));
    }

    #[test]
    fn a_variable_never_adds_structure() {
        let text = MINIMAL.replace("name: a", "name: ${RPC:-a}").replace("[", "[x, ");
        let mistakes = parse(&text).expect_err("two mistakes");
        assert!(mistakes.contains("networks[0].name: the value does not fit"), "{mistakes}");
        assert!(!mistakes.contains("sesame"), "{mistakes}");
    }

    #[test]
    fn a_description_holds_everything_but_secrets() {
        let text = parse(MINIMAL).expect("valid").describe();
        let expected = "\
networks:
- name: a
  rpc_urls:
  - url: https://host/***
    headers:
      authorization: '***'
  contract: 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed
  confirmations: 2
  poll_interval: 2s
  request_timeout: 10s
  max_block_range: 10000
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_environment_describes_one_network() {
        let env = [
            ("TESSERACT_RPC_URL", "http://a/1, http://b/2"),
            ("TESSERACT_CONTRACT", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"),
            ("TESSERACT_CONFIRMATIONS", "safe"),
            ("TESSERACT_CHAIN_ID", ""),
            ("TESSERACT_POLL_INTERVAL", "1m"),
            ("PATH", "/bin"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = environment::read(&env).expect("valid");
        let network = &config.networks[0];
        assert_eq!(network.name, "default");
        assert_eq!(network.endpoints.len(), 2);
        assert_eq!(network.confirmations, Confirmations::Safe);
        assert_eq!(network.chain_id, None);
        assert_eq!(network.poll_interval, Duration::from_secs(60));
    }

    proptest! {
        #[test]
        fn survives_any_text(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn survives_a_damaged_file(at in 0..MINIMAL.len(), with in "[\\PC\n]{0,4}", skip in 0usize..6) {
            let end = (at + skip).min(MINIMAL.len());
            let _ = parse(&format!("{}{with}{}", &MINIMAL[..at], &MINIMAL[end..]));
        }
    }
}
