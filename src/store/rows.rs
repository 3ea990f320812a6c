//! The rows: what each table keeps of one database, resource or message.
//!
//! Invariant: a row can be read after a field was added to it (`#[serde(default)]` on every later field); a change
//! that is more than that takes a new version in `tables`.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::contract::commands::Question;
use crate::contract::documents::{ConditionType, Verdict};
use crate::model::record::StoredSpec;
use crate::model::{Digest, ResourceId};
use crate::plan::Outcome;

/// How many accepted specs of a database are remembered to tell old news from new (rule 9). A broker that comes back
/// with an older state brings the last few; a spec older than ten changes is judged by its generation.
pub const HISTORY_MAX: usize = 10;

/// What intake knows of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DesiredRow {
    /// The last good spec: what is applied.
    pub accepted: Option<StoredSpec>,
    /// A spec that passed the rules and waits for the live checks on its host.
    pub candidate: Option<Candidate>,
    /// What was said about the last message.
    pub verdict: Option<Verdict>,
    /// Conditions that intake found, by type.
    pub conditions: BTreeMap<ConditionType, ConditionRow>,
    /// The digest of the last payload that came, accepted or not, so that a repeated one is not judged again.
    pub last_seen: Option<Digest>,
    /// The last accepted specs, oldest first, at most [`HISTORY_MAX`].
    pub history: VecDeque<HistoryRow>,
}

/// A spec between the rules and the live checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The spec; its `accepted_at_s` is when it passed the rules.
    pub spec: StoredSpec,
    /// When it came: milliseconds since 1970.
    pub received_at_ms: i64,
}

/// A condition that intake found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionRow {
    /// Why, as one word.
    pub reason: String,
    /// Why, as a sentence for people.
    pub message: String,
    /// Since when: milliseconds since 1970.
    pub since_ms: i64,
}

/// One accepted spec of the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Its generation, if it had one.
    pub generation: Option<u64>,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Whether it was a delete.
    pub deleted: bool,
    /// When it was accepted: milliseconds since 1970.
    pub at_ms: i64,
}

impl DesiredRow {
    /// Remembers an accepted spec; the oldest beyond [`HISTORY_MAX`] is forgotten.
    pub fn remember(&mut self, row: HistoryRow) {
        self.history.push_back(row);
        while self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }

    /// Whether history knows this spec as one that another has taken the place of (rule 9).
    #[must_use]
    pub fn superseded(&self, digest: &Digest) -> bool {
        let current = self.history.back().is_some_and(|row| row.digest == *digest);
        !current && self.history.iter().any(|row| row.digest == *digest)
    }
}

/// What a person asked for since the spec was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IntentRow {
    /// The database goes away.
    pub deletion: Option<Deletion>,
}

/// The explicit word that a database goes away (rule 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// How it was said.
    pub by: DeletedBy,
    /// When: milliseconds since 1970.
    pub requested_at_ms: i64,
}

/// How a delete was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletedBy {
    /// A spec with `"deleted": true`.
    Spec,
    /// An empty payload that a fresh subscription confirmed.
    EmptyTopic,
}

/// The last attempts at one resource, all of which failed. A success removes the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// Whose.
    pub resource: ResourceId,
    /// What was tried, how often, and the last error.
    pub outcome: Outcome,
    /// When it failed last: milliseconds since 1970.
    pub failed_at_ms: i64,
    /// Not to be tried before: milliseconds since 1970.
    pub next_attempt_at_ms: i64,
}

/// A message on its way to the broker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutMessage {
    /// The whole topic.
    pub topic: String,
    /// The payload; empty and retained clears the topic.
    #[serde(with = "text_or_bytes")]
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// After so many seconds the broker may forget it.
    pub expiry_s: Option<u32>,
    /// What an answer shows again of its request (MQTT 5 correlation data).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_data: Option<Vec<u8>>,
    /// When it was said: milliseconds since 1970.
    pub said_at_ms: i64,
}

impl std::fmt::Debug for OutMessage {
    /// Without the payload, which is long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutMessage")
            .field("topic", &self.topic)
            .field("bytes", &self.payload.len())
            .field("retain", &self.retain)
            .finish_non_exhaustive()
    }
}

impl OutMessage {
    /// A retained message.
    #[must_use]
    pub fn retained(topic: impl Into<String>, payload: impl Into<Vec<u8>>, said_at_ms: i64) -> Self {
        Self { retain: true, ..Self::event(topic, payload, said_at_ms) }
    }

    /// A message for those who listen now.
    #[must_use]
    pub fn event(topic: impl Into<String>, payload: impl Into<Vec<u8>>, said_at_ms: i64) -> Self {
        let (topic, payload) = (topic.into(), payload.into());
        Self { topic, payload, retain: false, expiry_s: None, correlation_data: None, said_at_ms }
    }

    /// The answer to a question: on its result topic, and where the question wants it besides.
    #[must_use]
    pub fn answers(result_topic: &str, question: &Question, payload: &[u8], said_at_ms: i64) -> Vec<Self> {
        let topics = std::iter::once(result_topic).chain(question.response_topic.as_deref());
        let answer = |topic: &str| Self {
            correlation_data: question.correlation.clone(),
            ..Self::event(topic, payload, said_at_ms)
        };
        topics.map(answer).collect()
    }

    /// The message that makes the broker forget a retained topic.
    #[must_use]
    pub fn clear(topic: impl Into<String>, said_at_ms: i64) -> Self {
        Self::retained(topic, Vec::new(), said_at_ms)
    }

    /// Whether it clears a retained topic.
    #[must_use]
    pub fn clears(&self) -> bool {
        self.retain && self.payload.is_empty()
    }

    /// The expiry that is left at `now_ms`, in whole seconds and at least one; none: it has none.
    #[must_use]
    pub fn expiry_left_s(&self, now_ms: i64) -> Option<u32> {
        let age_s = now_ms.saturating_sub(self.said_at_ms).max(0) / 1000;
        self.expiry_s.map(|s| s.saturating_sub(u32::try_from(age_s).unwrap_or(u32::MAX)).max(1))
    }

    /// Whether it may be forgotten at `now_ms`.
    #[must_use]
    pub fn expired(&self, now_ms: i64) -> bool {
        self.expiry_s.is_some_and(|s| now_ms >= self.said_at_ms.saturating_add(i64::from(s) * 1000))
    }
}

/// Payloads are JSON texts nearly always: kept as they are, so that a row can be read; others as numbers.
mod text_or_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_binary) => Form::Bytes(bytes.to_vec()).serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into_bytes(),
            Form::Bytes(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> HistoryRow {
        HistoryRow { generation: None, digest: Digest::of_bytes(text.as_bytes()), deleted: false, at_ms: 0 }
    }

    #[test]
    fn history_is_bounded_and_tells_old_news() {
        let mut row = DesiredRow::default();
        let digest = |n: usize| Digest::of_bytes(n.to_string().as_bytes());
        for n in 0..HISTORY_MAX + 3 {
            row.remember(entry(&n.to_string()));
        }
        assert_eq!(row.history.len(), HISTORY_MAX);
        assert!(row.superseded(&digest(HISTORY_MAX)));
        assert!(!row.superseded(&digest(HISTORY_MAX + 2)), "the current one is no old news");
        assert!(!row.superseded(&digest(0)), "forgotten");
        // A spec that came back on purpose is the current one again.
        row.remember(entry(&HISTORY_MAX.to_string()));
        assert!(!row.superseded(&digest(HISTORY_MAX)));
    }

    #[test]
    fn payloads_survive_as_they_are() {
        for payload in [&b""[..], b"{\"a\":1}", &[0xff, 0x00]] {
            let message = OutMessage::event("t", payload, 1);
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<OutMessage>(&text).unwrap(), message);
        }
    }

    #[test]
    fn only_what_has_an_expiry_expires() {
        let mut message = OutMessage::retained("t", "x", 1000);
        assert!(!message.expired(i64::MAX));
        message.expiry_s = Some(2);
        assert!(!message.expired(2999) && message.expired(3000));
        assert_eq!([0, 1000, 2500].map(|now| message.expiry_left_s(now)), [Some(2), Some(2), Some(1)]);
    }
}
