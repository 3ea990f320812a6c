//! A primary hands its role to a replica of its node, through Patroni.
//!
//! Invariant: who takes it follows from the rule in the step: of its candidates the one that streams with the least lag,
//! seen at that moment, whom Patroni does not refuse (where commits are synchronous it takes only one that they wait
//! for). Nobody is asked who is too far behind; the wait for one ends with the step's deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Task;
use crate::drivers::{Error, Result};
use crate::model::{Attributes, ResourceId};
use crate::plan::LAG_BYTES_MAX;

/// The pause between two looks for a replica that is close enough, or for the end of the switchover.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn hand_over(task: &Task) -> Result<()> {
    let name = task.step.resource.name.as_str();
    let act = || format!("hand over the role of {name}");
    let Some(Attributes::Instance(seen)) = &task.seen else {
        return Err(Error::Failed { act: act(), why: "it was not seen".to_owned() });
    };
    let gone = || Error::Unreachable { act: act(), why: "its container is not running".to_owned() };
    let world = &task.world;
    let mut left = task.step.candidates.clone();
    let mut asked = false;
    loop {
        let Some(endpoints) = world.instance(name, &seen.service).await? else {
            // A step for the primary is done where the primary is, when it is tried again too: one on this host has the role.
            return super::primary(world, &task.scope, super::postgres::node(task)?)
                .await
                .map(drop)
                .map_err(|_nobody| gone());
        };
        let server = world.drivers.postgres.server(&endpoints.postgres).await?;
        if server.in_recovery {
            return Ok(());
        }
        match nearest(&left, &server.streaming).cloned() {
            _ if asked => {}
            Some(candidate) => {
                match world.drivers.patroni.switchover(&endpoints.patroni, name, &candidate.name).await {
                    Ok(()) => asked = true,
                    Err(refused @ Error::Failed { .. }) => {
                        left.remove(&candidate);
                        if left.is_empty() {
                            return Err(refused);
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            None => {
                let words = "no replica is close enough behind the primary to take its role";
                task.waits.waits(&task.step, Some(words.to_owned()));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The candidate with the least lag, of equal ones the first.
fn nearest<'a>(
    candidates: impl IntoIterator<Item = &'a ResourceId>,
    streaming: &BTreeMap<String, u64>,
) -> Option<&'a ResourceId> {
    let lag = |id: &&ResourceId| streaming.get(&id.name).copied();
    let near = candidates.into_iter().filter(|id| lag(id).is_some_and(|lag| lag <= LAG_BYTES_MAX));
    near.min_by_key(lag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn the_one_with_the_least_lag_takes_over() {
        let ids = ["a", "b", "c"].map(|name| ResourceId::new(Kind::Instance, name));
        let name = |found: Option<&ResourceId>| found.map(|id| id.name.clone());
        let streaming = |lags: &[(&str, u64)]| lags.iter().map(|(name, lag)| ((*name).to_owned(), *lag)).collect();
        assert_eq!(name(nearest(&ids, &streaming(&[("a", 9), ("b", 8), ("x", 0)]))), Some("b".to_owned()));
        assert_eq!(name(nearest(&ids, &streaming(&[("b", 8), ("c", 8)]))), Some("b".to_owned()));
        assert_eq!(name(nearest(&ids, &streaming(&[("a", LAG_BYTES_MAX + 1), ("x", 0)]))), None);
    }
}
