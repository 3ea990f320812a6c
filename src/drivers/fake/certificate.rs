//! What two programs that show each other certificates find out: neither talks to a stranger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::call::{Outcome, Refusal};
use crate::drivers::TlsIdentity;
use crate::drivers::certificates::{certificate_digest, common_name, inspect};

/// Judged pairs of certificate and authority that are remembered, all forgotten when there are more: a world of a
/// thousand databases has a few thousand.
const JUDGED_MAX: usize = 10_000;

/// Of a certificate and an authority: the names that the one is for, if the other signed it.
type Judged = BTreeMap<(String, String), Option<BTreeSet<String>>>;

/// A server's certificate and the authority that it trusts, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerIdentity {
    pub(super) certificate_pem: String,
    pub(super) ca_pem: String,
}

/// The names that a certificate is for, if this authority signed it. The answer follows from the two texts alone, and
/// every call to every server asks for it, so it is worked out once.
fn signed(certificate: &str, ca: &str) -> Option<BTreeSet<String>> {
    static JUDGED: Mutex<Judged> = Mutex::new(Judged::new());
    let pair = (certificate.to_owned(), ca.to_owned());
    if let Some(names) = JUDGED.lock().unwrap_or_else(PoisonError::into_inner).get(&pair) {
        return names.clone();
    }
    let seen = inspect("", certificate, ca, 0, 0, 0).ok();
    let names = seen.filter(|seen| certificate_digest(ca).is_ok_and(|authority| authority == seen.issuer));
    let names = names.map(|seen| seen.subject_alt_names);
    let mut judged = JUDGED.lock().unwrap_or_else(PoisonError::into_inner);
    if judged.len() >= JUDGED_MAX {
        judged.clear();
    }
    judged.insert(pair, names.clone());
    names
}

impl ServerIdentity {
    /// Takes both in, or says that a server with them would not start.
    pub(super) fn load(certificate_pem: &str, ca_pem: &str) -> Result<Self, String> {
        for pem in [certificate_pem, ca_pem] {
            certificate_digest(pem).map_err(|_| "could not load a certificate: no start line".to_owned())?;
        }
        Ok(Self { certificate_pem: certificate_pem.to_owned(), ca_pem: ca_pem.to_owned() })
    }

    /// The handshake with a client that asks for `name`; gives the client's common name.
    pub(super) fn handshake(&self, name: &str, client: &TlsIdentity) -> Outcome<String> {
        let refuse = |why: &str| Refusal::Unreachable(why.to_owned());
        let Some(names) = signed(&self.certificate_pem, &client.ca_pem) else {
            return Err(refuse("invalid peer certificate: UnknownIssuer"));
        };
        if !names.contains(name) {
            return Err(refuse("invalid peer certificate: NotValidForName"));
        }
        if signed(&client.certificate_pem, &self.ca_pem).is_none() {
            return Err(refuse("received fatal alert: UnknownCA"));
        }
        common_name(&client.certificate_pem).map_err(|_| refuse("received fatal alert: BadCertificate"))
    }
}
