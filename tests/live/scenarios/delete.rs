//! A delete is an explicit word; it takes everything but the data, and the same spec brings the data back.

use pgmoor::domain::layout;
use pgmoor::drivers::TlsIdentity;
use pgmoor::drivers::etcd::{Etcd as _, EtcdTarget, Gateway};
use pgmoor::drivers::swarm::{DEFAULT_SOCKET, Docker, Labels, Swarm as _};
use pgmoor::model::Secret;

use super::Site;
use crate::daemon::until;

const SHOP: &str = r#"{"database_name": "shop", "deletion_protection": false,
    "database_users": [{"username": "owner", "db_owner": true, "attributes": ["LOGIN"]}]}"#;

#[test]
fn what_is_deleted_goes_and_comes_back() {
    let site = Site::start(false);
    site.apply("shop", &SHOP.replace("false", "true"));
    site.psql("shop", "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)");
    let codes = site.refused("shop", r#"{"deleted": true}"#);
    assert_eq!(codes.len(), 1, "{codes:?}");
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7", "protection refuses");

    let passwords = site.secrets();
    site.apply("shop", SHOP);
    let instance = site.credentials("shop").instances[0].instance.to_string();
    site.daemon.publish(&site.id("shop"), r#"{"deleted": true}"#);
    gone(&site, &instance);
    site.apply("shop", SHOP);
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7", "the data came back from the trash");
    assert_eq!(site.secrets(), passwords, "and no password changed");

    site.daemon.wire.publish(&format!("databases/{}/spec", site.id("shop")), "", true);
    gone(&site, &instance);
}

#[test]
fn the_trash_gives_back_or_is_purged_by_a_word_or_by_time() {
    let site = Site::start_with(false, &["--deletion-grace-s", "45"]);
    let id = site.id("shop");
    site.apply("shop", SHOP);
    site.psql("shop", "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)");
    let password = site.secrets();
    let instance = site.credentials("shop").instances[0].instance.to_string();
    let command = |verb: &str| site.daemon.wire.publish(&format!("databases/{id}/commands/{verb}"), "{}", false);
    let trash = site.data_dir().join(format!("trash/{instance}"));

    site.daemon.publish(&id, r#"{"deleted": true}"#);
    gone(&site, &instance);
    command("undelete");
    let back = |status: &serde_json::Value| status["state"] == "available" && status["observed"]["generation"].is_u64();
    site.daemon.wait_status(&id, "it is brought back", back);
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7", "the data came back from the trash");
    assert_eq!(site.secrets(), password, "and no password changed");

    site.daemon.publish(&id, r#"{"deleted": true}"#);
    gone(&site, &instance);
    command("purge");
    until("the trash is purged by a word", || !trash.exists());
    site.apply("shop", SHOP);
    assert_eq!(site.psql("shop", "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'"), "0", "the id is free");
    assert!(site.secrets().iter().all(|new| !password.contains(new)), "another database has other passwords");

    site.daemon.publish(&id, r#"{"deleted": true}"#);
    gone(&site, &instance);
    until("the trash is purged by time", || !trash.exists());
    until("the record is gone", || site.names("config").iter().all(|name| !name.contains(&id)));
}

/// Containers, network, keys and topics are gone; the data is in the trash.
fn gone(site: &Site, instance: &str) {
    site.daemon.wait_gone(&site.id("shop"));
    site.wait_only_etcd();
    assert!(site.data_dir().join(format!("trash/{instance}/pgdata/PG_VERSION")).exists(), "the data is kept");
    assert!(!site.data_dir().join(format!("instances/{instance}")).exists());
    assert!(!site.data_dir().join(format!("credentials/{}.json", site.id("shop"))).exists());
    assert_eq!(left_in_etcd(site), [""; 0], "no key and no user of it is left in etcd");
}

/// Patroni's keys and the instances' users in etcd, read as the daemon reads them.
fn left_in_etcd(site: &Site) -> Vec<String> {
    let record = site.records().fleet.unwrap();
    let file = |name: &str| std::fs::read_to_string(site.data_dir().join("ca").join(name)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let swarm = Docker::new(DEFAULT_SOCKET);
        let labels = Labels::from([("pgmoor.fleet".to_owned(), site.fleet.clone())]);
        let service = swarm.services(&labels).await.unwrap().remove(0);
        let port = service.attributes.ports.iter().find(|port| port.name == "client").unwrap().published;
        let identity = TlsIdentity {
            ca_pem: file("ca.crt"),
            certificate_pem: file("daemon.crt"),
            key_pem: Secret::new(file("daemon.key")),
        };
        let target = EtcdTarget {
            endpoints: record.etcd_members.values().map(|address| layout::etcd_url(address, port)).collect(),
            identity: identity.into(),
            root_password: record.etcd_root_password,
        };
        let etcd = Gateway::new();
        let mut left = etcd.keys(&target, layout::PATRONI_NAMESPACE).await.unwrap();
        left.extend(etcd.users(&target).await.unwrap());
        left
    })
}
