//! MQTT 3.1.1 and 5 meet: what one says, the other hears; and what one client
//! does wrong, no other client feels (the engine must not panic).

use std::time::Duration;

use tokio::time::sleep;

use crate::raw::{Hello, How, Message, Raw, packet};
use crate::support::{Running, options, start};

/// Every property that a PUBLISH of a client may carry, one set each.
const PROPERTIES: [&[u8]; 8] = [
    b"",
    b"\x01\x01",
    b"\x02\0\0\x0e\x10",
    b"\x03\0\x10application/json",
    b"\x08\0\x06answer",
    b"\x09\0\x03\0\xff\x01",
    b"\x26\0\x01k\0\x01v\x26\0\x01k\0\0",
    b"\x01\x01\x02\0\0\x0e\x10\x03\0\x01c\x08\0\x01r\x09\0\x01d\x26\0\x01k\0\x01v",
];

#[tokio::test]
async fn an_old_client_receives_what_a_new_one_publishes_with_properties() {
    let broker = start(options()).await;
    let mut five = Raw::welcome(broker.addr, &Hello::new(5, "five")).await;
    for qos in [0, 1, 2] {
        let mut four = Raw::welcome(broker.addr, &Hello::new(4, &format!("live{qos}"))).await;
        four.subscribe("p/#", qos).await;
        for (n, properties) in PROPERTIES.into_iter().enumerate() {
            let topic = format!("p/{qos}/{n}");
            five.publish_with(&topic, topic.as_bytes(), How { qos, retain: true, properties }).await;
            let payload = topic.clone().into_bytes();
            // A subscription of a later QoS sees the retained messages of the earlier ones too.
            let message = loop {
                let message = four.messages(1).await.remove(0);
                if !message.retain {
                    break message;
                }
            };
            assert_eq!(message, Message { topic, payload, retain: false });
        }
        let mut late = Raw::welcome(broker.addr, &Hello::new(4, &format!("late{qos}"))).await;
        late.subscribe(&format!("p/{qos}/+"), qos).await;
        let mut retained = late.messages(PROPERTIES.len()).await;
        retained.sort_by(|a, b| a.topic.cmp(&b.topic));
        for (n, message) in retained.into_iter().enumerate() {
            let topic = format!("p/{qos}/{n}");
            let payload = topic.clone().into_bytes();
            assert_eq!(message, Message { topic, payload, retain: true });
        }
    }
}

#[tokio::test]
async fn a_new_client_receives_what_an_old_one_publishes() {
    let broker = start(options()).await;
    let mut five = Raw::welcome(broker.addr, &Hello::new(5, "five")).await;
    let mut four = Raw::welcome(broker.addr, &Hello::new(4, "four")).await;
    for qos in [0, 1, 2] {
        let topic = format!("q/{qos}");
        five.subscribe(&topic, qos).await;
        // A payload that looks like properties is still a payload.
        four.publish_with(&topic, b"\x02\x01\x01", How { qos, ..How::default() }).await;
        let payload = b"\x02\x01\x01".to_vec();
        assert_eq!(five.messages(1).await, [Message { topic, payload, retain: false }]);
    }
}

#[tokio::test]
async fn a_will_with_properties_reaches_old_clients_and_one_without_reaches_new_ones() {
    let broker = start(options()).await;
    let mut watchers = Vec::new();
    for version in [4, 5] {
        let mut watcher = Raw::welcome(broker.addr, &Hello::new(version, &format!("watcher{version}"))).await;
        watcher.subscribe("will/+", 1).await;
        watchers.push(watcher);
    }
    for (version, topic) in [(4, "will/4"), (5, "will/5")] {
        let will = Some((topic.to_owned(), "lost".to_owned()));
        let will_properties = if version == 5 { b"\x01\x01\x03\0\x04text".to_vec() } else { Vec::new() };
        let hello = Hello { will, will_properties, ..Hello::new(version, "mortal") };
        drop(Raw::welcome(broker.addr, &hello).await);
        for watcher in &mut watchers {
            let message = Message { topic: topic.to_owned(), payload: b"lost".to_vec(), retain: false };
            assert_eq!(watcher.messages(1).await, [message]);
        }
    }
}

#[tokio::test]
async fn an_old_client_unsubscribes_and_pings() {
    let broker = start(options()).await;
    let mut four = Raw::welcome(broker.addr, &Hello::new(4, "four")).await;
    four.subscribe("u", 1).await;
    four.send(&packet(0xa2, b"\0\x07\0\x01u")).await;
    assert_eq!(four.packet().await, Some((0xb0, vec![0, 7])));
    assert_eq!(four.publish("u", b"x", false).await, Some(0));
    assert_eq!(four.all_messages().await, []);
}

#[tokio::test]
async fn an_old_client_without_an_id_must_want_a_clean_session() {
    let broker = start(options()).await;
    let (_, ack) = Raw::tcp(broker.addr, &Hello { clean: false, ..Hello::new(4, "") }).await;
    assert_eq!(ack, [0, 2]);
    let (_, ack) = Raw::tcp(broker.addr, &Hello::new(4, "")).await;
    assert_eq!(ack, [0, 0]);
}

/// The broker lets the same client, a new one and an old one in, and carries a
/// message between them.
async fn works(broker: &Running, again: &str) {
    for (version, id) in [(5, again), (4, again), (5, "new")] {
        let mut client = Raw::welcome(broker.addr, &Hello::new(version, id)).await;
        client.subscribe("works", 1).await;
        assert_eq!(client.publish("works", b"x", false).await, Some(0), "{id}");
        assert_eq!(client.messages(1).await.len(), 1);
    }
}

#[tokio::test]
async fn packets_that_no_client_may_send_end_their_connection_and_nothing_else() {
    let broker = start(options()).await;
    // What the engine's reader panics at, and what makes its router drop a client.
    let wrong: [(u8, Vec<u8>); 14] = [
        (5, packet(0x20, b"\0\0\0")),
        (4, packet(0x20, b"\0\0")),
        (5, packet(0xb0, b"\0\x01\0\0")),
        (4, packet(0xb0, b"\0\x01")),
        (5, packet(0xf0, b"\0\0")),
        (4, packet(0x10, b"again")),
        (5, packet(0x82, b"\0\x01\0\0\x0a$share/g/t\x01")),
        (4, packet(0x82, b"\0\x01\0\x0a$share/g/t\x01")),
        (5, packet(0x82, b"\0\x01\0\0\x06$SYS/#\0")),
        (5, packet(0x30, b"\0\0\x03\x23\0\x01x")),
        (5, packet(0x30, b"\0\x01t\x02\x0b\x01x")),
        (4, packet(0x36, b"\0\x01t\0\x01")),
        (4, packet(0x62, b"\0\x09")),
        (5, packet(0x40, b"\0\x09")),
    ];
    for (version, bytes) in wrong {
        let mut client = Raw::welcome(broker.addr, &Hello::new(version, "wrong")).await;
        client.send(&bytes).await;
        while let Some((first, _)) = client.packet().await {
            assert_eq!(first, 0xe0, "{bytes:x?}");
        }
        works(&broker, "wrong").await;
    }
}

#[tokio::test]
async fn leaving_in_the_middle_of_a_flood_hurts_nobody() {
    let broker = start(options()).await;
    let mut five = Raw::welcome(broker.addr, &Hello::new(5, "five")).await;
    let bytes: Vec<u8> = (0..3000).flat_map(|n| Raw::publish0(5, &format!("flood/{n}"), &[7; 100], true)).collect();
    five.send(&bytes).await;
    assert_eq!(five.publish("flood/end", b"x", true).await, Some(0));
    for round in 0..10 {
        for (version, will) in [(4, false), (5, false), (4, true), (5, true)] {
            let will = will.then(|| ("will/flood".to_owned(), "lost".to_owned()));
            let hello = Hello { will, ..Hello::new(version, &format!("leaves{version}")) };
            let mut leaves = Raw::welcome(broker.addr, &hello).await;
            // Subscribe and say good-bye in one breath: the replay is under way.
            let filter: &[u8] = b"\0\x01\0\0\x07flood/#\0";
            let mut bytes = packet(0x82, if version == 5 { filter } else { b"\0\x01\0\x07flood/#\0" });
            bytes.extend([0xe0, 0]);
            if round % 2 == 0 {
                leaves.send(&bytes).await;
            } else {
                leaves.send(&bytes[..bytes.len() - 2]).await;
                leaves.until(0x30).await.expect("a message");
                leaves.send(&[0xe0, 0]).await;
            }
            while leaves.packet().await.is_some() {}
        }
    }
    sleep(Duration::from_millis(200)).await;
    works(&broker, "leaves5").await;
    five.subscribe("will/flood", 1).await;
    assert_eq!(five.all_messages().await, [], "nobody was lost, all said good-bye");
}
