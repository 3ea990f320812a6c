//! How the fleet's own services stand: kept in the store, for `hosts/{host}/status` and for every database that waits.

use std::collections::BTreeMap;
use std::time::Duration;

use super::service::Shared;
use crate::contract::documents::{Condition, ConditionStatus, ConditionType, Time};
use crate::model::{ResourceId, Scope};
use crate::plan::{Plan, WaitsFor};
use crate::report;
use crate::report::conditions::Found;
use crate::report::work::Work;
use crate::store::{Error, OutcomeRow, Rows as _};

/// How often it is looked whether the fleet's own services run, and how long they have at first before all databases are
/// told to wait for them.
pub(super) const FLEET_LOOK: Duration = Duration::from_secs(1);
pub(super) const FLEET_GRACE: Duration = Duration::from_secs(2);
pub(super) const FLEET_GRACE_OF_MANY: Duration = Duration::from_secs(30);

/// What was last told of all databases that wait for the fleet, and when.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) at: Duration,
    pub(super) found: Option<Found>,
}

/// Keeps what stands in the way of the fleet's plan, and lets those know that tell of it.
pub(super) async fn tell(
    shared: &Shared,
    plan: &Plan,
    outcomes: &BTreeMap<ResourceId, OutcomeRow>,
    work: &Work,
) -> Result<(), Error> {
    let before = shared.store.read(|reader| reader.fleet_standing())?;
    let now = Time::from_ms(shared.world.clock.now_ms());
    let conditions: Vec<Condition> = cause(plan, outcomes, work)
        .map(|found| {
            let same = before.iter().find(|old| old.reason == found.reason);
            Condition {
                kind: ConditionType::Waiting,
                status: ConditionStatus::True,
                since: same.map_or(now, |old| old.since),
                reason: found.reason,
                message: found.message,
                hint: found.hint,
            }
        })
        .into_iter()
        .collect();
    if conditions == before {
        return Ok(());
    }
    // The host's status is told by the monitor.
    shared.changed.ring(Scope::Fleet);
    shared.store.write(move |writer| writer.put_fleet_standing(&conditions)).await
}

/// What keeps the fleet's own services from running: what a running step waits for, the step that failed most often,
/// what cannot be seen. Without a cause that is known nothing is said: it is at work.
fn cause(plan: &Plan, outcomes: &BTreeMap<ResourceId, OutcomeRow>, work: &Work) -> Option<Found> {
    let told = |resource: &ResourceId, words: &str| {
        report::found(words, "StepFailed", format!("the fleet's {resource}: {words}"))
    };
    let waits = work.running.iter().filter_map(|(resource, running)| {
        running.waits_for.as_ref().map(|words| (running.since, told(resource, words)))
    });
    let running = waits.min_by_key(|(since, _)| *since).map(|(_, found)| found);
    let failed = || {
        let still = outcomes.values().filter(|row| plan.step(&row.resource).is_some());
        still.max_by_key(|row| row.outcome.attempts).map(|row| told(&row.resource, &row.outcome.error))
    };
    let unseen = || {
        // What is missing on a host that does not answer keeps no other from anything; its databases say it themselves.
        let carried = plan.waiting.iter().filter(|waiting| super::members::carries(waiting.resource.kind));
        carried.into_iter().find_map(|waiting| match &waiting.on {
            WaitsFor::Unknown { why } => Some(told(&waiting.resource, why)),
            WaitsFor::Dependencies { .. }
            | WaitsFor::Dependents { .. }
            | WaitsFor::Person { .. }
            | WaitsFor::Node { .. }
            | WaitsFor::Desired { .. } => None,
        })
    };
    running.or_else(failed).or_else(unseen)
}

/// What keeps the fleet's own services from running, as it was kept last. What cannot be read is not said.
pub(super) fn standing(shared: &Shared) -> Vec<Found> {
    let conditions = shared.store.read(|reader| reader.fleet_standing()).unwrap_or_default();
    let found = |condition: Condition| Found {
        kind: ConditionType::Waiting,
        reason: condition.reason,
        message: condition.message,
        hint: condition.hint,
    };
    conditions.into_iter().map(found).collect()
}

/// What databases wait for until the fleet's own services run.
pub(super) fn not_ready(shared: &Shared) -> Found {
    standing(shared).into_iter().next().unwrap_or_else(|| Found {
        kind: ConditionType::Waiting,
        reason: "FleetNotReady".to_owned(),
        message: "the fleet's own services (etcd) are being started; databases come after them".to_owned(),
        hint: None,
    })
}
