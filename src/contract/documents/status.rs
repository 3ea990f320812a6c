//! `status`: the one document that says how a database stands and what became of the last spec.
//!
//! Invariants: `observed` names the last *accepted* spec, which the state and the connection are about; `verdict` is
//! about the last spec that *came*, so a refused one shows beside the state of the last good one. No field can hold a
//! password.

use serde::{Deserialize, Serialize};

use super::{Role, Time};
use crate::contract::faults::Fault;
use crate::model::{DatabaseId, Digest, Health, HostId, InstanceId, NodeName};

/// How a database stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Status {
    /// The database.
    pub database: DatabaseId,
    /// Where it is in its life.
    pub state: State,
    /// The last accepted spec: the user's acknowledgement. None: no spec was ever accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedSpec>,
    /// What became of the last spec that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What is to be said besides; one of each type at most, in the order of the types.
    pub conditions: Vec<Condition>,
    /// The instances, in the order of their ids.
    pub instances: Vec<InstanceSummary>,
    /// Which hosts pgmoor chose for the nodes whose spec leaves them open, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<NodePlacement>,
    /// How to reach it, once it can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// Grows by one with each status of the database that this epoch publishes.
    pub seq: u64,
    /// The epoch of the controller that says it, as in its availability.
    pub epoch: u64,
    /// When this was decided.
    pub updated_at: Time,
}

/// Where a database is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its spec is accepted, work has not begun. With `reconcile` at `observe` or `paused` it does not begin.
    Pending,
    /// It is made for the first time.
    Creating,
    /// It exists and is changed to what a newer spec asks, or back to what the spec asks.
    Modifying,
    /// It is as the observed spec asks; or, with `reconcile` at `observe`, it was, and the condition `Drifted` says how
    /// it differs.
    Available,
    /// It serves, each node by its primary, and instances of it are on hosts that do not answer: the condition `Waiting`
    /// says which. Nothing else is left to do.
    Degraded,
    /// A deadline has passed: the condition `Stalled` says what it waits for. It goes on when that comes.
    Stalled,
    /// A step failed for good until something changes: the condition `Ready` says which.
    Failed,
    /// It is taken away.
    Deleting,
    /// It is gone; its data is in the trash.
    Deleted,
    /// Nothing exists: the only spec that ever came was refused.
    Rejected,
}

/// The accepted spec that a status is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ObservedSpec {
    /// The spec's own generation, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// SHA-256 of the payload as it was published.
    pub digest: Digest,
    /// The spec's own token, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
}

/// What became of a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Verdict {
    /// Accepted or rejected.
    pub result: VerdictResult,
    /// SHA-256 of the payload as it was published.
    pub digest: Digest,
    /// The spec's own generation, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Everything that is wrong with it; empty when it was accepted.
    pub faults: Vec<Fault>,
    /// When it was judged.
    pub at: Time,
}

/// Accepted or rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictResult {
    /// It is the desired state now.
    Accepted,
    /// It changed nothing.
    Rejected,
}

/// Something to be said about a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The reason in one word, for programs: `PortInUse`, `Settled`, …
    pub reason: String,
    /// The reason as a sentence for people, with the last words of Docker or Postgres where they are the cause.
    pub message: String,
    /// What to do about it, where there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Since when `status` has been so.
    pub since: Time,
}

/// The kinds of conditions. The set is closed within a version of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ConditionType {
    /// The database serves as the observed spec asks.
    Ready,
    /// Steps are running.
    Progressing,
    /// A deadline has passed.
    Stalled,
    /// Something must come first, and it is known what.
    Waiting,
    /// Steps of too many databases failed in a row: nothing is made and nobody is disturbed in the fleet until a person
    /// says go on.
    Halted,
    /// What the plan interrupts waits for a person: the message names the digest and the command.
    ApprovalNeeded,
    /// Something differs from the spec that nobody asked to change: it is being repaired, or `reconcile` is `observe`.
    Drifted,
    /// What differs comes back as often as it is repaired: somebody works against the spec. Repairs wait longer and longer.
    Fight,
    /// `reconcile` is `observe`: nothing is applied, whatever differs.
    Observed,
    /// `reconcile` is `paused`: nothing is looked at but health, nothing is applied.
    Paused,
    /// The spec holds a password; its topic cannot unsay it.
    SecretInSpec,
    /// The broker had forgotten the spec.
    BrokerAmnesia,
    /// The broker brought a spec back that is known to be superseded.
    BrokerRewound,
    /// A resync may be incomplete.
    SpecSetIncomplete,
    /// Too many deletes at once: this one waits for a confirmation.
    DeletionHeld,
    /// The database has several nodes, and each is a database of its own: what is written to one is in no other.
    NodesApart,
    /// A node has replicas, and still nobody takes over by itself when its primary's host is lost.
    NoAutomaticFailover,
    /// The spec names a host that was removed from the fleet: the database goes on without its instances there.
    HostRemoved,
    /// Hosts that pgmoor chose are to be left, or gone, or too few, and no other can be chosen now: the message says of each
    /// why. It is tried again all the time.
    PlacementIncomplete,
    /// A script of the spec ran with other statements than it has now. It runs once, so the new ones are not run.
    ScriptChanged,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// We cannot see it.
    Unknown,
}

/// An instance in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InstanceSummary {
    /// The instance.
    pub instance: InstanceId,
    /// Its node.
    pub node: NodeName,
    /// Its host.
    pub host: HostId,
    /// Primary or replica, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether commits of its primary wait for this replica (see `synchronous` of `instances/{instance}/state`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synchronous: bool,
    /// How it is.
    pub health: Health,
    /// For example `17.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<String>,
}

/// The hosts that pgmoor chose for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodePlacement {
    /// The node.
    pub node: NodeName,
    /// Its hosts, in the order in which they were chosen.
    pub hosts: Vec<PlacedHost>,
}

/// A host that pgmoor chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlacedHost {
    /// It.
    pub host: HostId,
    /// Why it was chosen, as it stood then, as a clause for people.
    pub reason: String,
}

/// How to reach a database; passwords are in the 0600 credentials file on its host. Of several nodes this is the first in
/// the order of the spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Connection {
    /// Addresses, the primary's first.
    pub hosts: Vec<String>,
    /// The published port, the first host's; none: it is reachable on its own network and on its host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The name of the Postgres database.
    pub database: String,
    /// A libpq URI without a password, for reading and writing: of several instances it names all, and libpq finds the
    /// primary. Without a published port it has the names that the instances have on `network`.
    pub uri: String,
    /// The same for reading only, where there are replicas: one of them, else the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri_read_only: Option<String>,
    /// The network to join to reach it without a published port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Who can log in, at each node.
    pub users: Vec<ConnectionUser>,
    /// Where there are several nodes: how to reach each, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeConnection>,
}

/// How to reach one of several nodes: as in [`Connection`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeConnection {
    /// The node.
    pub node: NodeName,
    /// Addresses, the primary's first.
    pub hosts: Vec<String>,
    /// The published port, the first host's; none: it is reachable on the database's network and on its host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A libpq URI without a password, for reading and writing.
    pub uri: String,
    /// The same for reading only, where there are replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri_read_only: Option<String>,
}

/// A user of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConnectionUser {
    /// The role's name.
    pub username: String,
    /// Whether it owns the database.
    pub db_owner: bool,
}
