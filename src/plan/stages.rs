//! In which stage each step stands, where there are several instances (reference 4.4): what all share first; then node
//! after node in the spec's order, or all nodes at the same time; of each its configuration and what interrupts nobody, one
//! existing replica at a time, then the primary, after it has handed its role over, then what is inside, then new instances;
//! after all nodes those that are new; then what is gone.
//!
//! Invariants: no stage interrupts two instances of a node, or instances of two nodes that have turns of their own; the
//! primary is interrupted, or leaves, only after a switchover where another instance can take its role, except where a
//! parameter is lowered that it must take before its replicas; a scope with one instance has one stage of creates and
//! updates.

use std::collections::{BTreeMap, BTreeSet};

use super::nodes::{Instance, Node, Nodes};
use super::value::{Action, Disruption, Purpose, Reason, Stage, Step};
use crate::model::{Executor, Graph, InstanceId, Member, NodeName, ResourceId};

/// A place in the order of stages. Steps of one place are one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Slot {
    /// The turn of the node.
    turn: usize,
    part: Part,
    /// Of several instances that come one after another.
    index: usize,
}

/// What is done of a node, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Part {
    /// What its instances share, and what interrupts nobody.
    #[default]
    Shared,
    /// The primary, which leaves, hands its role over, and who takes it must take a lowered parameter first.
    FirstSwitchover,
    /// The primary, where it must take a lowered parameter first.
    FirstPrimary,
    /// An existing replica.
    Replica,
    /// The primary hands its role over.
    Switchover,
    /// Who was primary, and what is inside.
    Primary,
    /// A new instance.
    Coming,
    /// The primary, which leaves, hands its role over to one that is new.
    LastSwitchover,
}

/// Where steps go.
#[derive(Debug, Default)]
pub(super) struct Layout<'a> {
    /// When each node is changed.
    turns: BTreeMap<&'a NodeName, usize>,
    /// Of what is no instance's: the one node that needs it.
    owners: BTreeMap<&'a ResourceId, &'a NodeName>,
    /// The steps of an instance; those of all others are in the first stage of their node.
    instances: BTreeMap<&'a InstanceId, Slot>,
    /// The steps inside the Postgres of a node.
    contents: BTreeMap<&'a NodeName, Slot>,
    switchovers: BTreeMap<Slot, Vec<Step>>,
    /// Primaries that leave and cannot yet, and why.
    pub(super) staying: BTreeMap<&'a InstanceId, String>,
}

/// The instances that exist and that some step interrupts.
pub(super) fn disturbed<'a>(steps: &[Step], desired: &'a Graph) -> BTreeSet<&'a InstanceId> {
    let disturbing = steps.iter().filter(|step| step.disruption.disrupts());
    let members = disturbing.filter_map(|step| desired.get(&step.resource)?.member.as_ref());
    members.map(|member| &member.instance).collect()
}

/// When each node is changed, from 0: those that exist by their turns, those that are new after them.
fn turns<'a>(nodes: &Nodes<'a>) -> BTreeMap<&'a NodeName, usize> {
    let existing = || nodes.all.iter().filter(|node| node.exists());
    let all: BTreeSet<usize> = existing().filter_map(|node| node.turn).collect();
    let of = |node: &Node<'_>| {
        let before = if node.exists() { node.turn.unwrap_or(usize::MAX) } else { usize::MAX };
        all.range(..before).count()
    };
    nodes.all.iter().map(|node| (node.name, of(node))).collect()
}

/// What exactly one node needs of what is no instance's.
fn owners(desired: &Graph) -> BTreeMap<&ResourceId, &NodeName> {
    let mut needed: BTreeMap<&ResourceId, BTreeSet<&NodeName>> = BTreeMap::new();
    for resource in desired.in_order().rev() {
        let mut nodes = needed.get(&resource.id).cloned().unwrap_or_default();
        match (&resource.member, &resource.executor) {
            (Some(Member { node, .. }), _) | (None, Executor::Primary(node)) => nodes.extend([node]),
            (None, Executor::Host(_) | Executor::Manager) => {}
        }
        for dependency in resource.dependencies.keys() {
            needed.entry(dependency).or_default().extend(nodes.iter().copied());
        }
    }
    let only = |(id, nodes): (_, BTreeSet<_>)| Some((id, nodes.first().copied().filter(|_| nodes.len() == 1)?));
    needed.into_iter().filter_map(only).collect()
}

impl<'a> Layout<'a> {
    /// The layout of a scope whose steps interrupt `disturbed`. `waits` says whether a resource waits.
    pub(super) fn new(
        nodes: &Nodes<'a>,
        desired: &'a Graph,
        disturbed: &BTreeSet<&'a InstanceId>,
        waits: impl Fn(&ResourceId) -> bool,
    ) -> Self {
        if !nodes.are_several() {
            return Self::default();
        }
        let owners = if nodes.all.len() > 1 { owners(desired) } else { BTreeMap::new() };
        let mut layout = Self { turns: turns(nodes), owners, ..Self::default() };
        for node in &nodes.all {
            layout.existing(node, disturbed);
            layout.coming(node, &waits);
        }
        layout
    }

    fn slot(&self, node: &NodeName, part: Part, index: usize) -> Slot {
        Slot { turn: self.turns.get(node).copied().unwrap_or_default(), part, index }
    }

    /// One after another, the primary last; first where a replica must not have less than it. What interrupts nobody needs
    /// no stage of its own.
    fn existing(&mut self, node: &Node<'a>, disturbed: &BTreeSet<&'a InstanceId>) {
        let primary = node.primary();
        let is_primary = |one: &Instance<'_>| primary.is_some_and(|primary| primary.member == one.member);
        let touched = |one: &&Instance<'a>| disturbed.contains(&one.member.instance);
        let mut last = self.slot(node.name, Part::Shared, 0);
        for (index, replica) in node.there().filter(touched).filter(|one| !is_primary(one)).enumerate() {
            last = self.slot(node.name, Part::Replica, index);
            self.instances.insert(&replica.member.instance, last);
        }
        if let Some(primary) = primary {
            last = last.max(self.primary(node, primary, touched(&primary)));
        }
        if primary.is_none() && node.turn.is_some() {
            // Whoever leaves may be the one that has all of the data.
            for leaving in node.instances.iter().filter(|one| !one.desired && one.exists) {
                self.staying.insert(&leaving.member.instance, format!("no primary of {} is seen", node.name));
            }
        }
        self.contents.insert(node.name, last);
    }

    /// Where the primary stands, and where it hands its role over. Gives the place after which nothing more happens to it.
    fn primary(&mut self, node: &Node<'a>, primary: &Instance<'a>, disturbed: bool) -> Slot {
        let others: Vec<&Instance<'a>> = node.there().filter(|one| one.member != primary.member).collect();
        let touched = primary.desired && disturbed;
        let leaves = !primary.desired && node.turn.is_some();
        let able = others.iter().any(|other| node.lacks(other).is_none());
        let stays = |one: &&Instance<'_>| !one.member.drained;
        let spared = primary.member.drained && others.iter().any(|one| stays(one) && node.lacks(one).is_none());
        let (switchover, in_place) =
            if node.lowers() { (Part::FirstSwitchover, Part::FirstPrimary) } else { (Part::Switchover, Part::Primary) };
        let interrupted = touched && !node.lowers();
        let mut last = Slot::default();
        if ((interrupted || leaves) && able) || spared {
            let serving = others.into_iter().filter(|one| one.standing.is_some());
            // One whose host is to be left too is no gain.
            let serving: Vec<&Instance<'a>> = serving.filter(|one| !spared || stays(one)).collect();
            self.hand_over(node, (primary, switchover), (&serving, leaves || !touched));
            // The switchover's stage has nothing else in it.
            last = self.slot(node.name, in_place, 0);
        } else if leaves && !others.is_empty() {
            let why = others.first().and_then(|other| node.lacks(other)).unwrap_or_default();
            self.staying.insert(&primary.member.instance, why);
        }
        if touched {
            last = self.slot(node.name, in_place, 0);
            self.instances.insert(&primary.member.instance, last);
        }
        last
    }

    /// New instances, one after another. The first of a node that has none goes with what they share. What is inside comes
    /// after one that is there already, else after the first that is made.
    fn coming(&mut self, node: &Node<'a>, waits: &impl Fn(&ResourceId) -> bool) {
        let blocked = |one: &Instance<'_>| one.ready.is_some_and(waits);
        let mut coming: Vec<&Instance<'a>> = node.coming().collect();
        let mut reachable = node.there().any(|one| !blocked(one));
        if !node.exists() && !coming.is_empty() {
            reachable = !blocked(coming.remove(0));
        }
        for (index, instance) in coming.iter().enumerate() {
            let slot = self.slot(node.name, Part::Coming, index);
            self.instances.insert(&instance.member.instance, slot);
            if !reachable && !blocked(instance) {
                self.contents.insert(node.name, slot);
                reachable = true;
            }
        }
        let leaving = node.primary().filter(|primary| !primary.desired && node.there().next().is_none());
        let Some(primary) = leaving.filter(|_| !coming.is_empty()) else { return };
        let made: Vec<&Instance<'a>> = coming.into_iter().filter(|one| !blocked(one)).collect();
        if made.is_empty() {
            let why = "no other instance of its node is there yet".to_owned();
            self.staying.insert(&primary.member.instance, why);
        } else {
            self.hand_over(node, (primary, Part::LastSwitchover), (&made, true));
        }
    }

    /// A switchover to one of these; whether its host is left, and not only interrupted.
    fn hand_over(
        &mut self,
        node: &Node<'a>,
        (primary, part): (&Instance<'a>, Part),
        (to, leaves): (&[&Instance<'a>], bool),
    ) {
        let slot = self.slot(node.name, part, 0);
        let Some(resource) = primary.ready else { return };
        let step = Step {
            resource: resource.clone(),
            action: Action::Switchover,
            executor: Executor::Primary(node.name.clone()),
            reason: if leaves { Reason::Leaves } else { Reason::IsInterrupted },
            changes: Vec::new(),
            disruption: Disruption::Restart,
            after: BTreeSet::new(),
            object: None,
            candidates: to.iter().filter_map(|one| one.ready).cloned().collect(),
        };
        self.switchovers.entry(slot).or_default().push(step);
    }

    /// The stages of these steps.
    pub(super) fn stages(self, steps: Vec<Step>, desired: &Graph) -> Vec<Stage> {
        let places: BTreeMap<ResourceId, Slot> =
            steps.iter().map(|step| (step.resource.clone(), self.place_of(step, desired))).collect();
        let mut stages: BTreeMap<Slot, Vec<Step>> = BTreeMap::new();
        for mut step in steps {
            let place = places.get(&step.resource).copied().unwrap_or_default();
            step.after.retain(|before| places.get(before) == Some(&place));
            stages.entry(place).or_default().push(step);
        }
        let converge = stages.into_iter().map(|(place, steps)| (place, Stage { purpose: Purpose::Converge, steps }));
        let hand_over = |(place, steps)| (place, Stage { purpose: Purpose::Switchover, steps });
        let all: BTreeMap<Slot, Stage> = converge.chain(self.switchovers.into_iter().map(hand_over)).collect();
        all.into_values().collect()
    }

    fn place_of(&self, step: &Step, desired: &Graph) -> Slot {
        let member = desired.get(&step.resource).and_then(|resource| resource.member.as_ref());
        let shared = |node: &NodeName| self.slot(node, Part::Shared, 0);
        match (member, &step.executor) {
            (Some(member), _) => self.instances.get(&member.instance).copied().unwrap_or_else(|| shared(&member.node)),
            (None, Executor::Primary(node)) => self.contents.get(node).copied().unwrap_or_else(|| shared(node)),
            (None, Executor::Host(_) | Executor::Manager) => {
                self.owners.get(&step.resource).map(|node| shared(node)).unwrap_or_default()
            }
        }
    }
}
