//! What Swarm's managers agree on through their Raft: who leads, and the labels of a config under compare-and-set.

use std::time::Duration;

use bollard::models::ConfigSpec;
use bollard::query_parameters::UpdateConfigOptions;

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
