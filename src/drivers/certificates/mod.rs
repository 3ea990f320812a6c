//! Certificates: the fleet's authority, and what it signs. Pure computation with randomness of its own; files are
//! the `host` driver's.

use crate::model::Secret;

/// An authority: certificate and key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Certificate, PEM.
    pub certificate_pem: String,
    /// Key, PEM.
    pub key_pem: Secret,
}

/// A signed certificate with its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Certificate, PEM.
    pub certificate_pem: String,
    /// Key, PEM.
    pub key_pem: Secret,
}
