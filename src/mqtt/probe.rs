//! How many retained messages a broker replays to one subscription: it cuts a longer replay short without a word, so it
//! is tried, with markers of our own that are taken away again.
//!
//! Invariants: the markers stand below our own controller's topics; their number is bounded; they are removed whatever
//! happens, and expire by themselves where even that does not come to pass.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Error, Identity, Message, Options, Session};
use crate::contract::Topic;
use crate::contract::documents::{SyncMarker, to_bytes};
use crate::contract::topics::filters;
use crate::runtime::{Random, within};

/// Publishes on their way at once.
const IN_FLIGHT: usize = 64;
/// A replay is over when nothing more came for so long: brokers send what they have without pause.
const QUIET: Duration = Duration::from_secs(1);
/// A marker that nobody could remove is forgotten after so many seconds.
const EXPIRY_S: u32 = 600;

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// How many messages were retained.
    pub retained: usize,
    /// How many of them one subscription got. As many: the broker's limit, if it has one, is above them.
    pub replayed: usize,
}

/// Tries how many of `count` retained messages one new subscription gets, within `limit`.
///
/// # Errors
/// The broker was not reached, refused something, or took too long.
pub async fn probe_replay(
    options: &Options,
    identity: &Identity,
    count: u32,
    random: &Random,
    limit: Duration,
) -> Result<Probe, Error> {
    let writer = Session::connect(options, "probe", random, limit).await?;
    let topic = |n: u32| Topic::Probe(identity.controller.clone(), n).to_string(&identity.fleet);
    let marker = |n: u32| {
        let payload = to_bytes(&SyncMarker { epoch: 0, marker: n.into() });
        Message { expiry_s: Some(EXPIRY_S), ..Message::retained(topic(n), payload) }
    };
    let probed = within("the probe of the broker's replay", limit, async {
        publish_all(&writer, (0..count).map(marker), limit).await?;
        let reader = Session::connect(options, "probe", random, limit).await?;
        let filter = filters::probes(&identity.fleet, &identity.controller);
        let mut arriving = reader.subscribe(&[filter], limit).await?;
        let mut replayed = 0;
        while let Ok(next) = within("another marker", QUIET, arriving.next()).await {
            let message = next?;
            if message.retain && !message.payload.is_empty() {
                replayed += 1;
            }
        }
        reader.close().await;
        Ok(Probe { retained: count as usize, replayed })
    });
    let probed = probed.await.map_err(Error::from).and_then(std::convert::identity);
    let removed = publish_all(&writer, (0..count).map(|n| Message::retained(topic(n), "")), limit).await;
    writer.close().await;
    let probe = probed?;
    removed.map(|()| probe)
}

/// What a broker does with a retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Whether another connection gets it after its writer has left.
    pub kept: bool,
    /// Whether it is still there after an empty publish that is not retained. The standard says so.
    pub survives_empty_publish: bool,
}

/// Tries what becomes of one retained message, within `limit`.
///
/// # Errors
/// The broker was not reached, refused something, or took too long.
pub async fn probe_retention(
    options: &Options,
    identity: &Identity,
    random: &Random,
    limit: Duration,
) -> Result<Retention, Error> {
    let topic = Topic::Probe(identity.controller.clone(), 0).to_string(&identity.fleet);
    let payload = to_bytes(&SyncMarker { epoch: 0, marker: 0 });
    let marker = Message { expiry_s: Some(EXPIRY_S), ..Message::retained(topic.as_str(), payload) };
    let writer = Session::connect(options, "probe", random, limit).await?;
    let written = writer.publish(&marker, limit).await;
    writer.close().await;
    written?;
    let second = Session::connect(options, "probe", random, limit).await?;
    let probed = async {
        let kept = !second.read_retained(&topic, limit).await?.is_empty();
        second.publish(&Message::new(topic.as_str(), ""), limit).await?;
        let survives_empty_publish = kept && !second.read_retained(&topic, limit).await?.is_empty();
        Ok(Retention { kept, survives_empty_publish })
    };
    let probed: Result<Retention, Error> = probed.await;
    let removed = second.publish(&Message::retained(topic.as_str(), ""), limit).await;
    second.close().await;
    let retention = probed?;
    removed.map(|()| retention)
}

async fn publish_all(session: &Session, messages: impl Iterator<Item = Message>, limit: Duration) -> Result<(), Error> {
    let publishes = stream::iter(messages).map(|message| async move { session.publish(&message, limit).await });
    publishes.buffer_unordered(IN_FLIGHT).try_collect().await
}
