//! The services of a host that follows: what it says of itself goes out, and it does what the one that leads asks of it.
//!
//! Invariant: it says nothing of databases, and takes no spec and no command in; who leads does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::between::Between;
use super::bootstrap::{self, Known};
use super::config::{Settings, default};
use super::services::{Base, Outward};
use super::{links, once};
use crate::agent::LayLine;
use crate::monitor::HostReporter;
use crate::outbox::Outbox;
use crate::runtime::backoff::Backoff;
use crate::runtime::chain::chain;
use crate::runtime::supervisor::{Supervisor, TaskError, TaskResult};
use crate::world::{World, lead};

/// Time between two looks at the host, as where it leads.
const LOOK_EVERY: Duration = Duration::from_secs(5);

struct Follower {
    known: Known,
    tick: Duration,
    between_hosts: LayLine,
    over: CancellationToken,
}

/// Starts them; `over` is cancelled when this host is elected.
pub(super) fn start(
    supervisor: &mut Supervisor,
    settings: &Settings,
    base: &Base,
    (outward, between_hosts): (Arc<dyn Outward>, LayLine),
    over: CancellationToken,
) {
    let link = links::Link(Arc::clone(&outward));
    links::run_outbox(supervisor, Outbox::new(base.store.clone(), link, base.clock.clone(), base.random.clone()));
    links::run_availability(supervisor, base.clone(), outward, watch::Sender::default().subscribe());
    let tick = Duration::from_secs(u64::from(settings.tick_s.unwrap_or(default::TICK_S)));
    let follower = Follower { known: Known::new(settings, base), tick, between_hosts, over };
    once(supervisor, "host", follower, |follower, stop| async move { follower.run(stop).await });
}

impl Follower {
    /// Works for the one that leads until told to stop, or until this host is elected.
    async fn run(self, stop: CancellationToken) -> TaskResult {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            () = lead::until_elected(&*self.known.base.drivers.swarm) => {
                tracing::info!("the Swarm's managers have elected this host");
                self.over.cancel();
                Ok(())
            }
            error = self.serve(&stop) => Err(error),
        }
    }

    async fn serve(&self, stop: &CancellationToken) -> TaskError {
        loop {
            let world = match self.until_there().await {
                Ok(world) => world,
                Err(error) => return error,
            };
            // What runs for the one that leads is told to stop with the world that it runs on.
            let on_world = stop.child_token();
            let _at_the_end = on_world.clone().drop_guard();
            let between = Between::new(&self.between_hosts, &self.known.base, &world);
            let ended = tokio::select! {
                biased;
                what = bootstrap::until_changed(&self.known, &world) => Ok(what),
                error = self.report(&world) => Err(error),
                () = world.images.run(&world, on_world.clone()) => Ok("the images of this host are looked after no more".to_owned()),
                () = between.run(on_world) => Ok("the line to the other hosts ended".to_owned()),
            };
            match ended {
                Ok(what) => tracing::warn!(what, "the Swarm side begins anew"),
                Err(error) => return error,
            }
        }
    }

    /// Tries until there is a world; says why there is none.
    async fn until_there(&self) -> Result<World, TaskError> {
        let base = &self.known.base;
        let mut reporter = HostReporter::new(&base.fleet, &base.host, &base.store, &base.clock);
        let (mut backoff, mut last) = (Backoff::new(bootstrap::WAIT, base.random.clone()), String::new());
        loop {
            let error = match bootstrap::to_follow(&self.known).await {
                Ok(world) => return Ok(world),
                Err(error) => chain(&error),
            };
            if error != last {
                tracing::warn!(error, "waiting for Docker Swarm");
                reporter.waiting(&error).await?;
                last = error;
            }
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    /// Says how the host is; ends with the store only.
    async fn report(&self, world: &World) -> TaskError {
        let base = &self.known.base;
        let mut reporter = HostReporter::new(&base.fleet, &base.host, &base.store, &base.clock);
        loop {
            if let Err(error) = reporter.look(world, self.tick).await {
                return error.into();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
