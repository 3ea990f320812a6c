//! `schemas/asyncapi.yaml`: the contract as AsyncAPI 3, from the topic table and the documents' schemas.

use serde_json::{Map, Value, json};

use super::commands::{FLEET_VERBS, VERBS};
use super::schema::Kind;
use super::topics::{Publisher, Row, TABLE};

/// The AsyncAPI document.
#[must_use]
pub fn document() -> Value {
    let channels: Map<String, Value> = TABLE.iter().map(|row| (channel_name(row), channel(row))).collect();
    let operations: Map<String, Value> =
        TABLE.iter().filter(|row| row.document.is_some()).map(|row| (operation_name(row), operation(row))).collect();
    let mut kinds: Vec<Kind> = TABLE.iter().flat_map(documents).collect();
    kinds.sort();
    kinds.dedup();
    let messages: Map<String, Value> =
        kinds.into_iter().map(|kind| (kind.as_str().to_owned(), message(kind))).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "pgmoor",
            "version": "1",
            "description": "Desired databases in, state and health out. Generated from the code by `make generate`.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    })
}

/// The same as YAML.
#[must_use]
pub fn yaml() -> String {
    // A JSON value always prints as YAML; an empty file would fail the test that compares it.
    serde_yaml_ng::to_string(&document()).unwrap_or_default()
}

/// The pattern without braces and slashes: `databases.db.spec`.
fn channel_name(row: &Row) -> String {
    row.pattern.replace(['{', '}'], "").replace('/', ".")
}

fn channel(row: &Row) -> Value {
    let parameters: Map<String, Value> =
        row.parameters().into_iter().map(|name| (name.to_owned(), json!({"description": parameter(name)}))).collect();
    let mut channel = json!({
        "address": row.address(),
        "description": row.description,
        "bindings": {"mqtt": {"bindingVersion": "0.2.0"}},
        "x-retained": row.retained.flag(),
    });
    let Some(fields) = channel.as_object_mut() else { return channel };
    if !parameters.is_empty() {
        fields.insert("parameters".to_owned(), Value::Object(parameters));
    }
    let reference = |kind: Kind| json!({"$ref": format!("#/components/messages/{}", kind.as_str())});
    let messages: Map<String, Value> =
        documents(row).into_iter().map(|kind| (kind.as_str().to_owned(), reference(kind))).collect();
    if !messages.is_empty() {
        fields.insert("messages".to_owned(), Value::Object(messages));
    }
    channel
}

/// The documents of a topic: one, but each verb of a command may have its own.
fn documents(row: &Row) -> Vec<Kind> {
    match row.document {
        Some(Kind::Command) => {
            let verbs = if row.pattern.starts_with("databases/") { &VERBS[..] } else { &FLEET_VERBS[..] };
            let kinds: std::collections::BTreeSet<Kind> = verbs.iter().map(|verb| verb.payload).collect();
            kinds.into_iter().collect()
        }
        Some(kind) => vec![kind],
        None => Vec::new(),
    }
}

fn parameter(name: &str) -> String {
    let text = match name {
        "fleet" => "The fleet: one Swarm and the databases on it.",
        "db" => "The database.",
        "instance" => "One Postgres: database, node and a hash of the host.",
        "service" => "One container beside the database.",
        "task" => "One operation; a UUID.",
        "verb" => {
            let names: Vec<&str> = VERBS.iter().chain(&FLEET_VERBS).map(|row| row.name).collect();
            let names = names.join(", ");
            return format!("What is asked for; this build knows {names}.");
        }
        "host" => "One machine of the Swarm.",
        "controller" => "One running pgmoor.",
        "number" => "A number from 0, without leading zeros.",
        _ => "The kind of a document.",
    };
    text.to_owned()
}

fn operation_name(row: &Row) -> String {
    let verb = match row.publisher {
        Publisher::User => "receive",
        Publisher::Pgmoor => "send",
    };
    format!("{verb}.{}", channel_name(row))
}

/// Operations are pgmoor's: what a user publishes, it receives.
fn operation(row: &Row) -> Value {
    let action = match row.publisher {
        Publisher::User => "receive",
        Publisher::Pgmoor => "send",
    };
    json!({
        "action": action,
        "channel": {"$ref": format!("#/channels/{}", channel_name(row))},
        "summary": row.description,
        "bindings": {"mqtt": {"qos": 1, "retain": row.retained.flag(), "bindingVersion": "0.2.0"}},
    })
}

fn message(kind: Kind) -> Value {
    json!({
        "name": kind.as_str(),
        "title": kind.as_str(),
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": format!("./v1/{}.schema.json", kind.schema_name())},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_a_channel_of_its_own() {
        let document = document();
        let channels = document["channels"].as_object().unwrap();
        assert_eq!(channels.len(), TABLE.len());
        let addresses: BTreeSet<&str> = channels.values().map(|channel| channel["address"].as_str().unwrap()).collect();
        assert_eq!(addresses, TABLE.iter().map(Row::address).collect::<Vec<_>>().iter().map(String::as_str).collect());
        for (name, operation) in document["operations"].as_object().unwrap() {
            let reference = operation["channel"]["$ref"].as_str().unwrap();
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{name}: {reference}");
        }
    }
}
