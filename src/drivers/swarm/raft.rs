//! What Swarm's managers agree on through their Raft: who leads, who is one of them, and the labels of a config under
//! compare-and-set.

use std::time::Duration;

use bollard::models::{ConfigSpec, NodeSpecRoleEnum};
use bollard::query_parameters::{DeleteNodeOptions, UpdateConfigOptions, UpdateNodeOptions};

use super::client::{Connection, Missing};
use super::{ConfigSeen, Labels};
use crate::drivers::{Error, Result};

/// How long the node may take to say who leads: managers without a quorum answer after 5 s that nobody does.
const LEADER_DEADLINE: Duration = Duration::from_secs(10);

/// Whether this node leads the managers; none: they do not answer, as without a quorum.
pub(super) async fn leads(connection: &Connection, node: &str) -> Result<Option<bool>> {
    let (act, owned) = (format!("ask whether node {node} leads its Swarm"), node.to_owned());
    let seen = connection
        .call_within(&act, Missing::Failed, LEADER_DEADLINE, |docker| async move { docker.inspect_node(&owned).await })
        .await;
    match seen {
        Ok(node) => Ok(Some(node.manager_status.and_then(|status| status.leader).unwrap_or_default())),
        // The engine has answered just before, so it is the managers that do not.
        Err(Error::Unreachable { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a config other labels, if it is still as it was seen.
pub(super) async fn label_config(connection: &Connection, seen: &ConfigSeen, labels: &Labels) -> Result<()> {
    let act = format!("label config {}", seen.name);
    let Ok(version) = i64::try_from(seen.version) else {
        return Err(Error::Failed { act, why: "Docker's version of it is not one that its update takes".to_owned() });
    };
    // Without data Swarm keeps what is there; another name it would refuse.
    let spec = ConfigSpec {
        name: Some(seen.name.clone()),
        labels: Some(labels.clone().into_iter().collect()),
        data: None,
        templating: None,
    };
    let id = seen.id.clone();
    connection
        .call(&act, Missing::NotFound, |docker| async move {
            docker.update_config(&id, spec, UpdateConfigOptions { version }).await
        })
        .await
}

/// What Docker says of a manager that is on its way to be a worker.
const STILL_MANAGER: &str = "must be demoted to worker before removal";

/// Takes a node out of the Swarm.
pub(super) async fn remove_node(connection: &Connection, node: &str) -> Result<()> {
    let (act, id) = (format!("remove node {node} from the Swarm"), node.to_owned());
    let seen = connection.call(&act, Missing::NotFound, |docker| async move { docker.inspect_node(&id).await }).await;
    let seen = match seen {
        Ok(seen) => seen,
        Err(Error::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let version = seen.version.and_then(|version| version.index).and_then(|index| i64::try_from(index).ok());
    if let (Some(mut spec), Some(version)) = (seen.spec, version)
        && spec.role == Some(NodeSpecRoleEnum::MANAGER)
    {
        spec.role = Some(NodeSpecRoleEnum::WORKER);
        let id = node.to_owned();
        let demoted = connection.call(&act, Missing::NotFound, |docker| async move {
            docker.update_node(&id, spec, UpdateNodeOptions { version }).await
        });
        demoted.await?;
    }
    let id = node.to_owned();
    let removed = connection.call(&act, Missing::NotFound, |docker| async move {
        docker.delete_node(&id, Some(DeleteNodeOptions { force: true })).await
    });
    match removed.await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(Error::Failed { act, why }) if why.contains(STILL_MANAGER) => Err(Error::Unreachable { act, why }),
        Err(error) => Err(error),
    }
}
