//! What the reconciler relies on, stated once for every implementation of the drivers.
//!
//! Invariant: nothing here knows which implementation it has in hand; what differs is in [`Bench`].

mod etcd;
mod host;
mod patroni;
mod postgres;
mod site;
mod swarm;

use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;

use pgmoor::drivers::swarm::Labels;
use pgmoor::drivers::{Drivers, Error, Result};

pub(crate) use etcd::etcd;
pub(crate) use host::host;
pub(crate) use patroni::{patroni, switchover};
pub(crate) use postgres::{data_outlives_its_container, postgres};
pub(crate) use swarm::{events, lease, networks_and_configs, roster, services, tasks_that_cannot_run};

/// How long anything may take: a real Postgres on a busy machine comes up within half of it.
const DEADLINE: Duration = Duration::from_secs(120);
/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the suite runs.
pub(crate) trait Bench {
    /// The drivers under test.
    fn drivers(&self) -> &Drivers;
    /// A directory of our own, the host driver's data directory.
    fn data_dir(&self) -> String;
    /// Seconds since 1970.
    fn now_s(&self) -> i64;
    /// A program outside Docker listens on this port from now on, until the answer is dropped.
    fn listen(&self, port: u16) -> Option<TcpListener>;
    /// A superuser sets a parameter by `ALTER SYSTEM` in the Postgres of a service, and has it reload.
    fn alter_system(&self, service: &str, name: &str, value: &str);
    /// Whether a second instance of a node follows the first. In the world in memory each is alone.
    fn replicates(&self) -> bool;
    /// The fleet that everything is labelled with; what is left of it is removed by the bench.
    fn fleet(&self) -> String;

    /// The label that everything carries.
    fn labels(&self) -> Labels {
        Labels::from([("pgmoor.fleet".to_owned(), self.fleet())])
    }
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "waited in vain until {what}");
}

/// A port that nothing listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn is_conflict<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Conflict { .. }))
}

fn is_not_found<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::NotFound { .. }))
}

fn is_failed<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Failed { .. }))
}

fn is_unreachable<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Unreachable { .. }))
}
