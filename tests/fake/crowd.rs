//! Many databases of which some are broken: the others come up all the same, nothing waits for ever, few are disturbed at a
//! time, and too many failures in a row stop what is new until a person says go on.

use serde_json::Value;

use crate::daemon::{Daemon, Options, until};

fn start(more: &[&str]) -> Daemon {
    Daemon::start_with(Options { drivers: "fake", mosquitto: false, guarded: false }, more)
}

fn good() -> &'static str {
    r#"{"database_name": "shop", "memory": "128MiB"}"#
}

/// The library is not there, so Postgres never starts.
fn broken() -> &'static str {
    r#"{"database_name": "shop", "memory": "128MiB", "postgresql_conf": {"shared_preload_libraries": "nosuch"}}"#
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    let found = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?;
    (found["status"] == "true").then_some(found)
}

#[test]
fn ten_that_never_come_up_do_not_starve_ten_others() {
    let daemon = start(&[]);
    daemon.expect_log(&["step failed"]);
    // By name the broken ones come first.
    let names = |first: char| (0..10).map(move |n| format!("{first}{n}"));
    for name in names('a') {
        daemon.publish(&name, broken());
    }
    daemon.wait_status("a9", "the broken ones have begun", |status| status["state"] == "creating");
    for name in names('z') {
        daemon.publish(&name, good());
    }
    for name in names('z') {
        daemon.wait_status(&name, "it comes up beside the broken ones", |status| status["state"] == "available");
    }
    for name in names('a') {
        assert_ne!(daemon.status(&name).unwrap()["state"], "available");
    }
}

/// The host has room for eleven with 512 MiB each, of which the fleet's etcd takes a part: those that come at the same
/// moment are judged together, and the room is given out once.
#[test]
fn of_many_at_the_same_moment_as_many_are_accepted_as_there_is_room_for() {
    let daemon = start(&["--fake-databases", "10"]);
    daemon.apply("first", r#"{"template": "postgres"}"#);
    let names: Vec<String> = (0..20).map(|number| format!("db-{number}")).collect();
    for name in &names {
        daemon.publish(name, r#"{"template": "postgres"}"#);
    }
    let verdicts = names.iter().map(|name| {
        let status = daemon.wait_status(name, "it is judged", |status| status["verdict"]["result"].is_string());
        status["verdict"].clone()
    });
    let (accepted, refused): (Vec<Value>, Vec<Value>) = verdicts.partition(|verdict| verdict["result"] == "accepted");
    assert!((8..=10).contains(&accepted.len()), "{} were accepted", accepted.len());
    assert!(refused.iter().all(|verdict| verdict["faults"][0]["code"] == "memory-overcommitted"), "{refused:?}");
    let up = || {
        let statuses = names.iter().filter_map(|name| daemon.status(name));
        statuses.filter(|status| status["state"] == "available").count()
    };
    until("all that were accepted are up", || up() == accepted.len());
}

#[test]
fn what_does_not_come_up_in_time_is_stalled_and_says_why() {
    let daemon = start(&["--deadline-start-s", "3"]);
    daemon.expect_log(&["step failed"]);
    daemon.publish("slow", broken());
    let status = daemon.wait_status("slow", "its deadline passes", |status| status["state"] == "stalled");
    let message = condition(&status, "Stalled").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("deadlines.start_s") && message.contains("3 s"), "{message}");
    daemon.apply("slow", good());
}

#[test]
fn one_at_a_time_is_disturbed_where_the_limit_says_so() {
    let daemon = start(&["--disruptions-per-host", "1"]);
    daemon.apply("first", good());
    daemon.apply("second", good());
    // Another container, in which Postgres never starts.
    let lost = r#"{"database_name": "shop", "memory": "128MiB", "port": 15997,
        "postgresql_conf": {"shared_preload_libraries": "nosuch"}}"#;
    let digest = daemon.publish("first", lost);
    daemon.wait_status("first", "its instance is being replaced", |status| {
        status["state"] == "modifying" && status["observed"]["digest"] == digest
    });
    let moved = r#"{"database_name": "shop", "memory": "128MiB", "port": 15998}"#;
    daemon.publish("second", moved);
    let status = daemon.wait_status("second", "it waits for its turn", |status| {
        condition(status, "Waiting").is_some_and(|condition| condition["reason"] == "Cap")
    });
    let message = condition(&status, "Waiting").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("first"), "{message}");
    daemon.apply("first", good());
    daemon.wait_status("second", "its turn has come", |status| {
        status["state"] == "available" && status["connection"]["port"] == 15998
    });
}

#[test]
fn too_many_failures_in_a_row_halt_the_fleet_until_a_person_says_go_on() {
    let mut daemon = start(&["--halt-after", "3", "--deadline-start-s", "2"]);
    daemon.expect_log(&["step failed"]);
    // The in-memory world is lost with the program.
    daemon.expect_log(&["steps of too many databases failed in a row", "drift"]);
    daemon.apply("settled", good());
    for name in ["b0", "b1", "b2"] {
        daemon.publish(name, broken());
    }
    let halted = |status: &Value| condition(status, "Halted").is_some();
    let status = daemon.wait_status("settled", "the halt is told on every database", halted);
    assert_eq!(status["state"], "available", "what is settled stays so");
    until("the host says it too", || {
        daemon.wire.last("hosts/host-1/status").is_some_and(|status| status.contains("pgmoor resume"))
    });
    daemon.publish("later", good());
    let held = |status: &Value| {
        condition(status, "Waiting").is_some_and(|condition| condition["reason"] == "Halted") && halted(status)
    };
    daemon.wait_status("later", "what is new is held", held);
    // The in-memory world ends with the process, the halt does not.
    let mut child = daemon.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    daemon.start_again();
    daemon.wait_status("later", "the halt survives a restart", |status| held(status) && status["epoch"] == 2);
    daemon.wire.publish("commands/resume", "{}", false);
    until("the answer comes", || {
        daemon.wire.last("commands/resume/result").is_some_and(|answer| answer.contains("\"accepted\""))
    });
    for name in ["later", "settled"] {
        daemon.wait_status(name, "work begins again", |status| status["state"] == "available" && !halted(status));
    }
    // Those that are known to fail do not make the next halt.
    daemon.apply("last", good());
    daemon.wire.publish("commands/resum", "{}", false);
    until("an unknown request is refused", || {
        daemon.wire.last("commands/resum/result").is_some_and(|answer| answer.contains("unknown-command"))
    });
}
