//! Reads the small files that a configuration consists of.
//!
//! Regular files only, and no more than a bounded part of one: opening a pipe would wait for a writer.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// No text file is read beyond this.
const LARGEST_TEXT: u64 = 256 << 10;

/// No file of certificates: all public authorities together take a quarter of it.
pub(crate) const LARGEST_PEM: u64 = 1 << 20;

/// The text of a file.
///
/// # Errors
/// What is wrong with it, to go after its name.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    String::from_utf8(bytes(path, LARGEST_TEXT)?).map_err(|_| "is not UTF-8, expected a text file".to_owned())
}

/// The certificates of a PEM file, each fit to be a trust anchor.
///
/// # Errors
/// What is wrong with it, to go after its name.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    const EXPECTED: &str = "expected certificates in PEM form (-----BEGIN CERTIFICATE-----)";
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&bytes(path, LARGEST_PEM)?).collect();
    let certificates = certificates.map_err(|_| format!("has damaged PEM in it, {EXPECTED}"))?;
    if certificates.is_empty() {
        return Err(format!("has no certificate in it, {EXPECTED}"));
    }
    let mut anchors = RootCertStore::empty();
    for (number, certificate) in (1..).zip(&certificates) {
        anchors.add(certificate.clone()).map_err(|_| {
            format!("has a certificate (number {number}) that cannot be read, expected X.509 version 3")
        })?;
    }
    Ok(certificates)
}

/// The bytes of a regular file that is no larger than this.
///
/// # Errors
/// What is wrong with it, to go after its name.
pub(crate) fn bytes(path: &Path, largest: u64) -> Result<Vec<u8>, String> {
    let reason = |error: io::Error| format!("cannot be read: {error}");
    // Before it is opened. Links are followed: that is how a mounted secret is swapped for a new one.
    let kind = fs::metadata(path).map_err(reason)?.file_type();
    if kind.is_dir() {
        // What a container engine puts in place of a mounted file that is missing.
        return Err("is a directory, expected a file (was the file missing when it was mounted?)".to_owned());
    }
    if !kind.is_file() {
        return Err("is a pipe, a socket or a device, expected a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(reason)?.take(largest + 1).read_to_end(&mut bytes).map_err(reason)?;
    if bytes.len() as u64 > largest {
        return Err(format!("is larger than {} KiB, expected a small file", largest >> 10));
    }
    Ok(bytes)
}
