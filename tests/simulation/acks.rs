//! At each acknowledgement: were the power gone now, the next start would know of the spec that the broker forgets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pgmoor::contract::Topic;
use pgmoor::model::{DatabaseId, Digest, FleetId};
use pgmoor::runtime::chain;
use pgmoor::store::{self, Commits, DesiredRow, History as _, Rows as _, Store};

use crate::disk::Disk;
use crate::invariants::{Breaches, Invariant};

/// Checks the acknowledgements of one daemon. Clones are the same.
#[derive(Clone)]
pub(crate) struct Acks {
    fleet: FleetId,
    disk: Disk,
    breaches: Breaches,
    /// What was last found on the disk for each database: a replay of it is not looked for again.
    found: Arc<Mutex<BTreeMap<DatabaseId, Digest>>>,
}

impl Acks {
    /// For a daemon whose store is on this disk.
    pub(crate) fn new(fleet: FleetId, disk: Disk, breaches: Breaches) -> Self {
        Self { fleet, disk, breaches, found: Arc::default() }
    }

    /// The broker is told that this message is taken. An empty one is no word yet: it may be answered by an event alone.
    pub(crate) fn acknowledged(&self, topic: &str, payload: &[u8]) {
        let Some(Topic::Spec(id)) = Topic::parse(&self.fleet, topic) else { return };
        if payload.is_empty() {
            return;
        }
        let digest = Digest::of_bytes(payload);
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.get(&id) == Some(&digest) {
            return;
        }
        match self.knows(&id, topic, payload, &digest) {
            Ok(true) => drop(found.insert(id, digest)),
            Ok(false) => {
                let how = format!("{topic} {} was acknowledged and is not on the disk", digest.short());
                self.breaches.found(Invariant::AckedIsDurable, how);
            }
            Err(why) => self.breaches.found(Invariant::AckedIsDurable, format!("the disk cannot be read: {why}")),
        }
    }

    fn knows(&self, id: &DatabaseId, topic: &str, payload: &[u8], digest: &Digest) -> Result<bool, String> {
        let options = store::Options { commits: Commits::AtOnce, ..store::Options::new(self.fleet.clone()) };
        let file = self.disk.at_worst().open().map_err(|error| chain(&error))?;
        let store = Store::on(file, &options).map_err(|error| chain(&error))?;
        let read = store.read(|reader| Ok((reader.desired(id)?, reader.waits_to_be_said(topic)?)));
        let (row, overtaken) = read.map_err(|error| chain(&error))?;
        // A delete of what never was leaves nothing; an older spec than one of our own that waits is passed over.
        let deletes = || payload == crate::words::DELETE.as_bytes();
        Ok(overtaken || row.map_or_else(deletes, |row| mentions(&row, digest)))
    }
}

fn mentions(row: &DesiredRow, digest: &Digest) -> bool {
    row.last_seen.as_ref() == Some(digest)
        || row.overtaken.contains(digest)
        || row.accepted.as_ref().is_some_and(|accepted| accepted.digest == *digest)
        || row.candidate.as_ref().is_some_and(|candidate| candidate.spec.digest == *digest)
        || row.history.iter().any(|past| past.digest == *digest)
}
