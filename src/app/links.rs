//! The broker side of the daemon: the embedded broker, both links, intake, outbox, resync, availability.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::config::Settings;
use super::services::{Base, Inward, Outward};
use super::{Error, default_listen, once, read};
use crate::contract::documents::{Availability, OnlineState, SpecSet, Time};
use crate::contract::schema::{self, Kind};
use crate::contract::topics::Topic;
use crate::intake::{Arrival, Confirm, Heard, Intake, Reseeds, Retained, lanes};
use crate::model::{FleetId, Secret};
use crate::mqtt::{
    self, Credentials, Delivery, Identity, Inbound, LinkState, Message, Options, Outbound, Presence, Probe, Server,
    Tls, Will, confirm_absent, probe_replay,
};
use crate::outbox::{Guard, Outbox, PublishError, Publisher, Receipt};
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::chain::chain;
use crate::runtime::random::Random;
use crate::runtime::supervisor::{Supervisor, TaskResult};
use crate::store::OutMessage;

/// How long a probe may take: 16,384 markers take about five seconds.
const PROBE_LIMIT: Duration = Duration::from_secs(120);
/// How long a fresh look at a topic may take.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);

/// Where the broker is.
pub(super) enum BrokerSide {
    Embedded(Box<pgmoor_broker::Broker>),
    External(Options),
}

/// Starts the embedded broker, or reads how the external one is reached.
pub(super) async fn broker(settings: &Settings) -> Result<BrokerSide, Error> {
    if settings.broker_url.is_some() {
        return Ok(BrokerSide::External(external(settings)?));
    }
    let tls = match (&settings.broker_tls_cert_file, &settings.broker_tls_key_file) {
        (Some(cert), Some(key)) => {
            Some(pgmoor_broker::TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: None })
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(Error::Config(super::config::Error::Value {
                setting: "broker-tls-cert-file",
                value: "one of two".to_owned(),
                why: "certificate and key go together: set --broker-tls-cert-file and --broker-tls-key-file",
            }));
        }
    };
    let users = settings.broker_users_file.as_deref().map(pgmoor_broker::PasswordFile::load).transpose()?;
    let options = pgmoor_broker::Options {
        listen: vec![settings.broker_listen.unwrap_or_else(default_listen)],
        tls,
        users,
        ..pgmoor_broker::Options::default()
    };
    Ok(BrokerSide::Embedded(Box::new(pgmoor_broker::Broker::start(options).await?)))
}

/// How the external broker is reached.
///
/// # Errors
/// The address is no address, or a file cannot be read.
pub(super) fn external(settings: &Settings) -> Result<Options, Error> {
    let url = settings.broker_url.clone().unwrap_or_default();
    let server: Server = url.parse()?;
    let credentials = match &settings.broker_username {
        None => None,
        Some(username) => {
            let password = settings.broker_password_file.as_deref().map(read).transpose()?.unwrap_or_default();
            let password = Secret::new(password.trim_end_matches(['\r', '\n']));
            Some(Credentials { username: username.clone(), password })
        }
    };
    let client = settings.broker_cert_file.clone().zip(settings.broker_key_file.clone());
    let tls = settings.broker_ca_file.clone().map(|ca| Tls { ca, client });
    Ok(Options { server, tls, credentials, ..Options::default() })
}

/// How the daemon reaches its own broker.
pub(super) fn private_options(access: &pgmoor_broker::PrivateAccess) -> Options {
    Options {
        server: Server { host: access.addr.ip().to_string(), port: access.addr.port(), tls: false },
        credentials: Some(Credentials {
            username: access.username.clone(),
            password: Secret::new(access.password.clone()),
        }),
        ..Options::default()
    }
}

pub(super) fn run_broker(supervisor: &mut Supervisor, broker: Box<pgmoor_broker::Broker>) {
    once(supervisor, "broker", broker, |broker, stop| async move { broker.run(stop).await.map_err(Into::into) });
}

pub(super) fn run_outbound(supervisor: &mut Supervisor, outbound: Outbound) {
    once(supervisor, "mqtt-out", outbound, |outbound, stop| async move {
        outbound.run(stop).await;
        Ok(())
    });
}

pub(super) fn run_inbound(supervisor: &mut Supervisor, inbound: Inbound) {
    once(supervisor, "mqtt-in", inbound, |inbound, stop| async move { inbound.run(stop).await.map_err(Into::into) });
}

pub(super) fn run_outbox(supervisor: &mut Supervisor, outbox: Outbox<Link>) {
    once(supervisor, "outbox", outbox, |outbox, stop| async move { outbox.run(stop).await.map_err(Into::into) });
}

pub(super) fn run_guard(supervisor: &mut Supervisor, guard: Guard) {
    once(supervisor, "guard", guard, |guard, stop| async move { guard.run(stop).await.map_err(Into::into) });
}

/// Says the schema of every document, so that tools find them.
pub(super) async fn say_schemas(base: &Base) -> Result<(), crate::store::Error> {
    let (fleet, now_ms) = (base.fleet.clone(), base.clock.now_ms());
    base.store
        .write(move |writer| {
            for kind in Kind::ALL.into_iter().filter(|kind| kind.has_own_schema()) {
                let topic = Topic::Schema(kind).to_string(&fleet);
                writer.enqueue_if_changed(&OutMessage::retained(topic, schema::schema(kind), now_ms))?;
            }
            Ok(())
        })
        .await
}

/// What the broker says for us when it loses us.
pub(super) fn will(base: &Base) -> Will {
    let payload = serde_json::to_vec(&availability(base, OnlineState::Lost, None)).unwrap_or_default();
    Will { topic: Topic::Availability(base.controller.clone()).to_string(&base.fleet), payload }
}

fn availability(base: &Base, state: OnlineState, spec_set: Option<SpecSet>) -> Availability {
    Availability {
        state,
        controller: base.controller.clone(),
        epoch: base.store.epoch(),
        since: Time::from_ms(base.clock.now_ms()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        spec_set,
    }
}

/// Says `online` after every connect (the will of the connection before may have said `lost`) and when the set of specs
/// is another, and `offline` at the end.
pub(super) fn run_availability(
    supervisor: &mut Supervisor,
    base: Base,
    link: Arc<dyn Outward>,
    spec_set: watch::Receiver<Option<SpecSet>>,
) {
    supervisor.start("availability", super::AGAIN, move |stop| {
        say_availability(base.clone(), link.clone(), spec_set.clone(), stop)
    });
}

async fn say_availability(
    base: Base,
    link: Arc<dyn Outward>,
    mut spec_set: watch::Receiver<Option<SpecSet>>,
    stop: CancellationToken,
) -> TaskResult {
    let mut state = link.state();
    let topic = Topic::Availability(base.controller.clone());
    loop {
        if matches!(*state.borrow_and_update(), LinkState::Connected { .. }) {
            let online = availability(&base, OnlineState::Online, spec_set.borrow_and_update().clone());
            let payload = serde_json::to_vec(&online)?;
            let message = OutMessage::retained(topic.to_string(&base.fleet), payload, online.since.ms());
            base.store.write(move |writer| writer.enqueue(&message)).await?;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = state.changed() => if changed.is_err() { break },
            // Who follows has no specs to tell of, and who is stopping none any more.
            Ok(()) = spec_set.changed() => {}
        }
    }
    // Past the outbox, which stops before the link does: a goodbye that gets lost is followed by the will.
    let payload = serde_json::to_vec(&availability(&base, OnlineState::Offline, None))?;
    let goodbye = Message { retain: true, ..Message::new(topic.to_string(&base.fleet), payload) };
    let _late = tokio::time::timeout(Duration::from_secs(2), link.publish(&goodbye)).await;
    Ok(())
}

/// Publishes what the outbox hands out.
#[derive(Clone)]
pub struct Link(pub Arc<dyn Outward>);

impl Link {
    /// The number of the connection, while there is one.
    fn connection(&self) -> Option<u64> {
        match *self.0.state().borrow() {
            LinkState::Connected { epoch, .. } => Some(epoch),
            LinkState::Connecting | LinkState::Down { .. } | LinkState::TakenOver | LinkState::Stopped => None,
        }
    }

    /// Whether this is still the connection. It is asked before a message is sent, so that none goes by a later one, and
    /// afterwards, so that one which did all the same is known to be lost for its order.
    fn still(&self, connection: u64) -> Result<(), PublishError> {
        if self.connection() == Some(connection) {
            return Ok(());
        }
        Err(PublishError::Lost { why: "the connection ended".to_owned() })
    }
}

#[async_trait]
impl Publisher for Link {
    async fn ready(&self) -> u64 {
        let mut state = self.0.state();
        loop {
            if let LinkState::Connected { epoch, .. } = *state.borrow_and_update() {
                return epoch;
            }
            if state.changed().await.is_err() {
                // The link is gone with its sender: the outbox is about to be stopped.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn send(&self, connection: u64, message: &OutMessage) -> Result<Receipt, PublishError> {
        let message = Message {
            retain: message.retain,
            expiry_s: message.expiry_s,
            correlation_data: message.correlation_data.clone(),
            ..Message::new(message.topic.clone(), message.payload.clone())
        };
        self.still(connection)?;
        let way = self.0.send(&message).await.map_err(publish_error)?;
        self.still(connection)?;
        Ok(Box::pin(async move { way.await.map_err(publish_error) }))
    }
}

fn publish_error(error: mqtt::Error) -> PublishError {
    if let mqtt::Error::Refused { topic, why } = error {
        PublishError::Refused { topic, why }
    } else if let mqtt::Error::TooLarge { topic, bytes, bytes_max } = error {
        PublishError::Refused { topic, why: format!("{bytes} bytes, and it takes {bytes_max}") }
    } else {
        PublishError::Lost { why: chain(&error) }
    }
}

/// Looks at one topic with a connection of its own.
struct FreshLook {
    options: Options,
    identity: Identity,
    random: Random,
}

pub(super) fn confirm(options: Options, identity: Identity, random: Random) -> Arc<dyn Confirm> {
    Arc::new(FreshLook { options, identity, random })
}

#[async_trait]
impl Confirm for FreshLook {
    async fn retained(&self, topic: &Topic) -> Retained {
        match confirm_absent(&self.options, &self.identity, topic, &self.random, CONFIRM_LIMIT).await {
            Presence::Retained(payload) => Retained::Payload(payload),
            Presence::Nothing => Retained::Nothing,
            Presence::Unknown { why } => {
                tracing::warn!(why, "a topic could not be looked at afresh");
                Retained::Unknown
            }
        }
    }

    fn broker(&self) -> String {
        self.options.server.to_string()
    }

    async fn probe(&self, count: u32) -> Result<Probe, String> {
        let probed = probe_replay(&self.options, &self.identity, count, &self.random, PROBE_LIMIT).await;
        probed.map_err(|error| chain(&error))
    }
}

/// What the messages of the inbound link go through.
#[derive(Clone)]
pub(super) struct Incoming {
    pub(super) intake: Intake,
    pub(super) link: Arc<dyn Inward>,
    pub(super) outbound: Arc<dyn Outward>,
    pub(super) reseeds: Reseeds,
    pub(super) random: Random,
}

/// Takes in what arrives, in order for each database, and acknowledges what is stored.
pub(super) fn run_intake(supervisor: &mut Supervisor, incoming: Incoming, deliveries: mpsc::Receiver<Delivery>) {
    once(supervisor, "intake", (incoming, deliveries), |(incoming, deliveries), stop| async move {
        let lane = |delivery: &Delivery| lane_of(&incoming.intake.fleet, &delivery.message.topic);
        lanes::run(deliveries, lane, |delivery| take_in(&incoming, delivery), stop).await;
        Ok(())
    });
}

/// Everything about one database goes in order.
fn lane_of(fleet: &FleetId, topic: &str) -> String {
    let parsed = Topic::parse(fleet, topic);
    let database = parsed.as_ref().and_then(Topic::database);
    database.map_or_else(|| topic.to_owned(), ToString::to_string)
}

/// Takes in one message and acknowledges it. One that cannot be stored is tried until it can: the lane is dropped at
/// the end, and the broker brings it again.
async fn take_in(incoming: &Incoming, delivery: Delivery) {
    let Incoming { intake, link, outbound, reseeds, random } = incoming;
    let Delivery { message, ack } = delivery;
    let own = message.properties.writer.as_deref().is_some_and(|writer| outbound.writer() == Some(writer));
    if !message.retain && matches!(Topic::parse(&intake.fleet, &message.topic), Some(Topic::Spec(_))) {
        match reseeds.heard(&message.topic, &message.payload, own) {
            Heard::TakeIn => {}
            Heard::PutBack(newer) => {
                tracing::info!(topic = message.topic, "the user was faster than our publish; theirs is put back");
                if let Err(error) = outbound.publish(&Message::retained(message.topic.clone(), newer)).await {
                    tracing::warn!(topic = message.topic, error = chain(&error), "the user's spec was not put back");
                }
                link.ack(ack);
                return;
            }
        }
    }
    let arrival = Arrival {
        topic: message.topic,
        payload: message.payload,
        // What we publish for the broker is no news, like what the broker replays.
        retained: message.retain || own,
        response_topic: message.properties.response_topic,
        correlation: message.properties.correlation_data,
    };
    let mut backoff = Backoff::new(Schedule::LINK, random.clone());
    let mut poisonous = false;
    loop {
        let taken = async { if poisonous { intake.poisoned(&arrival).await } else { intake.receive(&arrival).await } };
        match AssertUnwindSafe(taken).catch_unwind().await {
            Ok(Ok(())) => break,
            // Brought again it would panic again: it is answered and let go, and the log says where it happened.
            Err(_panic) if poisonous => break,
            Err(_panic) => {
                tracing::error!(topic = arrival.topic, "a message made pgmoor panic; it was not taken in");
                poisonous = true;
            }
            Ok(Err(error)) => {
                tracing::error!(topic = arrival.topic, error = chain(&error), "a message could not be stored");
                tokio::time::sleep(backoff.failed()).await;
            }
        }
    }
    link.ack(ack);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::domain::catalogue;
    use crate::intake::PreviewQueue;
    use crate::model::{DatabaseId, HostId};
    use crate::mqtt::{AckToken, Error, Properties, Received, Resync};
    use crate::runtime::{FakeClock, bell};
    use crate::store::{Commits, Options, Rows as _, Store};

    /// A look at a topic that fails in the worst way.
    struct Panics;

    #[async_trait]
    impl Confirm for Panics {
        async fn retained(&self, _topic: &Topic) -> Retained {
            panic!("planted");
        }
    }

    #[derive(Default)]
    struct Wire {
        acknowledged: Mutex<Vec<AckToken>>,
        published: Mutex<Vec<Message>>,
    }

    #[async_trait]
    impl Inward for Wire {
        fn state(&self) -> watch::Receiver<LinkState> {
            watch::Sender::new(LinkState::Stopped).subscribe()
        }

        fn ack(&self, token: AckToken) {
            self.acknowledged.lock().unwrap().push(token);
        }

        async fn resync(&self, _known: &BTreeSet<DatabaseId>, _limit: Duration) -> Result<Resync, Error> {
            Err(Error::NotConnected)
        }
    }

    #[async_trait]
    impl Outward for Wire {
        fn state(&self) -> watch::Receiver<LinkState> {
            watch::Sender::new(LinkState::Stopped).subscribe()
        }

        async fn send(&self, message: &Message) -> Result<BoxFuture<'static, Result<(), Error>>, Error> {
            self.published.lock().unwrap().push(message.clone());
            Ok(Box::pin(std::future::ready(Ok(()))))
        }

        fn writer(&self) -> Option<&str> {
            Some("us")
        }
    }

    fn incoming() -> (Incoming, Arc<Wire>) {
        let (fleet, host) = (FleetId::parse("harbour").unwrap(), HostId::parse("host-1").unwrap());
        let store = Store::in_memory(&Options { commits: Commits::AtOnce, ..Options::new(fleet.clone()) }).unwrap();
        let intake = Intake {
            fleet,
            host,
            data_dir: "/var/lib/pgmoor".to_owned(),
            catalogue: Arc::new(catalogue::embedded().unwrap()),
            store,
            bell: bell().0,
            clock: FakeClock::at(1000),
            confirm: Arc::new(Panics),
            previews: PreviewQueue::new().0,
        };
        let wire = Arc::new(Wire::default());
        let (link, outbound) = (Arc::clone(&wire), Arc::clone(&wire));
        let random = Random::seeded(1);
        (Incoming { intake, link, outbound, reseeds: Reseeds::default(), random }, wire)
    }

    const TOPIC: &str = "pgmoor/v1/harbour/databases/shop/spec";

    fn delivery(number: u64, payload: &str, writer: Option<&str>) -> Delivery {
        let properties = Properties { writer: writer.map(str::to_owned), ..Properties::default() };
        let message = Received { topic: TOPIC.to_owned(), payload: payload.into(), retain: false, properties };
        Delivery { message, ack: AckToken::new(1, number) }
    }

    #[tokio::test]
    async fn a_message_that_makes_us_panic_is_told_and_acknowledged() {
        let (incoming, wire) = incoming();
        take_in(&incoming, delivery(0, r#"{"template": "postgres"}"#, None)).await;
        // It waits to be judged, so an empty payload is looked into, and that fails.
        take_in(&incoming, delivery(1, "", None)).await;
        assert_eq!(*wire.acknowledged.lock().unwrap(), [AckToken::new(1, 0), AckToken::new(1, 1)]);
        let said = incoming.intake.store.read(|reader| reader.messages_after(None, 10)).unwrap();
        let event = String::from_utf8(said.last().unwrap().message.payload.clone()).unwrap();
        assert!(event.contains("internal"), "{event}");
        let shop = DatabaseId::parse("shop").unwrap();
        let row = incoming.intake.store.read(|reader| reader.desired(&shop)).unwrap().unwrap();
        assert!(row.candidate.is_some(), "and nothing was deleted");
    }

    #[tokio::test]
    async fn what_the_user_published_while_we_did_is_put_back() {
        let (incoming, wire) = incoming();
        let users = r#"{"template": "postgres", "generation": 2}"#;
        incoming.reseeds.begin(TOPIC);
        take_in(&incoming, delivery(0, users, None)).await;
        take_in(&incoming, delivery(1, r#"{"template": "postgres"}"#, Some("us"))).await;
        assert_eq!(*wire.published.lock().unwrap(), [Message::retained(TOPIC, users)]);
        take_in(&incoming, delivery(2, users, Some("us"))).await;
        assert_eq!(wire.published.lock().unwrap().len(), 1);
        assert_eq!(wire.acknowledged.lock().unwrap().len(), 3);
        let shop = DatabaseId::parse("shop").unwrap();
        let row = incoming.intake.store.read(|reader| reader.desired(&shop)).unwrap().unwrap();
        assert_eq!(row.candidate.unwrap().spec.generation, Some(2));
    }
}
