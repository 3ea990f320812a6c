//! The table of topics: one row for each kind of topic. Everything that lists topics is made from it.

use super::ROOT;
use crate::contract::schema::Kind as Document;

/// Whether a broker keeps the last message of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retained {
    /// It is gone once delivered.
    No,
    /// The broker keeps the last one.
    Yes,
    /// Kept, and set by the last will when the publisher dies.
    Will,
    /// Kept until the message's own expiry.
    Expires,
}

impl Retained {
    /// Whether the publisher sets the retain flag.
    #[must_use]
    pub fn flag(self) -> bool {
        match self {
            Self::No => false,
            Self::Yes | Self::Will | Self::Expires => true,
        }
    }
}

/// Who publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// A person or a tool that says what it wants.
    User,
    /// A controller.
    Pgmoor,
}

/// One row of the topic table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The levels below the fleet (of the schemas: below the root), ids in braces.
    pub pattern: &'static str,
    /// Whether it stands below `pgmoor/v1/{fleet}` (or below `pgmoor/v1` alone).
    pub in_fleet: bool,
    /// Whether the broker keeps it.
    pub retained: Retained,
    /// Who publishes.
    pub publisher: Publisher,
    /// The document on it; none: this build neither reads nor publishes it.
    pub document: Option<Document>,
    /// Whether it is between daemons of the fleet alone: nobody else has a use for it, and no bridge carries it.
    pub internal: bool,
    /// What it is for.
    pub description: &'static str,
}

impl Row {
    const fn internal(self) -> Self {
        Self { internal: true, ..self }
    }

    /// The filter of all its topics in a fleet; of those of one host or controller, where their topic names one.
    #[must_use]
    pub fn filter(&self, fleet: &str, own: Option<&str>) -> String {
        let levels = self.pattern.split('/').map(|level| match (level, own) {
            ("{host}" | "{controller}", Some(own)) => own,
            (id, _) if id.starts_with('{') => "+",
            (word, _) => word,
        });
        let below = levels.collect::<Vec<_>>().join("/");
        if self.in_fleet { format!("{ROOT}/{fleet}/{below}") } else { format!("{ROOT}/{below}") }
    }

    /// The whole topic with its ids in braces, for documents.
    #[must_use]
    pub fn address(&self) -> String {
        if self.in_fleet { format!("{ROOT}/{{fleet}}/{}", self.pattern) } else { format!("{ROOT}/{}", self.pattern) }
    }

    /// The ids in the address, in order, without braces.
    #[must_use]
    pub fn parameters(&self) -> Vec<&'static str> {
        let fleet = if self.in_fleet { Some("fleet") } else { None };
        let own = self.pattern.split('/').filter_map(|level| level.strip_prefix('{')?.strip_suffix('}'));
        fleet.into_iter().chain(own).collect()
    }
}

const fn row(
    pattern: &'static str,
    retained: Retained,
    publisher: Publisher,
    document: Option<Document>,
    description: &'static str,
) -> Row {
    Row { pattern, in_fleet: true, retained, publisher, document, internal: false, description }
}

/// Every topic of the contract.
pub const TABLE: [Row; 25] = {
    use Publisher::{Pgmoor, User};
    use Retained::{Expires, No, Will, Yes};
    [
        row(
            "databases/{db}/spec",
            Yes,
            User,
            Some(Document::DatabaseSpec),
            "The desired database. `{\"deleted\": true}`, or an empty payload that a fresh exact subscription \
             confirms, deletes it. pgmoor writes here only for `undelete` and `rollback`.",
        ),
        row(
            "databases/{db}/status",
            Yes,
            Pgmoor,
            Some(Document::Status),
            "State, observed generation and digest, the verdict on the last spec with all faults, conditions, \
             instances, connection without secrets.",
        ),
        row("databases/{db}/health", Yes, Pgmoor, Some(Document::Health), "Health of the database, small."),
        row("databases/{db}/plan", Yes, Pgmoor, Some(Document::Plan), "What pgmoor will do, is doing, or waits for."),
        row(
            "databases/{db}/instances/{instance}/state",
            Yes,
            Pgmoor,
            Some(Document::InstanceState),
            "Role, timeline, position, version and container of one Postgres.",
        ),
        row(
            "databases/{db}/instances/{instance}/health",
            Yes,
            Pgmoor,
            Some(Document::Health),
            "Health of one Postgres.",
        ),
        row("databases/{db}/services/{service}/state", Yes, Pgmoor, None, "State of a service beside the database."),
        row("databases/{db}/services/{service}/health", Yes, Pgmoor, None, "Health of a service beside the database."),
        row(
            "databases/{db}/events",
            No,
            Pgmoor,
            Some(Document::Event),
            "What changed, as CloudEvents 1.0 in structured mode.",
        ),
        row(
            "databases/{db}/tasks/{task}",
            Expires,
            Pgmoor,
            None,
            "An operation that was asked for: kind, state, progress, result.",
        ),
        row("databases/{db}/tasks/{task}/log", No, Pgmoor, None, "The log lines of an operation."),
        row(
            "databases/{db}/commands/{verb}",
            No,
            User,
            Some(Document::Command),
            "A request; the table of commands below says which there are. A retained one is refused.",
        ),
        row(
            "databases/{db}/commands/{verb}/result",
            No,
            Pgmoor,
            Some(Document::CommandResult),
            "The answer to a request; also sent to the response topic when the request named one.",
        ),
        row("hosts/{host}/status", Yes, Pgmoor, Some(Document::HostStatus), "Inventory and health of a host."),
        row(
            "hosts/{host}/work",
            No,
            Pgmoor,
            Some(Document::HostWork),
            "Work for a host from the one that leads, sealed for it with the fleet's key. Silent while a fleet has one host.",
        )
        .internal(),
        row(
            "hosts/{host}/answers",
            No,
            Pgmoor,
            Some(Document::HostAnswer),
            "What became of the work of a host, sealed with the fleet's key. Silent while a fleet has one host.",
        )
        .internal(),
        row(
            "hosts/{host}/join",
            No,
            User,
            Some(Document::HostJoin),
            "A new host asks to be let in, with a token of `pgmoor host token`; its inside is sealed with the token's secret.",
        )
        .internal(),
        row(
            "hosts/{host}/admission",
            No,
            Pgmoor,
            Some(Document::HostAdmission),
            "The answer to a host that asks to be let in: what it needs, sealed with the token's secret, or faults.",
        )
        .internal(),
        row(
            "controllers/{controller}/availability",
            Will,
            Pgmoor,
            Some(Document::Availability),
            "Whether a controller is online, with the epoch that tells a stale will.",
        ),
        row(
            "controllers/{controller}/sync",
            No,
            Pgmoor,
            Some(Document::SyncMarker),
            "Markers by which a controller knows that a resync came through.",
        )
        .internal(),
        row(
            "controllers/{controller}/probe/{number}",
            Expires,
            Pgmoor,
            Some(Document::SyncMarker),
            "Markers by which a controller learns how much of a replay the broker cuts off; removed again at once.",
        )
        .internal(),
        row(
            "inventory",
            Yes,
            User,
            Some(Document::Inventory),
            "Optional: which databases there shall be, so that a resync is provably complete. It never deletes.",
        ),
        row(
            "commands/{verb}",
            No,
            User,
            Some(Document::Command),
            "A request about the whole fleet: `resume`. A retained one is refused.",
        ),
        row(
            "commands/{verb}/result",
            No,
            Pgmoor,
            Some(Document::CommandResult),
            "The answer to a request about the fleet; also sent to the response topic when the request named one.",
        ),
        Row {
            pattern: "schemas/{kind}",
            in_fleet: false,
            retained: Yes,
            publisher: Pgmoor,
            document: Some(Document::JsonSchema),
            internal: false,
            description: "The JSON Schemas of all documents, so that tools find them.",
        },
    ]
};
