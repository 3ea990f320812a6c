//! A mosquitto beside the program: it forgets, comes back older, is written to by strangers, and is gone by an inventory.

use std::process::Command;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Options, until};

fn start() -> Daemon {
    Daemon::start(Options { drivers: "fake", mosquitto: true, guarded: false })
}

fn spec(generation: u64, work_mem: &str) -> String {
    json!({"database_name": "shop", "generation": generation, "postgresql_conf": {"work_mem": work_mem}}).to_string()
}

fn wait_condition(daemon: &Daemon, database: &str, kind: &str, reason: Option<&str>) -> Value {
    let what = format!("{kind} is {reason:?}");
    daemon.wait_status(database, &what, |status| Daemon::condition(status, kind).as_deref() == reason)
}

fn availability(daemon: &Daemon) -> Value {
    let said = daemon.wire.last("controllers/host-1/availability").unwrap_or_default();
    serde_json::from_str(&said).unwrap_or_default()
}

#[test]
fn a_broker_that_comes_back_older_or_empty_changes_nothing() {
    let mut daemon = start();
    daemon.expect_log(&["how much the broker replays could not be probed"]);
    daemon.apply("shop", &spec(1, "5MB"));
    daemon.apply("gone", r#"{"template": "postgres"}"#);
    daemon.save_broker();
    let before = daemon.apply("shop", &spec(2, "6MB"));
    daemon.publish("gone", r#"{"deleted": true}"#);
    daemon.wait_gone("gone");

    daemon.restart_broker(false);
    let after = wait_condition(&daemon, "shop", "BrokerRewound", Some("SupersededSpecReplayed"));
    assert_eq!((&after["observed"], &after["state"]), (&before["observed"], &before["state"]));
    // Its event is not kept, and the test's client may be back at the broker later than the daemon.
    until("the replayed spec of the deleted database is ignored", || {
        let ignored = |line: &str| line.contains("the broker replayed a spec") && line.contains("\"gone\"");
        daemon.log().lines().any(ignored)
    });
    until("what was said of it is cleared again", || {
        let late = daemon.wire_as("late");
        late.retained("databases/shop/status");
        late.topics("databases/gone/") == ["databases/gone/spec"]
    });
    assert!(daemon.log().contains("the broker brought back what was said of a database that is gone"));
    let log = daemon.log();
    let made = |line: &&str| line.contains("service::gone-n1") && line.contains("\"action\":\"Create\"");
    assert_eq!(log.lines().filter(made).count(), 1, "nothing of it is made again");

    daemon.restart_broker(true);
    let after = wait_condition(&daemon, "shop", "BrokerAmnesia", Some("SpecNotRetained"));
    assert_eq!((&after["observed"], &after["state"]), (&before["observed"], &before["state"]));
    daemon.apply("shop", &spec(2, "6MB"));
    wait_condition(&daemon, "shop", "BrokerAmnesia", None);
    wait_condition(&daemon, "shop", "BrokerRewound", None);
}

#[test]
fn a_broker_that_lets_nobody_write_specs_but_their_publisher_is_named_in_the_answer() {
    let daemon = Daemon::start(Options { drivers: "fake", mosquitto: true, guarded: true });
    daemon.expect_log(&["a message is skipped", "NotAuthorized"]);
    let published = spec(1, "5MB");
    daemon.apply("shop", &published);
    forbid_specs(&daemon);
    daemon.apply("shop", &spec(2, "6MB"));
    daemon.wire.publish("databases/shop/commands/rollback", r#"{"to": 1}"#, false);
    let mut answer = Value::Null;
    until("the command is answered", || {
        let said = daemon.wire.everything();
        let found = said.iter().find(|(topic, _)| topic.ends_with("/shop/commands/rollback/result"));
        answer = found.map(|(_, text)| serde_json::from_str(text).unwrap()).unwrap_or_default();
        !answer.is_null()
    });
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(answer["result"] == "accepted" && message.contains("the broker did not take it"), "{answer:#}");
    assert!(message.contains(&format!("{}/databases/shop/spec", daemon.wire.root)), "{message}");
    daemon.wait_status("shop", "it is rolled back all the same", |status| {
        status["state"] == "available" && status["observed"]["digest"] == answer["spec"]["digest"]
    });
    assert_eq!(daemon.wire.last("databases/shop/spec"), Some(spec(2, "6MB")), "the topic stays as it was");
}

/// Takes the right to write specs from the controller, while the mosquitto runs.
fn forbid_specs(daemon: &Daemon) {
    let file = daemon.directory.path().join("acl");
    let (mut rights, right) =
        (std::fs::read_to_string(&file).unwrap(), format!("topic write {}/databases/+/spec", daemon.wire.root));
    assert_eq!(rights.matches(&right).count(), 2, "the publisher's and the controller's");
    rights.insert(rights.rfind(&right).unwrap(), '#');
    std::fs::write(&file, rights).unwrap();
    let id = daemon.mosquitto.as_ref().unwrap().id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
}

#[test]
fn an_inventory_tells_what_is_missing_and_what_is_old() {
    let daemon = start();
    daemon.expect_log(&["the inventory cannot be read"]);
    daemon.apply("shop", &spec(1, "5MB"));
    let inventory = json!({"revision": 1, "databases": {"shop": 2, "elsewhere": 0}}).to_string();
    daemon.wire.publish("inventory", &inventory, true);
    wait_condition(&daemon, "shop", "SpecSetIncomplete", Some("SpecOlderThanInventory"));
    until("the controller says what is missing", || {
        availability(&daemon)["spec_set"]["missing"] == json!(["elsewhere"])
    });
    assert_eq!(availability(&daemon)["spec_set"]["complete"], "false");
    daemon.apply("shop", &spec(2, "5MB"));
    wait_condition(&daemon, "shop", "SpecSetIncomplete", None);
    daemon.apply("elsewhere", r#"{"template": "postgres"}"#);
    until("the set is whole", || availability(&daemon)["spec_set"]["reason"] == "InventoryFulfilled");
    let wrong = r#"{"revision": 2, "databases": {"Shop": 2}}"#;
    daemon.wire.publish("inventory", wrong, true);
    until("the inventory is refused", || availability(&daemon)["spec_set"]["message"].to_string().contains("read"));
}

#[test]
fn what_strangers_write_on_our_topics_is_mended() {
    let daemon = start();
    daemon.expect_log(&["somebody else wrote on a topic of ours"]);
    let ours = daemon.apply("shop", &spec(1, "5MB"));
    daemon.wire.publish("databases/shop/status", r#"{"state": "forged"}"#, true);
    until("the forgery was seen", || daemon.wire.everything().iter().any(|(_, text)| text.contains("forged")));
    daemon.wait_status("shop", "the status is ours again", |status| status["observed"] == ours["observed"]);
    until("it is told", || {
        let said = daemon.wire.everything();
        said.iter().any(|(topic, event)| topic.ends_with("/shop/events") && event.contains("foreign-write"))
    });
}
