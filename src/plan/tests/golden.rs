//! Golden plans named by scenario, as people read them.

use super::world::{Shop, World, id, unknown};
use crate::model::{Attributes, Graph, Kind, Observation};
use crate::plan::{Action, Outcome, text};

fn golden(scenario: &str, world: &World) {
    insta::with_settings!({ snapshot_path => "../../../tests/golden/plan", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(scenario, text::render(&world.plan()));
    });
}

fn settled() -> World {
    World::settled(Shop::default().graph())
}

fn wish(change: impl FnOnce(&mut Shop)) -> World {
    let mut shop = Shop::default();
    change(&mut shop);
    settled().wish(shop.graph())
}

#[test]
fn create() {
    golden("create", &World::new(Shop::default().graph()));
}

#[test]
fn no_op() {
    golden("no-op", &settled());
}

#[test]
fn reloadable_parameter() {
    golden("reloadable-parameter", &wish(|shop| shop.parameters.extend([("work_mem", "8MB")])));
}

#[test]
fn restart_parameter() {
    golden("restart-parameter", &wish(|shop| shop.parameters.extend([("max_connections", "200")])));
}

#[test]
fn hba_line() {
    golden("hba-line", &wish(|shop| shop.pg_hba.insert(1, "hostssl shop app 10.0.0.0/8 scram-sha-256")));
}

#[test]
fn image_change() {
    golden("image-change", &wish(|shop| shop.image = "pgmoor/postgres:17.12"));
}

#[test]
fn port_change() {
    golden("port-change", &wish(|shop| shop.port = 5433));
}

#[test]
fn label_change() {
    golden("label-change", &wish(|shop| shop.labels.extend([("team", "orders")])));
}

#[test]
fn role_exchanged() {
    let world = wish(|shop| shop.roles.extend(["old"]));
    let before = World::settled(world.desired);
    let shop = Shop { roles: ["app", "new"].into(), ..Shop::default() };
    golden("role-exchanged", &before.wish(shop.graph()));
}

#[test]
fn delete() {
    golden("delete", &settled().wish(Graph::default()));
}

#[test]
fn drifted_service() {
    let world = settled().change(&id(Kind::Service, "postgres-shop-n1"), |present| {
        if let Attributes::Service(service) = &mut present.attributes {
            service.image = "postgres:17".to_owned();
            service.labels.insert("by-hand".to_owned(), "yes".to_owned());
        }
    });
    golden("drifted-service", &world);
}

#[test]
fn service_gone() {
    let world = settled()
        .see(id(Kind::Service, "postgres-shop-n1"), Observation::Absent)
        .see(id(Kind::Instance, "shop-n1"), Observation::Absent)
        .see(id(Kind::Role, "app"), unknown("Postgres of shop-n1 does not answer"))
        .see(id(Kind::Database, "shop"), unknown("Postgres of shop-n1 does not answer"));
    golden("service-gone", &world);
}

#[test]
fn unknown_host() {
    let mut world = wish(|shop| {
        shop.image = "pgmoor/postgres:17.12";
        shop.roles.insert("report");
    });
    for (kind, name) in [
        (Kind::Directory, "shop-n1/data"),
        (Kind::Certificate, "shop-n1/server"),
        (Kind::File, "shop-n1/patroni.yml"),
        (Kind::Instance, "shop-n1"),
    ] {
        world = world.see(id(kind, name), unknown("host-1 does not answer"));
    }
    golden("unknown-host", &world);
}

#[test]
fn failed_create() {
    let mut world = wish(|shop| shop.image = "pgmoor/postgres:17.12");
    let failed = |action, error: &str| Outcome { action, attempts: 3, error: error.to_owned() };
    world.outcomes.insert(id(Kind::Service, "postgres-shop-n1"), failed(Action::Create, "no such image"));
    world.outcomes.insert(id(Kind::Database, "shop"), failed(Action::Create, "out of disk"));
    world = world.change(&id(Kind::Database, "shop"), |present| {
        present.attributes = Attributes::Database { name: "shop".to_owned(), owner: "postgres".to_owned() };
    });
    golden("failed-create", &world);
}

#[test]
fn certificate_renewal() {
    let world = settled().change(&id(Kind::Certificate, "shop-n1/server"), |present| {
        if let Attributes::Certificate(certificate) = &mut present.attributes {
            certificate.fresh = false;
        }
    });
    golden("certificate-renewal", &world);
}
