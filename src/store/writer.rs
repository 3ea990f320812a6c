//! Writing: what one piece of work may change, and how all of it is undone when it fails.
//!
//! Invariant: a piece of work is atomic. Each change remembers what was there before; when the work fails or panics,
//! the changes are taken back in reverse order and others in the same transaction do not notice.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redb::{ReadableTable as _, WriteTransaction};

use super::error::{Error, Result};
use super::reader::{self, FLEET_KEY, HALT_KEY, HOSTS_KEY, Rows as _, STANDING_KEY, Source, WISHES_KEY};
use super::rows::{DesiredRow, HostWishes, IntentRow, OutcomeRow, ReplayLimitRow};
use super::tables::{self, RawRow, Table};
use crate::contract::documents::Condition;
use crate::model::{DatabaseId, FleetHosts, FleetRecord, HostId, Record, ResourceId, Scope};
use crate::plan::drift::Memory;
use crate::plan::halt::Halt;

/// A table that is open for writing.
type OpenTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// The tables of one transaction, each opened once: opening one costs as much as a row.
pub(super) struct Opened<'t> {
    transaction: &'t WriteTransaction,
    tables: RefCell<BTreeMap<Table, OpenTable<'t>>>,
}

/// What a piece of work does with tables.
trait Access {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;
    fn scan(&self, table: Table, range: &tables::Range, limit: usize) -> Result<Vec<RawRow>>;
    /// Puts or removes a row; gives what was there.
    fn apply(&self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<Option<Vec<u8>>>;
    fn rows(&self, table: Table) -> Result<u64>;
}

impl<'t> Opened<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction) -> Self {
        Self { transaction, tables: RefCell::default() }
    }

    fn with<T>(
        &self,
        table: Table,
        failed: impl Fn(redb::Error) -> Error,
        work: impl FnOnce(&mut OpenTable<'t>) -> std::result::Result<T, redb::StorageError>,
    ) -> Result<T> {
        let mut tables = self.tables.borrow_mut();
        let opened = match tables.entry(table) {
            std::collections::btree_map::Entry::Occupied(opened) => opened.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let opened = self.transaction.open_table(table.definition());
                place.insert(opened.map_err(|source| failed(source.into()))?)
            }
        };
        work(opened).map_err(|source| failed(source.into()))
    }
}

impl Access for Opened<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.with(table, Error::read(table.name()), |opened| Ok(opened.get(key)?.map(|guard| guard.value().to_vec())))
    }

    fn scan(&self, table: Table, range: &tables::Range, limit: usize) -> Result<Vec<RawRow>> {
        self.with(table, Error::read(table.name()), |opened| reader::collect(opened, range, limit))
    }

    fn apply(&self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        self.with(table, Error::write(table.name()), |opened| {
            let before = match value {
                Some(value) => opened.insert(key, value)?,
                None => opened.remove(key)?,
            };
            Ok(before.map(|guard| guard.value().to_vec()))
        })
    }

    fn rows(&self, table: Table) -> Result<u64> {
        use redb::ReadableTableMetadata as _;
        self.with(table, Error::read(table.name()), |opened| opened.len())
    }
}

/// One piece of work inside a transaction.
pub struct Writer<'t> {
    tables: &'t dyn Access,
    undo: Vec<Change>,
    said: bool,
}

struct Change {
    table: Table,
    key: Vec<u8>,
    before: Option<Vec<u8>>,
}

impl<'t> Writer<'t> {
    pub(super) fn new(tables: &'t Opened<'_>) -> Self {
        Self { tables, undo: Vec::new(), said: false }
    }

    /// Whether anything was changed.
    pub(super) fn changed(&self) -> bool {
        !self.undo.is_empty()
    }

    /// Whether a message was put in the outbox.
    pub(super) fn said(&self) -> bool {
        self.said
    }

    pub(super) fn note_said(&mut self) {
        self.said = true;
    }

    /// Takes everything back.
    pub(super) fn undo(mut self) -> Result<()> {
        while let Some(Change { table, key, before }) = self.undo.pop() {
            self.tables.apply(table, &key, before.as_deref())?;
        }
        Ok(())
    }

    pub(super) fn put_raw(&mut self, table: Table, key: Vec<u8>, value: &[u8]) -> Result<()> {
        let before = self.tables.apply(table, &key, Some(value))?;
        self.undo.push(Change { table, key, before });
        Ok(())
    }

    pub(super) fn put<T: serde::Serialize>(&mut self, table: Table, key: Vec<u8>, row: &T) -> Result<()> {
        let value = table.encode(row)?;
        self.put_raw(table, key, &value)
    }

    /// Removes a row and says whether it was there.
    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) -> Result<bool> {
        Ok(self.take(table, key)?.is_some())
    }

    /// Removes a row and gives what it was.
    pub(super) fn take(&mut self, table: Table, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let before = self.tables.apply(table, &key, None)?;
        if before.is_some() {
            self.undo.push(Change { table, key, before: before.clone() });
        }
        Ok(before)
    }

    pub(super) fn rows(&self, table: Table) -> Result<u64> {
        self.tables.rows(table)
    }

    /// Stores what intake knows of a database.
    ///
    /// # Errors
    /// The store cannot be written; so with all that follow.
    pub fn put_desired(&mut self, database: &DatabaseId, row: &DesiredRow) -> Result<()> {
        self.put(Table::Desired, database_key(database), row)
    }

    /// Stores what a person asked for.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_intent(&mut self, database: &DatabaseId, row: &IntentRow) -> Result<()> {
        self.put(Table::Intents, database_key(database), row)
    }

    /// Stores the record of a database.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_record(&mut self, record: &Record) -> Result<()> {
        self.put(Table::Records, database_key(&record.database), record)
    }

    /// Stores the ports that a database publishes on hosts, in place of those it had.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_ports(&mut self, database: &DatabaseId, ports: &BTreeSet<(HostId, u16)>) -> Result<()> {
        for (at, owner) in self.ports()? {
            if owner == *database && !ports.contains(&at) {
                self.remove(Table::Ports, tables::port_key(&at.0, at.1))?;
            }
        }
        ports.iter().try_for_each(|(host, port)| self.put(Table::Ports, tables::port_key(host, *port), database))
    }

    /// Stores the record of the fleet.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_fleet_record(&mut self, record: &FleetRecord) -> Result<()> {
        self.put(Table::Fleet, FLEET_KEY.to_vec(), record)
    }

    /// Stores what was last known of the hosts of the fleet.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_fleet_hosts(&mut self, hosts: &FleetHosts) -> Result<()> {
        self.put(Table::Meta, HOSTS_KEY.to_vec(), hosts)
    }

    /// Stores the failures in a row across databases.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_halt(&mut self, halt: &Halt) -> Result<()> {
        self.put(Table::Meta, HALT_KEY.to_vec(), halt)
    }

    /// Stores how much a broker replays to one subscription; `broker` is its address.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_replay_limit(&mut self, broker: &str, row: &ReplayLimitRow) -> Result<()> {
        self.put(Table::Meta, reader::replay_limit_key(broker), row)
    }

    /// Stores what keeps the fleet's own services from running; empty: nothing does.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_fleet_standing(&mut self, conditions: &[Condition]) -> Result<()> {
        self.put(Table::Fleet, STANDING_KEY.to_vec(), &conditions)
    }

    /// Stores how people want hosts to stand.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_host_wishes(&mut self, wishes: &HostWishes) -> Result<()> {
        self.put(Table::Fleet, WISHES_KEY.to_vec(), wishes)
    }

    /// Stores the failed attempts at a resource.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn set_outcome(&mut self, scope: &Scope, row: &OutcomeRow) -> Result<()> {
        self.put(Table::Outcomes, tables::outcome_key(scope, &row.resource), row)
    }

    /// The resource was applied: its failed attempts are forgotten. Gives whether there were any.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn clear_outcome(&mut self, scope: &Scope, resource: &ResourceId) -> Result<bool> {
        self.remove(Table::Outcomes, tables::outcome_key(scope, resource))
    }

    /// Forgets the failed attempts of a whole scope.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn clear_outcomes(&mut self, scope: &Scope) -> Result<()> {
        for (resource, _) in self.outcomes(scope)? {
            self.clear_outcome(scope, &resource)?;
        }
        Ok(())
    }

    /// Stores what is remembered of a scope's resources from look to look.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn put_drift(&mut self, scope: &Scope, memory: &Memory) -> Result<()> {
        self.put(Table::Drift, tables::scope_key(scope), memory)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn forget_drift(&mut self, scope: &Scope) -> Result<()> {
        self.remove(Table::Drift, tables::scope_key(scope)).map(|_was_there| ())
    }

    /// Forgets a database altogether: its id is free afterwards. Its retained topics are cleared by the caller.
    ///
    /// # Errors
    /// See [`Writer::put_desired`].
    pub fn forget_database(&mut self, database: &DatabaseId) -> Result<()> {
        for table in [Table::Desired, Table::Intents, Table::Records, Table::Approvals, Table::Downtimes] {
            self.remove(table, database_key(database))?;
        }
        self.put_ports(database, &BTreeSet::new())?;
        let mut halt = self.halt()?;
        let before = halt.clone();
        halt.forget(database);
        if halt != before {
            self.put_halt(&halt)?;
        }
        self.forget_history(database)?;
        let scope = Scope::Database(database.clone());
        self.forget_drift(&scope)?;
        self.clear_outcomes(&scope)
    }
}

impl Source for Writer<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.tables.get(table, key)
    }

    fn scan(&self, table: Table, range: tables::Range, limit: usize) -> Result<Vec<RawRow>> {
        self.tables.scan(table, &range, limit)
    }
}

pub(super) fn database_key(database: &DatabaseId) -> Vec<u8> {
    database.as_str().as_bytes().to_vec()
}

/// Turns whatever redb says into the error of a transaction that could not be started.
pub(super) fn begin(database: &redb::Database) -> Result<WriteTransaction> {
    let failed = |source: redb::Error| Error::Begin(Arc::new(source));
    let mut transaction = database.begin_write().map_err(|source| failed(source.into()))?;
    transaction.set_durability(redb::Durability::Immediate).map_err(|source| failed(source.into()))?;
    // Opening after a SIGKILL then takes a millisecond instead of seconds on a large file (mqtt.md).
    transaction.set_quick_repair(true);
    Ok(transaction)
}
