//! A pooler beside a database of the in-memory world: it is told of, changes, and goes.

use serde_json::Value;

use crate::start;

fn state(daemon: &crate::daemon::Daemon) -> Value {
    let topics = daemon.wire.topics("databases/shop/instances/");
    let topic = topics.into_iter().find(|topic| topic.ends_with("/state")).unwrap_or_default();
    daemon.wire.last(&topic).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

#[test]
fn a_pooler_comes_with_a_port_of_its_own_and_goes() {
    let daemon = start();
    let spec = |pooler: &str| format!(r#"{{"database_name": "shop", "port": 0{pooler}}}"#);
    let without = daemon.apply("shop", &spec(""))["connection"].clone();
    assert!(without["uri_pooled"].is_null());
    let with = daemon.apply("shop", &spec(r#", "pooler": {"port": 0}"#))["connection"].clone();
    let port = |connection: &Value| {
        let uri = connection["uri_pooled"].as_str().unwrap();
        uri.split([':', '/']).filter_map(|part| part.parse::<u16>().ok()).next().unwrap()
    };
    let chosen = port(&with);
    assert_ne!(u64::from(chosen), with["port"].as_u64().unwrap(), "{with}");
    assert_eq!(with["port"], without["port"], "Postgres keeps its own");
    crate::daemon::until("the pooler is told of", || {
        let state = state(&daemon);
        state["pooler"]["state"] == "running" && state["pooler"]["primary"] == state["instance"]
    });
    let changed = daemon.apply("shop", &spec(r#", "pooler": {"port": 0, "memory": "96MiB", "mode": "session"}"#));
    assert_eq!(port(&changed["connection"]), chosen, "the port stays");
    let codes = daemon.refused("other", &format!(r#"{{"pooler": {{"port": {chosen}}}}}"#));
    assert_eq!(codes, ["port-clash"]);
    let gone = daemon.apply("shop", &spec(""))["connection"].clone();
    assert!(gone["uri_pooled"].is_null());
    crate::daemon::until("nothing is told of it any more", || state(&daemon)["pooler"].is_null());
    daemon.apply("shop", &spec(r#", "pooler": {}"#));
    daemon.publish("shop", r#"{"deleted": true}"#);
    daemon.wait_gone("shop");
}
