//! Cap: so many databases at a time are restarted or replaced, on each host and in the fleet. One bad change of a
//! template then does not take them all down together.
//!
//! Invariants: a place belongs to a scope, from its first disruptive step until it is as desired again or its step has
//! failed; a scope that has one is never held here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::limits::Limits;
use super::Gate;
use crate::model::{Executor, HostId, Scope};
use crate::plan::{Action, CapOf, Disruption, Hold, Step};

/// The places.
#[derive(Debug)]
pub(in super::super) struct Disruptions {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Who has a place, on which host.
    taken: BTreeMap<Scope, HostId>,
    /// Who was held.
    held: BTreeSet<Scope>,
    /// Who was held, and may try again.
    freed: BTreeSet<Scope>,
}

impl Disruptions {
    pub(in super::super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for the scope, unless it has one. What holds it where there is none.
    fn take(&self, scope: &Scope, host: &HostId) -> Option<Hold> {
        let state = &mut *self.state();
        if state.taken.contains_key(scope) {
            return None;
        }
        let on_host = state.taken.values().filter(|taken| *taken == host).count();
        let full = |count: usize, limit: u32| u32::try_from(count).unwrap_or(u32::MAX) >= limit;
        let cap = if full(on_host, self.limits.disruptions_per_host) {
            Some((CapOf::Host(host.clone()), self.limits.disruptions_per_host))
        } else if full(state.taken.len(), self.limits.disruptions_per_fleet) {
            Some((CapOf::Fleet, self.limits.disruptions_per_fleet))
        } else {
            None
        };
        match cap {
            Some((of, limit)) => {
                state.held.insert(scope.clone());
                Some(Hold::Cap { of, limit, busy: state.taken.keys().map(ToString::to_string).collect() })
            }
            None => {
                state.held.remove(scope);
                state.taken.insert(scope.clone(), host.clone());
                None
            }
        }
    }

    /// The scope disturbs nobody any more.
    pub(in super::super) fn over(&self, scope: &Scope) {
        let state = &mut *self.state();
        state.held.remove(scope);
        if state.taken.remove(scope).is_some() {
            state.freed.append(&mut state.held);
        }
    }

    /// Those that were held and may try again; each is told once.
    pub(in super::super) fn take_freed(&self) -> BTreeSet<Scope> {
        std::mem::take(&mut self.state().freed)
    }
}

/// Holds what would disturb one more database than may be.
pub(in super::super) struct Cap<'a> {
    places: &'a Disruptions,
    scope: &'a Scope,
    /// The host of steps that name none: this build's fleets have one.
    host: &'a HostId,
}

impl<'a> Cap<'a> {
    /// For a scope, on this host.
    pub(in super::super) fn new(places: &'a Disruptions, scope: &'a Scope, host: &'a HostId) -> Self {
        Self { places, scope, host }
    }
}

impl Gate for Cap<'_> {
    fn holds(&mut self, step: &Step) -> Option<Hold> {
        // What is deleted disturbs nobody who is to be served: that it goes was asked for.
        if step.disruption < Disruption::Restart || step.action == Action::Delete {
            return None;
        }
        let host = match &step.executor {
            Executor::Host(host) => host,
            Executor::Primary(_) | Executor::Manager => self.host,
        };
        self.places.take(self.scope, host)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::*;
    use crate::model::DatabaseId;

    fn scope(name: &str) -> Scope {
        Scope::Database(DatabaseId::parse(name).unwrap())
    }

    fn limits(disruptions_per_host: u32, disruptions_per_fleet: u32) -> Limits {
        Limits { disruptions_per_host, disruptions_per_fleet, ..Limits::default() }
    }

    fn disturbs(host: &str) -> Step {
        let executor = Executor::Host(HostId::parse(host).unwrap());
        Step { executor, action: Action::Update, disruption: Disruption::Replace, ..step("a", &[]) }
    }

    fn held(places: &Disruptions, name: &str, step: &Step) -> Option<Hold> {
        Cap::new(places, &scope(name), &HostId::parse("here").unwrap()).holds(step)
    }

    #[test]
    fn so_many_on_a_host_and_so_many_in_the_fleet() {
        let places = Disruptions::new(limits(1, 2));
        let busy = |names: &[&str]| names.iter().map(|name| scope(name).to_string()).collect::<BTreeSet<_>>();
        assert_eq!(held(&places, "a", &disturbs("one")), None);
        assert_eq!(held(&places, "a", &disturbs("one")), None, "it has its place");
        let of_host = CapOf::Host(HostId::parse("one").unwrap());
        let full = Hold::Cap { of: of_host, limit: 1, busy: busy(&["a"]) };
        assert_eq!(held(&places, "b", &disturbs("one")), Some(full));
        assert_eq!(held(&places, "c", &disturbs("two")), None);
        let full = Hold::Cap { of: CapOf::Fleet, limit: 2, busy: busy(&["a", "c"]) };
        assert_eq!(held(&places, "d", &disturbs("three")), Some(full));
        places.over(&scope("a"));
        assert_eq!(places.take_freed(), BTreeSet::from([scope("b"), scope("d")]));
        assert_eq!(held(&places, "b", &disturbs("one")), None);
        places.over(&scope("nobody"));
        assert_eq!(places.take_freed(), BTreeSet::new());
    }

    #[test]
    fn only_what_disturbs_takes_a_place() {
        let places = Disruptions::new(limits(0, 0));
        for free in [
            Step { disruption: Disruption::Reload, ..disturbs("one") },
            Step { action: Action::Delete, ..disturbs("one") },
            step("a", &[]),
        ] {
            assert_eq!(held(&places, "a", &free), None);
        }
        let manager = Step { executor: Executor::Manager, ..disturbs("one") };
        let here = CapOf::Host(HostId::parse("here").unwrap());
        assert_eq!(held(&places, "a", &manager), Some(Hold::Cap { of: here, limit: 0, busy: BTreeSet::new() }));
    }
}
