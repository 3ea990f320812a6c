//! The docket: specs that came in and wait to be judged together, and verdicts that wait to be told.
//!
//! A verdict is what an author waits for, and judging is quick where the host has all that a spec asks for: so what came
//! in at the same moment is judged together, ahead of the work on databases. What takes longer is judged in the pass of
//! its own database, as before.
//!
//! The event of a verdict goes out with the verdict. What `status` says comes with the pass of its database; where more were
//! accepted than there are places, it is told before: once no more specs come, or after a while.
//!
//! Invariants: one group is at the bar at a time; a database is on the docket once.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::model::DatabaseId;

/// How many are judged together at most: their verdicts share a commit.
const TOGETHER_MAX: usize = 256;
/// So long must no spec have come before how databases stand is told: within a flood of specs the verdicts go first.
const QUIET: Duration = Duration::from_millis(100);
/// So long those who were judged wait for it at most, if the flood does not end.
const UNTOLD_MAX: Duration = Duration::from_secs(5);

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
    /// Since when the first of them waits.
    untold_since: Duration,
    /// When the last one came, in monotonic time.
    last_came: Duration,
    /// How many came, each soon after the one before it.
    in_a_row: usize,
    /// Whether a group is at the bar.
    sits: bool,
}

impl Docket {
    /// Puts a database on the docket; false when it is there already.
    pub(super) fn add(&mut self, database: &DatabaseId, now: Duration) -> bool {
        if now.saturating_sub(self.last_came) >= QUIET {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last_came = now;
        let new = self.listed.insert(database.clone());
        if new {
            self.waiting.push_back(database.clone());
        }
        new
    }

    /// Takes the next group, in the order in which they came, unless one is at the bar.
    pub(super) fn take(&mut self, now: Duration) -> Option<Sitting> {
        if self.sits {
            return None;
        }
        let tells = self.tells_in(now).is_some_and(|left| left.is_zero());
        let group = |queue: &mut VecDeque<DatabaseId>| -> BTreeSet<DatabaseId> {
            queue.drain(..queue.len().min(TOGETHER_MAX)).collect()
        };
        let sitting = if !self.waiting.is_empty() {
            let group = group(&mut self.waiting);
            group.iter().for_each(|database| {
                self.listed.remove(database);
            });
            Sitting::Judge(group)
        } else if tells {
            self.untold_since = now;
            Sitting::Tell(group(&mut self.untold))
        } else {
            return None;
        };
        self.sits = true;
        Some(sitting)
    }

    /// Time until how those stand who were judged is told, where nothing comes first.
    pub(super) fn tells_in(&self, now: Duration) -> Option<Duration> {
        if self.sits || !self.waiting.is_empty() || self.untold.is_empty() {
            return None;
        }
        let at = self.last_came.saturating_add(QUIET).min(self.untold_since.saturating_add(UNTOLD_MAX));
        Some(at.saturating_sub(now))
    }

    /// The group is done with. Those that were judged are told of later, unless there is a place for each at once.
    pub(super) fn ended(&mut self, sitting: &Sitting, places: usize, now: Duration) {
        self.sits = false;
        let floods = self.floods_for(places, now).is_some();
        if let Sitting::Judge(group) = sitting
            && (floods || group.len() > places || !self.waiting.is_empty() || !self.untold.is_empty())
        {
            if self.untold.is_empty() {
                self.untold_since = now;
            }
            self.untold.extend(group.iter().cloned());
        }
    }

    /// Time until a flood is over, if there is one: more came in a row than there are places. On a busy host they come in
    /// groups so small that each would find its places, and the work on the first would hold up the verdicts of the rest.
    pub(super) fn floods_for(&self, places: usize, now: Duration) -> Option<Duration> {
        let over = self.last_came.saturating_add(QUIET);
        (self.in_a_row > places && over > now).then(|| over.saturating_sub(now))
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

    const START: Duration = Duration::from_secs(100);

    fn docket(databases: usize) -> Docket {
        let mut docket = Docket::default();
        assert!((0..databases).all(|number| docket.add(&id(number), START)));
        docket
    }

    #[test]
    fn groups_are_judged_one_after_another_in_order_and_then_told_of() {
        let mut docket = docket(TOGETHER_MAX + 1);
        assert!(!docket.add(&id(0), START), "it is there");
        let first = docket.take(START).unwrap();
        assert_eq!(first, Sitting::Judge((0..TOGETHER_MAX).map(id).collect()));
        assert!(docket.take(START).is_none(), "one group at a time");
        assert!(docket.add(&id(0), START), "a newer spec of it came meanwhile");
        docket.ended(&first, 8, START);
        let second = docket.take(START).unwrap();
        assert_eq!(second, Sitting::Judge([id(TOGETHER_MAX), id(0)].into()));
        docket.ended(&second, 8, START);
        assert_eq!((docket.take(START), docket.tells_in(START)), (None, Some(QUIET)), "more may come");
        let quiet = START + QUIET;
        let told = docket.take(quiet).unwrap();
        assert_eq!(told, Sitting::Tell((0..TOGETHER_MAX).map(id).collect()));
        docket.ended(&told, 8, quiet);
        assert_eq!(docket.take(quiet), Some(Sitting::Tell([id(TOGETHER_MAX), id(0)].into())));
    }

    #[test]
    fn a_flood_that_does_not_end_does_not_keep_back_how_they_stand() {
        let mut docket = docket(9);
        let all = docket.take(START).unwrap();
        docket.ended(&all, 8, START);
        let late = START + UNTOLD_MAX;
        assert!(docket.add(&id(10), late));
        let one = docket.take(late).unwrap();
        assert_eq!(one, Sitting::Judge([id(10)].into()), "verdicts go first");
        docket.ended(&one, 8, late);
        assert!(matches!(docket.take(late), Some(Sitting::Tell(_))));
    }

    #[test]
    fn a_flood_that_comes_in_drops_is_one_until_it_was_quiet() {
        let (mut docket, drop) = (Docket::default(), QUIET / 2);
        let mut now = START;
        for number in 0..8 {
            now += drop;
            assert!(docket.add(&id(number), now));
            let one = docket.take(now).unwrap();
            docket.ended(&one, 8, now);
            assert!(!docket.is_busy() && docket.floods_for(8, now).is_none(), "each of {number} finds a place");
        }
        now += drop;
        assert!(docket.add(&id(8), now));
        let one = docket.take(now).unwrap();
        docket.ended(&one, 8, now);
        assert_eq!(
            (docket.tells_in(now), docket.floods_for(8, now)),
            (Some(QUIET), Some(QUIET)),
            "it is told of later"
        );
        assert_eq!(docket.floods_for(8, now + QUIET), None);
        assert!(docket.add(&id(9), now + QUIET));
        assert_eq!(docket.floods_for(8, now + QUIET), None, "a new row begins");
    }

    #[test]
    fn those_who_all_find_a_place_are_told_of_there() {
        let mut docket = docket(8);
        let all = docket.take(START).unwrap();
        docket.ended(&all, 8, START);
        assert!(!docket.is_busy() && docket.take(START + QUIET).is_none());
    }
}
