//! A plan document as text: what stands on the topic, shown as `plan::text` shows a plan, with what it interrupts.

use super::super::output::Style;
use crate::contract::documents::{
    Action, ApprovalState, Change, Disruption, DowntimeBasis, Interruption, PlanDoc, PlanState, PlanStep, Reason,
};
use crate::plan::text::{Shown, ShownStage, ShownStep, text};
use crate::plan::{self, Purpose};

/// The plan, a line for each step and each change.
pub(in crate::cli) fn plan(document: &PlanDoc, style: Style) -> String {
    let stages = document.stages.iter().filter(|stage| !stage.steps.is_empty());
    let shown = Shown {
        title: format!("database {}", document.database),
        stages: stages.map(|stage| self::stage(&stage.steps)).collect(),
        waiting: document
            .waiting
            .iter()
            .map(|wait| (wait.resource.clone().unwrap_or_else(|| "the whole plan".to_owned()), wait.reason.clone()))
            .collect(),
        remarks: remarks(document),
        disruption: disruption(document.disruption),
    };
    text(&shown, style.coloured)
}

fn stage(steps: &[PlanStep]) -> ShownStage {
    let all = |action| steps.iter().all(|step| step.action == action);
    ShownStage {
        purpose: match (all(Action::Delete), all(Action::Switchover)) {
            (true, _) => Purpose::Remove,
            (false, true) => Purpose::Switchover,
            (false, false) => Purpose::Converge,
        },
        steps: steps.iter().map(step).collect(),
    }
}

fn step(step: &PlanStep) -> ShownStep {
    ShownStep {
        action: match step.action {
            Action::Create => plan::Action::Create,
            Action::Recreate => plan::Action::Recreate,
            Action::Update => plan::Action::Update,
            Action::Delete => plan::Action::Delete,
            Action::Switchover => plan::Action::Switchover,
        },
        resource: step.resource.clone(),
        reason: reason(step),
        disruption: disruption(step.disruption),
        changes: step.changes.iter().map(change).collect(),
    }
}

fn disruption(disruption: Disruption) -> plan::Disruption {
    match disruption {
        Disruption::None => plan::Disruption::None,
        Disruption::Reload => plan::Disruption::Reload,
        Disruption::Restart => plan::Disruption::Restart,
        Disruption::Replace => plan::Disruption::Replace,
    }
}

fn change(change: &Change) -> plan::Change {
    plan::Change { pointer: change.pointer.clone(), from: change.from.clone(), to: change.to.clone() }
}

/// The reason in the plan's own words; the names of what was updated stand in the document as one text.
fn reason(step: &PlanStep) -> String {
    let none_named = plan::Reason::DependencyUpdated { by: [].into() };
    match (step.reason, &step.detail) {
        (Reason::DoesNotExist, _) => plan::Reason::DoesNotExist.words(),
        (Reason::NeedsRecreate, _) => plan::Reason::NeedsRecreate.words(),
        (Reason::HasError, Some(error)) => plan::Reason::HasError { error: error.clone() }.words(),
        (Reason::HasError, None) => "has an error".to_owned(),
        (Reason::Forced, _) => plan::Reason::Forced.words(),
        (Reason::DependencyUpdated, Some(by)) => format!("updated: {by}"),
        (Reason::DependencyUpdated, None) => none_named.words(),
        (Reason::HasDiff, _) => plan::Reason::HasDiff.words(),
        (Reason::NotDesired, _) => plan::Reason::NotDesired.words(),
        (Reason::IsInterrupted, _) => plan::Reason::IsInterrupted.words(),
        (Reason::Leaves, _) => plan::Reason::Leaves.words(),
    }
}

/// What is interrupted and for how long, what only shows when it is applied, and what a person may have to say.
fn remarks(document: &PlanDoc) -> Vec<String> {
    let mut lines: Vec<String> = document.interruptions.iter().map(interruption).collect();
    let placed =
        document.placement.iter().flat_map(|placement| placement.hosts.iter().map(|placed| (&placement.node, placed)));
    lines.extend(placed.map(|(node, placed)| format!("{node} on {}: {}", placed.host, placed.reason)));
    lines.extend(document.notes.iter().map(|note| format!("note: {}: {}", note.pointer, note.message)));
    let Some(digest) = &document.approval.digest else {
        if document.approval.state == ApprovalState::Needed {
            lines.push("needs approval once it is applied; the digest shows then".to_owned());
        }
        return lines;
    };
    let command = format!("pgmoor approve {} {}", document.database, digest.short());
    lines.push(match (document.approval.state, document.state) {
        (ApprovalState::NotNeeded, _) => format!("digest {digest}"),
        (ApprovalState::Given, _) => format!("digest {digest}: approved"),
        (ApprovalState::Needed, PlanState::Proposed) => {
            format!("digest {digest}: once it is applied it needs approval: {command}")
        }
        (ApprovalState::Needed, PlanState::Pending | PlanState::Applying | PlanState::Waiting | PlanState::Done) => {
            format!("digest {digest}: waits for approval: {command}")
        }
    });
    lines
}

fn interruption(one: &Interruption) -> String {
    let word = if one.ends { "end" } else { disruption(one.disruption).as_str() };
    let Some(downtime) = &one.downtime else { return format!("{word} of {}: for good", one.what) };
    let basis = match (downtime.basis, downtime.measures) {
        (DowntimeBasis::Assumed, _) => "assumed; none of this database was measured yet".to_owned(),
        (DowntimeBasis::Measured, 1) => "measured once".to_owned(),
        (DowntimeBasis::Measured, measures) => format!("median of {measures} measured"),
    };
    let tenths = downtime.expected_ms.div_ceil(100);
    format!("{word} of {}: about {}.{} s down ({basis})", one.what, tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::documents::{Counts, Downtime, PlanApproval, PlanNote, PlanStage, PlanWait, Time};
    use crate::model::{DatabaseId, Digest};

    fn example(action: Action, resource: &str, reason: Reason, disruption: Disruption) -> PlanStep {
        PlanStep {
            action,
            resource: resource.to_owned(),
            executor: "manager".to_owned(),
            reason,
            detail: None,
            changes: Vec::new(),
            disruption,
            progress: None,
        }
    }

    fn waits(resource: Option<&str>, reason: &str) -> PlanWait {
        PlanWait { resource: resource.map(str::to_owned), reason: reason.to_owned(), since: None, until: None }
    }

    fn document(stages: Vec<Vec<PlanStep>>, waiting: Vec<PlanWait>) -> PlanDoc {
        let disruption = stages.iter().flatten().map(|step| step.disruption).max().unwrap_or_default();
        PlanDoc {
            database: DatabaseId::parse("shop").unwrap(),
            state: PlanState::Proposed,
            digest: Digest::of_bytes(b""),
            spec: None,
            counts: Counts::default(),
            disruption,
            interruptions: Vec::new(),
            approval: PlanApproval::default(),
            notes: Vec::new(),
            placement: Vec::new(),
            stages: stages.into_iter().map(|steps| PlanStage { steps }).collect(),
            waiting,
            updated_at: Time::from_s(0),
        }
    }

    #[test]
    fn every_kind_of_step_has_its_sign() {
        let update = PlanStep {
            changes: vec![
                Change { pointer: "/a".to_owned(), from: Some(1.into()), to: Some(2.into()) },
                Change { pointer: "/b".to_owned(), from: None, to: Some("x\u{1b}".into()) },
                Change { pointer: "/c".to_owned(), from: Some("y".repeat(200).into()), to: None },
                Change { pointer: "/d".to_owned(), from: None, to: None },
            ],
            ..example(Action::Update, "patroni_config::shop:n1", Reason::HasDiff, Disruption::Reload)
        };
        let by = PlanStep {
            detail: Some("service::a".to_owned()),
            ..example(Action::Recreate, "instance::a", Reason::DependencyUpdated, Disruption::None)
        };
        let steps = vec![
            example(Action::Create, "network::shop", Reason::DoesNotExist, Disruption::None),
            update,
            example(Action::Update, "service::a", Reason::HasDiff, Disruption::Replace),
            by,
        ];
        let gone = vec![example(Action::Delete, "role::old", Reason::NotDesired, Disruption::None)];
        let waits = vec![waits(Some("script::s"), "it cannot be seen"), waits(None, "the fleet comes first")];
        let text = plan(&document(vec![steps, gone], waits), Style { coloured: false });
        let expected = format!(
            "database shop

stage 1: create and update
    + network::shop (does not exist)
    ~ patroni_config::shop:n1 (differs) [reload]
          /a: 1 -> 2
          /b: + \"x\\u001b\"
          /c: - \"{}…
          /d: content changed
  -/+ service::a (differs) [replace]
  -/+ instance::a (updated: service::a)

stage 2: delete what is no longer wanted
    - role::old (no longer wanted)

waiting:
    ? script::s: it cannot be seen
    ? the whole plan: the fleet comes first

1 to create, 1 to update, 2 to replace, 1 to delete, 2 waiting; disruption: replace
",
            "y".repeat(119)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_interrupted_is_said_with_what_to_type() {
        let replace = example(Action::Update, "service::a", Reason::HasDiff, Disruption::Replace);
        let one = |what: &str, downtime: Option<Downtime>| Interruption {
            what: what.to_owned(),
            disruption: Disruption::Replace,
            ends: downtime.is_none(),
            downtime,
        };
        let measured = Downtime { expected_ms: 8_420, basis: DowntimeBasis::Measured, measures: 3 };
        let assumed = Downtime { expected_ms: 20_000, basis: DowntimeBasis::Assumed, measures: 0 };
        let mut plan = document(vec![vec![replace]], vec![]);
        plan.interruptions =
            vec![one("instance::a", Some(measured)), one("instance::b", Some(assumed)), one("service::c", None)];
        plan.approval = PlanApproval { state: ApprovalState::Needed, digest: Some(Digest::of_bytes(b"")) };
        plan.notes = vec![PlanNote { pointer: "/port".to_owned(), message: "chosen then".to_owned() }];
        let style = Style { coloured: false };
        let remarks = "
replace of instance::a: about 8.5 s down (median of 3 measured)
replace of instance::b: about 20.0 s down (assumed; none of this database was measured yet)
end of service::c: for good
note: /port: chosen then
digest e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855: once it is applied it needs approval: \
             pgmoor approve shop e3b0c44298fc

0 to create";
        assert!(self::plan(&plan, style).contains(remarks), "{}", self::plan(&plan, style));
        plan.state = PlanState::Pending;
        assert!(self::plan(&plan, style).contains(": waits for approval: pgmoor approve shop e3b0c44298fc\n"));
        plan.approval.state = ApprovalState::Given;
        assert!(self::plan(&plan, style).contains(": approved\n"));
        plan.approval = PlanApproval { state: ApprovalState::Needed, digest: None };
        assert!(self::plan(&plan, style).contains("needs approval once it is applied; the digest shows then\n"));
    }

    #[test]
    fn nothing_to_do_is_said() {
        let style = Style { coloured: false };
        assert_eq!(plan(&document(vec![], vec![]), style), "database shop\n\nnothing to do\n");
        let waits = vec![waits(None, "r")];
        assert!(plan(&document(vec![vec![]], waits), style).ends_with("nothing to do now, 1 waiting\n"));
    }
}
