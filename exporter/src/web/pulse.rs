//! What a connection is doing, seen from its socket: who waits for whom, and since when.
//!
//! Never looks into the bytes that pass, and ends nothing itself.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::limits::Phase;

/// The state of one connection, shared by its socket, its answers and whoever decides about it.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Accepted, shaken hands, or answered last.
    since: Instant,
    /// A request came, ever.
    asked: bool,
    /// Requests being answered: several over HTTP/2.
    answering: u32,
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
            asked: false,
            answering: 0,
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
        state.asked = true;
        state.answering += 1;
        state.read = None;
        Answering(Arc::clone(self))
    }

    /// What the connection is doing.
    pub(super) fn phase(&self) -> Phase {
        let state = self.state();
        match *state {
            State { blocked: Some(since), .. } => Phase::Blocked(since),
            State { answering: 1.., .. } => Phase::Answering,
            State { asked: false, wrote: false, since, .. } => Phase::Opening(since),
            State { asked: false, since, .. } => Phase::Shaking(since),
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
pub(super) struct Answering(Arc<Pulse>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering = state.answering.saturating_sub(1);
        state.since = Instant::now();
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
