//! The plan as a value: stages of steps, and what waits. Closed enums and ordered collections only, so equal inputs
//! give equal bytes.
//!
//! Invariant: nothing in a plan is a secret. Attributes hold none, and digests of content are not shown.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Digest, Executor, Kind, ResourceId, Scope};

/// The whole journey from what was observed to what is desired. The executor runs the first stage, looks again, and
/// plans again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What it covers.
    pub scope: Scope,
    /// In this order; none is empty.
    pub stages: Vec<Stage>,
    /// What cannot be decided or done now, and why.
    pub waiting: Vec<Waiting>,
}

/// Steps that may run without a new look at the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What it does, and so why it is apart from its neighbours.
    pub purpose: Purpose,
    /// Each after all that it must wait for. Steps that do not wait for each other run in parallel.
    pub steps: Vec<Step>,
}

/// What a stage is for. A stage ends only where safety needs a new look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Creates and updates.
    Converge,
    /// A primary hands its role to a replica.
    Switchover,
    /// Deletes of what is no longer desired, once everything that is desired stands.
    Remove,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// To what.
    pub resource: ResourceId,
    /// What.
    pub action: Action,
    /// By whom.
    pub executor: Executor,
    /// Why.
    pub reason: Reason,
    /// How what is there differs from what is desired. Empty for creates and deletes.
    pub changes: Vec<Change>,
    /// What it does to what runs now.
    pub disruption: Disruption,
    /// Steps of the same stage that must succeed first.
    pub after: BTreeSet<ResourceId>,
    /// The object to delete, by its id in the outside system: for deletes, and for the first half of a recreate.
    pub object: Option<String>,
    /// Of a switchover: the instances that may take the role. When it runs, the one of them does that streams with the
    /// least lag, [`LAG_BYTES_MAX`](super::LAG_BYTES_MAX) at most; of equal ones the first.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub candidates: BTreeSet<ResourceId>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Makes it.
    Create,
    /// Deletes what is there, and makes it. Never for what holds data.
    Recreate,
    /// Changes it in place.
    Update,
    /// Deletes it.
    Delete,
    /// The instance hands its role as primary to another of its node, and follows it.
    Switchover,
}

/// Why a step is there; the first that holds, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Reason {
    /// It is desired and not there.
    DoesNotExist,
    /// It is there in a form that only a new creation mends.
    NeedsRecreate,
    /// Something is wrong with it, or the last attempt failed.
    HasError {
        /// What, as a sentence for people.
        error: String,
    },
    /// A person asked for it.
    Forced,
    /// What it is made from has changed.
    DependencyUpdated {
        /// Steps of this plan that change it; none when an earlier plan did and this one was not done then.
        by: BTreeSet<ResourceId>,
    },
    /// It differs from what is desired.
    HasDiff,
    /// It is ours, it is there, and nobody wants it.
    NotDesired,
    /// A primary: a later stage interrupts it.
    IsInterrupted,
    /// A primary: its host is no longer among those of its node.
    Leaves,
}

/// A difference between what is there and what is desired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// JSON pointer into the attributes.
    pub pointer: String,
    /// What is there. None: nothing, or it is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What is desired. None: nothing, or it is not shown. Both none: it changed and is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// What a step does to what runs now, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disruption {
    /// Nothing notices.
    #[default]
    None,
    /// Postgres reads its files again; sessions go on.
    Reload,
    /// Postgres restarts in its container; sessions end.
    Restart,
    /// The container goes, and where it is still wanted another takes its place.
    Replace,
}

/// Something that no step of this plan touches although it may need one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What waits.
    pub resource: ResourceId,
    /// What would be done to it; none when that cannot be known.
    pub action: Option<Action>,
    /// For what.
    pub on: WaitsFor,
}

/// What something waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "for")]
pub enum WaitsFor {
    /// To be seen: Unknown is inert (rule 2).
    Unknown {
        /// Why it could not be seen, as a sentence for people.
        why: String,
    },
    /// For what it depends on, which itself waits.
    Dependencies {
        /// The direct ones that wait.
        on: BTreeSet<ResourceId>,
    },
    /// For what depends on it to go first, which itself waits.
    Dependents {
        /// Those that wait.
        on: BTreeSet<ResourceId>,
    },
    /// For a person's word: no plan does this by itself.
    Person {
        /// Why, as a sentence for people.
        why: String,
    },
    /// For the other instances of its node: if it were interrupted now, two would be away, or nobody could take over.
    Node {
        /// What is missing, as a sentence for people.
        why: String,
    },
    /// A delete: for what is desired at the same place and waits, since it may still use what is to be deleted.
    Desired {
        /// Those that wait.
        on: BTreeSet<ResourceId>,
    },
}

impl Plan {
    /// A plan with nothing in it.
    #[must_use]
    pub fn empty(scope: Scope) -> Self {
        Self { scope, stages: Vec::new(), waiting: Vec::new() }
    }

    /// Whether there is nothing to do now. Something may still be waiting: see [`Plan::is_settled`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Whether the world is as desired: nothing to do, nothing waiting.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.stages.is_empty() && self.waiting.is_empty()
    }

    /// All steps, in the order of their stages.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flat_map(|stage| &stage.steps)
    }

    /// The step for a resource, if there is one.
    #[must_use]
    pub fn step(&self, resource: &ResourceId) -> Option<&Step> {
        self.steps().find(|step| step.resource == *resource)
    }

    /// The digest of the whole plan.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }

    /// The worst that any step does to what runs now.
    #[must_use]
    pub fn disruption(&self) -> Disruption {
        self.steps().map(|step| step.disruption).max().unwrap_or_default()
    }
}

impl Reason {
    /// The reason as a part of a sentence for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::DoesNotExist => "does not exist".to_owned(),
            Self::NeedsRecreate => "needs to be made anew".to_owned(),
            Self::HasError { error } => format!("has an error: {error}"),
            Self::Forced => "asked for".to_owned(),
            Self::DependencyUpdated { by } if by.is_empty() => "what it is made from was updated before".to_owned(),
            Self::DependencyUpdated { by } => format!("updated: {}", names(by)),
            Self::HasDiff => "differs".to_owned(),
            Self::NotDesired => "no longer wanted".to_owned(),
            Self::IsInterrupted => "it is interrupted next".to_owned(),
            Self::Leaves => "its host leaves the node".to_owned(),
        }
    }
}

impl WaitsFor {
    /// What it waits for, as a part of a sentence for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Unknown { why } => format!("it cannot be seen: {why}"),
            Self::Dependencies { on } => format!("it depends on {}", names(on)),
            Self::Dependents { on } => format!("{} must go first", names(on)),
            Self::Person { why } => why.clone(),
            Self::Node { why } => format!("its node cannot do without it: {why}"),
            Self::Desired { on } => format!("{} may still use it", names(on)),
        }
    }
}

fn names(ids: &BTreeSet<ResourceId>) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Step {
    /// Whether it changes nothing by itself and only waits until something is ready: then it can be left at any moment.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        match self.action {
            Action::Create | Action::Recreate | Action::Update => {
                matches!(self.resource.kind, Kind::Instance | Kind::Etcd)
            }
            Action::Delete | Action::Switchover => false,
        }
    }
}

impl Action {
    /// Whether the resource stands afterwards.
    #[must_use]
    pub fn establishes(self) -> bool {
        match self {
            Self::Create | Self::Recreate | Self::Update | Self::Switchover => true,
            Self::Delete => false,
        }
    }
}

impl Disruption {
    /// Whether what runs is interrupted: sessions end.
    #[must_use]
    pub fn disrupts(self) -> bool {
        match self {
            Self::None | Self::Reload => false,
            Self::Restart | Self::Replace => true,
        }
    }

    /// The class as it stands in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Replace => "replace",
        }
    }
}
