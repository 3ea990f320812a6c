//! `purge` and `confirm-delete`: the words that make a delete final.
//!
//! Invariant: nothing is removed here. What was asked for is stored, and the reconciler does it.

use super::super::{Error, Intake};
use super::again::no_database;
use crate::contract::commands::Question;
use crate::contract::documents::{CommandResult, ConditionType};
use crate::contract::faults::{Code, Fault};
use crate::store::{Hold, IntentRow, Rows as _};

impl Intake {
    pub(super) async fn purge(&self, question: Question) -> Result<(), Error> {
        let id = question.database.clone();
        self.carry_out(question, move |writer, answer| {
            let Some(record) = writer.record(&id)? else { return Ok(Err(vec![no_database(&id)])) };
            if record.tombstone.is_none() {
                let message = format!("database {id} is not deleted; only what is in the trash can be purged");
                let hint = "delete it first: publish {\"deleted\": true}, or `pgmoor delete`";
                return Ok(Err(vec![Fault::new(Code::NotDeleted, "", message).hint(hint)]));
            }
            if writer.desired(&id)?.is_some_and(|row| row.candidate.is_some()) {
                let message = format!("database {id} was asked back, and that spec waits for the host");
                let hint = "publish {\"deleted\": true} again, then purge";
                return Ok(Err(vec![Fault::new(Code::NotDeleted, "", message).hint(hint)]));
            }
            let intent = writer.intent(&id)?;
            writer.put_intent(&id, &IntentRow { purge: true, ..intent })?;
            let message = "its data, record and history are removed now; the event `dev.pgmoor.database.purged` tells \
                           when the id is free"
                .to_owned();
            Ok(Ok(CommandResult { message: Some(message), ..answer }))
        })
        .await
    }

    pub(super) async fn confirm_delete(&self, question: Question) -> Result<(), Error> {
        let id = question.database.clone();
        self.carry_out(question, move |writer, answer| {
            let mut row = writer.desired(&id)?.unwrap_or_default();
            let held = row.candidate.as_mut().filter(|candidate| candidate.hold == Hold::Held);
            let Some(candidate) = held else {
                let message = format!("no delete of database {id} is held");
                let hint = "the condition DeletionHeld in `status` tells of one that is";
                return Ok(Err(vec![Fault::new(Code::NotFound, "", message).hint(hint)]));
            };
            candidate.hold = Hold::Confirmed;
            row.conditions.remove(&ConditionType::DeletionHeld);
            writer.put_desired(&id, &row)?;
            let message = "the delete is done now; the data goes to the trash".to_owned();
            Ok(Ok(CommandResult { message: Some(message), ..answer }))
        })
        .await
    }
}
