//! Waiting until a published spec has become the world, or was refused.
//!
//! Invariant: only what the controller says about *this* payload counts, known by its digest; what stood on the topic
//! before the publish counts only when a controller is online and has nothing new to say.

use std::time::Duration;

use super::link::{Follow, Link, nobody_online};
use super::output::Style;
use super::{Context, Error, Out, render};
use crate::contract::documents::{
    Condition, ConditionStatus, ConditionType, Event, EventType, State, Status, VerdictResult,
};
use crate::contract::topics::Topic;
use crate::model::{DatabaseId, Digest};

/// How long a controller that is online may take until it says something new. It judges a spec within a second.
const GRACE: Duration = Duration::from_secs(5);

/// What is waited for.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    pub(super) database: DatabaseId,
    /// The digest of the payload that was published.
    pub(super) digest: Digest,
    /// Whether it asks for the deletion of the database.
    pub(super) deletes: bool,
}

/// Where the world stands on the way to the goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The status is about another spec.
    Elsewhere,
    Underway,
    Reached,
    Rejected,
    /// It is a delete, and too many came at once.
    Held,
}

/// How the waiting ended, with the last status that told it.
#[derive(Debug)]
pub(super) enum Ended {
    /// The status is none when the topic was cleared: the database is gone.
    Reached(Option<Box<Status>>),
    Rejected(Box<Status>),
    /// The delete waits for a person.
    Held(Box<Status>),
    /// With the last status about the payload, if there was one.
    TimedOut(Option<Box<Status>>),
}

fn judge(goal: &Goal, status: &Status) -> Standing {
    let judged = status.verdict.as_ref().filter(|verdict| verdict.digest == goal.digest);
    if judged.is_some_and(|verdict| verdict.result == VerdictResult::Rejected) {
        return Standing::Rejected;
    }
    let held = |condition: &Condition| {
        condition.kind == ConditionType::DeletionHeld && condition.status == ConditionStatus::True
    };
    if goal.deletes && status.conditions.iter().any(held) {
        return Standing::Held;
    }
    let observed = status.observed.as_ref().is_some_and(|observed| observed.digest == goal.digest);
    if judged.is_none() && !observed {
        return Standing::Elsewhere;
    }
    let wanted = if goal.deletes { State::Deleted } else { State::Available };
    // A status may tell the verdict before it is about the spec: the state is then the old spec's.
    if status.state == wanted && (observed || goal.deletes) { Standing::Reached } else { Standing::Underway }
}

/// Follows one database. It is made before the publish, so that it misses nothing.
pub(super) struct Waiter {
    goal: Goal,
    follow: Follow,
    /// What stood on the status topic before the publish.
    before: Option<Vec<u8>>,
    /// What was last said to the person who waits.
    said: String,
}

impl Waiter {
    pub(super) async fn start(context: &Context<'_>, goal: Goal) -> Result<Self, Error> {
        let fleet = &context.options.fleet;
        let status = Topic::Status(goal.database.clone()).to_string(fleet);
        let events = Topic::Events(goal.database.clone()).to_string(fleet);
        let (follow, mut retained) = Follow::start(context, vec![status.clone(), events]).await?;
        Ok(Self { goal, follow, before: retained.remove(&status), said: String::new() })
    }

    pub(super) fn link(&self) -> &Link {
        self.follow.link()
    }

    /// Whether the database had a status.
    pub(super) fn known(&self) -> bool {
        self.before.is_some()
    }

    pub(super) async fn close(self) {
        self.follow.close().await;
    }

    /// Waits, and says on the way what happens.
    pub(super) async fn run(&mut self, context: &Context<'_>, limit: Duration, out: &mut Out) -> Result<Ended, Error> {
        let start = context.clock.monotonic();
        let mut last = None;
        let mut silent = true;
        loop {
            let passed = context.clock.monotonic().saturating_sub(start);
            let until = if silent { GRACE.min(limit) } else { limit };
            let Some(message) = self.follow.next(context, until.saturating_sub(passed), out).await? else {
                if !silent || limit <= GRACE {
                    return Ok(Ended::TimedOut(last));
                }
                silent = false;
                if let Some(ended) = self.unchanged(context, out).await? {
                    return Ok(ended);
                }
                continue;
            };
            match Topic::parse(&context.options.fleet, &message.topic) {
                Some(Topic::Events(_)) => self.step(&message.payload, out),
                Some(Topic::Status(_)) if Some(&message.payload) != self.before.as_ref() => {
                    silent = false;
                    if let Some(ended) = self.status(&message.payload, &mut last, out)? {
                        return Ok(ended);
                    }
                }
                Some(_) | None => {}
            }
        }
    }

    /// Nothing new came for a while: either nothing is there to be done, or nobody is there to do it.
    async fn unchanged(&self, context: &Context<'_>, out: &mut Out) -> Result<Option<Ended>, Error> {
        let controllers = self.link().controllers(context).await?;
        if let Some(note) = nobody_online(context, self.link().server(), &controllers) {
            out.note(&format!("{note}; waiting for one"));
            return Ok(None);
        }
        let Some(status) = self.before.as_deref().and_then(|payload| serde_json::from_slice::<Status>(payload).ok())
        else {
            return Ok(self.goal.deletes.then_some(Ended::Reached(None)));
        };
        Ok(match judge(&self.goal, &status) {
            Standing::Reached => Some(Ended::Reached(Some(Box::new(status)))),
            Standing::Rejected => Some(Ended::Rejected(Box::new(status))),
            Standing::Held => Some(Ended::Held(Box::new(status))),
            Standing::Elsewhere | Standing::Underway => None,
        })
    }

    fn status(
        &mut self,
        payload: &[u8],
        last: &mut Option<Box<Status>>,
        out: &mut Out,
    ) -> Result<Option<Ended>, Error> {
        if payload.is_empty() {
            return Ok(self.goal.deletes.then_some(Ended::Reached(None)));
        }
        let status: Box<Status> = serde_json::from_slice(payload)
            .map_err(|error| Error::Unreadable { topic: "status".to_owned(), why: error.to_string() })?;
        match judge(&self.goal, &status) {
            Standing::Elsewhere => Ok(None),
            Standing::Reached => Ok(Some(Ended::Reached(Some(status)))),
            Standing::Rejected => Ok(Some(Ended::Rejected(status))),
            Standing::Held => Ok(Some(Ended::Held(status))),
            Standing::Underway => {
                let (time, what) = render::progress(&status);
                if what != self.said {
                    out.note(&format!("{time}  {what}"));
                    self.said = what;
                }
                *last = Some(status);
                Ok(None)
            }
        }
    }

    /// Steps are what a person waits for; other events say what the status says too.
    fn step(&self, payload: &[u8], out: &mut Out) {
        let Ok(event) = serde_json::from_slice::<Event>(payload) else { return };
        match event.kind {
            EventType::StepFinished | EventType::StepFailed => {
                out.note(render::event(&event, Style { coloured: false }).trim_end());
            }
            EventType::SpecAccepted
            | EventType::SpecRejected
            | EventType::StateChanged
            | EventType::HealthChanged
            | EventType::PrimaryChanged
            | EventType::PlacementChanged
            | EventType::DriftFound
            | EventType::FleetHalted
            | EventType::FleetResumed
            | EventType::ForeignWrite
            | EventType::DriftFight
            | EventType::DeletionHeld
            | EventType::Purged
            | EventType::ImageArrived
            | EventType::ReplayIgnored => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn digest(text: &str) -> String {
        Digest::of_bytes(text.as_bytes()).to_string()
    }

    fn check(deletes: bool, state: &str, observed: Option<&str>, verdict: Option<(&str, &str)>, expected: Standing) {
        let database = DatabaseId::parse("shop").unwrap();
        let goal = Goal { database, digest: Digest::of_bytes(b"ours"), deletes };
        let mut status = json!({
            "database": "shop", "state": state, "conditions": [], "instances": [], "seq": 1, "epoch": 1,
            "updated_at": "2026-01-01T00:00:00Z",
        });
        if let Some(text) = observed {
            status["observed"] = json!({"digest": digest(text)});
        }
        if let Some((text, result)) = verdict {
            status["verdict"] = json!({
                "digest": digest(text), "result": result, "faults": Value::Array(vec![]), "at": "2026-01-01T00:00:00Z",
            });
        }
        let status: Status = serde_json::from_value(status).unwrap();
        assert_eq!(judge(&goal, &status), expected, "{deletes} {state} {observed:?} {verdict:?}");
    }

    #[test]
    fn only_what_is_said_about_ours_counts() {
        use Standing::{Elsewhere, Reached, Rejected, Underway};
        let yes = Some(("ours", "accepted"));
        check(false, "available", None, None, Elsewhere);
        check(false, "available", Some("old"), Some(("old", "accepted")), Elsewhere);
        check(false, "available", Some("old"), Some(("other", "rejected")), Elsewhere);
        check(false, "available", Some("old"), Some(("ours", "rejected")), Rejected);
        check(false, "rejected", None, Some(("ours", "rejected")), Rejected);
        check(false, "available", Some("old"), yes, Underway);
        check(false, "creating", Some("ours"), yes, Underway);
        check(false, "failed", Some("ours"), yes, Underway);
        check(false, "available", Some("ours"), yes, Reached);
        check(false, "available", Some("ours"), Some(("later", "rejected")), Reached);
        check(true, "available", Some("ours"), yes, Underway);
        check(true, "deleting", Some("ours"), yes, Underway);
        check(true, "deleted", Some("ours"), yes, Reached);
        check(true, "deleted", None, yes, Reached);
        check(true, "available", Some("old"), Some(("ours", "rejected")), Rejected);
    }
}
