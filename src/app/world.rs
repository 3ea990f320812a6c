//! The Swarm side of the daemon: waits for a Swarm, then runs the reconciler, the monitor and Docker's events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::bootstrap::{self, Known};
use super::config::{self, Settings, default};
use super::{Base, once};
use crate::contract::commands::Question;
use crate::domain::FleetOptions;
use crate::monitor::{self, Monitor};
use crate::reconcile::{Inputs, Options, Reconciler};
use crate::runtime::bell::{Bell, Listener, bell};
use crate::runtime::supervisor::{Supervisor, TaskResult};

type Inward = (Bell, Listener, mpsc::Receiver<Question>);

/// What the settings say about the work on the Swarm.
struct Plan {
    base: Base,
    known: Known,
    options: Options,
    inward: Inward,
}

pub(super) fn run(supervisor: &mut Supervisor, settings: &Settings, base: Base, inward: Inward) {
    let fleet = FleetOptions {
        etcd_client_port: settings.etcd_client_port.unwrap_or(default::ETCD_CLIENT_PORT),
        etcd_peer_port: settings.etcd_peer_port.unwrap_or(default::ETCD_PEER_PORT),
    };
    let options = Options {
        tick: Duration::from_secs(u64::from(settings.tick_s.unwrap_or(default::TICK_S))),
        deletion_grace_s: settings.deletion_grace_s.unwrap_or(default::DELETION_GRACE_S),
        fleet,
        known_hosts: [base.host.clone()].into(),
        catalogue: Arc::clone(&base.catalogue),
    };
    let known = Known {
        fleet: base.fleet.clone(),
        host: base.host.clone(),
        data_dir: base.data_dir.clone(),
        hostname: config::hostname(),
        advertise: settings.advertise_address,
        etcd_client_port: fleet.etcd_client_port,
        catalogue: Arc::clone(&base.catalogue),
        drivers: base.drivers.clone(),
        key: Arc::clone(&base.key),
        store: base.store.clone(),
        clock: Arc::clone(&base.clock),
        random: base.random.clone(),
    };
    once(supervisor, "world", Plan { base, known, options, inward }, work);
}

async fn work(plan: Plan, stop: CancellationToken) -> TaskResult {
    let Plan { base, known, options, inward: (bell_reconcile, listener, questions) } = plan;
    let (bell_monitor, listener_monitor) = bell();
    let waiting = monitor::HostReporter::new(&base.fleet, &base.host, &base.store, &base.clock);
    let world = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        world = bootstrap::until_there(&known, waiting) => world?,
    };
    // One that fails takes the others along; the supervisor then says so and ends the process.
    let together = stop.child_token();
    let monitor = Monitor::new(base.store.clone(), listener_monitor);
    let reconciler = Reconciler::new(
        options,
        (world.clone(), base.store.clone()),
        base.random.clone(),
        bell_monitor.clone(),
        Inputs { listener, questions },
    );
    let bells = vec![bell_reconcile.clone(), bell_monitor];
    let events = monitor::events(world.clone(), bells, base.random.clone(), together.clone());
    let reconciling = async {
        let ended = reconciler.run(together.clone()).await;
        together.cancel();
        ended
    };
    let monitoring = async {
        let ended = monitor.run(world, bell_reconcile, together.clone()).await;
        together.cancel();
        ended
    };
    let (reconciled, monitored, ()) = tokio::join!(reconciling, monitoring, events);
    reconciled?;
    monitored?;
    Ok(())
}
