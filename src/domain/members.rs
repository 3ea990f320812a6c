//! Which hosts run an etcd member, and what each was started with.
//!
//! Invariants: what a member was started with is remembered and never changes when others come or go, so none of those
//! that run is started again for it; one member comes or goes at a time, and never the last.

use std::collections::BTreeMap;

use super::{HostFacts, Hosts};
use crate::model::{FleetRecord, HostId};

/// The most members: three keep a quorum when one is lost, and more make each write slower.
pub const ETCD_MEMBERS_MAX: usize = 3;

/// The host that gets the next member: the first, by id, that has none. None: there are enough, or no host is left.
#[must_use]
pub fn next<'a>(record: &FleetRecord, hosts: &'a Hosts) -> Option<&'a HostFacts> {
    let wanted = record.etcd_members.len() < ETCD_MEMBERS_MAX;
    hosts.iter().find(|facts| wanted && !record.etcd_members.contains_key(&facts.host))
}

/// The record with a member on this host, which is started with all members of then. The revision grows by one unless
/// the host has a member already.
#[must_use]
pub fn join(mut record: FleetRecord, facts: &HostFacts) -> FleetRecord {
    if record.etcd_members.contains_key(&facts.host) {
        return record;
    }
    record.etcd_members.insert(facts.host.clone(), facts.advertise_address.to_string());
    record.etcd_joined.insert(facts.host.clone(), record.etcd_members.clone());
    record.revision += 1;
    record
}

/// The record without the member of this host. The revision grows by one unless it has none, or is the last.
#[must_use]
pub fn leave(mut record: FleetRecord, host: &HostId) -> FleetRecord {
    if record.etcd_members.len() < 2 || record.etcd_members.remove(host).is_none() {
        return record;
    }
    record.etcd_joined.remove(host);
    record.revision += 1;
    record
}

/// The members that the member of a host was started with, by address, and whether their cluster was there already.
/// Who founded it was started alone. Its own address is that of today.
pub(super) fn started_with<'a>(
    record: &'a FleetRecord,
    host: &'a HostId,
    address: &'a str,
) -> (BTreeMap<&'a HostId, &'a str>, bool) {
    let joined = record.etcd_joined.get(host);
    let mut members: BTreeMap<&HostId, &str> =
        joined.into_iter().flatten().map(|(host, address)| (host, address.as_str())).collect();
    members.insert(host, address);
    (members, joined.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixture::{facts, fleet_record, the_catalogue};
    use crate::domain::{FleetOptions, fleet};
    use crate::model::{Attributes, Kind, ResourceId};

    fn host(number: u8) -> HostFacts {
        let host = HostId::parse(&format!("host-{number}")).unwrap();
        HostFacts { host, advertise_address: [192, 0, 2, number].into(), ..facts() }
    }

    fn hosts() -> Hosts {
        (1..=4).map(host).collect()
    }

    /// What a member is started with.
    fn environment(record: &FleetRecord, number: u8) -> BTreeMap<String, String> {
        let graph = fleet::graph(record, &hosts(), &the_catalogue(), &FleetOptions::default()).unwrap();
        let id = ResourceId::new(Kind::Service, format!("etcd/host-{number}"));
        let Attributes::Service(service) = &graph.get(&id).unwrap().attributes else { panic!("no service") };
        service.env.clone()
    }

    #[test]
    fn members_come_one_by_one_and_start_nobody_again() {
        let (mut record, all) = (fleet_record(), hosts());
        let mut known: BTreeMap<u8, BTreeMap<String, String>> = BTreeMap::from([(1, environment(&record, 1))]);
        assert_eq!(known[&1]["ETCD_INITIAL_CLUSTER_STATE"], "new");
        for number in 2..=3 {
            let facts = next(&record, &all).unwrap();
            assert_eq!(facts.host, host(number).host);
            let revision = record.revision;
            record = join(record, facts);
            assert_eq!(record.revision, revision + 1);
            known.insert(number, environment(&record, number));
            for (member, started_with) in &known {
                assert_eq!(environment(&record, *member), *started_with);
            }
        }
        assert_eq!(next(&record, &all), None, "three are enough");
        assert_eq!(known[&3]["ETCD_INITIAL_CLUSTER_STATE"], "existing");
        let cluster = "host-1=https://192.0.2.1:2380,host-2=https://192.0.2.2:2380,host-3=https://192.0.2.3:2380";
        assert_eq!(known[&3]["ETCD_INITIAL_CLUSTER"], cluster);
        assert_eq!(join(record.clone(), &host(3)), record);
    }

    #[test]
    fn a_member_that_goes_is_followed_by_another() {
        let record = join(join(fleet_record(), &host(2)), &host(3));
        let (second, left) = (environment(&record, 2), leave(record.clone(), &host(1).host));
        assert_eq!(left.revision, record.revision + 1);
        assert_eq!(environment(&left, 2), second);
        assert_eq!(leave(left.clone(), &host(1).host), left);
        // The founder comes back as one that joins.
        let back = join(left, &host(1));
        assert_eq!(environment(&back, 1)["ETCD_INITIAL_CLUSTER_STATE"], "existing");
        let alone = leave(leave(back, &host(2).host), &host(3).host);
        assert_eq!(leave(alone.clone(), &host(1).host), alone, "the last one stays");
    }
}
