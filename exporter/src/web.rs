//! What the HTTP server answers: routes and their headers.
//!
//! An answer is made from the last snapshots; no request waits for a chain, a loop or another
//! request. Nothing a client sends changes anything here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::access::Access;
use self::access::basic::Verdict;
use self::limits::Peer;
use self::pages::Refresh;
use self::scrape::Scrapes;
pub use self::server::serve;
pub use crate::metrics::{Build, Reload};
use crate::progress::Progress;
use crate::snapshot::{Feed, Snapshot};

mod accept;
mod access;
mod health;
mod life;
mod limits;
mod pages;
mod pulse;
mod scrape;
mod server;
mod state;
mod transaction;
mod words;

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
    /// In the order of the configuration.
    pub sources: Vec<Source>,
    /// Grafana without a slash at its end, where the pages are to link to its dashboards.
    pub grafana_url: Option<String>,
    /// How the last reading of the configuration went; [`Access`] knows it of the web configuration.
    pub reload: Reload,
}

/// Where what is known of one network arrives.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its snapshots.
    pub feed: Feed,
    /// How fast it catches up; `None` while it does not.
    pub progress: watch::Receiver<Option<Progress>>,
}

/// What is known of one network now.
struct View {
    snapshot: Arc<Snapshot>,
    progress: Option<Progress>,
    /// How long the exporter has served.
    up: Duration,
}

/// The site with what else an answer needs.
struct Server {
    site: Site,
    scrapes: Scrapes,
    started: Instant,
}

type Answer = Response<Bytes>;

impl Server {
    fn new(site: Site) -> Self {
        Self { site, scrapes: Scrapes::default(), started: Instant::now() }
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
            Some(Verdict::Granted) => self.answer(request.method(), request.uri(), request.headers()).await,
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

    async fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Answer {
        // hyper leaves the body of an answer to HEAD out, and its length in.
        if method != Method::GET && method != Method::HEAD {
            return with(text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"), ALLOW, "GET, HEAD");
        }
        let (path, refresh) = (uri.path(), Refresh::wanted(uri.query()));
        if path == self.site.telemetry_path {
            return self.metrics(headers).await;
        }
        match path {
            "/" => html(StatusCode::OK, pages::home(&self.site, &self.views(), refresh, SystemTime::now())),
            "/style.css" => answer(StatusCode::OK, "text/css; charset=utf-8", pages::STYLE),
            "/health" => health::health(&self.snapshots(), SystemTime::now()),
            "/-/healthy" => text(StatusCode::OK, "healthy\n"),
            "/-/ready" => health::ready(&self.snapshots(), SystemTime::now()),
            "/runbooks" => {
                with(text(StatusCode::PERMANENT_REDIRECT, "see runbooks/\n"), LOCATION, "runbooks/")
            }
            "/runbooks/" => html(StatusCode::OK, pages::runbooks()),
            _ => self.page(path, refresh, headers),
        }
    }

    fn page(&self, path: &str, refresh: Refresh, headers: &HeaderMap) -> Answer {
        if let Some(id) = path.strip_prefix("/tx/") {
            return transaction::answer_for(id, refresh, headers, &self.snapshots());
        }
        let network = path.strip_prefix("/networks/").and_then(|name| {
            let views = self.views();
            let view = views.iter().find(|view| view.snapshot.network == name)?;
            let grafana = self.site.followed.borrow().grafana_url.clone();
            Some(pages::network(view, grafana.as_deref(), refresh, SystemTime::now()))
        });
        match network.or_else(|| path.strip_prefix("/runbooks/").and_then(pages::runbook)) {
            Some(page) => html(StatusCode::OK, page),
            None => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let format = accept::negotiate(headers.get_all(ACCEPT));
        let coding = accept::coding(headers.get_all(ACCEPT_ENCODING));
        let mut reload = self.site.followed.borrow().reload;
        reload.successful &= self.site.access.is_current();
        let exporter = (self.site.build, reload);
        let Ok(body) = self.scrapes.body(self.snapshots(), exporter, format, coding).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics\n");
        };
        let answer =
            with(answer(StatusCode::OK, format.content_type(), body), VARY, "Accept, Accept-Encoding");
        match coding {
            Some(coding) => with(answer, CONTENT_ENCODING, coding.name()),
            None => answer,
        }
    }

    fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        let followed = self.site.followed.borrow();
        followed.sources.iter().map(|source| Arc::clone(&source.feed.borrow())).collect()
    }

    fn views(&self) -> Vec<View> {
        let view = |source: &Source| View {
            snapshot: Arc::clone(&source.feed.borrow()),
            progress: *source.progress.borrow(),
            up: self.started.elapsed(),
        };
        self.site.followed.borrow().sources.iter().map(view).collect()
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

/// A page loads one style from here and nothing else: neither a script nor anything from elsewhere can run in it.
fn html(status: StatusCode, body: String) -> Answer {
    let policy = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                  frame-ancestors 'none'";
    with(answer(status, "text/html; charset=utf-8", body), CONTENT_SECURITY_POLICY, policy)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
