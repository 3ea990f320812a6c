//! Commands: requests that people send while they listen for the answer.
//!
//! A question (`plan`, `decision`) goes to the reconciler, changes nothing and is answered later. Every other verb is answered
//! from the store, and most change it: done by [`Intake::carry_out`], from a file of this folder.
//!
//! Invariant: the change, its answer and the memory of the request's correlation data are one transaction (rule 5), so
//! a request that comes twice is done once, and one that is answered was done.

mod again;
mod apply;
mod fleet;
mod history;
mod hosts;
mod preview;
mod trash;

use super::{Arrival, Error, Intake};
use crate::contract::commands::{Command, DiffRequest, Question, RollbackRequest};
use crate::contract::documents::{CommandResult, Time};
use crate::contract::faults::Fault;
use crate::contract::topics::{Topic, Verb};
use crate::model::{DatabaseId, Digest, FleetId, Scope};
use crate::store::{self, OutMessage, Writer};

pub use preview::PreviewQueue;

/// What comes of a request: an answer with the faults for which it was rejected, or none.
type Reply = Result<CommandResult, Vec<Fault>>;

impl Intake {
    pub(super) async fn command(&self, id: &DatabaseId, verb: &Verb, arrival: &Arrival) -> Result<(), Error> {
        if arrival.retained && arrival.payload.is_empty() {
            return Ok(());
        }
        let question = Question {
            database: id.clone(),
            verb: verb.clone(),
            payload: arrival.payload.clone(),
            correlation: arrival.correlation.clone(),
            response_topic: arrival.response_topic.clone(),
        };
        match Command::read(verb, &arrival.payload, arrival.retained) {
            Ok(Command::Apply(approve)) => self.approve(question, approve).await,
            Ok(Command::Plan | Command::Decision(_)) => self.preview(question).await,
            Ok(Command::Undelete) => self.publish_again(question, again::Which::LastAccepted).await,
            Ok(Command::Rollback(RollbackRequest { to })) => self.publish_again(question, again::Which::Past(to)).await,
            Ok(Command::Purge) => self.purge(question).await,
            Ok(Command::ConfirmDelete) => self.confirm_delete(question).await,
            Ok(Command::History) => self.history(question).await,
            Ok(Command::Diff(DiffRequest { from, to })) => self.diff(question, from, to).await,
            Err(faults) => self.carry_out(question, |_writer, _accepted| Ok(Err(faults))).await,
        }
    }

    /// Does what a request asks for, with its answer, in one transaction; a request that was done before is not done
    /// again.
    ///
    /// `work` gets the plain answer «accepted», to which it may add. Where it finds faults it must not have changed
    /// anything: they are the answer, and what was written stays.
    pub(super) async fn carry_out<F>(&self, question: Question, work: F) -> Result<(), Error>
    where
        F: FnOnce(&mut Writer<'_>, CommandResult) -> store::Result<Reply> + Send + 'static,
    {
        let (fleet, now_ms) = (self.fleet.clone(), self.clock.now_ms());
        let scope = Scope::Database(question.database.clone());
        let write = self.store.write(move |writer| {
            if !is_new(writer, &question, now_ms)? {
                return Ok(());
            }
            let accepted = CommandResult::accepted(&question, Time::from_ms(now_ms));
            let answer = match work(writer, accepted.clone())? {
                Ok(answer) => answer,
                Err(faults) => accepted.rejected(faults),
            };
            answers(&fleet, &question, &answer).iter().try_for_each(|message| writer.enqueue(message))
        });
        write.await?;
        self.bell.ring(scope);
        Ok(())
    }
}

/// Whether a request has not come before. Without correlation data nobody can tell: it is new each time.
fn is_new(writer: &mut Writer<'_>, question: &Question, now_ms: i64) -> store::Result<bool> {
    let Some(correlation) = &question.correlation else { return Ok(true) };
    let name = Digest::of_bytes(correlation);
    writer.command_is_new(&format!("{}/{}/{name}", question.database, question.verb.as_str()), now_ms)
}

/// An answer as the messages that carry it.
fn answers(fleet: &FleetId, question: &Question, answer: &CommandResult) -> Vec<OutMessage> {
    let topic = Topic::CommandResult(question.database.clone(), question.verb.clone()).to_string(fleet);
    OutMessage::answers(&topic, question, &crate::contract::documents::to_bytes(answer), answer.at.ms())
}
