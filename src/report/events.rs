//! Events: what is different between two statuses of a database. What happens to specs and steps is told where it
//! happens; this is about what follows from looking.
//!
//! Invariants: equal statuses give no event; an event's id is made of the number of the status that it came with, so
//! saying the same change twice gives the same id.

use std::collections::BTreeMap;

use crate::contract::documents::{
    ConditionType, Event, EventData, EventType, InstanceSummary, NodePlacement, Role, Status,
};
use crate::model::{FleetId, HostId, InstanceId, NodeName};

/// What changed from `before` to `after`. Without a status before, only the state is new.
#[must_use]
pub fn events(fleet: &FleetId, before: Option<&Status>, after: &Status) -> Vec<Event> {
    let mut found = Vec::new();
    if before.map(|before| before.state) != Some(after.state) {
        found.push((EventType::StateChanged, None, state_changed(before, after)));
    }
    if let Some(before) = before {
        found.extend(primaries_changed(before, after));
        found.extend(healths_changed(before, after));
        found.extend(placements_changed(before, after));
    }
    let numbered = found.into_iter().enumerate().map(|(index, (kind, subject, data))| {
        let id = format!("{}-{}-{index}", after.epoch, after.seq);
        let event = Event::new(fleet, &after.database, id, kind, after.updated_at, data);
        match subject {
            Some(instance) => event.about(instance.as_str()),
            None => event,
        }
    });
    numbered.collect()
}

/// What happened, to which instance if to one, and the details.
type Change = (EventType, Option<InstanceId>, EventData);

fn state_changed(before: Option<&Status>, after: &Status) -> EventData {
    let ready = after.conditions.iter().find(|condition| condition.kind == ConditionType::Ready);
    EventData {
        message: ready.map_or_else(String::new, |ready| ready.message.clone()),
        state: Some(after.state),
        previous_state: before.map(|before| before.state),
        digest: after.observed.as_ref().map(|observed| observed.digest.clone()),
        generation: after.observed.as_ref().and_then(|observed| observed.generation),
        ..EventData::default()
    }
}

/// A node whose primary is another one than before. That the first one appears is no change of a primary.
fn primaries_changed(before: &Status, after: &Status) -> Vec<Change> {
    let primaries = |status: &Status| -> BTreeMap<NodeName, InstanceId> {
        let primary = |instance: &&InstanceSummary| instance.role == Some(Role::Primary);
        let primaries = status.instances.iter().filter(primary);
        primaries.map(|instance| (instance.node.clone(), instance.instance.clone())).collect()
    };
    let earlier = primaries(before);
    let changed = primaries(after).into_iter().filter_map(|(node, instance)| {
        let old = earlier.get(&node).filter(|old| **old != instance)?;
        let message = format!("{instance} is primary of {node}, {old} was");
        let data = EventData { message, instance: Some(instance.clone()), ..EventData::default() };
        Some((EventType::PrimaryChanged, Some(instance), data))
    });
    changed.collect()
}

/// A node for which other hosts were chosen than before. That some are chosen for the first time is no change of them.
fn placements_changed(before: &Status, after: &Status) -> Vec<Change> {
    let changed = after.placement.iter().filter_map(|placement| {
        let old = before.placement.iter().find(|old| old.node == placement.node)?;
        let hosts = |placement: &NodePlacement| -> Vec<HostId> {
            placement.hosts.iter().map(|placed| placed.host.clone()).collect()
        };
        let (was, is) = (hosts(old), hosts(placement));
        let words = |hosts: &[HostId]| hosts.iter().map(HostId::as_str).collect::<Vec<_>>().join(", ");
        let new = placement.hosts.iter().filter(|placed| !was.contains(&placed.host));
        let why: Vec<String> = new.map(|placed| format!("{}: {}", placed.host, placed.reason)).collect();
        let why = if why.is_empty() { String::new() } else { format!("; {}", why.join("; ")) };
        let message = format!("{} is on {}, it was on {}{why}", placement.node, words(&is), words(&was));
        let data = EventData { message, ..EventData::default() };
        (was != is).then_some((EventType::PlacementChanged, None, data))
    });
    changed.collect()
}

fn healths_changed(before: &Status, after: &Status) -> Vec<Change> {
    let earlier: BTreeMap<&InstanceId, &InstanceSummary> =
        before.instances.iter().map(|instance| (&instance.instance, instance)).collect();
    let changed = after.instances.iter().filter_map(|instance| {
        let old = earlier.get(&instance.instance).filter(|old| old.health != instance.health)?;
        let word = |health| serde_json::to_value(health).ok().and_then(|word| word.as_str().map(str::to_owned));
        let (was, is) = (word(old.health).unwrap_or_default(), word(instance.health).unwrap_or_default());
        let data = EventData {
            message: format!("{} is {is}, it was {was}", instance.instance),
            health: Some(instance.health),
            instance: Some(instance.instance.clone()),
            ..EventData::default()
        };
        Some((EventType::HealthChanged, Some(instance.instance.clone()), data))
    });
    changed.collect()
}
