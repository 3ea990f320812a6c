//! Docker's service spec back in our shape, so that a service edited by hand shows as a difference.
//!
//! Invariant: total. What we would never have written (a volume, a second constraint) still shows as something that
//! differs from what we describe.

use std::collections::BTreeMap;

use bollard::models::{
    EndpointPortConfig, HealthConfig, Mount as DockerMount, MountType, NetworkAttachmentConfig, ServiceSpec,
    ServiceUpdateStatus, ServiceUpdateStatusStateEnum, TaskSpec, TaskSpecContainerSpec,
};

use super::UpdateSeen;
use super::service_spec::{EXCLUSIVE_LABEL, NANOS_PER_MILLI, NODE_CONSTRAINT, SHM_TARGET};
use crate::model::service::{Attachment, Healthcheck, Mount, PublishedPort, ServiceAttributes};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The ids of all networks that the service joins.
pub(super) fn network_ids(spec: &ServiceSpec) -> impl Iterator<Item = &str> {
    networks_of(spec).iter().filter_map(|network| network.target.as_deref())
}

fn networks_of(spec: &ServiceSpec) -> &[NetworkAttachmentConfig] {
    let of_task = spec.task_template.as_ref().and_then(|task| task.networks.as_deref());
    of_task.or(spec.networks.as_deref()).unwrap_or_default()
}

/// The spec in our shape; `names` are the networks' names by id.
pub(super) fn attributes_of(spec: &ServiceSpec, names: &BTreeMap<String, String>) -> ServiceAttributes {
    let mut labels: BTreeMap<String, String> = spec.labels.clone().into_iter().flatten().collect();
    let exclusive = labels.remove(EXCLUSIVE_LABEL).unwrap_or_default();
    let no_task = TaskSpec::default();
    let task = spec.task_template.as_ref().unwrap_or(&no_task);
    let no_container = TaskSpecContainerSpec::default();
    let container = task.container_spec.as_ref().unwrap_or(&no_container);
    let mounts = container.mounts.as_deref().unwrap_or_default();
    let limits = task.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let reservations = task.resources.as_ref().and_then(|resources| resources.reservations.as_ref());
    let ports = spec.endpoint_spec.as_ref().and_then(|endpoint| endpoint.ports.as_deref()).unwrap_or_default();
    ServiceAttributes {
        name: spec.name.clone().unwrap_or_default(),
        image: container.image.clone().unwrap_or_default(),
        command: container.command.clone().unwrap_or_default(),
        args: container.args.clone().unwrap_or_default(),
        env: container.env.iter().flatten().map(|pair| variable(pair)).collect(),
        hostname: container.hostname.clone().unwrap_or_default(),
        mounts: mounts.iter().filter(|mount| !is_shm(mount)).map(|mount| mount_of(mount, &exclusive)).collect(),
        networks: networks_of(spec).iter().map(|network| attachment_of(network, names)).collect(),
        ports: ports.iter().map(port_of).collect(),
        healthcheck: container.health_check.as_ref().and_then(health_of),
        swarm_node: node_of(task),
        cpu_limit_millis: limits.and_then(|limits| amount(limits.nano_cpus)).map(|nanos| nanos / NANOS_PER_MILLI),
        cpu_reservation_millis: reservations
            .and_then(|reservations| amount(reservations.nano_cpus))
            .map(|nanos| nanos / NANOS_PER_MILLI),
        memory_limit_bytes: limits.and_then(|limits| amount(limits.memory_bytes)),
        memory_reservation_bytes: reservations.and_then(|reservations| amount(reservations.memory_bytes)),
        shm_bytes: mounts.iter().find(|mount| is_shm(mount)).map(|mount| {
            mount.tmpfs_options.as_ref().and_then(|options| amount(options.size_bytes)).unwrap_or_default()
        }),
        stop_grace_s: seconds(container.stop_grace_period),
        restart_delay_s: seconds(task.restart_policy.as_ref().and_then(|policy| policy.delay)),
        replicas: replicas_of(spec),
        container_labels: container.labels.clone().into_iter().flatten().collect(),
        labels,
    }
}

/// How far an update is; none where Swarm does not say.
pub(super) fn update_of(status: &ServiceUpdateStatus) -> Option<UpdateSeen> {
    use ServiceUpdateStatusStateEnum as State;
    let failed = |state: State| {
        let message = status.message.as_deref().unwrap_or("no reason given");
        UpdateSeen::Failed(format!("{state}: {message}"))
    };
    match status.state? {
        State::EMPTY => None,
        State::UPDATING => Some(UpdateSeen::Updating),
        State::COMPLETED => Some(UpdateSeen::Completed),
        state @ (State::PAUSED | State::ROLLBACK_STARTED | State::ROLLBACK_PAUSED | State::ROLLBACK_COMPLETED) => {
            Some(failed(state))
        }
    }
}

fn variable(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (name.to_owned(), value.to_owned())
}

fn is_shm(mount: &DockerMount) -> bool {
    mount.typ == Some(MountType::TMPFS) && mount.target.as_deref() == Some(SHM_TARGET)
}

fn mount_of(mount: &DockerMount, exclusive: &str) -> Mount {
    let target = mount.target.clone().unwrap_or_default();
    let source = mount.source.clone().unwrap_or_default();
    Mount {
        source: match mount.typ {
            Some(MountType::BIND) | None => source,
            // Never a path of the host: it differs from whatever we describe.
            Some(other) => format!("{other}:{source}"),
        },
        read_only: mount.read_only.unwrap_or_default(),
        exclusive: exclusive.split('\n').any(|line| line == target),
        target,
    }
}

fn attachment_of(network: &NetworkAttachmentConfig, names: &BTreeMap<String, String>) -> Attachment {
    let id = network.target.clone().unwrap_or_default();
    Attachment {
        network: names.get(&id).cloned().unwrap_or(id),
        aliases: network.aliases.clone().unwrap_or_default(),
        driver_opts: network.driver_opts.clone().into_iter().flatten().collect(),
    }
}

fn port_of(port: &EndpointPortConfig) -> PublishedPort {
    let number = |number: Option<i64>| number.and_then(|number| u16::try_from(number).ok()).unwrap_or_default();
    PublishedPort {
        name: port.name.clone().unwrap_or_default(),
        target: number(port.target_port),
        published: number(port.published_port),
    }
}

fn health_of(check: &HealthConfig) -> Option<Healthcheck> {
    let test = check.test.as_deref().unwrap_or_default();
    let shell = match test {
        [] => return None,
        [kind, shell] if kind == "CMD-SHELL" => shell.clone(),
        // `NONE`, or a command without a shell: it differs from whatever we describe.
        other => other.join(" "),
    };
    Some(Healthcheck {
        shell,
        interval_s: seconds(check.interval),
        timeout_s: seconds(check.timeout),
        start_period_s: seconds(check.start_period),
        retries: check.retries.and_then(|retries| u32::try_from(retries).ok()).unwrap_or_default(),
    })
}

fn node_of(task: &TaskSpec) -> String {
    let constraints = task.placement.as_ref().and_then(|placement| placement.constraints.as_deref());
    match constraints.unwrap_or_default() {
        [] => String::new(),
        [one] => one.strip_prefix(NODE_CONSTRAINT).unwrap_or(one).to_owned(),
        many => many.join(","),
    }
}

fn replicas_of(spec: &ServiceSpec) -> u64 {
    let replicated = spec.mode.as_ref().and_then(|mode| mode.replicated.as_ref());
    replicated.and_then(|replicated| replicated.replicas).and_then(|count| u64::try_from(count).ok()).unwrap_or(1)
}

/// An amount that is set: Docker says 0 for "no limit".
fn amount(number: Option<i64>) -> Option<u64> {
    number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0)
}

/// Docker's nanoseconds in seconds, rounded up, so that an edit by hand to half a second shows.
fn seconds(nanos: Option<i64>) -> u32 {
    let nanos = nanos.unwrap_or_default().max(0);
    let whole = nanos / NANOS_PER_SECOND + i64::from(nanos % NANOS_PER_SECOND > 0);
    u32::try_from(whole).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::service_spec::spec_of;
    use std::collections::BTreeSet;

    use super::*;

    fn full() -> ServiceAttributes {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let mount = |source: &str, target: &str, read_only, exclusive| Mount {
            source: source.to_owned(),
            target: target.to_owned(),
            read_only,
            exclusive,
        };
        ServiceAttributes {
            name: "postgres-shop-n1-689qacsi".to_owned(),
            image: "pgmoor/postgres:17.11".to_owned(),
            command: vec!["patroni".to_owned()],
            args: vec!["/opt/pgmoor/configs/patroni.yml".to_owned()],
            env: labels(&[("A", "b=c"), ("EMPTY", "")]),
            hostname: "shop-n1-689qacsi".to_owned(),
            mounts: BTreeSet::from([
                mount("/d/data", "/opt/pgmoor/data", false, true),
                mount("/d/configs", "/opt/pgmoor/configs", true, false),
            ]),
            networks: vec![
                Attachment { network: "bridge".to_owned(), aliases: vec![], driver_opts: BTreeMap::new() },
                Attachment {
                    network: "shop-database".to_owned(),
                    aliases: vec!["shop".to_owned()],
                    driver_opts: labels(&[("x", "y")]),
                },
            ],
            ports: vec![PublishedPort { name: "postgres".to_owned(), target: 5432, published: 15432 }],
            healthcheck: Some(Healthcheck {
                shell: "curl -sf https://localhost:8008/liveness".to_owned(),
                interval_s: 1,
                timeout_s: 3,
                start_period_s: 0,
                retries: 10,
            }),
            swarm_node: "k8164w6eezyarl516i12pslk0".to_owned(),
            cpu_limit_millis: Some(1500),
            cpu_reservation_millis: Some(250),
            memory_limit_bytes: Some(512 << 20),
            memory_reservation_bytes: Some(256 << 20),
            shm_bytes: Some(64 << 20),
            stop_grace_s: 90,
            restart_delay_s: 2,
            replicas: 0,
            container_labels: labels(&[("pgmoor.instance", "shop-n1-689qacsi")]),
            labels: labels(&[("pgmoor.fleet", "edge"), ("pgmoor.applied", "abc")]),
        }
    }

    fn read(spec: &ServiceSpec) -> ServiceAttributes {
        attributes_of(spec, &BTreeMap::new())
    }

    #[test]
    fn a_description_survives_docker() {
        let full = full();
        assert_eq!(read(&spec_of(&full, 3)), full);
        let bare = ServiceAttributes {
            command: vec![],
            args: vec![],
            env: BTreeMap::new(),
            mounts: BTreeSet::new(),
            networks: vec![],
            ports: vec![],
            healthcheck: None,
            cpu_limit_millis: None,
            cpu_reservation_millis: None,
            memory_limit_bytes: None,
            memory_reservation_bytes: None,
            shm_bytes: None,
            replicas: 1,
            container_labels: BTreeMap::new(),
            labels: BTreeMap::new(),
            ..full
        };
        assert_eq!(read(&spec_of(&bare, 0)), bare);
    }

    #[test]
    fn networks_read_back_by_name() {
        let mut spec = spec_of(&full(), 0);
        for (network, id) in spec.task_template.as_mut().unwrap().networks.as_mut().unwrap().iter_mut().zip(["i", "j"])
        {
            network.target = Some(id.to_owned());
        }
        assert_eq!(network_ids(&spec).collect::<Vec<_>>(), ["i", "j"]);
        let names = BTreeMap::from([("i".to_owned(), "bridge".to_owned())]);
        let networks = attributes_of(&spec, &names).networks;
        let networks: Vec<&str> = networks.iter().map(|network| network.network.as_str()).collect();
        assert_eq!(networks, ["bridge", "j"], "an unknown id shows as it is");
    }

    #[test]
    fn edits_by_hand_show() {
        type Edit = fn(&mut ServiceSpec);
        let edits: &[(&str, Edit)] = &[
            ("image", |spec| container(spec).image = Some("other".to_owned())),
            ("environment", |spec| container(spec).env.as_mut().unwrap().push("HAND=1".to_owned())),
            ("mount type", |spec| container(spec).mounts.as_mut().unwrap()[0].typ = Some(MountType::VOLUME)),
            ("mount added", |spec| container(spec).mounts.as_mut().unwrap().push(DockerMount::default())),
            ("shared memory", |spec| {
                container(spec).mounts.as_mut().unwrap().retain(|mount| !is_shm(mount));
            }),
            ("grace", |spec| container(spec).stop_grace_period = Some(10 * NANOS_PER_SECOND)),
            ("grace in part", |spec| container(spec).stop_grace_period = Some(90 * NANOS_PER_SECOND + 1)),
            ("health", |spec| container(spec).health_check.as_mut().unwrap().test = Some(vec!["NONE".to_owned()])),
            ("node", |spec| spec.task_template.as_mut().unwrap().placement = None),
            ("exclusive", |spec| {
                spec.labels.as_mut().unwrap().remove(EXCLUSIVE_LABEL);
            }),
            ("replicas", |spec| spec.mode.as_mut().unwrap().replicated.as_mut().unwrap().replicas = Some(2)),
            ("memory", |spec| {
                spec.task_template.as_mut().unwrap().resources.as_mut().unwrap().limits = None;
            }),
        ];
        for (name, edit) in edits {
            let mut spec = spec_of(&full(), 0);
            edit(&mut spec);
            assert_ne!(read(&spec), full(), "{name}");
        }
    }

    /// As `docker service update` sorts them: by source, then by target.
    #[test]
    fn an_update_by_hand_finds_mounts_sorted_and_another_order_is_no_edit() {
        let mut spec = spec_of(&full(), 0);
        let mounts = container(&mut spec).mounts.as_mut().unwrap();
        let key = |mount: &DockerMount| (mount.source.clone().unwrap_or_default(), mount.target.clone());
        assert!(mounts.len() == 3 && mounts.is_sorted_by_key(key), "{mounts:?}");
        mounts.reverse();
        assert_eq!(read(&spec), full());
    }

    fn container(spec: &mut ServiceSpec) -> &mut TaskSpecContainerSpec {
        spec.task_template.as_mut().unwrap().container_spec.as_mut().unwrap()
    }
}
