//! The HTTP server: routes, and connections that cannot hold it up.
//!
//! An answer is made from the last snapshots; no request waits for a chain, a loop or another
//! request. Nothing a client sends changes anything here.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::X_CONTENT_TYPE_OPTIONS;
use hyper::header::{ACCEPT, ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use crate::metrics::Build;
use crate::metrics::{Exposition, ProcessStats, Reload};
use crate::snapshot::{Feed, Snapshot};

mod accept;
mod health;
mod pages;

/// Connections served at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// A client has this long to send a request's head, and an idle connection this long to send another.
/// Longer than the usual scrape interval, so that a scraper keeps its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The most that a request's head may take; a browser's cookies fit.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// A connection is ended after this long, so that clients that never read their answers cannot keep
/// every slot.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
/// How long an answer under way may take once its connection is to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait after a failure to accept, for instance when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What is served.
#[derive(Debug)]
pub struct Site {
    /// The networks, in the order of the configuration.
    pub feeds: Vec<Feed>,
    /// Where the metrics are, for instance `/metrics`.
    pub telemetry_path: String,
    /// What was built.
    pub build: Build,
}

/// Serves until `shutdown` turns true or its sender is gone, then lets answers under way finish for
/// up to three seconds.
pub async fn serve(listener: TcpListener, site: Site, mut shutdown: watch::Receiver<bool>) {
    let reload = Reload { successful: true, last_success: SystemTime::now() };
    let server = Arc::new(Server { site, reload });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();

    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((slot, stream)) => {
                let connection = connection(Arc::clone(&server), stream, shutdown.clone());
                connections.spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "connection broke");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                if timeout(ACCEPT_PAUSE, shutdown.wait_for(|stop| *stop)).await.is_ok() {
                    break;
                }
            }
        }
    }

    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, TcpStream)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((slot, stream))
}

/// Serves one connection to its end, or until it is old or the server stops; then what is being
/// answered may finish.
async fn connection(
    server: Arc<Server>,
    stream: TcpStream,
    mut shutdown: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = server.answer(request.method(), request.uri().path(), request.headers());
        async { Ok::<_, Infallible>(answer) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let until_stop = async {
        tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = shutdown.wait_for(|stop| *stop) => None,
        }
    };
    if let Ok(Some(ended)) = timeout(CONNECTION_LIFETIME, until_stop).await {
        return ended;
    }
    connection.as_mut().graceful_shutdown();
    timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
}

struct Server {
    site: Site,
    reload: Reload,
}

type Answer = Response<Full<Bytes>>;

impl Server {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        // hyper leaves the body of an answer to HEAD out, and its length in.
        if method != Method::GET && method != Method::HEAD {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        if path == self.site.telemetry_path {
            return self.metrics(headers);
        }
        match path {
            "/" => html(pages::home(&self.site)),
            "/health" => health::health(&self.snapshots(), SystemTime::now()),
            "/-/healthy" => text(StatusCode::OK, "healthy\n"),
            "/-/ready" => health::ready(&self.snapshots(), SystemTime::now()),
            "/runbooks/" => html(pages::runbooks()),
            _ => match path.strip_prefix("/runbooks/").and_then(pages::runbook) {
                Some(page) => html(page),
                None => text(StatusCode::NOT_FOUND, "not found\n"),
            },
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Answer {
        let format = accept::negotiate(headers.get_all(ACCEPT));
        let exposition = Exposition {
            networks: self.snapshots(),
            build: self.site.build,
            reload: self.reload,
            process: ProcessStats::read().ok(),
        };
        let Ok(body) = crate::metrics::encode(exposition, format) else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics\n");
        };
        let mut answer = answer(StatusCode::OK, format.content_type(), body);
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        answer
    }

    fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.site.feeds.iter().map(|feed| Arc::clone(&feed.borrow())).collect()
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

fn html(body: String) -> Answer {
    let mut answer = answer(StatusCode::OK, "text/html; charset=utf-8", body);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
