//! What the tree of a web configuration is read with besides `config::tree`, and its mistakes with their lines.
//!
//! Knows no key. Never shows a value that may be a secret, nor a user's name that may be more than a name.

use std::path::{Path, PathBuf};

use crate::config::yaml::{self, Node};

pub(super) use crate::config::tree::{Fields, Findings as Reader, Location};

impl Reader {
    pub(super) fn has_found_any(&self) -> bool {
        !self.found.is_empty()
    }

    /// Every mistake on a line of its own, in the order of the lines; `None` when there is none.
    pub(super) fn mistakes(self, file: &Path, text: &str) -> Option<String> {
        let file = file.display();
        let mut lines: Vec<_> = self
            .found
            .into_iter()
            .map(|found| {
                let line = yaml::line(text, &found.path).unwrap_or(1);
                (line, format!("{file}:{line}: {found}"))
            })
            .collect();
        lines.sort_by_key(|(line, _)| *line);
        let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
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

/// A path as it is written in a file of this directory.
pub(super) fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}
