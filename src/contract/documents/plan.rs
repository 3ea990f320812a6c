//! `plan`: what pgmoor will do, is doing, or waits for. It shows no secret: passwords and file contents are no
//! attributes, so a change of one shows as a digest or as a flag.

use serde::{Deserialize, Serialize};

use super::{NodePlacement, Time};
use crate::model::{DatabaseId, Digest};

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanDoc {
    /// The database.
    pub database: DatabaseId,
    /// Proposed, pending, applying, waiting or done.
    pub state: PlanState,
    /// The digest of the plan: equal inputs give equal plans.
    pub digest: Digest,
    /// The digest of the spec that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Digest>,
    /// How many resources are created, updated, recreated and deleted.
    pub counts: Counts,
    /// The worst disruption of all steps.
    pub disruption: Disruption,
    /// What is interrupted, and for how long; empty: nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interruptions: Vec<Interruption>,
    /// Whether a person must approve of the interruptions, and the digest that names exactly these.
    #[serde(default)]
    pub approval: PlanApproval,
    /// What only shows when it is applied (a port that is chosen then, an image that is pulled then), and what is not
    /// applied at all: a script that ran already with other statements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<PlanNote>,
    /// Which hosts pgmoor chose for the nodes whose spec leaves them open, or would choose now, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<NodePlacement>,
    /// The stages: one after another, with a new look at the world between them.
    pub stages: Vec<PlanStage>,
    /// What must come first, when it cannot go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<PlanWait>,
    /// When the plan was made or changed its state.
    pub updated_at: Time,
}

impl PlanDoc {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.iter().all(|stage| stage.steps.is_empty())
    }
}

/// What becomes of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    /// An answer to the question what would happen.
    Proposed,
    /// It waits for a person's approval; what has nothing to do with it goes on.
    Pending,
    /// Its steps run.
    Applying,
    /// It cannot go on; `waiting` says why.
    Waiting,
    /// The world is as the spec asks.
    Done,
}

/// One thing that runs and is interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Interruption {
    /// The instance, as `instance::name`; of what ends for good, its service.
    pub what: String,
    /// Restart or replace.
    pub disruption: Disruption,
    /// Whether it ends for good.
    pub ends: bool,
    /// How long it is expected to be down; none when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime: Option<Downtime>,
}

/// An expected downtime, from the order to "it serves again".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Downtime {
    /// Milliseconds.
    pub expected_ms: u64,
    /// From what it is known.
    pub basis: DowntimeBasis,
    /// How many measures there are; 0 when it is assumed.
    pub measures: u32,
}

/// From what a downtime is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DowntimeBasis {
    /// The median of what earlier interruptions of this database took.
    Measured,
    /// None was measured yet: 5 s for a restart, 20 s for a replaced container.
    Assumed,
}

/// Whether a person must approve of what a plan interrupts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanApproval {
    /// Not needed, needed, or given.
    pub state: ApprovalState,
    /// The digest of the interruptions and of what they lead to: what `commands/apply` takes. None: nothing is
    /// interrupted, or a port is yet to be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nothing is interrupted, or the spec's `approval` is `auto`.
    #[default]
    NotNeeded,
    /// Nothing of it is done before `commands/apply` comes with the digest.
    Needed,
    /// It was approved, and what is left of it is a part of that.
    Given,
}

/// Something that only shows when a plan is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanNote {
    /// JSON pointer into the spec.
    pub pointer: String,
    /// What, as a sentence for people.
    pub message: String,
}

/// How many resources a plan touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Counts {
    /// Made new.
    pub create: u32,
    /// Changed in place.
    pub update: u32,
    /// Removed and made again.
    pub recreate: u32,
    /// Removed.
    pub delete: u32,
    /// Primaries that hand their role to a replica.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub switchover: u32,
}

/// Whether there is none.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Steps between two looks at the world.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanStage {
    /// The steps, each after all that it depends on.
    pub steps: Vec<PlanStep>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanStep {
    /// What is done.
    pub action: Action,
    /// To what: `kind::name`.
    pub resource: String,
    /// Who does it: `host h`, `primary of n1`, `manager`.
    pub executor: String,
    /// Why.
    pub reason: Reason,
    /// The reason in words, when there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Which attributes change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// What clients of the database feel.
    pub disruption: Disruption,
    /// How far it is, once it has begun; none in a plan that is only proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Progress {
    /// Running, done or failed.
    pub state: StepState,
    /// Since when it has been so.
    pub since: Time,
    /// Failed attempts so far.
    pub attempts: u32,
    /// The last error: of a failed step why, of a running one what it waits for, in the words of Docker, Patroni or
    /// Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When a failed step is tried again, at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
}

/// What a step that has begun is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It runs, or waits for what it has ordered.
    Running,
    /// It is done; the next look confirms it.
    Done,
    /// It failed, and is tried again after a back-off.
    Failed,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Makes it.
    Create,
    /// Changes it in place.
    Update,
    /// Removes it and makes it again.
    Recreate,
    /// Removes it.
    Delete,
    /// The instance, a primary, hands its role to a replica of its node and follows it.
    Switchover,
}

/// Why a step is in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is not there.
    DoesNotExist,
    /// It is there in a form that only a new creation mends.
    NeedsRecreate,
    /// The last attempt failed, or it reports an error.
    HasError,
    /// A person asked for it.
    Forced,
    /// Something that it is made from changes.
    DependencyUpdated,
    /// It differs from what is wanted.
    HasDiff,
    /// Nothing wants it any more.
    NotDesired,
    /// It is a primary, and a later stage interrupts it.
    IsInterrupted,
    /// It is a primary, and its host is no longer among those of its node.
    Leaves,
}

/// A changed attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change {
    /// JSON pointer into the resource's attributes.
    pub pointer: String,
    /// The value now; none: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<serde_json::Value>,
    /// The value afterwards; none: there will be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<serde_json::Value>,
}

/// What clients of a database feel, from nothing to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disruption {
    /// Nothing.
    #[default]
    None,
    /// New settings, connections stay.
    Reload,
    /// Postgres restarts: connections break for seconds.
    Restart,
    /// The container is replaced: connections break until the new one serves.
    Replace,
}

/// Why a plan cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanWait {
    /// What waits: `kind::name`; none: the whole plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// For what, as a sentence for people.
    pub reason: String,
    /// Since when it has been said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When it goes on by itself, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}
