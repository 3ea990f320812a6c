//! `events`: what happens, as it happens.

use std::time::Duration;

use serde_json::Value;

use super::args::Events as Args;
use super::link::Follow;
use super::output::plain;
use super::{Context, Error, Exit, Out, render};
use crate::contract::documents::Event;
use crate::contract::topics::{Topic, filters};

/// How long a follower waits before it waits again.
const ROUND: Duration = Duration::from_secs(3600);

pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let fleet = &context.options.fleet;
    let filter = match &args.database {
        Some(database) => Topic::Events(database.clone()).to_string(fleet),
        None => filters::events(fleet),
    };
    let (mut follow, _nothing_is_retained) = Follow::start(context, vec![filter]).await?;
    out.note(&format!("following the events at {}; Ctrl-C ends it", follow.link().server()));
    loop {
        let Some(message) = follow.next(context, ROUND, out).await? else { continue };
        let Ok(document) = serde_json::from_slice::<Value>(&message.payload) else {
            out.note(&format!("what came on {} is no JSON", plain(&message.topic)));
            continue;
        };
        out.item(args.output.format, &document, |style| {
            match serde_json::from_value::<Event>(document.clone()) {
                Ok(event) => render::event(&event, style),
                // A newer pgmoor may know events that this one does not.
                Err(_) => format!("{}\n", plain(&document.to_string())),
            }
        })?;
    }
}
