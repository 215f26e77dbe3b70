//! One written value to one value that cannot be wrong. Pure: no file, no environment.
//!
//! An error says what is wrong and what was expected, and quotes nothing that may be a secret.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::Authority;
use percent_encoding::percent_decode_str;
use web3::signing::keccak256;
use web3::types::H160;

use super::{Confirmations, Endpoint, Secret, Url};
use crate::log::Level;

// What each parser here expects, as a message says it.
pub(super) const NAME: &str = "a name of 1 to 64 characters out of A-Z a-z 0-9 _ - . and no dot in front";
pub(super) const WHOLE: &str = "a whole number from 0 on";
pub(super) const POSITIVE: &str = "a whole number from 1 on";
pub(super) const CONFIRMATIONS: &str = "a number of blocks, safe or finalized";
pub(super) const DURATION: &str =
    "a whole number directly followed by one unit (ms, s, m, h): 500ms, 2s or 1m";
pub(super) const LEVEL: &str = "error, warn, info, debug or trace";
pub(super) const ADDRESS: &str = "an address, 0x and 40 hex digits";
pub(super) const PATH: &str = "a path";
pub(super) const HEADER: &str = "a header's value on one line";
pub(super) const EXPLORER: &str = "a block explorer's URL like https://sepolia.etherscan.io";
pub(super) const GRAFANA: &str = "Grafana's URL like https://grafana.example";
pub(super) const ENDPOINT: &str = "a URL like https://host:8545/path";

/// A value with its variables filled in.
#[derive(Default)]
pub(super) struct Written {
    pub(super) text: String,
    /// Part of it came from a variable.
    pub(super) secret: bool,
    /// It was read as a number, and the text need not be what stands in the file: `0x10` is `16` now.
    pub(super) number: bool,
}

impl Written {
    fn text(&self) -> Result<&str, String> {
        if self.number { Err("is a number, expected text in quotes".to_owned()) } else { Ok(&self.text) }
    }
}

/// As it may be shown in a message.
impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { secret: true, .. } => f.write_str("the value"),
            Self { number: true, text, .. } => f.write_str(text),
            Self { text, .. } => f.write_str(&quote(text)),
        }
    }
}

/// A quoted text for a message: short, on one line, and never a URL, wherever it was written by mistake.
pub(super) fn quote(text: &str) -> String {
    if text.contains("://") {
        return "a URL".to_owned();
    }
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A key as it may be shown in a message.
pub(super) fn key(key: &str) -> String {
    let plain = key.chars().all(|it| it.is_ascii_alphanumeric() || "_-.<".contains(it)) && key.len() <= 60;
    if plain && !key.is_empty() { key.to_owned() } else { quote(key) }
}

/// Fills in `${VAR}` and `${VAR:-default}`. Anything else with a dollar sign stands for itself, but for a whole
/// `$VAR`, which is never meant so.
pub(super) fn expand(text: &str, mut env: impl FnMut(&str) -> Option<String>) -> Result<Written, String> {
    if let Some(name) = text.strip_prefix('$')
        && name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && is_variable(name)
    {
        return Err("is a variable without braces, expected ${NAME} or ${NAME:-default}".to_owned());
    }
    let mut out = String::new();
    let mut rest = text;
    let mut secret = false;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let wrong = "a variable is not closed, expected ${NAME} or ${NAME:-default}";
        let (inside, behind) = after.split_once('}').ok_or(wrong)?;
        let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, it)| (name, Some(it)));
        if !is_variable(name) {
            return Err("a variable has no valid name, expected ${NAME} or ${NAME:-default}".to_owned());
        }
        let value = match (env(name), default) {
            (Some(value), None) => value,
            (Some(value), Some(_)) if !value.is_empty() => value,
            (_, Some(default)) => default.to_owned(),
            (None, None) => {
                return Err(format!(
                    "variable {name} is not set, expected it in the environment, or ${{{name}:-default}}"
                ));
            }
        };
        out.push_str(&value);
        secret = true;
        rest = behind;
    }
    out.push_str(rest);
    Ok(Written { text: out, secret, number: false })
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

/// A network's name: also a label value and a file name.
pub(super) fn name(written: &Written) -> Result<String, String> {
    let name = written.text()?;
    let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '.');
    if (1..=64).contains(&name.len()) && !name.starts_with('.') && name.chars().all(fits) {
        return Ok(name.to_owned());
    }
    Err(format!("{written} does not fit, expected {NAME}"))
}

/// A whole number.
pub(super) fn whole(written: &Written) -> Result<u64, String> {
    number(written, 0, WHOLE)
}

/// A whole number that is not 0.
pub(super) fn positive(written: &Written) -> Result<u64, String> {
    number(written, 1, POSITIVE)
}

fn number(written: &Written, least: u64, expected: &str) -> Result<u64, String> {
    let digits = !written.text.is_empty() && written.text.bytes().all(|byte| byte.is_ascii_digit());
    match written.text.parse() {
        Ok(number) if digits && number >= least => Ok(number),
        _ => Err(format!("{written} does not fit, expected {expected}")),
    }
}

/// A number of blocks, `safe` or `finalized`.
pub(super) fn confirmations(written: &Written) -> Result<Confirmations, String> {
    match written.text.as_str() {
        "safe" => Ok(Confirmations::Safe),
        "finalized" => Ok(Confirmations::Finalized),
        _ => number(written, 0, CONFIRMATIONS).map(Confirmations::Blocks),
    }
}

/// The least important line that is logged, in the words of the command line.
pub(super) fn level(written: &Written) -> Result<Level, String> {
    Level::from_str(written.text()?, false).map_err(|_| format!("{written} does not fit, expected {LEVEL}"))
}

/// How often the head is asked for.
pub(super) fn poll_interval(written: &Written) -> Result<Duration, String> {
    duration(written, Duration::from_secs(3600), "1h")
}

/// How long a request may take. A node that takes longer is of no use, and would hold up what another one
/// could answer.
pub(super) fn request_timeout(written: &Written) -> Result<Duration, String> {
    duration(written, Duration::from_secs(60), "60s")
}

/// A number and a unit, from 10 ms to `longest`, which a message calls `shown`.
fn duration(written: &Written, longest: Duration, shown: &str) -> Result<Duration, String> {
    let text = &written.text;
    let unit_at = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(unit_at);
    let unit = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = count.parse::<u64>().ok().zip(unit).map(|(count, unit)| count.saturating_mul(unit));
    match millis.map(Duration::from_millis) {
        Some(duration) if (Duration::from_millis(10)..=longest).contains(&duration) => Ok(duration),
        Some(_) => Err(format!("{written} is out of range, expected 10ms to {shown}")),
        None => Err(format!("{written} does not fit, expected {DURATION}")),
    }
}

/// An address, lower case or with the right EIP-55 checksum.
pub(super) fn address(written: &Written) -> Result<H160, String> {
    let text = written.text()?;
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40);
    let Some(address) = digits.and_then(|digits| digits.parse::<H160>().ok()) else {
        return Err(format!("{written} does not fit, expected {ADDRESS}"));
    };
    if text.chars().any(|it| it.is_ascii_uppercase()) && text != checksummed(&address) {
        return Err(format!(
            "{written} has a wrong checksum (a mistyped digit?), \
             expected it as an explorer shows it, or all in lower case"
        ));
    }
    Ok(address)
}

/// An address with its EIP-55 checksum.
pub(crate) fn checksummed(address: &H160) -> String {
    let digits = format!("{address:x}");
    let hash = keccak256(digits.as_bytes());
    let nibble = |at: usize| (hash[at / 2] >> if at.is_multiple_of(2) { 4 } else { 0 }) & 0xf;
    let cased =
        digits.char_indices().map(|(at, it)| if nibble(at) >= 8 { it.to_ascii_uppercase() } else { it });
    "0x".chars().chain(cased).collect()
}

/// The path of a file or directory.
pub(super) fn path(written: &Written) -> Result<PathBuf, String> {
    match written.text()? {
        "" => Err(format!("is empty, expected {PATH}")),
        path => Ok(path.into()),
    }
}

/// The value of a header. Never quoted.
pub(super) fn header(written: &Written) -> Result<Secret, String> {
    let text = written.text()?;
    HeaderValue::from_str(text)
        .map(|_| Secret(text.to_owned()))
        .map_err(|_| format!("has control characters, expected {HEADER}"))
}

/// The URL of a block explorer, for links.
pub(super) fn explorer(written: &Written) -> Result<String, String> {
    shown_url(written, EXPLORER)
}

/// The URL of Grafana, for links.
pub(super) fn grafana(written: &Written) -> Result<String, String> {
    shown_url(written, GRAFANA)
}

/// A URL without a slash at its end. It is shown in links, so it may hold no secret; not quoted, as it may be one that
/// was meant for elsewhere.
fn shown_url(written: &Written, expected: &str) -> Result<String, String> {
    let text = written.text()?;
    unquoted(text)?;
    let endpoint = endpoint(written).map_err(|_| format!("is not a valid URL, expected {expected}"))?;
    if !endpoint.headers.is_empty() {
        return Err("has a user part, expected none: the URL is shown in links".to_owned());
    }
    if text.contains('?') {
        return Err("has a query, expected none: links append a path to the URL".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A variable without braces in a URL as it is written, which would be sent as it stands.
pub(super) fn unbraced(url: &str) -> Result<(), String> {
    let starts = |rest: &str| rest.starts_with(|it: char| it.is_ascii_uppercase() || it == '_');
    if url.split('$').skip(1).any(starts) {
        return Err("has a variable without braces, expected ${NAME} (or %24 for a dollar sign)".to_owned());
    }
    Ok(())
}

/// Not as in `docker run --env-file`, which keeps the quotes around a value.
fn unquoted(text: &str) -> Result<(), String> {
    if text.starts_with(['"', '\'']) {
        return Err("is in quotes that belong to the value, expected it without".to_owned());
    }
    Ok(())
}

/// An RPC URL. Its user part becomes a header. Never quoted.
pub(super) fn endpoint(written: &Written) -> Result<Endpoint, String> {
    let invalid = || format!("is not a valid URL, expected {ENDPOINT}");
    let text = written.text()?;
    if text.is_empty() {
        return Err(format!("is empty, expected {ENDPOINT}"));
    }
    unquoted(text)?;
    if text.contains('#') {
        return Err("is a URL with a # in it, expected %23 for one that belongs to it".to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| invalid())?;
    let mut parts = uri.into_parts();
    let scheme = parts.scheme.as_ref().ok_or_else(invalid)?;
    if !["http", "https"].contains(&scheme.as_str()) {
        return Err("is a URL of another scheme, expected http:// or https://".to_owned());
    }
    let authority = parts.authority.take().ok_or_else(invalid)?;
    let (user, place) = match authority.as_str().rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority.as_str()),
    };
    let user = user.map(|user| percent_decode_str(user).collect::<Vec<u8>>());
    let basic = user.as_deref().map(|user| Secret(format!("Basic {}", STANDARD.encode(user))));
    let user = user.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let headers = basic.map(|basic| ("authorization".to_owned(), basic)).into_iter().collect();
    let place: Authority = place.parse().map_err(|_| invalid())?;
    let has_port = place.as_str().len() > place.host().len();
    if place.host().is_empty() || (has_port && place.port_u16().is_none()) {
        return Err(invalid());
    }
    parts.authority = Some(place);
    let uri = Uri::from_parts(parts).map_err(|_| invalid())?;
    Ok(Endpoint { url: Url::new(uri, &user), headers })
}

#[cfg(test)]
mod tests;
