//! What must be chosen once: passwords, ports, images. It goes into the record, and the record into Swarm, before
//! anything is made with it.
//!
//! Invariant: minting twice with the same arguments changes nothing the second time, the revision included.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::Error;
use crate::model::record::{StoredSpec, Tombstone};
use crate::model::spec::PortRequest;
use crate::model::{AcceptedSpec, HostId, InstanceId, NodeName, Placement, Record, Secret};

/// Bytes of randomness in a generated password: 192 bits, 32 characters of base64url.
pub const PASSWORD_BYTES: usize = 24;
/// The first port that is given out (reference 3.8).
pub const PORT_FIRST: u16 = 5432;
/// The last port that is given out.
pub const PORT_LAST: u16 = 15432;

/// Where choices come from: randomness and the ports of a host.
pub trait Choose {
    /// Fresh random bytes.
    fn entropy(&mut self) -> [u8; PASSWORD_BYTES];
    /// A port of the host from [`PORT_FIRST`] to [`PORT_LAST`] that no database has and nothing listens on, another
    /// one with each call; none when there is none left.
    fn port(&mut self, host: &HostId) -> Option<u16>;
}

/// A spec that was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted<'a> {
    /// It.
    pub spec: &'a AcceptedSpec,
    /// Its document.
    pub stored: &'a StoredSpec,
    /// The spec of the record's document, read with today's catalogue. A node keeps the image in the record while
    /// both ask for the same one, so a newer catalogue changes no running image; a new version or pin does.
    pub previous: Option<&'a AcceptedSpec>,
    /// The hosts that were chosen for the nodes that leave them open; `spec` has them too.
    pub placement: &'a Placements,
}

/// What was chosen, by node.
pub type Placements = BTreeMap<NodeName, Placement>;

/// The record with everything chosen that the spec leaves open. The revision grows by one if anything changed.
///
/// # Errors
/// No port is left.
pub fn mint(accepted: Accepted<'_>, record: Record, choose: &mut dyn Choose) -> Result<Record, Error> {
    let spec = accepted.spec;
    let mut minted = record.clone();
    minted.spec = Some(accepted.stored.clone());
    minted.tombstone = None;
    minted.images = images(accepted, &record);
    let chosen = accepted.placement.iter().map(|(node, placement)| (node.to_string(), placement.clone()));
    minted.placement = chosen.collect();
    minted.trashed = trashed(spec, &record);
    minted.passwords = passwords(spec, &record, choose);
    // An instance that leaves is remembered by its password until nothing of it is left (`released`).
    let mut etcd_passwords = record.etcd_passwords.clone();
    let mut ports = leavers_ports(spec, &record);
    for node in &spec.nodes {
        for host in &node.hosts {
            let instance = InstanceId::derive(&spec.id, &node.name, host);
            let kept = record.etcd_passwords.get(instance.as_str()).cloned();
            etcd_passwords.insert(instance.to_string(), kept.unwrap_or_else(|| password(choose)));
            match node.port {
                PortRequest::Chosen => {
                    let kept = record.ports.get(&instance).copied();
                    let port = kept.or_else(|| choose.port(host)).ok_or_else(|| Error::NoPort(host.clone()))?;
                    ports.insert(instance, port);
                }
                PortRequest::Unpublished | PortRequest::Fixed(_) => {}
            }
        }
    }
    minted.ports = ports;
    minted.etcd_passwords = etcd_passwords;
    Ok(next(record, minted))
}

/// The record of a database that is deleted: what was chosen stays, so that publishing a spec again within
/// `grace_s` seconds brings the same database back. Burying twice changes nothing.
#[must_use]
pub fn bury(record: Record, now_s: i64, grace_s: u32) -> Record {
    if record.tombstone.is_some() {
        return record;
    }
    let mut buried = record.clone();
    buried.tombstone = Some(Tombstone {
        deleted_at_s: now_s,
        purge_at_s: now_s.saturating_add(i64::from(grace_s)),
        last_digest: record.spec.as_ref().map(|spec| spec.digest.clone()),
    });
    next(record, buried)
}

pub(super) fn next(before: Record, mut after: Record) -> Record {
    if before == after {
        return before;
    }
    after.revision = before.revision.saturating_add(1);
    after
}

/// An instance that leaves has its port as long as its container may run.
fn leavers_ports(spec: &AcceptedSpec, record: &Record) -> BTreeMap<InstanceId, u16> {
    let wanted: BTreeSet<InstanceId> = spec
        .nodes
        .iter()
        .flat_map(|node| node.hosts.iter().map(|host| InstanceId::derive(&spec.id, &node.name, host)))
        .collect();
    let leavers = record.ports.iter().filter(|(instance, _)| !wanted.contains(instance));
    leavers.map(|(instance, port)| (instance.clone(), *port)).collect()
}

fn images(accepted: Accepted<'_>, record: &Record) -> BTreeMap<String, String> {
    let image = |node: &crate::model::spec::NodeSpec| {
        let asked_before = accepted
            .previous
            .and_then(|previous| previous.nodes.iter().find(|other| other.name == node.name))
            .map(|other| &other.image);
        match record.images.get(node.name.as_str()) {
            Some(kept) if asked_before == Some(&node.image) => kept.clone(),
            Some(_) | None => node.image.clone(),
        }
    };
    let wanted = accepted.spec.nodes.iter().map(|node| (node.name.to_string(), image(node)));
    // A node that was removed has its image as long as anything of it is left.
    let left = record.images.iter().filter(|(node, _)| has_instances(&record.etcd_passwords, node));
    left.map(|(node, image)| (node.clone(), image.clone())).chain(wanted).collect()
}

/// Whether the record remembers an instance of this node.
pub(super) fn has_instances(etcd_passwords: &BTreeMap<String, Secret>, node: &str) -> bool {
    instances(etcd_passwords).any(|instance| instance.node().is_some_and(|of| of.as_str() == node))
}

/// The instances that a record remembers.
pub(super) fn instances(etcd_passwords: &BTreeMap<String, Secret>) -> impl Iterator<Item = InstanceId> + '_ {
    etcd_passwords.keys().filter_map(|name| InstanceId::parse(name).ok())
}

/// The instances whose data is in the trash, or goes there now, since their node was removed. One that is wanted again
/// has it back; of one that had left its node before, the data is gone.
fn trashed(spec: &AcceptedSpec, record: &Record) -> BTreeSet<InstanceId> {
    let lives =
        |instance: &InstanceId| instance.node().is_none_or(|node| spec.nodes.iter().any(|wanted| wanted.name == node));
    let removed = instances(&record.etcd_passwords).filter(|instance| !lives(instance));
    let kept = record.trashed.iter().filter(|instance| !super::leave::wanted(spec).any(|one| one == **instance));
    removed.chain(kept.cloned()).collect()
}

/// A password in the document wins, then the one in the record, then a new one. Passwords of users who left are
/// forgotten with them.
fn passwords(spec: &AcceptedSpec, record: &Record, choose: &mut dyn Choose) -> BTreeMap<String, Secret> {
    let mut seen = BTreeSet::new();
    let mut passwords = BTreeMap::new();
    for user in spec.users.iter().filter(|user| seen.insert(&user.username)) {
        let known = user.password.clone().or_else(|| record.passwords.get(&user.username).cloned());
        passwords.insert(user.username.clone(), known.unwrap_or_else(|| password(choose)));
    }
    passwords
}

fn password(choose: &mut dyn Choose) -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(choose.entropy()))
}
