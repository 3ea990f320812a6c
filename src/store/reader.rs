//! Reading: one view of the store that does not change while it is used.
//!
//! The same questions can be asked inside a write, where the answers include what the write did so far.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase as _};

use super::error::{Error, Result};
use super::rows::{DesiredRow, HostWishes, IntentRow, OutMessage, OutcomeRow, ReplayLimitRow};
use super::tables::{self, RawRow, Table};
use crate::contract::documents::Condition;
use crate::model::{DatabaseId, FleetHosts, FleetRecord, HostPorts, Record, ResourceId, Scope};
use crate::plan::drift::Memory;
use crate::plan::halt::Halt;

/// Where rows are read from; only this room has such places.
pub(super) trait Source {
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Rows of a range in the order of their keys, `limit` at most.
    fn scan(&self, table: Table, range: tables::Range, limit: usize) -> Result<Vec<RawRow>>;
}

type Opened = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// One view of the store, as it was when it was opened.
pub struct Reader {
    transaction: ReadTransaction,
    /// Each opened once: opening one costs as much as a row.
    tables: RefCell<BTreeMap<Table, Opened>>,
}

impl Reader {
    pub(super) fn new(database: &redb::Database) -> Result<Self> {
        let transaction =
            database.begin_read().map_err(|source| Error::Begin(std::sync::Arc::new(redb::Error::from(source))))?;
        Ok(Self { transaction, tables: RefCell::default() })
    }

    fn with<T>(
        &self,
        table: Table,
        work: impl FnOnce(&Opened) -> std::result::Result<T, redb::StorageError>,
    ) -> Result<T> {
        let failed = Error::read(table.name());
        let mut tables = self.tables.borrow_mut();
        let opened = match tables.entry(table) {
            Entry::Occupied(opened) => opened.into_mut(),
            Entry::Vacant(place) => {
                let opened = self.transaction.open_table(table.definition());
                place.insert(opened.map_err(|source| failed(source.into()))?)
            }
        };
        work(opened).map_err(|source| failed(source.into()))
    }
}

impl Source for Reader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.with(table, |opened| Ok(opened.get(key)?.map(|guard| guard.value().to_vec())))
    }

    fn scan(&self, table: Table, range: tables::Range, limit: usize) -> Result<Vec<RawRow>> {
        self.with(table, |opened| collect(opened, &range, limit))
    }
}

pub(super) fn collect(
    table: &impl redb::ReadableTable<&'static [u8], &'static [u8]>,
    range: &tables::Range,
    limit: usize,
) -> std::result::Result<Vec<RawRow>, redb::StorageError> {
    fn borrowed(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
        bound.as_ref().map(Vec::as_slice)
    }
    let mut rows = Vec::new();
    for row in table.range::<&[u8]>((borrowed(&range.0), borrowed(&range.1)))?.take(limit) {
        let (key, value) = row?;
        rows.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(rows)
}

/// A message that waits, with its place in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place: messages go out in the order of these numbers.
    pub seq: u64,
    /// The message.
    pub message: OutMessage,
}

/// The questions one can ask. Implemented by [`Reader`] and by [`super::Writer`].
#[expect(private_bounds, reason = "sealed: only this room has sources of rows")]
pub trait Rows: Source {
    /// What intake knows of a database.
    ///
    /// # Errors
    /// The store cannot be read; so with all that follow.
    fn desired(&self, database: &DatabaseId) -> Result<Option<DesiredRow>> {
        row(self, Table::Desired, database.as_str().as_bytes())
    }

    /// The same for all databases.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn all_desired(&self) -> Result<BTreeMap<DatabaseId, DesiredRow>> {
        by_database(self, Table::Desired)
    }

    /// What a person asked for; nothing, when nothing is stored.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn intent(&self, database: &DatabaseId) -> Result<IntentRow> {
        Ok(row(self, Table::Intents, database.as_str().as_bytes())?.unwrap_or_default())
    }

    /// The record of a database.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn record(&self, database: &DatabaseId) -> Result<Option<Record>> {
        row(self, Table::Records, database.as_str().as_bytes())
    }

    /// The records of all databases.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn all_records(&self) -> Result<BTreeMap<DatabaseId, Record>> {
        by_database(self, Table::Records)
    }

    /// The ports that databases publish on each host, fixed and chosen ones.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn ports(&self) -> Result<HostPorts> {
        let rows = self.scan(Table::Ports, tables::everything(), usize::MAX)?;
        rows.iter().map(|(key, value)| Ok((tables::key_port(key)?, Table::Ports.decode(value)?))).collect()
    }

    /// What was last known of the hosts of the fleet; none: nothing was.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn fleet_hosts(&self) -> Result<Option<FleetHosts>> {
        row(self, Table::Meta, HOSTS_KEY)
    }

    /// Failures in a row across databases, and whether they made a halt; nothing, when nothing is stored.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn halt(&self) -> Result<Halt> {
        Ok(row(self, Table::Meta, HALT_KEY)?.unwrap_or_default())
    }

    /// The record of the fleet.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn fleet_record(&self) -> Result<Option<FleetRecord>> {
        row(self, Table::Fleet, FLEET_KEY)
    }

    /// What keeps the fleet's own services from running; empty when nothing does.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn fleet_standing(&self) -> Result<Vec<Condition>> {
        Ok(row(self, Table::Fleet, STANDING_KEY)?.unwrap_or_default())
    }

    /// How people want hosts to stand: what is asked for and not in the fleet's record yet. None: as any other.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn host_wishes(&self) -> Result<HostWishes> {
        Ok(row(self, Table::Fleet, WISHES_KEY)?.unwrap_or_default())
    }

    /// The failed attempts of a scope.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn outcomes(&self, scope: &Scope) -> Result<BTreeMap<ResourceId, OutcomeRow>> {
        let range = tables::starting_with(tables::outcomes_prefix(scope));
        let rows = self.scan(Table::Outcomes, range, usize::MAX)?;
        rows.iter()
            .map(|(_, value)| Table::Outcomes.decode::<OutcomeRow>(value).map(|row| (row.resource.clone(), row)))
            .collect()
    }

    /// What is remembered of a scope's resources from look to look; nothing, when nothing is stored.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn drift(&self, scope: &Scope) -> Result<Memory> {
        Ok(row(self, Table::Drift, &tables::scope_key(scope))?.unwrap_or_default())
    }

    /// Messages that wait with a place after `after`, in order, `limit` at most.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn messages_after(&self, after: Option<u64>, limit: usize) -> Result<Vec<Waiting>> {
        let from = after.map_or(Bound::Unbounded, |seq| Bound::Excluded(tables::number_key(seq)));
        self.scan(Table::Messages, (from, Bound::Unbounded), limit)?
            .iter()
            .map(|(key, value)| {
                let seq = tables::key_number(Table::Messages, key)?;
                Ok(Waiting { seq, message: Table::Messages.decode(value)? })
            })
            .collect()
    }

    /// How many events a full outbox has dropped in the life of this file.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn messages_dropped(&self) -> Result<u64> {
        Ok(row(self, Table::Meta, super::messages::DROPPED)?.unwrap_or(0))
    }

    /// How much a broker replays to one subscription, as a probe found; `broker` is its address.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn replay_limit(&self, broker: &str) -> Result<Option<ReplayLimitRow>> {
        row(self, Table::Meta, &replay_limit_key(broker))
    }

    /// What was last said on a retained topic; none when nothing was, or when it was cleared.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn last_said(&self, topic: &str) -> Result<Option<OutMessage>> {
        row(self, Table::Retained, topic.as_bytes())
    }

    /// Whether a message waits to be said on a retained topic.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn waits(&self, topic: &str) -> Result<bool> {
        Ok(self.get(Table::Waiting, topic.as_bytes())?.is_some())
    }

    /// The retained topics on which we last said something, of those that begin with `prefix`.
    ///
    /// # Errors
    /// See [`Rows::desired`].
    fn topics_said(&self, prefix: &str) -> Result<Vec<String>> {
        let range =
            if prefix.is_empty() { tables::everything() } else { tables::starting_with(prefix.as_bytes().to_vec()) };
        let rows = self.scan(Table::Retained, range, usize::MAX)?;
        Ok(rows.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect())
    }
}

impl<S: Source> Rows for S {}

/// Where in `meta` stands what is known of a broker.
pub(super) fn replay_limit_key(broker: &str) -> Vec<u8> {
    format!("replay_limit {broker}").into_bytes()
}

pub(super) const FLEET_KEY: &[u8] = b"fleet";
/// The key of the halt in `meta`.
pub(super) const HOSTS_KEY: &[u8] = b"hosts";
pub(super) const HALT_KEY: &[u8] = b"halt";
pub(super) const STANDING_KEY: &[u8] = b"standing";
/// The key of how people want hosts to stand.
pub(super) const WISHES_KEY: &[u8] = b"wishes";

pub(super) fn row<S, T>(source: &S, table: Table, key: &[u8]) -> Result<Option<T>>
where
    S: Source + ?Sized,
    T: serde::de::DeserializeOwned,
{
    source.get(table, key)?.map(|value| table.decode(&value)).transpose()
}

fn by_database<S, T>(source: &S, table: Table) -> Result<BTreeMap<DatabaseId, T>>
where
    S: Source + ?Sized,
    T: serde::de::DeserializeOwned,
{
    let rows = source.scan(table, tables::everything(), usize::MAX)?;
    rows.iter()
        .map(|(key, value)| {
            let id = DatabaseId::parse(&String::from_utf8_lossy(key))
                .map_err(|error| Error::Decode { table: table.name(), why: error.to_string() })?;
            Ok((id, table.decode(value)?))
        })
        .collect()
}
