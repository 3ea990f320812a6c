//! What of a document may be secret, told by the names of its fields and the words in its texts; and the document
//! without it.
//!
//! Invariant: a name or a word that is on no list here hides nothing, so the lists are wide: what is hidden in vain costs
//! a person one look more.

use std::collections::BTreeSet;

use serde_json::Value;

/// What stands for a value that may be secret.
pub const HIDDEN: &str = "(hidden)";

/// Fields that may hold a secret as a whole, with all that is below.
const SECRET_FIELDS: &[&str] =
    &["scripts", "config", "custom_options", "restore_options", "backup_options", "gcs_key", "azure_key"];
/// Words in a name whose value may be secret.
const SECRET_WORDS: &[&str] = &["password", "passphrase", "secret", "token", "key", "credential", "conninfo"];

/// Words in a text that may hold a secret.
const SECRET_WORDS_IN_TEXTS: &[&str] = &["password", "passwd", "secret"];

/// Whether the value of a field of this name may be secret.
#[must_use]
pub(super) fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_FIELDS.contains(&name.as_str()) || names_a_secret(&name)
}

fn names_a_secret(name: &str) -> bool {
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// A value with everything hidden in it that may be secret.
#[must_use]
pub fn hide(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let shown = if may_be_secret(name) { Value::from(HIDDEN) } else { hide(value) };
                (name.clone(), shown)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(hide).collect()),
        // A line of `pg_hba.conf` may hold the password of a directory service.
        Value::String(text) if SECRET_WORDS_IN_TEXTS.iter().any(|word| text.to_ascii_lowercase().contains(word)) => {
            Value::from(HIDDEN)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The texts that stand under the name of a secret: what must be found nowhere else either.
#[must_use]
pub fn secrets(value: &Value) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    collect(value, false, &mut found);
    found
}

fn collect<'a>(value: &'a Value, secret: bool, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(value, secret || names_a_secret(&name.to_ascii_lowercase()), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, secret, found)),
        Value::String(text) if secret => {
            found.insert(text);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_told_by_names_and_words() {
        let document = json!({
            "database_users": [{"username": "a", "password": "pw-a"}],
            "scripts": {"post_init": ["ALTER ROLE a PASSWORD 'x'"]},
            "pg_hba_conf": ["host all all 0/0 ldap ldapbindpasswd=y", "local all all peer"],
            "services": [{"config": {"api_key": "k-1", "level": "info"}}],
            "port": 1,
        });
        let hidden = json!({
            "database_users": [{"username": "a", "password": HIDDEN}],
            "scripts": HIDDEN,
            "pg_hba_conf": [HIDDEN, "local all all peer"],
            "services": [{"config": HIDDEN}],
            "port": 1,
        });
        assert_eq!(hide(&document), hidden);
        assert_eq!(secrets(&document).into_iter().collect::<Vec<_>>(), ["k-1", "pw-a"]);
    }
}
