//! `events`: what changed, as CloudEvents 1.0 in structured mode.

use serde::{Deserialize, Serialize};

use super::{Change, State, Time};
use crate::contract::faults::Fault;
use crate::model::{DatabaseId, Digest, FleetId, Health, HostId, InstanceId};

/// The version of CloudEvents.
pub const SPEC_VERSION: &str = "1.0";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Event {
    /// `1.0`
    pub specversion: String,
    /// Unique within the source.
    pub id: String,
    /// Who says it: `/pgmoor/v1/{fleet}/databases/{db}`.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// What it happened to: an instance, a role, …; none: the database itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When.
    pub time: Time,
    /// `application/json`
    pub datacontenttype: String,
    /// The details.
    pub data: EventData,
}

/// What can happen. The name of a type is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum EventType {
    /// A spec was accepted.
    #[serde(rename = "dev.pgmoor.spec.accepted")]
    SpecAccepted,
    /// A spec was refused.
    #[serde(rename = "dev.pgmoor.spec.rejected")]
    SpecRejected,
    /// The database's state changed.
    #[serde(rename = "dev.pgmoor.database.state-changed")]
    StateChanged,
    /// The database's or an instance's health changed.
    #[serde(rename = "dev.pgmoor.health.changed")]
    HealthChanged,
    /// Another instance is primary now.
    #[serde(rename = "dev.pgmoor.primary.changed")]
    PrimaryChanged,
    /// pgmoor chose other hosts for a node than before: the message says which, and why.
    #[serde(rename = "dev.pgmoor.placement.changed")]
    PlacementChanged,
    /// A step of a plan was done.
    #[serde(rename = "dev.pgmoor.step.finished")]
    StepFinished,
    /// A step of a plan failed.
    #[serde(rename = "dev.pgmoor.step.failed")]
    StepFailed,
    /// The world was found changed by someone else: what differs from what the applied spec asks, and was not so before.
    #[serde(rename = "dev.pgmoor.drift.found")]
    DriftFound,
    /// What is changed behind our back comes back again and again; its repairs wait longer and longer.
    #[serde(rename = "dev.pgmoor.drift.fight")]
    DriftFight,
    /// Steps of too many databases failed in a row: nothing new begins in the fleet.
    #[serde(rename = "dev.pgmoor.fleet.halted")]
    FleetHalted,
    /// A person said go on after a halt.
    #[serde(rename = "dev.pgmoor.fleet.resumed")]
    FleetResumed,
    /// Someone else wrote to a topic of ours.
    #[serde(rename = "dev.pgmoor.topic.foreign-write")]
    ForeignWrite,
    /// A delete is held, since too many databases were deleted at once.
    #[serde(rename = "dev.pgmoor.deletion.held")]
    DeletionHeld,
    /// A deleted database is gone for good: its data, record and history; its id is free.
    #[serde(rename = "dev.pgmoor.database.purged")]
    Purged,
    /// An image that the database needs on a host arrived there.
    #[serde(rename = "dev.pgmoor.image.arrived")]
    ImageArrived,
    /// A replayed spec was ignored, since it is known to be superseded.
    #[serde(rename = "dev.pgmoor.spec.replay-ignored")]
    ReplayIgnored,
}

/// The details of an event; which are there depends on its type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EventData {
    /// What happened, as a sentence for people.
    pub message: String,
    /// The database's state afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The state before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_state: Option<State>,
    /// The health afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The spec that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// That spec's generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The instance that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The resource that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// What differs there from what is asked; empty when it is not there, or nobody asked for it. Secrets are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// The host whose pgmoor noticed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed_by: Option<HostId>,
    /// How often it happened within ten minutes, or since the fight began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Why a spec was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

impl Event {
    /// An event of a database; `id` is unique within the database's events.
    #[must_use]
    pub fn new(
        fleet: &FleetId,
        database: &DatabaseId,
        id: String,
        kind: EventType,
        time: Time,
        data: EventData,
    ) -> Self {
        Self {
            specversion: SPEC_VERSION.to_owned(),
            id,
            source: format!("/{}/{fleet}/databases/{database}", crate::contract::topics::ROOT),
            kind,
            subject: None,
            time,
            datacontenttype: "application/json".to_owned(),
            data,
        }
    }

    /// The same with a subject.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }
}
