//! What two programs that show each other certificates find out: neither talks to a stranger.

use super::call::{Outcome, Refusal};
use crate::drivers::TlsIdentity;
use crate::drivers::certificates::{certificate_digest, common_name, inspect};

/// A server's certificate and the authority that it trusts, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerIdentity {
    pub(super) certificate_pem: String,
    pub(super) ca_pem: String,
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
        let signed = |certificate: &str, ca: &str| {
            let seen = inspect("", certificate, ca, 0, 0, 0).ok()?;
            (certificate_digest(ca).ok()? == seen.issuer).then_some(seen)
        };
        let Some(server) = signed(&self.certificate_pem, &client.ca_pem) else {
            return Err(refuse("invalid peer certificate: UnknownIssuer"));
        };
        if !server.subject_alt_names.contains(name) {
            return Err(refuse("invalid peer certificate: NotValidForName"));
        }
        if signed(&client.certificate_pem, &self.ca_pem).is_none() {
            return Err(refuse("received fatal alert: UnknownCA"));
        }
        common_name(&client.certificate_pem).map_err(|_| refuse("received fatal alert: BadCertificate"))
    }
}
