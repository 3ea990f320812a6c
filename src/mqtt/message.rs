//! Messages as they come and go, free of rumqttc's types.

use rumqttc::{Publish, PublishOptions, PublishProperties};

use super::AckToken;

/// Content type of everything that we publish.
const JSON: &str = "application/json";
/// MQTT 5: the payload is UTF-8.
const UTF_8: u8 = 1;
/// MQTT 5 user property that names who wrote a message, on everything that an outbound link publishes.
const WRITER: &str = "pgmoor-writer";

/// The properties of MQTT 5 that matter here; all empty for a message from a 3.1.1 client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Where the sender wants its answer.
    pub response_topic: Option<String>,
    /// What the sender wants to see again in the answer.
    pub correlation_data: Option<Vec<u8>>,
    /// MIME type of the payload.
    pub content_type: Option<String>,
    /// The outbound link that wrote it ([`super::OutboundHandle::writer`]); none: it is not from one.
    pub writer: Option<String>,
}

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its topic.
    pub topic: String,
    /// Its payload, at most `packet_bytes_max` bytes.
    pub payload: Vec<u8>,
    /// Whether the broker had it in store. A live publish comes without this flag, retained or not, except a command on a
    /// broker that keeps the flag ([`filters::tells_retained`](crate::contract::topics::filters::tells_retained)).
    pub retain: bool,
    /// Its properties.
    pub properties: Properties,
}

impl Received {
    /// `None` for a topic that is not UTF-8, which no topic may be.
    pub(super) fn of(publish: Publish) -> Option<Self> {
        let topic = std::str::from_utf8(&publish.topic).ok()?.to_owned();
        let properties = publish.properties.map_or_else(Properties::default, |properties| Properties {
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data.map(|data| data.to_vec()),
            content_type: properties.content_type,
            writer: properties.user_properties.into_iter().find(|(name, _)| name == WRITER).map(|(_, value)| value),
        });
        Some(Self { topic, payload: publish.payload.to_vec(), retain: publish.retain, properties })
    }
}

/// A message of the inbound link. It comes again after the next connection unless `ack` is given back.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Received,
    /// Give it to [`super::InboundHandle::ack`] once the message is stored.
    pub ack: AckToken,
}

/// A message to publish, at QoS 1, as JSON in UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic, without wildcards.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// The broker forgets it after so many seconds.
    pub expiry_s: Option<u32>,
    /// Where the answer is wanted.
    pub response_topic: Option<String>,
    /// What the answer shall show again.
    pub correlation_data: Option<Vec<u8>>,
}

impl Message {
    /// A message that the broker does not keep.
    #[must_use]
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            retain: false,
            expiry_s: None,
            response_topic: None,
            correlation_data: None,
        }
    }

    /// A message that the broker keeps until the next on its topic; with an empty payload it forgets the last.
    #[must_use]
    pub fn retained(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self { retain: true, ..Self::new(topic, payload) }
    }

    /// Size of the packet in bytes: never less than it is.
    pub(super) fn packet_bytes(&self) -> usize {
        // Fixed header, packet id, lengths, the writer and the properties of known size take fewer than 200 bytes.
        let answer = self.response_topic.as_ref().map_or(0, String::len);
        let correlation = self.correlation_data.as_ref().map_or(0, Vec::len);
        200 + self.topic.len() + self.payload.len() + answer + correlation
    }

    /// What rumqttc is told beside topic and payload; `writer` is the link, where it is one that others can tell.
    pub(super) fn options(&self, writer: Option<&str>) -> PublishOptions {
        // An empty payload is no JSON: it only clears the topic.
        let content_type = if self.payload.is_empty() { None } else { Some(JSON.to_owned()) };
        PublishOptions::at_least_once().retain(self.retain).properties(PublishProperties {
            payload_format_indicator: Some(UTF_8),
            message_expiry_interval: self.expiry_s,
            content_type,
            response_topic: self.response_topic.clone(),
            correlation_data: self.correlation_data.clone().map(Into::into),
            user_properties: writer.map(signature).into_iter().collect(),
            ..PublishProperties::default()
        })
    }
}

/// The user property that names a writer.
pub(super) fn signature(writer: &str) -> (String, String) {
    (WRITER.to_owned(), writer.to_owned())
}
