//! What the HTTP server answers: routes and their headers.
//!
//! An answer is made from the last snapshots; no request waits for a chain, a loop or another
//! request. Nothing a client sends changes anything here.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::sync::watch;

pub use self::access::Access;
use self::access::basic::Verdict;
use self::limits::Peer;
use self::scrape::Scrapes;
pub use self::server::serve;
pub use crate::metrics::{Build, Reload};
use crate::snapshot::{Feed, Snapshot};

mod accept;
mod access;
mod health;
mod limits;
mod pages;
mod pulse;
mod scrape;
mod server;
mod transaction;

/// What is served.
#[derive(Debug)]
pub struct Site {
    /// What is followed, which changes with the configuration.
    pub followed: watch::Receiver<Followed>,
    /// Where the metrics are, for instance `/metrics`.
    pub telemetry_path: String,
    /// What was built.
    pub build: Build,
    /// Who may read it, and over what.
    pub access: Arc<Access>,
}

/// The networks that are followed, and since when.
#[derive(Debug)]
pub struct Followed {
    /// Where the snapshots of each arrive, in the order of the configuration.
    pub feeds: Vec<Feed>,
    /// How the last reading of the configuration went.
    pub reload: Reload,
}

/// The site with what else an answer needs.
struct Server {
    site: Site,
    scrapes: Scrapes,
}

type Answer = Response<Full<Bytes>>;

impl Server {
    fn new(site: Site) -> Self {
        Self { site, scrapes: Scrapes::default() }
    }

    async fn respond<B>(&self, request: &Request<B>, peer: Peer) -> Answer {
        let rules = self.site.access.rules();
        let verdict = match &rules.basic {
            _ if !names_one_host(request.version(), request.headers()) => None,
            Some(basic) if rules.excluded.iter().all(|path| path != request.uri().path()) => {
                Some(basic.check(request.headers().get(AUTHORIZATION), peer).await)
            }
            _ => Some(Verdict::Granted),
        };
        let mut answer = match verdict {
            Some(Verdict::Granted) => {
                self.answer(request.method(), request.uri().path(), request.headers()).await
            }
            Some(Verdict::Denied) => {
                let challenge = "Basic realm=\"tesseract-exporter\", charset=\"UTF-8\"";
                with(
                    text(StatusCode::UNAUTHORIZED, "expected a user and its password\n"),
                    WWW_AUTHENTICATE,
                    challenge,
                )
            }
            Some(Verdict::Busy) => {
                let busy = text(StatusCode::TOO_MANY_REQUESTS, "too many passwords wait to be verified\n");
                with(busy, RETRY_AFTER, "5")
            }
            None => with(text(StatusCode::BAD_REQUEST, "expected one Host header\n"), CONNECTION, "close"),
        };
        for (name, value) in &rules.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        answer
    }

    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        // hyper leaves the body of an answer to HEAD out, and its length in.
        if method != Method::GET && method != Method::HEAD {
            return with(text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"), ALLOW, "GET, HEAD");
        }
        if path == self.site.telemetry_path {
            return self.metrics(headers).await;
        }
        match path {
            "/" => html(pages::home(&self.site)),
            "/health" => health::health(&self.snapshots(), SystemTime::now()),
            "/-/healthy" => text(StatusCode::OK, "healthy\n"),
            "/-/ready" => health::ready(&self.snapshots(), SystemTime::now()),
            "/runbooks/" => html(pages::runbooks()),
            _ => self.page(path, headers),
        }
    }

    fn page(&self, path: &str, headers: &HeaderMap) -> Answer {
        if let Some(id) = path.strip_prefix("/tx/") {
            return transaction::answer_for(id, headers, &self.snapshots());
        }
        match path.strip_prefix("/runbooks/").and_then(pages::runbook) {
            Some(page) => html(page),
            None => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let format = accept::negotiate(headers.get_all(ACCEPT));
        let gzip = accept::takes_gzip(headers.get_all(ACCEPT_ENCODING));
        let exporter = (self.site.build, self.site.followed.borrow().reload);
        let Ok(body) = self.scrapes.body(self.snapshots(), exporter, format, gzip).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics\n");
        };
        let answer =
            with(answer(StatusCode::OK, format.content_type(), body), VARY, "Accept, Accept-Encoding");
        if gzip { with(answer, CONTENT_ENCODING, "gzip") } else { answer }
    }

    fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.site.followed.borrow().feeds.iter().map(|feed| Arc::clone(&feed.borrow())).collect()
    }
}

/// HTTP/1.1 demands just one Host, so that no proxy on the way reads another one than the server.
fn names_one_host(version: Version, headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(HOST).iter().count();
    match version {
        Version::HTTP_11 => hosts == 1,
        _ => hosts <= 1,
    }
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
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
