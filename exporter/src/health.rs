//! Asks a running exporter whether it serves, for a container that has neither a shell nor curl.
//!
//! Over TLS it takes any certificate, as the probes of Kubernetes do: what is asked for is no secret, what is
//! learnt is that something serves, and so no secret is ever sent that way.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::HeaderName;
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;

use crate::config::Endpoint;

/// Shorter than the time-out of the usual health check, so that the reason can still be shown.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What is asked for where the URL has no path.
const LIVENESS: &str = "/-/healthy";

/// Asks the URL, or its `/-/healthy` where it has no path.
///
/// # Errors
/// One line: why the exporter does not serve, as far as that is known.
pub fn ask(endpoint: &Endpoint) -> Result<String, String> {
    let url = endpoint.url.expose();
    let path = if url.path() == "/" { LIVENESS } else { url.path() };
    let shown = format!("{}{path}", endpoint.url);
    if url.scheme_str() == Some("https") && !endpoint.headers.is_empty() {
        return Err(format!(
            "{shown}: no password is sent to a server that is not verified; without one, 401 says that it serves"
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot ask {shown}: {error}"))?;
    let asked = runtime.block_on(async { timeout(TIMEOUT, status(endpoint, path)).await });
    // A name that is still being looked up holds up nobody.
    runtime.shutdown_background();
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{shown}: {error}; is the exporter running there?")),
        Err(_) => return Err(format!("{shown}: no answer within {TIMEOUT:?}")),
    };
    let said = match answer {
        Answer::Status(status) => status.to_string(),
        Answer::CertificateDemanded => "a client certificate is demanded".to_owned(),
    };
    let line = format!("{shown}: {said}");
    if serves(answer, path == LIVENESS) { Ok(line) } else { Err(line) }
}

/// What was answered.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Status(StatusCode),
    /// Instead of an answer: the server wants to see a certificate first.
    CertificateDemanded,
}

/// Whether the exporter serves. Whoever asks for a password or a certificate does, though not this client; anything
/// but liveness is not known then.
fn serves(answer: Answer, liveness: bool) -> bool {
    match answer {
        Answer::Status(StatusCode::OK) => true,
        Answer::Status(StatusCode::UNAUTHORIZED) | Answer::CertificateDemanded => liveness,
        Answer::Status(_) => false,
    }
}

async fn status(endpoint: &Endpoint, path: &str) -> Result<Answer, String> {
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
    let client = Client::builder(TokioExecutor::new()).build(connector()?);
    match client.request(request).await {
        Ok(response) => Ok(Answer::Status(response.status())),
        Err(error) if causes(&error).any(demands_certificate) => Ok(Answer::CertificateDemanded),
        Err(error) if causes(&error).any(is_no_http) => {
            Err("the answer is not HTTP, expected an https URL where the exporter has TLS".to_owned())
        }
        // The innermost error says what happened; those around it say only that a request failed.
        Err(error) => Err(causes(&error).last().map_or_else(String::new, ToString::to_string)),
    }
}

fn connector() -> Result<HttpsConnector<HttpConnector>, String> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build())
}

fn demands_certificate(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)))
}

fn is_no_http(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}

/// From the outermost to the innermost. An `io::Error` that wraps another one does not name it as its source.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// Takes any certificate whose key the server holds.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_password_or_a_certificate_serves() {
        let status = |code| Answer::Status(StatusCode::from_u16(code).unwrap());
        let table = [
            (status(200), true, true),
            (status(401), true, false),
            (Answer::CertificateDemanded, true, false),
            (status(404), false, false),
            (status(429), false, false),
            (status(503), false, false),
        ];
        for (answer, liveness, else_) in table {
            assert_eq!(serves(answer, true), liveness, "{answer:?}");
            assert_eq!(serves(answer, false), else_, "{answer:?}");
        }
    }
}
