//! Changes disturb as much as they must and no more, and data stays, also when the daemon is killed among them.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use pgmoor::drivers::certificates::{Authority, inspect, issue};
use pgmoor::runtime::clock::{Clock as _, SystemClock};

use super::Site;
use crate::daemon::until;
use crate::docker::docker;
use crate::{image, version};

/// A shop with these further keys.
fn shop(version: &str, more: &str) -> String {
    format!(
        r#"{{"database_name": "shop", "postgres_version": "{version}", "port": 0,
            "database_users": [{{"username": "owner", "db_owner": true, "attributes": ["LOGIN"]}}]{more}}}"#
    )
}

#[test]
fn changes_disturb_no_more_than_they_must() {
    let mut site = Site::start(false);
    site.daemon.expect_log(&["pass failed"]);
    site.apply("shop", &shop(&version(), ""));
    site.psql("shop", "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)");
    bad_specs(&site);
    reloads(&site);
    restarts_once(&site);
    contents(&site);
    replaces(&site);
    renews(&site);
    is_killed_and_goes_on(&mut site);
}

fn bad_specs(site: &Site) {
    let (started, before) = (site.postmaster("shop"), site.status("shop"));
    let codes = site.refused("shop", &shop(&version(), r#", "cpus": "none", "postgresql_conf": {"port": 1}"#));
    assert!(codes.len() >= 2, "all faults at once: {codes:?}");
    let after = site.status("shop");
    assert_eq!((&after["state"], &after["observed"]), (&before["state"], &before["observed"]));
    assert_eq!(site.postmaster("shop"), started);
}

fn reloads(site: &Site) {
    let started = site.postmaster("shop");
    let more = r#", "postgresql_conf": {"work_mem": "9MB"}, "pg_hba_conf": ["host all nobody all reject"]"#;
    site.apply("shop", &shop(&version(), more));
    assert_eq!(site.psql("shop", "SHOW work_mem"), "9MB");
    assert_eq!(site.postmaster("shop"), started, "a parameter and a line of pg_hba.conf are reloaded");
    site.apply("shop", &shop(&version(), ""));
    assert_ne!(site.psql("shop", "SHOW work_mem"), "9MB", "what is taken back goes");
    assert_eq!(site.postmaster("shop"), started);
}

fn restarts_once(site: &Site) {
    let (started, container) = (site.postmaster("shop"), site.container(&site.service("shop")));
    site.apply("shop", &shop(&version(), r#", "postgresql_conf": {"max_connections": 60}"#));
    assert_eq!(site.psql("shop", "SHOW max_connections"), "60");
    let restarted = site.postmaster("shop");
    assert_ne!(restarted, started);
    assert_eq!(site.container(&site.service("shop")), container, "Postgres restarts, its container does not");
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(site.postmaster("shop"), restarted, "once");
}

fn contents(site: &Site) {
    let started = site.postmaster("shop");
    let with = r#", "postgresql_conf": {"max_connections": 60}, "extensions": ["vector"],
        "scripts": {"post_database_create": ["CREATE TABLE scripted (x int)"]}"#;
    let users = r#""database_users": [{"username": "clerk", "attributes": ["LOGIN"], "roles": ["pg_read_all_data"]},"#;
    let spec = shop(&version(), with).replace(r#""database_users": ["#, users);
    site.apply("shop", &spec);
    assert_eq!(site.psql_as("shop", "clerk", "SELECT x FROM kept").as_deref(), Ok("7"));
    assert_eq!(site.psql("shop", "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"), "1");
    let without = with.replace(r#""extensions": ["vector"],"#, "");
    site.apply("shop", &shop(&version(), &without.replace("scripted (x int)", "scripted (y int)")));
    let changed = |status: &serde_json::Value| status.to_string().contains("\"ScriptChanged\"");
    site.daemon.wait_status(&site.id("shop"), "a changed script is told", changed);
    let column = "SELECT attname FROM pg_attribute WHERE attrelid = 'scripted'::regclass AND attnum = 1";
    assert_eq!(site.psql("shop", column), "x", "and not run");
    site.apply("shop", &shop(&version(), &without));
    site.daemon.wait_status(&site.id("shop"), "the spec has what ran", |status| !changed(status));
    assert!(site.psql_as("shop", "clerk", "SELECT 1").is_err(), "a user who left the spec is gone");
    assert_eq!(site.psql("shop", "SELECT count(*) FROM pg_roles WHERE rolname = 'clerk'"), "0");
    assert_eq!(site.psql("shop", "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"), "0");
    assert_eq!(site.postmaster("shop"), started, "what is inside Postgres restarts nothing");
}

fn replaces(site: &Site) {
    let before = site.container(&site.service("shop")).unwrap();
    let spec = shop(&version(), "").replace(r#""port": 0"#, &format!(r#""port": {}"#, crate::daemon::free_port()));
    site.apply("shop", &spec);
    let moved = site.container(&site.service("shop")).unwrap();
    assert_ne!(moved, before, "another port is another container");
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7");
    // Mirrors keep one minor version: the second image is the same one under another name and id.
    let second = format!("{}-r2", image());
    let pinned = format!(r#""orchestrator_opts": {{"swarm": {{"image": "{second}"}}}}, "port""#);
    site.apply("shop", &spec.replace(r#""port""#, &pinned));
    let runs = docker(&["inspect", "--format", "{{.Image}}", &site.container(&site.service("shop")).unwrap()]);
    assert_eq!(runs, docker(&["image", "inspect", "--format", "{{.Id}}", &second]), "it runs the second image");
    assert_ne!(runs, docker(&["image", "inspect", "--format", "{{.Id}}", &image()]), "which is another one");
    assert!(site.psql("shop", "SHOW server_version").starts_with(&version()), "{}", site.daemon.log());
    assert_ne!(site.container(&site.service("shop")).unwrap(), moved, "another image is another container");
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7");
}

/// A certificate in the last third of its life is renewed by a reload: a client is shown the new one.
fn renews(site: &Site) {
    const AGE_S: i64 = 300 * 24 * 3600;
    let started = site.postmaster("shop");
    let fleet = site.records().fleet.unwrap();
    let instance = site.credentials("shop").instances[0].instance.to_string();
    let stem = site.data_dir().join("instances").join(instance).join("certificates/server");
    let (certificate, key) = (stem.with_extension("crt"), stem.with_extension("key"));
    let now_s = SystemClock::new().now_s();
    let owner = std::fs::metadata(&certificate).unwrap();
    let text = std::fs::read_to_string(&certificate).unwrap();
    let stem = stem.to_string_lossy();
    let attributes = inspect(&stem, &text, &fleet.ca_certificate_pem, now_s, owner.uid(), owner.gid()).unwrap();
    let authority = Authority { certificate_pem: fleet.ca_certificate_pem, key_pem: fleet.ca_key_pem };
    let aged = issue(&authority, &attributes, now_s - AGE_S).unwrap();
    // Into the files that are there, so that their owner and their mode stay.
    std::fs::write(&key, aged.key_pem.expose()).unwrap();
    std::fs::write(&certificate, &aged.certificate_pem).unwrap();
    until("the certificate is renewed", || {
        let now = std::fs::read_to_string(&certificate).unwrap();
        now != aged.certificate_pem && shown(site) == serial(&now)
    });
    assert_eq!(site.postmaster("shop"), started, "a renewed certificate is loaded, nothing restarts");
}

/// The serial number of the certificate that a client is shown.
fn shown(site: &Site) -> String {
    let access = &site.credentials("shop").instances[0];
    let at = format!("{}:{}", access.address, access.port.unwrap());
    let output = Command::new("openssl").args(["s_client", "-starttls", "postgres", "-connect", &at]).output().unwrap();
    serial(&String::from_utf8_lossy(&output.stdout))
}

fn serial(certificate: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("certificate");
    std::fs::write(&file, certificate).unwrap();
    let output = Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(&file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The embedded broker dies with the daemon and keeps nothing: what was accepted is in the store.
fn is_killed_and_goes_on(site: &mut Site) {
    let spec = shop("17.12", "").replace(r#""port": 0"#, &format!(r#""port": {}"#, crate::daemon::free_port()));
    let digest = site.daemon.publish(&site.id("shop"), &spec);
    let accepted =
        |status: &serde_json::Value| status["verdict"]["digest"] == digest && status["verdict"]["result"] == "accepted";
    site.daemon.wait_status(&site.id("shop"), "the spec is accepted", accepted);
    site.kill();
    site.daemon.start_again();
    site.daemon.wait_status(&site.id("shop"), "the change is carried out", |status| {
        status["state"] == "available" && status["observed"]["digest"] == digest
    });
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7");
    let topic = format!("databases/{}/spec", site.id("shop"));
    assert_eq!(site.daemon.wire_as("somebody new").retained(&topic), spec, "the spec stands on its topic again");
    assert_eq!(site.names("service").len(), 2, "etcd and the shop: nothing twice");
}
