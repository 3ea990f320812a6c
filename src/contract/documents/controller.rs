//! What controllers say about themselves, and the inventory that a user may publish.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConditionStatus, Time};
use crate::model::{ControllerId, DatabaseId};

/// Whether a controller is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Availability {
    /// Online, offline (it said goodbye) or lost (its will said so).
    pub state: OnlineState,
    /// Which controller.
    pub controller: ControllerId,
    /// Grows with each start of the controller: a will with a lower epoch than the last `online` is old news.
    pub epoch: u64,
    /// Since when; of a will: when the connection was made whose end it tells.
    pub since: Time,
    /// The controller's version.
    pub version: String,
    /// Whether it knows all specs that the broker holds, once it has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_set: Option<SpecSet>,
}

/// Whether a controller knows all specs that the broker holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SpecSet {
    /// Whether it does; unknown: the broker could not be probed.
    pub complete: ConditionStatus,
    /// The reason in one word, for programs: `InventoryFulfilled`, `InventoryNotFulfilled`, `BelowReplayLimit`,
    /// `ReplayLimitReached`, `ReplayLimitUnknown`, `OwnBroker`.
    pub reason: String,
    /// The reason as a sentence for people, with what to do.
    pub message: String,
    /// How many specs came by the present connection.
    pub specs: u64,
    /// The revision of the inventory that was gone by, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory_revision: Option<u64>,
    /// Databases of the inventory whose spec the broker does not have; a hundred at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<DatabaseId>,
}

/// The state of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnlineState {
    /// It is connected.
    Online,
    /// It stopped in good order.
    Offline,
    /// The broker lost it.
    Lost,
}

/// A marker that a controller sends to itself: what was published before it has come through when it arrives. Also what
/// it retains for a moment to learn how much the broker replays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SyncMarker {
    /// The epoch of the controller that sent it; 0 in a probe.
    pub epoch: u64,
    /// Grows with each marker of the epoch.
    pub marker: u64,
}

/// Which databases there shall be, so that a resync is provably complete. It never deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Grows with each change of the inventory.
    pub revision: u64,
    /// The databases, each with the generation of its spec (0 where the spec has none).
    pub databases: BTreeMap<DatabaseId, u64>,
}
