//! A broker for a test: started on a free port, stopped when it is dropped.

use std::net::SocketAddr;
use std::time::Duration;

use pgmoor_broker::{Broker, Error, Options, PrivateAccess};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) access: PrivateAccess,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinSet<Result<(), Error>>,
}

/// Options for a test: a free port on loopback, a short handshake.
pub(crate) fn options() -> Options {
    Options {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        handshake_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

pub(crate) async fn start(options: Options) -> Running {
    let broker = Broker::start(options).await.unwrap();
    let (addr, access) = (broker.local_addr(), broker.private_access());
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(broker.run(stop.clone()));
    Running { addr, access, stop, task }
}
