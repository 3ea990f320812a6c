//! Several nodes: who is removed, and that nobody is forgotten.
//!
//! Invariant: absence is no removal (rule 4 of the design): a node of the spec that is applied stands in the next one, as
//! it is or with the word that removes it.

use super::super::effective::{DEFAULT_NODE, previous_node};
use super::Check;
use crate::contract::faults::{Code, pointer};

pub(super) fn check(check: &mut Check<'_>) {
    order(check);
    missing(check);
    removed(check);
}

/// Where there is one node there is no order among nodes.
fn order(check: &mut Check<'_>) {
    let several = check.spec.nodes.as_ref().is_some_and(|nodes| nodes.len() > 1);
    if check.spec.node_updates.is_some() && !several {
        check.add_with_hint(
            Code::Conflict,
            "/node_updates",
            "there is one node, so there is no order of nodes",
            "leave it out, or list more than one of nodes",
        );
    }
}

fn missing(check: &mut Check<'_>) {
    let Some(previous) = check.context.previous else { return };
    let listed = |name: &str| match check.spec.nodes.as_deref() {
        None | Some([]) => name == DEFAULT_NODE,
        Some(nodes) => nodes.iter().any(|node| node.name == name),
    };
    let missing: Vec<String> =
        previous.nodes.iter().map(|node| node.name.as_str()).filter(|name| !listed(name)).map(str::to_owned).collect();
    for name in missing {
        let message = format!("the database has node {name}, and the spec does not; leaving it out does not remove it");
        let hint = format!(
            "list {name} as it was, or with \"deleted\": true: then it goes, and its data moves to the trash; a node of \
             another name is another one, with data of its own"
        );
        check.add_with_hint(Code::NodeMissing, "/nodes", message, hint);
    }
}

fn removed(check: &mut Check<'_>) {
    let nodes = check.spec.nodes.as_deref().unwrap_or_default();
    let mut left = nodes.len();
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.deleted == Some(true)) {
        left -= 1;
        let protected = check.context.previous.is_some_and(|previous| previous.deletion_protection);
        if protected && previous_node(Some(node), check.context).is_some() {
            check.add_with_hint(
                Code::DeletionProtected,
                pointer(&pointer("/nodes", index), "deleted"),
                format!("the database is protected against deletion, and {} is a part of it", node.name),
                "publish the spec with \"deletion_protection\": false first, wait until it is accepted, then remove it",
            );
        }
    }
    if left == 0 && !nodes.is_empty() {
        check.add_with_hint(
            Code::Conflict,
            "/nodes",
            "every node is removed, and a database has one at least",
            "to delete the database with all of its nodes, say \"deleted\": true at the top of the spec",
        );
    }
}
