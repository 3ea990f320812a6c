//! `status`: how databases stand, once or again with each change.
//!
//! Machines get the documents as they came, with keys that this version does not know.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::args::{Format, Status as Args};
use super::link::{Follow, nobody_online};
use super::render::{self, Row};
use super::{Context, Error, Exit, Out};
use crate::contract::documents::{State, Time, Trash};
use crate::contract::topics::{Topic, filters};
use crate::model::DatabaseId;

/// How long a watcher waits before it looks whether anything else is to be done: nothing is, it waits again.
const ROUND: Duration = Duration::from_secs(3600);

/// What stands on the topics of one database.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Known {
    status: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    instances: BTreeMap<String, Instance>,
}

/// What stands on the topics of one instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Instance {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Value>,
}

/// What machines get of a database that is in the trash: its own topics are cleared.
#[derive(Debug, Serialize)]
struct Deleted<'a> {
    database: &'a DatabaseId,
    state: State,
    trash: &'a Trash,
}

type All = BTreeMap<DatabaseId, Known>;

pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let fleet = &context.options.fleet;
    let filters = match &args.database {
        Some(database) => [Topic::Status(database.clone()), Topic::Health(database.clone())]
            .map(|topic| topic.to_string(fleet))
            .into_iter()
            .chain(filters::instances(fleet, database))
            .collect(),
        None => vec![filters::statuses(fleet), filters::healths(fleet)],
    };
    let (mut follow, retained) = Follow::start(context, filters).await?;
    let mut all = All::new();
    for (topic, payload) in &retained {
        take(context, &mut all, topic, payload);
    }
    all.retain(|_, known| !known.status.is_null());
    let found = show(context, args, &all, out)?;
    let trash = follow.link().trash(context).await?;
    if let (Some(database), false) = (&args.database, args.watch)
        && let Some(kept) = trash.get(database).filter(|_| !found)
    {
        out.document(args.output.format, &Deleted { database, state: State::Deleted, trash: kept }, |_| {
            render::in_trash(database, kept)
        })?;
        return Ok(Exit::Done);
    }
    if args.database.is_none() {
        for (database, kept) in &trash {
            out.note(render::in_trash(database, kept).trim_end());
        }
    }
    if let Some(database) = args.database.as_ref().filter(|_| !found && !args.watch) {
        return Err(Error::NoDatabase { database: database.clone(), fleet: fleet.clone() });
    }
    let controllers = follow.link().controllers(context).await?;
    if let Some(note) = nobody_online(context, follow.link().server(), &controllers) {
        out.note(&note);
    }
    if args.watch {
        watch(context, args, &mut follow, all, out).await?;
    }
    follow.close().await;
    Ok(Exit::Done)
}

/// Shows what there is, and says whether there is anything.
fn show(context: &Context<'_>, args: &Args, all: &All, out: &mut Out) -> Result<bool, Error> {
    let now = Time::from_ms(context.clock.now_ms());
    let format = args.output.format;
    match (&args.database, all.values().next()) {
        (Some(_), Some(known)) => {
            let row = row(known)?;
            let text = |style| render::details(&row, now, style);
            if args.watch { out.item(format, known, text)? } else { out.document(format, known, text)? }
        }
        (Some(_), None) => {}
        (None, None) if format == Format::Text => {
            out.note(&format!("fleet {} has no databases", context.options.fleet));
        }
        (None, _) if args.watch && format != Format::Text => {
            for known in all.values() {
                out.item(format, known, |_| String::new())?;
            }
        }
        (None, _) => {
            let rows = all.values().map(row).collect::<Result<Vec<_>, _>>()?;
            let documents: Vec<&Known> = all.values().collect();
            out.document(format, &documents, |style| render::table(&rows, now, style))?;
        }
    }
    Ok(!all.is_empty())
}

async fn watch(
    context: &Context<'_>,
    args: &Args,
    follow: &mut Follow,
    mut all: All,
    out: &mut Out,
) -> Result<(), Error> {
    loop {
        let Some(message) = follow.next(context, ROUND, out).await? else { continue };
        let Some(id) = take(context, &mut all, &message.topic, &message.payload) else { continue };
        let now = Time::from_ms(context.clock.now_ms());
        match all.get(&id) {
            Some(known) if !known.status.is_null() => {
                let row = row(known)?;
                out.item(args.output.format, known, |style| render::change(&row, now, style))?;
            }
            Some(_) => {}
            None => out.note(&format!("{id} is gone")),
        }
    }
}

/// Takes a message in. Gives the database when something that is shown has changed: its status, or the word of its
/// health (which is published again and again, with new times).
fn take(context: &Context<'_>, all: &mut All, topic: &str, payload: &[u8]) -> Option<DatabaseId> {
    let topic = Topic::parse(&context.options.fleet, topic)?;
    let id = topic.database()?.clone();
    let value: Option<Value> = serde_json::from_slice(payload).ok();
    if matches!(topic, Topic::Status(_)) && value.is_none() {
        return all.remove(&id).map(|_| id);
    }
    let known = all.entry(id.clone()).or_default();
    let changed = match topic {
        Topic::Status(_) => {
            let value = value.unwrap_or_default();
            let changed = known.status != value;
            known.status = value;
            changed
        }
        Topic::Health(_) => {
            let changed = word(known.health.as_ref()) != word(value.as_ref());
            known.health = value;
            changed
        }
        Topic::InstanceState(_, instance) => {
            known.instances.entry(instance.to_string()).or_default().state = value;
            false
        }
        Topic::InstanceHealth(_, instance) => {
            known.instances.entry(instance.to_string()).or_default().health = value;
            false
        }
        Topic::Spec(_)
        | Topic::Plan(_)
        | Topic::ServiceState(..)
        | Topic::ServiceHealth(..)
        | Topic::Events(_)
        | Topic::Task(..)
        | Topic::TaskLog(..)
        | Topic::Command(..)
        | Topic::CommandResult(..)
        | Topic::HostStatus(_)
        | Topic::HostWork(_)
        | Topic::HostAnswers(_)
        | Topic::HostJoin(_)
        | Topic::HostAdmission(_)
        | Topic::Availability(_)
        | Topic::Sync(_)
        | Topic::Probe(..)
        | Topic::Inventory
        | Topic::FleetCommand(_)
        | Topic::FleetCommandResult(_)
        | Topic::Schema(_) => false,
    };
    changed.then_some(id)
}

fn word(health: Option<&Value>) -> Option<&str> {
    health?.get("health")?.as_str()
}

fn row(known: &Known) -> Result<Row, Error> {
    let status = serde_json::from_value(known.status.clone())
        .map_err(|error| Error::Unreadable { topic: "status".to_owned(), why: error.to_string() })?;
    // A health that cannot be read is one that nobody knows.
    let health = known.health.clone().and_then(|value| serde_json::from_value(value).ok());
    Ok(Row { status, health })
}
