//! One TLS client configuration for all drivers: trust the fleet's authority alone, show our certificate.
//!
//! Invariant: the cryptography provider is named here and never taken from the process, so that no driver depends on
//! who installed a default first.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{Error, Result, TlsIdentity};
use crate::model::Digest;

/// A rustls client that trusts only the identity's authority and shows the identity's certificate.
///
/// # Errors
/// [`Error::Failed`] when a PEM text of the identity cannot be read or key and certificate do not belong together.
pub fn client_config(identity: &TlsIdentity) -> Result<ClientConfig> {
    let failed = |what: &str, why: String| Error::Failed { act: format!("read {what} of the TLS identity"), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(identity.ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| failed("the authority", error.to_string()))?;
        roots.add(certificate).map_err(|error| failed("the authority", error.to_string()))?;
    }
    let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| failed("the certificate", error.to_string()))?;
    // The parser's own words could quote the key: say only that it did not work.
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose().as_bytes())
        .map_err(|_| failed("the key", "not a private key in PEM".to_owned()))?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("the protocol versions", error.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| failed("the certificate and key", error.to_string()))
}

/// A name for an identity, by which a client made from it can be kept. Says nothing about the key.
#[must_use]
pub fn identity_digest(identity: &TlsIdentity) -> Digest {
    Digest::of(&(&identity.ca_pem, &identity.certificate_pem, Digest::of_bytes(identity.key_pem.expose().as_bytes())))
}

/// An HTTP client that speaks only TLS with this identity. It keeps no connection for a next call: a container that is
/// replaced, or a server that loaded a new certificate, must not be seen through an old one.
///
/// # Errors
/// As for [`client_config`].
pub(super) fn http_client(identity: &TlsIdentity) -> Result<reqwest::ClientBuilder> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(client_config(identity)?)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0))
}

/// What reqwest says, with the causes and without the address (the act names it).
pub(super) fn words(error: reqwest::Error) -> String {
    use std::error::Error as _;

    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
