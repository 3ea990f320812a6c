//! What two programs that show each other certificates find out: neither talks to a stranger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::call::{Outcome, Refusal};
use crate::drivers::TlsIdentity;
use crate::drivers::certificates::{certificate_digest, common_name, inspect};
use crate::model::Secret;

/// Judged pairs of certificate and authority that are remembered, all forgotten when there are more: a world of ten
/// thousand databases has forty thousand.
const JUDGED_MAX: usize = 100_000;

/// What a certificate says that an authority signed.
#[derive(Debug)]
struct Signed {
    names: BTreeSet<String>,
    /// The common name; none: there is not just one.
    common_name: Option<String>,
}

/// By the digest of a certificate and an authority: what the one says, if the other signed it.
type Judged = BTreeMap<[u8; 32], Option<Arc<Signed>>>;

/// A server's certificate and the authority that it trusts, PEM: the texts of the files, which are shared with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerIdentity {
    pub(super) certificate_pem: Secret,
    pub(super) ca_pem: Secret,
}

/// What a certificate says, if this authority signed it. The answer follows from the two texts alone, and every call to
/// every server asks for it, so it is worked out once.
fn signed(certificate: &str, ca: &str) -> Option<Arc<Signed>> {
    static JUDGED: Mutex<Judged> = Mutex::new(Judged::new());
    let pair: [u8; 32] = Sha256::new().chain_update(certificate).chain_update([0]).chain_update(ca).finalize().into();
    if let Some(signed) = JUDGED.lock().unwrap_or_else(PoisonError::into_inner).get(&pair) {
        return signed.clone();
    }
    let seen = inspect("", certificate, ca, 0, 0, 0).ok();
    let seen = seen.filter(|seen| certificate_digest(ca).is_ok_and(|authority| authority == seen.issuer));
    let signed =
        seen.map(|seen| Arc::new(Signed { names: seen.subject_alt_names, common_name: common_name(certificate).ok() }));
    let mut judged = JUDGED.lock().unwrap_or_else(PoisonError::into_inner);
    if judged.len() >= JUDGED_MAX {
        judged.clear();
    }
    judged.insert(pair, signed.clone());
    signed
}

impl ServerIdentity {
    /// Takes both in, or says that a server with them would not start.
    pub(super) fn load(certificate_pem: &Secret, ca_pem: &Secret) -> Result<Self, String> {
        for pem in [certificate_pem, ca_pem] {
            certificate_digest(pem.expose()).map_err(|_| "could not load a certificate: no start line".to_owned())?;
        }
        Ok(Self { certificate_pem: certificate_pem.clone(), ca_pem: ca_pem.clone() })
    }

    /// The handshake with a client that asks for `name`; gives the client's common name.
    pub(super) fn handshake(&self, name: &str, client: &TlsIdentity) -> Outcome<String> {
        let refuse = |why: &str| Refusal::Unreachable(why.to_owned());
        let Some(server) = signed(self.certificate_pem.expose(), &client.ca_pem) else {
            return Err(refuse("invalid peer certificate: UnknownIssuer"));
        };
        if !server.names.contains(name) {
            return Err(refuse("invalid peer certificate: NotValidForName"));
        }
        let Some(client) = signed(&client.certificate_pem, self.ca_pem.expose()) else {
            return Err(refuse("received fatal alert: UnknownCA"));
        };
        client.common_name.clone().ok_or_else(|| refuse("received fatal alert: BadCertificate"))
    }
}
