//! The daemon is killed with SIGKILL at random moments of everything that can be asked of a database: create, change,
//! repair, delete, undelete. It always ends as if nobody had killed it.
//!
//! `KILLS`: how often (5). `KILLS_SEED`: the seed of the moments and changes, which each run prints. The broker is a
//! mosquitto, since the embedded one would die with the daemon and take the message along.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pgmoor::runtime::Random;
use serde_json::{Value, json};

use super::Site;
use super::site::entries;
use crate::daemon::until;
use crate::docker::docker;

/// Kills of a run that names no number: one for each act.
const KILLS: u64 = 5;
/// From the word to the kill, at most: a start takes some seconds on a busy machine, and what is over is tested, too.
const MOMENT_MAX_MS: u64 = 4_000;
/// From a daemon that is back to another kill, at most.
const AGAIN_MAX_MS: u64 = 1_500;
/// One of so many times the daemon is killed again while it finds out what the first kill left, if there are kills left.
const AGAIN_ONE_OF: u64 = 3;
/// The pause between two looks for a second Postgres on one directory.
const WATCH_EVERY: Duration = Duration::from_millis(300);

/// What can be asked.
#[derive(Debug, Clone, Copy)]
enum Act {
    Create,
    Change,
    Repair,
    Delete,
    Undelete,
}

const ACTS: [Act; 5] = [Act::Create, Act::Change, Act::Repair, Act::Delete, Act::Undelete];

#[test]
fn killed_at_random_moments_it_ends_as_if_it_had_not_been() {
    let seed = setting("KILLS_SEED").unwrap_or_else(|| Random::System.next_u64() % 1_000_000_000);
    let kills = setting("KILLS").unwrap_or(KILLS);
    println!("KILLS={kills} KILLS_SEED={seed}");
    let site = Site::start(true);
    // What a killed daemon was in the middle of is found by the next one.
    site.daemon.expect_log(&["drift", "pass failed"]);
    let watch = Watch::start(&site);
    let random = Random::seeded(seed);
    let mut story = Story { site, random, kills_left: kills, database: String::new(), rows: 0, secrets: Vec::new() };
    let mut round: u64 = 0;
    while story.kills_left > 0 {
        round += 1;
        story.round(round);
    }
    watch.found_nothing();
}

/// A number from the environment.
#[expect(clippy::disallowed_methods, reason = "a test's own settings come from whoever runs it")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A database, and what must still be so after everything that is done to it and to the daemon.
struct Story {
    site: Site,
    random: Random,
    kills_left: u64,
    database: String,
    rows: u64,
    secrets: Vec<String>,
}

impl Story {
    /// A database from its first word to its last, each act of it with a kill.
    fn round(&mut self, round: u64) {
        self.database = format!("db{round}");
        self.rows = 0;
        for (index, act) in ACTS.into_iter().enumerate() {
            let left = (ACTS.len() - index) as u64;
            self.act(act, left);
            if !matches!(act, Act::Delete) {
                self.is_whole(act);
            }
        }
        self.end();
    }

    /// `left`: the acts of the round that want a kill, this one included.
    fn act(&mut self, act: Act, left: u64) {
        let id = self.site.id(&self.database);
        match act {
            Act::Create => {
                let digest = self.site.daemon.publish(&id, &self.spec(&json!({})));
                self.killed(act, left);
                self.applied(&digest);
                self.site.psql(&self.database, "CREATE TABLE kept (x int)");
                self.secrets = self.site.secrets();
            }
            Act::Change => {
                let changes = [
                    json!({"postgresql_conf": {"work_mem": "9MB"}}),
                    json!({"postgresql_conf": {"max_connections": 60}}),
                    json!({"memory": "384MiB"}),
                ];
                let change = self.below(changes.len() as u64);
                let digest = self.site.daemon.publish(&id, &self.spec(&changes[usize::try_from(change).unwrap()]));
                self.killed(act, left);
                self.applied(&digest);
            }
            Act::Repair => {
                let service = self.site.service(&self.database);
                let old = self.site.container(&service);
                docker(&["service", "rm", &service]).unwrap();
                self.killed(act, left);
                until("the service is made again", || {
                    let new = self.site.container(&service);
                    new.is_some() && new != old
                });
                self.serves();
            }
            Act::Delete => {
                self.site.daemon.publish(&id, r#"{"deleted": true}"#);
                self.killed(act, left);
                self.is_in_the_trash();
            }
            Act::Undelete => {
                self.command("undelete");
                self.killed(act, left);
                self.serves();
            }
        }
    }

    fn spec(&self, more: &Value) -> String {
        let mut spec = json!({
            "database_name": "shop", "deletion_protection": false,
            "database_users": [{"username": "owner", "db_owner": true, "attributes": ["LOGIN"]}],
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec.to_string()
    }

    fn command(&self, verb: &str) {
        let topic = format!("databases/{}/commands/{verb}", self.site.id(&self.database));
        self.site.daemon.wire.publish(&topic, "{}", false);
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    /// Kills the daemon and starts it again; where more kills are left than acts of this round, sometimes twice.
    fn killed(&mut self, act: Act, left: u64) {
        let mut most_ms = MOMENT_MAX_MS;
        while self.kills_left > 0 {
            let moment_ms = self.below(most_ms);
            println!("{} {act:?}: killed after {moment_ms} ms", self.database);
            std::thread::sleep(Duration::from_millis(moment_ms));
            self.site.kill();
            self.site.daemon.start_again();
            self.kills_left -= 1;
            most_ms = AGAIN_MAX_MS;
            if self.kills_left < left || self.below(AGAIN_ONE_OF) != 0 {
                break;
            }
        }
    }

    fn applied(&self, digest: &str) {
        self.site.daemon.wait_status(&self.site.id(&self.database), "the spec is applied", |status| {
            status["state"] == "available" && status["observed"]["digest"] == digest
        });
        self.serves();
    }

    /// The status says so, nothing is left to do, and a client gets in.
    fn serves(&self) {
        let id = self.site.id(&self.database);
        self.site.daemon.wait_status(&id, "it is available", |status| status["state"] == "available");
        until("the plan is empty", || {
            let plan = self.site.daemon.wire.last(&format!("databases/{id}/plan")).unwrap_or_default();
            serde_json::from_str::<Value>(&plan).is_ok_and(|plan| plan["stages"] == json!([]))
        });
        assert_eq!(self.site.psql(&self.database, "SELECT 40 + 2"), "42");
    }

    /// What must hold after each act: every row that was ever written, the same passwords, and one of everything.
    fn is_whole(&mut self, act: Act) {
        let (site, database) = (&self.site, self.database.as_str());
        let told = || format!("{database} {act:?}\n{}", site.daemon.log());
        assert_eq!(site.psql(database, "SELECT count(*) FROM kept"), self.rows.to_string(), "{}", told());
        site.psql(database, "INSERT INTO kept VALUES (1)");
        self.rows += 1;
        assert_eq!(site.secrets(), self.secrets, "no password changed: {}", told());
        let instance = site.credentials(database).instances[0].instance.to_string();
        let services = site.names("service");
        assert!(services.len() == 2 && services.contains(&site.service(database)), "{services:?}\n{}", told());
        assert_eq!(site.objects("network").len(), 1, "{}", told());
        let filter = format!("label=pgmoor.fleet={}", site.fleet);
        let running = docker(&["ps", "-q", "--filter", &filter]).unwrap();
        assert_eq!(running.lines().count(), 2, "etcd and the instance: {running}\n{}", told());
        let records = site.records();
        assert_eq!(records.databases.len(), 1, "{}", told());
        assert_eq!(file_names(site, "instances"), BTreeSet::from([instance]), "{}", told());
        assert_eq!(file_names(site, "trash"), BTreeSet::new(), "{}", told());
        assert_eq!(file_names(site, "credentials"), BTreeSet::from([format!("{}.json", site.id(database))]));
    }

    /// Everything but the data is gone, and the data is kept.
    fn is_in_the_trash(&self) {
        let site = &self.site;
        site.daemon.wait_gone(&site.id(&self.database));
        site.wait_only_etcd();
        let trash = entries(&site.data_dir().join("trash"));
        assert!(trash.len() == 1 && trash[0].join("pgdata/PG_VERSION").exists(), "{trash:?}\n{}", site.daemon.log());
        assert_eq!(file_names(site, "instances"), BTreeSet::new());
        assert_eq!(file_names(site, "credentials"), BTreeSet::new());
    }

    /// The database goes for good, so that the next one is alone.
    fn end(&self) {
        let site = &self.site;
        let id = site.id(&self.database);
        site.daemon.publish(&id, r#"{"deleted": true}"#);
        self.is_in_the_trash();
        self.command("purge");
        until("the trash is purged", || file_names(site, "trash").is_empty());
        until("the record is gone", || site.names("config").iter().all(|name| !name.contains(&id)));
    }
}

/// What is in a directory of the data directory.
fn file_names(site: &Site, directory: &str) -> BTreeSet<String> {
    let entries = entries(&site.data_dir().join(directory)).into_iter();
    entries.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Looks all the time for a second Postgres on one data directory (rule 3).
struct Watch {
    stop: Arc<AtomicBool>,
    looks: Option<JoinHandle<()>>,
    found: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    fn start(site: &Site) -> Self {
        let (stop, found) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, finds) = (Arc::clone(&stop), Arc::clone(&found));
        let filter = format!("label=pgmoor.fleet={}", site.fleet);
        let looks = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let format = "{{.ID}} {{.Mounts}}";
                let list = docker(&["ps", "--no-trunc", "--filter", &filter, "--format", format]).unwrap_or_default();
                let mounts = list.lines().flat_map(|line| line.split([' ', ',']).skip(1));
                let mut seen = BTreeSet::new();
                let twice = mounts.filter(|mount| mount.ends_with("/data")).any(|mount| !seen.insert(mount));
                if twice {
                    finds.lock().unwrap().push(list.clone());
                }
                std::thread::sleep(WATCH_EVERY);
            }
        });
        Self { stop, looks: Some(looks), found }
    }

    /// Ends it; never were two seen.
    fn found_nothing(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.looks.take().unwrap().join().unwrap();
        let found = self.found.lock().unwrap();
        assert!(found.is_empty(), "two containers had one data directory: {found:#?}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
