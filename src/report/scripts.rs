//! Scripts that ran and were changed afterwards: they run once, so what they say now is not done, and that is said.
//!
//! Invariant: no statement is shown, since one may set a password.

use super::conditions::Found;
use crate::contract::documents::{Condition, ConditionStatus, ConditionType, PlanNote, Status};
use crate::model::{Attributes, Digest, Graph, Observation, Observed};

/// A script, and how its statements stand to those that ran.
struct Script<'a> {
    name: &'a str,
    database: &'a str,
    /// None: it cannot be seen whether it ran, and how.
    changed: Option<bool>,
}

fn scripts<'a>(desired: &'a Graph, observed: &'a Observed) -> impl Iterator<Item = Script<'a>> {
    desired.in_order().filter_map(|resource| {
        let Attributes::Script { database, name, statements: wanted, .. } = &resource.attributes else { return None };
        let changed = match observed.resources.get(&resource.id) {
            Some(Observation::Present(present)) => Some(ran(&present.attributes).is_some_and(|ran| ran != wanted)),
            Some(Observation::Absent) => Some(false),
            Some(Observation::Unknown { .. }) | None => None,
        };
        Some(Script { name, database, changed })
    })
}

fn ran(seen: &Attributes) -> Option<&Digest> {
    if let Attributes::Script { statements, .. } = seen { Some(statements) } else { None }
}

/// The condition of a database one of whose scripts ran with other statements than the spec has now. While that cannot
/// be seen, it is as it was told `before`.
#[must_use]
pub fn condition(desired: &Graph, observed: &Observed, before: impl FnOnce() -> Option<Status>) -> Option<Found> {
    let scripts: Vec<Script<'_>> = scripts(desired, observed).collect();
    if scripts.iter().any(|script| script.changed.is_none()) {
        let mut told = before()?.conditions.into_iter();
        let told = told.find(|told| told.kind == ConditionType::ScriptChanged)?;
        return (told.status == ConditionStatus::True).then(|| again(told));
    }
    let changed: Vec<String> = scripts
        .iter()
        .filter(|script| script.changed == Some(true))
        .map(|script| format!("{} (in database {})", script.name, script.database))
        .collect();
    (!changed.is_empty()).then(|| Found {
        kind: ConditionType::ScriptChanged,
        reason: "RunsOnce".to_owned(),
        message: format!("{} ran with other statements than the spec has now; these are not run", changed.join(", ")),
        hint: Some(HINT.to_owned()),
    })
}

/// What to do about it.
const HINT: &str = "a script runs once: do by hand what shall be different, and put the statements that ran back into the \
                    spec (`pgmoor diff DB A B` says between which specs they changed)";

fn again(told: Condition) -> Found {
    let Condition { kind, reason, message, hint, status: _, since: _ } = told;
    Found { kind, reason, message, hint }
}

/// What a question is told of such scripts.
pub fn notes<'a>(desired: &'a Graph, observed: &'a Observed) -> impl Iterator<Item = PlanNote> + use<'a> {
    scripts(desired, observed).filter(|script| script.changed == Some(true)).map(|script| PlanNote {
        pointer: format!("/scripts/{}", script.name),
        message: "it ran already with other statements, and runs once: these are not run".to_owned(),
    })
}
