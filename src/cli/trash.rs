//! `undelete`, `purge` and `confirm-delete`: what becomes of deleted databases.

use std::time::Duration;

use serde::Serialize;

use super::apply::{confirmed, wait};
use super::args::{ConfirmDelete, Format, Purge, Undelete, Wait};
use super::ask::{Request, ask, ask_on, rejected};
use super::follow::{Goal, Waiter};
use super::link::{Follow, Link};
use super::output::plain;
use super::{Context, Error, Exit, Out};
use crate::contract::Code;
use crate::contract::commands::{CONFIRM_DELETE, Nothing, PURGE, UNDELETE};
use crate::contract::documents::{
    CommandOutcome, CommandResult, ConditionStatus, ConditionType, Event, EventType, Status,
};
use crate::contract::topics::{Topic, filters};
use crate::model::DatabaseId;
use crate::mqtt::Message;

pub(super) async fn undelete(context: &Context<'_>, args: &Undelete, out: &mut Out) -> Result<Exit, Error> {
    let request = Request::of(&args.database, UNDELETE, &Nothing {})?;
    let answer = ask(context, &request).await?;
    published(context, (&args.database, &answer), (args.wait, args.output.format), out).await
}

/// Shows that a spec was published again, and waits for it where that is asked.
pub(super) async fn published(
    context: &Context<'_>,
    (database, answer): (&DatabaseId, &CommandResult),
    (how_long, format): (Wait, Format),
    out: &mut Out,
) -> Result<Exit, Error> {
    let spec = match &answer.spec {
        Some(spec) if answer.result == CommandOutcome::Accepted => spec,
        Some(_) | None => return rejected(database, &answer.faults, format, out),
    };
    if !how_long.wait {
        out.document(format, answer, |_| told(database, answer))?;
        return Ok(Exit::Done);
    }
    out.note(told(database, answer).trim_end());
    let goal = Goal { database: database.clone(), digest: spec.digest.clone(), deletes: false };
    let mut waiter = Waiter::start(context, goal).await?;
    wait(context, &mut waiter, database, (how_long, format), out).await
}

fn told(database: &DatabaseId, answer: &CommandResult) -> String {
    let message = answer.message.as_deref().unwrap_or("accepted");
    format!("{database}: {}\n", plain(message))
}

pub(super) async fn purge(context: &Context<'_>, args: &Purge, out: &mut Out) -> Result<Exit, Error> {
    let (database, format) = (&args.database, args.output.format);
    let fleet = &context.options.fleet;
    let question = format!("purge database {database} of fleet {fleet}? Its data is gone for good then.");
    if !args.yes && !confirmed(&question, database, out)? {
        out.note("nothing was purged");
        return Ok(Exit::Failed);
    }
    // The event is followed before it is asked for, so that it is not missed.
    let events = Topic::Events(database.clone()).to_string(fleet);
    let (mut follow, _nothing_is_retained) = Follow::start(context, vec![events]).await?;
    let answer = ask_on(context, follow.link(), &Request::of(database, PURGE, &Nothing {})?).await?;
    if answer.result == CommandOutcome::Rejected {
        return rejected(database, &answer.faults, format, out);
    }
    let start = context.clock.monotonic();
    loop {
        let passed = context.clock.monotonic().saturating_sub(start);
        let left = args.timeout.saturating_sub(passed).max(Duration::from_millis(1));
        let message = follow.next(context, left, out).await?;
        if passed >= args.timeout {
            let limit_s = args.timeout.as_secs();
            out.note(&format!("{database}: not gone after {limit_s} s; it goes on without us"));
            return Ok(Exit::TimedOut);
        }
        let event = message.and_then(|message| serde_json::from_slice::<Event>(&message.payload).ok());
        if event.is_some_and(|event| event.kind == EventType::Purged) {
            break;
        }
    }
    clear_spec(context, follow.link(), database).await?;
    follow.close().await;
    out.document(format, &answer, |_| format!("{database} is purged; its id is free\n"))?;
    Ok(Exit::Done)
}

/// The topic still says that the database is deleted: with it goes the last trace. A newer spec stays.
async fn clear_spec(context: &Context<'_>, link: &Link, database: &DatabaseId) -> Result<(), Error> {
    let topic = Topic::Spec(database.clone()).to_string(&context.options.fleet);
    let Some(payload) = link.retained(&topic).await? else { return Ok(()) };
    let deletes = super::input::Spec { database: database.clone(), bytes: payload }.deletes();
    if deletes { link.publish(&Message::retained(topic, Vec::new())).await } else { Ok(()) }
}

/// What machines get.
#[derive(Debug, Serialize)]
struct Confirmed<'a> {
    confirmed: Vec<&'a DatabaseId>,
    rejected: Vec<&'a CommandResult>,
}

pub(super) async fn confirm_delete(context: &Context<'_>, args: &ConfirmDelete, out: &mut Out) -> Result<Exit, Error> {
    let link = Link::connect(context).await?;
    let databases = if args.all { held(context, &link).await? } else { args.databases.clone() };
    let mut answers = Vec::new();
    for database in &databases {
        let answer = ask_on(context, &link, &Request::of(database, CONFIRM_DELETE, &Nothing {})?).await?;
        // Of those that nobody named, one may be done already, and its status not told anew yet.
        let done = args.all && answer.faults.iter().any(|fault| fault.code == Code::NotFound);
        if !done {
            answers.push((database, answer));
        }
    }
    link.close().await;
    let accepted = |answer: &CommandResult| answer.result == CommandOutcome::Accepted;
    let document = Confirmed {
        confirmed: answers.iter().filter(|(_, answer)| accepted(answer)).map(|(database, _)| *database).collect(),
        rejected: answers.iter().map(|(_, answer)| answer).filter(|answer| !accepted(answer)).collect(),
    };
    out.document(args.output.format, &document, |style| {
        if answers.is_empty() {
            return "no delete is held\n".to_owned();
        }
        let line = |(database, answer): &(&DatabaseId, CommandResult)| match answer.result {
            CommandOutcome::Accepted => told(database, answer),
            CommandOutcome::Rejected => {
                format!("{database}: {}", super::render::faults(&answer.faults, style))
            }
        };
        answers.iter().map(line).collect()
    })?;
    Ok(if document.rejected.is_empty() { Exit::Done } else { Exit::Failed })
}

/// The databases whose status says that their delete is held.
async fn held(context: &Context<'_>, link: &Link) -> Result<Vec<DatabaseId>, Error> {
    let statuses = link.all_retained(&filters::statuses(&context.options.fleet)).await?;
    let statuses = statuses.iter().filter_map(|(_, payload)| serde_json::from_slice::<Status>(payload).ok());
    let held = statuses.filter(|status| {
        let mut conditions = status.conditions.iter();
        conditions
            .any(|condition| condition.kind == ConditionType::DeletionHeld && condition.status == ConditionStatus::True)
    });
    let mut databases: Vec<DatabaseId> = held.map(|status| status.database).collect();
    databases.sort();
    Ok(databases)
}
