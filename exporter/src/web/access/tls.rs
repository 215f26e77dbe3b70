//! `tls_server_config`: certificates, versions, cipher suites and curves.
//!
//! rustls decides what is secure enough: what it does not have is refused here by name.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, ring as provider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::certificates::{AllowedName, ClientAuth, verifier};
use super::reader::{Fields, Reader, beside};
use super::seen::Seen;
use crate::config::file;

/// Every key of the mapping.
pub(super) const KEYS: [&str; 13] = [
    "cert",
    "cert_file",
    "key",
    "key_file",
    "client_ca",
    "client_ca_file",
    "client_auth_type",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
];

/// With Go's names.
const SUITES: [(&str, SupportedCipherSuite); 9] = {
    use provider::cipher_suite::*;
    [
        ("TLS_AES_128_GCM_SHA256", TLS13_AES_128_GCM_SHA256),
        ("TLS_AES_256_GCM_SHA384", TLS13_AES_256_GCM_SHA384),
        ("TLS_CHACHA20_POLY1305_SHA256", TLS13_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ]
};

const CURVES: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", provider::kx_group::X25519),
    ("CurveP256", provider::kx_group::SECP256R1),
    ("CurveP384", provider::kx_group::SECP384R1),
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Tls12,
    Tls13,
}

const VERSIONS: [(&str, Version); 2] = [("TLS12", Version::Tls12), ("TLS13", Version::Tls13)];

/// How to speak TLS.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// A client without a certificate that was verified gets no connection.
    pub(super) verifies_clients: bool,
}

/// Reads the mapping and the files it names, which are added to `seen`.
pub(super) fn read(
    reader: &mut Reader,
    fields: &Fields<'_>,
    file: &Path,
    http2: bool,
    seen: &mut Seen,
) -> Option<Tls> {
    let chain = required(reader, fields, "cert", file, seen, certificates);
    let key = required(reader, fields, "key", file, seen, private_key);
    let auth = reader.text(fields, "client_auth_type").map_or(Some(ClientAuth::None), |name| {
        reader.named(&fields.at("client_auth_type"), name, &ClientAuth::NAMES)
    });
    let authorities = source(reader, fields, "client_ca", file, seen, authorities);
    let allowed = allowed_names(reader, fields);
    if let Some(auth) = auth {
        consistent(reader, fields, auth);
    }

    let provider = provider_of(reader, fields);
    let versions = versions(reader, fields);
    let usable = |versions: &Vec<_>| provider.cipher_suites.iter().any(|it| versions.contains(&it.version()));
    if !versions.as_ref().is_none_or(usable) {
        let what =
            "are of TLS 1.3 alone, which max_version leaves out, expected one of TLS 1.2 too (TLS_ECDHE_…)";
        reader.wrong(&fields.at("cipher_suites"), what);
    }
    let prefer_own = reader.flag(fields, "prefer_server_cipher_suites").unwrap_or(true);

    if reader.has_found_any() {
        // What follows from a mistake is none of its own.
        return None;
    }
    let (chain, key, auth, versions) = (chain?, key?, auth?, versions?);
    let authorities = authorities.unwrap_or_else(RootCertStore::empty);
    let built = verifier(auth, authorities, allowed, &provider).and_then(|verifier| {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| format!("certificate and key cannot be used: {error}"))?;
        config.ignore_client_order = prefer_own;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if http2 {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Ok(TlsAcceptor::from(Arc::new(config)))
    });
    let acceptor = reader.checked(fields.location(), built)?;
    Some(Tls { acceptor, verifies_clients: auth == ClientAuth::RequireAndVerify })
}

/// What the toolkit's keys demand of each other.
fn consistent(reader: &mut Reader, fields: &Fields<'_>, auth: ClientAuth) {
    let authority = ["client_ca", "client_ca_file"].into_iter().find(|key| fields.get(key).is_some());
    match authority {
        Some(key) if !auth.verifies() => {
            let what = "is not used by this client_auth_type, expected RequireAndVerifyClientCert or VerifyClientCertIfGiven";
            reader.wrong(&fields.at(key), what);
        }
        None if auth.verifies() => {
            let what = "verifies by nothing, expected client_ca_file or client_ca beside it";
            reader.wrong(&fields.at("client_auth_type"), what);
        }
        _ => (),
    }
    if fields.get("client_allowed_sans").is_some() && !auth.requires() {
        let what = "needs a certificate of every client, expected client_auth_type RequireAndVerifyClientCert or RequireAnyClientCert";
        reader.wrong(&fields.at("client_allowed_sans"), what);
    }
}

fn allowed_names(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<AllowedName>> {
    let mut names = Vec::new();
    for (location, text) in reader.texts(fields, "client_allowed_sans")? {
        match text.parse() {
            Ok(address) => names.push(AllowedName::Ip(address)),
            Err(_) if text.contains('@') && !text.contains("://") => {
                reader.wrong(&location, "is an e-mail address, which is not supported, expected a DNS name, an IP address or a URI");
            }
            Err(_) => names.push(AllowedName::Text(text.to_owned())),
        }
    }
    Some(names)
}

fn provider_of(reader: &mut Reader, fields: &Fields<'_>) -> Arc<CryptoProvider> {
    let mut provider = provider::default_provider();
    let mut named = |key: &str| reader.texts(fields, key);
    let (suites, curves) = (named("cipher_suites"), named("curve_preferences"));
    if let Some(suites) = suites {
        let suites: Vec<_> = suites
            .into_iter()
            .filter_map(|(location, name)| reader.named(&location, name, &SUITES))
            .collect();
        // Those of TLS 1.3 are all good; naming some of them chooses them.
        let is_13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
        let all_13 = provider.cipher_suites.iter().filter(|suite| is_13(suite)).copied();
        provider.cipher_suites =
            if suites.iter().any(is_13) { suites } else { all_13.chain(suites).collect() };
    }
    if let Some(curves) = curves {
        provider.kx_groups = curves
            .into_iter()
            .filter_map(|(location, name)| reader.named(&location, name, &CURVES))
            .collect();
    }
    Arc::new(provider)
}

fn versions(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<&'static SupportedProtocolVersion>> {
    let mut version = |key: &str| {
        let name = reader.text(fields, key)?;
        reader.named(&fields.at(key), name, &VERSIONS)
    };
    let least = version("min_version").unwrap_or(Version::Tls12);
    let most = version("max_version").unwrap_or(Version::Tls13);
    if least > most {
        reader.wrong(&fields.at("max_version"), "is below min_version, expected the same or above");
        return None;
    }
    let all = [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)];
    Some(all.into_iter().filter(|(of, _)| (least..=most).contains(of)).map(|(_, version)| version).collect())
}

fn required<T>(
    reader: &mut Reader,
    fields: &Fields<'_>,
    key: &str,
    file: &Path,
    seen: &mut Seen,
    parse: impl Fn(&[u8]) -> Result<T, &'static str>,
) -> Option<T> {
    let in_file = format!("{key}_file");
    if fields.get(key).is_none() && fields.get(&in_file).is_none() {
        reader.wrong(&fields.at(&in_file), format!("is missing, expected {in_file} or {key}"));
    }
    source(reader, fields, key, file, seen, parse)
}

/// PEM as text under `key`, or in the file that `key` with `_file` names.
fn source<T>(
    reader: &mut Reader,
    fields: &Fields<'_>,
    key: &str,
    file: &Path,
    seen: &mut Seen,
    parse: impl Fn(&[u8]) -> Result<T, &'static str>,
) -> Option<T> {
    let in_file = format!("{key}_file");
    if fields.get(key).is_some() && fields.get(&in_file).is_some() {
        reader.wrong(&fields.at(key), format!("stands beside {in_file}, expected only one of the two"));
        return None;
    }
    if let Some(text) = reader.text(fields, key) {
        let parsed = parse(text.as_bytes()).map_err(str::to_owned);
        return reader.checked(&fields.at(key), parsed);
    }
    let path = beside(file, reader.text(fields, &in_file)?);
    seen.add(&path);
    let parsed = file::bytes(&path, file::LARGEST_PEM).and_then(|pem| parse(&pem).map_err(str::to_owned));
    let parsed = parsed.map_err(|what| format!("{} {what}", path.display()));
    reader.checked(&fields.at(&in_file), parsed)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    const EXPECTED: &str = "holds no certificates, expected PEM (-----BEGIN CERTIFICATE-----)";
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|read| !read.is_empty()).ok_or(EXPECTED)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(
        |_| "holds no private key, expected PEM without a passphrase (-----BEGIN PRIVATE KEY-----)",
    )?;
    provider::sign::any_supported_type(&key)
        .map(|_| key)
        .map_err(|_| "holds a private key of a kind that is not supported, expected ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits")
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, &'static str> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store
            .add(certificate)
            .map_err(|_| "holds a certificate that is not an authority's, expected X.509 version 3")?;
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::super::reader::Location;
    use super::*;
    use crate::config::yaml;

    #[test]
    fn a_file_that_is_replaced_while_it_is_read_is_seen_to_have_changed() {
        let directory = tempfile::tempdir().unwrap();
        let (file, key) = (directory.path().join("web.yml"), directory.path().join("server.key"));
        std::fs::write(&key, "old").unwrap();
        let root = yaml::parse("key_file: server.key\n").ok().unwrap();
        let (mut reader, mut seen) = (Reader::default(), Seen::default());
        let fields = reader.mapping(&root, &Location::default(), &KEYS).unwrap();
        let replaced = source(&mut reader, &fields, "key", &file, &mut seen, |read| {
            // The old one is read by now.
            std::fs::write(&key, "newer").unwrap();
            Ok(read.to_owned())
        });
        assert_eq!(replaced.as_deref(), Some(&b"old"[..]));
        assert!(seen.has_changed());
    }
}
