//! Why a database is as it is: the chain from the wish down to the cause, and what to do, from documents that stand
//! retained on the topics. So it can be asked when the daemon is dead.
//!
//! Invariants: pure; general over conditions and over what a plan waits for, so a condition that is added later is
//! told without a change here; nothing is said twice.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contract::documents::{
    Availability, Condition, ConditionStatus, ConditionType, HealthDoc, HostStatus, OnlineState, PlanDoc, PlanStep,
    State, Status, StepState, Time, Trash, VerdictResult,
};
use crate::model::{DatabaseId, Health, InstanceId};

/// What stands on the topics.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// `databases/{db}/status`.
    pub status: Option<Status>,
    /// `databases/{db}/plan`.
    pub plan: Option<PlanDoc>,
    /// `databases/{db}/instances/+/health`.
    pub instances: BTreeMap<InstanceId, HealthDoc>,
    /// `hosts/+/status`.
    pub hosts: Vec<HostStatus>,
    /// `controllers/+/availability`.
    pub controllers: Vec<Availability>,
}

impl Known {
    /// The host in whose trash the data of a deleted database is: its own topics are cleared.
    #[must_use]
    pub fn in_trash(&self, database: &DatabaseId) -> Option<(&HostStatus, &Trash)> {
        let mut hosts = self.hosts.iter().filter(|_| self.status.is_none());
        hosts.find_map(|host| Some((host, host.inventory.trash.get(database)?)))
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The database.
    pub database: DatabaseId,
    /// Whether it is as its spec asks, and somebody watches over that.
    pub fine: bool,
    /// From the wish down to the cause: each because of the next.
    pub chain: Vec<Link>,
    /// What is to be known besides.
    pub besides: Vec<Link>,
    /// What to do, the first first; empty: nothing.
    pub todo: Vec<String>,
}

/// One thing that is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// What, as a sentence for people.
    pub what: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When it goes on by itself, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// How many steps, and how many waits, are told: the others follow from them as a rule.
const TOLD_MAX: usize = 3;

/// Explains a database from what stands on the topics at `now`.
#[must_use]
pub fn explain(database: &DatabaseId, known: &Known, now: Time) -> Explanation {
    let mut answer = Answer {
        explanation: Explanation {
            database: database.clone(),
            fine: true,
            chain: vec![],
            besides: vec![],
            todo: vec![],
        },
    };
    let in_trash = known.in_trash(database);
    match in_trash {
        Some((host, trash)) => answer.in_trash(database, host, trash),
        None => answer.head(database, known.status.as_ref()),
    }
    let watched = answer.controllers(&known.controllers);
    if let Some(status) = &known.status {
        if !matches!(status.state, State::Available | State::Deleted | State::Rejected) {
            answer.instances(&known.instances);
            known.plan.iter().for_each(|plan| answer.steps(plan, &causes(status)));
        }
        answer.causes(status);
    }
    answer.hosts(&known.hosts, now);
    if let Some(status) = &known.status {
        answer.verdict(status);
        answer.conditions(status);
    }
    if !watched {
        answer.explanation.besides.push(link(
            "the database itself is untouched by that: Swarm keeps its container, Patroni its Postgres; what stands here \
             is what was said last"
                .to_owned(),
            known.status.as_ref().map(|status| status.updated_at),
        ));
    }
    answer.explanation
}

fn link(what: String, since: Option<Time>) -> Link {
    Link { what, since, until: None }
}

struct Answer {
    explanation: Explanation,
}

impl Answer {
    /// Adds to the chain what was not said yet.
    fn because(&mut self, link: Link) {
        self.explanation.fine = false;
        if !self.said(&link.what) {
            self.explanation.chain.push(link);
        }
    }

    fn said(&self, words: &str) -> bool {
        self.explanation.chain.iter().any(|old| old.what.contains(words))
    }

    fn besides(&mut self, link: Link) {
        self.explanation.fine = false;
        self.explanation.besides.push(link);
    }

    fn todo(&mut self, hint: Option<&str>) {
        if let Some(hint) = hint.filter(|hint| !self.explanation.todo.iter().any(|old| old == hint)) {
            self.explanation.todo.push(hint.to_owned());
        }
    }

    fn head(&mut self, database: &DatabaseId, status: Option<&Status>) {
        let Some(status) = status else {
            self.because(link(format!("nothing was said about database {database} yet"), None));
            return;
        };
        let word = match status.state {
            State::Pending => "waits to be begun",
            State::Creating => "is being created",
            State::Modifying => "is being changed",
            State::Available => "is available",
            State::Degraded => "serves without a part of it",
            State::Stalled => "is stalled",
            State::Failed => "has failed, and is tried again",
            State::Deleting => "is being deleted",
            State::Deleted => "is deleted; its data is in the trash",
            State::Rejected => "does not exist: its spec was rejected",
        };
        let ready = condition(status, ConditionType::Ready);
        let head = link(format!("database {database} {word}"), ready.map(|ready| ready.since));
        self.explanation.chain.push(head);
        self.explanation.fine = matches!(status.state, State::Available | State::Deleted);
    }

    /// It was deleted, and can be had back.
    fn in_trash(&mut self, database: &DatabaseId, host: &HostStatus, trash: &Trash) {
        let (name, left_ms) = (&host.host, i64::try_from(trash.keeps_for_s.saturating_mul(1000)).unwrap_or(i64::MAX));
        let what = if trash.keeps_for_s == 0 {
            format!("database {database} is deleted; its data is being purged from the trash of {name}")
        } else {
            let until = Time::from_ms(host.updated_at.ms().saturating_add(left_ms));
            self.todo(Some(&format!("to have it back: `pgmoor undelete {database}`")));
            self.todo(Some(&format!("to free its id and its disk now: `pgmoor purge {database}`")));
            format!(
                "database {database} is deleted; its data is in the trash of {name} until {until}, and as much longer as \
                 pgmoor does not run meanwhile"
            )
        };
        self.explanation.chain.push(link(what, Some(trash.deleted_at)));
    }

    /// Whether somebody is there to act.
    fn controllers(&mut self, controllers: &[Availability]) -> bool {
        if controllers.iter().any(|controller| controller.state == OnlineState::Online) {
            return true;
        }
        for controller in controllers {
            let word = match controller.state {
                OnlineState::Online => "is online",
                OnlineState::Offline => "was stopped",
                OnlineState::Lost => "is lost: it died, or its connection to the broker did",
            };
            self.because(link(format!("controller {} {word}", controller.controller), Some(controller.since)));
        }
        if controllers.is_empty() {
            self.because(link("no controller of this fleet was ever seen at this broker".to_owned(), None));
        }
        self.todo(Some("start pgmoor on its host: `systemctl start pgmoor`, or see `journalctl -u pgmoor`"));
        false
    }

    fn instances(&mut self, instances: &BTreeMap<InstanceId, HealthDoc>) {
        for (instance, health) in instances.iter().filter(|(_, health)| health.health == Health::Down) {
            let why = health.reason.as_deref().unwrap_or("it does not answer");
            self.because(link(format!("instance {instance} does not serve: {why}"), Some(health.since)));
        }
    }

    /// Hosts that cannot work, and what keeps the fleet's own services from running there.
    fn hosts(&mut self, hosts: &[HostStatus], now: Time) {
        for host in hosts {
            let valid_ms = i64::from(host.health.valid_for_s).saturating_mul(1000);
            let stale = now.ms() > host.health.checked_at.ms().saturating_add(valid_ms);
            if stale {
                let what = format!("host {} has not been heard of", host.host);
                self.because(link(what, Some(host.health.checked_at)));
            } else if matches!(host.health.health, Health::Down | Health::Degraded) {
                let why = host.health.reason.as_deref().unwrap_or("it cannot work");
                let word = if host.health.health == Health::Down { "cannot work" } else { "is in trouble" };
                self.because(link(format!("host {} {word}: {why}", host.host), Some(host.health.since)));
                self.todo(super::trouble::diagnose(why).map(|found| found.hint).as_deref());
            }
            let told = |condition: &&Condition| !self.said(&condition.message);
            let news: Vec<&Condition> = host.conditions.iter().filter(told).collect();
            for condition in news {
                let what = format!("host {}: {}: {}", host.host, condition.reason, condition.message);
                self.because(link(what, Some(condition.since)));
                self.todo(condition.hint.as_deref());
            }
        }
    }

    /// Which step runs, failed or waits, since when, for what.
    fn steps(&mut self, plan: &PlanDoc, causes: &[&Condition]) {
        let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
        for step in steps.filter_map(|step| told_step(step, causes)).take(TOLD_MAX) {
            self.because(step);
        }
        for wait in plan.waiting.iter().take(TOLD_MAX) {
            let what = wait.resource.as_deref().unwrap_or("the whole plan");
            let reason = &wait.reason;
            let what = match reason.strip_prefix("it ") {
                Some(reason) => format!("{what} {reason}"),
                None if reason.starts_with(what) => reason.clone(),
                None => format!("{what} waits: {reason}"),
            };
            self.because(Link { what, since: wait.since, until: wait.until });
        }
    }

    /// The conditions that say why it is as it is; the last link of the chain is the cause.
    fn causes(&mut self, status: &Status) {
        for cause in causes(status) {
            self.because(link(cause.message.clone(), Some(cause.since)));
            let last = self.explanation.chain.last_mut().filter(|last| last.what == cause.message);
            if let Some(last) = last.filter(|_| cause.kind != ConditionType::Stalled) {
                last.what = format!("{}: {}", cause.reason, last.what);
            }
            self.todo(cause.hint.as_deref());
        }
    }

    fn verdict(&mut self, status: &Status) {
        let Some(verdict) = status.verdict.as_ref().filter(|verdict| verdict.result == VerdictResult::Rejected) else {
            return;
        };
        let kept = if status.observed.is_some() { "; the database stays as the spec before it asks" } else { "" };
        let what = format!("the last spec ({}) was rejected{kept}", verdict.digest.short());
        let refused = link(what, Some(verdict.at));
        let faults = verdict.faults.iter().map(|fault| {
            let place = if fault.pointer.is_empty() { "(document)" } else { &fault.pointer };
            link(format!("{place}: {} [{}]", fault.message, fault.code), None)
        });
        let told: Vec<Link> = std::iter::once(refused).chain(faults).collect();
        for link in told {
            if status.state == State::Rejected { self.because(link) } else { self.besides(link) }
        }
        for fault in &verdict.faults {
            self.todo(fault.hint.as_deref());
        }
        self.todo(Some("publish a spec without these faults"));
    }

    /// Whatever else holds.
    fn conditions(&mut self, status: &Status) {
        let told = [ConditionType::Ready, ConditionType::Progressing, ConditionType::Stalled, ConditionType::Waiting];
        let holds =
            |condition: &&Condition| condition.status == ConditionStatus::True && !told.contains(&condition.kind);
        for condition in status.conditions.iter().filter(holds) {
            self.besides(link(format!("{:?}: {}", condition.kind, condition.message), Some(condition.since)));
            self.todo(condition.hint.as_deref());
        }
    }
}

fn condition(status: &Status, kind: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
}

/// The conditions that tell why it is not as its spec asks, from the effect to the cause.
fn causes(status: &Status) -> Vec<&Condition> {
    let holds = |kind| condition(status, kind).filter(|condition| condition.status == ConditionStatus::True);
    let ready = condition(status, ConditionType::Ready).filter(|ready| ready.status == ConditionStatus::False);
    let all = [holds(ConditionType::Stalled), holds(ConditionType::Waiting), ready];
    // These say no more than the state does.
    let empty = ["Deleted", "InProgress", "NoSpec", "Checking"];
    all.into_iter().flatten().filter(|cause| !empty.contains(&cause.reason.as_str())).collect()
}

/// A step that runs or failed; its error only when no condition tells it.
fn told_step(step: &PlanStep, causes: &[&Condition]) -> Option<Link> {
    let progress = step.progress.as_ref()?;
    let action = format!("{:?}", step.action).to_lowercase();
    let resource = &step.resource;
    let error = progress.error.as_deref().filter(|error| !causes.iter().any(|cause| cause.message.contains(error)));
    match progress.state {
        StepState::Done => None,
        StepState::Running => {
            let waits = error.map(|error| format!(", and waits: {error}")).unwrap_or_default();
            Some(link(format!("step {action} {resource} runs{waits}"), Some(progress.since)))
        }
        StepState::Failed => {
            let times = if progress.attempts == 1 { "once".to_owned() } else { format!("{} times", progress.attempts) };
            let why = error.map(|error| format!(": {error}")).unwrap_or_default();
            let what = format!("step {action} {resource} failed {times}{why}");
            Some(Link { what, since: Some(progress.since), until: progress.retry_at })
        }
    }
}
