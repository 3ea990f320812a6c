//! Subscription filters. No client needs more than eight in one SUBSCRIBE (the limit of hosted brokers).

use super::{ControllerId, DatabaseId, FleetId, HostId, ROOT, Topic};

/// Every spec of the fleet.
#[must_use]
pub fn specs(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/databases/+/spec")
}

/// Every command of the fleet.
#[must_use]
pub fn commands(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/databases/+/commands/+")
}

/// Every command about the whole fleet.
#[must_use]
pub fn fleet_commands(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/commands/+")
}

/// Whether a live message that comes by the filter shall say that its author had it retained. Of a command it decides;
/// of a spec the flag must mean "replayed" and nothing else.
#[must_use]
pub fn tells_retained(filter: &str) -> bool {
    filter.ends_with("/commands/+")
}

/// What a controller subscribes to for its work: specs, commands, the inventory, its own markers.
#[must_use]
pub fn controller(fleet: &FleetId, controller: &ControllerId) -> Vec<String> {
    vec![
        specs(fleet),
        commands(fleet),
        fleet_commands(fleet),
        Topic::Inventory.to_string(fleet),
        Topic::Sync(controller.clone()).to_string(fleet),
    ]
}

/// What a controller says and the broker keeps: where a foreign write is seen.
#[must_use]
pub fn reports(fleet: &FleetId, controller: &ControllerId, host: &HostId) -> Vec<String> {
    let databases = ["status", "health", "plan", "instances/+/state", "instances/+/health"]
        .map(|below| format!("{ROOT}/{fleet}/databases/+/{below}"));
    databases.into_iter().chain(own_reports(fleet, controller, host)).collect()
}

/// What a host says of itself and the broker keeps, whether it leads or not.
#[must_use]
pub fn own_reports(fleet: &FleetId, controller: &ControllerId, host: &HostId) -> Vec<String> {
    let own = [Topic::Availability(controller.clone()), Topic::HostStatus(host.clone())];
    own.map(|topic| topic.to_string(fleet)).into()
}

/// What a host hears on the line between hosts: work for it, and all answers.
#[must_use]
pub fn between_hosts(fleet: &FleetId, host: &HostId) -> Vec<String> {
    vec![Topic::HostWork(host.clone()).to_string(fleet), answers(fleet)]
}

/// All markers of a controller's probe.
#[must_use]
pub fn probes(fleet: &FleetId, controller: &ControllerId) -> String {
    format!("{ROOT}/{fleet}/controllers/{controller}/probe/+")
}

/// The status of every database.
#[must_use]
pub fn statuses(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/databases/+/status")
}

/// The health of every database.
#[must_use]
pub fn healths(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/databases/+/health")
}

/// State and health of every instance of one database.
#[must_use]
pub fn instances(fleet: &FleetId, database: &DatabaseId) -> Vec<String> {
    ["state", "health"].map(|below| format!("{ROOT}/{fleet}/databases/{database}/instances/+/{below}")).to_vec()
}

/// Everything on one database.
#[must_use]
pub fn database(fleet: &FleetId, database: &DatabaseId) -> String {
    format!("{ROOT}/{fleet}/databases/{database}/#")
}

/// The events of every database.
#[must_use]
pub fn events(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/databases/+/events")
}

/// The availability of every controller.
#[must_use]
pub fn availability(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/controllers/+/availability")
}

/// The status of every host.
#[must_use]
pub fn hosts(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/hosts/+/status")
}

/// Every host that asks to be let in.
#[must_use]
pub fn joins(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/hosts/+/join")
}

/// What every host answers.
#[must_use]
pub fn answers(fleet: &FleetId) -> String {
    format!("{ROOT}/{fleet}/hosts/+/answers")
}
