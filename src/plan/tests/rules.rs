//! The rules one by one, on the small database.

use super::world::{Shop, World, id, unknown};
use crate::model::{Attributes, Digest, Graph, Kind, Observation, ResourceId};
use crate::plan::{Action, Disruption, Outcome, Plan, Reason, WaitsFor, text};

fn settled() -> World {
    World::settled(Shop::default().graph())
}

fn service() -> ResourceId {
    id(Kind::Service, "postgres-shop-n1")
}

fn instance() -> ResourceId {
    id(Kind::Instance, "shop-n1")
}

fn reason_of(plan: &Plan, id: &ResourceId) -> Option<Reason> {
    plan.step(id).map(|step| step.reason.clone())
}

fn instance_seen(world: World, change: impl FnOnce(&mut crate::model::resource::InstanceAttributes)) -> World {
    world.change(&instance(), |present| {
        let Attributes::Instance(attributes) = &mut present.attributes else { panic!("{present:?}") };
        change(attributes);
    })
}

#[test]
fn the_first_reason_wins() {
    let mut world = settled().change(&service(), |present| {
        present.needs_recreate = true;
        present.error = Some("rejected".to_owned());
    });
    world.forced.insert(service());
    let step = world.plan().step(&service()).cloned().unwrap();
    assert_eq!((step.action, step.reason), (Action::Recreate, Reason::NeedsRecreate));

    world = world.change(&service(), |present| present.needs_recreate = false);
    assert_eq!(reason_of(&world.plan(), &service()), Some(Reason::HasError { error: "rejected".to_owned() }));

    world = world.change(&service(), |present| present.error = None);
    assert_eq!(reason_of(&world.plan(), &service()), Some(Reason::Forced));

    world.forced.clear();
    assert!(world.plan().is_settled());
}

#[test]
fn what_holds_data_is_never_recreated() {
    for id in [id(Kind::Directory, "shop-n1/data"), id(Kind::Database, "shop"), id(Kind::Role, "app")] {
        let plan = settled().change(&id, |present| present.needs_recreate = true).plan();
        let step = plan.step(&id).unwrap();
        assert_eq!((step.action, &step.reason), (Action::Update, &Reason::NeedsRecreate));
    }
}

#[test]
fn a_failure_is_over_when_the_thing_is_as_desired() {
    let mut world = settled();
    let outcome = Outcome { action: Action::Create, attempts: 1, error: "timeout".to_owned() };
    world.outcomes.insert(service(), outcome);
    assert!(world.plan().is_settled());
}

#[test]
fn a_cascade_survives_the_plan_that_began_it() {
    let world = settled().change(&service(), |present| present.applied = Some(Digest::of_bytes(b"before")));
    let plan = world.plan();
    assert_eq!(reason_of(&plan, &service()), Some(Reason::DependencyUpdated { by: [].into() }));
    assert_eq!(plan.disruption(), Disruption::None);
}

#[test]
fn an_instance_that_has_not_loaded_its_configuration_is_reloaded() {
    let world = instance_seen(settled(), |attributes| attributes.config = "before".to_owned());
    assert_eq!(world.plan().disruption(), Disruption::Reload);
    let world = instance_seen(settled(), |attributes| attributes.certificate_loaded = false);
    assert_eq!(world.plan().disruption(), Disruption::Reload);
    let world = instance_seen(settled(), |attributes| attributes.pending_restart = true);
    assert_eq!(world.plan().disruption(), Disruption::Restart);
}

#[test]
fn what_does_not_run_is_not_disturbed() {
    let mut shop = Shop::default();
    shop.parameters.insert("max_connections", "200");
    let world = instance_seen(settled(), |attributes| attributes.running = false).wish(shop.graph());
    assert_eq!(world.plan().disruption(), Disruption::None);
}

#[test]
fn a_restart_is_not_counted_beside_a_replacement() {
    let mut shop = Shop { image: "other", ..Shop::default() };
    shop.parameters.insert("max_connections", "200");
    let plan = settled().wish(shop.graph()).plan();
    assert_eq!(plan.step(&service()).map(|step| step.disruption), Some(Disruption::Replace));
    assert_eq!(plan.step(&instance()).map(|step| step.disruption), Some(Disruption::None));
}

#[test]
fn a_step_waits_for_steps_below_what_needs_none() {
    let shop = Shop { image: "other", ..Shop::default() };
    let record = id(Kind::Record, "shop");
    let world = settled().change(&record, |present| present.attributes = Attributes::Record { revision: 0 });
    let plan = world.wish(shop.graph()).plan();
    assert_eq!(plan.step(&service()).map(|step| step.after.clone()), Some([record].into()));
}

#[test]
fn a_new_network_replaces_the_container() {
    let plan = settled().see(id(Kind::Network, "shop-database"), Observation::Absent).plan();
    assert_eq!(plan.step(&service()).map(|step| step.disruption), Some(Disruption::Replace));
    assert_eq!(plan.step(&instance()).map(|step| step.disruption), Some(Disruption::None));
}

#[test]
fn what_may_differ_is_no_difference() {
    let mut resources: Vec<_> = Shop::default().graph().in_order().cloned().collect();
    for resource in resources.iter_mut().filter(|resource| resource.id == service()) {
        resource.may_differ = vec!["/replicas".to_owned(), "/labels".to_owned()];
    }
    let drift = |present: &mut crate::model::Present| {
        if let Attributes::Service(service) = &mut present.attributes {
            service.replicas = 0;
            service.labels.insert("x".to_owned(), "y".to_owned());
        }
    };
    let world = World::settled(Graph::new(resources).unwrap()).change(&service(), drift);
    assert!(world.plan().is_settled());
    assert!(!settled().change(&service(), drift).plan().is_settled());
}

#[test]
fn an_open_version_is_any_version() {
    let extension = |version: Option<&str>| Attributes::Extension {
        database: "shop".to_owned(),
        name: "vector".to_owned(),
        version: version.map(str::to_owned),
        schema: None,
    };
    let graph = |version| {
        let resource = super::world::resource(Kind::Extension, "vector", super::world::host(), [], extension(version));
        Graph::new([resource]).unwrap()
    };
    let world = World::settled(graph(None));
    assert!(world.plan().is_settled());
    let plan = world.wish(graph(Some("0.8"))).plan();
    let step = plan.steps().next().unwrap();
    assert_eq!(step.changes.iter().map(|change| change.pointer.as_str()).collect::<Vec<_>>(), ["/version"]);
}

#[test]
fn nothing_is_deleted_under_what_was_not_seen() {
    let world = settled().wish(Graph::default()).see(service(), unknown("no answer"));
    let plan = world.plan();
    let directory = id(Kind::Directory, "shop-n1/data");
    assert_eq!(plan.step(&directory), None);
    let waiting = plan.waiting.iter().find(|waiting| waiting.resource == directory).unwrap();
    assert!(matches!(&waiting.on, WaitsFor::Dependents { on } if on.contains(&service())), "{waiting:?}");
    assert!(plan.step(&instance()).is_some(), "what stands above it goes");
}

#[test]
fn nothing_is_deleted_where_something_desired_waits() {
    let mut shop = Shop::default();
    shop.roles.insert("report");
    let world = World::settled(shop.graph()).wish(Shop::default().graph());
    let report = id(Kind::Role, "report");
    let plan = world.clone().see(id(Kind::Database, "shop"), unknown("no answer")).plan();
    let waiting = plan.waiting.iter().find(|waiting| waiting.resource == report).unwrap();
    assert!(matches!(&waiting.on, WaitsFor::Desired { .. }), "{waiting:?}");
    let plan = world.see(id(Kind::Network, "shop-database"), unknown("no answer")).plan();
    assert_eq!(plan.step(&report).map(|step| step.action), Some(Action::Delete), "elsewhere it goes on");
}

#[test]
fn a_database_is_deleted_with_its_rows_kept() {
    let plan = settled().wish(Graph::default()).plan();
    assert!(plan.step(&id(Kind::Directory, "shop-n1/data")).is_some(), "the data moves to the trash");
    for inside in [id(Kind::Database, "shop"), id(Kind::Role, "app")] {
        assert_eq!(plan.step(&inside), None);
    }
    assert!(plan.waiting.is_empty());
}

#[test]
fn a_postgres_that_never_answers_can_be_deleted() {
    let plan = settled().wish(Graph::default()).see(instance(), unknown("no answer")).plan();
    assert_eq!(plan.step(&service()).map(|step| step.action), Some(Action::Delete));
    assert_eq!(plan.step(&instance()), None);
    assert!(plan.waiting.is_empty(), "{:?}", plan.waiting);
}

#[test]
fn no_plan_drops_a_database() {
    let database = id(Kind::Database, "shop");
    let rest: Vec<_> = Shop::default().graph().in_order().filter(|resource| resource.id != database).cloned().collect();
    let plan = settled().wish(Graph::new(rest).unwrap()).plan();
    assert_eq!(plan.step(&database), None);
    assert!(matches!(&plan.waiting[..], [waiting] if matches!(waiting.on, WaitsFor::Person { .. })), "{plan:?}");
}

#[test]
fn deletes_name_the_object() {
    let world = settled();
    let Some(Observation::Present(present)) = world.observed.resources.get(&service()) else { panic!() };
    let object = present.object.clone();
    assert!(object.is_some());
    assert_eq!(world.wish(Graph::default()).plan().step(&service()).map(|step| step.object.clone()), Some(object));
}

#[test]
fn a_circle_among_strays_is_broken() {
    let mut world = settled().wish(Graph::default());
    world.observed.strays.get_mut(&id(Kind::Record, "shop")).unwrap().dependencies.insert(instance());
    let plan = world.plan();
    let inside = 2;
    assert_eq!(plan.steps().count(), Shop::default().graph().len() - inside);
}

#[test]
fn secrets_and_digests_are_not_shown() {
    let mut shop = Shop::default();
    shop.pg_hba.push("host all all all ldap ldapserver=x ldapbindpasswd=hunter2");
    shop.parameters.insert("archive_command", "push --token hunter2");
    let plan = settled().wish(shop.graph()).plan();
    let everything = format!("{plan:?}{}{}", serde_json::to_string(&plan).unwrap(), text::render(&plan));
    assert!(!everything.contains("hunter2"), "{everything}");
    assert!(everything.contains("/pg_hba/2: content changed"), "{everything}");
    assert!(everything.contains("/parameters/pgmoor.config: content changed"), "{everything}");
}

#[test]
fn text_cannot_steer_a_terminal() {
    let plan = settled().change(&service(), |present| present.error = Some("\u{1b}[2Jgone\n+ fake".to_owned())).plan();
    assert!(!text::render(&plan).contains('\u{1b}'));
    assert!(!text::render(&plan).contains("\n+ fake"));
    let coloured = text::text(&text::Shown::from(&plan), true);
    assert!(coloured.contains("\u{1b}[33m    ~\u{1b}[0m service::postgres-shop-n1"), "{coloured:?}");
    assert!(!coloured.contains("[2J") || !coloured.contains("\u{1b}[2J"));
}

#[test]
fn plans_survive_their_serialisation() {
    let mut shop = Shop { image: "other", ..Shop::default() };
    shop.roles.clear();
    let plan = settled().wish(shop.graph()).plan();
    let bytes = serde_json::to_vec(&plan).unwrap();
    let back: Plan = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(back, plan);
    assert_eq!(back.digest(), plan.digest());
}
