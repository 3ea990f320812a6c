//! `drain-host`, `use-host`, `remove-host`: how a person wants a host to stand.
//!
//! Invariants: nothing is done here: the wish is stored with its answer, and the fleet's record takes it over in the next
//! pass; a host with anything on it is removed only by force, and never the one that leads or has the only member of etcd.

use crate::contract::faults::{Code, Fault};
use crate::model::{DatabaseId, HostId, HostStanding, InstanceId, NodeName};
use crate::store::{self, Rows as _, Writer};

/// The most nodes of a database (reference 1.2).
const NODES_MAX: u16 = 9;

/// An instance on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct There {
    database: DatabaseId,
    instance: InstanceId,
    /// Whether pgmoor chose the host.
    chosen: bool,
}

/// What the answer says, or why it is refused.
pub(super) type Answer = Result<String, Vec<Fault>>;

/// Stores how a host is to stand; none: as any other. `leads` is this host.
pub(super) fn wish(
    writer: &mut Writer<'_>,
    leads: &HostId,
    (host, standing, force): (&HostId, Option<HostStanding>, bool),
) -> store::Result<Answer> {
    let Some(fleet) = writer.fleet_record()? else {
        let fault = Fault::new(Code::Unavailable, "", "the fleet has no record yet").hint("ask again in a moment");
        return Ok(Err(vec![fault]));
    };
    if !fleet.hosts.contains_key(host) && !knows(writer, host)? {
        return Ok(Err(vec![Fault::new(Code::UnknownHost, "/host", format!("the fleet has no host {host}"))]));
    }
    let instances = instances(writer, host)?;
    if standing == Some(HostStanding::Removed) {
        let member = fleet.etcd_members.contains_key(host);
        let only_member = member && fleet.etcd_members.len() == 1;
        if let Some(fault) = refusal(host, leads, (force, member, only_member), &instances) {
            return Ok(Err(vec![fault]));
        }
    }
    let mut wishes = writer.host_wishes()?;
    wishes.insert(host.clone(), standing);
    writer.put_host_wishes(&wishes)?;
    Ok(Ok(said(host, standing, &instances)))
}

fn knows(writer: &Writer<'_>, host: &HostId) -> store::Result<bool> {
    Ok(writer.fleet_hosts()?.is_some_and(|hosts| hosts.known.contains(host)))
}

/// Why a host cannot be removed.
fn refusal(
    host: &HostId,
    leads: &HostId,
    (force, member, only_member): (bool, bool, bool),
    instances: &[There],
) -> Option<Fault> {
    let in_use = |message: String| Fault::new(Code::HostInUse, "/host", message);
    if host == leads {
        let message = format!("{host} leads the fleet now: it cannot remove itself");
        return Some(
            in_use(message).hint(format!("stop pgmoor and Docker on {host}, another host leads then; ask again")),
        );
    }
    if only_member {
        let message = format!("the only member of the fleet's etcd is on {host}");
        return Some(in_use(message).hint("drain it first: its member goes to another host that is there"));
    }
    if force || (instances.is_empty() && !member) {
        return None;
    }
    let etcd = member.then(|| "a member of etcd".to_owned());
    let there: Vec<String> = named(instances).into_iter().chain(etcd).collect();
    Some(in_use(format!("on {host} there are: {}", there.join(", "))))
}

fn named<'a>(instances: impl IntoIterator<Item = &'a There>) -> Vec<String> {
    let words = |one: &There| format!("instance {} of database {}", one.instance, one.database);
    instances.into_iter().map(words).collect()
}

/// What follows, for people.
fn said(host: &HostId, standing: Option<HostStanding>, instances: &[There]) -> String {
    let there = |instances: &[&There]| named(instances.iter().copied()).join(", ");
    let (chosen, named_there): (Vec<&There>, Vec<&There>) = instances.iter().partition(|one| one.chosen);
    match (standing, instances.is_empty()) {
        (None, _) => format!("{host} is used as any other host"),
        (Some(HostStanding::Drained), true) => {
            format!("{host} is drained: nothing new comes there, and no instance is there")
        }
        (Some(HostStanding::Drained), false) => {
            let move_on = format!(
                " These move to other hosts, one change at a time, where others fit (their status says it): {}.",
                there(&chosen)
            );
            let stay = format!(
                " These stay, since their specs name {host}: {}. Take it out of their host_ids to move them.",
                there(&named_there)
            );
            format!(
                "{host} is drained: nothing new comes there, and primaries there hand their role over where a replica can \
                 take it.{}{}",
                if chosen.is_empty() { "" } else { &move_on },
                if named_there.is_empty() { "" } else { &stay },
            )
        }
        (Some(HostStanding::Removed), true) => {
            format!("{host} is being removed from the fleet and from the Swarm: `pgmoor hosts` shows when it is gone")
        }
        (Some(HostStanding::Removed), false) => format!(
            "{host} is being removed from the fleet and from the Swarm: `pgmoor hosts` shows when it is gone. Databases go on \
             without what was there: {}. Where their specs name it, take it out of their host_ids or name another; elsewhere \
             another host is chosen where one fits",
            there(&instances.iter().collect::<Vec<_>>())
        ),
    }
}

/// The instances that are on a host, by the records of the living databases.
fn instances(writer: &Writer<'_>, host: &HostId) -> store::Result<Vec<There>> {
    let nodes: Vec<NodeName> =
        (1..=NODES_MAX).filter_map(|number| NodeName::parse(&format!("n{number}")).ok()).collect();
    let mut found = Vec::new();
    for (database, record) in writer.all_records()? {
        for node in nodes.iter().filter(|_| record.tombstone.is_none()) {
            let instance = InstanceId::derive(&database, node, host);
            let placement = record.placement.get(node.as_str());
            let chosen = placement.is_some_and(|placement| placement.hosts.iter().any(|chosen| chosen.host == *host));
            if record.etcd_passwords.contains_key(instance.as_str()) {
                found.push(There { database: database.clone(), instance, chosen });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{FleetHosts, FleetId, FleetRecord, Secret};
    use crate::store::{Commits, Store};

    fn host(text: &str) -> HostId {
        HostId::parse(text).unwrap()
    }

    fn shop(host: &HostId) -> There {
        let database = DatabaseId::parse("shop").unwrap();
        let instance = InstanceId::derive(&database, &NodeName::parse("n1").unwrap(), host);
        There { database, instance, chosen: false }
    }

    #[test]
    fn a_host_with_anything_on_it_is_removed_only_by_force() {
        let (leads, other) = (host("h1"), host("h2"));
        let there = [shop(&other)];
        let refused = |force, member, only, instances: &[_]| refusal(&other, &leads, (force, member, only), instances);
        assert_eq!(refused(false, false, false, &[]), None);
        assert_eq!(refused(true, true, false, &there), None);
        let fault = refused(false, true, false, &there).unwrap();
        assert_eq!((fault.code, fault.pointer.as_str()), (Code::HostInUse, "/host"));
        assert!(fault.message.contains("of database shop") && fault.message.contains("member of etcd"), "{fault:?}");
        assert!(refused(false, true, false, &[]).is_some());
        assert!(refused(true, true, true, &[]).unwrap().message.contains("only member"));
        assert!(refusal(&leads, &leads, (true, false, false), &[]).unwrap().message.contains("leads"));
    }

    #[test]
    fn the_answer_names_what_stays() {
        let other = host("h2");
        let (there, instance) = ([shop(&other)], shop(&other).instance);
        let drained = said(&other, Some(HostStanding::Drained), &there);
        assert!(drained.contains(instance.as_str()) && drained.contains("These stay"), "{drained}");
        let chosen = said(&other, Some(HostStanding::Drained), &[There { chosen: true, ..shop(&other) }]);
        assert!(chosen.contains("These move") && !chosen.contains("stay"), "{chosen}");
        assert!(said(&other, Some(HostStanding::Removed), &there).contains("go on without"));
        assert!(!said(&other, Some(HostStanding::Drained), &[]).contains("stay"));
    }

    #[tokio::test]
    async fn a_wish_about_a_host_of_the_fleet_is_kept() {
        let (leads, other, fleet) = (host("h1"), host("h2"), FleetId::parse("edge").unwrap());
        let options = store::Options { commits: Commits::AtOnce, ..store::Options::new(fleet.clone()) };
        let store = Store::in_memory(&options).unwrap();
        let record = FleetRecord {
            revision: 1,
            fleet,
            ca_certificate_pem: String::new(),
            ca_key_pem: Secret::new(""),
            etcd_root_password: Secret::new(""),
            etcd_members: BTreeMap::from([(leads.clone(), "192.0.2.1".to_owned())]),
            etcd_joined: BTreeMap::new(),
            etcd_change: None,
            etcd_cluster_token: String::new(),
            hosts: BTreeMap::new(),
            leftovers: BTreeMap::new(),
        };
        let known = FleetHosts {
            known: [leads.clone(), other.clone()].into(),
            drained: Default::default(),
            default: leads.clone(),
        };
        let ask = async |host: &HostId, standing, force| {
            let (leads, host) = (leads.clone(), host.clone());
            let asked = store.write(move |writer| wish(writer, &leads, (&host, standing, force))).await.unwrap();
            asked.map_err(|faults| faults[0].code)
        };
        let drained = Some(HostStanding::Drained);
        assert_eq!(ask(&other, drained, false).await, Err(Code::Unavailable));
        let write = store.write(move |writer| {
            writer.put_fleet_hosts(&known)?;
            writer.put_fleet_record(&record)
        });
        write.await.unwrap();
        assert_eq!(ask(&host("h9"), drained, false).await, Err(Code::UnknownHost));
        assert_eq!(ask(&leads, Some(HostStanding::Removed), true).await, Err(Code::HostInUse));
        assert!(store.read(|reader| reader.host_wishes()).unwrap().is_empty());
        assert!(ask(&other, drained, false).await.is_ok());
        assert_eq!(store.read(|reader| reader.host_wishes()).unwrap(), [(other.clone(), drained)].into());
        assert!(ask(&other, Some(HostStanding::Removed), false).await.is_ok(), "nothing is there");
        assert!(ask(&other, None, false).await.is_ok());
        assert_eq!(store.read(|reader| reader.host_wishes()).unwrap(), [(other, None)].into(), "the last word counts");
    }
}
