//! Foreign writes: somebody else wrote on a topic that is ours to write. It is said, and what we last said is published
//! again. And our own words that a broker brought back, of a database that is gone: they are cleared.
//!
//! Invariants: what we said is taken back only where it is known that the database does not live (rule 4). There is no
//! fight. A topic is restored three times in ten minutes; who goes on writing has it for the rest
//! of them, is told so once, and the topic is restored when they are over. Topics on which we said nothing are left
//! alone: they may be another controller's.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::contract::documents::{Event, EventData, EventType, Time, to_bytes};
use crate::contract::topics::Topic;
use crate::model::{DatabaseId, Digest, FleetId};
use crate::mqtt::Received;
use crate::runtime::SharedClock;
use crate::store::{OutMessage, Result, Rows, Store};

/// The time in which restorations of a topic are counted, in milliseconds.
const WINDOW_MS: i64 = 10 * 60 * 1000;
/// How often a topic is restored in this time.
const RESTORED_MAX: u32 = 3;
/// How many topics are counted at once; what is written on others meanwhile is left until their next report.
const TOPICS_MAX: usize = 4096;
/// The pause between two looks at what was left alone for a while.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Watches over the topics that are ours.
pub struct Guard {
    fleet: FleetId,
    store: Store,
    clock: SharedClock,
    writes: mpsc::Receiver<Received>,
    limiter: Limiter,
}

/// Whether nothing is said on a topic because its database is known to be gone: the records were read from Swarm (they are
/// stored together with the fleet's), and none of it lives or is about to.
fn is_gone(rows: &impl Rows, topic: &str, id: &DatabaseId) -> Result<bool> {
    let lives = rows.record(id)?.is_some_and(|record| record.tombstone.is_none());
    let comes = rows.desired(id)?.is_some_and(|row| row.candidate.is_some());
    Ok(!lives && !comes && rows.last_said(topic)?.is_none() && rows.fleet_record()?.is_some())
}

/// What is done about a foreign write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Restore the topic; `tell`: it is the first time for a while.
    Restore { tell: bool },
    /// Leave it alone for now; `tell`: nobody was told yet.
    Leave { tell: bool },
}

/// Counts restorations by topic.
#[derive(Debug, Default)]
struct Limiter {
    topics: BTreeMap<String, Count>,
}

#[derive(Debug)]
struct Count {
    since_ms: i64,
    restored: u32,
    left: bool,
}

impl Limiter {
    fn decide(&mut self, topic: &str, now_ms: i64) -> Decision {
        if !self.topics.contains_key(topic) && self.topics.len() >= TOPICS_MAX {
            return Decision::Leave { tell: false };
        }
        let new = || Count { since_ms: now_ms, restored: 0, left: false };
        let count = self.topics.entry(topic.to_owned()).or_insert_with(new);
        if count.restored < RESTORED_MAX {
            count.restored += 1;
            return Decision::Restore { tell: count.restored == 1 };
        }
        Decision::Leave { tell: !std::mem::replace(&mut count.left, true) }
    }

    /// Forgets what is older than the window; gives the topics that were left alone in it.
    fn over(&mut self, now_ms: i64) -> Vec<String> {
        let mut left = Vec::new();
        self.topics.retain(|topic, count| {
            // A clock that was set back ends the window too.
            let holds = (0..WINDOW_MS).contains(&now_ms.saturating_sub(count.since_ms));
            if !holds && count.left {
                left.push(topic.clone());
            }
            holds
        });
        left
    }
}

impl Guard {
    /// A guard over what comes from [`crate::mqtt::Outbound::watch`].
    #[must_use]
    pub fn new(fleet: FleetId, store: Store, clock: SharedClock, writes: mpsc::Receiver<Received>) -> Self {
        Self { fleet, store, clock, writes, limiter: Limiter::default() }
    }

    /// Watches until `stop`, or until the link is gone.
    ///
    /// # Errors
    /// The store fails.
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        loop {
            tokio::select! {
            biased;
                () = stop.cancelled() => return Ok(()),
                write = self.writes.recv() => match write {
                    Some(write) => self.written(&write).await?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(LOOK_EVERY) => {
                    for topic in self.limiter.over(self.clock.now_ms()) {
                        self.restore(topic, None).await?;
                    }
                }
            }
        }
    }

    /// The broker replays what this controller once said. Where nothing is said today and the database is gone, a broker
    /// that came back with an older state (rule 9) has brought it back.
    async fn replayed(&self, topic: &str) -> Result<()> {
        let Some(id) = Topic::parse(&self.fleet, topic).and_then(|parsed| parsed.database().cloned()) else {
            return Ok(());
        };
        if !self.store.read(|reader| is_gone(reader, topic, &id))? {
            return Ok(());
        }
        tracing::info!(topic, "the broker brought back what was said of a database that is gone; it is cleared");
        let (topic, now_ms) = (topic.to_owned(), self.clock.now_ms());
        let clear = self.store.write(move |writer| {
            if is_gone(writer, &topic, &id)? { writer.enqueue(&OutMessage::clear(topic, now_ms)) } else { Ok(()) }
        });
        clear.await
    }

    async fn written(&mut self, write: &Received) -> Result<()> {
        if write.retain {
            return self.replayed(&write.topic).await;
        }
        let said = self.store.read(|reader| reader.last_said(&write.topic))?;
        // The same words need no mending, whoever said them.
        if said.is_none_or(|said| said.payload == write.payload) {
            return Ok(());
        }
        let topic = write.topic.clone();
        match self.limiter.decide(&topic, self.clock.now_ms()) {
            Decision::Restore { tell } => {
                tracing::warn!(topic, "somebody else wrote on a topic of ours; it is restored");
                let words = "somebody else wrote on a topic of pgmoor; what pgmoor said was published again";
                let event = tell.then(|| self.event(&topic, words)).flatten();
                self.restore(topic, event).await
            }
            Decision::Leave { tell: true } => {
                tracing::warn!(
                    topic,
                    "somebody else writes on a topic of ours again and again; it is left for a while"
                );
                let words = "somebody else writes on a topic of pgmoor again and again; it is restored in ten minutes. \
                             Is there another pgmoor with the same id, or a tool that should not write there?";
                let event = self.event(&topic, words);
                self.store.write(move |writer| event.iter().try_for_each(|event| writer.enqueue(event))).await
            }
            Decision::Leave { tell: false } => Ok(()),
        }
    }

    async fn restore(&self, topic: String, event: Option<OutMessage>) -> Result<()> {
        self.store
            .write(move |writer| {
                if let Some(said) = writer.last_said(&topic)? {
                    writer.enqueue(&said)?;
                }
                event.iter().try_for_each(|event| writer.enqueue(event))
            })
            .await
    }

    /// The event, for a topic that belongs to a database.
    fn event(&self, topic: &str, words: &str) -> Option<OutMessage> {
        let database = Topic::parse(&self.fleet, topic)?.database()?.clone();
        let now_ms = self.clock.now_ms();
        let id = format!("{now_ms}-foreign-{}", Digest::of_bytes(topic.as_bytes()).short());
        let data = EventData { message: words.to_owned(), ..EventData::default() };
        let event = Event::new(&self.fleet, &database, id, EventType::ForeignWrite, Time::from_ms(now_ms), data);
        let to = Topic::Events(database).to_string(&self.fleet);
        Some(OutMessage::event(to, to_bytes(&event.about(topic)), now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::Properties;
    use crate::runtime::TokioClock;
    use crate::store::{Commits, Options};

    #[test]
    fn a_topic_is_restored_a_few_times_and_once_more_when_its_time_is_over() {
        let mut limiter = Limiter::default();
        let decisions: Vec<_> = (0..5).map(|n| limiter.decide("a", n)).collect();
        let expected = [
            Decision::Restore { tell: true },
            Decision::Restore { tell: false },
            Decision::Restore { tell: false },
            Decision::Leave { tell: true },
            Decision::Leave { tell: false },
        ];
        assert_eq!(decisions, expected);
        assert_eq!(limiter.decide("b", 5), Decision::Restore { tell: true }, "each topic by itself");
        assert_eq!(limiter.over(WINDOW_MS - 1), [""; 0]);
        assert_eq!(limiter.over(WINDOW_MS), ["a"]);
        assert_eq!(limiter.decide("a", WINDOW_MS), Decision::Restore { tell: true });
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let mut limiter = Limiter::default();
        for n in 0..TOPICS_MAX {
            limiter.decide(&n.to_string(), 0);
        }
        assert_eq!(limiter.decide("one more", 0), Decision::Leave { tell: false });
    }

    /// What waits in the outbox after these writes, each on the status of `shop`, which says `said`.
    async fn waiting_after(writes: &[&str]) -> Vec<(String, String)> {
        let fleet = FleetId::parse("harbour").unwrap();
        let store = Store::in_memory(&Options { commits: Commits::AtOnce, ..Options::new(fleet.clone()) }).unwrap();
        let topic = "pgmoor/v1/harbour/databases/shop/status".to_owned();
        let said = OutMessage::retained(topic.clone(), "said", 0);
        store
            .write(move |writer| {
                writer.enqueue(&said)?;
                let seq = writer.messages_after(None, 1)?[0].seq;
                writer.message_done(seq)
            })
            .await
            .unwrap();
        let (sender, receiver) = mpsc::channel(10);
        for payload in writes {
            let (payload, properties) = (payload.as_bytes().to_vec(), Properties::default());
            sender.send(Received { topic: topic.clone(), payload, retain: false, properties }).await.unwrap();
        }
        drop(sender);
        let clock: SharedClock = std::sync::Arc::new(TokioClock::starting_at(1000));
        Guard::new(fleet, store.clone(), clock, receiver).run(CancellationToken::new()).await.unwrap();
        let waiting = store.read(|reader| reader.messages_after(None, 10)).unwrap();
        let last = |topic: &str| topic.rsplit('/').next().unwrap().to_owned();
        let text = |message: &OutMessage| String::from_utf8(message.payload.clone()).unwrap();
        waiting.iter().map(|row| (last(&row.message.topic), text(&row.message))).collect()
    }

    #[tokio::test]
    async fn a_foreign_write_is_mended_and_told_once() {
        assert_eq!(waiting_after(&["said"]).await, []);
        let waiting = waiting_after(&["forged", ""]).await;
        let topics: Vec<_> = waiting.iter().map(|(topic, _)| topic.as_str()).collect();
        // The second restoration took the place of the first, which was still waiting.
        assert_eq!(topics, ["events", "status"]);
        assert_eq!(waiting[1].1, "said");
        assert!(waiting[0].1.contains("dev.pgmoor.topic.foreign-write"), "{}", waiting[0].1);
    }

    #[tokio::test]
    async fn two_who_write_in_turns_come_to_an_end() {
        let waiting = waiting_after(&["theirs"; 8]).await;
        let events = waiting.iter().filter(|(topic, _)| topic == "events").count();
        assert_eq!((events, waiting.len()), (2, 3), "{waiting:?}");
    }
}
