//! Commands: requests that people send while they listen for the answer.
//!
//! `plan` is a question, not a change of state: it goes to the reconciler on a bounded queue and leaves nothing behind.

use tokio::sync::mpsc;

use super::{Arrival, Error, Intake};
use crate::contract::commands::{self, Command, Question};
use crate::contract::documents::{CommandOutcome, CommandResult, Time};
use crate::contract::faults::{Code, Fault};
use crate::contract::topics::{Topic, Verb};
use crate::model::{DatabaseId, Digest};
use crate::store::OutMessage;

/// How many questions may wait: each takes a look at the world. More are answered with a fault.
const PREVIEWS_MAX: usize = 32;

/// Where questions wait for the reconciler.
#[derive(Debug, Clone)]
pub struct PreviewQueue(mpsc::Sender<Question>);

impl PreviewQueue {
    /// A queue and its other end.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Question>) {
        let (sender, receiver) = mpsc::channel(PREVIEWS_MAX);
        (Self(sender), receiver)
    }
}

impl Intake {
    pub(super) async fn command(&self, id: &DatabaseId, verb: &Verb, arrival: &Arrival) -> Result<(), Error> {
        if arrival.retained && arrival.payload.is_empty() {
            return Ok(());
        }
        let question = Question {
            database: id.clone(),
            payload: arrival.payload.clone(),
            correlation: arrival.correlation.clone(),
            response_topic: arrival.response_topic.clone(),
        };
        if let Some(correlation) = &arrival.correlation {
            let name = Digest::of_bytes(correlation);
            let (key, now_ms) = (format!("{id}/{}/{name}", verb.as_str()), self.clock.now_ms());
            if !self.store.write(move |writer| writer.command_is_new(&key, now_ms)).await? {
                return Ok(());
            }
        }
        let faults = match commands::parse(verb, arrival.retained) {
            Ok(Command::Plan) => match self.previews.0.try_send(question.clone()) {
                Ok(()) => return Ok(()),
                Err(_full) => vec![
                    Fault::new(Code::Unavailable, "", "too many questions wait for an answer")
                        .hint("ask again in a few seconds"),
                ],
            },
            Err(faults) => faults,
        };
        let now_ms = self.clock.now_ms();
        let answer = CommandResult {
            database: id.clone(),
            verb: verb.as_str().to_owned(),
            request: Digest::of_bytes(&arrival.payload),
            correlation_id: question.correlation_id(),
            result: CommandOutcome::Rejected,
            faults,
            plan: None,
            task: None,
            at: Time::from_ms(now_ms),
        };
        let payload = serde_json::to_vec(&answer).unwrap_or_default();
        let topic = Topic::CommandResult(id.clone(), verb.clone()).to_string(&self.fleet);
        let answers = OutMessage::answers(&topic, &question, &payload, now_ms);
        self.store.write(move |writer| answers.iter().try_for_each(|answer| writer.enqueue(answer))).await?;
        Ok(())
    }
}
