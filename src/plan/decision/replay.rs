//! A decision made again by this planner, and what would have come of it, in the simulated world.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::super::changes;
use super::super::check::check;
use super::super::input::Input;
use super::super::planner::plan;
use super::super::simulate::apply_stage;
use super::super::value::{Action, Plan, Purpose, Waiting};
use super::Decision;
use crate::model::{GraphError, Observed, ResourceId, Scope};

/// Stages that are simulated: a journey has two, and a few for each instance of a node that has several.
const ROUNDS_MAX: usize = 50;

/// What came of deciding again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The plan as it comes out now.
    pub plan: Plan,
    /// Where it is another than it was then; empty: it is the same.
    pub differences: Vec<Difference>,
    /// Rules of safety that the plan breaks; none may.
    pub violations: Vec<String>,
    /// The stages, one after another, as if each step succeeded.
    pub rounds: Vec<Round>,
    /// How the journey ends.
    pub end: End,
}

/// Something that was decided otherwise then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// About what.
    pub about: String,
    /// What was decided then.
    pub then: String,
    /// What is decided now.
    pub now: String,
    /// JSON pointers into the step that differ, when both have one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// A stage as it was simulated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Round {
    /// What it is for.
    pub purpose: Purpose,
    /// What was done, in order.
    pub steps: Vec<(Action, String)>,
}

/// How a simulated journey ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum End {
    /// The world is as desired.
    Settled,
    /// Something waits for what no step brings about.
    Waits {
        /// What, and for what.
        on: Vec<String>,
    },
    /// There is always one more stage: a mistake of the planner.
    GoesOn,
}

impl Replayed {
    /// Whether this planner decides as it was decided then, and safely.
    #[must_use]
    pub fn same(&self) -> bool {
        self.differences.is_empty() && self.violations.is_empty()
    }
}

impl Decision {
    /// Decides again.
    ///
    /// # Errors
    /// What was desired is no graph: the decision was altered.
    pub fn replay(&self) -> Result<Replayed, GraphError> {
        let desired = self.graph()?;
        let input = Input {
            scope: &self.scope,
            desired: &desired,
            observed: &self.observed,
            outcomes: &self.outcomes,
            forced: &self.forced,
        };
        let again = plan(&input);
        let violations = match check(&again, &input) {
            Ok(()) => Vec::new(),
            Err(found) => found.iter().map(ToString::to_string).collect(),
        };
        let (rounds, end) = self.journey(&input, again.clone());
        Ok(Replayed { differences: differences(&self.plan, &again), plan: again, violations, rounds, end })
    }

    /// Does stage after stage, and looks and plans between them, as the daemon does.
    fn journey(&self, input: &Input<'_>, first: Plan) -> (Vec<Round>, End) {
        let (mut world, mut outcomes, mut forced): (Observed, _, _) =
            (self.observed.clone(), self.outcomes.clone(), self.forced.clone());
        let (mut rounds, mut next) = (Vec::new(), first);
        while let Some(stage) = next.stages.first() {
            if rounds.len() == ROUNDS_MAX {
                return (rounds, End::GoesOn);
            }
            apply_stage(stage, input.desired, &mut world, |_| true);
            let done: BTreeSet<&ResourceId> = stage.steps.iter().map(|step| &step.resource).collect();
            outcomes.retain(|id, _| !done.contains(id));
            forced.retain(|id| !done.contains(id));
            let steps = stage.steps.iter().map(|step| (step.action, step.resource.to_string())).collect();
            rounds.push(Round { purpose: stage.purpose, steps });
            next = plan(&Input { observed: &world, outcomes: &outcomes, forced: &forced, ..*input });
        }
        let on: Vec<String> = next.waiting.iter().map(waits).collect();
        (rounds, if on.is_empty() { End::Settled } else { End::Waits { on } })
    }
}

fn waits(waiting: &Waiting) -> String {
    format!("{}: {}", waiting.resource, waiting.on.words())
}

/// What was decided about one resource.
struct Verdict {
    words: String,
    whole: Value,
}

fn differences(then: &Plan, now: &Plan) -> Vec<Difference> {
    if then == now {
        return Vec::new();
    }
    let (before, after) = (verdicts(then), verdicts(now));
    let ids: BTreeSet<&ResourceId> = before.keys().chain(after.keys()).copied().collect();
    let words = |verdict: Option<&Verdict>| verdict.map_or("nothing".to_owned(), |verdict| verdict.words.clone());
    let mut found: Vec<Difference> = ids
        .into_iter()
        .map(|id| (id, before.get(id), after.get(id)))
        .filter(|(_, then, now)| then.map(|verdict| &verdict.whole) != now.map(|verdict| &verdict.whole))
        .map(|(id, then, now)| Difference {
            about: id.to_string(),
            then: words(then),
            now: words(now),
            fields: match (then, now) {
                (Some(then), Some(now)) => fields(&then.whole, &now.whole),
                _ => Vec::new(),
            },
        })
        .collect();
    if found.is_empty() {
        // The same steps in another order, or of another scope.
        let order = |plan: &Plan| {
            let names: Vec<String> = plan.steps().map(|step| step.resource.to_string()).collect();
            format!("{}: {}", scope(&plan.scope), names.join(", "))
        };
        found.push(Difference {
            about: "the order".to_owned(),
            then: order(then),
            now: order(now),
            fields: Vec::new(),
        });
    }
    found
}

fn scope(scope: &Scope) -> String {
    match scope {
        Scope::Fleet => "the fleet".to_owned(),
        Scope::Database(id) => format!("database {id}"),
    }
}

fn fields(then: &Value, now: &Value) -> Vec<String> {
    changes::diff(then, now).into_iter().map(|change| change.pointer).collect()
}

/// What a plan says of each resource that it speaks of.
fn verdicts(plan: &Plan) -> BTreeMap<&ResourceId, Verdict> {
    let steps = plan.stages.iter().flat_map(|stage| stage.steps.iter().map(|step| (stage.purpose, step)));
    let steps = steps.map(|(purpose, step)| {
        let words = format!("{}, {} ({})", action(step.action), step.reason.words(), step.disruption.as_str());
        (&step.resource, Verdict { words, whole: serde_json::json!({"purpose": purpose, "step": step}) })
    });
    let waiting = plan.waiting.iter().map(|waiting| {
        let words = format!("it waits: {}", waiting.on.words());
        (&waiting.resource, Verdict { words, whole: serde_json::json!({"waiting": waiting}) })
    });
    steps.chain(waiting).collect()
}

/// An action as a word.
fn action(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Recreate => "recreate",
        Action::Update => "update",
        Action::Delete => "delete",
        Action::Switchover => "switchover",
    }
}
