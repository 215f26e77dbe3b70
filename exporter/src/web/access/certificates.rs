//! What a client's certificate must be: by `client_auth_type` and `client_allowed_sans`.
//!
//! Whatever the type, a client proves that it holds the key of the certificate it shows.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use webpki::EndEntityCert;

/// Which certificate a client must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// It is not asked for one.
    None,
    /// It is asked, and may show any or none.
    Request,
    /// Any.
    RequireAny,
    /// None, or one of these authorities.
    VerifyIfGiven,
    /// One of these authorities.
    RequireAndVerify,
}

impl ClientAuth {
    /// The names that Go has for them.
    pub(super) const NAMES: [(&str, Self); 6] = [
        ("NoClientCert", Self::None),
        ("RequestClientCert", Self::Request),
        ("RequireClientCert", Self::RequireAny),
        ("RequireAnyClientCert", Self::RequireAny),
        ("VerifyClientCertIfGiven", Self::VerifyIfGiven),
        ("RequireAndVerifyClientCert", Self::RequireAndVerify),
    ];

    /// Certificates are held to authorities.
    pub(super) fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }

    /// There is no connection without one.
    pub(super) fn requires(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }
}

/// A name of which a client's certificate must have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AllowedName {
    /// A DNS name or a URI, letter by letter.
    Text(String),
    /// An address.
    Ip(IpAddr),
}

/// Builds the verifier.
///
/// # Errors
/// The authorities cannot be used.
pub(super) fn verifier(
    auth: ClientAuth,
    authorities: RootCertStore,
    allowed: Option<Vec<AllowedName>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let inner = if auth.verifies() {
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(provider));
        let builder = if auth.requires() { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| error.to_string())?
    } else if auth == ClientAuth::None {
        return Ok(WebPkiClientVerifier::no_client_auth());
    } else {
        Arc::new(AnyCertificate { mandatory: auth.requires(), provider: Arc::clone(provider) })
    };
    Ok(match allowed {
        None => inner,
        Some(allowed) => Arc::new(NamedCertificate { inner, allowed }),
    })
}

/// Takes every certificate whose key the client holds.
#[derive(Debug)]
struct AnyCertificate {
    mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes what another takes, if it has an allowed name.
#[derive(Debug)]
struct NamedCertificate {
    inner: Arc<dyn ClientCertVerifier>,
    allowed: Vec<AllowedName>,
}

impl NamedCertificate {
    fn has_allowed_name(&self, certificate: &CertificateDer<'_>) -> Result<bool, webpki::Error> {
        let certificate = EndEntityCert::try_from(certificate)?;
        Ok(self.allowed.iter().any(|allowed| match allowed {
            AllowedName::Text(name) => {
                certificate.valid_dns_names().chain(certificate.valid_uri_names()).any(|of| of == name)
            }
            AllowedName::Ip(address) => {
                let name = ServerName::IpAddress((*address).into());
                certificate.verify_is_valid_for_subject_name(&name).is_ok()
            }
        }))
    }
}

impl ClientCertVerifier for NamedCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(certificate, intermediates, now)?;
        match self.has_allowed_name(certificate) {
            Ok(true) => Ok(verified),
            Ok(false) => Err(CertificateError::NotValidForName.into()),
            Err(_) => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
