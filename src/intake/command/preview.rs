//! `plan` and `decision`: questions, no changes of state. They go to the reconciler on a bounded queue and leave nothing behind.

use tokio::sync::mpsc;

use super::super::{Error, Intake};
use super::{answers, is_new};
use crate::contract::commands::Question;
use crate::contract::documents::{CommandResult, Time};
use crate::contract::faults::{Code, Fault};

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
    pub(super) async fn preview(&self, question: Question) -> Result<(), Error> {
        // The place is taken before the question is remembered: one that finds none may be asked again.
        let Ok(place) = self.previews.0.try_reserve() else {
            let full = Fault::new(Code::Unavailable, "", "too many questions wait for an answer")
                .hint("ask again in a few seconds");
            return self.not_now(&question, full).await;
        };
        let (asked, now_ms) = (question.clone(), self.clock.now_ms());
        if self.store.write(move |writer| is_new(writer, &asked, now_ms)).await? {
            place.send(question);
        }
        Ok(())
    }

    /// Refuses a question that may be asked again.
    async fn not_now(&self, question: &Question, why: Fault) -> Result<(), Error> {
        let answer = CommandResult::accepted(question, Time::from_ms(self.clock.now_ms())).rejected(vec![why]);
        let messages = answers(&self.fleet, question, &answer);
        self.store.write(move |writer| messages.iter().try_for_each(|message| writer.enqueue(message))).await?;
        Ok(())
    }
}
