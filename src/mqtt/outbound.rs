//! The outbound link: reports go out by it.
//!
//! Invariants: a publish is done at its PUBACK and not before; what was on the way when a connection ended has failed,
//! and its owner sends it again (it stands in the outbox). Messages leave in the order of the calls. At most
//! 256 are on the way at once. The will stands with the broker as long as the connection; a stop in good
//! order takes it back. Everything that goes out carries the name of the link as a user property, so that what comes in
//! on the same topics without it was written by somebody else ([`Outbound::watch`]). Who lost the inbound session to
//! another controller leaves the reports to it too ([`Outbound::follow`]): two with one id would cut each other off for
//! ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnAck, Event, EventLoop, LastWill, LastWillProperties, MqttOptions, Packet, Publish, PublishNotice,
    QoS, SubscribeFilterInput,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::link::{End, Keeper, Pulse};
use super::message::signature;
use super::resync::acknowledged;
use super::{Error, Identity, InboundHandle, LinkState, Message, Options, Received};
use crate::runtime::{Random, within};

/// Messages that are on the way at once: enough to fill a line with long round trips, few enough to send again.
const IN_FLIGHT: usize = 256;
/// How long one message may take from its turn to its PUBACK.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Writes that wait to be read; more are dropped, since one look at a topic mends them all. Half of the places are kept
/// for what others write now: what the broker replays may be as much as there are topics.
const WRITES: usize = 4096;
/// The end of a link's name, which is another in each process: a hyphen and sixteen digits.
const OF_PROCESS: usize = 17;
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
    watched: Option<Watched>,
    leader: Option<watch::Receiver<LinkState>>,
}

/// Topics that only this link should write on.
struct Watched {
    filters: Vec<String>,
    writes: mpsc::Sender<Received>,
}

/// The link while it runs. Clones are the same link.
#[derive(Clone)]
pub struct OutboundHandle {
    shared: Arc<Shared>,
}

struct Shared {
    keeper: Keeper,
    writer: String,
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
        let writer = format!("{}-{:016x}", identity.controller, random.next_u64());
        let properties = LastWillProperties {
            delay_interval: None,
            payload_format_indicator: Some(1),
            message_expiry_interval: None,
            content_type: Some("application/json".to_owned()),
            response_topic: None,
            correlation_data: None,
            user_properties: vec![signature(&writer)],
        };
        client.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true, Some(properties)));
        let shared = Arc::new(Shared {
            keeper: Keeper::new("outbound", false),
            writer,
            live: Mutex::new(None),
            window: Arc::new(Semaphore::new(IN_FLIGHT)),
        });
        let handle = OutboundHandle { shared: Arc::clone(&shared) };
        let packet_bytes_max = usize::try_from(options.packet_bytes_max).unwrap_or(usize::MAX);
        Ok((Self { options: client, packet_bytes_max, random, shared, watched: None, leader: None }, handle))
    }

    /// Steps down together with the inbound link, and comes back with it.
    pub fn follow(&mut self, inbound: &InboundHandle) {
        self.leader = Some(inbound.state());
    }

    /// Listens to topics that only this link should write on, eight filters at most (the limit of hosted brokers for
    /// one SUBSCRIBE), and hands over what others write there; and, without its payload, what the broker replays of this
    /// controller's own words. What others wrote while there was no connection is not among it.
    pub fn watch(&mut self, filters: Vec<String>) -> mpsc::Receiver<Received> {
        let (writes, written) = mpsc::channel(WRITES);
        self.watched = Some(Watched { filters, writes });
        written
    }

    /// Runs until `stop`, then says goodbye: the broker does not publish the will.
    pub async fn run(self, stop: CancellationToken) {
        let once = |epoch| self.following(epoch, stop.clone());
        let _stopped = self.shared.keeper.keep(self.random.clone(), &stop, once).await;
    }

    /// One connection, as long as the inbound link has not stepped down.
    async fn following(&self, epoch: u64, stop: CancellationToken) -> End {
        let Some(leader) = self.leader.clone() else { return self.connection(epoch, stop).await };
        if *leader.borrow() == LinkState::TakenOver {
            self.shared.keeper.state.send_replace(LinkState::TakenOver);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return End::Stopped,
            () = until(leader.clone(), |state| *state != LinkState::TakenOver) => {}
        }
        let end = tokio::select! {
            biased;
            end = self.connection(epoch, stop) => end,
            () = until(leader, |state| *state == LinkState::TakenOver) => {
                End::Lost("another controller has the session of the fleet".to_owned())
            }
        };
        *self.shared.live() = None;
        end
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
        let mut pulse = Pulse::new();
        loop {
            let accepted = self.shared.live().is_some();
            match pulse.next(&mut events, accepted).await {
                Ok(Event::Incoming(Packet::ConnAck(ack))) => self.connected(client, &ack, epoch),
                Ok(Event::Incoming(Packet::Publish(publish))) => self.written(publish),
                Ok(Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_)) => {}
                Err(end) => return end,
            }
        }
    }

    /// Somebody wrote on a watched topic, or the broker replays what was written before the connection.
    fn written(&self, publish: Publish) {
        let Some((watched, message)) = self.watched.as_ref().zip(Received::of(publish)) else { return };
        let writer = message.properties.writer.as_deref().unwrap_or_default();
        let (wanted, message) = if message.retain {
            let room = watched.writes.capacity() > WRITES / 2;
            (room && of_same_controller(writer, &self.shared.writer), Received { payload: Vec::new(), ..message })
        } else {
            (writer != self.shared.writer, message)
        };
        if wanted && watched.writes.try_send(message).is_err() {
            tracing::debug!("too many writes at once; one is not looked at");
        }
    }

    fn connected(&self, client: &AsyncClient, ack: &ConnAck, epoch: u64) {
        let brokers = ack.properties.as_ref().and_then(|properties| properties.max_packet_size);
        let brokers = brokers.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
        let packet_bytes_max = brokers.min(self.packet_bytes_max);
        *self.shared.live() = Some(Live { client: client.clone(), packet_bytes_max });
        if let Some(watched) = &self.watched {
            // Where the broker knows `no_local`, our own messages do not come back at all.
            let filter = |filter: &String| SubscribeFilterInput::new(filter.clone(), QoS::AtLeastOnce).no_local(true);
            let filters = watched.filters.iter().map(filter);
            if client.try_subscribe_many(filters).is_err() {
                tracing::warn!("our own topics are not watched on this connection");
            }
        }
        tracing::info!(epoch, packet_bytes_max, "the outbound link is connected");
        let session_present = ack.session_present;
        self.shared.keeper.state.send_replace(LinkState::Connected { epoch, session_present });
    }
}

/// Whether two names of links are of one controller, maybe of different lives of it.
fn of_same_controller(one: &str, other: &str) -> bool {
    let controller = |name: &str| name.len().checked_sub(OF_PROCESS).and_then(|end| name.get(..end).map(str::to_owned));
    one.len() == other.len() && controller(one).is_some_and(|one| Some(one) == controller(other))
}

/// Waits for a state; for ever, when the link is gone without it.
async fn until(mut state: watch::Receiver<LinkState>, wanted: impl FnMut(&LinkState) -> bool) {
    let gone = state.wait_for(wanted).await.is_err();
    if gone {
        std::future::pending::<()>().await;
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutboundHandle {
    /// Sends the message after those of earlier calls, waiting for a place among the 256; then the result
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
        let sent = live.client.try_publish_tracked(
            topic.clone(),
            message.payload.clone(),
            message.options(Some(&self.shared.writer)),
        );
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

    /// The name by which [`super::Properties::writer`] tells what this link wrote: another in each process.
    #[must_use]
    pub fn writer(&self) -> &str {
        &self.shared.writer
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

#[cfg(test)]
mod tests {
    use super::of_same_controller;

    #[test]
    fn a_controller_knows_its_own_words_of_an_earlier_life() {
        let name = |controller: &str, process: u64| format!("{controller}-{process:016x}");
        assert!(of_same_controller(&name("host-1", 7), &name("host-1", u64::MAX)));
        assert!(!of_same_controller(&name("host-1", 7), &name("host-2", 7)));
        assert!(!of_same_controller(&name("host-1", 7), &name("host-11", 7)));
        assert!(!of_same_controller("", "") && !of_same_controller("host-1", "host-1"));
    }
}
