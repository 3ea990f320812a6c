//! A plan document as text: the look of `plan::text`, made from what stands on the topic.

use super::super::output::{Colour, Style, plain};
use crate::contract::documents::{Action, Change, Disruption, PlanDoc, PlanStep, Reason};

/// The longest value that is shown whole, in characters (as in `plan::text`).
const VALUE_CHARS_MAX: usize = 120;

/// The plan, a line for each step and each change.
pub(in crate::cli) fn plan(document: &PlanDoc, style: Style) -> String {
    let mut text = format!("database {}\n", document.database);
    for (index, stage) in document.stages.iter().filter(|stage| !stage.steps.is_empty()).enumerate() {
        let removes = stage.steps.iter().all(|step| step.action == Action::Delete);
        let purpose = if removes { "delete what is no longer wanted" } else { "create and update" };
        text.push_str(&format!("\nstage {}: {purpose}\n", index + 1));
        for step in &stage.steps {
            text.push_str(&self::step(step, style));
        }
    }
    if !document.waiting.is_empty() {
        text.push_str("\nwaiting:\n");
        for wait in &document.waiting {
            let what = wait.resource.as_deref().unwrap_or("the whole plan");
            let sign = style.paint(Colour::Grey, "    ?");
            text.push_str(&format!("{sign} {}: {}\n", plain(what), plain(&wait.reason)));
        }
    }
    text.push_str(&format!("\n{}\n", summary(document)));
    text
}

fn step(step: &PlanStep, style: Style) -> String {
    let mark = Mark::of(step);
    let sign = style.paint(mark.colour(), &format!("{:>5}", mark.sign()));
    let why = style.paint(Colour::Grey, &format!("({})", plain(&reason(step))));
    let disruption = match step.disruption {
        Disruption::None => String::new(),
        Disruption::Reload | Disruption::Restart | Disruption::Replace => {
            style.paint(Colour::Magenta, &format!(" [{}]", word(step.disruption)))
        }
    };
    let mut text = format!("{sign} {} {why}{disruption}\n", plain(&step.resource));
    for change in &step.changes {
        text.push_str(&format!("          {}\n", self::change(change)));
    }
    text
}

/// The plan in one line.
fn summary(document: &PlanDoc) -> String {
    let waiting = document.waiting.len();
    if document.is_empty() {
        return match waiting {
            0 => "nothing to do".to_owned(),
            count => format!("nothing to do now, {count} waiting"),
        };
    }
    let steps = || document.stages.iter().flat_map(|stage| &stage.steps);
    let count = |mark: Mark| steps().filter(|step| Mark::of(step) == mark).count();
    let waiting = if waiting == 0 { String::new() } else { format!(", {waiting} waiting") };
    format!(
        "{} to create, {} to update, {} to replace, {} to delete{waiting}; disruption: {}",
        count(Mark::Create),
        count(Mark::Update),
        count(Mark::Replace),
        count(Mark::Delete),
        word(document.disruption),
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Create,
    Update,
    Replace,
    Delete,
}

impl Mark {
    fn of(step: &PlanStep) -> Self {
        match step.action {
            Action::Create => Self::Create,
            Action::Recreate => Self::Replace,
            Action::Update if step.disruption == Disruption::Replace => Self::Replace,
            Action::Update => Self::Update,
            Action::Delete => Self::Delete,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Update => "~",
            Self::Replace => "-/+",
            Self::Delete => "-",
        }
    }

    fn colour(self) -> Colour {
        match self {
            Self::Create => Colour::Green,
            Self::Update => Colour::Yellow,
            Self::Replace => Colour::Magenta,
            Self::Delete => Colour::Red,
        }
    }
}

fn word(disruption: Disruption) -> &'static str {
    match disruption {
        Disruption::None => "none",
        Disruption::Reload => "reload",
        Disruption::Restart => "restart",
        Disruption::Replace => "replace",
    }
}

fn reason(step: &PlanStep) -> String {
    let detail = step.detail.as_deref();
    match (step.reason, detail) {
        (Reason::DoesNotExist, _) => "does not exist".to_owned(),
        (Reason::NeedsRecreate, _) => "needs to be made anew".to_owned(),
        (Reason::HasError, Some(error)) => format!("has an error: {error}"),
        (Reason::HasError, None) => "has an error".to_owned(),
        (Reason::Forced, _) => "asked for".to_owned(),
        (Reason::DependencyUpdated, Some(by)) => format!("updated: {by}"),
        (Reason::DependencyUpdated, None) => "what it is made from was updated before".to_owned(),
        (Reason::HasDiff, _) => "differs".to_owned(),
        (Reason::NotDesired, _) => "no longer wanted".to_owned(),
    }
}

fn change(change: &Change) -> String {
    let pointer = plain(&change.pointer);
    match (&change.from, &change.to) {
        (None, None) => format!("{pointer}: content changed"),
        (None, Some(to)) => format!("{pointer}: + {}", value(to)),
        (Some(from), None) => format!("{pointer}: - {}", value(from)),
        (Some(from), Some(to)) => format!("{pointer}: {} -> {}", value(from), value(to)),
    }
}

fn value(value: &serde_json::Value) -> String {
    let text = plain(&value.to_string());
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::documents::{Counts, PlanStage, PlanState, PlanWait, Time};
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
        }
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
        let waits = vec![
            PlanWait { resource: Some("script::s".to_owned()), reason: "it cannot be seen".to_owned() },
            PlanWait { resource: None, reason: "the fleet comes first".to_owned() },
        ];
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
    fn nothing_to_do_is_said() {
        let style = Style { coloured: false };
        assert_eq!(plan(&document(vec![], vec![]), style), "database shop\n\nnothing to do\n");
        let waits = vec![PlanWait { resource: None, reason: "r".to_owned() }];
        assert!(plan(&document(vec![vec![]], waits), style).ends_with("nothing to do now, 1 waiting\n"));
    }
}
