//! The journal of what other hosts' leaders asked of this host: work stands here before it is begun, so that it is done
//! once however often it is asked for, and the newest lead that was heard of, so that an older one is refused.
//!
//! Invariant: the newest epoch never goes back, also not over a restart.

use serde::{Deserialize, Serialize};

use super::OutMessage;
use super::error::Result;
use super::reader::{self, Rows, Source as _};
use super::tables::{self, Table};
use super::writer::Writer;
use crate::model::TaskId;
use crate::plan::halt::Halt;

/// So many pieces of work are remembered at most; of more the older half goes. One is asked about for as long as its
/// deadline, and a pass has a few dozen.
pub const WORKS_MAX: usize = 2048;

/// The key of the newest epoch in `meta`.
const EPOCH_KEY: &[u8] = b"work_epoch";
/// The key of the epoch of this host's own last lead in `meta`.
const LEAD_KEY: &[u8] = b"lead_epoch";

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkRow {
    /// The epoch of the lead that asked for it.
    pub epoch: u64,
    /// When it was begun: milliseconds since 1970.
    pub begun_at_ms: i64,
    /// How it ended; none: it runs, or the process ended in the middle of it.
    pub end: Option<WorkEnd>,
}

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum WorkEnd {
    /// It is done.
    Done,
    /// It failed.
    Failed {
        /// Why, as a sentence for people.
        error: String,
    },
}

/// What becomes of work that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is new, and stands in the journal now.
    New,
    /// It was begun before.
    Known(WorkRow),
    /// It comes from an older lead than the newest that was heard of.
    Stale {
        /// The newest.
        newest: u64,
    },
}

/// The questions about work.
pub trait Journal: Rows {
    /// The newest lead that was heard of; 0: none was.
    ///
    /// # Errors
    /// The store cannot be read.
    fn work_epoch(&self) -> Result<u64> {
        Ok(reader::row(self, Table::Meta, EPOCH_KEY)?.unwrap_or(0))
    }

    /// The epoch of the last lead of this host; none: it never led, or has forgotten what it knew as the leader.
    ///
    /// # Errors
    /// The store cannot be read.
    fn own_lead(&self) -> Result<Option<u64>> {
        reader::row(self, Table::Meta, LEAD_KEY)
    }

    /// What is known of a piece of work.
    ///
    /// # Errors
    /// The store cannot be read.
    fn work(&self, id: &TaskId) -> Result<Option<WorkRow>> {
        reader::row(self, Table::Work, id.as_str().as_bytes())
    }
}

impl<R: Rows> Journal for R {}

impl Writer<'_> {
    /// A lead was heard of; gives the newest.
    ///
    /// # Errors
    /// The store cannot be written; so with all that follow.
    pub fn hear_of_lead(&mut self, epoch: u64) -> Result<u64> {
        let newest = self.work_epoch()?;
        if epoch > newest {
            self.put(Table::Meta, EPOCH_KEY.to_vec(), &epoch)?;
        }
        Ok(newest.max(epoch))
    }

    /// This host leads, in this epoch.
    ///
    /// # Errors
    /// See [`Writer::hear_of_lead`].
    pub fn lead(&mut self, epoch: u64) -> Result<()> {
        self.hear_of_lead(epoch)?;
        self.put(Table::Meta, LEAD_KEY.to_vec(), &epoch)
    }

    /// Forgets all that this host knew as the one that leads, and what it had to say then: another leads, and makes it
    /// anew from Swarm and the broker. Events and answers that wait go out all the same, and so do the topics `own`.
    ///
    /// # Errors
    /// See [`Writer::hear_of_lead`].
    pub fn forget_lead(&mut self, own: &[String]) -> Result<()> {
        const OF_LEADER: [Table; 11] = [
            Table::Desired,
            Table::Intents,
            Table::Records,
            Table::Ports,
            Table::Fleet,
            Table::Outcomes,
            Table::Approvals,
            Table::Downtimes,
            Table::Drift,
            Table::Specs,
            Table::Plans,
        ];
        for table in OF_LEADER {
            for (key, _) in self.scan(table, tables::everything(), usize::MAX)? {
                self.remove(table, key)?;
            }
        }
        for (key, _) in self.scan(Table::Retained, tables::everything(), usize::MAX)? {
            if !own.iter().any(|topic| topic.as_bytes() == key) {
                self.remove(Table::Retained, key)?;
            }
        }
        for (key, row) in self.scan(Table::Messages, tables::everything(), usize::MAX)? {
            let message: OutMessage = Table::Messages.decode(&row)?;
            if message.retain && !message.on_behalf && !own.contains(&message.topic) {
                self.remove(Table::Messages, key)?;
                self.remove(Table::Waiting, message.topic.into_bytes())?;
            }
        }
        self.put_halt(&Halt::default())?;
        self.remove(Table::Meta, LEAD_KEY.to_vec()).map(|_was_there| ())
    }

    /// Work is asked for: writes it down where it is new and of no older lead.
    ///
    /// # Errors
    /// See [`Writer::hear_of_lead`].
    pub fn begin_work(&mut self, id: &TaskId, epoch: u64, now_ms: i64) -> Result<Begun> {
        let newest = self.hear_of_lead(epoch)?;
        if epoch < newest {
            return Ok(Begun::Stale { newest });
        }
        if let Some(known) = self.work(id)? {
            return Ok(Begun::Known(known));
        }
        self.forget_old_work()?;
        let row = WorkRow { epoch, begun_at_ms: now_ms, end: None };
        self.put(Table::Work, id.as_str().as_bytes().to_vec(), &row)?;
        Ok(Begun::New)
    }

    /// Work has ended.
    ///
    /// # Errors
    /// See [`Writer::hear_of_lead`].
    pub fn end_work(&mut self, id: &TaskId, end: WorkEnd) -> Result<()> {
        let Some(row) = self.work(id)? else { return Ok(()) };
        self.put(Table::Work, id.as_str().as_bytes().to_vec(), &WorkRow { end: Some(end), ..row })
    }

    fn forget_old_work(&mut self) -> Result<()> {
        if self.rows(Table::Work)? < WORKS_MAX as u64 {
            return Ok(());
        }
        let rows = self.scan(Table::Work, tables::everything(), usize::MAX)?;
        let mut by_age = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            by_age.push((Table::Work.decode::<WorkRow>(&value)?.begun_at_ms, key));
        }
        by_age.sort();
        by_age.truncate(WORKS_MAX / 2);
        by_age.into_iter().try_for_each(|(_, key)| self.remove(Table::Work, key).map(|_was_there| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DatabaseId, FleetId, HostId, Record};
    use crate::store::{Commits, Options, Store};

    fn store() -> Store {
        let options = Options { commits: Commits::AtOnce, ..Options::new(FleetId::parse("harbour").unwrap()) };
        Store::in_memory(&options).unwrap()
    }

    fn id(n: usize) -> TaskId {
        TaskId::parse(&format!("w{n}")).unwrap()
    }

    #[tokio::test]
    async fn work_is_begun_once_and_an_older_lead_begins_none() {
        let store = store();
        let begin = async |n, epoch| store.write(move |writer| writer.begin_work(&id(n), epoch, 7)).await.unwrap();
        assert_eq!(begin(1, 3).await, Begun::New);
        let row = WorkRow { epoch: 3, begun_at_ms: 7, end: None };
        assert_eq!(begin(1, 3).await, Begun::Known(row.clone()));
        let failed = WorkEnd::Failed { error: "no".to_owned() };
        let end = failed.clone();
        store.write(move |writer| writer.end_work(&id(1), end)).await.unwrap();
        assert_eq!(begin(1, 4).await, Begun::Known(WorkRow { end: Some(failed), ..row }));
        assert_eq!(begin(2, 3).await, Begun::Stale { newest: 4 });
        assert_eq!(store.read(|reader| reader.work(&id(2))).unwrap(), None);
        assert_eq!(store.write(|writer| writer.hear_of_lead(9)).await.unwrap(), 9);
        assert_eq!(begin(1, 4).await, Begun::Stale { newest: 9 }, "also what it began itself");
        assert_eq!(store.read(|reader| reader.work_epoch()).unwrap(), 9);
    }

    #[tokio::test]
    async fn who_leads_no_more_forgets_what_it_said_and_keeps_its_events() {
        let store = store();
        let own = "pgmoor/v1/harbour/hosts/host-1/status".to_owned();
        let kept = own.clone();
        store
            .write(move |writer| {
                writer.lead(3)?;
                let database = DatabaseId::parse("shop").unwrap();
                writer.put_record(&Record::new(database.clone()))?;
                let ports = [(HostId::parse("host-1").unwrap(), 5432)].into();
                writer.put_ports(&database, &ports)?;
                writer.enqueue(&OutMessage::retained("status", b"{}".to_vec(), 1))?;
                writer.enqueue(&OutMessage::retained(kept, b"{}".to_vec(), 1))?;
                writer.enqueue(&OutMessage::on_behalf("spec", b"{}".to_vec(), 1))?;
                writer.enqueue(&OutMessage::event("events", b"{}".to_vec(), 1))
            })
            .await
            .unwrap();
        assert_eq!(store.read(|reader| reader.own_lead()).unwrap(), Some(3));
        let topics = [own.clone()];
        store.write(move |writer| writer.forget_lead(&topics)).await.unwrap();
        let left = store.read(|reader| {
            let waiting = reader.messages_after(None, 10)?;
            Ok((reader.own_lead()?, reader.work_epoch()?, reader.all_records()?, reader.ports()?, waiting))
        });
        let (lead, heard, records, ports, waiting) = left.unwrap();
        assert_eq!((lead, heard, records.len(), ports.len()), (None, 3, 0, 0));
        let waiting: Vec<&str> = waiting.iter().map(|waiting| waiting.message.topic.as_str()).collect();
        assert_eq!(waiting, [own.as_str(), "spec", "events"]);
        assert_eq!(store.read(|reader| reader.last_said("status")).unwrap(), None);
        store.write(|writer| writer.enqueue(&OutMessage::retained("status", b"{}".to_vec(), 1))).await.unwrap();
        assert_eq!(store.read(|reader| reader.messages_after(None, 10)).unwrap().len(), 4, "it can be said anew");
    }

    #[tokio::test]
    async fn the_oldest_work_is_forgotten() {
        let store = store();
        store
            .write(|writer| {
                for n in 0..=WORKS_MAX {
                    writer.begin_work(&id(n), 1, i64::try_from(n).unwrap())?;
                }
                Ok(())
            })
            .await
            .unwrap();
        let known = |n| store.read(|reader| reader.work(&id(n))).unwrap().is_some();
        assert_eq!((known(0), known(WORKS_MAX / 2 - 1)), (false, false));
        assert!(known(WORKS_MAX / 2) && known(WORKS_MAX));
    }
}
