//! How long what a plan interrupts is expected to be down, and from what that is known.
//!
//! Invariant: an estimate says its basis. Measured are the steps that interrupt and the one that brings the instance
//! back, so a measure is an upper bound: from the order to "it serves again", not from the first refused connection.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value::{Action, Disruption, Step};
use crate::model::{Graph, Kind};

/// How many of each class are remembered: enough for a median, and an old machine's are soon forgotten.
pub const MEASURES_MAX: usize = 9;

/// What a restart is assumed to take where none was measured: a guess, on the careful side, until the first measure.
pub const RESTART_MS_ASSUMED: u64 = 5_000;
/// What a replaced container is assumed to take where none was measured: a guess likewise, for a fast shutdown, a new
/// container and the start of Postgres.
pub const REPLACE_MS_ASSUMED: u64 = 20_000;

/// What earlier interruptions of a database took, in milliseconds, oldest first, at most [`MEASURES_MAX`] of a class.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Downtimes {
    /// Restarts of Postgres in its container.
    pub restart_ms: VecDeque<u64>,
    /// Replaced containers.
    pub replace_ms: VecDeque<u64>,
}

/// An estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Milliseconds.
    pub ms: u64,
    /// Of how many measures it is the median. 0: none was made, it is assumed.
    pub measures: usize,
}

impl Downtimes {
    /// Remembers what an interruption took. What interrupts nothing is not remembered.
    pub fn note(&mut self, disruption: Disruption, took: Duration) {
        let list = match disruption {
            Disruption::None | Disruption::Reload => return,
            Disruption::Restart => &mut self.restart_ms,
            Disruption::Replace => &mut self.replace_ms,
        };
        list.push_back(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        while list.len() > MEASURES_MAX {
            list.pop_front();
        }
    }

    /// What an interruption of a class is expected to take: the median of what was measured, else what is assumed.
    #[must_use]
    pub fn expected(&self, disruption: Disruption) -> Expected {
        let (list, assumed) = match disruption {
            Disruption::None | Disruption::Reload => return Expected { ms: 0, measures: 0 },
            Disruption::Restart => (&self.restart_ms, RESTART_MS_ASSUMED),
            Disruption::Replace => (&self.replace_ms, REPLACE_MS_ASSUMED),
        };
        let mut sorted: Vec<u64> = list.iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied();
        Expected { ms: median.unwrap_or(assumed), measures: sorted.len() }
    }
}

/// What the steps of a stage that worked tell of interruptions: the class, and the time of the step that interrupts
/// with that of the step which makes the instance ready again. What ends for good is down for good: no measure.
#[must_use]
pub fn measured(worked: &[(&Step, Duration)], desired: &Graph) -> Vec<(Disruption, Duration)> {
    let interrupts = worked.iter().filter(|(step, _)| step.disruption.disrupts() && step.action != Action::Delete);
    let measured = interrupts.filter_map(|(step, took)| {
        if step.resource.kind == Kind::Instance {
            return Some((step.disruption, *took));
        }
        let (_, ready) = worked.iter().find(|(other, _)| {
            other.resource.kind == Kind::Instance
                && desired.get(&other.resource).is_some_and(|it| it.dependencies.contains_key(&step.resource))
        })?;
        Some((step.disruption, took.saturating_add(*ready)))
    });
    measured.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_the_median_of_the_last_measures() {
        let mut downtimes = Downtimes::default();
        assert_eq!(downtimes.expected(Disruption::Restart), Expected { ms: RESTART_MS_ASSUMED, measures: 0 });
        for ms in [90, 10, 20] {
            downtimes.note(Disruption::Restart, Duration::from_millis(ms));
        }
        assert_eq!(downtimes.expected(Disruption::Restart), Expected { ms: 20, measures: 3 });
        assert_eq!(downtimes.expected(Disruption::Replace), Expected { ms: REPLACE_MS_ASSUMED, measures: 0 });
        for _ in 0..MEASURES_MAX + 1 {
            downtimes.note(Disruption::Restart, Duration::from_millis(7));
            downtimes.note(Disruption::Reload, Duration::from_millis(7));
        }
        assert_eq!(downtimes.expected(Disruption::Restart), Expected { ms: 7, measures: MEASURES_MAX });
    }
}
