//! Sealing: XChaCha20-Poly1305 with the fleet key, for records that leave this host's 0600 files, and with keys that
//! follow from it, one for each host, for what hosts send each other.
//!
//! Invariants: the key file is 0600 or it is refused; a sealed text opens only in the context (fleet, scope, revision)
//! that it was sealed for, so one record cannot be passed off as another; no key is used for two purposes.

mod derive;

use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};

use super::{Error, Result};
use crate::model::Secret;
pub use derive::HostKey;

/// Bytes of the key.
const KEY_BYTES: usize = 32;
/// Bytes of XChaCha20's nonce: long enough to be drawn at random.
const NONCE_BYTES: usize = 24;
/// The first byte of a sealed text: the form of what follows.
const FORM: u8 = 1;

/// The key that all managers of a fleet share.
#[derive(Clone)]
pub struct FleetKey([u8; KEY_BYTES]);

impl fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetKey(***)")
    }
}

impl FleetKey {
    /// Reads the key from a file of 32 bytes, or makes one at random where no file is. Of two processes that make one
    /// at the same time, both end with the same key. Blocks for as long as the disk does: for the start of a process.
    ///
    /// # Errors
    /// [`Error::Failed`] when others than the owner may read the file, when it is no key, or when the disk says no.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        match std::fs::File::open(path) {
            Ok(file) => Self::read(path, file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::create(path)?;
                let file = std::fs::File::open(path).map_err(|error| failed(path, "open", &error))?;
                Self::read(path, file)
            }
            Err(error) => Err(failed(path, "open", &error)),
        }
    }

    fn read(path: &Path, file: std::fs::File) -> Result<Self> {
        let mode = file.metadata().map_err(|error| failed(path, "look at", &error))?.mode();
        if mode & 0o077 != 0 {
            return Err(Error::Failed {
                act: format!("read the fleet key {}", path.display()),
                why: format!("its permissions are {:04o}, wanted 0600: others may have read it", mode & 0o7777),
            });
        }
        let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
        // One byte more than a key, to see a file that is too long without reading all of it.
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| failed(path, "read", &error))?;
        let key = <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_| Error::Failed {
            act: format!("read the fleet key {}", path.display()),
            why: format!("not {KEY_BYTES} bytes"),
        })?;
        Ok(Self(key))
    }

    fn create(path: &Path) -> Result<()> {
        let mut key = [0_u8; KEY_BYTES];
        draw(path, &mut key)?;
        Self::put(path, &key)
    }

    /// Writes a key where no other process was first.
    fn put(path: &Path, key: &[u8; KEY_BYTES]) -> Result<()> {
        let mut unique = [0_u8; 8];
        draw(path, &mut unique)?;
        let parent = path.parent().unwrap_or_else(|| Path::new("/"));
        let temporary = parent.join(format!(".fleet.key.{:016x}", u64::from_be_bytes(unique)));
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(key).and_then(|()| file.sync_all()))
            // A link, not a rename: it fails where another process came first, and that one's key is the fleet's.
            .and_then(|()| match std::fs::hard_link(&temporary, path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            });
        let removed = std::fs::remove_file(&temporary);
        written
            .and(removed)
            .and_then(|()| std::fs::File::open(parent)?.sync_all())
            .map_err(|error| failed(path, "make", &error))
    }

    /// The key as text, for a host that joins.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        Secret::new(STANDARD.encode(self.0))
    }

    /// Writes a key that was handed over into a file where none is.
    ///
    /// # Errors
    /// [`Error::Conflict`] when there is a key; [`Error::Failed`] when the text is none, or when the disk says no.
    pub fn write_new(path: &Path, text: &Secret) -> Result<()> {
        let bytes = STANDARD.decode(text.expose()).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        let key = bytes.ok_or_else(|| Error::Failed {
            act: format!("make the fleet key {}", path.display()),
            why: "what was handed over is no key".to_owned(),
        })?;
        if path.exists() {
            return Err(Error::Conflict {
                act: format!("make the fleet key {}", path.display()),
                why: "there is one".to_owned(),
            });
        }
        Self::put(path, &key)
    }

    /// Seals a text for one context, for example `edge/db.shop/7` (fleet, scope, revision).
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

fn seal(key: &[u8; KEY_BYTES], context: &str, plain: &[u8]) -> Result<Vec<u8>> {
    let act = || format!("seal {context}");
    let mut nonce = [0_u8; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| Error::Failed { act: act(), why: error.to_string() })?;
    let sealed = XChaCha20Poly1305::new(&(*key).into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: context.as_bytes() })
        .map_err(|_| Error::Failed { act: act(), why: "too long to seal".to_owned() })?;
    let mut whole = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
    whole.push(FORM);
    whole.extend_from_slice(&nonce);
    whole.extend_from_slice(&sealed);
    Ok(whole)
}

fn open(key: &[u8; KEY_BYTES], context: &str, sealed: &[u8]) -> Result<Vec<u8>> {
    let failed = |why: &str| Error::Failed { act: format!("open what was sealed for {context}"), why: why.to_owned() };
    let Some((form, rest)) = sealed.split_first() else { return Err(failed("it is empty")) };
    if *form != FORM {
        return Err(failed(&format!("its form {form} is not known to this build")));
    }
    let Some((nonce, body)) = rest.split_at_checked(NONCE_BYTES) else { return Err(failed("it is cut short")) };
    XChaCha20Poly1305::new(&(*key).into())
        .decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: context.as_bytes() })
        .map_err(|_| failed("not sealed with this fleet's key for this context, or changed since"))
}

fn draw(path: &Path, bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::Failed {
        act: format!("make the fleet key {}", path.display()),
        why: error.to_string(),
    })
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> Error {
    Error::Failed { act: format!("{what} the fleet key {}", path.display()), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleet.key");
        let first = FleetKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let again = FleetKey::load_or_create(&path).unwrap();
        let sealed = first.seal("edge/fleet/1", b"record").unwrap();
        assert_eq!(again.open("edge/fleet/1", &sealed).unwrap(), b"record");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        let other = FleetKey::load_or_create(&directory.path().join("other.key")).unwrap();
        assert!(other.open("edge/fleet/1", &sealed).is_err());
    }

    #[test]
    fn a_key_is_handed_over_and_replaces_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let key = FleetKey::load_or_create(&path("old")).unwrap();
        FleetKey::write_new(&path("new"), &key.to_text()).unwrap();
        let sealed = key.seal("edge/fleet/1", b"record").unwrap();
        let new = FleetKey::load_or_create(&path("new")).unwrap();
        assert_eq!(new.open("edge/fleet/1", &sealed).unwrap(), b"record");
        assert!(matches!(FleetKey::write_new(&path("new"), &key.to_text()), Err(Error::Conflict { .. })));
        assert!(FleetKey::write_new(&path("third"), &Secret::new("AAAA")).is_err());
        assert!(!path("third").exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleet.key");
        FleetKey::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = FleetKey::load_or_create(&path).unwrap_err();
            assert!(error.to_string().contains("wanted 0600"), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleet.key");
        for content in [&b""[..], &[7; KEY_BYTES - 1], &[7; KEY_BYTES + 1]] {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(FleetKey::load_or_create(&path).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn only_the_same_context_and_the_same_bytes_open() {
        let key = FleetKey([3; KEY_BYTES]);
        let sealed = key.seal("edge/db.shop/7", b"a secret").unwrap();
        assert!(!sealed.windows(8).any(|window| window == b"a secret"));
        assert_eq!(key.open("edge/db.shop/7", &sealed).unwrap(), b"a secret");
        assert!(key.open("edge/db.shop/8", &sealed).is_err());
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(key.open("edge/db.shop/7", &changed).is_err(), "byte {position}");
            assert!(key.open("edge/db.shop/7", &sealed[..position]).is_err(), "cut at {position}");
        }
        assert_ne!(sealed, key.seal("edge/db.shop/7", b"a secret").unwrap());
        assert_eq!(format!("{key:?}"), "FleetKey(***)");
    }
}
