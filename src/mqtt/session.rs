//! A session for a person or a moment: connect, subscribe, publish, leave. It does not come back by itself: when its
//! connection ends, everything that waits on it fails.
//!
//! Invariants: a clean start under an id of its own; messages are acknowledged when they arrive; each subscription has
//! a bounded queue, and one that is not read holds the session up rather than lose messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, Packet, valid_topic};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Error, Message, Options, Received, resync};
use crate::runtime::{Random, within};

/// Messages that wait in one subscription.
const QUEUE: usize = 1024;
/// A replay is over when nothing more came for so long: brokers send what they have without pause.
const QUIET: Duration = Duration::from_millis(400);

/// A connected session; it ends when dropped.
pub struct Session {
    client: AsyncClient,
    server: String,
    limits: BrokerLimits,
    subscribers: Arc<Mutex<Vec<Subscriber>>>,
    /// Cancelled when the connection ended. rumqttc itself lets a request that came at this moment wait for ever.
    ended: CancellationToken,
    /// Owns the one task that polls.
    task: JoinSet<()>,
}

/// What a broker said in its CONNACK about what it takes; what it did not say is the standard's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Publishes at QoS 1 that may wait for their acknowledgement at once.
    pub receive_max: u16,
    /// The largest packet in bytes; none: it named no bound.
    pub packet_bytes_max: Option<u32>,
    /// The highest quality of service.
    pub qos_max: u8,
    /// Whether it keeps retained messages.
    pub retains: bool,
    /// Whether filters may have wildcards.
    pub wildcards: bool,
}

impl BrokerLimits {
    fn of(connack: &rumqttc::ConnAck) -> Self {
        let said = connack.properties.as_ref();
        Self {
            receive_max: said.and_then(|said| said.receive_max).unwrap_or(u16::MAX),
            packet_bytes_max: said.and_then(|said| said.max_packet_size),
            qos_max: said.and_then(|said| said.max_qos).unwrap_or(2),
            retains: said.and_then(|said| said.retain_available) != Some(0),
            wildcards: said.and_then(|said| said.wildcard_subscription_available) != Some(0),
        }
    }
}

struct Subscriber {
    filters: Vec<String>,
    messages: mpsc::Sender<Received>,
}

/// What comes in by the filters of one `subscribe`.
pub struct Subscription {
    messages: mpsc::Receiver<Received>,
}

impl Session {
    /// Connects. `role` stands in the client id, beside random letters.
    ///
    /// # Errors
    /// The broker was not reached or did not let us in, within `limit`.
    pub async fn connect(options: &Options, role: &str, random: &Random, limit: Duration) -> Result<Self, Error> {
        let client = options.client(&format!("pgmoor-{role}-{:016x}", random.next_u64()))?;
        let (client, events) = AsyncClient::builder(client).unbounded().build();
        let subscribers = Arc::default();
        let server = options.server.to_string();
        let (connected, when_connected) = oneshot::channel();
        let mut task = JoinSet::new();
        let ended = CancellationToken::new();
        let (followers, at_the_end) = (Arc::clone(&subscribers), ended.clone().drop_guard());
        task.spawn(async move {
            poll(events, &followers, connected).await;
            // The senders go, so whoever waits for a message learns of the end.
            followers.lock().unwrap_or_else(PoisonError::into_inner).clear();
            drop(at_the_end);
        });
        let answer = within(format!("the connection to {server}"), limit, when_connected).await?;
        match answer {
            Ok(Ok(limits)) => Ok(Self { client, server, limits, subscribers, ended, task }),
            Ok(Err(why)) => Err(Error::Connect { server, why }),
            Err(_ended) => Err(Error::Connect { server, why: "the connection ended at once".to_owned() }),
        }
    }

    /// The broker's address, for messages to people.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What the broker said that it takes.
    #[must_use]
    pub fn limits(&self) -> BrokerLimits {
        self.limits
    }

    /// Subscribes to all of `filters` and waits until they are granted. Retained messages come first.
    ///
    /// # Errors
    /// The broker refused one, the connection ended, or `limit` passed.
    pub async fn subscribe(&self, filters: &[String], limit: Duration) -> Result<Subscription, Error> {
        let (sender, messages) = mpsc::channel(QUEUE);
        let subscriber = Subscriber { filters: filters.to_vec(), messages: sender };
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(subscriber);
        self.ask("the broker's SUBACK", limit, resync::subscribe(&self.client, filters)).await?;
        Ok(Subscription { messages })
    }

    /// Publishes and waits until the broker has the message.
    ///
    /// # Errors
    /// The broker refused it, the connection ended, or `limit` passed.
    pub async fn publish(&self, message: &Message, limit: Duration) -> Result<(), Error> {
        if !valid_topic(&message.topic) {
            let topic = message.topic.clone();
            return Err(Error::Refused { topic, why: "this is no topic to publish on".to_owned() });
        }
        self.ask("the broker's PUBACK", limit, resync::publish(&self.client, message)).await
    }

    /// The retained messages of a filter, in the order in which they came. With an exact topic it returns with the one
    /// message; else, or when there is none, once nothing came for a moment. Ask for a filter that this session does not
    /// follow already: the embedded broker replays nothing for those. Good for showing; that something is absent
    /// proves only [`super::confirm_absent`].
    ///
    /// # Errors
    /// The broker refused the subscription, the connection ended, or `limit` passed.
    pub async fn read_retained(&self, filter: &str, limit: Duration) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let filters = [filter.to_owned()];
        let exact = valid_topic(filter);
        let read = async {
            let mut subscription = self.subscribe(&filters, limit).await?;
            let mut found = Vec::new();
            while let Ok(next) = within("another message", QUIET, subscription.next()).await {
                let message = next?;
                if message.retain && !message.payload.is_empty() {
                    found.push((message.topic, message.payload));
                    if exact {
                        break;
                    }
                }
            }
            drop(subscription);
            resync::unsubscribe(&self.client, &filters).await?;
            Ok(found)
        };
        self.ask("the retained messages", limit, read).await
    }

    /// Waits for an answer, but neither longer than `limit` nor beyond the end of the connection.
    async fn ask<T>(
        &self,
        what: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // Boxed: the publishes of rumqttc are large futures.
        let mut answer = Box::pin(answer);
        let answered = async {
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                () = self.ended.cancelled() => Err(Error::Lost { what: what.to_owned() }),
            }
        };
        within(what, limit, answered).await?
    }

    /// Says goodbye and waits for the connection to end, briefly.
    pub async fn close(mut self) {
        if self.client.disconnect().await.is_ok() {
            let _ended = tokio::time::timeout(Duration::from_secs(1), self.task.join_next()).await;
        }
    }
}

impl Subscription {
    /// The next message; the caller sets the deadline. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn next(&mut self) -> Result<Received, Error> {
        self.messages.recv().await.ok_or_else(|| Error::Lost { what: "another message".to_owned() })
    }
}

async fn poll(
    mut events: EventLoop,
    subscribers: &Mutex<Vec<Subscriber>>,
    connected: oneshot::Sender<Result<BrokerLimits, String>>,
) {
    let mut connected = Some(connected);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                let limits = BrokerLimits::of(&connack);
                if connected.take().is_none_or(|connected| connected.send(Ok(limits)).is_err()) {
                    break;
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if let Some(message) = Received::of(publish) {
                    hand_out(subscribers, message).await;
                }
            }
            Ok(Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_)) => {}
            Err(error) => {
                if let Some(connected) = connected.take() {
                    let _nobody_waits = connected.send(Err(error.to_string()));
                }
                break;
            }
        }
    }
}

async fn hand_out(subscribers: &Mutex<Vec<Subscriber>>, message: Received) {
    let takers: Vec<_> = {
        let mut subscribers = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| !subscriber.messages.is_closed());
        let matching = subscribers.iter().filter(|s| s.filters.iter().any(|filter| covers(filter, &message.topic)));
        matching.map(|subscriber| subscriber.messages.clone()).collect()
    };
    for taker in takers {
        // One that was dropped just now wants no message.
        let _gone = taker.send(message.clone()).await;
    }
}

/// Whether a filter covers a topic.
fn covers(filter: &str, topic: &str) -> bool {
    let (mut levels, mut filters) = (topic.split('/'), filter.split('/'));
    loop {
        match (filters.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (_, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_cover_what_the_standard_says() {
        let cases = [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+/c", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a", true),
            ("+", "a/b", false),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(covers(filter, topic), expected, "{filter} {topic}");
        }
    }
}
