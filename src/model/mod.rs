//! The nouns of pgmoor: ids, the accepted spec, resources and their graph, what was observed, records, health.
//!
//! Architecture invariant: this room is pure. It knows no clock, no network, no disk, no async and no other room.

pub mod catalogue;
pub mod digest;
#[cfg(test)]
pub(crate) mod fixture;
pub mod graph;
pub mod health;
pub mod ids;
pub mod labels;
pub mod observed;
pub mod parameters;
pub mod record;
pub mod resource;
pub mod role;
pub mod secret;
pub mod service;
pub mod spec;

pub use catalogue::Catalogue;
pub use digest::Digest;
pub use graph::{Graph, GraphError};
pub use health::Health;
pub use ids::{
    ControllerId, DatabaseId, FleetHosts, FleetId, HostId, HostPorts, InstanceId, NodeHosts, NodeName, Scope,
    ServiceInstanceId, TaskId,
};
pub use labels::HostLabels;
pub use observed::{Observation, Observed, Present, Standing, Stray};
pub use record::{ChosenHost, EtcdChange, EtcdJoined, FleetRecord, HostStanding, Placement, Record};
pub use resource::{Attributes, Dependency, Executor, Kind, Member, Payload, Resource, ResourceId};
pub use secret::Secret;
pub use spec::AcceptedSpec;
