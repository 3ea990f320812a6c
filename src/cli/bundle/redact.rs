//! What must not leave the host is taken out of texts: known secrets wherever they stand, and what looks like one.
//!
//! Invariants: a known secret is found as it is and as JSON, SQL and addresses write it; numbers, `true` and `false` of a
//! document are never touched; what was redacted holds nothing that [`Redactor::holds`] finds.

use std::borrow::Cow;
use std::collections::BTreeSet;

use regex_lite::Regex;
use serde_json::{Map, Value};

use crate::contract::spec::hidden::HIDDEN;
use crate::model::Secret;

/// Known secrets that are shorter are not looked for: they stand in half of all words.
const LENGTH_MIN: usize = 4;

/// How a private key begins and ends.
const KEY: (&str, &str, &str) = ("-----BEGIN ", "PRIVATE KEY-----", "-----END ");

/// What looks like a secret in a line: words of which one is in it in lower case, how it looks, what is put in its place.
const LOOKS: [(&[&str], &str, &str); 4] = [
    (&["scram-sha-256$"], r"SCRAM-SHA-256\$[0-9]+:[^\s\x22']+", "(hidden)"),
    (&["://"], r"(://[^\s/@:]*):[^\s/@]+@", "$1:(hidden)@"),
    (&["password"], r"((?i:password)\s+)'(?:[^']|'')*'", "$1'(hidden)'"),
    (
        &["password", "passwd", "passphrase", "secret", "token"],
        r#"((?i:password|passwd|passphrase|secret|token)\\?["']?\s*[=:]\s*\\?["']?)[^\s"'\\,;&}]+"#,
        "$1(hidden)",
    ),
];

/// Takes secrets out.
#[derive(Debug)]
pub(super) struct Redactor {
    /// Known secrets in every way of writing them, the longest first: one may begin another.
    known: Vec<String>,
    /// How many known secrets are too short to be looked for.
    pub(super) too_short: usize,
    looks: Vec<(&'static [&'static str], Regex, &'static str)>,
}

impl Redactor {
    /// Knows these secrets.
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let secrets: BTreeSet<&str> = secrets.into_iter().map(Secret::expose).filter(|text| !text.is_empty()).collect();
        let (long, short): (Vec<&str>, Vec<&str>) = secrets.into_iter().partition(|text| text.len() >= LENGTH_MIN);
        let spellings: BTreeSet<String> = long.into_iter().flat_map(spellings).collect();
        let mut known: Vec<String> = spellings.into_iter().collect();
        known.sort_by_key(|text| std::cmp::Reverse(text.len()));
        // The expressions are constants, and a test reads each of them.
        let looks = LOOKS.iter().filter_map(|(words, look, instead)| Some((*words, Regex::new(look).ok()?, *instead)));
        let looks = looks.collect();
        Self { known, too_short: short.len(), looks }
    }

    /// The text without secrets.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.known {
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
        }
        without_keys(&text).split_inclusive('\n').map(|line| self.line(line)).collect()
    }

    /// A line without what looks like a secret. The words are looked for first: expressions are slow.
    fn line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let lower = line.to_ascii_lowercase();
        let mut line = Cow::Borrowed(line);
        for (words, look, instead) in &self.looks {
            if words.iter().any(|word| lower.contains(word)) && look.is_match(&line) {
                line = Cow::Owned(look.replace_all(&line, *instead).into_owned());
            }
        }
        line
    }

    /// The document without secrets.
    pub(super) fn document(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| (self.text(name), self.document(value)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            Value::Array(items) => Value::Array(items.iter().map(|item| self.document(item)).collect()),
            Value::String(text) => Value::String(self.text(text)),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// Whether a known secret stands in the text.
    pub(super) fn holds(&self, text: &str) -> bool {
        let rest = text.replace(HIDDEN, "\n");
        self.known.iter().any(|secret| rest.contains(secret))
    }

    /// Whether a known secret stands in a text of the document.
    pub(super) fn document_holds(&self, value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.iter().any(|(name, value)| self.holds(name) || self.document_holds(value)),
            Value::Array(items) => items.iter().any(|item| self.document_holds(item)),
            Value::String(text) => self.holds(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
}

/// The text without private keys; one that does not end goes with all that follows.
fn without_keys(text: &str) -> Cow<'_, str> {
    let (begin, word, end) = KEY;
    if !text.contains(word) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(begin) {
        clean.push_str(before);
        let head = after.split_once("-----").map_or(after, |(head, _)| head);
        if format!("{head}-----").ends_with(word) {
            clean.push_str(HIDDEN);
            rest =
                after.split_once(end).and_then(|(_, after)| after.split_once("-----")).map_or("", |(_, after)| after);
        } else {
            clean.push_str(begin);
            rest = after;
        }
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// The ways in which a secret may be written.
fn spellings(secret: &str) -> [String; 4] {
    let json = Value::from(secret).to_string();
    let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or(&json).to_owned();
    let mut address = String::new();
    for byte in secret.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            address.push(char::from(byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    [secret.to_owned(), json, secret.replace('\'', "''"), address]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(*text)).collect();
        Redactor::new(&secrets)
    }

    #[test]
    fn known_secrets_go_in_every_spelling() {
        let redactor = redactor(&["a'b\"c d", "hunter2", "hunter2-more", "x"]);
        assert_eq!(redactor.too_short, 1);
        let text = r#"hunter2-more hunter2, a'b"c d; a''b"c d; a'b\"c d; a%27b%22c%20d"#;
        assert!(redactor.holds(text));
        let clean = redactor.text(text);
        assert_eq!(clean, "(hidden) (hidden), (hidden); (hidden); (hidden); (hidden)");
        assert!(!redactor.holds(&clean));
    }

    #[test]
    fn documents_keep_their_shape() {
        let redactor = redactor(&["1234", "true", "hidden"]);
        let document = json!({"port": 12345, "on": true, "pw 1234": ["is 1234", null, "true"]});
        let clean = redactor.document(&document);
        assert_eq!(clean, json!({"port": 12345, "on": true, "pw (hidden)": ["is (hidden)", null, "(hidden)"]}));
        assert!(redactor.document_holds(&document) && !redactor.document_holds(&clean));
    }

    #[test]
    fn what_looks_like_a_secret_goes() {
        let redactor = redactor(&[]);
        assert_eq!(redactor.looks.len(), LOOKS.len(), "every expression is one");
        for (text, clean) in [
            ("mqtt://anna:pw@host:1883/x", "mqtt://anna:(hidden)@host:1883/x"),
            ("at http://host:80/x and a@b", "at http://host:80/x and a@b"),
            ("ALTER ROLE a PASSWORD 'it''s' x", "ALTER ROLE a PASSWORD '(hidden)' x"),
            ("PGPASSWORD=abc host=x", "PGPASSWORD=(hidden) host=x"),
            (r#"{"password": "abc", "a": 1}"#, r#"{"password": "(hidden)", "a": 1}"#),
            (r#"{\"password\":\"abc\"}"#, r#"{\"password\":\"(hidden)\"}"#),
            ("password authentication failed for user a", "password authentication failed for user a"),
            ("v SCRAM-SHA-256$4096:salt==$stored:server\" x", "v (hidden)\" x"),
            ("k\n-----BEGIN EC PRIVATE KEY-----\nMIG\n-----END EC PRIVATE KEY-----\nz", "k\n(hidden)\nz"),
            ("-----BEGIN PRIVATE KEY-----\nMIG", "(hidden)"),
            ("-----BEGIN CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----\n(hidden)"),
            ("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----"),
        ] {
            assert_eq!(redactor.text(text), clean);
        }
    }
}
