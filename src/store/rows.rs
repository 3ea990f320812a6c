//! The rows: what each table keeps of one database, resource or message.
//!
//! Invariant: a row can be read after a field was added to it (`#[serde(default)]` on every later field); a change
//! that is more than that takes a new version in `tables`.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::contract::commands::Question;
use crate::contract::documents::{AcceptedBy, ConditionType, PastSpec, Time, Trash, Verdict};
use crate::model::record::{StoredSpec, Tombstone};
use crate::model::{Digest, HostId, HostStanding, ResourceId};
use crate::plan::{Outcome, Overdue};

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
    /// The payloads that were the last word before, accepted or not, newest last, at most [`HISTORY_MAX`].
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub overtaken: VecDeque<Digest>,
    /// Payloads over which pgmoor itself failed, newest last, at most [`POISON_MAX`]: they are not tried again by the
    /// version that failed.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub poison: VecDeque<Poison>,
}

/// How many poisonous payloads of a database are remembered.
pub const POISON_MAX: usize = 10;

/// A payload over which pgmoor failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poison {
    /// The digest of its bytes.
    pub digest: Digest,
    /// The version that failed; another one tries it once more.
    pub version: String,
}

/// A spec between the rules and the live checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The spec; its `accepted_at_s` is when it passed the rules.
    pub spec: StoredSpec,
    /// When it came: milliseconds since 1970.
    pub received_at_ms: i64,
    /// How it came.
    #[serde(default)]
    pub by: AcceptedBy,
    /// Whether it is a delete that waits for a confirmation, was confirmed, or neither.
    #[serde(default)]
    pub hold: Hold,
}

/// Whether a delete waits for a person (rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// It was not looked at, or there is no reason.
    #[default]
    No,
    /// Too many databases were deleted at once: it waits for a confirmation.
    Held,
    /// It was held, and confirmed.
    Confirmed,
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

    /// Remembers a payload over which this version failed.
    pub fn remember_poison(&mut self, poison: Poison) {
        self.poison.retain(|known| *known != poison);
        self.poison.push_back(poison);
        while self.poison.len() > POISON_MAX {
            self.poison.pop_front();
        }
    }

    /// A payload came, and is the last word now: whatever was before has been overtaken.
    pub fn saw(&mut self, digest: Digest) {
        self.overtaken.extend(self.last_seen.replace(digest.clone()));
        self.overtaken.retain(|before| *before != digest);
        while self.overtaken.len() > HISTORY_MAX {
            self.overtaken.pop_front();
        }
    }

    /// Whether this spec is known as one that another has taken the place of (rule 9): after it was accepted, or before,
    /// or although it was refused.
    #[must_use]
    pub fn superseded(&self, digest: &Digest) -> bool {
        let current = self.history.back().is_some_and(|row| row.digest == *digest);
        !current && (self.overtaken.contains(digest) || self.history.iter().any(|row| row.digest == *digest))
    }
}

/// How people want hosts to stand, until the fleet's record has it; none: as any other.
pub type HostWishes = BTreeMap<HostId, Option<HostStanding>>;

/// What a person asked for since the spec was accepted, and what is counted until it is done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IntentRow {
    /// A deleted database shall be purged now, not after its grace period.
    #[serde(default)]
    pub purge: bool,
    /// For how long a deleted database has been in the trash, in milliseconds in which the daemon ran.
    #[serde(default)]
    pub in_trash_ms: u64,
}

impl IntentRow {
    /// Where the data of a deleted database is, as documents tell it.
    #[must_use]
    pub fn trash(&self, tombstone: &Tombstone) -> Trash {
        let left_ms = tombstone.grace_ms().saturating_sub(self.in_trash_ms);
        let keeps_for_s = if self.purge { 0 } else { left_ms.div_ceil(1000) };
        Trash { deleted_at: Time::from_ms(tombstone.deleted_at_s.saturating_mul(1000)), keeps_for_s }
    }
}

/// One accepted spec in the history of a database, with its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecRow {
    /// Its number, from 1.
    pub number: u64,
    /// The spec. Of a delete: the document that said it.
    pub spec: StoredSpec,
    /// Whether it was a delete.
    pub deleted: bool,
    /// How it came.
    pub by: AcceptedBy,
    /// When it was accepted: milliseconds since 1970.
    pub at_ms: i64,
}

impl SpecRow {
    /// As documents tell it.
    #[must_use]
    pub fn told(&self) -> PastSpec {
        PastSpec {
            number: self.number,
            generation: self.spec.generation,
            digest: self.spec.digest.clone(),
            deleted: self.deleted,
            by: self.by,
            at: Time::from_ms(self.at_ms),
        }
    }
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
    /// The last attempt was not done by its deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<Overdue>,
}

/// How much a broker replays to one subscription, as a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayLimitRow {
    /// How many messages were retained.
    pub retained: u64,
    /// How many of them came: fewer is the broker's limit, as many says that it is above.
    pub replayed: u64,
    /// When: milliseconds since 1970.
    pub at_ms: i64,
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
    /// It goes to a topic of people's (a spec): it is said once, and never again by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_behalf: bool,
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

    /// A retained message on a topic that belongs to people. The broker keeps it; we do not say it again.
    #[must_use]
    pub fn on_behalf(topic: impl Into<String>, payload: impl Into<Vec<u8>>, said_at_ms: i64) -> Self {
        Self { on_behalf: true, ..Self::retained(topic, payload, said_at_ms) }
    }

    /// A message for those who listen now.
    #[must_use]
    pub fn event(topic: impl Into<String>, payload: impl Into<Vec<u8>>, said_at_ms: i64) -> Self {
        let (topic, payload) = (topic.into(), payload.into());
        Self { topic, payload, retain: false, expiry_s: None, correlation_data: None, said_at_ms, on_behalf: false }
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
    fn what_was_overtaken_before_it_was_accepted_is_old_news_until_it_is_said_again() {
        let mut row = DesiredRow::default();
        let digest = |n: usize| Digest::of_bytes(n.to_string().as_bytes());
        row.saw(digest(0));
        row.saw(digest(0));
        assert!(!row.superseded(&digest(0)), "it is the last word");
        row.saw(digest(1));
        assert!(row.superseded(&digest(0)) && !row.superseded(&digest(1)));
        row.saw(digest(0));
        assert!(row.superseded(&digest(1)) && !row.superseded(&digest(0)), "its user came back to it");
        for n in 2..HISTORY_MAX + 3 {
            row.saw(digest(n));
        }
        assert_eq!(row.overtaken.len(), HISTORY_MAX);
        assert!(!row.superseded(&digest(1)), "forgotten");
        // A bad one came after the accepted one, which is still what holds.
        row.remember(entry("accepted"));
        row.saw(Digest::of_bytes(b"accepted"));
        row.saw(Digest::of_bytes(b"bad"));
        assert!(!row.superseded(&Digest::of_bytes(b"accepted")));
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
