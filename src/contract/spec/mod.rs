//! From the bytes of a spec to an accepted spec, or to everything that is wrong with it.
//!
//! The way: size and JSON syntax, keys that stand twice, the JSON Schema, the wire types, then every rule that needs
//! more than one place to look at. Each step goes on after faults where it can, so that an author sees all of them at
//! once. Invariants: equal inputs give equal results; a message never repeats a value that may be secret; what this
//! build does not act on is refused by name.
//!
//! Decisions where the reference is silent:
//! - A spec with `deleted: true` is judged by its form, its generation and the protection of the *applied* spec only:
//!   a database must be deletable although the catalogue or the rules have moved on since.
//! - `deletion_protection` holds until a spec without it was accepted; one document cannot unprotect and delete.
//! - `tenant_id` belongs to the reference's requests, not to its spec, and is an unknown field here.

mod build;
pub mod diff;
mod effective;
pub(super) mod form;
pub mod hidden;
pub(super) mod json;
pub mod quantity;
mod repair;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::faults::{Code, Fault, sorted};
use super::wire::DatabaseSpec;
use crate::model::{AcceptedSpec, Catalogue, DatabaseId, Digest, HostId, HostPorts, NodeHosts};

/// The most bytes a spec may have: what hosted brokers let through (AWS IoT Core: 128 KiB).
pub const SPEC_BYTES_MAX: usize = 128 * 1024;

/// The memory of an instance whose spec does not say: 512 MiB.
pub const DEFAULT_MEMORY_BYTES: u64 = 512 * 1024 * 1024;

/// What a spec is judged against.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Versions, images, extensions and templates on offer.
    pub catalogue: &'a Catalogue,
    /// The only host of the fleet, where every node goes that names none; none: there are several, and hosts are chosen
    /// when the spec is accepted.
    pub host: Option<&'a HostId>,
    /// Where the nodes are now that name no hosts: they stay there, until others are chosen.
    pub placed: &'a NodeHosts,
    /// All hosts of the fleet; none: they are not known now, so nothing is said of a host that a spec names.
    pub known_hosts: Option<&'a BTreeSet<HostId>>,
    /// Those of them that get no new instances; none: not known either.
    pub drained_hosts: Option<&'a BTreeSet<HostId>>,
    /// The spec that is applied now; of a deleted database whose data is in the trash: the last one before.
    pub previous: Option<&'a AcceptedSpec>,
    /// Ports that *other* databases have on each host, fixed and chosen ones.
    pub ports_in_use: &'a HostPorts,
    /// Where pgmoor keeps its own files on the host; an absolute path.
    pub data_dir: &'a str,
    /// Memory of an instance whose spec does not say, in bytes; see [`DEFAULT_MEMORY_BYTES`].
    pub default_memory_bytes: u64,
}

/// Reads and judges a spec.
///
/// # Errors
/// Everything that is wrong with it, in the order of the places.
pub fn accept(id: &DatabaseId, bytes: &[u8], context: &Context<'_>) -> Result<AcceptedSpec, Vec<Fault>> {
    let json::Document { value: document, mut faults } = json::read(bytes).map_err(|fault| vec![fault])?;
    let form = form::SPEC.faults(&document);
    let Some(spec) = typed(&document, &form) else {
        faults.extend(form);
        if faults.is_empty() {
            // What the schema takes and the types do not is a mistake of ours; the reader's own words may hold a value.
            faults.push(Fault::new(Code::TypeMismatch, "", "the document is not a database spec"));
        }
        return Err(sorted(faults));
    };
    let digest = Digest::of_bytes(bytes);
    let nodes = effective::nodes(&spec, context);
    let mut check = rules::Check {
        id,
        digest: &digest,
        document: &document,
        spec: &spec,
        nodes: &nodes,
        context,
        faults: Vec::new(),
    };
    let deleted = spec.deleted == Some(true);
    if deleted {
        rules::of_delete(&mut check);
    } else {
        rules::all(&mut check);
    }
    // What the schema has said about a place is not said twice.
    faults.extend(check.faults.into_iter().filter(|fault| !form.iter().any(|said| covers(said, fault))));
    faults.extend(form);
    if !faults.is_empty() {
        return Err(sorted(faults));
    }
    let holds_secret = holds_secret(&spec);
    Ok(if deleted {
        build::deleted(id, digest, &spec, holds_secret, context)
    } else {
        build::accepted(id, digest, &spec, &nodes, holds_secret, context)
    })
}

/// What an accepted document that today's rules refuse still says: generation, protection, names, versions and nodes,
/// which guard the next spec. `images` are those that the nodes run. None when it is no spec at all.
///
/// It is never to be applied.
#[must_use]
pub fn remembered(
    id: &DatabaseId,
    bytes: &[u8],
    images: &BTreeMap<String, String>,
    context: &Context<'_>,
) -> Option<AcceptedSpec> {
    let document = json::read(bytes).ok()?.value;
    let spec = typed(&document, &form::SPEC.faults(&document))?;
    let nodes = effective::nodes(&spec, context);
    let mut remembered = build::accepted(id, Digest::of_bytes(bytes), &spec, &nodes, holds_secret(&spec), context);
    remembered.nodes = nodes.iter().filter_map(|node| build::remembered_node(node, images, context)).collect();
    Some(remembered)
}

/// The document in its types; with faults in its form, as much of it as can be read.
fn typed(document: &Value, form: &[Fault]) -> Option<DatabaseSpec> {
    let document = if form.is_empty() { document.clone() } else { repair::repair(document.clone(), form) };
    serde_json::from_value(document).ok()
}

fn covers(said: &Fault, fault: &Fault) -> bool {
    fault.code != Code::Unsupported
        && fault.pointer.strip_prefix(&said.pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn holds_secret(spec: &DatabaseSpec) -> bool {
    let password = spec.database_users.iter().flatten().any(|user| user.password.is_some());
    let of_nodes = spec.nodes.iter().flatten().flat_map(|node| &node.pg_hba_conf);
    let lines = spec.pg_hba_conf.iter().chain(of_nodes).any(|line| rules::line_holds_secret(line));
    password || lines || spec.scripts.as_ref().is_some_and(rules::set_passwords)
}

/// The known name that a wrong one was probably meant to be: at most a third of its letters differ.
fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.map(|name| (edits(wrong, name), name)).min()?;
    let (distance, name) = best;
    (distance * 3 <= name.chars().count().max(3)).then_some(name)
}

/// How many letters must be put in, taken out, exchanged, or swapped with their neighbour (optimal string alignment), with
/// case and `-` for `_` for free.
fn edits(one: &str, other: &str) -> usize {
    let plain = |text: &str| -> Vec<char> { text.to_ascii_lowercase().replace('-', "_").chars().take(64).collect() };
    let (one, other) = (plain(one), plain(other));
    let at = |text: &[char], index: Option<usize>| index.and_then(|index| text.get(index).copied());
    let cell = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX);
    let mut older: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (j, b) in other.iter().enumerate() {
            let mut best = (cell(&row, j) + usize::from(a != b)).min(left + 1).min(cell(&row, j + 1) + 1);
            let swapped = at(&one, i.checked_sub(1)) == Some(*b) && at(&other, j.checked_sub(1)) == Some(*a);
            if swapped && let Some(before) = j.checked_sub(1) {
                best = best.min(cell(&older, before) + 1);
            }
            next.push(best);
            left = best;
        }
        older = row;
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["database_name", "database_users", "nodes", "port"];
        assert_eq!(nearest("databaseName", known.into_iter()), Some("database_name"));
        assert_eq!(nearest("prot", known.into_iter()), Some("port"));
        assert_eq!(nearest("part", ["port", "trap"].into_iter()), Some("port"));
        assert_eq!(nearest("tpro", known.into_iter()), None);
        assert_eq!(nearest("ports", known.into_iter()), Some("port"));
        assert_eq!(nearest("colour", known.into_iter()), None);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!((edits("ab", "ba"), edits("prot", "port"), edits("cpsu", "cpus")), (1, 1, 1));
    }
}
