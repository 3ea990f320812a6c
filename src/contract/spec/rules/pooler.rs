//! `pooler`: its memory, its image, and names that pgbouncer cannot lead to.

use super::super::quantity::{self, QuantityError};
use super::Check;
use crate::contract::faults::{Code, pointer};
use crate::contract::wire::PoolerSpec;

/// Below it pgbouncer and what leads it to the primary do not run reliably.
const MEMORY_BYTES_MIN: u64 = 32 << 20;

/// The database that is pgbouncer's own console, whatever Postgres has.
const CONSOLE: &str = "pgbouncer";

pub(super) fn check(check: &mut Check<'_>) {
    let spec = check.spec;
    if let Some(pooler) = &spec.pooler {
        memory(check, pooler, "/pooler");
    }
    for (index, node) in spec.nodes.iter().flatten().enumerate() {
        if let Some(pooler) = &node.pooler {
            memory(check, pooler, &pointer(&pointer("/nodes", index), "pooler"));
        }
    }
    let mut nameless = Vec::new();
    for node in check.nodes {
        let Some(pooler) = &node.pooler else { continue };
        if pooler.value.image.is_none() && check.context.catalogue.pooler.is_none() {
            nameless.push(pooler.pointer.clone());
        }
    }
    for place in nameless {
        let hint = "name an image (`pooler.image`), or give the daemon a catalogue that has a pooler (--catalogue)";
        check.add_with_hint(Code::Required, pointer(&place, "image"), "the catalogue has no pooler", hint);
    }
    database_name(check);
}

fn memory(check: &mut Check<'_>, pooler: &PoolerSpec, place: &str) {
    let place = pointer(place, "memory");
    match pooler.memory.as_deref().map(quantity::bytes) {
        Some(Ok(bytes)) if bytes < MEMORY_BYTES_MIN => {
            check.add(Code::OutOfRange, place, "the memory of a pooler cannot be less than 32 MiB");
        }
        Some(Err(error @ QuantityError::Form)) => check.add(Code::InvalidQuantity, place, error.to_string()),
        Some(Err(error)) => check.add(Code::OutOfRange, place, error.to_string()),
        Some(Ok(_)) | None => {}
    }
}

/// A database that could not be reached through a pooler: pgbouncer's file takes no other names, quoted or not.
fn database_name(check: &mut Check<'_>) {
    let previous = check.context.previous.map(|previous| previous.database_name.as_str());
    let name = check.spec.database_name.as_deref().or(previous).unwrap_or(check.id.as_str());
    let asked = check.nodes.iter().find_map(|node| node.pooler.as_ref()).map(|pooler| pooler.pointer.clone());
    let Some(place) = asked else { return };
    let hint = "leave the pooler out, or make another database, with a `database_name` of letters, digits, \"_\", \".\" and \"-\"";
    if name == CONSOLE {
        let message = "a pooler cannot lead to a database of the name \"pgbouncer\", which is its own console";
        check.add_with_hint(Code::ReservedName, place, message, hint);
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        let message = "a pooler cannot lead to a database whose name has other characters than letters, digits, \"_\", \".\", \"-\"";
        check.add_with_hint(Code::Conflict, place, message, hint);
    }
}
