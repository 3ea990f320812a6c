//! The conformance suite against real Docker, files, etcd, Patroni and Postgres.

use std::net::TcpListener;
use std::sync::Arc;

use pgmoor::drivers::Drivers;
use pgmoor::drivers::etcd::Gateway;
use pgmoor::drivers::host::Local;
use pgmoor::drivers::patroni::Rest;
use pgmoor::drivers::postgres::Sql;
use pgmoor::drivers::swarm::{DEFAULT_SOCKET, Docker};
use pgmoor::runtime::clock::{Clock as _, SystemClock};

use crate::docker::{Sweep, alter_system};
use crate::suite::{self, Bench};

/// This machine. Docker is swept before the directory goes, since containers have it mounted.
struct Real {
    drivers: Drivers,
    sweep: Sweep,
    directory: tempfile::TempDir,
}

impl Real {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("pgmoor-conformance-").tempdir_in("/var/tmp").unwrap();
        let name = directory.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let fleet = format!("t{}", name.rsplit('-').next().unwrap());
        let drivers = Drivers {
            swarm: Arc::new(Docker::new(DEFAULT_SOCKET)),
            host: Arc::new(Local::new(directory.path())),
            patroni: Arc::new(Rest::new()),
            postgres: Arc::new(Sql::new()),
            etcd: Arc::new(Gateway::new()),
        };
        Self { drivers, sweep: Sweep { fleet }, directory }
    }
}

impl Bench for Real {
    fn drivers(&self) -> &Drivers {
        &self.drivers
    }

    fn data_dir(&self) -> String {
        self.directory.path().to_string_lossy().into_owned()
    }

    fn now_s(&self) -> i64 {
        SystemClock::new().now_s()
    }

    fn listen(&self, port: u16) -> Option<TcpListener> {
        Some(TcpListener::bind(("127.0.0.1", port)).unwrap())
    }

    fn alter_system(&self, service: &str, name: &str, value: &str) {
        alter_system(service, name, value);
    }

    fn replicates(&self) -> bool {
        true
    }

    fn fleet(&self) -> String {
        self.sweep.fleet.clone()
    }
}

macro_rules! against_the_real_ones {
    ($($name:ident),*) => {$(
        #[tokio::test]
        async fn $name() {
            let real = Real::new();
            suite::$name(&real).await;
        }
    )*};
}

against_the_real_ones!(
    host,
    networks_and_configs,
    lease,
    roster,
    services,
    tasks_that_cannot_run,
    events,
    etcd,
    patroni,
    switchover,
    postgres,
    data_outlives_its_container
);
