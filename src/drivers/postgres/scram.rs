//! Passwords without sending them: the verifier that Postgres stores is computed here, and a stored one is compared by
//! playing both sides of a login.
//!
//! Invariant: no clear text leaves this file; Postgres sees verifiers, and so do its log and statistics.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use sha2::{Digest as _, Sha256};

use crate::model::Secret;

/// What a stored SCRAM verifier begins with: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`.
const PREFIX: &str = "SCRAM-SHA-256$";

/// A verifier for a password, with a salt of its own.
pub(super) fn verifier(password: &Secret) -> String {
    postgres_protocol::password::scram_sha_256(password.expose().as_bytes())
}

/// Whether a stored verifier is one of this password. Any other form of storage (MD5, none) is not.
pub(super) fn matches(stored: &str, password: &Secret) -> bool {
    logs_in(stored, password).unwrap_or_default()
}

/// Plays a login: the client of `postgres-protocol` (which prepares the password as Postgres does) against the server's
/// half of RFC 5802, which knows only the stored key.
fn logs_in(stored: &str, password: &Secret) -> Option<bool> {
    let (cost, keys) = stored.strip_prefix(PREFIX)?.split_once('$')?;
    let (iterations, salt) = cost.split_once(':')?;
    let stored_key = STANDARD.decode(keys.split_once(':')?.0).ok()?;

    let mut client = ScramSha256::new(password.expose().as_bytes(), ChannelBinding::unsupported());
    let client_first = String::from_utf8(client.message().to_vec()).ok()?;
    let client_first_bare = client_first.strip_prefix("n,,")?;
    let client_nonce = client_first_bare.split_once(",r=")?.1;
    // Nobody listens in on this exchange, so the server's part of the nonce may be the same each time.
    let server_first = format!("r={client_nonce}server,s={salt},i={iterations}");
    client.update(server_first.as_bytes()).ok()?;
    let client_final = String::from_utf8(client.message().to_vec()).ok()?;
    let (without_proof, proof) = client_final.split_once(",p=")?;

    let mut signature = Hmac::<Sha256>::new_from_slice(&stored_key).ok()?;
    signature.update(format!("{client_first_bare},{server_first},{without_proof}").as_bytes());
    let signature = signature.finalize().into_bytes();
    let proof = STANDARD.decode(proof).ok()?;
    let client_key: Vec<u8> = proof.iter().zip(signature).map(|(proof, signature)| proof ^ signature).collect();
    Some(Sha256::digest(client_key).as_slice() == stored_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_matches_its_password_alone() {
        for password in ["x", "a longer one with spaces", "pa'ss\\word", "ünïcödé", "a\u{00a0}b", ""] {
            let stored = verifier(&Secret::new(password));
            assert!(stored.starts_with("SCRAM-SHA-256$4096:"));
            assert!(matches(&stored, &Secret::new(password)), "{password}");
            assert!(!matches(&stored, &Secret::new(format!("{password}."))), "{password}");
            assert_ne!(stored, verifier(&Secret::new(password)), "each has its own salt");
        }
    }

    #[test]
    fn passwords_are_prepared_as_postgres_does() {
        // SASLprep makes a no-break space a space, and a ligature its letters.
        assert!(matches(&verifier(&Secret::new("a\u{00a0}b")), &Secret::new("a b")));
        assert!(matches(&verifier(&Secret::new("\u{fb01}sh")), &Secret::new("fish")));
    }

    #[test]
    fn what_postgres_stored_is_recognised() {
        // rolpassword of `ALTER ROLE x PASSWORD 'pencil'` as PostgreSQL 17.11 stored it.
        let stored = include_str!("pencil.txt").trim();
        assert!(matches(stored, &Secret::new("pencil")));
        assert!(!matches(stored, &Secret::new("pencils")));
    }

    #[test]
    fn any_other_storage_matches_nothing() {
        for stored in ["", "md5d41d8cd98f00b204e9800998ecf8427e", "SCRAM-SHA-256$4096:x", "SCRAM-SHA-256$x:y$z:w", "x"]
        {
            assert!(!matches(stored, &Secret::new("x")), "{stored}");
            assert!(!matches(stored, &Secret::new("")), "{stored}");
        }
    }
}
