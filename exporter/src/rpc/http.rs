//! One endpoint as an HTTP server: posts a body, returns the body of the answer.
//!
//! The only place that knows URL, headers and TLS. Never reads JSON-RPC beyond whether an answer is some, has
//! no time-out of its own, follows no redirect, and never puts more of a URL into an error than scheme, host
//! and port.

mod redact;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::http::response::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde::de::IgnoredAny;
use tokio::sync::Notify;

use self::redact::Redactor;
use super::reply::is_rpc;
use super::{Error, ErrorKind};
use crate::{config, text};

/// An answer is cut off beyond this; the range that caused it is then made smaller.
const LARGEST_ANSWER: usize = 16 << 20;

/// Room for an answer that is reserved on the server's word alone.
const LARGEST_RESERVE: usize = 1 << 20;

/// An answer in more pieces costs more time than its bytes are worth: the largest one has 64 bytes in each.
const MOST_PIECES: usize = LARGEST_ANSWER / 64;

/// Interim answers (1xx) before the real one. Nothing asks for any; without a bound they keep a core busy.
const MOST_INTERIM: usize = 16;

const OWN_USER_AGENT: &str = concat!("tesseract-exporter/", env!("CARGO_PKG_VERSION"));

/// Shared by all endpoints of a network.
pub(super) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Where to post, and with which headers.
#[derive(Debug)]
pub(super) struct HttpEndpoint {
    url: config::Url,
    headers: HeaderMap,
    client: HttpClient,
    redactor: Redactor,
}

/// A client for any number of endpoints: HTTP/1 and 2, keep-alive, TLS with the roots built in and the
/// authorities that are configured.
pub(super) fn http_client(authorities: Option<&config::Authorities>) -> HttpClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let further = authorities.map_or(&[][..], |it| &it.certificates);
    // Each was tried when the configuration was read.
    roots.add_parsable_certificates(further.iter().cloned());
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build(https)
}

impl HttpEndpoint {
    /// Headers that HTTP does not allow were refused by `config`; those configured win over our own.
    pub(super) fn new(endpoint: &config::Endpoint, client: HttpClient) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(OWN_USER_AGENT));
        let configured = endpoint.headers.iter().filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        });
        for (name, value) in configured {
            headers.insert(name, value);
        }
        // Nothing here could read another one.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let values = endpoint.headers.iter().map(|(_, value)| value.expose());
        // Whoever knows KEY knows `Bearer KEY`.
        let tokens = values.clone().filter_map(|value| Some(value.rsplit_once(' ')?.1));
        let redactor = Redactor::new(endpoint.url.secrets().chain(values).chain(tokens));
        Self { url: endpoint.url.clone(), headers, client, redactor }
    }

    /// Shown as scheme, host and port: all of the URL that may be shown.
    pub(super) fn url(&self) -> &config::Url {
        &self.url
    }

    /// Posts a JSON body and returns that of the answer. Whoever calls bounds the time, by dropping this.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<Bytes, Error> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.expose().clone();
        *request.headers_mut() = self.headers.clone();
        let too_many_interim = bound_interim(&mut request);
        // Dropping the request closes its connection.
        let response = tokio::select! {
            response = self.client.request(request) => response.map_err(|error| {
                connection_error(&error, self.is_https())
            })?,
            () = too_many_interim.notified() => {
                let what = format_args!("more than {MOST_INTERIM} interim answers (HTTP 1xx)");
                return Err(Error::new(ErrorKind::Unreadable, what));
            }
        };
        let (head, body) = response.into_parts();
        if head.status.is_redirection() && head.headers.contains_key(LOCATION) {
            return Err(self.redirected(&head));
        }
        if let Some(encoding) = head.headers.get(CONTENT_ENCODING).filter(|it| *it != "identity") {
            let what = format_args!("answer is compressed ({encoding:?}), which was not asked for");
            return Err(Error::new(ErrorKind::Unreadable, what));
        }
        let body = whole(body).await?;
        let limited = head.status == StatusCode::TOO_MANY_REQUESTS;
        if head.status.is_success() || (!limited && is_rpc(&body)) {
            Ok(body)
        } else {
            Err(self.refused(&head, &body))
        }
    }

    /// The error as it may be shown.
    pub(super) fn redacted(&self, mut error: Error) -> Error {
        error.message = self.redactor.redacted(&error.message);
        error
    }

    fn refused(&self, head: &Parts, body: &[u8]) -> Error {
        let mut error = Error::http(head.status, &head.headers);
        // What servers say to plain HTTP at a TLS port; a node's own refusal is JSON.
        let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        if head.status == StatusCode::BAD_REQUEST && !self.is_https() && !is_json {
            error.message += "; if the server expects TLS, use an https URL";
        }
        error
    }

    /// A redirect is as a rule a mistyped URL, and following one would send the key to whom it names.
    fn redirected(&self, head: &Parts) -> Error {
        let mut error = Error::http(head.status, &head.headers);
        let target = head.headers.get(LOCATION).and_then(|to| {
            let to = to.to_str().ok()?;
            // Such a one keeps the scheme; to `Uri` it would be a path.
            let scheme = if to.starts_with("//") { format!("{}:", self.scheme()) } else { String::new() };
            format!("{scheme}{to}").parse::<Uri>().ok()
        });
        let shown = target.map_or_else(|| "what is not a URL".to_owned(), |to| self.origin(&to));
        let shown: String = text::one_line(&shown).collect();
        error.message += &format!(" to {shown}: redirects are not followed; set the URL to the final one");
        error
    }

    /// Scheme, host and port of where a redirect leads; a relative one stays with its server.
    fn origin(&self, to: &Uri) -> String {
        let Some(host) = to.host() else { return self.url.to_string() };
        if host.is_empty() {
            return "what is not a URL".to_owned();
        }
        let port = to.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{host}{port}", to.scheme_str().unwrap_or(self.scheme()))
    }

    fn scheme(&self) -> &str {
        self.url.expose().scheme_str().unwrap_or("http")
    }

    fn is_https(&self) -> bool {
        self.scheme() == "https"
    }
}

/// Notified when more interim answers came than are let pass.
fn bound_interim(request: &mut Request<Full<Bytes>>) -> Arc<Notify> {
    let too_many = Arc::new(Notify::new());
    let (notify, seen) = (too_many.clone(), AtomicUsize::new(0));
    hyper::ext::on_informational(request, move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == MOST_INTERIM {
            notify.notify_one();
        }
    });
    too_many
}

fn connection_error(error: &hyper_util::client::legacy::Error, https: bool) -> Error {
    let kind = if error.is_connect() { ErrorKind::Connect } else { ErrorKind::Broken };
    Error::new(kind, words::connection(error, https))
}

/// The whole body in one buffer, whatever pieces it comes in.
async fn whole(mut body: Incoming) -> Result<Bytes, Error> {
    let too_large = || {
        let what = format!("answer of more than {} MiB", LARGEST_ANSWER >> 20);
        Err(Error::new(ErrorKind::TooLarge, what))
    };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > LARGEST_ANSWER {
        return too_large();
    }
    let mut whole = Vec::with_capacity(announced.min(LARGEST_RESERVE));
    let mut pieces = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Error::new(ErrorKind::Broken, "connection broke within the answer"));
        };
        // Trailers mean nothing here.
        let Ok(data) = frame.into_data() else { continue };
        pieces += 1;
        if whole.len() + data.len() > LARGEST_ANSWER {
            return too_large();
        }
        if pieces > MOST_PIECES {
            let what = format!("answer in more than {MOST_PIECES} pieces");
            return Err(Error::new(ErrorKind::TooLarge, what));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}
