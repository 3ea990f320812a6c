//! Ports: a fixed one belongs to one database of a host.

use std::collections::BTreeMap;

use super::Check;
use crate::contract::faults::Code;
use crate::model::HostId;
use crate::model::spec::PortRequest;

pub(super) fn check(check: &mut Check<'_>) {
    let mut taken: BTreeMap<(HostId, u16), usize> = BTreeMap::new();
    for (index, node) in check.nodes.iter().enumerate() {
        let PortRequest::Fixed(port) = node.port.value else { continue };
        // A host that is yet to be chosen is one that has the port free.
        for host in node.hosts(check.context) {
            let other = check.context.ports_in_use.get(&(host.clone(), port));
            if let Some(other) = other.filter(|other| *other != check.id) {
                let message = format!("port {port} of host \"{host}\" belongs to database \"{other}\"");
                let hint = "choose another one, or 0 to have one chosen";
                check.add_with_hint(Code::PortClash, node.port.pointer.clone(), message, hint);
            }
            let before = taken.insert((host.clone(), port), index).filter(|before| *before != index);
            if before.is_some() {
                let message = format!("port {port} of host \"{host}\" is asked for by two nodes");
                check.add(Code::PortClash, node.port.pointer.clone(), message);
            }
        }
    }
}
