//! What the doctor asks of an engine beside what the daemon needs: its clock, its storage, how its Swarm is set up, and
//! whether a registry has an image. Reads only.

use std::net::IpAddr;

use bollard::models::NodeState;

use super::Docker;
use super::client::Missing;
use super::seen;
use crate::drivers::Result;

/// An engine as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineReport {
    /// Docker Engine's version, for example `20.10.24`.
    pub version: String,
    /// The driver that keeps layers, for example `overlay2`.
    pub storage_driver: String,
    /// Where it keeps images and containers.
    pub root_dir: String,
    /// Its clock: milliseconds since 1970.
    pub time_ms: Option<i64>,
    /// Its Swarm; none when it is not active in one.
    pub swarm: Option<SwarmReport>,
}

/// A Swarm as one of its hosts sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SwarmReport {
    /// Whether this host is a manager. Only then the numbers below are known.
    pub manager: bool,
    /// The address that this host advertises.
    pub address: Option<IpAddr>,
    /// Hosts in the Swarm.
    pub nodes: usize,
    /// Of these, ready.
    pub nodes_ready: usize,
    /// Ended tasks that are kept for each instance of a service.
    pub task_history: Option<i64>,
}

impl Docker {
    /// What the engine says about itself and its Swarm.
    ///
    /// # Errors
    /// It does not answer, or a manager does not know its Swarm.
    pub async fn examine(&self) -> Result<EngineReport> {
        let call = |docker: bollard::Docker| async move { docker.info().await };
        let info = self.connection.call("ask the engine about itself", Missing::Failed, call).await?;
        let (storage_driver, root_dir) = (info.driver.clone(), info.docker_root_dir.clone());
        let time_ms = seen::milliseconds(info.system_time.as_deref());
        let engine = seen::engine(info);
        let swarm = match engine.swarm_node {
            None => None,
            Some(_) if engine.manager => Some(SwarmReport { address: engine.address, ..self.examine_swarm().await? }),
            Some(_) => Some(SwarmReport { address: engine.address, ..SwarmReport::default() }),
        };
        Ok(EngineReport {
            version: engine.engine_version,
            storage_driver: storage_driver.unwrap_or_default(),
            root_dir: root_dir.unwrap_or_default(),
            time_ms,
            swarm,
        })
    }

    async fn examine_swarm(&self) -> Result<SwarmReport> {
        let call = |docker: bollard::Docker| async move { docker.inspect_swarm().await };
        let swarm = self.connection.call("look at the Swarm", Missing::Failed, call).await?;
        let call = |docker: bollard::Docker| async move { docker.list_nodes(None).await };
        let nodes = self.connection.call("list the Swarm's hosts", Missing::Failed, call).await?;
        let ready = nodes.iter().filter_map(|node| node.status.as_ref());
        let orchestration = swarm.spec.and_then(|spec| spec.orchestration);
        Ok(SwarmReport {
            manager: true,
            address: None,
            nodes: nodes.len(),
            nodes_ready: ready.filter(|status| status.state == Some(NodeState::READY)).count(),
            task_history: orchestration.and_then(|orchestration| orchestration.task_history_retention_limit),
        })
    }

    /// Whether a registry has this image; nothing is pulled.
    ///
    /// # Errors
    /// No registry was reached, or it does not have the image.
    pub async fn in_a_registry(&self, reference: &str) -> Result<()> {
        let owned = reference.to_owned();
        let call = |docker: bollard::Docker| async move { docker.inspect_registry_image(&owned, None).await };
        self.connection.call(&format!("ask a registry for {reference}"), Missing::Failed, call).await.map(|_| ())
    }
}
