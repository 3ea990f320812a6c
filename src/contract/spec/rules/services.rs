//! `services`: their rules hold although this build refuses them as a whole.

use std::collections::BTreeSet;

use super::Check;
use crate::contract::faults::{Code, pointer};
use crate::contract::wire::{ServiceSpec, TargetSessionAttrs};

/// Database id and service id together (reference 1.6): the Swarm name `{db}-{service}-{8}` has 63 characters at most.
const IDS_CHARS_MAX: usize = 53;

pub(super) fn check(check: &mut Check<'_>) {
    let mut ids = BTreeSet::new();
    for (index, service) in check.spec.services.iter().enumerate() {
        let place = pointer("/services", index);
        if !ids.insert(service.service_id.as_str()) {
            let message =
                format!("service IDs must be unique within a database: \"{}\" stands twice", service.service_id);
            check.add(Code::DuplicateName, pointer(&place, "service_id"), message);
        }
        let together = check.id.as_str().len() + service.service_id.len();
        if together > IDS_CHARS_MAX {
            let message = format!(
                "database ID and service ID combined must not exceed {IDS_CHARS_MAX} characters (got {together})"
            );
            check.add(Code::OutOfRange, pointer(&place, "service_id"), message);
        }
        hosts(check, service, &place);
        connection(check, service, &place);
        options(check, service, &place);
    }
}

fn hosts(check: &mut Check<'_>, service: &ServiceSpec, place: &str) {
    let mut hosts = BTreeSet::new();
    for (index, host) in service.host_ids.iter().enumerate() {
        if !hosts.insert(host.as_str()) {
            let message = format!("host IDs must be unique within a service: \"{host}\" stands twice");
            check.add(Code::DuplicateName, format!("{place}/host_ids/{index}"), message);
        }
    }
}

fn connection(check: &mut Check<'_>, service: &ServiceSpec, place: &str) {
    let users = check.spec.database_users.as_deref().unwrap_or_default();
    if !users.iter().any(|user| user.username == service.connect_as) {
        let message = format!("connect_as \"{}\" does not match any database_users entry", service.connect_as);
        check.add(Code::UnknownReference, pointer(place, "connect_as"), message);
    }
    let Some(connection) = &service.database_connection else { return };
    let place = pointer(place, "database_connection");
    let mut seen = BTreeSet::new();
    for (index, node) in connection.target_nodes.iter().enumerate() {
        let place = format!("{place}/target_nodes/{index}");
        let exists = match &check.spec.nodes {
            Some(nodes) => nodes.iter().any(|known| known.name == *node),
            None => node == super::super::effective::DEFAULT_NODE,
        };
        if !exists {
            let message = format!("node \"{node}\" does not exist in the database spec");
            check.add(Code::UnknownReference, place, message);
        } else if !seen.insert(node.as_str()) {
            check.add(Code::DuplicateName, place, format!("duplicate node name \"{node}\""));
        }
    }
    let writes = service.config.as_ref().and_then(|config| config.0.get("allow_writes")) == Some(&true.into());
    let to_primary = [None, Some(TargetSessionAttrs::Primary), Some(TargetSessionAttrs::ReadWrite)];
    if writes && !to_primary.contains(&connection.target_session_attrs) {
        let message = "allow_writes requires target_session_attrs 'primary' or 'read-write'";
        check.add(Code::Conflict, pointer(&place, "target_session_attrs"), message);
    }
}

fn options(check: &mut Check<'_>, service: &ServiceSpec, place: &str) {
    let Some(swarm) = service.orchestrator_opts.as_ref().and_then(|options| options.swarm.as_ref()) else { return };
    let place = format!("{place}/orchestrator_opts/swarm");
    if !swarm.extra_volumes.is_empty() {
        check.add(Code::Unsupported, pointer(&place, "extra_volumes"), "extra_volumes is not supported for services");
    }
    for (index, network) in swarm.extra_networks.iter().enumerate() {
        if !network.driver_opts.is_empty() {
            let place = format!("{place}/extra_networks/{index}/driver_opts");
            check.add(Code::Unsupported, place, "driver_opts is not supported for services");
        }
    }
}
