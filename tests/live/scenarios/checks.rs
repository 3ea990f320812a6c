//! What only the host can say about a spec is asked before the first step, and what it asks of the host is really there.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::{Value, json};

use super::Site;
use crate::daemon::{free_port, until};
use crate::docker::docker;
use crate::{image, version};

#[test]
fn the_host_is_asked_first_and_gives_what_was_asked() {
    let site = Site::start(false);
    let volume = tempfile::tempdir_in("/var/tmp").unwrap();
    make_network(&site, "closed", false);
    make_network(&site, "open", true);
    everything_is_wrong(&site);
    mended_by_itself(&site);
    names_of_others_stay_theirs(&site);
    two_ports_at_once(&site);
    all_options(&site, &volume.path().to_string_lossy());
}

/// An overlay network that the sweep finds again.
fn make_network(site: &Site, name: &str, attachable: bool) {
    let (name, label) = (site.id(name), format!("pgmoor.fleet={}", site.fleet));
    let mut arguments = vec!["network", "create", "-d", "overlay", "--label", &label];
    arguments.extend(attachable.then_some("--attachable"));
    arguments.push(&name);
    docker(&arguments).unwrap();
}

/// Each live check's fault with its place, all at once; nothing is made.
fn everything_is_wrong(site: &Site) {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let spec = json!({
        "postgres_version": version(), "port": taken.local_addr().unwrap().port(), "cpus": "900", "memory": "9000GiB",
        "orchestrator_opts": {"swarm": {
            "image": format!("pgmoor/absent:{}", version()),
            "extra_volumes": [{"host_path": "/var/tmp/pgmoor-never-made", "destination_path": "/exports"}],
            "extra_networks": [{"id": site.id("missing")}, {"id": site.id("closed")}],
        }},
    });
    site.refused("wrong", &spec.to_string());
    let status = site.status("wrong");
    let faults = status["verdict"]["faults"].as_array().unwrap();
    let told: Vec<(&str, &str)> =
        faults.iter().map(|fault| (fault["code"].as_str().unwrap(), fault["pointer"].as_str().unwrap())).collect();
    let swarm = "/orchestrator_opts/swarm";
    for (code, pointer) in [
        ("port-in-use", "/port".to_owned()),
        ("cpu-overcommitted", "/cpus".to_owned()),
        ("memory-overcommitted", "/memory".to_owned()),
        ("image-missing", format!("{swarm}/image")),
        ("volume-path-missing", format!("{swarm}/extra_volumes/0/host_path")),
        ("network-missing", format!("{swarm}/extra_networks/0/id")),
        ("network-not-attachable", format!("{swarm}/extra_networks/1/id")),
    ] {
        assert!(told.contains(&(code, &pointer)), "{code} at {pointer}: {told:?}");
    }
    assert_eq!(told.len(), 7, "{told:?}");
    assert!(faults.iter().all(|fault| !fault["message"].as_str().unwrap().is_empty() && fault["hint"].is_string()));
    assert_eq!(status["state"], "rejected");
    assert!(site.names("service").iter().all(|name| name.starts_with("pgmoor-etcd-")), "nothing was made");
    site.daemon.publish(&site.id("wrong"), r#"{"deleted": true}"#);
    site.daemon.wait_gone(&site.id("wrong"));
}

/// The host is mended, and the spec that waits for it is taken without another word.
fn mended_by_itself(site: &Site) {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let spec = json!({"port": taken.local_addr().unwrap().port()}).to_string();
    assert_eq!(site.refused("patient", &spec), ["port-in-use"]);
    drop(taken);
    site.daemon.wait_status(&site.id("patient"), "the port is free", |status| status["state"] == "available");
    let clash = site.refused("late", &spec);
    assert_eq!(clash, ["port-clash"], "a port belongs to one database");
}

/// Names are the whole Swarm's: what another fleet, or nobody, has made is not touched.
fn names_of_others_stay_theirs(site: &Site) {
    let own = site.credentials("patient").instances[0].service.replace(&site.id("patient"), &site.id("theirs"));
    let network = format!("{}-database", site.id("theirs"));
    let theirs = ["--label", "pgmoor.fleet=another"];
    let swept = format!("swept={}", site.fleet);
    let made = Foreign {
        network: docker(
            &[&["network", "create", "-d", "overlay", "--label", &swept], &theirs[..], &[&network]].concat(),
        )
        .unwrap(),
        service: docker(
            &[
                &["service", "create", "-q", "--detach", "--replicas", "0", "--name", &own],
                &theirs[..],
                &["pgmoor/etcd:3.5.16"],
            ]
            .concat(),
        )
        .unwrap(),
    };
    let before = made.inspect();
    assert_eq!(site.refused("theirs", r#"{"template": "postgres"}"#), ["name-taken", "name-taken"]);
    site.daemon.publish(&site.id("theirs"), r#"{"deleted": true}"#);
    site.daemon.wait_gone(&site.id("theirs"));
    assert_eq!(made.inspect(), before, "a foreign object is never touched");
}

/// Objects of another fleet, taken away again also when the test fails.
struct Foreign {
    service: String,
    network: String,
}

impl Foreign {
    fn inspect(&self) -> (String, String) {
        let all = |kind: &str, id: &str| docker(&[kind, "inspect", id]).unwrap();
        (all("service", &self.service), all("network", &self.network))
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(docker(&["service", "rm", &self.service]));
        drop(docker(&["network", "rm", &self.network]));
    }
}

/// Two databases of one moment get ports of their own.
fn two_ports_at_once(site: &Site) {
    let names = ["one", "two"];
    for name in names {
        site.daemon.publish(&site.id(name), r#"{"template": "postgres", "port": 0, "memory": "256MiB"}"#);
    }
    let ports = names.map(|name| {
        let status = site.daemon.wait_status(&site.id(name), "it comes up", |status| status["state"] == "available");
        status["connection"]["port"].as_u64().unwrap()
    });
    assert_ne!(ports[0], ports[1]);
    for name in names {
        assert_eq!(site.psql(name, "SELECT 40 + 2"), "42");
    }
}

/// What a spec passes on to Swarm is seen at the container, and in it.
fn all_options(site: &Site, volume: &str) {
    const MEMORY: u64 = 640 << 20;
    let spec = json!({
        "postgres_version": version(), "port": free_port(), "cpus": "500m", "memory": "640MiB",
        "database_users": [{"username": "owner", "db_owner": true, "attributes": ["LOGIN"]}],
        "pg_ident_conf": ["office root owner"],
        "orchestrator_opts": {"swarm": {
            "image": image(),
            "extra_volumes": [{"host_path": volume, "destination_path": "/exports"}],
            "extra_networks": [{"id": site.id("open"), "aliases": ["the-shop"]}],
            "extra_labels": {"team": "orders"},
        }},
    });
    site.apply("one", &spec.to_string());
    let container = site.container(&site.service("one")).unwrap();
    let seen: Value = serde_json::from_str(&docker(&["inspect", &container]).unwrap()).unwrap();
    let seen = &seen[0];
    let host = &seen["HostConfig"];
    assert_eq!((host["Memory"].as_u64(), host["NanoCpus"].as_u64()), (Some(MEMORY), Some(500_000_000)));
    assert_eq!(seen["Config"]["Labels"]["team"], "orders");
    let mounts = seen["Mounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["Source"] == volume && mount["Destination"] == "/exports"), "{mounts:?}");
    let joined = &seen["NetworkSettings"]["Networks"][site.id("open")];
    assert!(joined["IPAddress"].as_str().is_some_and(|address| !address.is_empty()), "{joined}");
    let service: Value = serde_json::from_str(&docker(&["service", "inspect", &site.service("one")]).unwrap()).unwrap();
    assert_eq!(service[0]["Spec"]["Labels"]["team"], "orders");
    let reserved = &service[0]["Spec"]["TaskTemplate"]["Resources"]["Reservations"];
    assert_eq!((reserved["MemoryBytes"].as_u64(), reserved["NanoCPUs"].as_u64()), (Some(MEMORY), Some(500_000_000)));
    let inside = |shell: &str| docker(&["exec", &container, "sh", "-c", shell]).unwrap();
    let resolves = || docker(&["exec", &container, "getent", "hosts", "the-shop"]).is_ok();
    until("the alias resolves on the network", resolves);
    let shm_kib: u64 = inside("df -k --output=size /dev/shm | tail -1").trim().parse().unwrap();
    assert_eq!(shm_kib * 1024, MEMORY / 4, "/dev/shm follows the memory");
    assert_eq!(inside("ls -d /exports"), "/exports");
    let file = "/opt/pgmoor/data/pgdata/pg_ident.conf";
    assert!(inside(&format!("cat {file}")).lines().any(|line| line == "office root owner"));
}
