//! Patroni: its state, the dynamic configuration by REST and by etcd, restarts, and certificates that are renewed.

use pgmoor::domain::layout;
use pgmoor::drivers::certificates::certificate_digest;
use pgmoor::drivers::postgres::ServerSeen;
use pgmoor::drivers::{Drivers, Endpoint};
use pgmoor::model::Digest;
use serde_json::json;

use super::site::{Shop, Site};
use super::{Bench, is_failed, is_unreachable, until};

pub(crate) async fn patroni(bench: &impl Bench) {
    let site = Site::new(bench).await;
    let shop = site.start_shop().await;
    let drivers = bench.drivers();
    let seen = drivers.patroni.status(&shop.patroni).await.unwrap();
    assert_eq!((seen.state.as_str(), seen.role.as_str(), seen.timeline), ("running", "primary", Some(1)));
    assert_eq!((seen.pending_restart, seen.paused), (false, false));
    assert_eq!(seen.server_version.map(|version| version / 10_000), Some(17));
    assert!(seen.lsn.is_some() && seen.patroni_version.is_some());
    assert_eq!(seen.certificate, on_disk(&site, &shop).await);
    let server = drivers.postgres.server(&shop.postgres).await.unwrap();
    assert_eq!(server.config.as_ref(), shop.config.parameters.get("pgmoor.config"));
    assert!(server.version.starts_with("17.") && server.pending_restart.is_empty(), "{server:?}");
    assert_eq!(server.configuration_errors, [""; 0]);
    strangers(drivers, &shop).await;
    reloads(drivers, &shop).await;
    restarts(drivers, &shop).await;
    lines_that_cannot_be_loaded(drivers, &shop).await;
    by_etcd(&site, &shop).await;
    renewed(&site, &shop).await;
    starts_again(&site, &shop).await;
}

/// A primary alone hands its role to nobody; one with a replica that streams exchanges roles with it.
pub(crate) async fn switchover(bench: &impl Bench) {
    let site = Site::new(bench).await;
    let (drivers, first) = (bench.drivers(), site.start_shop().await);
    assert_eq!(server_when(drivers, &first, "the primary answers", |_| true).await.streaming, [].into());
    let nobody = drivers.patroni.switchover(&first.patroni, first.instance.as_str(), "nobody").await;
    assert!(is_failed(&nobody), "{nobody:?}");
    if !bench.replicates() {
        return;
    }
    let second = site.start_replica(&first).await;
    let follows = |server: &ServerSeen, follower: &Shop| server.streaming.get(follower.instance.as_str()) == Some(&0);
    server_when(drivers, &first, "the replica streams", |server| follows(server, &second)).await;
    server_when(drivers, &second, "the replica serves", |server| server.in_recovery && server.config.is_some()).await;
    drivers.patroni.switchover(&first.patroni, first.instance.as_str(), second.instance.as_str()).await.unwrap();
    server_when(drivers, &second, "the roles are exchanged", |server| follows(server, &first)).await;
    assert!(server_when(drivers, &first, "the former primary answers", |_| true).await.in_recovery);
}

async fn on_disk<B: Bench>(site: &Site<'_, B>, shop: &Shop) -> Digest {
    let stem = layout::server_stem(&site.facts.data_dir, shop.instance.as_str());
    certificate_digest(&site.identity(&stem).await.certificate_pem).unwrap()
}

/// Neither side talks to somebody else.
async fn strangers(drivers: &Drivers, shop: &Shop) {
    let named = |at: &Endpoint| Endpoint { server_name: "somebody-else".to_owned(), ..at.clone() };
    let elsewhere = drivers.patroni.status(&named(&shop.patroni)).await;
    assert!(is_unreachable(&elsewhere), "{elsewhere:?}");
    let elsewhere = drivers.postgres.server(&named(&shop.postgres)).await;
    assert!(is_unreachable(&elsewhere), "{elsewhere:?}");
    let deaf = Endpoint { port: 1, ..shop.patroni.clone() };
    let silent = drivers.patroni.status(&deaf).await;
    assert!(is_unreachable(&silent), "{silent:?}");
}

async fn server_when(drivers: &Drivers, shop: &Shop, what: &str, so: impl Fn(&ServerSeen) -> bool) -> ServerSeen {
    until(what, async || drivers.postgres.server(&shop.postgres).await.is_ok_and(|server| so(&server))).await;
    drivers.postgres.server(&shop.postgres).await.unwrap()
}

async fn reloads(drivers: &Drivers, shop: &Shop) {
    let before = drivers.postgres.server(&shop.postgres).await.unwrap();
    let patch = json!({"postgresql": {"parameters": {"work_mem": "9MB", "pgmoor.config": "second"}}});
    drivers.patroni.patch_config(&shop.patroni, &patch).await.unwrap();
    let loaded = |server: &ServerSeen| server.config.as_deref() == Some("second");
    let after = server_when(drivers, shop, "a parameter is loaded", loaded).await;
    assert_eq!(after.started_ms, before.started_ms, "nothing was restarted");
    assert!(!drivers.patroni.status(&shop.patroni).await.unwrap().pending_restart);
}

async fn restarts(drivers: &Drivers, shop: &Shop) {
    let before = drivers.postgres.server(&shop.postgres).await.unwrap();
    let patch = json!({"postgresql": {"parameters":
        {"max_connections": "61", "track_activity_query_size": "2048", "pgmoor.config": "third"}}});
    drivers.patroni.patch_config(&shop.patroni, &patch).await.unwrap();
    let pending = async || drivers.patroni.status(&shop.patroni).await.is_ok_and(|seen| seen.pending_restart);
    until("Patroni says that a parameter waits", pending).await;
    let loaded = |server: &ServerSeen| server.config.as_deref() == Some("third");
    let waiting = server_when(drivers, shop, "the rest is loaded", loaded).await;
    assert_eq!(waiting.started_ms, before.started_ms);
    assert_eq!(waiting.pending_restart, ["max_connections", "track_activity_query_size"]);
    drivers.patroni.restart(&shop.patroni).await.unwrap();
    let restarted = |server: &ServerSeen| server.started_ms > before.started_ms;
    let after = server_when(drivers, shop, "Postgres is restarted", restarted).await;
    assert_eq!(after.config.as_deref(), Some("third"));
    assert_eq!(after.pending_restart, [""; 0]);
    let settled = async || drivers.patroni.status(&shop.patroni).await.is_ok_and(|seen| !seen.pending_restart);
    until("nothing waits any more", settled).await;
}

async fn lines_that_cannot_be_loaded(drivers: &Drivers, shop: &Shop) {
    let mut lines = shop.config.pg_hba.clone();
    lines.insert(0, "host all all nonsense".to_owned());
    drivers.patroni.patch_config(&shop.patroni, &json!({"postgresql": {"pg_hba": lines}})).await.unwrap();
    server_when(drivers, shop, "the line is complained about", |server| !server.configuration_errors.is_empty()).await;
    let right = json!({"postgresql": {"pg_hba": shop.config.pg_hba}});
    drivers.patroni.patch_config(&shop.patroni, &right).await.unwrap();
    server_when(drivers, shop, "the lines are loaded", |server| server.configuration_errors.is_empty()).await;
}

/// What is written to etcd comes by itself.
async fn by_etcd<B: Bench>(site: &Site<'_, B>, shop: &Shop) {
    let drivers = site.bench.drivers();
    let (target, key) = (site.etcd().await, layout::patroni_config_key(&shop.config.prefix));
    let seen = drivers.etcd.get(&target, &key).await.unwrap().unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&seen.value).unwrap();
    assert_eq!(config["postgresql"]["parameters"]["max_connections"], "61", "REST writes to etcd");
    config["postgresql"]["parameters"]["pgmoor.config"] = json!("fourth");
    let text = config.to_string();
    drivers.etcd.put(&target, &key, text.as_bytes(), Some(seen.mod_revision)).await.unwrap();
    let loaded = |server: &ServerSeen| server.config.as_deref() == Some("fourth");
    server_when(drivers, shop, "what is in etcd is loaded", loaded).await;
    let keys = drivers.etcd.keys(&target, &shop.config.prefix).await.unwrap();
    for name in ["config", "initialize", "leader"] {
        assert!(keys.contains(&format!("{}{name}", shop.config.prefix)), "{name} is not among {keys:?}");
    }
}

/// A renewed certificate is shown after a reload, and not before.
async fn renewed<B: Bench>(site: &Site<'_, B>, shop: &Shop) {
    let drivers = site.bench.drivers();
    let before = on_disk(site, shop).await;
    site.certificate(&site.server_certificate(shop)).await;
    let wanted = on_disk(site, shop).await;
    assert_ne!(wanted, before);
    assert_eq!(drivers.patroni.status(&shop.patroni).await.unwrap().certificate, before);
    let started_ms = drivers.postgres.server(&shop.postgres).await.unwrap().started_ms;
    drivers.patroni.reload(&shop.patroni).await.unwrap();
    let shown = async || drivers.patroni.status(&shop.patroni).await.is_ok_and(|seen| seen.certificate == wanted);
    until("the new certificate is shown", shown).await;
    assert_eq!(drivers.postgres.server(&shop.postgres).await.unwrap().started_ms, started_ms);
}

/// A Postgres that did not start is started again as soon as it can, without a word.
async fn starts_again<B: Bench>(site: &Site<'_, B>, shop: &Shop) {
    let (drivers, wanted) = (site.bench.drivers(), site.server_certificate(shop));
    drivers.host.remove_file(&format!("{}.crt", wanted.stem)).await.unwrap();
    let restarted = drivers.patroni.restart(&shop.patroni).await;
    assert!(is_failed(&restarted), "{restarted:?}");
    let down = async || drivers.patroni.status(&shop.patroni).await.is_ok_and(|seen| seen.state == "start failed");
    until("Postgres did not start", down).await;
    site.certificate(&wanted).await;
    site.serves(shop).await;
}
