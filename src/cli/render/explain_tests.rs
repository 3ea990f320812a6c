//! Golden explanations named by situation, as people read them.

use serde_json::{Value, json};

use super::*;
use crate::contract::documents::{Availability, HealthDoc, HostStatus};
use crate::model::{DatabaseId, InstanceId};
use crate::report::explain::{Known, explain};

const INSTANCE: &str = "shop-n1-689qacsi";

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// 12:00 and so many minutes.
fn at(minute: u32) -> String {
    format!("2026-11-21T12:{minute:02}:00Z")
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, hint: Option<&str>) -> Value {
    let mut value = json!({"type": kind, "status": status, "reason": reason, "message": message, "since": at(1)});
    if let Some(hint) = hint {
        value["hint"] = json!(hint);
    }
    value
}

fn status(state: &str, conditions: Vec<Value>) -> Value {
    let digest = "a".repeat(64);
    json!({"database": "shop", "state": state, "seq": 1, "epoch": 1, "updated_at": at(4), "instances": [],
           "observed": {"digest": digest}, "conditions": conditions,
           "verdict": {"result": "accepted", "digest": digest, "faults": [], "at": at(0)}})
}

/// A database for which something waits, with one condition of each kind that tells of it.
fn waits(state: &str, reason: &str, message: &str, hint: Option<&str>) -> Value {
    let told = |kind, status| condition(kind, status, reason, message, hint);
    status(state, vec![told("Ready", "false"), told("Waiting", "true")])
}

fn plan(progress: Option<Value>, waiting: Value) -> Value {
    let mut step = json!({"action": "create", "resource": format!("instance::{INSTANCE}"), "executor": "host host-1",
                          "reason": "does_not_exist", "disruption": "none"});
    if let Some(progress) = progress {
        step["progress"] = progress;
    }
    json!({"database": "shop", "state": "applying", "digest": "b".repeat(64), "disruption": "none",
           "counts": {"create": 1, "update": 0, "recreate": 0, "delete": 0},
           "stages": [{"steps": [step]}], "waiting": waiting, "updated_at": at(4)})
}

fn runs(error: &str) -> Value {
    plan(Some(json!({"state": "running", "since": at(1), "attempts": 0, "error": error})), json!([]))
}

fn health(word: &str, reason: &str) -> HealthDoc {
    read(json!({"health": word, "since": at(1), "checked_at": at(4), "valid_for_s": 90, "reason": reason}))
}

fn host(word: &str, reason: &str, conditions: Vec<Value>) -> HostStatus {
    let inventory = json!({"cpus": 2, "memory_bytes": 1, "memory_promised_bytes": 0, "disk_bytes": 1,
        "disk_free_bytes": 1, "operating_system": "", "architecture": "", "address": "", "pgmoor_version": "",
        "instances": 0});
    read(json!({"host": "host-1", "epoch": 1, "inventory": inventory, "health": health(word, reason),
                "conditions": conditions, "updated_at": at(4)}))
}

fn controller(state: &str) -> Availability {
    read(json!({"state": state, "controller": "host-1", "epoch": 1, "since": at(2), "version": "0"}))
}

/// A fleet in which all is well but for what the test says.
fn known(status: Value, plan: Option<Value>) -> Known {
    Known {
        status: Some(read(status)),
        plan: plan.map(read),
        hosts: vec![host("healthy", "", vec![])],
        controllers: vec![controller("online")],
        ..Known::default()
    }
}

fn golden(situation: &str, fine: bool, known: &Known) {
    let now = Time::parse("2026-11-21T12:05:00Z").unwrap();
    let answer = explain(&DatabaseId::parse("shop").unwrap(), known, now);
    assert_eq!(answer.fine, fine, "{situation}");
    let text = explanation(&answer, now, Style { coloured: false });
    insta::with_settings!({ snapshot_path => "../../../tests/golden/explain", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(situation, text);
    });
}

#[test]
fn available() {
    golden("available", true, &known(status("available", vec![condition("Ready", "true", "Settled", "", None)]), None));
}

#[test]
fn an_image_is_missing() {
    let words = "start postgres-shop-n1-689qacsi: Docker says rejected: No such image: pgmoor/postgres:17.9";
    let hint = "put the image pgmoor/postgres:17.9 on the host";
    let message = format!("instance::{INSTANCE}: {words} (attempt 3)");
    let failed = condition("Ready", "false", "ImageMissing", &message, Some(hint));
    let progress = json!({"state": "failed", "since": at(3), "attempts": 3, "error": words, "retry_at": at(6)});
    let mut known = known(status("failed", vec![failed]), Some(plan(Some(progress), json!([]))));
    let instance = InstanceId::parse(INSTANCE).unwrap();
    known.instances.insert(instance, health("down", "no container of it runs"));
    golden("image-missing", false, &known);
}

#[test]
fn a_port_is_taken() {
    let words = "postgres-shop-n1-689qacsi has no running task; Swarm says failed: starting container failed: … listen \
                 tcp4 0.0.0.0:15432: bind: address already in use";
    let message = format!("instance::{INSTANCE} waits: {words}");
    let waits = waits("creating", "PortInUse", &message, Some("find it with `ss -ltnp`"));
    golden("port-in-use", false, &known(waits, Some(runs(words))));
}

#[test]
fn no_node_is_suitable() {
    let words = "no suitable node (insufficient resources on 1 node)";
    let message = format!("instance::{INSTANCE} waits: {words}");
    let waits = waits("stalled", "InsufficientResources", &message, Some("ask for less memory"));
    golden("no-suitable-node", false, &known(waits, Some(runs(words))));
}

#[test]
fn a_new_spec_waits_for_the_fleet() {
    let message = "the fleet's etcd::etcd: starting container failed: listen tcp4 0.0.0.0:2379: bind: address in use";
    let mut known = known(waits("pending", "PortInUse", message, Some("stop what has port 2379")), None);
    let conditions = vec![condition("Waiting", "true", "PortInUse", message, Some("stop what has port 2379"))];
    known.hosts = vec![host("healthy", "", conditions)];
    golden("waits-for-the-fleet", false, &known);
}

#[test]
fn a_step_is_held_after_failures() {
    let waiting = json!([{"resource": "role::app", "reason": "role::app failed 2 times in a row and is tried again after a \
                          back-off", "since": at(3), "until": at(6)}]);
    let failed = condition("Ready", "false", "StepFailed", "role::app: boom (attempt 2)", None);
    golden("back-off", false, &known(status("modifying", vec![failed]), Some(plan(None, waiting))));
}

#[test]
fn a_plan_waits_for_approval() {
    let waiting = json!([{"reason": "a person must approve it: pgmoor approve shop", "since": at(3)}]);
    let waits = waits("modifying", "Approval", "the plan waits for an approval", Some("pgmoor approve shop"));
    golden("approval", false, &known(waits, Some(plan(None, waiting))));
}

#[test]
fn a_restart_waits_for_its_turn() {
    let reason = "instance::x would restart or replace an instance; 1 at a time may be on host host-1, now other";
    let waiting = json!([{"resource": "instance::x", "reason": reason, "since": at(3)}]);
    golden("cap", false, &known(waits("modifying", "Cap", reason, None), Some(plan(None, waiting))));
}

#[test]
fn the_fleet_is_halted() {
    let mut halted = waits("creating", "Halted", "network::shop waits: steps of many databases failed in a row", None);
    let hint = Some("mend the cause, then `pgmoor resume`");
    let conditions = halted["conditions"].as_array_mut().unwrap();
    conditions.push(condition("Halted", "true", "FailedInARow", "steps of 3 databases failed in a row", hint));
    if serde_json::from_value::<crate::contract::documents::Status>(halted.clone()).is_ok() {
        golden("halted", false, &known(halted, None));
    }
}

#[test]
fn a_refused_spec_stands_beside_a_good_database() {
    let mut refused = status("available", vec![condition("Ready", "true", "Settled", "", None)]);
    refused["verdict"] = json!({"result": "rejected", "digest": "c".repeat(64), "at": at(3), "faults": [
        {"pointer": "/port", "code": "port-in-use", "message": "something listens there", "hint": "choose another"}]});
    golden("refused-beside-good", false, &known(refused, None));
}

#[test]
fn docker_does_not_answer() {
    let words = "list services: no answer: connection refused at /var/run/docker.sock";
    let message = format!("service::{INSTANCE} cannot be seen: {words}");
    let waiting =
        json!([{"resource": format!("service::{INSTANCE}"), "reason": format!("it cannot be seen: {words}")}]);
    let mut known =
        known(waits("stalled", "DockerUnreachable", &message, Some("start Docker")), Some(plan(None, waiting)));
    known.hosts = vec![host("down", "Docker: ask the Docker engine: no answer", vec![])];
    golden("docker-does-not-answer", false, &known);
}

#[test]
fn the_controller_is_lost() {
    let mut known = known(status("available", vec![condition("Ready", "true", "Settled", "", None)]), None);
    known.controllers = vec![controller("lost")];
    known.hosts[0].health.valid_for_s = 10;
    golden("controller-lost", false, &known);
    golden("never-seen", false, &Known::default());
}

#[test]
fn it_was_deleted() {
    let gone = condition("Ready", "false", "Deleted", "it is gone; its data is in the trash", None);
    golden("deleted", true, &known(status("deleted", vec![gone]), None));
}

#[test]
fn its_data_is_in_the_trash() {
    let shop = DatabaseId::parse("shop").unwrap();
    let mut known = Known { status: None, ..known(status("deleted", vec![]), None) };
    let mut keeps_for_s = |left: u32| {
        let kept = read(json!({"deleted_at": at(1), "keeps_for_s": left}));
        known.hosts[0].inventory.trash.insert(shop.clone(), kept);
        known.clone()
    };
    golden("in-the-trash", true, &keeps_for_s(3600));
    golden("being-purged", true, &keeps_for_s(0));
}

#[test]
fn what_a_later_version_adds_is_told_too() {
    let mut kept = status("available", vec![condition("Ready", "true", "Settled", "", None)]);
    let other =
        condition("BrokerAmnesia", "true", "SpecNotRetained", "the broker has no spec", Some("publish it again"));
    kept["conditions"].as_array_mut().unwrap().push(other);
    golden("another-condition", false, &known(kept, None));
}
