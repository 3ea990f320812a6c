//! What the broker did to specs, said as conditions of their databases: it forgot one, or may not have brought all.

use super::{Error, Intake};
use crate::contract::documents::ConditionType;
use crate::model::DatabaseId;
use crate::store::{ConditionRow, Hold, Rows as _};

impl Intake {
    /// The broker has no spec for a database that is there: said, and nothing else (rule 4).
    ///
    /// # Errors
    /// The store does not work.
    pub async fn forgotten(&self, id: &DatabaseId) -> Result<(), Error> {
        let row = self.store.read(|reader| reader.desired(id))?;
        if row.and_then(|row| row.candidate).is_some_and(|candidate| candidate.hold == Hold::Held) {
            // The cleared topic is the very delete that is held.
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
        let row = self.store.read(|reader| reader.desired(id))?.unwrap_or_default();
        let said = row.conditions.get(&kind).map(|row| (row.reason.as_str(), row.message.as_str()));
        if said == holds.as_ref().map(|(reason, message)| (*reason, message.as_str())) {
            return Ok(());
        }
        let since_ms = self.clock.now_ms();
        self.change(id, Vec::new(), move |row| match holds {
            None => {
                row.conditions.remove(&kind);
            }
            Some((reason, message)) => {
                let since_ms = row.conditions.get(&kind).map_or(since_ms, |row| row.since_ms);
                row.conditions.insert(kind, ConditionRow { reason: reason.to_owned(), message, since_ms });
            }
        })
        .await
    }
}
