//! What a body says: the outcome of a call, or of each call of a batch.
//!
//! Pure: bytes in, outcomes out. An answer that is not exactly one to what was asked is none.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Answer, Error, ErrorKind};

/// So many bytes of a body are quoted: more than the longest message has, so that a key is cut in two at the very end of one
/// alone, where it is looked for.
const QUOTED: usize = 40_000;

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

impl Reply<'_> {
    /// The number of the call that it answers; some servers give it back as a string.
    fn number(&self) -> Option<usize> {
        self.id?.get().trim_matches('"').parse().ok()
    }

    /// A result, or the reason why it is none; `null` is none.
    fn outcome(self) -> Answer {
        match (self.error, self.result) {
            (Some(error), _) => Err(Error::rpc(error.code, &error.message)),
            (None, Some(result)) => Ok(result.to_owned()),
            (None, None) => Err(Error::new(ErrorKind::Empty, "null or no result")),
        }
    }
}

/// The outcome of a single call, which bears the id 1.
pub(super) fn single_reply(body: &[u8]) -> Answer {
    let reply: Reply<'_> = parse(body)?;
    if reply.number() == Some(1) || reply.error.is_some() {
        reply.outcome()
    } else {
        Err(Error::new(ErrorKind::Unreadable, "answer to another request (wrong id)"))
    }
}

/// The outcomes of a batch of calls with the ids from 1 on, in their order, whatever that of the answers.
/// A batch that is answered in part, or by more, hints at a balancer that takes batches apart, and has failed
/// as a whole.
pub(super) fn batch_replies(body: &[u8], calls: usize) -> Result<Vec<Answer>, Error> {
    if !body.trim_ascii_start().starts_with(b"[") {
        let reply: Reply<'_> = parse(body)?;
        return Err(match reply.outcome() {
            Err(error) => error,
            Ok(_) => Error::new(ErrorKind::Unreadable, "one answer to a batch"),
        });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = deserializer.deserialize_seq(Replies { most: calls });
    let read = read.and_then(|replies| deserializer.end().map(|()| replies));
    let mut replies = read.map_err(|_| not_json_rpc(body))?;
    replies.sort_by_key(Reply::number);
    if !replies.iter().map(Reply::number).eq((1..=calls).map(Some)) {
        return Err(Error::new(ErrorKind::Unreadable, "batch answered in part"));
    }
    Ok(replies.into_iter().map(Reply::outcome).collect())
}

/// Reads the answers of a batch. A body has room for millions of empty ones: one more than there are calls is kept at most.
struct Replies {
    most: usize,
}

impl<'de> Visitor<'de> for Replies {
    type Value = Vec<Reply<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of answers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut replies = Vec::new();
        while replies.len() <= self.most {
            let Some(reply) = entries.next_element()? else { return Ok(replies) };
            replies.push(reply);
        }
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(replies)
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|_| not_json_rpc(body))
}

fn not_json_rpc(body: &[u8]) -> Error {
    let start = String::from_utf8_lossy(&body[..body.len().min(QUOTED)]);
    Error::new(ErrorKind::Unreadable, format_args!("answer is not JSON-RPC: {start:?}"))
}

/// Whether an HTTP error carries a JSON-RPC error, which says more than the status.
pub(super) fn is_rpc(body: &[u8]) -> bool {
    serde_json::from_slice::<Reply<'_>>(body).is_ok_and(|reply| reply.error.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_answer_must_be_its_own() {
        assert_eq!(single_reply(br#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#).unwrap().get(), "\"0x1\"");
        for (body, message) in [
            (r#"{"id":2,"result":"0x1"}"#, "answer to another request (wrong id)"),
            (r#"{"id":1,"result":null}"#, "null or no result"),
            (r#"{"id":1}"#, "null or no result"),
            (
                r#"{"id":null,"error":{"code":-32000,"message":"header not found"}}"#,
                "error -32000: header not found",
            ),
            ("<html>busy</html>", "answer is not JSON-RPC: \"<html>busy</html>\""),
            ("", "answer is not JSON-RPC: \"\""),
        ] {
            assert_eq!(single_reply(body.as_bytes()).unwrap_err().message, message, "{body}");
        }
    }

    #[test]
    fn a_batch_counts_only_whole_and_in_any_order() {
        for body in [
            r#"[{"id":1,"result":[]},{"id":2,"error":{"code":3}}]"#,
            r#"[{"id":2,"error":{"code":3}},{"id":1,"result":[]}]"#,
            r#"[{"id":"2","error":{"code":3}},{"id":"1","result":[]}]"#,
        ] {
            let results = batch_replies(body.as_bytes(), 2).unwrap();
            assert_eq!(results[0].as_ref().unwrap().get(), "[]", "{body}");
            let reverted = ErrorKind::Rpc(crate::rpc::Refusal::Reverted);
            assert_eq!(results[1].as_ref().unwrap_err().kind, reverted, "{body}");
        }
        for body in [
            r#"[{"id":1,"result":1}]"#,
            r#"[{"id":1,"result":1},{"id":1,"result":1}]"#,
            r#"[{"id":1,"result":1},{"id":2,"result":1},{"id":2,"result":1}]"#,
            r#"[{"id":null,"result":1},{"id":2,"result":1}]"#,
            "[]",
            r#"{"id":null,"error":{"code":-32600,"message":"batches are not supported"}}"#,
            r#"{"id":1,"result":1}"#,
        ] {
            assert!(batch_replies(body.as_bytes(), 2).is_err(), "{body}");
        }
    }

    #[test]
    fn of_a_batch_with_far_too_many_answers_few_are_kept() {
        let body = format!("[{}{{}}]", "{},".repeat(100_000));
        let mut deserializer = serde_json::Deserializer::from_str(&body);
        assert_eq!(deserializer.deserialize_seq(Replies { most: 2 }).unwrap().len(), 3);
        assert_eq!(batch_replies(body.as_bytes(), 2).unwrap_err().message, "batch answered in part");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken(body: Vec<u8>, calls in 1_usize..5) {
            let _ = (single_reply(&body), batch_replies(&body, calls), is_rpc(&body));
        }
    }
}
