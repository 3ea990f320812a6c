//! The kinds of documents, and the JSON Schema of each as it is embedded in the binary.
//!
//! Kinds whose payload is not JSON of ours (`command`, the payload of `plan`: a spec) have the schema of what they hold.
//!
//! Invariant: `schemas/v1/{kind}.schema.json` is generated from the Rust types by `contract::generated`; a test fails
//! when a file differs.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::wire::DatabaseSpec;
use super::{commands, documents};

pub(super) use super::wire::patterns::{CPUS, HOST_LABEL, IMAGE, MEMORY, POSTGRES_VERSION};

/// A kind of document on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The desired database.
    DatabaseSpec,
    /// The state of a database.
    Status,
    /// Health of a database or an instance.
    Health,
    /// The state of one Postgres.
    InstanceState,
    /// A plan.
    Plan,
    /// An event.
    Event,
    /// A request.
    Command,
    /// The payload of the request `apply`.
    Approve,
    /// The payload of a request that takes nothing.
    Nothing,
    /// Which two accepted specs to compare.
    DiffRequest,
    /// Which decision to tell.
    DecisionRequest,
    /// Which accepted spec to go back to.
    RollbackRequest,
    /// Which host a request is about.
    HostRequest,
    /// Which host is to be removed, and how.
    HostRemoval,
    /// The answer to a request.
    CommandResult,
    /// Inventory and health of a host.
    HostStatus,
    /// Work for a host.
    HostWork,
    /// What became of it.
    HostAnswer,
    /// A host asks to be let in.
    HostJoin,
    /// What it is told.
    HostAdmission,
    /// Whether a controller is online.
    Availability,
    /// A controller's marker.
    SyncMarker,
    /// Which databases there shall be.
    Inventory,
    /// A JSON Schema.
    JsonSchema,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 24] = [
        Self::DatabaseSpec,
        Self::Status,
        Self::Health,
        Self::InstanceState,
        Self::Plan,
        Self::Event,
        Self::Command,
        Self::Approve,
        Self::Nothing,
        Self::DiffRequest,
        Self::DecisionRequest,
        Self::RollbackRequest,
        Self::HostRequest,
        Self::HostRemoval,
        Self::CommandResult,
        Self::HostStatus,
        Self::HostWork,
        Self::HostAnswer,
        Self::HostJoin,
        Self::HostAdmission,
        Self::Availability,
        Self::SyncMarker,
        Self::Inventory,
        Self::JsonSchema,
    ];

    /// The kind's name in topics and file names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DatabaseSpec => "database-spec",
            Self::Status => "status",
            Self::Health => "health",
            Self::InstanceState => "instance-state",
            Self::Plan => "plan",
            Self::Event => "event",
            Self::Command => "command",
            Self::Approve => "approve",
            Self::Nothing => "nothing",
            Self::DiffRequest => "diff-request",
            Self::DecisionRequest => "decision-request",
            Self::RollbackRequest => "rollback-request",
            Self::HostRequest => "host-request",
            Self::HostRemoval => "host-removal",
            Self::CommandResult => "command-result",
            Self::HostStatus => "host-status",
            Self::HostWork => "host-work",
            Self::HostAnswer => "host-answer",
            Self::HostJoin => "host-join",
            Self::HostAdmission => "host-admission",
            Self::Availability => "availability",
            Self::SyncMarker => "sync-marker",
            Self::Inventory => "inventory",
            Self::JsonSchema => "json-schema",
        }
    }

    /// The kind whose schema it has: a command's payload is a spec.
    #[must_use]
    pub fn schema_name(self) -> &'static str {
        match self {
            Self::Command => Self::DatabaseSpec.as_str(),
            Self::DatabaseSpec
            | Self::Status
            | Self::Health
            | Self::InstanceState
            | Self::Plan
            | Self::Event
            | Self::Approve
            | Self::Nothing
            | Self::DiffRequest
            | Self::DecisionRequest
            | Self::RollbackRequest
            | Self::HostRequest
            | Self::HostRemoval
            | Self::CommandResult
            | Self::HostStatus
            | Self::HostWork
            | Self::HostAnswer
            | Self::HostJoin
            | Self::HostAdmission
            | Self::Availability
            | Self::SyncMarker
            | Self::Inventory
            | Self::JsonSchema => self.as_str(),
        }
    }

    /// Whether there is a schema file of its name.
    #[must_use]
    pub fn has_own_schema(self) -> bool {
        self.schema_name() == self.as_str()
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The JSON Schema of a kind, as `schemas/v1/{kind}.schema.json` has it.
#[must_use]
pub fn schema(kind: Kind) -> &'static str {
    macro_rules! file {
        ($name:literal) => {
            include_str!(concat!("../../schemas/v1/", $name, ".schema.json"))
        };
    }
    match kind {
        Kind::DatabaseSpec | Kind::Command => file!("database-spec"),
        Kind::Status => file!("status"),
        Kind::Health => file!("health"),
        Kind::InstanceState => file!("instance-state"),
        Kind::Plan => file!("plan"),
        Kind::Event => file!("event"),
        Kind::Approve => file!("approve"),
        Kind::Nothing => file!("nothing"),
        Kind::DiffRequest => file!("diff-request"),
        Kind::DecisionRequest => file!("decision-request"),
        Kind::RollbackRequest => file!("rollback-request"),
        Kind::HostRequest => file!("host-request"),
        Kind::HostRemoval => file!("host-removal"),
        Kind::CommandResult => file!("command-result"),
        Kind::HostStatus => file!("host-status"),
        Kind::HostWork => file!("host-work"),
        Kind::HostAnswer => file!("host-answer"),
        Kind::HostJoin => file!("host-join"),
        Kind::HostAdmission => file!("host-admission"),
        Kind::Availability => file!("availability"),
        Kind::SyncMarker => file!("sync-marker"),
        Kind::Inventory => file!("inventory"),
        Kind::JsonSchema => file!("json-schema"),
    }
}

/// The JSON Schema of a kind, made from the Rust types.
#[must_use]
pub fn value(kind: Kind) -> Value {
    let generator = || SchemaSettings::draft2020_12().with_transform(RecursiveTransform(plain_types)).into_generator();
    let schema = match kind {
        Kind::DatabaseSpec | Kind::Command => generator().into_root_schema_for::<DatabaseSpec>(),
        Kind::Status => generator().into_root_schema_for::<documents::Status>(),
        Kind::Health => generator().into_root_schema_for::<documents::HealthDoc>(),
        Kind::InstanceState => generator().into_root_schema_for::<documents::InstanceState>(),
        Kind::Plan => generator().into_root_schema_for::<documents::PlanDoc>(),
        Kind::Event => generator().into_root_schema_for::<documents::Event>(),
        Kind::Approve => generator().into_root_schema_for::<documents::Approve>(),
        Kind::Nothing => generator().into_root_schema_for::<commands::Nothing>(),
        Kind::DiffRequest => generator().into_root_schema_for::<commands::DiffRequest>(),
        Kind::DecisionRequest => generator().into_root_schema_for::<commands::DecisionRequest>(),
        Kind::RollbackRequest => generator().into_root_schema_for::<commands::RollbackRequest>(),
        Kind::HostRequest => generator().into_root_schema_for::<commands::HostRequest>(),
        Kind::HostRemoval => generator().into_root_schema_for::<commands::HostRemoval>(),
        Kind::CommandResult => generator().into_root_schema_for::<documents::CommandResult>(),
        Kind::HostStatus => generator().into_root_schema_for::<documents::HostStatus>(),
        Kind::HostWork => generator().into_root_schema_for::<documents::HostWork>(),
        Kind::HostAnswer => generator().into_root_schema_for::<documents::HostAnswer>(),
        Kind::HostJoin => generator().into_root_schema_for::<documents::HostJoin>(),
        Kind::HostAdmission => generator().into_root_schema_for::<documents::HostAdmission>(),
        Kind::Availability => generator().into_root_schema_for::<documents::Availability>(),
        Kind::SyncMarker => generator().into_root_schema_for::<documents::SyncMarker>(),
        Kind::Inventory => generator().into_root_schema_for::<documents::Inventory>(),
        Kind::JsonSchema => {
            return serde_json::json!({
                "$schema": DRAFT,
                "title": "JsonSchema",
                "description": "A JSON Schema of the draft 2020-12.",
                "$ref": DRAFT,
            });
        }
    };
    schema.to_value()
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// `null` stands for nothing here (a field is left out instead), and formats of Rust's integers say nothing to others.
fn plain_types(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| format.starts_with("int") || format.starts_with("uint"))
    {
        object.remove("format");
    }
    if object.get("default").is_some_and(is_nothing) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    let Some(Value::Array(branches)) = object.get_mut("anyOf") else { return };
    branches.retain(|branch| branch.get("type").is_none_or(|one| one != "null"));
    if let [Value::Object(only)] = branches.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
