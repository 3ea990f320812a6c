//! The outbox's tables: messages in order, what waits for each retained topic, what was last said on each.
//!
//! Invariants: messages leave in the order in which they were said; of the messages that wait for one retained topic
//! only the newest is kept, at the place of the newest, so it never overtakes an event that was said before it; what
//! stands in `retained` is what the broker shall hold once the outbox is empty.

use super::error::Result;
use super::reader::{self, Rows as _, Source as _};
use super::rows::OutMessage;
use super::tables::{self, Table};
use super::writer::Writer;

/// How many messages may wait. A broker that is gone for days must not fill the disk: 100,000 messages are below
/// 200 MB. Beyond that the oldest message that is not retained goes; retained ones are bounded by their topics.
pub const MESSAGES_MAX: u64 = 100_000;

/// How long a command's id is remembered (mqtt.md).
const COMMAND_AGE_MAX_MS: i64 = 24 * 60 * 60 * 1000;

/// Where in `meta` the next message's number stands.
const NEXT_SEQ: &[u8] = b"next_seq";
/// Where in `meta` the number of messages that a full outbox dropped stands.
pub(super) const DROPPED: &[u8] = b"messages_dropped";

impl Writer<'_> {
    /// Says something: the message is published after the commit, until the broker acknowledges it.
    ///
    /// A retained message takes the place of an older one that still waits for its topic. A retained empty one clears
    /// the topic, which is then forgotten.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn enqueue(&mut self, message: &OutMessage) -> Result<()> {
        let seq: u64 = reader::row(self, Table::Meta, NEXT_SEQ)?.unwrap_or(1);
        self.put(Table::Meta, NEXT_SEQ.to_vec(), &seq.saturating_add(1))?;
        if message.retain {
            let topic = message.topic.as_bytes();
            if let Some(older) = reader::row::<_, u64>(self, Table::Waiting, topic)? {
                self.remove(Table::Messages, tables::number_key(older))?;
            }
            self.put(Table::Waiting, topic.to_vec(), &seq)?;
            if message.on_behalf {
                // What stands on people's topics is theirs: it is no memory of ours.
            } else if message.clears() {
                self.remove(Table::Retained, topic.to_vec())?;
            } else {
                self.put(Table::Retained, topic.to_vec(), message)?;
            }
        } else if self.rows(Table::Messages)? >= MESSAGES_MAX {
            self.drop_oldest_event()?;
        }
        self.put(Table::Messages, tables::number_key(seq), message)?;
        self.note_said();
        Ok(())
    }

    /// Says a retained message unless it is what was last said on its topic. Answers whether it was said.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn enqueue_if_changed(&mut self, message: &OutMessage) -> Result<bool> {
        let unchanged = match self.last_said(&message.topic)? {
            Some(last) => last.payload == message.payload,
            None => message.clears(),
        };
        if message.retain && unchanged {
            return Ok(false);
        }
        self.enqueue(message).map(|()| true)
    }

    /// Takes back what waits to be said on a topic: somebody else has said something newer there.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn take_back(&mut self, topic: &str) -> Result<()> {
        if let Some(seq) = reader::row::<_, u64>(self, Table::Waiting, topic.as_bytes())? {
            self.remove(Table::Messages, tables::number_key(seq))?;
            self.remove(Table::Waiting, topic.as_bytes().to_vec())?;
        }
        Ok(())
    }

    /// Clears every retained topic of ours that begins with `prefix`, and those of `besides`, on which a store that was
    /// lost may have said something; gives how many there were.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn clear_topics(&mut self, prefix: &str, besides: &[String], now_ms: i64) -> Result<usize> {
        let mut topics = self.topics_said(prefix)?;
        topics.extend(besides.iter().cloned());
        for topic in &topics {
            self.enqueue(&OutMessage::clear(topic.clone(), now_ms))?;
        }
        Ok(topics.len())
    }

    /// The broker has the message: it is forgotten. A message that another took the place of meanwhile is gone
    /// already, and that other one stays.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn message_done(&mut self, seq: u64) -> Result<()> {
        let Some(row) = self.take(Table::Messages, tables::number_key(seq))? else { return Ok(()) };
        let message: OutMessage = Table::Messages.decode(&row)?;
        let topic = message.topic.as_bytes();
        if message.retain && reader::row::<_, u64>(self, Table::Waiting, topic)? == Some(seq) {
            self.remove(Table::Waiting, topic.to_vec())?;
        }
        Ok(())
    }

    /// Puts what was last said on every retained topic in the outbox again, unless something waits for the topic
    /// already: at start, and when the broker has lost its memory. Expired messages are forgotten instead. Gives how
    /// many messages were added.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn say_all_again(&mut self, now_ms: i64) -> Result<usize> {
        let mut said = 0;
        for (topic, value) in self.scan(Table::Retained, tables::everything(), usize::MAX)? {
            let message: OutMessage = Table::Retained.decode(&value)?;
            if message.expired(now_ms) {
                self.remove(Table::Retained, topic)?;
            } else if self.get(Table::Waiting, &topic)?.is_none() {
                self.enqueue(&message)?;
                said += 1;
            }
        }
        Ok(said)
    }

    /// Remembers a command's correlation id; answers whether it is new. Ids older than 24 hours are forgotten.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn command_is_new(&mut self, correlation_id: &str, now_ms: i64) -> Result<bool> {
        let oldest = u64::try_from(now_ms.saturating_sub(COMMAND_AGE_MAX_MS)).unwrap_or(0);
        let old = (std::ops::Bound::Unbounded, std::ops::Bound::Excluded(tables::number_key(oldest)));
        for (key, _) in self.scan(Table::CommandsByTime, old, usize::MAX)? {
            self.remove(Table::Commands, key.get(8..).unwrap_or_default().to_vec())?;
            self.remove(Table::CommandsByTime, key)?;
        }
        if self.get(Table::Commands, correlation_id.as_bytes())?.is_some() {
            return Ok(false);
        }
        let mut by_time = tables::number_key(u64::try_from(now_ms).unwrap_or(0));
        by_time.extend_from_slice(correlation_id.as_bytes());
        self.put_raw(Table::CommandsByTime, by_time, &[])?;
        self.put(Table::Commands, correlation_id.as_bytes().to_vec(), &now_ms)?;
        Ok(true)
    }

    fn drop_oldest_event(&mut self) -> Result<()> {
        const LOOK_AT: usize = 1000;
        let mut after = None;
        loop {
            let some = self.messages_after(after, LOOK_AT)?;
            let Some(last) = some.last() else { return Ok(()) };
            after = Some(last.seq);
            if let Some(event) = some.iter().find(|waiting| !waiting.message.retain) {
                let dropped: u64 = reader::row(self, Table::Meta, DROPPED)?.unwrap_or(0);
                self.put(Table::Meta, DROPPED.to_vec(), &dropped.saturating_add(1))?;
                return self.remove(Table::Messages, tables::number_key(event.seq)).map(|_was_there| ());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::FleetId;
    use crate::store::{Commits, Options, OutMessage, Rows as _, Store};

    #[tokio::test]
    async fn a_full_outbox_drops_the_oldest_event_and_counts_it() {
        let options = Options { commits: Commits::AtOnce, ..Options::new(FleetId::parse("edge").unwrap()) };
        let store = Store::in_memory(&options).unwrap();
        let (dropped, topics) = store
            .write(|w| {
                w.enqueue(&OutMessage::retained("kept", "1", 0))?;
                for n in 0..3 {
                    w.enqueue(&OutMessage::event(format!("event-{n}"), "1", 0))?;
                }
                w.drop_oldest_event()?;
                w.drop_oldest_event()?;
                let topics: Vec<String> =
                    w.messages_after(None, 10)?.into_iter().map(|row| row.message.topic).collect();
                Ok((w.messages_dropped()?, topics))
            })
            .await
            .unwrap();
        assert_eq!((dropped, topics), (2, vec!["kept".to_owned(), "event-2".to_owned()]));
    }
}
