//! Two spec documents compared field by field, and a document with another generation.
//!
//! Invariant: a value that may be secret (passwords, keys, tokens, statements of scripts, options of services and
//! repositories) is told as `(hidden)`; that it differs is told.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::contract::documents::Change;
use crate::contract::faults::pointer;

/// What stands for a value that may be secret.
pub const HIDDEN: &str = "(hidden)";

/// Fields that may hold a secret as a whole, with all that is below.
const SECRET_FIELDS: &[&str] =
    &["scripts", "config", "custom_options", "restore_options", "backup_options", "gcs_key", "azure_key"];
/// Words in a name whose value may be secret.
const SECRET_WORDS: &[&str] = &["password", "passphrase", "secret", "token", "key", "credential", "conninfo"];

/// Words in a text that may hold a secret.
const SECRET_WORDS_IN_TEXTS: &[&str] = &["password", "passwd", "secret"];

/// The fields in which `from` and `to` differ, in the order of their names. A document that is no JSON counts as empty.
#[must_use]
pub fn diff(from: &str, to: &str) -> Vec<Change> {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Object(Map::new()));
    let mut changes = Vec::new();
    compare("", Some(&read(from)), Some(&read(to)), false, &mut changes);
    changes
}

fn compare(place: &str, from: Option<&Value>, to: Option<&Value>, secret: bool, changes: &mut Vec<Change>) {
    if from == to {
        return;
    }
    match (from, to) {
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
            for name in names {
                compare(&pointer(place, name), from.get(name), to.get(name), secret || may_be_secret(name), changes);
            }
        }
        (Some(Value::Array(from)), Some(Value::Array(to))) => {
            for index in 0..from.len().max(to.len()) {
                compare(&pointer(place, index), from.get(index), to.get(index), secret, changes);
            }
        }
        (from, to) => {
            let told = |value: &Value| if secret { Value::from(HIDDEN) } else { masked(value) };
            changes.push(Change { pointer: place.to_owned(), from: from.map(told), to: to.map(told) });
        }
    }
}

fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_FIELDS.contains(&name.as_str()) || SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// A value with everything hidden in it that may be secret.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let shown = if may_be_secret(name) { Value::from(HIDDEN) } else { masked(value) };
                (name.clone(), shown)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(masked).collect()),
        // A line of `pg_hba.conf` may hold the password of a directory service.
        Value::String(text) if SECRET_WORDS_IN_TEXTS.iter().any(|word| text.to_ascii_lowercase().contains(word)) => {
            Value::from(HIDDEN)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The document with this generation, to be published again; none when it is no JSON object.
#[must_use]
pub fn with_generation(document: &str, generation: u64) -> Option<String> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(document) else { return None };
    fields.insert("generation".to_owned(), Value::from(generation));
    serde_json::to_string(&fields).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_compared_and_secrets_hidden() {
        let from = r#"{"port": 1, "database_users": [{"username": "a", "password": "old-pw"}], "scripts": {"post_init": ["x"]}}"#;
        let to = r#"{"port": 2, "database_users": [{"username": "a", "password": "new-pw"}, {"username": "b", "password": "pw-b"}],
                    "scripts": {"post_init": ["ALTER ROLE a PASSWORD 'pw-c'"]}, "generation": 4}"#;
        let changes = diff(from, to);
        let places: Vec<&str> = changes.iter().map(|change| change.pointer.as_str()).collect();
        assert_eq!(
            places,
            ["/database_users/0/password", "/database_users/1", "/generation", "/port", "/scripts/post_init/0"]
        );
        let text = serde_json::to_string(&changes).unwrap();
        assert!(!text.contains("pw-") && !text.contains("-pw"), "{text}");
        assert!(text.contains("\"username\":\"b\"") && text.contains(HIDDEN), "{text}");
        assert_eq!(diff(to, to), []);
    }

    #[test]
    fn a_generation_is_put_in_the_place_of_the_old_one() {
        let text = with_generation(r#"{"port": 1, "generation": 3}"#, 7).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, serde_json::json!({"port": 1, "generation": 7}));
        assert_eq!(with_generation("[]", 7), None);
    }
}
