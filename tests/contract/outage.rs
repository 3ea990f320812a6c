//! Brokers that go away, lines that go dead, strangers on our topics: nothing is lost, and it is noticed in time.

use std::sync::Arc;
use std::time::Duration;

use pgmoor::app::services::Link;
use pgmoor::contract::documents::{Event, EventType, OnlineState};
use pgmoor::contract::topics::filters;
use pgmoor::model::HostId;
use pgmoor::mqtt::{Inbound, LinkState, Message, Outbound, OutboundHandle, Session, Subscription, Will};
use pgmoor::outbox::{Guard, Outbox};
use pgmoor::runtime::{Clock, Random, SystemClock};
use pgmoor::store::{self, OutMessage, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::brokers::{PATIENCE, Running, identity, topic};
use crate::proxy::Proxy;

crate::against_every_broker!(
    a_dead_line_is_noticed_both_ways,
    reports_of_an_outage_come_in_order_and_none_is_lost,
    reports_outlive_a_restart_of_the_broker,
    a_foreign_write_is_mended,
    two_with_one_id_do_not_fight,
    who_lost_the_session_leaves_the_reports_too,
);

/// Within so long a dead line must be noticed.
const NOTICED: Duration = Duration::from_secs(15);

fn will() -> Will {
    Will { topic: topic("controllers/c1/availability"), payload: format!("{:?}", OnlineState::Lost).into_bytes() }
}

async fn until(state: &mut watch::Receiver<LinkState>, limit: Duration, wanted: impl FnMut(&LinkState) -> bool) {
    let reached = timeout(limit, state.wait_for(wanted)).await.map(|state| state.unwrap().clone());
    reached.unwrap_or_else(|_| panic!("not in time; it is {:?}", *state.borrow()));
}

fn connected(state: &LinkState) -> bool {
    matches!(state, LinkState::Connected { .. })
}

fn down(state: &LinkState) -> bool {
    matches!(state, LinkState::Down { .. } | LinkState::Connecting)
}

/// A store with an outbox and a guard over one link; ended when dropped.
struct Site {
    store: Store,
    handle: OutboundHandle,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    async fn start(options: &pgmoor::mqtt::Options) -> Self {
        let identity = identity();
        let fleet = identity.fleet.clone();
        let store = Store::in_memory(&store::Options::new(fleet.clone())).unwrap();
        let (mut outbound, handle) = Outbound::new(options, &identity, will(), Random::System).unwrap();
        let host = HostId::parse("host-1").unwrap();
        let writes = outbound.watch(filters::reports(&fleet, &identity.controller, &host));
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let outbox = Outbox::new(store.clone(), Link(Arc::new(handle.clone())), clock.clone(), Random::System);
        let guard = Guard::new(fleet, store.clone(), clock, writes);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let stops = [(); 3].map(|()| stop.clone());
        let [one, two, three] = stops;
        tasks.spawn(outbound.run(one));
        tasks.spawn(async move { outbox.run(two).await.unwrap() });
        tasks.spawn(async move { guard.run(three).await.unwrap() });
        until(&mut handle.state(), PATIENCE, connected).await;
        Self { store, handle, stop, _tasks: tasks }
    }

    async fn say(&self, message: OutMessage) {
        self.store.write(move |writer| writer.enqueue(&message)).await.unwrap();
    }

    async fn event(&self, number: usize) {
        self.say(OutMessage::event(topic("databases/shop/events"), number.to_string(), 0)).await;
    }

    async fn status(&self, text: &str) {
        self.say(OutMessage::retained(topic("databases/shop/status"), text, 0)).await;
    }
}

async fn next(arriving: &mut Subscription) -> String {
    let message = timeout(PATIENCE, arriving.next()).await.expect("a message in time").unwrap();
    String::from_utf8(message.payload).unwrap()
}

async fn retained(session: &Session, below: &str) -> Option<String> {
    let found = session.read_retained(&topic(below), PATIENCE).await.unwrap();
    found.into_iter().next().map(|(_, payload)| String::from_utf8(payload).unwrap())
}

async fn a_dead_line_is_noticed_both_ways(broker: Running) {
    let options = broker.options("controller");
    let proxy = Proxy::to(&options).await;
    let through = proxy.options(&options);
    let (inbound, inward, _arriving) = Inbound::new(&through, identity(), Random::System).unwrap();
    let (outbound, outward) = Outbound::new(&through, &identity(), will(), Random::System).unwrap();
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let (one, two) = (stop.clone(), stop.clone());
    tasks.spawn(async move { inbound.run(one).await.unwrap() });
    tasks.spawn(outbound.run(two));
    let (mut inward, mut outwards) = (inward.state(), outward.state());
    until(&mut inward, PATIENCE, connected).await;
    until(&mut outwards, PATIENCE, connected).await;
    // Longer than the silence that is allowed: pings keep a quiet line up.
    sleep(NOTICED).await;
    for state in [&inward, &outwards] {
        assert!(matches!(*state.borrow(), LinkState::Connected { epoch: 1, .. }), "{:?}", *state.borrow());
    }
    proxy.goes_dead();
    // One who publishes all the time sends no pings.
    tasks.spawn(async move {
        loop {
            let published = outward.send(&Message::new(topic("databases/shop/events"), "x")).await;
            drop(published);
            sleep(Duration::from_millis(500)).await;
        }
    });
    let noticed = async { tokio::join!(until(&mut inward, NOTICED, down), until(&mut outwards, NOTICED, down)) };
    noticed.await;
    proxy.mend();
    // The first tries went into the dead line and have to be given up.
    until(&mut inward, PATIENCE, connected).await;
    until(&mut outwards, PATIENCE, connected).await;
    stop.cancel();
}

async fn reports_of_an_outage_come_in_order_and_none_is_lost(broker: Running) {
    const EACH: usize = 200;
    let options = broker.options("controller");
    let proxy = Proxy::to(&options).await;
    let site = Site::start(&proxy.options(&options)).await;
    let watcher = broker.session("watcher").await;
    let mut events = watcher.subscribe(&[topic("databases/+/events")], PATIENCE).await.unwrap();
    for n in 0..EACH {
        site.event(n).await;
    }
    proxy.cut();
    until(&mut site.handle.state(), PATIENCE, |state| !connected(state)).await;
    for n in EACH..2 * EACH {
        site.event(n).await;
        site.status(&n.to_string()).await;
    }
    proxy.mend();
    let mut expected = 0;
    // What was on its way at the cut comes twice, but never out of order and never not at all.
    while expected < 2 * EACH {
        let number: usize = next(&mut events).await.parse().unwrap();
        assert!(number <= expected, "{number} came before {expected}");
        expected = expected.max(number + 1);
    }
    let last = (2 * EACH - 1).to_string();
    for _ in 0..100 {
        if retained(&watcher, "databases/shop/status").await.as_ref() == Some(&last) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the last status is not there");
}

async fn reports_outlive_a_restart_of_the_broker(mut broker: Running) {
    let site = Site::start(&broker.options("controller")).await;
    site.status("before").await;
    broker.stop().await;
    until(&mut site.handle.state(), PATIENCE, |state| !connected(state)).await;
    site.say(OutMessage::retained(topic("databases/shop/plan"), "while it was away", 0)).await;
    broker.start_again().await;
    until(&mut site.handle.state(), PATIENCE, connected).await;
    let watcher = broker.session("watcher").await;
    for _ in 0..100 {
        let said = [retained(&watcher, "databases/shop/status").await, retained(&watcher, "databases/shop/plan").await];
        if said == [Some("before".to_owned()), Some("while it was away".to_owned())] {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("what was said is not there again");
}

/// The session of somebody who may write reports, and does.
async fn stranger(broker: &Running) -> Session {
    broker.session("controller").await
}

async fn a_foreign_write_is_mended(broker: Running) {
    let site = Site::start(&broker.options("controller")).await;
    let watcher = broker.session("watcher").await;
    let followed = [topic("databases/shop/events"), topic("databases/shop/status")];
    let mut arriving = watcher.subscribe(&followed, PATIENCE).await.unwrap();
    site.status("ours").await;
    assert_eq!(next(&mut arriving).await, "ours");
    site.status("ours, newer").await;
    assert_eq!(next(&mut arriving).await, "ours, newer");
    let stranger = stranger(&broker).await;
    for theirs in ["theirs", ""] {
        stranger.publish(&Message::retained(topic("databases/shop/status"), theirs), PATIENCE).await.unwrap();
        assert_eq!(next(&mut arriving).await, theirs);
        assert_eq!(next(&mut arriving).await, "ours, newer");
        // The first is told, after it is mended.
        if theirs == "theirs" {
            let event: Event = serde_json::from_str(&next(&mut arriving).await).unwrap();
            assert_eq!(event.kind, EventType::ForeignWrite);
        }
    }
    // On topics of which we know nothing, everybody may write.
    let other = topic("databases/other/status");
    stranger.publish(&Message::retained(other, "theirs"), PATIENCE).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(retained(&watcher, "databases/other/status").await.as_deref(), Some("theirs"));
    // Nothing else was said: our own words do not come back to us as somebody else's.
    assert!(timeout(Duration::from_millis(300), arriving.next()).await.is_err());
}

/// Both links of a controller; killed when dropped.
struct Pair {
    inward: watch::Receiver<LinkState>,
    outward: watch::Receiver<LinkState>,
    _tasks: JoinSet<()>,
}

fn pair(broker: &Running) -> Pair {
    let options = broker.options("controller");
    let (inbound, inward, _arriving) = Inbound::new(&options, identity(), Random::System).unwrap();
    let (mut outbound, outward) = Outbound::new(&options, &identity(), will(), Random::System).unwrap();
    outbound.follow(&inward);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { inbound.run(CancellationToken::new()).await.unwrap() });
    tasks.spawn(outbound.run(CancellationToken::new()));
    Pair { inward: inward.state(), outward: outward.state(), _tasks: tasks }
}

async fn who_lost_the_session_leaves_the_reports_too(broker: Running) {
    let mut older = pair(&broker);
    until(&mut older.inward, PATIENCE, connected).await;
    until(&mut older.outward, PATIENCE, connected).await;
    let mut newer = pair(&broker);
    until(&mut older.inward, PATIENCE, |state| *state == LinkState::TakenOver).await;
    until(&mut older.outward, PATIENCE, |state| *state == LinkState::TakenOver).await;
    until(&mut newer.inward, PATIENCE, connected).await;
    until(&mut newer.outward, PATIENCE, connected).await;
    // And there it ends.
    let (newer_in, newer_out) = (newer.inward.borrow().clone(), newer.outward.borrow().clone());
    sleep(Duration::from_secs(3)).await;
    assert_eq!((&*newer.inward.borrow(), &*newer.outward.borrow()), (&newer_in, &newer_out));
    assert_eq!(*older.outward.borrow(), LinkState::TakenOver);
}

async fn two_with_one_id_do_not_fight(broker: Running) {
    let one = Site::start(&broker.options("controller")).await;
    one.status("one").await;
    let watcher = broker.session("watcher").await;
    let mut statuses = watcher.subscribe(&[topic("databases/shop/status")], PATIENCE).await.unwrap();
    assert_eq!(next(&mut statuses).await, "one");
    let stranger = stranger(&broker).await;
    let mut mended = 0;
    // Whoever it is answers each of our words with its own.
    while let Ok(message) = timeout(Duration::from_secs(2), async {
        stranger.publish(&Message::retained(topic("databases/shop/status"), "two"), PATIENCE).await.unwrap();
        loop {
            let said = next(&mut statuses).await;
            if said == "one" {
                return said;
            }
        }
    })
    .await
    {
        assert_eq!(message, "one");
        mended += 1;
        assert!(mended < 10, "it never ends");
    }
    assert_eq!(mended, 3);
}
