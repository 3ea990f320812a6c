//! What the contract knows and this build does not act on. Read from the document itself, so that a part whose form
//! is wrong is named here too.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Check;
use crate::contract::faults::{Code, pointer};
use crate::model::HostId;

const OF_DATABASE: [(&str, &str); 5] = [
    ("services", "services beside a database are"),
    ("backup_config", "backups are"),
    ("restore_config", "making a database from a backup is"),
    ("spock_version", "choosing a version of spock is"),
    ("patroni_port", "a port of Patroni's own is (it belongs to systemd)"),
];

const OF_NODE: [(&str, &str); 4] = [
    ("backup_config", "backups are"),
    ("restore_config", "making a database from a backup is"),
    ("source_node", "adding a node to a database is"),
    ("patroni_port", "a port of Patroni's own is (it belongs to systemd)"),
];

pub(super) fn check(check: &mut Check<'_>) {
    fields(check, check.document, "", &OF_DATABASE);
    let Some(nodes) = check.document.get("nodes").and_then(Value::as_array) else {
        return;
    };
    // A wrong value of it is told by the schema.
    let replicate = check.document.get("node_replication").is_none();
    let removed = |node: &Value| node.get("deleted") == Some(&Value::Bool(true));
    let mut live = 0_usize;
    for (index, node) in nodes.iter().enumerate() {
        let place = pointer("/nodes", index);
        fields(check, node, &place, &OF_NODE);
        if removed(node) {
            continue;
        }
        live += 1;
        if live > 1 && replicate {
            let message = "nodes that replicate to each other are not supported by this build yet";
            let hint = "with \"node_replication\": \"none\" each node is a database of its own, writable apart from the \
                        others";
            check.add_with_hint(Code::Unsupported, place.clone(), message, hint);
        }
        unknown_hosts(check, node, &place);
    }
}

fn fields(check: &mut Check<'_>, object: &Value, place: &str, known: &[(&str, &str)]) {
    for (name, what) in known {
        let nothing = object.get(name).is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
        if !nothing {
            add(check, pointer(place, name), what);
        }
    }
}

fn unknown_hosts(check: &mut Check<'_>, node: &Value, place: &str) {
    let Some(known) = check.context.known_hosts else { return };
    let hosts = node.get("host_ids").and_then(Value::as_array).into_iter().flatten();
    for (index, host) in hosts.enumerate() {
        let Some(host) = host.as_str() else { continue };
        let place = format!("{place}/host_ids/{index}");
        let names = |hosts: &BTreeSet<HostId>| hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if !known.iter().any(|known| known.as_str() == host) {
            let hint = format!("hosts of the fleet: {}", names(known));
            check.add_with_hint(Code::UnknownHost, place, format!("the fleet has no host \"{host}\""), hint);
        } else if is_drained(check, host) {
            check.add(Code::HostDrained, place, format!("host \"{host}\" is to be left: it gets no new instances"));
        }
    }
}

/// Whether a host gets nothing new, and the spec that is applied now does not name it already.
fn is_drained(check: &Check<'_>, host: &str) -> bool {
    let is_it = |one: &HostId| one.as_str() == host;
    let before = check.context.previous.is_some_and(|spec| spec.nodes.iter().any(|node| node.hosts.iter().any(is_it)));
    !before && check.context.drained_hosts.is_some_and(|drained| drained.iter().any(is_it))
}

fn add(check: &mut Check<'_>, pointer: String, what: &str) {
    check.add_with_hint(
        Code::Unsupported,
        pointer,
        format!("{what} not supported by this build yet"),
        "leave it out: nothing that is not acted on is accepted",
    );
}
