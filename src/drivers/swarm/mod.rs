//! Docker Swarm, and the Docker engine of this host.

mod client;
mod docker;
mod examine;
mod images;
mod join;
mod listing;
mod raft;
mod read_back;
mod seen;
mod service_spec;
mod subnets;
mod trouble;

pub use docker::{DEFAULT_SOCKET, Docker};
pub use examine::{EngineReport, SwarmReport};
pub use images::ImageStream;
pub use join::SwarmAdmission;
pub use trouble::{TaskTrouble, last_trouble, last_words};

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::Result;
use crate::model::service::ServiceAttributes;

/// Labels by key. As a selector: all of them must be there with these values.
pub type Labels = BTreeMap<String, String>;

/// What the engine says about itself and this Swarm node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSeen {
    /// Docker Engine's version, for example `20.10.24`.
    pub engine_version: String,
    /// This host's Swarm node id; none when the engine is not in a Swarm.
    pub swarm_node: Option<String>,
    /// Whether this host is a manager.
    pub manager: bool,
    /// Whether it leads the managers, as far as it knows: one that was cut off goes on saying so for a while. None where
    /// the managers do not answer, as without a quorum.
    pub leader: Option<bool>,
    /// The address that this Swarm node advertises.
    pub address: Option<IpAddr>,
    /// The host's name as the engine has it.
    pub hostname: String,
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Where it keeps images.
    pub root_dir: String,
}

/// A service that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSeen {
    /// Swarm's object id.
    pub id: String,
    /// The live spec, read back into our shape.
    pub attributes: ServiceAttributes,
    /// How the last update went; none before the first, and until Swarm has begun the last one.
    pub update: Option<UpdateSeen>,
}

/// How far Swarm is with an update of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateSeen {
    /// It is at it.
    Updating,
    /// It is done.
    Completed,
    /// It has stopped before the end: paused, or rolled back. Docker's words.
    Failed(String),
}

/// A task of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSeen {
    /// Swarm's object id.
    pub id: String,
    /// Docker's word: `running`, `preparing`, `rejected`, `failed`, `shutdown`, …
    pub state: String,
    /// The state that Swarm wants: `running` or `shutdown`.
    pub desired_state: String,
    /// Docker's last word about it, and its error if there is one.
    pub message: String,
    /// The error, for example `No such image: …` or `no suitable node (…)`.
    pub error: Option<String>,
    /// The container's id, once there is one.
    pub container: Option<String>,
    /// The Swarm node it was given to.
    pub swarm_node: Option<String>,
    /// When this state began: milliseconds since 1970.
    pub since_ms: i64,
}

/// A network that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSeen {
    /// Docker's object id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `swarm`, `local` or `global`.
    pub scope: String,
    /// `overlay`, `bridge`, …
    pub driver: String,
    /// Whether containers outside services may join.
    pub attachable: bool,
    /// Its labels.
    pub labels: Labels,
}

/// A Swarm config that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSeen {
    /// Swarm's object id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its content.
    pub data: Vec<u8>,
    /// Swarm's version index of it: another after each change.
    pub version: u64,
}

/// A container on this host, in whatever state it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSeen {
    /// Docker's id.
    pub id: String,
    /// `running`, `exited`, `removing`, `created`, …
    pub state: String,
    /// Its labels.
    pub labels: Labels,
    /// Its address on the `bridge` network, while it runs.
    pub bridge_address: Option<IpAddr>,
    /// `healthy`, `unhealthy`, `starting`, or none without a health check.
    pub health: Option<String>,
    /// When it was started: milliseconds since 1970.
    pub started_ms: Option<i64>,
}

/// An image that is on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSeen {
    /// Docker's id: the same where the image is the same.
    pub id: String,
    /// What it takes on the disk, in bytes.
    pub bytes: u64,
    /// Its labels.
    pub labels: Labels,
}

/// Something happened to an object of Docker: a hint to look, the lists are the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `container`, `service`, `node`, `network`, …
    pub kind: String,
    /// `die`, `start`, `health_status: healthy`, `remove`, `update`, …
    pub action: String,
    /// The object's attributes: for containers its labels and name.
    pub attributes: Labels,
}

/// Docker Swarm. All lists are by label; all deletes by object id.
#[async_trait]
pub trait Swarm: Send + Sync {
    /// What the engine says about itself.
    async fn engine(&self) -> Result<EngineSeen>;

    /// How another host becomes a manager of this Swarm.
    async fn admission(&self) -> Result<SwarmAdmission>;

    /// Services that carry all these labels.
    async fn services(&self, selector: &Labels) -> Result<Vec<ServiceSeen>>;
    /// Makes a service (`dnsrr`, host-mode ports) and gives its id. A taken name is `Conflict`.
    async fn create_service(&self, attributes: &ServiceAttributes) -> Result<String>;
    /// Makes the live service what is described, under compare-and-set (a stale version is read again and retried).
    async fn update_service(&self, id: &str, attributes: &ServiceAttributes) -> Result<()>;
    /// Removes a service. Its container may go on stopping for as long as its grace period. `NotFound` when it is gone.
    async fn remove_service(&self, id: &str) -> Result<()>;
    /// The tasks of a service (by name), newest first. A service that is not there has none.
    async fn tasks(&self, service: &str) -> Result<Vec<TaskSeen>>;

    /// Networks that carry all these labels.
    async fn networks(&self, selector: &Labels) -> Result<Vec<NetworkSeen>>;
    /// The network with this name or id.
    async fn find_network(&self, name_or_id: &str) -> Result<Option<NetworkSeen>>;
    /// Makes an overlay network with a subnet from Swarm's own pool, and gives its id. An exhausted pool is `Failed`
    /// with the words of Swarm's allocator.
    async fn create_network(&self, name: &str, attachable: bool, labels: &Labels) -> Result<String>;
    /// How many more overlay networks get a subnet from Swarm's own pool; none where this cannot be counted.
    async fn free_subnets(&self) -> Result<Option<u64>>;
    /// Removes a network. One in use is `Conflict`; `NotFound` when it is gone.
    async fn remove_network(&self, id: &str) -> Result<()>;

    /// Configs that carry all these labels, with their content.
    async fn configs(&self, selector: &Labels) -> Result<Vec<ConfigSeen>>;
    /// Makes a config and gives its id. A taken name is `Conflict`.
    async fn create_config(&self, name: &str, labels: &Labels, data: &[u8]) -> Result<String>;
    /// Gives a config other labels under compare-and-set: it is as it was `seen`, or this is `Conflict` and nothing is
    /// changed. `NotFound` when it is gone. The version is another afterwards, also where the labels are the same.
    async fn label_config(&self, seen: &ConfigSeen, labels: &Labels) -> Result<()>;
    /// Removes a config. `NotFound` when it is gone.
    async fn remove_config(&self, id: &str) -> Result<()>;

    /// Takes a node out of the Swarm, whether it answers or not; one that is a manager is made a worker first, which takes
    /// a moment: `Unreachable` meanwhile. It may be gone already.
    async fn remove_node(&self, node: &str) -> Result<()>;

    /// Containers of this host, in any state, that carry all these labels.
    async fn containers(&self, selector: &Labels) -> Result<Vec<ContainerSeen>>;
    /// Containers of this host, running or stopping (not yet exited), that have this host path mounted, or one above
    /// or below it.
    async fn containers_mounting(&self, path: &str) -> Result<Vec<ContainerSeen>>;

    /// The last lines that a container of this host wrote, oldest first, in any state of it. `NotFound` when it is gone.
    /// They are as the program wrote them: whoever tells them takes out what may be secret ([`last_words`]).
    async fn log(&self, container: &str, lines: u32) -> Result<Vec<String>>;

    /// The image on this host, if it is here.
    async fn image(&self, reference: &str) -> Result<Option<ImageSeen>>;
    /// Pulls an image. `Failed` where no registry has it.
    async fn pull(&self, reference: &str) -> Result<()>;
    /// An image of this host as `docker save` writes it. An image that is not here shows in the first piece.
    async fn export_image(&self, reference: &str) -> Result<ImageStream>;
    /// Takes an image in, as `docker load` does. Of one that breaks off nothing is kept.
    async fn import_image(&self, image: ImageStream) -> Result<()>;
    /// Gives an image one more name. `NotFound` when it is not here.
    async fn tag_image(&self, reference: &str, name: &str) -> Result<()>;
    /// Takes a name from an image; without its last one the image goes. `NotFound` when it is gone.
    async fn untag_image(&self, reference: &str) -> Result<()>;

    /// Events from now on. Ends when the connection to the engine does.
    async fn events(&self) -> Result<BoxStream<'static, Event>>;
}
