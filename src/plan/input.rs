//! What the planner is given: everything it may know, as values.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::value::Action;
use crate::model::{Graph, Observation, Observed, ResourceId, Scope};

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// What the plan covers.
    pub scope: &'a Scope,
    /// What shall be.
    pub desired: &'a Graph,
    /// What was seen. A desired resource without an entry was not looked at: it counts as Unknown.
    pub observed: &'a Observed,
    /// What the last attempts gave, of those that failed and have not succeeded since.
    pub outcomes: &'a BTreeMap<ResourceId, Outcome>,
    /// What a person asked to apply again although it may be as desired.
    pub forced: &'a BTreeSet<ResourceId>,
}

/// The last attempts at a resource, all of which failed. A success removes the entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was tried last.
    pub action: Action,
    /// How often in a row it has failed; at least 1.
    pub attempts: u32,
    /// The last error, as a sentence for people and without secrets.
    pub error: String,
}

impl Outcome {
    /// Whether the failed attempt may have left a half-made thing.
    #[must_use]
    pub fn half_made(&self) -> bool {
        match self.action {
            Action::Create | Action::Recreate => true,
            Action::Update | Action::Delete | Action::Switchover => false,
        }
    }
}

/// The observation of a world in which nothing of `desired` exists yet, for plans that are made without looking.
#[must_use]
pub fn nothing_there(desired: &Graph) -> Observed {
    Observed {
        resources: desired.in_order().map(|resource| (resource.id.clone(), Observation::Absent)).collect(),
        strays: BTreeMap::new(),
    }
}
