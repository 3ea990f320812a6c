//! The one thing that keeps a database from being as its spec asks: what an operator must know first.
//!
//! Invariant: of several causes the one that the others follow from is told: what a running step waits for, then the
//! step that failed most often, then what the fleet lacks, then what cannot be seen, then what is held.

use super::conditions::Found;
use super::status::{Input, Phase};
use super::trouble::diagnose;
use super::work::Failure;
use super::{hold, left};
use crate::contract::documents::ConditionType;
use crate::plan::{Held, Hold, Plan, WaitsFor};

/// How certain it is that the work stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Something is waited for.
    Waits,
    /// A step failed, and is tried again.
    Failed,
}

/// What keeps the work from its end, if anything does.
pub(super) fn cause(input: &Input<'_>) -> Option<(Standing, Found)> {
    match input.phase {
        Phase::Nothing | Phase::Unreadable => None,
        Phase::Planned { plan, .. } if plan.is_settled() => None,
        Phase::Planned { .. } if input.is_left_behind() => Some((Standing::Waits, left::found(input.left_on))),
        Phase::Planned { plan, failures, .. } => running(input)
            .map(|found| (Standing::Waits, found))
            .or_else(|| worst(plan, failures).map(|found| (Standing::Failed, found)))
            .or_else(|| waiting(input).map(|found| (Standing::Waits, found))),
    }
}

/// A finding of ours: the reason and the hint from the words, where the table of troubles knows them.
#[must_use]
pub fn found(words: &str, otherwise: &str, message: String) -> Found {
    let diagnosis = diagnose(words);
    Found {
        kind: ConditionType::Waiting,
        reason: diagnosis.as_ref().map_or(otherwise, |diagnosis| diagnosis.reason).to_owned(),
        message,
        hint: diagnosis.map(|diagnosis| diagnosis.hint),
    }
}

/// The step that has run longest of those that wait for something.
fn running(input: &Input<'_>) -> Option<Found> {
    let Phase::Planned { work, .. } = input.phase else { return None };
    let waits = work.running.iter().filter(|(_, running)| running.waits_for.is_some());
    let (resource, running) = waits.min_by_key(|(_, running)| running.since)?;
    let words = running.waits_for.as_deref()?;
    Some(found(words, "StepWaits", format!("{resource} waits: {words}")))
}

fn worst(plan: &Plan, failures: &[Failure]) -> Option<Found> {
    // What is no longer in the plan is as desired by now, whoever did it.
    let still = failures.iter().filter(|failure| plan.step(&failure.resource).is_some());
    let worst = still.max_by_key(|failure| failure.attempts)?;
    let message = format!("{}: {} (attempt {})", worst.resource, worst.error, worst.attempts);
    Some(found(&worst.error, "StepFailed", message))
}

/// What the plan waits for: an image that is not there first, since what it holds back cannot be seen; then what else
/// cannot be seen, since the rest often follows from it; then what is held.
fn waiting(input: &Input<'_>) -> Option<Found> {
    let Phase::Planned { plan, held, failures, .. } = input.phase else { return None };
    let unseen = plan.waiting.iter().find(|waiting| matches!(waiting.on, WaitsFor::Unknown { .. }));
    let planned = unseen.or_else(|| plan.waiting.first()).map(|waiting| match &waiting.on {
        WaitsFor::Unknown { why } => found(why, "NotSeen", format!("{} cannot be seen: {why}", waiting.resource)),
        WaitsFor::Person { why } => {
            let message = format!("{} waits for a person: {why}", waiting.resource);
            Found { kind: ConditionType::Waiting, reason: "Person".to_owned(), message, hint: None }
        }
        WaitsFor::Node { why } => {
            let message = format!("{} waits for the other instances of its node: {why}", waiting.resource);
            Found { kind: ConditionType::Waiting, reason: "NodeIsShort".to_owned(), message, hint: None }
        }
        WaitsFor::Dependencies { on } | WaitsFor::Dependents { on } | WaitsFor::Desired { on } => {
            let names: Vec<String> = on.iter().map(ToString::to_string).collect();
            let message = format!("{} waits for {}", waiting.resource, names.join(", "));
            Found { kind: ConditionType::Waiting, reason: "Dependencies".to_owned(), message, hint: None }
        }
    });
    // A fight has a condition of its own.
    let untold = |held: &&Held| !matches!(held.why, Hold::Fight { .. });
    let of_hold = |of: &dyn Fn(&&Held) -> bool| {
        held.iter().filter(of).find_map(|held| hold::told(held, failures)).map(|told| Found {
            kind: ConditionType::Waiting,
            reason: told.reason.to_owned(),
            message: told.message,
            hint: told.hint,
        })
    };
    let of_image = of_hold(&|held| matches!(held.why, Hold::Image { .. }));
    // What the fleet lacks explains why etcd, or what is kept there, cannot be seen.
    let of_fleet = || planned.is_some().then(|| input.fleet.first().cloned()).flatten();
    of_fleet().or(of_image).or(planned.clone()).or_else(|| of_hold(&untold))
}
