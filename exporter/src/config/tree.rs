//! Walks the tree of a YAML file and notes every mistake with where it stands.
//!
//! Knows no key and reads no file. Never shows a value, which may be a secret.

use std::fmt;

use super::value;
use super::yaml::Node;

/// Where a node stands: the way to it, for the line, and what a message calls it.
#[derive(Clone, Default)]
pub(crate) struct Location {
    path: Vec<usize>,
    key: String,
}

impl Location {
    /// An entry of the mapping that stands here.
    pub(crate) fn entry(&self, index: usize, key: &str) -> Self {
        let dot = if self.key.is_empty() { "" } else { "." };
        Self { path: self.below(index), key: format!("{}{dot}{key}", self.key) }
    }

    /// An element of the list that stands here.
    pub(crate) fn element(&self, index: usize) -> Self {
        Self { path: self.below(index), key: format!("{}[{index}]", self.key) }
    }

    /// What a message calls it.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    fn below(&self, index: usize) -> Vec<usize> {
        self.path.iter().copied().chain([index]).collect()
    }
}

/// What is wrong at a location.
pub(crate) struct Found {
    /// The way to the node, for its line.
    pub(crate) path: Vec<usize>,
    key: String,
    what: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.key, self.what)
    }
}

/// The entries of a mapping with known keys.
pub(crate) struct Fields<'n> {
    location: Location,
    entries: Vec<(&'n str, Location, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// Where the mapping stands.
    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// An entry, where it is there.
    pub(crate) fn get(&self, key: &str) -> Option<(&Location, &'n Node)> {
        self.entries.iter().find(|(name, ..)| *name == key).map(|(_, location, node)| (location, *node))
    }

    /// Where a mistake about a key stands: at the key, or where it is missing, which is at the mapping.
    pub(crate) fn at(&self, key: &str) -> Location {
        let missing = || Location { path: self.location.path.clone(), ..self.location.entry(0, key) };
        self.get(key).map_or_else(missing, |(location, _)| location.clone())
    }
}

/// The mistakes found so far: none ends the reading.
#[derive(Default)]
pub(crate) struct Findings {
    /// In the order in which they were found.
    pub(crate) found: Vec<Found>,
}

impl Findings {
    /// Notes a mistake.
    pub(crate) fn wrong(&mut self, location: &Location, what: impl Into<String>) {
        self.found.push(Found { path: location.path.clone(), key: location.key.clone(), what: what.into() });
    }

    /// A value, or a mistake noted.
    pub(crate) fn checked<T>(&mut self, location: &Location, result: Result<T, String>) -> Option<T> {
        result.map_err(|what| self.wrong(location, what)).ok()
    }

    /// A mapping in which these keys may stand.
    pub(crate) fn mapping<'n>(
        &mut self,
        node: &'n Node,
        location: &Location,
        known: &[&str],
    ) -> Option<Fields<'n>> {
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

    /// The elements of a list with at least one; none where it is something else.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, location: &Location, of: &str) -> &'n [Node] {
        match node {
            Node::List(entries) if !entries.is_empty() => return entries,
            Node::List(_) => self.wrong(location, format!("is an empty list, expected {of}")),
            _ => self.wrong(location, format!("is {}, expected a list of {of}", node.kind())),
        }
        &[]
    }
}
