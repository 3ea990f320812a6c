//! The session of a person: read what is retained, publish and wait, follow, and learn why it does not work.

use std::time::Duration;

use pgmoor::model::Secret;
use pgmoor::mqtt::{Credentials, Error, Message, Session};
use pgmoor::runtime::Random;
use tokio::time::timeout;

use crate::brokers::{Kind, PATIENCE, Running, topic};

crate::against_every_broker!(
    retained_messages_are_read,
    a_subscription_follows_a_topic,
    an_ended_connection_ends_the_waiting,
    who_may_not_connect_is_told_why,
    a_broker_that_is_not_there_is_named,
);

async fn retained_messages_are_read(broker: Running) {
    let publisher = broker.session("publisher").await;
    for name in ["a", "b", "c"] {
        let spec = Message::retained(topic(&format!("databases/{name}/spec")), name);
        publisher.publish(&spec, PATIENCE).await.unwrap();
    }
    let watcher = broker.session("watcher").await;
    let exact = topic("databases/b/spec");
    let one = watcher.read_retained(&exact, PATIENCE).await.unwrap();
    assert_eq!(one, [(exact.clone(), b"b".to_vec())]);
    // Asked again, it is there again.
    assert_eq!(watcher.read_retained(&exact, PATIENCE).await.unwrap(), one);
    let mut all = watcher.read_retained(&topic("databases/+/spec"), PATIENCE).await.unwrap();
    all.sort();
    assert_eq!(all.iter().map(|(_, payload)| payload.as_slice()).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert_eq!(watcher.read_retained(&topic("databases/none/spec"), PATIENCE).await.unwrap(), []);
    watcher.close().await;
}

async fn a_subscription_follows_a_topic(broker: Running) {
    let (watcher, publisher) = (broker.session("watcher").await, broker.session("publisher").await);
    let mut specs = watcher.subscribe(&[topic("databases/+/spec")], PATIENCE).await.unwrap();
    let mut inventory = watcher.subscribe(&[topic("inventory")], PATIENCE).await.unwrap();
    publisher.publish(&Message::retained(topic("inventory"), "i"), PATIENCE).await.unwrap();
    publisher.publish(&Message::retained(topic("databases/a/spec"), "1"), PATIENCE).await.unwrap();
    publisher.publish(&Message::retained(topic("databases/a/spec"), ""), PATIENCE).await.unwrap();
    for expected in ["1", ""] {
        assert_eq!(timeout(PATIENCE, specs.next()).await.unwrap().unwrap().payload, expected.as_bytes());
    }
    assert_eq!(timeout(PATIENCE, inventory.next()).await.unwrap().unwrap().payload, b"i");
    let nothing = Message::new("a/+/b", "x");
    assert!(matches!(publisher.publish(&nothing, PATIENCE).await, Err(Error::Refused { .. })));
}

async fn an_ended_connection_ends_the_waiting(mut broker: Running) {
    let watcher = broker.session("watcher").await;
    let mut specs = watcher.subscribe(&[topic("databases/+/spec")], PATIENCE).await.unwrap();
    broker.stop().await;
    let ended = timeout(PATIENCE, specs.next()).await.unwrap().unwrap_err();
    assert!(matches!(ended, Error::Lost { .. }), "{ended}");
    let message = Message::new(topic("databases/a/commands/backup"), "{}");
    watcher.publish(&message, PATIENCE).await.unwrap_err();
    watcher.read_retained(&topic("inventory"), PATIENCE).await.unwrap_err();
}

async fn who_may_not_connect_is_told_why(broker: Running) {
    let mut options = broker.options("watcher");
    options.credentials = Some(Credentials { username: "watcher".to_owned(), password: Secret::new("wr0ng") });
    let answer = Session::connect(&options, "test", &Random::System, PATIENCE).await;
    match broker.kind {
        Kind::Mosquitto => {
            let refused = answer.err().expect("refused").to_string();
            assert!(refused.contains("NotAuthorized"), "{refused}");
            assert!(!refused.contains("wr0ng"), "{refused}");
        }
        // They ask nobody for a password.
        Kind::Embedded | Kind::PlainMosquitto => answer.unwrap().close().await,
    }
}

async fn a_broker_that_is_not_there_is_named(mut broker: Running) {
    broker.stop().await;
    let limit = Duration::from_secs(5);
    let answer = Session::connect(&broker.options("watcher"), "test", &Random::System, limit).await;
    let refused = answer.err().expect("refused").to_string();
    let server = broker.options("watcher").server.to_string();
    assert!(refused.contains(&server), "{refused}");
}
