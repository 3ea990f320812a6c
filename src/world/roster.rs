//! The roster: what every host of the fleet is, kept in Swarm by the hosts themselves, so that whoever leads knows all of
//! them, also one that is down.
//!
//! One Swarm config for each host; its facts are a label, which changes under compare-and-set. Invariant: a host writes
//! its own entry only.

use super::{FLEET_LABEL, RESOURCE_LABEL, SCOPE_LABEL};
use crate::domain::{HostFacts, Hosts, layout};
use crate::drivers::swarm::{ConfigSeen, Labels, Swarm};
use crate::drivers::{Error, Result};
use crate::model::{FleetId, HostId, Scope};

/// The resource that an entry is.
const HOST_RESOURCE: &str = "host";
/// The label with the facts, as JSON.
const FACTS_LABEL: &str = "pgmoor.facts";
/// Swarm wants a config to have content.
const CONTENT: &[u8] = b"The labels say what the host is.";

fn selector(fleet: &FleetId) -> Labels {
    Labels::from([
        (FLEET_LABEL.to_owned(), fleet.to_string()),
        (SCOPE_LABEL.to_owned(), Scope::Fleet.label()),
        (RESOURCE_LABEL.to_owned(), HOST_RESOURCE.to_owned()),
    ])
}

/// Writes down what this host is, where that is not what stands there.
///
/// # Errors
/// Swarm does not answer; `Conflict`: two daemons have this host's id.
pub async fn announce(swarm: &dyn Swarm, fleet: &FleetId, facts: &HostFacts) -> Result<()> {
    let name = layout::host_config(fleet, &facts.host);
    let mut labels = selector(fleet);
    let text = serde_json::to_string(facts)
        .map_err(|error| Error::Failed { act: format!("write {name}"), why: error.to_string() })?;
    labels.insert(FACTS_LABEL.to_owned(), text);
    let entries = swarm.configs(&selector(fleet)).await?;
    match entries.iter().find(|entry| entry.name == name) {
        Some(entry) if entry.labels == labels => Ok(()),
        Some(entry) => swarm.label_config(entry, &labels).await,
        None => swarm.create_config(&name, &labels, CONTENT).await.map(|_id| ()),
    }
}

/// What all hosts of the fleet are.
///
/// # Errors
/// Swarm does not answer, or an entry is not as pgmoor writes it: who is left out would be a host without its databases.
pub async fn read(swarm: &dyn Swarm, fleet: &FleetId) -> Result<Hosts> {
    swarm.configs(&selector(fleet)).await?.iter().map(facts).collect()
}

/// Strikes a host off; gives whether it was there.
///
/// # Errors
/// Swarm does not answer.
pub async fn strike(swarm: &dyn Swarm, fleet: &FleetId, host: &HostId) -> Result<bool> {
    let name = layout::host_config(fleet, host);
    let entries = swarm.configs(&selector(fleet)).await?;
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else { return Ok(false) };
    match swarm.remove_config(&entry.id).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn facts(entry: &ConfigSeen) -> Result<HostFacts> {
    let text = entry.labels.get(FACTS_LABEL).map(String::as_str).unwrap_or_default();
    serde_json::from_str(text).map_err(|error| Error::Failed {
        act: format!("read the host entry {}", entry.name),
        why: format!("it is not as this version of pgmoor writes it: {error}"),
    })
}
