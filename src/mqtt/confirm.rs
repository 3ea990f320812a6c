//! Whether a topic holds a retained message: asked by a fresh subscription to exactly that topic, on a connection of
//! its own, and answered only when a marker that was published after the SUBACK came back.
//!
//! Architecture invariant: this is the only ground on which an empty payload counts as a deletion. A broker that does
//! not answer in time leaves it unknown, which changes nothing.

use std::time::Duration;

use super::resync::Markers;
use super::{Error, Identity, Message, Options, Session};
use crate::contract::Topic;
use crate::runtime::{Random, chain, within};

/// Whether something is retained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// This payload.
    Retained(Vec<u8>),
    /// Nothing; the broker said so.
    Nothing,
    /// It could not be found out.
    Unknown {
        /// Why, for people.
        why: String,
    },
}

/// Asks the broker whether `topic` holds a retained message, within `limit`.
pub async fn confirm_absent(
    options: &Options,
    identity: &Identity,
    topic: &Topic,
    random: &Random,
    limit: Duration,
) -> Presence {
    let asked = Box::pin(ask(options, identity, topic, random, limit));
    let asked = within("the broker's answer", limit, asked).await;
    match asked.map_err(Error::from).and_then(std::convert::identity) {
        Ok(presence) => presence,
        Err(error) => Presence::Unknown { why: chain(&error) },
    }
}

async fn ask(
    options: &Options,
    identity: &Identity,
    topic: &Topic,
    random: &Random,
    limit: Duration,
) -> Result<Presence, Error> {
    let topic = topic.to_string(&identity.fleet);
    let sync = Topic::Sync(identity.controller.clone()).to_string(&identity.fleet);
    let session = Session::connect(options, "confirm", random, limit).await?;
    let mut arriving = session.subscribe(&[sync.clone(), topic.clone()], limit).await?;
    let markers = Markers::new(random);
    let (marker, payload) = markers.make();
    session.publish(&Message::new(sync.clone(), payload), limit).await?;
    let mut found = Presence::Nothing;
    loop {
        let message = arriving.next().await?;
        if message.topic == sync {
            if markers.read(&message.payload) == Some(marker) {
                break;
            }
        } else if message.topic == topic && !message.payload.is_empty() {
            found = if message.retain {
                Presence::Retained(message.payload)
            } else {
                Presence::Unknown { why: format!("somebody published on {topic} at this very moment") }
            };
        }
    }
    session.close().await;
    Ok(found)
}
