//! What the broker did to specs, said as conditions of their databases: it forgot one, or may not have brought all.
//!
//! Invariant: a database that is gone, also in this very moment, gets no row by that.

use super::{Error, Intake};
use crate::contract::documents::{AcceptedBy, ConditionType};
use crate::model::{DatabaseId, Scope};
use crate::store::{Candidate, ConditionRow, Hold, Rows as _};

impl Intake {
    /// The broker has no spec for a database that is there: said, and nothing else (rule 4).
    ///
    /// # Errors
    /// The store does not work.
    pub async fn forgotten(&self, id: &DatabaseId) -> Result<(), Error> {
        let row = self.store.read(|reader| reader.desired(id))?;
        let deletes = |candidate: &Candidate| candidate.hold == Hold::Held || candidate.by == AcceptedBy::ClearedTopic;
        if row.and_then(|row| row.candidate).as_ref().is_some_and(deletes) {
            // The cleared topic is the very delete that is held, or waits.
            return Ok(());
        }
        let message = "the broker has no spec of this database; it goes on as it is. Publish the spec again";
        self.condition(id, ConditionType::BrokerAmnesia, Some(("SpecNotRetained", message.to_owned()))).await
    }

    /// Whether the set of specs is complete as far as this database can tell: reason and message say why not.
    ///
    /// # Errors
    /// The store does not work.
    pub async fn spec_set(&self, id: &DatabaseId, incomplete: Option<(&'static str, String)>) -> Result<(), Error> {
        self.condition(id, ConditionType::SpecSetIncomplete, incomplete).await
    }

    async fn condition(
        &self,
        id: &DatabaseId,
        kind: ConditionType,
        holds: Option<(&'static str, String)>,
    ) -> Result<(), Error> {
        let Some(row) = self.store.read(|reader| reader.desired(id))? else { return Ok(()) };
        let said = row.conditions.get(&kind).map(|row| (row.reason.as_str(), row.message.as_str()));
        if said == holds.as_ref().map(|(reason, message)| (*reason, message.as_str())) {
            return Ok(());
        }
        let (key, now_ms) = (id.clone(), self.clock.now_ms());
        let write = self.store.write(move |writer| {
            let Some(mut row) = writer.desired(&key)? else { return Ok(()) };
            match holds {
                None => {
                    row.conditions.remove(&kind);
                }
                Some((reason, message)) => {
                    let since_ms = row.conditions.get(&kind).map_or(now_ms, |row| row.since_ms);
                    row.conditions.insert(kind, ConditionRow { reason: reason.to_owned(), message, since_ms });
                }
            }
            writer.put_desired(&key, &row)
        });
        write.await?;
        self.bell.ring(Scope::Database(id.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::super::deletion::{Confirm, Retained};
    use super::super::poison::tests::{arrival, intake};
    use super::*;
    use crate::contract::topics::Topic;
    use crate::store::DesiredRow;

    struct Empty;

    #[async_trait]
    impl Confirm for Empty {
        async fn retained(&self, _topic: &Topic) -> Retained {
            Retained::Nothing
        }
    }

    fn row(intake: &Intake, id: &DatabaseId) -> Option<DesiredRow> {
        intake.store.read(|reader| reader.desired(id)).unwrap()
    }

    #[tokio::test]
    async fn a_broker_forgets_only_what_is_there_and_not_on_its_way_out() {
        let (intake, id) = (intake(Arc::new(Empty)), DatabaseId::parse("shop").unwrap());
        intake.forgotten(&id).await.unwrap();
        assert_eq!(row(&intake, &id), None, "it went meanwhile");
        intake.receive(&arrival("spec", r#"{"database_name": "shop"}"#)).await.unwrap();
        intake.forgotten(&id).await.unwrap();
        assert!(row(&intake, &id).unwrap().conditions.contains_key(&ConditionType::BrokerAmnesia));
        intake.receive(&arrival("spec", "")).await.unwrap();
        let before = row(&intake, &id);
        assert_eq!(before.as_ref().unwrap().candidate.as_ref().unwrap().by, AcceptedBy::ClearedTopic);
        intake.forgotten(&id).await.unwrap();
        assert_eq!(row(&intake, &id), before, "its topic was cleared on purpose");
    }
}
