//! What is special about single kinds: when two of them are equal, what of them is shown, and which may be deleted
//! and made again.

use std::borrow::Cow;

use serde_json::Value;

use super::changes;
use super::value::Change;
use crate::model::{Attributes, Kind, Present, Resource};

/// How what is there differs from what is desired; empty when it is as desired.
///
/// Equal values are found by comparison; only unequal ones are turned into JSON.
pub(super) fn differences(resource: &Resource, present: &Present) -> Vec<Change> {
    let wanted = wanted(&resource.attributes, &present.attributes);
    if *wanted == present.attributes {
        return Vec::new();
    }
    changes::diff(&json(&present.attributes), &json(&wanted))
        .into_iter()
        .filter(|change| !resource.may_differ.iter().any(|pointer| is_within(&change.pointer, pointer)))
        .map(|change| if is_shown(resource.id.kind, &change) { change } else { hidden(change) })
        .collect()
}

/// Whether what is there may be deleted and made again: nothing is lost that cannot be derived.
///
/// Not a record (it is the memory of the rest), not what holds data (directory, database, extension), not what others
/// have come to rely on (a role owns objects, Patroni's prefix holds the leader's lock), and not what is a state
/// rather than a thing (etcd, instance, script). For these a repair is an update.
pub(super) fn may_be_recreated(kind: Kind) -> bool {
    match kind {
        Kind::File | Kind::Certificate | Kind::Network | Kind::Service | Kind::EtcdUser => true,
        Kind::Record
        | Kind::Directory
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::PatroniConfig
        | Kind::Instance
        | Kind::Role
        | Kind::Database
        | Kind::Extension
        | Kind::Script => false,
    }
}

/// The desired attributes with what the spec leaves open taken from what is there.
fn wanted<'a>(desired: &'a Attributes, observed: &Attributes) -> Cow<'a, Attributes> {
    if let (
        Attributes::Extension { database, name, version, schema },
        Attributes::Extension { version: installed, schema: placed, .. },
    ) = (desired, observed)
    {
        return Cow::Owned(Attributes::Extension {
            database: database.clone(),
            name: name.clone(),
            version: version.clone().or_else(|| installed.clone()),
            schema: schema.clone().or_else(|| placed.clone()),
        });
    }
    Cow::Borrowed(desired)
}

fn json(attributes: &Attributes) -> Value {
    // Attributes are plain data with texts as keys: turning them into JSON cannot fail.
    serde_json::to_value(attributes).unwrap_or_default()
}

/// Whether `pointer` is `prefix` or below it.
pub(super) fn is_within(pointer: &str, prefix: &str) -> bool {
    pointer.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Digests say nothing to people, and texts that may hold a secret say too much (rule 10).
fn is_shown(kind: Kind, change: &Change) -> bool {
    let is_digest = match kind {
        Kind::File => change.pointer == "/content",
        Kind::Certificate => change.pointer == "/issuer",
        Kind::Instance => change.pointer == "/config",
        Kind::PatroniConfig => change.pointer == "/parameters/pgmoor.config",
        Kind::Record
        | Kind::Directory
        | Kind::Network
        | Kind::Service
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::Role
        | Kind::Database
        | Kind::Extension
        | Kind::Script => false,
    };
    !is_digest && ![&change.from, &change.to].into_iter().flatten().any(may_hold_secret)
}

/// Words before which `=` and a secret stand in `pg_hba.conf` lines, connection texts and commands.
const SECRET_WORDS: [&str; 5] = ["password", "passwd", "passphrase", "secret", "token"];

/// Whether a text in it says that a secret stands there.
pub(super) fn may_hold_secret(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => {
            let text = text.to_ascii_lowercase();
            SECRET_WORDS.iter().any(|word| text.contains(word))
        }
        Value::Array(values) => values.iter().any(may_hold_secret),
        Value::Object(values) => values.values().any(may_hold_secret),
    }
}

fn hidden(change: Change) -> Change {
    Change { pointer: change.pointer, from: None, to: None }
}
