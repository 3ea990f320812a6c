//! What must hold of a plan for nodes that have several instances: no stage takes two of them away, nobody takes the
//! primary away before its role is handed over, and who needs as much of a parameter as another comes after it.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::model::parameters::given_as_much;
use crate::model::{Attributes, InstanceId, Kind, Member, NodeName, Observation, ResourceId, Standing};
use crate::plan::input::Input;
use crate::plan::value::{Action, Plan, Purpose, Step};

/// The lag that Patroni takes for a switchover (its own default, and what the domain sets).
const LAG_MAX: u64 = 1_048_576;

/// One instance as it was seen.
#[derive(Debug, Default)]
struct One<'a> {
    desired: bool,
    there: bool,
    ready: Option<&'a ResourceId>,
    standing: Option<&'a Standing>,
}

type Node<'a> = BTreeMap<&'a InstanceId, One<'a>>;

pub(super) fn violations(plan: &Plan, input: &Input<'_>) -> BTreeSet<Violation> {
    let nodes = nodes(input);
    let mut found = BTreeSet::new();
    for (at, stage) in plan.stages.iter().enumerate() {
        let mut interrupted: BTreeSet<(&NodeName, &InstanceId)> = BTreeSet::new();
        for step in &stage.steps {
            let Some(member) = member(input, &step.resource) else { continue };
            let Some(node) = nodes.get(&member.node).filter(|node| node.values().any(|one| one.desired)) else {
                continue;
            };
            if step.action == Action::Switchover {
                found.extend(switchover(plan, at, step, node));
            } else if takes_away(step) {
                found.extend(taken_away((plan, input), at, (step, member), node));
            } else {
                continue;
            }
            let one = node.get(&member.instance).is_some_and(|one| one.desired && one.there);
            if one || step.action == Action::Switchover {
                interrupted.insert((&member.node, &member.instance));
            }
        }
        for name in nodes.keys() {
            if interrupted.iter().filter(|(node, _)| node == name).count() > 1 {
                found.insert(Violation::TwoAtOnce { node: (*name).clone(), stage: at });
            }
        }
    }
    found
}

pub(super) fn member<'a>(input: &Input<'a>, id: &ResourceId) -> Option<&'a Member> {
    match input.desired.get(id) {
        Some(resource) => resource.member.as_ref(),
        None => input.observed.strays.get(id)?.member.as_ref(),
    }
}

fn nodes<'a>(input: &Input<'a>) -> BTreeMap<&'a NodeName, Node<'a>> {
    let mut nodes: BTreeMap<&NodeName, Node<'_>> = BTreeMap::new();
    let ids = input.desired.in_order().map(|resource| &resource.id).chain(input.observed.strays.keys());
    for id in ids {
        let Some(member) = member(input, id) else { continue };
        let one = nodes.entry(&member.node).or_default().entry(&member.instance).or_default();
        one.desired |= input.desired.contains(id);
        match (id.kind, input.observed.resources.get(id)) {
            (Kind::Service, Some(Observation::Unknown { .. })) => one.there = true,
            (Kind::Service, Some(Observation::Present(_))) => one.there = true,
            (Kind::Instance, Some(Observation::Present(present))) => {
                one.there = true;
                one.ready = Some(id);
                if matches!(&present.attributes, Attributes::Instance(instance) if instance.running) {
                    one.standing = present.standing.as_deref();
                }
            }
            _ => {}
        }
    }
    nodes
}

pub(super) fn takes_away(step: &Step) -> bool {
    step.disruption.disrupts() || (step.action == Action::Delete && step.resource.kind == Kind::Service)
}

/// The primary, where exactly one is seen, and who streams from it.
fn primary<'a>(node: &Node<'a>) -> Option<(&'a InstanceId, &'a BTreeMap<InstanceId, u64>)> {
    let mut primaries = node.iter().filter_map(|(name, one)| match one.standing {
        Some(Standing::Primary { streaming, .. }) => Some((*name, streaming)),
        Some(Standing::Replica) | None => None,
    });
    let first = primaries.next()?;
    primaries.next().is_none().then_some(first)
}

fn in_order(node: &Node<'_>, name: &InstanceId) -> bool {
    let Some((primary, streaming)) = primary(node) else { return false };
    let serves = node.get(name).is_some_and(|one| one.standing.is_some());
    serves && (primary == name || streaming.get(name).is_some_and(|lag| *lag <= LAG_MAX))
}

fn taken_away(
    (plan, input): (&Plan, &Input<'_>),
    at: usize,
    (step, member): (&Step, &Member),
    node: &Node<'_>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let Some(one) = node.get(&member.instance) else { return found };
    let others = || node.iter().filter(|(name, other)| **name != &member.instance && other.desired && other.there);
    if one.desired && one.standing.is_some() && others().any(|(name, _)| !in_order(node, name)) {
        found.push(Violation::LeavesNodeShort(step.resource.clone()));
    }
    let is_primary = primary(node).is_some_and(|(name, _)| *name == member.instance);
    let before = || plan.stages.iter().take(at).flat_map(|stage| &stage.steps);
    let switchovers = || before().filter(|step| step.action == Action::Switchover);
    let handed_over = || switchovers().any(|step| Some(&step.resource) == one.ready);
    let order = parameters(input, node);
    let in_place = one.desired && order.lowered;
    if is_primary && !in_place && (!one.desired || others().next().is_some()) && !handed_over() {
        found.push(Violation::InterruptsPrimary(step.resource.clone()));
    }
    if !one.desired && one.there && primary(node).is_none() {
        found.push(Violation::LeavesNodeShort(step.resource.clone()));
    }
    let leads =
        |step: &Step| self::member(input, &step.resource).map(|one| &one.instance) == primary(node).map(|one| one.0);
    let primary_before = || before().any(|step| leads(step) && (takes_away(step) || step.action == Action::Switchover));
    if order.lowered && one.desired && one.there && !is_primary && primary(node).is_some() && !primary_before() {
        found.push(Violation::BeforeItsPrimary(step.resource.clone()));
    }
    if order.raised && is_primary && one.desired {
        let after = plan.stages.iter().skip(at + 1).flat_map(|stage| &stage.steps).filter(|step| takes_away(step));
        let mut members = after.filter_map(|step| self::member(input, &step.resource));
        if members.any(|after| others().any(|(name, _)| **name == after.instance)) {
            found.push(Violation::BeforeItsReplicas(step.resource.clone()));
        }
    }
    found
}

/// Whether the primary runs with more, or with less, than is wanted of something of which a replica needs as much. Where
/// some of it is lowered, that decides.
#[derive(Default)]
struct Parameters {
    lowered: bool,
    raised: bool,
}

fn parameters(input: &Input<'_>, node: &Node<'_>) -> Parameters {
    let leads = primary(node).and_then(|(name, _)| node.get(name)).and_then(|one| one.standing);
    let Some(Standing::Primary { runs_with, .. }) = leads else { return Parameters::default() };
    let instances = node.values().filter_map(|one| input.desired.get(one.ready?));
    let mut configs = instances.flat_map(|instance| instance.dependencies.keys()).filter_map(|id| {
        let Attributes::PatroniConfig(config) = &input.desired.get(id)?.attributes else { return None };
        Some(given_as_much(&config.parameters))
    });
    let Some(given) = configs.next() else { return Parameters::default() };
    let differs = |than: fn(&u64, &u64) -> bool| {
        given.iter().any(|(name, wanted)| runs_with.get(name).is_some_and(|runs| than(wanted, runs)))
    };
    let lowered = differs(|wanted, runs| wanted < runs);
    Parameters { lowered, raised: !lowered && differs(|wanted, runs| wanted > runs) }
}

fn switchover(plan: &Plan, at: usize, step: &Step, node: &Node<'_>) -> Option<Violation> {
    let hands_over = primary(node).and_then(|(name, _)| node.get(name)?.ready) == Some(&step.resource);
    let made_before = |candidate: &ResourceId| {
        let before = plan.stages.iter().take(at).flat_map(|stage| &stage.steps);
        before.filter(|step| step.action.establishes()).any(|step| step.resource == *candidate)
    };
    let can_take_over = |candidate: &ResourceId| {
        let seen = node.values().find(|one| one.ready == Some(candidate));
        *candidate != step.resource && (seen.is_some_and(|one| one.desired) || made_before(candidate))
    };
    let stage = plan.stages.get(at).is_some_and(|stage| stage.purpose == Purpose::Switchover);
    let good = stage && hands_over && !step.candidates.is_empty() && step.candidates.iter().all(can_take_over);
    (!good).then(|| Violation::BadSwitchover(step.resource.clone()))
}
