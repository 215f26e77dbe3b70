//! The keys of a web configuration, and what each may be.
//!
//! Reads the file and those that it names, and nothing else. Every mistake is reported, not only the first.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::header::{HeaderName, HeaderValue};

use super::basic::cost;
use super::reader::{Fields, Location, Reader};
use super::seen::Seen;
use super::tls::{self, Tls};
use crate::config::file;
use crate::config::yaml::{self, Node};

/// A bcrypt of this cost takes seconds, and each one more doubles it.
const MAX_COST: u32 = 18;

/// The headers that the toolkit lets be set, each with its values where there are only these.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// What a web configuration says.
pub(super) struct Settings {
    pub(super) tls: Option<Tls>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Names with bcrypt hashes that were checked.
    pub(super) users: BTreeMap<String, String>,
    pub(super) excluded: Vec<String>,
}

impl Settings {
    /// There is no connection without a certificate of the client's that was verified.
    pub(super) fn verifies_clients(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.verifies_clients)
    }
}

/// Reads a file, and returns what was seen of it and of every other file that was read for it.
pub(super) fn read(file: &Path) -> (Result<Settings, String>, Seen) {
    let mut seen = Seen::default();
    let settings = read_seen(file, &mut seen);
    (settings, seen)
}

fn read_seen(file: &Path, seen: &mut Seen) -> Result<Settings, String> {
    seen.add(file);
    let text = file::text(file).map_err(|what| format!("{}: {what}", file.display()))?;
    let root = yaml::parse(&text).map_err(|broken| {
        let line = broken.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}: {}", file.display(), broken.what)
    })?;
    let mut reader = Reader::default();
    let settings = settings(&mut reader, &root, file, seen);
    match (reader.mistakes(file, &text), settings) {
        (None, Some(settings)) => Ok(settings),
        (mistakes, _) => Err(mistakes.unwrap_or_else(|| format!("{}: cannot be used", file.display()))),
    }
}

fn settings(reader: &mut Reader, root: &Node, file: &Path, seen: &mut Seen) -> Option<Settings> {
    const KEYS: [&str; 5] =
        ["tls_server_config", "http_server_config", "basic_auth_users", "auth_excluded_paths", "rate_limit"];
    if *root == Node::Null {
        // A file of comments alone: everything as without one.
        return Some(Settings {
            tls: None,
            headers: Vec::new(),
            users: BTreeMap::new(),
            excluded: Vec::new(),
        });
    }
    let fields = reader.mapping(root, &Location::default(), &KEYS)?;
    if let Some((location, _)) = fields.get("rate_limit") {
        reader.wrong(
            location,
            "is not supported, expected no such key: connections are limited for each client",
        );
    }
    let has_tls = fields.get("tls_server_config").is_some();
    let (http2, headers) = http(reader, &fields, has_tls);
    let tls = fields.get("tls_server_config").and_then(|(location, node)| {
        let fields = reader.mapping(node, location, &tls::KEYS)?;
        tls::read(reader, &fields, file, http2, seen)
    });
    let users = users(reader, &fields);
    let excluded = excluded(reader, &fields, !users.is_empty());
    Some(Settings { tls, headers, users, excluded })
}

/// Whether HTTP/2 is spoken over TLS, and the headers.
fn http(reader: &mut Reader, fields: &Fields<'_>, has_tls: bool) -> (bool, Vec<(HeaderName, HeaderValue)>) {
    let Some((location, node)) = fields.get("http_server_config") else { return (true, Vec::new()) };
    let Some(fields) = reader.mapping(node, location, &["http2", "headers"]) else {
        return (true, Vec::new());
    };
    let http2 = reader.flag(&fields, "http2");
    if http2 == Some(true) && !has_tls {
        reader.wrong(&fields.at("http2"), "is spoken over TLS only, expected tls_server_config beside it");
    }
    let mut headers = Vec::new();
    if let Some((location, node)) = fields.get("headers") {
        let known = HEADERS.map(|(name, _)| name);
        let fields = reader.mapping(node, location, &known);
        for (name, values) in HEADERS {
            headers.extend(fields.as_ref().and_then(|fields| header(reader, fields, name, values)));
        }
    }
    (http2.unwrap_or(true), headers)
}

fn header(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &str,
    values: &[&str],
) -> Option<(HeaderName, HeaderValue)> {
    let (location, node) = fields.get(name)?;
    if matches!(node, Node::Null) || matches!(node, Node::Text(text) if text.is_empty()) {
        // "Unset if blank."
        return None;
    }
    let text = match node {
        Node::Integer(number) => number.to_string(),
        _ => reader.text_of(location, node)?.to_owned(),
    };
    if !values.is_empty() && !values.contains(&text.as_str()) {
        reader.wrong(location, format!("has another value, expected {}", values.join(" or ")));
        return None;
    }
    let value = HeaderValue::from_str(&text)
        .map_err(|_| "is not a header value, expected one line of text".to_owned());
    let value = reader.checked(location, value)?;
    HeaderName::from_bytes(name.as_bytes()).ok().zip(Some(value))
}

fn users(reader: &mut Reader, fields: &Fields<'_>) -> BTreeMap<String, String> {
    const EXPECTED: &str = "expected a bcrypt hash, as of `htpasswd -nBC 10 \"\"`";
    let Some((location, node)) = fields.get("basic_auth_users") else { return BTreeMap::new() };
    let entries = reader.entries(node, location, "user names to bcrypt hashes");
    if entries.is_empty() && matches!(node, Node::Map(_)) {
        reader.wrong(location, "is empty, expected one user or more, or no such key");
    }
    let mut users = BTreeMap::new();
    for (name, location, node) in entries {
        if name.contains(':') {
            reader.wrong(&location, "has a colon in its name, which basic authentication cannot send");
        }
        let Node::Text(hash) = node else {
            reader.wrong(&location, format!("is {}, {EXPECTED}", node.kind()));
            continue;
        };
        match cost(hash) {
            None => reader.wrong(&location, format!("is not a bcrypt hash, {EXPECTED}")),
            Some(cost) if !(4..=MAX_COST).contains(&cost) => {
                reader.wrong(
                    &location,
                    format!("has the cost {cost}, expected 4 to {MAX_COST}: each one more doubles its time"),
                );
            }
            Some(_) => {
                users.insert(name.to_owned(), hash.clone());
            }
        }
    }
    users
}

fn excluded(reader: &mut Reader, fields: &Fields<'_>, has_users: bool) -> Vec<String> {
    let paths = reader.texts(fields, "auth_excluded_paths").unwrap_or_default();
    if !paths.is_empty() && !has_users && fields.get("basic_auth_users").is_none() {
        reader.wrong(
            &fields.at("auth_excluded_paths"),
            "excepts from nothing, expected basic_auth_users beside it",
        );
    }
    let mut excluded = Vec::new();
    for (location, path) in paths {
        if path.starts_with('/') {
            excluded.push(path.to_owned());
        } else {
            reader.wrong(&location, "is not a path, expected one like /-/healthy");
        }
    }
    excluded
}
