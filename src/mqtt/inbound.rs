//! The inbound link: specs and commands come in by it.
//!
//! Invariants: one persistent session under the fleet's client id; after every CONNACK everything is subscribed again,
//! whatever the broker says about the session; a message is acknowledged only on the connection that brought it, and
//! only after the one who took it said so. While the receiver does not take messages, nothing is read from the broker:
//! back-pressure, not loss. The inventory is read on the way, because a resync asks for what it names; it is subscribed
//! to before the specs, whose replay may fill the broker's queue and push out what comes after.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{AsyncClient, ConnAck, Event, EventLoop, ManualAck, MqttOptions, Packet, Publish};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::link::{ACK_MODE, End, Keeper, NothingOnItsWay, Pulse};
use super::resync::{self, Markers};
use super::window::Window;
use super::{AckToken, Delivery, Error, Identity, LinkState, Options, Received};
use crate::contract::Topic;
use crate::contract::documents::Inventory;
use crate::contract::topics::filters;
use crate::model::DatabaseId;
use crate::runtime::{Random, within};

/// Messages between the link and the one who takes them: enough for a batch of commits, little enough memory with
/// the largest specs.
const QUEUE: usize = 256;
/// How long the broker may take to acknowledge our subscriptions. It includes the time that the receiver lets us wait.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(60);

/// The link before it runs.
pub struct Inbound {
    options: MqttOptions,
    deliveries: mpsc::Sender<Delivery>,
    random: Random,
    shared: Arc<Shared>,
}

/// The link while it runs: acknowledge, resync, watch. Clones are the same link.
#[derive(Clone)]
pub struct InboundHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) sync_topic: String,
    pub(super) markers: Markers,
    pub(super) inventory: watch::Sender<KnownInventory>,
    /// Grows with each spec that comes.
    specs: watch::Sender<u64>,
    keeper: Keeper,
    now: Mutex<Now>,
}

/// What is known of the user's inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownInventory {
    /// The last good one; none: there is none, or it was cleared.
    pub inventory: Option<Arc<Inventory>>,
    /// Why the last one that came is not it, for people.
    pub fault: Option<String>,
}

/// What belongs to the present connection.
struct Now {
    client: Option<AsyncClient>,
    /// Set once it is subscribed.
    live: Option<Live>,
    window: Window<ManualAck>,
    seen: BTreeSet<DatabaseId>,
}

/// A connection that is subscribed.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) epoch: u64,
    pub(super) session_present: bool,
    pub(super) client: AsyncClient,
    /// Cancelled when the connection ended.
    pub(super) ended: CancellationToken,
}

impl Inbound {
    /// A link, its handle, and where its messages arrive.
    ///
    /// # Errors
    /// A TLS file cannot be read or used.
    pub fn new(
        options: &Options,
        identity: Identity,
        random: Random,
    ) -> Result<(Self, InboundHandle, mpsc::Receiver<Delivery>), Error> {
        let mut client = options.client(&identity.inbound_client_id())?;
        client.set_clean_start(false);
        let expiry_s = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
        client.set_session_expiry_interval(Some(expiry_s));
        client.set_session_store(NothingOnItsWay);
        client.set_ack_mode(ACK_MODE);
        let (deliveries, arriving) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            sync_topic: Topic::Sync(identity.controller.clone()).to_string(&identity.fleet),
            identity,
            markers: Markers::new(&random),
            inventory: watch::Sender::default(),
            specs: watch::Sender::default(),
            keeper: Keeper::new("inbound", true),
            now: Mutex::new(Now::new(0, None)),
        });
        let handle = InboundHandle { shared: Arc::clone(&shared) };
        Ok((Self { options: client, deliveries, random, shared }, handle, arriving))
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    /// [`Error::Unheard`] when the receiver of the messages is dropped.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let end =
            self.shared.keeper.keep(self.random.clone(), &stop, |epoch| self.connection(epoch, stop.clone())).await;
        match end {
            End::Unheard => Err(Error::Unheard),
            End::Stopped | End::TakenOver | End::Lost(_) | End::Cut(_) => Ok(()),
        }
    }

    /// One connection. The poll task and the control task end with it, whoever of them ends it.
    async fn connection(&self, epoch: u64, stop: CancellationToken) -> End {
        let (client, events) = AsyncClient::builder(self.options.clone()).unbounded().build();
        *self.shared.now() = Now::new(epoch, Some(client.clone()));
        let ended = CancellationToken::new();
        let _at_the_end = ended.clone().drop_guard();
        let (connected, when_connected) = oneshot::channel();
        let end = tokio::select! {
            end = self.poll(events, &client, connected) => end,
            end = self.control(&client, epoch, when_connected, ended) => end,
            () = stop.cancelled() => End::Stopped,
        };
        *self.shared.now() = Now::new(epoch, None);
        end
    }

    async fn poll(&self, mut events: EventLoop, client: &AsyncClient, connected: oneshot::Sender<ConnAck>) -> End {
        let (mut connected, mut pulse) = (Some(connected), Pulse::new());
        loop {
            let heard = match pulse.next(&mut events, connected.is_none()).await {
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let taken = self.arrived(publish, client).await;
                    // While the receiver took its time, nobody listened to the broker.
                    pulse.heard();
                    taken
                }
                Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                    // The control task listens as long as the connection lasts.
                    connected.take().is_none_or(|connected| connected.send(ack).is_ok())
                }
                Ok(Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_)) => true,
                Err(end) => return end,
            };
            if !heard {
                return End::Unheard;
            }
        }
    }

    /// Hands a message on; false when nobody takes it.
    async fn arrived(&self, publish: Publish, client: &AsyncClient) -> bool {
        let token = self.shared.now().window.arrived(client.prepare_ack(&publish));
        let Some(message) = Received::of(publish) else {
            self.shared.done(token);
            return true;
        };
        if message.topic == self.shared.sync_topic {
            self.shared.markers.arrived(&message.payload);
            self.shared.done(token);
            return true;
        }
        match Topic::parse(&self.shared.identity.fleet, &message.topic) {
            Some(Topic::Spec(database)) => {
                if !message.payload.is_empty() {
                    self.shared.now().seen.insert(database);
                }
                self.shared.specs.send_modify(|specs| *specs += 1);
            }
            Some(Topic::Inventory) => {
                self.shared.inventory.send_if_modified(|known| known.take(&message));
                self.shared.done(token);
                return true;
            }
            _ => {}
        }
        self.deliveries.send(Delivery { message, ack: token }).await.is_ok()
    }

    /// Subscribes after CONNACK, then keeps still.
    async fn control(
        &self,
        client: &AsyncClient,
        epoch: u64,
        connected: oneshot::Receiver<ConnAck>,
        ended: CancellationToken,
    ) -> End {
        let Ok(ack) = connected.await else { return std::future::pending().await };
        let subscribed = within("the broker's SUBACK", SUBSCRIBE_TIMEOUT, self.subscribe(client, ack.session_present));
        match subscribed.await.map_err(Error::from).and_then(std::convert::identity) {
            Ok(()) => {}
            Err(error) => return End::Lost(crate::runtime::chain(&error)),
        }
        let session_present = ack.session_present;
        self.shared.now().live = Some(Live { epoch, session_present, client: client.clone(), ended });
        tracing::info!(epoch, session_present, "the inbound link is subscribed");
        self.shared.keeper.state.send_replace(LinkState::Connected { epoch, session_present });
        std::future::pending().await
    }

    async fn subscribe(&self, client: &AsyncClient, session_present: bool) -> Result<(), Error> {
        let Identity { fleet, controller } = &self.shared.identity;
        if session_present {
            // The embedded broker's engine replays nothing on a subscription that the session still has, and lets a
            // resumed session end only one that it made again. Only retained messages come by this filter, so what was
            // queued for us comes again, in its newest form.
            let again = [Topic::Inventory.to_string(fleet), filters::specs(fleet)];
            resync::subscribe(client, &again).await?;
            resync::unsubscribe(client, &again).await?;
        }
        resync::subscribe(client, &[Topic::Inventory.to_string(fleet)]).await?;
        resync::subscribe(client, &filters::controller(fleet, controller)).await
    }
}

impl KnownInventory {
    /// Takes in a message of the inventory's topic; whether anything is different now. One that is faulty changes
    /// nothing but what is said about it, and one that the broker replays from an older time (a broker that lost its
    /// last hours) nothing at all.
    fn take(&mut self, message: &Received) -> bool {
        let before = self.clone();
        if message.payload.is_empty() {
            *self = Self::default();
        } else {
            match serde_json::from_slice::<Inventory>(&message.payload) {
                Ok(new) => {
                    let older = self.inventory.as_ref().is_some_and(|known| new.revision < known.revision);
                    if !(older && message.retain) {
                        *self = Self { inventory: Some(Arc::new(new)), fault: None };
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the inventory cannot be read; the last good one holds");
                    self.fault = Some(error.to_string());
                }
            }
        }
        before != *self
    }
}

impl Now {
    fn new(epoch: u64, client: Option<AsyncClient>) -> Self {
        Self { client, live: None, window: Window::new(epoch), seen: BTreeSet::new() }
    }
}

impl Shared {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self, token: AckToken) {
        // The lock is held while they go into the queue, so that they go in order.
        let mut now = self.now();
        let due = now.window.done(token);
        let Some(client) = &now.client else { return };
        for ack in due {
            if client.try_manual_ack(ack).is_err() {
                tracing::debug!("an acknowledgement came after the end of its connection");
            }
        }
    }
}

impl InboundHandle {
    /// The message is stored: the broker may forget it. A token of an earlier connection is ignored; its message comes
    /// again. Does not wait.
    pub fn ack(&self, token: AckToken) {
        self.shared.done(token);
    }

    /// The state of the link, and a way to wait for it to change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.shared.keeper.state.subscribe()
    }

    /// After [`LinkState::TakenOver`]: take the session back. Somebody must have decided that the other is gone.
    pub fn reclaim(&self) {
        self.shared.keeper.reclaim.notify_one();
    }

    /// Messages that came and were not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.shared.now().window.len()
    }

    /// The user's inventory, and a way to wait for it to change.
    #[must_use]
    pub fn inventory(&self) -> watch::Receiver<KnownInventory> {
        self.shared.inventory.subscribe()
    }

    /// Changes with each spec that comes, whatever becomes of it.
    #[must_use]
    pub fn specs(&self) -> watch::Receiver<u64> {
        self.shared.specs.subscribe()
    }

    /// The databases whose spec came by the present connection.
    #[must_use]
    pub fn seen(&self) -> BTreeSet<DatabaseId> {
        self.shared.now().seen.clone()
    }

    pub(super) fn live(&self) -> Result<Live, Error> {
        self.shared.now().live.clone().ok_or(Error::NotConnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &str, retain: bool) -> Received {
        Received {
            topic: "pgmoor/v1/harbour/inventory".to_owned(),
            payload: payload.as_bytes().to_vec(),
            retain,
            properties: super::super::Properties::default(),
        }
    }

    fn revision(known: &KnownInventory) -> Option<u64> {
        known.inventory.as_ref().map(|inventory| inventory.revision)
    }

    #[test]
    fn an_inventory_is_taken_in_and_only_a_replay_is_old_news() {
        let mut known = KnownInventory::default();
        assert!(known.take(&message(r#"{"revision": 2, "databases": {"shop": 7}}"#, true)));
        assert!(!known.take(&message(r#"{"revision": 1, "databases": {}}"#, true)), "a replay of an older one");
        assert_eq!(revision(&known), Some(2));
        assert!(known.take(&message(r#"{"revision": 1, "databases": {}}"#, false)), "somebody says so");
        assert!(known.take(&message(r#"{"revision": 3, "databases": {"Not An Id": 1}}"#, false)));
        assert_eq!((revision(&known), known.fault.is_some()), (Some(1), true), "the last good one holds");
        assert!(known.take(&message(r#"{"revision": 3, "databases": {"shop": 1}}"#, false)));
        assert_eq!((revision(&known), known.fault.is_some()), (Some(3), false));
        assert!(known.take(&message("", false)));
        assert_eq!(known, KnownInventory::default());
    }
}
