//! The registry that images are pulled from, as a prefix of their names.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// What stands before an image's name in the registry, with a slash at its end: `registry.example.org/pgmoor/`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Registry(String);

impl Registry {
    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0
    }
}

impl FromStr for Registry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let prefix = format!("{}/", text.trim_end_matches('/'));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '[' | ']');
        if text.contains("://") || prefix == "/" || prefix.contains("//") || !prefix.chars().all(fits) {
            return Err(format!(
                "\"{text}\" is not what stands before the name of an image, as registry.example.org:5000/pgmoor/"
            ));
        }
        Ok(Self(prefix))
    }
}

impl TryFrom<String> for Registry {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_with_a_slash_and_is_no_address() {
        let prefix = |text: &str| text.parse::<Registry>().map(|registry| registry.prefix().to_owned()).ok();
        for text in ["registry.example.org:5000/pgmoor", "registry.example.org:5000/pgmoor/"] {
            assert_eq!(prefix(text).as_deref(), Some("registry.example.org:5000/pgmoor/"));
        }
        for text in ["", "/", "https://registry.example.org", "a b", "a//b", "name@sha256"] {
            assert_eq!(prefix(text), None, "{text}");
        }
    }
}
