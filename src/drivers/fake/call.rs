//! How every call goes: it is written down, may be slow, cut off, refused or answered into the void, and then acts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::World;
use super::state::State;
use crate::drivers::{Error, Result};

/// Calls remembered at most, oldest dropped: a daemon on fake drivers runs for days.
const CALLS_MAX: usize = 100_000;

/// How often [`World::frozen`] looks.
const FROZEN_POLL: Duration = Duration::from_millis(1);

/// An outside system that can be out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Docker.
    Swarm,
    /// The host's files and ports.
    Host,
    /// etcd.
    Etcd,
    /// Patroni's REST interface.
    Patroni,
    /// Postgres.
    Postgres,
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSeen {
    /// `system.method`, for example `swarm.create_service`.
    pub name: &'static str,
    /// What it was about, as errors say it.
    pub act: String,
}

/// Why an act inside the world did not happen; the call's own words are added at the border.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// See [`Error::Unreachable`].
    Unreachable(String),
    /// See [`Error::NotFound`].
    NotFound,
    /// See [`Error::Conflict`].
    Conflict(String),
    /// See [`Error::Failed`].
    Failed(String),
}

impl Refusal {
    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    fn into_error(self, act: String) -> Error {
        match self {
            Self::Unreachable(why) => Error::Unreachable { act, why },
            Self::NotFound => Error::NotFound { act },
            Self::Conflict(why) => Error::Conflict { act, why },
            Self::Failed(why) => Error::Failed { act, why },
        }
    }
}

/// What goes on inside the world.
pub(super) type Outcome<T> = std::result::Result<T, Refusal>;

/// A planned mishap of one call.
#[derive(Debug, Clone)]
enum Fault {
    /// Nothing happens, and the caller is told this.
    Refuse(Error),
    /// It happens, and the caller hears nothing.
    LoseAnswer,
}

/// Calls made, and mishaps to come.
#[derive(Debug, Default)]
pub(super) struct Calls {
    seen: VecDeque<CallSeen>,
    total: u64,
    faults: BTreeMap<String, VecDeque<Fault>>,
    unreachable: BTreeSet<System>,
    /// Calls still answered; none: all.
    left: Option<u64>,
    frozen: bool,
}

/// What the plumbing decided about a call before it acts.
enum Fate {
    Act { fault: Option<Fault>, latency_ms: u64 },
    Cut,
    Hang,
}

impl World {
    /// One call of a driver: `act` happens on a settled world.
    pub(super) async fn call<T: Send>(
        &self,
        system: System,
        name: &'static str,
        about: String,
        act: impl FnOnce(&mut State) -> Outcome<T> + Send,
    ) -> Result<T> {
        let fate = self.state().begin(system, CallSeen { name, act: about.clone() });
        let (fault, latency_ms) = match fate {
            Fate::Act { fault, latency_ms } => (fault, latency_ms),
            Fate::Cut => return Err(Error::Unreachable { act: about, why: "connection refused (cut off)".to_owned() }),
            Fate::Hang => std::future::pending().await,
        };
        if latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(latency_ms)).await;
        }
        if let Some(Fault::Refuse(error)) = fault {
            return Err(error);
        }
        let outcome = act(&mut self.state());
        if matches!(fault, Some(Fault::LoseAnswer)) {
            return Err(Error::Unreachable { act: about, why: "connection reset: the answer was lost".to_owned() });
        }
        outcome.map_err(|refusal| refusal.into_error(about))
    }

    /// The next call of this name does nothing and fails so. Further orders for one name queue up.
    pub fn fail_next(&self, name: &str, error: Error) {
        self.state().calls.faults.entry(name.to_owned()).or_default().push_back(Fault::Refuse(error));
    }

    /// The next call of this name acts, and its caller hears nothing.
    pub fn lose_answer(&self, name: &str) {
        self.state().calls.faults.entry(name.to_owned()).or_default().push_back(Fault::LoseAnswer);
    }

    /// Cuts a system off, or lets it answer again. What runs goes on running.
    pub fn unreachable(&self, system: System, cut: bool) {
        let calls = &mut self.state().calls;
        if cut {
            calls.unreachable.insert(system);
        } else {
            calls.unreachable.remove(&system);
        }
    }

    /// Adds this much real time to every call.
    pub fn latency(&self, latency: Duration) {
        self.state().options.delays.latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    }

    /// After `calls` more calls every call hangs for ever, as for a process that was killed: a test drops what it runs
    /// once [`World::frozen`] returns, and thaws.
    pub fn freeze_after(&self, calls: u64) {
        let state = &mut self.state().calls;
        state.left = Some(calls);
        state.frozen = false;
    }

    /// Calls are answered again.
    pub fn thaw(&self) {
        let state = &mut self.state().calls;
        state.left = None;
        state.frozen = false;
    }

    /// Returns once a call hangs.
    pub async fn frozen(&self) {
        while !self.state().calls.frozen {
            tokio::time::sleep(FROZEN_POLL).await;
        }
    }

    /// How many calls were made.
    #[must_use]
    pub fn calls_total(&self) -> u64 {
        self.state().calls.total
    }

    /// The calls since the last time this was asked, oldest first.
    #[must_use]
    pub fn take_calls(&self) -> Vec<CallSeen> {
        std::mem::take(&mut self.state().calls.seen).into()
    }
}

impl State {
    fn begin(&mut self, system: System, call: CallSeen) -> Fate {
        let name = call.name;
        let latency_ms = self.options.delays.latency_ms;
        let calls = &mut self.calls;
        if let Some(left) = calls.left.as_mut() {
            if *left == 0 {
                calls.frozen = true;
                return Fate::Hang;
            }
            *left -= 1;
        }
        calls.total += 1;
        if calls.seen.len() == CALLS_MAX {
            calls.seen.pop_front();
        }
        calls.seen.push_back(call);
        if calls.unreachable.contains(&system) {
            return Fate::Cut;
        }
        let fault = calls.faults.get_mut(name).and_then(VecDeque::pop_front);
        Fate::Act { fault, latency_ms }
    }
}
