//! The daemon is killed in the middle of a create, at several points: the database comes up, nothing twice. The broker
//! is a mosquitto, since the embedded one would die with the daemon and take the message along.

use std::time::Duration;

use super::Site;

/// From the message to the kill: before the record, among certificates, before the service, while Postgres starts.
const MOMENTS_MS: [u64; 5] = [30, 120, 300, 900, 2500];

#[test]
fn a_create_that_was_killed_is_finished() {
    let mut site = Site::start(true);
    site.apply("first", r#"{"template": "postgres"}"#);
    for (number, moment_ms) in MOMENTS_MS.into_iter().enumerate() {
        let database = format!("db{number}");
        site.daemon.publish(&site.id(&database), r#"{"template": "postgres"}"#);
        std::thread::sleep(Duration::from_millis(moment_ms));
        site.kill();
        site.daemon.start_again();
        site.daemon.wait_status(&site.id(&database), "the database comes up", |status| status["state"] == "available");
        assert_eq!(site.psql(&database, "SELECT 40 + 2"), "42");
        let (services, networks) = (number + 3, number + 2);
        assert_eq!(site.objects("service").len(), services, "etcd, the first and one for each: nothing twice");
        assert_eq!(site.objects("network").len(), networks);
        assert_eq!(site.objects("container").len(), services);
        site.daemon
            .apply(&database, r#"{"template": "postgres", "client_token": "away", "deletion_protection": false}"#);
    }
    assert_eq!(site.psql("first", "SELECT 1"), "1", "the one that was there is there");
}
