//! What is changed behind pgmoor's back is said and mended; what is only observed or paused is left.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Site;
use crate::daemon::until;
use crate::docker::{alter_system, docker};

/// From what cannot be changed by us (a container that stops, a hand that edits) to a plan that is empty again.
const MENDED_WITHIN: Duration = Duration::from_secs(15);
/// How long the old Postgres is kept from stopping.
const SLOW_STOP: Duration = Duration::from_secs(8);

/// A shop with these further keys.
fn shop(more: &str) -> String {
    format!(
        r#"{{"database_name": "shop", "database_users": [
            {{"username": "owner", "db_owner": true, "attributes": ["LOGIN", "SUPERUSER"]}},
            {{"username": "clerk", "attributes": ["LOGIN"]}}]{more}}}"#
    )
}

#[test]
fn what_is_changed_by_hand_is_mended_and_said() {
    let site = Site::start(false);
    site.daemon.expect_log(&["drift"]);
    site.apply("shop", &shop(""));
    site.psql("shop", "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)");
    removed_service(&site);
    let file = site.data_dir().join(format!("instances/{}/configs/patroni.yml", instance(&site)));
    mended(&site, "file::", "", || std::fs::remove_file(&file).unwrap());
    assert!(file.exists());
    mended(&site, "role::clerk", "/flags/createdb", || drop(site.psql("shop", "ALTER ROLE clerk CREATEDB")));
    assert_eq!(site.psql("shop", "SELECT rolcreatedb FROM pg_roles WHERE rolname = 'clerk'"), "f");
    let limits = "ALTER ROLE clerk CONNECTION LIMIT 0 VALID UNTIL '2001-01-01'";
    mended(&site, "role::clerk", "/valid_until", || drop(site.psql("shop", limits)));
    assert_eq!(site.psql_as("shop", "clerk", "SELECT 1").as_deref(), Ok("1"), "it gets in again");
    mended(&site, "role::clerk", "/password_matches", || drop(site.psql("shop", "ALTER ROLE clerk PASSWORD 'x'")));
    mended(&site, "role::clerk", "", || drop(site.psql("shop", "DROP ROLE clerk")));
    assert_eq!(site.psql_as("shop", "clerk", "SELECT 1").as_deref(), Ok("1"), "with the same password");
    patched_parameter(&site);
    altered_system(&site);
    hands_off(&site);
    edited_service(&site);
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7");
}

fn instance(site: &Site) -> String {
    site.credentials("shop").instances[0].instance.to_string()
}

/// The events of drift so far.
fn drifts(site: &Site) -> Vec<Value> {
    events(site, "dev.pgmoor.drift.found")
}

/// The events of a type so far.
fn events(site: &Site, kind: &str) -> Vec<Value> {
    let all = site.daemon.wire.everything();
    let events = all.iter().filter(|(topic, _)| topic.ends_with("/events"));
    let events = events.map(|(_, payload)| serde_json::from_str::<Value>(payload).unwrap());
    events.filter(|event| event["type"] == kind).collect()
}

fn settled(site: &Site) -> bool {
    let plan = site.daemon.wire.last(&format!("databases/{}/plan", site.id("shop"))).unwrap_or_default();
    let plan: Value = serde_json::from_str(&plan).unwrap_or_default();
    let status = site.status("shop");
    let drifted = status["conditions"].as_array().unwrap().iter().any(|condition| condition["type"] == "Drifted");
    plan["state"] == "done" && status["state"] == "available" && !drifted
}

/// Waits for the event of a resource, with a pointer unless it is empty, and for an empty plan after it.
#[expect(clippy::disallowed_methods, reason = "a test measures its own patience, nobody else's time")]
fn mended(site: &Site, resource: &str, pointer: &str, hand: impl FnOnce()) {
    let (before, done) = (drifts(site).len(), events(site, "dev.pgmoor.step.finished").len());
    hand();
    let start = Instant::now();
    let named = |event: &Value| {
        let pointers = event["data"]["changes"].as_array().cloned().unwrap_or_default();
        event["data"]["resource"].as_str().is_some_and(|name| name.starts_with(resource))
            && event["data"]["noticed_by"] == "host-1"
            && (pointer.is_empty() || pointers.iter().any(|change| change["pointer"] == pointer))
    };
    let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("it is said", || drifts(site)[before..].iter().any(named));
    }));
    assert!(said.is_ok(), "{resource} {pointer} is not said: {:#?}\n{}", drifts(site), site.daemon.log());
    let is_about = |event: &Value| event["data"]["resource"].as_str().is_some_and(|name| name.starts_with(resource));
    until("it is mended", || events(site, "dev.pgmoor.step.finished")[done..].iter().any(is_about));
    until("the plan is empty again", || settled(site));
    let took = start.elapsed();
    assert!(took < MENDED_WITHIN, "{resource} {pointer}: {took:?}\n{}", site.daemon.log());
}

/// The service is removed while a session is open and Postgres takes its time to stop: nobody else ever has its data
/// directory, and then it is there again.
#[expect(clippy::disallowed_methods, reason = "a test measures its own patience, nobody else's time")]
fn removed_service(site: &Site) {
    let (service, before) = (site.service("shop"), drifts(site).len());
    let old = site.container(&service).unwrap();
    let mut session = session(site);
    let find = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    until("the session is open", || !site.psql("shop", find).is_empty());
    let backend = site.psql("shop", find);
    let signal = |name: &str| docker(&["exec", &old, "sh", "-c", &format!("kill -{name} {backend}")]).unwrap();
    signal("STOP");
    docker(&["service", "rm", &service]).unwrap();
    let start = Instant::now();
    while start.elapsed() < SLOW_STOP {
        assert_eq!(mounting(site), std::slice::from_ref(&old), "only the one that stops has the data directory");
        std::thread::sleep(Duration::from_millis(200));
    }
    signal("CONT");
    until("the old container is gone", || !mounting(site).contains(&old));
    let free = Instant::now();
    until("the service is made again", || site.container(&service).is_some());
    until("the plan is empty again", || mounting(site).len() <= 1 && settled(site));
    let took = free.elapsed();
    assert!(took < MENDED_WITHIN, "{took:?}\n{}", site.daemon.log());
    assert_eq!(mounting(site).len(), 1);
    let said = drifts(site);
    let said: Vec<&str> = said[before..].iter().filter_map(|event| event["data"]["resource"].as_str()).collect();
    assert_eq!(said, [format!("service::{}", instance(site))], "what follows from it is not drift");
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7");
    session.kill().ok();
    session.wait().unwrap();
}

/// A session that sleeps.
fn session(site: &Site) -> Child {
    let credentials = site.credentials("shop");
    let container = site.container(&site.service("shop")).unwrap();
    let format = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
    let address = docker(&["inspect", "--format", format, &container]).unwrap();
    let target = format!("host={address} dbname=shop user=owner sslmode=require connect_timeout=10");
    let mut command = Command::new("psql");
    command.args(["-Xqc", "SELECT pg_sleep(600)", &target]).env("PGPASSWORD", credentials.passwords["owner"].expose());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The containers, running or stopping, that have the data directory mounted.
fn mounting(site: &Site) -> Vec<String> {
    let data = site.data_dir().join(format!("instances/{}/data", instance(site)));
    let filter = format!("volume={}", data.display());
    docker(&["ps", "-q", "--filter", &filter]).unwrap().lines().map(str::to_owned).collect()
}

fn edited_service(site: &Site) {
    let service = site.service("shop");
    mended(site, "service::", "/env/HAND", || {
        docker(&["service", "update", "--detach", "--env-add", "HAND=1", &service]).unwrap();
    });
    let env =
        docker(&["service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Env}}", &service]).unwrap();
    assert!(!env.contains("HAND"), "{env}");
    let container = site.container(&service);
    mended(site, "service::", "/labels/hand", || {
        docker(&["service", "update", "--detach", "--label-add", "hand=1", &service]).unwrap();
    });
    assert_eq!(site.container(&service), container, "a label costs no container");
    until("the database serves again", || site.psql_as("shop", "owner", "SELECT 1").is_ok());
}

fn patched_parameter(site: &Site) {
    let container = site.container(&site.service("shop")).unwrap();
    let started = site.postmaster("shop");
    mended(site, "patroni-config::", "/parameters/work_mem", || {
        let edit = ["patronictl", "-c", "/opt/pgmoor/configs/patroni.yml", "edit-config", "--force"];
        docker(&[&["exec", &container], &edit[..], &["-p", "work_mem=99MB"]].concat()).unwrap();
    });
    until("the parameter is as it was", || site.psql("shop", "SHOW work_mem") != "99MB");
    assert_eq!(site.postmaster("shop"), started);
}

/// What pgmoor writes is set back without a restart; what it does not write is left.
fn altered_system(site: &Site) {
    let (service, started) = (site.service("shop"), site.postmaster("shop"));
    let (ours, before) = (site.psql("shop", "SHOW maintenance_work_mem"), drifts(site).len());
    alter_system(&service, "deadlock_timeout", "3s");
    mended(site, "instance::", "/alter_system", || {
        alter_system(&service, "shared_buffers", "64MB");
        alter_system(&service, "maintenance_work_mem", "99MB");
    });
    assert_eq!(site.psql("shop", "SHOW maintenance_work_mem"), ours);
    assert_eq!(site.psql("shop", "SHOW deadlock_timeout"), "3s", "nobody else says what it shall be");
    assert_eq!(site.psql("shop", "SELECT count(*) FROM pg_settings WHERE pending_restart"), "0");
    assert_eq!(site.postmaster("shop"), started);
    let resources = drifts(site)[before..].iter().map(|event| event["data"]["resource"].clone()).collect::<Vec<_>>();
    assert!(resources.iter().all(|resource| resource.as_str().unwrap().starts_with("instance::")), "{resources:?}");
}

/// Drift is told and left while it is observed, and not even looked at while it is paused.
fn hands_off(site: &Site) {
    let altered = || site.psql("shop", "SELECT rolcreatedb FROM pg_roles WHERE rolname = 'clerk'");
    let has = |status: &Value, kind: &str| {
        status["conditions"].as_array().unwrap().iter().any(|condition| condition["type"] == kind)
    };
    site.apply("shop", &shop(r#", "reconcile": "observe""#));
    let before = drifts(site).len();
    site.psql("shop", "ALTER ROLE clerk CREATEDB");
    site.daemon.wait_status(&site.id("shop"), "the drift is told", |status| has(status, "Drifted"));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!((altered().as_str(), drifts(site).len()), ("t", before + 1), "told once, and left");
    site.apply("shop", &shop(r#", "reconcile": "paused""#));
    site.daemon.wait_status(&site.id("shop"), "it is paused", |status| has(status, "Paused"));
    site.psql("shop", "ALTER ROLE clerk CREATEROLE");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!((altered().as_str(), drifts(site).len()), ("t", before + 1), "nobody looked");
    site.apply("shop", &shop(""));
    until("it is mended", || altered() == "f");
}
