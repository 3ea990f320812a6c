//! Judging several candidates together: what the host is asked for one of them is asked once for all.
//!
//! Invariants: nothing but acceptance happens here, and only of what needs no more of the host than was looked at: an
//! image that is there, room, free names, all on this host, and no port, volume or network besides. All else (a refusal with its faults, a
//! delete, a pull, a host that does not answer) is left to the pass of its own database, which judges it alone. What is
//! promised is compared and given under one lock, as there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::judge::{self, Case};
use super::promises::Table;
use super::service::Shared;
use super::{leftovers, live};
use crate::domain::layout;
use crate::drivers::swarm::{NetworkSeen, ServiceSeen};
use crate::model::spec::{NodeSpec, PortRequest};
use crate::model::{AcceptedSpec, DatabaseId, HostPorts, InstanceId, Scope};
use crate::runtime::within;
use crate::store::{Candidate, Hold, Rows as _, Store};

/// How long one answer of the host may take: who waits for more judges alone.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Judges the candidates of these databases, as far as that is quick.
pub(super) async fn candidates(shared: &Shared, ids: &BTreeSet<DatabaseId>) -> Result<(), judge::Error> {
    if let Err(error) = shared.world.confirm_lead().await {
        tracing::warn!(%error, "this host cannot be sure to lead: nothing is accepted");
        return Ok(());
    }
    let Some(mut host) = look(shared).await? else { return Ok(()) };
    let mut accepting = shared.accepting.lock().await;
    let promises = judge::promises(shared, &mut accepting)?;
    let here = (&shared.world, &shared.world.facts);
    let mut table = promises.table(here, host.services.values());
    let mut accepted = Vec::new();
    for case in cases(shared, ids)? {
        if host.carries(shared, &case.spec, &table).await? {
            let record = judge::minted(shared, &case)?;
            table.promise(&case.spec);
            host.take_network(&case.spec.id);
            accepted.push((case, record));
        }
    }
    let written = accepted.into_iter().map(|(case, record)| async move {
        let spec = case.spec.clone();
        judge::accept(shared, case.spec, (case.stored, case.by), record).await.map(|newest| newest.then_some(spec))
    });
    for spec in join_all(written).await {
        if let Some(spec) = spec? {
            promises.accepted(&spec);
        }
    }
    Ok(())
}

/// Those of which something newer was asked than what a running pass leads to. What cannot be read is found by the passes.
pub(super) fn newer(store: &Store, scopes: &BTreeSet<Scope>) -> BTreeSet<Scope> {
    let waits = |candidate: &Candidate| candidate.hold != Hold::Held;
    let newer = store.read(|reader| {
        let mut newer = BTreeSet::new();
        for scope in scopes {
            let Scope::Database(database) = scope else { continue };
            let row = reader.desired(database)?;
            if row.is_some_and(|row| row.candidate.as_ref().is_some_and(waits) && row.verdict.is_none()) {
                newer.insert(scope.clone());
            }
        }
        Ok(newer)
    });
    newer.unwrap_or_default()
}

/// The candidates that the rules let pass: neither a delete nor what brings a deleted database back.
fn cases(shared: &Shared, ids: &BTreeSet<DatabaseId>) -> Result<Vec<Case>, judge::Error> {
    let rows = shared.store.read(|reader| {
        let rows = ids.iter().map(|id| Ok((reader.desired(id)?, reader.record(id)?)));
        rows.collect::<Result<Vec<_>, crate::store::Error>>()
    })?;
    let nobody = HostPorts::new();
    let mut cases = Vec::new();
    for (id, (row, record)) in ids.iter().zip(rows) {
        let Some(candidate) = row.and_then(|row| row.candidate).filter(|candidate| candidate.hold == Hold::No) else {
            continue;
        };
        // Who has data of a node in the trash may ask it back.
        if record.as_ref().is_some_and(|record| record.tombstone.is_some() || !record.trashed.is_empty()) {
            continue;
        }
        // One that publishes a port is not judged here, so nobody's ports count.
        if let Ok(Some(case)) = judge::case(shared, id, (candidate.spec, candidate.by), record, &nobody)
            && !case.spec.deleted
        {
            cases.push(case);
        }
    }
    Ok(cases)
}

/// The host as it was looked at for a group.
struct Host {
    /// By name.
    services: BTreeMap<String, ServiceSeen>,
    /// By name.
    networks: BTreeMap<String, NetworkSeen>,
    /// How many networks there is room for; none: nobody knows.
    subnets: Option<u64>,
    /// Images that are there, and whether.
    images: BTreeMap<String, bool>,
}

/// None where the host takes long.
async fn look(shared: &Shared) -> Result<Option<Host>, judge::Error> {
    let (swarm, everything) = (&shared.world.drivers.swarm, BTreeMap::new());
    let asked =
        async { tokio::try_join!(swarm.services(&everything), swarm.networks(&everything), swarm.free_subnets()) };
    let Ok(answer) = within("what there is in the Swarm", ANSWER_LIMIT, asked).await else { return Ok(None) };
    let (services, networks, subnets) = answer?;
    Ok(Some(Host {
        services: services.into_iter().map(|service| (service.attributes.name.clone(), service)).collect(),
        networks: networks.into_iter().map(|network| (network.name.clone(), network)).collect(),
        subnets,
        images: BTreeMap::new(),
    }))
}

impl Host {
    /// Whether the spec can be accepted without another look.
    async fn carries(&mut self, shared: &Shared, spec: &AcceptedSpec, table: &Table<'_>) -> Result<bool, judge::Error> {
        let own = |node: &NodeSpec| {
            node.hosts.iter().map(|host| layout::service(&InstanceId::derive(&spec.id, &node.name, host))).collect()
        };
        let names: BTreeSet<String> = spec.nodes.iter().flat_map(|node| -> Vec<String> { own(node) }).collect();
        let mut services = names.iter().filter_map(|name| self.services.get(name));
        let network = self.networks.get(&layout::network(&spec.id));
        let is_plain = spec.nodes.iter().all(|node| {
            node.hosts == [shared.world.facts.host.clone()]
                && node.port == PortRequest::Unpublished
                && node.swarm.extra_volumes.is_empty()
                && node.swarm.extra_networks.is_empty()
        });
        let fits = is_plain
            && leftovers::of(&shared.world.record.get(), spec).is_none()
            && services.all(|service| live::is_own(&shared.world, spec, &service.attributes.labels))
            && network.is_none_or(|network| live::is_own(&shared.world, spec, &network.labels))
            && (network.is_some() || self.subnets != Some(0))
            && live::overcommitted(&shared.world.facts, spec, &Value::Null, table.to_others(&spec.id)).is_empty();
        if !fits {
            return Ok(false);
        }
        for node in &spec.nodes {
            if !self.has_image(shared, &node.image).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn has_image(&mut self, shared: &Shared, image: &str) -> Result<bool, judge::Error> {
        if let Some(there) = self.images.get(image) {
            return Ok(*there);
        }
        let asked = within("an image", ANSWER_LIMIT, shared.world.drivers.swarm.image(image));
        let there = match asked.await {
            Ok(found) => found?.is_some(),
            Err(_late) => false,
        };
        self.images.insert(image.to_owned(), there);
        Ok(there)
    }

    /// A network more is promised.
    fn take_network(&mut self, id: &DatabaseId) {
        if !self.networks.contains_key(&layout::network(id)) {
            self.subnets = self.subnets.map(|left| left.saturating_sub(1));
        }
    }
}
