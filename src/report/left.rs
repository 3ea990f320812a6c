//! A deleted database of which something is left on hosts that do not answer, and says so.

use std::collections::BTreeSet;

use super::conditions::Found;
use crate::contract::documents::ConditionType;
use crate::model::HostId;

/// What is left, where, and when it goes.
pub(super) fn found(left_on: &BTreeSet<HostId>) -> Found {
    let hosts: Vec<&str> = left_on.iter().map(HostId::as_str).collect();
    let (hosts, verb) = (hosts.join(", "), if hosts.len() == 1 { "does" } else { "do" });
    Found {
        kind: ConditionType::Waiting,
        reason: "LeftBehind".to_owned(),
        message: format!(
            "it is gone but for what is on the disk of {hosts}, which {verb} not answer: that goes when the host answers again"
        ),
        hint: Some(format!(
            "start {hosts}, or see why its pgmoor does not reach the broker; if it never comes back, `pgmoor host remove --force`"
        )),
    }
}
