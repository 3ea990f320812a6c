//! The Swarm side of a daemon that leads: waits for a Swarm, then runs the reconciler, the monitor, Docker's events and,
//! where there are other hosts, the line to them; begins anew when this host is another node or has another address than
//! before, and when hosts join or leave.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::between::Between;
use super::bootstrap::{self, Known};
use super::config::{Settings, default};
use super::services::{Base, Leading};
use super::{once, role};
use crate::agent::Asker;
use crate::contract::commands::Question;
use crate::domain::FleetOptions;
use crate::monitor::{self, Monitor};
use crate::mqtt::LinkState;
use crate::reconcile::{Inputs, Options, Reconciler, Waiting};
use crate::runtime::bell::{Bell, Listener, bell};
use crate::runtime::supervisor::{Supervisor, TaskError, TaskResult};
use crate::world::work::Remote;
use crate::world::{World, lead};

type Inward = (Bell, Listener, mpsc::Receiver<Question>);

/// What the settings say about the work on the Swarm.
struct Plan {
    known: Known,
    options: Options,
    inward: Inward,
    lead: Lead,
}

/// The lead under which it is done.
struct Lead {
    leading: Leading,
    /// The link by which specs come in: whoever takes it over leads.
    inbound: watch::Receiver<LinkState>,
    /// Told when records were taken from Swarm.
    adopted: watch::Sender<u64>,
}

pub(super) fn run(
    supervisor: &mut Supervisor,
    settings: &Settings,
    base: Base,
    inward: Inward,
    (leading, inbound, adopted): (Leading, watch::Receiver<LinkState>, watch::Sender<u64>),
) {
    let fleet = FleetOptions {
        etcd_client_port: settings.etcd_client_port.unwrap_or(default::ETCD_CLIENT_PORT),
        etcd_peer_port: settings.etcd_peer_port.unwrap_or(default::ETCD_PEER_PORT),
    };
    let options = Options {
        tick: Duration::from_secs(u64::from(settings.tick_s.unwrap_or(default::TICK_S))),
        deadlines: settings.deadlines.deadlines(),
        limits: settings.limits.limits(),
        deletion_grace_s: settings.deletion_grace_s.unwrap_or(default::DELETION_GRACE_S),
        history_max: usize::try_from(settings.history_max.unwrap_or(default::HISTORY_MAX)).unwrap_or(usize::MAX),
        fleet,
        catalogue: Arc::clone(&base.catalogue),
    };
    let lead = Lead { leading, inbound, adopted };
    once(supervisor, "world", Plan { known: Known::new(settings, &base), options, inward, lead }, work);
}

async fn work(plan: Plan, stop: CancellationToken) -> TaskResult {
    let Plan { known, options, inward: (bell_reconcile, listener, questions), lead } = plan;
    let base = &known.base;
    let mut inputs = Inputs { listener, questions };
    let waiting = Waiting {
        store: base.store.clone(),
        fleet: base.fleet.clone(),
        clock: Arc::clone(&base.clock),
        limit: options.deadlines.fleet,
    };
    loop {
        let reporter = monitor::HostReporter::new(&base.fleet, &base.host, &base.store, &base.clock);
        let world = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            // This host has left the Swarm, or is no manager any more; another leads.
            () = until_taken_over(&lead.inbound), if role::others(base)? => None,
            world = bootstrap::until_there(&known, &lead.adopted, reporter, (&waiting, &mut inputs.listener)) => world?,
        };
        let Some(world) = world else {
            lead.leading.over.cancel();
            return Ok(());
        };
        let leading = on(&known, &lead, (world, options.clone()), &bell_reconcile, inputs, &stop);
        let (given_back, end) = Box::pin(leading).await?;
        inputs = given_back;
        match end {
            End::Changed(what) => tracing::warn!(what, "the Swarm side begins anew"),
            End::Over(why) => {
                tracing::warn!(why, "this host leads no more");
                lead.leading.over.cancel();
                return Ok(());
            }
            End::Stopped => return Ok(()),
        }
    }
}

/// Why the work on a world ended.
enum End {
    /// It is another world now.
    Changed(String),
    /// Another host leads.
    Over(String),
    /// It was told to.
    Stopped,
}

/// Works on one world until told to stop, until it is another one, or until another host leads.
async fn on(
    known: &Known,
    lead: &Lead,
    (world, options): (World, Options),
    bell_reconcile: &Bell,
    inputs: Inputs,
    stop: &CancellationToken,
) -> Result<(Inputs, End), TaskError> {
    let base = &known.base;
    let (bell_monitor, listener_monitor) = bell();
    // One that fails takes the others along; the supervisor then says so and ends the process.
    let together = stop.child_token();
    let between = lead.leading.between_hosts.as_ref().filter(|_| world.hosts.iter().count() > 1);
    let between = between.map(|options| Between::new(options, base, &world));
    let asker = between.as_ref().and_then(Between::asker);
    let world = World { remote: asker.clone().map(|asker| asker as Arc<dyn Remote>), ..world };
    let monitor = Monitor::new(base.store.clone(), listener_monitor, options.tick);
    let reconciler = Reconciler::new(
        options,
        (world.clone(), base.store.clone()),
        base.random.clone(),
        bell_monitor.clone(),
        inputs,
    );
    let bells = vec![bell_reconcile.clone(), bell_monitor];
    let images = reconciler.images();
    let events = monitor::events(world.clone(), bells, base.random.clone(), together.clone());
    let reconciling = async {
        let ended = reconciler.run(together.clone()).await;
        together.cancel();
        ended
    };
    let monitoring = async {
        let ended = monitor.run(world.clone(), bell_reconcile.clone(), together.clone()).await;
        together.cancel();
        ended
    };
    let talking = async {
        if let Some(between) = between {
            between.run(together.clone()).await;
        }
    };
    let supplying = async {
        let (here, stop) = (world.images.run(&world, together.clone()), together.clone());
        tokio::join!(here, images.run(bell_reconcile.clone(), stop));
    };
    let watching = async {
        let end = tokio::select! {
            biased;
            () = together.cancelled() => End::Stopped,
            what = bootstrap::until_changed(known, &world) => End::Changed(what),
            why = until_over(lead, &world, asker.as_deref()) => End::Over(why),
        };
        together.cancel();
        end
    };
    let (reconciled, monitored, (), (), (), end) =
        tokio::join!(reconciling, monitoring, events, talking, supplying, watching);
    let inputs = reconciled?;
    monitored?;
    Ok((inputs, end))
}

/// Waits until it is known that another host leads; says how.
async fn until_over(lead: &Lead, world: &World, asker: Option<&Asker>) -> String {
    let (Some(lease), Some(asker)) = (&world.lease, asker) else {
        // Nobody else is there; a host that joins changes the world.
        return std::future::pending().await;
    };
    let mut newest = asker.newest();
    let newer = async {
        let heard = newest.wait_for(|newest| *newest > lease.epoch).await.map(|newest| *newest);
        match heard {
            Ok(newest) => format!("a host has heard of a newer lead, {newest}; ours was {}", lease.epoch),
            Err(_gone) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        why = newer => why,
        () = until_taken_over(&lead.inbound) => "another host has taken over the fleet's session with the broker".to_owned(),
        why = lead::until_over(lease, &*world.drivers.swarm) => why,
    }
}

/// Waits until another host has the fleet's session with the broker; for ever, when the link is gone without it.
async fn until_taken_over(inbound: &watch::Receiver<LinkState>) {
    if inbound.clone().wait_for(|state| *state == LinkState::TakenOver).await.is_err() {
        std::future::pending::<()>().await;
    }
}
