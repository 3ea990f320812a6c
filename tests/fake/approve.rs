//! Approvals, end to end: what interrupts waits for a person, and only what was approved is done.

use pgmoor::model::Digest;
use serde_json::Value;

use crate::daemon::{Daemon, until};
use crate::start;

/// Longer than a few ticks of the daemon: what was to happen by itself has happened.
const A_WHILE: std::time::Duration = std::time::Duration::from_secs(5);

fn manual(more: &str) -> String {
    format!(r#"{{"database_name": "shop", "approval": "manual"{more}}}"#)
}

fn connections(number: u32) -> String {
    manual(&format!(r#", "postgresql_conf": {{"max_connections": {number}}}"#))
}

/// Asks for something and gives the answer.
fn ask(daemon: &Daemon, verb: &str, payload: &str) -> Value {
    let (topic, request) = (format!("databases/shop/commands/{verb}"), Digest::of_bytes(payload.as_bytes()));
    daemon.wire.publish(&topic, payload, false);
    let mut answer = Value::Null;
    until("the request is answered", || {
        let said = daemon.wire.last(&format!("{topic}/result"));
        answer = said.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        answer["request"] == request.as_str()
    });
    answer
}

fn approve(daemon: &Daemon, digest: &str) -> Value {
    ask(daemon, "apply", &format!(r#"{{"digest": "{digest}"}}"#))
}

fn plan(daemon: &Daemon) -> Value {
    daemon.wire.last("databases/shop/plan").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Publishes a spec that needs an approval; gives the plan that waits for it.
fn pending(daemon: &Daemon, spec: &str) -> Value {
    let digest = daemon.publish("shop", spec);
    let status = daemon.wait_status("shop", "the plan waits for approval", |status| {
        status["verdict"]["digest"] == digest && condition(status, "ApprovalNeeded").is_some()
    });
    let said = condition(&status, "ApprovalNeeded").unwrap();
    until("the plan is pending", || {
        let digest = plan(daemon)["approval"]["digest"].as_str().map(str::to_owned);
        plan(daemon)["state"] == "pending" && digest.is_some_and(|digest| said.contains(&digest))
    });
    plan(daemon)
}

/// The message of a condition that holds.
fn condition(status: &Value, kind: &str) -> Option<String> {
    let mut all = status["conditions"].as_array()?.iter();
    let holds = all.find(|condition| condition["type"] == kind && condition["status"] == "true")?;
    holds["message"].as_str().map(str::to_owned)
}

/// When Postgres was started, as the monitor tells.
fn started(daemon: &Daemon) -> Value {
    let topics = daemon.wire.topics("databases/shop/instances/");
    let state = topics.iter().find(|topic| topic.ends_with("/state")).expect("the instance has a state");
    serde_json::from_str::<Value>(&daemon.wire.last(state).unwrap()).unwrap()["started_at"].clone()
}

#[test]
fn what_interrupts_waits_until_exactly_that_is_approved() {
    let daemon = start();
    daemon.apply("shop", &manual(""));
    let before = started(&daemon);
    daemon.apply("shop", &manual(r#", "postgresql_conf": {"work_mem": "9MB"}"#));

    let first = pending(&daemon, &connections(60));
    let (digest, one) = (first["approval"]["digest"].as_str().unwrap(), &first["interruptions"][0]);
    assert_eq!((&one["disruption"], &one["downtime"]["basis"]), (&"restart".into(), &"assumed".into()), "{first:#}");
    let proposed = ask(&daemon, "plan", &connections(60));
    assert_eq!(proposed["plan"]["approval"], first["approval"], "the question names what will wait");

    let second = pending(&daemon, &connections(70));
    let refused = approve(&daemon, digest);
    assert_eq!(refused["result"], "rejected", "{refused:#}");
    let fault = &refused["faults"][0];
    assert_eq!((&fault["code"], &fault["pointer"]), (&"stale-approval".into(), &"/digest".into()));
    assert!(fault["message"].as_str().unwrap().contains("leads to something else"), "{fault:#}");
    let malformed = approve(&daemon, "no digest");
    assert_eq!(malformed["faults"][0]["pointer"], "/digest", "{malformed:#}");
    std::thread::sleep(A_WHILE);
    assert_eq!(started(&daemon), before, "nothing is interrupted that nobody approved");
    assert_eq!(plan(&daemon)["state"], "pending");

    let digest = second["approval"]["digest"].as_str().unwrap();
    let released = approve(&daemon, &digest[..12]);
    assert_eq!(released["result"], "accepted", "{released:#}");
    let status = daemon.wait_status("shop", "what was approved is done", |status| status["state"] == "available");
    assert_eq!(condition(&status, "ApprovalNeeded"), None);
    until("Postgres was restarted", || started(&daemon) != before);
    // What is done is done: the same word releases nothing more, and the next interruption was measured.
    let over = approve(&daemon, digest);
    assert!(over["faults"][0]["message"].as_str().unwrap().starts_with("nothing of shop waits"), "{over:#}");
    let third = pending(&daemon, &connections(80));
    assert_eq!(third["interruptions"][0]["downtime"]["basis"], "measured", "{third:#}");
    // Back to what runs: nothing waits any more.
    daemon.apply("shop", &connections(70));
}

#[test]
fn a_delete_is_one_act_and_waits_as_a_whole() {
    let daemon = start();
    daemon.apply("shop", &manual(""));
    let waits = pending(&daemon, r#"{"deleted": true}"#);
    assert_eq!(waits["interruptions"][0]["ends"], true, "{waits:#}");
    std::thread::sleep(A_WHILE);
    let health = daemon.wire.last("databases/shop/health").unwrap();
    assert!(health.contains("\"healthy\""), "{health}");
    // Asked back, it is as it was; deleted again, the word releases it.
    daemon.apply("shop", &manual(""));
    let waits = pending(&daemon, r#"{ "deleted": true }"#);
    approve(&daemon, waits["approval"]["digest"].as_str().unwrap());
    daemon.wait_gone("shop");
}
