//! Certificates: the fleet's authority, and what it signs. Pure computation with randomness of its own; files are
//! the `host` driver's, and the time is an argument.
//!
//! Invariants: every key is P-256; a leaf is valid from one hour before it was made (clocks differ) for one year, the
//! authority for ten; an authority signs no other authority.

mod inspect;
mod issue;

pub use inspect::{certificate_digest, common_name, inspect, key_matches};
pub use issue::{issue, make_authority};

use crate::model::Secret;

/// How long an authority is valid, in seconds: ten years.
pub const AUTHORITY_LIFE_S: i64 = 10 * 365 * DAY_S;
/// How long a leaf certificate is valid, in seconds: one year (issue 2).
pub const LEAF_LIFE_S: i64 = 365 * DAY_S;
/// How far a certificate's start lies before the moment it was made, in seconds: one hour, for clocks that are behind.
pub const BACKDATED_S: i64 = 3600;
const DAY_S: i64 = 24 * 3600;

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

#[cfg(test)]
mod tests;
