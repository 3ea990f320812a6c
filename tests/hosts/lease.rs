//! The lease on a real Swarm of three: the host of Swarm's leader holds it; cut off, it cannot renew it, and another takes
//! it with a higher epoch; healed, the first one learns that it has lost it.

use std::time::Duration;

use pgmoor::drivers::Error;
use pgmoor::drivers::swarm::{Docker, Swarm as _};
use pgmoor::model::{FleetId, HostId};
use pgmoor::world::lead::{LOOK_EVERY, until_elected, until_over};
use pgmoor::world::lease::Lease;
use tokio::time::timeout;

use crate::daemon::until;
use crate::testbed::{Bed, Host};

/// An election took 13 s, and a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

fn engine(host: &Host) -> Docker {
    Docker::new(&host.socket().to_string_lossy())
}

/// Waits until the host is elected, and takes the lease for it.
async fn leading(host: &Host) -> Lease {
    let (fleet, id) = (FleetId::parse("harbour").unwrap(), HostId::parse(&host.name).unwrap());
    loop {
        until_elected(&engine(host)).await;
        match Lease::take(&engine(host), &fleet, &id, 0).await {
            Ok(lease) => return lease,
            Err(_not_yet) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

#[test]
fn the_lease_follows_swarms_leader() {
    let bed = Bed::up(3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let leads = bed.leader().unwrap().clone();
        for host in bed.hosts() {
            let seen = engine(host).engine().await.unwrap();
            assert_eq!((seen.leader, seen.manager), (Some(*host == leads), true), "{}", host.name);
        }
        let first = timeout(PATIENCE, leading(&leads)).await.unwrap();
        assert_eq!((first.holder.as_str(), first.epoch), (leads.name.as_str(), 1));

        leads.partition();
        let cut_off = engine(&leads);
        let others: Vec<_> = bed.others(&leads).collect();
        let next = async {
            tokio::select! {
                lease = leading(others[0]) => lease,
                lease = leading(others[1]) => lease,
            }
        };
        let second = timeout(PATIENCE, next).await.expect("another begins");
        assert!(second.holder != first.holder && second.epoch == 2, "{second:?}");
        let stale = first.renew(&cut_off).await;
        assert!(matches!(stale, Err(Error::Unreachable { .. })), "{stale:?}");
        let cannot_tell = timeout(LOOK_EVERY * 4, until_over(&first, &cut_off)).await;
        assert!(cannot_tell.is_err(), "it begins nothing, and nobody has told it that another leads: {cannot_tell:?}");
        let holder = bed.hosts().iter().find(|host| host.name == second.holder.as_str()).unwrap();
        second.renew(&engine(holder)).await.unwrap();

        leads.heal();
        let why = timeout(PATIENCE, until_over(&first, &cut_off)).await.expect("it hears that its lead is over");
        assert!(why.contains("another leader") || why.contains("has the lease"), "{why}");
        until("the Swarm is whole again", || bed.is_whole());
        let lost = first.renew(&cut_off).await;
        assert!(matches!(lost, Err(Error::Conflict { .. })), "{lost:?}");
        second.renew(&engine(holder)).await.unwrap();
        assert_eq!(Lease::seen(&cut_off, &first.fleet).await, Ok(Some(second)));
    });
}
