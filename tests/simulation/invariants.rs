//! What must hold: some of it after each event, the rest once the faults have stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use pgmoor::contract::documents::{Availability, HealthDoc, OnlineState, PlanDoc, State, Status, VerdictResult};
use pgmoor::drivers::fake::{ClusterLook, Look, RoleLook, ServiceLook, Violation};
use pgmoor::model::{Digest, Health};
use serde::de::DeserializeOwned;

use crate::guarded::FOREIGN;
use crate::leads::Leads;
use crate::site::Site;
use crate::words::{Wish, Word};

/// A promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// No data directory is removed, or put in the trash, without a delete.
    DataKept,
    /// One data directory, one Postgres; one instance, one service.
    OnePostgres,
    /// No secret where others read: on a topic, in a label, in an environment.
    SecretsKept,
    /// Nothing that is not ours is touched.
    OursAlone,
    /// What a user wrote stays, and so does the password of a user for as long as the specs name him. Who left and comes
    /// back has a new one, and an old one is never good again.
    NothingLost,
    /// What the broker was told is taken is on the disk (rule 5).
    AckedIsDurable,
    /// No host does what a lead asks that is older than one it has heard of; nobody goes on as the leader under another's
    /// lease.
    NewestLead,
    /// Of one node two instances are never interrupted at once.
    OneInterrupted,
    /// Once the faults have stopped, the world becomes what was asked for.
    Converges,
    /// And then nothing is done any more: the plan is empty.
    Quiet,
}

/// Promises that were broken, each with how. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaches(Arc<Mutex<BTreeMap<Invariant, String>>>);

impl Breaches {
    /// One was broken; the first time counts.
    pub(crate) fn found(&self, invariant: Invariant, how: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(invariant).or_insert(how);
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<Invariant, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// By database: which cluster it is, and by role the passwords it has had.
    clusters: BTreeMap<String, (String, BTreeMap<String, Vec<String>>)>,
    checked: usize,
    leads: Leads,
}

/// What must hold at any time.
pub(crate) fn always(site: &Site, memory: &mut Memory) {
    for violation in site.world.violations() {
        let invariant = match violation {
            Violation::TwoPostgresOnOneDirectory { .. } | Violation::DirectoryTakenFromContainer { .. } => {
                Invariant::OnePostgres
            }
            Violation::DataRemovedWithoutTrash { .. } => Invariant::DataKept,
            Violation::SecretExposed { .. } => Invariant::SecretsKept,
            Violation::ForeignObjectTouched { .. } => Invariant::OursAlone,
            Violation::TwoInstancesInterrupted { .. } => Invariant::OneInterrupted,
        };
        site.breaches.found(invariant, format!("{violation:?}"));
    }
    if site.hosts.len() > 1 {
        memory.leads.look(site);
    }
    let look = site.world.look();
    services(site, &look);
    if !site.purges() {
        passwords(site, &look, memory);
    }
    let said = site.broker.said_after(memory.checked);
    memory.checked += said.len();
    secrets(site, &said);
}

/// At the end all is looked at once more: a password may have been made after the word that gives it away.
pub(crate) fn at_the_end(site: &Site, memory: &mut Memory) {
    memory.checked = 0;
    always(site, memory);
}

fn secrets(site: &Site, said: &[(String, Vec<u8>)]) {
    for (topic, payload) in said.iter().filter(|(topic, _)| !topic.ends_with("/spec")) {
        if site.world.holds_secret(&String::from_utf8_lossy(payload)) {
            site.breaches.found(Invariant::SecretsKept, format!("a password on {topic}"));
        }
    }
}

fn services(site: &Site, look: &Look) {
    let mut owners: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for (name, service) in &look.services {
        for path in &service.exclusive {
            if let Some(other) = owners.insert((&service.node, path), name) {
                site.breaches.found(Invariant::OnePostgres, format!("{other} and {name} both mount {path}"));
            }
        }
    }
}

/// The cluster of a database that lives, and the one in the trash.
fn clusters<'a>(look: &'a Look, database: &str) -> impl Iterator<Item = (&'a str, &'a ClusterLook)> {
    let name = format!("/{database}-n1-");
    look.clusters.iter().filter(move |(path, _)| path.contains(&name)).map(|(path, cluster)| (path.as_str(), cluster))
}

fn passwords(site: &Site, look: &Look, memory: &mut Memory) {
    for (database, wish) in site.words.all().into_iter().filter(|(_, wish)| !wish.purged) {
        for (path, cluster) in clusters(look, &database) {
            let (system_id, known) =
                memory.clusters.entry(database.clone()).or_insert_with(|| (cluster.system_id.clone(), BTreeMap::new()));
            if *system_id != cluster.system_id {
                let how = format!("{path} was made anew although there was data of {database}");
                site.breaches.found(Invariant::NothingLost, how);
            }
            // A replica has what its primary had a moment ago; who takes over may lack the last of it.
            if site.hosts.len() > 1 {
                continue;
            }
            for (role, password) in &cluster.roles {
                let Some(password) = password else { continue };
                let had = known.entry(role.clone()).or_default();
                if had.last() == Some(password) {
                    continue;
                }
                let how = match had.contains(password) {
                    true => Some("is an old one again"),
                    false => (had.len() > wish.without(role)).then_some("changed although he never left"),
                };
                if let Some(how) = how {
                    let how = format!("the password of {role} in {database} {how}");
                    site.breaches.found(Invariant::NothingLost, how);
                }
                had.push(password.clone());
            }
            let rows: BTreeSet<&String> = cluster.databases.values().flat_map(|database| &database.rows).collect();
            if let Some(row) = wish.rows.iter().find(|row| !rows.contains(row)) {
                site.breaches.found(Invariant::NothingLost, format!("the row {row} of {database} is gone"));
            }
        }
    }
}

/// What must hold once the faults have stopped for a while. Gives the first thing that does not.
pub(crate) fn unsettled(site: &Site) -> Option<String> {
    let look = site.world.look();
    for host in &site.hosts {
        let online: Option<Availability> = document(site, &format!("controllers/{}/availability", host.id));
        if !online.is_some_and(|said| said.state == OnlineState::Online && said.epoch == host.epoch()) {
            return Some(format!("the controller {} is not said to be online", host.id));
        }
    }
    let etcd = look.services.iter().filter(|(name, _)| name.starts_with("pgmoor-etcd-"));
    if etcd.filter(|(_, service)| service.containers.len() == 1).count() != site.hosts.len() {
        // A service that is removed again and again is made again after a pause.
        return Some("the fleet's etcd does not run".to_owned());
    }
    site.words.all().iter().find_map(|(database, wish)| match &wish.spec {
        Some(spec) => living(site, &look, database, (wish, spec)),
        None => gone(site, &look, database, wish),
    })
}

fn document<T: DeserializeOwned>(site: &Site, topic: &str) -> Option<T> {
    serde_json::from_slice(&site.broker.retained(&site.topic(topic))?).ok()
}

fn living(site: &Site, look: &Look, database: &str, (wish, spec): (&Wish, &str)) -> Option<String> {
    let no = |what: &str| Some(format!("{database}: {what}"));
    let Some(status) = document::<Status>(site, &format!("databases/{database}/status")) else {
        return no("there is no status");
    };
    let observed = status.observed.map(|observed| observed.digest);
    if observed != Some(Digest::of_bytes(spec.as_bytes())) {
        return no("another spec is observed than was asked for");
    }
    if status.state != State::Available {
        return no(&format!("its state is {:?}", status.state));
    }
    let verdict = status.verdict.map(|verdict| (verdict.result, verdict.digest));
    let expected = match &wish.word {
        Some(Word::Bad(bad)) => (VerdictResult::Rejected, Digest::of_bytes(bad.as_bytes())),
        Some(Word::Good(_) | Word::Delete | Word::Clear) | None => {
            (VerdictResult::Accepted, Digest::of_bytes(spec.as_bytes()))
        }
    };
    if verdict.as_ref() != Some(&expected) {
        return no(&format!("its verdict is {verdict:?}, not {expected:?}"));
    }
    let Some(plan) = document::<PlanDoc>(site, &format!("databases/{database}/plan")) else {
        return no("there is no plan");
    };
    if !plan.is_empty() || !plan.waiting.is_empty() {
        return no("the plan is not empty");
    }
    let health: Option<HealthDoc> = document(site, &format!("databases/{database}/health"));
    if health.is_none_or(|health| health.health != Health::Healthy) {
        return no("it is not said to be healthy");
    }
    let name = format!("postgres-{database}-n1-");
    let wanted: serde_json::Value = serde_json::from_str(spec).unwrap_or_default();
    let hosts = wanted.pointer("/nodes/0/host_ids").and_then(serde_json::Value::as_array).map_or(1, Vec::len);
    let services: Vec<&ServiceLook> =
        look.services.iter().filter(|(service, _)| service.starts_with(&name)).map(|(_, service)| service).collect();
    if services.len() != hosts {
        return no(&format!("it has {} services, not {hosts}", services.len()));
    }
    let port = wanted.get("port").and_then(serde_json::Value::as_u64).filter(|port| *port > 0);
    for service in &services {
        if service.containers.len() != 1 {
            return no(&format!("its containers are {:?}", service.containers));
        }
        if port.is_some_and(|port| !service.ports.iter().any(|published| u64::from(*published) == port)) {
            return no("its port is not published");
        }
    }
    let count = |role: RoleLook| services.iter().filter(|service| service.role == role).count();
    if (count(RoleLook::Primary), count(RoleLook::Streams)) != (1, hosts - 1) {
        return no(&format!("its roles are {:?}", services.iter().map(|service| service.role).collect::<Vec<_>>()));
    }
    let Some((_, cluster)) = clusters(look, database).find(|(path, _)| path.contains("/instances/")) else {
        return no("there is no data directory");
    };
    let users = wanted.get("database_users").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    let missing =
        users.iter().filter_map(|user| user.get("username")?.as_str()).find(|user| !cluster.roles.contains_key(*user));
    if let Some(user) = missing {
        return no(&format!("the role {user} is not there"));
    }
    (!cluster.databases.contains_key("app")).then(|| format!("{database}: its database is not there"))
}

fn gone(site: &Site, look: &Look, database: &str, wish: &Wish) -> Option<String> {
    let no = |what: &str| Some(format!("{database}, which shall be gone: {what}"));
    let name = format!("postgres-{database}-n1-");
    if look.services.keys().any(|service| service.starts_with(&name)) {
        return no("its service is there");
    }
    if clusters(look, database).any(|(path, _)| path.contains("/instances/")) {
        return no("its data is not in the trash");
    }
    let prefix = site.topic(&format!("databases/{database}/"));
    let topics = site.broker.topics();
    let ours = |topic: &str| site.broker.retained(topic).is_some_and(|payload| payload != FOREIGN);
    let left = topics.iter().find(|topic| topic.starts_with(&prefix) && !topic.ends_with("/spec") && ours(topic));
    match (left, &wish.word) {
        (None, _) | (_, Some(Word::Bad(_))) => None,
        (Some(topic), _) => no(&format!("{topic} is still retained")),
    }
}
