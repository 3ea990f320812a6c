//! What must hold of a plan for several nodes: those that have turns of their own are changed one after another, and new
//! ones after those that are there.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::nodes::{member, takes_away};
use crate::model::{Executor, Kind, NodeName, Observation};
use crate::plan::input::Input;
use crate::plan::value::{Action, Plan, Purpose, Stage, Step};

/// A node as it was desired and seen.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    turn: usize,
    /// Whether anything of it runs, or may run.
    there: bool,
}

pub(super) fn violations(plan: &Plan, input: &Input<'_>) -> BTreeSet<Violation> {
    let nodes = nodes(input);
    let mut found = BTreeSet::new();
    if nodes.len() < 2 {
        return found;
    }
    let of_work = |stage: &Stage| stage.purpose != Purpose::Remove;
    for (at, stage) in plan.stages.iter().enumerate().filter(|(_, stage)| of_work(stage)) {
        let steps = || stage.steps.iter().filter_map(|step| Some((step, node_of(input, step)?)));
        let interrupted = steps().filter(|(step, _)| takes_away(step) || step.action == Action::Switchover);
        let interrupted: BTreeSet<&NodeName> = interrupted.map(|(_, name)| name).collect();
        let turns = |name: &&NodeName| nodes.get(name).map(|node| node.turn);
        if interrupted.iter().map(turns).collect::<BTreeSet<_>>().len() > 1 {
            found.extend(
                interrupted.first().map(|node| Violation::TwoNodesAtOnce { node: (**node).clone(), stage: at }),
            );
        }
        for name in steps().map(|(_, name)| name) {
            // Nobody whose turn is before it is changed in this stage or later.
            let later = plan.stages.iter().skip(at).filter(|stage| of_work(stage)).flat_map(|stage| &stage.steps);
            let before = |other: &NodeName| matches!((nodes.get(other), nodes.get(name)), (Some(a), Some(b)) if goes_before(*a, *b));
            if later.filter_map(|step| node_of(input, step)).any(before) {
                found.insert(Violation::BeforeItsTurn { node: name.clone(), stage: at });
            }
        }
    }
    found
}

/// Whether one node is done with before another is begun.
fn goes_before(one: Node, other: Node) -> bool {
    match (one.there, other.there) {
        (true, true) => one.turn < other.turn,
        (there, other) => there && !other,
    }
}

/// The node that a step is about, where it is about one.
fn node_of<'a>(input: &Input<'a>, step: &'a Step) -> Option<&'a NodeName> {
    match (member(input, &step.resource), &step.executor) {
        (Some(member), _) => Some(&member.node),
        (None, Executor::Primary(node)) => Some(node),
        (None, Executor::Host(_) | Executor::Manager) => None,
    }
}

/// The nodes that are desired.
fn nodes<'a>(input: &Input<'a>) -> BTreeMap<&'a NodeName, Node> {
    let mut nodes: BTreeMap<&NodeName, Node> = BTreeMap::new();
    for resource in input.desired.in_order() {
        let Some(member) = &resource.member else { continue };
        let node = nodes.entry(&member.node).or_insert(Node { turn: member.turn, there: false });
        node.turn = node.turn.min(member.turn);
    }
    let seen = input.observed.resources.iter();
    for (id, observation) in seen.filter(|(id, _)| matches!(id.kind, Kind::Service | Kind::Instance)) {
        let there = match (id.kind, observation) {
            (_, Observation::Present(_)) | (Kind::Service, Observation::Unknown { .. }) => true,
            (_, Observation::Absent | Observation::Unknown { .. }) => false,
        };
        if let Some(node) = member(input, id).and_then(|member| nodes.get_mut(&member.node)) {
            node.there |= there;
        }
    }
    nodes
}
