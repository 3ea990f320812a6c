//! The topics: one table, one type, parse and format.
//!
//! Invariants: [`TABLE`] has one row for each variant of [`Topic`]; `Topic::parse(fleet, &topic.to_string(fleet))` is
//! the topic itself; a text that is not exactly of the table's form is no topic of ours. The documentation, the
//! AsyncAPI document and the broker's access lists come from [`TABLE`].

pub mod filters;

use super::schema::Kind as Document;
use crate::model::{ControllerId, DatabaseId, FleetId, HostId, InstanceId, NodeName, ServiceInstanceId, TaskId};

/// What all topics start with; the number is the contract's major version.
pub const ROOT: &str = "pgmoor/v1";

/// The level below [`ROOT`] that holds the schemas; no fleet may have this name.
pub const SCHEMAS_LEVEL: &str = "schemas";

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
pub const TABLE: [Row; 23] = {
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

/// A topic of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// `databases/{db}/spec`
    Spec(DatabaseId),
    /// `databases/{db}/status`
    Status(DatabaseId),
    /// `databases/{db}/health`
    Health(DatabaseId),
    /// `databases/{db}/plan`
    Plan(DatabaseId),
    /// `databases/{db}/instances/{instance}/state`
    InstanceState(DatabaseId, InstanceId),
    /// `databases/{db}/instances/{instance}/health`
    InstanceHealth(DatabaseId, InstanceId),
    /// `databases/{db}/services/{service}/state`
    ServiceState(DatabaseId, ServiceInstanceId),
    /// `databases/{db}/services/{service}/health`
    ServiceHealth(DatabaseId, ServiceInstanceId),
    /// `databases/{db}/events`
    Events(DatabaseId),
    /// `databases/{db}/tasks/{task}`
    Task(DatabaseId, TaskId),
    /// `databases/{db}/tasks/{task}/log`
    TaskLog(DatabaseId, TaskId),
    /// `databases/{db}/commands/{verb}`
    Command(DatabaseId, Verb),
    /// `databases/{db}/commands/{verb}/result`
    CommandResult(DatabaseId, Verb),
    /// `hosts/{host}/status`
    HostStatus(HostId),
    /// `hosts/{host}/work`
    HostWork(HostId),
    /// `hosts/{host}/answers`
    HostAnswers(HostId),
    /// `controllers/{controller}/availability`
    Availability(ControllerId),
    /// `controllers/{controller}/sync`
    Sync(ControllerId),
    /// `controllers/{controller}/probe/{number}`
    Probe(ControllerId, u32),
    /// `inventory`
    Inventory,
    /// `commands/{verb}`
    FleetCommand(Verb),
    /// `commands/{verb}/result`
    FleetCommandResult(Verb),
    /// `pgmoor/v1/schemas/{kind}`, beside the fleets
    Schema(Document),
}

/// What a command asks for: a word of lowercase letters, digits and hyphens. Which ones there are is
/// [`super::commands`]' to say, so that an unknown one can be answered on its own result topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Verb(TaskId);

impl Verb {
    /// Reads a verb; none when it is no such word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        TaskId::parse(text).ok().map(Self)
    }

    /// The verb as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A database has up to nine nodes, which people number from one.
const NODES_TRIED: u8 = 9;

impl Topic {
    /// The retained topics on which it is told how a database is, those of its instances aside.
    #[must_use]
    pub fn reports(database: &DatabaseId) -> [Self; 3] {
        [Self::Status(database.clone()), Self::Plan(database.clone()), Self::Health(database.clone())]
    }

    /// The retained topics on which a controller may have told of a database of which nothing is remembered. Names of
    /// instances follow from those of hosts and nodes, of which the likely ones are tried.
    pub fn all_reports<'a>(
        database: &'a DatabaseId,
        hosts: impl IntoIterator<Item = &'a HostId>,
    ) -> impl Iterator<Item = Self> {
        let nodes: Vec<NodeName> = (1..=NODES_TRIED).filter_map(|n| NodeName::parse(&format!("n{n}")).ok()).collect();
        let instances = hosts.into_iter().flat_map(move |host| {
            nodes.iter().map(|node| InstanceId::derive(database, node, host)).collect::<Vec<_>>()
        });
        let of_instances = instances.flat_map(|instance| {
            [Self::InstanceState(database.clone(), instance.clone()), Self::InstanceHealth(database.clone(), instance)]
        });
        Self::reports(database).into_iter().chain(of_instances)
    }

    /// Reads a topic of the fleet, or a schema topic; none when it is not exactly one of ours.
    #[must_use]
    pub fn parse(fleet: &FleetId, text: &str) -> Option<Self> {
        let below_root = text.strip_prefix(ROOT)?.strip_prefix('/')?;
        let (first, rest) = below_root.split_once('/')?;
        if first == SCHEMAS_LEVEL {
            return Document::parse(rest).map(Self::Schema);
        }
        if first != fleet.as_str() {
            return None;
        }
        let levels: Vec<&str> = rest.split('/').collect();
        match levels.as_slice() {
            ["databases", database, below @ ..] => Self::of_database(DatabaseId::parse(database).ok()?, below),
            ["hosts", host, "status"] => Some(Self::HostStatus(HostId::parse(host).ok()?)),
            ["hosts", host, "work"] => Some(Self::HostWork(HostId::parse(host).ok()?)),
            ["hosts", host, "answers"] => Some(Self::HostAnswers(HostId::parse(host).ok()?)),
            ["controllers", id, "availability"] => Some(Self::Availability(ControllerId::parse(id).ok()?)),
            ["controllers", id, "sync"] => Some(Self::Sync(ControllerId::parse(id).ok()?)),
            ["controllers", id, "probe", number] => Self::of_probe(ControllerId::parse(id).ok()?, number),
            ["inventory"] => Some(Self::Inventory),
            ["commands", verb] => Some(Self::FleetCommand(Verb::parse(verb)?)),
            ["commands", verb, "result"] => Some(Self::FleetCommandResult(Verb::parse(verb)?)),
            _ => None,
        }
    }

    fn of_probe(controller: ControllerId, number: &str) -> Option<Self> {
        let parsed: u32 = number.parse().ok()?;
        // `007` and `+7` are other topics than `7`.
        (parsed.to_string() == number).then_some(Self::Probe(controller, parsed))
    }

    fn of_database(database: DatabaseId, below: &[&str]) -> Option<Self> {
        Some(match below {
            ["spec"] => Self::Spec(database),
            ["status"] => Self::Status(database),
            ["health"] => Self::Health(database),
            ["plan"] => Self::Plan(database),
            ["events"] => Self::Events(database),
            ["instances", id, "state"] => Self::InstanceState(database, InstanceId::parse(id).ok()?),
            ["instances", id, "health"] => Self::InstanceHealth(database, InstanceId::parse(id).ok()?),
            ["services", id, "state"] => Self::ServiceState(database, ServiceInstanceId::parse(id).ok()?),
            ["services", id, "health"] => Self::ServiceHealth(database, ServiceInstanceId::parse(id).ok()?),
            ["tasks", id] => Self::Task(database, TaskId::parse(id).ok()?),
            ["tasks", id, "log"] => Self::TaskLog(database, TaskId::parse(id).ok()?),
            ["commands", verb] => Self::Command(database, Verb::parse(verb)?),
            ["commands", verb, "result"] => Self::CommandResult(database, Verb::parse(verb)?),
            _ => return None,
        })
    }

    /// The row of [`TABLE`] that describes it.
    #[must_use]
    pub fn row(&self) -> &'static Row {
        let pattern = match self {
            Self::Spec(_) => "databases/{db}/spec",
            Self::Status(_) => "databases/{db}/status",
            Self::Health(_) => "databases/{db}/health",
            Self::Plan(_) => "databases/{db}/plan",
            Self::InstanceState(..) => "databases/{db}/instances/{instance}/state",
            Self::InstanceHealth(..) => "databases/{db}/instances/{instance}/health",
            Self::ServiceState(..) => "databases/{db}/services/{service}/state",
            Self::ServiceHealth(..) => "databases/{db}/services/{service}/health",
            Self::Events(_) => "databases/{db}/events",
            Self::Task(..) => "databases/{db}/tasks/{task}",
            Self::TaskLog(..) => "databases/{db}/tasks/{task}/log",
            Self::Command(..) => "databases/{db}/commands/{verb}",
            Self::CommandResult(..) => "databases/{db}/commands/{verb}/result",
            Self::HostStatus(_) => "hosts/{host}/status",
            Self::HostWork(_) => "hosts/{host}/work",
            Self::HostAnswers(_) => "hosts/{host}/answers",
            Self::Availability(_) => "controllers/{controller}/availability",
            Self::Sync(_) => "controllers/{controller}/sync",
            Self::Probe(..) => "controllers/{controller}/probe/{number}",
            Self::Inventory => "inventory",
            Self::FleetCommand(_) => "commands/{verb}",
            Self::FleetCommandResult(_) => "commands/{verb}/result",
            Self::Schema(_) => "schemas/{kind}",
        };
        // A test proves that each pattern above is in the table, so the fallback is never taken.
        TABLE.iter().find(|row| row.pattern == pattern).unwrap_or(&TABLE[0])
    }

    /// The topic as text.
    #[must_use]
    pub fn to_string(&self, fleet: &FleetId) -> String {
        let row = self.row();
        let mut ids = self.ids().into_iter();
        let levels = row
            .pattern
            .split('/')
            .map(|level| if level.starts_with('{') { ids.next().unwrap_or_default() } else { level.to_owned() });
        let below = levels.collect::<Vec<_>>().join("/");
        if row.in_fleet { format!("{ROOT}/{fleet}/{below}") } else { format!("{ROOT}/{below}") }
    }

    fn ids(&self) -> Vec<String> {
        match self {
            Self::Spec(db) | Self::Status(db) | Self::Health(db) | Self::Plan(db) | Self::Events(db) => {
                vec![db.to_string()]
            }
            Self::InstanceState(db, id) | Self::InstanceHealth(db, id) => vec![db.to_string(), id.to_string()],
            Self::ServiceState(db, id) | Self::ServiceHealth(db, id) => vec![db.to_string(), id.to_string()],
            Self::Task(db, id) | Self::TaskLog(db, id) => vec![db.to_string(), id.to_string()],
            Self::Command(db, verb) | Self::CommandResult(db, verb) => vec![db.to_string(), verb.as_str().to_owned()],
            Self::HostStatus(host) | Self::HostWork(host) | Self::HostAnswers(host) => vec![host.to_string()],
            Self::Availability(id) | Self::Sync(id) => vec![id.to_string()],
            Self::Probe(id, number) => vec![id.to_string(), number.to_string()],
            Self::Inventory => Vec::new(),
            Self::FleetCommand(verb) | Self::FleetCommandResult(verb) => vec![verb.as_str().to_owned()],
            Self::Schema(kind) => vec![kind.as_str().to_owned()],
        }
    }

    /// The database that it belongs to.
    #[must_use]
    pub fn database(&self) -> Option<&DatabaseId> {
        match self {
            Self::Spec(db)
            | Self::Status(db)
            | Self::Health(db)
            | Self::Plan(db)
            | Self::InstanceState(db, _)
            | Self::InstanceHealth(db, _)
            | Self::ServiceState(db, _)
            | Self::ServiceHealth(db, _)
            | Self::Events(db)
            | Self::Task(db, _)
            | Self::TaskLog(db, _)
            | Self::Command(db, _)
            | Self::CommandResult(db, _) => Some(db),
            Self::HostStatus(_)
            | Self::HostWork(_)
            | Self::HostAnswers(_)
            | Self::Availability(_)
            | Self::Sync(_)
            | Self::Probe(..)
            | Self::Inventory
            | Self::FleetCommand(_)
            | Self::FleetCommandResult(_)
            | Self::Schema(_) => None,
        }
    }
}
