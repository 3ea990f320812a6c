//! What was seen of nodes that have several instances: which are there, which serve, which is primary, and which of
//! them must not be interrupted now.
//!
//! Invariant: nothing is guessed. Who is not seen to stream close behind the one primary that is seen counts as not
//! there to take over.

use std::collections::{BTreeMap, BTreeSet};

use super::input::Input;
use crate::model::parameters::given_as_much;
use crate::model::{Attributes, InstanceId, Kind, Member, NodeName, Observation, Resource, ResourceId, Standing};

/// Bytes of write-ahead log that a replica may be behind and still take over: beyond Patroni's
/// `maximum_lag_on_failover` it would be refused.
pub const LAG_BYTES_MAX: u64 = 1 << 20;

/// The nodes of a scope, by their turns and ordinals; those that go come last.
#[derive(Debug, Default)]
pub(super) struct Nodes<'a> {
    pub(super) all: Vec<Node<'a>>,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) name: &'a NodeName,
    /// When it is changed; none: it goes.
    pub(super) turn: Option<usize>,
    /// What its configuration gives of the parameters of which a replica must have at least as much as its primary.
    given: BTreeMap<String, u64>,
    /// By their places; those that leave come last.
    pub(super) instances: Vec<Instance<'a>>,
}

/// An instance of a node, desired or leaving.
#[derive(Debug)]
pub(super) struct Instance<'a> {
    pub(super) member: &'a Member,
    /// What its readiness is called.
    pub(super) ready: Option<&'a ResourceId>,
    pub(super) desired: bool,
    /// Whether its service is there, or may be.
    pub(super) exists: bool,
    /// How it stands; none: it is not seen to serve.
    pub(super) standing: Option<&'a Standing>,
}

impl<'a> Nodes<'a> {
    /// The nodes of what is desired and of what leaves.
    pub(super) fn of(input: &Input<'a>) -> Self {
        let mut found: BTreeMap<(&NodeName, &InstanceId), Instance<'a>> = BTreeMap::new();
        let desired = input.desired.in_order().filter_map(|one| Some((&one.id, one.member.as_ref()?, true)));
        let strays = input.observed.strays.iter().filter(|(id, _)| !input.desired.contains(id));
        let strays = strays.filter_map(|(id, stray)| Some((id, stray.member.as_ref()?, false)));
        for (id, member, desired) in desired.chain(strays) {
            let nothing = Instance { member, ready: None, desired, exists: false, standing: None };
            found.entry((&member.node, &member.instance)).or_insert(nothing).see(id, input.observed.resources.get(id));
        }
        let mut nodes: BTreeMap<&NodeName, Vec<Instance<'a>>> = BTreeMap::new();
        for ((name, _), instance) in found {
            nodes.entry(name).or_default().push(instance);
        }
        let nodes = nodes.into_iter().map(|(name, mut instances)| {
            instances.sort_by_key(|instance| instance.member.place);
            let desired = || instances.iter().filter(|one| one.desired);
            let turn = desired().map(|one| one.member.turn).min();
            let given = desired().filter_map(|one| input.desired.get(one.ready?)).find_map(|one| given(input, one));
            Node { name, turn, given: given.unwrap_or_default(), instances }
        });
        let mut all: Vec<Node<'a>> = nodes.collect();
        all.sort_by_key(|node| (node.turn.unwrap_or(usize::MAX), node.name.ordinal()));
        Self { all }
    }

    /// Whether it matters in which order instances are touched.
    pub(super) fn are_several(&self) -> bool {
        self.all.iter().map(|node| node.instances.len()).sum::<usize>() > 1
    }

    /// The instances among `disturbed` that must not be interrupted now, and why.
    pub(super) fn held(&self, disturbed: &BTreeSet<&'a InstanceId>) -> BTreeMap<&'a InstanceId, String> {
        let each = self.all.iter().flat_map(|node| node.instances.iter().map(move |instance| (node, instance)));
        let touched = each.filter(|(_, one)| one.desired && disturbed.contains(&one.member.instance));
        let short = touched.filter_map(|(node, one)| Some((&one.member.instance, node.short_without(one)?)));
        let mut held: BTreeMap<&'a InstanceId, String> = short.collect();
        for node in self.all.iter().filter(|node| node.lowers()) {
            let Some(primary) = node.primary() else { continue };
            let name = &primary.member.instance;
            let goes_first = if primary.desired {
                disturbed.contains(name) && !held.contains_key(name)
            } else {
                node.there().any(|other| node.lacks(other).is_none())
            };
            let others =
                node.there().map(|one| &one.member.instance).filter(|one| *one != name && disturbed.contains(one));
            let why = || format!("a parameter is lowered, which {name} must take first");
            held.extend(others.filter(|_| !goes_first).map(|one| (one, why())));
        }
        held
    }
}

/// What the configuration of an instance gives of the parameters of which a replica must have at least as much.
fn given(input: &Input<'_>, instance: &Resource) -> Option<BTreeMap<String, u64>> {
    instance.dependencies.keys().find_map(|id| {
        let Attributes::PatroniConfig(config) = &input.desired.get(id)?.attributes else { return None };
        Some(given_as_much(&config.parameters))
    })
}

impl<'a> Instance<'a> {
    fn see(&mut self, id: &'a ResourceId, seen: Option<&'a Observation>) {
        match (id.kind, seen) {
            (Kind::Service, Some(Observation::Present(_) | Observation::Unknown { .. })) => self.exists = true,
            (Kind::Instance, seen) => {
                self.ready = Some(id);
                let Some(Observation::Present(present)) = seen else { return };
                self.exists = true;
                let runs = matches!(&present.attributes, Attributes::Instance(instance) if instance.running);
                self.standing = present.standing.as_deref().filter(|_| runs);
            }
            _ => {}
        }
    }
}

impl<'a> Node<'a> {
    /// The one instance that is seen to take writes.
    pub(super) fn primary(&self) -> Option<&Instance<'a>> {
        let mut primaries =
            self.instances.iter().filter(|instance| matches!(instance.standing, Some(Standing::Primary { .. })));
        let first = primaries.next();
        // Two that take writes are none that can be relied on.
        if primaries.next().is_some() { None } else { first }
    }

    /// Whether anything of it is there already.
    pub(super) fn exists(&self) -> bool {
        self.instances.iter().any(|instance| instance.exists)
    }

    /// Whether its primary runs with more than is wanted of something of which a replica must have at least as much. Then a
    /// replica that is restarted first goes on with as much, and waits.
    pub(super) fn lowers(&self) -> bool {
        let Some(Standing::Primary { runs_with, .. }) = self.primary().and_then(|primary| primary.standing) else {
            return false;
        };
        runs_with.iter().any(|(name, runs)| self.given.get(name).is_some_and(|wanted| wanted < runs))
    }

    /// The desired instances that are there already.
    pub(super) fn there(&self) -> impl Iterator<Item = &Instance<'a>> {
        self.instances.iter().filter(|instance| instance.desired && instance.exists)
    }

    /// The desired instances that are yet to be made.
    pub(super) fn coming(&self) -> impl Iterator<Item = &Instance<'a>> {
        self.instances.iter().filter(|instance| instance.desired && !instance.exists)
    }

    /// What keeps an instance from being relied on while another is away; none: it is the primary, or close behind it.
    pub(super) fn lacks(&self, instance: &Instance<'a>) -> Option<String> {
        let name = &instance.member.instance;
        match (self.primary().map(|primary| (primary, primary.standing)), instance.standing) {
            (_, None) => Some(format!("{name} is not seen to serve")),
            (None, _) => Some(format!("no primary of {} is seen", self.name)),
            (Some((primary, _)), Some(_)) if primary.member.instance == *name => None,
            (Some((_, Some(Standing::Primary { streaming, .. }))), Some(_)) => match streaming.get(name) {
                None => Some(format!("{name} does not stream from the primary")),
                Some(lag) if *lag > LAG_BYTES_MAX => Some(format!("{name} is too far behind the primary")),
                Some(_) => None,
            },
            (Some((_, Some(Standing::Replica) | None)), Some(_)) => {
                Some(format!("no primary of {} is seen", self.name))
            }
        }
    }

    /// What would be missing if this instance, which serves, were interrupted: all others that are there must be in
    /// order. One that does not serve may always be mended.
    fn short_without(&self, instance: &Instance<'a>) -> Option<String> {
        instance.standing?;
        self.there().filter(|other| other.member.instance != instance.member.instance).find_map(|one| self.lacks(one))
    }
}
