//! While steps wait for an instance, or for etcd: whether what they stand on is still there. What is lost meanwhile (a
//! configuration file, a service) is made again by the next pass, not only after the deadline of the wait.
//!
//! Invariant: nothing is decided here but that a wait is left; the next pass looks and plans anew.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use super::pass::Pass;
use crate::execute::refresh;
use crate::model::{Graph, Kind, ResourceId, Scope};
use crate::store::Rows as _;

/// The pause between two looks. Half a second of calls each: most starts are over before the first.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Pass {
    /// Does the work. What only waits in it is left when something is lost that it stands on.
    pub(super) async fn unless_lost<T>(
        &self,
        work: impl Future<Output = T>,
        scope: &Scope,
        (desired, previous): (&Graph, &Graph),
    ) -> T {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => done,
            () = self.until_lost(scope, desired, previous) => {
                self.place.lost.cancel();
                work.await
            }
        }
    }

    /// Returns once something is lost that a step of this pass, which only waits, stands on. What cannot be seen is not
    /// lost.
    async fn until_lost(&self, scope: &Scope, desired: &Graph, previous: &Graph) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let below = below(desired, self.waits());
            if below.is_empty() {
                continue;
            }
            let observed = refresh(&self.shared.world, scope, desired, previous).await;
            let Ok(rows) = self.shared.store.read(|reader| reader.outcomes(scope)) else { continue };
            let Ok(plan) = self.plan(scope, desired, &observed, &rows) else { continue };
            if let Some(step) = plan.steps().find(|step| below.contains(&step.resource)) {
                tracing::info!(%scope, lost = %step.resource, "what is waited for stands on something that is lost");
                return;
            }
        }
    }

    /// What the pass waits for and does nothing about.
    fn waits(&self) -> Vec<ResourceId> {
        let running = self.place.board.work().running.into_keys();
        running.filter(|resource| matches!(resource.kind, Kind::Instance | Kind::Etcd)).collect()
    }
}

/// All that resources stand on, without themselves. Their steps have begun, so the steps of these are done.
fn below(desired: &Graph, of: Vec<ResourceId>) -> BTreeSet<ResourceId> {
    let mut below = BTreeSet::new();
    let mut next = of;
    while let Some(resource) = next.pop().and_then(|id| desired.get(&id)) {
        for dependency in resource.dependencies.keys() {
            if below.insert(dependency.clone()) {
                next.push(dependency.clone());
            }
        }
    }
    below
}
