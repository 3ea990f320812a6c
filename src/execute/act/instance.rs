//! Bringing an instance to readiness: it serves, has loaded its configuration and certificate, and waits for no restart.
//!
//! Invariant: Postgres is restarted only when the plan's step says so, or when the step creates the instance.

use std::time::Duration;

use super::super::look::{not_running, serving};
use super::Task;
use super::watch::Watch;
use crate::drivers::{Error, Result};
use crate::model::resource::InstanceAttributes;
use crate::plan::{Action, Disruption};
use crate::world::{InstanceEndpoints, World};

/// The pause between two looks: short enough that "ready" follows at once, long enough not to load a small machine (a
/// look at a starting Patroni took 50 ms of two processors' time; the start itself takes two seconds).
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks before a configuration that did not come by itself is asked for: Patroni acts on a patch at once.
const LOOKS_BEFORE_RELOAD: u32 = 10;
/// Looks between two such requests.
const LOOKS_BETWEEN_RELOADS: u32 = 50;

/// Waits until the instance is as `wanted`, and does on the way what the step allows. The step's deadline ends it.
pub(super) async fn ready(task: &Task, wanted: &InstanceAttributes) -> Result<()> {
    let name = task.step.resource.name.as_str();
    let mut looks: u32 = 0;
    let mut restarted = false;
    let mut watch = Watch::new(task);
    loop {
        match look(&task.world, name, wanted).await {
            Ok((endpoints, is)) => {
                if is == *wanted {
                    return Ok(());
                }
                looks += 1;
                task.waits.waits(&task.step, short_of(&is, wanted));
                if is.running && !is.alter_system.is_empty() {
                    task.world.drivers.postgres.reset_parameters(&endpoints.postgres, &is.alter_system).await?;
                } else if is.running && stale(&is, wanted) {
                    let due = looks.saturating_sub(LOOKS_BEFORE_RELOAD);
                    if looks >= LOOKS_BEFORE_RELOAD && due.is_multiple_of(LOOKS_BETWEEN_RELOADS) {
                        broken_configuration(&task.world, name, &endpoints).await?;
                        task.world.drivers.patroni.reload(&endpoints.patroni).await?;
                    }
                } else if is.running && is.pending_restart && !restarted {
                    if !may_restart(task) {
                        // The next look sees the pending restart, and the plan says so before it happens.
                        return Ok(());
                    }
                    task.world.drivers.patroni.restart(&endpoints.patroni).await?;
                    restarted = true;
                }
            }
            Err(error @ (Error::Unreachable { .. } | Error::NotFound { .. })) => watch.not_yet(task, &error).await?,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What an instance that answers still lacks.
fn short_of(is: &InstanceAttributes, wanted: &InstanceAttributes) -> Option<String> {
    let why = if !is.running {
        "Patroni answers, Postgres does not run yet"
    } else if !is.alter_system.is_empty() {
        "ALTER SYSTEM sets parameters over those that pgmoor wrote"
    } else if is.config != wanted.config {
        "Postgres has not loaded the wanted configuration yet"
    } else if !is.certificate_loaded {
        "Postgres has not loaded the new certificate yet"
    } else if is.pending_restart {
        "Postgres waits for a restart"
    } else {
        return None;
    };
    Some(why.to_owned())
}

fn stale(is: &InstanceAttributes, wanted: &InstanceAttributes) -> bool {
    is.config != wanted.config || !is.certificate_loaded
}

fn may_restart(task: &Task) -> bool {
    match task.step.action {
        Action::Create | Action::Recreate => true,
        Action::Update | Action::Delete | Action::Switchover => match task.step.disruption {
            Disruption::Restart | Disruption::Replace => true,
            Disruption::None | Disruption::Reload => false,
        },
    }
}

async fn look(
    world: &World,
    name: &str,
    wanted: &InstanceAttributes,
) -> Result<(InstanceEndpoints, InstanceAttributes)> {
    let endpoints = world.instance(name, &wanted.service).await?.ok_or_else(|| not_running(name))?;
    let (attributes, _standing) = serving(world, name, wanted, &endpoints).await?;
    Ok((endpoints, attributes))
}

/// A line of `pg_hba.conf` or a parameter that Postgres refuses keeps the old configuration in place for ever: say so.
async fn broken_configuration(world: &World, name: &str, endpoints: &InstanceEndpoints) -> Result<()> {
    let server = world.drivers.postgres.server(&endpoints.postgres).await?;
    match server.configuration_errors.first() {
        None => Ok(()),
        Some(_) => Err(Error::Failed {
            act: format!("load the configuration of {name}"),
            why: server.configuration_errors.join("; "),
        }),
    }
}
