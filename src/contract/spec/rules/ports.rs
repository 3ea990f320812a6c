//! Ports: a fixed one belongs to one database of a host, and there to its Postgres or to its pooler.

use std::collections::BTreeMap;

use super::super::effective::request;
use super::{Check, Effective};
use crate::contract::faults::{Code, pointer};
use crate::model::HostId;
use crate::model::spec::PortRequest;

/// A port that somebody asks for.
struct Asked {
    /// The node, and whether it is for its pooler.
    by: (usize, bool),
    port: u16,
    pointer: String,
}

pub(super) fn check(check: &mut Check<'_>) {
    let mut taken: BTreeMap<(HostId, u16), (usize, bool)> = BTreeMap::new();
    for (index, node) in check.nodes.iter().enumerate() {
        // A host that is yet to be chosen is one that has the port free.
        let hosts = node.hosts(check.context);
        for asked in asked(index, node) {
            let Asked { by, port, pointer } = asked;
            for host in &hosts {
                let other = check.context.ports_in_use.get(&(host.clone(), port));
                if let Some(other) = other.filter(|other| *other != check.id) {
                    let message = format!("port {port} of host \"{host}\" belongs to database \"{other}\"");
                    let hint = "choose another one, or 0 to have one chosen";
                    check.add_with_hint(Code::PortClash, pointer.clone(), message, hint);
                }
                match taken.insert((host.clone(), port), by).filter(|before| *before != by) {
                    Some((before, _)) if before == index => {
                        let message = format!("port {port} is asked for by Postgres and by the pooler");
                        let hint = "give the pooler another one, or 0 to have one chosen";
                        check.add_with_hint(Code::PortClash, pointer.clone(), message, hint);
                    }
                    Some(_) => {
                        let message = format!("port {port} of host \"{host}\" is asked for by two nodes");
                        check.add(Code::PortClash, pointer.clone(), message);
                    }
                    None => {}
                }
            }
        }
    }
}

/// The ports that a node asks for.
fn asked(index: usize, node: &Effective<'_>) -> Vec<Asked> {
    let fixed = |request: PortRequest, is_pooler: bool, pointer: String| match request {
        PortRequest::Fixed(port) => Some(Asked { by: (index, is_pooler), port, pointer }),
        PortRequest::Chosen | PortRequest::Unpublished => None,
    };
    let own = fixed(node.port.value, false, node.port.pointer.clone());
    let pooler = node.pooler.as_ref().and_then(|pooler| {
        let port = pooler.value.port?;
        fixed(request(port), true, pointer(&pooler.pointer, "port"))
    });
    own.into_iter().chain(pooler).collect()
}
