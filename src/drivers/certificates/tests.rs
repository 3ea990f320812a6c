//! What was issued reads back as what was asked for, and nothing else does.

use std::collections::BTreeSet;

use super::*;
use crate::model::resource::CertificateAttributes;
use crate::model::{Digest, FleetId};

const NOW_S: i64 = 1_790_000_000;

fn fleet() -> FleetId {
    FleetId::parse("edge").unwrap()
}

fn attributes(authority: &Authority) -> CertificateAttributes {
    CertificateAttributes {
        stem: "/var/lib/pgmoor/instances/shop-n1-689qacsi/certificates/server".to_owned(),
        uid: 26,
        gid: 26,
        common_name: "shop-n1-689qacsi".to_owned(),
        subject_alt_names: ["192.0.2.1", "2001:db8::1", "localhost", "shop-n1-689qacsi.shop-database"]
            .map(str::to_owned)
            .into(),
        server: true,
        client: false,
        issuer: certificate_digest(&authority.certificate_pem).unwrap(),
        fresh: true,
    }
}

fn look(issued: &Issued, authority: &Authority, now_s: i64) -> CertificateAttributes {
    inspect(&attributes(authority).stem, &issued.certificate_pem, &authority.certificate_pem, now_s, 26, 26).unwrap()
}

#[test]
fn what_is_issued_reads_back() {
    let authority = make_authority(&fleet(), NOW_S).unwrap();
    for (server, client) in [(true, false), (false, true), (true, true)] {
        let wanted = CertificateAttributes { server, client, ..attributes(&authority) };
        let issued = issue(&authority, &wanted, NOW_S).unwrap();
        assert_eq!(look(&issued, &authority, NOW_S), wanted);
        assert!(key_matches(&issued.certificate_pem, &issued.key_pem));
        assert!(!key_matches(&authority.certificate_pem, &issued.key_pem));
        assert_eq!(common_name(&issued.certificate_pem).unwrap(), wanted.common_name);
    }
    let bare = CertificateAttributes { subject_alt_names: BTreeSet::new(), ..attributes(&authority) };
    let nameless = CertificateAttributes { common_name: String::new(), ..attributes(&authority) };
    for wanted in [bare, nameless] {
        let issued = issue(&authority, &wanted, NOW_S).unwrap();
        assert_eq!(look(&issued, &authority, NOW_S), wanted);
    }
}

#[test]
fn fresh_ends_with_two_thirds_of_the_life() {
    let authority = make_authority(&fleet(), NOW_S).unwrap();
    let issued = issue(&authority, &attributes(&authority), NOW_S).unwrap();
    let start_s = NOW_S - BACKDATED_S;
    let last_fresh_s = start_s + LEAF_LIFE_S - LEAF_LIFE_S / 3 - 1;
    for (now_s, fresh) in [
        (start_s - 1, false),
        (start_s, true),
        (last_fresh_s, true),
        (last_fresh_s + 1, false),
        (start_s + LEAF_LIFE_S + 1, false),
    ] {
        assert_eq!(look(&issued, &authority, now_s).fresh, fresh, "at {now_s}");
    }
}

#[test]
fn another_authority_of_the_same_name_is_not_the_issuer() {
    let ours = make_authority(&fleet(), NOW_S).unwrap();
    let theirs = make_authority(&fleet(), NOW_S).unwrap();
    let forged = issue(&theirs, &attributes(&ours), NOW_S).unwrap();
    let seen = look(&forged, &ours, NOW_S).issuer;
    assert_ne!(seen, certificate_digest(&ours.certificate_pem).unwrap());
    assert_ne!(seen, certificate_digest(&theirs.certificate_pem).unwrap());
}

#[test]
fn the_authority_is_an_authority_and_leaves_are_not() {
    use rustls::pki_types::pem::PemObject as _;
    use x509_parser::prelude::FromDer as _;

    let authority = make_authority(&fleet(), NOW_S).unwrap();
    let issued = issue(&authority, &attributes(&authority), NOW_S).unwrap();
    for (pem, is_ca) in [(&authority.certificate_pem, true), (&issued.certificate_pem, false)] {
        let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
        assert_eq!(parsed.is_ca(), is_ca);
    }
    assert_eq!(common_name(&authority.certificate_pem).unwrap(), "pgmoor edge");
}

#[test]
fn what_is_no_certificate_is_an_error_that_quotes_nothing() {
    let authority = make_authority(&fleet(), NOW_S).unwrap();
    let garbage = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n";
    for text in ["", "hello", garbage] {
        let error = inspect("/x/server", text, &authority.certificate_pem, NOW_S, 0, 0).unwrap_err();
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
    }
    let broken = Authority { key_pem: crate::model::Secret::new("my-secret-key"), ..authority.clone() };
    let error = issue(&broken, &attributes(&authority), NOW_S).unwrap_err();
    assert!(!error.to_string().contains("my-secret"), "{error}");
    assert_ne!(certificate_digest(&authority.certificate_pem).unwrap(), Digest::of_bytes(b""));
}
