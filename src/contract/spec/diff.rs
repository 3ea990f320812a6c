//! Two spec documents compared field by field, and a document with another generation.
//!
//! Invariant: a value that may be secret (passwords, keys, tokens, statements of scripts, options of services and
//! repositories) is told as `(hidden)`; that it differs is told.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::hidden::{HIDDEN, hide, may_be_secret};
use crate::contract::documents::Change;
use crate::contract::faults::pointer;

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
            let told = |value: &Value| if secret { Value::from(HIDDEN) } else { hide(value) };
            changes.push(Change { pointer: place.to_owned(), from: from.map(told), to: to.map(told) });
        }
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
