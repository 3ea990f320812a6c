//! One look at one instance: container, Patroni, Postgres.

use std::collections::BTreeMap;

use crate::contract::documents::{InstanceState, Role, Time};
use crate::model::{Health, NodeName};
use crate::report::health::Sample;
use crate::store::{OutMessage, Result, Rows as _, Writer};
use crate::world::vitals::{Answering, ServerVitals, Target, Vitals};

/// What a look found.
#[derive(Debug)]
pub(super) struct Sampled {
    pub(super) target: Target,
    pub(super) sample: Sample,
    /// Whether there is a container to be looked at.
    pub(super) there: bool,
    /// What its state topic says; none when nothing could be seen.
    pub(super) state: Option<InstanceState>,
    /// Its position in the write-ahead log, in bytes.
    lsn: Option<u64>,
}

/// How far each replica is behind the primary of its node, as far as they were seen in the same look.
pub(super) fn fill_lags(instances: &mut [Sampled]) {
    let is = |one: &Sampled, role| one.state.as_ref().and_then(|state| state.role) == Some(role);
    let primaries: BTreeMap<NodeName, u64> = instances
        .iter()
        .filter(|one| is(one, Role::Primary))
        .filter_map(|one| Some((one.target.node.clone(), one.lsn?)))
        .collect();
    for one in instances.iter_mut().filter(|one| is(one, Role::Replica)) {
        let lag = primaries.get(&one.target.node).zip(one.lsn).map(|(primary, lsn)| primary.saturating_sub(lsn));
        if let Some(state) = &mut one.state {
            state.lag_bytes = lag;
        }
    }
}

/// What was seen of an instance, judged.
pub(super) fn judged(target: Target, vitals: &Vitals, now: Time) -> Sampled {
    let (sample, state) = match vitals {
        Vitals::Hidden { why } => (Sample::missed(Health::Unknown, why), None),
        Vitals::Silent { why } => (Sample::missed(Health::Down, why), None),
        Vitals::NotThere { what } => {
            let reason = format!("{what}: not there yet");
            (Sample::certain(Health::Down, reason), Some(blank(&target, "creating", now)))
        }
        Vitals::Stopped => {
            (Sample::certain(Health::Down, "no container of it runs"), Some(blank(&target, "stopped", now)))
        }
        Vitals::Answers(seen) => (of_postgres(seen), Some(state(&target, seen, now))),
    };
    let there = state.as_ref().is_none_or(|state| state.container.is_some());
    let lsn = if let Vitals::Answers(seen) = vitals { seen.lsn } else { None };
    Sampled { target, sample, there, state, lsn }
}

fn of_postgres(seen: &Answering) -> Sample {
    match &seen.server {
        None => Sample::certain(Health::Down, format!("Patroni says that Postgres is {}", seen.state)),
        Some(ServerVitals::Silent { why }) => Sample::missed(Health::Down, format!("Postgres: {why}")),
        Some(ServerVitals::Answers { configuration_error: Some(error), .. }) => {
            Sample::certain(Health::Degraded, format!("its configuration has a fault: {error}"))
        }
        Some(ServerVitals::Answers { configuration_error: None, .. }) => Sample::healthy(),
    }
}

fn state(target: &Target, seen: &Answering, now: Time) -> InstanceState {
    let mut state = blank(target, &seen.state, now);
    state.role = role(&seen.role);
    state.synchronous = seen.synchronous;
    state.timeline = seen.timeline.map(u64::from);
    state.lsn = seen.lsn.map(lsn);
    state.pending_restart = seen.pending_restart;
    state.container = Some(seen.container.clone());
    if let Some(ServerVitals::Answers { version, started_ms, pending_restart, .. }) = &seen.server {
        state.postgres_version = Some(version.clone());
        state.started_at = Some(Time::from_ms(*started_ms));
        state.pending_restart |= pending_restart;
    }
    state
}

fn blank(target: &Target, state: &str, now: Time) -> InstanceState {
    InstanceState {
        database: target.database.clone(),
        instance: target.instance.clone(),
        node: target.node.clone(),
        host: target.host.clone(),
        state: state.to_owned(),
        role: None,
        synchronous: false,
        timeline: None,
        lsn: None,
        lag_bytes: None,
        postgres_version: None,
        container: None,
        image: None,
        pending_restart: false,
        started_at: None,
        checked_at: now,
    }
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
        let moved = InstanceState { checked_at: old.checked_at, lsn: old.lsn.clone(), ..new };
        let same = InstanceState { lag_bytes: old.lag_bytes, ..moved } == old;
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
