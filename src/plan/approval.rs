//! What a plan does to what runs, as a person approves it: which instances are restarted, replaced or ended, and to
//! what they are led.
//!
//! Invariants: equal plans have equal disruptions, and so one digest; what is disrupted is named by what it leads to
//! (the digest of all that the instance is applied with), not by why or how, so it stays the same from stage to stage
//! and over failed attempts; an approval covers what is left only when that is a part of what was approved.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::value::{Action, Disruption, Plan, Purpose, Stage, Step};
use crate::model::{Dependency, Digest, Graph, Kind, ResourceId};

/// What a plan does to one thing that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disrupted {
    /// The instance; of something that runs without being one, and of what ends, the service.
    pub what: ResourceId,
    /// The worst that happens to it: restart or replace.
    pub disruption: Disruption,
    /// The digest of all that it is led to. None: it ends.
    pub toward: Option<Digest>,
}

/// All that a plan disrupts; each thing once, in the order of the ids.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Disruptions(Vec<Disrupted>);

/// How what would be disrupted goes beyond what was approved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Beyond {
    /// It was not among what was approved.
    New,
    /// It is worse than what was approved: a replace instead of a restart, an end instead of either.
    Worse,
    /// It leads to something else than what was approved.
    Elsewhere,
}

impl Disruptions {
    /// What a plan disrupts.
    #[must_use]
    pub fn of(plan: &Plan, desired: &Graph) -> Self {
        let mut found: BTreeMap<ResourceId, Disrupted> = BTreeMap::new();
        for step in plan.steps().filter(|step| step.disruption.disrupts()) {
            let one = disrupted(step, desired);
            let worst = found.entry(one.what.clone()).or_insert_with(|| one.clone());
            worst.disruption = worst.disruption.max(one.disruption);
        }
        Self(found.into_values().collect())
    }

    /// Whether nothing is disrupted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each thing that is disrupted, in the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = &Disrupted> {
        self.0.iter()
    }

    /// The name of exactly this, which a person approves.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }

    /// What of this goes beyond `approved`, and how. Empty: all of it was approved.
    #[must_use]
    pub fn beyond<'a>(&'a self, approved: &Self) -> Vec<(&'a Disrupted, Beyond)> {
        self.0.iter().filter_map(|left| Some((left, left.beyond(approved.get(&left.what))?))).collect()
    }

    /// Whether all of this is a part of `approved`.
    #[must_use]
    pub fn is_part_of(&self, approved: &Self) -> bool {
        self.beyond(approved).is_empty()
    }

    fn get(&self, what: &ResourceId) -> Option<&Disrupted> {
        self.0.iter().find(|one| one.what == *what)
    }
}

impl Disrupted {
    /// Whether it ends for good.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.toward.is_none()
    }

    /// What happens to it, in a word: `restart`, `replace` or `end`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        if self.ends() { "end" } else { self.disruption.as_str() }
    }

    fn beyond(&self, approved: Option<&Self>) -> Option<Beyond> {
        match approved {
            None => Some(Beyond::New),
            Some(approved) if self.ends() != approved.ends() || self.disruption > approved.disruption => {
                Some(Beyond::Worse)
            }
            Some(approved) if self.toward != approved.toward => Some(Beyond::Elsewhere),
            Some(_) => None,
        }
    }
}

impl Beyond {
    /// The difference as a part of a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "is new",
            Self::Worse => "is more than before",
            Self::Elsewhere => "leads to something else",
        }
    }
}

/// The instance that a step disturbs, and what it is led to. A container's instance is what people know; what ends is
/// named by its service, since nobody looks at an instance any more that is not desired.
fn disrupted(step: &Step, desired: &Graph) -> Disrupted {
    let instance = |resource: &&crate::model::Resource| {
        resource.id.kind == Kind::Instance && resource.dependencies.contains_key(&step.resource)
    };
    let ends = step.action == Action::Delete;
    let what = match desired.in_order().find(instance) {
        Some(instance) if !ends => instance.id.clone(),
        Some(_) | None => step.resource.clone(),
    };
    let toward = if ends { None } else { desired.digest(&what).cloned() };
    Disrupted { what, disruption: step.disruption, toward }
}

/// The steps of a stage that must not run while what it disrupts is not approved: the disruptive ones, what these
/// depend on by content and what would be changed in place, and all that comes after any of them. What runs stays
/// exactly as it is until then; what is missing is made, and what has nothing to do with it goes on. Deletes are one
/// act: they wait together.
#[must_use]
pub fn held(stage: &Stage, desired: &Graph) -> BTreeSet<ResourceId> {
    let disruptive = || stage.steps.iter().filter(|step| step.disruption.disrupts()).map(|step| &step.resource);
    if stage.purpose == Purpose::Remove && disruptive().next().is_some() {
        return stage.steps.iter().map(|step| step.resource.clone()).collect();
    }
    let made_from = content_of(disruptive(), desired);
    let mut held = BTreeSet::new();
    for step in &stage.steps {
        let changes = match step.action {
            Action::Update | Action::Recreate => true,
            Action::Create | Action::Delete | Action::Switchover => false,
        };
        let follows = step.after.iter().any(|before| held.contains(before));
        if step.disruption.disrupts() || follows || (changes && made_from.contains(&step.resource)) {
            held.insert(step.resource.clone());
        }
    }
    held
}

/// All that the resources are made from, however far below.
fn content_of<'a>(from: impl Iterator<Item = &'a ResourceId>, desired: &'a Graph) -> BTreeSet<&'a ResourceId> {
    let mut open: Vec<&ResourceId> = from.collect();
    let mut found = BTreeSet::new();
    while let Some(resource) = open.pop().and_then(|id| desired.get(id)) {
        for (id, why) in &resource.dependencies {
            if *why == Dependency::Content && found.insert(id) {
                open.push(id);
            }
        }
    }
    found
}
