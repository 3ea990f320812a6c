//! The walk over the desired graph: for each resource, in dependency order, the first reason that holds.
//!
//! Invariant: a decision looks only at the resource, at what was seen of it, and at what was decided for its
//! dependencies before.

use std::collections::{BTreeMap, BTreeSet};

use super::disruption::{self, Subject};
use super::input::Input;
use super::value::{Action, Change, Plan, Purpose, Reason, Stage, Step, Waiting, WaitsFor};
use super::{deletes, kinds};
use crate::model::{Dependency, Observation, Present, Resource, ResourceId};

/// Plans the whole journey from what was observed to what is desired.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let mut walk = Walk::new(input);
    for resource in input.desired.in_order() {
        walk.decide(resource);
    }
    let removal = deletes::plan(input, &walk.waiting);
    let Walk { steps, mut waiting, .. } = walk;
    waiting.extend(removal.waiting);
    let stages = [(Purpose::Converge, steps), (Purpose::Remove, removal.steps)];
    Plan {
        scope: input.scope.clone(),
        stages: stages
            .into_iter()
            .filter(|(_, steps)| !steps.is_empty())
            .map(|(purpose, steps)| Stage { purpose, steps })
            .collect(),
        waiting,
    }
}

/// What a resource needs, by itself and by the steps of what it is made from.
enum Need {
    Nothing,
    Step { action: Action, reason: Reason, changes: Vec<Change> },
}

/// What was decided so far. Resources that need nothing leave no trace, so that a plan without work stays cheap.
struct Walk<'a> {
    input: &'a Input<'a>,
    steps: Vec<Step>,
    /// Index into `steps`.
    stepped: BTreeMap<&'a ResourceId, usize>,
    /// For what needs nothing itself: the nearest steps below it, which whatever depends on it must wait for.
    passed: BTreeMap<&'a ResourceId, BTreeSet<ResourceId>>,
    blocked: BTreeSet<&'a ResourceId>,
    waiting: Vec<Waiting>,
}

impl<'a> Walk<'a> {
    fn new(input: &'a Input<'a>) -> Self {
        Self {
            input,
            steps: Vec::new(),
            stepped: BTreeMap::new(),
            passed: BTreeMap::new(),
            blocked: BTreeSet::new(),
            waiting: Vec::new(),
        }
    }

    fn decide(&mut self, resource: &'a Resource) {
        let need = match self.input.observed.resources.get(&resource.id) {
            None => return self.unknown(resource, "it was not looked at"),
            Some(Observation::Unknown { why }) => return self.unknown(resource, why),
            Some(Observation::Absent) => {
                Need::Step { action: Action::Create, reason: Reason::DoesNotExist, changes: Vec::new() }
            }
            Some(Observation::Present(present)) => self.need(resource, present),
        };
        match need {
            Need::Nothing => self.pass(resource),
            Need::Step { action, reason, changes } => {
                let on: BTreeSet<ResourceId> =
                    resource.dependencies.keys().filter(|id| self.blocked.contains(id)).cloned().collect();
                if on.is_empty() {
                    self.step(resource, action, reason, changes);
                } else {
                    self.wait(resource, Some(action), WaitsFor::Dependencies { on });
                }
            }
        }
    }

    fn need(&self, resource: &Resource, present: &Present) -> Need {
        let changes = kinds::differences(resource, present);
        let behind =
            present.applied.as_ref().is_some_and(|applied| self.input.desired.digest(&resource.id) != Some(applied));
        let as_desired = changes.is_empty() && !behind;
        // Where the thing itself shows that it is as desired, a failure that was noted about it is over.
        let outcome = self.input.outcomes.get(&resource.id).filter(|_| !as_desired);
        let by = self.updated_dependencies(resource);

        let reason = if present.needs_recreate
            || outcome.is_some_and(|outcome| outcome.half_made() && kinds::may_be_recreated(resource.id.kind))
        {
            Reason::NeedsRecreate
        } else if let Some(error) = present.error.as_ref().or(outcome.map(|outcome| &outcome.error)) {
            Reason::HasError { error: error.clone() }
        } else if self.input.forced.contains(&resource.id) {
            Reason::Forced
        } else if !by.is_empty() || (behind && changes.is_empty()) {
            Reason::DependencyUpdated { by }
        } else if !changes.is_empty() {
            Reason::HasDiff
        } else {
            return Need::Nothing;
        };
        let recreate = reason == Reason::NeedsRecreate && kinds::may_be_recreated(resource.id.kind);
        Need::Step { action: if recreate { Action::Recreate } else { Action::Update }, reason, changes }
    }

    fn updated_dependencies(&self, resource: &Resource) -> BTreeSet<ResourceId> {
        resource
            .dependencies
            .iter()
            .filter(|(id, why)| **why == Dependency::Content && self.stepped.contains_key(id))
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn step(&mut self, resource: &'a Resource, action: Action, reason: Reason, changes: Vec<Change>) {
        let present = match self.input.observed.resources.get(&resource.id) {
            Some(Observation::Present(present)) => Some(present),
            Some(Observation::Absent | Observation::Unknown { .. }) | None => None,
        };
        let subject = Subject { resource, present, action, changes: &changes };
        let disruption = disruption::forecast(&subject, |id| self.step_of(id));
        let object = match action {
            Action::Recreate => present.and_then(|present| present.object.clone()),
            Action::Create | Action::Update | Action::Delete => None,
        };
        let step = Step {
            resource: resource.id.clone(),
            action,
            executor: resource.executor.clone(),
            reason,
            changes,
            disruption,
            after: self.steps_below(resource),
            object,
        };
        self.stepped.insert(&resource.id, self.steps.len());
        self.steps.push(step);
    }

    fn step_of(&self, id: &ResourceId) -> Option<&Step> {
        self.stepped.get(id).and_then(|index| self.steps.get(*index))
    }

    fn steps_below(&self, resource: &Resource) -> BTreeSet<ResourceId> {
        let mut below = BTreeSet::new();
        for dependency in resource.dependencies.keys() {
            if self.stepped.contains_key(dependency) {
                below.insert(dependency.clone());
            } else if let Some(further) = self.passed.get(dependency) {
                below.extend(further.iter().cloned());
            }
        }
        below
    }

    fn pass(&mut self, resource: &'a Resource) {
        let below = self.steps_below(resource);
        if !below.is_empty() {
            self.passed.insert(&resource.id, below);
        }
    }

    fn unknown(&mut self, resource: &'a Resource, why: &str) {
        self.wait(resource, None, WaitsFor::Unknown { why: why.to_owned() });
    }

    fn wait(&mut self, resource: &'a Resource, action: Option<Action>, on: WaitsFor) {
        self.blocked.insert(&resource.id);
        self.waiting.push(Waiting { resource: resource.id.clone(), action, on });
    }
}
