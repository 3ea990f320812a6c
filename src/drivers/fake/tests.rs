//! The world's own promises: rules that are broken are seen, mishaps happen as ordered, tasks say why they wait.
//! That it answers like the real systems is the conformance suite's to show.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Options, System, Violation, World};
use crate::drivers::host::{Host as _, Permissions};
use crate::drivers::swarm::{Labels, Swarm as _};
use crate::drivers::{Error, swarm::TaskSeen};
use crate::model::Secret;
use crate::model::service::{Mount, PublishedPort, ServiceAttributes};
use crate::runtime::clock::TokioClock;

/// A moment in 2026: milliseconds since 1970.
const NOW_MS: i64 = 1_780_000_000_000;
const DIRECTORY: Permissions = Permissions { mode: 0o700, uid: 26, gid: 26 };

fn world() -> World {
    World::new(Options::new(std::sync::Arc::new(TokioClock::starting_at(NOW_MS))))
}

fn ours() -> Labels {
    Labels::from([("pgmoor.fleet".to_owned(), "test".to_owned())])
}

fn service(name: &str) -> ServiceAttributes {
    ServiceAttributes {
        name: name.to_owned(),
        image: "pgmoor/etcd:3.5.16".to_owned(),
        command: vec!["sleep".to_owned()],
        args: Vec::new(),
        env: BTreeMap::new(),
        hostname: name.to_owned(),
        mounts: BTreeSet::from([Mount {
            source: "/var/lib/pgmoor/data".to_owned(),
            target: "/var/lib/etcd".to_owned(),
            read_only: false,
            exclusive: true,
        }]),
        networks: Vec::new(),
        ports: vec![PublishedPort { name: "p".to_owned(), target: 1, published: 7000 }],
        healthcheck: None,
        swarm_node: "fakenode0000000000000000n".to_owned(),
        cpu_limit_millis: None,
        cpu_reservation_millis: None,
        memory_limit_bytes: None,
        memory_reservation_bytes: None,
        shm_bytes: None,
        stop_grace_s: 10,
        restart_delay_s: 1,
        replicas: 1,
        container_labels: ours(),
        labels: ours(),
    }
}

async fn with_directory() -> World {
    let world = world();
    world.make_directory("/var/lib/pgmoor/data", DIRECTORY).await.unwrap();
    world
}

async fn newest(world: &World, name: &str) -> TaskSeen {
    world.tasks(name).await.unwrap().remove(0)
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_believes_for_a_while_and_changes_nothing() {
    let one = world();
    let other = |number: u8| {
        let address = std::net::IpAddr::from([192, 0, 2, number]);
        let options = Options::new(std::sync::Arc::new(TokioClock::starting_at(NOW_MS)));
        one.join(&Options { swarm_node: format!("node{number}"), address, ..options })
    };
    let (two, three) = (other(2), other(3));
    let leaders = async || {
        let mut leaders = Vec::new();
        for host in [&one, &two, &three] {
            leaders.push(host.engine().await.unwrap().leader);
        }
        leaders
    };
    let seen = async |host: &World| host.configs(&Labels::new()).await.map(|configs| configs.len()).ok();
    assert_eq!(leaders().await, [Some(true), Some(false), Some(false)]);
    one.cut_off(true);
    assert_eq!(leaders().await, [Some(true), None, None], "nobody is elected yet");
    for host in [&one, &two] {
        let refused = host.create_config("early", &ours(), b"x").await;
        assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
    }
    pass(13_000).await;
    assert_eq!(leaders().await, [Some(true), Some(true), Some(false)], "two who believe it");
    three.create_config("late", &ours(), b"x").await.unwrap();
    assert_eq!((seen(&one).await, seen(&two).await), (Some(0), Some(1)), "one reads what it knew");
    pass(2_000).await;
    assert_eq!((leaders().await[0], seen(&one).await), (None, None));
    one.cut_off(false);
    assert_eq!((leaders().await[0], seen(&one).await), (Some(false), Some(1)));
    assert!(two.elect());
    three.power(false);
    one.cut_off(true);
    assert!(!two.has_majority() && !one.elect(), "one of three is no majority");
}

#[tokio::test(start_paused = true)]
async fn two_containers_on_one_directory_are_seen() {
    let world = with_directory().await;
    let mut one = service("one");
    let id = world.create_service(&one).await.unwrap();
    pass(1000).await;
    world.remove_service(&id).await.unwrap();
    assert_eq!(world.violations(), []);
    one.ports.clear();
    world.create_service(&one).await.unwrap();
    pass(25).await;
    assert!(matches!(&*world.violations(), [Violation::TwoPostgresOnOneDirectory { path, containers }]
        if path == "/var/lib/pgmoor/data" && containers.len() == 2));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_old_container_breaks_no_rule_and_neither_does_an_update() {
    let world = with_directory().await;
    let mut one = service("one");
    let id = world.create_service(&one).await.unwrap();
    pass(1000).await;
    one.env.insert("CHANGED".to_owned(), "yes".to_owned());
    world.update_service(&id, &one).await.unwrap();
    pass(1000).await;
    assert_eq!(newest(&world, "one").await.state, "running");
    world.remove_service(&id).await.unwrap();
    assert_eq!(world.containers_mounting("/var/lib/pgmoor/data").await.unwrap().len(), 1);
    pass(1000).await;
    assert!(world.containers_mounting("/var/lib/pgmoor/data").await.unwrap().is_empty());
    world.create_service(&one).await.unwrap();
    pass(1000).await;
    assert_eq!((world.violations(), world.count("start container", "one")), (Vec::new(), 3));
}

#[tokio::test(start_paused = true)]
async fn data_that_is_removed_or_taken_from_a_container_is_seen() {
    let world = with_directory().await;
    let mut one = service("one");
    one.healthcheck = None;
    world.create_service(&one).await.unwrap();
    pass(1000).await;
    // The program of this service writes nothing; what an etcd would have written is put there for it.
    world.state.lock().unwrap().files.put_etcd("fakenode0000000000000000n:/var/lib/pgmoor/data/member", 26);
    world.make_directory("/var/lib/pgmoor/trash", DIRECTORY).await.unwrap();
    world.remove_directory("/var/lib/pgmoor/data").await.unwrap();
    let violations = world.violations();
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(violations.iter().any(|seen| matches!(seen, Violation::DataRemovedWithoutTrash { .. })));
    assert!(violations.iter().any(|seen| matches!(seen, Violation::DirectoryTakenFromContainer { .. })));
}

#[tokio::test(start_paused = true)]
async fn data_in_the_trash_may_be_removed() {
    let world = with_directory().await;
    let id = world.create_service(&service("one")).await.unwrap();
    pass(1000).await;
    world.remove_service(&id).await.unwrap();
    pass(1000).await;
    world.make_directory("/var/lib/pgmoor/trash", DIRECTORY).await.unwrap();
    world.move_directory("/var/lib/pgmoor/data", "/var/lib/pgmoor/trash/one").await.unwrap();
    world.remove_directory("/var/lib/pgmoor/trash/one").await.unwrap();
    assert_eq!(world.violations(), []);
    let outside = world.remove_directory("/var/lib/other").await;
    assert!(matches!(outside, Err(Error::Failed { .. })), "{outside:?}");
}

#[tokio::test(start_paused = true)]
async fn a_secret_where_everybody_reads_it_is_seen_also_when_it_becomes_one_later() {
    let world = with_directory().await;
    let mut one = service("one");
    one.env.insert("PASSWORD".to_owned(), "correct horse".to_owned());
    world.create_service(&one).await.unwrap();
    assert_eq!(world.violations(), []);
    world.state().watch.secret(Secret::new("correct horse").expose());
    let place = "environment PASSWORD of service one".to_owned();
    assert_eq!(world.violations(), [Violation::SecretExposed { place }]);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_object_that_is_removed_is_seen() {
    let world = world();
    let id = world.create_network("theirs", true, &Labels::new()).await.unwrap();
    world.remove_network(&id).await.unwrap();
    assert_eq!(world.violations(), [Violation::ForeignObjectTouched { object: "network theirs".to_owned() }]);
}

#[tokio::test(start_paused = true)]
async fn a_task_says_why_it_does_not_run() {
    let world = with_directory().await;
    let mut one = service("one");
    one.image = "nowhere/nothing:1".to_owned();
    let id = world.create_service(&one).await.unwrap();
    pass(100).await;
    let task = newest(&world, "one").await;
    assert_eq!((task.state.as_str(), task.error.as_deref()), ("rejected", Some("No such image: nowhere/nothing:1")));
    assert!(matches!(world.pull("nowhere/nothing:1").await, Err(Error::Failed { .. })));
    world.add_image("nowhere/nothing:1", Labels::new());
    pass(2000).await;
    assert_eq!(newest(&world, "one").await.state, "running");
    world.remove_service(&id).await.unwrap();
    pass(1000).await;

    one.swarm_node = "elsewhere".to_owned();
    let id = world.create_service(&one).await.unwrap();
    let task = newest(&world, "one").await;
    assert_eq!(task.state, "pending");
    assert!(task.error.unwrap().starts_with("no suitable node (scheduling constraints"));
    world.remove_service(&id).await.unwrap();

    world.occupy_port(7000, true);
    world.create_service(&service("one")).await.unwrap();
    pass(100).await;
    assert!(newest(&world, "one").await.error.unwrap().contains("address already in use"));
    world.occupy_port(7000, false);
    pass(2000).await;
    let mut two = service("two");
    two.mounts.clear();
    world.create_service(&two).await.unwrap();
    assert!(newest(&world, "two").await.error.unwrap().contains("host-mode port already in use"));
    assert_eq!(world.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn mishaps_happen_as_ordered() {
    let world = world();
    let labels = ours();
    let no = Error::Failed { act: "a".to_owned(), why: "b".to_owned() };
    world.fail_next("swarm.create_network", no.clone());
    world.lose_answer("swarm.create_network");
    assert_eq!(world.create_network("n", true, &labels).await, Err(no));
    assert_eq!(world.find_network("n").await.unwrap(), None);
    assert!(matches!(world.create_network("n", true, &labels).await, Err(Error::Unreachable { .. })));
    assert!(world.find_network("n").await.unwrap().is_some(), "it happened, although nobody was told");
    world.unreachable(System::Swarm, true);
    assert!(matches!(world.find_network("n").await, Err(Error::Unreachable { .. })));
    assert!(world.exists("/").await.is_ok());
    world.unreachable(System::Swarm, false);
    assert!(world.find_network("n").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_frozen_world_hangs_after_so_many_calls() {
    let world = world();
    world.freeze_after(1);
    assert!(world.exists("/").await.unwrap());
    let hung = tokio::select! {
        _answer = world.make_directory("/var/lib/pgmoor/x", DIRECTORY) => false,
        () = world.frozen() => true,
    };
    assert!(hung);
    world.thaw();
    assert!(!world.exists("/var/lib/pgmoor/x").await.unwrap(), "the call that hung did nothing");
}
