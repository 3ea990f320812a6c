//! Our description of a service as Docker's service spec.
//!
//! Invariant: what is written here is what `read_back` reads; the pair is tested together. Only fields of API 1.41
//! (engine 20.10) are set, since older engines drop newer ones without a word.

use std::time::Duration;

use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum, EndpointSpec,
    EndpointSpecModeEnum, HealthConfig, Limit, Mount as DockerMount, MountTmpfsOptions, MountType,
    NetworkAttachmentConfig, ResourceObject, ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated,
    ServiceSpecUpdateConfig, ServiceSpecUpdateConfigFailureActionEnum, ServiceSpecUpdateConfigOrderEnum, TaskSpec,
    TaskSpecContainerSpec, TaskSpecPlacement, TaskSpecResources, TaskSpecRestartPolicy,
    TaskSpecRestartPolicyConditionEnum,
};

use crate::model::service::{Attachment, Healthcheck, Mount, PublishedPort, ServiceAttributes};

/// The label of a service that lists the targets of its exclusive mounts, one a line: Docker has no field for it. It
/// never shows in [`ServiceAttributes::labels`].
pub(super) const EXCLUSIVE_LABEL: &str = "pgmoor.exclusive";
/// Where the shared memory of a container is mounted.
pub(super) const SHM_TARGET: &str = "/dev/shm";
/// The constraint that keeps a service on one node.
pub(super) const NODE_CONSTRAINT: &str = "node.id==";
/// A thousandth of a processor in Docker's unit.
pub(super) const NANOS_PER_MILLI: u64 = 1_000_000;

/// The spec, with the counter that forces a restart of the tasks as it stands (0 for a new service).
pub(super) fn spec_of(service: &ServiceAttributes, force_update: u64) -> ServiceSpec {
    let mut labels = service.labels.clone();
    let exclusive: Vec<&str> =
        service.mounts.iter().filter(|mount| mount.exclusive).map(|mount| mount.target.as_str()).collect();
    if !exclusive.is_empty() {
        labels.insert(EXCLUSIVE_LABEL.to_owned(), exclusive.join("\n"));
    }
    ServiceSpec {
        name: Some(service.name.clone()),
        labels: Some(labels.into_iter().collect()),
        task_template: Some(task(service, force_update)),
        mode: Some(ServiceSpecMode {
            replicated: Some(ServiceSpecModeReplicated { replicas: Some(signed(service.replicas)) }),
            ..ServiceSpecMode::default()
        }),
        // One data directory, one Postgres: the old container is gone before the new one starts. `continue`, because
        // a paused update would wait for a person where the restart policy simply tries again.
        update_config: Some(ServiceSpecUpdateConfig {
            parallelism: Some(1),
            order: Some(ServiceSpecUpdateConfigOrderEnum::STOP_FIRST),
            failure_action: Some(ServiceSpecUpdateConfigFailureActionEnum::CONTINUE),
            ..ServiceSpecUpdateConfig::default()
        }),
        endpoint_spec: Some(EndpointSpec {
            mode: Some(EndpointSpecModeEnum::DNSRR),
            ports: Some(service.ports.iter().map(port).collect()),
        }),
        ..ServiceSpec::default()
    }
}

fn task(service: &ServiceAttributes, force_update: u64) -> TaskSpec {
    TaskSpec {
        container_spec: Some(container(service)),
        resources: Some(TaskSpecResources {
            limits: Some(Limit {
                nano_cpus: service.cpu_limit_millis.map(nanos),
                memory_bytes: service.memory_limit_bytes.map(signed),
                ..Limit::default()
            }),
            reservations: Some(ResourceObject {
                nano_cpus: service.cpu_reservation_millis.map(nanos),
                memory_bytes: service.memory_reservation_bytes.map(signed),
                ..ResourceObject::default()
            }),
            ..TaskSpecResources::default()
        }),
        restart_policy: Some(TaskSpecRestartPolicy {
            condition: Some(TaskSpecRestartPolicyConditionEnum::ANY),
            delay: Some(seconds(service.restart_delay_s)),
            ..TaskSpecRestartPolicy::default()
        }),
        placement: Some(TaskSpecPlacement {
            constraints: Some(vec![format!("{NODE_CONSTRAINT}{}", service.swarm_node)]),
            ..TaskSpecPlacement::default()
        }),
        force_update: Some(force_update),
        networks: Some(service.networks.iter().map(attachment).collect()),
        ..TaskSpec::default()
    }
}

fn container(service: &ServiceAttributes) -> TaskSpecContainerSpec {
    // In the order in which `docker service update` sorts them, by source: then an edit by hand of something else leaves
    // them as they are.
    let mut mounts: Vec<DockerMount> = Vec::new();
    if let Some(bytes) = service.shm_bytes {
        mounts.push(DockerMount {
            target: Some(SHM_TARGET.to_owned()),
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions { size_bytes: Some(signed(bytes)), ..MountTmpfsOptions::default() }),
            ..DockerMount::default()
        });
    }
    mounts.extend(service.mounts.iter().map(mount));
    TaskSpecContainerSpec {
        image: Some(service.image.clone()),
        labels: Some(service.container_labels.clone().into_iter().collect()),
        command: some(service.command.clone()),
        args: some(service.args.clone()),
        hostname: Some(service.hostname.clone()).filter(|name| !name.is_empty()),
        env: some(service.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        mounts: some(mounts),
        stop_grace_period: Some(seconds(service.stop_grace_s)),
        health_check: service.healthcheck.as_ref().map(health),
        ..TaskSpecContainerSpec::default()
    }
}

fn mount(mount: &Mount) -> DockerMount {
    DockerMount {
        target: Some(mount.target.clone()),
        source: Some(mount.source.clone()),
        typ: Some(MountType::BIND),
        read_only: Some(mount.read_only),
        ..DockerMount::default()
    }
}

fn attachment(attachment: &Attachment) -> NetworkAttachmentConfig {
    NetworkAttachmentConfig {
        target: Some(attachment.network.clone()),
        aliases: some(attachment.aliases.clone()),
        driver_opts: (!attachment.driver_opts.is_empty()).then(|| attachment.driver_opts.clone().into_iter().collect()),
    }
}

fn port(port: &PublishedPort) -> EndpointPortConfig {
    EndpointPortConfig {
        name: Some(port.name.clone()),
        protocol: Some(EndpointPortConfigProtocolEnum::TCP),
        target_port: Some(i64::from(port.target)),
        published_port: Some(i64::from(port.published)),
        publish_mode: Some(EndpointPortConfigPublishModeEnum::HOST),
    }
}

fn health(check: &Healthcheck) -> HealthConfig {
    HealthConfig {
        test: Some(vec!["CMD-SHELL".to_owned(), check.shell.clone()]),
        interval: Some(seconds(check.interval_s)),
        timeout: Some(seconds(check.timeout_s)),
        retries: Some(i64::from(check.retries)),
        start_period: Some(seconds(check.start_period_s)),
        start_interval: None,
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Seconds in Docker's unit, nanoseconds: at most 4.3e18, which fits.
fn seconds(seconds: u32) -> i64 {
    i64::try_from(Duration::from_secs(u64::from(seconds)).as_nanos()).unwrap_or(i64::MAX)
}

fn nanos(millis: u64) -> i64 {
    signed(millis.saturating_mul(NANOS_PER_MILLI))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
