//! `pgmoor serve`: builds every room from its options, starts them in order and stops them in reverse. Which rooms there
//! are depends on the role of the host (`role`).
//!
//! Architecture invariant: the only place that knows all rooms. The links, the outbox and intake work as soon as there
//! is a broker; the reconciler and the monitor as soon as there is a Swarm.

mod adopt;
mod between;
mod bootstrap;
pub mod config;
mod door;
mod follow;
mod links;
mod resync;
mod role;
pub mod roles;
pub mod services;
pub mod ways;
mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::catalogue;
use crate::drivers::host::Local;
use crate::drivers::seal::FleetKey;
use crate::drivers::swarm::Docker;
use crate::drivers::{Drivers, etcd, fake, patroni, postgres};
use crate::model::ControllerId;
use crate::mqtt;
use crate::runtime::backoff::Schedule;
use crate::runtime::clock::{SharedClock, SystemClock};
use crate::runtime::random::Random;
use crate::runtime::supervisor::{self, Policy, Supervisor};
use crate::store::{self, Store};
use config::{DriverKind, Settings, default};
use roles::Roles;
use services::Base;
use ways::OverMqtt;

/// Why the daemon does not start, or why it stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error("read the configuration")]
    Config(#[from] config::Error),
    /// The data directory.
    #[error("make the data directory {path}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that the configuration names.
    #[error("read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The catalogue.
    #[error("read the catalogue")]
    Catalogue(#[from] catalogue::Error),
    /// The fleet key, or a driver.
    #[error("prepare a driver")]
    Driver(#[from] crate::drivers::Error),
    /// The store.
    #[error("open the store")]
    Store(#[from] store::Error),
    /// The embedded broker.
    #[error("start the embedded broker")]
    Broker(#[from] pgmoor_broker::Error),
    /// The links.
    #[error("prepare the links to the broker")]
    Mqtt(#[from] mqtt::Error),
    /// A task.
    #[error("run")]
    Task(#[from] supervisor::Error),
}

/// Runs the daemon until `stop`.
///
/// # Errors
/// See [`Error`].
pub async fn serve(settings: &Settings, stop: CancellationToken) -> Result<(), Error> {
    let base = base(settings)?;
    tracing::info!(fleet = %base.fleet, host = %base.host, data_dir = base.data_dir, epoch = base.store.epoch(), "starting");
    let mut supervisor = Supervisor::new(PROCESS, base.clock.clone(), base.random.clone());
    let broker = links::broker(settings).await?;
    let (options, embedded) = match broker {
        links::BrokerSide::Embedded(broker) => {
            let options = links::private_options(&broker.private_access());
            tracing::info!(address = %broker.local_addr(), "the embedded broker listens");
            links::run_broker(&mut supervisor, broker);
            (options, true)
        }
        links::BrokerSide::External(options) => (options, false),
    };
    door::run(&mut supervisor, options.clone(), &base);
    let roles = Roles { settings: settings.clone(), base, ways: Arc::new(OverMqtt { options, embedded }) };
    once(&mut supervisor, "role", roles, |roles, stop| async move { roles.play(stop).await.map_err(Into::into) });
    supervisor.run(stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// The process has as long as its role, and a moment more: below the 30 seconds that a service manager waits.
const PROCESS: supervisor::Options =
    supervisor::Options { task_limit: Duration::from_secs(25), shutdown_limit: Duration::from_secs(28) };
fn base(settings: &Settings) -> Result<Base, Error> {
    let (fleet, host, data_dir) = (settings.fleet()?, settings.host()?, settings.data_dir()?);
    make_private(Path::new(&data_dir))?;
    let clock = SystemClock::shared();
    let random = Random::System;
    let key = FleetKey::load_or_create(&Path::new(&data_dir).join("fleet.key"))?;
    let store = Store::open(&Path::new(&data_dir).join("pgmoor.redb"), &store::Options::new(fleet.clone()))?;
    let controller = ControllerId::parse(host.as_str()).map_err(|_| config::Error::Value {
        setting: "host",
        value: host.to_string(),
        why: "it is not an id",
    })?;
    let catalogue = match &settings.catalogue {
        None => catalogue::embedded()?,
        Some(path) => catalogue::parse(&read(path)?)?,
    };
    let drivers = drivers(settings, &data_dir, &clock)?;
    Ok(Base {
        fleet,
        controller,
        host,
        data_dir,
        catalogue: Arc::new(catalogue),
        store,
        drivers,
        key: Arc::new(key),
        clock,
        random,
    })
}

fn drivers(settings: &Settings, data_dir: &str, clock: &SharedClock) -> Result<Drivers, Error> {
    match settings.drivers.unwrap_or(DriverKind::Docker) {
        DriverKind::Fake => {
            let options = fake::Options { data_dir: data_dir.to_owned(), ..fake::Options::new(Arc::clone(clock)) };
            Ok(fake::World::new(options.for_daemon(settings.fake_databases)).drivers())
        }
        DriverKind::Docker if settings.fake_databases.is_some() => Err(Error::Config(config::Error::Value {
            setting: "fake-databases",
            value: settings.fake_databases.unwrap_or_default().to_string(),
            why: "it is the size of the in-memory world of --drivers fake",
        })),
        DriverKind::Docker => {
            let socket = settings.docker_socket.clone().unwrap_or_else(|| PathBuf::from(default::DOCKER_SOCKET));
            Ok(Drivers {
                swarm: Arc::new(Docker::new(&socket.to_string_lossy())),
                host: Arc::new(Local::new(data_dir)),
                patroni: Arc::new(patroni::Rest::new()),
                postgres: Arc::new(postgres::Sql::new()),
                etcd: Arc::new(etcd::Gateway::new()),
            })
        }
    }
}

/// Makes the directory 0700: what is in it is nobody else's business.
fn make_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let failed = |source| Error::DataDir { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Where the embedded broker listens when nobody says otherwise.
fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1883))
}

/// A task that is made once: a second call would have nothing to run, and says so by ending.
fn once<T: Send + 'static, F>(
    supervisor: &mut Supervisor,
    name: &str,
    part: T,
    run: impl Fn(T, CancellationToken) -> F + Send + 'static,
) where
    F: Future<Output = supervisor::TaskResult> + Send + 'static,
{
    let mut part = Some(part);
    supervisor.start(name, Policy::Essential, move |stop| {
        let running = part.take().map(|part| run(part, stop));
        async move {
            match running {
                Some(running) => running.await,
                None => Ok(()),
            }
        }
    });
}

/// How a task that can be started again waits before it is.
const AGAIN: Policy = Policy::Restart(Schedule::TASK);
