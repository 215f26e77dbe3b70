//! Failed connections in words that say what to change. Decides by the types of errors, never by their words.

use std::error::Error as StdError;
use std::{io, iter};

use hyper_util::client::legacy::Error;
use rustls::{CertificateError, InvalidMessage, PeerIncompatible};

/// One line: what failed, and what to change where that is known. hyper's own words never hold the URL.
pub(super) fn connection(error: &Error, https: bool) -> String {
    let step = if error.is_connect() { "cannot connect" } else { "request failed" };
    let known = causes(error).find_map(|cause| {
        if let Some(error) = cause.downcast_ref() {
            return Some(tls(error));
        }
        if let Some(error) = cause.downcast_ref() {
            return not_http(error, https);
        }
        let kind = cause.downcast_ref::<io::Error>().filter(|error| error.get_ref().is_none())?.kind();
        (https && error.is_connect()).then(|| closed(kind))?
    });
    let innermost = || causes(error).last().map_or_else(|| error.to_string(), ToString::to_string);
    format!("{step}: {}", known.unwrap_or_else(innermost))
}

/// From the outermost to the innermost.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| inner(*error))
}

/// An `io::Error` that wraps another one does not name it as its source.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn not_http(error: &hyper::Error, https: bool) -> Option<String> {
    let hint = if https { "" } else { "; if the server expects TLS, use an https URL" };
    (error.is_parse() && !error.is_parse_too_large()).then(|| format!("the answer is not HTTP{hint}"))
}

/// A server that expects no TLS may just hang up on it.
fn closed(kind: io::ErrorKind) -> Option<String> {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        .then(|| {
            "the server closed the connection during the TLS handshake; if it expects no TLS, \
             use an http URL"
                .to_owned()
        })
}

fn tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "the server does not speak TLS; use an http URL".to_owned(),
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the server offers only outdated TLS versions, expected 1.2 or 1.3".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("the server refused the TLS handshake: {alert:?}"),
        other => format!("TLS failed: {other}"),
    }
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => "the server's certificate is self-signed or from an unknown authority; \
                             name the authority's certificate in ca_file"
            .to_owned(),
        E::Expired | E::ExpiredContext { .. } => "the server's certificate has expired".to_owned(),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; is this machine's clock right?".to_owned()
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "the server's certificate is for another host name".to_owned()
        }
        // What `openssl req -x509` makes unless told otherwise.
        E::Other(other) if is_authority(other) => "the server's certificate is an authority's (CA:TRUE), \
                                                   expected one of a server, signed by it"
            .to_owned(),
        other => format!("the server's certificate is not valid: {other}"),
    }
}

fn is_authority(error: &rustls::OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}
