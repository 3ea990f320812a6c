//! The dynamic configuration of a node: all parameters, `pg_hba.conf`, `pg_ident.conf`, and Patroni's timing.
//!
//! Invariants: it is under the node's `config` key before the first instance starts, so no instance brings one along;
//! `read(document(x))` is `x`; [`CONFIG_MARKER`] is the digest of everything that a reload brings in.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::domain::parameters::CONFIG_MARKER;
use crate::domain::{hba, layout, parameters};
use crate::model::resource::PatroniConfigAttributes;
use crate::model::spec::NodeSpec;
use crate::model::{AcceptedSpec, Digest};

/// Seconds that a leader's lock lasts (reference 3.6). Patroni wants `loop_wait + 2 * retry_timeout <= ttl`.
const TTL_S: u32 = 30;
/// Seconds between two rounds of Patroni (reference 3.6).
const LOOP_WAIT_S: u32 = 10;
/// Seconds that Patroni tries etcd and Postgres again (reference 3.6).
const RETRY_TIMEOUT_S: u32 = 10;
/// Bytes of lag beyond which a replica is not promoted (Patroni's default).
const LAG_ON_FAILOVER_BYTES_MAX: u64 = 1 << 20;

/// What a node's dynamic configuration shall be.
pub(in crate::domain) fn attributes(
    spec: &AcceptedSpec,
    node: &NodeSpec,
    mut parameters: BTreeMap<String, String>,
) -> PatroniConfigAttributes {
    let pg_hba = hba::lines(&node.pg_hba, parameters::password_method(&parameters));
    let pg_ident = hba::ident(&node.pg_ident);
    parameters.insert(CONFIG_MARKER.to_owned(), marker(&parameters, &pg_hba, &pg_ident));
    PatroniConfigAttributes {
        prefix: layout::patroni_prefix(&spec.id, &node.name),
        ttl: TTL_S,
        loop_wait: LOOP_WAIT_S,
        retry_timeout: RETRY_TIMEOUT_S,
        // An outage of etcd must not make a healthy primary read-only.
        failsafe_mode: true,
        maximum_lag_on_failover: LAG_ON_FAILOVER_BYTES_MAX,
        use_pg_rewind: true,
        parameters,
        pg_hba,
        pg_ident,
    }
}

/// The value of [`CONFIG_MARKER`]: a digest over all other parameters and both access files.
#[must_use]
pub fn marker(parameters: &BTreeMap<String, String>, pg_hba: &[String], pg_ident: &[String]) -> String {
    let others: BTreeMap<&String, &String> = parameters.iter().filter(|(name, _)| *name != CONFIG_MARKER).collect();
    Digest::of(&(others, pg_hba, pg_ident)).as_str().to_owned()
}

/// The document under the `config` key.
#[must_use]
pub fn document(config: &PatroniConfigAttributes) -> Value {
    json!({
        "ttl": config.ttl,
        "loop_wait": config.loop_wait,
        "retry_timeout": config.retry_timeout,
        "failsafe_mode": config.failsafe_mode,
        "maximum_lag_on_failover": config.maximum_lag_on_failover,
        "postgresql": {
            "use_pg_rewind": config.use_pg_rewind,
            "parameters": config.parameters,
            "pg_hba": config.pg_hba,
            "pg_ident": config.pg_ident,
        },
    })
}

/// The body of `PATCH /config` that turns `live` into the wanted document, keys that are not wanted included; what is
/// in place already is left out, so nothing to do gives an empty object.
#[must_use]
pub fn patch(live: &Value, wanted: &PatroniConfigAttributes) -> Value {
    difference(live, &document(wanted))
}

fn difference(live: &Value, wanted: &Value) -> Value {
    let empty = Map::new();
    let live = live.as_object().unwrap_or(&empty);
    let wanted = wanted.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (key, value) in wanted {
        match (live.get(key), value) {
            (Some(is), _) if is == value => {}
            (Some(is @ Value::Object(_)), Value::Object(_)) => {
                patch.insert(key.clone(), difference(is, value));
            }
            (Some(_) | None, _) => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in live.keys().filter(|key| !wanted.contains_key(*key) && *key != PAUSE) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// Reads a document back. What is missing reads as zero, false or empty, and so differs from what is wanted; keys
/// that pgmoor never writes are listed as parameters named after their path, so that they differ too.
#[must_use]
pub fn read(prefix: &str, document: &Value) -> PatroniConfigAttributes {
    let empty = Map::new();
    let root = document.as_object().unwrap_or(&empty);
    let postgresql = root.get("postgresql").and_then(Value::as_object).unwrap_or(&empty);
    let number = |key: &str| root.get(key).and_then(Value::as_u64).unwrap_or(0);
    let seconds = |key: &str| u32::try_from(number(key)).unwrap_or(0);
    let flag = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
    let lines = |key: &str| -> Vec<String> {
        let list = postgresql.get(key).and_then(Value::as_array);
        list.into_iter().flatten().map(text).collect()
    };
    let mut parameters: BTreeMap<String, String> = postgresql
        .get("parameters")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    let foreign = foreign(root, &ROOT_KEYS, "").chain(foreign(postgresql, &POSTGRESQL_KEYS, "postgresql/"));
    parameters.extend(foreign);
    PatroniConfigAttributes {
        prefix: prefix.to_owned(),
        ttl: seconds("ttl"),
        loop_wait: seconds("loop_wait"),
        retry_timeout: seconds("retry_timeout"),
        failsafe_mode: flag(root.get("failsafe_mode")),
        maximum_lag_on_failover: number("maximum_lag_on_failover"),
        use_pg_rewind: flag(postgresql.get("use_pg_rewind")),
        parameters,
        pg_hba: lines("pg_hba"),
        pg_ident: lines("pg_ident"),
    }
}

/// A person's word to Patroni (`patronictl pause`), not ours to undo.
const PAUSE: &str = "pause";
const ROOT_KEYS: [&str; 7] =
    ["ttl", "loop_wait", "retry_timeout", "failsafe_mode", "maximum_lag_on_failover", "postgresql", PAUSE];
const POSTGRESQL_KEYS: [&str; 4] = ["use_pg_rewind", "parameters", "pg_hba", "pg_ident"];

fn foreign<'a>(
    map: &'a Map<String, Value>,
    known: &'a [&str],
    path: &'a str,
) -> impl Iterator<Item = (String, String)> + 'a {
    map.iter()
        .filter(|(key, _)| !known.contains(&key.as_str()))
        .map(move |(key, value)| (format!("{path}{key}"), text(value)))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PatroniConfigAttributes {
        let parameters = BTreeMap::from([("work_mem".to_owned(), "4MB".to_owned())]);
        let lines = vec!["host all all all reject".to_owned()];
        PatroniConfigAttributes {
            prefix: "/patroni/shop:n1/".to_owned(),
            ttl: TTL_S,
            loop_wait: LOOP_WAIT_S,
            retry_timeout: RETRY_TIMEOUT_S,
            failsafe_mode: true,
            maximum_lag_on_failover: LAG_ON_FAILOVER_BYTES_MAX,
            use_pg_rewind: true,
            parameters,
            pg_hba: lines.clone(),
            pg_ident: lines,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(read(&config().prefix, &document(&config())), config());
        assert_ne!(read(&config().prefix, &Value::Null), config());
    }

    #[test]
    fn foreign_keys_differ_and_are_patched_away() {
        let mut live = document(&config());
        assert_eq!(patch(&live, &config()), json!({}));
        live["synchronous_mode"] = json!(true);
        live["postgresql"]["parameters"]["work_mem"] = json!("8MB");
        live["postgresql"]["parameters"]["jit"] = json!("off");
        live["ttl"] = json!(60);
        assert_ne!(read(&config().prefix, &live), config());
        let expected = json!({
            "synchronous_mode": null,
            "postgresql": {"parameters": {"work_mem": "4MB", "jit": null}},
            "ttl": 30,
        });
        assert_eq!(patch(&live, &config()), expected);
    }

    #[test]
    fn a_pause_is_left_alone() {
        let mut live = document(&config());
        live["pause"] = json!(true);
        assert_eq!(read(&config().prefix, &live), config());
        assert_eq!(patch(&live, &config()), json!({}));
    }

    #[test]
    fn the_marker_covers_all_but_itself() {
        let mut parameters = config().parameters;
        let lines = config().pg_hba;
        let before = marker(&parameters, &lines, &lines);
        parameters.insert(CONFIG_MARKER.to_owned(), before.clone());
        assert_eq!(marker(&parameters, &lines, &lines), before);
        assert_ne!(marker(&parameters, &[], &lines), before);
        assert_ne!(marker(&parameters, &lines, &[]), before);
        parameters.insert("jit".to_owned(), "off".to_owned());
        assert_ne!(marker(&parameters, &lines, &lines), before);
    }
}
