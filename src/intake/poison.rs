//! A message over which pgmoor itself failed: it is answered, remembered and let go, so that it neither loops nor
//! vanishes without a word.

use super::{Arrival, Error, Intake};
use crate::contract::commands::Question;
use crate::contract::documents::{EventData, EventType};
use crate::contract::faults::{Code, Fault};
use crate::contract::topics::{Topic, Verb};
use crate::model::{DatabaseId, Digest};
use crate::store::{DesiredRow, Poison};

impl Intake {
    /// Says on the message's own topics that pgmoor failed over it, and remembers a spec that did it. Afterwards the
    /// message can be acknowledged.
    ///
    /// # Errors
    /// The store does not work.
    pub async fn poisoned(&self, arrival: &Arrival) -> Result<(), Error> {
        match Topic::parse(&self.fleet, &arrival.topic) {
            // Nothing is remembered of an empty payload: the next delete is another one.
            Some(Topic::Spec(id)) if !arrival.payload.is_empty() => {
                let digest = Digest::of_bytes(&arrival.payload);
                let poison = poison(&digest);
                self.change(&id, Vec::new(), move |row| row.remember_poison(poison)).await?;
                self.refused(&id, vec![fault()], digest).await
            }
            Some(Topic::Command(id, verb)) => self.refuse_request(id, verb, arrival).await,
            Some(topic) => match topic.database() {
                Some(id) => self.failed_over(id, arrival).await,
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Whether this version failed over a spec before. Then it is refused without a further look.
    pub(super) async fn is_poison(&self, id: &DatabaseId, row: &DesiredRow, digest: &Digest) -> Result<bool, Error> {
        if !row.poison.contains(&poison(digest)) {
            return Ok(false);
        }
        if row.last_seen.as_ref() != Some(digest) {
            self.refused(id, vec![fault()], digest.clone()).await?;
        }
        Ok(true)
    }

    async fn refuse_request(&self, database: DatabaseId, verb: Verb, arrival: &Arrival) -> Result<(), Error> {
        let question = Question {
            database,
            verb,
            payload: arrival.payload.clone(),
            correlation: arrival.correlation.clone(),
            response_topic: arrival.response_topic.clone(),
        };
        self.carry_out(question, |_writer, _accepted| Ok(Err(vec![fault()]))).await
    }

    async fn failed_over(&self, id: &DatabaseId, arrival: &Arrival) -> Result<(), Error> {
        let message = format!("pgmoor failed over a message on {}; it changed nothing", arrival.topic);
        let digest = Digest::of_bytes(&arrival.payload);
        let data = EventData { message, digest: Some(digest.clone()), faults: vec![fault()], ..EventData::default() };
        let event = self.event(id, EventType::SpecRejected, &digest, data);
        self.store.write(move |writer| writer.enqueue(&event)).await?;
        Ok(())
    }
}

fn poison(digest: &Digest) -> Poison {
    Poison { digest: digest.clone(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn fault() -> Fault {
    Fault::new(Code::Internal, "", "pgmoor itself failed over this document; it changed nothing").hint(
        "this is a defect of pgmoor: report it with the log of this moment. Another document, or another version of \
         pgmoor, is tried",
    )
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::contract::documents::{CommandResult, VerdictResult};
    use crate::domain::catalogue;
    use crate::intake::{Confirm, PreviewQueue, Retained};
    use crate::model::{FleetId, HostId};
    use crate::runtime::{FakeClock, bell};
    use crate::store::{Commits, Options, Rows as _, Store};

    struct Nobody;

    #[async_trait]
    impl Confirm for Nobody {
        async fn retained(&self, _topic: &Topic) -> Retained {
            Retained::Unknown
        }
    }

    /// With nothing in its store yet.
    pub(in super::super) fn intake(confirm: Arc<dyn Confirm>) -> Intake {
        let (fleet, host) = (FleetId::parse("harbour").unwrap(), HostId::parse("host-1").unwrap());
        let store = Store::in_memory(&Options { commits: Commits::AtOnce, ..Options::new(fleet.clone()) }).unwrap();
        Intake {
            fleet,
            host,
            data_dir: "/var/lib/pgmoor".to_owned(),
            catalogue: Arc::new(catalogue::embedded().unwrap()),
            store,
            bell: bell().0,
            clock: FakeClock::at(1000),
            confirm,
            previews: PreviewQueue::new().0,
        }
    }

    /// Something about the database `shop`.
    pub(in super::super) fn arrival(below: &str, payload: &str) -> Arrival {
        Arrival {
            topic: format!("pgmoor/v1/harbour/databases/shop/{below}"),
            payload: payload.as_bytes().to_vec(),
            retained: false,
            response_topic: None,
            correlation: Some(b"token".to_vec()),
        }
    }

    fn row(intake: &Intake) -> DesiredRow {
        let shop = DatabaseId::parse("shop").unwrap();
        intake.store.read(|reader| reader.desired(&shop)).unwrap().unwrap()
    }

    const SPEC: &str = r#"{"template": "postgres"}"#;

    #[tokio::test]
    async fn a_spec_that_made_us_fail_is_refused_from_then_on_and_another_is_judged() {
        let intake = intake(Arc::new(Nobody));
        intake.poisoned(&arrival("spec", SPEC)).await.unwrap();
        let verdict = row(&intake).verdict.unwrap();
        assert_eq!((verdict.result, verdict.faults[0].code), (VerdictResult::Rejected, Code::Internal));
        intake.receive(&arrival("spec", SPEC)).await.unwrap();
        assert_eq!(row(&intake).candidate, None, "it was not judged again");
        let other = r#"{"template": "postgres", "generation": 2}"#;
        intake.receive(&arrival("spec", other)).await.unwrap();
        assert_eq!(row(&intake).candidate.unwrap().spec.generation, Some(2));
        intake.receive(&arrival("spec", SPEC)).await.unwrap();
        assert_eq!(row(&intake).verdict.unwrap().faults[0].code, Code::Internal, "and it is said again");
    }

    #[tokio::test]
    async fn another_version_tries_it_once_more() {
        let intake = intake(Arc::new(Nobody));
        intake.poisoned(&arrival("spec", SPEC)).await.unwrap();
        let shop = DatabaseId::parse("shop").unwrap();
        intake.change(&shop, Vec::new(), |row| row.poison[0].version = "0.0.0".to_owned()).await.unwrap();
        intake.receive(&arrival("spec", SPEC)).await.unwrap();
        assert!(row(&intake).candidate.is_some());
    }

    #[tokio::test]
    async fn a_request_that_made_us_fail_is_answered() {
        let intake = intake(Arc::new(Nobody));
        intake.poisoned(&arrival("commands/plan", "{}")).await.unwrap();
        let said = intake.store.read(|reader| reader.messages_after(None, 10)).unwrap();
        assert!(said[0].message.topic.ends_with("/databases/shop/commands/plan/result"));
        let answer: CommandResult = serde_json::from_slice(&said[0].message.payload).unwrap();
        assert_eq!(answer.faults[0].code, Code::Internal);
    }
}
