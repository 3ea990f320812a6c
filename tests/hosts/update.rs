//! A database on three hosts is updated under load; then the broker is lost, a Docker daemon is killed, and the host that
//! leads is cut off in the middle of another update. Its rows go on being written through all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::until;
use crate::rows::{Load, Written, rows, written};
use crate::site::{Site, eventually};
use crate::testbed::Host;

/// Memory of the instances, in MiB: what a host that is cut off began to give, and what is asked for meanwhile.
const STALE: u64 = 288;
const NEWEST: u64 = 320;
/// How long there is no broker. The mechanism is that of an hour: connections are tried again, what is to be said waits in
/// the store, databases need no broker. Longer than the twelve seconds after which a silent connection is given up.
const WITHOUT_BROKER: Duration = Duration::from_secs(20);

/// A fleet with a database on all of its three hosts.
struct Story<'a> {
    site: &'a Site,
    all: Vec<&'a Host>,
    /// Of the database, in the order of the hosts.
    services: Vec<String>,
    kept: BTreeSet<u32>,
    image: String,
}

#[test]
fn a_database_is_updated_under_load_and_needs_neither_broker_nor_leader() {
    let site = Site::up("update", 3);
    let all: Vec<&Host> = site.bed.hosts().iter().collect();
    site.publish("shop", 1, &all, &json!({}));
    site.is("shop", 1, "available");
    site.has_quorum_to_spare("shop");
    let primary = site.primary("shop").unwrap();
    site.psql("shop", &[primary], "CREATE TABLE kept (n int PRIMARY KEY)").unwrap();
    let services: Vec<String> = all.iter().map(|host| site.service("shop", host)).collect();
    let format = "{{.Spec.TaskTemplate.ContainerSpec.Image}}";
    let image = all[0].docker(&["service", "inspect", "--format", format, &services[0]]).unwrap();
    let mut story = Story { site: &site, all, services, kept: BTreeSet::new(), image: format!("{image}-r2") };
    story.rolling_upgrade();
    story.broker_is_lost();
    story.dockerd_is_killed();
    story.leader_is_cut_off();
}

impl Story<'_> {
    fn spec(&self, more: &Value) -> Value {
        let mut spec = json!({ "orchestrator_opts": { "swarm": { "image": self.image } } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    }

    fn status(&self) -> String {
        format!("{:#}", self.site.status("shop"))
    }

    /// Every host has the rows that were acknowledged, and as many as every other.
    fn has_all_rows(&self) {
        for host in &self.all {
            until("every host has every row", || rows(self.site, host).is_superset(&self.kept));
        }
        let counts: BTreeSet<usize> = self.all.iter().map(|host| rows(self.site, host).len()).collect();
        assert_eq!(counts.len(), 1, "{counts:?}");
    }

    /// An image of the same version is rolled out: one switchover, and no write fails for good.
    fn rolling_upgrade(&mut self) {
        let before = self.site.timeline("shop", &self.all);
        let load = Load::on(&self.all, 1);
        self.site.publish("shop", 2, &self.all, &self.spec(&json!({})));
        self.site.is("shop", 2, "available");
        let Written { rows, again, failed } = load.end();
        assert_eq!(failed, [], "{again:?}");
        // By the switchover, and maybe when the former primary's container goes while its port still takes connections:
        // libpq goes on to the next host only where a connection is refused.
        let cuts = ["server closed the connection unexpectedly", "connection has been closed unexpectedly"];
        let cut = |words: &str| cuts.iter().any(|cut| words.contains(cut));
        let by_switchover = again.iter().filter(|(_, words)| !cut(words)).count();
        assert!(by_switchover <= 1 && again.len() <= 2, "one writer is interrupted by the switchover once: {again:?}");
        assert!(rows.len() > 10, "it was a load: {rows:?}");
        self.kept.extend(rows);
        assert_eq!(self.site.timeline("shop", &self.all), before + 1, "one switchover");
        let containers = |at: usize| self.site.containers(self.all[at], &self.services[at]);
        assert_eq!([0, 1, 2].map(containers), [2, 2, 2], "each was replaced once");
        for (host, service) in self.all.iter().zip(&self.services) {
            let filter = format!("label=com.docker.swarm.service.name={service}");
            let image = host.docker(&["ps", "--format", "{{.Image}}", "--filter", &filter]).unwrap();
            assert_eq!(image, self.image, "{}", host.name);
        }
        self.has_all_rows();
    }

    /// Databases need no broker, and a new one that knows nothing hears everything again.
    fn broker_is_lost(&mut self) {
        let said = self.site.reports();
        assert!(said.iter().any(|topic| topic.starts_with("databases/shop/instances/")), "{said:?}");
        self.site.lose_broker();
        let load = Load::on(&self.all, 100_000);
        std::thread::sleep(WITHOUT_BROKER);
        self.site.wire.forget();
        self.site.start_broker();
        self.site.publish("shop", 2, &self.all, &self.spec(&json!({})));
        let missing = || said.difference(&self.site.reports()).cloned().collect::<Vec<String>>();
        eventually("all is said again", || format!("{:?}", missing()), || missing().is_empty());
        self.site.is("shop", 2, "available");
        let Written { rows, again, failed } = load.end();
        assert_eq!((again, failed), (vec![], vec![]), "it was writable all the time");
        assert!(rows.len() > 10, "it was a load: {rows:?}");
        self.kept.extend(rows);
    }

    /// The engine of the primary's host dies alone: rows are written meanwhile, and all is well when it is back.
    fn dockerd_is_killed(&mut self) {
        let host = self.site.primary("shop").unwrap();
        host.kill_dockerd();
        for round in 0..3 {
            self.kept.extend(written(self.site, &self.all, 200_000 + 100 * round));
        }
        eventually(
            "it is told that the host is not as it should be",
            || self.status(),
            || self.site.status("shop")["state"] != "available",
        );
        host.start_dockerd();
        until("the Swarm is whole again", || self.site.bed.is_whole());
        self.kept.extend(written(self.site, &self.all, 201_000));
        self.site.is("shop", 2, "available");
        self.has_all_rows();
    }

    /// The host that leads is cut off in the middle of an update, which is superseded before it comes back: it does
    /// nothing more of it.
    fn leader_is_cut_off(&mut self) {
        let leads = self.site.bed.leader().unwrap().clone();
        let others: Vec<&Host> = self.site.bed.others(&leads).collect();
        let memory = |asked: &Host| self.site.memory(asked, &self.services);
        self.site.publish("shop", 3, &self.all, &self.spec(&json!({ "memory": format!("{STALE}MiB") })));
        eventually("one is updated", || self.status(), || memory(&leads).values().any(|memory| *memory == STALE));
        leads.partition();
        self.site.publish("shop", 4, &self.all, &self.spec(&json!({ "memory": format!("{NEWEST}MiB") })));
        let taken = || self.site.status("shop")["observed"]["generation"] == 4;
        eventually("another leads, and takes it", || self.status(), taken);
        self.kept.extend(written(self.site, &others, 300_000));
        let led = self.site.logged(&leads).len();
        let mut given = stale(&memory(others[0]));
        leads.heal();
        eventually(
            "it is as the newest spec asks",
            || self.status(),
            || {
                let now = stale(&memory(others[0]));
                assert!(now.is_subset(&given), "{now:?} were given what nobody asks for any more; before: {given:?}");
                given = now;
                let status = self.site.status("shop");
                status["observed"]["generation"] == 4 && status["state"] == "available"
            },
        );
        let all = memory(others[0]);
        assert!(all.len() == 3 && all.values().all(|memory| *memory == NEWEST), "{all:?}");
        let after = self.site.logged(&leads).split_off(led);
        assert!(after.contains("this host leads no more"), "{after}");
        until("the Swarm is whole again", || self.site.bed.is_whole());
        self.has_all_rows();
    }
}

/// The services that have what the superseded spec gives.
fn stale(memory: &BTreeMap<&str, u64>) -> BTreeSet<String> {
    memory.iter().filter(|(_, memory)| **memory == STALE).map(|(service, _)| (*service).to_owned()).collect()
}
