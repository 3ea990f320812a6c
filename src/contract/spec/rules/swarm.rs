//! `orchestrator_opts.swarm`: volumes, networks and labels that do not get in pgmoor's own way.

use std::collections::BTreeSet;

use super::Check;
use crate::contract::faults::{Code, pointer};
use crate::contract::wire::{OrchestratorOpts, SwarmOpts};

/// Label prefixes of pgmoor, of the reference and of Docker.
const LABEL_PREFIXES: [&str; 3] = ["pgedge.", "pgmoor.", "com.docker."];

/// Where pgmoor's own mounts and the kernel's lie in the container: nothing else in there or around it.
const OURS_IN_CONTAINER: [&str; 4] = ["/opt/pgmoor", "/dev", "/proc", "/sys"];

/// Directories of the image that may get a mount in them, but not over them.
const OF_IMAGE: [&str; 9] = ["/bin", "/etc", "/lib", "/lib64", "/run", "/sbin", "/tmp", "/usr", "/var"];

/// Docker's own networks: no service can join them as an extra one, or it has joined them already.
const OWN_NETWORKS: [&str; 5] = ["bridge", "host", "none", "ingress", "docker_gwbridge"];

pub(super) fn check(check: &mut Check<'_>) {
    let spec = check.spec;
    options(check, spec.orchestrator_opts.as_ref(), "");
    for (index, node) in spec.nodes.iter().flatten().enumerate() {
        options(check, node.orchestrator_opts.as_ref(), &pointer("/nodes", index));
    }
}

fn options(check: &mut Check<'_>, options: Option<&OrchestratorOpts>, place: &str) {
    let Some(swarm) = options.and_then(|options| options.swarm.as_ref()) else { return };
    let place = format!("{place}/orchestrator_opts/swarm");
    labels(check, swarm, &pointer(&place, "extra_labels"));
    volumes(check, swarm, &pointer(&place, "extra_volumes"));
    networks(check, swarm, &pointer(&place, "extra_networks"));
}

fn labels(check: &mut Check<'_>, swarm: &SwarmOpts, place: &str) {
    for name in swarm.extra_labels.keys() {
        if let Some(prefix) = LABEL_PREFIXES.iter().find(|prefix| name.starts_with(**prefix)) {
            let message = format!("labels starting with \"{prefix}\" are reserved for system use");
            check.add(Code::ReservedName, pointer(place, name), message);
        } else if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            check.add(Code::InvalidFormat, pointer(place, name), "a label's name cannot be empty or have white space");
        }
    }
}

fn volumes(check: &mut Check<'_>, swarm: &SwarmOpts, place: &str) {
    let mut destinations = BTreeSet::new();
    for (index, volume) in swarm.extra_volumes.iter().enumerate() {
        let place = pointer(place, index);
        let (source, source_place) = (volume.host_path.as_str(), pointer(&place, "host_path"));
        if let Some(why) = unclean(source) {
            check.add(Code::InvalidPath, source_place, why);
        } else if overlap(source, check.context.data_dir) {
            let message = format!("{} holds pgmoor's own files and cannot be mounted", check.context.data_dir);
            check.add(Code::InvalidPath, source_place, message);
        }
        let (target, target_place) = (volume.destination_path.as_str(), pointer(&place, "destination_path"));
        if let Some(why) = unclean(target) {
            check.add(Code::InvalidPath, target_place, why);
        } else if let Some(ours) =
            OURS_IN_CONTAINER.iter().find(|ours| overlap(target, ours)).or_else(|| of_image(target))
        {
            check.add(Code::InvalidPath, target_place, format!("{ours} of the container cannot be mounted over"));
        } else if !destinations.insert(target) {
            let message = format!("\"{target}\" is the destination of two volumes");
            check.add(Code::DuplicateName, target_place, message);
        }
    }
}

fn unclean(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        // Missing or refused already.
        return None;
    }
    if path == "/" {
        return Some("the root directory cannot be mounted");
    }
    let Some(below) = path.strip_prefix('/') else {
        return Some("the path must be absolute");
    };
    if path.chars().any(char::is_control) {
        return Some("the path has control characters");
    }
    let dirty = below.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    dirty.then_some("the path must be clean: no \"..\", \".\", double or trailing slash")
}

fn of_image(target: &str) -> Option<&'static &'static str> {
    OF_IMAGE.iter().find(|path| **path == target)
}

/// Whether one of the paths is the other or lies in it.
fn overlap(one: &str, other: &str) -> bool {
    let inside = |inner: &str, outer: &str| {
        inner.strip_prefix(outer.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !one.is_empty() && (inside(one, other) || inside(other, one))
}

fn networks(check: &mut Check<'_>, swarm: &SwarmOpts, place: &str) {
    let own = format!("{}-database", check.id);
    let mut seen = BTreeSet::new();
    for (index, network) in swarm.extra_networks.iter().enumerate() {
        let place = format!("{place}/{index}/id");
        if network.id == own || OWN_NETWORKS.contains(&network.id.as_str()) {
            let message = format!("the network \"{}\" is the system's own", network.id);
            check.add(Code::ReservedName, place, message);
        } else if !network.id.is_empty() && !seen.insert(network.id.as_str()) {
            check.add(Code::DuplicateName, place, format!("the network \"{}\" stands twice", network.id));
        }
    }
}
