//! Plans that the checker must refuse: each a good plan with one thing spoilt.

use super::world::{Shop, World, id, unknown};
use crate::model::{Attributes, DatabaseId, Graph, Kind, Observation, Scope};
use crate::plan::check::{Violation, check};
use crate::plan::{Action, Plan, Purpose, Stage};

/// Spoils the plan for `world` and expects a violation that `expected` accepts.
fn refuses(world: &World, spoil: impl FnOnce(&mut Plan), expected: impl Fn(&Violation) -> bool) {
    let mut plan = world.plan();
    spoil(&mut plan);
    let scope = Scope::Database(DatabaseId::parse("shop").unwrap());
    let found = check(&plan, &world.input(&scope)).unwrap_err();
    assert!(found.iter().any(expected), "{found:?}");
}

fn new() -> World {
    World::new(Shop::default().graph())
}

fn settled() -> World {
    World::settled(Shop::default().graph())
}

#[test]
fn order_is_checked() {
    refuses(&new(), |plan| plan.stages[0].steps.reverse(), |v| matches!(v, Violation::BadAfter { .. }));
    refuses(
        &new(),
        |plan| plan.stages[0].steps.iter_mut().for_each(|step| step.after.clear()),
        |v| matches!(v, Violation::DoesNotWait { .. }),
    );
    refuses(
        &settled().wish(Graph::default()),
        |plan| plan.stages[0].steps.iter_mut().for_each(|step| step.after.clear()),
        |v| matches!(v, Violation::DoesNotWait { .. }),
    );
}

#[test]
fn stages_are_checked() {
    let empty = Stage { purpose: Purpose::Converge, steps: Vec::new() };
    refuses(&settled(), |plan| plan.stages.push(empty), |v| matches!(v, Violation::EmptyStage(0)));
    refuses(&new(), |plan| plan.stages[0].purpose = Purpose::Remove, |v| matches!(v, Violation::WrongStage(_)));
    let both = || {
        let mut shop = Shop::default();
        shop.roles.insert("report");
        World::settled(shop.graph()).wish(Shop { image: "other", ..Shop::default() }.graph())
    };
    refuses(&both(), |plan| plan.stages.reverse(), |v| matches!(v, Violation::StageOrder(1)));
}

#[test]
fn forgetting_is_found() {
    refuses(&new(), |plan| plan.stages.clear(), |v| matches!(v, Violation::Forgotten(_)));
    refuses(
        &settled().wish(Graph::default()),
        |plan| drop(plan.stages[0].steps.pop()),
        |v| matches!(v, Violation::Forgotten(_)),
    );
    let world = settled().change(&id(Kind::Certificate, "shop-n1/server"), |present| {
        if let Attributes::Certificate(certificate) = &mut present.attributes {
            certificate.fresh = false;
        }
    });
    refuses(
        &world,
        |plan| plan.stages[0].steps.retain(|step| step.resource.kind != Kind::Instance),
        |v| matches!(v, Violation::NotCascaded { .. }),
    );
}

#[test]
fn steps_that_do_not_fit_are_found() {
    refuses(
        &new(),
        |plan| plan.stages[0].steps[0].action = Action::Update,
        |v| matches!(v, Violation::ActionMismatch(_)),
    );
    refuses(
        &new(),
        |plan| {
            let again = plan.stages[0].steps[0].clone();
            plan.stages[0].steps.push(again);
        },
        |v| matches!(v, Violation::Twice(_)),
    );
    refuses(
        &settled().wish(Graph::default()),
        |plan| plan.stages[0].steps.iter_mut().for_each(|step| step.object = None),
        |v| matches!(v, Violation::WrongObject(_)),
    );
    let database = id(Kind::Database, "shop");
    refuses(
        &settled().change(&database, |present| present.needs_recreate = true),
        |plan| plan.stages[0].steps[0].action = Action::Recreate,
        |v| *v == Violation::RecreatesData(database.clone()),
    );
    refuses(
        &settled().wish(Graph::default()),
        |plan| plan.stages[0].steps[0].action = Action::Update,
        |v| matches!(v, Violation::NotAsDesired(_)),
    );
}

#[test]
fn losing_rows_is_found() {
    let world = settled().wish(Graph::default());
    let database = id(Kind::Database, "shop");
    refuses(
        &world,
        |plan| {
            let mut drop = plan.stages[0].steps[0].clone();
            drop.resource = database.clone();
            plan.stages[0].steps.push(drop);
        },
        |v| *v == Violation::LosesRows(database.clone()),
    );
}

#[test]
fn touching_what_was_not_seen_is_found() {
    let before = new().plan();
    let blind = new().see(id(Kind::Network, "shop-database"), unknown("no answer"));
    refuses(&blind, |plan| plan.stages.clone_from(&before.stages), |v| matches!(v, Violation::TouchesUnknown(_)));
    refuses(&blind, |plan| plan.stages.clone_from(&before.stages), |v| matches!(v, Violation::StepAndWaiting(_)));
    refuses(&new(), |plan| drop(plan.stages[0].steps.remove(0)), |v| matches!(v, Violation::Missing { .. }));
    let leaving = settled().wish(Graph::default());
    let all = leaving.plan();
    refuses(
        &leaving.see(id(Kind::Service, "postgres-shop-n1"), unknown("no answer")),
        |plan| {
            plan.stages.clone_from(&all.stages);
            plan.stages[0].steps.retain(|step| step.resource.kind != Kind::Service);
        },
        |v| matches!(v, Violation::DoesNotWait { of, .. } if of.kind == Kind::Directory),
    );
}

#[test]
fn deleting_beside_what_waits_is_found() {
    let mut shop = Shop::default();
    shop.roles.insert("report");
    let world = World::settled(shop.graph()).wish(Shop::default().graph());
    let before = world.plan();
    refuses(
        &world.see(id(Kind::Database, "shop"), Observation::Unknown { why: "no answer".to_owned() }),
        |plan| {
            plan.stages.clone_from(&before.stages);
            plan.waiting.retain(|waiting| waiting.resource.kind == Kind::Database);
        },
        |v| matches!(v, Violation::DeletedBesideWaiting { .. }),
    );
}
