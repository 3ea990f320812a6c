//! The outbound link: reports go out by it.
//!
//! Invariants: a publish is done at its PUBACK and not before; what was on the way when a connection ended has failed,
//! and its owner sends it again (it stands in the outbox). Messages leave in the order of the calls. At most
//! 64 are on the way at once. The will stands with the broker as long as the connection; a stop in good
//! order takes it back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnAck, Event, EventLoop, LastWill, LastWillProperties, MqttOptions, Packet, PublishNotice, QoS,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::link::{End, Keeper};
use super::resync::acknowledged;
use super::{Error, Identity, LinkState, Message, Options};
use crate::runtime::{Random, within};

/// Messages that are on the way at once: enough to fill a line with long round trips, few enough to send again.
const IN_FLIGHT: usize = 64;
/// How long one message may take from its turn to its PUBACK.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the goodbye may take.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What the broker publishes for us when it loses us; retained, at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Its topic.
    pub topic: String,
    /// Its payload, JSON.
    pub payload: Vec<u8>,
}

/// The link before it runs.
pub struct Outbound {
    options: MqttOptions,
    packet_bytes_max: usize,
    random: Random,
    shared: Arc<Shared>,
}

/// The link while it runs. Clones are the same link.
#[derive(Clone)]
pub struct OutboundHandle {
    shared: Arc<Shared>,
}

struct Shared {
    keeper: Keeper,
    live: Mutex<Option<Live>>,
    window: Arc<Semaphore>,
}

#[derive(Clone)]
struct Live {
    client: AsyncClient,
    packet_bytes_max: usize,
}

/// A message on its way.
#[must_use = "a message has arrived only when it is acknowledged"]
pub struct Unacknowledged {
    topic: String,
    notice: PublishNotice,
    _place: OwnedSemaphorePermit,
}

impl Outbound {
    /// A link and its handle.
    ///
    /// # Errors
    /// A TLS file cannot be read or used.
    pub fn new(
        options: &Options,
        identity: &Identity,
        will: Will,
        random: Random,
    ) -> Result<(Self, OutboundHandle), Error> {
        let mut client = options.client(&identity.outbound_client_id())?;
        let properties = LastWillProperties {
            delay_interval: None,
            payload_format_indicator: Some(1),
            message_expiry_interval: None,
            content_type: Some("application/json".to_owned()),
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        client.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true, Some(properties)));
        let shared = Arc::new(Shared {
            keeper: Keeper::new("outbound", false),
            live: Mutex::new(None),
            window: Arc::new(Semaphore::new(IN_FLIGHT)),
        });
        let handle = OutboundHandle { shared: Arc::clone(&shared) };
        let packet_bytes_max = usize::try_from(options.packet_bytes_max).unwrap_or(usize::MAX);
        Ok((Self { options: client, packet_bytes_max, random, shared }, handle))
    }

    /// Runs until `stop`, then says goodbye: the broker does not publish the will.
    pub async fn run(self, stop: CancellationToken) {
        let once = |epoch| self.connection(epoch, stop.clone());
        let _stopped = self.shared.keeper.keep(self.random.clone(), &stop, once).await;
    }

    async fn connection(&self, epoch: u64, stop: CancellationToken) -> End {
        let (client, events) = AsyncClient::builder(self.options.clone()).unbounded().build();
        let goodbye = async {
            stop.cancelled().await;
            // The poll below sends it, and ends with it.
            if client.try_disconnect_now().is_ok() && self.shared.live().is_some() {
                tokio::time::sleep(DISCONNECT_TIMEOUT).await;
            }
            End::Stopped
        };
        let end = tokio::select! {
            end = self.poll(events, &client, epoch) => end,
            end = goodbye => end,
        };
        *self.shared.live() = None;
        if stop.is_cancelled() { End::Stopped } else { end }
    }

    async fn poll(&self, mut events: EventLoop, client: &AsyncClient, epoch: u64) -> End {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(ack))) => self.connected(client, &ack, epoch),
                Ok(Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_)) => {}
                Err(error) => return End::of(&error, self.shared.live().is_some()),
            }
        }
    }

    fn connected(&self, client: &AsyncClient, ack: &ConnAck, epoch: u64) {
        let brokers = ack.properties.as_ref().and_then(|properties| properties.max_packet_size);
        let brokers = brokers.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
        let packet_bytes_max = brokers.min(self.packet_bytes_max);
        *self.shared.live() = Some(Live { client: client.clone(), packet_bytes_max });
        tracing::info!(epoch, packet_bytes_max, "the outbound link is connected");
        let session_present = ack.session_present;
        self.shared.keeper.state.send_replace(LinkState::Connected { epoch, session_present });
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutboundHandle {
    /// Sends the message after those of earlier calls, waiting for a place among the 64; then the result
    /// says what becomes of it.
    ///
    /// # Errors
    /// There is no connection, the broker takes no packet of this size, or no place came free in time.
    pub async fn send(&self, message: &Message) -> Result<Unacknowledged, Error> {
        let place = Arc::clone(&self.shared.window).acquire_owned();
        let place = within("a place among the messages on their way", ACKNOWLEDGE_TIMEOUT, place).await?;
        let place = place.map_err(|_closed| Error::NotConnected)?;
        let Some(live) = self.shared.live().clone() else { return Err(Error::NotConnected) };
        let (topic, bytes) = (message.topic.clone(), message.packet_bytes());
        if bytes > live.packet_bytes_max {
            return Err(Error::TooLarge { topic, bytes, bytes_max: live.packet_bytes_max });
        }
        let sent = live.client.try_publish_tracked(topic.clone(), message.payload.clone(), message.options());
        let notice = sent.map_err(|error| Error::Refused { topic: topic.clone(), why: error.to_string() })?;
        Ok(Unacknowledged { topic, notice, _place: place })
    }

    /// Sends the message and waits until the broker has it.
    ///
    /// # Errors
    /// As [`OutboundHandle::send`] and [`Unacknowledged::wait`].
    pub async fn publish(&self, message: &Message) -> Result<(), Error> {
        self.send(message).await?.wait().await
    }

    /// The state of the link, and a way to wait for it to change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.shared.keeper.state.subscribe()
    }
}

impl Unacknowledged {
    /// Waits until the broker has the message.
    ///
    /// # Errors
    /// The broker refused it, the connection ended before it said so, or 30 s passed: in the last two cases the
    /// message may have arrived and must be sent again.
    pub async fn wait(self) -> Result<(), Error> {
        let Self { topic, notice, _place } = self;
        let answer = within("the broker's PUBACK", ACKNOWLEDGE_TIMEOUT, notice.wait_completion_async()).await?;
        acknowledged(topic, answer)
    }
}
