//! Deletes: what is ours, there, and not desired goes, each after all that depends on it.
//!
//! Invariants: what could not be seen is not deleted, nor is anything under it; nothing is deleted at a place where
//! something that is desired waits, since that may still use it; what lives inside Postgres is not dropped when its
//! Postgres goes, since the data moves to the trash and comes back whole (rule 4); no plan drops a database.

use std::collections::{BTreeMap, BTreeSet};

use super::disruption;
use super::input::Input;
use super::value::{Action, Reason, Step, Waiting, WaitsFor};
use crate::model::{Executor, InstanceId, Kind, Member, NodeName, Observation, ResourceId, Stray};

/// The last stage, and what cannot be deleted yet.
pub(super) struct Removal {
    pub(super) steps: Vec<Step>,
    pub(super) waiting: Vec<Waiting>,
}

/// Plans the deletes. `held` is what waits among the desired; `staying` are the primaries that cannot leave yet.
pub(super) fn plan(input: &Input<'_>, held: &[Waiting], staying: &BTreeMap<&InstanceId, String>) -> Removal {
    let strays = strays(input);
    let mut removal = Removal { steps: Vec::new(), waiting: Vec::new() };
    if strays.is_empty() {
        return removal;
    }
    let lives_on = input.desired.in_order().any(|resource| resource.id.kind == Kind::Instance);
    let places = places_in_use(input, held);
    let nodes = nodes_that_wait(input, held);
    let dependents = dependents(input, &strays);
    let mut fates: BTreeMap<&ResourceId, Fate> = BTreeMap::new();
    for id in dependents_first(&strays, &dependents) {
        if is_inside_postgres(id.kind) && (!lives_on || depends_on_postgres_that_goes(input, id)) {
            continue;
        }
        let above = dependents.get(id).into_iter().flatten().filter_map(|above| fates.get(above));
        let mut after = BTreeSet::new();
        let mut on = BTreeSet::new();
        for fate in above {
            after.extend(fate.after.iter().cloned());
            on.extend(fate.blocked.iter().cloned());
        }
        let fate = match input.observed.resources.get(id) {
            Some(Observation::Absent) => Fate { after, blocked: on },
            None | Some(Observation::Unknown { .. }) if is_a_state(id.kind) => Fate { after, blocked: on },
            None => removal.wait(id, None, WaitsFor::Unknown { why: "it was not looked at".to_owned() }),
            Some(Observation::Unknown { why }) => removal.wait(id, None, WaitsFor::Unknown { why: why.clone() }),
            Some(Observation::Present(_)) if id.kind == Kind::Database => {
                let why = "dropping a database loses its rows: only a person does that".to_owned();
                removal.wait(id, Some(Action::Delete), WaitsFor::Person { why })
            }
            Some(Observation::Present(present)) => match (input.observed.strays.get(id), on.is_empty()) {
                (None, _) => {
                    removal.wait(id, None, WaitsFor::Unknown { why: "who can delete it is not known".to_owned() })
                }
                (Some(_), false) => removal.wait(id, Some(Action::Delete), WaitsFor::Dependents { on }),
                (Some(stray), true) => {
                    let member = stray.member.as_ref();
                    let stays = member.and_then(|member| staying.get(&member.instance));
                    let at_place = || places.get(&stray.executor).and_then(|users| may_use(users, member));
                    let of_node = || nodes.get(&member?.node).cloned();
                    match (stays, at_place().or_else(of_node)) {
                        (Some(why), _) => removal.wait(id, Some(Action::Delete), WaitsFor::Node { why: why.clone() }),
                        (None, Some(users)) => removal.wait(id, Some(Action::Delete), WaitsFor::Desired { on: users }),
                        (None, None) => removal.delete(id, stray, present.object.clone(), after),
                    }
                }
            },
        };
        fates.insert(id, fate);
    }
    removal
}

/// What was decided for a stray, as those below it must know it.
struct Fate {
    /// Deletes that must come before.
    after: BTreeSet<ResourceId>,
    /// Strays that wait, and so hold what is below.
    blocked: BTreeSet<ResourceId>,
}

impl Removal {
    fn wait(&mut self, id: &ResourceId, action: Option<Action>, on: WaitsFor) -> Fate {
        self.waiting.push(Waiting { resource: id.clone(), action, on });
        Fate { after: BTreeSet::new(), blocked: BTreeSet::from([id.clone()]) }
    }

    fn delete(&mut self, id: &ResourceId, stray: &Stray, object: Option<String>, after: BTreeSet<ResourceId>) -> Fate {
        self.steps.push(Step {
            resource: id.clone(),
            action: Action::Delete,
            executor: stray.executor.clone(),
            reason: Reason::NotDesired,
            changes: Vec::new(),
            disruption: disruption::of_delete(id.kind),
            after,
            object,
            candidates: BTreeSet::new(),
        });
        Fate { after: BTreeSet::from([id.clone()]), blocked: BTreeSet::new() }
    }
}

/// Whether this is a state of something else rather than a thing: what it stands on is seen by itself, so a Postgres
/// that never answers does not keep its service from being deleted.
fn is_a_state(kind: Kind) -> bool {
    match kind {
        Kind::Instance | Kind::Etcd => true,
        Kind::Record
        | Kind::Directory
        | Kind::File
        | Kind::Certificate
        | Kind::Network
        | Kind::Service
        | Kind::EtcdMember
        | Kind::EtcdUser
        | Kind::PatroniConfig
        | Kind::Role
        | Kind::Database
        | Kind::Extension
        | Kind::Script => false,
    }
}

/// Whether things of this kind are part of Postgres' own data.
fn is_inside_postgres(kind: Kind) -> bool {
    match kind {
        Kind::Role | Kind::Database | Kind::Extension | Kind::Script => true,
        Kind::Record
        | Kind::Directory
        | Kind::File
        | Kind::Certificate
        | Kind::Network
        | Kind::Service
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::PatroniConfig
        | Kind::Instance => false,
    }
}

fn depends_on_postgres_that_goes(input: &Input<'_>, id: &ResourceId) -> bool {
    let mut open = vec![id];
    let mut visited = BTreeSet::new();
    while let Some(id) = open.pop() {
        if matches!(id.kind, Kind::Instance | Kind::Service) && still_goes(input, id) {
            return true;
        }
        if visited.insert(id) {
            open.extend(input.observed.strays.get(id).into_iter().flat_map(|stray| &stray.dependencies));
        }
    }
    false
}

/// Whether it is not desired and may still be there.
fn still_goes(input: &Input<'_>, id: &ResourceId) -> bool {
    let gone = match input.observed.resources.get(id) {
        Some(Observation::Present(_) | Observation::Unknown { .. }) => false,
        Some(Observation::Absent) => true,
        None => !input.observed.strays.contains_key(id),
    };
    !input.desired.contains(id) && !gone
}

/// All that is not desired, seen or named as a stray.
fn strays<'a>(input: &Input<'a>) -> BTreeSet<&'a ResourceId> {
    input
        .observed
        .resources
        .keys()
        .chain(input.observed.strays.keys())
        .filter(|id| !input.desired.contains(id))
        .collect()
}

/// What waits at a place, and the instance that each is a part of.
type Users<'a> = BTreeMap<&'a ResourceId, Option<&'a Member>>;

/// Those that may still use what is to be deleted: instances of one node use nothing of another's.
fn may_use(users: &Users<'_>, deleted: Option<&Member>) -> Option<BTreeSet<ResourceId>> {
    let other_node = |user: &Option<&Member>| match (user, deleted) {
        (Some(user), Some(deleted)) => user.node != deleted.node,
        (Some(_) | None, None) | (None, Some(_)) => false,
    };
    let users = users.iter().filter(|(_, user)| !other_node(user)).map(|(id, _)| (*id).clone());
    let users: BTreeSet<ResourceId> = users.collect();
    (!users.is_empty()).then_some(users)
}

/// The executors at which something desired waits, or to which something that waits is bound by a dependency.
fn places_in_use<'a>(input: &Input<'a>, held: &[Waiting]) -> BTreeMap<&'a Executor, Users<'a>> {
    let mut places: BTreeMap<&Executor, Users<'a>> = BTreeMap::new();
    for resource in held.iter().filter_map(|waiting| input.desired.get(&waiting.resource)) {
        let member = resource.member.as_ref();
        places.entry(&resource.executor).or_default().insert(&resource.id, member);
        for dependency in resource.dependencies.keys().filter_map(|id| input.desired.get(id)) {
            if matches!(dependency.executor, Executor::Host(_)) {
                places.entry(&dependency.executor).or_default().insert(&resource.id, member);
            }
        }
    }
    places
}

/// The nodes of which a desired instance waits: what leaves such a node may still be needed.
fn nodes_that_wait<'a>(input: &Input<'a>, held: &[Waiting]) -> BTreeMap<&'a NodeName, BTreeSet<ResourceId>> {
    let mut nodes: BTreeMap<&NodeName, BTreeSet<ResourceId>> = BTreeMap::new();
    let waiting = held.iter().filter(|waiting| matches!(waiting.resource.kind, Kind::Service | Kind::Instance));
    for resource in waiting.filter_map(|waiting| input.desired.get(&waiting.resource)) {
        if let Some(member) = &resource.member {
            nodes.entry(&member.node).or_default().insert(resource.id.clone());
        }
    }
    nodes
}

fn dependents<'a>(
    input: &Input<'a>,
    strays: &BTreeSet<&'a ResourceId>,
) -> BTreeMap<&'a ResourceId, BTreeSet<&'a ResourceId>> {
    let mut dependents: BTreeMap<&ResourceId, BTreeSet<&ResourceId>> = BTreeMap::new();
    for (id, stray) in input.observed.strays.iter().filter(|(id, _)| strays.contains(id)) {
        for dependency in
            stray.dependencies.iter().filter(|dependency| *dependency != id && strays.contains(dependency))
        {
            dependents.entry(dependency).or_default().insert(id);
        }
    }
    dependents
}

/// Each stray after all that depend on it. What was observed is not checked as a graph is: a circle is broken at its
/// smallest id, since something must go first.
fn dependents_first<'a>(
    strays: &BTreeSet<&'a ResourceId>,
    dependents: &BTreeMap<&'a ResourceId, BTreeSet<&'a ResourceId>>,
) -> Vec<&'a ResourceId> {
    let mut left: BTreeMap<&ResourceId, usize> =
        strays.iter().map(|id| (*id, dependents.get(id).map_or(0, BTreeSet::len))).collect();
    let mut below: BTreeMap<&ResourceId, Vec<&ResourceId>> = BTreeMap::new();
    for (dependency, above) in dependents {
        for id in above {
            below.entry(id).or_default().push(dependency);
        }
    }
    let mut ready: BTreeSet<&ResourceId> = left.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    let mut order = Vec::with_capacity(strays.len());
    while let Some(id) = ready.pop_first().or_else(|| left.keys().next().copied()) {
        left.remove(id);
        order.push(id);
        for dependency in below.get(id).into_iter().flatten() {
            if let Some(count) = left.get_mut(dependency) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(dependency);
                }
            }
        }
    }
    order
}
