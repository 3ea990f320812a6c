//! The history of a database, the difference between two specs, and what is in the trash, as text.

use serde_json::Value;

use super::super::output::{Colour, Style, plain};
use crate::contract::documents::{AcceptedBy, Action, Disruption, HistoryDoc, PastPlan, PastSpec, SpecDiff, Trash};
use crate::model::DatabaseId;

/// The history, oldest first.
pub(in crate::cli) fn history(database: &DatabaseId, history: &HistoryDoc, style: Style) -> String {
    let mut text = format!("{}\n", style.paint(Colour::Bold, &format!("specs of {database}")));
    for spec in &history.specs {
        text.push_str(&format!("  {}\n", past_spec(spec)));
    }
    if history.specs.is_empty() {
        text.push_str("  none is kept\n");
    }
    text.push_str(&format!("{}\n", style.paint(Colour::Bold, "plans")));
    for plan in &history.plans {
        past_plan(plan, style, &mut text);
    }
    if history.plans.is_empty() {
        text.push_str("  none is kept\n");
    }
    if let Some(trash) = &history.trash {
        text.push_str(&in_trash(database, trash));
    }
    text
}

/// That a database is deleted, and what can be done about it.
pub(in crate::cli) fn in_trash(database: &DatabaseId, trash: &Trash) -> String {
    let at = trash.deleted_at;
    if trash.keeps_for_s == 0 {
        return format!("{database} was deleted at {at}; its data is being removed\n");
    }
    let left = span(trash.keeps_for_s);
    format!(
        "{database} was deleted at {at}; its data stays in the trash for another {left}: `pgmoor undelete {database}` \
         brings it back, `pgmoor purge {database}` removes it\n"
    )
}

fn past_spec(spec: &PastSpec) -> String {
    let generation = spec.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string());
    let by = match spec.by {
        AcceptedBy::Publish if spec.deleted => "delete",
        AcceptedBy::Publish => "published",
        AcceptedBy::ClearedTopic => "delete, by a cleared topic",
        AcceptedBy::Undelete => "undelete",
        AcceptedBy::Rollback => "rollback",
        AcceptedBy::Record => "from its record: the store was lost, and with it what was before",
    };
    let (number, digest, at) = (spec.number, spec.digest.short(), spec.at);
    format!("{number:>4}  generation {generation:>4}  {digest}  {at}  {by}")
}

fn past_plan(plan: &PastPlan, style: Style, text: &mut String) {
    let took = match plan.finished_at {
        Some(finished) => format!("took {}", span_ms(finished.ms().saturating_sub(plan.started_at.ms()))),
        None => "not finished".to_owned(),
    };
    let spec = plan.spec.as_ref().map_or("", |digest| digest.short());
    let (at, disruption, count) = (plan.started_at, word(plan.disruption), plan.steps.len());
    text.push_str(&format!("  {at}  {spec}  {count} steps  disruption {disruption}  {took}\n"));
    for step in &plan.steps {
        let sign = match step.action {
            Action::Create => style.paint(Colour::Green, "+"),
            Action::Update if step.disruption != Disruption::Replace => style.paint(Colour::Yellow, "~"),
            Action::Update | Action::Recreate => style.paint(Colour::Red, "-/+"),
            Action::Delete => style.paint(Colour::Red, "-"),
            Action::Switchover => style.paint(Colour::Yellow, "<->"),
        };
        let tries = if step.attempts > 1 { format!(", attempt {}", step.attempts) } else { String::new() };
        let felt =
            if step.disruption == Disruption::None { String::new() } else { format!(" [{}]", word(step.disruption)) };
        let failed = step.error.as_ref().map_or_else(String::new, |error| format!(": {}", plain(error)));
        let took = i64::try_from(step.took_ms).unwrap_or(i64::MAX);
        text.push_str(&format!("      {sign} {}{felt} ({}{tries}){failed}\n", plain(&step.resource), span_ms(took)));
    }
    if plan.steps_left_out > 0 {
        text.push_str(&format!("      and {} more\n", plan.steps_left_out));
    }
}

/// The fields in which two specs differ.
pub(in crate::cli) fn diff(diff: &SpecDiff, style: Style) -> String {
    let mut text = format!("from {}\n  to {}\n", past_spec(&diff.from).trim(), past_spec(&diff.to).trim());
    for change in &diff.changes {
        let value = |value: &Value| plain(&value.to_string());
        let line = match (&change.from, &change.to) {
            (None, Some(to)) => style.paint(Colour::Green, &format!("+ {}: {}", plain(&change.pointer), value(to))),
            (Some(from), None) => style.paint(Colour::Red, &format!("- {}: {}", plain(&change.pointer), value(from))),
            (from, to) => {
                let shown = |side: &Option<Value>| side.as_ref().map_or_else(String::new, value);
                let line = format!("~ {}: {} -> {}", plain(&change.pointer), shown(from), shown(to));
                style.paint(Colour::Yellow, &line)
            }
        };
        text.push_str(&format!("  {line}\n"));
    }
    if diff.changes.is_empty() {
        text.push_str("  they ask for the same\n");
    }
    text
}

fn word(disruption: Disruption) -> &'static str {
    match disruption {
        Disruption::None => "none",
        Disruption::Reload => "reload",
        Disruption::Restart => "restart",
        Disruption::Replace => "replace",
    }
}

/// Seconds in the largest unit that leaves a number of two digits or fewer, rounded up.
fn span(s: u64) -> String {
    match s {
        0..=99 => format!("{s} s"),
        100..=5_999 => format!("{} min", s.div_ceil(60)),
        _ => format!("{} h", s.div_ceil(3600)),
    }
}

fn span_ms(ms: i64) -> String {
    let ms = u64::try_from(ms).unwrap_or(0);
    if ms < 10_000 { format!("{ms} ms") } else { span(ms / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (s, text) in [(0, "0 s"), (99, "99 s"), (100, "2 min"), (259_200, "72 h"), (259_100, "72 h")] {
            assert_eq!(span(s), text);
        }
        assert_eq!((span_ms(-1), span_ms(9_999), span_ms(10_000)), ("0 ms".into(), "9999 ms".into(), "10 s".into()));
    }
}
