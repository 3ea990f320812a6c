//! The Swarm side of the daemon: waits for a Swarm, then runs the reconciler, the monitor and Docker's events; begins
//! anew when this host is another node or has another address than before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::bootstrap::{self, Known};
use super::config::{self, Settings, default};
use super::once;
use super::services::Base;
use crate::contract::commands::Question;
use crate::domain::FleetOptions;
use crate::monitor::{self, Monitor};
use crate::reconcile::{Inputs, Options, Reconciler, Waiting};
use crate::runtime::bell::{Bell, Listener, bell};
use crate::runtime::supervisor::{Supervisor, TaskError, TaskResult};
use crate::world::World;

type Inward = (Bell, Listener, mpsc::Receiver<Question>);

/// What the settings say about the work on the Swarm.
struct Plan {
    base: Base,
    known: Known,
    options: Options,
    inward: Inward,
}

pub(super) fn run(
    supervisor: &mut Supervisor,
    settings: &Settings,
    base: Base,
    inward: Inward,
    adopted: watch::Sender<u64>,
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
        adopted,
    };
    once(supervisor, "world", Plan { base, known, options, inward }, work);
}

async fn work(plan: Plan, stop: CancellationToken) -> TaskResult {
    let Plan { base, known, options, inward: (bell_reconcile, listener, questions) } = plan;
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
            world = bootstrap::until_there(&known, reporter, (&waiting, &mut inputs.listener)) => world?,
        };
        let (given_back, changed) = on(&base, &known, (world, options.clone()), &bell_reconcile, inputs, &stop).await?;
        inputs = given_back;
        match changed {
            Some(what) => tracing::warn!(what, "the facts of this host have changed: the Swarm side begins anew"),
            None => return Ok(()),
        }
    }
}

/// Works on one world until told to stop, or until it is another one: then says what has changed.
async fn on(
    base: &Base,
    known: &Known,
    (world, options): (World, Options),
    bell_reconcile: &Bell,
    inputs: Inputs,
    stop: &CancellationToken,
) -> Result<(Inputs, Option<String>), TaskError> {
    let (bell_monitor, listener_monitor) = bell();
    // One that fails takes the others along; the supervisor then says so and ends the process.
    let together = stop.child_token();
    let monitor = Monitor::new(base.store.clone(), listener_monitor, options.tick);
    let reconciler = Reconciler::new(
        options,
        (world.clone(), base.store.clone()),
        base.random.clone(),
        bell_monitor.clone(),
        inputs,
    );
    let bells = vec![bell_reconcile.clone(), bell_monitor];
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
    let watching = async {
        tokio::select! {
            biased;
            () = together.cancelled() => None,
            what = bootstrap::until_changed(known, &world.facts) => {
                together.cancel();
                Some(what)
            }
        }
    };
    let (reconciled, monitored, (), changed) = tokio::join!(reconciling, monitoring, events, watching);
    let inputs = reconciled?;
    monitored?;
    Ok((inputs, changed))
}
