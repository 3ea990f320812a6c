//! How a host comes to lead, and how it notices that it does not any more.
//!
//! Swarm's managers elect; the host of the one that they elected takes the lease. Invariants: nobody takes it because the
//! holder is silent, only because Swarm's Raft has another leader: pgmoor elects nobody. A lead whose managers do not
//! answer is not over: it begins nothing (each stage renews the lease first), and says how things are until another leads.

use std::time::Duration;

use super::lease::{DEADLINE, Lease};
use crate::drivers::swarm::Swarm;
use crate::drivers::{Error, Result};
use crate::runtime::within;

/// The pause between two looks. Swarm's managers need ten seconds and more for an election.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Whether Swarm's managers are led by this host.
///
/// # Errors
/// [`Error::Unreachable`]: the engine, or a majority of the managers, does not answer; others: it is in no Swarm.
pub async fn is_elected(swarm: &dyn Swarm) -> Result<bool> {
    const ACT: &str = "ask who leads the Swarm";
    let unreachable = |why: &str| Error::Unreachable { act: ACT.to_owned(), why: why.to_owned() };
    let engine = within(ACT, 2 * DEADLINE, swarm.engine()).await;
    let engine = engine.map_err(|expired| unreachable(&expired.to_string()))??;
    if engine.swarm_node.is_none() {
        return Err(Error::Failed { act: ACT.to_owned(), why: "this engine is in no Swarm".to_owned() });
    }
    engine.leader.filter(|_| engine.manager).ok_or_else(|| unreachable("a majority of the managers does not answer"))
}

/// Waits until Swarm's managers are led by this host.
pub async fn until_elected(swarm: &dyn Swarm) {
    while !is_elected(swarm).await.unwrap_or(false) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until it is known that a lead is over: the managers have another leader, or another host has the lease; says
/// why.
pub async fn until_over(lease: &Lease, swarm: &dyn Swarm) -> String {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match over(lease, swarm).await {
            Ok(None) => {}
            Ok(Some(why)) => return why,
            Err(error) => tracing::debug!(%error, "nobody can tell now whether this host still leads"),
        }
    }
}

async fn over(lease: &Lease, swarm: &dyn Swarm) -> Result<Option<String>> {
    if !is_elected(swarm).await? {
        return Ok(Some("the Swarm's managers have another leader".to_owned()));
    }
    let seen = Lease::seen(swarm, &lease.fleet).await?;
    Ok(match seen {
        Some(seen) if seen == *lease => None,
        Some(seen) => Some(format!("{} has the lease, epoch {}; ours was {}", seen.holder, seen.epoch, lease.epoch)),
        None => Some("somebody removed the lease".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::drivers::fake::{Options, System, World};
    use crate::model::{FleetId, HostId};
    use crate::runtime::clock::{SharedClock, TokioClock};

    const SECOND: Duration = Duration::from_secs(1);

    fn swarm(leads: bool) -> World {
        let clock: SharedClock = Arc::new(TokioClock::starting_at(1_780_000_000_000));
        World::new(Options { leads, ..Options::new(clock) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_not_elected_waits() {
        let world = swarm(false);
        assert!(tokio::time::timeout(60 * SECOND, until_elected(&world)).await.is_err());
        let world = swarm(true);
        world.unreachable(System::Swarm, true);
        assert!(tokio::time::timeout(60 * SECOND, until_elected(&world)).await.is_err());
        world.unreachable(System::Swarm, false);
        tokio::time::timeout(60 * SECOND, until_elected(&world)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lead_ends_when_another_has_it_and_not_when_nobody_can_tell() {
        let (world, fleet) = (swarm(true), FleetId::parse("harbour").unwrap());
        let host = |name| HostId::parse(name).unwrap();
        let lease = Lease::take(&world, &fleet, &host("host-1"), 7).await.unwrap();
        assert_eq!(lease.epoch, 8);
        let goes_on = tokio::time::timeout(60 * SECOND, until_over(&lease, &world)).await;
        assert!(goes_on.is_err(), "{goes_on:?}");
        world.unreachable(System::Swarm, true);
        let goes_on = tokio::time::timeout(60 * SECOND, until_over(&lease, &world)).await;
        assert!(goes_on.is_err(), "{goes_on:?}");
        world.unreachable(System::Swarm, false);
        let other = async {
            tokio::time::sleep(5 * SECOND).await;
            Lease::take(&world, &fleet, &host("host-2"), 0).await.unwrap();
        };
        let (why, ()) = tokio::join!(until_over(&lease, &world), other);
        assert!(why.contains("host-2 has the lease, epoch 9"), "{why}");
    }
}
