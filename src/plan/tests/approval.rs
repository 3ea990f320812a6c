//! What a person approves: which plans share a digest, what an approval covers, and what waits for it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::world::{Shop, World, id};
use crate::model::{Attributes, Digest, Graph, Kind, Observation};
use crate::plan::approval::held;
use crate::plan::{Beyond, Disrupted, Disruption, Disruptions, simulate};

fn disruptions(world: &World) -> Disruptions {
    Disruptions::of(&world.plan(), &world.desired)
}

fn wish(change: impl FnOnce(&mut Shop)) -> World {
    let mut shop = Shop::default();
    change(&mut shop);
    World::settled(Shop::default().graph()).wish(shop.graph())
}

fn connections(number: &'static str) -> World {
    wish(|shop| shop.parameters.extend([("max_connections", number)]))
}

/// `what` and the class of each.
fn shown(disruptions: &Disruptions) -> Vec<String> {
    disruptions.iter().map(|one| format!("{} {}", one.word(), one.what)).collect()
}

#[test]
fn what_is_disrupted_is_told_by_instance() {
    assert_eq!(shown(&disruptions(&connections("200"))), ["restart instance::shop-n1"]);
    // The container is replaced, and with it Postgres restarts: one disruption.
    let both = wish(|shop| {
        shop.port = 5433;
        shop.parameters.extend([("max_connections", "200")]);
    });
    assert_eq!(shown(&disruptions(&both)), ["replace instance::shop-n1"]);
    let gone = World::settled(Shop::default().graph()).wish(Graph::default());
    assert_eq!(shown(&disruptions(&gone)), ["end service::postgres-shop-n1"]);
    for nothing in [
        World::new(Shop::default().graph()),
        wish(|shop| shop.parameters.extend([("work_mem", "8MB")])),
        wish(|shop| shop.roles.extend(["other"])),
    ] {
        assert!(disruptions(&nothing).is_empty(), "a create, a reload and a role disrupt nothing");
    }
}

#[test]
fn the_digest_names_what_it_leads_to() {
    let digest = |world: World| disruptions(&world).digest();
    assert_eq!(digest(connections("200")), digest(connections("200")));
    assert_ne!(digest(connections("200")), digest(connections("300")));
    // Drift beside it disrupts nothing: the digest stays.
    let drifted = connections("200").see(id(Kind::Role, "app"), Observation::Absent);
    assert_eq!(digest(drifted), digest(connections("200")));
}

#[test]
fn an_approval_holds_while_its_parts_are_done() {
    let mut world = connections("200");
    let approved = disruptions(&world);
    let plan = world.plan();
    // The configuration is patched, and then the look finds that Postgres waits for a restart.
    let config = |step: &crate::plan::Step| step.resource.kind == Kind::PatroniConfig;
    simulate::apply_stage(&plan.stages[0], &world.desired, &mut world.observed, config);
    let world = world.change(&id(Kind::Instance, "shop-n1"), |present| {
        if let Attributes::Instance(instance) = &mut present.attributes {
            instance.pending_restart = true;
        }
    });
    let left = disruptions(&world);
    assert_eq!(shown(&left), ["restart instance::shop-n1"]);
    assert!(left.is_part_of(&approved));
}

#[test]
fn more_than_was_approved_is_told() {
    let approved = disruptions(&connections("200"));
    let how = |left: &Disruptions| left.beyond(&approved).into_iter().map(|(_, how)| how).collect::<Vec<_>>();
    assert_eq!(how(&disruptions(&connections("300"))), [Beyond::Elsewhere]);
    assert_eq!(how(&disruptions(&wish(|shop| shop.port = 5433))), [Beyond::Worse]);
    let nothing = Disruptions::default();
    assert_eq!(approved.beyond(&nothing).len(), 1);
    assert!(nothing.is_part_of(&approved));
}

#[test]
fn what_runs_stays_as_it_is_until_it_is_approved() {
    let held = |world: &World| -> Vec<String> {
        held(&world.plan().stages[0], &world.desired).iter().map(ToString::to_string).collect()
    };
    let mut world = connections("200");
    assert_eq!(held(&world), ["patroni-config::n1", "instance::shop-n1"]);
    // What comes after waits too; what is missing beside it, and below it, is made.
    world = world
        .see(id(Kind::Role, "app"), Observation::Absent)
        .see(id(Kind::Directory, "shop-n1/data"), Observation::Absent);
    let steps: BTreeSet<String> = world.plan().steps().map(|step| step.resource.to_string()).collect();
    let waits = held(&world);
    assert!(waits.contains(&"role::app".to_owned()) && steps.contains("directory::shop-n1/data"), "{waits:?}");
    assert!(!waits.contains(&"directory::shop-n1/data".to_owned()), "{waits:?}");
    // A delete is one act: nothing of it goes before it is approved.
    let gone = World::settled(Shop::default().graph()).wish(Graph::default());
    assert_eq!(held(&gone).len(), gone.plan().steps().count());
    assert!(held(&wish(|shop| shop.parameters.extend([("work_mem", "8MB")]))).is_empty());
}

fn one(name: u8, replace: bool, toward: Option<u8>) -> Disrupted {
    Disrupted {
        what: id(Kind::Instance, &format!("n{name}")),
        disruption: if replace { Disruption::Replace } else { Disruption::Restart },
        toward: toward.map(|toward| Digest::of_bytes(&[toward])),
    }
}

fn set(parts: impl IntoIterator<Item = (u8, (bool, Option<u8>))>) -> Disruptions {
    let parts: std::collections::BTreeMap<u8, _> = parts.into_iter().collect();
    let list: Vec<Disrupted> = parts.into_iter().map(|(name, (replace, toward))| one(name, replace, toward)).collect();
    serde_json::from_value(serde_json::to_value(list).unwrap()).unwrap()
}

fn anything() -> impl Strategy<Value = std::collections::BTreeMap<u8, (bool, Option<u8>)>> {
    prop::collection::btree_map(0..6_u8, (any::<bool>(), prop::option::weighted(0.8, 0..3_u8)), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exactly_the_parts_of_an_approval_are_covered(approved in anything(), left in anything()) {
        let by_hand = left.iter().all(|(name, (replace, toward))| {
            approved.get(name).is_some_and(|(may_replace, agreed)| toward == agreed && (*may_replace || !*replace))
        });
        prop_assert_eq!(set(left).is_part_of(&set(approved)), by_hand);
    }

    #[test]
    fn a_part_of_a_part_is_a_part_and_digests_tell_them_apart(
        whole in anything(), first in any::<u8>(), second in any::<u8>(),
    ) {
        let part = |mask: u8| set(whole.clone().into_iter().filter(|(name, _)| mask & (1 << name) != 0));
        let (large, small) = (part(first), part(first & second));
        prop_assert!(small.is_part_of(&large) && large.is_part_of(&set(whole.clone())));
        prop_assert_eq!(small == large, small.digest() == large.digest());
        prop_assert_eq!(large.is_part_of(&small), small == large);
    }
}
