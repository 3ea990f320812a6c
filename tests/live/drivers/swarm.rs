//! Docker Swarm: what is created reads back, what stops still holds its directory, what is foreign stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use pgmoor::drivers::Error;
use pgmoor::drivers::swarm::{DEFAULT_SOCKET, Docker, Labels, Swarm};
use pgmoor::model::service::{Attachment, Healthcheck, Mount, PublishedPort, ServiceAttributes};

use super::container::until;

const IMAGE: &str = "pgmoor/etcd:3.5.16";
const OWNER: &str = "pgmoor.test";

/// Removes what a test made, also what an earlier run that failed left behind.
async fn sweep(docker: &Docker, owner: &str) {
    let labels = labels(owner);
    for service in docker.services(&labels).await.unwrap() {
        docker.remove_service(&service.id).await.unwrap();
    }
    until("containers go", async || docker.containers(&labels).await.unwrap().is_empty()).await;
    for network in docker.networks(&labels).await.unwrap() {
        until("network goes", async || docker.remove_network(&network.id).await.is_ok()).await;
    }
    for config in docker.configs(&labels).await.unwrap() {
        docker.remove_config(&config.id).await.unwrap();
    }
}

fn labels(owner: &str) -> Labels {
    BTreeMap::from([(OWNER.to_owned(), owner.to_owned())])
}

fn described(owner: &str, node: &str, data: &str) -> ServiceAttributes {
    let network = |name: &str, aliases: &[&str]| Attachment {
        network: name.to_owned(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        driver_opts: BTreeMap::new(),
    };
    ServiceAttributes {
        name: format!("pgmoor-drivers-{owner}"),
        image: IMAGE.to_owned(),
        command: vec!["sh".to_owned()],
        // Deaf to SIGTERM, so that it stops only when its grace period ends.
        args: vec!["-c".to_owned(), "trap '' TERM; while :; do sleep 0.2; done".to_owned()],
        env: BTreeMap::from([("A".to_owned(), "b=c d".to_owned()), ("EMPTY".to_owned(), String::new())]),
        hostname: owner.to_owned(),
        mounts: BTreeSet::from([
            Mount { source: data.to_owned(), target: "/data".to_owned(), read_only: false, exclusive: true },
            Mount { source: data.to_owned(), target: "/again".to_owned(), read_only: true, exclusive: false },
        ]),
        networks: vec![network("bridge", &[]), network(&format!("pgmoor-drivers-{owner}"), &["other"])],
        ports: vec![PublishedPort { name: "client".to_owned(), target: 2379, published: 42379 }],
        healthcheck: Some(Healthcheck {
            shell: "true".to_owned(),
            interval_s: 1,
            timeout_s: 2,
            start_period_s: 0,
            retries: 3,
        }),
        swarm_node: node.to_owned(),
        cpu_limit_millis: Some(1500),
        cpu_reservation_millis: Some(10),
        memory_limit_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(8 << 20),
        shm_bytes: Some(16 << 20),
        stop_grace_s: 3,
        restart_delay_s: 1,
        replicas: 1,
        container_labels: labels(owner),
        labels: labels(owner),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_reads_back_and_holds_its_directory_until_it_has_stopped() {
    let owner = "service";
    let docker = Docker::new(DEFAULT_SOCKET);
    sweep(&docker, owner).await;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let data = data.to_str().unwrap();
    let engine = docker.engine().await.unwrap();
    let node = engine.swarm_node.expect("the tests need a Swarm");
    assert!(engine.manager && engine.address.is_some() && engine.cpus > 0 && engine.memory_bytes > 0);

    let mut events = docker.events().await.unwrap();
    let wanted = described(owner, &node, data);
    let network = docker.create_network(&wanted.name, false, &labels(owner)).await.unwrap();
    let id = docker.create_service(&wanted).await.unwrap();
    assert!(matches!(docker.create_service(&wanted).await, Err(Error::Conflict { .. })));
    let seen = docker.services(&labels(owner)).await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].id, &seen[0].attributes), (&id, &wanted));

    until("healthy", async || {
        docker.containers(&labels(owner)).await.unwrap().iter().any(|c| c.health.as_deref() == Some("healthy"))
    })
    .await;
    let container = docker.containers(&labels(owner)).await.unwrap().remove(0);
    assert!(container.bridge_address.is_some() && container.started_ms.is_some(), "{container:?}");
    until("the task runs", async || docker.tasks(&wanted.name).await.unwrap()[0].state == "running").await;
    let tasks = docker.tasks(&wanted.name).await.unwrap();
    assert_eq!(tasks[0].desired_state, "running");
    assert_eq!(tasks[0].container.as_deref(), Some(container.id.as_str()));
    let heard = tokio::time::timeout(Duration::from_secs(20), async {
        while let Some(event) = events.next().await {
            if event.kind == "container" && event.attributes.get(OWNER).is_some_and(|label| label == owner) {
                return true;
            }
        }
        false
    });
    assert!(heard.await.unwrap(), "an event of the container, with its labels");

    let link = directory.path().join("link");
    std::os::unix::fs::symlink(data, &link).unwrap();
    let link = link.to_str().unwrap();
    for path in [data, directory.path().to_str().unwrap(), &format!("{data}/deeper"), link] {
        assert_eq!(docker.containers_mounting(path).await.unwrap().len(), 1, "{path}");
    }
    assert!(docker.containers_mounting(&format!("{data}-other")).await.unwrap().is_empty());

    let with_label = ServiceAttributes {
        labels: wanted.labels.clone().into_iter().chain([("x".to_owned(), "y".to_owned())]).collect(),
        ..wanted.clone()
    };
    docker.update_service(&id, &with_label).await.unwrap();
    assert_eq!(docker.services(&labels(owner)).await.unwrap()[0].attributes, with_label);
    assert_eq!(docker.containers(&labels(owner)).await.unwrap()[0].id, container.id, "a label disturbs nothing");

    docker.remove_service(&id).await.unwrap();
    assert!(matches!(docker.remove_service(&id).await, Err(Error::NotFound { .. })));
    assert!(docker.services(&labels(owner)).await.unwrap().is_empty());
    assert!(docker.tasks(&wanted.name).await.unwrap().is_empty());
    assert_eq!(docker.containers_mounting(data).await.unwrap().len(), 1, "it goes on stopping");
    until("stopped", async || docker.containers_mounting(data).await.unwrap().is_empty()).await;
    until("network goes", async || docker.remove_network(&network).await.is_ok()).await;
    sweep(&docker, owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_task_replaces_its_container_after_it_has_stopped() {
    let owner = "update";
    let docker = Docker::new(DEFAULT_SOCKET);
    sweep(&docker, owner).await;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let node = docker.engine().await.unwrap().swarm_node.unwrap();
    let network = docker.create_network(&format!("pgmoor-drivers-{owner}"), true, &labels(owner)).await.unwrap();
    let seen = docker.find_network(&network).await.unwrap().unwrap();
    assert_eq!((seen.driver.as_str(), seen.scope.as_str(), seen.attachable), ("overlay", "swarm", true));
    assert_eq!(docker.networks(&labels(owner)).await.unwrap(), [seen]);
    assert!(docker.find_network(&network[..8]).await.unwrap().is_none(), "half an id is no id");
    let taken = docker.create_network(&format!("pgmoor-drivers-{owner}"), true, &labels(owner)).await;
    assert!(matches!(taken, Err(Error::Conflict { .. })), "{taken:?}");

    let first = ServiceAttributes {
        healthcheck: None,
        ports: vec![],
        shm_bytes: None,
        cpu_limit_millis: None,
        memory_limit_bytes: None,
        env: BTreeMap::new(),
        ..described(owner, &node, data)
    };
    let id = docker.create_service(&first).await.unwrap();
    assert_eq!(docker.services(&labels(owner)).await.unwrap()[0].attributes, first);
    let running = async || {
        let containers = docker.containers(&labels(owner)).await.unwrap();
        containers.into_iter().filter(|container| container.state == "running").collect::<Vec<_>>()
    };
    until("running", async || running().await.len() == 1).await;
    assert!(matches!(docker.remove_network(&network).await, Err(Error::Conflict { .. })), "in use");
    let before = running().await.remove(0);

    let second = ServiceAttributes { env: BTreeMap::from([("B".to_owned(), "1".to_owned())]), ..first.clone() };
    docker.update_service(&id, &second).await.unwrap();
    until("replaced", async || {
        let now = running().await;
        assert!(now.len() <= 1, "never two at once");
        now.first().is_some_and(|container| container.id != before.id)
    })
    .await;
    assert_eq!(docker.services(&labels(owner)).await.unwrap()[0].attributes, second);

    let stopped = ServiceAttributes { replicas: 0, ..second.clone() };
    docker.update_service(&id, &stopped).await.unwrap();
    until("stopped", async || docker.containers_mounting(data).await.unwrap().is_empty()).await;
    assert_eq!(docker.services(&labels(owner)).await.unwrap()[0].attributes, stopped);
    let gone = docker.update_service("pgmoornosuchservice", &stopped).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    sweep(&docker, owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_exists_once_and_reads_back() {
    let owner = "config";
    let docker = Docker::new(DEFAULT_SOCKET);
    sweep(&docker, owner).await;
    let data: Vec<u8> = (0..=255).collect();
    let id = docker.create_config("pgmoor-drivers.config.1", &labels(owner), &data).await.unwrap();
    let again = docker.create_config("pgmoor-drivers.config.1", &labels(owner), b"other").await;
    assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
    let seen = docker.configs(&labels(owner)).await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].id, seen[0].name.as_str()), (&id, "pgmoor-drivers.config.1"));
    assert_eq!((&seen[0].labels, &seen[0].data), (&labels(owner), &data));
    docker.remove_config(&id).await.unwrap();
    assert!(matches!(docker.remove_config(&id).await, Err(Error::NotFound { .. })));
    assert!(docker.configs(&labels(owner)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_or_not() {
    let docker = Docker::new(DEFAULT_SOCKET);
    assert!(docker.image(IMAGE).await.unwrap().is_some());
    assert!(docker.image("pgmoor/nothing:1").await.unwrap().is_none());
}
