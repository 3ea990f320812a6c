//! The docket: specs that came in and wait to be judged together, and verdicts that wait to be told.
//!
//! A verdict is what an author waits for, and judging is quick where the host has all that a spec asks for: so what came
//! in at the same moment is judged together, ahead of the work on databases. What takes longer is judged in the pass of
//! its own database, as before.
//!
//! The event of a verdict goes out with the verdict. What `status` says comes with the pass of its database; where more were
//! accepted than there are places, it is told before, once nobody waits to be judged any more.
//!
//! Invariants: one group is at the bar at a time; a database is on the docket once.

use std::collections::{BTreeSet, VecDeque};

use crate::model::DatabaseId;

/// How many are judged together at most: their verdicts share a commit.
const TOGETHER_MAX: usize = 256;

/// What is to be done with a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sitting {
    /// They are judged.
    Judge(BTreeSet<DatabaseId>),
    /// How they stand is told, if nobody has yet.
    Tell(BTreeSet<DatabaseId>),
}

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Docket {
    waiting: VecDeque<DatabaseId>,
    listed: BTreeSet<DatabaseId>,
    /// Judged, and perhaps not told of.
    untold: VecDeque<DatabaseId>,
    /// Whether a group is at the bar.
    sits: bool,
}

impl Docket {
    /// Puts a database on the docket; false when it is there already.
    pub(super) fn add(&mut self, database: &DatabaseId) -> bool {
        let new = self.listed.insert(database.clone());
        if new {
            self.waiting.push_back(database.clone());
        }
        new
    }

    /// Takes the next group, in the order in which they came, unless one is at the bar.
    pub(super) fn take(&mut self) -> Option<Sitting> {
        if self.sits {
            return None;
        }
        let group = |queue: &mut VecDeque<DatabaseId>| -> BTreeSet<DatabaseId> {
            queue.drain(..queue.len().min(TOGETHER_MAX)).collect()
        };
        let sitting = if !self.waiting.is_empty() {
            let group = group(&mut self.waiting);
            group.iter().for_each(|database| {
                self.listed.remove(database);
            });
            Sitting::Judge(group)
        } else if !self.untold.is_empty() {
            Sitting::Tell(group(&mut self.untold))
        } else {
            return None;
        };
        self.sits = true;
        Some(sitting)
    }

    /// The group is done with. Those that were judged are told of later, unless there is a place for each at once.
    pub(super) fn ended(&mut self, sitting: &Sitting, places: usize) {
        self.sits = false;
        if let Sitting::Judge(group) = sitting
            && (group.len() > places || !self.waiting.is_empty() || !self.untold.is_empty())
        {
            self.untold.extend(group.iter().cloned());
        }
    }

    /// Whether anybody waits here or is at the bar.
    pub(super) fn is_busy(&self) -> bool {
        self.sits || !self.waiting.is_empty() || !self.untold.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> DatabaseId {
        DatabaseId::parse(&format!("db-{number:04}")).unwrap()
    }

    fn docket(databases: usize) -> Docket {
        let mut docket = Docket::default();
        assert!((0..databases).all(|number| docket.add(&id(number))));
        docket
    }

    #[test]
    fn groups_are_judged_one_after_another_in_order_and_then_told_of() {
        let mut docket = docket(TOGETHER_MAX + 1);
        assert!(!docket.add(&id(0)), "it is there");
        let first = docket.take().unwrap();
        assert_eq!(first, Sitting::Judge((0..TOGETHER_MAX).map(id).collect()));
        assert!(docket.take().is_none(), "one group at a time");
        assert!(docket.add(&id(0)), "a newer spec of it came meanwhile");
        docket.ended(&first, 8);
        let second = docket.take().unwrap();
        assert_eq!(second, Sitting::Judge([id(TOGETHER_MAX), id(0)].into()));
        docket.ended(&second, 8);
        let told = docket.take().unwrap();
        assert_eq!(told, Sitting::Tell((0..TOGETHER_MAX).map(id).collect()));
        docket.ended(&told, 8);
        assert_eq!(docket.take(), Some(Sitting::Tell([id(TOGETHER_MAX), id(0)].into())));
    }

    #[test]
    fn those_who_all_find_a_place_are_told_of_there() {
        let mut docket = docket(8);
        let all = docket.take().unwrap();
        docket.ended(&all, 8);
        assert!(!docket.is_busy() && docket.take().is_none());
    }
}
