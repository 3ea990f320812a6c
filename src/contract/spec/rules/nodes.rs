//! Nodes: names, hosts, sources, versions and images.

use std::collections::BTreeSet;

use super::super::effective::previous_node;
use super::Check;
use crate::contract::faults::{Code, pointer};

pub(super) fn check(check: &mut Check<'_>) {
    let mut names = BTreeSet::new();
    for (index, node) in check.spec.nodes.iter().flatten().enumerate() {
        let place = pointer("/nodes", index);
        if !node.name.is_empty() && !names.insert(node.name.as_str()) {
            let message = format!("node names must be unique within a database: \"{}\" stands twice", node.name);
            check.add(Code::DuplicateName, pointer(&place, "name"), message);
        }
        let mut hosts = BTreeSet::new();
        for (at, host) in node.host_ids.iter().enumerate() {
            if !host.is_empty() && !hosts.insert(host.as_str()) {
                let message = format!("host ids must be unique within a node: \"{host}\" stands twice");
                check.add(Code::DuplicateName, format!("{place}/host_ids/{at}"), message);
            }
        }
        source(check, index, &place);
    }
    synchronous(check);
    for node in check.nodes {
        version(check, node);
        image(check, node);
    }
}

/// Where no node has a replica there is nothing for a commit to wait for.
fn synchronous(check: &mut Check<'_>) {
    let waits = check.nodes.iter().any(|node| !node.synchronous.is_off());
    let replicated = check.nodes.iter().any(|node| match (&node.placement, node.own) {
        (Some(request), _) => request.replicas > 0,
        (None, own) => own.is_some_and(|own| own.host_ids.len() > 1),
    });
    if waits && !replicated {
        check.add_with_hint(
            Code::Conflict,
            "/synchronous",
            "no node has a replica that a commit could wait for",
            "leave it out, or give a node replicas: more than one of host_ids, or \"replicas\"",
        );
    }
}

fn source(check: &mut Check<'_>, index: usize, place: &str) {
    let nodes = check.spec.nodes.as_deref().unwrap_or_default();
    let Some(node) = nodes.get(index) else { return };
    let Some(source) = node.source_node.as_deref() else { return };
    let place = pointer(place, "source_node");
    if source == node.name {
        check.add(Code::Conflict, place.clone(), "a node cannot use itself as a source node");
    } else if !nodes.iter().any(|other| other.name == source) {
        check.add(Code::UnknownReference, place.clone(), format!("source node \"{source}\" does not exist"));
    }
    if node.restore_config.is_some() {
        check.add(Code::Conflict, place, "specify either source_node or restore_config");
    }
}

fn version(check: &mut Check<'_>, node: &super::Effective<'_>) {
    let runs_already =
        previous_node(node.own, check.context).is_some_and(|was| was.postgres_version == node.version.value);
    if node.image.is_some() || runs_already {
        return;
    }
    let names: Vec<&str> = check.context.catalogue.postgres.iter().map(|image| image.version.as_str()).collect();
    check.add_with_hint(
        Code::UnknownVersion,
        node.version.pointer.clone(),
        format!("the catalogue has no PostgreSQL {}", node.version.value),
        format!("versions of the catalogue: {}", names.join(", ")),
    );
}

/// A tag that starts with a version names what is in the image; any other tag says nothing.
fn image(check: &mut Check<'_>, node: &super::Effective<'_>) {
    let Some(pin) = node.pin() else { return };
    let without_digest = pin.value.split('@').next().unwrap_or(pin.value);
    let last = without_digest.rsplit('/').next().unwrap_or(without_digest);
    let Some((_, tag)) = last.split_once(':') else { return };
    let end = tag.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(tag.len());
    let Some(tagged) = tag.get(..end).filter(|text| is_version(text)) else { return };
    if tagged != node.version.value {
        let said = if node.version_is_explicit { "the spec asks for" } else { "without postgres_version it would be" };
        check.add_with_hint(
            Code::ImageMismatch,
            pin.pointer.clone(),
            format!("the image's tag names PostgreSQL {tagged}, {said} {}", node.version.value),
            format!("set \"postgres_version\": \"{tagged}\", or pin another image"),
        );
    }
}

fn is_version(text: &str) -> bool {
    let digits = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.').is_some_and(|(major, minor)| major.len() == 2 && digits(major) && digits(minor))
}
