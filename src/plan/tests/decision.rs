//! Decisions that leave the host: no secret is in them, and whoever decides again comes to the same end, or sees where not.
//! (That every plan of the other tests comes out the same is held where they make it, in `world`.)

use super::world::{Shop, World, id, unknown};
use crate::model::{DatabaseId, Digest, Kind, Observation, Present, Scope, Secret};
use crate::plan::decision::{Decision, End, Replayed, Veil};
use crate::plan::{Action, Outcome, Purpose};

const PASSWORD: &str = "correct-horse";

fn decision(world: &World, known: &[Secret]) -> Decision {
    let scope = Scope::Database(DatabaseId::parse("shop").unwrap());
    Decision::new(&world.input(&scope), &world.plan(), &Veil::new(b"key", known)).unwrap()
}

/// Through JSON and back, as it travels.
fn sent(decision: &Decision) -> (String, Decision) {
    let text = serde_json::to_string(decision).unwrap();
    let read = serde_json::from_str(&text).unwrap();
    (text, read)
}

/// A shop whose service has these labels and whose node has this line in `pg_hba`.
fn shop(label: &'static str, line: &'static str) -> World {
    let mut shop = Shop::default();
    shop.labels.extend([("api_key", label), ("said", "it is correct-horse")]);
    shop.pg_hba.insert(0, line);
    World::new(shop.graph())
}

#[test]
fn no_secret_is_in_a_decision_and_equal_ones_have_equal_names() {
    let before = shop("abc-1", "host all all all ldap ldapbindpasswd=xyz-1");
    let settled = World::settled(before.desired);
    let after = shop("abc-2", "host all all all ldap ldapbindpasswd=xyz-2").desired;
    let mut world = settled.wish(after).see(id(Kind::Role, "app"), unknown("login with correct-horse failed"));
    let failed = Outcome { action: Action::Update, attempts: 2, error: format!("{PASSWORD} is wrong") };
    world.outcomes.insert(id(Kind::Network, "shop-database"), failed);
    let (text, read) = sent(&decision(&world, &[Secret::new(PASSWORD), Secret::new("x")]));
    for secret in [PASSWORD, "abc-1", "abc-2", "xyz-1", "xyz-2"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let service = world.desired.in_order().find(|resource| resource.id.kind == Kind::Service).unwrap();
    let Observation::Present(Present { applied: Some(applied), .. }) = &world.observed.resources[&service.id] else {
        panic!("the service is there, with a label")
    };
    assert!(!text.contains(applied.as_str()), "a digest over a secret can be tried out");
    let replayed = read.replay().unwrap();
    assert!(replayed.same(), "{replayed:#?}");
    let service = replayed.plan.steps().find(|step| step.resource.kind == Kind::Service).unwrap();
    let label = service.changes.iter().find(|change| change.pointer == "/labels/api_key").unwrap();
    assert_eq!((&label.from, &label.to), (&None, &None), "that it differs is told, and no more");
    assert!(
        matches!(&replayed.end, End::Waits { on } if on[0].contains("login with (secret) failed")),
        "{replayed:#?}"
    );
}

#[test]
fn names_cannot_be_tried_out_without_the_key() {
    let world = shop("abc-1", "host all all all ldap ldapbindpasswd=xyz-1");
    let scope = Scope::Database(DatabaseId::parse("shop").unwrap());
    let veiled = |key: &[u8]| {
        let decision = Decision::new(&world.input(&scope), &world.plan(), &Veil::new(key, [])).unwrap();
        serde_json::to_string(&decision).unwrap()
    };
    assert_eq!(veiled(b"one"), veiled(b"one"));
    assert_ne!(veiled(b"one"), veiled(b"two"));
    assert!(!veiled(b"one").contains(Digest::of_bytes(b"abc-1").short()));
}

fn replayed(world: &World, alter: impl FnOnce(&mut Decision)) -> Replayed {
    let mut decision = decision(world, &[]);
    alter(&mut decision);
    decision.replay().unwrap()
}

#[test]
fn another_world_gives_another_plan_and_says_where() {
    let world = World::settled(Shop::default().graph());
    let same = replayed(&world, |_| {});
    assert!(same.same() && same.rounds.is_empty() && same.end == End::Settled, "{same:#?}");
    let network = id(Kind::Network, "shop-database");
    let other = replayed(&world, |decision| {
        decision.observed.resources.insert(network.clone(), Observation::Absent);
    });
    assert!(!other.same());
    let about = other.differences.iter().find(|one| one.about == "network::shop-database").unwrap();
    assert_eq!((about.then.as_str(), about.now.as_str()), ("nothing", "create, does not exist (none)"));
    assert_eq!((other.rounds.len(), &other.end), (1, &End::Settled));
    assert_eq!(other.rounds[0].purpose, Purpose::Converge);
}

#[test]
fn a_plan_that_was_another_is_told_field_by_field() {
    let world = World::new(Shop::default().graph());
    let fields = replayed(&world, |decision| decision.plan.stages[0].steps[0].object = Some("x".to_owned()));
    assert_eq!(fields.differences.len(), 1, "{fields:#?}");
    assert_eq!(fields.differences[0].fields, ["/step/object"]);
    let order = replayed(&world, |decision| decision.plan.stages[0].steps.swap(0, 1));
    assert_eq!(order.differences[0].about, "the order");
}
