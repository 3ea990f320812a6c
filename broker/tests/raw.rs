//! A client of raw bytes for MQTT 3.1.1 and 5: sends what it is told, right or
//! wrong, and hands back what it gets. Every read has a deadline.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Longest wait for a packet that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What goes into CONNECT.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) version: u8,
    pub(crate) id: String,
    pub(crate) login: Option<(String, String)>,
    pub(crate) keep_alive: u16,
    pub(crate) clean: bool,
    /// Topic and payload; QoS 1, retained.
    pub(crate) will: Option<(String, String)>,
    /// MQTT 5 properties, without their length.
    pub(crate) properties: Vec<u8>,
    /// MQTT 5 properties of the will, without their length.
    pub(crate) will_properties: Vec<u8>,
}

impl Hello {
    pub(crate) fn new(version: u8, id: &str) -> Self {
        Self {
            version,
            id: id.to_owned(),
            login: None,
            keep_alive: 60,
            clean: true,
            will: None,
            properties: Vec::new(),
            will_properties: Vec::new(),
        }
    }

    pub(crate) fn login(mut self, user: &str, password: &str) -> Self {
        self.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut tail = Vec::new();
        put(&mut tail, self.id.as_bytes());
        if let Some((topic, payload)) = &self.will {
            flags |= 0b0010_1100;
            if self.version == 5 {
                tail.push(u8::try_from(self.will_properties.len()).unwrap());
                tail.extend(&self.will_properties);
            }
            put(&mut tail, topic.as_bytes());
            put(&mut tail, payload.as_bytes());
        }
        if let Some((user, password)) = &self.login {
            flags |= 0b1100_0000;
            put(&mut tail, user.as_bytes());
            put(&mut tail, password.as_bytes());
        }
        let mut body = Vec::new();
        put(&mut body, b"MQTT");
        body.extend([self.version, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.version >= 5 {
            body.push(u8::try_from(self.properties.len()).unwrap());
            body.extend(&self.properties);
        }
        body.extend(tail);
        packet(0x10, &body)
    }
}

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retain: bool,
}

/// How a message is published.
#[derive(Clone, Copy, Default)]
pub(crate) struct How<'a> {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// MQTT 5 properties, without their length.
    pub(crate) properties: &'a [u8],
}

pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    version: u8,
    next_id: u16,
    messages: Vec<Message>,
}

impl Raw {
    pub(crate) fn new(stream: impl Stream + 'static, version: u8) -> Self {
        Self { stream: Box::new(stream), version, next_id: 1, messages: Vec::new() }
    }

    /// Connects over plain TCP and returns the body of CONNACK too.
    pub(crate) async fn tcp(addr: std::net::SocketAddr, hello: &Hello) -> (Self, Vec<u8>) {
        let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let mut raw = Self::new(stream, hello.version);
        let ack = raw.hello(hello).await;
        (raw, ack)
    }

    /// Connects over plain TCP and expects to be let in.
    pub(crate) async fn welcome(addr: std::net::SocketAddr, hello: &Hello) -> Self {
        let (raw, ack) = Self::tcp(addr, hello).await;
        assert_eq!(ack.get(1), Some(&0), "{ack:?}");
        raw
    }

    /// Sends CONNECT; the body of CONNACK.
    pub(crate) async fn hello(&mut self, hello: &Hello) -> Vec<u8> {
        self.send(&hello.bytes()).await;
        let (first, body) = self.packet().await.expect("a CONNACK");
        assert_eq!(first, 0x20);
        body
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next packet, or `None` when the other side ended the connection.
    pub(crate) async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read()).await.expect("a packet or the end, in time")
    }

    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((first, body))
    }

    /// Reads until a packet of this kind, keeping (and acknowledging) messages;
    /// its body, or `None` at the end of the connection.
    pub(crate) async fn until(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let (first, body) = self.packet().await?;
            if first & 0xf0 == 0x30 {
                self.keep(first, &body).await;
            }
            // The end of a message at QoS 2.
            if first & 0xf0 == 0x60 {
                self.send(&packet(0x70, body.get(..2).unwrap())).await;
            }
            if first & 0xf0 == kind {
                return Some(body);
            }
        }
    }

    async fn keep(&mut self, first: u8, body: &[u8]) {
        let (length, rest) = body.split_first_chunk::<2>().unwrap();
        let (topic, mut rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        if first & 0x06 != 0 {
            let (id, after) = rest.split_at(2);
            let answer = if first & 0x06 == 0x02 { 0x40 } else { 0x50 };
            self.send(&packet(answer, id)).await;
            rest = after;
        }
        if self.version == 5 {
            let length = usize::from(rest[0]);
            assert!(length < 0x80, "short properties are enough for these tests");
            rest = &rest[1 + length..];
        }
        let topic = String::from_utf8(topic.to_vec()).unwrap();
        self.messages.push(Message { topic, payload: rest.to_vec(), retain: first & 1 == 1 });
    }

    /// Publishes at QoS 1 and waits; the reason code of PUBACK (0 in 3.1.1), or
    /// `None` when the connection ended instead.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) -> Option<u8> {
        let mut body = Vec::new();
        put(&mut body, topic.as_bytes());
        self.next_id += 1;
        body.extend(self.next_id.to_be_bytes());
        if self.version == 5 {
            body.push(0);
        }
        body.extend(payload);
        self.send(&packet(0x32 | u8::from(retain), &body)).await;
        let ack = self.until(0x40).await?;
        Some(ack.get(2).copied().unwrap_or(0))
    }

    /// Publishes with these properties (MQTT 5) at this QoS and waits for the
    /// last acknowledgement there is.
    pub(crate) async fn publish_with(&mut self, topic: &str, payload: &[u8], how: How<'_>) {
        let mut body = Vec::new();
        put(&mut body, topic.as_bytes());
        self.next_id += 1;
        if how.qos > 0 {
            body.extend(self.next_id.to_be_bytes());
        }
        if self.version == 5 {
            body.push(u8::try_from(how.properties.len()).unwrap());
            body.extend(how.properties);
        }
        body.extend(payload);
        self.send(&packet(0x30 | how.qos << 1 | u8::from(how.retain), &body)).await;
        match how.qos {
            0 => {}
            1 => assert_eq!(self.until(0x40).await.unwrap(), self.next_id.to_be_bytes()),
            _ => {
                assert_eq!(self.until(0x50).await.unwrap(), self.next_id.to_be_bytes());
                self.send(&packet(0x62, &self.next_id.to_be_bytes())).await;
                assert_eq!(self.until(0x70).await.unwrap(), self.next_id.to_be_bytes());
            }
        }
    }

    /// The bytes of a publish at QoS 0.
    pub(crate) fn publish0(version: u8, topic: &str, payload: &[u8], retain: bool) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, topic.as_bytes());
        if version == 5 {
            body.push(0);
        }
        body.extend(payload);
        packet(0x30 | u8::from(retain), &body)
    }

    /// Subscribes, waits for SUBACK, and expects it granted.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: u8) {
        let mut body = vec![0, 1];
        if self.version == 5 {
            body.push(0);
        }
        put(&mut body, filter.as_bytes());
        body.push(qos);
        self.send(&packet(0x82, &body)).await;
        let ack = self.until(0x90).await.expect("a SUBACK");
        assert_eq!(ack.last(), Some(&qos), "{ack:?}");
    }

    /// Waits until so many messages have come since the last call.
    pub(crate) async fn messages(&mut self, count: usize) -> Vec<Message> {
        while self.messages.len() < count {
            self.until(0x30).await.expect("a message");
        }
        std::mem::take(&mut self.messages)
    }

    /// All messages that came up to now: a ping goes round first, and the
    /// messages must stop for a while besides, since brokers answer pings early.
    pub(crate) async fn all_messages(&mut self) -> Vec<Message> {
        self.send(&[0xc0, 0]).await;
        self.until(0xd0).await.expect("a PINGRESP");
        while let Ok(packet) = timeout(Duration::from_millis(700), self.read()).await {
            let (first, body) = packet.expect("no end of the connection");
            assert_eq!(first & 0xf0, 0x30);
            self.keep(first, &body).await;
        }
        std::mem::take(&mut self.messages)
    }

    /// Whether the other side ends the connection, without another packet.
    pub(crate) async fn ended(&mut self) -> bool {
        self.packet().await.is_none()
    }
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = u8::from(length > 0x7f) << 7;
        bytes.push(u8::try_from(length & 0x7f).unwrap() | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    out.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
    out.extend(field);
}
