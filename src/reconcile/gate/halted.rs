//! Halt: while steps of many databases fail in a row, nothing new is made and nobody is disturbed.

use super::Gate;
use crate::plan::halt::begins_something;
use crate::plan::{Hold, Step};

/// Holds what begins something.
pub(in super::super) struct Halted {
    since_ms: Option<i64>,
}

impl Halted {
    /// By the halt that holds since then (milliseconds since 1970), if one does.
    pub(in super::super) fn new(since_ms: Option<i64>) -> Self {
        Self { since_ms }
    }
}

impl Gate for Halted {
    fn holds(&mut self, step: &Step) -> Option<Hold> {
        let since_ms = self.since_ms?;
        begins_something(step).then_some(Hold::Halted { since_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::*;
    use crate::plan::{Action, Disruption};

    #[test]
    fn it_holds_what_is_made_or_disturbs_and_nothing_else() {
        let of = |action, disruption| Step { action, disruption, ..step("a", &[]) };
        let mut gate = Halted::new(Some(7));
        for held in [
            of(Action::Create, Disruption::None),
            of(Action::Recreate, Disruption::Replace),
            of(Action::Update, Disruption::Restart),
        ] {
            assert_eq!(gate.holds(&held), Some(Hold::Halted { since_ms: 7 }), "{held:?}");
            assert_eq!(Halted::new(None).holds(&held), None);
        }
        for free in [
            of(Action::Update, Disruption::None),
            of(Action::Update, Disruption::Reload),
            of(Action::Delete, Disruption::Replace),
        ] {
            assert_eq!(gate.holds(&free), None, "{free:?}");
        }
    }
}
