//! Faults of sheer mass: what is within the limit on an answer, and costs many times its size or its time to read.
//!
//! Never builds what it sends as a tree of values itself: a mark stands in the answer until it is text.

use bytes::Bytes;
use futures_util::stream;
use hyper::body::Frame;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fault::Fault;
use super::transport::Cut;

/// What an answer comes to: just within the exporter's limit of 16 MiB.
pub(super) const MASS: usize = (16 << 20) - 1024;

/// Stands for an array in an answer that is not text yet.
const MARK: &str = "an array of objects";

/// What fills the array, after the first.
const ELEMENT: &str = r#",{"":0}"#;

const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\n\r\n";

/// Puts the mark where the fault wants the array.
pub(super) fn mark(fault: Fault, method: &str, answer: &mut Value) {
    let place = match (fault, method) {
        (Fault::TreeCode, "eth_getCode") | (Fault::TreeViews, "eth_call") => answer.get_mut("result"),
        (Fault::TreeTimes, "eth_getLogs") => answer.pointer_mut("/result/0/blockTimestamp"),
        _ => None,
    };
    if let Some(place) = place {
        *place = MARK.into();
    }
}

/// Replaces the first mark by all of the mass, and each other one by nothing.
pub(super) fn inflate(text: String) -> String {
    let mark = format!("\"{MARK}\"");
    if !text.contains(&mark) {
        return text;
    }
    let elements = MASS.saturating_sub(text.len()) / ELEMENT.len();
    let array = format!("[0{}]", ELEMENT.repeat(elements));
    text.replacen(&mark, &array, 1).replace(&mark, "[]")
}

/// An answer, blown up by blanks, in frames of one byte.
pub(super) fn crumbs(text: &str) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Cut>> + use<> {
    let blanks = MASS.saturating_sub(text.len());
    let bytes = Bytes::from(" ".repeat(blanks) + text);
    stream::iter((0..bytes.len()).map(move |at| Ok(Frame::data(bytes.slice(at..=at)))))
}

/// Answers the first bytes of a request with interim answers until the client goes away.
pub(super) async fn interim(mut stream: TcpStream, asked: impl FnOnce()) {
    let many = INTERIM.repeat(1000);
    if stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
        asked();
        while stream.write_all(&many).await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_fills_the_answer_up_to_the_limit() {
        let mut batch = json!([{"id": 1, "result": "0x"}, {"id": 2, "result": "0x"}]);
        batch.as_array_mut().into_iter().flatten().for_each(|it| mark(Fault::TreeViews, "eth_call", it));
        let text = inflate(batch.to_string());
        assert!((MASS - 100..=MASS).contains(&text.len()), "{}", text.len());
        assert!(text.starts_with(r#"[{"id":1,"result":[0,{"":0},{"":0}"#));
        assert!(text.ends_with(r#"{"":0}]},{"id":2,"result":[]}]"#));
        assert_eq!(inflate("{}".to_owned()), "{}");
    }
}
