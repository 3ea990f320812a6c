//! `explain`: why a database is as it is, and what to do, from what stands retained at the broker alone.

use std::collections::BTreeMap;

use super::args::Explain as Args;
use super::link::Follow;
use super::{Context, Error, Exit, Out, render};
use crate::contract::documents::{OnlineState, Time};
use crate::contract::topics::{Topic, filters};
use crate::model::FleetId;
use crate::report::explain::{Known, explain};

pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let (fleet, database) = (&context.options.fleet, &args.database);
    let own = [Topic::Status(database.clone()), Topic::Plan(database.clone())].map(|topic| topic.to_string(fleet));
    let filters = own
        .into_iter()
        .chain(filters::instances(fleet, database))
        .chain([filters::hosts(fleet), filters::availability(fleet)])
        .collect();
    let (follow, retained) = Follow::start(context, filters).await?;
    follow.close().await;
    let known = known(fleet, &retained)?;
    let watched = known.controllers.iter().any(|controller| controller.state == OnlineState::Online);
    if known.status.is_none() && known.in_trash(database).is_none() && watched {
        return Err(Error::NoDatabase { database: database.clone(), fleet: fleet.clone() });
    }
    let now = Time::from_ms(context.clock.now_ms());
    let explanation = explain(database, &known, now);
    out.document(args.output.format, &explanation, |style| render::explanation(&explanation, now, style))?;
    Ok(if explanation.fine { Exit::Done } else { Exit::Changes })
}

/// What documents tell, by their topics.
pub(super) fn known(fleet: &FleetId, retained: &BTreeMap<String, Vec<u8>>) -> Result<Known, Error> {
    let mut known = Known::default();
    for (topic, payload) in retained {
        take(&mut known, Topic::parse(fleet, topic), payload)?;
    }
    Ok(known)
}

/// Takes one document in. What a newer daemon says that this version cannot read is left out, except for the status,
/// without which there is nothing to explain.
fn take(known: &mut Known, topic: Option<Topic>, payload: &[u8]) -> Result<(), Error> {
    let Some(topic) = topic else { return Ok(()) };
    if let Topic::Status(_) = topic {
        let status = serde_json::from_slice(payload)
            .map_err(|error| Error::Unreadable { topic: "status".to_owned(), why: error.to_string() })?;
        known.status = Some(status);
    } else if let Topic::Plan(_) = topic {
        known.plan = serde_json::from_slice(payload).ok();
    } else if let Topic::InstanceHealth(_, instance) = topic {
        known.instances.extend(serde_json::from_slice(payload).ok().map(|health| (instance, health)));
    } else if let Topic::HostStatus(_) = topic {
        known.hosts.extend(serde_json::from_slice::<crate::contract::documents::HostStatus>(payload).ok());
    } else if let Topic::Availability(_) = topic {
        known.controllers.extend(serde_json::from_slice::<crate::contract::documents::Availability>(payload).ok());
    }
    Ok(())
}
