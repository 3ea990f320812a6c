//! Properties that hold for every graph and every world: convergence, equal bytes, and that Unknown is inert.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::world::{Shop, World, host, id, unknown};
use crate::model::resource::{InstanceAttributes, OnDelete};
use crate::model::role::{RoleAttributes, RoleFlags};
use crate::model::{
    Attributes, Dependency, Digest, Executor, Graph, Kind, Observation, Payload, Present, Resource, ResourceId, Stray,
};
use crate::plan::{Action, Disruptions, Outcome, simulate};

/// Resources of a random graph, of which some are desired and the others strays.
const RESOURCES_MAX: usize = 24;

/// Rounds of plan and apply within which every world without faults settles: one to converge and one to remove, and
/// one more for what depends on what was repaired.
const ROUNDS_MAX: usize = 3;

/// What is random about one resource.
#[derive(Debug, Clone)]
struct Draft {
    kind: usize,
    desired: bool,
    variant: u8,
    /// Offsets to earlier resources, and whether the dependency is one of content.
    needs: Vec<(prop::sample::Index, bool)>,
    seen: Seen,
    failed: Option<bool>,
    forced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    AsDesired,
    Differs,
    Behind,
    HasError,
    NeedsRecreate,
    Absent,
    Unknown,
    NotLookedAt,
}

const KINDS: [Kind; 7] =
    [Kind::Directory, Kind::File, Kind::Network, Kind::Service, Kind::Extension, Kind::Instance, Kind::Role];

/// The first of `KINDS`, without instances and what waits for the next look at them.
const KINDS_WITHOUT_INSTANCES: usize = 5;

fn drafts(kinds: usize, seen: impl Strategy<Value = Seen> + Clone) -> impl Strategy<Value = Vec<Draft>> {
    let draft = (
        0..kinds,
        prop::bool::weighted(0.75),
        0..3_u8,
        prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..4),
        seen,
        prop::option::weighted(0.2, any::<bool>()),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(kind, desired, variant, needs, seen, failed, forced)| Draft {
            kind,
            desired,
            variant,
            needs,
            seen,
            failed,
            forced,
        });
    prop::collection::vec(draft, 1..RESOURCES_MAX)
}

fn visible() -> impl Strategy<Value = Seen> + Clone {
    prop::sample::select(vec![
        Seen::AsDesired,
        Seen::AsDesired,
        Seen::Differs,
        Seen::Behind,
        Seen::HasError,
        Seen::NeedsRecreate,
        Seen::Absent,
    ])
}

fn anything() -> impl Strategy<Value = Seen> + Clone {
    prop_oneof![4 => visible(), 1 => Just(Seen::Unknown), 1 => Just(Seen::NotLookedAt)]
}

/// Attributes of the kind `KINDS[kind]`; different variants differ.
fn attributes(kind: usize, name: &str, variant: u8) -> Attributes {
    let name = name.to_owned();
    match KINDS[kind] {
        Kind::Directory => {
            Attributes::Directory { path: name, mode: u32::from(variant), uid: 0, gid: 0, on_delete: OnDelete::Trash }
        }
        Kind::Network => Attributes::Network { name, attachable: variant == 0 },
        Kind::Extension => {
            let version = (variant > 0).then(|| variant.to_string());
            Attributes::Extension { database: "shop".to_owned(), name, version, schema: None }
        }
        Kind::Service => {
            Attributes::Service(Box::new(Shop { port: variant.into(), ..Shop::default() }.service_attributes()))
        }
        Kind::File => Attributes::File { path: name, mode: 0, uid: 0, gid: 0, content: Digest::of_bytes(&[variant]) },
        Kind::Instance => Attributes::Instance(InstanceAttributes {
            service: name,
            running: true,
            config: variant.to_string(),
            pending_restart: false,
            certificate_loaded: true,
            alter_system: BTreeSet::new(),
        }),
        Kind::Role => Attributes::Role(RoleAttributes {
            name,
            flags: RoleFlags { createdb: variant == 0, ..RoleFlags::default() },
            member_of: BTreeSet::new(),
            password_matches: true,
            connection_limit: None,
            valid_until: None,
            asks_verifiers: false,
        }),
        Kind::Record
        | Kind::Certificate
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::PatroniConfig
        | Kind::Database
        | Kind::Script => panic!("not among KINDS"),
    }
}

fn world(drafts: &[Draft]) -> World {
    let ids: Vec<ResourceId> =
        drafts.iter().enumerate().map(|(index, draft)| id(KINDS[draft.kind], &format!("{index:02}"))).collect();
    let mut resources = Vec::new();
    let mut strays = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        let needs: BTreeMap<ResourceId, Dependency> = draft
            .needs
            .iter()
            .filter(|_| index > 0)
            .map(|(earlier, content)| (earlier.index(index), *content))
            .filter(|(earlier, _)| !draft.desired || drafts[*earlier].desired)
            .map(|(earlier, content)| {
                (ids[earlier].clone(), if content { Dependency::Content } else { Dependency::Order })
            })
            .collect();
        let executor = if index % 2 == 0 { Executor::Manager } else { host() };
        if draft.desired {
            resources.push(Resource {
                id: ids[index].clone(),
                executor,
                member: None,
                dependencies: needs,
                attributes: attributes(draft.kind, &ids[index].name, draft.variant),
                may_differ: Vec::new(),
                payload: Payload::None,
            });
        } else {
            strays.insert(
                ids[index].clone(),
                Stray { executor, dependencies: needs.into_keys().collect(), member: None },
            );
        }
    }
    let mut world = World::new(Graph::new(resources).unwrap());
    world.observed.strays = strays;
    for (draft, id) in drafts.iter().zip(&ids) {
        match observation(draft, id, &world.desired) {
            Some(observation) => world.observed.resources.insert(id.clone(), observation),
            None => world.observed.resources.remove(id),
        };
        if let Some(half_made) = draft.failed {
            let action = if half_made { Action::Create } else { Action::Update };
            world.outcomes.insert(id.clone(), Outcome { action, attempts: 1, error: "failed".to_owned() });
        }
        if draft.forced {
            world.forced.insert(id.clone());
        }
    }
    world
}

fn observation(draft: &Draft, id: &ResourceId, desired: &Graph) -> Option<Observation> {
    let mut present = Present::new(attributes(draft.kind, &id.name, draft.variant));
    present.applied = desired.digest(id).cloned();
    present.object = Some(format!("object-{}", id.name));
    match draft.seen {
        Seen::AsDesired => {}
        Seen::Differs => present.attributes = attributes(draft.kind, &id.name, draft.variant + 1),
        Seen::Behind => present.applied = Some(Digest::of_bytes(b"before")),
        Seen::HasError => present.error = Some("broken".to_owned()),
        Seen::NeedsRecreate => present.needs_recreate = true,
        Seen::Absent => return Some(Observation::Absent),
        Seen::Unknown => return Some(unknown("no answer")),
        Seen::NotLookedAt => return None,
    }
    Some(Observation::Present(present))
}

/// Runs the first stage, as the executor does. Step number `n` (over all rounds) fails where `faults` says so.
fn round(world: &mut World, faults: &mut impl Iterator<Item = bool>) {
    let plan = world.plan();
    let Some(stage) = plan.stages.first() else { return };
    let before = world.observed.clone();
    let failed = simulate::apply_stage(stage, &world.desired, &mut world.observed, |_| !faults.next().unwrap_or(false));
    for step in stage.steps.iter().filter(|step| step.action.establishes()) {
        if world.observed.resources.get(&step.resource) != before.resources.get(&step.resource) {
            world.outcomes.remove(&step.resource);
            world.forced.remove(&step.resource);
        }
    }
    for step in failed {
        let outcome = Outcome { action: step.action, attempts: 1, error: "failed".to_owned() };
        world.outcomes.insert(step.resource.clone(), outcome);
    }
}

fn seen_ids(world: &World) -> BTreeSet<ResourceId> {
    let present = |(_, observation): &(&ResourceId, &Observation)| matches!(observation, Observation::Present(_));
    world.observed.resources.iter().filter(present).map(|(id, _)| id.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_passes_the_checker_and_equal_inputs_give_equal_bytes(drafts in drafts(KINDS.len(), anything())) {
        let (world, again) = (world(&drafts), world(&drafts));
        let plan = world.plan();
        prop_assert_eq!(serde_json::to_vec(&plan).unwrap(), serde_json::to_vec(&again.plan()).unwrap());
    }

    #[test]
    fn after_applying_it_the_plan_is_empty(drafts in drafts(KINDS_WITHOUT_INSTANCES, visible())) {
        let mut world = world(&drafts);
        let plan = world.plan();
        prop_assert!(plan.waiting.is_empty());
        world.observed = simulate::apply(&plan, &world.desired, &world.observed);
        world.outcomes.clear();
        world.forced.clear();
        prop_assert!(world.plan().is_settled(), "{:#?}", world.plan());
        let wanted: BTreeSet<ResourceId> = world.desired.in_order().map(|resource| resource.id.clone()).collect();
        let seen = seen_ids(&world);
        prop_assert!(seen.is_superset(&wanted));
        // No instance is desired here, so what lives inside Postgres stays with its data.
        prop_assert!(seen.difference(&wanted).all(|id| id.kind == Kind::Extension), "{seen:?} {wanted:?}");
    }

    #[test]
    fn failing_steps_delay_and_do_not_prevent(
        drafts in drafts(KINDS.len(), visible()),
        faults in prop::collection::vec(any::<bool>(), 0..60),
    ) {
        let mut world = world(&drafts);
        let mut faults = faults.into_iter();
        while faults.len() > 0 && !world.plan().is_empty() {
            round(&mut world, &mut faults);
        }
        world.forced.clear();
        for _ in 0..ROUNDS_MAX {
            round(&mut world, &mut std::iter::empty());
        }
        prop_assert!(world.plan().is_settled(), "{:#?}", world.plan());
    }

    #[test]
    fn what_is_left_after_a_part_of_a_plan_is_a_part_of_what_was_approved(
        drafts in drafts(KINDS.len(), visible()),
        faults in prop::collection::vec(any::<bool>(), 0..60),
    ) {
        let mut world = world(&drafts);
        let approved = Disruptions::of(&world.plan(), &world.desired);
        let mut faults = faults.into_iter();
        for _ in 0..ROUNDS_MAX {
            round(&mut world, &mut faults);
            let left = Disruptions::of(&world.plan(), &world.desired);
            prop_assert!(left.is_part_of(&approved), "{:?} {left:?} {approved:?}", left.beyond(&approved));
        }
    }

    #[test]
    fn what_cannot_be_seen_only_takes_steps_away(
        drafts in drafts(KINDS.len(), visible()),
        blind in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let seeing = world(&drafts);
        let mut blinded = drafts.clone();
        for index in blind {
            blinded[index.index(drafts.len())].seen = Seen::Unknown;
        }
        let steps = |world: &World| -> BTreeSet<(ResourceId, Action)> {
            world.plan().steps().map(|step| (step.resource.clone(), step.action)).collect()
        };
        prop_assert!(steps(&world(&blinded)).is_subset(&steps(&seeing)));
    }

    #[test]
    fn a_world_that_cannot_be_seen_is_left_alone(drafts in drafts(KINDS.len(), Just(Seen::Unknown))) {
        prop_assert!(world(&drafts).plan().is_empty());
    }
}
