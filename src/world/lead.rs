//! How a host comes to lead, and how it notices that it does not any more.
//!
//! Swarm's managers elect; the host of the one that they elected takes the lease. Invariant: nobody takes it because the
//! holder is silent, only because Swarm's Raft has another leader: pgmoor elects nobody.

use std::time::Duration;

use super::lease::Lease;
use crate::drivers::swarm::Swarm;
use crate::drivers::{Error, Result};
use crate::model::{FleetId, HostId};
use crate::runtime::clock::Clock;

/// The pause between two looks. Swarm's managers need ten seconds and more for an election.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a lead goes on that cannot be renewed: it begins nothing meanwhile, and there may be another by now.
const UNSURE_MAX: Duration = Duration::from_secs(10);

/// Waits until Swarm's managers are led by this host, and takes the lease. `floor` is the highest epoch that the host has
/// heard of by then.
pub async fn until_leading(
    swarm: &dyn Swarm,
    fleet: &FleetId,
    host: &HostId,
    floor: &(dyn Fn() -> u64 + Sync),
) -> Lease {
    loop {
        match taken(swarm, fleet, host, floor).await {
            Ok(Some(lease)) => {
                tracing::info!(epoch = lease.epoch, "this host leads the fleet");
                return lease;
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the lease could not be taken now"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn taken(
    swarm: &dyn Swarm,
    fleet: &FleetId,
    host: &HostId,
    floor: &(dyn Fn() -> u64 + Sync),
) -> Result<Option<Lease>> {
    if !swarm.engine().await?.leader {
        return Ok(None);
    }
    Lease::take(swarm, fleet, host, floor()).await.map(Some)
}

/// Renews a lease until it is lost, or could not be renewed for `UNSURE_MAX`; says why.
pub async fn until_over(lease: &Lease, swarm: &dyn Swarm, clock: &dyn Clock) -> String {
    let mut sure = clock.monotonic();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match lease.renew(swarm).await {
            Ok(()) => sure = clock.monotonic(),
            Err(error @ Error::Unreachable { .. }) if clock.monotonic().saturating_sub(sure) < UNSURE_MAX => {
                tracing::debug!(%error, "the lease could not be renewed now");
            }
            Err(error) => return error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::drivers::fake::{Options, System, World};
    use crate::runtime::clock::{SharedClock, TokioClock};

    const SECOND: Duration = Duration::from_secs(1);

    fn swarm(leads: bool) -> (World, SharedClock) {
        let clock: SharedClock = Arc::new(TokioClock::starting_at(1_780_000_000_000));
        (World::new(Options { leads, ..Options::new(Arc::clone(&clock)) }), clock)
    }

    fn ids() -> (FleetId, HostId, HostId) {
        let host = |name| HostId::parse(name).unwrap();
        (FleetId::parse("harbour").unwrap(), host("host-1"), host("host-2"))
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_host_of_swarms_leader_takes_the_lease() {
        let ((world, _), (fleet, one, _)) = (swarm(false), ids());
        let waits = tokio::time::timeout(60 * SECOND, until_leading(&world, &fleet, &one, &|| 0)).await;
        assert!(waits.is_err() && Lease::seen(&world, &fleet).await == Ok(None));
        let (world, _) = swarm(true);
        world.unreachable(System::Swarm, true);
        let comes = async {
            tokio::time::sleep(5 * SECOND).await;
            world.unreachable(System::Swarm, false);
        };
        let (lease, ()) = tokio::join!(until_leading(&world, &fleet, &one, &|| 7), comes);
        assert_eq!((lease.holder, lease.epoch), (one, 8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lead_ends_when_another_has_it_or_nobody_can_tell() {
        let ((world, clock), (fleet, one, two)) = (swarm(true), ids());
        let lease = until_leading(&world, &fleet, &one, &|| 0).await;
        let over = tokio::time::timeout(60 * SECOND, until_over(&lease, &world, &*clock)).await;
        assert!(over.is_err(), "it is renewed");
        let other = async {
            tokio::time::sleep(5 * SECOND).await;
            Lease::take(&world, &fleet, &two, 0).await.unwrap()
        };
        let (why, newer) = tokio::join!(until_over(&lease, &world, &*clock), other);
        assert!(why.contains("host-2 has it, epoch 2"), "{why}");

        let began = clock.monotonic();
        world.unreachable(System::Swarm, true);
        let why = until_over(&newer, &world, &*clock).await;
        let took = clock.monotonic().saturating_sub(began);
        assert!(why.contains("renew the lease") || why.contains("cut off"), "{why}");
        assert!(took >= UNSURE_MAX && took < 2 * UNSURE_MAX, "{took:?}");
    }
}
