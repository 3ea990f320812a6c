//! For each kind of drift: an event names it, and the plan is empty again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::super::pass::Next;
use super::site::Site;
use crate::contract::documents::{ConditionType, EventType, PlanState, State};
use crate::domain::layout;
use crate::drivers::fake::System;
use crate::drivers::host::Permissions;
use crate::model::role::{RoleAttributes, RoleFlags};
use crate::model::{Digest, Record, Secret};
use crate::store::Rows as _;

/// A database with something of everything.
const SHOP: &str = r#"{"database_name": "shop", "extensions": ["hstore"], "database_users": [
    {"username": "app", "db_owner": true, "attributes": ["LOGIN"]},
    {"username": "clerk", "attributes": ["LOGIN"], "roles": ["pg_read_all_data"]}]}"#;

/// Something happens behind pgmoor's back: one event for each resource that differs says what, and all of it is mended.
/// `expected`: how each resource's id begins, and what differs of it.
async fn drift(site: &Site, expected: &[(&str, &[&str])], hand: impl AsyncFnOnce(&Site)) {
    site.settle(&site.scope()).await;
    site.events();
    hand(site).await;
    site.look().await;
    let said = site.events_of(EventType::DriftFound);
    let found: Vec<(&str, Vec<&str>)> = said
        .iter()
        .map(|event| {
            let pointers = event.data.changes.iter().map(|change| change.pointer.as_str()).collect();
            (event.data.resource.as_deref().unwrap(), pointers)
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{expected:?}: {found:#?}");
    for (resource, pointers) in expected {
        let named = found.iter().any(|(name, differs)| name.starts_with(resource) && differs == pointers);
        assert!(named, "{resource} {pointers:?}: {found:#?}");
    }
    for event in &said {
        assert_eq!(event.data.noticed_by.as_ref().map(AsRef::as_ref), Some("host-1"));
        assert_eq!(event.subject, event.data.resource);
    }
    site.settle(&site.scope()).await;
    assert_eq!(site.plan().state, PlanState::Done, "{expected:?}");
    assert_eq!(site.status().state, State::Available, "{expected:?}");
    assert_eq!(site.condition(ConditionType::Drifted), None, "{expected:?}");
    assert_eq!(site.events_of(EventType::DriftFound), [], "{expected:?} is told once");
    // What comes later has nothing to do with it.
    tokio::time::sleep(Duration::from_secs(1200)).await;
}

fn clerk() -> RoleAttributes {
    RoleAttributes {
        name: "clerk".to_owned(),
        flags: RoleFlags { login: true, ..RoleFlags::default() },
        member_of: ["pg_read_all_data".to_owned()].into(),
        password_matches: true,
        connection_limit: None,
        valid_until: None,
        asks_verifiers: false,
    }
}

fn record(site: &Site) -> Record {
    site.shared.store.read(|reader| reader.record(&site.id)).unwrap().unwrap()
}

/// Somebody alters the role `clerk`.
async fn alter(site: &Site, alter: impl FnOnce(&mut RoleAttributes), password: Option<&str>) {
    let mut role = clerk();
    alter(&mut role);
    let own = record(site).passwords["clerk"].clone();
    let password = password.map_or(own, Secret::new);
    let at = site.endpoints().await.postgres;
    site.shared.world.drivers.postgres.put_role(&at, &role, Some(&password)).await.unwrap();
}

/// Somebody patches Patroni's configuration.
async fn patch(site: &Site, patch: serde_json::Value) {
    let at = site.endpoints().await.patroni;
    site.shared.world.drivers.patroni.patch_config(&at, &patch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn services_that_were_edited_or_removed() {
    let site = Site::new().await;
    site.apply(SHOP).await;
    let (site, service) = (&site, site.service());
    let service = service.as_str();
    drift(site, &[("service::", &[])], async |site| {
        let world = &site.shared.world;
        let live = world.drivers.swarm.services(&world.selector(&site.scope())).await.unwrap().remove(0);
        world.drivers.swarm.remove_service(&live.id).await.unwrap();
    })
    .await;
    drift(site, &[("service::", &["/env/HAND"])], async |site| {
        assert!(site.fake.edit_service(service, |live| drop(live.env.insert("HAND".to_owned(), "1".to_owned()))));
    })
    .await;
    drift(site, &[("service::", &["/image"])], async |site| {
        assert!(site.fake.edit_service(service, |live| live.image = "other".to_owned()));
    })
    .await;
    drift(site, &[("service::", &["/memory_limit_bytes"])], async |site| {
        assert!(site.fake.edit_service(service, |live| live.memory_limit_bytes = Some(1 << 30)));
    })
    .await;
    drift(site, &[("service::", &["/labels/hand"])], async |site| {
        assert!(site.fake.edit_service(service, |live| drop(live.labels.insert("hand".to_owned(), String::new()))));
    })
    .await;
    drift(site, &[("service::", &["/replicas"])], async |site| {
        assert!(site.fake.edit_service(service, |live| live.replicas = 0));
    })
    .await;
    assert_eq!(site.fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn networks_and_records_that_were_removed() {
    let site = &Site::new().await;
    site.apply(SHOP).await;
    drift(site, &[("network::", &[]), ("service::", &[])], async |site| {
        let world = &site.shared.world;
        let (swarm, selector) = (&world.drivers.swarm, world.selector(&site.scope()));
        let live = swarm.services(&selector).await.unwrap().remove(0);
        swarm.remove_service(&live.id).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let network = swarm.networks(&selector).await.unwrap().remove(0);
        swarm.remove_network(&network.id).await.unwrap();
    })
    .await;
    drift(site, &[("record::", &[])], async |site| {
        crate::world::record::remove(&site.shared.world, &site.scope()).await.unwrap();
    })
    .await;
    assert_eq!(site.fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn files_and_directories() {
    let site = &Site::new().await;
    site.apply(SHOP).await;
    let (data_dir, instance) = ("/var/lib/pgmoor", site.instance());
    let configs = layout::configs_directory(data_dir, instance.as_str());
    let file = format!("{configs}/patroni.yml");
    let file = file.as_str();
    drift(site, &[("file::", &[])], async |site| site.shared.world.drivers.host.remove_file(file).await.unwrap()).await;
    drift(site, &[("file::", &["/content"])], async |site| {
        let host = &site.shared.world.drivers.host;
        let is = host.read(file).await.unwrap().unwrap().permissions;
        host.write(file, &Secret::new("edited"), is).await.unwrap();
    })
    .await;
    drift(site, &[("file::", &["/mode"])], async |site| {
        let host = &site.shared.world.drivers.host;
        let is = host.read(file).await.unwrap().unwrap();
        host.write(file, &is.content, Permissions { mode: 0o644, ..is.permissions }).await.unwrap();
    })
    .await;
    drift(site, &[("directory::", &["/gid", "/mode", "/uid"])], async |site| {
        let everybody = Permissions { mode: 0o777, uid: 1000, gid: 1000 };
        site.shared.world.drivers.host.make_directory(&configs, everybody).await.unwrap();
    })
    .await;
    let key = format!("{}.key", layout::server_stem(data_dir, instance.as_str()));
    drift(site, &[("certificate::", &[])], async |site| {
        site.shared.world.drivers.host.remove_file(&key).await.unwrap();
    })
    .await;
    drift(site, &[("certificate::", &[])], async |site| {
        let host = &site.shared.world.drivers.host;
        let is = host.read(&key).await.unwrap().unwrap();
        host.write(&key, &is.content, Permissions { mode: 0o644, ..is.permissions }).await.unwrap();
    })
    .await;
    drift(site, &[("certificate::", &[])], async |site| {
        let host = &site.shared.world.drivers.host;
        let other = format!("{}.key", layout::superuser_stem(data_dir, instance.as_str()));
        let (is, other) = (host.read(&key).await.unwrap().unwrap(), host.read(&other).await.unwrap().unwrap());
        host.write(&key, &other.content, is.permissions).await.unwrap();
    })
    .await;
    assert_eq!(site.fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn etcd_users_and_patronis_configuration() {
    let site = &Site::new().await;
    site.apply(SHOP).await;
    let user = layout::etcd_user(&site.instance());
    let prefix = "/patroni/shop:n1/";
    drift(site, &[("etcd-user::", &[])], async |site| {
        let world = &site.shared.world;
        world.drivers.etcd.delete_user(&world.etcd().await.unwrap(), &user).await.unwrap();
    })
    .await;
    drift(site, &[("etcd-user::", &["/password_matches", "/prefix"])], async |site| {
        let world = &site.shared.world;
        let target = world.etcd().await.unwrap();
        world.drivers.etcd.put_user(&target, &user, &Secret::new("stolen"), "/patroni/").await.unwrap();
    })
    .await;
    drift(site, &[("patroni-config::", &["/parameters/work_mem", "/ttl"])], async |site| {
        patch(site, json!({"ttl": 45, "postgresql": {"parameters": {"work_mem": "99MB"}}})).await;
    })
    .await;
    drift(site, &[("patroni-config::", &["/pg_hba/0"])], async |site| {
        let world = &site.shared.world;
        let target = world.etcd().await.unwrap();
        let key = layout::patroni_config_key(prefix);
        let live = world.drivers.etcd.get(&target, &key).await.unwrap().unwrap();
        let mut document: serde_json::Value = serde_json::from_slice(&live.value).unwrap();
        let lines = document["postgresql"]["pg_hba"].as_array_mut().unwrap();
        lines.insert(0, json!("host all all 0.0.0.0/0 trust"));
        world.drivers.etcd.put(&target, &key, document.to_string().as_bytes(), None).await.unwrap();
    })
    .await;
    drift(site, &[("patroni-config::", &[])], async |site| patch(site, json!({"pause": true})).await).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_inside_postgres() {
    let site = &Site::new().await;
    site.apply(SHOP).await;
    drift(site, &[("role::clerk", &["/flags/createdb", "/flags/superuser"])], async |site| {
        alter(site, |role| (role.flags.createdb, role.flags.superuser) = (true, true), None).await;
    })
    .await;
    drift(site, &[("role::clerk", &["/member_of/0"])], async |site| {
        alter(
            site,
            |role| {
                role.member_of.insert("app".to_owned());
            },
            None,
        )
        .await;
    })
    .await;
    drift(site, &[("role::clerk", &["/connection_limit", "/valid_until"])], async |site| {
        let past = Some("2001-01-01T00:00:00Z".to_owned());
        alter(site, |role| (role.connection_limit, role.valid_until) = (Some(0), past), None).await;
    })
    .await;
    drift(site, &[("role::clerk", &["/password_matches"])], async |site| {
        alter(site, |_| {}, Some("another one, by hand")).await;
    })
    .await;
    drift(site, &[("role::clerk", &[])], async |site| {
        let at = site.endpoints().await.postgres;
        site.shared.world.drivers.postgres.drop_role(&at, "clerk", layout::SUPERUSER).await.unwrap();
    })
    .await;
    // Ours by its mark, and nobody asked for it.
    drift(site, &[("role::stranger", &[])], async |site| {
        alter(site, |role| role.name = "stranger".to_owned(), None).await;
    })
    .await;
    drift(site, &[("database::shop", &["/owner"])], async |site| {
        let at = site.endpoints().await.postgres;
        site.shared.world.drivers.postgres.put_database(&at, "shop", "clerk").await.unwrap();
    })
    .await;
    drift(site, &[("extension::hstore", &[])], async |site| {
        let at = site.endpoints().await.postgres;
        site.shared.world.drivers.postgres.drop_extension(&at, "shop", "hstore").await.unwrap();
    })
    .await;
    assert_eq!(site.fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn parameters_that_alter_system_sets() {
    let site = &Site::new().await;
    site.apply(SHOP).await;
    let (instance, service) = (site.instance(), site.service());
    let restarts = || site.fake.count("restart postgres", instance.as_str());
    let before = restarts();
    drift(site, &[("instance::", &["/alter_system"])], async |site| {
        assert!(site.fake.alter_system(&service, "maintenance_work_mem", "99MB"));
        // Only a start would take it; nobody asked for one.
        assert!(site.fake.alter_system(&service, "shared_buffers", "99MB"));
    })
    .await;
    let server = async || {
        let at = site.endpoints().await.postgres;
        site.shared.world.drivers.postgres.server(&at).await.unwrap()
    };
    assert_eq!(server().await.alter_system, BTreeSet::new());
    site.events();
    // What pgmoor does not write is its user's, also when it waits for the next start.
    assert!(site.fake.alter_system(&service, "work_mem", "99MB"));
    assert!(site.fake.alter_system(&service, "max_files_per_process", "900"));
    site.look().await;
    assert_eq!(site.events_of(EventType::DriftFound), []);
    assert!(site.plan().stages.is_empty(), "{:#?}", site.plan());
    assert_eq!((restarts(), site.fake.violations()), (before, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_a_spec_asks_for_is_no_drift() {
    let site = Site::new().await;
    site.apply(SHOP).await;
    let other = SHOP.replace(r#""LOGIN"], "roles""#, r#""LOGIN", "CREATEDB"], "roles""#);
    site.apply(&other).await;
    site.apply(SHOP).await;
    let fewer = r#"{"database_name": "shop", "port": 15000, "postgresql_conf": {"work_mem": "9MB"}}"#;
    site.apply(fewer).await;
    // Half of a change was done when the old spec came back: that is no drift either.
    site.publish(SHOP).await;
    site.look().await;
    site.apply(fewer).await;
    // Nor is a password that is asked for, however often, or one of a user who left and came back before his role was gone.
    for password in ["one", "two", "three", "four"] {
        site.apply(&SHOP.replace(r#""clerk","#, &format!(r#""clerk", "password": "{password}","#))).await;
    }
    site.fake.unreachable(System::Postgres, true);
    site.publish(fewer).await;
    site.look().await;
    site.publish(SHOP).await;
    site.look().await;
    site.fake.unreachable(System::Postgres, false);
    site.settle(&site.scope()).await;
    assert_ne!(record(&site).passwords["clerk"], Secret::new("four"), "what was known of him went when he left");
    site.apply(fewer).await;
    // What was forgotten is found and mended, and nobody is blamed.
    site.shared
        .store
        .write({
            let scope = site.scope();
            move |writer| writer.forget_drift(&scope)
        })
        .await
        .unwrap();
    let live = site.shared.world.drivers.swarm.services(&site.shared.world.selector(&site.scope())).await.unwrap();
    site.shared.world.drivers.swarm.remove_service(&live[0].id).await.unwrap();
    site.settle(&site.scope()).await;
    assert_eq!(site.events_of(EventType::DriftFound), []);
    assert_eq!(site.status().observed.unwrap().digest, Digest::of_bytes(fewer.as_bytes()));
}

#[tokio::test(start_paused = true)]
async fn drift_that_comes_back_is_a_fight() {
    let site = &Site::new().await;
    site.apply(SHOP).await;
    let createdb = async || alter(site, |role| role.flags.createdb = true, None).await;
    for _ in 0..2 {
        createdb().await;
        site.settle(&site.scope()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    // Something else of the same resource does not count, and is mended at once.
    alter(site, |role| role.flags.createrole = true, None).await;
    site.settle(&site.scope()).await;
    assert_eq!(site.events_of(EventType::DriftFight), []);
    createdb().await;
    let Next::After(wait) = site.look().await else { panic!("the third repair waits") };
    assert!(wait <= Duration::from_secs(10), "it is looked at meanwhile: {wait:?}");
    let fights = site.events_of(EventType::DriftFight);
    assert_eq!(fights.len(), 1);
    assert_eq!((fights[0].data.resource.as_deref(), fights[0].data.times), (Some("role::clerk"), Some(3)));
    assert_eq!(fights[0].data.changes[0].pointer, "/flags/createdb");
    assert!(site.condition(ConditionType::Fight).unwrap().message.contains("role::clerk"));
    assert!(site.condition(ConditionType::Drifted).is_some());
    tokio::time::sleep(Duration::from_secs(50)).await;
    site.look().await;
    assert!(site.condition(ConditionType::Drifted).is_some(), "the pause is a minute");
    tokio::time::sleep(Duration::from_secs(10)).await;
    site.settle(&site.scope()).await;
    assert_eq!(site.condition(ConditionType::Drifted), None, "then it is repaired");
    assert!(site.condition(ConditionType::Fight).is_some(), "and may come back");

    createdb().await;
    site.look().await;
    tokio::time::sleep(Duration::from_secs(110)).await;
    site.look().await;
    assert!(site.condition(ConditionType::Drifted).is_some(), "the next pause is twice as long");
    tokio::time::sleep(Duration::from_secs(10)).await;
    site.settle(&site.scope()).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    site.look().await;
    assert_eq!(site.condition(ConditionType::Fight), None, "ten quiet minutes end it");
    site.events();
    createdb().await;
    site.settle(&site.scope()).await;
    assert_eq!(site.events_of(EventType::DriftFight), []);
}
