//! While something is waited for: why its service does not come up, in Swarm's words and those of its container.

use super::super::swarm_words::why_not;
use super::Task;
use crate::domain::layout;
use crate::drivers::{Error, Result};
use crate::model::{Attributes, EtcdChange};
use crate::world::World;

/// Looks at what is waited for between two looks at Swarm's tasks: half a second at the pace of `instance::ready`.
const LOOKS_BETWEEN: u32 = 5;
/// How far back an error of a task may lie from the beginning of the step and still be about it: the service was made
/// by the step before, and the clocks are the same.
const BEFORE_MS: i64 = 2_000;

/// What was learned about one service while a step waits for it.
#[derive(Debug)]
pub(super) struct Watch {
    service: Option<String>,
    since_ms: i64,
    looks: u32,
    told: Option<String>,
}

impl Watch {
    /// For the service that the step waits for, if it waits for one.
    pub(super) fn new(task: &Task) -> Self {
        let service = task.resource.as_ref().and_then(|resource| match &resource.attributes {
            Attributes::Instance(wanted) => Some(wanted.service.clone()),
            Attributes::Etcd { .. } => Some(etcd_service(&task.world)),
            Attributes::Record { .. }
            | Attributes::Directory { .. }
            | Attributes::File { .. }
            | Attributes::Certificate(_)
            | Attributes::Network { .. }
            | Attributes::Service(_)
            | Attributes::EtcdMember { .. }
            | Attributes::EtcdUser { .. }
            | Attributes::PatroniConfig(_)
            | Attributes::Role(_)
            | Attributes::Database { .. }
            | Attributes::Extension { .. }
            | Attributes::Script { .. } => None,
        });
        let since_ms = task.world.clock.now_ms().saturating_sub(BEFORE_MS);
        Self { service, since_ms, looks: 0, told: None }
    }

    /// It is not there yet, which showed as `error`: tells who asks why.
    ///
    /// # Errors
    /// Waiting is no use: the image is not there, no node is suitable.
    pub(super) async fn not_yet(&mut self, task: &Task, error: &Error) -> Result<()> {
        if self.looks.is_multiple_of(LOOKS_BETWEEN) {
            self.told = self.swarm(task).await?;
        }
        self.looks = self.looks.wrapping_add(1);
        let words = self.told.clone().unwrap_or_else(|| error.to_string());
        task.waits.waits(&task.step, Some(words));
        Ok(())
    }

    async fn swarm(&self, task: &Task) -> Result<Option<String>> {
        let Some(service) = &self.service else { return Ok(None) };
        let Some((trouble, words)) = why_not(&task.world, service, self.since_ms).await else { return Ok(None) };
        if trouble.is_final(task.world.clock.now_ms()) {
            let why = format!("Docker says {}: {}", trouble.state, trouble.error);
            return Err(Error::Failed { act: format!("start {service}"), why });
        }
        Ok(Some(words))
    }
}

/// The service that etcd waits for: that of the member that comes, else that of this host.
fn etcd_service(world: &World) -> String {
    let record = world.record.get();
    let host = match &record.etcd_change {
        Some(EtcdChange::Joins { host, .. }) => host,
        Some(EtcdChange::Leaves { .. }) | None => &world.facts.host,
    };
    layout::etcd_service(&world.fleet, host)
}
