//! In which stage each step stands, where a node has several instances (reference 4.4): what all share first; then node
//! after node, in each one existing replica at a time, then the primary, after it has handed its role over; then what is
//! inside; then new instances; then what is gone.
//!
//! Invariants: no stage interrupts two instances of a node; the primary is interrupted, or leaves, only after a
//! switchover where another instance can take its role; a scope with one instance has one stage of creates and updates.

use std::collections::{BTreeMap, BTreeSet};

use super::nodes::{Instance, Node, Nodes};
use super::value::{Action, Disruption, Purpose, Reason, Stage, Step};
use crate::model::{Executor, Graph, InstanceId, NodeName, ResourceId};

/// Where steps go.
#[derive(Debug, Default)]
pub(super) struct Layout<'a> {
    /// The steps of an instance; those of all others are in the first stage.
    instances: BTreeMap<&'a InstanceId, usize>,
    /// The steps inside the Postgres of a node.
    contents: BTreeMap<&'a NodeName, usize>,
    switchovers: BTreeMap<usize, Step>,
    /// Primaries that leave and cannot yet, and why.
    pub(super) staying: BTreeMap<&'a InstanceId, String>,
    next: usize,
}

/// The instances that exist and that some step interrupts.
pub(super) fn disturbed<'a>(steps: &[Step], desired: &'a Graph) -> BTreeSet<&'a InstanceId> {
    let disturbing = steps.iter().filter(|step| step.disruption.disrupts());
    let members = disturbing.filter_map(|step| desired.get(&step.resource)?.member.as_ref());
    members.map(|member| &member.instance).collect()
}

impl<'a> Layout<'a> {
    /// The layout of a scope whose steps interrupt `disturbed`. `waits` says whether a resource waits.
    pub(super) fn new(
        nodes: &Nodes<'a>,
        disturbed: &BTreeSet<&'a InstanceId>,
        waits: impl Fn(&ResourceId) -> bool,
    ) -> Self {
        let mut layout = Self { next: 1, ..Self::default() };
        if !nodes.are_several() {
            return layout;
        }
        for node in &nodes.all {
            layout.existing(node, disturbed);
        }
        for node in &nodes.all {
            layout.coming(node, &waits);
        }
        layout
    }

    fn stage(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn place(&mut self, instance: &Instance<'a>) -> usize {
        let stage = self.stage();
        self.instances.insert(&instance.member.instance, stage);
        stage
    }

    /// One after another, the primary last. What interrupts nobody needs no stage of its own.
    fn existing(&mut self, node: &Node<'a>, disturbed: &BTreeSet<&'a InstanceId>) {
        let primary = node.primary();
        let is_primary = |one: &Instance<'_>| primary.is_some_and(|primary| primary.member == one.member);
        let touched = |one: &&Instance<'a>| disturbed.contains(&one.member.instance);
        let mut last = 0;
        for replica in node.there().filter(touched).filter(|one| !is_primary(one)) {
            last = self.place(replica);
        }
        if let Some(primary) = primary {
            let others: Vec<&Instance<'a>> = node.there().filter(|one| one.member != primary.member).collect();
            let touched = primary.desired && touched(&primary);
            let leaves = !primary.desired && node.instances.iter().any(|one| one.desired);
            let able = others.iter().any(|other| node.lacks(other).is_none());
            let stays = |one: &&Instance<'_>| !one.member.drained;
            let spared = primary.member.drained && others.iter().any(|one| stays(one) && node.lacks(one).is_none());
            if ((touched || leaves) && able) || spared {
                let serving = others.into_iter().filter(|one| one.standing.is_some());
                // One whose host is to be left too is no gain.
                let serving: Vec<&Instance<'a>> = serving.filter(|one| !spared || stays(one)).collect();
                self.hand_over(node, primary, (&serving, leaves || !touched));
                // The switchover's stage has nothing else in it.
                last = self.stage();
            } else if leaves && !others.is_empty() {
                let why = others.first().and_then(|other| node.lacks(other)).unwrap_or_default();
                self.staying.insert(&primary.member.instance, why);
            }
            if touched {
                last = self.place(primary);
            }
        }
        if primary.is_none() && node.instances.iter().any(|one| one.desired) {
            // Whoever leaves may be the one that has all of the data.
            for leaving in node.instances.iter().filter(|one| !one.desired && one.exists) {
                self.staying.insert(&leaving.member.instance, format!("no primary of {} is seen", node.name));
            }
        }
        self.contents.insert(node.name, last);
    }

    /// New instances, one after another. The first of a node that has none goes with what all share. What is inside comes
    /// after one that is there already, else after the first that is made.
    fn coming(&mut self, node: &Node<'a>, waits: &impl Fn(&ResourceId) -> bool) {
        let blocked = |one: &Instance<'_>| one.ready.is_some_and(waits);
        let mut coming: Vec<&Instance<'a>> = node.coming().collect();
        let mut reachable = node.there().any(|one| !blocked(one));
        if node.instances.iter().all(|one| !one.exists) && !coming.is_empty() {
            reachable = !blocked(coming.remove(0));
        }
        let mut last = 0;
        for instance in &coming {
            last = self.place(instance);
            if !reachable && !blocked(instance) {
                self.contents.insert(node.name, last);
                reachable = true;
            }
        }
        let leaving = node.primary().filter(|primary| !primary.desired && node.there().next().is_none());
        let Some(primary) = leaving.filter(|_| last > 0) else { return };
        let made: Vec<&Instance<'a>> = coming.into_iter().filter(|one| !blocked(one)).collect();
        if made.is_empty() {
            let why = "no other instance of its node is there yet".to_owned();
            self.staying.insert(&primary.member.instance, why);
        } else {
            self.hand_over(node, primary, (&made, true));
        }
    }

    /// A switchover to one of these; whether its host is left, and not only interrupted.
    fn hand_over(&mut self, node: &Node<'a>, primary: &Instance<'a>, (to, leaves): (&[&Instance<'a>], bool)) {
        let stage = self.stage();
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
        self.switchovers.insert(stage, step);
    }

    /// The stages of these steps.
    pub(super) fn stages(self, steps: Vec<Step>, desired: &Graph) -> Vec<Stage> {
        let places: BTreeMap<ResourceId, usize> =
            steps.iter().map(|step| (step.resource.clone(), self.place_of(step, desired))).collect();
        let mut stages: BTreeMap<usize, Vec<Step>> = BTreeMap::new();
        for mut step in steps {
            let place = places.get(&step.resource).copied().unwrap_or_default();
            step.after.retain(|before| places.get(before) == Some(&place));
            stages.entry(place).or_default().push(step);
        }
        let converge = stages.into_iter().map(|(place, steps)| (place, Stage { purpose: Purpose::Converge, steps }));
        let hand_over = |(place, step)| (place, Stage { purpose: Purpose::Switchover, steps: vec![step] });
        let all: BTreeMap<usize, Stage> = converge.chain(self.switchovers.into_iter().map(hand_over)).collect();
        all.into_values().collect()
    }

    fn place_of(&self, step: &Step, desired: &Graph) -> usize {
        let member = desired.get(&step.resource).and_then(|resource| resource.member.as_ref());
        match (member, &step.executor) {
            (Some(member), _) => self.instances.get(&member.instance).copied().unwrap_or_default(),
            (None, Executor::Primary(node)) => self.contents.get(node).copied().unwrap_or_default(),
            (None, Executor::Host(_) | Executor::Manager) => 0,
        }
    }
}
