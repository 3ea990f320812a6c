//! Drift: what differs although nobody asked for a change. It is told from the work that a spec asks for by what is
//! remembered of each resource: as what it was last seen done.
//!
//! Invariants: nothing here decides what is to be done, the plan does; a clock that was set back makes no pause longer
//! than the longest; a memory that was lost finds no drift until
//! everything was seen once more, and ends every fight, which then begins anew: both are harmless. No secret is
//! remembered: differences are the plan's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::kinds::is_within;
use super::value::{Action, Change, Plan, Reason, Step};
use crate::model::observed::pairs;
use crate::model::{Digest, Graph, Kind, ResourceId};

/// The same drift (of one resource, in the same attributes) that comes back so often within [`FIGHT_WINDOW_MS`] is a fight.
pub const FIGHT_TIMES: usize = 3;
/// How close together drift must come back, and how long it must stay away until a fight is over: ten minutes.
pub const FIGHT_WINDOW_MS: i64 = 600_000;
/// How long the first repair within a fight waits: a minute. Each further one waits twice as long as the one before.
pub const FIGHT_PAUSE_MS: i64 = 60_000;
/// How long a repair waits at most: fifteen minutes.
pub const FIGHT_PAUSE_MAX_MS: i64 = 900_000;

/// How a resource differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What mends it.
    pub action: Action,
    /// What is wrong with it, in the planner's words.
    pub reason: Reason,
    /// What differs, without secrets; empty where it is not there, or nobody asked for it.
    pub changes: Vec<Change>,
}

/// What a look brought that was not known before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A resource drifted, or differs otherwise than was known.
    Found {
        /// Which.
        resource: ResourceId,
        /// How.
        difference: Difference,
    },
    /// Its drift came back too often: it is repaired after a pause only.
    Fight {
        /// Which.
        resource: ResourceId,
        /// How it differs this time.
        difference: Difference,
        /// How often it has drifted within the last ten minutes, or since the fight began.
        times: u32,
        /// When it is repaired: milliseconds since 1970.
        until_ms: i64,
    },
}

/// A drift that comes back again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fight {
    /// How often it has drifted.
    pub times: u32,
    /// It is not repaired before: milliseconds since 1970.
    pub until_ms: i64,
    /// When it last drifted or was repaired: milliseconds since 1970.
    pub last_ms: i64,
    /// Pauses so far.
    pauses: u32,
    /// What differs each time.
    what: String,
}

/// What is remembered of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct History {
    /// How it differs now.
    open: Option<Difference>,
    /// What differed when that began.
    opened: String,
    /// What differed when it began to drift, the last few times, and when: milliseconds since 1970.
    began: VecDeque<(String, i64)>,
    fight: Option<Fight>,
}

/// What is remembered of a scope from look to look.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The digest of all that a resource was asked to be when it was last seen to be so.
    #[serde(with = "pairs")]
    done: BTreeMap<ResourceId, Digest>,
    /// What was asked for; what nobody asks for any more stays until it is gone.
    asked: BTreeSet<ResourceId>,
    /// Whether there was ever nothing left to do.
    whole: bool,
    #[serde(with = "pairs")]
    histories: BTreeMap<ResourceId, History>,
}

/// One look.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// What is desired.
    pub desired: &'a Graph,
    /// What is to be done about it.
    pub plan: &'a Plan,
    /// When: milliseconds since 1970.
    pub now_ms: i64,
    /// Whether drift is repaired; what is only observed does not come back, so it is no fight.
    pub repairs: bool,
}

impl Memory {
    /// Takes in a look, and gives what it brought.
    pub fn take(&mut self, look: Look<'_>) -> Vec<News> {
        self.histories.values_mut().for_each(|history| history.not_after(look.now_ms));
        // Who is primary is nobody's wish.
        let steps = look.plan.steps().filter(|step| step.action != Action::Switchover);
        let steps: BTreeMap<&ResourceId, &Step> = steps.map(|step| (&step.resource, step)).collect();
        let waiting: BTreeSet<&ResourceId> = look.plan.waiting.iter().map(|waiting| &waiting.resource).collect();
        let mut news = Vec::new();
        for resource in look.desired.in_order() {
            let id = &resource.id;
            self.asked.insert(id.clone());
            let Some(digest) = look.desired.digest(id) else { continue };
            if self.done.get(id).is_some_and(|done| done != digest) {
                // The spec asks for something else: what is done about that is no repair.
                self.done.remove(id);
                self.histories.remove(id);
            }
            match steps.get(id) {
                Some(step) => {
                    let was_done = self.done.contains_key(id);
                    if let Some(difference) = was_done.then(|| difference(step)).flatten() {
                        news.extend(self.drifted(id, difference, look));
                    }
                }
                // What cannot be seen or must wait is as it was known.
                None if waiting.contains(id) => {}
                None => {
                    self.done.insert(id.clone(), digest.clone());
                    self.as_asked(id, look.now_ms);
                }
            }
        }
        news.extend(self.strays(look, &steps));
        self.whole |= look.plan.is_settled();
        self.histories.retain(|_, history| history.keep(look.now_ms));
        news
    }

    /// What is there and nobody asks for: drift, unless it was asked for before and is only not gone yet.
    fn strays(&mut self, look: Look<'_>, steps: &BTreeMap<&ResourceId, &Step>) -> Vec<News> {
        // What nobody asks for is known to be gone only when everything could be looked at.
        let gone = |id: &ResourceId| look.plan.is_settled() && !look.desired.contains(id);
        self.done.retain(|id, _| !gone(id));
        self.asked.retain(|id| !gone(id));
        let over: Vec<ResourceId> = self.histories.keys().filter(|id| gone(id)).cloned().collect();
        over.iter().for_each(|id| self.as_asked(id, look.now_ms));
        let mut news = Vec::new();
        for (id, step) in steps {
            let new = self.whole && !look.desired.contains(id) && !self.asked.contains(*id);
            if let Some(difference) = new.then(|| difference(step)).flatten() {
                news.extend(self.drifted(id, difference, look));
            }
        }
        news
    }

    fn drifted(&mut self, id: &ResourceId, difference: Difference, look: Look<'_>) -> Vec<News> {
        let history = self.histories.entry(id.clone()).or_default();
        let found = News::Found { resource: id.clone(), difference: difference.clone() };
        match history.open.replace(difference.clone()) {
            // Known; after a failed repair the reason is another, and what differs is the same.
            Some(known) if known.changes == difference.changes => return Vec::new(),
            // In a fight the other side may go on while a repair waits.
            Some(_) if history.fight.is_some() => return Vec::new(),
            Some(_) => return vec![found],
            None => {}
        }
        if !look.repairs {
            return vec![found];
        }
        let (now_ms, what) = (look.now_ms, difference.what());
        history.opened.clone_from(&what);
        history.began.retain(|(_, began)| now_ms.saturating_sub(*began) < FIGHT_WINDOW_MS);
        history.began.push_back((what.clone(), now_ms));
        let times = history.began.iter().filter(|(began, _)| *began == what).count();
        let fight = match history.fight.take() {
            Some(fight) if fight.what == what => {
                Fight { times: fight.times.saturating_add(1), pauses: fight.pauses.saturating_add(1), ..fight }
            }
            _ if times >= FIGHT_TIMES => {
                let times = u32::try_from(times).unwrap_or(u32::MAX);
                Fight { times, pauses: 1, until_ms: now_ms, last_ms: now_ms, what }
            }
            other => {
                history.fight = other;
                return vec![found];
            }
        };
        let fight = Fight { until_ms: now_ms.saturating_add(pause_ms(fight.pauses)), last_ms: now_ms, ..fight };
        let told = News::Fight { resource: id.clone(), difference, times: fight.times, until_ms: fight.until_ms };
        history.fight = Some(fight);
        vec![found, told]
    }

    fn as_asked(&mut self, id: &ResourceId, now_ms: i64) {
        let Some(history) = self.histories.get_mut(id) else { return };
        if history.open.take().is_some()
            && let Some(fight) = &mut history.fight
        {
            fight.last_ms = now_ms;
        }
    }

    /// What differs now although nobody asked for a change.
    pub fn open(&self) -> impl Iterator<Item = (&ResourceId, &Difference)> {
        self.histories.iter().filter_map(|(id, history)| Some((id, history.open.as_ref()?)))
    }

    /// The fights that go on.
    pub fn fights(&self) -> impl Iterator<Item = (&ResourceId, &Fight)> {
        self.histories.iter().filter_map(|(id, history)| Some((id, history.fight.as_ref()?)))
    }

    /// Until when a resource's drift is not repaired, in milliseconds since 1970; none: it may be.
    #[must_use]
    pub fn held_until_ms(&self, id: &ResourceId) -> Option<i64> {
        let history = self.histories.get(id)?;
        history.open.as_ref()?;
        history.fight.as_ref().filter(|fight| fight.what == history.opened).map(|fight| fight.until_ms)
    }

    /// Whether a resource was seen done as it is asked now.
    #[must_use]
    pub fn is_done(&self, desired: &Graph, id: &ResourceId) -> bool {
        desired.digest(id).is_some_and(|digest| self.done.get(id) == Some(digest))
    }

    /// A resource was done as it is asked now, without a look.
    pub fn note_done(&mut self, desired: &Graph, id: &ResourceId) {
        if let Some(digest) = desired.digest(id) {
            self.done.insert(id.clone(), digest.clone());
        }
    }

    /// Something else is asked of these than was, which their digest does not tell: a password is no part of it.
    pub fn ask_anew(&mut self, ids: impl IntoIterator<Item = ResourceId>) {
        for id in ids {
            self.done.remove(&id);
            self.histories.remove(&id);
        }
    }

    /// Whether the spec asks for what was not done yet, as far as is remembered: something else than the repair of drift
    /// and what follows from it. The record is pgmoor's own, and nobody asks for it.
    #[must_use]
    pub fn asks_for_more(&self, desired: &Graph, plan: &Plan) -> bool {
        let mut others = desired.in_order().filter(|resource| resource.id.kind != Kind::Record);
        let new = others.any(|resource| !self.is_done(desired, &resource.id));
        let mut deletes = plan.steps().filter(|step| step.reason == Reason::NotDesired);
        new || deletes.any(|step| self.asked.contains(&step.resource))
    }
}

impl History {
    /// The clock may have been set back: what was in what is now the future counts as being now.
    fn not_after(&mut self, now_ms: i64) {
        self.began.iter_mut().for_each(|(_, began_ms)| *began_ms = now_ms.min(*began_ms));
        if let Some(fight) = &mut self.fight {
            fight.last_ms = now_ms.min(fight.last_ms);
            fight.until_ms = now_ms.saturating_add(FIGHT_PAUSE_MAX_MS).min(fight.until_ms);
        }
    }

    /// Whether anything of it still matters.
    fn keep(&mut self, now_ms: i64) -> bool {
        if self.open.is_some() {
            return true;
        }
        let past = |then_ms: i64| now_ms.saturating_sub(then_ms) >= FIGHT_WINDOW_MS;
        if self.fight.as_ref().is_some_and(|fight| past(fight.last_ms)) {
            self.fight = None;
            self.began.clear();
        }
        self.fight.is_some() || self.began.iter().any(|(_, began)| !past(*began))
    }
}

/// The pause before the repair after this many pauses.
fn pause_ms(pauses: u32) -> i64 {
    let doubled = 2_i64.checked_pow(pauses.saturating_sub(1)).unwrap_or(i64::MAX);
    FIGHT_PAUSE_MS.saturating_mul(doubled).min(FIGHT_PAUSE_MAX_MS)
}

/// How a resource that was as asked differs now; none when that follows from something else: time, or what it is made
/// from.
fn difference(step: &Step) -> Option<Difference> {
    let changes: Vec<Change> =
        step.changes.iter().filter(|change| by_hand(step.resource.kind, &change.pointer)).cloned().collect();
    let drift = match &step.reason {
        Reason::Forced | Reason::IsInterrupted | Reason::Leaves => false,
        Reason::DoesNotExist | Reason::NotDesired => true,
        // Nothing differs and nothing below it does: its mark of what it was applied with was changed.
        Reason::DependencyUpdated { by } => !changes.is_empty() || by.is_empty(),
        Reason::NeedsRecreate | Reason::HasError { .. } => step.changes.is_empty() || !changes.is_empty(),
        Reason::HasDiff => !changes.is_empty(),
    };
    let drift = drift && (step.resource.kind != Kind::Instance || !changes.is_empty());
    drift.then(|| Difference { action: step.action, reason: step.reason.clone(), changes })
}

/// Whether only somebody's hand changes this attribute. A certificate ages; an instance is up or not, and loads what it
/// is given, unless `ALTER SYSTEM` gave it something else.
fn by_hand(kind: Kind, pointer: &str) -> bool {
    match kind {
        Kind::Certificate => pointer != "/fresh",
        Kind::Instance => is_within(pointer, "/alter_system"),
        Kind::Record
        | Kind::Directory
        | Kind::File
        | Kind::Network
        | Kind::Service
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::PatroniConfig
        | Kind::Role
        | Kind::Database
        | Kind::Extension
        | Kind::Script => true,
    }
}

impl Difference {
    /// What differs, without how: by it a drift that comes back is known again.
    fn what(&self) -> String {
        let pointers: Vec<&str> = self.changes.iter().map(|change| change.pointer.as_str()).collect();
        format!("{:?} {}", self.action, pointers.join(" "))
    }
}

impl std::fmt::Display for Difference {
    /// What is wrong, as the rest of a sentence that begins with the resource.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reason {
            Reason::DoesNotExist => return f.write_str("is not there"),
            Reason::NotDesired => return f.write_str("is there and nobody asked for it"),
            Reason::HasError { error } if self.changes.is_empty() => return write!(f, "is not right: {error}"),
            Reason::NeedsRecreate
            | Reason::HasError { .. }
            | Reason::Forced
            | Reason::DependencyUpdated { .. }
            | Reason::HasDiff
            | Reason::IsInterrupted
            | Reason::Leaves => {}
        }
        if self.changes.is_empty() {
            return f.write_str("does not carry the mark of what it was applied with");
        }
        for (index, change) in self.changes.iter().enumerate() {
            let comma = if index == 0 { "differs: " } else { ", " };
            write!(f, "{comma}{}", change.pointer)?;
            match (&change.from, &change.to) {
                (None, None) => {}
                (Some(from), Some(to)) => write!(f, " is {from}, asked is {to}")?,
                (Some(from), None) => write!(f, " is {from}, asked is nothing")?,
                (None, Some(to)) => write!(f, " is missing, asked is {to}")?,
            }
        }
        Ok(())
    }
}
