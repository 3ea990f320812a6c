//! The disk below the store: what was not synced is gone, in part, when the power is; a sync may fail, before or after
//! it did its work.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dice::Dice;

/// How a sync fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing of it reached the disk.
    Lost,
    /// All of it did, but the answer was an error.
    Untold,
}

/// A disk with one file on it. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    durable: Vec<u8>,
    /// What a reader sees: with all that waits for a sync.
    cached: Vec<u8>,
    unsynced: Vec<Change>,
    syncs: u64,
    failure: Option<(u64, Failure)>,
    full: bool,
    /// Whether the file has its name: until it is whole it has another, and is begun anew by the next start.
    named: bool,
    /// The opening that may use the file; older ones belong to processes that are dead.
    opening: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Length(length) => file.resize(*length, 0),
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                if let Some(part) = file.get_mut(*at..end) {
                    part.copy_from_slice(bytes);
                }
            }
        }
    }
}

impl Disk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process opens the file, and makes it where it is not whole, as `store::open` does on a real disk.
    pub(crate) fn open(&self) -> Result<Opened, redb::DatabaseError> {
        if !self.inner().named {
            self.wipe();
            drop(redb::Database::builder().create_with_backend(self.opened())?);
            self.inner().named = true;
        }
        Ok(self.opened())
    }

    fn opened(&self) -> Opened {
        let mut inner = self.inner();
        inner.opening += 1;
        Opened { disk: self.clone(), opening: inner.opening }
    }

    /// The process that has it open is killed: all that it wrote is still there.
    pub(crate) fn kill(&self) {
        self.inner().opening += 1;
    }

    /// The power is gone: of what was not synced, some has reached the disk.
    pub(crate) fn power_loss(&self, dice: &Dice) {
        let mut inner = self.inner();
        inner.opening += 1;
        let unsynced = std::mem::take(&mut inner.unsynced);
        let mut file = inner.durable.clone();
        // By place, not in turn: the store below writes its pages in no order that a seed could repeat.
        let chance = dice.below(u64::MAX);
        for change in unsynced {
            let reached = match &change {
                Change::Length(_) => true,
                Change::Write(at, _) => Dice::new(chance, *at as u64).percent(50),
            };
            if reached {
                change.apply(&mut file);
            }
        }
        inner.cached.clone_from(&file);
        inner.durable = file;
    }

    /// A disk as it would be found if the power went now, and nothing that waits for a sync had reached it.
    pub(crate) fn at_worst(&self) -> Self {
        let inner = self.inner();
        let (durable, cached) = (inner.durable.clone(), inner.durable.clone());
        Self(Arc::new(Mutex::new(Inner { durable, cached, named: inner.named, ..Inner::default() })))
    }

    /// The file is lost.
    pub(crate) fn wipe(&self) {
        let mut inner = self.inner();
        inner.opening += 1;
        inner.named = false;
        inner.durable.clear();
        inner.cached.clear();
        inner.unsynced.clear();
    }

    /// Syncs since the beginning.
    pub(crate) fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// The sync with this number, and no later one, fails so.
    pub(crate) fn fail_sync(&self, number: u64, failure: Failure) {
        self.inner().failure = Some((number, failure));
    }

    /// The disk is full, or no longer.
    pub(crate) fn full(&self, full: bool) {
        self.inner().full = full;
    }
}

/// The file as one process has it open.
#[derive(Debug)]
pub(crate) struct Opened {
    disk: Disk,
    opening: u64,
}

impl Opened {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.inner();
        if inner.opening == self.opening { Ok(inner) } else { Err(io::Error::other("the process is dead")) }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut inner = self.inner()?;
        if inner.full {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        change.apply(&mut inner.cached);
        inner.unsynced.push(change);
        Ok(())
    }
}

impl redb::StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner()?.cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.inner()?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let part = inner.cached.get(from..from + out.len());
        out.copy_from_slice(part.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(usize::try_from(len).map_err(io::Error::other)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner()?;
        inner.syncs += 1;
        let number = inner.syncs;
        let failure = inner.failure.filter(|(at, _)| *at == number).map(|(_, failure)| failure);
        if failure == Some(Failure::Lost) {
            // As with a real disk: the pages are neither on it nor in the cache any more.
            inner.unsynced.clear();
            let durable = inner.durable.clone();
            inner.cached = durable;
            return Err(io::Error::other("the sync failed"));
        }
        let changes = std::mem::take(&mut inner.unsynced);
        for change in changes {
            change.apply(&mut inner.durable);
        }
        if failure == Some(Failure::Untold) {
            return Err(io::Error::other("the sync failed, or so it seemed"));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(usize::try_from(offset).map_err(io::Error::other)?, data.to_vec()))
    }
}
