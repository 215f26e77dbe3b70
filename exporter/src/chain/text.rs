//! Whether later answers hold the same logs again, told by their text and without reading them, which is most of what
//! a second answer costs.
//!
//! Where texts differ the logs may still be the same ones: then they are to be read.

use std::hash::{BuildHasher, Hasher, RandomState};

use serde_json::value::RawValue;

use super::{Log, logs};
use crate::rpc::Raw;

/// The logs of an answer as text, known by its length and by a hash that no server can foresee.
#[derive(Debug)]
pub struct Text {
    length: usize,
    hash: u64,
    keys: RandomState,
}

impl Text {
    /// Of the result of `eth_getLogs`; `None` where it is no list.
    pub fn of(raw: &Raw) -> Option<Self> {
        let (text, keys) = (inside(raw)?, RandomState::new());
        let mut hasher = keys.build_hasher();
        hasher.write(text);
        Some(Self { length: text.len(), hash: hasher.finish(), keys })
    }

    /// What the lists of these answers, one after the other, hold after this text; `None` where they do not begin with it.
    pub fn rest(&self, answers: &[&Raw]) -> Option<Vec<Log>> {
        let lists: Option<Vec<&[u8]>> = answers.iter().map(|raw| inside(raw)).collect();
        let (mut hasher, mut left, mut rest) = (self.keys.build_hasher(), self.length, Vec::new());
        let mut is_first = true;
        for list in lists?.into_iter().filter(|list| !list.is_empty()) {
            let comma: &[u8] = if std::mem::take(&mut is_first) { b"" } else { b"," };
            for piece in [comma, list] {
                let (same, more) = piece.split_at(left.min(piece.len()));
                hasher.write(same);
                left -= same.len();
                rest.extend_from_slice(more);
            }
        }
        if left > 0 || hasher.finish() != self.hash {
            return None;
        }
        let rest = match (rest.strip_prefix(b","), self.length) {
            (Some(rest), 1..) => rest,
            (None, 0) => &rest,
            // The last log goes on.
            _ if !rest.is_empty() => return None,
            _ => return Some(Vec::new()),
        };
        let list = format!("[{}]", std::str::from_utf8(rest).ok()?);
        logs(&RawValue::from_string(list).ok()?).ok()
    }
}

/// What stands between the brackets of a list.
fn inside(raw: &RawValue) -> Option<&[u8]> {
    let list = raw.get().strip_prefix('[')?.strip_suffix(']')?;
    Some(list.trim_ascii().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(logs: &[String]) -> Raw {
        RawValue::from_string(format!("[{}]", logs.join(","))).unwrap()
    }

    fn log(block: u64, data: u8) -> String {
        let word = |byte: u8| format!("0x{}", format!("{byte:02x}").repeat(32));
        format!(
            r#"{{"address":"0x{}","topics":[],"data":"0x{data:02x}","blockNumber":"{block:#x}","blockHash":"{}","transactionHash":"{}","logIndex":"0x0"}}"#,
            "11".repeat(20),
            word(1),
            word(2),
        )
    }

    proptest! {
        #[test]
        fn the_same_logs_are_known_however_they_are_split(
            first in proptest::collection::vec((0..50_u64, any::<u8>()), 0..8),
            beyond in proptest::collection::vec((50..60_u64, any::<u8>()), 0..3),
            ends in proptest::collection::vec(0..12_usize, 0..4),
        ) {
            let of = |logs: &[(u64, u8)]| logs.iter().map(|(block, data)| log(*block, *data)).collect::<Vec<_>>();
            let text = Text::of(&list(&of(&first))).unwrap();
            let all = of(&[first, beyond.clone()].concat());
            let mut ends: Vec<_> = ends.into_iter().map(|end| end.min(all.len())).chain([0, all.len()]).collect();
            ends.sort_unstable();
            let answers: Vec<_> = ends.windows(2).map(|ends| list(&all[ends[0]..ends[1]])).collect();
            let rest = text.rest(&answers.iter().collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(rest, logs(&list(&of(&beyond))).unwrap());
        }

        #[test]
        fn other_logs_are_not(
            first in proptest::collection::vec(any::<u8>(), 1..8), other in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            prop_assume!(!other.starts_with(&first));
            let of = |data: &[u8]| list(&data.iter().map(|data| log(1, *data)).collect::<Vec<_>>());
            prop_assert!(Text::of(&of(&first)).unwrap().rest(&[&of(&other)]).is_none());
        }

        #[test]
        fn any_text_is_taken(first: Vec<u8>, other: Vec<u8>, numbers: bool) {
            let raw = |bytes: &[u8]| {
                let json = if numbers { serde_json::to_string(bytes) } else { serde_json::to_string(&String::from_utf8_lossy(bytes)) };
                RawValue::from_string(json.unwrap()).unwrap()
            };
            if let Some(text) = Text::of(&raw(&first)) {
                let _ = text.rest(&[&raw(&other), &raw(&first)]);
            }
        }
    }

    #[test]
    fn a_text_that_ends_within_a_value_is_another_one() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let text = Text::of(&raw("[1, 2]")).unwrap();
        assert_eq!(text.rest(&[&raw("[ 1, 2 ]"), &raw("[]")]), Some(Vec::new()));
        for other in ["[1, 25]", "[1]", "[]", "[1,2]", "{}", "null", "[3, 2]"] {
            assert_eq!(text.rest(&[&raw(other)]), None, "{other}");
        }
        assert!(Text::of(&raw("null")).is_none());
    }
}
