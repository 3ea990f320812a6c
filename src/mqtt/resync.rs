//! The windowed resync: every retained spec comes in, on every broker, however short its queue.
//!
//! All brokers cut the replay of a large wildcard subscription short without a word. So after the wildcard, the topics
//! that are known and did not come are subscribed to one by one, a hundred at a time; after each window a marker on
//! our own sync topic shows that it is through, because it is published after the window's SUBACK and comes back by the
//! same session.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::mqttbytes::v5::SubscribeReasonCode;
use rumqttc::{AsyncClient, PublishNoticeError, QoS, SubscribeFilter, SubscribeNoticeError};
use tokio::sync::watch;

use super::inbound::{InboundHandle, Live};
use super::{Error, Message};
use crate::contract::Topic;
use crate::contract::documents::SyncMarker;
use crate::contract::topics::filters;
use crate::model::DatabaseId;
use crate::runtime::{Random, within};

/// Exact topics in one window: as many as the embedded broker's engine keeps on the way, a tenth of what a mosquitto
/// at its defaults queues.
const WINDOW: usize = 100;
/// Filters in one SUBSCRIBE: the limit of hosted brokers.
const FILTERS: usize = 8;
/// A marker that did not come back for so long is sent again: a broker whose queue is full drops it without a word,
/// which a mosquitto at its defaults does right after it cut a replay short.
const MARKER_AGAIN: Duration = Duration::from_secs(1);
/// How long a marker may take. It includes the time in which the receiver takes what came before it.
const MARKER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a resync found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resync {
    /// The connection by which it went.
    pub epoch: u64,
    /// Whether the broker had remembered the session.
    pub session_present: bool,
    /// Specs that the wildcard alone brought. A number at the limit of the broker says that there may be more which
    /// nobody here knows of.
    pub by_wildcard: usize,
    /// Databases whose spec came by this connection, retained or live.
    pub seen: BTreeSet<DatabaseId>,
}

/// The markers of one link.
pub(super) struct Markers {
    epoch: u64,
    next: AtomicU64,
    highest: watch::Sender<u64>,
}

impl Markers {
    pub(super) fn new(random: &Random) -> Self {
        // 53 bits: every JSON reader takes the number as it is.
        Self { epoch: random.next_u64() >> 11, next: AtomicU64::new(1), highest: watch::Sender::new(0) }
    }

    /// A new marker and its payload.
    pub(super) fn make(&self) -> (u64, Vec<u8>) {
        let marker = self.next.fetch_add(1, Ordering::Relaxed);
        let document = SyncMarker { epoch: self.epoch, marker };
        // Two numbers always serialise.
        (marker, serde_json::to_vec(&document).unwrap_or_default())
    }

    /// The number of a payload that is one of ours.
    pub(super) fn read(&self, payload: &[u8]) -> Option<u64> {
        let document: SyncMarker = serde_json::from_slice(payload).ok()?;
        (document.epoch == self.epoch).then_some(document.marker)
    }

    /// Something came on the sync topic.
    pub(super) fn arrived(&self, payload: &[u8]) {
        if let Some(marker) = self.read(payload) {
            self.highest.send_modify(|highest| *highest = marker.max(*highest));
        }
    }

    async fn wait(&self, marker: u64) {
        // The sender lives as long as we do, so this ends with the marker.
        let mut highest = self.highest.subscribe();
        let _found = highest.wait_for(|highest| *highest >= marker).await.map(|highest| *highest);
    }
}

impl InboundHandle {
    /// Waits until the specs of the wildcard are through, then asks for those of `known` and of the user's inventory that
    /// did not come.
    ///
    /// The messages themselves go the way of all deliveries, and must be taken and acknowledged meanwhile. A database
    /// that is not in [`Resync::seen`] had no retained spec a moment ago: reason to ask
    /// [`super::confirm_absent`], not proof.
    ///
    /// # Errors
    /// There is no connection, it ended, the broker refused a subscription, or `limit` passed.
    pub async fn resync(&self, known: &BTreeSet<DatabaseId>, limit: Duration) -> Result<Resync, Error> {
        let live = self.live()?;
        let resync = async {
            tokio::select! {
                found = self.windows(&live, known) => found,
                () = live.ended.cancelled() => Err(Error::Lost { what: "the end of a resync".to_owned() }),
            }
        };
        within("the resync of the specs", limit, resync).await?
    }

    async fn windows(&self, live: &Live, known: &BTreeSet<DatabaseId>) -> Result<Resync, Error> {
        self.marker(live).await?;
        let mut seen = self.seen();
        let by_wildcard = seen.len();
        // It was subscribed to before the specs, so it came before the marker.
        let inventory = self.shared.inventory.borrow().inventory.clone();
        let named = inventory.iter().flat_map(|inventory| inventory.databases.keys());
        let wanted: BTreeSet<&DatabaseId> = known.iter().chain(named).collect();
        let missing: Vec<String> = wanted
            .into_iter()
            .filter(|database| !seen.contains(*database))
            .map(|database| Topic::Spec((*database).clone()).to_string(&self.shared.identity.fleet))
            .collect();
        for window in missing.chunks(WINDOW) {
            subscribe(&live.client, window).await?;
            self.marker(live).await?;
            // Or every later spec would come twice.
            unsubscribe(&live.client, window).await?;
        }
        // A connection that ended meanwhile has taken its memory with it; then the caller above answers.
        seen.append(&mut self.seen());
        Ok(Resync { epoch: live.epoch, session_present: live.session_present, by_wildcard, seen })
    }

    /// Sends a marker to ourselves and waits until it, or one sent later in its place, is back.
    async fn marker(&self, live: &Live) -> Result<(), Error> {
        let markers = &self.shared.markers;
        let mut first = None;
        let through = async {
            loop {
                let (marker, payload) = markers.make();
                let first = *first.get_or_insert(marker);
                publish(&live.client, &Message::new(self.shared.sync_topic.clone(), payload)).await?;
                if tokio::time::timeout(MARKER_AGAIN, markers.wait(first)).await.is_ok() {
                    return Ok(());
                }
            }
        };
        within("the marker of a resync", MARKER_TIMEOUT, through).await?
    }
}

/// Subscribes at QoS 1, a few filters at a time, and waits until all are granted.
pub(super) async fn subscribe(client: &AsyncClient, filters: &[String]) -> Result<(), Error> {
    let mut notices = Vec::new();
    for some in filters.chunks(FILTERS) {
        let first = some.first().cloned().unwrap_or_default();
        let asked = some.iter().map(|filter| {
            let mut asked = SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce);
            asked.preserve_retain = filters::tells_retained(filter);
            asked
        });
        match client.subscribe_many_tracked(asked).await {
            Ok(notice) => notices.push((first, notice)),
            Err(error) => return Err(Error::Subscribe { filter: first, why: error.to_string() }),
        }
    }
    for (filter, notice) in notices {
        match notice.wait_completion_async().await {
            Ok(()) => {}
            Err(SubscribeNoticeError::V5SubAckFailure(reasons)) => {
                let refused = |reason: &&SubscribeReasonCode| !matches!(reason, SubscribeReasonCode::Success(_));
                let why = reasons.iter().find(refused).map_or_else(String::new, |reason| format!("{reason:?}"));
                return Err(Error::Subscribe { filter, why });
            }
            Err(_) => return Err(Error::Lost { what: format!("the grant of {filter}") }),
        }
    }
    Ok(())
}

/// Unsubscribes and waits for the broker's word. One filter at a time: the embedded broker's engine acknowledges each
/// of several by itself, which is one acknowledgement too many.
pub(super) async fn unsubscribe(client: &AsyncClient, filters: &[String]) -> Result<(), Error> {
    let mut notices = Vec::new();
    for filter in filters {
        match client.unsubscribe_tracked(filter.clone()).await {
            Ok(notice) => notices.push((filter, notice)),
            Err(error) => return Err(Error::Subscribe { filter: filter.clone(), why: error.to_string() }),
        }
    }
    for (filter, notice) in notices {
        // A broker that had no such subscription says so, which is what was wanted.
        if notice.wait_async().await.is_err() {
            return Err(Error::Lost { what: format!("the end of the subscription to {filter}") });
        }
    }
    Ok(())
}

/// Publishes and waits for PUBACK; the caller sets the deadline.
pub(super) async fn publish(client: &AsyncClient, message: &Message) -> Result<(), Error> {
    let topic = message.topic.clone();
    let notice = client.publish_tracked(topic.clone(), message.payload.clone(), message.options(None)).await;
    let notice = notice.map_err(|error| Error::Refused { topic: topic.clone(), why: error.to_string() })?;
    acknowledged(topic, notice.wait_completion_async().await)
}

/// Reads what became of a publish.
pub(super) fn acknowledged(topic: String, answer: Result<(), PublishNoticeError>) -> Result<(), Error> {
    match answer {
        Ok(()) => Ok(()),
        Err(PublishNoticeError::V5PubAck(reason)) => Err(Error::Refused { topic, why: format!("{reason:?}") }),
        Err(PublishNoticeError::RetainNotSupported) => {
            Err(Error::Refused { topic, why: "the broker keeps no retained messages".to_owned() })
        }
        Err(_) => Err(Error::Lost { what: format!("the PUBACK on {topic}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_marker_waits_for_itself_and_not_for_a_strangers() {
        let markers = Markers::new(&Random::seeded(1));
        let strangers = Markers::new(&Random::seeded(2));
        let ((first, _), (second, payload)) = (markers.make(), markers.make());
        strangers.arrived(&payload);
        markers.arrived(&strangers.make().1);
        markers.arrived(b"nonsense");
        assert_eq!(*markers.highest.borrow(), 0);
        markers.arrived(&payload);
        // The second shows that the first is through too.
        for marker in [first, second] {
            within("the marker", Duration::from_secs(1), markers.wait(marker)).await.unwrap();
        }
        assert!(within("the next", Duration::from_millis(20), markers.wait(second + 1)).await.is_err());
    }
}
