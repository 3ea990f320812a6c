//! `hosts`: what the hosts of the fleet have, and whether they can work.

use serde_json::Value;

use super::args::Hosts as Args;
use super::link::Link;
use super::output::plain;
use super::{Context, Error, Exit, Out, render};
use crate::contract::documents::{HostStatus, Time};
use crate::contract::topics::filters;

pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let link = Link::connect(context).await?;
    let found = link.all_retained(&filters::hosts(&context.options.fleet)).await?;
    link.close().await;
    let unreadable =
        |topic: &str, error: serde_json::Error| Error::Unreadable { topic: plain(topic), why: error.to_string() };
    let mut documents = Vec::new();
    let mut rows = Vec::new();
    for (topic, payload) in &found {
        documents.push(serde_json::from_slice::<Value>(payload).map_err(|error| unreadable(topic, error))?);
        rows.push(serde_json::from_slice::<HostStatus>(payload).map_err(|error| unreadable(topic, error))?);
    }
    if rows.is_empty() {
        out.note(&format!("no host of fleet {} has told of itself", context.options.fleet));
    }
    let now = Time::from_ms(context.clock.now_ms());
    out.document(args.output.format, &documents, |style| render::hosts(&rows, now, style))?;
    Ok(Exit::Done)
}
