//! `apply` and `delete`: publish, retained, what shall be; and wait for it where asked.
//!
//! Invariant: the payload is the file, byte for byte; its digest is how the controller names it.

use std::io::{BufRead as _, IsTerminal as _};

use serde::Serialize;

use super::args::{Apply, Delete, Format, Wait};
use super::follow::{Ended, Goal, Waiter};
use super::input::Spec;
use super::link::Link;
use super::output::plain;
use super::{Context, Error, Exit, Out, render};
use crate::contract::documents::Status;
use crate::contract::topics::Topic;
use crate::model::{DatabaseId, Digest};
use crate::mqtt::Message;

/// The document that deletes.
const DELETE: &[u8] = b"{\"deleted\":true}";

/// What machines get when nobody waits.
#[derive(Debug, Serialize)]
struct Published {
    database: DatabaseId,
    topic: String,
    digest: Digest,
}

pub(super) async fn apply(context: &Context<'_>, args: &Apply, out: &mut Out) -> Result<Exit, Error> {
    let spec = Spec::read(&args.spec)?;
    spec.publishable()?;
    if !args.wait.wait {
        let link = Link::connect(context).await?;
        publish(context, &link, &spec).await?;
        link.close().await;
        return published(context, &spec, args.output.format, out);
    }
    let mut waiter = Waiter::start(context, goal(&spec)).await?;
    publish(context, waiter.link(), &spec).await?;
    wait(context, &mut waiter, &spec.database, (args.wait, args.output.format), out).await
}

pub(super) async fn delete(context: &Context<'_>, args: &Delete, out: &mut Out) -> Result<Exit, Error> {
    let spec = Spec { database: args.database.clone(), bytes: DELETE.to_vec() };
    let mut waiter = Waiter::start(context, goal(&spec)).await?;
    if !waiter.known() && waiter.link().retained(&topic(context, &spec)).await?.is_none() {
        return Err(Error::NoDatabase { database: spec.database, fleet: context.options.fleet.clone() });
    }
    let fleet = &context.options.fleet;
    let question = format!("delete database {} of fleet {fleet}? Its data goes to the trash.", spec.database);
    if !args.yes && !confirmed(&question, &spec.database, out)? {
        out.note("nothing was deleted");
        return Ok(Exit::Failed);
    }
    publish(context, waiter.link(), &spec).await?;
    if args.wait.wait {
        return wait(context, &mut waiter, &spec.database, (args.wait, args.output.format), out).await;
    }
    waiter.close().await;
    published(context, &spec, args.output.format, out)
}

fn goal(spec: &Spec) -> Goal {
    Goal { database: spec.database.clone(), digest: spec.digest(), deletes: spec.deletes() }
}

fn topic(context: &Context<'_>, spec: &Spec) -> String {
    Topic::Spec(spec.database.clone()).to_string(&context.options.fleet)
}

async fn publish(context: &Context<'_>, link: &Link, spec: &Spec) -> Result<(), Error> {
    link.publish(&Message::retained(topic(context, spec), spec.bytes.clone())).await
}

fn published(context: &Context<'_>, spec: &Spec, format: Format, out: &mut Out) -> Result<Exit, Error> {
    let document = Published { database: spec.database.clone(), topic: topic(context, spec), digest: spec.digest() };
    out.document(format, &document, |_| {
        let (topic, digest, database) = (&document.topic, document.digest.short(), &document.database);
        format!("published on {topic} (digest {digest}); `pgmoor status {database} -w` shows what becomes of it\n")
    })?;
    Ok(Exit::Done)
}

/// Asks whoever sits at the terminal.
pub(super) fn confirmed(question: &str, database: &DatabaseId, out: &mut Out) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::NotConfirmed(database.clone()));
    }
    out.ask(&format!("{question} [y/N] "));
    let mut answer = String::new();
    // Nobody who answers is nobody who agrees.
    let read = std::io::stdin().lock().read_line(&mut answer).unwrap_or(0);
    Ok(read > 0 && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

pub(super) async fn wait(
    context: &Context<'_>,
    waiter: &mut Waiter,
    database: &DatabaseId,
    (wait, format): (Wait, Format),
    out: &mut Out,
) -> Result<Exit, Error> {
    match waiter.run(context, wait.timeout, out).await? {
        Ended::Reached(status) => {
            out.document(format, &status, |_| reached(database, status.as_deref()))?;
            Ok(Exit::Done)
        }
        Ended::Rejected(status) => {
            let faults = status.verdict.as_ref().map(|verdict| verdict.faults.clone()).unwrap_or_default();
            out.note(&format!("{database}: the spec was rejected, nothing has changed"));
            out.document(format, &status, |style| render::faults(&faults, style))?;
            Ok(Exit::Failed)
        }
        Ended::Held(status) => {
            out.note(&format!(
                "{database}: too many databases were deleted at once, so this delete waits: \
                 `pgmoor confirm-delete {database}` does it, `pgmoor apply` with its spec withdraws it"
            ));
            out.document(format, &status, |_| String::new())?;
            Ok(Exit::Failed)
        }
        Ended::TimedOut(status) => {
            let how = match status.as_deref() {
                Some(status) => render::progress(status).1,
                None => "nothing was said about it".to_owned(),
            };
            let limit_s = wait.timeout.as_secs();
            out.note(&format!("{database}: not done after {limit_s} s ({how}); it goes on without us"));
            out.document(format, &status, |_| String::new())?;
            Ok(Exit::TimedOut)
        }
    }
}

fn reached(database: &DatabaseId, status: Option<&Status>) -> String {
    let state = status.map_or("deleted", render::state);
    let uri = status.and_then(|status| status.connection.as_ref()).map(|connection| plain(&connection.uri));
    match uri {
        Some(uri) => format!("{database} is {state}: {uri}\n"),
        None => format!("{database} is {state}\n"),
    }
}
