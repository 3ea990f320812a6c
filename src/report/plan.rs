//! A plan as a document.

use crate::contract::documents::{self, Counts, PlanDoc, PlanStage, PlanState, PlanStep, PlanWait, Time};
use crate::model::{DatabaseId, Executor, Record};
use crate::plan::{Action, Disruption, Plan, Reason, Step, WaitsFor};

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

fn document(id: &DatabaseId, plan: &Plan, record: Option<&Record>, state: PlanState, now: Time) -> PlanDoc {
    let mut counts = Counts::default();
    for step in plan.steps() {
        let count = match step.action {
            Action::Create => &mut counts.create,
            Action::Update => &mut counts.update,
            Action::Recreate => &mut counts.recreate,
            Action::Delete => &mut counts.delete,
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
        stages: plan.stages.iter().map(|stage| PlanStage { steps: stage.steps.iter().map(step).collect() }).collect(),
        waiting: plan
            .waiting
            .iter()
            .map(|waiting| PlanWait { resource: Some(waiting.resource.to_string()), reason: waits_for(&waiting.on) })
            .collect(),
        updated_at: now,
    }
}

fn waits_for(on: &WaitsFor) -> String {
    let names = |ids: &std::collections::BTreeSet<crate::model::ResourceId>| {
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    match on {
        WaitsFor::Unknown { why } => format!("it cannot be seen: {why}"),
        WaitsFor::Dependencies { on } => format!("it depends on {}", names(on)),
        WaitsFor::Dependents { on } => format!("{} must go first", names(on)),
        WaitsFor::Person { why } => why.clone(),
        WaitsFor::Desired { on } => format!("{} may still use it", names(on)),
    }
}

fn step(step: &Step) -> PlanStep {
    let (reason, detail) = reason(&step.reason);
    PlanStep {
        action: match step.action {
            Action::Create => documents::Action::Create,
            Action::Update => documents::Action::Update,
            Action::Recreate => documents::Action::Recreate,
            Action::Delete => documents::Action::Delete,
        },
        resource: step.resource.to_string(),
        executor: match &step.executor {
            Executor::Host(host) => format!("host {host}"),
            Executor::Primary(node) => format!("primary of {node}"),
            Executor::Manager => "manager".to_owned(),
        },
        reason,
        detail,
        changes: step
            .changes
            .iter()
            .map(|change| documents::Change {
                pointer: change.pointer.clone(),
                from: change.from.clone(),
                to: change.to.clone(),
            })
            .collect(),
        disruption: disruption(step.disruption),
    }
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
