//! The Swarm service of an instance (reference 3.5, and what it leaves out: reservations, `/dev/shm`, a stop grace
//! period that is long enough for a shutdown checkpoint, a restart delay).

use std::collections::{BTreeMap, BTreeSet};

use super::{Inputs, Place};
use crate::domain::fleet::CHECK_INTERVAL_S;
use crate::domain::layout::{self, container};
use crate::domain::{Error, credentials};
use crate::model::service::{Attachment, Healthcheck, Mount, PublishedPort, ServiceAttributes};
use crate::model::{Attributes, Scope};

/// Docker's 10 s are short for Postgres (runtime.md); Patroni checkpoints before it stops.
const STOP_GRACE_S: u32 = 90;
const RESTART_DELAY_S: u32 = 5;
/// `/dev/shm` is where parallel workers share memory: a quarter of the instance's, as `shared_buffers` is.
const SHM_SHARE: u64 = 4;
/// Docker's own size of `/dev/shm`, which Postgres is known to run with.
const SHM_BYTES_MIN: u64 = 64 << 20;

pub(super) fn describe(inputs: Inputs<'_>, place: Place<'_>) -> Result<Attributes, Error> {
    let Place { node, instance, facts, .. } = place;
    let image = inputs.record.images.get(node.name.as_str());
    let image = image.ok_or_else(|| Error::NotMinted(format!("image of node {}", node.name)))?;
    let chosen = inputs.record.ports.get(instance).copied();
    let port = credentials::published(node.port, chosen, || format!("port of instance {instance}"))?;
    let (mut container_labels, mut labels) = labels(inputs, place, "postgres");
    for (key, value) in &node.swarm.extra_labels {
        // A user's label never replaces one of ours.
        container_labels.entry(key.clone()).or_insert_with(|| value.clone());
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    labels.insert("pgmoor.resource".to_owned(), instance.to_string());
    Ok(Attributes::Service(Box::new(ServiceAttributes {
        name: layout::service(instance),
        image: image.clone(),
        command: vec!["patroni".to_owned()],
        args: vec![container::PATRONI_FILE.to_owned()],
        env: BTreeMap::from([("PATRONICTL_CONFIG_FILE".to_owned(), container::PATRONI_FILE.to_owned())]),
        hostname: instance.to_string(),
        mounts: mounts(place),
        networks: networks(inputs, place),
        ports: port
            .map(|published| PublishedPort { name: "postgres".to_owned(), target: layout::POSTGRES_PORT, published })
            .into_iter()
            .collect(),
        healthcheck: Some(healthcheck()),
        swarm_node: facts.swarm_node.clone(),
        cpu_limit_millis: node.cpu_millis,
        cpu_reservation_millis: node.cpu_millis,
        memory_limit_bytes: Some(node.memory_bytes),
        memory_reservation_bytes: Some(node.memory_bytes),
        shm_bytes: Some((node.memory_bytes / SHM_SHARE).max(SHM_BYTES_MIN)),
        stop_grace_s: STOP_GRACE_S,
        restart_delay_s: RESTART_DELAY_S,
        replicas: 1,
        container_labels,
        labels,
    })))
}

/// Patroni is alive while its loop turns, whether or not Postgres is up: a container is not killed for a long
/// recovery. Thirty failures are a minute at least: a host under load is not a loop that stands.
fn healthcheck() -> Healthcheck {
    let certificate = layout::in_container(layout::ETCD);
    Healthcheck {
        shell: format!(
            "curl -sSf --cacert {}.crt --cert {certificate}.crt --key {certificate}.key https://localhost:{}/liveness",
            layout::in_container("ca"),
            layout::PATRONI_PORT,
        ),
        interval_s: CHECK_INTERVAL_S,
        timeout_s: 5,
        start_period_s: 60,
        retries: 30,
    }
}

fn mounts(place: Place<'_>) -> BTreeSet<Mount> {
    let data_dir = &place.facts.data_dir;
    let instance = place.instance.as_str();
    let ours = [
        (layout::configs_directory(data_dir, instance), container::CONFIGS, true),
        (layout::certificates_directory(data_dir, instance), container::CERTIFICATES, true),
        (layout::data_directory(data_dir, instance), container::DATA, false),
    ];
    let ours = ours.into_iter().map(|(source, target, read_only)| Mount {
        source,
        target: target.to_owned(),
        read_only,
        exclusive: !read_only,
    });
    let extra = place.node.swarm.extra_volumes.iter().map(|volume| Mount {
        source: volume.host_path.clone(),
        target: volume.destination_path.clone(),
        read_only: false,
        exclusive: false,
    });
    ours.chain(extra).collect()
}

/// `bridge` is how the daemon reaches the instance, the overlay how everybody else does, under the instance's name.
fn networks(inputs: Inputs<'_>, place: Place<'_>) -> Vec<Attachment> {
    let attachment = |network: String, aliases: Vec<String>, driver_opts: BTreeMap<String, String>| Attachment {
        network,
        aliases,
        driver_opts,
    };
    let ours = [
        attachment("bridge".to_owned(), Vec::new(), BTreeMap::new()),
        attachment(layout::network(&inputs.spec.id), vec![place.instance.to_string()], BTreeMap::new()),
    ];
    let extra = place
        .node
        .swarm
        .extra_networks
        .iter()
        .map(|network| attachment(network.id.clone(), network.aliases.clone(), network.driver_opts.clone()));
    ours.into_iter().chain(extra).collect()
}

/// Our labels of the container and of the service, without the resource's name.
pub(super) fn labels(
    inputs: Inputs<'_>,
    place: Place<'_>,
    component: &str,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let ours = [
        ("pgmoor.fleet", inputs.fleet.fleet.to_string()),
        ("pgmoor.scope", Scope::Database(inputs.spec.id.clone()).label()),
        ("pgmoor.component", component.to_owned()),
        ("pgmoor.database", inputs.spec.id.to_string()),
        ("pgmoor.node", place.node.name.to_string()),
        ("pgmoor.instance", place.instance.to_string()),
        ("pgmoor.host", place.facts.host.to_string()),
    ];
    let container: BTreeMap<String, String> = ours.map(|(key, value)| (key.to_owned(), value)).into();
    (container.clone(), container)
}
