//! Docker Swarm: names, ids, versions, what stops slowly, and what a task says that cannot run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use pgmoor::domain::{HostFacts, Owner};
use pgmoor::drivers::host::Permissions;
use pgmoor::drivers::swarm::{Swarm, TaskSeen};
use pgmoor::model::service::{Attachment, Mount, PublishedPort, ServiceAttributes};
use pgmoor::model::{FleetId, HostId};
use pgmoor::world::lease::Lease;
use pgmoor::world::roster;

use super::{Bench, free_port, is_conflict, is_failed, is_not_found, until};

/// An image that every bench has, and one that no registry of this machine has: nothing listens on that port.
const IMAGE: &str = "pgmoor/etcd:3.5.16";
const MISSING: &str = "127.0.0.1:9/missing:1";

pub(crate) async fn networks_and_configs(bench: &impl Bench) {
    let swarm = &*bench.drivers().swarm;
    let labels = bench.labels();
    let name = format!("{}-network", bench.fleet());
    assert_eq!(swarm.find_network(&name).await, Ok(None));
    let free = swarm.free_subnets().await.unwrap().unwrap();
    let id = swarm.create_network(&name, true, &labels).await.unwrap();
    assert!(swarm.free_subnets().await.unwrap().unwrap() < free, "it took a subnet");
    let seen = swarm.find_network(&name).await.unwrap().unwrap();
    assert_eq!((&seen.id, &seen.name, &seen.labels), (&id, &name, &labels));
    assert_eq!((seen.scope.as_str(), seen.driver.as_str(), seen.attachable), ("swarm", "overlay", true));
    assert_eq!(swarm.find_network(&id).await, Ok(Some(seen.clone())), "found by id too");
    assert_eq!(swarm.networks(&labels).await, Ok(vec![seen]));
    let taken = swarm.create_network(&name, true, &labels).await;
    assert!(is_conflict(&taken), "{taken:?}");
    swarm.remove_network(&id).await.unwrap();
    assert_eq!(swarm.find_network(&name).await, Ok(None));
    let gone = swarm.remove_network(&id).await;
    assert!(is_not_found(&gone), "{gone:?}");
    let bridge = swarm.find_network("bridge").await.unwrap().unwrap();
    assert_eq!((bridge.scope.as_str(), bridge.driver.as_str()), ("local", "bridge"));

    let name = format!("{}.config", bench.fleet());
    let data = b"\x00sealed\xff";
    let id = swarm.create_config(&name, &labels, data).await.unwrap();
    let seen = swarm.configs(&labels).await.unwrap().remove(0);
    assert_eq!((&seen.id, &seen.name, &seen.labels, seen.data.as_slice()), (&id, &name, &labels, data.as_slice()));
    let taken = swarm.create_config(&name, &labels, b"other").await;
    assert!(is_conflict(&taken), "{taken:?}");
    assert_eq!(swarm.configs(&labels).await.unwrap(), std::slice::from_ref(&seen), "it is as it was");
    let mut changed = labels.clone();
    changed.insert("pgmoor.epoch".to_owned(), "2".to_owned());
    swarm.label_config(&seen, &changed).await.unwrap();
    let after = swarm.configs(&labels).await.unwrap().remove(0);
    assert_eq!((&after.id, &after.labels, after.data.as_slice()), (&id, &changed, data.as_slice()), "nothing else");
    assert_ne!(after.version, seen.version);
    let stale = swarm.label_config(&seen, &labels).await;
    assert!(is_conflict(&stale), "{stale:?}");
    swarm.label_config(&after, &changed).await.unwrap();
    let same = swarm.label_config(&after, &changed).await;
    assert!(is_conflict(&same), "the same labels are a change too: {same:?}");
    swarm.remove_config(&id).await.unwrap();
    assert_eq!(swarm.configs(&labels).await, Ok(Vec::new()));
    for gone in [swarm.remove_config(&id).await, swarm.label_config(&after, &labels).await] {
        assert!(is_not_found(&gone), "{gone:?}");
    }
}

pub(crate) async fn lease(bench: &impl Bench) {
    let swarm = &*bench.drivers().swarm;
    let engine = swarm.engine().await.unwrap();
    assert_eq!(engine.leader, Some(true), "the only manager leads: {engine:?}");
    let fleet = FleetId::parse(&bench.fleet()).unwrap();
    let [one, two] = ["host-1", "host-2"].map(|id| HostId::parse(id).unwrap());
    assert_eq!(Lease::seen(swarm, &fleet).await, Ok(None));
    let first = Lease::take(swarm, &fleet, &one, 4).await.unwrap();
    assert_eq!((&first.holder, first.epoch), (&one, 5), "above what was heard of");
    for _ in 0..2 {
        first.renew(swarm).await.unwrap();
    }
    let second = Lease::take(swarm, &fleet, &two, 0).await.unwrap();
    assert_eq!((second.epoch, Lease::seen(swarm, &fleet).await), (6, Ok(Some(second.clone()))));
    let lost = first.renew(swarm).await;
    assert!(is_conflict(&lost), "{lost:?}");
    second.renew(swarm).await.unwrap();
    let again = Lease::take(swarm, &fleet, &two, 0).await.unwrap();
    assert!(is_conflict(&second.renew(swarm).await), "an earlier life of the same host leads no more");
    // Of two at the same moment one has it.
    let (here, there) =
        tokio::join!(Lease::take(swarm, &fleet, &one, 0), Lease::take(swarm, &fleet, &two, again.epoch));
    let mut holds = 0;
    for taken in [here, there].into_iter().flatten() {
        holds += usize::from(taken.renew(swarm).await.is_ok());
    }
    assert_eq!(holds, 1);
}

pub(crate) async fn roster(bench: &impl Bench) {
    let swarm = &*bench.drivers().swarm;
    let fleet = FleetId::parse(&bench.fleet()).unwrap();
    let facts = |host: &str, cpus| HostFacts {
        host: HostId::parse(host).unwrap(),
        hostname: host.to_owned(),
        swarm_node: "abc".to_owned(),
        data_dir: "/var/lib/pgmoor".to_owned(),
        advertise_address: [192, 0, 2, 1].into(),
        cpus,
        memory_bytes: 1 << 33,
        labels: [].into(),
        postgres_owner: Owner::IMAGE,
        etcd_owner: Owner::IMAGE,
    };
    let (one, two) = (facts("host-1", 2), facts("host-2", 4));
    let all = async || roster::read(swarm, &fleet).await.unwrap().iter().cloned().collect::<Vec<_>>();
    assert_eq!(all().await, []);
    for host in [&one, &two, &one] {
        roster::announce(swarm, &fleet, host).await.unwrap();
    }
    assert_eq!(all().await, [one.clone(), two.clone()]);
    let grown = facts("host-1", 8);
    roster::announce(swarm, &fleet, &grown).await.unwrap();
    assert_eq!(all().await, [grown.clone(), two]);
    assert_eq!(roster::strike(swarm, &fleet, &grown.host).await, Ok(true));
    assert_eq!(roster::strike(swarm, &fleet, &grown.host).await, Ok(false));
    assert_eq!(all().await.len(), 1);
}

/// A program that is deaf to SIGTERM, so that it stops only when its grace period ends.
fn described(bench: &impl Bench, node: &str, name: &str) -> ServiceAttributes {
    let network = |name: String| Attachment { network: name, aliases: Vec::new(), driver_opts: BTreeMap::new() };
    ServiceAttributes {
        name: format!("{}-{name}", bench.fleet()),
        image: IMAGE.to_owned(),
        command: vec!["sh".to_owned()],
        args: vec!["-c".to_owned(), "trap '' TERM; while :; do sleep 0.2; done".to_owned()],
        env: BTreeMap::from([("KEY".to_owned(), "a=b c".to_owned())]),
        hostname: name.to_owned(),
        mounts: BTreeSet::from([Mount {
            source: format!("{}/{name}", bench.data_dir()),
            target: "/data".to_owned(),
            read_only: false,
            exclusive: true,
        }]),
        networks: vec![network("bridge".to_owned())],
        ports: vec![PublishedPort { name: "port".to_owned(), target: 7000, published: free_port() }],
        healthcheck: None,
        swarm_node: node.to_owned(),
        cpu_limit_millis: Some(500),
        cpu_reservation_millis: Some(50),
        memory_limit_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        shm_bytes: Some(1 << 20),
        stop_grace_s: 3,
        restart_delay_s: 1,
        replicas: 1,
        container_labels: bench.labels(),
        labels: bench.labels(),
    }
}

async fn node(swarm: &dyn Swarm) -> String {
    let engine = swarm.engine().await.unwrap();
    assert!(engine.manager && engine.cpus > 0 && engine.memory_bytes > 0, "{engine:?}");
    engine.swarm_node.unwrap()
}

async fn directory(bench: &impl Bench, of: &ServiceAttributes) {
    let owner = Permissions { mode: 0o700, uid: 26, gid: 26 };
    bench.drivers().host.make_directory(&of.mounts.first().unwrap().source, owner).await.unwrap();
}

/// The container that serves for a service now.
async fn running(swarm: &dyn Swarm, name: &str) -> Option<String> {
    let tasks = swarm.tasks(name).await.unwrap();
    let task = tasks.into_iter().find(|task| task.desired_state == "running" && task.state == "running")?;
    task.container
}

pub(crate) async fn services(bench: &impl Bench) {
    let swarm = &*bench.drivers().swarm;
    let mut wanted = described(bench, &node(swarm).await, "one");
    directory(bench, &wanted).await;
    let network = swarm.create_network(&format!("{}-joined", bench.fleet()), true, &bench.labels()).await.unwrap();
    let joined = Attachment {
        network: format!("{}-joined", bench.fleet()),
        aliases: vec!["alias".to_owned()],
        driver_opts: BTreeMap::new(),
    };
    wanted.networks.push(joined);
    let name = wanted.name.clone();
    let id = swarm.create_service(&wanted).await.unwrap();
    let seen = swarm.services(&bench.labels()).await.unwrap();
    assert_eq!((seen.len(), &seen[0].id, &seen[0].attributes), (1, &id, &wanted), "it reads back as it was written");
    let taken = swarm.create_service(&wanted).await;
    assert!(is_conflict(&taken), "{taken:?}");
    until("the service runs", async || running(swarm, &name).await.is_some()).await;
    let first = running(swarm, &name).await.unwrap();
    assert_eq!(bench.drivers().host.port_is_free(wanted.ports[0].published).await, Ok(false));
    let mounting = swarm.containers_mounting(&wanted.mounts.first().unwrap().source).await.unwrap();
    assert_eq!(mounting.iter().map(|container| &container.id).collect::<Vec<_>>(), [&first]);
    assert!(mounting[0].bridge_address.is_some() && mounting[0].labels.contains_key("pgmoor.fleet"));

    wanted.labels.insert("pgmoor.applied".to_owned(), "digest".to_owned());
    swarm.update_service(&id, &wanted).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running(swarm, &name).await.as_ref(), Some(&first), "a label of the service alone disturbs nothing");

    wanted.env.insert("KEY".to_owned(), "changed".to_owned());
    swarm.update_service(&id, &wanted).await.unwrap();
    until("the container is replaced", async || running(swarm, &name).await.is_some_and(|now| now != first)).await;
    let seen = swarm.services(&bench.labels()).await.unwrap();
    assert_eq!((&seen[0].id, &seen[0].attributes), (&id, &wanted), "an update keeps the id");
    let used = swarm.remove_network(&network).await;
    assert!(is_conflict(&used), "{used:?}");
    removed(bench, &id, &wanted).await;
    until("the network can go", async || swarm.remove_network(&network).await.is_ok()).await;
}

/// Removing a service takes its container a while, and the engine shows it all the time.
async fn removed(bench: &impl Bench, id: &str, service: &ServiceAttributes) {
    let swarm = &*bench.drivers().swarm;
    swarm.remove_service(id).await.unwrap();
    assert_eq!(swarm.services(&bench.labels()).await, Ok(Vec::new()));
    let path = &service.mounts.first().unwrap().source;
    assert_eq!(swarm.containers_mounting(path).await.unwrap().len(), 1, "it still has the directory while it stops");
    let gone = swarm.remove_service(id).await;
    assert!(is_not_found(&gone), "{gone:?}");
    let gone = swarm.update_service(id, service).await;
    assert!(is_not_found(&gone), "{gone:?}");
    until("the container is gone", async || swarm.containers_mounting(path).await.unwrap().is_empty()).await;
    let host = &bench.drivers().host;
    until("the port is free", async || host.port_is_free(service.ports[0].published).await == Ok(true)).await;
}

async fn newest(swarm: &dyn Swarm, name: &str) -> Option<TaskSeen> {
    swarm.tasks(name).await.unwrap().into_iter().next()
}

pub(crate) async fn tasks_that_cannot_run(bench: &impl Bench) {
    let swarm = &*bench.drivers().swarm;
    let node = node(swarm).await;
    assert_eq!(swarm.image(MISSING).await, Ok(None));
    let image = swarm.image(IMAGE).await.unwrap().unwrap();
    assert_eq!(image.labels.get("org.pgmoor.uid").map(String::as_str), Some("26"));
    let pulled = swarm.pull(MISSING).await;
    assert!(is_failed(&pulled), "{pulled:?}");
    assert_eq!(swarm.tasks("no-such-service").await, Ok(Vec::new()));

    let mut missing = described(bench, &node, "missing");
    missing.image = MISSING.to_owned();
    directory(bench, &missing).await;
    swarm.create_service(&missing).await.unwrap();
    let says = async |service: &ServiceAttributes, state: &str, words: &str| {
        let tasks = swarm.tasks(&service.name).await.unwrap();
        tasks.iter().any(|task| task.state == state && task.error.as_deref().unwrap_or_default().contains(words))
    };
    until("the image is missed", async || says(&missing, "rejected", "No such image").await).await;

    let elsewhere = described(bench, "nosuchnode", "elsewhere");
    directory(bench, &elsewhere).await;
    swarm.create_service(&elsewhere).await.unwrap();
    until("there is no node", async || says(&elsewhere, "pending", "no suitable node").await).await;
    assert_eq!(newest(swarm, &elsewhere.name).await.unwrap().container, None);

    let mut stopped = described(bench, &node, "stopped");
    stopped.replicas = 0;
    swarm.create_service(&stopped).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running(swarm, &stopped.name).await, None, "a service of no replicas runs nothing");
    for service in swarm.services(&bench.labels()).await.unwrap() {
        swarm.remove_service(&service.id).await.unwrap();
    }
}

pub(crate) async fn events(bench: &impl Bench) {
    let swarm = &*bench.drivers().swarm;
    let mut events = swarm.events().await.unwrap();
    let mut service = described(bench, &node(swarm).await, "seen");
    service.stop_grace_s = 1;
    directory(bench, &service).await;
    let id = swarm.create_service(&service).await.unwrap();
    let mut wait = async |kind: &str, action: &str| {
        let found = async {
            while let Some(event) = events.next().await {
                let labelled = event.attributes.get("com.docker.swarm.service.name") == Some(&service.name);
                if event.kind == kind && event.action == action && labelled {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(super::DEADLINE, found).await.unwrap_or(false), "no event {kind} {action}");
    };
    wait("container", "start").await;
    swarm.remove_service(&id).await.unwrap();
    wait("container", "die").await;
    let gone = async || swarm.containers_mounting(&service.mounts.first().unwrap().source).await.unwrap().is_empty();
    until("the container is gone", gone).await;
}
