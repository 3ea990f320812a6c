//! Secrets: values that must not be seen in a log, a topic, an error or a process argument.
//!
//! Invariant: a [`Secret`] shows as `***` wherever it is formatted, and has no `Serialize`: a struct that stores one
//! says so with `#[serde(with = "model::secret::clear")]`, and is then sealed or written 0600.

use std::fmt;
use std::sync::Arc;

/// A text that is never shown. Clones share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes the text in.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::from(text.into()))
    }

    /// The text itself: for the one call that needs it (a login, a 0600 file), never for a message.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Stores a secret in clear text: only in what is sealed with the fleet key or kept in a 0600 file.
pub mod clear {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    /// Writes the secret's text.
    ///
    /// # Errors
    /// The serializer fails.
    pub fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    /// Reads the secret's text.
    ///
    /// # Errors
    /// The deserializer fails.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// The same for a map whose values are secrets.
pub mod clear_map {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    /// Writes the map with its secrets' texts.
    ///
    /// # Errors
    /// The serializer fails.
    pub fn serialize<S: Serializer>(map: &BTreeMap<String, Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(key, secret)| (key, secret.expose())))
    }

    /// Reads the map.
    ///
    /// # Errors
    /// The deserializer fails.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Secret>, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(key, text)| (key, Secret::new(text))).collect())
    }
}
