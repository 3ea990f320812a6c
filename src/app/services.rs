//! The services of a daemon that leads its fleet, put together from drivers, links, clock and randomness that somebody else made.
//!
//! Architecture invariant: nothing in here knows whether a real broker or Docker is behind what it is handed. `serve`
//! hands it the real ones; `tests/simulation` runs the same services on an in-memory world under a clock of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::config::{Settings, default};
pub use super::links::Link;
use super::resync::{self, Resync as ResyncTask};
use super::{links, world};
use crate::agent::LayLine;
use crate::drivers::Drivers;
use crate::drivers::seal::FleetKey;
use crate::intake::{Confirm, Intake, PreviewQueue, Reseeds};
use crate::model::{Catalogue, ControllerId, DatabaseId, FleetId, HostId};
use crate::mqtt::{
    AckToken, Delivery, Error, InboundHandle, KnownInventory, LinkState, Message, OutboundHandle, Resync,
};
use crate::outbox::Outbox;
use crate::runtime::bell::bell;
use crate::runtime::clock::SharedClock;
use crate::runtime::random::Random;
use crate::runtime::supervisor::Supervisor;
use crate::store::Store;

/// What every part of the daemon knows.
#[derive(Clone)]
pub struct Base {
    /// The fleet.
    pub fleet: FleetId,
    /// This daemon among those that may control the fleet.
    pub controller: ControllerId,
    /// This host.
    pub host: HostId,
    /// Where pgmoor keeps its own files on this host.
    pub data_dir: String,
    /// The version catalogue.
    pub catalogue: Arc<Catalogue>,
    /// The open store.
    pub store: Store,
    /// The outside systems.
    pub drivers: Drivers,
    /// What seals records.
    pub key: Arc<FleetKey>,
    /// The time.
    pub clock: SharedClock,
    /// Randomness, also for passwords.
    pub random: Random,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base").field("fleet", &self.fleet).field("host", &self.host).finish_non_exhaustive()
    }
}

/// The link by which specs and commands come in, as the services use it.
#[async_trait]
pub trait Inward: Send + Sync {
    /// The state of the link, and a way to wait for it to change.
    fn state(&self) -> watch::Receiver<LinkState>;
    /// See [`InboundHandle::ack`].
    fn ack(&self, token: AckToken);
    /// See [`InboundHandle::resync`].
    async fn resync(&self, known: &BTreeSet<DatabaseId>, limit: Duration) -> Result<Resync, Error>;

    /// See [`InboundHandle::inventory`]; a link without one never changes.
    fn inventory(&self) -> watch::Receiver<KnownInventory> {
        watch::Sender::default().subscribe()
    }

    /// See [`InboundHandle::specs`]; only a link with an inventory needs it.
    fn specs(&self) -> watch::Receiver<u64> {
        watch::Sender::default().subscribe()
    }

    /// See [`InboundHandle::seen`]; only a link with an inventory needs it.
    fn seen(&self) -> BTreeSet<DatabaseId> {
        BTreeSet::new()
    }

    /// See [`InboundHandle::unacknowledged`].
    fn unacknowledged(&self) -> usize {
        0
    }
}

/// The link by which reports go out, as the services use it.
#[async_trait]
pub trait Outward: Send + Sync {
    /// The state of the link, and a way to wait for it to change.
    fn state(&self) -> watch::Receiver<LinkState>;
    /// See [`OutboundHandle::send`]; the future is the broker's acknowledgement.
    async fn send(&self, message: &Message) -> Result<BoxFuture<'static, Result<(), Error>>, Error>;

    /// See [`OutboundHandle::writer`]; none: what it wrote cannot be told from what others wrote.
    fn writer(&self) -> Option<&str> {
        None
    }

    /// Publishes and waits for the acknowledgement.
    async fn publish(&self, message: &Message) -> Result<(), Error> {
        self.send(message).await?.await
    }
}

#[async_trait]
impl Inward for InboundHandle {
    fn state(&self) -> watch::Receiver<LinkState> {
        Self::state(self)
    }

    fn ack(&self, token: AckToken) {
        Self::ack(self, token);
    }

    async fn resync(&self, known: &BTreeSet<DatabaseId>, limit: Duration) -> Result<Resync, Error> {
        Self::resync(self, known, limit).await
    }

    fn inventory(&self) -> watch::Receiver<KnownInventory> {
        Self::inventory(self)
    }

    fn specs(&self) -> watch::Receiver<u64> {
        Self::specs(self)
    }

    fn seen(&self) -> BTreeSet<DatabaseId> {
        Self::seen(self)
    }

    fn unacknowledged(&self) -> usize {
        Self::unacknowledged(self)
    }
}

#[async_trait]
impl Outward for OutboundHandle {
    fn state(&self) -> watch::Receiver<LinkState> {
        Self::state(self)
    }

    async fn send(&self, message: &Message) -> Result<BoxFuture<'static, Result<(), Error>>, Error> {
        let way = Self::send(self, message).await?;
        Ok(Box::pin(way.wait()))
    }

    fn writer(&self) -> Option<&str> {
        Some(Self::writer(self))
    }
}

/// Both links, and what goes with them.
pub struct Lines {
    /// Specs and commands come in.
    pub inward: Arc<dyn Inward>,
    /// What has come in, in order.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// Reports go out.
    pub outward: Arc<dyn Outward>,
    /// A fresh look at one topic.
    pub confirm: Arc<dyn Confirm>,
    /// Whether the broker is our own, which keeps nothing on disk: what it forgot is published for it.
    pub embedded: bool,
}

/// How this host leads.
pub struct Leading {
    /// Cancelled when it leads no more.
    pub over: CancellationToken,
    /// How hosts reach each other; none: there is no line between them.
    pub between_hosts: Option<LayLine>,
}

/// Starts all services of a host that leads, in the order in which they may begin: what goes out first, what comes in
/// last.
pub fn start(supervisor: &mut Supervisor, settings: &Settings, base: &Base, (lines, leading): (Lines, Leading)) {
    let Lines { inward, deliveries, outward, confirm, embedded } = lines;
    let (bell_reconcile, listener) = bell();
    let (previews, questions) = PreviewQueue::new();
    let intake = Intake {
        fleet: base.fleet.clone(),
        host: base.host.clone(),
        data_dir: base.data_dir.clone(),
        catalogue: Arc::clone(&base.catalogue),
        store: base.store.clone(),
        bell: bell_reconcile.clone(),
        clock: base.clock.clone(),
        confirm,
        previews,
    };
    let publisher = Link(Arc::clone(&outward));
    let outbox = Outbox::new(base.store.clone(), publisher, base.clock.clone(), base.random.clone());
    links::run_outbox(supervisor, outbox);
    let (spec_set, adopted) = (watch::Sender::default(), watch::Sender::default());
    links::run_availability(supervisor, base.clone(), Arc::clone(&outward), spec_set.subscribe());
    let lead = (leading, inward.state(), adopted.clone());
    world::run(supervisor, settings, base.clone(), (bell_reconcile, listener, questions), lead);
    let incoming = links::Incoming {
        intake,
        link: inward,
        outbound: outward,
        reseeds: Reseeds::default(),
        random: base.random.clone(),
    };
    links::run_intake(supervisor, incoming.clone(), deliveries);
    let reseed = embedded || settings.reseed_specs.unwrap_or(default::RESEED_SPECS);
    resync::run(supervisor, ResyncTask { base: base.clone(), incoming, embedded, reseed, adopted, spec_set });
}
