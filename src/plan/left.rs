//! What a delete leaves behind: things on the disk of hosts that do not answer, while all else is gone.
//!
//! Invariant: only what could not be seen is left behind; whatever waits for anything else is still to be done.

use std::collections::BTreeSet;

use super::value::{Plan, WaitsFor};
use crate::model::{Executor, Graph, HostId};

/// The hosts on which something of `before` waits to be deleted although nothing else is left to do: they do not answer.
/// Empty while there is more to do, or nothing. What the host that plans, `here`, cannot see of itself is trouble, and not
/// left behind.
#[must_use]
pub fn behind(plan: &Plan, before: &Graph, here: &HostId) -> BTreeSet<HostId> {
    let hosts = plan.waiting.iter().map(|waiting| {
        let WaitsFor::Unknown { .. } = waiting.on else { return None };
        let Executor::Host(host) = &before.get(&waiting.resource)?.executor else { return None };
        (host != here).then(|| host.clone())
    });
    hosts.collect::<Option<BTreeSet<HostId>>>().filter(|_| plan.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Attributes, Kind, Payload, Resource, ResourceId, Scope};
    use crate::plan::Waiting;

    fn resource(name: &str, executor: Executor) -> Resource {
        Resource {
            id: ResourceId::new(Kind::Network, name),
            executor,
            member: None,
            dependencies: BTreeMap::new(),
            attributes: Attributes::Network { name: name.to_owned(), attachable: true },
            may_differ: Vec::new(),
            payload: Payload::None,
        }
    }

    #[test]
    fn only_what_cannot_be_seen_on_other_hosts_is_left_behind() {
        let host = |name: &str| HostId::parse(name).unwrap();
        let on = |name: &str| resource(name, Executor::Host(host(name)));
        let before = Graph::new([on("h1"), on("h2"), on("h3"), resource("shared", Executor::Manager)]).unwrap();
        let unknown = || WaitsFor::Unknown { why: "it does not answer".to_owned() };
        let waits = |name: &str, on| Waiting { resource: ResourceId::new(Kind::Network, name), action: None, on };
        let left = |waiting: Vec<Waiting>| {
            let plan = Plan { waiting, ..Plan::empty(Scope::Fleet) };
            behind(&plan, &before, &host("h1")).into_iter().map(String::from).collect::<Vec<_>>()
        };
        let nothing: [&str; 0] = [];
        assert_eq!(left(Vec::new()), nothing);
        assert_eq!(left(vec![waits("h2", unknown()), waits("h3", unknown())]), ["h2", "h3"]);
        assert_eq!(left(vec![waits("h2", unknown()), waits("h1", unknown())]), nothing, "trouble of our own");
        assert_eq!(left(vec![waits("h2", unknown()), waits("shared", unknown())]), nothing, "Swarm can be asked again");
        let person = WaitsFor::Person { why: "rows".to_owned() };
        assert_eq!(left(vec![waits("h2", unknown()), waits("h3", person)]), nothing);
        assert_eq!(left(vec![waits("h4", unknown())]), nothing, "nobody knows where it is");
    }
}
