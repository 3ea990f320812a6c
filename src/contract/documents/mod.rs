//! The documents that pgmoor publishes, and the small ones that people publish besides specs.
//!
//! Invariants: keys are snake_case; times are RFC 3339 in UTC; a secret has no field to stand in. Readers ignore keys
//! that they do not know, so a document may grow within a major version; it never loses or redefines a key.

mod command;
mod controller;
mod decision;
mod event;
mod health;
mod history;
mod host;
mod instance;
mod join;
mod plan;
mod status;
mod time;
mod work;

pub use command::{Approve, CommandOutcome, CommandResult};
pub use controller::{Availability, Inventory, OnlineState, SpecSet, SyncMarker};
pub use decision::{DecisionDoc, HeldStep};
pub use event::{Event, EventData, EventType, SPEC_VERSION};
pub use health::HealthDoc;
pub use history::{AcceptedBy, HistoryDoc, PastPlan, PastSpec, PastStep, SpecDiff, Trash};
pub use host::{DockerState, HostInventory, HostStatus, ImageArrival, ImageState};
pub use instance::{InstanceState, Role};
pub use join::{HostAdmission, HostJoin};
pub use plan::{
    Action, ApprovalState, Change, Counts, Disruption, Downtime, DowntimeBasis, Interruption, PlanApproval, PlanDoc,
    PlanNote, PlanStage, PlanState, PlanStep, PlanWait, Progress, Reason, StepState,
};
pub use status::{
    Condition, ConditionStatus, ConditionType, Connection, ConnectionUser, InstanceSummary, NodeConnection,
    NodePlacement, ObservedSpec, PlacedHost, State, Status, Verdict, VerdictResult,
};
pub use time::Time;
pub use work::{HostAnswer, HostWork};

/// The bytes of a document as they are published.
#[must_use]
pub fn to_bytes<T: serde::Serialize>(document: &T) -> Vec<u8> {
    // Our documents have text keys and no custom serialisers that fail, so this cannot be empty; a test holds it.
    serde_json::to_vec(document).unwrap_or_default()
}
