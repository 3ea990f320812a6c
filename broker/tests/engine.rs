//! What rumqttd does behind the front: the settings that are ours, and the
//! limits that the crate's documentation promises (so that a new version of
//! rumqttd that mends one is noticed).

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions};
use tokio::time::timeout;

use crate::raw::{Hello, PATIENCE, Raw};
use crate::support::{Running, options, start};

const SPECS: usize = 5000;

async fn with_specs() -> Running {
    let broker = start(options()).await;
    let mut publisher = Raw::welcome(broker.addr, &Hello::new(4, "publisher")).await;
    let bytes: Vec<u8> =
        (0..SPECS).flat_map(|n| Raw::publish0(4, &format!("f/databases/db{n}/spec"), b"{}", true)).collect();
    publisher.send(&bytes).await;
    assert_eq!(publisher.publish("f/end", b"", false).await, Some(0));
    broker
}

#[tokio::test]
async fn retained_replay_is_whole_at_qos_0_and_a_hundred_at_qos_1() {
    let broker = with_specs().await;
    for version in [4, 5] {
        let mut at0 = Raw::welcome(broker.addr, &Hello::new(version, "at0")).await;
        at0.subscribe("f/databases/+/spec", 0).await;
        let messages = at0.all_messages().await;
        assert_eq!(messages.len(), SPECS);
        let mut at1 = Raw::welcome(broker.addr, &Hello::new(version, "at1")).await;
        at1.subscribe("f/databases/+/spec", 1).await;
        assert_eq!(at1.all_messages().await.len(), 100);
        // Exact topics bring what the wildcard did not.
        at1.subscribe("f/databases/db4711/spec", 1).await;
        assert_eq!(at1.messages(1).await[0].topic, "f/databases/db4711/spec");
    }
}

#[tokio::test]
async fn a_subscription_made_again_replays_nothing() {
    let broker = start(options()).await;
    let mut client = Raw::welcome(broker.addr, &Hello::new(5, "c")).await;
    client.publish("t", b"x", true).await;
    client.subscribe("t", 1).await;
    assert_eq!(client.messages(1).await.len(), 1);
    client.subscribe("t", 1).await;
    assert_eq!(client.all_messages().await.len(), 0);
}

#[tokio::test]
async fn an_empty_publish_deletes_the_retained_message_retained_or_not() {
    let broker = start(options()).await;
    for (topic, retain) in [("t/1", true), ("t/0", false)] {
        let mut client = Raw::welcome(broker.addr, &Hello::new(4, "c")).await;
        client.publish(topic, b"x", true).await;
        client.publish(topic, b"", retain).await;
        client.subscribe(topic, 1).await;
        assert_eq!(client.all_messages().await.len(), 0);
    }
}

#[tokio::test]
async fn a_payload_of_256_kib_passes_and_a_larger_packet_ends_the_connection() {
    let broker = start(options()).await;
    let payload: Vec<u8> = (0..256 * 1024).map(|n: u32| n.to_le_bytes()[0]).collect();
    for version in [4, 5] {
        let mut client = Raw::welcome(broker.addr, &Hello::new(version, "large")).await;
        assert_eq!(client.publish("large", &payload, true).await, Some(0));
        client.subscribe("large", 1).await;
        let messages = client.messages(1).await;
        assert_eq!((messages[0].payload.len(), messages[0].retain), (payload.len(), true));
        assert_eq!(messages[0].payload, payload);
        assert_eq!(client.publish("large", &[0; 400 * 1024], false).await, None);
    }
}

#[tokio::test]
async fn a_will_is_delivered_when_its_client_is_lost_and_only_then() {
    let broker = start(options()).await;
    let mut watcher = Raw::welcome(broker.addr, &Hello::new(5, "watcher")).await;
    watcher.subscribe("will/+", 1).await;
    for version in [4, 5] {
        let will = Some((format!("will/{version}"), "lost".to_owned()));
        let hello = Hello { will, ..Hello::new(version, "mortal") };
        let mut polite = Raw::welcome(broker.addr, &hello).await;
        polite.send(&[0xe0, 0]).await;
        assert!(polite.ended().await);
        assert_eq!(watcher.all_messages().await, []);
        let lost = Raw::welcome(broker.addr, &hello).await;
        drop(lost);
        let messages = watcher.messages(1).await;
        assert_eq!(
            (messages[0].topic.as_str(), messages[0].payload.as_slice()),
            (&*format!("will/{version}"), &b"lost"[..])
        );
    }
    // The will is retained: who comes later learns of it too.
    let mut late = Raw::welcome(broker.addr, &Hello::new(4, "late")).await;
    late.subscribe("will/+", 1).await;
    assert_eq!(late.messages(2).await.len(), 2);
}

#[tokio::test]
async fn a_persistent_session_keeps_its_messages() {
    let broker = start(options()).await;
    for version in [4, 5] {
        let hello = Hello { clean: false, ..Hello::new(version, &format!("session{version}")) };
        let mut sleeper = Raw::welcome(broker.addr, &hello).await;
        sleeper.subscribe("work", 1).await;
        drop(sleeper);
        let mut sender = Raw::welcome(broker.addr, &Hello::new(4, "sender")).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        sender.publish("work", b"one", false).await;
        let (mut woken, ack) = Raw::tcp(broker.addr, &hello).await;
        assert_eq!(ack[..2], [1, 0], "the session is present");
        assert_eq!(woken.messages(1).await[0].payload, b"one");
    }
}

#[tokio::test]
async fn properties_of_mqtt_5_pass_through() {
    let broker = start(options()).await;
    let options = MqttOptions::new("five", ("127.0.0.1", broker.addr.port()));
    let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
    let properties = rumqttc::mqttbytes::v5::PublishProperties {
        response_topic: Some("answer".to_owned()),
        correlation_data: Some("token".into()),
        content_type: Some("application/json".to_owned()),
        ..Default::default()
    };
    let how = PublishOptions::at_least_once().properties(properties.clone());
    client.subscribe("p", QoS::AtLeastOnce).await.unwrap();
    let arrived = timeout(PATIENCE, async {
        loop {
            match events.poll().await.unwrap() {
                // Not earlier: rumqttc lets a publish overtake a subscription.
                Event::Incoming(Incoming::SubAck(_)) => {
                    client.publish("p", "{}", how.clone()).await.unwrap();
                }
                Event::Incoming(Incoming::Publish(publish)) => return publish,
                Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_) => {}
            }
        }
    });
    let got = arrived.await.unwrap().properties.expect("properties");
    assert_eq!(got.response_topic, properties.response_topic);
    assert_eq!(got.correlation_data, properties.correlation_data);
    assert_eq!(got.content_type, properties.content_type);
}
