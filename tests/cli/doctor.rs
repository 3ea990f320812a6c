//! The doctor, where there is no Docker: with a broker, without one, with a port taken. (Docker itself: by hand, and the
//! judging in the unit tests of `cli::doctor`.)

use std::collections::BTreeMap;
use std::net::TcpListener;

use crate::support::{Said, Site, pgmoor};

/// The results by name.
fn results(said: &Said) -> BTreeMap<String, String> {
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let checks = report["checks"].as_array().unwrap();
    checks.iter().map(|check| (text(&check["name"]), text(&check["result"]))).collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_probed_and_left_as_it_was() {
    let site = Site::start().await;
    site.online().await;
    let data = tempfile::tempdir().unwrap();
    let data_dir = data.path().to_str().unwrap();
    let said = site.run(&["doctor", "--drivers", "fake", "--data-dir", data_dir, "-o", "json"]).await;
    let results = results(&said);
    for name in ["connection", "receive_maximum", "controller", "retained", "empty_publish", "replay"] {
        assert_eq!(results[&format!("broker.{name}")], "ok", "{said:?}");
    }
    // The broker of this test is not the one of a daemon on this data directory.
    assert_eq!((said.code, results["ports.broker"].as_str()), (1, "fail"), "{said:?}");
    let filter = format!("pgmoor/v1/{}/controllers/+/probe/+", site.fleet);
    let left = site.controller.read_retained(&filter, crate::support::LIMIT).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
    site.end().await;
}

#[test]
fn everything_is_looked_at_although_much_is_broken() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = pgmoor(&["doctor", "--docker-socket", "/nonexistent/docker.sock", "-o", "json"]);
    command.args(["--data-dir", "/nonexistent/data", "--broker-url", &format!("mqtt://{nobody}")]);
    let held = TcpListener::bind("0.0.0.0:0").unwrap();
    command.args(["--etcd-client-port", &held.local_addr().unwrap().port().to_string()]);
    let said = Said::from(command.output().unwrap());
    let results = results(&said);
    assert_eq!(said.code, 1);
    let wanted = [
        ("docker.engine", "fail"),
        ("broker.connection", "fail"),
        ("ports.etcd_client", "warn"),
        ("clock.sane", "ok"),
        ("disk.data", "ok"),
        ("store.directory", "skipped"),
    ];
    for (name, result) in wanted {
        assert_eq!(results[name], result, "{name}: {said:?}");
    }
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert!(
        report["checks"].as_array().unwrap().iter().all(|check| {
            let bad = matches!(check["result"].as_str(), Some("warn" | "fail"));
            bad == check["fix"].is_string()
        }),
        "what is wrong has a fix, and nothing else: {report:#}"
    );
}
