//! Asks a running exporter whether it serves, for a container that has neither a shell nor curl.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::HeaderName;
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use crate::config::Endpoint;

/// Shorter than the time-out of the usual health check, so that the reason can still be shown.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Where to ask.
///
/// # Errors
/// What is wrong with the URL; the text is not quoted.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = text.parse()?;
    if endpoint.url.expose().scheme_str() == Some("https") {
        return Err("this check speaks plain HTTP only, expected http://HOST:PORT".to_owned());
    }
    Ok(endpoint)
}

/// Asks the URL, or its `/-/healthy` where it has no path.
///
/// # Errors
/// One line: any other answer than 200, or none.
pub fn ask(endpoint: &Endpoint) -> Result<String, String> {
    let url = endpoint.url.expose();
    let path = if url.path() == "/" { "/-/healthy" } else { url.path() };
    let shown = format!("{}{path}", endpoint.url);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot ask {shown}: {error}"))?;
    let answer = runtime.block_on(async { timeout(TIMEOUT, status(endpoint, path)).await });
    // A name that is still being looked up holds up nobody.
    runtime.shutdown_background();
    match answer {
        Ok(Ok(StatusCode::OK)) => Ok(format!("{shown}: 200 OK")),
        Ok(Ok(status)) => Err(format!("{shown}: {status}")),
        Ok(Err(error)) => Err(format!("{shown}: {error}; is the exporter running there?")),
        Err(_) => Err(format!("{shown}: no answer within {TIMEOUT:?}")),
    }
}

async fn status(endpoint: &Endpoint, path: &str) -> Result<StatusCode, String> {
    let mut parts = endpoint.url.expose().clone().into_parts();
    let query = parts.path_and_query.as_ref().and_then(|it| it.query());
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    parts.path_and_query = Some(target.parse().map_err(|_| "is not a valid path")?);
    let mut request = Request::get(Uri::from_parts(parts).map_err(|_| "is not a valid URL")?);
    for (name, value) in &endpoint.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "is not a valid header")?;
        request = request.header(name, value.expose());
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| "is not a valid request")?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.map_err(|error| root_cause(&error))?;
    Ok(response.status())
}

/// The innermost error says what happened; those around it say only that a request failed.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
