//! Walks the tree of a web configuration and notes every mistake with its line.
//!
//! Knows no key. Never shows a value that may be a secret, nor a key that may be more than a name.

use std::path::{Path, PathBuf};

use crate::config::yaml::{self, Node};

/// No file is read beyond this.
const LARGEST: u64 = 1 << 20;

/// Where a node stands, and what a message calls it.
#[derive(Clone, Default)]
pub(super) struct Location {
    path: Vec<usize>,
    key: String,
}

impl Location {
    fn entry(&self, index: usize, key: &str) -> Self {
        let dot = if self.key.is_empty() { "" } else { "." };
        Self { path: self.below(index), key: format!("{}{dot}{key}", self.key) }
    }

    fn element(&self, index: usize) -> Self {
        Self { path: self.below(index), key: format!("{}[{index}]", self.key) }
    }

    fn below(&self, index: usize) -> Vec<usize> {
        self.path.iter().copied().chain([index]).collect()
    }
}

/// The mistakes found so far.
#[derive(Default)]
pub(super) struct Reader {
    found: Vec<(Location, String)>,
}

/// The entries of a mapping with known keys.
pub(super) struct Fields<'n> {
    pub(super) location: Location,
    entries: Vec<(&'n str, Location, &'n Node)>,
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<(&Location, &'n Node)> {
        self.entries.iter().find(|(name, ..)| *name == key).map(|(_, location, node)| (location, *node))
    }

    /// Where a mistake about a key stands: at the key, or where it is missing.
    pub(super) fn at(&self, key: &str) -> Location {
        let missing = || Location { path: self.location.path.clone(), ..self.location.entry(0, key) };
        self.get(key).map_or_else(missing, |(location, _)| location.clone())
    }
}

impl Reader {
    pub(super) fn wrong(&mut self, location: &Location, what: impl Into<String>) {
        self.found.push((location.clone(), what.into()));
    }

    pub(super) fn has_found_any(&self) -> bool {
        !self.found.is_empty()
    }

    pub(super) fn checked<T>(&mut self, location: &Location, result: Result<T, String>) -> Option<T> {
        result.map_err(|what| self.wrong(location, what)).ok()
    }

    /// Every mistake on a line of its own, in the order of the lines; `None` when there is none.
    pub(super) fn mistakes(self, file: &Path, text: &str) -> Option<String> {
        let file = file.display();
        let mut lines: Vec<_> = self
            .found
            .into_iter()
            .map(|(location, what)| {
                let line = yaml::line(text, &location.path).unwrap_or(1);
                let colon = if location.key.is_empty() { "" } else { ": " };
                (line, format!("{file}:{line}: {}{colon}{what}", location.key))
            })
            .collect();
        lines.sort_by_key(|(line, _)| *line);
        let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// A mapping in which these keys may stand.
    pub(super) fn mapping<'n>(
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
                let shown = key.as_deref().filter(|key| is_plain(key)).unwrap_or("?");
                let what = format!("unknown key, expected one of {}", known.join(", "));
                self.wrong(&location.entry(index, shown), what);
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

    /// The entries of a mapping whose keys are the user's.
    pub(super) fn entries<'n>(
        &mut self,
        node: &'n Node,
        location: &Location,
        of: &str,
    ) -> Vec<(&'n str, Location, &'n Node)> {
        let Node::Map(entries) = node else {
            self.wrong(location, format!("is {}, expected a mapping of {of}", node.kind()));
            return Vec::new();
        };
        let mut read: Vec<(&str, Location, &Node)> = Vec::new();
        for (index, (key, node)) in entries.iter().enumerate() {
            let Some(key) = key.as_deref() else {
                self.wrong(&location.entry(index, "?"), format!("has a key that is not text, expected {of}"));
                continue;
            };
            let location = location.entry(index, if is_plain(key) { key } else { "?" });
            if read.iter().any(|(other, ..)| *other == key) {
                self.wrong(&location, "is there already, expected each once");
            } else {
                read.push((key, location, node));
            }
        }
        read
    }

    /// A list of texts, without those that are none.
    pub(super) fn texts<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<Vec<(Location, &'n str)>> {
        let (location, node) = fields.get(key)?;
        let Node::List(elements) = node else {
            self.wrong(location, format!("is {}, expected a list", node.kind()));
            return None;
        };
        if elements.is_empty() {
            self.wrong(location, "is an empty list, expected one or more, or no such key");
            return None;
        }
        let mut texts = Vec::new();
        for (index, node) in elements.iter().enumerate() {
            let location = location.element(index);
            texts.extend(self.text_of(&location, node).map(|text| (location, text)));
        }
        Some(texts)
    }

    pub(super) fn text<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<&'n str> {
        let (location, node) = fields.get(key)?;
        self.text_of(location, node)
    }

    pub(super) fn text_of<'n>(&mut self, location: &Location, node: &'n Node) -> Option<&'n str> {
        match node {
            Node::Text(text) if !text.is_empty() => Some(text),
            Node::Text(_) => {
                self.wrong(location, "is empty, expected text");
                None
            }
            _ => {
                self.wrong(location, format!("is {}, expected text", node.kind()));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        match fields.get(key)? {
            (_, Node::Bool(value)) => Some(*value),
            (location, node) => {
                self.wrong(location, format!("is {}, expected true or false", node.kind()));
                None
            }
        }
    }

    /// One of these names.
    pub(super) fn named<T: Copy>(
        &mut self,
        location: &Location,
        text: &str,
        names: &[(&str, T)],
    ) -> Option<T> {
        let found = names.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            let shown = if is_plain(text) { text } else { "the value" };
            self.wrong(location, format!("{shown} is not supported, expected one of {}", names.join(", ")));
        }
        found.map(|(_, value)| *value)
    }
}

/// Safe to show: a name, not a secret or a sentence.
fn is_plain(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it))
}

/// A small file.
///
/// # Errors
/// What is wrong with it, to go after its name.
pub(super) fn contents(file: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let reason = |error: std::io::Error| format!("cannot be read: {error}");
    // Before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(file).map_err(reason)?.is_file() {
        return Err("is not a regular file, expected one".to_owned());
    }
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(reason)?;
    opened.take(LARGEST + 1).read_to_end(&mut bytes).map_err(reason)?;
    if bytes.len() as u64 > LARGEST {
        return Err("is larger than 1 MiB, expected a small file".to_owned());
    }
    Ok(bytes)
}

/// A path as it is written in a file of this directory.
pub(super) fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}
