//! The instances of one node among each other: who holds the leader's lock and so takes writes, who is whose copy.
//!
//! A replica is brought up to its primary in each of Patroni's rounds. Simpler than Patroni: a lock is lost when its time
//! is over and its holder could not renew it; of those that reach each other the one that is furthest takes it; a former
//! primary always rewinds. Invariant: who reaches neither etcd nor all others of its node takes no writes.

use super::call::{Outcome, Refusal};
use super::cluster::Cluster;
use super::engine::{Container, Process};
use super::instance::{Instance, Phase};
use super::look::RoleLook;
use super::shelf::Key;
use super::state::State;

/// Rounds that a leader's lock lasts: pgmoor sets 30 and 10 seconds.
const LOCK_ROUNDS: i64 = 3;
/// The label by which instances of one database are found.
const SCOPE_LABEL: &str = "pgmoor.scope";

/// What instances of one database are found by.
pub(super) fn found_by(container: &Container) -> Option<Key> {
    Some(Key::Label(SCOPE_LABEL, container.labels.get(SCOPE_LABEL)?.clone()))
}

impl Instance {
    fn lock(&self) -> String {
        format!("{}leader", self.file.prefix())
    }

    pub(super) fn role(&self, now_ms: i64) -> RoleLook {
        match (self.is_ready(now_ms), self.follows, &self.streams_from) {
            (false, ..) => RoleLook::None,
            (true, false, _) => RoleLook::Primary,
            (true, true, None) => RoleLook::Follows,
            (true, true, Some(_)) => RoleLook::Streams,
        }
    }

    /// Whether it takes writes, or streams from who does.
    pub(super) fn serves(&self, now_ms: i64) -> bool {
        self.is_ready(now_ms) && (!self.follows || self.streams_from.is_some())
    }

    fn is_ready(&self, now_ms: i64) -> bool {
        self.server.as_ref().is_some_and(|server| server.ready_ms <= now_ms)
    }
}

impl State {
    /// The other running instances of a node, with their containers.
    pub(super) fn peers<'a>(&'a self, instance: &Instance) -> Vec<(&'a Container, &'a Instance)> {
        let Some(key) = &instance.found_by else { return Vec::new() };
        let prefix = instance.file.prefix();
        let others = self.containers.found(key).filter(|container| container.is_running());
        let others = others.filter_map(|container| match &container.process {
            Process::Postgres(other) => Some((container, &**other)),
            Process::Plain | Process::Etcd { .. } => None,
        });
        others.filter(|(_, other)| other.file.name != instance.file.name && other.file.prefix() == prefix).collect()
    }

    /// The primary that an instance reaches, if there is one that serves.
    fn primary_of<'a>(&'a self, instance: &Instance) -> Option<&'a Instance> {
        let serves = |other: &Instance| !other.follows && other.is_ready(self.now_ms);
        let found = self
            .peers(instance)
            .into_iter()
            .find(|(container, other)| serves(other) && self.machines.reach(&instance.node, container.node()));
        found.map(|(_, other)| other)
    }

    /// Whether there is a primary to make a copy of.
    pub(super) fn can_be_copied(&self, instance: &Instance) -> bool {
        self.primary_of(instance).is_some()
    }

    /// What a new replica starts with: a copy of its primary.
    pub(super) fn copy_for(&self, instance: &Instance) -> Option<Cluster> {
        let primary = self.primary_of(instance)?;
        let mut copy = self.files.cluster(&primary.pgdata)?.clone();
        copy.auto_conf.clear();
        Some(copy)
    }

    /// An instance finds out how it stands, where it reaches etcd.
    pub(super) fn stand(&mut self, instance: &mut Instance, etcd: &str) {
        let (lock, name) = (instance.lock(), instance.file.name.clone());
        let holder = self.holder(instance, etcd, &lock);
        let takes = match &holder {
            Some(holder) => *holder == name,
            None => self.may_lead(instance),
        };
        if takes {
            let until_ms = self.now_ms.saturating_add(LOCK_ROUNDS.saturating_mul(self.options.delays.patroni_loop_ms));
            if let Some(data) = self.files.etcd_mut(etcd) {
                data.put_until(&lock, &name, until_ms);
            }
            self.promote(instance);
        } else {
            self.follow(instance, holder.as_deref());
        }
    }

    /// Patroni's failsafe: without etcd a primary stays one for as long as it reaches all others of its node.
    pub(super) fn stand_without_etcd(&mut self, instance: &mut Instance) {
        let reached =
            self.peers(instance).into_iter().filter(|(one, _)| self.machines.reach(&instance.node, one.node()));
        if reached.count() < instance.others {
            self.follow(instance, None);
        }
    }

    /// Who holds the lock: until its time is over, and on if the holder could have renewed it.
    fn holder(&mut self, instance: &mut Instance, etcd: &str, lock: &str) -> Option<String> {
        let peers = self.peers(instance);
        let there: Vec<&Instance> =
            peers.into_iter().map(|(_, other)| other).filter(|other| self.etcd_of(other).is_some()).collect();
        let able = there.iter().filter(|other| other.phase == Phase::Started && !other.follows);
        let able: Vec<String> = able.map(|other| other.file.name.clone()).collect();
        instance.others = there.len();
        let data = self.files.etcd(etcd)?;
        let holder = data.get(lock).map(|value| String::from_utf8_lossy(value).into_owned())?;
        let holds = holder == instance.file.name || data.lasts(lock, self.now_ms) || able.contains(&holder);
        holds.then_some(holder)
    }

    /// Whether nobody whom it reaches is further.
    fn may_lead(&self, instance: &Instance) -> bool {
        let far = |one: &Instance| self.files.cluster(&one.pgdata).map(|data| (data.timeline, data.lsn));
        let own = far(instance);
        let peers = self.peers(instance);
        let mut reached = peers.iter().filter(|(one, _)| self.machines.reach(&instance.node, one.node()));
        own.is_some() && reached.all(|(_, other)| far(other) <= own)
    }

    fn promote(&mut self, instance: &mut Instance) {
        instance.follows = false;
        instance.streams_from = None;
        if let Some(data) = self.files.cluster_mut(&instance.pgdata)
            && data.written_by.as_ref() != Some(&instance.file.name)
        {
            // The first primary of all begins the first timeline.
            data.timeline += u32::from(data.written_by.is_some());
            data.written_by = Some(instance.file.name.clone());
        }
    }

    fn follow(&mut self, instance: &mut Instance, holder: Option<&str>) {
        if !std::mem::replace(&mut instance.follows, true)
            && let Some(server) = instance.server.as_mut()
        {
            server.ready_ms = self.now_ms + self.options.delays.postgres_ms;
        }
        let primary = self.primary_of(instance).filter(|primary| holder == Some(primary.file.name.as_str()));
        instance.streams_from = primary.map(|primary| primary.file.name.clone());
        let Some(theirs) = primary.and_then(|primary| self.files.cluster(&primary.pgdata)) else { return };
        let Some(own) = self.files.cluster(&instance.pgdata) else { return };
        if (own.timeline, own.lsn, &own.system_id) == (theirs.timeline, theirs.lsn, &theirs.system_id) {
            return;
        }
        let copy = Cluster { auto_conf: own.auto_conf.clone(), ..theirs.clone() };
        if let Some(own) = self.files.cluster_mut(&instance.pgdata) {
            *own = copy;
        }
    }

    /// The replicas that stream from a primary, each with the bytes that it is behind.
    pub(super) fn streaming(&self, primary: &Instance) -> std::collections::BTreeMap<String, u64> {
        let lsn = |one: &Instance| self.files.cluster(&one.pgdata).map_or(0, |data| data.lsn);
        if primary.follows {
            return std::collections::BTreeMap::new();
        }
        let streams = |container: &Container, other: &Instance| {
            other.streams_from.as_ref() == Some(&primary.file.name)
                && other.is_ready(self.now_ms)
                && self.machines.reach(&primary.node, container.node())
        };
        let peers = self.peers(primary).into_iter().filter(|(container, other)| streams(container, other));
        peers.map(|(_, other)| (other.file.name.clone(), lsn(primary).saturating_sub(lsn(other)))).collect()
    }

    /// A primary hands its role to a member of its node that streams from it.
    pub(super) fn switch_over(&mut self, id: &str, primary: &str, candidate: &str) -> Outcome<()> {
        let refuse = |why: &str| Err(Refusal::failed(format!("412: switchover is not possible: {why}")));
        let Some(Process::Postgres(instance)) = self.containers.get(id).map(|container| &container.process) else {
            return Err(Refusal::Unreachable("connection reset".to_owned()));
        };
        let peers = self.peers(instance);
        if peers.is_empty() {
            return refuse("cluster does not have members except leader");
        }
        if instance.file.name != primary || instance.follows {
            return refuse("leader name does not match");
        }
        let streams = self.streaming(instance).contains_key(candidate);
        let next = peers.iter().find(|(_, other)| streams && other.file.name == candidate);
        let Some(next) = next.map(|(container, _)| container.id.clone()) else {
            return refuse("no good candidates have been found");
        };
        let Some(etcd) = self.etcd_of(instance) else { return Err(Refusal::failed("503: etcd is away")) };
        let lock = instance.lock();
        self.with_instance(&next, |state, next| {
            state.follow(next, Some(primary));
            let until_ms = state.now_ms.saturating_add(LOCK_ROUNDS * state.options.delays.patroni_loop_ms);
            if let Some(data) = state.files.etcd_mut(&etcd) {
                data.put_until(&lock, candidate, until_ms);
            }
            state.promote(next);
        });
        self.with_instance(id, |state, before| state.follow(before, Some(candidate)));
        self.count("switchover", candidate);
        Ok(())
    }
}
