//! The kinds of documents, and the JSON Schema of each as it is embedded in the binary.
//!
//! Invariant: `schemas/v1/{kind}.schema.json` is generated from the Rust types by `contract::generated`; a test fails
//! when a file differs.

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
    /// The answer to a request.
    CommandResult,
    /// Inventory and health of a host.
    HostStatus,
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
    pub const ALL: [Self; 13] = [
        Self::DatabaseSpec,
        Self::Status,
        Self::Health,
        Self::InstanceState,
        Self::Plan,
        Self::Event,
        Self::Command,
        Self::CommandResult,
        Self::HostStatus,
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
            Self::CommandResult => "command-result",
            Self::HostStatus => "host-status",
            Self::Availability => "availability",
            Self::SyncMarker => "sync-marker",
            Self::Inventory => "inventory",
            Self::JsonSchema => "json-schema",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
