//! The front: versions, passwords, refusals, bounds, the end.

use std::net::SocketAddr;
use std::time::Duration;

use pgmoor_broker::{Broker, Error, PasswordFile, password_line};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw::{Hello, Message, PATIENCE, Raw};
use crate::support::{options, start};

#[tokio::test]
async fn both_versions_talk_through_one_port() {
    let broker = start(options()).await;
    let mut four = Raw::welcome(broker.addr, &Hello::new(4, "four")).await;
    let mut five = Raw::welcome(broker.addr, &Hello::new(5, "five")).await;
    four.subscribe("from/five", 1).await;
    five.subscribe("from/four", 1).await;
    assert_eq!(four.publish("from/four", b"4", false).await, Some(0));
    assert_eq!(five.publish("from/five", b"5", false).await, Some(0));
    let message =
        |topic: &str, payload: &[u8]| Message { topic: topic.to_owned(), payload: payload.to_vec(), retain: false };
    assert_eq!(four.messages(1).await, [message("from/five", b"5")]);
    assert_eq!(five.messages(1).await, [message("from/four", b"4")]);
}

#[tokio::test]
async fn only_the_right_password_gets_in() {
    let line = password_line("anna", "s3cret").unwrap();
    let users = Some(PasswordFile::parse(&line).unwrap());
    let broker = start(pgmoor_broker::Options { users, ..options() }).await;
    for (version, code) in [(4, 5), (5, 0x87)] {
        let hello = Hello::new(version, "c");
        let wrong = [
            hello.clone(),
            hello.clone().login("anna", "wrong"),
            hello.clone().login("bert", "s3cret"),
            hello.clone().login("pgmoor", &broker.access.password),
        ];
        for hello in wrong {
            let (mut raw, ack) = Raw::tcp(broker.addr, &hello).await;
            assert_eq!(ack[..2], [0, code], "{:?}", hello.login);
            assert!(raw.ended().await);
        }
        // Twice: the second time the front remembers.
        for _ in 0..2 {
            let right = hello.clone().login("anna", "s3cret");
            let mut raw = Raw::welcome(broker.addr, &right).await;
            assert_eq!(raw.publish("t", b"", false).await, Some(0));
        }
    }
}

#[tokio::test]
async fn the_process_itself_has_a_door_of_its_own() {
    let users = Some(PasswordFile::default());
    let broker = start(pgmoor_broker::Options { users, ..options() }).await;
    for version in [4, 5] {
        let hello = Hello::new(version, "self");
        let own = hello.clone().login(&broker.access.username, &broker.access.password);
        Raw::welcome(broker.access.addr, &own).await;
        for wrong in [hello.clone(), hello.clone().login("pgmoor", "guess"), hello.login("", "")] {
            let (_, ack) = Raw::tcp(broker.access.addr, &wrong).await;
            assert_ne!(ack[1], 0, "{:?}", wrong.login);
        }
    }
}

#[tokio::test]
async fn nobody_walks_around_the_front() {
    // The engine's ports are nobody's business, but any user of the machine can
    // find them: here are all that this process listens on.
    let broker = start(options()).await;
    let mut doors = Vec::new();
    for port in own_listening_ports() {
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        if addr == broker.addr {
            continue;
        }
        for version in [4, 5] {
            let hello = Hello::new(version, "thief").login("pgmoor", "guess");
            let mut raw = Raw::new(TcpStream::connect(addr).await.unwrap(), version);
            raw.send(&hello.bytes()).await;
            while let Some((_, body)) = raw.packet().await {
                assert_ne!(body[1], 0, "let in at {addr}");
            }
        }
        doors.push(port);
    }
    assert_eq!(doors.len(), 2, "the one of the engine and the private one: {doors:?}");
}

/// The TCP ports on 127.0.0.1 that this process listens on.
fn own_listening_ports() -> Vec<u16> {
    let mine: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields[1], fields[3], fields[9]);
        let port = local.strip_prefix("0100007F:")?;
        let ours = state == "0A" && mine.contains(&format!("socket:[{inode}]"));
        ours.then(|| u16::from_str_radix(port, 16).unwrap())
    });
    listening.collect()
}

#[tokio::test]
async fn a_client_that_comes_back_replaces_its_old_connection() {
    let broker = start(options()).await;
    for version in [4, 5] {
        let hello = Hello { clean: false, ..Hello::new(version, &format!("twice{version}")) };
        let mut before = Raw::welcome(broker.addr, &hello).await;
        before.subscribe("t", 1).await;
        for round in 0..20 {
            let (mut after, ack) = Raw::tcp(broker.addr, &hello).await;
            assert_eq!(ack[..2], [1, 0], "round {round}");
            if version == 5 {
                assert_eq!(before.packet().await, Some((0xe0, vec![0x8e, 0])));
            }
            assert!(before.ended().await);
            assert_eq!(after.publish("t", b"x", false).await, Some(0), "round {round}");
            assert_eq!(after.messages(1).await.len(), 1);
            before = after;
        }
        // Gone without a word, and back at once.
        for round in 0..20 {
            drop(before);
            before = Raw::welcome(broker.addr, &hello).await;
            assert_eq!(before.publish("t", b"x", false).await, Some(0), "round {round}");
            assert_eq!(before.messages(1).await.len(), 1);
        }
    }
}

#[tokio::test]
async fn other_versions_are_told_so() {
    let broker = start(options()).await;
    for (level, answer) in [(3, vec![0, 1]), (6, vec![0, 0x84, 0])] {
        let (mut raw, ack) = Raw::tcp(broker.addr, &Hello::new(level, "c")).await;
        assert_eq!(ack, answer);
        assert!(raw.ended().await);
    }
    let mut old = Raw::new(TcpStream::connect(broker.addr).await.unwrap(), 4);
    old.send(b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01c").await;
    assert_eq!(old.packet().await, Some((0x20, vec![0, 1])));
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b"\x10\xff\xff\xff\xff\x01"] {
        let mut stranger = Raw::new(TcpStream::connect(broker.addr).await.unwrap(), 4);
        stranger.send(noise).await;
        assert!(stranger.ended().await, "{noise:?}");
    }
}

#[tokio::test]
async fn what_the_engine_would_drop_is_answered() {
    let broker = start(options()).await;
    for (version, code) in [(4, 2), (5, 0x85)] {
        let (_, ack) = Raw::tcp(broker.addr, &Hello::new(version, "a/b")).await;
        assert_eq!(ack[..2], [0, code]);
    }
    let mut exchange = Hello::new(5, "c");
    exchange.properties = b"\x15\0\x05SCRAM".to_vec();
    let (_, ack) = Raw::tcp(broker.addr, &exchange).await;
    assert_eq!(ack[..2], [0, 0x8c]);
}

#[tokio::test]
async fn keep_alive_zero_is_accepted_and_said() {
    let broker = start(options()).await;
    for version in [4, 5] {
        let hello = Hello { keep_alive: 0, ..Hello::new(version, "c") };
        let (mut raw, ack) = Raw::tcp(broker.addr, &hello).await;
        assert_eq!(ack[1], 0);
        if version == 5 {
            let packet_bytes_max = (256 + 64) * 1024_u32;
            let properties = [&[0x27][..], &packet_bytes_max.to_be_bytes(), &[0x13, 0xff, 0xff]];
            assert_eq!(ack[3..], properties.concat());
        }
        assert_eq!(raw.publish("t", b"x", false).await, Some(0));
    }
}

#[tokio::test]
async fn a_client_that_offers_topic_aliases_gets_whole_topics() {
    let broker = start(options()).await;
    let hello = Hello { properties: vec![0x22, 0, 10], ..Hello::new(5, "aliases") };
    let mut raw = Raw::welcome(broker.addr, &hello).await;
    raw.subscribe("a/+", 1).await;
    for topic in ["a/1", "a/2", "a/1", "a/2"] {
        raw.publish(topic, b"x", false).await;
    }
    let topics: Vec<_> = raw.messages(4).await.into_iter().map(|m| m.topic).collect();
    assert_eq!(topics, ["a/1", "a/2", "a/1", "a/2"]);
}

#[tokio::test]
async fn a_slow_handshake_is_dropped_and_holds_nobody_up() {
    let handshake_timeout = Duration::from_millis(400);
    let broker = start(pgmoor_broker::Options { handshake_timeout, ..options() }).await;
    let mut silent = TcpStream::connect(broker.addr).await.unwrap();
    let mut half = Raw::new(TcpStream::connect(broker.addr).await.unwrap(), 4);
    half.send(&Hello::new(4, "half").bytes()[..9]).await;
    let quick = timeout(handshake_timeout, Raw::welcome(broker.addr, &Hello::new(4, "quick"))).await;
    let mut quick = quick.expect("the quick one waits for nobody");
    let read = timeout(PATIENCE, silent.read(&mut [0])).await.expect("dropped in time");
    assert!(matches!(read, Ok(0) | Err(_)));
    assert!(half.ended().await);
    // The one that is through stays, deadline or not.
    assert_eq!(quick.publish("t", b"x", false).await, Some(0));
}

#[tokio::test]
async fn one_connection_too_many_is_refused_and_a_place_comes_back() {
    let broker = start(pgmoor_broker::Options { max_connections: 1, ..options() }).await;
    let first = Raw::welcome(broker.addr, &Hello::new(4, "first")).await;
    let (_, ack) = Raw::tcp(broker.addr, &Hello::new(4, "second")).await;
    assert_eq!(ack, [0, 3]);
    let (_, ack) = Raw::tcp(broker.addr, &Hello::new(5, "second")).await;
    assert_eq!(ack[..2], [0, 0x97]);
    drop(first);
    let again = timeout(PATIENCE, async {
        while Raw::tcp(broker.addr, &Hello::new(4, "second")).await.1 != [0, 0] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    again.await.expect("the place of the first");
}

#[tokio::test]
async fn off_loopback_it_does_not_start_without_password_and_certificate() {
    let listen = vec![SocketAddr::from(([0, 0, 0, 0], 0))];
    let open = pgmoor_broker::Options { listen, ..options() };
    let refused = Broker::start(open.clone()).await.err().expect("refused");
    assert!(matches!(refused, Error::OpenToNetwork { .. }), "{refused}");
    let users = Some(PasswordFile::default());
    let refused = Broker::start(pgmoor_broker::Options { users, ..open }).await.err().expect("refused");
    assert!(refused.to_string().ends_with("without a TLS certificate"), "{refused}");
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let broker = start(options()).await;
    let listen = vec![broker.addr];
    let refused = Broker::start(pgmoor_broker::Options { listen, ..options() }).await;
    assert!(matches!(refused.err(), Some(Error::Listen { .. })));
}

#[tokio::test]
async fn stopping_ends_connections_and_frees_the_ports() {
    let mut broker = start(options()).await;
    let mut client = Raw::welcome(broker.addr, &Hello::new(5, "c")).await;
    broker.stop.cancel();
    timeout(PATIENCE, broker.task.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert!(client.ended().await);
    assert!(TcpStream::connect(broker.addr).await.is_err());
    let gone = timeout(PATIENCE, async {
        while !own_listening_ports().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    gone.await.expect("the engine's listeners close too");
    let listen = vec![broker.addr];
    start(pgmoor_broker::Options { listen, ..options() }).await;
}
