//! One look at one instance: container, Patroni, Postgres.

use std::time::Duration;

use super::Target;
use crate::contract::documents::{InstanceState, Role, Time};
use crate::drivers::Error;
use crate::model::Health;
use crate::report::health::Sample;
use crate::store::{OutMessage, Result, Rows as _, Writer};
use crate::world::{InstanceEndpoints, World};

/// How long one look may take: a Postgres that does not answer within it does not serve.
const LOOK_LIMIT: Duration = Duration::from_secs(4);

/// What a look found.
#[derive(Debug)]
pub(super) struct Sampled {
    pub(super) target: Target,
    pub(super) sample: Sample,
    /// Whether there is a container to be looked at.
    pub(super) there: bool,
    /// What its state topic says; none when nothing could be seen.
    pub(super) state: Option<InstanceState>,
}

/// Looks at one instance.
pub(super) async fn look(world: &World, target: Target) -> Sampled {
    let seen = tokio::time::timeout(LOOK_LIMIT, seen(world, &target)).await;
    let (sample, state) =
        seen.unwrap_or_else(|_late| (Sample::missed(Health::Down, "it does not answer in time"), None));
    let there = state.as_ref().is_none_or(|state| state.container.is_some());
    Sampled { target, sample, there, state }
}

async fn seen(world: &World, target: &Target) -> (Sample, Option<InstanceState>) {
    let service = crate::domain::layout::service(&target.instance);
    let endpoints = match world.instance(target.instance.as_str(), &service).await {
        Ok(Some(endpoints)) => endpoints,
        Ok(None) => {
            return (Sample::certain(Health::Down, "no container of it runs"), Some(blank(world, target, "stopped")));
        }
        Err(Error::NotFound { act }) => {
            return (
                Sample::certain(Health::Down, format!("{act}: not there yet")),
                Some(blank(world, target, "creating")),
            );
        }
        Err(error) => return (Sample::missed(Health::Unknown, error.to_string()), None),
    };
    let status = match world.drivers.patroni.status(&endpoints.patroni).await {
        Ok(status) => status,
        Err(error) => return (Sample::missed(Health::Down, format!("Patroni: {error}")), None),
    };
    let mut state = blank(world, target, &status.state);
    state.role = role(&status.role);
    state.timeline = status.timeline.map(u64::from);
    state.lsn = status.lsn.map(lsn);
    state.pending_restart = status.pending_restart;
    describe_container(&mut state, &endpoints);
    if status.state != "running" {
        let reason = format!("Patroni says that Postgres is {}", status.state);
        return (Sample::certain(Health::Down, reason), Some(state));
    }
    match world.drivers.postgres.server(&endpoints.postgres).await {
        Ok(server) => {
            state.postgres_version = Some(server.version);
            state.started_at = Some(Time::from_ms(server.started_ms));
            state.pending_restart |= !server.pending_restart.is_empty();
            let sample = match server.configuration_errors.first() {
                None => Sample::healthy(),
                Some(error) => Sample::certain(Health::Degraded, format!("its configuration has a fault: {error}")),
            };
            (sample, Some(state))
        }
        Err(error) => (Sample::missed(Health::Down, format!("Postgres: {error}")), Some(state)),
    }
}

fn blank(world: &World, target: &Target, state: &str) -> InstanceState {
    InstanceState {
        database: target.database.clone(),
        instance: target.instance.clone(),
        node: target.node.clone(),
        host: world.facts.host.clone(),
        state: state.to_owned(),
        role: None,
        timeline: None,
        lsn: None,
        lag_bytes: None,
        postgres_version: None,
        container: None,
        image: None,
        pending_restart: false,
        started_at: None,
        checked_at: Time::from_ms(world.clock.now_ms()),
    }
}

fn describe_container(state: &mut InstanceState, endpoints: &InstanceEndpoints) {
    state.container = Some(endpoints.container.id.clone());
}

fn role(word: &str) -> Option<Role> {
    match word {
        "primary" => Some(Role::Primary),
        "replica" => Some(Role::Replica),
        _ => None,
    }
}

/// A position in the write-ahead log as Postgres writes it.
fn lsn(bytes: u64) -> String {
    format!("{:X}/{:X}", bytes >> 32, bytes & 0xFFFF_FFFF)
}

/// How far the log may move on before a state that is otherwise the same is said again; its refresh says it anyway.
const REFRESH_MS: i64 = 30_000;

/// Says a document unless nothing in it is new but the time of the look and the position in the log.
pub(super) fn enqueue_if_news(writer: &mut Writer<'_>, message: &OutMessage) -> Result<()> {
    let said = writer.last_said(&message.topic)?;
    let old = said.as_ref().and_then(|said| serde_json::from_slice::<InstanceState>(&said.payload).ok());
    let new = serde_json::from_slice::<InstanceState>(&message.payload).ok();
    if let (Some(old), Some(new)) = (old, new) {
        let fresh = new.checked_at.ms().saturating_sub(old.checked_at.ms()) < REFRESH_MS;
        let same = InstanceState { checked_at: old.checked_at, lsn: old.lsn.clone(), ..new } == old;
        if same && fresh {
            return Ok(());
        }
    }
    writer.enqueue(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_postgres_does() {
        assert_eq!(lsn(0x0300_0148), "0/3000148");
        assert_eq!(lsn(0x1_0000_00AB), "1/AB");
    }
}
