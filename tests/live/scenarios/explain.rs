//! What keeps a database from running after its spec was accepted is said in Swarm's own words, with what to do, while
//! it lasts; and when the cause goes, the database comes up by itself.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Site;
use crate::daemon::{free_port, until};
use crate::docker::docker;
use crate::{image, version};

/// How soon the cause must be told.
const SOON: Duration = Duration::from_secs(20);

/// A name of our own for the image, which can be taken away without harm to others; gone when this is dropped.
struct Tag(String);

impl Tag {
    fn put(&self) {
        docker(&["tag", &image(), &self.0]).unwrap();
    }

    fn take(&self) {
        docker(&["rmi", &self.0]).unwrap();
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        drop(docker(&["rmi", &self.0]));
    }
}

#[test]
fn what_is_missing_is_named_and_its_return_is_enough() {
    let site = Site::start(false);
    // What cannot start is what this is about.
    site.daemon.expect_log(&["step failed"]);
    let tag = Tag(format!("pgmoor-explain-{}:{}", site.fleet, version()));
    tag.put();
    let port = free_port();
    let spec = format!(
        r#"{{"database_name": "shop", "postgres_version": "{}", "port": {port},
            "database_users": [{{"username": "owner", "db_owner": true, "attributes": ["LOGIN"]}}],
            "orchestrator_opts": {{"swarm": {{"image": "{}"}}}}}}"#,
        version(),
        tag.0
    );
    site.apply("shop", &spec);
    assert_eq!(explained(&site), 0, "all is well");
    site.psql("shop", "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)");

    tag.take();
    kill_container(&site);
    names(&site, "ImageMissing", &format!("No such image: {}", tag.0), "docker pull");
    tag.put();
    comes_back(&site);

    kill_container(&site);
    let mut foreign = None;
    until("a foreign process has the port", || {
        foreign = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok();
        foreign.is_some()
    });
    names(&site, "PortInUse", "address already in use", "ss -ltnp");
    drop(foreign);
    comes_back(&site);
}

fn kill_container(site: &Site) {
    docker(&["kill", &site.container(&site.service("shop")).unwrap()]).unwrap();
}

fn comes_back(site: &Site) {
    site.daemon.wait_status(&site.id("shop"), "it is available again", |status| {
        status["state"] == "available" && told(status, "Settled").is_some()
    });
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7");
    assert_eq!(explained(site), 0);
}

/// The condition with this reason.
fn told<'a>(status: &'a Value, reason: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["reason"] == reason)
}

/// A condition and `pgmoor explain` name the cause, soon, with what to do.
#[expect(clippy::disallowed_methods, reason = "a test measures how long it waited")]
fn names(site: &Site, reason: &str, words: &str, hint: &str) {
    let begun = Instant::now();
    let says = |status: &Value| {
        told(status, reason).is_some_and(|told| told["message"].as_str().unwrap_or_default().contains(words))
    };
    let status = site.daemon.wait_status(&site.id("shop"), &format!("{words} is told"), says);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let condition = told(&status, reason).unwrap();
    assert!(condition["hint"].as_str().unwrap_or_default().contains(hint), "{condition}");
    let explained = site.daemon.cli(&["explain", &site.id("shop")]);
    assert_eq!(explained.status.code(), Some(2), "{explained:?}");
    let text = String::from_utf8(explained.stdout).unwrap();
    assert!(text.contains(words) && text.contains(hint), "{text}");
}

fn explained(site: &Site) -> i32 {
    let explained = site.daemon.cli(&["explain", &site.id("shop")]);
    explained.status.code().unwrap_or(-1)
}
