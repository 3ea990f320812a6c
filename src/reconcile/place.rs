//! The place that a pass holds: a limited number of passes run at a time, and one that only waits for an instance gives
//! its place to another that has work to do.
//!
//! Invariants: a pass gives way only while it does nothing but wait for readiness, so nothing is left half done; the
//! time that a phase has taken is kept over the passes that it takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ledger::Board;
use crate::model::ResourceId;

/// How long a pass waits for an instance before it gives way: a start on a small machine takes two seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// When steps that wait for readiness began, in monotonic time: it belongs to a scope and outlives its passes.
#[derive(Debug, Clone, Default)]
pub(super) struct Begun(Arc<Mutex<BTreeMap<ResourceId, Duration>>>);

impl Begun {
    /// When work on the resource began: now, unless an earlier pass began it.
    pub(super) fn at(&self, resource: &ResourceId, now: Duration) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(resource.clone()).or_insert(now)
    }

    /// It has ended, well or not: the next time begins anew.
    pub(super) fn over(&self, resource: &ResourceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(resource);
    }

    /// The beginning of what has lasted longest.
    pub(super) fn first(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().min().copied()
    }
}

/// Whether steps of a scope were done since it was last as desired: it outlives the scope's passes.
#[derive(Debug, Clone, Default)]
pub(super) struct Worked(Arc<AtomicBool>);

impl Worked {
    /// A step was done.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The scope is as desired: whether that took a step.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// What a pass is told from outside while it runs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Cuts it off: something newer was asked, or pgmoor stops.
    pub(super) stop: CancellationToken,
    /// Ends what only waits in it: what that stands on is lost.
    pub(super) lost: CancellationToken,
    /// Whether others wait for a place.
    pub(super) wanted: watch::Receiver<bool>,
    /// When its steps began.
    pub(super) begun: Begun,
    /// Whether any was done.
    pub(super) worked: Worked,
    /// What runs just now; what was left by an earlier pass stands there until this one takes it up again.
    pub(super) board: Board,
}

impl Place {
    /// Returns once the pass has waited for a while and somebody else wants its place.
    pub(super) async fn given_up(&self) {
        tokio::time::sleep(PATIENCE).await;
        let mut wanted = self.wanted.clone();
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            // The loop has ended, and `stop` says so.
            std::future::pending::<()>().await;
        }
    }
}

/// The pause before a pass that gave way is due again: the longer it has waited, the longer.
pub(super) fn pause(waited: Duration, tick: Duration) -> Duration {
    (waited / 4).clamp(Duration::from_secs(1).min(tick), tick)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn a_phase_goes_on_over_passes_until_it_is_over() {
        let (begun, id) = (Begun::default(), ResourceId::new(Kind::Instance, "a"));
        let second = Duration::from_secs;
        assert_eq!((begun.at(&id, second(5)), begun.at(&id, second(9))), (second(5), second(5)));
        assert_eq!(begun.first(), Some(second(5)));
        begun.over(&id);
        assert_eq!((begun.first(), begun.at(&id, second(9))), (None, second(9)));
    }

    #[test]
    fn who_has_waited_longer_comes_back_later() {
        let (second, tick) = (Duration::from_secs, Duration::from_secs(15));
        assert_eq!([0, 20, 600].map(|waited| pause(second(waited), tick)), [second(1), second(5), tick]);
        let short = Duration::from_millis(200);
        assert_eq!(pause(second(600), short), short);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_given_up_only_when_it_is_wanted_and_after_a_while() {
        let (want, wanted) = watch::channel(false);
        let place = Place {
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            wanted,
            begun: Begun::default(),
            worked: Worked::default(),
            board: Board::default(),
        };
        let patience = tokio::time::timeout(PATIENCE * 10, place.given_up());
        assert!(patience.await.is_err(), "nobody wants it");
        want.send_replace(true);
        assert!(tokio::time::timeout(PATIENCE / 2, place.given_up()).await.is_err(), "it has just begun to wait");
        assert!(tokio::time::timeout(PATIENCE * 2, place.given_up()).await.is_ok());
    }
}
