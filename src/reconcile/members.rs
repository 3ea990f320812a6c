//! A pass over the fleet's own scope, and the members of its etcd: which comes or goes next is written into the fleet's
//! record, which then says what is desired.
//!
//! Invariants: a record is in Swarm, under a name that exists once, before anything follows from it; members come and go
//! only while etcd has a quorum, and one at a time.

use std::collections::BTreeSet;

use super::pass::{Error, Next, Pass};
use crate::domain::members::{self, Standing};
use crate::domain::{Hosts, fleet};
use crate::drivers::etcd::EtcdTarget;
use crate::model::{FleetRecord, Graph, HostId, Kind, ResourceId, Scope, Secret};
use crate::plan::Plan;
use crate::store::Rows as _;
use crate::world::record;

impl Pass {
    /// One pass over the fleet.
    pub(super) async fn fleet(&self) -> Result<Next, Error> {
        let (world, options) = (&self.shared.world, &self.shared.options);
        self.adopt().await?;
        let held = world.record.get();
        if let Some(next) = self.wishes(&held).await? {
            return Ok(next);
        }
        self.removals(&held).await;
        if let Some(next) = self.leftovers(&held).await? {
            return Ok(next);
        }
        if let Some(next) = self.next_members(&held, &world.hosts).await {
            return self.keep(next).await;
        }
        let desired = fleet::graph(&held, &world.hosts, &options.catalogue, &options.fleet)?;
        let leaving = fleet::leaving(&held, &world.hosts, &options.catalogue, &options.fleet)?;
        let (plan, next) = self.converge(&Scope::Fleet, &desired, &leaving, None).await?;
        if held.etcd_change.is_some() && stands(&plan, &desired) {
            return self.keep(members::done(held.as_ref().clone())).await;
        }
        let elsewhere = plan.is_empty() && stands(&plan, &desired);
        Ok(if elsewhere { Next::Settled } else { next })
    }

    /// The record with the next change of etcd's members. While etcd has no quorum nobody comes and nobody goes.
    async fn next_members(&self, held: &FleetRecord, hosts: &Hosts) -> Option<FleetRecord> {
        let alone = held.etcd_members.len() < 2;
        let (images, etcd) = (&self.shared.world.images, &self.shared.options.catalogue.etcd.image);
        let unable = hosts.iter().map(|facts| &facts.host).filter(|host| !images.may_use(host, etcd));
        let unable: BTreeSet<HostId> = unable.cloned().collect();
        let able = Standing { unable, ..Standing::default() };
        if alone && members::next(held, hosts, &able).is_none() {
            return None;
        }
        let (etcd, target) = (&self.shared.world.drivers.etcd, self.shared.world.etcd().await.ok()?);
        let listed = etcd.members(&target).await.ok()?;
        let peer_urls: BTreeSet<String> = listed.into_iter().flat_map(|member| member.peer_urls).collect();
        let lost = members::lost(held, &self.shared.options.fleet, &peer_urls);
        let mut standing = Standing { lost, ..able };
        members::next(held, hosts, &standing)?;
        // The endpoints are in the order of the hosts.
        for (host, endpoint) in held.etcd_members.keys().zip(&target.endpoints) {
            let one = EtcdTarget { endpoints: vec![endpoint.clone()], ..target.clone() };
            if etcd.authentication(&one).await.is_err() {
                standing.silent.insert(host.clone());
            }
        }
        members::next(held, hosts, &standing)
    }

    /// Takes the record that is in Swarm where it is newer: one that this host wrote without hearing so, or one that another
    /// host wrote while it led. What cannot be seen changes nothing.
    async fn adopt(&self) -> Result<(), Error> {
        let world = &self.shared.world;
        let newest = record::newest_revision(world, &Scope::Fleet).await.unwrap_or_default();
        let kept = self.shared.store.read(|reader| reader.fleet_record())?.map(|record| record.revision);
        if newest <= Some(world.record.get().revision).min(kept) {
            return Ok(());
        }
        let found = record::find(&*world.drivers.swarm, &world.key, &world.fleet).await.map_err(Error::Record)?;
        match found.fleet {
            Some(found) => self.hold(found).await,
            None => Ok(()),
        }
    }

    /// From now on this record holds: in Swarm first.
    pub(super) async fn keep(&self, next: FleetRecord) -> Result<Next, Error> {
        let shared = &self.shared;
        let text = serde_json::to_string(&next).map_err(|error| Error::Write(error.to_string()))?;
        tracing::info!(revision = next.revision, members = ?next.etcd_members.keys(), change = ?next.etcd_change, "fleet's record");
        let content = Secret::new(text);
        shared.world.confirm_lead().await.map_err(Error::Record)?;
        record::put(&shared.world, &Scope::Fleet, next.revision, &content).await.map_err(Error::Record)?;
        self.hold(next).await?;
        Ok(Next::Again)
    }

    async fn hold(&self, record: FleetRecord) -> Result<(), Error> {
        self.shared.world.record.set(record.clone());
        let hosts = self.shared.hosts();
        let write = self.shared.store.write(move |writer| {
            writer.put_fleet_hosts(&hosts)?;
            writer.put_fleet_record(&record)
        });
        Ok(write.await?)
    }
}

/// Whether the fleet's own services stand on resources of this kind: all else of the fleet is the matter of one host.
pub(super) fn carries(kind: Kind) -> bool {
    matches!(kind, Kind::Record | Kind::Service | Kind::EtcdMember | Kind::Etcd)
}

/// Whether the fleet's own services stand as desired, and nothing is left of what is not: whatever waits besides is on a
/// host that does not answer.
fn stands(plan: &Plan, desired: &Graph) -> bool {
    let carries = |id: &ResourceId| carries(id.kind) || !desired.contains(id);
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps).map(|step| &step.resource);
    let waiting = plan.waiting.iter().map(|waiting| &waiting.resource);
    !steps.chain(waiting).any(carries)
}
