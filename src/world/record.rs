//! Records in Swarm: sealed with the fleet key, one config per revision.
//!
//! Invariant: a config's name carries the revision and a name exists once, so making it is the compare-and-set; the
//! newest revision holds, older ones are collected after it stands.

use super::{FLEET_LABEL, RESOURCE_LABEL, SCOPE_LABEL, World};
use crate::domain::layout;
use crate::drivers::seal::FleetKey;
use crate::drivers::swarm::{ConfigSeen, Labels, Swarm};
use crate::drivers::{Error, Result};
use crate::model::{FleetId, FleetRecord, Record, Scope, Secret};

/// The label with the revision.
const REVISION_LABEL: &str = "pgmoor.revision";
/// The resource that a record is: one in each scope.
const RECORD_RESOURCE: &str = "record";

fn revision(config: &ConfigSeen) -> Option<u64> {
    config.labels.get(REVISION_LABEL)?.parse().ok()
}

fn selector(fleet: &FleetId, scope: &Scope) -> Labels {
    Labels::from([
        (FLEET_LABEL.to_owned(), fleet.to_string()),
        (SCOPE_LABEL.to_owned(), scope.label()),
        (RESOURCE_LABEL.to_owned(), RECORD_RESOURCE.to_owned()),
    ])
}

/// The newest revision that Swarm holds of a scope's record.
pub(crate) async fn newest_revision(world: &World, scope: &Scope) -> Result<Option<u64>> {
    let configs = world.drivers.swarm.configs(&selector(&world.fleet, scope)).await?;
    Ok(configs.iter().filter_map(revision).max())
}

/// Puts a revision into Swarm and collects the older ones. `Conflict` when somebody else wrote that revision.
pub(crate) async fn put(world: &World, scope: &Scope, number: u64, content: &Secret) -> Result<()> {
    let name = layout::record_config(&world.fleet, scope, number);
    let mut labels = selector(&world.fleet, scope);
    labels.insert(REVISION_LABEL.to_owned(), number.to_string());
    let sealed = world.key.seal(&name, content.expose().as_bytes())?;
    match world.drivers.swarm.create_config(&name, &labels, &sealed).await {
        Ok(_) => {}
        // A lost answer to our own earlier call looks the same: what is there decides.
        Err(Error::Conflict { act, why }) => {
            if !holds(world, scope, &name, content).await? {
                return Err(Error::Conflict { act, why });
            }
        }
        Err(error) => return Err(error),
    }
    collect(world, scope, |revision| revision < number).await
}

async fn holds(world: &World, scope: &Scope, name: &str, content: &Secret) -> Result<bool> {
    let configs = world.drivers.swarm.configs(&selector(&world.fleet, scope)).await?;
    let Some(config) = configs.iter().find(|config| config.name == name) else { return Ok(false) };
    Ok(world.key.open(name, &config.data)? == content.expose().as_bytes())
}

/// Removes all revisions of a scope's record.
pub(crate) async fn remove(world: &World, scope: &Scope) -> Result<()> {
    collect(world, scope, |_| true).await
}

async fn collect(world: &World, scope: &Scope, old: impl Fn(u64) -> bool + Send) -> Result<()> {
    for config in world.drivers.swarm.configs(&selector(&world.fleet, scope)).await? {
        if revision(&config).is_some_and(&old) {
            match world.drivers.swarm.remove_config(&config.id).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Reads the newest record of the fleet itself.
///
/// # Errors
/// Swarm does not answer, or the record does not open with this key: another fleet key made it.
pub async fn fleet(swarm: &dyn Swarm, key: &FleetKey, fleet: &FleetId) -> Result<Option<FleetRecord>> {
    let newest = swarm.configs(&selector(fleet, &Scope::Fleet)).await?.into_iter().max_by_key(revision);
    newest.map(|config| parse(&config.name, &key.open(&config.name, &config.data)?)).transpose()
}

/// All that Swarm holds for a fleet, for a start without a store.
#[derive(Debug, Default)]
pub struct Found {
    /// The fleet's own record.
    pub fleet: Option<FleetRecord>,
    /// The databases' records.
    pub databases: Vec<Record>,
}

/// Reads the newest record of every scope of a fleet.
///
/// # Errors
/// Swarm does not answer, or a record does not open with this key: another fleet key made it.
pub async fn find(swarm: &dyn Swarm, key: &FleetKey, fleet: &FleetId) -> Result<Found> {
    let selector = Labels::from([
        (FLEET_LABEL.to_owned(), fleet.to_string()),
        (RESOURCE_LABEL.to_owned(), RECORD_RESOURCE.to_owned()),
    ]);
    let mut newest = std::collections::BTreeMap::<String, ConfigSeen>::new();
    for config in swarm.configs(&selector).await? {
        let Some(scope) = config.labels.get(SCOPE_LABEL).cloned() else { continue };
        let newer = newest.get(&scope).is_none_or(|other| revision(other) < revision(&config));
        if newer {
            newest.insert(scope, config);
        }
    }
    let mut found = Found::default();
    for (scope, config) in newest {
        let plain = key.open(&config.name, &config.data)?;
        if scope == Scope::Fleet.label() {
            found.fleet = Some(parse(&config.name, &plain)?);
        } else {
            found.databases.push(parse(&config.name, &plain)?);
        }
    }
    Ok(found)
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, plain: &[u8]) -> Result<T> {
    serde_json::from_slice(plain).map_err(|error| Error::Failed {
        act: format!("read record {name}"),
        // The position only: the text may hold secrets.
        why: format!("it is not a record of this version (line {}, column {})", error.line(), error.column()),
    })
}
