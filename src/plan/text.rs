//! A plan as text for people: `+` create, `~` update, `-/+` replace, `-` delete, each with its reason, its changes and
//! what it disturbs.
//!
//! What is shown is [`Shown`], made from a plan here and from a plan's document by the command line, so that both look
//! alike. Invariant: the text holds no control characters but line ends and, when asked for, colours: a name or an error
//! from outside cannot steer a terminal.

use serde_json::Value;

use super::value::{Action, Change, Disruption, Plan, Purpose, Step};
use crate::model::Scope;

/// The longest value that is shown whole, in characters: longer ones would hide the rest of the plan.
const VALUE_CHARS_MAX: usize = 120;

/// What is shown of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// Of what it is.
    pub title: String,
    /// In order.
    pub stages: Vec<ShownStage>,
    /// What waits, and for what.
    pub waiting: Vec<(String, String)>,
    /// Lines before the last, each with its indentation; after an empty line, if there are any.
    pub remarks: Vec<String>,
    /// The worst that any step does.
    pub disruption: Disruption,
}

/// What is shown of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownStage {
    /// What it is for.
    pub purpose: Purpose,
    /// In order.
    pub steps: Vec<ShownStep>,
}

/// What is shown of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownStep {
    /// What it does.
    pub action: Action,
    /// To what.
    pub resource: String,
    /// Why.
    pub reason: String,
    /// What it does to what runs.
    pub disruption: Disruption,
    /// What it changes.
    pub changes: Vec<Change>,
}

impl From<&Plan> for Shown {
    fn from(plan: &Plan) -> Self {
        let step = |step: &Step| ShownStep {
            action: step.action,
            resource: step.resource.to_string(),
            reason: step.reason.words(),
            disruption: step.disruption,
            changes: step.changes.clone(),
        };
        let stages = plan.stages.iter();
        Self {
            title: match &plan.scope {
                Scope::Fleet => "fleet".to_owned(),
                Scope::Database(id) => format!("database {id}"),
            },
            stages: stages
                .map(|stage| ShownStage { purpose: stage.purpose, steps: stage.steps.iter().map(step).collect() })
                .collect(),
            waiting: plan.waiting.iter().map(|one| (one.resource.to_string(), one.on.words())).collect(),
            remarks: Vec::new(),
            disruption: plan.disruption(),
        }
    }
}

/// The plan as plain text.
#[must_use]
pub fn render(plan: &Plan) -> String {
    text(&Shown::from(plan), false)
}

/// What is shown as text, with terminal colours when asked for.
#[must_use]
pub fn text(shown: &Shown, coloured: bool) -> String {
    Text { out: String::new(), coloured }.plan(shown)
}

/// The plan in one line: `1 to create, 2 to update, 0 to replace, 0 to delete; disruption: reload`.
fn summary(shown: &Shown) -> String {
    let steps = || shown.stages.iter().flat_map(|stage| &stage.steps);
    let waiting = shown.waiting.len();
    if steps().next().is_none() {
        return match waiting {
            0 => "nothing to do".to_owned(),
            count => format!("nothing to do now, {count} waiting"),
        };
    }
    let count = |mark: Mark| steps().filter(|step| Mark::of(step) == mark).count();
    let waiting = if waiting == 0 { String::new() } else { format!(", {waiting} waiting") };
    let switchovers = match count(Mark::Switchover) {
        0 => String::new(),
        count => format!(", {count} to hand over"),
    };
    format!(
        "{} to create, {} to update, {} to replace, {} to delete{switchovers}{waiting}; disruption: {}",
        count(Mark::Create),
        count(Mark::Update),
        count(Mark::Replace),
        count(Mark::Delete),
        shown.disruption.as_str(),
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Create,
    Update,
    Replace,
    Delete,
    Switchover,
}

impl Mark {
    fn of(step: &ShownStep) -> Self {
        match step.action {
            Action::Create => Self::Create,
            Action::Recreate => Self::Replace,
            Action::Update if step.disruption == Disruption::Replace => Self::Replace,
            Action::Update => Self::Update,
            Action::Delete => Self::Delete,
            Action::Switchover => Self::Switchover,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Update => "~",
            Self::Replace => "-/+",
            Self::Delete => "-",
            Self::Switchover => "<->",
        }
    }

    fn colour(self) -> Colour {
        match self {
            Self::Create => Colour::Green,
            Self::Update => Colour::Yellow,
            Self::Replace | Self::Switchover => Colour::Magenta,
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
    fn plan(mut self, shown: &Shown) -> String {
        self.line(&plain(&shown.title));
        for (index, stage) in shown.stages.iter().enumerate() {
            let purpose = match stage.purpose {
                Purpose::Converge => "create and update",
                Purpose::Switchover => "hand the primary's role to a replica",
                Purpose::Remove => "delete what is no longer wanted",
            };
            self.line("");
            self.line(&format!("stage {}: {purpose}", index + 1));
            for step in &stage.steps {
                self.step(step);
            }
        }
        if !shown.waiting.is_empty() {
            self.line("");
            self.line("waiting:");
            for (what, why) in &shown.waiting {
                let sign = self.paint(Colour::Grey, &format!("{:>5}", "?"));
                self.line(&format!("{sign} {}: {}", plain(what), plain(why)));
            }
        }
        if !shown.remarks.is_empty() {
            self.line("");
            shown.remarks.iter().for_each(|remark| self.line(&plain(remark)));
        }
        self.line("");
        self.line(&summary(shown));
        self.out
    }

    fn step(&mut self, step: &ShownStep) {
        let mark = Mark::of(step);
        let sign = self.paint(mark.colour(), &format!("{:>5}", mark.sign()));
        let disruption = match step.disruption {
            Disruption::None => String::new(),
            Disruption::Reload | Disruption::Restart | Disruption::Replace => {
                self.paint(Colour::Magenta, &format!(" [{}]", step.disruption.as_str()))
            }
        };
        let why = self.paint(Colour::Grey, &format!("({})", plain(&step.reason)));
        self.line(&format!("{sign} {} {why}{disruption}", plain(&step.resource)));
        for change in &step.changes {
            self.line(&format!("          {}", self::change(change)));
        }
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        if self.coloured { format!("\u{1b}[{}m{text}\u{1b}[0m", colour.code()) } else { text.to_owned() }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
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

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
