//! Docker's answers in the shape of the trait: tasks, networks, configs, containers, images, events.

use std::net::IpAddr;
use std::path::{Component, Path};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{
    Config, ContainerInspectResponse, EventMessage, ImageInspect, LocalNodeState, Network, NetworkInspect, SystemInfo,
    Task,
};

use super::{ConfigSeen, ContainerSeen, EngineSeen, Event, ImageSeen, NetworkSeen, TaskSeen};

/// Docker's time in milliseconds since 1970. Docker says year 1 for "never".
pub(super) fn milliseconds(time: Option<&str>) -> Option<i64> {
    let time: jiff::Timestamp = time?.parse().ok()?;
    Some(time.as_millisecond()).filter(|milliseconds| *milliseconds > 0)
}

/// The engine; who leads is asked of the node.
pub(super) fn engine(info: SystemInfo) -> EngineSeen {
    let swarm = info.swarm.unwrap_or_default();
    let active = swarm.local_node_state == Some(LocalNodeState::ACTIVE);
    EngineSeen {
        engine_version: info.server_version.unwrap_or_default(),
        swarm_node: swarm.node_id.filter(|id| active && !id.is_empty()),
        manager: active && swarm.control_available.unwrap_or_default(),
        leader: None,
        address: swarm.node_addr.filter(|_| active).and_then(|address| address.parse().ok()),
        hostname: info.name.unwrap_or_default(),
        cpus: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or_default(),
        memory_bytes: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
        root_dir: info.docker_root_dir.unwrap_or_default(),
    }
}

/// The tasks, newest first.
pub(super) fn tasks(mut tasks: Vec<Task>) -> Vec<TaskSeen> {
    tasks.sort_by_key(|task| std::cmp::Reverse((milliseconds(task.created_at.as_deref()), task_version(task))));
    tasks.into_iter().map(task).collect()
}

fn task_version(task: &Task) -> Option<u64> {
    task.version.as_ref().and_then(|version| version.index)
}

fn task(task: Task) -> TaskSeen {
    let status = task.status.unwrap_or_default();
    TaskSeen {
        id: task.id.unwrap_or_default(),
        state: status.state.map(|state| state.to_string()).unwrap_or_default(),
        desired_state: task.desired_state.map(|state| state.to_string()).unwrap_or_default(),
        message: status.message.unwrap_or_default(),
        error: status.err.filter(|error| !error.is_empty()),
        container: status.container_status.and_then(|status| status.container_id).filter(|id| !id.is_empty()),
        swarm_node: task.node_id.filter(|id| !id.is_empty()),
        since_ms: milliseconds(status.timestamp.as_deref()).unwrap_or_default(),
    }
}

pub(super) fn listed_network(network: Network) -> NetworkSeen {
    NetworkSeen {
        id: network.id.unwrap_or_default(),
        name: network.name.unwrap_or_default(),
        scope: network.scope.unwrap_or_default(),
        driver: network.driver.unwrap_or_default(),
        attachable: network.attachable.unwrap_or_default(),
        labels: network.labels.into_iter().flatten().collect(),
    }
}

pub(super) fn network(network: NetworkInspect) -> NetworkSeen {
    NetworkSeen {
        id: network.id.unwrap_or_default(),
        name: network.name.unwrap_or_default(),
        scope: network.scope.unwrap_or_default(),
        driver: network.driver.unwrap_or_default(),
        attachable: network.attachable.unwrap_or_default(),
        labels: network.labels.into_iter().flatten().collect(),
    }
}

/// A config; none when it is not what Docker's API promises.
pub(super) fn config(config: Config) -> Option<ConfigSeen> {
    let spec = config.spec?;
    Some(ConfigSeen {
        id: config.id?,
        name: spec.name.unwrap_or_default(),
        labels: spec.labels.into_iter().flatten().collect(),
        data: STANDARD.decode(spec.data.unwrap_or_default()).ok()?,
        version: config.version.and_then(|version| version.index)?,
    })
}

pub(super) fn container(container: ContainerInspectResponse) -> ContainerSeen {
    let state = container.state.unwrap_or_default();
    let running = state.running.unwrap_or_default();
    let networks = container.network_settings.and_then(|settings| settings.networks);
    let bridge = networks.and_then(|networks| networks.get("bridge").and_then(|network| network.ip_address.clone()));
    ContainerSeen {
        id: container.id.unwrap_or_default(),
        state: state.status.map(|status| status.to_string()).unwrap_or_default(),
        labels: container.config.and_then(|config| config.labels).into_iter().flatten().collect(),
        bridge_address: bridge.filter(|_| running).and_then(|address| address.parse::<IpAddr>().ok()),
        health: state
            .health
            .and_then(|health| health.status)
            .map(|status| status.to_string())
            .filter(|status| !matches!(status.as_str(), "" | "none")),
        started_ms: milliseconds(state.started_at.as_deref()),
    }
}

/// Whether a container in this state may have its mounts in use, now or without further notice: all but those whose
/// processes have ended. A created one may be started at any moment.
pub(super) fn holds_its_mounts(state: &str) -> bool {
    !matches!(state, "exited" | "dead")
}

/// Whether two absolute paths share files: one is the other, or lies below it.
pub(super) fn overlap(one: &Path, other: &Path) -> bool {
    let plain =
        |path: &Path| path.components().filter(|part| *part != Component::CurDir).collect::<std::path::PathBuf>();
    let (one, other) = (plain(one), plain(other));
    one.starts_with(&other) || other.starts_with(&one)
}

pub(super) fn image(image: ImageInspect) -> ImageSeen {
    ImageSeen {
        id: image.id.unwrap_or_default(),
        bytes: image.size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
        labels: image.config.and_then(|config| config.labels).into_iter().flatten().collect(),
    }
}

pub(super) fn event(event: EventMessage) -> Option<Event> {
    let actor = event.actor.unwrap_or_default();
    Some(Event {
        kind: event.typ?.to_string(),
        action: event.action.unwrap_or_default(),
        attributes: actor.attributes.into_iter().flatten().collect(),
    })
}

/// The name and the tag of an image reference, as the engine's pull wants them: without a tag it would pull them all.
pub(super) fn name_and_tag(reference: &str) -> (&str, Option<&str>) {
    if reference.contains('@') {
        return (reference, None);
    }
    match reference.rsplit_once(':') {
        // A colon before the last slash belongs to a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (reference, Some("latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_a_name_and_a_tag() {
        for (reference, wanted) in [
            ("pgmoor/postgres:17.11", ("pgmoor/postgres", Some("17.11"))),
            ("postgres", ("postgres", Some("latest"))),
            ("host:5000/postgres", ("host:5000/postgres", Some("latest"))),
            ("host:5000/postgres:17", ("host:5000/postgres", Some("17"))),
            ("postgres@sha256:abc", ("postgres@sha256:abc", None)),
        ] {
            assert_eq!(name_and_tag(reference), wanted);
        }
    }

    #[test]
    fn paths_overlap_by_whole_names() {
        for (one, other, wanted) in [
            ("/d/a", "/d/a", true),
            ("/d/a", "/d/a/", true),
            ("/d", "/d/a", true),
            ("/d/a/b", "/d/a", true),
            ("/", "/d/a", true),
            ("/d/a", "/d/ab", false),
            ("/d/a", "/d/b", false),
        ] {
            assert_eq!(overlap(Path::new(one), Path::new(other)), wanted, "{one} {other}");
            assert_eq!(overlap(Path::new(other), Path::new(one)), wanted, "{other} {one}");
        }
    }

    #[test]
    fn tasks_come_newest_first() {
        let made =
            |id: &str, at: &str| Task { id: Some(id.to_owned()), created_at: Some(at.to_owned()), ..Task::default() };
        let seen = tasks(vec![
            made("a", "2026-11-21T05:26:25.9Z"),
            made("c", "2026-11-21T05:26:27.1Z"),
            made("b", "2026-11-21T05:26:26.000000001Z"),
        ]);
        assert_eq!(seen.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    }

    #[test]
    fn never_is_no_time() {
        assert_eq!(milliseconds(Some("0001-01-01T00:00:00Z")), None);
        assert_eq!(milliseconds(Some("1970-01-01T00:00:01.5Z")), Some(1500));
        assert_eq!(milliseconds(None), None);
    }

    #[test]
    fn only_ended_containers_hold_nothing() {
        for state in ["created", "running", "paused", "restarting", "removing", "stopping", ""] {
            assert!(holds_its_mounts(state), "{state}");
        }
        assert!(!holds_its_mounts("exited") && !holds_its_mounts("dead"));
    }
}
