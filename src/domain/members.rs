//! Which hosts run an etcd member, what each was started with, and which comes or goes next.
//!
//! Invariants: what a member was started with is remembered and never changes when others come or go, so none of those
//! that run is started again for it; one member comes or goes at a time, and never the last; a host that is not to be
//! used gets none.

use std::collections::{BTreeMap, BTreeSet};

use super::{FleetOptions, HostFacts, Hosts, is_removed, layout};
use crate::model::{EtcdChange, EtcdJoined, FleetHosts, FleetRecord, HostId};

/// The most members: three keep a quorum when one is lost, and more make each write slower.
pub const ETCD_MEMBERS_MAX: usize = 3;

/// How the members of a cluster that has a quorum stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The host whose member is not in the list of members any more.
    pub lost: Option<HostId>,
    /// The hosts whose member does not answer.
    pub silent: BTreeSet<HostId>,
    /// The hosts that cannot run a member yet, as they lack its image: a member that is in the list and does not start is
    /// one that the quorum counts.
    pub unable: BTreeSet<HostId>,
}

/// The hosts of a fleet. A database from before hosts were chosen is on the one that founded it, while that is to be used,
/// else on the first by id that is; `here` where none is known.
#[must_use]
pub fn fleet_hosts(record: &FleetRecord, hosts: &Hosts, here: &HostId) -> FleetHosts {
    let founder = record.etcd_members.keys().find(|host| !record.etcd_joined.contains_key(*host));
    let is_fit = |host: &&HostId| hosts.get(host).is_some() && !record.hosts.contains_key(*host);
    let default = founder.filter(is_fit).or_else(|| hosts.iter().map(|facts| &facts.host).find(is_fit));
    let known: BTreeSet<HostId> = hosts.of(record).iter().map(|facts| facts.host.clone()).collect();
    let drained = known.iter().filter(|host| record.hosts.contains_key(*host)).cloned().collect();
    FleetHosts { drained, default: default.unwrap_or(here).clone(), known }
}

/// The record with the next change of members, if one is due: the first thing that is wrong with them. A member goes
/// whose host is not to be used, or that is lost; then one comes while there are too few, or goes that is too much. One
/// that answers stays while another does not: the quorum may need it, and what waits for a quorum holds up all others.
#[must_use]
pub fn next(record: &FleetRecord, hosts: &Hosts, standing: &Standing) -> Option<FleetRecord> {
    let fit: BTreeSet<&HostId> =
        hosts.iter().map(|facts| &facts.host).filter(|host| !record.hosts.contains_key(*host)).collect();
    match &record.etcd_change {
        // It has no vote yet, or only just, so nobody needs it.
        Some(EtcdChange::Joins { host, .. }) if !fit.contains(host) => return Some(leave(record.clone(), host)),
        Some(EtcdChange::Joins { .. } | EtcdChange::Leaves { .. }) => return None,
        None => {}
    }
    let (good, bad): (Vec<&HostId>, Vec<&HostId>) =
        record.etcd_members.keys().partition(|host| fit.contains(*host) && standing.lost.as_ref() != Some(*host));
    let silent = |host: &HostId| standing.silent.contains(host) || standing.lost.as_ref() == Some(host);
    let may_leave = |host: &HostId| standing.silent.iter().all(|other| other == host) || silent(host);
    let free = |host: &HostId| {
        fit.contains(host) && !record.etcd_members.contains_key(host) && !standing.unable.contains(host)
    };
    let free: Vec<&HostFacts> = hosts.iter().filter(|facts| free(&facts.host)).collect();
    // Of those that can: the first of two more comes only when the second can come, too.
    let able = good.len() + free.len();
    if !bad.is_empty() && !good.is_empty() {
        let first = bad.iter().find(|host| silent(host)).or(bad.first());
        first.filter(|host| may_leave(host)).map(|host| leave(record.clone(), host))
    } else if good.len() < wanted(able) {
        free.first().map(|facts| join(record.clone(), facts))
    } else if good.len() > wanted(fit.len()) {
        // Who founded the cluster stays.
        let newest = good.iter().rev().find(|host| record.etcd_joined.contains_key(**host)).or(good.last());
        newest.filter(|host| may_leave(host)).map(|host| leave(record.clone(), host))
    } else {
        None
    }
}

/// Two members need each other, so that is worse than one: either three, or one.
fn wanted(hosts: usize) -> usize {
    if hosts < ETCD_MEMBERS_MAX { 1 } else { ETCD_MEMBERS_MAX }
}

/// The record with a member on this host, which is started with all members of then.
fn join(mut record: FleetRecord, facts: &HostFacts) -> FleetRecord {
    record.revision += 1;
    record.etcd_members.insert(facts.host.clone(), facts.advertise_address.to_string());
    let joined = EtcdJoined { revision: record.revision, members: record.etcd_members.clone() };
    record.etcd_joined.insert(facts.host.clone(), joined);
    record.etcd_change = Some(EtcdChange::Joins { host: facts.host.clone(), started: false });
    record
}

/// The record without the member of this host.
fn leave(mut record: FleetRecord, host: &HostId) -> FleetRecord {
    let address = record.etcd_members.remove(host).unwrap_or_default();
    let joined = record.etcd_joined.remove(host);
    record.revision += 1;
    record.etcd_change = Some(EtcdChange::Leaves { host: host.clone(), address, joined });
    record
}

/// How many members have their vote and run: the one that is coming is not counted yet.
#[must_use]
pub fn voting(record: &FleetRecord) -> usize {
    let coming = matches!(record.etcd_change, Some(EtcdChange::Joins { .. }));
    record.etcd_members.len().saturating_sub(usize::from(coming))
}

/// Where the members are that are to have a vote: all, but for one that comes and has not started yet.
pub(super) fn voters(record: &FleetRecord) -> impl Iterator<Item = &str> {
    let coming = match &record.etcd_change {
        Some(EtcdChange::Joins { host, started: false }) => Some(host),
        Some(EtcdChange::Joins { started: true, .. } | EtcdChange::Leaves { .. }) | None => None,
    };
    let voting = record.etcd_members.iter().filter(move |(host, _)| Some(*host) != coming);
    voting.map(|(_, address)| address.as_str())
}

/// The record once what it says of its change of members is done: who came has started and gets its vote, then the change
/// is over; of who went nothing is left.
#[must_use]
pub fn done(mut record: FleetRecord) -> FleetRecord {
    let Some(change) = record.etcd_change.take() else { return record };
    if let EtcdChange::Joins { host, started: false } = change {
        record.etcd_change = Some(EtcdChange::Joins { host, started: true });
    }
    record.revision += 1;
    record
}

/// The host whose member is not in the list of members any more: somebody took it out, or it has another address than
/// before. The only member is never lost, and one that comes is not there yet.
#[must_use]
pub fn lost(record: &FleetRecord, options: &FleetOptions, peer_urls: &BTreeSet<String>) -> Option<HostId> {
    if record.etcd_change.is_some() || record.etcd_members.len() < 2 {
        return None;
    }
    let gone = |address: &String| !peer_urls.contains(&peer_url(address, options));
    record.etcd_members.iter().find(|(_, address)| gone(address)).map(|(host, _)| host.clone())
}

/// Where an instance's Patroni looks for etcd once none of the members that it knows of answers: at the members, and at
/// the hosts that get the next ones. What it knows of beside its file it asks etcd for, and that is every ten `ttl`: it
/// would know of nobody else when the only member of its start is lost before that.
pub(super) fn addresses(record: &FleetRecord, hosts: &Hosts) -> BTreeSet<String> {
    let mut addresses: BTreeSet<String> = record.etcd_members.values().cloned().collect();
    // Also one that is to be left: what a file says does not change with that.
    for facts in hosts.iter().filter(|facts| !is_removed(record, &facts.host)) {
        if addresses.len() >= ETCD_MEMBERS_MAX {
            break;
        }
        addresses.insert(facts.advertise_address.to_string());
    }
    addresses
}

/// The URL at which other members reach a member.
pub(super) fn peer_url(address: &str, options: &FleetOptions) -> String {
    layout::etcd_url(address, options.etcd_peer_port)
}

/// The members that the member of a host was started with, by address, and whether their cluster was there already.
/// Who founded it was started alone. Its own address is that of today.
pub(super) fn started_with<'a>(
    record: &'a FleetRecord,
    host: &'a HostId,
    address: &'a str,
) -> (BTreeMap<&'a HostId, &'a str>, bool) {
    let joined = record.etcd_joined.get(host);
    let then = joined.iter().flat_map(|joined| &joined.members);
    let mut members: BTreeMap<&HostId, &str> = then.map(|(host, address)| (host, address.as_str())).collect();
    members.insert(host, address);
    (members, joined.is_some())
}

#[cfg(test)]
mod tests;
