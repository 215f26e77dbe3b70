//! Faults of HTTP and below: what happens to a request before it is understood, and to the bytes of
//! an answer. Never looks at what the JSON means.

use std::fmt;
use std::future::pending;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::answer::Outcome;
use super::fault::Fault;
use super::refusal::html;
use super::{bulk, lock};

/// What is sent.
pub(super) type Body = BoxBody<Bytes, Cut>;

/// The connection is to be reset.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fault cuts the connection")
    }
}

impl std::error::Error for Cut {}

/// How late a slow node is, with every call or with each, and how long a trickling one waits before each byte.
pub(super) const LATE: Duration = Duration::from_millis(40);

/// What happens instead of an answer, for faults that need none.
pub(super) async fn instead(fault: Fault) -> Option<Result<Response<Body>, Cut>> {
    let page = |status, title| Some(Ok(respond(status, "text/html", html(title).into())));
    match fault {
        Fault::Hang => pending().await,
        // A connection from before this fault: the next one meets it.
        Fault::ResetBefore | Fault::EndlessInterim => Some(Err(Cut)),
        Fault::HtmlOk => page(200, "Welcome"),
        Fault::BadGateway => page(502, "502 Bad Gateway"),
        Fault::Unavailable => page(503, "503 Service Temporarily Unavailable"),
        Fault::Forbidden => {
            Some(Ok(respond(403, "application/json", Bytes::from(r#"{"message":"Forbidden"}"#))))
        }
        Fault::EmptyBody => Some(Ok(respond(200, "application/json", Bytes::new()))),
        Fault::RetryAfterSeconds => Some(Ok(too_many("1"))),
        Fault::RetryAfterDate => Some(Ok(too_many(&in_two_seconds()))),
        Fault::Rate(refusal) if refusal.code.is_none() => {
            Some(Ok(respond(refusal.status, "text/html", refusal.html().into())))
        }
        Fault::Trickle => Some(Ok(stream_of(stream::unfold((), |()| async {
            pause(LATE).await;
            Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
        })))),
        Fault::OversizedJson => {
            let start = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":""#);
            let chunk = Bytes::from(vec![b'0'; 1 << 16]);
            Some(Ok(stream_of(stream::unfold(start, move |next| {
                let chunk = chunk.clone();
                async { Some((Ok(Frame::data(next)), chunk)) }
            }))))
        }
        Fault::Slow => {
            pause(LATE).await;
            None
        }
        _ => None,
    }
}

/// Sends an answer, with what the fault does to its bytes.
pub(super) async fn send(
    fault: Fault,
    outcome: Outcome,
    rng: &Mutex<ChaCha8Rng>,
) -> Result<Response<Body>, Cut> {
    let Outcome { status, json, text } = outcome;
    let kind = if json { "application/json" } else { "text/html" };
    let mut bytes = bulk::inflate(text).into_bytes();
    match fault {
        Fault::Crumbs => return Ok(stream_of(bulk::crumbs(&String::from_utf8_lossy(&bytes)))),
        Fault::TruncatedJson => bytes.truncate(bytes.len() / 2),
        Fault::Garbage => lock(rng).fill(bytes.as_mut_slice()),
        Fault::BitFlips => {
            let mut rng = lock(rng);
            for _ in 0..=bytes.len() / 1000 {
                let place = rng.random_range(0..bytes.len());
                bytes[place] ^= 0x80;
            }
        }
        Fault::ResetMidBody => {
            let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
            let mut response = stream_of(stream::iter([Ok(Frame::data(half)), Err(Cut)]));
            response.headers_mut().insert("content-length", bytes.len().into());
            return Ok(response);
        }
        _ => {}
    }
    let mut response = respond(status, kind, bytes.into());
    if fault == Fault::CloseAfterEach {
        response.headers_mut().insert(CONNECTION, "close".parse().map_err(|_| Cut)?);
    }
    Ok(response)
}

/// A response with its length told beforehand.
pub(super) fn respond(status: u16, kind: &'static str, bytes: Bytes) -> Response<Body> {
    let body = Full::new(bytes).map_err(|never| match never {}).boxed();
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .body(body)
        .expect("a status and a header of our own are valid")
}

fn too_many(retry_after: &str) -> Response<Body> {
    let mut response = respond(429, "text/plain", Bytes::from_static(b"Too Many Requests"));
    response.headers_mut().insert(RETRY_AFTER, retry_after.parse().expect("digits or a date"));
    response
}

/// At least one second from now, at most two: an HTTP date has no fractions.
fn in_two_seconds() -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2))
}

fn stream_of(
    frames: impl futures_util::Stream<Item = Result<Frame<Bytes>, Cut>> + Send + Sync + 'static,
) -> Response<Body> {
    Response::builder()
        .header(CONTENT_TYPE, "application/json")
        .body(BodyExt::boxed(StreamBody::new(frames)))
        .expect("a header of our own is valid")
}

pub(super) async fn pause(duration: Duration) {
    // Nothing ever arrives, so the time-out is the only way out.
    let _ = tokio::time::timeout(duration, pending::<()>()).await;
}
