//! Docker's events: hints that something changed, passed on as bells. The lists are the truth, the tick is the retry.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::drivers::swarm::Event;
use crate::model::{DatabaseId, FleetId, Scope};
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::bell::Bell;
use crate::runtime::random::Random;
use crate::world::{FLEET_LABEL, SCOPE_LABEL, World};

/// A connection to Docker that stays quiet this long is opened anew: a half-open one would stay quiet for ever.
const QUIET_MAX: Duration = Duration::from_secs(300);

/// Listens until told to stop; a connection that ends is opened again.
pub(super) async fn listen(world: World, bells: Vec<Bell>, random: Random, stop: CancellationToken) {
    let mut backoff = Backoff::new(Schedule::LINK, random);
    while !stop.is_cancelled() {
        let wait = match world.drivers.swarm.events().await {
            Ok(mut events) => {
                backoff.worked();
                // Whatever happened while nobody listened is found by the tick.
                loop {
                    let next = tokio::select! {
                        () = stop.cancelled() => return,
                        next = tokio::time::timeout(QUIET_MAX, events.next()) => next,
                    };
                    let Ok(Some(event)) = next else { break };
                    if let Some(scope) = concerned(&world.fleet, &event) {
                        bells.iter().for_each(|bell| bell.ring(scope.clone()));
                    }
                }
                backoff.failed()
            }
            Err(error) => {
                tracing::debug!(%error, "Docker's events cannot be had now");
                backoff.failed()
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The scope that an event is about, if it is one of ours. Health checks that succeed again and again, and commands
/// run inside a container, change nothing.
fn concerned(fleet: &FleetId, event: &Event) -> Option<Scope> {
    let noise = event.action.starts_with("exec_") || event.action == "top";
    if noise || event.attributes.get(FLEET_LABEL).map(String::as_str) != Some(fleet.as_str()) {
        return None;
    }
    scope_of_label(event.attributes.get(SCOPE_LABEL)?)
}

/// Reads [`Scope::label`] back.
fn scope_of_label(label: &str) -> Option<Scope> {
    match label.strip_prefix("db.") {
        Some(id) => DatabaseId::parse(id).ok().map(Scope::Database),
        None => (label == Scope::Fleet.label()).then_some(Scope::Fleet),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_our_own_events_ring() {
        let fleet = FleetId::parse("site").unwrap();
        let event = |fleet: &str, scope: &str, action: &str| Event {
            kind: "container".to_owned(),
            action: action.to_owned(),
            attributes: BTreeMap::from([
                (FLEET_LABEL.to_owned(), fleet.to_owned()),
                (SCOPE_LABEL.to_owned(), scope.to_owned()),
            ]),
        };
        let shop = Scope::Database(DatabaseId::parse("shop").unwrap());
        assert_eq!(concerned(&fleet, &event("site", "db.shop", "die")), Some(shop));
        assert_eq!(concerned(&fleet, &event("site", "fleet", "die")), Some(Scope::Fleet));
        assert_eq!(concerned(&fleet, &event("other", "db.shop", "die")), None);
        assert_eq!(concerned(&fleet, &event("site", "db.shop", "exec_start: curl")), None);
    }
}
