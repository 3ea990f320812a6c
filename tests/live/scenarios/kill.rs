//! The daemon is killed in the middle of a create, at several points: the database comes up, nothing twice. The broker
//! is a mosquitto, since the embedded one would die with the daemon and take the message along.

use std::time::Duration;

use super::Site;

/// From the message to the kill: before the record, among certificates, before the service, while Postgres starts.
const MOMENTS_MS: [u64; 5] = [30, 120, 300, 900, 2500];

#[test]
fn a_create_that_was_killed_is_finished() {
    let mut site = Site::start(true);
    // What a killed daemon was in the middle of is found by the next one.
    site.daemon.expect_log(&["pass failed"]);
    site.apply("first", r#"{"template": "postgres"}"#);
    for (number, moment_ms) in MOMENTS_MS.into_iter().enumerate() {
        let database = format!("db{number}");
        site.daemon.publish(&site.id(&database), r#"{"template": "postgres"}"#);
        std::thread::sleep(Duration::from_millis(moment_ms));
        site.kill();
        site.daemon.start_again();
        site.daemon.wait_status(&site.id(&database), "the database comes up", |status| status["state"] == "available");
        assert_eq!(site.psql(&database, "SELECT 40 + 2"), "42");
        nothing_twice(&site, number + 1);
    }
    assert_eq!(site.psql("first", "SELECT 1"), "1", "the one that was there is there");
}

/// etcd and the first database, and one service, container and network for each that came after. A container that Swarm
/// could not start, and made again by itself, is not a second Postgres: what counts is what ever ran.
fn nothing_twice(site: &Site, databases: usize) {
    let services = site.names("service");
    assert_eq!(services.len(), databases + 2, "{services:?}\n{}", site.daemon.log());
    let ran: Vec<String> =
        site.containers().into_iter().filter(|container| container.ever_ran).map(|c| c.told).collect();
    assert_eq!(ran.len(), databases + 2, "{ran:#?}\n{}", site.daemon.log());
    let networks = site.names("network");
    assert_eq!(networks.len(), databases + 1, "{networks:?}");
}
