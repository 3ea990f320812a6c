//! Postgres: roles, databases, extensions and scripts, and that they outlive the container.

use std::collections::{BTreeMap, BTreeSet};

use pgmoor::domain::{catalogue, layout};
use pgmoor::drivers::Endpoint;
use pgmoor::drivers::postgres::{Postgres, RoleSeen};
use pgmoor::model::role::{RoleAttributes, RoleFlags};
use pgmoor::model::{Digest, Secret};

use super::site::{Shop, Site};
use super::{Bench, is_failed, is_not_found, until};

pub(crate) async fn postgres(bench: &impl Bench) {
    let site = Site::new(bench).await;
    let shop = site.start_shop().await;
    let postgres = &*bench.drivers().postgres;
    let at = &shop.postgres;
    roles(postgres, at).await;
    role_limits(postgres, at).await;
    alter_system(bench, &shop).await;
    databases(postgres, at).await;
    extensions(postgres, at).await;
    scripts(postgres, at).await;
    let missing = postgres.extensions(at, "no_such_database").await;
    assert!(is_not_found(&missing), "{missing:?}");
}

fn role(name: &str) -> RoleAttributes {
    RoleAttributes {
        name: name.to_owned(),
        flags: RoleFlags { login: true, ..RoleFlags::default() },
        member_of: BTreeSet::new(),
        password_matches: true,
        connection_limit: None,
        valid_until: None,
        asks_verifiers: false,
    }
}

async fn seen(postgres: &dyn Postgres, at: &Endpoint, name: &str, password: &str) -> Option<RoleSeen> {
    let asked = BTreeMap::from([(name.to_owned(), Secret::new(password))]);
    postgres.roles(at, &asked).await.unwrap().into_iter().find(|role| role.attributes.name == name)
}

async fn roles(postgres: &dyn Postgres, at: &Endpoint) {
    let system = seen(postgres, at, layout::SUPERUSER, "x").await.unwrap();
    assert!(system.attributes.flags.superuser && !system.managed, "{system:?}");
    assert!(seen(postgres, at, layout::REPLICATION_ROLE, "x").await.unwrap().attributes.flags.replication);
    assert_eq!(seen(postgres, at, "app", "x").await, None);

    let mut app = role("app");
    postgres.put_role(at, &role("readers"), None).await.unwrap();
    postgres.put_role(at, &app, Some(&Secret::new("first password"))).await.unwrap();
    let made = seen(postgres, at, "app", "first password").await.unwrap();
    assert_eq!((made.managed, &made.attributes), (true, &app), "it reads back as it was written");
    assert!(!seen(postgres, at, "app", "wrong").await.unwrap().attributes.password_matches);
    let unasked = postgres.roles(at, &BTreeMap::new()).await.unwrap();
    assert!(unasked.iter().all(|role| role.attributes.password_matches), "nothing is wrong where nobody asked");

    app.flags.createdb = true;
    app.member_of = BTreeSet::from(["readers".to_owned(), "pg_read_all_data".to_owned()]);
    postgres.put_role(at, &app, Some(&Secret::new("second password"))).await.unwrap();
    let changed = seen(postgres, at, "app", "second password").await.unwrap();
    assert_eq!((changed.managed, &changed.attributes), (true, &app));
    app.member_of.clear();
    postgres.put_role(at, &app, None).await.unwrap();
    let changed = seen(postgres, at, "app", "second password").await.unwrap();
    assert_eq!(changed.attributes, app, "memberships go, and the password that was not given stays");
    let unknown = RoleAttributes { member_of: BTreeSet::from(["nobody".to_owned()]), ..app.clone() };
    let refused = postgres.put_role(at, &unknown, None).await;
    assert!(is_failed(&refused), "{refused:?}");
    assert_eq!(seen(postgres, at, "app", "second password").await.unwrap().attributes, app, "all or nothing");
}

async fn role_limits(postgres: &dyn Postgres, at: &Endpoint) {
    let plain = role("limited");
    let limited = RoleAttributes {
        connection_limit: Some(3),
        valid_until: Some("2030-01-31T12:00:00Z".to_owned()),
        ..plain.clone()
    };
    let asks = RoleAttributes { asks_verifiers: true, ..plain.clone() };
    for wanted in [&asks, &plain, &asks] {
        postgres.put_role(at, wanted, None).await.unwrap();
        assert_eq!(&seen(postgres, at, "limited", "x").await.unwrap().attributes, wanted);
    }
    for wanted in [&limited, &plain] {
        postgres.put_role(at, wanted, None).await.unwrap();
        assert_eq!(
            &seen(postgres, at, "limited", "x").await.unwrap().attributes.connection_limit,
            &wanted.connection_limit
        );
        assert_eq!(&seen(postgres, at, "limited", "x").await.unwrap().attributes.valid_until, &wanted.valid_until);
    }
}

/// What Patroni writes and somebody else sets over it is seen and taken back; what Patroni does not write is left. Neither
/// waits for a restart that nobody asked for.
async fn alter_system(bench: &impl Bench, shop: &Shop) {
    let (postgres, at) = (&bench.drivers().postgres, &shop.postgres);
    let ours = BTreeSet::from(["maintenance_work_mem".to_owned(), "shared_buffers".to_owned()]);
    assert!(ours.iter().all(|name| shop.config.parameters.contains_key(name)), "{:?}", shop.config.parameters);
    let theirs = ["work_mem".to_owned(), "max_files_per_process".to_owned()];
    for name in ours.iter().chain(&theirs) {
        bench.alter_system(&shop.service.name, name, "65536");
    }
    until("it is seen", async || postgres.server(at).await.is_ok_and(|server| server.alter_system == ours)).await;
    assert_eq!(postgres.server(at).await.unwrap().pending_restart, [""; 0]);
    postgres.reset_parameters(at, &ours).await.unwrap();
    until("it is reset", async || postgres.server(at).await.is_ok_and(|server| server.alter_system.is_empty())).await;
    assert_eq!(postgres.server(at).await.unwrap().pending_restart, [""; 0], "shared_buffers is what it was");
}

async fn databases(postgres: &dyn Postgres, at: &Endpoint) {
    let owner = async |name: &str| {
        let databases = postgres.databases(at).await.unwrap();
        databases.into_iter().find(|database| database.name == name).map(|database| database.owner)
    };
    assert_eq!(owner("postgres").await.as_deref(), Some(layout::SUPERUSER));
    assert_eq!(owner("template1").await, None);
    assert_eq!(owner("shop").await, None);
    let refused = postgres.put_database(at, "shop", "nobody").await;
    assert!(is_failed(&refused), "{refused:?}");
    for name in ["readers", "app", "app"] {
        postgres.put_database(at, "shop", name).await.unwrap();
        assert_eq!(owner("shop").await.as_deref(), Some(name));
    }
    postgres.put_role(at, &role("leaver"), None).await.unwrap();
    postgres.put_database(at, "inherited", "leaver").await.unwrap();
    postgres.drop_role(at, "leaver", "app").await.unwrap();
    assert_eq!(seen(postgres, at, "leaver", "x").await, None);
    assert_eq!(owner("inherited").await.as_deref(), Some("app"), "what a role owned goes to its heir");
}

async fn extensions(postgres: &dyn Postgres, at: &Endpoint) {
    let extension = async |name: &str| {
        let extensions = postgres.extensions(at, "shop").await.unwrap();
        extensions.into_iter().find(|extension| extension.name == name)
    };
    let plpgsql = extension("plpgsql").await.unwrap();
    assert!(!plpgsql.managed, "Postgres brought it");
    assert_eq!(extension("vector").await, None);
    for _ in 0..2 {
        postgres.put_extension(at, "shop", "vector", None, None).await.unwrap();
        let vector = extension("vector").await.unwrap();
        let catalogue = catalogue::embedded().unwrap();
        let image = catalogue.postgres(&catalogue.default).unwrap();
        assert_eq!(image.extensions.get("vector").unwrap().version.as_ref(), Some(&vector.version));
        assert_eq!((vector.managed, vector.schema.as_str()), (true, "public"));
    }
    postgres.put_extension(at, "shop", "hstore", Some("1.8"), Some("apart")).await.unwrap();
    assert_eq!(extension("hstore").await.unwrap().schema, "apart");
    let refused = postgres.put_extension(at, "shop", "no_such_extension", None, None).await;
    assert!(is_failed(&refused), "{refused:?}");
    let refused = postgres.put_extension(at, "shop", "vector", Some("99.9"), None).await;
    assert!(is_failed(&refused), "{refused:?}");
    postgres.drop_extension(at, "shop", "vector").await.unwrap();
    assert_eq!(extension("vector").await, None);
}

async fn scripts(postgres: &dyn Postgres, at: &Endpoint) {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert_eq!(postgres.scripts_done(at, "shop").await, Ok(BTreeMap::new()));
    let broken = lines(&["CREATE TABLE tried (id int)", "SELECT 1/0"]);
    let failed = postgres.run_script(at, "shop", "post_database_create", &broken).await;
    assert!(is_failed(&failed), "{failed:?}");
    assert_eq!(postgres.scripts_done(at, "shop").await, Ok(BTreeMap::new()));
    let mended = lines(&["CREATE TABLE tried (id int)", "INSERT INTO tried VALUES (1)"]);
    let other = lines(&["INSERT INTO tried VALUES (2)"]);
    for statements in [&mended, &other] {
        postgres.run_script(at, "shop", "post_database_create", statements).await.unwrap();
        let done = BTreeMap::from([("post_database_create".to_owned(), Digest::of(&mended))]);
        assert_eq!(postgres.scripts_done(at, "shop").await, Ok(done), "what ran is remembered, and nothing else runs");
    }
    assert_eq!(postgres.scripts_done(at, "postgres").await, Ok(BTreeMap::new()), "each database remembers its own");
}

/// A service that is removed and made again once its container is gone serves the same data.
pub(crate) async fn data_outlives_its_container(bench: &impl Bench) {
    let site = Site::new(bench).await;
    let mut shop = site.start_shop().await;
    let drivers = bench.drivers();
    let statements = vec!["CREATE TABLE kept (id int)".to_owned()];
    drivers.postgres.put_role(&shop.postgres, &role("app"), Some(&Secret::new("the password"))).await.unwrap();
    drivers.postgres.put_database(&shop.postgres, "shop", "app").await.unwrap();
    drivers.postgres.run_script(&shop.postgres, "shop", "once", &statements).await.unwrap();
    let before = drivers.postgres.server(&shop.postgres).await.unwrap();

    let services = drivers.swarm.services(&bench.labels()).await.unwrap();
    let id = services.into_iter().find(|service| service.attributes.name == shop.service.name).unwrap().id;
    drivers.swarm.remove_service(&id).await.unwrap();
    let data = layout::data_directory(&site.facts.data_dir, shop.instance.as_str());
    let stopped = async || drivers.swarm.containers_mounting(&data).await.unwrap().is_empty();
    until("nothing has the data directory", stopped).await;
    assert!(drivers.postgres.server(&shop.postgres).await.is_err());
    drivers.swarm.create_service(&shop.service).await.unwrap();
    (shop.patroni, shop.postgres) = site.endpoints(&shop.instance, &shop.service.name).await;
    site.serves(&shop).await;
    let after = drivers.postgres.server(&shop.postgres).await.unwrap();
    assert!(after.started_ms > before.started_ms);
    assert_eq!(after.config, before.config);
    let done = drivers.postgres.scripts_done(&shop.postgres, "shop").await.unwrap();
    assert_eq!(done.into_keys().collect::<Vec<_>>(), ["once"]);
    let app = seen(&*drivers.postgres, &shop.postgres, "app", "the password").await.unwrap();
    assert!(app.managed && app.attributes.password_matches);
}
