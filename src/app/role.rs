//! Which role this host plays: it leads the fleet, or it follows. Each role is a set of services of its own, and a change
//! of the role ends one set before the other begins.
//!
//! Invariants: Swarm's managers elect, and the lease says which lead is the newest ([`crate::world::lead`]); a host that
//! cannot ask them leads only where it knows of no other host; what it knew as the leader is forgotten before it follows,
//! and before it leads again after another did, so nothing of an older lead is ever said or done again.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::services::Base;
use crate::contract::topics::Topic;
use crate::drivers;
use crate::runtime::chain::chain;
use crate::store::{self, Journal as _, Rows as _};
use crate::world::lead;
use crate::world::lease::Lease;

/// The role of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It plans, and reports databases.
    Leads,
    /// It does what the one that leads asks of it.
    Follows,
}

/// Why a lead was not taken up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Swarm does not answer, or another host was faster.
    #[error("take the lease")]
    Swarm(#[from] drivers::Error),
    /// The store.
    #[error("read or write the store")]
    Store(#[from] store::Error),
    /// Another host has led since this one did, and what this one remembers is from before.
    #[error("another host has led meanwhile")]
    Overtaken,
}

/// How long Swarm is asked before a host goes by what it knows.
const PATIENCE: Duration = Duration::from_secs(15);

/// Finds out which role it is, and takes the lease up where it leads.
///
/// # Errors
/// The store does not work.
pub(super) async fn which(base: &Base, stop: &CancellationToken) -> Result<Role, store::Error> {
    let swarm = &*base.drivers.swarm;
    let until = base.clock.monotonic().saturating_add(PATIENCE);
    loop {
        match lead::is_elected(swarm).await {
            Ok(false) => {
                forget(base).await?;
                return Ok(Role::Follows);
            }
            Ok(true) => match take_up(base).await {
                Ok(_lease) => return Ok(Role::Leads),
                Err(Error::Overtaken) => {
                    forget(base).await?;
                    continue;
                }
                Err(Error::Store(error)) => return Err(error),
                Err(error @ Error::Swarm(_)) => tracing::info!(error = chain(&error), "the lease is not taken yet"),
            },
            Err(error) => {
                let others = others(base)?;
                if !others {
                    // Whatever is wrong with Docker or Swarm, the services say it, of each database.
                    return Ok(Role::Leads);
                }
                tracing::info!(%error, "nobody can tell who leads");
            }
        }
        if stop.is_cancelled() || base.clock.monotonic() >= until {
            forget(base).await?;
            return Ok(Role::Follows);
        }
        tokio::time::sleep(lead::LOOK_EVERY).await;
    }
}

/// Takes the lease, or goes on with it where it is this host's still.
///
/// # Errors
/// See [`Error`].
pub(super) async fn take_up(base: &Base) -> Result<Lease, Error> {
    let swarm = &*base.drivers.swarm;
    let (own, heard) = base.store.read(|reader| Ok((reader.own_lead()?, reader.work_epoch()?)))?;
    let seen = Lease::seen(swarm, &base.fleet).await?;
    let lease = match seen {
        Some(seen) if seen.holder == base.host && own == Some(seen.epoch) => {
            seen.renew(swarm).await?;
            return Ok(seen);
        }
        Some(_) if own.is_some() => return Err(Error::Overtaken),
        Some(_) | None => Lease::take(swarm, &base.fleet, &base.host, heard).await?,
    };
    tracing::info!(epoch = lease.epoch, "this host leads the fleet");
    let epoch = lease.epoch;
    base.store.write(move |writer| writer.lead(epoch)).await?;
    Ok(lease)
}

/// Whether the fleet is known to have other hosts.
pub(super) fn others(base: &Base) -> Result<bool, store::Error> {
    let hosts = base.store.read(|reader| reader.fleet_hosts())?;
    Ok(hosts.is_some_and(|hosts| hosts.known.iter().any(|host| *host != base.host)))
}

/// Forgets what this host knew as the one that leads.
async fn forget(base: &Base) -> Result<(), store::Error> {
    let topics = [Topic::Availability(base.controller.clone()), Topic::HostStatus(base.host.clone())];
    let own = topics.map(|topic| topic.to_string(&base.fleet));
    base.store.write(move |writer| writer.forget_lead(&own)).await
}
