//! Containers: they start, become healthy, go on stopping for a while, and one that fails takes its task with it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::call::{Outcome, Refusal};
use super::instance::Instance;
use super::service::{Task, TaskState};
use super::shelf::{Kept, Key, Work, of_labels};
use super::state::State;
use super::violation::Violation;
use crate::drivers::swarm::{ContainerSeen, Labels};
use crate::model::service::{Mount, ServiceAttributes};

/// Where a container of the Postgres image has its configuration: that is how one is told.
const CONFIGS: &str = "/opt/pgmoor/configs";

/// The user that a container's program runs as when its image does not say.
const UID: u32 = 26;

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    /// Told to stop; gone at this time.
    Stopping(i64),
    Exited,
}

/// What runs in a container.
#[derive(Debug)]
pub(super) enum Process {
    /// Something that pgmoor does not talk to.
    Plain,
    /// An etcd member with its data at this path of the host.
    Etcd {
        /// The data directory on the host.
        data: String,
    },
    /// Patroni with its Postgres.
    Postgres(Box<Instance>),
}

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) service: String,
    pub(super) task: String,
    pub(super) attributes: Arc<ServiceAttributes>,
    pub(super) labels: Labels,
    pub(super) uid: u32,
    pub(super) life: Life,
    /// Swarm wants it gone, whether that was told to its host already or not.
    pub(super) unwanted: bool,
    pub(super) address: Option<IpAddr>,
    pub(super) started_ms: i64,
    pub(super) healthy: bool,
    /// When Swarm, which wants it gone, tells it to stop.
    pub(super) stop_due: Option<i64>,
    /// When the program in it is up; none once it is, or once it has failed.
    pub(super) boot_due: Option<i64>,
    pub(super) process: Process,
}

/// The path on the host of a path in the container.
pub(super) fn host_path(node: &str, mounts: &BTreeSet<Mount>, inside: &str) -> Result<String, String> {
    let within = mounts.iter().filter(|mount| super::files::is_within(inside, &mount.target));
    let Some(mount) = within.max_by_key(|mount| mount.target.len()) else {
        return Err(format!("{inside}: No such file or directory"));
    };
    let rest = inside.get(mount.target.trim_end_matches('/').len()..).unwrap_or_default();
    Ok(super::files::on(node, &format!("{}{rest}", mount.source.trim_end_matches('/'))))
}

impl Container {
    /// The Swarm node that it is on.
    pub(super) fn node(&self) -> &str {
        &self.attributes.swarm_node
    }

    pub(super) fn is_on(&self, node: &str) -> bool {
        self.node() == node
    }

    /// A path on its host of a path in it.
    pub(super) fn host_path(&self, inside: &str) -> Result<String, String> {
        host_path(self.node(), &self.attributes.mounts, inside)
    }

    /// Whether it has not exited: running or still stopping.
    pub(super) fn is_live(&self) -> bool {
        self.life != Life::Exited
    }

    pub(super) fn is_running(&self) -> bool {
        self.life == Life::Running
    }

    pub(super) fn seen(&self) -> ContainerSeen {
        let health = self.attributes.healthcheck.as_ref().map(|_| match (self.is_running(), self.healthy) {
            (true, true) => "healthy",
            (true, false) => "starting",
            (false, _) => "unhealthy",
        });
        ContainerSeen {
            id: self.id.clone(),
            // Docker calls a container that is told to stop still `running`.
            state: if self.is_live() { "running" } else { "exited" }.to_owned(),
            labels: self.labels.clone(),
            bridge_address: self.address.filter(|_| self.is_live()),
            health: health.map(str::to_owned),
            started_ms: Some(self.started_ms),
        }
    }
}

impl Kept for Container {
    fn found_by(&self) -> Vec<Key> {
        let node = self.node();
        let ports = self.attributes.ports.iter().map(|port| Key::Port(node.to_owned(), port.published));
        let mounts = self.attributes.mounts.iter().map(|mount| mount.source.trim_end_matches('/'));
        let mounts = mounts.map(|source| Key::Mount(super::files::on(node, source)));
        let address = self.address.map(Key::Address);
        let own = [Key::Name(self.attributes.name.clone()), Key::Service(self.service.clone())];
        own.into_iter().chain(of_labels(&self.labels)).chain(ports).chain(mounts).chain(address).collect()
    }

    fn due(&self) -> Option<i64> {
        match self.life {
            Life::Stopping(due) => Some(due),
            Life::Exited => None,
            Life::Running => match &self.process {
                Process::Postgres(instance) => {
                    [self.stop_due, self.boot_due, instance.due()].into_iter().flatten().min()
                }
                Process::Plain | Process::Etcd { .. } => [self.stop_due, self.boot_due].into_iter().flatten().min(),
            },
        }
    }

    fn work(&self, round_ms: i64) -> Work {
        match (&self.life, &self.process) {
            (Life::Running, Process::Postgres(instance)) => instance.work(round_ms),
            (Life::Running | Life::Stopping(_) | Life::Exited, _) => Work::Never,
        }
    }
}

impl State {
    /// The live container that publishes a port of a host.
    pub(super) fn publisher(&self, node: &str, port: u16) -> Option<&Container> {
        self.containers.found(&Key::Port(node.to_owned(), port)).find(|container| container.is_live())
    }

    pub(super) fn start_container(&mut self, service: &str, task: &Task) -> String {
        let id = self.new_id("ctr");
        let attributes = Arc::clone(&task.attributes);
        self.check_exclusive(&id, &attributes);
        let machine = self.machines.get(&attributes.swarm_node);
        let image = machine.and_then(|machine| machine.images.get(&attributes.image));
        let uid = image.and_then(|labels| labels.get("org.pgmoor.uid")?.parse().ok()).unwrap_or(UID);
        let mut labels = attributes.container_labels.clone();
        labels.insert("com.docker.swarm.service.id".to_owned(), service.to_owned());
        labels.insert("com.docker.swarm.service.name".to_owned(), attributes.name.clone());
        labels.insert("com.docker.swarm.task.id".to_owned(), task.id.clone());
        let number = u16::try_from(self.last_number() % 0xfff0).unwrap_or(0).wrapping_add(2);
        let [high, low] = number.to_be_bytes();
        let bridged = attributes.networks.iter().any(|at| at.network == "bridge");
        let container = Container {
            id: id.clone(),
            service: service.to_owned(),
            task: task.id.clone(),
            uid,
            life: Life::Running,
            unwanted: false,
            address: bridged.then(|| IpAddr::V4(Ipv4Addr::new(172, 17, high, low))),
            started_ms: self.now_ms,
            healthy: false,
            stop_due: None,
            boot_due: Some(self.now_ms + self.options.delays.start_ms),
            process: Process::Plain,
            attributes,
            labels,
        };
        self.count("start container", &container.attributes.name);
        self.emit_container(container.node().to_owned(), "start", &container.labels);
        self.containers.insert(id.clone(), container);
        id
    }

    /// What a container wrote: why its program ended, if it did so by itself.
    pub(super) fn log(&self, container: &str) -> Outcome<Vec<String>> {
        let here = self.containers.get(container).filter(|container| container.is_on(&self.here));
        let Some(container) = here else { return Err(Refusal::NotFound) };
        let tasks = self.services.get(&container.service).map(|service| service.tasks.as_slice()).unwrap_or_default();
        let error = tasks.iter().find(|task| task.id == container.task).and_then(|task| task.error.as_deref());
        Ok(error.map(|error| format!("FATAL: {error}")).into_iter().collect())
    }

    /// Rule 3: nobody else may have an exclusive mount.
    fn check_exclusive(&mut self, id: &str, attributes: &ServiceAttributes) {
        for mount in attributes.mounts.iter().filter(|mount| mount.exclusive) {
            let mut containers: Vec<String> = self
                .containers
                .found(&Key::Mount(super::files::on(&attributes.swarm_node, mount.source.trim_end_matches('/'))))
                .filter(|other| other.is_live())
                .map(|other| other.id.clone())
                .collect();
            if !containers.is_empty() {
                containers.push(id.to_owned());
                self.watch.found(Violation::TwoPostgresOnOneDirectory { path: mount.source.clone(), containers });
            }
        }
    }

    fn emit_container(&mut self, node: String, action: &str, labels: &Labels) {
        let mut attributes = labels.clone();
        if let Some(name) = labels.get("com.docker.swarm.service.name").cloned() {
            attributes.insert("name".to_owned(), name);
        }
        self.emit_on(Some(node), "container", action, attributes);
    }

    /// Swarm wants a container gone: it acts a moment later, once it reaches the host, and until then the container goes on
    /// serving.
    pub(super) fn order_stop(&mut self, id: &str) {
        let due = self.now_ms + self.options.delays.orchestrate_ms;
        let managed = self.containers.get(id).is_some_and(|container| self.is_managed(container.node()));
        if let Some(container) = self.containers.get_mut(id)
            && container.is_running()
        {
            container.unwanted = true;
            if managed {
                container.stop_due.get_or_insert(due);
            }
        }
    }

    fn stop_container(&mut self, id: &str) {
        let (now, delay) = (self.now_ms, self.options.delays.stop_ms);
        if let Some(container) = self.containers.get_mut(id)
            && container.is_running()
        {
            let grace = i64::from(container.attributes.stop_grace_s) * 1000;
            container.life = Life::Stopping(now + delay.min(grace));
            let name = container.attributes.name.clone();
            self.count("stop container", &name);
        }
    }

    /// What is due with containers themselves: the end of a stop, the start of the program.
    pub(super) fn step_containers(&mut self) {
        for id in self.containers.busy(self.now_ms) {
            let Some(container) = self.containers.get(&id) else { continue };
            match container.life {
                Life::Stopping(due) if due <= self.now_ms => self.exit_container(&id, None),
                Life::Running if container.stop_due.is_some_and(|due| due <= self.now_ms) => self.stop_container(&id),
                Life::Running if container.boot_due.is_some_and(|due| due <= self.now_ms) => self.boot(&id),
                Life::Running | Life::Stopping(_) | Life::Exited => {}
            }
        }
    }

    /// Everything that runs on the host that is spoken to has crashed.
    pub(super) fn fail_containers(&mut self) {
        let here = self.containers.values().filter(|container| container.is_live() && container.is_on(&self.here));
        let here: Vec<String> = here.map(|container| container.id.clone()).collect();
        here.iter().for_each(|id| self.exit_container(id, Some("the host went down")));
    }

    /// A container's program has ended: by order, or with these last words.
    pub(super) fn exit_container(&mut self, id: &str, failure: Option<&str>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.life = Life::Exited;
        container.boot_due = None;
        let (service, task, labels) = (container.service.clone(), container.task.clone(), container.labels.clone());
        let (node, name) = (container.node().to_owned(), container.attributes.name.clone());
        self.emit_container(node.clone(), "die", &labels);
        let now = self.now_ms;
        match failure {
            Some(why) => {
                self.excuse(&name);
                self.end_task(&service, &task, TaskState::Failed, &format!("task: non-zero exit (1): {why}"));
            }
            None => self.set_task(&service, &task, |task| {
                (task.state, task.since_ms, task.due) = (TaskState::Shutdown, now, None);
            }),
        }
        if !self.services.contains_key(&service) {
            self.containers.remove(id);
            self.emit_container(node, "destroy", &labels);
        }
    }

    /// The program in a container comes up, or fails.
    fn boot(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.boot_due = None;
        let mounts = &container.attributes.mounts;
        if mounts.iter().any(|mount| mount.target == CONFIGS) {
            match self.boot_postgres(id) {
                Ok(instance) => {
                    if let Some(container) = self.containers.get_mut(id) {
                        container.process = Process::Postgres(Box::new(instance));
                    }
                }
                Err(why) => self.exit_container(id, Some(&why)),
            }
            return;
        }
        let own = |program: &String| program == "etcd";
        if container.attributes.image.contains("etcd") && container.attributes.command.first().is_none_or(own) {
            match self.boot_etcd(id) {
                Ok(data) => {
                    if let Some(container) = self.containers.get_mut(id) {
                        container.process = Process::Etcd { data };
                    }
                }
                Err(why) => {
                    self.exit_container(id, Some(&why));
                    return;
                }
            }
        }
        self.set_healthy(id);
    }

    /// A first health check succeeded: the task runs, and its name is in DNS.
    pub(super) fn set_healthy(&mut self, id: &str) {
        let now = self.now_ms;
        let Some(container) = self.containers.get_mut(id) else { return };
        if std::mem::replace(&mut container.healthy, true) {
            return;
        }
        let (service, task, labels) = (container.service.clone(), container.task.clone(), container.labels.clone());
        let (checked, node) = (container.attributes.healthcheck.is_some(), container.node().to_owned());
        self.set_task(&service, &task, |task| {
            if task.state == TaskState::Starting {
                (task.state, task.since_ms) = (TaskState::Running, now);
            }
        });
        if checked {
            self.emit_container(node, "health_status: healthy", &labels);
        }
    }
}
