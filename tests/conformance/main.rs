//! The conformance suite against the in-memory world: no Docker, and time that passes by itself. The live tests run
//! the same suite against the real systems, so that neither can drift from the other.

#![cfg(test)]

mod suite;

use std::net::TcpListener;

use pgmoor::drivers::Drivers;
use pgmoor::drivers::fake::{Options, World};
use pgmoor::runtime::clock::TokioClock;
use suite::Bench;

/// A moment in 2026: milliseconds since 1970.
const NOW_MS: i64 = 1_780_000_000_000;

struct Fake {
    world: World,
    drivers: Drivers,
}

impl Fake {
    fn new() -> Self {
        let world = World::new(Options::new(std::sync::Arc::new(TokioClock::starting_at(NOW_MS))));
        Self { drivers: world.drivers(), world }
    }
}

impl Bench for Fake {
    fn drivers(&self) -> &Drivers {
        &self.drivers
    }

    fn data_dir(&self) -> String {
        "/var/lib/pgmoor".to_owned()
    }

    fn now_s(&self) -> i64 {
        NOW_MS / 1000
    }

    fn listen(&self, port: u16) -> Option<TcpListener> {
        self.world.occupy_port(port, true);
        None
    }

    fn alter_system(&self, service: &str, name: &str, value: &str) {
        assert!(self.world.alter_system(service, name, value));
    }

    fn replicates(&self) -> bool {
        false
    }

    fn fleet(&self) -> String {
        "conformance".to_owned()
    }
}

macro_rules! against_the_fake {
    ($($name:ident),*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let fake = Fake::new();
            suite::$name(&fake).await;
            assert_eq!(fake.world.violations(), []);
        }
    )*};
}

against_the_fake!(
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
