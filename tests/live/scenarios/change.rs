//! Changes disturb as much as they must and no more, and data stays.

use super::Site;

/// A shop with these further keys.
fn shop(version: &str, more: &str) -> String {
    format!(
        r#"{{"database_name": "shop", "postgres_version": "{version}", "port": 0,
            "database_users": [{{"username": "owner", "db_owner": true, "attributes": ["LOGIN"]}}]{more}}}"#
    )
}

#[test]
fn changes_disturb_no_more_than_they_must() {
    let site = Site::start(false);
    site.apply("shop", &shop("17.11", ""));
    site.psql("shop", "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)");
    bad_specs(&site);
    reloads(&site);
    restarts_once(&site);
    contents(&site);
    replaces(&site);
}

fn bad_specs(site: &Site) {
    let (started, before) = (site.postmaster("shop"), site.status("shop"));
    let codes = site.refused("shop", &shop("17.11", r#", "cpus": "none", "postgresql_conf": {"port": 1}"#));
    assert!(codes.len() >= 2, "all faults at once: {codes:?}");
    let after = site.status("shop");
    assert_eq!((&after["state"], &after["observed"]), (&before["state"], &before["observed"]));
    assert_eq!(site.postmaster("shop"), started);
}

fn reloads(site: &Site) {
    let started = site.postmaster("shop");
    let more = r#", "postgresql_conf": {"work_mem": "9MB"}, "pg_hba_conf": ["host all nobody all reject"]"#;
    site.apply("shop", &shop("17.11", more));
    assert_eq!(site.psql("shop", "SHOW work_mem"), "9MB");
    assert_eq!(site.postmaster("shop"), started, "a parameter and a line of pg_hba.conf are reloaded");
    site.apply("shop", &shop("17.11", ""));
    assert_ne!(site.psql("shop", "SHOW work_mem"), "9MB", "what is taken back goes");
    assert_eq!(site.postmaster("shop"), started);
}

fn restarts_once(site: &Site) {
    let (started, container) = (site.postmaster("shop"), site.container(&site.service("shop")));
    site.apply("shop", &shop("17.11", r#", "postgresql_conf": {"max_connections": 60}"#));
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
    let spec = shop("17.11", with).replace(r#""database_users": ["#, users);
    site.apply("shop", &spec);
    assert_eq!(site.psql_as("shop", "clerk", "SELECT x FROM kept").as_deref(), Ok("7"));
    assert_eq!(site.psql("shop", "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"), "1");
    site.apply("shop", &shop("17.11", &with.replace(r#""extensions": ["vector"],"#, "")));
    assert!(site.psql_as("shop", "clerk", "SELECT 1").is_err(), "a user who left the spec is gone");
    assert_eq!(site.psql("shop", "SELECT count(*) FROM pg_roles WHERE rolname = 'clerk'"), "0");
    assert_eq!(site.psql("shop", "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"), "0");
    assert_eq!(site.postmaster("shop"), started, "what is inside Postgres restarts nothing");
}

fn replaces(site: &Site) {
    let before = site.container(&site.service("shop")).unwrap();
    let spec = shop("17.11", "").replace(r#""port": 0"#, &format!(r#""port": {}"#, crate::daemon::free_port()));
    site.apply("shop", &spec);
    let moved = site.container(&site.service("shop")).unwrap();
    assert_ne!(moved, before, "another port is another container");
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7");
    site.apply("shop", &spec.replace("17.11", "17.12"));
    assert!(site.psql("shop", "SHOW server_version").starts_with("17.12"), "{}", site.daemon.log());
    assert_ne!(site.container(&site.service("shop")).unwrap(), moved, "another image is another container");
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7");
}
