//! Reads a certificate back into the attributes it was made from.
//!
//! Invariant: the issuer is believed only when its key really signed the certificate; a name alone proves nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::drivers::{Error, Result};
use crate::model::resource::CertificateAttributes;
use crate::model::{Digest, Secret};

/// What the certificate at `stem` is, seen at `now_s` (seconds since 1970), with the owner that its files have.
///
/// `issuer` is the digest of `ca_pem` when that authority signed it, and otherwise one that no authority has. `fresh`:
/// valid now, and more than a third of its life is to come.
///
/// # Errors
/// [`Error::Failed`] when a text is not a certificate.
pub fn inspect(
    stem: &str,
    certificate_pem: &str,
    ca_pem: &str,
    now_s: i64,
    uid: u32,
    gid: u32,
) -> Result<CertificateAttributes> {
    let act = || format!("read the certificate {stem}");
    let leaf_der = first_der(certificate_pem, act)?;
    let ca_der = first_der(ca_pem, || "read the authority's certificate".to_owned())?;
    let leaf = parse(&leaf_der, act)?;
    let ca = parse(&ca_der, || "read the authority's certificate".to_owned())?;

    let issuer = if leaf.issuer().as_raw() == ca.subject().as_raw() && signed_by(&leaf, &ca) {
        Digest::of_bytes(&ca_der)
    } else {
        // A name is never the DER of a certificate, so this equals no authority's digest.
        Digest::of_bytes(leaf.issuer().as_raw())
    };
    let usage = leaf.extended_key_usage().ok().flatten();
    let (not_before_s, not_after_s) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let life_s = not_after_s.saturating_sub(not_before_s);
    let left_s = not_after_s.saturating_sub(now_s);
    let names = leaf.subject_alternative_name().ok().flatten();
    Ok(CertificateAttributes {
        stem: stem.to_owned(),
        uid,
        gid,
        common_name: common_name_of(&leaf),
        subject_alt_names: names.iter().flat_map(|extension| &extension.value.general_names).map(name_text).collect(),
        server: usage.as_ref().is_some_and(|usage| usage.value.server_auth),
        client: usage.as_ref().is_some_and(|usage| usage.value.client_auth),
        issuer,
        fresh: now_s >= not_before_s && left_s > life_s / 3,
    })
}

/// The digest of a certificate's DER, to compare with the one that a server showed.
///
/// # Errors
/// [`Error::Failed`] when the text holds no certificate.
pub fn certificate_digest(certificate_pem: &str) -> Result<Digest> {
    first_der(certificate_pem, || "read a certificate".to_owned()).map(|der| Digest::of_bytes(&der))
}

/// The common name of a certificate's subject: for system users, the name they log in as. Empty when it has none.
///
/// # Errors
/// [`Error::Failed`] when the text holds no certificate.
pub fn common_name(certificate_pem: &str) -> Result<String> {
    let act = || "read a certificate".to_owned();
    let der = first_der(certificate_pem, act)?;
    parse(&der, act).map(|certificate| common_name_of(&certificate))
}

/// Whether the key belongs to the certificate. A text that cannot be read belongs to nothing.
#[must_use]
pub fn key_matches(certificate_pem: &str, key_pem: &Secret) -> bool {
    let Ok(der) = first_der(certificate_pem, String::new) else { return false };
    let Ok(certificate) = parse(&der, String::new) else { return false };
    let Ok(key) = KeyPair::from_pem(key_pem.expose()) else { return false };
    key.der_bytes() == certificate.public_key().subject_public_key.data.as_ref()
}

fn first_der(pem: &str, act: impl Fn() -> String) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| Error::Failed { act: act(), why: format!("no certificate in PEM: {error}") })
}

fn parse<'a>(der: &'a CertificateDer<'_>, act: impl Fn() -> String) -> Result<X509Certificate<'a>> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(Error::Failed { act: act(), why: error.to_string() }),
    }
}

fn common_name_of(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.unwrap_or_default().to_owned()
}

fn signed_by(leaf: &X509Certificate<'_>, ca: &X509Certificate<'_>) -> bool {
    let key = ca.public_key().subject_public_key.data.as_ref();
    let message: &[u8] = leaf.tbs_certificate.as_ref();
    let signature = leaf.signature_value.data.as_ref();
    // Our authorities have P-256 keys and sign with SHA-256; anything else is not ours. The algorithm checks the key's
    // form itself.
    let provider = rustls::crypto::ring::default_provider();
    provider.signature_verification_algorithms.all.iter().any(|algorithm| {
        algorithm.public_key_alg_id() == rustls::pki_types::alg_id::ECDSA_P256
            && algorithm.signature_alg_id() == rustls::pki_types::alg_id::ECDSA_SHA256
            && algorithm.verify_signature(key, message, signature).is_ok()
    })
}

fn name_text(name: &GeneralName<'_>) -> String {
    if let GeneralName::DNSName(name) = name {
        (*name).to_owned()
    } else if let GeneralName::IPAddress(bytes) = name {
        address_text(bytes)
    } else {
        // No other kind is ever issued here: whatever it is, it shows as a difference.
        name.to_string()
    }
}

fn address_text(bytes: &[u8]) -> String {
    let address = <[u8; 4]>::try_from(bytes)
        .map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))));
    address.map_or_else(|_| format!("an address of {} bytes", bytes.len()), |address| address.to_string())
}
