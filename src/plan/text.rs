//! A plan as text for people: `+` create, `~` update, `-/+` replace, `-` delete, each with its reason, its changes and
//! what it disturbs.
//!
//! Invariant: the text holds no control characters but line ends and, when asked for, colours: a name or an error
//! from outside cannot steer a terminal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::value::{Action, Change, Disruption, Plan, Purpose, Reason, Step, Waiting, WaitsFor};
use crate::model::{ResourceId, Scope};

/// The longest value that is shown whole, in characters: longer ones would hide the rest of the plan.
const VALUE_CHARS_MAX: usize = 120;

/// The plan as plain text.
#[must_use]
pub fn render(plan: &Plan) -> String {
    Text { out: String::new(), coloured: false }.plan(plan)
}

/// The plan as text with terminal colours.
#[must_use]
pub fn render_coloured(plan: &Plan) -> String {
    Text { out: String::new(), coloured: true }.plan(plan)
}

/// The plan in one line: `1 to create, 2 to update, 0 to replace, 0 to delete; disruption: reload`.
#[must_use]
pub fn summary(plan: &Plan) -> String {
    if plan.is_empty() {
        return match plan.waiting.len() {
            0 => "nothing to do".to_owned(),
            count => format!("nothing to do now, {count} waiting"),
        };
    }
    let count = |mark: Mark| plan.steps().filter(|step| Mark::of(step) == mark).count();
    let mut line = format!(
        "{} to create, {} to update, {} to replace, {} to delete",
        count(Mark::Create),
        count(Mark::Update),
        count(Mark::Replace),
        count(Mark::Delete),
    );
    if !plan.waiting.is_empty() {
        push(&mut line, format_args!(", {} waiting", plan.waiting.len()));
    }
    push(&mut line, format_args!("; disruption: {}", plan.disruption().as_str()));
    line
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Create,
    Update,
    Replace,
    Delete,
}

impl Mark {
    fn of(step: &Step) -> Self {
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

#[derive(Clone, Copy)]
enum Colour {
    Green,
    Yellow,
    Magenta,
    Red,
    Grey,
}

impl Colour {
    /// The SGR code (ECMA-48).
    fn code(self) -> u8 {
        match self {
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Magenta => 35,
            Self::Grey => 90,
        }
    }
}

struct Text {
    out: String,
    coloured: bool,
}

impl Text {
    fn plan(mut self, plan: &Plan) -> String {
        match &plan.scope {
            Scope::Fleet => self.line("fleet"),
            Scope::Database(id) => self.line(&format!("database {id}")),
        }
        for (index, stage) in plan.stages.iter().enumerate() {
            let purpose = match stage.purpose {
                Purpose::Converge => "create and update",
                Purpose::Remove => "delete what is no longer wanted",
            };
            self.line("");
            self.line(&format!("stage {}: {purpose}", index + 1));
            for step in &stage.steps {
                self.step(step);
            }
        }
        if !plan.waiting.is_empty() {
            self.line("");
            self.line("waiting:");
            for waiting in &plan.waiting {
                self.waiting(waiting);
            }
        }
        self.line("");
        self.line(&summary(plan));
        self.out
    }

    fn step(&mut self, step: &Step) {
        let mark = Mark::of(step);
        let sign = self.paint(mark.colour(), &format!("{:>5}", mark.sign()));
        let why = reason(&step.reason);
        let disruption = match step.disruption {
            Disruption::None => String::new(),
            Disruption::Reload | Disruption::Restart | Disruption::Replace => {
                self.paint(Colour::Magenta, &format!(" [{}]", step.disruption.as_str()))
            }
        };
        let name = plain(&step.resource.to_string());
        let why = self.paint(Colour::Grey, &format!("({})", plain(&why)));
        self.line(&format!("{sign} {name} {why}{disruption}"));
        for change in &step.changes {
            self.line(&format!("          {}", self::change(change)));
        }
    }

    fn waiting(&mut self, waiting: &Waiting) {
        let (verb, why) = match &waiting.on {
            WaitsFor::Unknown { why } => ("is unknown", why.clone()),
            WaitsFor::Dependencies { on } => ("waits for what it needs", names(on)),
            WaitsFor::Dependents { on } => ("waits for what needs it", names(on)),
            WaitsFor::Person { why } => ("waits for a person", why.clone()),
            WaitsFor::Desired { on } => ("waits for what may use it", names(on)),
        };
        let sign = self.paint(Colour::Grey, &format!("{:>5}", "?"));
        self.line(&format!("{sign} {} {verb}: {}", plain(&waiting.resource.to_string()), plain(&why)));
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        if self.coloured { format!("\u{1b}[{}m{text}\u{1b}[0m", colour.code()) } else { text.to_owned() }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::DoesNotExist => "does not exist".to_owned(),
        Reason::NeedsRecreate => "needs to be made anew".to_owned(),
        Reason::HasError { error } => format!("has an error: {error}"),
        Reason::Forced => "asked for".to_owned(),
        Reason::DependencyUpdated { by } if by.is_empty() => "what it is made from was updated before".to_owned(),
        Reason::DependencyUpdated { by } => format!("updated: {}", names(by)),
        Reason::HasDiff => "differs".to_owned(),
        Reason::NotDesired => "no longer wanted".to_owned(),
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

fn value(value: &Value) -> String {
    let text = plain(&value.to_string());
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARS_MAX).chain(['…']).collect()
}

fn names(ids: &BTreeSet<ResourceId>) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn push(line: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _infallible = line.write_fmt(text);
}
