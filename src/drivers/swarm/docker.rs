//! The real Swarm: Docker Engine over its socket.
//!
//! Invariants: no field newer than API 1.41 (engine 20.10) is needed; every update goes under the version index that was
//! read (compare-and-set); every call has a deadline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::errors::Error as DockerError;
use bollard::models::{ConfigSpec, ContainerInspectResponse, NetworkCreateRequest, NetworkInspect, Service};
use bollard::query_parameters::{
    EventsOptions, InspectContainerOptions, InspectNetworkOptions, InspectServiceOptions, ListConfigsOptions,
    ListContainersOptions, ListNetworksOptions, ListTasksOptions, LogsOptions, UpdateServiceOptions,
};
use futures_util::StreamExt as _;
use futures_util::future::ready;
use futures_util::stream::{BoxStream, TryStreamExt as _};
use tokio::sync::Mutex;

use super::client::{Connection, Missing};
use super::{
    ConfigSeen, ContainerSeen, EngineSeen, Event, ImageSeen, ImageStream, Labels, NetworkSeen, ServiceSeen, Swarm,
    SwarmAdmission, TaskSeen, images, join, listing, raft, read_back, seen, service_spec, subnets,
};
use crate::drivers::{Error, Result};
use crate::model::service::ServiceAttributes;

/// Where the engine listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// How often an update is tried against somebody else's changes: Swarm itself writes an object a few times while it
/// starts.
const UPDATE_TRIES: u32 = 8;
/// How long Swarm's allocator may take to give a new network its subnet (measured: well below a second).
const SUBNET_DEADLINE: Duration = Duration::from_secs(5);
const SUBNET_PAUSE: Duration = Duration::from_millis(100);

/// Docker Engine over its socket.
#[derive(Debug)]
pub struct Docker {
    pub(super) connection: Connection,
    /// Names of networks by id: an id never changes its name.
    network_names: Mutex<BTreeMap<String, String>>,
}

impl Docker {
    /// The engine that listens at this socket (path, with or without `unix://`). Connects when first asked.
    #[must_use]
    pub fn new(socket: &str) -> Self {
        let socket = socket.strip_prefix("unix://").unwrap_or(socket).to_owned();
        Self { connection: Connection::new(socket), network_names: Mutex::new(BTreeMap::new()) }
    }

    async fn inspect_network(&self, name_or_id: &str) -> Result<Option<NetworkInspect>> {
        let act = format!("look at network {name_or_id}");
        let name = name_or_id.to_owned();
        let seen = self
            .connection
            .call(&act, Missing::NotFound, |docker| async move {
                docker.inspect_network(&name, None::<InspectNetworkOptions>).await
            })
            .await;
        optional(seen)
    }

    /// The names of the networks that these services join, by id.
    async fn names_of_networks(&self, services: &[Service]) -> Result<BTreeMap<String, String>> {
        let specs = services.iter().filter_map(|service| service.spec.as_ref());
        let ids: std::collections::BTreeSet<&str> = specs.flat_map(read_back::network_ids).collect();
        let mut known = self.network_names.lock().await.clone();
        known.retain(|id, _| ids.contains(id.as_str()));
        for id in ids {
            if !known.contains_key(id)
                && let Some(name) = self.inspect_network(id).await?.and_then(|network| network.name)
            {
                known.insert(id.to_owned(), name);
            }
        }
        self.network_names.lock().await.extend(known.clone());
        Ok(known)
    }

    async fn inspect_service(&self, id: &str) -> Result<Service> {
        let owned = id.to_owned();
        self.connection
            .call(&format!("look at service {id}"), Missing::NotFound, |docker| async move {
                docker.inspect_service(&owned, None::<InspectServiceOptions>).await
            })
            .await
    }

    async fn update_once(&self, id: &str, attributes: &ServiceAttributes) -> Result<()> {
        let act = format!("update service {}", attributes.name);
        let live = self.inspect_service(id).await?;
        let version = live.version.and_then(|version| version.index).and_then(|index| i32::try_from(index).ok());
        let Some(version) = version else {
            return Err(Error::Failed { act, why: "Docker gives no version that its update takes".to_owned() });
        };
        let forced = live.spec.and_then(|spec| spec.task_template).and_then(|task| task.force_update);
        let spec = service_spec::spec_of(attributes, forced.unwrap_or_default());
        let options = UpdateServiceOptions { version, ..UpdateServiceOptions::default() };
        let owned = id.to_owned();
        self.connection
            .call(
                &act,
                Missing::Failed,
                |docker| async move { docker.update_service(&owned, spec, options, None).await },
            )
            .await
            .map(|_| ())
    }

    /// Waits until Swarm's allocator gave the network a subnet. It does so after the create, and says nothing where it
    /// has none to give.
    async fn wait_for_subnet(&self, act: &str, id: &str) -> Result<()> {
        let look = async {
            loop {
                let network = self.inspect_network(id).await?;
                let subnets = network.and_then(|network| network.ipam).and_then(|ipam| ipam.config).unwrap_or_default();
                if subnets.iter().any(|subnet| subnet.subnet.as_deref().is_some_and(|subnet| !subnet.is_empty())) {
                    return Ok(());
                }
                tokio::time::sleep(SUBNET_PAUSE).await;
            }
        };
        tokio::time::timeout(SUBNET_DEADLINE, look).await.unwrap_or_else(|_| {
            Err(Error::Failed {
                act: act.to_owned(),
                // Swarm tells only its own log; these are its words there.
                why: "Swarm gave it no subnet: could not find an available, non-overlapping IPv4 address pool among \
                      the defaults to assign to the network"
                    .to_owned(),
            })
        })
    }

    /// Containers on this host in any state; with labels, only those that carry them all.
    async fn inspect_containers(&self, act: &str, selector: &Labels) -> Result<Vec<ContainerInspectResponse>> {
        let options =
            ListContainersOptions { all: true, filters: by_labels(selector), ..ListContainersOptions::default() };
        let list = self
            .connection
            .call(act, Missing::Failed, |docker| async move { docker.list_containers(Some(options)).await })
            .await?;
        let mut containers = Vec::new();
        for id in list.into_iter().filter_map(|container| container.id) {
            let look = self
                .connection
                .call(act, Missing::NotFound, |docker| async move {
                    docker.inspect_container(&id, None::<InspectContainerOptions>).await
                })
                .await;
            // Gone between the list and the look.
            containers.extend(optional(look)?);
        }
        Ok(containers)
    }
}

/// Docker's filter for labels: all of them, with these values.
fn by_labels<M: FromIterator<(String, Vec<String>)>>(selector: &Labels) -> Option<M> {
    let labels = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some([("label".to_owned(), labels)].into_iter().collect())
}

fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path, and where it leads through symbolic links: Docker names a mount as it was asked for.
async fn spellings(path: &str) -> Vec<PathBuf> {
    let given = PathBuf::from(path);
    let real = tokio::fs::canonicalize(&given).await.ok().filter(|real| *real != given);
    std::iter::once(given).chain(real).collect()
}

async fn mounts_of(container: &ContainerInspectResponse) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    // A tmpfs has an empty source, which is no path and lies above none.
    let sources = container.mounts.iter().flatten().filter_map(|mount| mount.source.as_deref());
    for source in sources.filter(|source| source.starts_with('/')) {
        paths.extend(spellings(source).await);
    }
    paths
}

#[async_trait]
impl Swarm for Docker {
    async fn engine(&self) -> Result<EngineSeen> {
        let call =
            self.connection.call("ask the Docker engine", Missing::Failed, |docker| async move { docker.info().await });
        let seen = call.await.map(seen::engine)?;
        let leader = match &seen.swarm_node {
            Some(node) if seen.manager => raft::leads(&self.connection, node).await?,
            Some(_) | None => None,
        };
        Ok(EngineSeen { leader, ..seen })
    }

    async fn admission(&self) -> Result<SwarmAdmission> {
        join::admission(&self.connection).await
    }

    async fn services(&self, selector: &Labels) -> Result<Vec<ServiceSeen>> {
        let services = listing::services(&self.connection, selector).await?;
        let names = self.names_of_networks(&services).await?;
        let mut seen: Vec<ServiceSeen> = services
            .into_iter()
            .filter_map(|service| {
                let attributes = read_back::attributes_of(service.spec.as_ref()?, &names);
                let update = service.update_status.as_ref().and_then(read_back::update_of);
                Some(ServiceSeen { id: service.id?, attributes, update })
            })
            .collect();
        seen.sort_by(|one, other| one.attributes.name.cmp(&other.attributes.name));
        Ok(seen)
    }

    async fn create_service(&self, attributes: &ServiceAttributes) -> Result<String> {
        let spec = service_spec::spec_of(attributes, 0);
        let act = format!("create service {}", attributes.name);
        let made = self
            .connection
            .call(&act, Missing::Failed, |docker| async move { docker.create_service(spec, None).await })
            .await?;
        made.id.ok_or(Error::Failed { act, why: "Docker gave no id".to_owned() })
    }

    async fn update_service(&self, id: &str, attributes: &ServiceAttributes) -> Result<()> {
        let mut tries = 1;
        loop {
            match self.update_once(id, attributes).await {
                Err(Error::Conflict { .. }) if tries < UPDATE_TRIES => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn remove_service(&self, id: &str) -> Result<()> {
        let owned = id.to_owned();
        self.connection
            .call(&format!("remove service {id}"), Missing::NotFound, |docker| async move {
                docker.delete_service(&owned).await
            })
            .await
    }

    async fn tasks(&self, service: &str) -> Result<Vec<TaskSeen>> {
        let filters = [("service".to_owned(), vec![service.to_owned()])].into_iter().collect();
        let options = ListTasksOptions { filters: Some(filters) };
        let list = self
            .connection
            .call(&format!("list tasks of service {service}"), Missing::NotFound, |docker| async move {
                docker.list_tasks(Some(options)).await
            })
            .await;
        // Docker says 404 for the tasks of a service that is not there: it has none.
        Ok(seen::tasks(optional(list)?.unwrap_or_default()))
    }

    async fn networks(&self, selector: &Labels) -> Result<Vec<NetworkSeen>> {
        let options = ListNetworksOptions { filters: by_labels(selector) };
        let networks = self
            .connection
            .call("list networks", Missing::Failed, |docker| async move { docker.list_networks(Some(options)).await })
            .await?;
        let mut seen: Vec<NetworkSeen> = networks.into_iter().map(seen::listed_network).collect();
        seen.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(seen)
    }

    async fn find_network(&self, name_or_id: &str) -> Result<Option<NetworkSeen>> {
        let found = self.inspect_network(name_or_id).await?.map(seen::network);
        // Docker also finds by the beginning of an id, which is not what was asked.
        Ok(found.filter(|network| network.name == name_or_id || network.id == name_or_id))
    }

    async fn create_network(&self, name: &str, attachable: bool, labels: &Labels) -> Result<String> {
        let act = format!("create network {name}");
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("overlay".to_owned()),
            attachable: Some(attachable),
            labels: Some(labels.clone().into_iter().collect()),
            ..NetworkCreateRequest::default()
        };
        let made = self
            .connection
            .call(&act, Missing::Failed, |docker| async move { docker.create_network(request).await })
            .await?;
        let given = self.wait_for_subnet(&act, &made.id).await;
        if matches!(given, Err(Error::Failed { .. })) {
            // Half a network would look like a whole one: the next attempt begins anew.
            self.remove_network(&made.id).await?;
        }
        given.map(|()| made.id)
    }

    async fn free_subnets(&self) -> Result<Option<u64>> {
        let act = "count Swarm's subnets";
        let info = self.connection.call(act, Missing::Failed, |docker| async move { docker.info().await }).await?;
        let Some(cluster) = info.swarm.and_then(|swarm| swarm.cluster) else { return Ok(None) };
        let Some(size) = cluster.subnet_size else { return Ok(None) };
        // An engine whose Swarm was made without pools names none, and takes Docker's own.
        let named = cluster.default_addr_pool.filter(|pools| !pools.is_empty());
        let pools = named.unwrap_or_else(|| vec![subnets::DEFAULT_POOL.to_owned()]);
        let networks = self
            .connection
            .call(act, Missing::Failed, |docker| async move { docker.list_networks(None::<ListNetworksOptions>).await })
            .await?;
        let taken = networks.iter().filter(|network| network.scope.as_deref() == Some("swarm"));
        let taken = taken.filter_map(|network| network.ipam.as_ref()?.config.as_ref()).flatten();
        Ok(subnets::free(&pools, size, taken.filter_map(|config| config.subnet.as_deref())))
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        let (act, owned) = (format!("remove network {id}"), id.to_owned());
        let removed = self
            .connection
            .call(&act, Missing::NotFound, |docker| async move { docker.remove_network(&owned).await })
            .await;
        match removed {
            // One that goes at this very moment is answered with another status than 404, and "not found" as text; for a
            // while it is still listed then, and the caller looks again.
            Err(Error::Failed { why, .. }) if why.contains("not found") => match self.find_network(id).await? {
                None => Err(Error::NotFound { act }),
                Some(_) => Err(Error::Conflict { act, why }),
            },
            removed => removed,
        }
    }

    async fn configs(&self, selector: &Labels) -> Result<Vec<ConfigSeen>> {
        let options = ListConfigsOptions { filters: by_labels(selector) };
        let configs = self
            .connection
            .call("list configs", Missing::Failed, |docker| async move { docker.list_configs(Some(options)).await })
            .await?;
        let mut seen = Vec::new();
        for config in configs {
            let id = config.id.clone().unwrap_or_default();
            seen.push(seen::config(config).ok_or_else(|| Error::Failed {
                act: format!("read config {id}"),
                why: "Docker's answer has no readable content".to_owned(),
            })?);
        }
        seen.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(seen)
    }

    async fn create_config(&self, name: &str, labels: &Labels, data: &[u8]) -> Result<String> {
        let spec = ConfigSpec {
            name: Some(name.to_owned()),
            labels: Some(labels.clone().into_iter().collect()),
            data: Some(STANDARD.encode(data)),
            templating: None,
        };
        let made = self
            .connection
            .call(&format!("create config {name}"), Missing::Failed, |docker| async move {
                docker.create_config(spec).await
            })
            .await?;
        Ok(made.id)
    }

    async fn label_config(&self, seen: &ConfigSeen, labels: &Labels) -> Result<()> {
        raft::label_config(&self.connection, seen, labels).await
    }

    async fn remove_config(&self, id: &str) -> Result<()> {
        let owned = id.to_owned();
        self.connection
            .call(&format!("remove config {id}"), Missing::NotFound, |docker| async move {
                docker.delete_config(&owned).await
            })
            .await
    }

    async fn remove_node(&self, node: &str) -> Result<()> {
        raft::remove_node(&self.connection, node).await
    }

    async fn containers(&self, selector: &Labels) -> Result<Vec<ContainerSeen>> {
        let containers = self.inspect_containers("list containers", selector).await?;
        Ok(containers.into_iter().map(seen::container).collect())
    }

    async fn containers_mounting(&self, path: &str) -> Result<Vec<ContainerSeen>> {
        let wanted = spellings(path).await;
        let mut mounting = Vec::new();
        for container in self.inspect_containers(&format!("look who mounts {path}"), &Labels::new()).await? {
            let mounts = mounts_of(&container).await;
            let shares = mounts.iter().any(|mount| wanted.iter().any(|path| seen::overlap(mount, path)));
            let container = seen::container(container);
            if shares && seen::holds_its_mounts(&container.state) {
                mounting.push(container);
            }
        }
        Ok(mounting)
    }

    async fn log(&self, container: &str, lines: u32) -> Result<Vec<String>> {
        let owned = container.to_owned();
        let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..LogsOptions::default() };
        let pieces: Vec<String> = self
            .connection
            .call(&format!("read the log of container {container}"), Missing::NotFound, |docker| async move {
                docker.logs(&owned, Some(options)).map_ok(|piece| piece.to_string()).try_collect().await
            })
            .await?;
        Ok(pieces.concat().lines().map(str::to_owned).collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageSeen>> {
        let owned = reference.to_owned();
        let look = self
            .connection
            .call(&format!("look at image {reference}"), Missing::NotFound, |docker| async move {
                docker.inspect_image(&owned).await
            })
            .await;
        Ok(optional(look)?.map(seen::image))
    }

    async fn pull(&self, reference: &str) -> Result<()> {
        images::pull(&self.connection, reference).await
    }

    async fn export_image(&self, reference: &str) -> Result<ImageStream> {
        images::export(&self.connection, reference).await
    }

    async fn import_image(&self, image: ImageStream) -> Result<()> {
        images::import(&self.connection, image).await
    }

    async fn tag_image(&self, reference: &str, name: &str) -> Result<()> {
        images::tag(&self.connection, reference, name).await
    }

    async fn untag_image(&self, reference: &str) -> Result<()> {
        images::untag(&self.connection, reference).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        // bollard opens the stream when it is first polled. Asking for all since the engine's own present time leaves
        // no gap between this call and that moment, whatever our clock says.
        let act = "listen to Docker's events";
        self.connection
            .call(act, Missing::Failed, |docker| async move {
                let now = docker.info().await?.system_time.unwrap_or_default();
                let kinds = ["container", "service", "node", "network"].map(str::to_owned).to_vec();
                let options = EventsOptions {
                    since: since(&now),
                    filters: Some([("type".to_owned(), kinds)].into_iter().collect()),
                    ..EventsOptions::default()
                };
                let events = docker.events(Some(options));
                let events = events.take_while(|event| ready(event.is_ok()));
                Ok::<_, DockerError>(events.filter_map(|event| ready(event.ok().and_then(seen::event))).boxed())
            })
            .await
    }
}

/// The engine's time in the form that its event filter takes: `seconds.nanoseconds`.
fn since(time: &str) -> Option<String> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()))
}
