//! The credentials file of a database: what a person on the host needs to log in. 0600, read by `pgmoor connection`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Error, HostFacts, Hosts, layout};
use crate::model::secret::clear_map;
use crate::model::spec::{NodeSpec, PortRequest};
use crate::model::{AcceptedSpec, DatabaseId, Digest, InstanceId, NodeName, Record, Secret};

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// 1.
    pub schema_version: u32,
    /// The database.
    pub database: DatabaseId,
    /// The name to connect to.
    pub database_name: String,
    /// The user to log in as when nobody says otherwise: the owner, else the first that the spec names.
    pub default_user: Option<String>,
    /// Passwords by user.
    #[serde(with = "clear_map")]
    pub passwords: BTreeMap<String, Secret>,
    /// Where the instances are.
    pub instances: Vec<InstanceAccess>,
    /// The overlay network: containers that join it reach the instances by their service names, port 5432.
    pub network: String,
    /// The certificate to check the server with (`sslrootcert`), on this host.
    pub ca_file: String,
    /// A value nobody can guess, so that the file's digest, which plans show, tells nothing about a weak password.
    pub salt: String,
}

/// Where one instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceAccess {
    /// The instance; also the name in its server certificate (`sslmode=verify-full`).
    pub instance: InstanceId,
    /// Its node.
    pub node: NodeName,
    /// Its Swarm service: its name on the network, and the label by which its container is found.
    pub service: String,
    /// The address of its host.
    pub address: String,
    /// The port on the host; none: not published, reachable at the container's address and on the network.
    pub port: Option<u16>,
    /// The pooler beside it; none: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooler: Option<PoolerAccess>,
}

/// Where the pooler beside an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolerAccess {
    /// Its Swarm service, which is its name on the network and in its certificate.
    pub service: String,
    /// The port on the host; none: not published.
    pub port: Option<u16>,
}

/// The file of a database as it lies on the host of `here`, as text.
///
/// # Errors
/// Something was not minted, a host is not known, or JSON cannot be written.
pub(super) fn render(spec: &AcceptedSpec, record: &Record, hosts: &Hosts, here: &HostFacts) -> Result<Secret, Error> {
    let mut instances = Vec::new();
    for node in &spec.nodes {
        for host in &node.hosts {
            let unknown = || Error::Host { node: node.name.clone(), host: host.clone() };
            let facts = hosts.get(host).ok_or_else(unknown)?;
            let instance = InstanceId::derive(&spec.id, &node.name, host);
            instances.push(InstanceAccess {
                node: node.name.clone(),
                service: layout::service(&instance),
                address: facts.advertise_address.to_string(),
                port: published(node.port, record.ports.get(&instance).copied(), || format!("port of {instance}"))?,
                pooler: pooler(node, &instance, record)?,
                instance,
            });
        }
    }
    let salt = Digest::of(&record.etcd_passwords.values().map(|secret| ("salt", secret.expose())).collect::<Vec<_>>());
    let default_user = spec.owner().or_else(|| spec.users.first()).map(|user| user.username.clone());
    let credentials = Credentials {
        schema_version: 1,
        database: spec.id.clone(),
        database_name: spec.database_name.clone(),
        default_user,
        passwords: record.passwords.clone(),
        instances,
        network: layout::network(&spec.id),
        ca_file: layout::ca_file(&here.data_dir),
        salt: salt.as_str().to_owned(),
    };
    let text = serde_json::to_string_pretty(&credentials)
        .map_err(|error| Error::Render { what: "the credentials", why: error.to_string() })?;
    Ok(Secret::new(text + "\n"))
}

/// The pooler beside an instance.
fn pooler(node: &NodeSpec, instance: &InstanceId, record: &Record) -> Result<Option<PoolerAccess>, Error> {
    let Some(pooler) = &node.pooler else { return Ok(None) };
    let service = layout::pooler_service(instance);
    let chosen = record.poolers.get(instance).and_then(|choice| choice.port);
    let port = published(pooler.port, chosen, || format!("port of {service}"))?;
    Ok(Some(PoolerAccess { service, port }))
}

/// The port on the host; `chosen` is that of the record, `what` it is for.
pub(super) fn published(
    request: PortRequest,
    chosen: Option<u16>,
    what: impl FnOnce() -> String,
) -> Result<Option<u16>, Error> {
    match request {
        PortRequest::Unpublished => Ok(None),
        PortRequest::Fixed(port) => Ok(Some(port)),
        PortRequest::Chosen => chosen.map(Some).ok_or_else(|| Error::NotMinted(what())),
    }
}
