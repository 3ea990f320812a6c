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
mod effective;
mod json;
pub mod quantity;

use std::collections::{BTreeMap, BTreeSet};

use super::faults::{Code, Fault, sorted};
use super::wire::DatabaseSpec;
use crate::model::{AcceptedSpec, Catalogue, DatabaseId, Digest, HostId};

/// The most bytes a spec may have: what hosted brokers let through (AWS IoT Core: 128 KiB).
pub const SPEC_BYTES_MAX: usize = 128 * 1024;

/// The memory of an instance whose spec does not say: 512 MiB.
pub const DEFAULT_MEMORY_BYTES: u64 = 512 * 1024 * 1024;

/// What a spec is judged against.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Versions, images, extensions and templates on offer.
    pub catalogue: &'a Catalogue,
    /// The host that reads the spec: where a database without `nodes` goes.
    pub host: &'a HostId,
    /// All hosts of the fleet.
    pub known_hosts: &'a BTreeSet<HostId>,
    /// The spec that is applied now; of a deleted database whose data is in the trash: the last one before.
    pub previous: Option<&'a AcceptedSpec>,
    /// Ports that *other* databases of this host have, fixed and chosen ones.
    pub ports_in_use: &'a BTreeMap<u16, DatabaseId>,
    /// Memory of an instance whose spec does not say, in bytes; see [`DEFAULT_MEMORY_BYTES`].
    pub default_memory_bytes: u64,
}

/// Reads and judges a spec.
///
/// # Errors
/// Everything that is wrong with it, in the order of the places.
pub fn accept(id: &DatabaseId, bytes: &[u8], context: &Context<'_>) -> Result<AcceptedSpec, Vec<Fault>> {
    let document = json::read(bytes).map_err(|fault| vec![fault])?;
    let mut faults = document.faults;
    let spec = match serde_json::from_value::<DatabaseSpec>(document.value) {
        Ok(spec) => spec,
        Err(_) => {
            // The error's own text may repeat a value.
            faults.push(Fault::new(Code::TypeMismatch, "", "the document is not a database spec"));
            return Err(sorted(faults));
        }
    };
    if !faults.is_empty() {
        return Err(sorted(faults));
    }
    let digest = Digest::of_bytes(bytes);
    let holds_secret = spec.database_users.iter().flatten().any(|user| user.password.is_some());
    if spec.deleted == Some(true) {
        return Ok(build::deleted(id, digest, &spec, holds_secret, context));
    }
    let nodes = effective::nodes(&spec, context);
    Ok(build::accepted(id, digest, &spec, &nodes, holds_secret, context))
}
