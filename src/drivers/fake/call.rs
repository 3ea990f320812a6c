//! How every call goes: it is written down, may be slow, cut off, refused or answered into the void, and then acts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::World;
use super::state::State;
use crate::drivers::{Error, Result};

/// Calls remembered at most, oldest dropped.
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
    /// The Swarm node of the host that made it.
    pub node: String,
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

/// What becomes of one call, as whoever rules over a world decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fate {
    /// How long it takes until the call acts.
    pub before: Duration,
    /// How long the answer takes after that.
    pub after: Duration,
    /// What goes wrong.
    pub mishap: Option<Mishap>,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It does not happen, and the caller hears nothing.
    Lost,
    /// It happens, and the caller hears nothing.
    Unheard,
    /// It does not happen, and the caller is told that it failed.
    Failed,
}

/// Rules over a world: asked before each call.
pub trait Fates: Send {
    /// What becomes of this call.
    fn of(&mut self, system: System, call: &CallSeen) -> Fate;
}

/// Who rules, if anybody does.
#[derive(Default)]
struct Ruler(Option<Box<dyn Fates>>);

impl std::fmt::Debug for Ruler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ruler").field(&self.0.is_some()).finish()
    }
}

/// Calls made, and mishaps to come.
#[derive(Debug, Default)]
pub(super) struct Calls {
    ruler: Ruler,
    seen: VecDeque<CallSeen>,
    total: u64,
    faults: BTreeMap<String, VecDeque<Fault>>,
    /// Of a host.
    unreachable: BTreeSet<(String, System)>,
    /// Calls still answered; none: all.
    left: Option<u64>,
    frozen: bool,
}

/// What the plumbing decided about a call before it acts.
enum Decision {
    Act { fault: Option<Fault>, before: Duration, after: Duration },
    Cut,
    Hang,
}

impl Mishap {
    fn fault(self, act: String) -> Fault {
        match self {
            Self::Lost => Fault::Refuse(Error::Unreachable { act, why: "no answer in time".to_owned() }),
            Self::Unheard => Fault::LoseAnswer,
            Self::Failed => Fault::Refuse(Error::Failed { act, why: "it went wrong".to_owned() }),
        }
    }
}

impl World {
    /// Hands every call from now on to `ruler` first.
    pub fn ruled_by(&self, ruler: Box<dyn Fates>) {
        self.state().calls.ruler = Ruler(Some(ruler));
    }

    /// One call of a driver: `act` happens on a settled world.
    pub(super) async fn call<T: Send>(
        &self,
        system: System,
        name: &'static str,
        about: String,
        act: impl FnOnce(&mut State) -> Outcome<T> + Send,
    ) -> Result<T> {
        let decision = self.state().begin(system, CallSeen { name, act: about.clone(), node: self.node.to_string() });
        let (fault, before, after) = match decision {
            Decision::Act { fault, before, after } => (fault, before, after),
            Decision::Cut => {
                return Err(Error::Unreachable { act: about, why: "connection refused (cut off)".to_owned() });
            }
            Decision::Hang => std::future::pending().await,
        };
        if !before.is_zero() {
            tokio::time::sleep(before).await;
        }
        if let Some(Fault::Refuse(error)) = fault {
            return Err(error);
        }
        let outcome = act(&mut self.state());
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
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

    /// Cuts a system off from this host's callers, or lets it answer again. What runs goes on running.
    pub fn unreachable(&self, system: System, cut: bool) {
        let (state, key) = (&mut *self.state(), (self.node.to_string(), system));
        if cut {
            state.calls.unreachable.insert(key);
        } else {
            state.calls.unreachable.remove(&key);
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
    fn begin(&mut self, system: System, call: CallSeen) -> Decision {
        let name = call.name;
        let latency = Duration::from_millis(self.options.delays.latency_ms);
        let calls = &mut self.calls;
        if let Some(left) = calls.left.as_mut() {
            if *left == 0 {
                calls.frozen = true;
                return Decision::Hang;
            }
            *left -= 1;
        }
        calls.total += 1;
        let fate = calls.ruler.0.as_mut().map_or_else(Fate::default, |ruler| ruler.of(system, &call));
        let about = call.act.clone();
        if self.options.remembers {
            if calls.seen.len() == CALLS_MAX {
                calls.seen.pop_front();
            }
            calls.seen.push_back(call);
        }
        if calls.unreachable.iter().any(|(node, cut)| *node == self.here && *cut == system) {
            return Decision::Cut;
        }
        let ruled = fate.mishap.map(|mishap| mishap.fault(about));
        let fault = calls.faults.get_mut(name).and_then(VecDeque::pop_front).or(ruled);
        Decision::Act { fault, before: latency + fate.before, after: fate.after }
    }
}
