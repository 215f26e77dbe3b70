//! The tree of a file to a configuration, with every mistake on the way.
//!
//! A mistake never stops the reading: what follows it is read too. Reads the files that `url_file` names.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use hyper::header::HeaderName;

use super::environment::Variables;
use super::tree::{Fields, Findings, Found, Location};
use super::value::{self, Written};
use super::yaml::Node;
use super::{Authorities, Config, Endpoint, Network, Secret, Source, defaults, environment, file};

/// No server takes more, and HTTP libraries have limits of their own.
const MOST_HEADERS: usize = 100;

/// Reads the document of `file`; a relative path in it is relative to the file's directory.
pub(super) fn read(root: &Node, file: &Path, env: &Variables) -> Result<Config, Vec<Found>> {
    let dir = file.parent().unwrap_or(Path::new(""));
    let mut reader = Reader { dir, env, used: HashSet::new(), findings: Findings::default() };
    let config = reader.config(root, file);
    match config {
        Some(config) if reader.findings.found.is_empty() => Ok(config),
        _ => Err(reader.findings.found),
    }
}

struct Reader<'a> {
    dir: &'a Path,
    env: &'a Variables,
    /// The variables that the document asked for.
    used: HashSet<String>,
    findings: Findings,
}

impl Reader<'_> {
    fn config(&mut self, root: &Node, file: &Path) -> Option<Config> {
        const KEYS: [&str; 4] = ["state_dir", "grafana_url", "log_level", "networks"];
        let fields = self.findings.mapping(root, &Location::default(), &KEYS)?;
        let state_dir = self.optional(&fields, "state_dir", value::path, value::PATH);
        let grafana_url = self.optional(&fields, "grafana_url", value::grafana, value::GRAFANA);
        let log_level = self.optional(&fields, "log_level", value::level, value::LEVEL);
        let (location, node) = self.present(&fields, "networks", "a list of one or more networks")?;
        let entries = self.findings.list(node, location, "one or more networks");
        let mut names = HashMap::new();
        let mut networks = Vec::new();
        for (index, node) in entries.iter().enumerate() {
            networks.extend(self.network(node, &location.element(index), &mut names));
        }
        let is_unused = |name: &&str| !self.used.contains(*name);
        Some(Config {
            state_dir: state_dir.map(|it| self.dir.join(it)),
            grafana_url,
            log_level,
            networks,
            source: Source::File(file.to_owned()),
            unused_variables: environment::set(self.env).filter(is_unused).map(str::to_owned).collect(),
        })
    }

    fn network(
        &mut self,
        node: &Node,
        location: &Location,
        names: &mut HashMap<String, String>,
    ) -> Option<Network> {
        const KEYS: [&str; 12] = [
            "name",
            "rpc_urls",
            "contract",
            "chain_id",
            "start_block",
            "confirmations",
            "poll_interval",
            "request_timeout",
            "max_block_range",
            "expected_owner",
            "explorer_url",
            "ca_file",
        ];
        let fields = self.findings.mapping(node, location, &KEYS)?;
        let name = self.required(&fields, "name", value::name, value::NAME);
        if let Some((name, (location, _))) = name.as_ref().zip(fields.get("name")) {
            if let Some(first) = names.get(name) {
                self.findings.wrong(
                    location,
                    format!("{name:?} is the name of {first} already, expected a unique one"),
                );
            } else {
                names.insert(name.clone(), fields.location().key().to_owned());
            }
        }
        let endpoints = self.endpoints(&fields);
        let contract = self.required(&fields, "contract", value::address, value::ADDRESS);
        let chain_id = self.optional(&fields, "chain_id", value::positive, value::POSITIVE);
        let start_block = self.optional(&fields, "start_block", value::whole, value::WHOLE);
        let confirmations =
            self.optional(&fields, "confirmations", value::confirmations, value::CONFIRMATIONS);
        let poll_interval = self.optional(&fields, "poll_interval", value::poll_interval, value::DURATION);
        let request_timeout =
            self.optional(&fields, "request_timeout", value::request_timeout, value::DURATION);
        let max_block_range = self.optional(&fields, "max_block_range", value::positive, value::POSITIVE);
        let expected_owner = self.optional(&fields, "expected_owner", value::address, value::ADDRESS);
        let explorer_url = self.optional(&fields, "explorer_url", value::explorer, value::EXPLORER);
        let dir = self.dir;
        let authorities = self.optional(&fields, "ca_file", |it| authorities(dir, it), value::PATH);
        Some(Network {
            name: name?,
            endpoints: endpoints?,
            contract: contract?,
            chain_id,
            start_block,
            confirmations: confirmations.unwrap_or(defaults::CONFIRMATIONS),
            poll_interval: poll_interval.unwrap_or(defaults::POLL_INTERVAL),
            request_timeout: request_timeout.unwrap_or(defaults::REQUEST_TIMEOUT),
            max_block_range: max_block_range.unwrap_or(defaults::MAX_BLOCK_RANGE),
            expected_owner,
            explorer_url,
            authorities,
        })
    }

    fn endpoints(&mut self, fields: &Fields<'_>) -> Option<Vec<Endpoint>> {
        let (location, node) = self.present(fields, "rpc_urls", "a list of one or more URLs")?;
        let entries = self.findings.list(node, location, "one or more URLs");
        let endpoints = entries.iter().enumerate();
        let endpoints: Vec<_> =
            endpoints.filter_map(|(index, node)| self.endpoint(node, &location.element(index))).collect();
        (!endpoints.is_empty()).then_some(endpoints)
    }

    fn endpoint(&mut self, node: &Node, location: &Location) -> Option<Endpoint> {
        match node {
            Node::Text(_) => self.url(node, location),
            Node::Map(_) => {
                let fields = self.findings.mapping(node, location, &["url", "url_file", "headers"])?;
                let headers = self.headers(&fields);
                let mut endpoint = self.object_url(&fields)?;
                let twice = |(name, _): &(String, Secret)| headers.iter().any(|(other, _)| name == other);
                if endpoint.headers.iter().any(twice) {
                    let what = "has authorization both in the URL's user part and in headers, expected one";
                    self.findings.wrong(fields.location(), what);
                }
                endpoint.headers.extend(headers);
                Some(endpoint)
            }
            _ => {
                self.findings
                    .wrong(location, format!("is {}, expected a URL, or a mapping with url", node.kind()));
                None
            }
        }
    }

    fn object_url(&mut self, fields: &Fields<'_>) -> Option<Endpoint> {
        match (fields.get("url"), fields.get("url_file")) {
            (Some((location, node)), None) => self.url(node, location),
            (None, Some((location, node))) => {
                let written = self.scalar(node, location, value::PATH)?;
                let endpoint = self.endpoint_in_file(&written);
                self.findings.checked(location, endpoint)
            }
            (Some(_), Some((location, _))) => {
                self.findings.wrong(location, "stands beside url, expected only one of the two");
                None
            }
            (None, None) => {
                self.present(fields, "url", "url or url_file")?;
                None
            }
        }
    }

    fn url(&mut self, node: &Node, location: &Location) -> Option<Endpoint> {
        let written = self.scalar(node, location, value::ENDPOINT)?;
        if let Node::Text(text) = node {
            self.findings.checked(location, value::unbraced(text))?;
        }
        self.findings.checked(location, value::endpoint(&written))
    }

    fn endpoint_in_file(&self, written: &Written) -> Result<Endpoint, String> {
        let file = value::path(written)?;
        let text = file::text(&self.dir.join(file)).map_err(|what| format!("{written} {what}"))?;
        let content = Written { text: text.trim().to_owned(), ..Written::default() };
        value::endpoint(&content).map_err(|what| format!("the content of {written} {what}"))
    }

    fn headers(&mut self, fields: &Fields<'_>) -> Vec<(String, Secret)> {
        let Some((location, node)) = fields.get("headers") else { return Vec::new() };
        let Node::Map(entries) = node else {
            self.findings
                .wrong(location, format!("is {}, expected a mapping of names to values", node.kind()));
            return Vec::new();
        };
        if entries.len() > MOST_HEADERS {
            self.findings
                .wrong(location, format!("has {} headers, expected at most {MOST_HEADERS}", entries.len()));
            return Vec::new();
        }
        let mut headers: Vec<(String, Secret)> = Vec::new();
        for (index, (key, node)) in entries.iter().enumerate() {
            let Some(name) = key.as_deref().and_then(|key| key.parse::<HeaderName>().ok()) else {
                // Not shown: it may be a whole line, value and all.
                self.findings
                    .wrong(&location.element(index), "is not a header name, expected letters, digits and -");
                continue;
            };
            let location = location.entry(index, name.as_str());
            if headers.iter().any(|(other, _)| other == name.as_str()) {
                self.findings.wrong(&location, "is there already, expected each header once");
                continue;
            }
            let Some(written) = self.scalar(node, &location, value::HEADER) else { continue };
            let value = self.findings.checked(&location, value::header(&written));
            headers.extend(value.map(|value| (name.as_str().to_owned(), value)));
        }
        headers
    }

    fn present<'n, 'f>(
        &mut self,
        fields: &'f Fields<'n>,
        key: &str,
        expected: &str,
    ) -> Option<(&'f Location, &'n Node)> {
        let entry = fields.get(key);
        if entry.is_none() {
            self.findings.wrong(&fields.at(key), format!("is missing, expected {expected}"));
        }
        entry
    }

    fn required<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        parse: impl Fn(&Written) -> Result<T, String>,
        expected: &str,
    ) -> Option<T> {
        self.present(fields, key, expected)?;
        self.optional(fields, key, parse, expected)
    }

    fn optional<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        parse: impl Fn(&Written) -> Result<T, String>,
        expected: &str,
    ) -> Option<T> {
        let (location, node) = fields.get(key)?;
        let written = self.scalar(node, location, expected)?;
        let parsed = parse(&written);
        self.findings.checked(location, parsed)
    }

    /// A value with its variables filled in.
    fn scalar(&mut self, node: &Node, location: &Location, expected: &str) -> Option<Written> {
        match node {
            Node::Text(text) => {
                let (env, used) = (self.env, &mut self.used);
                let expanded = value::expand(text, |name| {
                    used.insert(name.to_owned());
                    env.get(name).cloned()
                });
                self.findings.checked(location, expanded)
            }
            Node::Integer(number) => Some(Written { text: number.to_string(), secret: false, number: true }),
            _ => {
                self.findings.wrong(location, format!("is {}, expected {expected}", node.kind()));
                None
            }
        }
    }
}

fn authorities(dir: &Path, written: &Written) -> Result<Authorities, String> {
    let file = dir.join(value::path(written)?);
    let certificates = file::certificates(&file).map_err(|what| format!("{written} {what}"))?;
    Ok(Authorities { file, certificates })
}
