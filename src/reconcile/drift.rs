//! Drift is told: what a look brought is remembered and said in one transaction.
//!
//! Invariant: what is remembered decides nothing but which repairs wait (`gate`) and what is said.

use super::ledger::say;
use super::service::Shared;
use crate::contract::documents::{ConditionType, Event, EventData, EventType, Time};
use crate::contract::topics::Topic;
use crate::domain::database::contents;
use crate::model::spec::Reconcile;
use crate::model::{AcceptedSpec, DatabaseId, Graph, Kind, Record, ResourceId, Scope};
use crate::plan::Plan;
use crate::plan::drift::{Difference, FIGHT_WINDOW_MS, Look, Memory, News};
use crate::report;
use crate::report::conditions::Found;
use crate::store::{Error, OutMessage, Rows as _, Writer};

/// How many resources a condition names; the plan names all.
const NAMED_MAX: usize = 3;

/// Takes in a look, says what it brought, and gives what is remembered now.
pub(super) async fn take(
    shared: &Shared,
    scope: &Scope,
    desired: &Graph,
    plan: &Plan,
    reconcile: Reconcile,
) -> Result<Memory, Error> {
    let before = shared.store.read(|reader| reader.drift(scope))?;
    let now_ms = shared.world.clock.now_ms();
    let mut memory = before.clone();
    let news = memory.take(Look { desired, plan, now_ms, repairs: reconcile == Reconcile::Repair });
    if memory == before {
        return Ok(memory);
    }
    for one in &news {
        let (resource, message) = match one {
            News::Found { resource, difference } => (resource, drifted(resource, difference, reconcile)),
            News::Fight { resource, difference, times, until_ms } => {
                (resource, fights(resource, difference, *times, until_ms.saturating_sub(now_ms)))
            }
        };
        tracing::warn!(%scope, %resource, message, "drift");
    }
    let messages: Vec<OutMessage> = match scope {
        // The fleet has no topic for events; its drift is in the log.
        Scope::Fleet => Vec::new(),
        Scope::Database(database) => news.iter().map(|one| message(shared, database, one, reconcile, now_ms)).collect(),
    };
    let (kept, scope) = (memory.clone(), scope.clone());
    let write = shared.store.write(move |writer| {
        writer.put_drift(&scope, &kept)?;
        messages.iter().try_for_each(|message| writer.enqueue(message))
    });
    write.await?;
    Ok(memory)
}

/// Forgets a scope whose resources go away on purpose.
pub(super) async fn forget(shared: &Shared, scope: &Scope) -> Result<(), Error> {
    if shared.store.read(|reader| reader.drift(scope))? == Memory::default() {
        return Ok(());
    }
    let scope = scope.clone();
    shared.store.write(move |writer| writer.forget_drift(&scope)).await
}

/// A record with other passwords is about to be kept. No digest of a resource tells of them: what is done about them is
/// no repair of drift.
pub(super) fn passwords_asked(writer: &mut Writer<'_>, spec: &AcceptedSpec, record: &Record) -> Result<(), Error> {
    let before = writer.record(&record.database)?.map(|before| before.passwords).unwrap_or_default();
    let others = record.passwords.iter().filter(|(user, password)| before.get(*user) != Some(*password));
    let of_nodes = |user: &String| {
        let names = spec.nodes.iter().map(|node| contents::name(spec, &node.name, user));
        names.map(|name| ResourceId::new(Kind::Role, name)).collect::<Vec<_>>()
    };
    let roles: Vec<ResourceId> = others.flat_map(|(user, _)| of_nodes(user)).collect();
    let scope = Scope::Database(record.database.clone());
    let before = writer.drift(&scope)?;
    let mut memory = before.clone();
    memory.ask_anew(roles);
    if memory == before { Ok(()) } else { writer.put_drift(&scope, &memory) }
}

/// What is to be said of it in the status.
pub(super) fn conditions(memory: &Memory, now_ms: i64) -> Vec<Found> {
    let open: Vec<String> = memory.open().map(|(resource, difference)| format!("{resource} {difference}")).collect();
    let mut found = Vec::new();
    if !open.is_empty() {
        let mut message = open.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
        if open.len() > NAMED_MAX {
            message.push_str(&format!("; and {} more, see the plan", open.len() - NAMED_MAX));
        }
        found.push(Found { kind: ConditionType::Drifted, reason: "Drifted".to_owned(), message, hint: None });
    }
    let fights: Vec<String> = memory
        .fights()
        .map(|(resource, fight)| {
            let next = match fight.until_ms > now_ms && memory.held_until_ms(resource).is_some() {
                true => format!("it is repaired after {}", Time::from_ms(fight.until_ms)),
                false => "it is as asked now".to_owned(),
            };
            format!("{resource} drifted {} times; {next}", fight.times)
        })
        .collect();
    if !fights.is_empty() {
        let advice = "find out who changes it, or set \"reconcile\": \"observe\" meanwhile";
        let message = format!("{}: {advice}", fights.join("; "));
        found.push(Found {
            kind: ConditionType::Fight,
            reason: "ComesBack".to_owned(),
            message,
            hint: Some(advice.to_owned()),
        });
    }
    found
}

fn message(shared: &Shared, database: &DatabaseId, news: &News, reconcile: Reconcile, now_ms: i64) -> OutMessage {
    let (kind, word, resource, difference, times, text) = match news {
        News::Found { resource, difference } => {
            let text = drifted(resource, difference, reconcile);
            (EventType::DriftFound, "drift", resource, difference, None, text)
        }
        News::Fight { resource, difference, times, until_ms } => {
            let text = fights(resource, difference, *times, until_ms.saturating_sub(now_ms));
            (EventType::DriftFight, "fight", resource, difference, Some(*times), text)
        }
    };
    let data = EventData {
        message: text,
        resource: Some(resource.to_string()),
        changes: report::changes(&difference.changes),
        noticed_by: Some(shared.world.facts.host.clone()),
        times,
        ..EventData::default()
    };
    let fleet = &shared.world.fleet;
    let id = format!("{now_ms}-{word}-{resource}");
    let event = Event::new(fleet, database, id, kind, Time::from_ms(now_ms), data).about(resource.to_string());
    say(fleet, &Topic::Events(database.clone()), &event, now_ms)
}

fn drifted(resource: &ResourceId, difference: &Difference, reconcile: Reconcile) -> String {
    let next = match reconcile {
        Reconcile::Repair => "it is repaired",
        Reconcile::Observe | Reconcile::Paused => "it is left so, as the spec asks",
    };
    format!("{resource} {difference}; {next}")
}

fn fights(resource: &ResourceId, difference: &Difference, times: u32, pause_ms: i64) -> String {
    let (minutes, pause_s) = (FIGHT_WINDOW_MS / 60_000, pause_ms / 1000);
    format!(
        "{resource} {difference}; it drifted {times} times, each within {minutes} minutes of the last: somebody works \
         against the spec, and it is repaired after {pause_s} s"
    )
}
