//! The agenda: every scope with its place in the loop, in the order in which they are due.
//!
//! Invariants: the order is kept as it changes, so that a loop over ten thousand scopes costs what is due and not what
//! there is; a scope with a pass, or with a spec that is judged together with others, is not due until that has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ledger::Board;
use super::place::{Begun, Worked};
use crate::model::Scope;
use crate::runtime::backoff::Backoff;

/// One scope's place in the loop.
#[derive(Debug)]
pub(super) struct Slot {
    /// The pass that runs, and what cuts it off.
    pub(super) running: Option<CancellationToken>,
    /// Its spec is judged together with others.
    pub(super) judged: bool,
    /// It was asked for again while it ran.
    pub(super) again: bool,
    /// When it is due by itself, in monotonic time.
    pub(super) due: Duration,
    pub(super) backoff: Backoff,
    /// When what its passes wait for began.
    pub(super) begun: Begun,
    /// Whether its passes did anything since it was last as desired.
    pub(super) worked: Worked,
    pub(super) board: Board,
}

impl Slot {
    /// One that is due at once.
    pub(super) fn new(now: Duration, backoff: Backoff) -> Self {
        Self {
            running: None,
            judged: false,
            again: false,
            due: now,
            backoff,
            begun: Begun::default(),
            worked: Worked::default(),
            board: Board::default(),
        }
    }

    fn waits(&self) -> bool {
        self.running.is_none() && !self.judged
    }
}

/// All scopes.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    slots: BTreeMap<Scope, Slot>,
    /// Those that wait for their time. The fleet comes first: all stand on it.
    waiting: BTreeSet<(bool, Duration, Scope)>,
}

fn place(scope: &Scope, due: Duration) -> (bool, Duration, Scope) {
    (*scope != Scope::Fleet, due, scope.clone())
}

impl Agenda {
    /// A scope's slot.
    pub(super) fn get(&self, scope: &Scope) -> Option<&Slot> {
        self.slots.get(scope)
    }

    /// Changes a scope's slot; nothing where there is no such scope.
    pub(super) fn change(&mut self, scope: &Scope, change: impl FnOnce(&mut Slot)) {
        let Some(slot) = self.slots.get_mut(scope) else { return };
        if slot.waits() {
            self.waiting.remove(&place(scope, slot.due));
        }
        change(slot);
        if slot.waits() {
            self.waiting.insert(place(scope, slot.due));
        }
    }

    /// Puts a scope on the agenda, unless it is there.
    pub(super) fn add(&mut self, scope: &Scope, slot: impl FnOnce() -> Slot) {
        if !self.slots.contains_key(scope) {
            let slot = slot();
            if slot.waits() {
                self.waiting.insert(place(scope, slot.due));
            }
            self.slots.insert(scope.clone(), slot);
        }
    }

    /// Takes a scope off.
    pub(super) fn remove(&mut self, scope: &Scope) -> Option<Slot> {
        let slot = self.slots.remove(scope)?;
        self.waiting.remove(&place(scope, slot.due));
        Some(slot)
    }

    /// All scopes.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.slots.keys()
    }

    /// How many databases there are.
    pub(super) fn databases(&self) -> usize {
        self.slots.len() - usize::from(self.slots.contains_key(&Scope::Fleet))
    }

    /// Those that are due, the fleet first, then who has waited longest: so many, and whether there are more.
    pub(super) fn due(&self, now: Duration, fleet_only: bool, room: usize) -> (Vec<Scope>, bool) {
        let fleet = self.waiting.iter().take_while(|(database, ..)| !*database).filter(|(_, due, _)| *due <= now);
        let rest = self.databases_in_order(fleet_only).take_while(|(_, due, _)| *due <= now);
        let mut due = fleet.chain(rest).map(|(.., scope)| scope);
        let first = due.by_ref().take(room).cloned().collect();
        (first, due.next().is_some())
    }

    /// When the next is due; without those that are due already, where `full`.
    pub(super) fn next_due(&self, now: Duration, fleet_only: bool, full: bool) -> Option<Duration> {
        let fleet = self.waiting.iter().take_while(|(database, ..)| !*database);
        let counts = |due: &Duration| !full || *due > now;
        let fleet = fleet.map(|(_, due, _)| *due).find(counts);
        let rest = if full {
            // From the first that is not due yet.
            let from = (true, now.saturating_add(Duration::from_nanos(1)), Scope::Fleet);
            self.waiting.range(from..).next().filter(|_| !fleet_only).map(|(_, due, _)| *due)
        } else {
            self.databases_in_order(fleet_only).next().map(|(_, due, _)| *due)
        };
        fleet.into_iter().chain(rest).min()
    }

    fn databases_in_order(&self, none: bool) -> impl Iterator<Item = &(bool, Duration, Scope)> {
        let from = (true, Duration::ZERO, Scope::Fleet);
        self.waiting.range(from..).filter(move |_| !none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DatabaseId;
    use crate::runtime::backoff::Schedule;
    use crate::runtime::random::Random;

    fn database(id: &str) -> Scope {
        Scope::Database(DatabaseId::parse(id).unwrap())
    }

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn agenda(scopes: &[(Scope, u64)]) -> Agenda {
        let mut agenda = Agenda::default();
        for (scope, due) in scopes {
            agenda.add(scope, || Slot::new(second(*due), Backoff::new(Schedule::STEP, Random::seeded(1))));
        }
        agenda
    }

    #[test]
    fn the_fleet_comes_first_then_who_has_waited_longest() {
        let agenda = agenda(&[(database("a"), 3), (database("b"), 1), (Scope::Fleet, 4), (database("c"), 9)]);
        let due = |now, fleet_only, room| agenda.due(second(now), fleet_only, room);
        assert_eq!(due(5, false, 8), (vec![Scope::Fleet, database("b"), database("a")], false));
        assert_eq!(due(5, false, 2), (vec![Scope::Fleet, database("b")], true));
        assert_eq!(due(5, true, 8), (vec![Scope::Fleet], false));
        assert_eq!(due(3, false, 0), (vec![], true));
        let next = |now, fleet_only, full| agenda.next_due(second(now), fleet_only, full);
        assert_eq!([next(2, false, false), next(2, false, true)], [Some(second(1)), Some(second(3))]);
        assert_eq!([next(2, true, false), next(4, true, true)], [Some(second(4)), None]);
    }

    #[test]
    fn who_has_a_pass_or_is_judged_is_not_due() {
        let (a, b) = (database("a"), database("b"));
        let mut agenda = agenda(&[(a.clone(), 1), (b.clone(), 1)]);
        agenda.change(&a, |slot| slot.running = Some(CancellationToken::new()));
        agenda.change(&b, |slot| slot.judged = true);
        assert_eq!(agenda.due(second(5), false, 8), (vec![], false));
        agenda.change(&a, |slot| (slot.running, slot.due) = (None, second(7)));
        agenda.change(&b, |slot| slot.judged = false);
        assert_eq!(agenda.due(second(5), false, 8), (vec![b.clone()], false));
        assert_eq!(agenda.remove(&b).map(|slot| slot.due), Some(second(1)));
        assert_eq!((agenda.due(second(7), false, 8), agenda.databases()), ((vec![a], false), 1));
    }
}
