//! The halt: when steps of many databases fail in a row, something is wrong with more than each of them, and nothing new
//! is begun until a person says go on.
//!
//! Invariants: a database counts once, however often it is tried; one that was told about and forgiven does not count
//! again until it has worked; a halt ends by a person's word only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::value::{Action, Disruption, Step};
use crate::model::{DatabaseId, ResourceId};

/// Failures in a row across the databases of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Halt {
    /// Since when nothing new is begun: milliseconds since 1970. None: there is no halt.
    pub since_ms: Option<i64>,
    /// Databases of which a step failed since the last retry or database that worked, with the last failure of each.
    pub failed: BTreeMap<DatabaseId, FailedStep>,
    /// Databases that were failing when a person last said go on: they do not count until they have worked.
    pub forgiven: BTreeSet<DatabaseId>,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep {
    /// On what.
    pub resource: ResourceId,
    /// Why, as a sentence for people and without secrets.
    pub error: String,
}

impl Halt {
    /// A step of a database failed. True when this one makes the halt: `limit` databases in a row.
    pub fn failed(&mut self, database: &DatabaseId, step: FailedStep, limit: u32, now_ms: i64) -> bool {
        if self.forgiven.contains(database) {
            return false;
        }
        self.failed.insert(database.clone(), step);
        let begins = self.since_ms.is_none() && u32::try_from(self.failed.len()).unwrap_or(u32::MAX) >= limit;
        if begins {
            self.since_ms = Some(now_ms);
        }
        begins
    }

    /// A retry of a database worked, or all of it is as desired: the row is broken, unless it has made a halt already.
    pub fn worked(&mut self, database: &DatabaseId) {
        self.forgiven.remove(database);
        if self.since_ms.is_none() {
            self.failed.clear();
        }
    }

    /// The database is no more.
    pub fn forget(&mut self, database: &DatabaseId) {
        self.forgiven.remove(database);
        self.failed.remove(database);
    }

    /// A person says go on. What fails now is known, and makes no new halt.
    pub fn resume(&mut self) {
        self.forgiven.extend(std::mem::take(&mut self.failed).into_keys());
        self.since_ms = None;
    }
}

/// Whether a step begins something that a halt holds: it makes something, or stops users from working. What a person
/// wants gone goes on going, and what disturbs nobody goes on being mended.
#[must_use]
pub fn begins_something(step: &Step) -> bool {
    match step.action {
        Action::Create | Action::Recreate => true,
        Action::Update | Action::Switchover => step.disruption >= Disruption::Restart,
        Action::Delete => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn id(name: &str) -> DatabaseId {
        DatabaseId::parse(name).unwrap()
    }

    fn step() -> FailedStep {
        FailedStep { resource: ResourceId::new(Kind::Service, "x"), error: "no".to_owned() }
    }

    #[test]
    fn one_broken_database_is_no_halt_and_several_are() {
        let mut halt = Halt::default();
        for _ in 0..100 {
            assert!(!halt.failed(&id("a"), step(), 3, 1), "one database");
        }
        assert!(!halt.failed(&id("b"), step(), 3, 2));
        assert!(halt.failed(&id("c"), step(), 3, 3));
        assert_eq!(halt.since_ms, Some(3));
        assert!(!halt.failed(&id("d"), step(), 3, 4), "it is there already");
        assert_eq!((halt.since_ms, halt.failed.len()), (Some(3), 4));
    }

    #[test]
    fn what_works_breaks_the_row_but_not_the_halt() {
        let mut halt = Halt::default();
        halt.failed(&id("a"), step(), 2, 1);
        halt.worked(&id("z"));
        assert!(!halt.failed(&id("b"), step(), 2, 2));
        assert!(halt.failed(&id("c"), step(), 2, 3));
        halt.worked(&id("b"));
        assert_eq!((halt.since_ms, halt.failed.len()), (Some(3), 2), "only a person ends it");
    }

    #[test]
    fn who_was_known_to_fail_does_not_count_again_until_it_has_worked() {
        let mut halt = Halt::default();
        halt.failed(&id("a"), step(), 2, 1);
        halt.failed(&id("b"), step(), 2, 1);
        halt.resume();
        assert_eq!((halt.since_ms, halt.failed.len()), (None, 0));
        for name in ["a", "b", "a"] {
            assert!(!halt.failed(&id(name), step(), 2, 2), "{name} is known");
        }
        halt.worked(&id("a"));
        assert!(!halt.failed(&id("a"), step(), 2, 3));
        assert!(halt.failed(&id("c"), step(), 2, 3));
        halt.forget(&id("c"));
        assert_eq!(halt.failed.len(), 1);
    }
}
