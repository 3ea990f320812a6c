//! The tables' names, how keys are ordered, and the versioned envelope around each value.
//!
//! Invariants: numbers in keys are big-endian, so that the order of keys is the order of numbers; a value is
//! `{"v": version, "d": row}`, and a row of a newer version than this build knows is an error, never a guess.

use std::ops::Bound;
use std::sync::Arc;

use redb::TableDefinition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use crate::model::{DatabaseId, HostId, ResourceId, Scope};

/// One table of the file. All have bytes as keys and values; the types are in `rows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Meta,
    Desired,
    Intents,
    Records,
    Ports,
    Fleet,
    Outcomes,
    Approvals,
    Downtimes,
    Drift,
    Messages,
    Waiting,
    Retained,
    Commands,
    CommandsByTime,
    Specs,
    Plans,
    Work,
}

pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A range of keys.
pub(super) type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// A key and its value.
pub(super) type RawRow = (Vec<u8>, Vec<u8>);

impl Table {
    pub(super) const ALL: [Self; 18] = [
        Self::Meta,
        Self::Desired,
        Self::Intents,
        Self::Records,
        Self::Ports,
        Self::Fleet,
        Self::Outcomes,
        Self::Approvals,
        Self::Downtimes,
        Self::Drift,
        Self::Messages,
        Self::Waiting,
        Self::Retained,
        Self::Commands,
        Self::CommandsByTime,
        Self::Specs,
        Self::Plans,
        Self::Work,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Desired => "desired",
            Self::Intents => "intents",
            Self::Records => "records",
            Self::Ports => "host_ports",
            Self::Fleet => "fleet",
            Self::Outcomes => "outcomes",
            Self::Approvals => "approvals",
            Self::Downtimes => "downtimes",
            Self::Drift => "drift",
            Self::Messages => "messages",
            Self::Waiting => "messages_waiting",
            Self::Retained => "retained",
            Self::Commands => "commands",
            Self::CommandsByTime => "commands_by_time",
            Self::Specs => "history_specs",
            Self::Plans => "history_plans",
            Self::Work => "work",
        }
    }

    pub(super) fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }

    /// The newest version of this table's rows. A change of a row that old rows cannot be read as takes a new
    /// version and a migration.
    fn version(self) -> u32 {
        1
    }

    pub(super) fn encode<T: Serialize>(self, row: &T) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Envelope<'a, T> {
            v: u32,
            d: &'a T,
        }
        serde_json::to_vec(&Envelope { v: self.version(), d: row })
            .map_err(|source| Error::Encode { table: self.name(), source: Arc::new(source) })
    }

    pub(super) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        #[derive(Deserialize)]
        struct Envelope<T> {
            v: u32,
            d: T,
        }
        // serde's own text may quote the value, and rows hold secrets: only the kind and the place are told.
        let failed = |error: serde_json::Error| Error::Decode {
            table: self.name(),
            why: format!("{:?} error at column {}", error.classify(), error.column()),
        };
        let read = serde_json::from_slice::<Envelope<T>>(bytes);
        // A row that cannot be read as ours may be a newer one: that is told apart only then, since rows are read often.
        let v = match &read {
            Ok(envelope) => envelope.v,
            Err(_) => serde_json::from_slice::<Version>(bytes).map_err(failed)?.v,
        };
        if v > self.version() {
            return Err(Error::RowTooNew { table: self.name(), found: v, known: self.version() });
        }
        read.map(|envelope| envelope.d).map_err(failed)
    }
}

pub(super) fn number_key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// The host's id, a zero byte (which no id has), the port.
pub(super) fn port_key(host: &HostId, port: u16) -> Vec<u8> {
    let mut key = host.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&port.to_be_bytes());
    key
}

/// What [`port_key`] was made of.
pub(super) fn key_port(key: &[u8]) -> Result<(HostId, u16)> {
    let failed = || Error::Decode { table: Table::Ports.name(), why: "a key is no host and port".to_owned() };
    let (rest, port) = key.split_last_chunk::<2>().ok_or_else(failed)?;
    let host = rest.strip_suffix(&[0]).and_then(|host| std::str::from_utf8(host).ok());
    let host = host.and_then(|host| HostId::parse(host).ok()).ok_or_else(failed)?;
    Ok((host, u16::from_be_bytes(*port)))
}

/// The number at the head of a key.
pub(super) fn key_number(table: Table, key: &[u8]) -> Result<u64> {
    key.first_chunk::<8>()
        .map(|head| u64::from_be_bytes(*head))
        .ok_or_else(|| Error::Decode { table: table.name(), why: "a key is too short for a number".to_owned() })
}

/// `scope label`
pub(super) fn scope_key(scope: &Scope) -> Vec<u8> {
    scope.label().into_bytes()
}

/// `scope label`, a zero byte (which no label has), `kind::name`.
pub(super) fn outcome_key(scope: &Scope, resource: &ResourceId) -> Vec<u8> {
    let mut key = outcomes_prefix(scope);
    key.extend_from_slice(resource.to_string().as_bytes());
    key
}

pub(super) fn outcomes_prefix(scope: &Scope) -> Vec<u8> {
    let mut prefix = scope.label().into_bytes();
    prefix.push(0);
    prefix
}

/// The database's id, a zero byte (which no id has), the number.
pub(super) fn history_key(database: &DatabaseId, number: u64) -> Vec<u8> {
    let mut key = history_prefix(database);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn history_prefix(database: &DatabaseId) -> Vec<u8> {
    let mut prefix = database.as_str().as_bytes().to_vec();
    prefix.push(0);
    prefix
}

/// All keys that begin with `prefix`, which must not end with 255.
pub(super) fn starting_with(prefix: Vec<u8>) -> Range {
    let mut end = prefix.clone();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    (Bound::Included(prefix), Bound::Excluded(end))
}

pub(super) fn everything() -> Range {
    (Bound::Unbounded, Bound::Unbounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Table::ALL.map(Table::name).into();
        assert_eq!(names.len(), Table::ALL.len());
    }

    #[test]
    fn rows_carry_their_version_and_newer_ones_are_refused() {
        assert_eq!(Table::Meta.encode(&7).unwrap(), br#"{"v":1,"d":7}"#);
        assert_eq!(Table::Meta.decode::<u32>(br#"{"v":1,"d":7}"#).unwrap(), 7);
        let newer = Table::Meta.decode::<u32>(br#"{"v":2,"d":{"other":"shape"}}"#);
        assert!(matches!(newer, Err(Error::RowTooNew { found: 2, known: 1, .. })), "{newer:?}");
    }

    #[test]
    fn a_row_that_cannot_be_read_does_not_show_its_content() {
        let error = Table::Records.decode::<u32>(br#"{"v":1,"d":"secret"}"#).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_prefix_takes_its_own_rows_only() {
        let (start, end) = starting_with(vec![b'a', 0]);
        assert_eq!((start, end), (Bound::Included(vec![b'a', 0]), Bound::Excluded(vec![b'a', 1])));
    }
}
