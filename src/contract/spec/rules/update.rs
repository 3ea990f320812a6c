//! The document's own fields: what an update may not change, which specs come too late, names and template.

use super::super::effective::previous_node;
use super::{Check, postgres_name};
use crate::contract::faults::Code;

pub(super) fn check(check: &mut Check<'_>) {
    generation(check);
    name(check);
    template(check);
    let Some(previous) = check.context.previous else {
        return;
    };
    if let Some(name) = check.spec.database_name.as_deref().filter(|name| *name != previous.database_name) {
        let message =
            format!("the database's name is \"{}\" and cannot be changed to \"{name}\"", previous.database_name);
        check.add(Code::ImmutableField, "/database_name", message);
    }
    for node in check.nodes {
        let Some(was) = previous_node(node.own, check.context) else {
            continue;
        };
        let (from, to) = (&was.postgres_version, &node.version.value);
        if major(from) != major(to) {
            let message = format!("the major version cannot be changed in place, from {from} to {to}");
            let hint = "make another database of the new version and move the data";
            check.add_with_hint(Code::MajorVersionChange, node.version.pointer.clone(), message, hint);
        }
    }
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// A generation may not go back, and stands for one content only.
pub(super) fn generation(check: &mut Check<'_>) {
    let (Some(new), Some(previous)) = (check.spec.generation, check.context.previous) else {
        return;
    };
    let Some(old) = previous.generation else { return };
    if new < old {
        let message = format!("generation {new} comes after generation {old} was applied");
        check.add_with_hint(
            Code::StaleGeneration,
            "/generation",
            message,
            format!("publish it with {}", old.saturating_add(1)),
        );
    } else if new == old && *check.digest != previous.digest {
        let message = format!("generation {old} was applied with another content (digest {})", previous.digest.short());
        check.add_with_hint(
            Code::GenerationConflict,
            "/generation",
            message,
            format!("publish it with {}", old.saturating_add(1)),
        );
    }
}

/// What is protected is not deleted, and a spec cannot unprotect and delete at once.
pub(super) fn protection(check: &mut Check<'_>) {
    let applied = check.context.previous.is_some_and(|previous| previous.deletion_protection && !previous.deleted);
    if applied || check.spec.deletion_protection == Some(true) {
        check.add_with_hint(
            Code::DeletionProtected,
            "/deleted",
            "the database is protected against deletion",
            "publish the spec with \"deletion_protection\": false first, wait until it is accepted, then delete",
        );
    }
}

fn name(check: &mut Check<'_>) {
    if let Some(name) = check.spec.database_name.as_deref() {
        if ["template0", "template1"].contains(&name) {
            check.add(Code::ReservedName, "/database_name", format!("the database \"{name}\" belongs to Postgres"));
        }
        postgres_name(check, "a database's name", name, "/database_name");
    }
}

fn template(check: &mut Check<'_>) {
    let Some(name) = check.spec.template.as_deref() else { return };
    if !check.context.catalogue.templates.contains_key(name) {
        let names: Vec<&str> = check.context.catalogue.templates.keys().map(String::as_str).collect();
        let hint = format!("templates of the catalogue: {}", names.join(", "));
        check.add_with_hint(Code::UnknownTemplate, "/template", format!("there is no template \"{name}\""), hint);
    }
}
