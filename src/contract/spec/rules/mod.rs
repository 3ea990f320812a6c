//! The rules that the schema cannot say: one file for each part of a spec. Each rule only adds faults.

mod backup;
mod extensions;
mod hba;
mod nodes;
mod parameters;
mod placement;
mod ports;
mod quantities;
mod scripts;
mod services;
mod several;
mod swarm;
mod unsupported;
mod update;
mod users;

use serde_json::Value;

use super::Context;
use super::effective::Effective;
use crate::contract::faults::{Code, Fault};
use crate::contract::wire::DatabaseSpec;
use crate::model::{DatabaseId, Digest};

pub(super) use hba::line_holds_secret;
pub(super) use scripts::set_passwords;

/// What the rules look at, and where they put what they find.
pub(super) struct Check<'a> {
    /// The database.
    pub(super) id: &'a DatabaseId,
    /// The digest of the document's bytes.
    pub(super) digest: &'a Digest,
    /// The document as it came.
    pub(super) document: &'a Value,
    /// The document in its types.
    pub(super) spec: &'a DatabaseSpec,
    /// Its nodes, overrides resolved.
    pub(super) nodes: &'a [Effective<'a>],
    /// What it is judged against.
    pub(super) context: &'a Context<'a>,
    /// What was found.
    pub(super) faults: Vec<Fault>,
}

impl Check<'_> {
    fn add(&mut self, code: Code, pointer: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault::new(code, pointer, message));
    }

    fn add_with_hint(
        &mut self,
        code: Code,
        pointer: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.faults.push(Fault::new(code, pointer, message).hint(hint));
    }
}

/// The most bytes of a name in Postgres; longer ones are cut there, and are never found again.
const NAME_BYTES_MAX: usize = 63;

/// Judges what becomes the name of something in Postgres. What the schema says about its characters is not said again.
fn postgres_name(check: &mut Check<'_>, what: &str, name: &str, place: &str) {
    if name.len() > NAME_BYTES_MAX {
        let message = format!("{what} can have {NAME_BYTES_MAX} bytes, this one has {}", name.len());
        let hint = "Postgres cuts longer names; letters beyond ASCII have two bytes or more";
        check.add_with_hint(Code::OutOfRange, place, message, hint);
    } else if name.chars().any(char::is_control) {
        check.add(Code::InvalidFormat, place, format!("{what} cannot have control characters"));
    }
}

/// Every rule for a spec that describes a database.
pub(super) fn all(check: &mut Check<'_>) {
    unsupported::check(check);
    update::check(check);
    nodes::check(check);
    placement::check(check);
    several::check(check);
    ports::check(check);
    quantities::check(check);
    parameters::check(check);
    hba::check(check);
    users::check(check);
    extensions::check(check);
    scripts::check(check);
    swarm::check(check);
    backup::check(check);
    services::check(check);
}

/// The rules for a spec with `deleted: true`.
pub(super) fn of_delete(check: &mut Check<'_>) {
    update::generation(check);
    update::protection(check);
}
