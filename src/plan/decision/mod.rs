//! A decision as a value that may leave the host: all that the planner was given and the plan that it made of it, without
//! a secret. So somebody else can let the planner decide again.
//!
//! Invariant: veiled inputs give the veiled plan: `plan(veil(input)) == veil(plan(input))`.

mod replay;
mod veil;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use replay::{Difference, End, Replayed, Round};
pub use veil::{Error, Veil};

use super::input::{Input, Outcome};
use super::value::Plan;
use crate::model::observed::pairs;
use crate::model::{
    Attributes, Dependency, Executor, Graph, GraphError, Member, Observed, Payload, Resource, ResourceId, Scope,
};

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What it was about.
    pub scope: Scope,
    /// What was to be.
    pub desired: Vec<Wanted>,
    /// What was seen.
    pub observed: Observed,
    /// The last attempts, of those that had failed.
    #[serde(with = "pairs")]
    pub outcomes: BTreeMap<ResourceId, Outcome>,
    /// What a person asked to apply again.
    pub forced: BTreeSet<ResourceId>,
    /// What the planner made of it.
    pub plan: Plan,
}

/// A desired resource without what it carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name.
    pub id: ResourceId,
    /// Who does the work.
    pub executor: Executor,
    /// The instance that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    /// What must be there first, and why.
    #[serde(with = "pairs")]
    pub dependencies: BTreeMap<ResourceId, Dependency>,
    /// What it shall be.
    pub attributes: Attributes,
    /// JSON pointers into the attributes that may differ without an update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_differ: Vec<String>,
}

impl Decision {
    /// The decision that `plan` was made of `input`, veiled.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(input: &Input<'_>, plan: &Plan, veil: &Veil<'_>) -> Result<Self, Error> {
        let graph = veil.graph(input.desired)?;
        let wanted = |resource: &Resource| Wanted {
            id: resource.id.clone(),
            executor: resource.executor.clone(),
            member: resource.member.clone(),
            dependencies: resource.dependencies.clone(),
            attributes: resource.attributes.clone(),
            may_differ: resource.may_differ.clone(),
        };
        let outcome = |(id, outcome): (&ResourceId, &Outcome)| {
            (id.clone(), Outcome { error: veil.error(&outcome.error), ..outcome.clone() })
        };
        Ok(Self {
            scope: input.scope.clone(),
            observed: veil.observed(input.observed, (input.desired, &graph))?,
            desired: graph.in_order().map(wanted).collect(),
            outcomes: input.outcomes.iter().map(outcome).collect(),
            forced: input.forced.clone(),
            plan: veil.plan(plan),
        })
    }

    /// What was to be, as a graph.
    fn graph(&self) -> Result<Graph, GraphError> {
        Graph::new(self.desired.iter().map(|wanted| Resource {
            id: wanted.id.clone(),
            executor: wanted.executor.clone(),
            member: wanted.member.clone(),
            dependencies: wanted.dependencies.clone(),
            attributes: wanted.attributes.clone(),
            may_differ: wanted.may_differ.clone(),
            payload: Payload::None,
        }))
    }
}
