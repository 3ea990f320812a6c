//! A database whose spec names a host that was removed from the fleet goes on without its instances there, and says so.

use std::collections::BTreeMap;

use super::conditions::Found;
use crate::contract::documents::ConditionType;
use crate::model::{AcceptedSpec, HostId, HostStanding};

/// The condition of a database that goes on without an instance, or has none left.
#[must_use]
pub fn condition(spec: &AcceptedSpec, standings: &BTreeMap<HostId, HostStanding>) -> Option<Found> {
    let removed = |host: &&HostId| standings.get(*host) == Some(&HostStanding::Removed);
    let node = spec.nodes.iter().find(|node| node.hosts.iter().any(|host| removed(&host)))?;
    let gone: Vec<&str> = node.hosts.iter().filter(removed).map(HostId::as_str).collect();
    let (name, hosts) = (&node.name, gone.join(", "));
    let (reason, message, hint) = if gone.len() == node.hosts.len() {
        let message = format!("every host of {name} was removed from the fleet ({hosts}): nothing of it is left");
        (
            "NothingLeft",
            message,
            format!("take {hosts} into use again if the data is still there, or delete the database"),
        )
    } else {
        let message = format!("{name} goes on without its instances on {hosts}, which was removed from the fleet");
        let hint = match node.placement {
            None => format!("take {hosts} out of host_ids, or name another host"),
            Some(_) => "another host is chosen as soon as one fits; `pgmoor hosts` shows them".to_owned(),
        };
        ("InstancesGone", message, hint)
    };
    Some(Found { kind: ConditionType::HostRemoved, reason: reason.to_owned(), message, hint: Some(hint) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::minimal;

    #[test]
    fn it_says_who_is_gone_and_whether_anybody_is_left() {
        let host = |text: &str| HostId::parse(text).unwrap();
        let mut spec = minimal();
        spec.nodes[0].hosts = vec![host("h1"), host("h2")];
        let mut standings = BTreeMap::from([(host("h1"), HostStanding::Drained)]);
        assert_eq!(condition(&spec, &standings), None);
        standings.insert(host("h2"), HostStanding::Removed);
        let found = condition(&spec, &standings).unwrap();
        assert_eq!(found.reason, "InstancesGone");
        assert!(found.message.contains("on h2"), "{found:?}");
        standings.insert(host("h1"), HostStanding::Removed);
        assert_eq!(condition(&spec, &standings).unwrap().reason, "NothingLeft");
    }
}
