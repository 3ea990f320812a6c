//! The outbound link: in order, until acknowledged, and a will that speaks only when we cannot.

use pgmoor::mqtt::{Error, LinkState, Message, Outbound, OutboundHandle, Will};
use pgmoor::runtime::Random;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::brokers::{Kind, PATIENCE, Running, identity, topic};

crate::against_every_broker!(
    reports_arrive_in_order_and_are_acknowledged,
    the_will_speaks_after_a_kill_and_not_after_a_stop,
    what_the_broker_does_not_have_has_failed,
    what_is_too_large_is_not_sent,
    what_the_access_list_denies_is_refused,
);

struct Link {
    handle: OutboundHandle,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Link {
    async fn connected(broker: &Running) -> Self {
        let will = Will { topic: topic("controllers/c1/availability"), payload: b"\"lost\"".to_vec() };
        let (outbound, handle) =
            Outbound::new(&broker.options("controller"), &identity(), will, Random::System).unwrap();
        let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
        task.spawn(outbound.run(stop.clone()));
        let link = Self { handle, stop, task };
        link.until(|state| matches!(state, LinkState::Connected { .. })).await;
        link
    }

    async fn until(&self, wanted: impl FnMut(&LinkState) -> bool) {
        let mut state = self.handle.state();
        timeout(PATIENCE, state.wait_for(wanted)).await.expect("the state in time").unwrap();
    }
}

fn event(number: usize) -> Message {
    Message::new(topic("databases/shop/events"), number.to_string())
}

async fn reports_arrive_in_order_and_are_acknowledged(broker: Running) {
    const SENT: usize = 500;
    let watcher = broker.session("watcher").await;
    let mut arriving = watcher.subscribe(&[topic("databases/+/events")], PATIENCE).await.unwrap();
    let link = Link::connected(&broker).await;
    let mut on_their_way = Vec::new();
    for n in 0..SENT {
        on_their_way.push(link.handle.send(&event(n)).await.unwrap());
        if on_their_way.len() == 32 {
            for message in on_their_way.drain(..) {
                message.wait().await.unwrap();
            }
        }
    }
    for message in on_their_way {
        message.wait().await.unwrap();
    }
    for n in 0..SENT {
        let message = timeout(PATIENCE, arriving.next()).await.unwrap().unwrap();
        assert_eq!(message.payload, n.to_string().as_bytes());
        assert_eq!(message.properties.content_type.as_deref(), Some("application/json"));
    }
}

async fn the_will_speaks_after_a_kill_and_not_after_a_stop(broker: Running) {
    let watcher = broker.session("watcher").await;
    let availability = topic("controllers/c1/availability");
    let mut link = Link::connected(&broker).await;
    link.handle.publish(&Message::retained(availability.clone(), "\"online\"")).await.unwrap();
    link.handle.publish(&Message::retained(availability.clone(), "\"offline\"")).await.unwrap();
    link.stop.cancel();
    timeout(PATIENCE, link.task.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(*link.handle.state().borrow(), LinkState::Stopped);
    let mut arriving = watcher.subscribe(std::slice::from_ref(&availability), PATIENCE).await.unwrap();
    let message = timeout(PATIENCE, arriving.next()).await.unwrap().unwrap();
    assert_eq!(message.payload, b"\"offline\"");
    let mut link = Link::connected(&broker).await;
    link.task.shutdown().await;
    let message = timeout(PATIENCE, arriving.next()).await.unwrap().unwrap();
    assert_eq!(message.payload, b"\"lost\"");
    let later = broker.session("watcher").await;
    let kept = later.read_retained(&availability, PATIENCE).await.unwrap();
    assert_eq!(kept, [(availability, b"\"lost\"".to_vec())]);
}

async fn what_the_broker_does_not_have_has_failed(mut broker: Running) {
    let link = Link::connected(&broker).await;
    broker.stop().await;
    link.until(|state| matches!(state, LinkState::Down { .. })).await;
    let refused = link.handle.publish(&event(1)).await.unwrap_err();
    assert!(matches!(refused, Error::NotConnected), "{refused}");
    broker.start_again().await;
    link.until(|state| matches!(state, LinkState::Connected { .. })).await;
    let watcher = broker.session("watcher").await;
    let mut arriving = watcher.subscribe(&[topic("databases/+/events")], PATIENCE).await.unwrap();
    // The owner sends it again, and it comes once.
    link.handle.publish(&event(1)).await.unwrap();
    link.handle.publish(&event(2)).await.unwrap();
    for expected in ["1", "2"] {
        let message = timeout(PATIENCE, arriving.next()).await.unwrap().unwrap();
        assert_eq!(message.payload, expected.as_bytes());
    }
}

async fn what_is_too_large_is_not_sent(broker: Running) {
    let link = Link::connected(&broker).await;
    let large = Message::new(topic("databases/shop/events"), vec![b'x'; 2 * 1024 * 1024]);
    let refused = link.handle.publish(&large).await.unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
    // And the connection is still the same.
    link.handle.publish(&event(1)).await.unwrap();
    assert_eq!(*link.handle.state().borrow(), LinkState::Connected { epoch: 1, session_present: false });
}

async fn what_the_access_list_denies_is_refused(broker: Running) {
    let link = Link::connected(&broker).await;
    let answer = link.handle.publish(&Message::retained(topic("databases/shop/commands/plan"), "{}")).await;
    match broker.kind {
        Kind::Mosquitto => {
            let refused = answer.unwrap_err();
            assert!(matches!(&refused, Error::Refused { why, .. } if why == "NotAuthorized"), "{refused}");
        }
        Kind::Embedded | Kind::PlainMosquitto => answer.unwrap(),
    }
    link.handle.publish(&event(1)).await.unwrap();
    assert_eq!(*link.handle.state().borrow(), LinkState::Connected { epoch: 1, session_present: false });
}
