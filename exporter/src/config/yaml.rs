//! The text of a file as a tree, and the line where any part of it stands.
//!
//! The only place that knows `serde_yaml`. Its errors are passed on only where they cannot quote the text.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// One node of the document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    /// A number that is not an integer, or too large for one.
    Number,
    Text(String),
    List(Vec<Node>),
    /// In the order of the text, a repeated key included. A key that is not text is `None`.
    Map(Vec<(Option<String>, Node)>),
    /// With a tag like `!secret`, which means nothing here.
    Tagged,
}

impl Node {
    /// What it is, to go after the word "is".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a number",
            Self::Number => "a number that is not whole, or too large",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Tagged => "tagged with a !type",
        }
    }
}

/// How deep brackets and braces may be nested.
const DEEPEST: usize = 64;

/// Why a text is not a document: the line where one is known, and what is wrong.
pub(crate) struct Broken {
    pub(crate) line: Option<usize>,
    pub(crate) what: String,
}

/// Parses a text.
pub(crate) fn parse(text: &str) -> Result<Node, Broken> {
    if text.trim().is_empty() {
        return Ok(Node::Null);
    }
    if let Some(line) = too_deep(text) {
        let what = format!("lists and mappings are nested too deep, expected at most {DEEPEST} levels");
        return Err(Broken { line: Some(line), what });
    }
    serde_yaml::from_str(text).map_err(|error| {
        let line = error.location().map(|at| at.line());
        let in_text = line.and_then(|line| text.lines().nth(line - 1)).unwrap_or("");
        let indentation = &in_text[..in_text.len() - in_text.trim_start().len()];
        let what = if indentation.contains('\t') {
            "has a tab in its indentation, expected spaces".to_owned()
        } else {
            format!("not valid YAML: {error}")
        };
        Broken { line, what }
    })
}

/// The line on which brackets and braces are nested deeper than any configuration needs. The parser's time
/// grows with the square of this depth, and it limits it only afterwards. In quotes and comments they count as
/// well: that much of them there is no configuration either.
fn too_deep(text: &str) -> Option<usize> {
    let (mut line, mut depth) = (1, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'\n' => line += 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Some(line);
        }
    }
    None
}

/// The line, from 1, of the node that `path` leads to: at each level the place of an entry in its list or
/// mapping. An entry of a mapping stands where its key stands.
pub(crate) fn line(text: &str, path: &[usize]) -> Option<usize> {
    // The deserialiser tells where it is only by an error, so one is raised at the wanted place.
    let error = serde_yaml::Deserializer::from_str(text).deserialize_any(Seek(path)).err()?;
    error.location().map(|at| at.line())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Build)
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(i128::try_from(value).map_or(Node::Number, Node::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = entries.next_element()? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Node, Node>()? {
            let key = if let Node::Text(key) = key { Some(key) } else { None };
            map.push((key, value));
        }
        Ok(Node::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        let (_, content) = data.variant::<IgnoredAny>()?;
        content.newtype_variant::<IgnoredAny>().map(|_| Node::Tagged)
    }
}

/// Walks to a node and raises an error there.
struct Seek<'a>(&'a [usize]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    // Every visit that is not written out below raises the error too.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the search")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((index, rest)) = self.0.split_first() else { return Err(A::Error::custom("here")) };
        for _ in 0..*index {
            entries.next_element::<IgnoredAny>()?;
        }
        entries.next_element_seed(Seek(rest)).map(|_| ())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((index, rest)) = self.0.split_first() else { return Err(A::Error::custom("here")) };
        for _ in 0..*index {
            entries.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if rest.is_empty() {
            return entries.next_key_seed(Seek(rest)).map(|_| ());
        }
        match entries.next_key::<IgnoredAny>()? {
            Some(_) => entries.next_value_seed(Seek(rest)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str =
        "a: 1\nb:\n  - x\n  - {y: 1,\n     z: [1,\n       2]}\nc: &anchor\n  d: 2\ne: *anchor\nf:\n";

    #[test]
    fn lines_are_those_of_the_text() {
        for (path, expected) in [
            (&[][..], 1),
            (&[0], 1),
            (&[1], 2),
            (&[1, 0], 3),
            (&[1, 1], 4),
            (&[1, 1, 0], 4),
            (&[1, 1, 1], 5),
            (&[1, 1, 1, 1], 6),
            (&[2, 0], 8),
            (&[3], 9),
            // What an alias stands for is written where its anchor is.
            (&[3, 0], 8),
            (&[4], 10),
        ] {
            assert_eq!(line(TEXT, path), Some(expected), "{path:?}");
        }
    }

    #[test]
    fn a_repeated_key_and_a_tag_survive() {
        let text = |text: &str| Node::Text(text.to_owned());
        let key = |key: &str| Some(key.to_owned());
        let expected = Node::Map(vec![
            (key("a"), text("x")),
            (key("a"), Node::Tagged),
            (None, Node::Number),
            (key("b"), Node::Null),
        ]);
        let text = "a: x\na: !secret {b: [1]}\n1: 340282366920938463463374607431768211455\nb:\n";
        assert_eq!(parse(text).ok(), Some(expected));
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| format!("a:\n  {}{}", "[{b: ".repeat(depth), "}]".repeat(depth));
        assert!(parse(&nested(DEEPEST / 2)).is_ok());
        let broken = parse(&nested(DEEPEST / 2 + 1)).err().unwrap();
        assert_eq!(broken.line, Some(2));
        assert_eq!(broken.what, "lists and mappings are nested too deep, expected at most 64 levels");
    }

    #[test]
    fn a_path_beyond_the_end_finds_no_line() {
        assert_eq!(line("a:", &[1, 0]), None);
        assert_eq!(line("a:", &[1]), None);
    }

    proptest! {
        #[test]
        fn survives_anything(text in any::<String>(), path in prop::collection::vec(0usize..4, 0..4)) {
            let _ = parse(&text);
            let _ = line(&text, &path);
        }

        #[test]
        fn survives_what_looks_like_yaml(
            text in "([-:,\\[\\]{}&*!|>'\"%#a0 \n]|\\? |<<|- |: |\n  ){0,60}",
            path in prop::collection::vec(0usize..4, 0..4),
        ) {
            let _ = parse(&text);
            let _ = line(&text, &path);
        }
    }
}
