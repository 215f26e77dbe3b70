//! The provider's socket: counts, waits or refuses, and puts answers together from what is ready.
//!
//! Bodies are sent as the pieces they consist of; nothing large is copied.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use web3::types::{H160, H256, U64};

use super::ready::Figures;
use super::{Served, State, locked};
use crate::sim::answer;

type Pieces = Vec<Result<Frame<Bytes>, Infallible>>;
type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// Answers for ever.
pub(super) async fn accept(listener: TcpListener, state: State) {
    let state = Arc::new(state);
    loop {
        // A connection that is gone before it is taken is nobody's loss.
        let Ok((stream, _)) = listener.accept().await else { continue };
        // A client waits for each answer.
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(request, Arc::clone(&state)));
            // What goes wrong on a connection is the client's to notice.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    if request.method() == Method::GET {
        return Ok(body(StatusCode::OK, vec![about(&path, &state)]));
    }
    let network = path.parse().ok().and_then(|number: usize| state.networks.get(number));
    let Some(network) = network else { return Ok(body(StatusCode::NOT_FOUND, Vec::new())) };
    let in_flight = state.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
    state.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
    let response = exchange(request, &state, network).await;
    state.in_flight.fetch_sub(1, Ordering::Relaxed);
    Ok(response)
}

async fn exchange(request: Request<Incoming>, state: &State, network: &Served) -> Response<Body> {
    locked(&network.counts).requests += 1;
    let Ok(text) = request.into_body().collect().await else {
        return body(StatusCode::BAD_REQUEST, Vec::new());
    };
    // Not a wait for anything: the time that a request and its answer take to a provider far away.
    if !state.latency.is_zero() {
        tokio::time::sleep(state.latency).await;
    }
    if !state.admits() {
        locked(&network.counts).refused += 1;
        let mut response = body(StatusCode::TOO_MANY_REQUESTS, Vec::new());
        response.headers_mut().insert(RETRY_AFTER, 1.into());
        return response;
    }
    network.keep_up();
    let text = text.to_bytes();
    let Some(pieces) = answers(network, &text) else { return body(StatusCode::BAD_REQUEST, Vec::new()) };
    locked(&network.counts).bytes += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
    body(StatusCode::OK, pieces)
}

/// What the provider tells of itself and of its chains.
fn about(path: &str, state: &State) -> Bytes {
    let text = match path.split('/').collect::<Vec<_>>()[..] {
        ["report"] => serde_json::to_vec(&state.report()),
        ["forget"] => serde_json::to_vec(&state.forget()),
        ["figures", network, last] => {
            let number = |text: &str| text.parse::<u64>().unwrap_or_default();
            let network = &state.networks[number(network) as usize];
            let chain = network.chain.read().unwrap_or_else(PoisonError::into_inner);
            serde_json::to_vec(&Figures::of(&chain, number(last)))
        }
        _ => serde_json::to_vec("no such question"),
    };
    text.expect("figures are JSON").into()
}

/// The answers to a request or a batch; `None` where it is neither.
fn answers(network: &Served, text: &[u8]) -> Option<Vec<Bytes>> {
    let mut pieces = Vec::new();
    if text.first() != Some(&b'[') {
        answer_one(network, serde_json::from_slice(text).ok()?, &mut pieces);
        return Some(pieces);
    }
    for (at, call) in serde_json::from_slice::<Vec<&RawValue>>(text).ok()?.into_iter().enumerate() {
        pieces.push(Bytes::from_static(if at == 0 { b"[" } else { b"," }));
        answer_one(network, call, &mut pieces);
    }
    pieces.push(Bytes::from_static(b"]"));
    Some(pieces)
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// As far as it decides whether a ready answer is the right one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    address: Option<H160>,
    from_block: Option<U64>,
    to_block: Option<U64>,
    block_hash: Option<H256>,
    #[serde(default)]
    topics: Vec<Option<Vec<H256>>>,
}

fn answer_one(network: &Served, text: &RawValue, pieces: &mut Vec<Bytes>) {
    let node =
        || answer(&network.chain.read().unwrap_or_else(PoisonError::into_inner), text.get().as_bytes());
    let Ok(call) = serde_json::from_str::<Call<'_>>(text.get()) else { return pieces.push(node().into()) };
    {
        let mut counts = locked(&network.counts);
        *counts.calls.entry(call.method.to_string()).or_default() += 1;
        let latest = call.params.is_some_and(|params| params.get().contains("\"latest\""));
        let newest = call.method == "eth_getBlockByNumber" && latest;
        counts.polls += u64::from(newest || call.method == "eth_blockNumber");
    }
    let Some((open, result, close)) = ready(network, &call) else { return pieces.push(node().into()) };
    pieces.push(format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{open}", call.id.get()).into());
    pieces.push(result);
    pieces.push(Bytes::from_static(close));
}

/// What stands before the result, the result, and what stands behind it, where it is ready.
fn ready(network: &Served, call: &Call<'_>) -> Option<(&'static str, Bytes, &'static [u8])> {
    let (ready, params) = (network.ready.as_ref()?, call.params?.get());
    match &*call.method {
        "eth_getLogs" => {
            let [filter] = serde_json::from_str::<[Filter; 1]>(params).ok()?;
            if filter.block_hash.is_some() || !ready.all_match(filter.address, &filter.topics) {
                return None;
            }
            let logs = ready.logs(filter.from_block?.as_u64()..=filter.to_block?.as_u64());
            Some(("[", logs, b"]}"))
        }
        "eth_getBlockByNumber" => {
            let (number, false) = serde_json::from_str::<(U64, bool)>(params).ok()? else {
                return None;
            };
            Some(("", ready.header(number.as_u64())?, b"}"))
        }
        _ => None,
    }
}

fn body(status: StatusCode, pieces: Vec<Bytes>) -> Response<Body> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let frames: Pieces = pieces.into_iter().map(|piece| Ok(Frame::data(piece))).collect();
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}
