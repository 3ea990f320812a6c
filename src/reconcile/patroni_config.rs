//! Patroni's dynamic configuration as JSON: the document under the `config` key, and the patch that leads to it.
//!
//! Invariant: the document is wholly ours. A key that somebody added by hand is a difference, and goes.

use serde_json::{Map, Value, json};

use crate::model::resource::PatroniConfigAttributes;
use crate::model::{Attributes, Present};

/// The key of the document below a node's prefix.
pub(super) fn key(prefix: &str) -> String {
    format!("{prefix}config")
}

/// The document.
pub(super) fn document(wanted: &PatroniConfigAttributes) -> Value {
    json!({
        "ttl": wanted.ttl,
        "loop_wait": wanted.loop_wait,
        "retry_timeout": wanted.retry_timeout,
        "failsafe_mode": wanted.failsafe_mode,
        "maximum_lag_on_failover": wanted.maximum_lag_on_failover,
        "postgresql": {
            "use_pg_rewind": wanted.use_pg_rewind,
            "parameters": wanted.parameters,
            "pg_hba": wanted.pg_hba,
            "pg_ident": wanted.pg_ident,
        },
    })
}

/// Reads a document back. What does not have our shape is there, and broken: it is written anew.
pub(super) fn read(prefix: &str, bytes: &[u8]) -> Present {
    let document: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let number = |name: &str| document.get(name).and_then(Value::as_u64).unwrap_or_default();
    let narrow = |name: &str| u32::try_from(number(name)).unwrap_or_default();
    let postgresql = document.get("postgresql").cloned().unwrap_or(Value::Null);
    let lines = |name: &str| -> Vec<String> {
        let list = postgresql.get(name).and_then(Value::as_array);
        list.into_iter().flatten().map(text).collect()
    };
    let attributes = PatroniConfigAttributes {
        prefix: prefix.to_owned(),
        ttl: narrow("ttl"),
        loop_wait: narrow("loop_wait"),
        retry_timeout: narrow("retry_timeout"),
        failsafe_mode: document.get("failsafe_mode").and_then(Value::as_bool).unwrap_or_default(),
        maximum_lag_on_failover: number("maximum_lag_on_failover"),
        use_pg_rewind: postgresql.get("use_pg_rewind").and_then(Value::as_bool).unwrap_or_default(),
        parameters: postgresql
            .get("parameters")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        pg_hba: lines("pg_hba"),
        pg_ident: lines("pg_ident"),
    };
    let strange = patch(&document, &self::document(&attributes)) != json!({});
    let mut present = Present::new(Attributes::PatroniConfig(attributes));
    if strange {
        present.error = Some("Patroni's configuration in etcd holds keys that pgmoor did not write".to_owned());
    }
    present
}

/// A value as Patroni would write it into a file.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The JSON merge patch (RFC 7396) that makes `from` into `to`: what Patroni's `PATCH /config` takes.
pub(super) fn patch(from: &Value, to: &Value) -> Value {
    let empty = Map::new();
    let from = from.as_object().unwrap_or(&empty);
    let to = to.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (name, wanted) in to {
        match from.get(name) {
            Some(is) if is == wanted => {}
            Some(is) if is.is_object() && wanted.is_object() => {
                patch.insert(name.clone(), self::patch(is, wanted));
            }
            Some(_) | None => {
                patch.insert(name.clone(), wanted.clone());
            }
        }
    }
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn attributes() -> PatroniConfigAttributes {
        PatroniConfigAttributes {
            prefix: "/patroni/shop:n1/".to_owned(),
            ttl: 30,
            loop_wait: 10,
            retry_timeout: 10,
            failsafe_mode: true,
            maximum_lag_on_failover: 1_048_576,
            use_pg_rewind: true,
            parameters: BTreeMap::from([("max_connections".to_owned(), "100".to_owned())]),
            pg_hba: vec!["local all all trust".to_owned()],
            pg_ident: vec![],
        }
    }

    #[test]
    fn what_is_written_reads_back_equal() {
        let bytes = serde_json::to_vec(&document(&attributes())).unwrap();
        assert_eq!(read("/patroni/shop:n1/", &bytes), Present::new(Attributes::PatroniConfig(attributes())));
    }

    #[test]
    fn a_foreign_key_and_a_broken_document_are_errors() {
        let mut foreign = document(&attributes());
        foreign["pause"] = json!(true);
        assert!(read("/p/", &serde_json::to_vec(&foreign).unwrap()).error.is_some());
        assert!(read("/p/", b"{").error.is_some());
    }

    #[test]
    fn the_patch_removes_what_is_not_wanted() {
        let from = json!({"a": 1, "b": {"c": 1, "d": 2}});
        let to = json!({"b": {"d": 3}, "e": [1]});
        assert_eq!(patch(&from, &to), json!({"a": null, "b": {"c": null, "d": 3}, "e": [1]}));
        assert_eq!(patch(&to, &to), json!({}));
    }
}
