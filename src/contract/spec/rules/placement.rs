//! Hosts that are left open: what is asked of them excludes naming them.

use super::Check;
use crate::contract::faults::{Code, pointer};
use crate::contract::wire::HostLabelsSpec;
use crate::model::labels::{HOST_LABEL_NAME_RULE, is_host_label_name};

/// What asks of hosts that are left open.
const FIELDS: [&str; 2] = ["replicas", "host_labels"];

pub(super) fn check(check: &mut Check<'_>) {
    let spec = check.spec;
    labels(check, spec.host_labels.as_ref(), "");
    let nodes = spec.nodes.as_deref().unwrap_or_default();
    for (index, node) in nodes.iter().enumerate() {
        let place = pointer("/nodes", index);
        labels(check, node.host_labels.as_ref(), &place);
        let said = [node.replicas.is_some(), node.host_labels.is_some()];
        if !node.host_ids.is_empty() {
            both(check, said, &place, "the node names its hosts");
        }
    }
    if !nodes.is_empty() && nodes.iter().all(|node| !node.host_ids.is_empty()) {
        both(check, [spec.replicas.is_some(), spec.host_labels.is_some()], "", "every node names its hosts");
    }
}

fn both(check: &mut Check<'_>, said: [bool; 2], place: &str, why: &str) {
    for (field, _) in FIELDS.iter().zip(said).filter(|(_, said)| *said) {
        let message = format!("\"{field}\" is for hosts that pgmoor chooses, and {why}");
        let hint = format!("take either \"{field}\" or \"host_ids\" out");
        check.add_with_hint(Code::Conflict, pointer(place, field), message, hint);
    }
}

fn labels(check: &mut Check<'_>, labels: Option<&HostLabelsSpec>, place: &str) {
    let names = labels.into_iter().flat_map(|labels| labels.0.keys());
    for name in names.filter(|name| !is_host_label_name(name)) {
        let place = pointer(&pointer(place, "host_labels"), name);
        check.add(Code::InvalidFormat, place, format!("a label's name has {HOST_LABEL_NAME_RULE}"));
    }
}
