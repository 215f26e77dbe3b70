//! Takes keys out of what a server said before anybody reads it.
//!
//! A server may repeat what it was asked with. Everything of the URL behind the host, its user part and the
//! headers counts as a key, as nobody can tell a key from a version number. From six characters on, a key is
//! masked wherever it occurs: as written, decoded, escaped, percent-encoded, in hex, or in base64, whatever
//! stands before and after it, in upper or lower case. A shorter one is masked only where it stands as a word
//! of its own, that is, with no letter, digit or underscore next to it, and not in hex or base64: a path like
//! `/v2/1` would make every message unreadable otherwise, and so short a key protects nothing by itself.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::text;

/// Stands in place of a key.
const MASK: &str = "***";

/// A key of fewer characters is masked as a word only.
const SHORTEST_ANYWHERE: usize = 6;

/// A server's words are cut to this many characters.
const LONGEST_MESSAGE: usize = 200;

/// The keys of one endpoint, in every form that is looked for.
pub(super) struct Redactor {
    /// In lower case, the longest first: a part of a longer one would leave the rest of it behind.
    forms: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Redactor {
    pub(super) fn new<'a>(keys: impl Iterator<Item = &'a str>) -> Self {
        let mut forms: Vec<_> = keys.flat_map(forms).map(|form| form.to_ascii_lowercase()).collect();
        // A mask in the text itself looks the same.
        forms.retain(|form| !form.chars().all(|c| c == '*' || c.is_whitespace()));
        forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self { forms }
    }

    /// The message as it may be shown: without keys, and short.
    pub(super) fn redacted(&self, message: &str) -> String {
        // Not cut before: a cut through a key would leave a part of it that looks like none.
        let whole = self.masked(self.without_cut_key(message).to_owned());
        // The cut may have made a word of what was part of one.
        self.masked(whole.chars().take(LONGEST_MESSAGE).collect())
    }

    /// The message without the beginning of a key at its end, where whoever quoted a server broke off.
    fn without_cut_key<'a>(&self, message: &'a str) -> &'a str {
        let lower = message.to_ascii_lowercase();
        let begun = |form: &String| {
            let mut lengths = (SHORTEST_ANYWHERE..form.len()).rev();
            lengths.find(|length| form.get(..*length).is_some_and(|begun| lower.ends_with(begun)))
        };
        let cut = self.forms.iter().filter_map(begun).max().unwrap_or(0);
        &message[..message.len() - cut]
    }

    fn masked(&self, mut message: String) -> String {
        // A mask can make a word of what stands beside it, so until nothing is left. Each mask takes away a
        // character that is neither `*` nor a space, so this ends.
        loop {
            let masked = self.forms.iter().fold(message.clone(), |text, form| mask(&text, form));
            if masked == message {
                return message;
            }
            message = masked;
        }
    }
}

/// Every form in which a server might repeat a key.
fn forms(key: &str) -> Vec<String> {
    let escaped = format!("{key:?}");
    let mut forms = vec![
        key.to_owned(),
        text::one_line(key).collect(),
        escaped[1..escaped.len() - 1].to_owned(),
        utf8_percent_encode(key, NON_ALPHANUMERIC).to_string(),
    ];
    if key.chars().count() >= SHORTEST_ANYWHERE {
        forms.push(key.bytes().map(|byte| format!("{byte:02x}")).collect());
        for before in 0..3 {
            let padded = [&[0; 2][..before], key.as_bytes()].concat();
            // Only the characters that say nothing but the key: those at the ends mix it with its neighbours.
            let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                forms.push(engine.encode(&padded)[from..to].to_owned());
            }
        }
    }
    forms
}

/// Masks every occurrence of `form`, which is in lower case.
fn mask(text: &str, form: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let anywhere = form.chars().count() >= SHORTEST_ANYWHERE;
    let mut out = String::with_capacity(text.len());
    let mut kept = 0;
    let mut from = 0;
    while let Some(at) = lower[from..].find(form).map(|at| from + at) {
        let end = at + form.len();
        if anywhere || stands_alone(text, at, end) {
            out.push_str(&text[kept..at]);
            out.push_str(MASK);
            (kept, from) = (end, end);
        } else {
            from = at + lower[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    out.push_str(&text[kept..]);
    out
}

fn stands_alone(text: &str, from: usize, to: usize) -> bool {
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    !part_of_word(text[..from].chars().next_back()) && !part_of_word(text[to..].chars().next())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redacted(keys: &[&str], message: &str) -> String {
        Redactor::new(keys.iter().copied()).redacted(message)
    }

    #[test]
    fn a_message_stays_readable_where_the_path_is_short() {
        for (keys, message, expected) in [
            (&["v2", "1"][..], "error 1: v21 of /v2/ is 10, 1.5", "error ***: v21 of /***/ is 10, ***.5"),
            (&["eth"], "the method eth_getLogs of eth is", "the method eth_getLogs of *** is"),
            (&["abcdef"], "xabcdefx ABCDEF", "x***x ***"),
            (&["", "*", "***"], "nothing to mask", "nothing to mask"),
            (&["sesame+1/"], "sesame%2B1%2F, sesame%2b1%2f", "***, ***"),
            (&["sesame"], "736573616d65 0x736573616D65", "*** 0x***"),
            (&["a\u{200b}bcdef"], "key abcdef", "key ***"),
            (&["say \"x\""], r#"{"say \"x\""}"#, r#"{"***"}"#),
        ] {
            assert_eq!(redacted(keys, message), expected, "{keys:?}");
        }
    }

    #[test]
    fn of_a_key_that_is_cut_in_two_nothing_is_shown() {
        let key: String = (0..300).map(|number| format!("k{number}")).collect();
        for end in [6, 7, 500, key.len() - 1] {
            let message = format!("{key}{key}{}", &key[..end]);
            assert_eq!(redacted(&[&key], &message), "******", "{end}");
        }
    }

    #[test]
    fn base64_is_found_at_every_offset() {
        for before in ["", "u", "us", "user:", "Bearer "] {
            let quoted = STANDARD_NO_PAD.encode(format!("{before}sesame-open/.?>and more"));
            let shown = redacted(&["sesame-open/.?>"], &quoted);
            assert!(shown.contains(MASK) && shown.len() < quoted.len() - 12, "{before}: {quoted}: {shown}");
        }
    }

    proptest! {
        /// Of one to 64 characters, quoted in any of its forms between any others, near the cut or not.
        #[test]
        fn no_key_is_shown(
            keys in prop::collection::vec("[!-~äß\u{200b}]{1,64}", 1..5),
            words in prop::collection::vec(("[ -~]{0,30}", 0..5_usize, 0..12_usize), 1..8),
            pad in 0..220_usize,
        ) {
            let redactor = Redactor::new(keys.iter().map(String::as_str));
            let mut message = ".".repeat(pad);
            for (word, key, form) in &words {
                let forms = forms(&keys[key % keys.len()]);
                message += word;
                message += &forms[form % forms.len()];
            }
            let shown = redactor.redacted(&text::one_line(&message).collect::<String>());
            for form in &redactor.forms {
                let lower = shown.to_ascii_lowercase();
                let long = form.chars().count() >= SHORTEST_ANYWHERE;
                let at = lower.match_indices(form.as_str());
                let word = at.map(|(at, _)| at).find(|at| long || stands_alone(&lower, *at, at + form.len()));
                prop_assert_eq!(word, None, "{:?} in {:?}", form, shown);
            }
        }
    }
}
