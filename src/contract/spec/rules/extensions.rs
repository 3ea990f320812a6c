//! `extensions`: once each, and in the image. Of a pinned image nothing is known, so nothing is said.

use std::collections::BTreeSet;

use super::{Check, postgres_name};
use crate::contract::faults::{Code, pointer};
use crate::contract::wire::{ExtensionEntry, ExtensionObject};

pub(super) fn check(check: &mut Check<'_>) {
    let mut names = BTreeSet::new();
    for (index, entry) in check.spec.extensions.iter().enumerate() {
        let place = pointer("/extensions", index);
        let (name, name_place) = match entry {
            ExtensionEntry::Name(name) => (name, place.clone()),
            ExtensionEntry::Object(object) => (&object.name, pointer(&place, "name")),
        };
        if name.is_empty() {
            continue;
        }
        if !names.insert(name.as_str()) {
            check.add(Code::DuplicateName, name_place.clone(), format!("the extension \"{name}\" stands twice"));
        }
        postgres_name(check, "an extension's name", name, &name_place);
        if let ExtensionEntry::Object(object) = entry {
            names_in(check, object, &place);
        }
        in_image(check, entry, &place, &name_place);
    }
}

fn names_in(check: &mut Check<'_>, object: &ExtensionObject, place: &str) {
    if let Some(schema) = object.schema.as_deref() {
        let place = pointer(place, "schema");
        if schema == "pgmoor" || schema.starts_with("pg_") && schema != "pg_catalog" {
            check.add(Code::ReservedName, place, format!("the schema \"{schema}\" is not for extensions"));
        } else {
            postgres_name(check, "a schema's name", schema, &place);
        }
    }
    if let Some(version) = object.version.as_deref() {
        postgres_name(check, "an extension's version", version, &pointer(place, "version"));
    }
}

fn in_image(check: &mut Check<'_>, entry: &ExtensionEntry, place: &str, name_place: &str) {
    for node in check.nodes {
        let (Some(image), None) = (node.image, node.pin()) else { continue };
        let name = entry.name();
        let Some(info) = image.extensions.get(name) else {
            let near = super::super::nearest(name, image.extensions.keys().map(String::as_str));
            let message = format!("the image of PostgreSQL {} has no extension \"{name}\"", image.version);
            match near {
                Some(near) => {
                    check.add_with_hint(
                        Code::UnknownExtension,
                        name_place,
                        message,
                        format!("did you mean \"{near}\"?"),
                    );
                }
                None => check.add(Code::UnknownExtension, name_place, message),
            }
            continue;
        };
        let ExtensionEntry::Object(object) = entry else { continue };
        if let (Some(asked), Some(has)) = (&object.version, &info.version)
            && asked != has
        {
            let message = format!("the image of PostgreSQL {} has \"{name}\" in version {has}", image.version);
            check.add(Code::UnknownExtension, pointer(place, "version"), message);
        }
    }
}
