//! Swarm services and their tasks: placement, images, ports, and a new task when one has failed.
//!
//! As in Swarm, an update stops the old container before it starts the new one; a service that was removed is gone at
//! once while its container goes on stopping.

use std::sync::Arc;

use super::call::{Outcome, Refusal};
use super::shelf::{Kept, Key, Work, of_labels};
use super::state::State;
use crate::drivers::swarm::{Labels, ServiceSeen, TaskSeen, UpdateSeen};
use crate::model::service::ServiceAttributes;

/// Tasks that Swarm remembers for a service (its default).
const TASKS_MAX: usize = 5;

/// How far a task is; Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskState {
    Pending,
    /// Waits until its predecessor's container has stopped.
    Ready,
    Preparing,
    Starting,
    Running,
    Rejected,
    Failed,
    Shutdown,
}

impl TaskState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Shutdown => "shutdown",
        }
    }

    /// Whether it has ended.
    fn is_over(self) -> bool {
        match self {
            Self::Rejected | Self::Failed | Self::Shutdown => true,
            Self::Pending | Self::Ready | Self::Preparing | Self::Starting | Self::Running => false,
        }
    }
}

/// A task.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) state: TaskState,
    /// Whether Swarm wants it to run.
    pub(super) wanted: bool,
    pub(super) error: Option<String>,
    pub(super) container: Option<String>,
    pub(super) since_ms: i64,
    /// When it moves on by itself.
    pub(super) due: Option<i64>,
    pub(super) attributes: Arc<ServiceAttributes>,
}

/// A service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) id: String,
    /// Shared with the tasks that were made from them.
    pub(super) attributes: Arc<ServiceAttributes>,
    /// Oldest first.
    pub(super) tasks: Vec<Task>,
    /// Whether it was ever updated.
    updated: bool,
}

impl Service {
    pub(super) fn seen(&self) -> ServiceSeen {
        ServiceSeen { id: self.id.clone(), attributes: (*self.attributes).clone(), update: self.update() }
    }

    /// How the last update goes: it is done once the newest task runs.
    fn update(&self) -> Option<UpdateSeen> {
        let runs = self.tasks.last().is_some_and(|task| task.wanted && task.state == TaskState::Running);
        self.updated.then_some(if runs { UpdateSeen::Completed } else { UpdateSeen::Updating })
    }
}

impl Kept for Service {
    fn found_by(&self) -> Vec<Key> {
        let name = Key::Name(self.attributes.name.clone());
        std::iter::once(name).chain(of_labels(&self.attributes.labels)).collect()
    }

    fn due(&self) -> Option<i64> {
        self.tasks.iter().filter_map(|task| task.due).min()
    }

    fn work(&self, _round_ms: i64) -> Work {
        // A place, a port or the end of its predecessor comes without a word.
        let waits = |task: &Task| task.wanted && matches!(task.state, TaskState::Ready | TaskState::Pending);
        if self.tasks.iter().any(waits) { Work::Always } else { Work::Never }
    }
}

/// What makes a new container: all but the service's own labels and the number of replicas.
fn task_part(attributes: &ServiceAttributes) -> ServiceAttributes {
    ServiceAttributes { labels: Labels::new(), replicas: 1, ..attributes.clone() }
}

fn note(state: &mut State, attributes: &ServiceAttributes) {
    let place = format!("service {}", attributes.name);
    let labels = attributes.labels.iter().chain(&attributes.container_labels);
    let words = attributes.command.iter().chain(&attributes.args).map(|word| ("arguments", word));
    for (what, text) in words.chain(labels.map(|(_, value)| ("labels", value))) {
        state.watch.visible(&format!("{what} of {place}"), text);
    }
    for (key, value) in &attributes.env {
        state.watch.visible(&format!("environment {key} of {place}"), value);
    }
    if let Some(check) = &attributes.healthcheck {
        state.watch.visible(&format!("health check of {place}"), &check.shell);
    }
}

impl State {
    pub(super) fn service_named(&self, name: &str) -> Option<&Service> {
        self.services.found(&Key::Name(name.to_owned())).next()
    }

    fn check_service(&self, attributes: &ServiceAttributes) -> Outcome<()> {
        let name = &attributes.name;
        let valid = !name.is_empty() && name.len() <= 63 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !valid {
            return Err(Refusal::failed(format!("name {name} must be a valid DNS name component")));
        }
        match attributes.networks.iter().find(|at| self.network(&at.network).is_none()) {
            Some(missing) => Err(Refusal::failed(format!("network {} not found", missing.network))),
            None => Ok(()),
        }
    }

    pub(super) fn create_service(&mut self, attributes: &ServiceAttributes) -> Outcome<String> {
        self.check_service(attributes)?;
        if self.service_named(&attributes.name).is_some() {
            let why = format!("name conflicts with an existing object: service {} already exists", attributes.name);
            return Err(Refusal::Conflict(why));
        }
        let id = self.new_id("svc");
        note(self, attributes);
        self.services.insert(
            id.clone(),
            Service { id: id.clone(), attributes: Arc::new(attributes.clone()), tasks: Vec::new(), updated: false },
        );
        self.count("create service", &attributes.name);
        self.emit_service("create", attributes);
        self.step_tasks();
        Ok(id)
    }

    /// Whether its container is replaced, or ends.
    pub(super) fn update_service(&mut self, id: &str, attributes: &ServiceAttributes) -> Outcome<bool> {
        self.check_service(attributes)?;
        let Some(before) = self.services.get(id).map(|service| Arc::clone(&service.attributes)) else {
            return Err(Refusal::NotFound);
        };
        if before.name != attributes.name {
            return Err(Refusal::failed("renaming services is not supported"));
        }
        self.check_ours(&format!("service {}", before.name), &before.labels);
        note(self, attributes);
        let replaces = task_part(&before) != task_part(attributes);
        self.services.replace(id, |service| {
            service.attributes = Arc::new(attributes.clone());
            service.updated = true;
        });
        if replaces || attributes.replicas == 0 {
            self.stop_tasks(id);
        }
        self.count("update service", &attributes.name);
        if replaces {
            self.count("replace container", &attributes.name);
        }
        self.emit_service("update", attributes);
        self.step_tasks();
        Ok(replaces || attributes.replicas == 0)
    }

    pub(super) fn remove_service(&mut self, id: &str) -> Outcome<()> {
        let Some(attributes) = self.services.get(id).map(|service| Arc::clone(&service.attributes)) else {
            return Err(Refusal::NotFound);
        };
        self.check_ours(&format!("service {}", attributes.name), &attributes.labels);
        self.stop_tasks(id);
        self.excuse(&attributes.name);
        self.services.remove(id);
        let own = self.containers.found(&Key::Service(id.to_owned()));
        let over: Vec<String> = own.filter(|container| !container.is_live()).map(|over| over.id.clone()).collect();
        for container in over {
            self.containers.remove(&container);
        }
        self.count("remove service", &attributes.name);
        self.emit_service("remove", &attributes);
        Ok(())
    }

    fn emit_service(&mut self, action: &str, attributes: &ServiceAttributes) {
        let mut seen = attributes.labels.clone();
        seen.insert("name".to_owned(), attributes.name.clone());
        self.emit("service", action, seen);
    }

    /// The tasks of a service shall end; their containers begin to stop.
    fn stop_tasks(&mut self, id: &str) {
        let now = self.now_ms;
        let mut stopping = Vec::new();
        if let Some(service) = self.services.get_mut(id) {
            for task in service.tasks.iter_mut().filter(|task| task.wanted) {
                task.wanted = false;
                task.due = None;
                stopping.extend(task.container.clone());
                if !task.state.is_over() && task.container.is_none() {
                    (task.state, task.since_ms) = (TaskState::Shutdown, now);
                }
            }
        }
        for container in stopping {
            self.order_stop(&container);
        }
    }

    /// The tasks of a service, newest first.
    pub(super) fn tasks_seen(&self, name: &str) -> Vec<TaskSeen> {
        let Some(service) = self.service_named(name) else { return Vec::new() };
        let seen = |task: &Task| TaskSeen {
            id: task.id.clone(),
            state: task.state.as_str().to_owned(),
            desired_state: if task.wanted { "running" } else { "shutdown" }.to_owned(),
            message: match task.state {
                TaskState::Pending => "pending task scheduling",
                TaskState::Running => "started",
                TaskState::Ready
                | TaskState::Preparing
                | TaskState::Starting
                | TaskState::Rejected
                | TaskState::Failed
                | TaskState::Shutdown => task.state.as_str(),
            }
            .to_owned(),
            error: task.error.clone(),
            container: task.container.clone(),
            swarm_node: (task.state != TaskState::Pending).then(|| task.attributes.swarm_node.clone()),
            since_ms: task.since_ms,
        };
        service.tasks.iter().rev().map(seen).collect()
    }

    /// Gives every service the task it should have, and moves the tasks on.
    pub(super) fn step_tasks(&mut self) {
        for id in self.services.busy(self.now_ms) {
            self.ensure_task(&id);
            self.step_task(&id);
            self.services.done(&id);
        }
    }

    fn ensure_task(&mut self, id: &str) {
        let now = self.now_ms;
        let Some(service) = self.services.get(id) else { return };
        if service.attributes.replicas == 0 || service.tasks.iter().any(|task| task.wanted && !task.state.is_over()) {
            return;
        }
        // A failed task is replaced after the restart delay; its due says when.
        if service.tasks.iter().any(|task| task.wanted && task.due.is_some_and(|due| due > now)) {
            return;
        }
        let task_id = self.new_id("task");
        let Some(service) = self.services.get_mut(id) else { return };
        for task in service.tasks.iter_mut().filter(|task| task.wanted) {
            task.wanted = false;
            task.due = None;
        }
        let attributes = Arc::clone(&service.attributes);
        service.tasks.push(Task {
            id: task_id,
            state: TaskState::Ready,
            wanted: true,
            error: None,
            container: None,
            since_ms: now,
            due: None,
            attributes,
        });
        self.forget_tasks(id);
    }

    /// Drops the tasks beyond Swarm's history, with their containers.
    fn forget_tasks(&mut self, id: &str) {
        let Some(service) = self.services.get_mut(id) else { return };
        let excess = service.tasks.len().saturating_sub(TASKS_MAX);
        let gone: Vec<Task> = service.tasks.drain(..excess).collect();
        for container in gone.iter().filter_map(|task| task.container.as_ref()) {
            if self.containers.get(container).is_some_and(|container| !container.is_live()) {
                self.containers.remove(container);
            }
        }
    }

    fn step_task(&mut self, id: &str) {
        let now = self.now_ms;
        let Some(service) = self.services.get(id) else { return };
        let Some(task) = service.tasks.iter().rev().find(|task| task.wanted).cloned() else { return };
        match task.state {
            TaskState::Ready | TaskState::Pending => {
                let predecessor = service.tasks.iter().filter_map(|task| task.container.as_ref());
                let stopping =
                    predecessor.filter_map(|id| self.containers.get(id)).any(super::engine::Container::is_live);
                let (state, error) = match (stopping, self.unsuitable(&task)) {
                    (true, _) => (TaskState::Ready, None),
                    (false, Some(why)) => (TaskState::Pending, Some(format!("no suitable node ({why} on 1 node)"))),
                    (false, None) => (TaskState::Preparing, None),
                };
                let due = (state == TaskState::Preparing).then(|| now + self.options.delays.prepare_ms);
                self.set_task(id, &task.id, |task| {
                    if task.state != state {
                        (task.state, task.since_ms) = (state, now);
                    }
                    (task.error, task.due) = (error, due);
                });
            }
            TaskState::Preparing if task.due.is_some_and(|due| due <= now) => self.start_task(id, &task),
            TaskState::Preparing
            | TaskState::Starting
            | TaskState::Running
            | TaskState::Rejected
            | TaskState::Failed
            | TaskState::Shutdown => {}
        }
    }

    pub(super) fn set_task(&mut self, service: &str, task: &str, change: impl FnOnce(&mut Task)) {
        let service = self.services.get_mut(service);
        if let Some(task) = service.and_then(|service| service.tasks.iter_mut().find(|seen| seen.id == task)) {
            change(task);
        }
    }

    /// Why Swarm finds no node for a task.
    fn unsuitable(&self, task: &Task) -> Option<&'static str> {
        let node = task.attributes.swarm_node.as_str();
        let Some(machine) = self.machines.get(node) else { return Some("scheduling constraints not satisfied") };
        if !self.is_managed(node) {
            return Some("node is not ready");
        }
        if task.attributes.ports.iter().any(|port| self.publisher(node, port.published).is_some()) {
            return Some("host-mode port already in use");
        }
        let others = self.containers.values().filter(|container| container.is_live() && container.is_on(node));
        let (memory, cpu) = others.map(|container| &container.attributes).chain([&task.attributes]).fold(
            (0_u64, 0_u64),
            |(memory, cpu), attributes| {
                (
                    memory.saturating_add(attributes.memory_reservation_bytes.unwrap_or(0)),
                    cpu.saturating_add(attributes.cpu_reservation_millis.unwrap_or(0)),
                )
            },
        );
        let fits = memory <= machine.memory_bytes && cpu <= u64::from(machine.cpus) * 1000;
        (!fits).then_some("insufficient resources")
    }

    fn start_task(&mut self, id: &str, task: &Task) {
        let node = task.attributes.swarm_node.as_str();
        let machine = self.machines.get(node);
        let there = |path: &str| self.files.exists(&super::files::on(node, path));
        let refused = match machine.and_then(|machine| machine.images.get(&task.attributes.image)) {
            None => Some(format!("No such image: {}", task.attributes.image)),
            Some(_) => task.attributes.mounts.iter().find(|mount| !there(&mount.source)).map(|mount| {
                format!("invalid mount config for type \"bind\": bind source path does not exist: {}", mount.source)
            }),
        };
        if let Some(why) = refused {
            self.end_task(id, &task.id, TaskState::Rejected, &why);
            return;
        }
        let listened = |port: u16| machine.is_some_and(|machine| machine.occupied_ports.contains(&port));
        if let Some(port) = task.attributes.ports.iter().find(|port| listened(port.published)) {
            let why = format!(
                "starting container failed: driver failed programming external connectivity: Error starting userland \
                 proxy: listen tcp4 0.0.0.0:{}: bind: address already in use",
                port.published
            );
            self.end_task(id, &task.id, TaskState::Failed, &why);
            return;
        }
        let container = self.start_container(id, task);
        let (now, waits) = (self.now_ms, task.attributes.healthcheck.is_some());
        self.set_task(id, &task.id, |task| {
            task.state = if waits { TaskState::Starting } else { TaskState::Running };
            (task.since_ms, task.due, task.container) = (now, None, Some(container));
        });
    }

    /// A task has come to an end by itself: Swarm tries again after the restart delay.
    pub(super) fn end_task(&mut self, service: &str, task: &str, state: TaskState, why: &str) {
        let now = self.now_ms;
        self.set_task(service, task, |task| {
            let delay_ms = i64::from(task.attributes.restart_delay_s) * 1000;
            (task.state, task.since_ms) = (state, now);
            task.error = Some(why.to_owned());
            task.due = task.wanted.then_some(now + delay_ms);
        });
    }
}
