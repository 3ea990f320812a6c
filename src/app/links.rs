//! The broker side of the daemon: the embedded broker, both links, intake, outbox, resync, availability.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::config::Settings;
use super::{Base, Error, default_listen, once, read};
use crate::contract::documents::{Availability, OnlineState, Time};
use crate::contract::topics::Topic;
use crate::intake::{Arrival, Confirm, Intake, Retained};
use crate::model::record::StoredSpec;
use crate::model::{DatabaseId, Secret};
use crate::mqtt::{
    self, Credentials, Delivery, Identity, Inbound, InboundHandle, LinkState, Message, Options, Outbound,
    OutboundHandle, Presence, Server, Tls, Will, confirm_absent,
};
use crate::outbox::{Outbox, PublishError, Publisher, Receipt};
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::chain::chain;
use crate::runtime::random::Random;
use crate::runtime::supervisor::{Supervisor, TaskResult};
use crate::store::{OutMessage, Rows as _};

/// How long a resync may take: 12,000 specs came in within five seconds; the rest is for a slow link.
const RESYNC_LIMIT: Duration = Duration::from_secs(600);
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

/// What the broker says for us when it loses us.
pub(super) fn will(base: &Base) -> Will {
    let payload = serde_json::to_vec(&availability(base, OnlineState::Lost)).unwrap_or_default();
    Will { topic: Topic::Availability(base.controller.clone()).to_string(&base.fleet), payload }
}

fn availability(base: &Base, state: OnlineState) -> Availability {
    Availability {
        state,
        controller: base.controller.clone(),
        epoch: base.store.epoch(),
        since: Time::from_ms(base.clock.now_ms()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Says `online` after every connect (the will of the connection before may have said `lost`), and `offline` at the end.
pub(super) fn run_availability(supervisor: &mut Supervisor, base: Base, link: OutboundHandle) {
    supervisor.start("availability", super::AGAIN, move |stop| say_availability(base.clone(), link.clone(), stop));
}

async fn say_availability(base: Base, link: OutboundHandle, stop: CancellationToken) -> TaskResult {
    let mut state = link.state();
    let topic = Topic::Availability(base.controller.clone());
    loop {
        if matches!(*state.borrow_and_update(), LinkState::Connected { .. }) {
            let online = availability(&base, OnlineState::Online);
            let payload = serde_json::to_vec(&online)?;
            let message = OutMessage::retained(topic.to_string(&base.fleet), payload, online.since.ms());
            base.store.write(move |writer| writer.enqueue(&message)).await?;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = state.changed() => if changed.is_err() { break },
        }
    }
    // Past the outbox, which stops before the link does: a goodbye that gets lost is followed by the will.
    let payload = serde_json::to_vec(&availability(&base, OnlineState::Offline))?;
    let goodbye = Message { retain: true, ..Message::new(topic.to_string(&base.fleet), payload) };
    let _late = tokio::time::timeout(Duration::from_secs(2), link.publish(&goodbye)).await;
    Ok(())
}

/// Publishes what the outbox hands out.
pub(super) struct Link(pub(super) OutboundHandle);

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
        Ok(Box::pin(async move { way.wait().await.map_err(publish_error) }))
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
}

/// Takes in what arrives, one after another, and acknowledges what is stored.
pub(super) fn run_intake(
    supervisor: &mut Supervisor,
    intake: Intake,
    link: InboundHandle,
    deliveries: mpsc::Receiver<Delivery>,
) {
    once(supervisor, "intake", (intake, link, deliveries), |(intake, link, mut deliveries), stop| async move {
        loop {
            let delivery = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                delivery = deliveries.recv() => delivery,
            };
            let Some(delivery) = delivery else { return Ok(()) };
            take_in(&intake, &link, delivery, &stop).await;
        }
    });
}

/// A message that cannot be stored is tried until it can, or until the end: then the broker brings it again.
async fn take_in(intake: &Intake, link: &InboundHandle, delivery: Delivery, stop: &CancellationToken) {
    let Delivery { message, ack } = delivery;
    let arrival = Arrival {
        topic: message.topic,
        payload: message.payload,
        retained: message.retain,
        response_topic: message.properties.response_topic,
        correlation: message.properties.correlation_data,
    };
    let mut backoff = Backoff::new(Schedule::LINK, Random::System);
    while !stop.is_cancelled() {
        match AssertUnwindSafe(intake.receive(&arrival)).catch_unwind().await {
            Ok(Ok(())) => {
                link.ack(ack);
                return;
            }
            Err(_panic) => {
                // Brought again it would panic again: it is let go, and the log says where it happened.
                tracing::error!(topic = arrival.topic, "a message made pgmoor panic; it was not taken in");
                link.ack(ack);
                return;
            }
            Ok(Err(error)) => {
                tracing::error!(topic = arrival.topic, error = chain(&error), "a message could not be stored");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(backoff.failed()) => {}
                }
            }
        }
    }
}

/// After each connect: brings in every spec, and says what the broker has forgotten. The embedded broker keeps nothing
/// on disk, so what it has forgotten is published again for it.
pub(super) fn run_resync(
    supervisor: &mut Supervisor,
    base: Base,
    intake: Intake,
    link: InboundHandle,
    (outbound, embedded): (OutboundHandle, bool),
) {
    supervisor.start("resync", super::AGAIN, move |stop| {
        resync(base.clone(), intake.clone(), link.clone(), (outbound.clone(), embedded), stop)
    });
}

async fn resync(
    base: Base,
    intake: Intake,
    link: InboundHandle,
    (outbound, embedded): (OutboundHandle, bool),
    stop: CancellationToken,
) -> TaskResult {
    let mut state = link.state();
    loop {
        if matches!(*state.borrow_and_update(), LinkState::Connected { .. }) {
            let specs = known_specs(&base)?;
            let ids: BTreeSet<DatabaseId> = specs.keys().cloned().collect();
            let found = link.resync(&ids, RESYNC_LIMIT).await?;
            for (id, stored) in specs.iter().filter(|(id, _)| !found.seen.contains(*id)) {
                if intake.confirm.retained(&Topic::Spec(id.clone())).await != Retained::Nothing {
                    continue;
                }
                if embedded {
                    let topic = Topic::Spec(id.clone()).to_string(&base.fleet);
                    let message = Message { retain: true, ..Message::new(topic, stored.document.expose().as_bytes()) };
                    outbound.publish(&message).await?;
                } else {
                    intake.forgotten(id).await?;
                }
            }
            tracing::info!(specs = found.seen.len(), known = specs.len(), "resynchronised with the broker");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = state.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// The spec that the broker should hold of each database: the one that waits to be judged, else the accepted one.
fn known_specs(base: &Base) -> Result<BTreeMap<DatabaseId, StoredSpec>, crate::store::Error> {
    let (rows, records) = base.store.read(|reader| Ok((reader.all_desired()?, reader.all_records()?)))?;
    let living = records.into_values().filter(|record| record.tombstone.is_none());
    let mut specs: BTreeMap<_, _> = living.filter_map(|record| Some((record.database, record.spec?))).collect();
    specs.extend(rows.into_iter().filter_map(|(id, row)| Some((id, row.candidate?.spec))));
    Ok(specs)
}
