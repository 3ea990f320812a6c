//! The topics: one table, one type, parse and format.
//!
//! Invariants: [`TABLE`] has one row for each variant of [`Topic`]; `Topic::parse(fleet, &topic.to_string(fleet))` is
//! the topic itself; a text that is not exactly of the table's form is no topic of ours. The documentation, the
//! AsyncAPI document and the broker's access lists come from [`TABLE`].

pub mod filters;
mod table;

pub use table::{Publisher, Retained, Row, TABLE};

use super::schema::Kind as Document;
use crate::model::{ControllerId, DatabaseId, FleetId, HostId, InstanceId, NodeName, ServiceInstanceId, TaskId};

/// What all topics start with; the number is the contract's major version.
pub const ROOT: &str = "pgmoor/v1";

/// The level below [`ROOT`] that holds the schemas; no fleet may have this name.
pub const SCHEMAS_LEVEL: &str = "schemas";

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
    /// `hosts/{host}/join`
    HostJoin(HostId),
    /// `hosts/{host}/admission`
    HostAdmission(HostId),
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
            ["hosts", host, "join"] => Some(Self::HostJoin(HostId::parse(host).ok()?)),
            ["hosts", host, "admission"] => Some(Self::HostAdmission(HostId::parse(host).ok()?)),
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
            Self::HostJoin(_) => "hosts/{host}/join",
            Self::HostAdmission(_) => "hosts/{host}/admission",
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
            Self::HostStatus(host)
            | Self::HostWork(host)
            | Self::HostAnswers(host)
            | Self::HostJoin(host)
            | Self::HostAdmission(host) => vec![host.to_string()],
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
            | Self::HostJoin(_)
            | Self::HostAdmission(_)
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
