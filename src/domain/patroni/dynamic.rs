//! The dynamic configuration of a node: all parameters, `pg_hba.conf`, `pg_ident.conf`, and Patroni's timing.
//!
//! Invariants: it is under the node's `config` key before the first instance starts, so no instance brings one along;
//! `read(document(x))` is `x`; [`CONFIG_MARKER`] is the digest of everything that a reload brings in.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::domain::parameters::CONFIG_MARKER;
use crate::domain::{hba, layout, parameters};
use crate::model::resource::{PatroniConfigAttributes, SynchronousMode};
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
    let pg_hba = hba::lines(&node.pg_hba, parameters::password_method(&parameters), node.pooler.is_some());
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
        synchronous_mode: node.synchronous,
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
    let mut document = json!({
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
    });
    // Patroni's word for a mode is a flag, or the name of the third. Where it is off nothing is written.
    let mode = match config.synchronous_mode {
        SynchronousMode::Off => return document,
        SynchronousMode::On => json!(true),
        SynchronousMode::Quorum => json!("quorum"),
    };
    if let Some(document) = document.as_object_mut() {
        document.insert("synchronous_mode".to_owned(), mode);
    }
    document
}

/// The JSON merge patch (RFC 7396) that makes `from` into `to`: what Patroni's `PATCH /config` takes. What is in place
/// already is left out, so nothing to do gives an empty object.
#[must_use]
pub fn patch(from: &Value, to: &Value) -> Value {
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

/// Reads a document back. What is missing reads as zero, false or empty; what pgmoor never writes is passed over, so
/// `patch(document, document(read(document)))` is empty only for a document that is wholly ours.
#[must_use]
pub fn read(prefix: &str, document: &Value) -> PatroniConfigAttributes {
    let postgresql = document.get("postgresql").unwrap_or(&Value::Null);
    let number = |key: &str| document.get(key).and_then(Value::as_u64).unwrap_or_default();
    let seconds = |key: &str| u32::try_from(number(key)).unwrap_or_default();
    let flag = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or_default();
    let lines = |key: &str| -> Vec<String> {
        postgresql.get(key).and_then(Value::as_array).into_iter().flatten().map(text).collect()
    };
    let parameters = postgresql.get("parameters").and_then(Value::as_object).into_iter().flatten();
    PatroniConfigAttributes {
        prefix: prefix.to_owned(),
        ttl: seconds("ttl"),
        loop_wait: seconds("loop_wait"),
        retry_timeout: seconds("retry_timeout"),
        failsafe_mode: flag(document.get("failsafe_mode")),
        maximum_lag_on_failover: number("maximum_lag_on_failover"),
        synchronous_mode: synchronous_mode(document.get("synchronous_mode")),
        use_pg_rewind: flag(postgresql.get("use_pg_rewind")),
        parameters: parameters.map(|(name, value)| (name.clone(), text(value))).collect(),
        pg_hba: lines("pg_hba"),
        pg_ident: lines("pg_ident"),
    }
}

fn synchronous_mode(value: Option<&Value>) -> SynchronousMode {
    match value {
        Some(Value::Bool(true)) => SynchronousMode::On,
        Some(Value::String(text)) if text == "quorum" => SynchronousMode::Quorum,
        Some(Value::String(text)) if text == "on" => SynchronousMode::On,
        Some(_) | None => SynchronousMode::Off,
    }
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
            synchronous_mode: SynchronousMode::Off,
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
    fn the_synchronous_mode_reads_back() {
        for (synchronous_mode, written) in [
            (SynchronousMode::Off, None),
            (SynchronousMode::On, Some(json!(true))),
            (SynchronousMode::Quorum, Some(json!("quorum"))),
        ] {
            let wanted = PatroniConfigAttributes { synchronous_mode, ..config() };
            let document = document(&wanted);
            assert_eq!(document.get("synchronous_mode"), written.as_ref());
            assert_eq!(read(&wanted.prefix, &document), wanted);
        }
    }

    #[test]
    fn the_patch_removes_what_is_not_wanted() {
        let from = json!({"a": 1, "b": {"c": 1, "d": 2}});
        let to = json!({"b": {"d": 3}, "e": [1]});
        assert_eq!(patch(&from, &to), json!({"a": null, "b": {"c": null, "d": 3}, "e": [1]}));
        assert_eq!(patch(&to, &to), json!({}));
    }

    #[test]
    fn a_document_that_is_not_wholly_ours_shows() {
        let ours = document(&config());
        let again = |live: &Value| patch(live, &document(&read(&config().prefix, live)));
        assert_eq!(again(&ours), json!({}));
        let mut foreign = ours;
        foreign["pause"] = json!(true);
        foreign["postgresql"]["recovery_conf"] = json!({});
        assert_eq!(again(&foreign), json!({"pause": null, "postgresql": {"recovery_conf": null}}));
        assert_ne!(again(&Value::Null), json!({}));
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
