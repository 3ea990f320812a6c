//! The store failing at commit *n*, for every *n* of a database's life: create, change, drift repair, delete, undelete.
//! The daemon starts again, and the world ends as it does without the failure.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgmoor::drivers::fake::Look;

use crate::disk::Failure;
use crate::invariants::{self, always, unsettled};
use crate::planted::Plant;
use crate::site::{Daemon, Manner, Site};
use crate::words::{DELETE, Word};

const DATABASE: &str = "shop";
/// After an act it takes at most a tick until the daemon has noticed; with a restart before it, one more.
const NOTICED_WITHIN: Duration = Duration::from_secs(35);
/// From so many seeds on, each sync fails in both ways.
const THOROUGH_SEEDS: u64 = 1000;
/// Then all is well within this.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);

/// What happens to the database, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Change,
    Drift,
    Delete,
    Undelete,
}

const LIFE: [Act; 5] = [Act::Create, Act::Change, Act::Drift, Act::Delete, Act::Undelete];

/// How the world is after an act, and how far the disk was.
#[derive(Debug)]
struct After {
    look: Look,
    topics: Vec<String>,
    syncs: u64,
    /// What went wrong.
    wrong: Option<String>,
}

/// Lives through the first acts, with one failing sync if there is one.
fn live(acts: usize, failing: Option<(u64, Failure)>) -> Vec<After> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let site =
            Site::new(Manner { seed: 7, plant: Plant::None, grace_s: 24 * 3600, embedded: false, hosts: 1 }).await;
        site.weather.calm();
        site.broker.calm();
        if let Some((number, failure)) = failing {
            site.disk.fail_sync(number, failure);
        }
        let host = site.hosts[0].clone();
        let mut daemon = Some(site.start(&host));
        let mut memory = invariants::Memory::default();
        pass(&site, &mut daemon, Duration::from_secs(20)).await;
        let mut after = Vec::new();
        for act in LIFE.into_iter().take(acts) {
            act_on(&site, act);
            pass(&site, &mut daemon, NOTICED_WITHIN).await;
            let mut waited = Duration::ZERO;
            while unsettled(&site).is_some() && waited < SETTLED_WITHIN {
                pass(&site, &mut daemon, Duration::from_secs(5)).await;
                waited += Duration::from_secs(5);
            }
            always(&site, &mut memory);
            let broken = site.breaches.all().into_iter().next().map(|breach| format!("{breach:?}"));
            after.push(After {
                look: site.world.look(),
                topics: site.broker.topics(),
                syncs: site.disk.syncs(),
                wrong: unsettled(&site).or(broken).map(|why| format!("{why}\n{}", site.trace.lines().join("\n"))),
            });
        }
        after
    })
}

fn act_on(site: &Site, act: Act) {
    let spec = |memory: &str| {
        format!(
            r#"{{"database_name": "app", "memory": "256MiB", "postgresql_conf": {{"work_mem": "{memory}"}},
                "database_users": [{{"username": "app", "db_owner": true, "attributes": ["LOGIN"]}}]}}"#
        )
    };
    let topic = site.topic(&format!("databases/{DATABASE}/spec"));
    let say = |text: &str, word: Word| {
        site.words.say(DATABASE, word);
        site.broker.publish(&topic, text.as_bytes(), true);
    };
    let services = site.world.look().services;
    let service = services.keys().find(|name| name.starts_with("postgres-")).cloned().unwrap_or_default();
    match act {
        Act::Create => say(&spec("4MB"), Word::Good(spec("4MB"))),
        Act::Change | Act::Undelete => say(&spec("5MB"), Word::Good(spec("5MB"))),
        Act::Drift => {
            assert!(site.world.write_row(&service, "app", "a row"), "a user can write");
            site.words.change(DATABASE, |wish| wish.rows.push("a row".to_owned()));
            assert!(site.world.drop_role_by_hand(&service, "app"), "there is a role");
            assert!(site.world.remove_service_by_hand(&service), "there is a service");
        }
        Act::Delete => say(DELETE, Word::Delete),
    }
}

async fn pass(site: &Site, daemon: &mut Option<Daemon>, time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(1));
        tokio::time::sleep(step).await;
        left -= step;
        if let Some(why) = daemon.as_mut().and_then(Daemon::ended) {
            site.trace.say(format!("the daemon ended: {why}"));
            if let Some(ended) = daemon.take() {
                ended.kill(site).await;
            }
            *daemon = site.hosts.first().map(|host| site.start(host));
        }
    }
}

/// A look without what chance decides: ids, and passwords that nobody has seen before.
fn shape(look: &Look) -> Look {
    let mut shape = look.clone();
    for service in shape.services.values_mut() {
        service.id.clear();
        service.containers.iter_mut().for_each(String::clear);
    }
    for cluster in shape.clusters.values_mut() {
        cluster.system_id.clear();
        cluster.roles.values_mut().flatten().for_each(String::clear);
    }
    shape
}

/// What an act left as it was: services, containers, data directories and passwords.
fn kept(before: &Look, after: &Look) -> BTreeSet<String> {
    let mut kept = BTreeSet::new();
    for (name, service) in &after.services {
        if before.services.get(name).is_some_and(|before| before.id == service.id) {
            kept.insert(format!("service {name}"));
        }
        if before.services.get(name).is_some_and(|before| before.containers == service.containers) {
            kept.insert(format!("container of {name}"));
        }
    }
    let earlier: BTreeSet<_> = before.clusters.values().map(|cluster| &cluster.system_id).collect();
    let known: BTreeSet<_> = before.clusters.values().flat_map(|cluster| &cluster.roles).collect();
    for (path, cluster) in &after.clusters {
        if earlier.contains(&cluster.system_id) {
            kept.insert(format!("data of {path}"));
        }
        let roles = cluster.roles.iter().filter(|role| known.contains(role));
        kept.extend(roles.map(|(role, _)| format!("password of {role} in {path}")));
    }
    kept
}

/// Compares a life with a failure in its last act with one without.
fn differs(reference: &[After], failed: &[After]) -> Option<String> {
    let last = failed.len().checked_sub(1)?;
    let (one, other) = (reference.get(last)?, failed.get(last)?);
    if let Some(wrong) = &other.wrong {
        return Some(wrong.clone());
    }
    if shape(&one.look) != shape(&other.look) {
        return Some(format!("the world is {:#?}\ninstead of {:#?}", shape(&other.look), shape(&one.look)));
    }
    if one.topics != other.topics {
        return Some(format!("retained are {:?}\ninstead of {:?}", other.topics, one.topics));
    }
    let before = last.checked_sub(1)?;
    let expected = kept(&reference.get(before)?.look, &one.look);
    let found = kept(&failed.get(before)?.look, &other.look);
    (expected != found).then(|| format!("kept are {found:?}\ninstead of {expected:?}"))
}

#[test]
fn a_store_that_fails_at_any_commit_changes_nothing_in_the_end() {
    let reference = live(LIFE.len(), None);
    for (act, after) in LIFE.iter().zip(&reference) {
        assert_eq!(after.wrong, None, "{act:?}, without a failure");
    }
    // Every sync fails in one way, and in the other as well where many seeds are asked for.
    let thorough = crate::number("SIM_SEEDS").is_some_and(|seeds| seeds >= THOROUGH_SEEDS);
    let mut cases = Vec::new();
    let mut from = 1;
    for (at, after) in reference.iter().enumerate() {
        assert!(after.syncs >= from, "{:?} writes nothing", LIFE.get(at));
        for number in from..=after.syncs {
            // A commit is two syncs at least: that its rows are there, and that they count.
            let (one, other) =
                if number % 2 == 0 { (Failure::Lost, Failure::Untold) } else { (Failure::Untold, Failure::Lost) };
            cases.push((at + 1, number, one));
            if thorough {
                cases.push((at + 1, number, other));
            }
        }
        from = after.syncs + 1;
    }
    println!("{} cases", cases.len());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some((acts, number, failure)) = cases.get(next.fetch_add(1, Ordering::SeqCst)).copied() {
                    if let Some(how) = differs(&reference, &live(acts, Some((number, failure)))) {
                        failed.lock().unwrap().push((number, failure, LIFE.get(acts - 1), how));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    for (number, failure, act, how) in failed.iter().take(3) {
        println!("sync {number} in {act:?}, {failure:?}: {how}\n");
    }
    assert!(failed.is_empty(), "{} of {} cases end otherwise", failed.len(), cases.len());
}
