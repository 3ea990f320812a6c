//! The world as it would be if steps succeeded: for previews and for stating properties of plans.
//!
//! Invariant: it decides nothing. A step makes its resource what is desired, or takes it away.

use std::collections::BTreeMap;

use super::value::{Action, Plan, Stage, Step};
use crate::model::parameters::given_as_much;
use crate::model::{
    Attributes, Digest, Graph, InstanceId, Kind, Member, Observation, Observed, Present, ResourceId, Standing,
};

/// The world after all stages of a plan.
#[must_use]
pub fn apply(plan: &Plan, desired: &Graph, observed: &Observed) -> Observed {
    let mut world = observed.clone();
    for stage in &plan.stages {
        apply_stage(stage, desired, &mut world, |_| true);
    }
    world
}

/// Runs a stage in `world`. `succeeds` says whether a step succeeds; one whose predecessors did not all succeed is
/// not tried. Gives the steps that were tried and failed.
pub fn apply_stage<'a>(
    stage: &'a Stage,
    desired: &Graph,
    world: &mut Observed,
    mut succeeds: impl FnMut(&Step) -> bool,
) -> Vec<&'a Step> {
    let mut undone: Vec<&ResourceId> = Vec::new();
    let mut failed = Vec::new();
    for step in &stage.steps {
        if step.after.iter().any(|id| undone.contains(&id)) {
            undone.push(&step.resource);
        } else if succeeds(step) {
            run(step, desired, world);
        } else {
            undone.push(&step.resource);
            failed.push(step);
        }
    }
    failed
}

fn run(step: &Step, desired: &Graph, world: &mut Observed) {
    match step.action {
        Action::Create | Action::Recreate | Action::Update => {
            let Some(resource) = desired.get(&step.resource) else { return };
            let mut present = Present::new(as_seen(&resource.attributes));
            if step.resource.kind == Kind::Instance {
                present.standing = joined(&step.resource, desired, world).map(Box::new);
            }
            if carries_its_digest(step.resource.kind) {
                present.applied = desired.digest(&step.resource).cloned();
                present.object = Some(format!("object-{}", Digest::of(&step.resource).short()));
            }
            world.resources.insert(step.resource.clone(), Observation::Present(present));
        }
        Action::Delete => {
            world.resources.remove(&step.resource);
            world.strays.remove(&step.resource);
        }
        Action::Switchover => hand_over(step, desired, world),
    }
}

/// The instances of a node other than one, as they are seen.
fn others<'a>(
    of: &Member,
    desired: &Graph,
    world: &'a mut Observed,
) -> impl Iterator<Item = (InstanceId, &'a mut Present)> {
    let Observed { resources, strays } = world;
    let members: BTreeMap<ResourceId, InstanceId> = desired
        .in_order()
        .filter_map(|resource| Some((&resource.id, resource.member.as_ref()?)))
        .chain(strays.iter().filter_map(|(id, stray)| Some((id, stray.member.as_ref()?))))
        .filter(|(id, member)| id.kind == Kind::Instance && member.node == of.node && member.instance != of.instance)
        .map(|(id, member)| (id.clone(), member.instance.clone()))
        .collect();
    resources.iter_mut().filter_map(move |(id, observation)| match observation {
        Observation::Present(present) => Some((members.get(id)?.clone(), present)),
        Observation::Absent | Observation::Unknown { .. } => None,
    })
}

/// How an instance stands that came up: as it did, else as a replica that has caught up, else as the primary.
fn joined(id: &ResourceId, desired: &Graph, world: &mut Observed) -> Option<Standing> {
    let member = desired.get(id)?.member.as_ref()?;
    if let Some(Observation::Present(Present { standing: Some(standing), .. })) = world.resources.get(id) {
        return Some(match standing.as_ref().clone() {
            // It was started anew.
            Standing::Primary { streaming, .. } => Standing::Primary { streaming, runs_with: given(id, desired) },
            Standing::Replica => Standing::Replica,
        });
    }
    for (_, other) in others(member, desired, world) {
        if let Some(Standing::Primary { streaming, .. }) = other.standing.as_deref_mut() {
            streaming.insert(member.instance.clone(), 0);
            return Some(Standing::Replica);
        }
    }
    Some(Standing::Primary { streaming: BTreeMap::new(), runs_with: given(id, desired) })
}

/// What an instance starts with of the parameters of which a replica must have at least as much as its primary.
fn given(id: &ResourceId, desired: &Graph) -> BTreeMap<String, u64> {
    let config = desired.get(id).into_iter().flat_map(|instance| instance.dependencies.keys());
    let parameters = config.filter_map(|id| {
        let Attributes::PatroniConfig(config) = &desired.get(id)?.attributes else { return None };
        Some(given_as_much(&config.parameters))
    });
    parameters.flatten().collect()
}

/// The first candidate that is there takes the role, and all others stream from it.
fn hand_over(step: &Step, desired: &Graph, world: &mut Observed) {
    let there = |id: &&ResourceId| matches!(world.resources.get(*id), Some(Observation::Present(_)));
    let Some(to) = step.candidates.iter().find(there) else { return };
    let Some(member) = desired.get(to).and_then(|resource| resource.member.as_ref()) else { return };
    let mut streaming = BTreeMap::new();
    let mut runs_with = given(to, desired);
    for (instance, other) in others(member, desired, world) {
        // It has as much as the primary had, and more where more is wanted: then it was started anew before.
        if let Some(Standing::Primary { runs_with: before, .. }) = other.standing.as_deref() {
            for (name, value) in before {
                runs_with.entry(name.clone()).and_modify(|runs| *runs = (*runs).max(*value)).or_insert(*value);
            }
        }
        other.standing = Some(Box::new(Standing::Replica));
        streaming.insert(instance, 0);
    }
    if let Some(Observation::Present(present)) = world.resources.get_mut(to) {
        present.standing = Some(Box::new(Standing::Primary { streaming, runs_with }));
    }
}

/// The version that an installed extension shows when the spec left it open.
const SOME_VERSION: &str = "1.0";
/// The schema that an installed extension shows when the spec left it open.
const SOME_SCHEMA: &str = "public";

fn as_seen(attributes: &Attributes) -> Attributes {
    if let Attributes::Extension { database, name, version, schema } = attributes {
        return Attributes::Extension {
            database: database.clone(),
            name: name.clone(),
            version: version.clone().or_else(|| Some(SOME_VERSION.to_owned())),
            schema: schema.clone().or_else(|| Some(SOME_SCHEMA.to_owned())),
        };
    }
    attributes.clone()
}

/// Objects of the Swarm carry the digest they were applied with as a label.
fn carries_its_digest(kind: Kind) -> bool {
    match kind {
        Kind::Record | Kind::Network | Kind::Service => true,
        Kind::Directory
        | Kind::File
        | Kind::Certificate
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::PatroniConfig
        | Kind::Instance
        | Kind::Role
        | Kind::Database
        | Kind::Extension
        | Kind::Script => false,
    }
}
