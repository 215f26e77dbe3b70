//! The tree of a file to a configuration, with every mistake on the way.
//!
//! A mistake never stops the reading: what follows it is read too. Reads the files that `url_file` names.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use hyper::header::HeaderName;

use super::environment::Variables;
use super::value::{self, Written};
use super::yaml::Node;
use super::{Authorities, Config, Endpoint, Network, Secret, Source, defaults, environment, file};

/// No server takes more, and HTTP libraries have limits of their own.
const MOST_HEADERS: usize = 100;

/// Where a node stands: the way to it, for the line, and what a message calls it.
#[derive(Clone)]
struct Location {
    path: Vec<usize>,
    key: String,
}

impl Location {
    fn entry(&self, index: usize, key: &str) -> Self {
        let path = self.path.iter().copied().chain([index]).collect();
        let dot = if self.key.is_empty() { "" } else { "." };
        Self { path, key: format!("{}{dot}{key}", self.key) }
    }

    fn element(&self, index: usize) -> Self {
        let path = self.path.iter().copied().chain([index]).collect();
        Self { path, key: format!("{}[{index}]", self.key) }
    }
}

/// What is wrong at a location.
pub(super) struct Found {
    pub(super) path: Vec<usize>,
    pub(super) key: String,
    pub(super) what: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.key, self.what)
    }
}

/// Reads the document of `file`; a relative path in it is relative to the file's directory.
pub(super) fn read(root: &Node, file: &Path, env: &Variables) -> Result<Config, Vec<Found>> {
    let dir = file.parent().unwrap_or(Path::new(""));
    let mut reader = Reader { dir, env, used: HashSet::new(), found: Vec::new() };
    let config = reader.config(root).map(|(state_dir, networks)| Config {
        state_dir,
        networks,
        source: Source::File(file.to_owned()),
        unused_variables: environment::set(env)
            .filter(|name| !reader.used.contains(*name))
            .map(str::to_owned)
            .collect(),
    });
    match config {
        Some(config) if reader.found.is_empty() => Ok(config),
        _ => Err(reader.found),
    }
}

struct Reader<'a> {
    dir: &'a Path,
    env: &'a Variables,
    /// The variables that the document asked for.
    used: HashSet<String>,
    found: Vec<Found>,
}

/// The entries of a mapping with known keys.
struct Fields<'n> {
    location: Location,
    entries: Vec<(&'n str, Location, &'n Node)>,
}

impl<'n> Fields<'n> {
    fn get(&self, key: &str) -> Option<(&Location, &'n Node)> {
        self.entries.iter().find(|(name, ..)| *name == key).map(|(_, location, node)| (location, *node))
    }
}

impl Reader<'_> {
    fn config(&mut self, root: &Node) -> Option<(Option<PathBuf>, Vec<Network>)> {
        let location = Location { path: Vec::new(), key: String::new() };
        let fields = self.mapping(root, &location, &["state_dir", "networks"])?;
        let state_dir = self.optional(&fields, "state_dir", value::path);
        let (location, node) = self.present(&fields, "networks", "a list of one or more networks")?;
        let entries = self.list(node, location, "one or more networks");
        let mut names = HashMap::new();
        let mut networks = Vec::new();
        for (index, node) in entries.iter().enumerate() {
            networks.extend(self.network(node, &location.element(index), &mut names));
        }
        Some((state_dir.map(|it| self.dir.join(it)), networks))
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
        let fields = self.mapping(node, location, &KEYS)?;
        let name = self.required(&fields, "name", value::name, "a unique name");
        if let Some((name, (location, _))) = name.as_ref().zip(fields.get("name")) {
            if let Some(first) = names.get(name) {
                self.wrong(
                    location,
                    format!("{name:?} is the name of {first} already, expected a unique one"),
                );
            } else {
                names.insert(name.clone(), fields.location.key.clone());
            }
        }
        let endpoints = self.endpoints(&fields);
        let contract = self.required(&fields, "contract", value::address, "an address");
        let chain_id = self.optional(&fields, "chain_id", |it| value::number(it, 1));
        let start_block = self.optional(&fields, "start_block", |it| value::number(it, 0));
        let confirmations = self.optional(&fields, "confirmations", value::confirmations);
        let poll_interval = self.optional(&fields, "poll_interval", value::poll_interval);
        let request_timeout = self.optional(&fields, "request_timeout", value::request_timeout);
        let max_block_range = self.optional(&fields, "max_block_range", |it| value::number(it, 1));
        let expected_owner = self.optional(&fields, "expected_owner", value::address);
        let explorer_url = self.optional(&fields, "explorer_url", value::explorer);
        let dir = self.dir;
        let authorities = self.optional(&fields, "ca_file", |it| authorities(dir, it));
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
        let entries = self.list(node, location, "one or more URLs");
        let endpoints = entries.iter().enumerate();
        let endpoints: Vec<_> =
            endpoints.filter_map(|(index, node)| self.endpoint(node, &location.element(index))).collect();
        (!endpoints.is_empty()).then_some(endpoints)
    }

    fn endpoint(&mut self, node: &Node, location: &Location) -> Option<Endpoint> {
        match node {
            Node::Text(_) => self.url(node, location),
            Node::Map(_) => {
                let fields = self.mapping(node, location, &["url", "url_file", "headers"])?;
                let headers = self.headers(&fields);
                let mut endpoint = self.object_url(&fields)?;
                let twice = |(name, _): &(String, Secret)| headers.iter().any(|(other, _)| name == other);
                if endpoint.headers.iter().any(twice) {
                    let what = "has authorization both in the URL's user part and in headers, expected one";
                    self.wrong(&fields.location, what);
                }
                endpoint.headers.extend(headers);
                Some(endpoint)
            }
            _ => {
                self.wrong(location, format!("is {}, expected a URL, or a mapping with url", node.kind()));
                None
            }
        }
    }

    fn object_url(&mut self, fields: &Fields<'_>) -> Option<Endpoint> {
        match (fields.get("url"), fields.get("url_file")) {
            (Some((location, node)), None) => self.url(node, location),
            (None, Some((location, node))) => {
                let written = self.scalar(node, location)?;
                let endpoint = self.endpoint_in_file(&written);
                self.checked(location, endpoint)
            }
            (Some(_), Some((location, _))) => {
                self.wrong(location, "stands beside url, expected only one of the two");
                None
            }
            (None, None) => {
                self.present(fields, "url", "url or url_file")?;
                None
            }
        }
    }

    fn url(&mut self, node: &Node, location: &Location) -> Option<Endpoint> {
        let written = self.scalar(node, location)?;
        if let Node::Text(text) = node {
            self.checked(location, value::unbraced(text))?;
        }
        self.checked(location, value::endpoint(&written))
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
            self.wrong(location, format!("is {}, expected a mapping of names to values", node.kind()));
            return Vec::new();
        };
        if entries.len() > MOST_HEADERS {
            self.wrong(location, format!("has {} headers, expected at most {MOST_HEADERS}", entries.len()));
            return Vec::new();
        }
        let mut headers: Vec<(String, Secret)> = Vec::new();
        for (index, (key, node)) in entries.iter().enumerate() {
            let Some(name) = key.as_deref().and_then(|key| key.parse::<HeaderName>().ok()) else {
                // Not shown: it may be a whole line, value and all.
                self.wrong(&location.element(index), "is not a header name, expected letters, digits and -");
                continue;
            };
            let location = location.entry(index, name.as_str());
            if headers.iter().any(|(other, _)| other == name.as_str()) {
                self.wrong(&location, "is there already, expected each header once");
                continue;
            }
            let Some(written) = self.scalar(node, &location) else { continue };
            let value = self.checked(&location, value::header(&written));
            headers.extend(value.map(|value| (name.as_str().to_owned(), value)));
        }
        headers
    }

    fn mapping<'n>(&mut self, node: &'n Node, location: &Location, known: &[&str]) -> Option<Fields<'n>> {
        let Node::Map(entries) = node else {
            self.wrong(location, format!("is {}, expected a mapping with {}", node.kind(), known.join(", ")));
            return None;
        };
        let mut fields = Fields { location: location.clone(), entries: Vec::new() };
        for (index, (key, node)) in entries.iter().enumerate() {
            let Some(key) = key.as_deref().filter(|key| known.contains(key)) else {
                let shown = key.as_deref().map_or_else(|| "?".to_owned(), value::key);
                let what = format!("unknown key, expected one of {}", known.join(", "));
                self.wrong(&location.entry(index, &shown), what);
                continue;
            };
            let location = location.entry(index, key);
            if fields.get(key).is_some() {
                self.wrong(&location, "is there already, expected each key once");
            } else {
                fields.entries.push((key, location, node));
            }
        }
        Some(fields)
    }

    fn list<'n>(&mut self, node: &'n Node, location: &Location, of: &str) -> &'n [Node] {
        match node {
            Node::List(entries) if !entries.is_empty() => entries,
            Node::List(_) => {
                self.wrong(location, format!("is an empty list, expected {of}"));
                &[]
            }
            _ => {
                self.wrong(location, format!("is {}, expected a list of {of}", node.kind()));
                &[]
            }
        }
    }

    fn present<'n, 'f>(
        &mut self,
        fields: &'f Fields<'n>,
        key: &str,
        expected: &str,
    ) -> Option<(&'f Location, &'n Node)> {
        let entry = fields.get(key);
        if entry.is_none() {
            // There is no line of its own: it stands where the mapping begins.
            let location = Location { path: fields.location.path.clone(), ..fields.location.entry(0, key) };
            self.wrong(&location, format!("is missing, expected {expected}"));
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
        self.optional(fields, key, parse)
    }

    fn optional<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        parse: impl Fn(&Written) -> Result<T, String>,
    ) -> Option<T> {
        let (location, node) = fields.get(key)?;
        let written = self.scalar(node, location)?;
        let parsed = parse(&written);
        self.checked(location, parsed)
    }

    /// A value with its variables filled in.
    fn scalar(&mut self, node: &Node, location: &Location) -> Option<Written> {
        match node {
            Node::Text(text) => {
                let (env, used) = (self.env, &mut self.used);
                let expanded = value::expand(text, |name| {
                    used.insert(name.to_owned());
                    env.get(name).cloned()
                });
                self.checked(location, expanded)
            }
            Node::Integer(number) => Some(Written { text: number.to_string(), secret: false, number: true }),
            _ => {
                self.wrong(location, format!("is {}, expected one value", node.kind()));
                None
            }
        }
    }

    fn checked<T>(&mut self, location: &Location, result: Result<T, String>) -> Option<T> {
        result.map_err(|what| self.wrong(location, what)).ok()
    }

    fn wrong(&mut self, location: &Location, what: impl Into<String>) {
        self.found.push(Found { path: location.path.clone(), key: location.key.clone(), what: what.into() });
    }
}

fn authorities(dir: &Path, written: &Written) -> Result<Authorities, String> {
    let file = dir.join(value::path(written)?);
    let certificates = file::certificates(&file).map_err(|what| format!("{written} {what}"))?;
    Ok(Authorities { file, certificates })
}
