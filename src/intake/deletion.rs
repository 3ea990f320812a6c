//! An empty payload came in: perhaps the spec was cleared on purpose, perhaps somebody published nothing.
//!
//! Invariant: it counts only when a fresh subscription to exactly that topic finds nothing retained (rule 4).

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::{Error, Intake};
use crate::contract::documents::{AcceptedBy, EventData, EventType};
use crate::contract::topics::Topic;
use crate::model::{DatabaseId, Digest, HostId};
use crate::mqtt::Probe;
use crate::store::{History as _, Rows as _};

/// What a fresh look at one topic found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retained {
    /// This payload.
    Payload(Vec<u8>),
    /// Nothing: and a marker sent after the subscription proves that the broker had its chance.
    Nothing,
    /// The broker did not answer in time: nothing is known.
    Unknown,
}

/// Looks at a topic with a subscription of its own.
#[async_trait]
pub trait Confirm: Send + Sync {
    /// What the broker retains on exactly this topic. Bounded in time.
    async fn retained(&self, topic: &Topic) -> Retained;

    /// The broker's address, under which is remembered what it can do.
    fn broker(&self) -> String {
        String::new()
    }

    /// How many of `count` retained messages the broker replays to one subscription; why that is not known. Bounded in
    /// time.
    async fn probe(&self, _count: u32) -> Result<Probe, String> {
        Err("nothing here asks the broker".to_owned())
    }
}

/// How often an unanswered look is made again; the link behind it has its own deadline.
const LOOKS: u32 = 3;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// What an emptied topic stands for.
const DELETE: &[u8] = b"{\"deleted\":true}";

impl Intake {
    pub(super) async fn emptied(&self, id: &DatabaseId) -> Result<(), Error> {
        let (row, record, fleet) =
            self.store.read(|reader| Ok((reader.desired(id)?, reader.record(id)?, reader.fleet_record()?)))?;
        let lives = record.is_some_and(|record| record.tombstone.is_none() && record.spec.is_some());
        let waits = row.is_some_and(|row| row.candidate.is_some());
        // In a new store, until Swarm's records have come: it may be one that the lost store knew.
        let unknown = fleet.is_none();
        if !lives && !waits && !unknown {
            return self.forget_refused(id).await;
        }
        let topic = Topic::Spec(id.clone());
        // A spec of our own that waits to be published there is newer than what was cleared.
        if self.store.read(|reader| reader.waits_to_be_said(&topic.to_string(&self.fleet)))? {
            return Ok(());
        }
        match self.look(&topic).await {
            Retained::Nothing => {
                tracing::info!(database = %id, "its spec was cleared; confirmed by a fresh look at the topic");
                return self.judge(id, DELETE, false, AcceptedBy::ClearedTopic).await;
            }
            Retained::Payload(payload) => return self.spec(id, &payload, true).await,
            Retained::Unknown if !lives && !waits => return self.forget_refused(id).await,
            Retained::Unknown => {}
        }
        let message =
            "an empty spec came, but the broker did not confirm that the topic is empty; nothing was deleted. \
                       Publish {\"deleted\": true} to delete"
                .to_owned();
        tracing::warn!(database = %id, "{message}");
        let data = EventData { message, ..EventData::default() };
        let event = self.event(id, EventType::SpecRejected, &Digest::of_bytes(b""), data);
        self.change(id, vec![event], |_row| {}).await
    }

    /// A fresh look at a topic; one that gets no answer is made again.
    async fn look(&self, topic: &Topic) -> Retained {
        for _ in 1..LOOKS {
            match self.confirm.retained(topic).await {
                Retained::Unknown => tokio::time::sleep(PAUSE).await,
                found @ (Retained::Payload(_) | Retained::Nothing) => return found,
            }
        }
        self.confirm.retained(topic).await
    }

    /// A spec that was never accepted was cleared: with it goes what was said about it, also by a store that was lost.
    async fn forget_refused(&self, id: &DatabaseId) -> Result<(), Error> {
        let (row, record) = self.store.read(|reader| Ok((reader.desired(id)?, reader.record(id)?)))?;
        if record.is_some() || row.is_none() && self.look(&Topic::Status(id.clone())).await == Retained::Nothing {
            return Ok(());
        }
        let prefix = Topic::Status(id.clone()).to_string(&self.fleet).trim_end_matches("status").to_owned();
        let hosts = self.store.read(|reader| reader.fleet_hosts())?.map(|hosts| hosts.known).unwrap_or_default();
        let hosts: BTreeSet<&HostId> = hosts.iter().chain([&self.host]).collect();
        let besides = Topic::all_reports(id, hosts).map(|topic| topic.to_string(&self.fleet));
        let besides: Vec<String> = besides.collect();
        let (key, now_ms) = (id.clone(), self.clock.now_ms());
        self.store
            .write(move |writer| {
                writer.forget_database(&key)?;
                writer.clear_topics(&prefix, &besides, now_ms).map(|_cleared| ())
            })
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::super::poison::tests::{arrival, intake};
    use super::*;
    use crate::model::{FleetRecord, Secret};

    /// A broker that retains one topic, or answers nobody.
    struct Broker(Option<&'static str>);

    #[async_trait]
    impl Confirm for Broker {
        async fn retained(&self, topic: &Topic) -> Retained {
            match (self.0, topic) {
                (None, _) => Retained::Unknown,
                (Some("status"), Topic::Status(_)) => Retained::Payload(b"{}".to_vec()),
                (Some(_), _) => Retained::Nothing,
            }
        }
    }

    /// Topics that are cleared when the spec of a database is that nobody here knows.
    async fn cleared(broker: Broker) -> Vec<String> {
        let intake = intake(Arc::new(broker));
        let fleet = FleetRecord {
            revision: 1,
            fleet: intake.fleet.clone(),
            ca_certificate_pem: String::new(),
            ca_key_pem: Secret::new(""),
            etcd_root_password: Secret::new(""),
            etcd_members: BTreeMap::new(),
            etcd_joined: BTreeMap::new(),
            etcd_change: None,
            hosts: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            etcd_cluster_token: String::new(),
        };
        intake.store.write(move |writer| writer.put_fleet_record(&fleet)).await.unwrap();
        intake.receive(&arrival("spec", "")).await.unwrap();
        let said = intake.store.read(|reader| reader.messages_after(None, 100)).unwrap();
        assert!(said.iter().all(|row| row.message.payload.is_empty() && row.message.retain));
        said.into_iter().map(|row| row.message.topic).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn before_swarms_records_have_come_a_cleared_spec_is_a_delete_of_what_may_be_there() {
        let intake = intake(Arc::new(Broker(Some("nothing"))));
        intake.receive(&arrival("spec", "")).await.unwrap();
        let row = intake.store.read(|reader| reader.desired(&DatabaseId::parse("shop").unwrap())).unwrap().unwrap();
        assert_eq!(row.candidate.unwrap().by, AcceptedBy::ClearedTopic);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_lost_store_said_of_a_spec_that_was_never_accepted_goes_with_the_spec() {
        let status = "pgmoor/v1/harbour/databases/shop/status".to_owned();
        assert!(cleared(Broker(Some("status"))).await.contains(&status));
        assert!(cleared(Broker(None)).await.contains(&status), "nobody knows, and clearing does no harm");
        assert_eq!(cleared(Broker(Some("nothing"))).await, Vec::<String>::new());
    }
}
