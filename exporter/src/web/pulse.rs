//! What a connection is doing, seen from its socket: who waits for whom, and since when.
//!
//! Never looks into the bytes that pass, and ends nothing itself.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::limits::Phase;

/// An answer moves on with each further part of this size that is sent, so that a byte now and then is none.
const STEP: usize = 64 * 1024;

/// The state of one connection, shared by its socket, its answers and whoever decides about it.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Accepted, shaken hands, or answered last.
    since: Instant,
    /// Requests that came, ever.
    asked: u64,
    /// Those whose answers were not sent yet, by number: several over HTTP/2. `None` while one is being made, then
    /// when it last moved on.
    requests: HashMap<u64, Option<Instant>>,
    /// The first byte since the last request.
    read: Option<Instant>,
    /// A write has waited since then.
    blocked: Option<Instant>,
    /// Over HTTP/2 bytes are not only heads.
    heads_only: bool,
    /// Something was written: before any request that is the server's part of a TLS handshake.
    wrote: bool,
}

impl Pulse {
    /// Of a connection that was just accepted.
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            since: Instant::now(),
            asked: 0,
            requests: HashMap::new(),
            read: None,
            blocked: None,
            heads_only: true,
            wrote: false,
        };
        Arc::new(Self(Mutex::new(state)))
    }

    /// The handshake is done.
    pub(super) fn opened(&self, http2: bool) {
        let mut state = self.state();
        state.since = Instant::now();
        state.heads_only = !http2;
    }

    /// A request came; it is being answered until the guard is dropped.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        let mut state = self.state();
        state.asked += 1;
        let number = state.asked;
        state.requests.insert(number, None);
        state.read = None;
        Answering { pulse: Arc::clone(self), number }
    }

    /// What the connection is doing.
    pub(super) fn phase(&self) -> Phase {
        let state = self.state();
        let sending = state.requests.values().flatten().min().copied();
        match (state.blocked, sending) {
            // Over HTTP/2 one may be read while another stands still.
            (Some(since), sending) => return Phase::Blocked(sending.map_or(since, |it| it.min(since))),
            (None, Some(since)) => return Phase::Sending(since),
            (None, None) => (),
        }
        match *state {
            _ if !state.requests.is_empty() => Phase::Answering,
            State { asked: 0, wrote: false, since, .. } => Phase::Opening(since),
            State { asked: 0, since, .. } => Phase::Shaking(since),
            State { read: Some(since), heads_only: true, .. } => Phase::Reading(since),
            State { since, .. } => Phase::Idle(since),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment: what a panic left is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_read(&self) {
        let mut state = self.state();
        state.read.get_or_insert_with(Instant::now);
    }

    fn wrote<T>(&self, result: &Poll<T>) {
        let mut state = self.state();
        if result.is_ready() {
            state.blocked = None;
            state.wrote = true;
        } else {
            state.blocked.get_or_insert_with(Instant::now);
        }
    }
}

/// One request being answered.
#[derive(Debug)]
pub(super) struct Answering {
    pulse: Arc<Pulse>,
    number: u64,
}

impl Answering {
    /// The answer is made: these bytes, which are on their way until they are dropped.
    pub(super) fn send(self, bytes: Bytes) -> Sending {
        self.moved_on();
        Sending { bytes, answering: self }
    }

    fn moved_on(&self) {
        self.pulse.state().requests.insert(self.number, Some(Instant::now()));
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.pulse.state();
        state.requests.remove(&self.number);
        state.since = Instant::now();
    }
}

/// The bytes of an answer, wherever they wait for its client: also those that HTTP/2 holds back until it wants them.
#[derive(Debug)]
pub(super) struct Sending {
    bytes: Bytes,
    answering: Answering,
}

impl Buf for Sending {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        let before = self.bytes.len() / STEP;
        self.bytes.advance(count);
        if self.bytes.len() / STEP < before {
            self.answering.moved_on();
        }
    }
}

/// The client did not do its part in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

/// Runs what serves a connection, for as long as its phase allows.
pub(super) async fn in_time<F: Future>(pulse: &Pulse, serving: F) -> Result<F::Output, TooSlow> {
    let mut serving = pin!(serving);
    let mut timer = pin!(sleep_until(Instant::now()));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = serving.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        // Phases change only while `serving` is polled, or wake it when they do.
        let Some(deadline) = pulse.phase().deadline() else { return Poll::Pending };
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(TooSlow))
    })
    .await
}

/// A socket that keeps its pulse.
#[derive(Debug)]
pub(super) struct Monitored {
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl Monitored {
    pub(super) fn new(stream: TcpStream, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl AsyncRead for Monitored {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pulse.was_read();
        }
        result
    }
}

impl AsyncWrite for Monitored {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.pulse.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.pulse.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
