//! Hosts that are left: a primary's host leaves `host_ids`, one is drained, one dies with something of a deleted database on
//! it and comes back, and dies for good.

use std::collections::BTreeSet;

use serde_json::json;

use crate::daemon::until;
use crate::rows::{rows, written};
use crate::site::{Site, eventually};
use crate::testbed::Host;

/// The port of the database that is deleted: the other one has the usual port on the same hosts.
const PORT: u16 = 6433;

/// A fleet of four hosts with two databases.
struct Story<'a> {
    site: &'a Site,
    leads: &'a Host,
    /// Hosts with a member of etcd, where the databases are in the end.
    one: &'a Host,
    other: &'a Host,
    /// The host without one.
    free: &'a Host,
    kept: BTreeSet<u32>,
}

#[test]
fn hosts_come_are_left_drained_and_removed() {
    let site = Site::up_on("leave", 4, 2);
    let [first, second, ..] = site.bed.hosts() else { panic!("four hosts") };
    assert_eq!(site.bed.leader(), Some(first), "Swarm's leader must run pgmoor");
    two_hosts(&site, first, second);
    site.come(&site.bed.hosts()[2..]);
    site.has_quorum_to_spare("shop");
    let members = site.etcd_hosts();
    let (with, without): (Vec<&Host>, Vec<&Host>) =
        site.bed.others(first).partition(|host| members.contains(&host.name));
    let (&[one, other], &[free]) = (with.as_slice(), without.as_slice()) else { panic!("{members:?}") };
    let kept = written(&site, &[first, second], 1);
    let mut story = Story { site: &site, leads: first, one, other, free, kept };
    story.a_primarys_host_leaves_host_ids();
    story.a_host_is_drained();
    story.a_database_on_a_dead_host_is_deleted();
    story.a_dead_host_is_removed();
}

/// Two hosts give a replica and no automatic failover, and the status says so.
fn two_hosts(site: &Site, first: &Host, second: &Host) {
    site.publish("shop", 1, &[first, second], &json!({}));
    site.is("shop", 1, "available");
    assert_eq!(site.primary("shop"), Some(first));
    let status = site.status("shop");
    let condition = status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "NoAutomaticFailover");
    assert_eq!(condition.map(|condition| &condition["status"]), Some(&json!("true")), "{status:#}");
    site.psql("shop", &[first], "CREATE TABLE kept (n int PRIMARY KEY)").unwrap();
}

impl Story<'_> {
    fn shop(&self) -> String {
        format!("{:#}", self.site.status("shop"))
    }

    /// In one change of the spec: its primary hands over by itself, and nothing is left there.
    fn a_primarys_host_leaves_host_ids(&mut self) {
        let site = self.site;
        assert_eq!(site.primary("shop"), Some(self.leads));
        let service = site.service("shop", self.leads);
        let before = site.timeline("shop", &[self.leads, self.one, self.other]);
        site.publish("shop", 2, &[self.one, self.other], &json!({}));
        site.publish("gone", 1, &[self.one, self.other], &json!({ "port": PORT }));
        site.is("shop", 2, "available");
        let stay = [self.one, self.other];
        let primary = site.primary("shop").unwrap();
        assert!(stay.contains(&primary), "{}", self.shop());
        assert_eq!(site.timeline("shop", &stay), before + 1, "it handed over once");
        self.kept.extend(written(site, &stay, 100));
        for host in stay {
            until("every host has every row", || rows(site, host) == self.kept);
        }
        assert!(self.leads.docker(&["service", "inspect", &service]).is_err(), "no service");
        assert_eq!(on_disk(self.leads, "instances", "shop"), "", "no instance");
        site.is("gone", 1, "available");
    }

    /// Its primaries hand over, its member of etcd goes to the free host, and no spec may name it anew.
    fn a_host_is_drained(&mut self) {
        let site = self.site;
        let drained = site.primary("shop").unwrap().clone();
        let stays = if drained == *self.one { self.other } else { self.one };
        let answer = site.pgmoor(&["host", "drain", &drained.name]).unwrap();
        assert!(answer.contains("database shop"), "it says what stays: {answer}");
        eventually(
            "the primary and the member of etcd are elsewhere",
            || self.shop(),
            || {
                let etcd = site.etcd_hosts();
                site.primary("shop") == Some(stays) && !etcd.contains(&drained.name) && etcd.contains(&self.free.name)
            },
        );
        site.is("shop", 2, "available");
        assert_eq!(site.etcd_hosts().len(), 3);
        self.kept.extend(written(site, &[self.one, self.other], 200));
        site.publish("late", 1, &[&drained], &json!({ "port": PORT + 1, "synchronous": "off" }));
        let late = || format!("{:#}", site.status("late"));
        eventually("no spec may name it anew", late, || late().contains("host-drained"));
        site.wire.publish("databases/late/spec", "", true);
        site.pgmoor(&["host", "use", &drained.name]).unwrap();
    }

    /// The delete gets to its end without the host, and what is there goes when it is back.
    fn a_database_on_a_dead_host_is_deleted(&self) {
        let (site, dead) = (self.site, self.other);
        let services = [self.one, self.other].map(|host| site.service("gone", host));
        dead.crash();
        site.wire.publish("databases/gone/spec", r#"{"generation": 2, "deleted": true}"#, true);
        let status = || site.status("gone");
        eventually(
            "it is gone but for the dead host",
            || format!("{:#}", status()),
            || status()["state"] == "deleted" && status().to_string().contains("LeftBehind"),
        );
        assert!(status().to_string().contains(&format!("on the disk of {}", dead.name)), "{:#}", status());
        let exists = |kind: &str, name: &str| self.one.docker(&[kind, "inspect", name]).is_ok();
        assert!(!services.iter().any(|service| exists("service", service)), "no service is left");
        assert!(!exists("network", "gone-database"), "no network is left");
        assert_eq!(on_disk(self.one, "instances", "gone"), "", "where the host answers, nothing is left");
        assert_ne!(on_disk(self.one, "trash", "gone"), "", "but its data, in the trash");

        site.pgmoor(&["purge", "gone", "--yes"]).unwrap();
        let reports = || site.reports().into_iter().filter(|topic| topic.contains("gone")).collect::<Vec<String>>();
        eventually(
            "it is purged, and nothing is said of it",
            || format!("{:?}", reports()),
            || on_disk(self.one, "trash", "gone").is_empty() && reports().is_empty(),
        );
        self.comes_back(dead);
    }

    fn comes_back(&self, dead: &Host) {
        let site = self.site;
        dead.start();
        assert_ne!(on_disk(dead, "instances", "gone"), "", "it died with it");
        site.serve(dead);
        eventually(
            "nothing is left there",
            || on_disk(dead, "", "gone"),
            || ["instances", "trash", "credentials"].iter().all(|place| on_disk(dead, place, "gone").is_empty()),
        );
        let containers = ["ps", "-aq", "--filter", "name=postgres-gone"];
        until("no container is left there", || dead.docker(&containers) == Ok(String::new()));
        site.is("shop", 2, "available");
        site.has_quorum_to_spare("shop");
    }

    /// It is removed by force: the database is well without it, and nothing in the fleet remembers it.
    fn a_dead_host_is_removed(&mut self) {
        let (site, dead) = (self.site, self.other);
        let service = site.service("shop", dead);
        let node = dead.docker(&["info", "--format", "{{.Swarm.NodeID}}"]).unwrap();
        self.kept.extend(written(site, &[self.one, self.other], 300));
        dead.crash();
        eventually("its absence is told", || self.shop(), || site.status("shop")["state"] == "degraded");
        let refused = site.pgmoor(&["host", "remove", &dead.name]).unwrap_err();
        assert!(refused.contains("host-in-use"), "{refused}");
        let answer = site.pgmoor(&["host", "remove", &dead.name, "--force"]).unwrap();
        assert!(answer.contains("database shop"), "{answer}");

        let asked = self.one;
        let nodes = || asked.nodes().into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
        eventually(
            "the database is well, and the host is forgotten",
            || format!("{}; {:?}", self.shop(), nodes()),
            || {
                let status = site.status("shop");
                status["state"] == "available"
                    && status.to_string().contains("HostRemoved")
                    && !nodes().contains(&dead.name)
            },
        );
        assert!(asked.docker(&["service", "inspect", &service]).is_err(), "no service of the database");
        eventually(
            "etcd runs on three other hosts",
            || format!("{:?}", site.etcd_hosts()),
            || site.etcd_hosts().len() == 3 && !self.services_name(&node),
        );
        let of_host = format!("hosts/{}/status", dead.name);
        until("its host's topic is cleared", || !site.reports().contains(&of_host));
        self.kept.extend(written(site, &[self.one, self.free], 400));
        assert!(rows(site, self.one).is_superset(&self.kept), "no acknowledged row is lost");
    }

    /// Whether a service of the Swarm is bound to a node.
    fn services_name(&self, node: &str) -> bool {
        let services = self.one.docker(&["service", "ls", "-q"]).unwrap();
        let format = "{{json .Spec.TaskTemplate.Placement}}";
        services.lines().any(|id| {
            let placed = self.one.docker(&["service", "inspect", "--format", format, id]);
            placed.is_ok_and(|placement| placement.contains(node))
        })
    }
}

/// What a host has of a database in a directory below its pgmoor's.
fn on_disk(host: &Host, below: &str, database: &str) -> String {
    let look = format!("ls -d /var/lib/pgmoor/{below}/{database}[.-]* 2>/dev/null || true");
    host.exec(&["sh", "-c", &look]).unwrap()
}
