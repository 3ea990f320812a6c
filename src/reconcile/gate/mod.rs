//! The gate: which steps of a plan's first stage may run now, and which are held, for which reason.
//!
//! Each reason is a [`Gate`] in a file of its own and a variant of [`Hold`]; they know nothing of each other. A pass
//! lists its gates in `Pass::converge`. Invariants: what comes after a held step is held; a gate is asked only for steps
//! that no earlier gate holds, so one that counts comes last.

mod approval;
mod backoff;
mod cap;
mod drift;
mod halted;
mod image;

use std::time::Duration;

pub(super) use approval::Approval;
pub(super) use backoff::BackOff;
pub(super) use cap::{Cap, Disruptions};
pub(super) use drift::{Fight, Observe};
pub(super) use halted::Halted;
pub(super) use image::Image;

use crate::plan::{Held, Hold, Stage, Step};

/// One reason why steps may not run now.
pub(super) trait Gate {
    /// Why this step may not run now; none: as far as this gate goes, it may.
    fn holds(&mut self, step: &Step) -> Option<Hold>;
}

/// What the gates let through.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// What may run now; none: nothing may, or there is nothing to do.
    pub(super) stage: Option<Stage>,
    /// What may not, in the order of the stage.
    pub(super) held: Vec<Held>,
}

/// Asks the gates, in this order, for each step of the stage.
pub(super) fn admit(stage: Option<&Stage>, gates: &mut [&mut dyn Gate]) -> Admitted {
    let mut held: Vec<Held> = Vec::new();
    let Some(stage) = stage else { return Admitted { stage: None, held } };
    let mut steps = Vec::new();
    // A stage lists each step after all that it must wait for.
    for step in &stage.steps {
        let before = held.iter().find(|held| step.after.contains(&held.resource));
        let why = match before {
            Some(before) => Some(Hold::Behind { step: before.resource.clone() }),
            None => gates.iter_mut().find_map(|gate| gate.holds(step)),
        };
        match why {
            Some(why) => held.push(Held::new(step, why)),
            None => steps.push(step.clone()),
        }
    }
    let stage = (!steps.is_empty()).then_some(Stage { purpose: stage.purpose, steps });
    Admitted { stage, held }
}

/// Time until the first of what is held may be tried; `tick` where nothing ends by itself, and never longer.
pub(super) fn pause(held: &[Held], now_ms: i64, tick: Duration) -> Duration {
    let first_ms = held.iter().filter_map(|held| held.why.until_ms()).min();
    let left = first_ms.map(|until| Duration::from_millis(u64::try_from(until.saturating_sub(now_ms)).unwrap_or(0)));
    left.unwrap_or(tick).min(tick)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{Executor, Kind, ResourceId};
    use crate::plan::{Action, Disruption, Purpose, Reason};

    struct Named(&'static str, i64);

    impl Gate for Named {
        fn holds(&mut self, step: &Step) -> Option<Hold> {
            (step.resource.name == self.0).then_some(Hold::BackOff { until_ms: self.1 })
        }
    }

    fn id(name: &str) -> ResourceId {
        ResourceId::new(Kind::Role, name)
    }

    pub(super) fn step(name: &str, after: &[&str]) -> Step {
        Step {
            resource: id(name),
            action: Action::Create,
            executor: Executor::Manager,
            reason: Reason::DoesNotExist,
            changes: Vec::new(),
            disruption: Disruption::None,
            after: after.iter().copied().map(id).collect::<BTreeSet<_>>(),
            object: None,
            candidates: BTreeSet::new(),
        }
    }

    fn stage(steps: Vec<Step>) -> Stage {
        Stage { purpose: Purpose::Converge, steps }
    }

    #[test]
    fn what_follows_a_held_step_is_held_and_the_rest_runs() {
        let all = stage(vec![step("a", &[]), step("b", &["a"]), step("c", &["b"]), step("d", &[])]);
        let Admitted { stage: left, held } = admit(Some(&all), &mut [&mut Named("a", 7)]);
        assert_eq!(left, Some(stage(vec![step("d", &[])])));
        let behind = |name, step| Held { resource: id(name), why: Hold::Behind { step: id(step) } };
        let first = Held { resource: id("a"), why: Hold::BackOff { until_ms: 7 } };
        assert_eq!(held, [first, behind("b", "a"), behind("c", "b")]);
    }

    #[test]
    fn the_first_gate_that_holds_names_the_reason() {
        let all = stage(vec![step("a", &[]), step("b", &[])]);
        let admitted = admit(Some(&all), &mut [&mut Named("a", 1), &mut Named("a", 2), &mut Named("b", 3)]);
        assert_eq!(admitted.stage, None);
        let until: Vec<_> = admitted.held.iter().map(|held| held.why.until_ms()).collect();
        assert_eq!(until, [Some(1), Some(3)]);
        assert_eq!(admit(None, &mut [&mut Named("a", 1)]), Admitted { stage: None, held: Vec::new() });
    }

    #[test]
    fn the_pause_ends_with_the_first_that_may_be_tried() {
        let held = |until_ms| Held { resource: id("a"), why: Hold::BackOff { until_ms } };
        let behind = Held { resource: id("b"), why: Hold::Behind { step: id("a") } };
        let tick = Duration::from_secs(15);
        assert_eq!(pause(&[behind.clone(), held(9_000), held(3_000)], 1_000, tick), Duration::from_secs(2));
        assert_eq!(pause(&[held(90_000)], 1_000, tick), tick);
        assert_eq!(pause(&[held(500)], 1_000, tick), Duration::ZERO);
        assert_eq!(pause(&[behind], 1_000, tick), tick);
    }
}
