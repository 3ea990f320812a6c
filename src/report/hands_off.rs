//! A spec that asks to be observed or left alone: how its database stands, and what is said of it.

use super::conditions::Draft;
use super::status::{Input, Phase};
use crate::contract::documents::{ConditionStatus, ConditionType, State};
use crate::model::Health;
use crate::model::spec::Reconcile;

/// What the spec asks for, where it is not repair. A deleted database is taken away whatever its spec asked.
fn asked(input: &Input<'_>) -> Option<Reconcile> {
    let reconcile = input.spec.filter(|_| !input.buried())?.reconcile;
    (reconcile != Reconcile::Repair).then_some(reconcile)
}

/// The steps that are shown and not applied.
fn steps(input: &Input<'_>) -> usize {
    match input.phase {
        Phase::Planned { plan, .. } => plan.steps().count(),
        Phase::Nothing | Phase::Unreadable => 0,
    }
}

/// The state, where it is not that of a database that is worked on.
pub(super) fn state(input: &Input<'_>) -> Option<State> {
    let reconcile = asked(input)?;
    if reconcile == Reconcile::Observe && steps(input) == 0 {
        return None;
    }
    Some(if input.asks_for_more { State::Pending } else { State::Available })
}

/// What takes the place of the conditions of a database that is worked on.
pub(super) fn drafts(input: &Input<'_>) -> Vec<Draft> {
    let Some(reconcile) = asked(input) else { return Vec::new() };
    let steps = steps(input);
    let down = input.instances.iter().find(|instance| instance.health == Health::Down);
    let ready = |status, reason: &str, message: &str| {
        let mut draft = Draft::new(ConditionType::Ready, false, reason, message);
        draft.status = status;
        match down {
            Some(instance) if !input.asks_for_more => {
                let message = format!("{} does not serve", instance.instance);
                Draft::new(ConditionType::Ready, false, "InstanceDown", message)
            }
            Some(_) | None => draft,
        }
    };
    let idle = |reason: &str, message: String| Draft::new(ConditionType::Progressing, false, reason, message);
    let again = "set it to \"repair\" and all of it is done";
    if reconcile == Reconcile::Paused {
        let message = format!("\"reconcile\" is \"paused\": only its health is looked at; {again}");
        let (status, why) = match input.asks_for_more {
            true => (ConditionStatus::False, "the spec asks for what was not done yet, and is paused"),
            false => (ConditionStatus::Unknown, "it is paused: what it is like is not looked at"),
        };
        return vec![
            Draft::new(ConditionType::Paused, true, "AskedFor", message),
            ready(status, "Paused", why),
            idle("Paused", "nothing is done while it is paused".to_owned()),
        ];
    }
    let message = format!("\"reconcile\" is \"observe\": what differs is told and left so; {again}");
    let observed = Draft::new(ConditionType::Observed, true, "AskedFor", message);
    if steps == 0 {
        return vec![observed];
    }
    let (reason, why) = match input.asks_for_more {
        true => ("NotApplied", "the spec asks for what is not done while it is observed; the plan says what"),
        false => ("Drifted", "it differs from the spec and is left so; the plan says how"),
    };
    let word = if steps == 1 { "1 step is".to_owned() } else { format!("{steps} steps are") };
    vec![observed, ready(ConditionStatus::False, reason, why), idle("Observed", format!("{word} shown and not done"))]
}
