//! One endpoint as an HTTP server: posts a body, returns the body of the answer.
//!
//! The only place that knows URL, headers and TLS. Never reads JSON-RPC beyond whether an answer is some, has
//! no time-out of its own, and never puts more of a URL into an error than scheme, host and port.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::reply::is_rpc;
use super::{Error, Outcome};
use crate::config;

/// An answer is cut off beyond this; the range that caused it is then made smaller.
const LARGEST_ANSWER: usize = 16 << 20;

/// A server's words are cut to this many characters before they reach a log.
const LONGEST_MESSAGE: usize = 200;

/// Shared by all endpoints of a network.
pub(super) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Where to post, and with which headers.
#[derive(Debug)]
pub(super) struct HttpEndpoint {
    url: config::Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    client: HttpClient,
}

/// A client for any number of endpoints: HTTP/1 and 2, TLS with the roots built in, keep-alive.
pub(super) fn http_client() -> HttpClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let https = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build(https)
}

impl HttpEndpoint {
    /// Headers that HTTP does not allow were refused by `config`.
    pub(super) fn new(endpoint: &config::Endpoint, client: HttpClient) -> Self {
        let headers = endpoint.headers.iter().filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        });
        Self { url: endpoint.url.clone(), headers: headers.collect(), client }
    }

    /// Prints as scheme, host and port: all of the URL that may be shown.
    pub(super) fn url(&self) -> &config::Url {
        &self.url
    }

    /// Posts a JSON body and returns that of the answer. Whoever calls bounds the time, by dropping this.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<Bytes, Error> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.expose().clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().extend(self.headers.iter().cloned());
        let response = self.client.request(request).await.map_err(|error| connection_error(&error))?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, LARGEST_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let limit = LARGEST_ANSWER >> 20;
                return Err(Error::new(Outcome::Invalid, format_args!("answer of more than {limit} MiB")));
            }
            Err(_) => return Err(Error::new(Outcome::Transport, "connection broke within the answer")),
        };
        if head.status == StatusCode::OK || (head.status != StatusCode::TOO_MANY_REQUESTS && is_rpc(&body)) {
            Ok(body)
        } else {
            Err(Error::http(head.status, &head.headers))
        }
    }

    /// The error as it may be shown. A server's words may repeat the key that it was asked with: the whole
    /// header, or what follows its scheme.
    pub(super) fn redacted(&self, mut error: Error) -> Error {
        let headers = self.headers.iter().filter_map(|(_, value)| value.to_str().ok());
        let tokens = headers.clone().filter_map(|value| Some(value.rsplit_once(' ')?.1));
        for secret in self.url.secrets().chain(headers).chain(tokens) {
            error.message = error.message.replace(secret, "***");
        }
        // Not before: a cut through a key would leave a part of it that looks like none.
        error.message = error.message.chars().take(LONGEST_MESSAGE).collect();
        error
    }
}

/// The innermost cause; hyper's own words never hold the URL.
fn connection_error(error: &hyper_util::client::legacy::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let step = if error.is_connect() { "cannot connect" } else { "request failed" };
    Error::new(Outcome::Transport, format_args!("{step}: {cause}"))
}
