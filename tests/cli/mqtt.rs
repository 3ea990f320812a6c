//! Commands that speak with the broker, against one of their own, with a scripted controller at the other end.

use pgmoor::model::Digest;
use pgmoor::mqtt::Message;
use serde_json::json;

use crate::support::{LIMIT, Site, shop, status};

const SPEC: &[u8] = b"{\"template\":\"postgres\"}";
const STATUS: &str = "pgmoor/v1/test/databases/shop/status";

/// A spec file of its own, in a directory that lives as long as the test.
fn spec_file() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.json");
    std::fs::write(&path, SPEC).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_asked_for_and_shown() {
    let site = Site::start().await;
    let (_dir, spec) = spec_file();
    let command = "pgmoor/v1/test/databases/shop/commands/plan";
    let mut questions = site.controller.subscribe(&[command.to_owned()], LIMIT).await.unwrap();
    let answering = async {
        for (step, disruption) in [(Some("update"), "reload"), (None, "none")] {
            let question = questions.next().await.unwrap();
            assert_eq!(question.payload, SPEC);
            let correlation = String::from_utf8(question.properties.correlation_data.unwrap()).unwrap();
            let steps: Vec<_> = step
                .iter()
                .map(|action| {
                    json!({"action": action, "resource": "patroni_config::shop:n1", "executor": "manager",
                           "reason": "has_diff", "disruption": disruption})
                })
                .collect();
            let plan = json!({
                "database": "shop", "state": "proposed", "digest": Digest::of_bytes(b"").to_string(),
                "counts": {"create": 0, "update": steps.len(), "recreate": 0, "delete": 0},
                "disruption": disruption, "stages": [{"steps": steps}], "updated_at": "2026-01-01T00:00:00Z",
            });
            let answer = |correlation: &str, result: &str| {
                json!({"database": "shop", "verb": "plan", "request": Digest::of_bytes(SPEC).to_string(),
                       "correlation_id": correlation, "result": result, "plan": plan, "at": "2026-01-01T00:00:00Z"})
            };
            // An answer to somebody else's question comes first, and does not count.
            for answer in [answer("another", "rejected"), answer(&correlation, "accepted")] {
                let message = Message::new(format!("{command}/result"), answer.to_string());
                site.controller.publish(&message, LIMIT).await.unwrap();
            }
        }
    };
    let asking = async {
        let changes = site.run(&["plan", &spec]).await;
        assert_eq!(changes.code, 2, "{changes:?}");
        assert!(changes.out.contains("    ~ patroni_config::shop:n1 (differs) [reload]\n"), "{changes:?}");
        let nothing = site.run(&["plan", &spec]).await;
        assert_eq!((nothing.code, nothing.out.as_str()), (0, "database shop\n\nnothing to do\n"), "{nothing:?}");
    };
    tokio::join!(answering, asking);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_hears_says_why() {
    let site = Site::start().await;
    let (_dir, spec) = spec_file();
    let said = site.run(&["plan", &spec, "--timeout", "1s"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("nobody answered within 1 s") && said.err.contains("pgmoor serve"), "{said:?}");
    site.end().await;
}

/// Applies with `--wait`, and answers with these statuses once the spec came.
async fn applied(statuses: &[serde_json::Value], arguments: &[&str]) -> crate::support::Said {
    let site = Site::start().await;
    site.online().await;
    // What stands there before is about another spec, and must not count.
    site.retain(STATUS, &status("available", b"old", "accepted", json!([]))).await;
    let (_dir, spec) = spec_file();
    let topic = "pgmoor/v1/test/databases/shop/spec".to_owned();
    let mut specs = site.controller.subscribe(std::slice::from_ref(&topic), LIMIT).await.unwrap();
    let controlling = async {
        let message = specs.next().await.unwrap();
        assert_eq!(message.payload, SPEC, "byte for byte");
        for status in statuses {
            site.retain(STATUS, status).await;
        }
    };
    let mut all = vec!["apply", &spec, "--wait"];
    all.extend(arguments);
    let ((), said) = tokio::join!(controlling, site.run(&all));
    let retained = site.controller.read_retained("pgmoor/v1/test/databases/+/spec", LIMIT).await.unwrap();
    drop(specs);
    assert!(retained.is_empty() || retained[0].1 == SPEC);
    site.end().await;
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_waits_until_it_is_available() {
    let creating = status("creating", SPEC, "accepted", json!([]));
    let mut available = status("available", SPEC, "accepted", json!([]));
    available["connection"] =
        json!({"hosts": ["192.0.2.1"], "database": "shop", "uri": "postgresql://192.0.2.1/shop", "users": []});
    let said = applied(&[creating, available], &[]).await;
    assert_eq!((said.code, said.out.as_str()), (0, "shop is available: postgresql://192.0.2.1/shop\n"), "{said:?}");
    assert!(said.err.contains("creating: as told"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_spec_shows_its_faults() {
    let faults = json!([{"pointer": "/port", "code": "port-in-use", "message": "port 1 is taken"}]);
    let said = applied(&[status("available", SPEC, "rejected", faults)], &[]).await;
    assert_eq!((said.code, said.out.as_str()), (1, "/port: port 1 is taken [port-in-use]\n"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_database_is_waited_for_until_the_time_is_up() {
    let said = applied(&[status("failed", SPEC, "accepted", json!([]))], &["--timeout", "2s"]).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("not done after 2 s (failed: as told)"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_already_is_done_after_a_moment() {
    let site = Site::start().await;
    site.online().await;
    site.retain(STATUS, &status("available", SPEC, "accepted", json!([]))).await;
    let (_dir, spec) = spec_file();
    let said = site.run(&["apply", &spec, "--wait"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, "shop is available\n"), "{said:?}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_must_be_confirmed_and_ends_when_the_topic_is_cleared() {
    let site = Site::start().await;
    site.online().await;
    let unknown = site.run(&["delete", "shop", "--yes"]).await;
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("there is no database shop in fleet test"), "{unknown:?}");
    site.retain(STATUS, &status("available", SPEC, "accepted", json!([]))).await;
    let unconfirmed = site.run(&["delete", "shop"]).await;
    assert_eq!(unconfirmed.code, 1);
    assert!(unconfirmed.err.contains("--yes"), "{unconfirmed:?}");
    let topic = "pgmoor/v1/test/databases/shop/spec".to_owned();
    let mut specs = site.controller.subscribe(&[topic], LIMIT).await.unwrap();
    let controlling = async {
        let message = specs.next().await.unwrap();
        assert_eq!(message.payload, b"{\"deleted\":true}");
        site.controller.publish(&Message::retained(STATUS, ""), LIMIT).await.unwrap();
    };
    let ((), said) = tokio::join!(controlling, site.run(&["delete", "shop", "--yes", "--wait"]));
    assert_eq!((said.code, said.out.as_str()), (0, "shop is deleted\n"), "{said:?}");
    drop(specs);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_lists_and_details() {
    let site = Site::start().await;
    let empty = site.run(&["status"]).await;
    assert_eq!((empty.code, empty.out.as_str()), (0, ""));
    assert!(empty.err.contains("has no databases") && empty.err.contains("no controller"), "{empty:?}");
    site.online().await;
    site.retain(STATUS, &status("available", SPEC, "accepted", json!([]))).await;
    let list = site.run(&["status"]).await;
    assert_eq!((list.code, list.err.as_str()), (0, ""), "{list:?}");
    assert!(list.out.starts_with("DATABASE  STATE"), "{list:?}");
    assert!(list.out.contains("\nshop      available  unknown"), "{list:?}");
    let details = site.run(&["status", shop().as_str(), "-o", "json"]).await;
    let document: serde_json::Value = serde_json::from_str(&details.out).unwrap();
    assert_eq!(document["status"]["later_key"], 7, "keys of a later version come through");
    assert_eq!(site.run(&["status", "other"]).await.code, 1);
    site.end().await;
}
