//! The forecast of what a step does to what runs now.
//!
//! Invariants: nothing is counted twice (an instance whose container is replaced does not also restart), and what
//! does not run cannot be disturbed.

use super::kinds::is_within;
use super::value::{Action, Change, Disruption, Step};
use crate::model::parameters::restart_required;
use crate::model::{Attributes, Dependency, Kind, Present, Resource, ResourceId};

/// A step in the making.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) resource: &'a Resource,
    pub(super) present: Option<&'a Present>,
    pub(super) action: Action,
    pub(super) changes: &'a [Change],
}

/// What the step does to what runs. `step_of` gives the steps that were decided before it.
pub(super) fn forecast<'a>(subject: &Subject<'_>, step_of: impl Fn(&ResourceId) -> Option<&'a Step>) -> Disruption {
    let below = || subject.resource.dependencies.iter().filter_map(|(id, why)| Some((step_of(id)?, *why)));
    match subject.resource.id.kind {
        Kind::Service => service(subject, below().map(|(step, _)| step)),
        Kind::Instance => instance(subject, below),
        Kind::Record
        | Kind::Directory
        | Kind::File
        | Kind::Certificate
        | Kind::Network
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::PatroniConfig
        | Kind::Role
        | Kind::Database
        | Kind::Extension
        | Kind::Script => Disruption::None,
    }
}

/// What deleting something of this kind does.
pub(super) fn of_delete(kind: Kind) -> Disruption {
    match kind {
        Kind::Service => Disruption::Replace,
        Kind::Record
        | Kind::Directory
        | Kind::File
        | Kind::Certificate
        | Kind::Network
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::PatroniConfig
        | Kind::Instance
        | Kind::Role
        | Kind::Database
        | Kind::Extension
        | Kind::Script => Disruption::None,
    }
}

/// Labels of the service are no part of its task; all else is, and so is the identity of a network it is attached to.
fn service<'a>(subject: &Subject<'_>, mut below: impl Iterator<Item = &'a Step>) -> Disruption {
    let changes_task = || subject.changes.iter().any(|change| !is_within(&change.pointer, "/labels"));
    let mut new_network = || below.any(|step| step.resource.kind == Kind::Network && makes_anew(step.action));
    match subject.action {
        Action::Create => Disruption::None,
        Action::Recreate | Action::Delete => Disruption::Replace,
        Action::Switchover => Disruption::Restart,
        Action::Update if changes_task() || new_network() => Disruption::Replace,
        Action::Update => Disruption::None,
    }
}

fn instance<'a, I>(subject: &Subject<'_>, below: impl Fn() -> I) -> Disruption
where
    I: Iterator<Item = (&'a Step, Dependency)>,
{
    let Some(Attributes::Instance(observed)) = subject.present.map(|present| &present.attributes) else {
        return Disruption::None;
    };
    let counted_there = below().any(|(step, _)| {
        step.resource.kind == Kind::Service && (makes_anew(step.action) || step.disruption == Disruption::Replace)
    });
    if !observed.running || counted_there {
        return Disruption::None;
    }
    let content = || below().filter(|(_, why)| *why == Dependency::Content).map(|(step, _)| step);
    if observed.pending_restart || content().any(needs_restart) {
        return Disruption::Restart;
    }
    let own = !subject.changes.is_empty();
    if own || content().any(|step| is_read_by_postgres(step.resource.kind)) {
        return Disruption::Reload;
    }
    Disruption::None
}

fn makes_anew(action: Action) -> bool {
    match action {
        Action::Create | Action::Recreate => true,
        Action::Update | Action::Delete | Action::Switchover => false,
    }
}

fn needs_restart(step: &Step) -> bool {
    step.resource.kind == Kind::PatroniConfig
        && step.changes.iter().any(|change| change.pointer.strip_prefix("/parameters/").is_some_and(restart_required))
}

fn is_read_by_postgres(kind: Kind) -> bool {
    match kind {
        Kind::File | Kind::Certificate | Kind::PatroniConfig => true,
        Kind::Record
        | Kind::Directory
        | Kind::Network
        | Kind::Service
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::Instance
        | Kind::Role
        | Kind::Database
        | Kind::Extension
        | Kind::Script => false,
    }
}
