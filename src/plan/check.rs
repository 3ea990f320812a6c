//! An independent checker of a finished plan: it re-tests every invariant against the input, and shares no code with
//! the planner.
//!
//! Invariant: it never changes its mind about order: a step may only wait for steps of its own stage that stand
//! before it, which also rules out circles.

mod nodes;
mod turns;

use std::collections::{BTreeMap, BTreeSet};

use super::input::Input;
use super::value::{Action, Plan, Purpose, Step};
use crate::model::{Attributes, Dependency, Kind, Member, NodeName, Observation, Resource, ResourceId};

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Violation {
    /// A stage has no steps.
    #[error("stage {0} is empty")]
    EmptyStage(usize),
    /// A delete in a stage of creates and updates, or the other way round.
    #[error("{0} is in a stage for something else")]
    WrongStage(ResourceId),
    /// Stages for creates and updates come after a stage for deletes.
    #[error("stage {0} creates or updates after deletes")]
    StageOrder(usize),
    /// One resource has two steps.
    #[error("{0} has two steps")]
    Twice(ResourceId),
    /// A resource has a step and waits.
    #[error("{0} has a step and waits")]
    StepAndWaiting(ResourceId),
    /// Something that was not seen is touched.
    #[error("{0} is touched although it was not seen")]
    TouchesUnknown(ResourceId),
    /// A create of something that is there, or a change of something that is not.
    #[error("{0}: the action does not fit what was seen")]
    ActionMismatch(ResourceId),
    /// What holds data is deleted to be made again.
    #[error("{0} holds data and is recreated")]
    RecreatesData(ResourceId),
    /// Something undesired is made, or something desired is deleted.
    #[error("{0}: the action does not fit what is desired")]
    NotAsDesired(ResourceId),
    /// A step does not wait for a step that it depends on.
    #[error("{of} does not wait for {on}")]
    DoesNotWait {
        /// Whose step.
        of: ResourceId,
        /// What it should wait for.
        on: ResourceId,
    },
    /// A step depends on something that is neither there nor made before.
    #[error("{of} needs {on}, which is not there")]
    Missing {
        /// Whose step.
        of: ResourceId,
        /// What is missing.
        on: ResourceId,
    },
    /// A step waits for something that is no earlier step of its stage.
    #[error("{of} waits for {on}, which is no earlier step of its stage")]
    BadAfter {
        /// Whose step.
        of: ResourceId,
        /// What it waits for.
        on: ResourceId,
    },
    /// What it is made from changes, and it has no step and does not wait.
    #[error("{of} is made from {from}, which changes, and is left as it is")]
    NotCascaded {
        /// Whose step is missing.
        of: ResourceId,
        /// What changes.
        from: ResourceId,
    },
    /// Something is not as desired, and the plan says nothing about it.
    #[error("{0} is not as desired and is forgotten")]
    Forgotten(ResourceId),
    /// A database is dropped, or something inside a Postgres that goes itself: its rows could not come back.
    #[error("{0} is dropped, and its rows with it")]
    LosesRows(ResourceId),
    /// Something is deleted at a place where something desired waits, which may still use it.
    #[error("{of} is deleted where {waiting} waits")]
    DeletedBesideWaiting {
        /// What is deleted.
        of: ResourceId,
        /// What waits.
        waiting: ResourceId,
    },
    /// A delete does not name the object that was seen.
    #[error("{0}: the delete does not name the object that was seen")]
    WrongObject(ResourceId),
    /// A stage takes two instances of a node away at once.
    #[error("stage {stage} interrupts two instances of {node}")]
    TwoAtOnce {
        /// The node.
        node: NodeName,
        /// The stage, from 0.
        stage: usize,
    },
    /// An instance that serves is interrupted while another of its node is not in order.
    #[error("{0} is interrupted while its node is short of another instance")]
    LeavesNodeShort(ResourceId),
    /// A primary is interrupted although another could have taken its role before.
    #[error("{0} is interrupted while it is part of the primary")]
    InterruptsPrimary(ResourceId),
    /// A stage interrupts instances of nodes that have turns of their own.
    #[error("stage {stage} interrupts {node} and another node, which are to be changed one after another")]
    TwoNodesAtOnce {
        /// One of them.
        node: NodeName,
        /// The stage, from 0.
        stage: usize,
    },
    /// A node is changed before, or together with, one whose turn is before, or one that is new before one that is there.
    #[error("stage {stage} changes {node} before its turn")]
    BeforeItsTurn {
        /// The node.
        node: NodeName,
        /// The stage, from 0.
        stage: usize,
    },
    /// A replica is interrupted before its primary, which must take a lowered parameter first.
    #[error("{0} is interrupted before its primary, which must take a lowered parameter first")]
    BeforeItsPrimary(ResourceId),
    /// A primary is interrupted before a replica that must take a raised parameter first.
    #[error("{0} is part of the primary, and a replica must take a raised parameter first")]
    BeforeItsReplicas(ResourceId),
    /// A switchover of something that is no primary, to something that cannot take its role, or among other work.
    #[error("{0}: not a switchover that can be made")]
    BadSwitchover(ResourceId),
}

/// Tests a plan against what it was made from.
///
/// # Errors
/// All violations, in a stable order.
pub fn check(plan: &Plan, input: &Input<'_>) -> Result<(), Vec<Violation>> {
    let mut checker = Checker::new(plan, input);
    checker.stages();
    for (id, at) in checker.places.clone() {
        if let Some(step) = checker.at(at) {
            checker.step(id, at, step);
        }
    }
    checker.nothing_forgotten();
    checker.found.extend(nodes::violations(plan, input));
    checker.found.extend(turns::violations(plan, input));
    if checker.found.is_empty() { Ok(()) } else { Err(checker.found.into_iter().collect()) }
}

/// Where a step stands: stage, then place in the stage.
type Place = (usize, usize);

struct Checker<'a> {
    plan: &'a Plan,
    input: &'a Input<'a>,
    places: BTreeMap<&'a ResourceId, Place>,
    waiting: BTreeSet<&'a ResourceId>,
    found: BTreeSet<Violation>,
}

impl<'a> Checker<'a> {
    fn new(plan: &'a Plan, input: &'a Input<'a>) -> Self {
        let mut places = BTreeMap::new();
        let mut found = BTreeSet::new();
        for (stage_index, stage) in plan.stages.iter().enumerate() {
            for (index, step) in stage.steps.iter().enumerate() {
                // A switchover is not done to what it names: another step may follow.
                if step.action != Action::Switchover && places.insert(&step.resource, (stage_index, index)).is_some() {
                    found.insert(Violation::Twice(step.resource.clone()));
                }
            }
        }
        let waiting = plan.waiting.iter().map(|waiting| &waiting.resource).collect();
        Self { plan, input, places, waiting, found }
    }

    fn at(&self, (stage, index): Place) -> Option<&'a Step> {
        self.plan.stages.get(stage)?.steps.get(index)
    }

    fn seen(&self, id: &ResourceId) -> Option<&'a Observation> {
        self.input.observed.resources.get(id)
    }

    fn is_there(&self, id: &ResourceId) -> bool {
        matches!(self.seen(id), Some(Observation::Present(_)))
    }

    fn stages(&mut self) {
        let mut removing = false;
        for (index, stage) in self.plan.stages.iter().enumerate() {
            if stage.steps.is_empty() {
                self.found.insert(Violation::EmptyStage(index));
            }
            let removes = stage.purpose == Purpose::Remove;
            if removing && !removes {
                self.found.insert(Violation::StageOrder(index));
            }
            removing |= removes;
            let fits = |step: &Step| match step.action {
                Action::Create | Action::Recreate | Action::Update => stage.purpose == Purpose::Converge,
                Action::Delete => stage.purpose == Purpose::Remove,
                Action::Switchover => stage.purpose == Purpose::Switchover,
            };
            for step in stage.steps.iter().filter(|step| !fits(step)) {
                self.found.insert(Violation::WrongStage(step.resource.clone()));
            }
        }
    }

    fn step(&mut self, id: &ResourceId, at: Place, step: &Step) {
        if self.waiting.contains(id) {
            self.found.insert(Violation::StepAndWaiting(id.clone()));
        }
        for on in &step.after {
            let earlier = self.places.get(on).is_some_and(|(stage, index)| *stage == at.0 && *index < at.1);
            if !earlier {
                self.found.insert(Violation::BadAfter { of: id.clone(), on: on.clone() });
            }
        }
        if (step.action == Action::Delete) == self.input.desired.contains(id) {
            self.found.insert(Violation::NotAsDesired(id.clone()));
        }
        self.fits_what_was_seen(id, step);
        if step.action == Action::Delete {
            self.deleted_after_its_dependents(id, at, step);
        } else {
            self.stands_on_its_dependencies(id, at, step);
        }
    }

    fn fits_what_was_seen(&mut self, id: &ResourceId, step: &Step) {
        let violation = match (self.seen(id), step.action) {
            (None | Some(Observation::Unknown { .. }), _) => Violation::TouchesUnknown,
            (Some(Observation::Absent), Action::Recreate | Action::Update | Action::Delete | Action::Switchover)
            | (Some(Observation::Present(_)), Action::Create) => Violation::ActionMismatch,
            (Some(Observation::Present(present)), Action::Recreate) if holds_data(&present.attributes) => {
                Violation::RecreatesData
            }
            (Some(Observation::Present(present)), Action::Delete | Action::Recreate)
                if present.object != step.object =>
            {
                Violation::WrongObject
            }
            (Some(Observation::Absent), Action::Create)
            | (
                Some(Observation::Present(_)),
                Action::Recreate | Action::Update | Action::Delete | Action::Switchover,
            ) => {
                return;
            }
        };
        self.found.insert(violation(id.clone()));
    }

    fn stands_on_its_dependencies(&mut self, id: &ResourceId, at: Place, step: &Step) {
        let below =
            |id: &ResourceId| self.input.desired.get(id).into_iter().flat_map(|found| found.dependencies.keys());
        let direct: BTreeSet<&ResourceId> = below(id).collect();
        let own = self.input.desired.get(id).map(|resource| &resource.dependencies);
        let any = |on: &ResourceId| own.and_then(|own| own.get(on)) == Some(&Dependency::Any);
        let stands = |on: &&ResourceId| match self.places.get(*on) {
            Some((stage, _)) => *stage < at.0 || step.after.contains(*on),
            None => self.is_there(on) && !self.waiting.contains(*on),
        };
        let one_stands = direct.iter().filter(|on| any(on)).any(stands);
        let mut open: Vec<&ResourceId> = direct.iter().copied().collect();
        let mut visited = BTreeSet::new();
        let mut found = Vec::new();
        while let Some(on) = open.pop() {
            if !visited.insert(on) {
                continue;
            }
            match self.places.get(on) {
                Some((stage, _)) if *stage < at.0 || step.after.contains(on) => {}
                // Another that it can do with as well is there before.
                Some((stage, _)) if *stage > at.0 && one_stands && any(on) => {}
                None if self.waiting.contains(on) && one_stands && any(on) => {}
                Some(_) => found.push(Violation::DoesNotWait { of: id.clone(), on: on.clone() }),
                // It is left as it is; what it stands on may still have a step.
                None if self.is_there(on) && !self.waiting.contains(on) => open.extend(below(on)),
                None if direct.contains(on) => found.push(Violation::Missing { of: id.clone(), on: on.clone() }),
                None => {}
            }
        }
        self.found.extend(found);
    }

    fn deleted_after_its_dependents(&mut self, id: &ResourceId, at: Place, step: &Step) {
        if id.kind == Kind::Database || self.is_kept_inside(id) {
            self.found.insert(Violation::LosesRows(id.clone()));
        }
        let desired = self.input.desired;
        let node = |member: Option<&Member>| member.map(|member| member.node.clone());
        let own = node(self.input.observed.strays.get(id).and_then(|stray| stray.member.as_ref()));
        // Nodes use nothing of each other's instances.
        let same = |other: Option<NodeName>| own.is_none() || other.is_none() || own == other;
        let beside = |held: &Resource| held.executor == step.executor && same(node(held.member.as_ref()));
        let beside = self.waiting.iter().find(|id| desired.get(id).is_some_and(beside));
        if let Some(waiting) = beside {
            let waiting = (*waiting).clone();
            self.found.insert(Violation::DeletedBesideWaiting { of: id.clone(), waiting });
        }
        let strays = &self.input.observed.strays;
        for (above, _) in strays.iter().filter(|(_, stray)| stray.dependencies.contains(id)) {
            let in_circle = strays.get(id).is_some_and(|stray| reaches(self.input, &stray.dependencies, above));
            if above == id || in_circle || self.input.desired.contains(above) || self.is_kept_inside(above) {
                continue;
            }
            let waits = match self.places.get(above) {
                Some((stage, _)) => *stage < at.0 || step.after.contains(above),
                None => matches!(self.seen(above), Some(Observation::Absent)) || is_a_state(above.kind),
            };
            if !waits {
                self.found.insert(Violation::DoesNotWait { of: id.clone(), on: above.clone() });
            }
        }
    }

    /// Whether it is part of the data of a Postgres that is not desired any more.
    fn is_kept_inside(&self, id: &ResourceId) -> bool {
        let inside = [Kind::Role, Kind::Database, Kind::Extension, Kind::Script].contains(&id.kind);
        let stays = |kind| self.input.desired.in_order().any(|resource| resource.id.kind == kind);
        let strays = &self.input.observed.strays;
        let goes = |postgres: &ResourceId| {
            [Kind::Instance, Kind::Service].contains(&postgres.kind)
                && !self.input.desired.contains(postgres)
                && self.seen(postgres) != Some(&Observation::Absent)
                && strays.get(id).is_some_and(|stray| reaches(self.input, &stray.dependencies, postgres))
        };
        inside && (!stays(Kind::Instance) || strays.keys().any(goes))
    }

    fn nothing_forgotten(&mut self) {
        for resource in self.input.desired.in_order() {
            let id = &resource.id;
            if self.places.contains_key(id) || self.waiting.contains(id) {
                continue;
            }
            let settled = match self.seen(id) {
                Some(Observation::Present(present)) => {
                    !present.needs_recreate
                        && present.error.is_none()
                        && !self.input.forced.contains(id)
                        && may_stay(resource, &present.attributes)
                }
                None | Some(Observation::Absent | Observation::Unknown { .. }) => false,
            };
            if !settled {
                self.found.insert(Violation::Forgotten(id.clone()));
            }
            let changed = resource
                .dependencies
                .iter()
                .find(|(on, why)| **why == Dependency::Content && self.places.contains_key(on));
            if let Some((from, _)) = changed {
                self.found.insert(Violation::NotCascaded { of: id.clone(), from: from.clone() });
            }
        }
        for (id, observation) in &self.input.observed.resources {
            let spoken_for = self.places.contains_key(id) || self.waiting.contains(id) || self.is_kept_inside(id);
            let gone = match observation {
                Observation::Present(_) => false,
                Observation::Absent => true,
                Observation::Unknown { .. } => is_a_state(id.kind),
            };
            if !self.input.desired.contains(id) && !spoken_for && !gone {
                self.found.insert(Violation::Forgotten(id.clone()));
            }
        }
    }
}

/// Whether `target` is among `from` or under them.
fn reaches(input: &Input<'_>, from: &BTreeSet<ResourceId>, target: &ResourceId) -> bool {
    let mut open: Vec<&ResourceId> = from.iter().collect();
    let mut visited = BTreeSet::new();
    while let Some(id) = open.pop() {
        if id == target {
            return true;
        }
        if visited.insert(id) {
            open.extend(input.observed.strays.get(id).into_iter().flat_map(|stray| &stray.dependencies));
        }
    }
    false
}

/// Not a thing but a state of one: when nobody wants it and it cannot be seen, there is nothing to delete.
fn is_a_state(kind: Kind) -> bool {
    [Kind::Instance, Kind::Etcd].contains(&kind)
}

/// What a delete and a create would lose, or bring into disorder.
fn holds_data(attributes: &Attributes) -> bool {
    match attributes {
        Attributes::Record { .. }
        | Attributes::Directory { .. }
        | Attributes::PatroniConfig(_)
        | Attributes::Role(_)
        | Attributes::Database { .. }
        | Attributes::Extension { .. }
        | Attributes::Script { .. } => true,
        Attributes::File { .. }
        | Attributes::Certificate(_)
        | Attributes::Network { .. }
        | Attributes::Service(_)
        | Attributes::EtcdMember { .. }
        | Attributes::Etcd { .. }
        | Attributes::EtcdUser { .. }
        | Attributes::Instance(_) => false,
    }
}

/// Whether what is there may be left alone. Only kinds with open attributes, and resources that name what may differ,
/// are allowed any difference at all.
fn may_stay(resource: &Resource, observed: &Attributes) -> bool {
    resource.attributes == *observed || resource.id.kind == Kind::Extension || !resource.may_differ.is_empty()
}
