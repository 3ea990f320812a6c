//! `apply`: a person approves of what the plan that waits interrupts, by its digest.
//!
//! Invariant: compare-and-set: a digest releases exactly what it names, and only while what waits is a part of that.

use super::super::{Error, Intake};
use super::Reply;
use crate::contract::commands::Question;
use crate::contract::documents::{Approve, CommandResult};
use crate::contract::topics::Topic;
use crate::model::Scope;
use crate::report;
use crate::store::{Approvals as _, Approved, Rows as _};

impl Intake {
    pub(super) async fn approve(&self, question: Question, approve: Approve) -> Result<(), Error> {
        let (id, now_ms) = (question.database.clone(), self.clock.now_ms());
        let topic = Topic::Plan(id.clone()).to_string(&self.fleet);
        let scope = Scope::Database(id.clone());
        self.carry_out(question, move |writer, accepted| {
            let mut row = writer.approval(&id)?;
            let reply: Reply = match row.approve(&approve.digest, now_ms) {
                Approved::Now | Approved::Already => {
                    let said = writer.last_said(&topic)?;
                    let plan = said.and_then(|message| serde_json::from_slice(&message.payload).ok());
                    Ok(CommandResult { plan, ..accepted })
                }
                Approved::Stale { named } => {
                    Err(vec![report::approval::stale(&id, row.asked.as_ref(), named.as_ref())])
                }
            };
            if reply.is_ok() {
                writer.put_approval(&id, &row)?;
            }
            Ok(reply)
        })
        .await?;
        self.bell.ring(scope);
        Ok(())
    }
}
