//! What people want of hosts: drained, removed, used again. It goes into the fleet's record, and what follows from it stands
//! in the graphs of the fleet and of each database; a host that was removed leaves the Swarm and the roster.
//!
//! Invariant: a wish is forgotten only once the record that has it is in Swarm, or another host leads: whoever asked looks
//! at `pgmoor hosts`.

use super::pass::{Error, Next, Pass};
use crate::contract::topics::Topic;
use crate::model::{FleetRecord, HostId, HostStanding};
use crate::runtime::chain::chain;
use crate::store::{OutMessage, Rows as _};
use crate::world::roster;

impl Pass {
    /// Takes what is wanted of hosts into the record; none: there is nothing new.
    pub(super) async fn wishes(&self, held: &FleetRecord) -> Result<Option<Next>, Error> {
        let wishes = self.shared.store.read(|reader| reader.host_wishes())?;
        if wishes.is_empty() {
            return Ok(None);
        }
        let mut record = held.clone();
        for (host, standing) in &wishes {
            match standing {
                Some(standing) => record.hosts.insert(host.clone(), *standing),
                None => record.hosts.remove(host),
            };
        }
        let next = if record.hosts == held.hosts {
            None
        } else {
            record.revision += 1;
            tracing::info!(hosts = ?record.hosts, "how hosts stand");
            Some(self.keep(record).await?)
        };
        let forget = self.shared.store.write(move |writer| {
            let mut left = writer.host_wishes()?;
            // Another word may have come meanwhile.
            left.retain(|host, standing| wishes.get(host) != Some(standing));
            writer.put_host_wishes(&left)
        });
        forget.await?;
        Ok(next)
    }

    /// Takes removed hosts out of the Swarm and the roster. What does not work now is tried again in the next pass.
    pub(super) async fn removals(&self, held: &FleetRecord) {
        let removed = held.hosts.iter().filter(|(_, standing)| **standing == HostStanding::Removed);
        for (host, _) in removed {
            if let Err(error) = self.remove(host).await {
                tracing::warn!(%host, error = chain(&*error), "the host could not be taken out of the Swarm yet");
            }
        }
    }

    async fn remove(&self, host: &HostId) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let world = &self.shared.world;
        let roster = roster::read(&*world.drivers.swarm, &world.fleet).await?;
        let Some(facts) = roster.get(host) else { return Ok(()) };
        world.confirm_lead().await?;
        world.drivers.swarm.remove_node(&facts.swarm_node).await?;
        let clear = OutMessage::clear(Topic::HostStatus(host.clone()).to_string(&world.fleet), world.clock.now_ms());
        self.shared.store.write(move |writer| writer.enqueue(&clear)).await?;
        roster::strike(&*world.drivers.swarm, &world.fleet, host).await?;
        tracing::info!(%host, "the host is out of the Swarm");
        Ok(())
    }
}
