//! The fleet's record as it holds now. It changes while daemons work: a member of etcd comes or goes, a host is removed.
//!
//! Invariant: a record is in Swarm before it holds here, so nothing is done by a record that only this process knows.

use std::sync::{Arc, PoisonError, RwLock};

use crate::model::FleetRecord;

/// The record, shared by all clones.
#[derive(Debug, Clone)]
pub struct Current(Arc<RwLock<Arc<FleetRecord>>>);

impl Current {
    /// This record holds at first.
    #[must_use]
    pub fn new(record: FleetRecord) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(record))))
    }

    /// The record that holds now.
    #[must_use]
    pub fn get(&self) -> Arc<FleetRecord> {
        // Nothing can panic while the lock is held, so a poisoned one still holds a whole record.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this one holds.
    pub fn set(&self, record: FleetRecord) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(record);
    }
}
