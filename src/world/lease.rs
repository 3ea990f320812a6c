//! The lease: which host leads the fleet, and the epoch of its lead.
//!
//! It is one Swarm config whose labels name holder and epoch and change under compare-and-set only, so it is Swarm's Raft
//! that decides between two who want it. Reading proves nothing (a manager that was cut off goes on reading what it
//! knows): who acts as the leader renews first, which only a manager with a quorum can.
//!
//! Invariants: the epoch grows with each take, so of two leads the newer is known by it; a renewal that is not through
//! within [`DEADLINE`] has failed.

use std::time::Duration;

use super::{FLEET_LABEL, RESOURCE_LABEL, SCOPE_LABEL};
use crate::domain::layout;
use crate::drivers::swarm::{ConfigSeen, Labels, Swarm};
use crate::drivers::{Error, Result};
use crate::model::{FleetId, HostId, Scope};
use crate::runtime::within;

/// How long taking or renewing may last. A leader that does not know within it whether it still leads stops.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// The resource that a lease is.
const LEASE_RESOURCE: &str = "lease";
/// The label with the host that holds it.
const HOLDER_LABEL: &str = "pgmoor.holder";
/// The label with the epoch.
const EPOCH_LABEL: &str = "pgmoor.epoch";
/// Swarm wants a config to have content; what counts is in the labels.
const CONTENT: &[u8] = b"The labels say which host leads, and in which epoch.";

/// A lead over a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The fleet.
    pub fleet: FleetId,
    /// The host that leads.
    pub holder: HostId,
    /// Grows with each take.
    pub epoch: u64,
}

impl Lease {
    /// Takes the lease for a host, from whoever has it, with an epoch above `floor`: the highest that the host has heard
    /// of, for a lease that somebody removed begins anew.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another host was faster, [`Error::Unreachable`] without an answer in time.
    pub async fn take(swarm: &dyn Swarm, fleet: &FleetId, holder: &HostId, floor: u64) -> Result<Self> {
        in_time("take the lease", async {
            let before = config(swarm, fleet).await?;
            let last = before.as_ref().map(epoch_of).transpose()?.unwrap_or_default();
            let taken = Self { fleet: fleet.clone(), holder: holder.clone(), epoch: last.max(floor) + 1 };
            match before {
                Some(before) => swarm.label_config(&before, &taken.labels()).await?,
                None => {
                    swarm.create_config(&layout::lease_config(fleet), &taken.labels(), CONTENT).await?;
                }
            }
            Ok(taken)
        })
        .await
    }

    /// Confirms that this lead still holds, through Swarm's Raft.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another has taken it or it is gone, [`Error::Unreachable`] when that cannot be known in
    /// time. In both cases this host leads no more until it has taken or renewed it.
    pub async fn renew(&self, swarm: &dyn Swarm) -> Result<()> {
        const ACT: &str = "renew the lease";
        let lost = |why: String| Error::Conflict { act: ACT.to_owned(), why };
        in_time(ACT, async {
            loop {
                let Some(live) = config(swarm, &self.fleet).await? else {
                    return Err(lost("somebody removed it".to_owned()));
                };
                let labels = self.labels();
                if live.labels != labels {
                    let holder = live.labels.get(HOLDER_LABEL).map_or("nobody", String::as_str);
                    let epoch = live.labels.get(EPOCH_LABEL).map_or("none", String::as_str);
                    return Err(lost(format!("{holder} has it, epoch {epoch}; ours was {}", self.epoch)));
                }
                match swarm.label_config(&live, &labels).await {
                    Err(Error::NotFound { .. }) => return Err(lost("somebody removed it".to_owned())),
                    // Passes renew it side by side: who was between shows the next look.
                    Err(Error::Conflict { .. }) => {}
                    renewed => return renewed,
                }
            }
        })
        .await
    }

    /// Who leads a fleet, as far as the asked manager knows: for people, and no ground to act upon.
    ///
    /// # Errors
    /// Swarm does not answer, or the lease cannot be read.
    pub async fn seen(swarm: &dyn Swarm, fleet: &FleetId) -> Result<Option<Self>> {
        let Some(config) = config(swarm, fleet).await? else { return Ok(None) };
        let holder = config.labels.get(HOLDER_LABEL).and_then(|text| HostId::parse(text).ok());
        let holder = holder.ok_or_else(|| broken(&config, HOLDER_LABEL))?;
        Ok(Some(Self { fleet: fleet.clone(), holder, epoch: epoch_of(&config)? }))
    }

    fn labels(&self) -> Labels {
        let mut labels = selector(&self.fleet);
        labels.insert(HOLDER_LABEL.to_owned(), self.holder.to_string());
        labels.insert(EPOCH_LABEL.to_owned(), self.epoch.to_string());
        labels
    }
}

async fn in_time<T>(act: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = within(act.to_owned(), DEADLINE, work).await;
    done.unwrap_or_else(|expired| Err(Error::Unreachable { act: act.to_owned(), why: expired.to_string() }))
}

fn selector(fleet: &FleetId) -> Labels {
    Labels::from([
        (FLEET_LABEL.to_owned(), fleet.to_string()),
        (SCOPE_LABEL.to_owned(), Scope::Fleet.label()),
        (RESOURCE_LABEL.to_owned(), LEASE_RESOURCE.to_owned()),
    ])
}

async fn config(swarm: &dyn Swarm, fleet: &FleetId) -> Result<Option<ConfigSeen>> {
    let name = layout::lease_config(fleet);
    Ok(swarm.configs(&selector(fleet)).await?.into_iter().find(|config| config.name == name))
}

fn epoch_of(config: &ConfigSeen) -> Result<u64> {
    config.labels.get(EPOCH_LABEL).and_then(|text| text.parse().ok()).ok_or_else(|| broken(config, EPOCH_LABEL))
}

fn broken(config: &ConfigSeen, label: &str) -> Error {
    Error::Failed {
        act: format!("read the lease {}", config.name),
        why: format!("its label {label} is not as pgmoor writes it; remove the config, and it is made anew"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::fake::{Options, World};
    use crate::runtime::clock::TokioClock;

    fn ids() -> (FleetId, HostId, HostId) {
        let host = |name| HostId::parse(name).unwrap();
        (FleetId::parse("harbour").unwrap(), host("host-1"), host("host-2"))
    }

    fn swarm() -> World {
        World::new(Options::new(std::sync::Arc::new(TokioClock::starting_at(1_780_000_000_000))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_without_an_answer_in_time_has_failed() {
        let (world, (fleet, one, _)) = (swarm(), ids());
        let lease = Lease::take(&world, &fleet, &one, 0).await.unwrap();
        world.latency(DEADLINE);
        let late = lease.renew(&world).await.unwrap_err();
        assert!(matches!(late, Error::Unreachable { .. }), "{late}");
        world.latency(Duration::ZERO);
        lease.renew(&world).await.unwrap();
        // The answer is lost, the change is not: the next renewal finds its own labels.
        world.lose_answer("swarm.label_config");
        assert!(matches!(lease.renew(&world).await, Err(Error::Unreachable { .. })));
        lease.renew(&world).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_removed_begins_above_what_was_heard_of() {
        let (world, (fleet, one, two)) = (swarm(), ids());
        let first = Lease::take(&world, &fleet, &one, 0).await.unwrap();
        let config = config(&world, &fleet).await.unwrap().unwrap();
        Swarm::remove_config(&world, &config.id).await.unwrap();
        assert!(matches!(first.renew(&world).await, Err(Error::Conflict { .. })));
        let anew = Lease::take(&world, &fleet, &two, first.epoch).await.unwrap();
        assert_eq!((anew.epoch, Lease::seen(&world, &fleet).await), (first.epoch + 1, Ok(Some(anew.clone()))));
    }

    #[tokio::test(start_paused = true)]
    async fn labels_that_somebody_changed_are_said() {
        let (world, (fleet, one, _)) = (swarm(), ids());
        let lease = Lease::take(&world, &fleet, &one, 0).await.unwrap();
        let config = config(&world, &fleet).await.unwrap().unwrap();
        let labels = Labels::from([(EPOCH_LABEL.to_owned(), "x".to_owned())]);
        let labels = lease.labels().into_iter().chain(labels).collect();
        world.label_config(&config, &labels).await.unwrap();
        for error in [lease.renew(&world).await, Lease::take(&world, &fleet, &one, 0).await.map(drop)] {
            assert!(error.unwrap_err().to_string().contains("epoch"));
        }
    }
}
