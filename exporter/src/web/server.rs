//! Accepts connections and serves each in a task of its own.
//!
//! Never waits for a client: whoever is slow, silent or one too many is closed. What a connection costs is
//! bounded: its buffers here and in the kernel, and how long it may take.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::limits::{Admission, Limits, Peer, admit, first_to_go};
use super::pulse::{Answering, Monitored, Pulse, Sending, TooSlow, in_time};
use super::{Server, Site};
use crate::metrics::ProcessStats;

/// The most that a request's head may take; a browser's cookies fit.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Requests of one HTTP/2 connection at a time; a scraper has one.
const MAX_STREAMS: u32 = 8;
/// What the kernel may hold of a connection in each direction; it doubles this for its own needs. Enough for
/// a scrape over a slow line, and with every connection blocked still a few tens of megabytes.
const SOCKET_BUFFER: usize = 64 * 1024;
/// Connections that may wait to be accepted. Where the queue is full the kernel drops the next one, and a client tries
/// again after a second.
const BACKLOG: i32 = 1024;
/// How long an answer under way may take once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait after a failure to accept, for instance when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What clients can cause at any rate is logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Serves until `shutdown` turns true or its sender is gone, then lets answers under way finish for
/// up to three seconds.
pub async fn serve(listener: TcpListener, site: Site, mut shutdown: watch::Receiver<bool>) {
    // Accepted sockets inherit them.
    let socket = SockRef::from(&listener);
    let buffers = socket.set_send_buffer_size(SOCKET_BUFFER).and(socket.set_recv_buffer_size(SOCKET_BUFFER));
    if let Err(error) = buffers {
        tracing::warn!(%error, "cannot bound the socket buffers of clients");
    }
    if let Err(error) = socket.listen(BACKLOG) {
        tracing::debug!(%error, "the queue of connections to be accepted stays as it was");
    }
    let access = Arc::clone(&site.access);
    let exposed = !listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let watching = tokio::spawn(Arc::clone(&access).watch(exposed, shutdown.clone()));
    let server = Arc::new(Server::new(site));
    let descriptors = ProcessStats::read().map_or(u64::MAX, |stats| stats.max_fds);
    let mut connections = Connections::new(Limits::for_descriptors(descriptors));
    let mut failures = Seldom::default();

    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, address)) => {
                // Otherwise the end of a TLS handshake waits for the client's delayed acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY not set");
                }
                let peer = address.ip().into();
                let tls = access.rules().tls.clone();
                let client = Client { stream, peer, tls };
                let serving = |pulse| connection(Arc::clone(&server), client, pulse, shutdown.clone());
                connections.add(address.ip(), serving).await;
            }
            // It was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => (),
            Err(error) => {
                if let Some(times) = failures.due(Instant::now()) {
                    tracing::warn!(%error, times, "cannot accept connections");
                }
                connections.make_room();
                if timeout(ACCEPT_PAUSE, shutdown.wait_for(|stop| *stop)).await.is_ok() {
                    break;
                }
            }
        }
    }

    drop(listener);
    while connections.tasks.join_next().await.is_some() {}
    // Its panic was logged.
    let _ = watching.await;
}

/// Every connection that is open.
struct Connections {
    limits: Limits,
    tasks: JoinSet<()>,
    open: HashMap<Id, Open>,
    crowded: Seldom,
}

struct Open {
    peer: Peer,
    pulse: Arc<Pulse>,
    task: AbortHandle,
}

impl Connections {
    fn new(limits: Limits) -> Self {
        Self { limits, tasks: JoinSet::new(), open: HashMap::new(), crowded: Seldom::default() }
    }

    /// Serves one more, in place of another where there are too many; drops it where none can go.
    async fn add<F>(&mut self, address: IpAddr, connection: impl FnOnce(Arc<Pulse>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.forget_ended();
        let peer = address.into();
        let open = self.open.iter().map(|(id, it)| (*id, it.peer, it.pulse.phase()));
        let admission = admit(self.limits, peer, Instant::now(), open);
        if admission != Admission::Admit
            && let Some(times) = self.crowded.due(Instant::now())
        {
            let (open, limit) = (self.open.len(), self.limits.total);
            tracing::warn!(client = %address, open, limit, times, "too many connections, closing the oldest idle ones");
        }
        match admission {
            Admission::Admit => (),
            Admission::Replace(id) => self.close(id),
            Admission::Refuse => return,
        }
        // A task that was aborted ends as soon as a worker gets to it, and only then is its socket closed.
        while self.tasks.len() > self.open.len()
            && let Some(ended) = self.tasks.join_next_with_id().await
        {
            self.forget(ended);
        }
        let pulse = Pulse::new();
        let task = self.tasks.spawn(connection(Arc::clone(&pulse)));
        self.open.insert(task.id(), Open { peer, pulse, task });
    }

    /// Frees a file descriptor.
    fn make_room(&mut self) {
        self.forget_ended();
        let open = self.open.iter().map(|(id, it)| (*id, it.peer, it.pulse.phase()));
        if let Some(id) = first_to_go(Instant::now(), open) {
            self.close(id);
        }
    }

    fn close(&mut self, id: Id) {
        if let Some(open) = self.open.remove(&id) {
            open.task.abort();
        }
    }

    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        // A panic was logged where it happened.
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        self.open.remove(&id);
    }
}

/// A client that was accepted.
struct Client {
    stream: TcpStream,
    peer: Peer,
    tls: Option<TlsAcceptor>,
}

/// Serves one connection to its end.
async fn connection(
    server: Arc<Server>,
    client: Client,
    pulse: Arc<Pulse>,
    mut shutdown: watch::Receiver<bool>,
) {
    let Client { stream, peer, tls } = client;
    let stream = Monitored::new(stream, Arc::clone(&pulse));
    let Some(tls) = tls else { return http1(server, stream, peer, &pulse, shutdown).await };
    let shaken = tokio::select! {
        shaken = in_time(&pulse, tls.accept(stream)) => shaken,
        _ = shutdown.wait_for(|stop| *stop) => return,
    };
    match shaken {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            pulse.opened(true);
            http2(server, stream, peer, &pulse, shutdown).await;
        }
        Ok(Ok(stream)) => {
            pulse.opened(false);
            http1(server, stream, peer, &pulse, shutdown).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(TooSlow) => tracing::debug!("TLS handshake timed out"),
    }
}

async fn http1<S>(
    server: Arc<Server>,
    stream: S,
    peer: Peer,
    pulse: &Arc<Pulse>,
    shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(|request| answer(Arc::clone(&server), request, peer, pulse.answering()));
    let connection = http1::Builder::new()
        // The pulse does it.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    drive(connection, pulse, shutdown).await;
}

async fn http2<S>(
    server: Arc<Server>,
    stream: S,
    peer: Peer,
    pulse: &Arc<Pulse>,
    shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::clone(pulse);
    let service = service_fn(move |request| answer(Arc::clone(&server), request, peer, asked.answering()));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buf_size(SOCKET_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    drive(connection, pulse, shutdown).await;
}

async fn answer(
    server: Arc<Server>,
    request: Request<Incoming>,
    peer: Peer,
    answering: Answering,
) -> Result<Response<Full<Sending>>, Infallible> {
    let answer = server.respond(&request, peer).await;
    Ok(answer.map(|body| Full::new(answering.send(body))))
}

/// Until it ends, is too slow, or the server stops; then what is being answered may finish.
async fn drive<C>(connection: C, pulse: &Pulse, mut shutdown: watch::Receiver<bool>)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut connection = pin!(connection);
    let until_stop = async {
        tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = shutdown.wait_for(|stop| *stop) => None,
        }
    };
    match in_time(pulse, until_stop).await {
        Ok(Some(Ok(()))) => (),
        Ok(Some(Err(error))) => tracing::debug!(%error, "connection broke"),
        Err(TooSlow) => tracing::debug!(phase = ?pulse.phase(), "connection timed out"),
        Ok(None) => {
            connection.as_mut().graceful_shutdown();
            if timeout(DRAIN_TIMEOUT, connection).await.is_err() {
                tracing::debug!("connection closed before its answer was read");
            }
        }
    }
}

/// Lets the first of many through, and then one in each [`LOG_INTERVAL`].
#[derive(Default)]
struct Seldom {
    last: Option<Instant>,
    times: u64,
}

impl Seldom {
    /// How often it happened since it was last due, this time included, if it is due now.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.times += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_once_a_minute() {
        let start = Instant::now();
        let mut seldom = Seldom::default();
        let table = [(0, Some(1)), (1, None), (59, None), (60, Some(3)), (61, None), (200, Some(2))];
        for (second, due) in table {
            assert_eq!(seldom.due(start + Duration::from_secs(second)), due, "{second}");
        }
    }
}
