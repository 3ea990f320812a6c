//! A key for each host, derived from the fleet's (HKDF-SHA256, RFC 5869): what is sealed for one host opens on no other.

use std::fmt;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::{FleetKey, KEY_BYTES, open, seal};
use crate::drivers::{Error, Result};
use crate::model::{FleetId, HostId};

/// What the keys are for; another purpose gets another word.
const SALT: &[u8] = b"pgmoor/v1 work of a host";

/// What the keys of join tokens are for.
const TOKEN_SALT: &[u8] = b"pgmoor/v1 token of a host that joins";

/// The key of what goes to one host and comes from it: one of the fleet, or one that joins with a token.
#[derive(Clone)]
pub struct HostKey([u8; KEY_BYTES]);

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostKey(***)")
    }
}

impl FleetKey {
    /// The key of one host of the fleet.
    ///
    /// # Errors
    /// None that can happen: a SHA-256 key of any length is one.
    pub fn of_host(&self, fleet: &FleetId, host: &HostId) -> Result<HostKey> {
        // Neither id holds a slash, so no two pairs give the same text.
        hkdf(&self.0, SALT, format!("{fleet}/{host}").as_bytes()).map(HostKey)
    }

    /// The key of a host that joins with a token of which this stands in clear, and the same as bytes for the token.
    ///
    /// # Errors
    /// None that can happen: a SHA-256 key of any length is one.
    pub fn of_token(&self, clear: &str) -> Result<(HostKey, [u8; KEY_BYTES])> {
        let key = hkdf(&self.0, TOKEN_SALT, clear.as_bytes())?;
        Ok((HostKey(key), key))
    }
}

impl HostKey {
    /// The key that a token holds; none when it has another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Seals a text for one context: all that stands in clear beside it.
    ///
    /// # Errors
    /// [`Error::Failed`] when the system gives no randomness.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>> {
        seal(&self.0, context, plain)
    }

    /// Opens what was sealed for this context.
    ///
    /// # Errors
    /// [`Error::Failed`] when it was sealed with another key or for another context, or was changed since.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        open(&self.0, context, sealed)
    }
}

/// HKDF with one block of output, which is as long as a key.
fn hkdf(key: &[u8], salt: &[u8], info: &[u8]) -> Result<[u8; KEY_BYTES]> {
    let extracted = mac(salt, &[key])?;
    mac(&extracted, &[info, &[1]])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; KEY_BYTES]> {
    let failed = |why: String| Error::Failed { act: "derive the key of a host".to_owned(), why };
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| failed(error.to_string()))?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_standard() {
        // RFC 5869, test case 1: the first 32 of its 42 bytes.
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let key = hkdf(&[0x0b; 22], &salt, &info).unwrap();
        let wanted = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(key.map(|byte| format!("{byte:02x}")).concat(), wanted);
    }

    #[test]
    fn what_is_sealed_for_one_host_opens_on_no_other() {
        let (fleet, other) = (FleetId::parse("edge").unwrap(), FleetId::parse("other").unwrap());
        let [one, two] = ["host-1", "host-2"].map(|id| HostId::parse(id).unwrap());
        let fleet_key = FleetKey([3; KEY_BYTES]);
        let key = fleet_key.of_host(&fleet, &one).unwrap();
        let sealed = key.seal("topic id 1", b"a secret").unwrap();
        assert_eq!(fleet_key.of_host(&fleet, &one).unwrap().open("topic id 1", &sealed).unwrap(), b"a secret");
        assert!(key.open("topic id 2", &sealed).is_err(), "another epoch");
        assert!(fleet_key.of_host(&fleet, &two).unwrap().open("topic id 1", &sealed).is_err());
        assert!(fleet_key.of_host(&other, &one).unwrap().open("topic id 1", &sealed).is_err());
        assert!(fleet_key.open("topic id 1", &sealed).is_err(), "and not with the key of records");
        assert_eq!(format!("{key:?}"), "HostKey(***)");
    }
}
