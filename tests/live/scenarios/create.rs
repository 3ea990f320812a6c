//! One message, one running Postgres, by either broker; and no password anywhere.

use std::path::Path;

use crate::docker::docker;

use super::Site;

const SHOP: &str = include_str!("../../../schemas/v1/examples/valid/shop.json");

fn small_and_whole(mosquitto: bool) {
    let site = Site::start(mosquitto);
    let status = site.apply("small", r#"{"template": "postgres"}"#);
    assert!(status["connection"]["port"].is_null(), "a template publishes no port: {status}");
    assert_eq!(site.psql("small", "CREATE TABLE t (x int); INSERT INTO t VALUES (41); SELECT x + 1 FROM t"), "42");
    site.apply("shop", SHOP);
    let version = site.psql("shop", "SHOW server_version");
    assert!(version.starts_with("17."), "{version}");
    assert_eq!(site.psql("shop", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "t");
    no_secret_is_seen(&site);
}

#[test]
fn by_the_embedded_broker() {
    small_and_whole(false);
}

#[test]
fn by_mosquitto() {
    small_and_whole(true);
}

/// Logs, topics, `docker inspect` and process arguments hold no password.
fn no_secret_is_seen(site: &Site) {
    let secrets = site.secrets();
    assert!(secrets.len() >= 4, "two databases, each with a user and an etcd login: {}", secrets.len());
    let check = |place: &str, text: &str| {
        assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())), "a password stands in {place}");
    };
    check("the log", &site.daemon.log());
    for (topic, payload) in site.daemon.wire.everything().iter().filter(|(topic, _)| !topic.ends_with("/spec")) {
        check(topic, payload);
    }
    for kind in ["service", "container", "network", "config"] {
        let objects = site.objects(kind);
        assert!(!objects.is_empty(), "{kind}");
        for object in objects {
            check(&format!("{kind} {object}"), &docker(&[kind, "inspect", &object]).unwrap());
        }
    }
    for service in site.objects("service") {
        check("the logs of a service", &docker(&["service", "logs", &service]).unwrap_or_default());
    }
    for process in std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()) {
        // A process may end while we look.
        let arguments = std::fs::read(Path::join(&process, "cmdline")).unwrap_or_default();
        check("the arguments of a process", &String::from_utf8_lossy(&arguments));
    }
}
