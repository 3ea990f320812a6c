//! Names and texts as SQL. Names may hold any character that Postgres allows, so nothing is ever pasted unquoted.

use crate::drivers::{Error, Result};

/// Bytes of a name that Postgres keeps (`NAMEDATALEN` - 1): it would cut a longer one off and mean another thing.
const NAME_BYTES_MAX: usize = 63;

/// A name as a quoted identifier.
///
/// # Errors
/// [`Error::Failed`] when no Postgres name can be like this: empty, longer than 63 bytes, or with a zero byte in it.
pub(super) fn identifier(name: &str) -> Result<String> {
    let failed = |why: &str| Error::Failed { act: format!("use the name {name:?}"), why: why.to_owned() };
    if name.is_empty() {
        return Err(failed("it is empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(failed("it is longer than 63 bytes"));
    }
    if name.contains('\0') {
        return Err(failed("it has a zero byte in it"));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// A text as a string literal, whatever `standard_conforming_strings` says.
///
/// # Errors
/// [`Error::Failed`] when the text has a zero byte in it. The text itself is not in the error: it may be a secret.
pub(super) fn literal(text: &str) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::Failed { act: "use a text in SQL".to_owned(), why: "it has a zero byte in it".to_owned() });
    }
    let quoted = text.replace('\'', "''");
    Ok(if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whole() {
        for (name, wanted) in [
            ("app", "\"app\""),
            ("My App", "\"My App\""),
            ("a\"b", "\"a\"\"b\""),
            ("x\"; DROP TABLE y; --", "\"x\"\"; DROP TABLE y; --\""),
            ("ü\\", "\"ü\\\""),
        ] {
            assert_eq!(identifier(name).unwrap(), wanted);
        }
        let long = "x".repeat(64);
        for bad in ["", "a\0b", &long, &"ü".repeat(32)] {
            assert!(identifier(bad).is_err(), "{bad:?}");
        }
        assert!(identifier(&"x".repeat(63)).is_ok());
    }

    #[test]
    fn texts_are_quoted_whole() {
        for (text, wanted) in [
            ("", "''"),
            ("a'b", "'a''b'"),
            ("\\", " E'\\\\'"),
            ("\\'; DROP TABLE y; --", " E'\\\\''; DROP TABLE y; --'"),
        ] {
            assert_eq!(literal(text).unwrap(), wanted);
        }
        let error = literal("secret\0").unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
