//! A bundle's decisions as text: which come out the same, and what follows from them.

use super::super::bundle::replay::{Answer, Shown};
use super::super::output::{Colour, Style, plain};
use crate::contract::documents::DecisionDoc;
use crate::plan::Action;
use crate::plan::decision::{End, Replayed};

/// The steps of a simulated stage that are named one by one.
const STEPS_MAX: usize = 40;

/// All decisions of a bundle.
pub(in crate::cli) fn replay(answer: &Answer, style: Style) -> String {
    let mut text = format!(
        "bundle of fleet {}, written {} by pgmoor {}; decided again by pgmoor {}\n",
        plain(&answer.fleet),
        answer.made_at,
        plain(&answer.written_by),
        answer.decided_by
    );
    for shown in &answer.decisions {
        text.push('\n');
        text.push_str(&decision(shown, style));
    }
    let other = answer.decisions.iter().filter(|shown| !shown.replayed.same()).count();
    let summary = match other {
        0 => style.paint(Colour::Green, "every decision comes out the same"),
        _ => style.paint(Colour::Red, &format!("{other} of {} decisions come out otherwise", answer.decisions.len())),
    };
    format!("{text}\n{summary}\n")
}

fn decision(shown: &Shown, style: Style) -> String {
    let replayed = &shown.replayed;
    let mut text = format!("{}\n", style.paint(Colour::Bold, &title(&shown.told)));
    let (steps, waiting) = (replayed.plan.steps().count(), replayed.plan.waiting.len());
    let plan = match (steps, waiting) {
        (0, 0) => "nothing to do".to_owned(),
        (steps, 0) => format!("{steps} steps"),
        (steps, waiting) => format!("{steps} steps, {waiting} wait"),
    };
    if replayed.differences.is_empty() {
        text.push_str(&format!("  {}: {plan}\n", style.paint(Colour::Green, "the same plan")));
    } else {
        text.push_str(&format!("  {}: {plan}\n", style.paint(Colour::Red, "ANOTHER PLAN")));
        text.push_str(&differences(replayed));
    }
    for violation in &replayed.violations {
        let word = style.paint(Colour::Red, "BREAKS A RULE");
        text.push_str(&format!("  {word}: {}\n", plain(violation)));
    }
    if !shown.told.begun.is_empty() {
        text.push_str(&format!("  {} of them began then\n", shown.told.begun.len()));
    }
    for held in &shown.told.held {
        text.push_str(&format!("  held then: {}: {}\n", plain(&held.resource), plain(&held.why)));
    }
    text.push_str(&journey(replayed));
    text
}

fn title(told: &DecisionDoc) -> String {
    let about = told.database.as_ref().map_or("the fleet's own services".to_owned(), |id| format!("database {id}"));
    let when = match told.number {
        None => format!("asked at {}", told.at),
        Some(_) if told.times > 1 => format!("decided at {}, {} times until {}", told.at, told.times, told.last_at),
        Some(_) => format!("decided at {}", told.at),
    };
    format!("{about}, {when} by pgmoor {}", plain(&told.pgmoor))
}

fn differences(replayed: &Replayed) -> String {
    let mut text = String::new();
    for difference in &replayed.differences {
        text.push_str(&format!(
            "    {}\n      then: {}\n      now:  {}\n",
            plain(&difference.about),
            plain(&difference.then),
            plain(&difference.now)
        ));
        if !difference.fields.is_empty() {
            text.push_str(&format!("      in:   {}\n", plain(&difference.fields.join(", "))));
        }
    }
    text
}

/// What would have come of it, if each step succeeded.
fn journey(replayed: &Replayed) -> String {
    let mut text = String::new();
    for (at, round) in replayed.rounds.iter().enumerate() {
        text.push_str(&format!("  stage {}\n", at + 1));
        for (action, resource) in round.steps.iter().take(STEPS_MAX) {
            text.push_str(&format!("    {} {}\n", sign(*action), plain(resource)));
        }
        if let Some(more) = round.steps.len().checked_sub(STEPS_MAX).filter(|more| *more > 0) {
            text.push_str(&format!("    and {more} more\n"));
        }
    }
    match &replayed.end {
        End::Settled if replayed.rounds.is_empty() => {}
        End::Settled => text.push_str("  then everything is as desired\n"),
        End::Waits { on } => {
            text.push_str("  then it waits\n");
            on.iter().for_each(|one| text.push_str(&format!("    {}\n", plain(one))));
        }
        End::GoesOn => text.push_str("  and it never ends: please report that\n"),
    }
    text
}

/// The signs of `pgmoor plan`.
fn sign(action: Action) -> &'static str {
    match action {
        Action::Create => "+",
        Action::Recreate => "-/+",
        Action::Update => "~",
        Action::Delete => "-",
        Action::Switchover => "<->",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::documents::{HeldStep, Time};
    use crate::model::{DatabaseId, Scope};
    use crate::plan::decision::{Difference, Round};
    use crate::plan::{Plan, Purpose};

    fn told(database: Option<&str>, number: Option<u64>, times: u64) -> DecisionDoc {
        DecisionDoc {
            database: database.map(|id| DatabaseId::parse(id).unwrap()),
            number,
            pgmoor: "0.0.9".to_owned(),
            at: Time::from_ms(0),
            last_at: Time::from_ms(7_000),
            times,
            begun: Vec::new(),
            held: Vec::new(),
            decision: serde_json::Value::Null,
        }
    }

    fn shown(told: DecisionDoc, replayed: Replayed) -> Shown {
        Shown { file: "f".to_owned(), same: replayed.same(), told, replayed }
    }

    fn nothing() -> Replayed {
        let (differences, violations, rounds) = (Vec::new(), Vec::new(), Vec::new());
        Replayed { plan: Plan::empty(Scope::Fleet), differences, violations, rounds, end: End::Settled }
    }

    fn answer(decisions: Vec<Shown>) -> Answer {
        Answer {
            fleet: "harbour".to_owned(),
            made_at: Time::from_ms(0),
            written_by: "0.0.9".to_owned(),
            decided_by: "0.1.0",
            decisions,
        }
    }

    #[test]
    fn what_comes_out_the_same_is_short() {
        let plain = Style { coloured: false };
        let text = replay(&answer(vec![shown(told(Some("shop"), None, 1), nothing())]), plain);
        assert_eq!(
            text,
            "bundle of fleet harbour, written 1970-01-01T00:00:00.000Z by pgmoor 0.0.9; decided again by pgmoor 0.1.0\n\n\
             database shop, asked at 1970-01-01T00:00:00.000Z by pgmoor 0.0.9\n  the same plan: nothing to do\n\n\
             every decision comes out the same\n"
        );
    }

    #[test]
    fn what_comes_out_otherwise_is_told_with_what_follows() {
        let step = |name: &str| (Action::Update, format!("service::{name}"));
        let other = Replayed {
            differences: vec![Difference {
                about: "service::x".to_owned(),
                then: "nothing".to_owned(),
                now: "update, differs (replace)".to_owned(),
                fields: vec!["/step/reason".to_owned()],
            }],
            violations: vec!["it loses\u{1b} rows".to_owned()],
            rounds: vec![Round { purpose: Purpose::Converge, steps: vec![step("x"); STEPS_MAX + 2] }],
            end: End::Waits { on: vec!["instance::x: it cannot be seen".to_owned()] },
            ..nothing()
        };
        let held = vec![HeldStep { resource: "service::y".to_owned(), why: "a halt".to_owned() }];
        let told = DecisionDoc { held, begun: vec!["service::x".to_owned()], ..told(None, Some(3), 4) };
        let text = replay(&answer(vec![shown(told, other)]), Style { coloured: false });
        let steps = "    ~ service::x\n".repeat(STEPS_MAX);
        let wanted = format!(
            "the fleet's own services, decided at 1970-01-01T00:00:00.000Z, 4 times until 1970-01-01T00:00:07.000Z by \
             pgmoor 0.0.9\n  ANOTHER PLAN: nothing to do\n    service::x\n      then: nothing\n      now:  update, differs \
             (replace)\n      in:   /step/reason\n  BREAKS A RULE: it loses  rows\n  1 of them began then\n  held then: \
             service::y: a halt\n  stage 1\n{steps}    and 2 more\n  then it waits\n    instance::x: it cannot be seen\n\n\
             1 of 1 decisions come out otherwise\n"
        );
        assert!(text.ends_with(&wanted), "{text}");
    }
}
