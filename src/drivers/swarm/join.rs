//! How a host becomes a manager of a Swarm: what a manager tells about it, and the joining itself.

use std::net::IpAddr;
use std::time::Duration;

use bollard::models::SwarmJoinRequest;
use serde::{Deserialize, Serialize};

use super::Docker;
use super::client::{Connection, Missing};
use crate::drivers::{Error, Result};
use crate::model::Secret;
use crate::model::secret::clear;

/// How long joining may take: certificates are made and Raft is caught up with.
const JOIN_DEADLINE: Duration = Duration::from_secs(60);

/// What a host needs to join a Swarm as a manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmAdmission {
    /// The Swarm's id.
    pub cluster: String,
    /// Docker's own token for managers.
    #[serde(with = "clear")]
    pub token: Secret,
    /// Managers, as address and port.
    pub managers: Vec<String>,
}

pub(super) async fn admission(connection: &Connection) -> Result<SwarmAdmission> {
    let act = "ask how to join the Swarm";
    let swarm = connection.call(act, Missing::Failed, |docker| async move { docker.inspect_swarm().await }).await?;
    let info = connection.call(act, Missing::Failed, |docker| async move { docker.info().await }).await?;
    let token = swarm.join_tokens.and_then(|tokens| tokens.manager);
    let managers = info.swarm.and_then(|swarm| swarm.remote_managers).unwrap_or_default();
    let managers: Vec<String> = managers.into_iter().filter_map(|manager| manager.addr).collect();
    match (swarm.id, token) {
        (Some(cluster), Some(token)) if !managers.is_empty() => {
            Ok(SwarmAdmission { cluster, token: Secret::new(token), managers })
        }
        _ => Err(Error::Failed { act: act.to_owned(), why: "Docker does not say all of it".to_owned() }),
    }
}

impl Docker {
    /// The id of the Swarm that this host is a manager of.
    ///
    /// # Errors
    /// It does not answer, or is no manager.
    pub async fn cluster(&self) -> Result<String> {
        Ok(admission(&self.connection).await?.cluster)
    }

    /// Joins a Swarm as a manager; `advertise` where this host has several addresses.
    ///
    /// # Errors
    /// Docker's words; it is in a Swarm, no manager is reached, or it must be told the address.
    pub async fn join(&self, admission: &SwarmAdmission, advertise: Option<IpAddr>) -> Result<()> {
        let request = SwarmJoinRequest {
            listen_addr: Some("0.0.0.0:2377".to_owned()),
            advertise_addr: advertise.map(|address| address.to_string()),
            data_path_addr: None,
            remote_addrs: Some(admission.managers.clone()),
            join_token: Some(admission.token.expose().to_owned()),
        };
        let join = |docker: bollard::Docker| async move { docker.join_swarm(request).await };
        self.connection.call_within("join the Swarm", Missing::Failed, JOIN_DEADLINE, join).await
    }
}
