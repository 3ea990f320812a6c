//! Who may connect: the password file, and lines for it.
//!
//! The format is mosquitto's own (`user:$7$iterations$salt$hash`,
//! PBKDF2-HMAC-SHA512), so one file serves both brokers and `mosquitto_passwd`
//! can write it too. Passwords are compared in constant time, an unknown user
//! costs as much as a known one, and no password or hash appears in `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SecureRandom;
use ring::{hmac, pbkdf2, rand};

use crate::Error;

/// Iterations of a new line: what OWASP recommends for PBKDF2-HMAC-SHA512.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(210_000).unwrap();
/// Fewest iterations that are accepted: what `mosquitto_passwd` 2.0 writes.
const ITERATIONS_MIN: u32 = 101;
/// For passwords that were drawn at random.
const DRAWN_ITERATIONS: NonZeroU32 = NonZeroU32::new(ITERATIONS_MIN).unwrap();
/// Most iterations that are accepted: about ten seconds of one processor.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Length of the salt in bytes; mosquitto 2.0 accepts no other.
const SALT_BYTES: usize = 12;
/// Length of the hash in bytes: the output of SHA-512.
const HASH_BYTES: usize = 64;
/// Largest password file in bytes: about 7,000 users.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest user name and password in bytes: longer ones are a mistake.
const FIELD_BYTES_MAX: usize = 1024;

/// The users who may connect, as read from a file.
#[derive(Clone, Default)]
pub struct PasswordFile {
    users: BTreeMap<String, Stored>,
}

#[derive(Clone)]
struct Stored {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl fmt::Debug for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordFile").field("users", &self.users.len()).finish()
    }
}

impl PasswordFile {
    /// Reads a password file: one `user:$7$iterations$salt$hash` a line, empty
    /// lines and lines that begin with `#` left out.
    ///
    /// # Errors
    ///
    /// [`Error::FileNotPrivate`] when every user of the machine can read it,
    /// [`Error::ReadPasswords`] and [`Error::PasswordLine`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::ReadPasswords { path: path.to_owned(), source };
        let length = private_file_bytes(path)?;
        if length > FILE_BYTES_MAX {
            return Err(failed(std::io::Error::other("the file is larger than 1 MiB")));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(failed)?)
    }

    /// Parses the text of a password file.
    ///
    /// # Errors
    ///
    /// [`Error::PasswordLine`] for the first line that is not right.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut users = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = |fault| Error::PasswordLine { line: at + 1, fault };
            let (user, stored) = line.split_once(':').ok_or(fault("there is no colon"))?;
            check_user(user).map_err(fault)?;
            let stored = Stored::parse(stored).map_err(fault)?;
            if users.insert(user.to_owned(), stored).is_some() {
                return Err(fault("the user stands here twice"));
            }
        }
        Ok(Self { users })
    }

    /// How many users the file holds.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether the file lets nobody in.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl Stored {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut fields = text.split('$');
        if fields.next() != Some("") || fields.next() != Some("7") {
            return Err("the hash does not begin with $7$ (make the line again)");
        }
        let iterations = fields
            .next()
            .and_then(|n| n.parse::<u32>().ok())
            .filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(n))
            .and_then(NonZeroU32::new)
            .ok_or("the number of iterations is not between 101 and 10,000,000")?;
        let mut bytes = || fields.next().and_then(|field| STANDARD.decode(field).ok());
        let salt = bytes().filter(|s| !s.is_empty()).ok_or("the salt is not base64")?;
        let hash = bytes().filter(|h| h.len() == HASH_BYTES).ok_or("the hash is not 64 bytes of base64")?;
        if fields.next().is_some() {
            return Err("there is something after the hash");
        }
        Ok(Self { iterations, salt, hash })
    }

    fn matches(&self, password: &[u8]) -> bool {
        pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, self.iterations, &self.salt, password, &self.hash).is_ok()
    }
}

/// Makes the line of a password file for one user (without the newline).
/// Takes about a fifth of a second.
///
/// # Errors
///
/// [`Error::MakePasswordLine`] when the name or the password is empty, too
/// long (1,024 bytes) or, in the name, has a colon or a control character;
/// [`Error::Random`].
pub fn password_line(user: &str, password: &str) -> Result<String, Error> {
    line_of(user, password, ITERATIONS)
}

/// The same for a password that was drawn at random, 128 bits or more: nobody
/// guesses it, so a broker need not spend a fifth of a second on each login.
///
/// # Errors
///
/// Those of [`password_line`].
pub fn drawn_password_line(user: &str, password: &str) -> Result<String, Error> {
    line_of(user, password, DRAWN_ITERATIONS)
}

fn line_of(user: &str, password: &str, iterations: NonZeroU32) -> Result<String, Error> {
    check_user(user).map_err(|fault| Error::MakePasswordLine { fault })?;
    if password.is_empty() || password.len() > FIELD_BYTES_MAX {
        return Err(Error::MakePasswordLine { fault: "the password has not between 1 and 1,024 bytes" });
    }
    line_with(user, password, iterations)
}

fn line_with(user: &str, password: &str, iterations: NonZeroU32) -> Result<String, Error> {
    let mut salt = [0; SALT_BYTES];
    rand::SystemRandom::new().fill(&mut salt).map_err(|_| Error::Random)?;
    let mut hash = [0; HASH_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &salt, password.as_bytes(), &mut hash);
    Ok(format!("{user}:$7${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(hash)))
}

fn check_user(user: &str) -> Result<(), &'static str> {
    if user.is_empty() || user.len() > FIELD_BYTES_MAX {
        Err("the user name has not between 1 and 1,024 bytes")
    } else if user.starts_with('#') || user.contains(|c: char| c == ':' || c.is_control()) {
        Err("the user name has a colon, a control character, or begins with #")
    } else {
        Ok(())
    }
}

/// The length of a file in bytes, provided that not every user can read it.
pub(crate) fn private_file_bytes(path: &Path) -> Result<u64, Error> {
    let seen = std::fs::metadata(path).map_err(|source| Error::LookAt { path: path.to_owned(), source })?;
    let mode = seen.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(Error::FileNotPrivate { path: path.to_owned(), mode });
    }
    Ok(seen.len())
}

/// A password of 256 random bits.
pub(crate) fn fresh_secret() -> Result<String, Error> {
    let mut noise = [0; 32];
    rand::SystemRandom::new().fill(&mut noise).map_err(|_| Error::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(noise))
}

/// Checks passwords, and remembers (by a keyed digest, never the password) the
/// last right one of each user, so that a reconnect costs no key derivation.
pub(crate) struct Verifier {
    file: PasswordFile,
    decoy: Stored,
    key: hmac::Key,
    known: Mutex<BTreeMap<String, hmac::Tag>>,
}

impl Verifier {
    pub(crate) fn new(file: PasswordFile) -> Result<Self, Error> {
        let random = rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(|_| Error::Random)?;
        let mut noise = vec![0; SALT_BYTES + HASH_BYTES];
        random.fill(&mut noise).map_err(|_| Error::Random)?;
        let hash = noise.split_off(SALT_BYTES);
        // The decoy costs what the dearest of the users costs.
        let iterations = file.users.values().map(|s| s.iterations).max().unwrap_or(ITERATIONS);
        let decoy = Stored { iterations, salt: noise, hash };
        Ok(Self { file, decoy, key, known: Mutex::default() })
    }

    /// A verifier for one secret user of this process, who is known already.
    pub(crate) fn for_secret(user: &str, secret: &str) -> Result<Self, Error> {
        let verifier = Self::new(PasswordFile::default())?;
        verifier.remember(user, secret.as_bytes());
        Ok(verifier)
    }

    fn remember(&self, user: &str, password: &[u8]) {
        let tag = hmac::sign(&self.key, &keyed_text(user, password));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(user.to_owned(), tag);
    }

    /// Whether this pair was right before; cheap.
    pub(crate) fn remembers(&self, user: &str, password: &[u8]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tag) = known.get(user) else {
            return false;
        };
        hmac::verify(&self.key, &keyed_text(user, password), tag.as_ref()).is_ok()
    }

    /// Whether this pair is right; derives a key, so call it off the event loop.
    pub(crate) fn verify(&self, user: &str, password: &[u8]) -> bool {
        let Some(stored) = self.file.users.get(user) else {
            self.decoy.matches(password);
            return false;
        };
        let right = stored.matches(password);
        if right {
            self.remember(user, password);
        }
        right
    }
}

fn keyed_text(user: &str, password: &[u8]) -> Vec<u8> {
    // A user name has no control character, so the zero byte parts the two.
    [user.as_bytes(), &[0], password].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: NonZeroU32 = NonZeroU32::new(101).unwrap();

    #[test]
    fn a_line_lets_its_user_in_and_nobody_else() {
        let text = format!("# fleet\n\n{}\n", line_with("anna", "s3cret", FEW).unwrap());
        let verifier = Verifier::new(PasswordFile::parse(&text).unwrap()).unwrap();
        assert!(!verifier.remembers("anna", b"s3cret"));
        assert!(verifier.verify("anna", b"s3cret"));
        assert!(verifier.remembers("anna", b"s3cret"));
        assert!(!verifier.remembers("anna", b"other"));
        for (user, password) in [("anna", "S3cret"), ("anna", ""), ("bert", "s3cret"), ("", "")] {
            assert!(!verifier.verify(user, password.as_bytes()), "{user} {password}");
        }
    }

    #[test]
    fn a_line_of_mosquitto_passwd_is_understood() {
        // Written by mosquitto_passwd 2.0.11 for user `u`, password `pw`.
        let text = include_str!("../tests/mosquitto_passwd.txt");
        let verifier = Verifier::new(PasswordFile::parse(text).unwrap()).unwrap();
        assert!(verifier.verify("u", b"pw"));
        assert!(!verifier.verify("u", b"pW"));
    }

    #[test]
    fn every_line_has_a_salt_of_its_own() {
        assert_ne!(line_with("a", "p", FEW).unwrap(), line_with("a", "p", FEW).unwrap());
    }

    #[test]
    fn a_wrong_line_is_named_and_its_content_kept_quiet() {
        let good = line_with("a", "p", FEW).unwrap();
        let faulty = [
            ("a", "there is no colon"),
            ("a:secret", "the hash does not begin with $7$ (make the line again)"),
            ("a:$7$100$AAAA$AAAA", "the number of iterations is not between 101 and 10,000,000"),
            ("a:$7$101$$AAAA", "the salt is not base64"),
            ("a:$7$101$AAAA$AAAA", "the hash is not 64 bytes of base64"),
            (":$7$101$AAAA$AAAA", "the user name has not between 1 and 1,024 bytes"),
        ];
        for (text, expected) in faulty {
            let error = PasswordFile::parse(&format!("{good}\n{text}")).unwrap_err();
            let Error::PasswordLine { line: 2, fault } = error else { panic!("{text}: {error}") };
            assert_eq!(fault, expected, "{text}");
        }
        let twice = PasswordFile::parse(&format!("{good}\n{good}")).unwrap_err();
        assert_eq!(twice.to_string(), "password file, line 2: the user stands here twice");
    }

    #[test]
    fn a_file_for_everybodys_eyes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwords");
        std::fs::write(&path, line_with("a", "p", FEW).unwrap()).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(PasswordFile::load(&path), Err(Error::FileNotPrivate { mode: 0o644, .. })));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(PasswordFile::load(&path).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_stand_in_a_file_makes_no_line() {
        for (user, password) in [("", "p"), ("a:b", "p"), ("#a", "p"), ("a\nb", "p"), ("a", "")] {
            assert!(matches!(password_line(user, password), Err(Error::MakePasswordLine { .. })));
        }
    }
}
