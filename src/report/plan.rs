//! A plan as a document.

use std::collections::BTreeSet;

use serde_json::Value;

use super::status;
use crate::contract::documents::{
    self, ApprovalState, Counts, Downtime, DowntimeBasis, Interruption, PastStep, PlanApproval, PlanDoc, PlanNote,
    PlanStage, PlanState, PlanStep, PlanWait, Time,
};
use crate::model::{DatabaseId, Executor, Record};
use crate::plan::{Action, Change, Disrupted, Disruption, Disruptions, Downtimes, Plan, Reason, Step};

/// The plan as it stands on the `plan` topic: what is being done, or waited for.
#[must_use]
pub fn plan_document(id: &DatabaseId, plan: &Plan, record: Option<&Record>, now: Time) -> PlanDoc {
    let state = if !plan.is_empty() {
        PlanState::Applying
    } else if plan.waiting.is_empty() {
        PlanState::Done
    } else {
        PlanState::Waiting
    };
    document(id, plan, record, state, now)
}

/// The plan as the answer to the question what a spec would change.
#[must_use]
pub fn proposed_plan_document(id: &DatabaseId, plan: &Plan, record: &Record, now: Time) -> PlanDoc {
    document(id, plan, Some(record), PlanState::Proposed, now)
}

/// The document with what the plan interrupts, for how long, and whether a person must approve of it. A plan that waits
/// for an approval is pending.
#[must_use]
pub fn with_interruptions(
    document: PlanDoc,
    disruptions: &Disruptions,
    downtimes: &Downtimes,
    approval: ApprovalState,
) -> PlanDoc {
    let pending = approval == ApprovalState::Needed && document.state != PlanState::Proposed;
    PlanDoc {
        state: if pending { PlanState::Pending } else { document.state },
        interruptions: disruptions.iter().map(|one| interruption(one, downtimes)).collect(),
        approval: PlanApproval { state: approval, digest: (!disruptions.is_empty()).then(|| disruptions.digest()) },
        ..document
    }
}

/// What stands in a plan instead of a port that is chosen when it is applied.
const CHOSEN_AT_APPLY: &str = "chosen at apply";

/// The document of a question without the ports that were only guessed for it: the real ones are chosen when the spec
/// is accepted, so an interruption that leads to one has no digest yet.
#[must_use]
pub fn with_guesses(mut document: PlanDoc, guesses: &BTreeSet<u16>) -> PlanDoc {
    if guesses.is_empty() {
        return document;
    }
    let changes = document.stages.iter_mut().flat_map(|stage| &mut stage.steps).flat_map(|step| &mut step.changes);
    for change in changes.filter(|change| change.pointer == "/ports" || change.pointer.starts_with("/ports/")) {
        if let Some(to) = &mut change.to {
            hide_ports(to, guesses);
        }
    }
    document.approval.digest = None;
    let message = "the port is chosen when the spec is applied, and kept from then on".to_owned();
    document.notes.push(PlanNote { pointer: "/port".to_owned(), message });
    document
}

fn hide_ports(value: &mut Value, guesses: &BTreeSet<u16>) {
    match value {
        Value::Number(number) => {
            let port = number.as_u64().and_then(|number| u16::try_from(number).ok());
            if port.is_some_and(|port| guesses.contains(&port)) {
                *value = Value::from(CHOSEN_AT_APPLY);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|one| hide_ports(one, guesses)),
        Value::Object(map) => map.values_mut().for_each(|one| hide_ports(one, guesses)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn interruption(one: &Disrupted, downtimes: &Downtimes) -> Interruption {
    let expected = downtimes.expected(one.disruption);
    let downtime = Downtime {
        expected_ms: expected.ms,
        basis: if expected.measures > 0 { DowntimeBasis::Measured } else { DowntimeBasis::Assumed },
        measures: u32::try_from(expected.measures).unwrap_or(u32::MAX),
    };
    Interruption {
        what: one.what.to_string(),
        disruption: disruption(one.disruption),
        ends: one.ends(),
        downtime: (!one.ends()).then_some(downtime),
    }
}

fn document(id: &DatabaseId, plan: &Plan, record: Option<&Record>, state: PlanState, now: Time) -> PlanDoc {
    let mut counts = Counts::default();
    for step in plan.steps() {
        let count = match step.action {
            Action::Create => &mut counts.create,
            Action::Update => &mut counts.update,
            Action::Recreate => &mut counts.recreate,
            Action::Delete => &mut counts.delete,
            Action::Switchover => &mut counts.switchover,
        };
        *count += 1;
    }
    PlanDoc {
        database: id.clone(),
        state,
        digest: plan.digest(),
        spec: record.and_then(|record| record.spec.as_ref()).map(|spec| spec.digest.clone()),
        counts,
        disruption: disruption(plan.disruption()),
        interruptions: Vec::new(),
        approval: PlanApproval::default(),
        notes: Vec::new(),
        placement: record.map(status::placement).unwrap_or_default(),
        stages: plan.stages.iter().map(|stage| PlanStage { steps: stage.steps.iter().map(step).collect() }).collect(),
        waiting: plan
            .waiting
            .iter()
            .map(|waiting| PlanWait {
                resource: Some(waiting.resource.to_string()),
                reason: waiting.on.words(),
                since: None,
                until: None,
            })
            .collect(),
        updated_at: now,
    }
}

/// A step that has ended, for the history.
#[must_use]
pub fn past_step(step: &Step, took_ms: u64, error: Option<&str>) -> PastStep {
    PastStep {
        action: action(step.action),
        resource: step.resource.to_string(),
        disruption: disruption(step.disruption),
        took_ms,
        attempts: 1,
        error: error.map(str::to_owned),
    }
}

fn action(action: Action) -> documents::Action {
    match action {
        Action::Create => documents::Action::Create,
        Action::Update => documents::Action::Update,
        Action::Recreate => documents::Action::Recreate,
        Action::Delete => documents::Action::Delete,
        Action::Switchover => documents::Action::Switchover,
    }
}

fn step(step: &Step) -> PlanStep {
    let (reason, detail) = reason(&step.reason);
    PlanStep {
        action: action(step.action),
        resource: step.resource.to_string(),
        executor: match &step.executor {
            Executor::Host(host) => format!("host {host}"),
            Executor::Primary(node) => format!("primary of {node}"),
            Executor::Manager => "manager".to_owned(),
        },
        reason,
        detail,
        changes: changes(&step.changes),
        disruption: disruption(step.disruption),
        progress: None,
    }
}

/// Differences as they stand in documents.
#[must_use]
pub fn changes(changes: &[Change]) -> Vec<documents::Change> {
    let shown = |change: &Change| documents::Change {
        pointer: change.pointer.clone(),
        from: change.from.clone(),
        to: change.to.clone(),
    };
    changes.iter().map(shown).collect()
}

fn reason(reason: &Reason) -> (documents::Reason, Option<String>) {
    match reason {
        Reason::DoesNotExist => (documents::Reason::DoesNotExist, None),
        Reason::NeedsRecreate => (documents::Reason::NeedsRecreate, None),
        Reason::HasError { error } => (documents::Reason::HasError, Some(error.clone())),
        Reason::Forced => (documents::Reason::Forced, None),
        Reason::DependencyUpdated { by } => {
            let names: Vec<String> = by.iter().map(ToString::to_string).collect();
            (documents::Reason::DependencyUpdated, (!names.is_empty()).then(|| names.join(", ")))
        }
        Reason::HasDiff => (documents::Reason::HasDiff, None),
        Reason::NotDesired => (documents::Reason::NotDesired, None),
        Reason::IsInterrupted => (documents::Reason::IsInterrupted, None),
        Reason::Leaves => (documents::Reason::Leaves, None),
    }
}

fn disruption(disruption: Disruption) -> documents::Disruption {
    match disruption {
        Disruption::None => documents::Disruption::None,
        Disruption::Reload => documents::Disruption::Reload,
        Disruption::Restart => documents::Disruption::Restart,
        Disruption::Replace => documents::Disruption::Replace,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_guessed_port_is_not_shown_and_has_no_digest() {
        let change =
            |pointer: &str, to: Value| documents::Change { pointer: pointer.to_owned(), from: None, to: Some(to) };
        let step = PlanStep {
            action: documents::Action::Update,
            resource: "service::a".to_owned(),
            executor: "manager".to_owned(),
            reason: documents::Reason::HasDiff,
            detail: None,
            changes: vec![
                change("/ports/0", json!({"name": "postgres", "target": 5432, "published": 15_999})),
                change("/stop_grace_s", json!(15_999)),
            ],
            disruption: documents::Disruption::Replace,
            progress: None,
        };
        let empty = Plan::empty(crate::model::Scope::Fleet);
        let id = DatabaseId::parse("shop").unwrap();
        let mut document = document(&id, &empty, None, PlanState::Proposed, Time::from_s(0));
        document.stages.push(PlanStage { steps: vec![step] });
        document.approval.digest = Some(crate::model::Digest::of_bytes(b""));
        assert_eq!(with_guesses(document.clone(), &BTreeSet::new()), document);
        let shown = with_guesses(document, &BTreeSet::from([15_999]));
        let changes: Vec<&Value> =
            shown.stages[0].steps[0].changes.iter().filter_map(|change| change.to.as_ref()).collect();
        let port = json!({"name": "postgres", "target": 5432, "published": "chosen at apply"});
        assert_eq!(changes, [&port, &json!(15_999)]);
        assert_eq!((shown.approval.digest, shown.notes.len()), (None, 1));
    }
}
