//! The bell: "look at this key again", and nothing else.
//!
//! Invariants: ringing never waits; a key that was rung is handed to the listener at least once afterwards; ringing
//! the same key many times before the listener comes is one wake-up. What is to be done stands in the store, so a lost
//! process loses no work: the tick finds it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::Scope;

/// The ringing end. Clones ring the same bell.
#[derive(Debug)]
pub struct Bell<K: Ord = Scope> {
    shared: Arc<Shared<K>>,
}

/// The listening end; there is one.
#[derive(Debug)]
pub struct Listener<K: Ord = Scope> {
    shared: Arc<Shared<K>>,
}

#[derive(Debug)]
struct Shared<K: Ord> {
    due: Mutex<BTreeSet<K>>,
    wake: Notify,
}

/// A bell and its listener.
#[must_use]
pub fn bell<K: Ord>() -> (Bell<K>, Listener<K>) {
    let shared = Arc::new(Shared { due: Mutex::new(BTreeSet::new()), wake: Notify::new() });
    (Bell { shared: Arc::clone(&shared) }, Listener { shared })
}

impl<K: Ord> Clone for Bell<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Ord> Bell<K> {
    /// The key is due. The set of due keys is as large as the set of keys at most, so it needs no other bound.
    pub fn ring(&self, key: K) {
        self.shared.due.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.shared.wake.notify_one();
    }
}

impl<K: Ord> Listener<K> {
    /// Waits until something is due and takes all that is due then. May be dropped while it waits: nothing is lost.
    pub async fn wait(&mut self) -> BTreeSet<K> {
        loop {
            let due = self.take();
            if !due.is_empty() {
                return due;
            }
            self.shared.wake.notified().await;
        }
    }

    /// What is due now, without waiting.
    #[must_use = "the keys are taken and will not be handed out again"]
    pub fn take(&mut self) -> BTreeSet<K> {
        std::mem::take(&mut *self.shared.due.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::DatabaseId;

    fn database(id: &str) -> Scope {
        Scope::Database(DatabaseId::parse(id).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn many_rings_are_one_wake_up() {
        let (bell, mut listener) = bell();
        for _ in 0..1000 {
            bell.ring(Scope::Fleet);
            bell.clone().ring(database("shop"));
        }
        assert_eq!(listener.wait().await, BTreeSet::from([Scope::Fleet, database("shop")]));
        assert!(tokio::time::timeout(Duration::from_secs(1), listener.wait()).await.is_err(), "nothing is due");
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_wakes_one_who_waits_and_a_dropped_wait_loses_nothing() {
        let (bell, mut listener) = bell();
        assert!(tokio::time::timeout(Duration::from_secs(1), listener.wait()).await.is_err());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { listener.wait().await });
        tokio::task::yield_now().await;
        bell.ring(database("shop"));
        let woken = tokio::time::timeout(Duration::from_secs(1), tasks.join_next()).await.unwrap();
        assert_eq!(woken.unwrap().unwrap(), BTreeSet::from([database("shop")]));
    }
}
