//! The inbound link: nothing that the broker took is lost, whoever dies; a resync is complete; one session, one owner.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use pgmoor::contract::Topic;
use pgmoor::contract::documents::{Inventory, to_bytes};
use pgmoor::model::DatabaseId;
use pgmoor::mqtt::{
    Delivery, Error, Inbound, InboundHandle, LinkState, Message, Presence, Resync, confirm_absent, probe_replay,
};
use pgmoor::runtime::Random;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::brokers::{Kind, PATIENCE, Running, identity, topic};

crate::against_every_broker!(
    a_command_comes_once_when_it_is_acknowledged,
    what_was_not_acknowledged_comes_again_after_a_kill,
    a_slow_receiver_loses_nothing,
    the_link_comes_back_after_a_restart_of_the_broker,
    two_thousand_specs_come_in_by_windows,
    an_inventory_names_what_the_broker_cuts_off,
    a_probe_finds_how_much_a_broker_replays,
    a_resync_on_a_resumed_session_sees_everything_again,
    a_large_retained_spec_comes_in,
    absence_is_confirmed_and_presence_too,
    the_newer_controller_gets_the_session,
    without_a_broker_nothing_is_known,
);

/// An inbound link that runs; killed when dropped, without a goodbye.
struct Link {
    handle: InboundHandle,
    arriving: mpsc::Receiver<Delivery>,
    stop: CancellationToken,
    task: JoinSet<Result<(), Error>>,
}

impl Link {
    /// Starts a link and does not wait.
    fn start(broker: &Running) -> Self {
        let (inbound, handle, arriving) =
            Inbound::new(&broker.options("controller"), identity(), Random::System).unwrap();
        let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
        task.spawn(inbound.run(stop.clone()));
        Self { handle, arriving, stop, task }
    }

    async fn connected(broker: &Running) -> Self {
        let link = Self::start(broker);
        link.until(|state| matches!(state, LinkState::Connected { .. })).await;
        link
    }

    async fn until(&self, wanted: impl FnMut(&LinkState) -> bool) -> LinkState {
        let mut state = self.handle.state();
        let reached = timeout(PATIENCE / 6, state.wait_for(wanted)).await.map(|state| state.unwrap().clone());
        reached.unwrap_or_else(|_| panic!("the state in time, not {:?}", *self.handle.state().borrow()))
    }

    async fn next(&mut self) -> Delivery {
        timeout(PATIENCE, self.arriving.recv()).await.expect("a message in time").unwrap()
    }

    /// Takes and acknowledges all that come while `other` runs.
    async fn draining<T>(&mut self, other: impl Future<Output = T>) -> (Vec<Delivery>, T) {
        let mut other = Box::pin(other);
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                Some(delivery) = self.arriving.recv() => {
                    self.handle.ack(delivery.ack);
                    taken.push(delivery);
                }
                done = &mut other => {
                    // What came before its last marker is in the channel by now, but not yet all taken from it.
                    while let Ok(delivery) = self.arriving.try_recv() {
                        self.handle.ack(delivery.ack);
                        taken.push(delivery);
                    }
                    return (taken, done);
                }
            }
        }
    }

    /// Waits until the broker has the acknowledgements given so far. rumqttc lets publishes overtake them, markers too,
    /// but not subscriptions, and a resync subscribes to what did not come.
    async fn acknowledgements_left(&self, limit: Duration) -> Result<Resync, Error> {
        self.handle.resync(&BTreeSet::from([database(4242)]), limit).await
    }

    async fn kill(mut self) {
        self.task.shutdown().await;
    }
}

fn database(number: usize) -> DatabaseId {
    DatabaseId::parse(&format!("db{number}")).unwrap()
}

fn spec(database: &DatabaseId) -> String {
    Topic::Spec(database.clone()).to_string(&identity().fleet)
}

fn command(number: usize) -> Message {
    Message::new(topic("databases/shop/commands/backup"), number.to_string())
}

fn number(delivery: &Delivery) -> usize {
    String::from_utf8(delivery.message.payload.clone()).unwrap().parse().unwrap()
}

async fn a_command_comes_once_when_it_is_acknowledged(broker: Running) {
    let mut link = Link::connected(&broker).await;
    let publisher = broker.session("publisher").await;
    let mut asked = command(7);
    asked.response_topic = Some("answers/here".to_owned());
    asked.correlation_data = Some(b"token".to_vec());
    publisher.publish(&asked, PATIENCE).await.unwrap();
    let delivery = link.next().await;
    assert_eq!((number(&delivery), delivery.message.retain), (7, false));
    assert_eq!(delivery.message.properties.response_topic, asked.response_topic);
    assert_eq!(delivery.message.properties.correlation_data, asked.correlation_data);
    assert_eq!(delivery.message.properties.content_type.as_deref(), Some("application/json"));
    assert_eq!(link.handle.unacknowledged(), 1);
    link.handle.ack(delivery.ack);
    assert_eq!(link.handle.unacknowledged(), 0);
    // One that is published retained says so at once, not only to who subscribes later. (rumqttd takes the flag off.)
    let retained = Message { retain: true, ..command(8) };
    publisher.publish(&retained, PATIENCE).await.unwrap();
    let delivery = link.next().await;
    assert_eq!((number(&delivery), delivery.message.retain), (8, broker.kind != Kind::Embedded));
    link.handle.ack(delivery.ack);
    publisher.publish(&Message::retained(retained.topic, ""), PATIENCE).await.unwrap();
    let cleared = link.next().await;
    assert!(cleared.message.payload.is_empty());
    link.handle.ack(cleared.ack);
    link.acknowledgements_left(PATIENCE).await.unwrap();
    link.kill().await;
    let mut again = Link::connected(&broker).await;
    publisher.publish(&command(8), PATIENCE).await.unwrap();
    assert_eq!(number(&again.next().await), 8);
}

async fn what_was_not_acknowledged_comes_again_after_a_kill(broker: Running) {
    const SENT: usize = 60;
    const ACKNOWLEDGED: usize = 20;
    let link = Link::connected(&broker).await;
    let publisher = broker.session("publisher").await;
    for n in 0..SENT {
        publisher.publish(&command(n), PATIENCE).await.unwrap();
    }
    // The broker gives out a few at a time, so some come only after others are acknowledged.
    let mut link = link;
    let mut held = Vec::new();
    for n in 0..ACKNOWLEDGED {
        let delivery = link.next().await;
        assert_eq!(number(&delivery), n);
        held.push(delivery.ack);
    }
    // Given in the wrong order, they leave in the right one.
    for token in held.into_iter().rev() {
        link.handle.ack(token);
    }
    let left = link.acknowledgements_left(PATIENCE / 10).await;
    // A mosquitto at its defaults holds the marker back behind twenty that are not acknowledged; three seconds have
    // passed then.
    assert!(left.is_ok() || broker.kind == Kind::PlainMosquitto, "{left:?}");
    link.kill().await;
    // More while nobody is there.
    for n in SENT..SENT + 10 {
        publisher.publish(&command(n), PATIENCE).await.unwrap();
    }
    let mut again = Link::start(&broker);
    let mut came = BTreeSet::new();
    while came.len() < SENT + 10 - ACKNOWLEDGED {
        let delivery = again.next().await;
        assert!(number(&delivery) >= ACKNOWLEDGED, "{} was acknowledged", number(&delivery));
        came.insert(number(&delivery));
        again.handle.ack(delivery.ack);
    }
    assert_eq!(came, (ACKNOWLEDGED..SENT + 10).collect());
}

async fn a_slow_receiver_loses_nothing(broker: Running) {
    const SENT: usize = 700;
    let mut link = Link::connected(&broker).await;
    let publisher = broker.session("publisher").await;
    for n in 0..SENT {
        publisher.publish(&command(n), PATIENCE).await.unwrap();
    }
    for n in 0..SENT {
        let delivery = link.next().await;
        assert_eq!(number(&delivery), n);
        link.handle.ack(delivery.ack);
    }
}

async fn the_link_comes_back_after_a_restart_of_the_broker(mut broker: Running) {
    let mut link = Link::connected(&broker).await;
    broker.stop().await;
    link.until(|state| matches!(state, LinkState::Down { .. })).await;
    broker.start_again().await;
    let state = link.until(|state| matches!(state, LinkState::Connected { .. })).await;
    let LinkState::Connected { epoch, session_present } = state else { panic!("{state:?}") };
    assert!(epoch > 1);
    // Only a broker that keeps its sessions on disk remembers ours.
    assert_eq!(session_present, broker.kind == Kind::Mosquitto);
    let publisher = broker.session("publisher").await;
    publisher.publish(&command(1), PATIENCE).await.unwrap();
    assert_eq!(number(&link.next().await), 1);
    link.stop.cancel();
    timeout(PATIENCE, link.task.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(*link.handle.state().borrow(), LinkState::Stopped);
}

async fn two_thousand_specs_come_in_by_windows(broker: Running) {
    const SPECS: usize = 2000;
    let publisher = broker.session("publisher").await;
    let stored: BTreeSet<_> = (0..SPECS).map(database).collect();
    for database in &stored {
        publisher.publish(&Message::retained(spec(database), "{}"), PATIENCE).await.unwrap();
    }
    let mut link = Link::start(&broker);
    let handle = link.handle.clone();
    let known: BTreeSet<_> = stored.iter().cloned().chain([database(99_999)]).collect();
    let resync = async {
        let mut state = handle.state();
        state.wait_for(|state| matches!(state, LinkState::Connected { .. })).await.unwrap();
        handle.resync(&known, PATIENCE).await.unwrap()
    };
    let (taken, found) = link.draining(resync).await;
    assert_eq!(found.seen, stored, "all, and not the one that is not there");
    let came: BTreeSet<_> = taken.iter().map(|delivery| delivery.message.topic.clone()).collect();
    assert_eq!(came, stored.iter().map(spec).collect());
    match broker.kind {
        Kind::Mosquitto => assert_eq!(found.by_wildcard, SPECS, "the shipped configuration cuts nothing"),
        // The limits that make windows necessary. If one of these grows, a broker has changed.
        Kind::PlainMosquitto => assert!((1000..1500).contains(&found.by_wildcard), "{}", found.by_wildcard),
        Kind::Embedded => assert_eq!(found.by_wildcard, 100),
    }
    // The windows left no subscription behind: a change comes once.
    let changed = Message::retained(spec(&database(1999)), "{\"generation\":2}");
    publisher.publish(&changed, PATIENCE).await.unwrap();
    assert_eq!(link.next().await.message.payload, changed.payload);
    let again = handle.resync(&known, PATIENCE);
    let (taken, found) = link.draining(again).await;
    assert_eq!((taken.len(), found.unwrap().seen), (0, stored));
}

async fn an_inventory_names_what_the_broker_cuts_off(broker: Running) {
    // The embedded broker is for one host: it is slower, and takes no inventory of this size.
    let specs = if broker.kind == Kind::Embedded { 500 } else { 12_000 };
    let publisher = broker.session("publisher").await;
    let stored: BTreeSet<_> = (0..specs).map(database).collect();
    let all = stored.iter().map(|database| Message::retained(spec(database), "{}"));
    let publishes = stream::iter(all).map(|message| {
        let publisher = &publisher;
        async move { publisher.publish(&message, PATIENCE).await.unwrap() }
    });
    publishes.buffer_unordered(64).collect::<()>().await;
    let inventory = Inventory { revision: 1, databases: stored.iter().map(|id| (id.clone(), 1)).collect() };
    publisher.publish(&Message::retained(topic("inventory"), to_bytes(&inventory)), PATIENCE).await.unwrap();
    // A second connection resumes the session of the first: the inventory has to come again.
    for _ in 0..2 {
        let mut link = Link::start(&broker);
        let handle = link.handle.clone();
        let nothing = BTreeSet::new();
        let resync = async {
            let mut state = handle.state();
            state.wait_for(|state| matches!(state, LinkState::Connected { .. })).await.unwrap();
            handle.resync(&nothing, PATIENCE).await.unwrap()
        };
        let (taken, found) = link.draining(resync).await;
        assert_eq!(handle.inventory().borrow().inventory.as_deref(), Some(&inventory));
        assert_eq!(found.seen.len(), specs);
        let came: BTreeSet<_> = taken.iter().map(|delivery| delivery.message.topic.as_str()).collect();
        assert_eq!(came.len(), specs, "each of them arrived");
        assert_eq!(found.by_wildcard < specs, broker.kind != Kind::Mosquitto, "{}", found.by_wildcard);
        link.kill().await;
    }
}

async fn a_probe_finds_how_much_a_broker_replays(broker: Running) {
    let markers = if broker.kind == Kind::Embedded { 500 } else { 3000 };
    let options = broker.options("controller");
    let probe = probe_replay(&options, &identity(), markers, &Random::System, PATIENCE).await.unwrap();
    assert_eq!(probe.retained, markers as usize);
    match broker.kind {
        Kind::Mosquitto => assert_eq!(probe.replayed, probe.retained),
        Kind::PlainMosquitto => assert!((1000..1500).contains(&probe.replayed), "{}", probe.replayed),
        Kind::Embedded => assert_eq!(probe.replayed, 100),
    }
    // And nothing of it is left: what the broker holds would come by this filter, or a hundred of it.
    let watcher = broker.session("watcher").await;
    let left = watcher.read_retained(&topic("controllers/c1/probe/+"), PATIENCE).await.unwrap();
    assert_eq!(left, []);
}

async fn a_resync_on_a_resumed_session_sees_everything_again(broker: Running) {
    let publisher = broker.session("publisher").await;
    let stored: BTreeSet<_> = (0..50).map(database).collect();
    for database in &stored {
        publisher.publish(&Message::retained(spec(database), "{}"), PATIENCE).await.unwrap();
    }
    for round in 0..2 {
        let mut link = Link::connected(&broker).await;
        let handle = link.handle.clone();
        let nothing = BTreeSet::new();
        let (_, found) = link.draining(handle.resync(&nothing, PATIENCE)).await;
        let found = found.unwrap();
        assert_eq!((found.session_present, found.seen.len()), (round > 0, stored.len()), "round {round}");
        link.kill().await;
    }
}

async fn a_large_retained_spec_comes_in(broker: Running) {
    let publisher = broker.session("publisher").await;
    let large = vec![b'x'; 128 * 1024];
    publisher.publish(&Message::retained(spec(&database(1)), large.clone()), PATIENCE).await.unwrap();
    let mut link = Link::connected(&broker).await;
    let delivery = link.next().await;
    assert!(delivery.message.retain);
    assert_eq!(delivery.message.payload, large);
}

async fn absence_is_confirmed_and_presence_too(broker: Running) {
    // With the inbound link connected: its sync topic is the same.
    let mut link = Link::connected(&broker).await;
    let publisher = broker.session("publisher").await;
    let (present, absent) = (database(1), database(2));
    publisher.publish(&Message::retained(spec(&present), "{}"), PATIENCE).await.unwrap();
    let delivery = link.next().await;
    link.handle.ack(delivery.ack);
    let options = broker.options("controller");
    let ask = async |database: &DatabaseId| {
        let topic = Topic::Spec(database.clone());
        confirm_absent(&options, &identity(), &topic, &Random::System, PATIENCE).await
    };
    assert_eq!(ask(&present).await, Presence::Retained(b"{}".to_vec()));
    assert_eq!(ask(&absent).await, Presence::Nothing);
    publisher.publish(&Message::retained(spec(&present), ""), PATIENCE).await.unwrap();
    let delivery = link.next().await;
    assert!(delivery.message.payload.is_empty() && !delivery.message.retain);
    assert_eq!(ask(&present).await, Presence::Nothing);
}

async fn the_newer_controller_gets_the_session(broker: Running) {
    let older = Link::connected(&broker).await;
    let mut newer = Link::connected(&broker).await;
    older.until(|state| *state == LinkState::TakenOver).await;
    let publisher = broker.session("publisher").await;
    publisher.publish(&command(1), PATIENCE).await.unwrap();
    let delivery = newer.next().await;
    assert_eq!(number(&delivery), 1);
    newer.handle.ack(delivery.ack);
    // The older did not fight for it.
    assert_eq!(*older.handle.state().borrow(), LinkState::TakenOver);
    newer.until(|state| matches!(state, LinkState::Connected { .. })).await;
    // Until somebody decides that it shall have it back.
    older.handle.reclaim();
    older.until(|state| matches!(state, LinkState::Connected { .. })).await;
    newer.until(|state| *state == LinkState::TakenOver).await;
}

async fn without_a_broker_nothing_is_known(mut broker: Running) {
    let link = Link::connected(&broker).await;
    broker.stop().await;
    link.until(|state| matches!(state, LinkState::Down { .. })).await;
    let refused = link.handle.resync(&BTreeSet::new(), PATIENCE).await.unwrap_err();
    assert!(matches!(refused, Error::NotConnected), "{refused}");
    let topic = Topic::Spec(database(1));
    let options = broker.options("controller");
    let presence = confirm_absent(&options, &identity(), &topic, &Random::System, PATIENCE).await;
    assert!(matches!(presence, Presence::Unknown { .. }), "{presence:?}");
}
