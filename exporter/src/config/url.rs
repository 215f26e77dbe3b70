//! An RPC URL and other secrets: values that cannot be printed by mistake.

use std::fmt;

use percent_encoding::percent_decode_str;

/// An RPC URL: only scheme, host and port can be printed.
///
/// Its user part is sent as a header, and known here as a secret alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    uri: hyper::Uri,
    secrets: Vec<String>,
}

impl Url {
    /// `user` is the decoded user part, `user:password`.
    pub(super) fn new(uri: hyper::Uri, user: &str) -> Self {
        let segments = uri.path().split('/');
        let values = uri.query().unwrap_or("").split('&');
        let values = values.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let written = segments.chain(values).flat_map(|part| [part.to_owned(), decoded(part)]);
        let mut secrets: Vec<String> = written.chain(user.split(':').map(str::to_owned)).collect();
        secrets.retain(|part| !part.is_empty());
        Self { uri, secrets }
    }

    /// The whole URL, secrets and all, for the one place that connects.
    pub fn expose(&self) -> &hyper::Uri {
        &self.uri
    }

    /// The parts that may hold a key, none empty, as written and decoded: user, password, path segments and query values.
    /// Whoever prints what a server said takes them out.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(String::as_str)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.uri.scheme_str().unwrap_or("http"), self.uri.host().unwrap_or(""))?;
        self.uri.port_u16().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value that cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl Secret {
    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
