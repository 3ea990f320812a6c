//! Makes an authority, and certificates signed by it.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};

use super::{AUTHORITY_LIFE_S, Authority, BACKDATED_S, Issued, LEAF_LIFE_S};
use crate::drivers::{Error, Result};
use crate::model::resource::CertificateAttributes;
use crate::model::{FleetId, Secret};

/// Bytes of a serial number: 16 random ones, so that two certificates of one authority never share one.
const SERIAL_BYTES: usize = 16;

/// Makes the fleet's authority: its own key, valid for ten years from an hour before `now_s` (seconds since 1970).
///
/// # Errors
/// [`Error::Failed`] when the system gives no randomness.
pub fn make_authority(fleet: &FleetId, now_s: i64) -> Result<Authority> {
    let act = || format!("make the certificate authority of fleet {fleet}");
    let key = new_key(act)?;
    let mut params = params(&format!("pgmoor {fleet}"), now_s, AUTHORITY_LIFE_S, act)?;
    // No authority below this one: it signs leaves alone.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(|error| failed(act, &error))?;
    Ok(Authority { certificate_pem: certificate.pem(), key_pem: Secret::new(key.serialize_pem()) })
}

/// Signs a new key pair for what the attributes describe, valid for one year from an hour before `now_s` (seconds since
/// 1970). `issuer`, `fresh`, `stem`, `uid` and `gid` of the attributes play no part.
///
/// # Errors
/// [`Error::Failed`] when the authority's texts cannot be read, or a name does not fit into a certificate.
pub fn issue(authority: &Authority, attributes: &CertificateAttributes, now_s: i64) -> Result<Issued> {
    let act = || format!("issue the certificate {}", attributes.stem);
    // The parser's words could quote the key: say only that it did not work.
    let authority_key = KeyPair::from_pem(authority.key_pem.expose())
        .map_err(|_| Error::Failed { act: act(), why: "the authority's key cannot be read".to_owned() })?;
    let issuer =
        Issuer::from_ca_cert_pem(&authority.certificate_pem, authority_key).map_err(|error| failed(act, &error))?;
    let key = new_key(act)?;
    let mut params = params(&attributes.common_name, now_s, LEAF_LIFE_S, act)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for name in &attributes.subject_alt_names {
        params.subject_alt_names.push(alternative_name(name).map_err(|error| failed(act, &error))?);
    }
    if attributes.server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if attributes.client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    let certificate = params.signed_by(&key, &issuer).map_err(|error| failed(act, &error))?;
    Ok(Issued { certificate_pem: certificate.pem(), key_pem: Secret::new(key.serialize_pem()) })
}

fn failed(act: impl Fn() -> String, error: &rcgen::Error) -> Error {
    Error::Failed { act: act(), why: error.to_string() }
}

fn new_key(act: impl Fn() -> String) -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(act, &error))
}

fn params(common_name: &str, now_s: i64, life_s: i64, act: impl Fn() -> String) -> Result<CertificateParams> {
    let mut serial = [0_u8; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(|error| Error::Failed { act: act(), why: error.to_string() })?;
    // A serial number is a positive integer: no sign bit.
    if let Some(first) = serial.first_mut() {
        *first &= 0x7f;
    }
    let mut name = DistinguishedName::new();
    if common_name.is_empty() {
        // etcd's gateway refuses a client with a common name, and Python's strict check an empty subject.
        name.push(DnType::OrganizationName, "pgmoor");
    } else {
        // etcd's gateway refuses a client whose certificate has a common name once authentication is on (3.5), so a
        // certificate may go without one.
        if !common_name.is_empty() {
            name.push(DnType::CommonName, common_name);
        }
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let start_s = u64::try_from(now_s.saturating_sub(BACKDATED_S)).unwrap_or(0);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(start_s);
    params.not_after = params.not_before + Duration::from_secs(u64::try_from(life_s).unwrap_or(0));
    Ok(params)
}

fn alternative_name(name: &str) -> std::result::Result<SanType, rcgen::Error> {
    match name.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into()?)),
    }
}
