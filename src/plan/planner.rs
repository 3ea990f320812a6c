//! The walk over the desired graph: for each resource, in dependency order, the first reason that holds.
//!
//! Invariant: a decision looks only at the resource, at what was seen of it, and at what was decided for its
//! dependencies before.

use std::collections::{BTreeMap, BTreeSet};

use super::disruption::{self, Subject};
use super::input::Input;
use super::nodes::Nodes;
use super::stages::{Layout, disturbed};
use super::value::{Action, Change, Plan, Purpose, Reason, Stage, Step, Waiting, WaitsFor};
use super::{deletes, kinds};
use crate::model::{Dependency, InstanceId, Observation, Present, Resource, ResourceId};

/// Plans the whole journey from what was observed to what is desired.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let nodes = Nodes::of(input);
    let mut walk = Walk::through(input, BTreeMap::new());
    let mut touched = disturbed(&walk.steps, input.desired);
    let held = nodes.held(&touched);
    if !held.is_empty() {
        // What may not be interrupted now is left as it is, and so is what would be made from it.
        touched.retain(|instance| !held.contains_key(instance));
        walk = Walk::through(input, held);
    }
    let layout = Layout::new(&nodes, input.desired, &touched, |id| walk.blocked.contains(id));
    let removal = deletes::plan(input, &walk.waiting, &layout.staying);
    let Walk { steps, mut waiting, .. } = walk;
    waiting.extend(removal.waiting);
    let mut stages = layout.stages(steps, input.desired);
    if !removal.steps.is_empty() {
        stages.push(Stage { purpose: Purpose::Remove, steps: removal.steps });
    }
    Plan { scope: input.scope.clone(), stages, waiting }
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
    /// Instances that must not be touched now, and why.
    held: BTreeMap<&'a InstanceId, String>,
}

impl<'a> Walk<'a> {
    fn through(input: &'a Input<'a>, held: BTreeMap<&'a InstanceId, String>) -> Self {
        let mut walk = Self {
            input,
            held,
            steps: Vec::new(),
            stepped: BTreeMap::new(),
            passed: BTreeMap::new(),
            blocked: BTreeSet::new(),
            waiting: Vec::new(),
        };
        for resource in input.desired.in_order() {
            walk.decide(resource);
        }
        walk
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
                let on = self.blocking(resource);
                let held = resource.member.as_ref().and_then(|member| self.held.get(&member.instance));
                match (on.is_empty(), held) {
                    (false, _) => self.wait(resource, Some(action), WaitsFor::Dependencies { on }),
                    (true, Some(why)) => {
                        let why = why.clone();
                        self.wait(resource, Some(action), WaitsFor::Node { why });
                    }
                    (true, None) => self.step(resource, action, reason, changes),
                }
            }
        }
    }

    /// What waits of all that a resource cannot do without: where any one of several is enough, all of them or none.
    fn blocking(&self, resource: &Resource) -> BTreeSet<ResourceId> {
        let any = || resource.dependencies.iter().filter(|(_, why)| **why == Dependency::Any).map(|(id, _)| id);
        let one_is_enough = any().any(|id| !self.blocked.contains(id));
        let needed = resource.dependencies.iter().filter(|(_, why)| !(one_is_enough && **why == Dependency::Any));
        needed.map(|(id, _)| id).filter(|id| self.blocked.contains(id)).cloned().collect()
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
            Action::Create | Action::Update | Action::Delete | Action::Switchover => None,
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
            candidates: BTreeSet::new(),
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
