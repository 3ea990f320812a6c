//! Which hosts the instances of a node go to whose spec leaves that open, and why.
//!
//! Invariants: equal inputs give equal choices; who was chosen stays unless the spec asks otherwise or the host is to be
//! left; no host stands twice; a node whose hosts are all gone gets no others, since they would begin without its data.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{HostFacts, Hosts};
use crate::model::labels::host_labels_text;
use crate::model::spec::{NodeSpec, PlacementRequest};
use crate::model::{
    AcceptedSpec, ChosenHost, FleetRecord, HostId, HostLabels, HostStanding, InstanceId, NodeHosts, NodeName,
    Placement, Record,
};

/// What is said of a host on which a node was before its hosts were left open.
pub const WAS_THERE: &str = "it was there before its hosts were left to pgmoor";
/// What is said of a host that was removed.
const REMOVED: &str = "it was removed from the fleet";
/// What is said of the host of a fleet that has no other.
const ONLY_HOST: &str = "it is the only host of the fleet";

/// A host, as far as the choice depends on it.
#[derive(Debug, Clone)]
pub struct Room<'a> {
    /// What it is.
    pub facts: &'a HostFacts,
    /// Whether it answered just now.
    pub answers: bool,
    /// Instances of other databases, and of other nodes, on it.
    pub instances: usize,
    /// Memory that was promised to other databases, in bytes.
    pub memory_promised_bytes: u64,
    /// Thousandths of a processor that were promised to other databases.
    pub cpu_promised_millis: u64,
    /// Who has the fixed port there that the node asks for, as a clause for people; none: nobody.
    pub port_taken: Option<String>,
}

/// Who of those that were chosen before stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// Everyone: their data comes back from the trash.
    All,
    /// Those that have the labels, where the spec asks for other ones than before.
    Labelled,
    /// The same without hosts that are to be left, as far as there are others.
    Wanted,
}

/// A node whose hosts are to be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// It.
    pub node: &'a NodeSpec,
    /// What it asks of its hosts.
    pub request: &'a PlacementRequest,
    /// What was chosen before; none: it is new.
    pub before: Option<&'a Placement>,
    /// Who of them stays.
    pub stay: Stay,
    /// The host of its primary, where it is seen.
    pub primary: Option<&'a HostId>,
    /// Hosts that come first among the new ones: they were looked at already.
    pub first: &'a BTreeSet<HostId>,
    /// The hosts that are not to be used as any other.
    pub standings: &'a BTreeMap<HostId, HostStanding>,
}

/// What was chosen for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The hosts.
    pub placement: Placement,
    /// How many are missing.
    pub missing: usize,
    /// Why each host that was not chosen was not.
    pub out: Vec<(HostId, String)>,
    /// Those among the chosen that are to be left.
    pub to_be_left: Vec<HostId>,
}

impl Choice {
    /// What is wanting, as a sentence for people; none: nothing is.
    #[must_use]
    pub fn wanting(&self, node: &NodeName) -> Option<String> {
        let has = self.placement.hosts.len();
        let left: Vec<&str> = self.to_be_left.iter().map(HostId::as_str).collect();
        let what = match (self.missing, left.is_empty()) {
            (0, true) => return None,
            (0, false) => format!("{node} is still on {}, which is to be left", left.join(", ")),
            (missing, _) => {
                let needs = has.saturating_add(missing);
                let hosts = if needs == 1 { "host" } else { "hosts" };
                let has = if has == 0 { "none".to_owned() } else { has.to_string() };
                format!("{node} needs {needs} {hosts}, and the fleet has {has} for it")
            }
        };
        let out: Vec<String> = self.out.iter().map(|(host, why)| format!("{host}: {why}")).collect();
        let out = if out.is_empty() { "there is no other host".to_owned() } else { out.join("; ") };
        Some(format!("{what}; {out}"))
    }
}

/// Whether what was chosen is not what is asked now, or stands on a host that is to be left or is gone.
#[must_use]
pub fn is_due(request: &PlacementRequest, before: &Placement, standings: &BTreeMap<HostId, HostStanding>) -> bool {
    before.hosts.len() != request.hosts()
        || before.labels != request.labels
        || before.hosts.iter().any(|chosen| standings.contains_key(&chosen.host))
}

/// Chooses the hosts of a node among these, the hosts of its fleet: first those with the fewest instances, then those
/// with the most free memory, then by their ids.
#[must_use]
pub fn choose(wanted: &Wanted<'_>, rooms: &[Room<'_>]) -> Choice {
    let count = wanted.request.hosts();
    let before = wanted.before.map(|before| before.hosts.as_slice()).unwrap_or_default();
    let (mut kept, mut left, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for chosen in before {
        let leaves = wanted.stay == Stay::Wanted && wanted.standings.contains_key(&chosen.host);
        match wanted.goes(chosen, rooms) {
            Some(why) => out.push((chosen.host.clone(), why)),
            None if leaves => left.push(chosen.clone()),
            None => kept.push(chosen.clone()),
        }
    }
    let is_gone = |chosen: &ChosenHost| wanted.standings.get(&chosen.host) == Some(&HostStanding::Removed);
    if !before.is_empty() && before.iter().all(is_gone) {
        let why = "it was removed from the fleet, and has the data; no other host has any of it".to_owned();
        let out = before.iter().map(|chosen| (chosen.host.clone(), why.clone()));
        return Choice { placement: Placement::default(), missing: count, out: out.collect(), to_be_left: Vec::new() };
    }
    wanted.shrink(&mut kept, count);
    let has = |host: &HostId| before.iter().any(|chosen| chosen.host == *host);
    let others = rooms.iter().filter(|room| !has(&room.facts.host));
    let mut fit = Vec::new();
    for room in others {
        match wanted.unfit(room, rooms.len()) {
            Some(why) => out.push((room.facts.host.clone(), why)),
            None => fit.push(room),
        }
    }
    fit.sort_by_key(|room| {
        let host = &room.facts.host;
        (!wanted.first.contains(host), room.instances, Reverse(room.free_bytes()), host)
    });
    let new = count.saturating_sub(kept.len());
    let fitting = fit.len();
    kept.extend(
        fit.into_iter()
            .take(new)
            .map(|room| ChosenHost { host: room.facts.host.clone(), why: wanted.why(room, (fitting, rooms.len())) }),
    );
    // Whoever is to be left stays where nobody else is there.
    left.truncate(count.saturating_sub(kept.len()));
    let to_be_left: Vec<HostId> = left.iter().map(|chosen| chosen.host.clone()).collect();
    kept.extend(left);
    let missing = count.saturating_sub(kept.len());
    let asked_before = wanted.before.filter(|_| wanted.stay == Stay::All);
    let labels = asked_before.map_or(&wanted.request.labels, |before| &before.labels).clone();
    Choice { placement: Placement { labels, hosts: kept }, missing, out, to_be_left }
}

impl Wanted<'_> {
    /// Why a host that was chosen before may not stay; none: it may. One that is not known may: nobody can say anything
    /// against it.
    fn goes(&self, chosen: &ChosenHost, rooms: &[Room<'_>]) -> Option<String> {
        if self.standings.get(&chosen.host) == Some(&HostStanding::Removed) {
            return Some(REMOVED.to_owned());
        }
        let same = self.before.is_some_and(|before| before.labels == self.request.labels);
        if self.stay == Stay::All || same {
            return None;
        }
        rooms.iter().find(|room| room.facts.host == chosen.host).and_then(|room| lacks(room, &self.request.labels))
    }

    /// Leaves as many as are asked for: who is to be left goes first, then who was chosen last, the primary never.
    fn shrink(&self, kept: &mut Vec<ChosenHost>, count: usize) {
        while kept.len() > count {
            let goes = kept.iter().enumerate().filter(|(_, chosen)| Some(&chosen.host) != self.primary);
            let goes = goes.max_by_key(|(at, chosen)| (self.standings.contains_key(&chosen.host), *at));
            match goes.map(|(at, _)| at) {
                Some(at) => drop(kept.remove(at)),
                None => return,
            }
        }
    }

    /// Why a host cannot be chosen; none: it can. What the only host of a fleet lacks is told where it is asked for.
    fn unfit(&self, room: &Room<'_>, hosts: usize) -> Option<String> {
        match self.standings.get(&room.facts.host) {
            Some(HostStanding::Removed) => return Some(REMOVED.to_owned()),
            Some(HostStanding::Drained) => return Some("it is to be left".to_owned()),
            None => {}
        }
        if let Some(lacks) = lacks(room, &self.request.labels) {
            return Some(lacks);
        }
        if hosts == 1 {
            return None;
        }
        if let Some(taken) = &room.port_taken {
            return Some(taken.clone());
        }
        if self.node.memory_bytes > room.free_bytes() {
            let (free, wanted) = (mebibytes(room.free_bytes()), mebibytes(self.node.memory_bytes));
            return Some(format!("it has {free} MiB of memory that is not promised, and {wanted} MiB are asked for"));
        }
        let all = u64::from(room.facts.cpus) * 1000;
        if self.node.cpu_millis.is_some_and(|wanted| room.cpu_promised_millis.saturating_add(wanted) > all) {
            return Some("its processors are promised to others".to_owned());
        }
        (!room.answers).then(|| "it does not answer".to_owned())
    }

    /// Why a host was chosen among so many that fit, of so many hosts.
    fn why(&self, room: &Room<'_>, (fitting, hosts): (usize, usize)) -> String {
        if hosts == 1 {
            return ONLY_HOST.to_owned();
        }
        let labels = host_labels_text(&self.request.labels);
        let labels = if labels.is_empty() { String::new() } else { format!(" with {labels}") };
        let has = format!("{} instances of others and {} MiB free", room.instances, mebibytes(room.free_bytes()));
        match fitting {
            1 => format!("no other host{labels} fits ({has})"),
            _ => {
                format!("of {fitting} hosts{labels} that fit it has the fewest instances, then the most memory ({has})")
            }
        }
    }
}

impl Room<'_> {
    fn free_bytes(&self) -> u64 {
        self.facts.memory_bytes.saturating_sub(self.memory_promised_bytes)
    }
}

/// Which of the labels a host lacks; none: it has all of them.
fn lacks(room: &Room<'_>, labels: &HostLabels) -> Option<String> {
    labels.iter().find_map(|(name, value)| match room.facts.labels.get(name) {
        Some(has) if has == value => None,
        Some(has) => Some(format!("its label {name} is {has}, not {value}")),
        None => Some(format!("it has no label {name}")),
    })
}

/// Where the nodes of a database are, as its record tells: where they were put, and in a record from before hosts were
/// chosen, where an instance is, or else `default`.
#[must_use]
pub fn placed(record: &Record, hosts: &BTreeSet<HostId>, default: &HostId) -> NodeHosts {
    let nodes = record.images.keys().filter_map(|name| NodeName::parse(name).ok());
    let of_node = |node: NodeName| {
        let chosen = record.placement.get(node.as_str()).map(|placement| hosts_of(placement).cloned().collect());
        let has = |host: &&HostId| {
            record.etcd_passwords.contains_key(InstanceId::derive(&record.database, &node, host).as_str())
        };
        let there = || {
            let found = Some(default).filter(has).or_else(|| hosts.iter().find(has));
            vec![found.unwrap_or(default).clone()]
        };
        let hosts = chosen.unwrap_or_else(there);
        (node, hosts)
    };
    nodes.map(of_node).collect()
}

/// Every host that a record may be about: the known ones, and those that were removed.
#[must_use]
pub fn ever_known(fleet: &FleetRecord, hosts: &Hosts) -> BTreeSet<HostId> {
    hosts.iter().map(|facts| &facts.host).chain(fleet.hosts.keys()).cloned().collect()
}

/// What was chosen for a node before: by its record, else where its last spec, of `previous`, had it.
#[must_use]
pub fn before(node: &NodeName, record: Option<&Record>, previous: Option<&AcceptedSpec>) -> Option<Placement> {
    let chosen = record.and_then(|record| record.placement.get(node.as_str()));
    let was = || {
        let node = previous?.nodes.iter().find(|one| one.name == *node)?;
        let there = |host: &HostId| ChosenHost { host: host.clone(), why: WAS_THERE.to_owned() };
        Some(Placement { labels: HostLabels::new(), hosts: node.hosts.iter().map(there).collect() })
    };
    chosen.cloned().or_else(was).filter(|before| !before.hosts.is_empty())
}

/// The hosts of a placement.
pub fn hosts_of(placement: &Placement) -> impl Iterator<Item = &HostId> {
    placement.hosts.iter().map(|chosen| &chosen.host)
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests;
