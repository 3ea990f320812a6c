//! Patroni's dynamic configuration as it stands in etcd: the domain knows its shape, here it becomes an observation.
//!
//! Invariant: the document is wholly ours. A key that somebody added by hand is a difference, and goes.

use serde_json::{Value, json};

pub(super) use crate::domain::layout::patroni_config_key as key;
use crate::domain::patroni;
pub(super) use crate::domain::patroni::{document, patch};
use crate::model::{Attributes, Present};

/// Reads a document back. What does not have our shape is there, and broken: it is written anew.
pub(super) fn read(prefix: &str, bytes: &[u8]) -> Present {
    let live: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let attributes = patroni::read(prefix, &live);
    let strange = patch(&live, &document(&attributes)) != json!({});
    let mut present = Present::new(Attributes::PatroniConfig(attributes));
    if strange {
        present.error = Some("Patroni's configuration in etcd holds keys that pgmoor did not write".to_owned());
    }
    present
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::resource::PatroniConfigAttributes;

    fn attributes() -> PatroniConfigAttributes {
        PatroniConfigAttributes {
            prefix: "/patroni/shop:n1/".to_owned(),
            ttl: 30,
            loop_wait: 10,
            retry_timeout: 10,
            failsafe_mode: true,
            maximum_lag_on_failover: 1_048_576,
            synchronous_mode: crate::model::resource::SynchronousMode::Off,
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
}
