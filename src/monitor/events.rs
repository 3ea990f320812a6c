//! Docker's events: hints that something changed, passed on as bells. The lists are the truth, the tick is the retry.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::domain::layout;
use crate::drivers::swarm::Event;
use crate::model::{DatabaseId, FleetId, HostId, Scope};
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
                        biased;
                        () = stop.cancelled() => return,
                        next = tokio::time::timeout(QUIET_MAX, events.next()) => next,
                    };
                    let Ok(Some(event)) = next else { break };
                    if let Some(scope) = concerned(&world.fleet, &world.facts.host, &event) {
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
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The scope that an event is about, if it is one of ours. Health checks that succeed again and again, commands run
/// inside a container, and containers that join a network change nothing.
fn concerned(fleet: &FleetId, host: &HostId, event: &Event) -> Option<Scope> {
    let action = event.action.as_str();
    if action.starts_with("exec_") || ["top", "connect", "disconnect"].contains(&action) {
        return None;
    }
    match event.attributes.get(FLEET_LABEL) {
        Some(of) if of == fleet.as_str() => scope_of_label(event.attributes.get(SCOPE_LABEL)?),
        Some(_) => None,
        None => named(fleet, host, event),
    }
}

/// Docker tells the labels of containers only: services, networks and configs are known by their names. A name that looks
/// like ours and is not gives a look at a database that nobody knows, which ends at once.
fn named(fleet: &FleetId, host: &HostId, event: &Event) -> Option<Scope> {
    let name = event.attributes.get("name")?;
    let database = match event.kind.as_str() {
        "service" if *name == layout::etcd_service(fleet, host) => return Some(Scope::Fleet),
        "service" => layout::database_of_service(name)?,
        "network" => layout::database_of_network(name)?,
        "config" => return recorded(fleet, name),
        _ => return None,
    };
    DatabaseId::parse(&database).ok().map(Scope::Database)
}

/// The scope whose record a config holds.
fn recorded(fleet: &FleetId, name: &str) -> Option<Scope> {
    let (rest, revision) = name.strip_prefix("pgmoor.")?.rsplit_once('.')?;
    let (label, _fleet) = rest.rsplit_once('.')?;
    let scope = scope_of_label(label)?;
    (layout::record_config(fleet, &scope, revision.parse().ok()?) == name).then_some(scope)
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
        let host = HostId::parse("host-1").unwrap();
        let concerned = |event: &Event| super::concerned(&fleet, &host, event);
        let shop = Scope::Database(DatabaseId::parse("shop").unwrap());
        assert_eq!(concerned(&event("site", "db.shop", "die")), Some(shop.clone()));
        assert_eq!(concerned(&event("site", "fleet", "die")), Some(Scope::Fleet));
        assert_eq!(concerned(&event("other", "db.shop", "die")), None);
        assert_eq!(concerned(&event("site", "db.shop", "exec_start: curl")), None);

        // What `docker events` says when a service, a network or a config is removed by hand.
        let named = |kind: &str, action: &str, name: &str| Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            attributes: BTreeMap::from([("name".to_owned(), name.to_owned())]),
        };
        assert_eq!(concerned(&named("service", "remove", "postgres-shop-n1-689qacsi")), Some(shop.clone()));
        assert_eq!(concerned(&named("service", "update", "web")), None);
        let etcd = layout::etcd_service(&fleet, &host);
        assert_eq!(concerned(&named("service", "remove", &etcd)), Some(Scope::Fleet));
        assert_eq!(concerned(&named("network", "remove", "shop-database")), Some(shop.clone()));
        assert_eq!(concerned(&named("network", "connect", "shop-database")), None);
        let record = layout::record_config(&fleet, &shop, 3);
        assert_eq!(concerned(&named("config", "remove", &record)), Some(shop));
        let other = layout::record_config(&FleetId::parse("other").unwrap(), &Scope::Fleet, 3);
        assert_eq!(concerned(&named("config", "remove", &other)), None);
    }
}
