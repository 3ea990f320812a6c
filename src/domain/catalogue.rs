//! Reading the version catalogue: the embedded one, or the text of the file that replaces it.
//!
//! Invariant: a catalogue that this gives holds together: whatever a template or a default names is in it.

use std::collections::BTreeSet;

use crate::model::Catalogue;
use crate::model::catalogue::{PostgresImage, Template};
use crate::model::role::RoleFlags;

/// The version of the catalogue's shape that this build reads.
const SCHEMA_VERSION: u32 = 1;
const EMBEDDED: &str = include_str!("../../deploy/catalogue.json");

/// Why a text is not a catalogue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON of the catalogue's shape.
    #[error("read the catalogue: {0}")]
    Parse(String),
    /// It does not hold together.
    #[error("check the catalogue: {}", .0.join("; "))]
    Faults(Vec<String>),
}

/// The catalogue that this build carries.
///
/// # Errors
/// Never, as a test says; the caller reports it like any other.
pub fn embedded() -> Result<Catalogue, Error> {
    parse(EMBEDDED)
}

/// Reads a catalogue.
///
/// # Errors
/// The text is no catalogue, or one that does not hold together; then with every fault.
pub fn parse(text: &str) -> Result<Catalogue, Error> {
    let catalogue: Catalogue = serde_json::from_str(text).map_err(|error| Error::Parse(error.to_string()))?;
    let faults = faults(&catalogue);
    if faults.is_empty() { Ok(catalogue) } else { Err(Error::Faults(faults)) }
}

fn faults(catalogue: &Catalogue) -> Vec<String> {
    let mut faults = Vec::new();
    if catalogue.schema_version != SCHEMA_VERSION {
        faults.push(format!("schema_version is {}, not {SCHEMA_VERSION}", catalogue.schema_version));
    }
    if catalogue.postgres(&catalogue.default).is_none() {
        faults.push(format!("the default {} is not among the versions", catalogue.default));
    }
    if catalogue.etcd.image.is_empty() {
        faults.push("etcd has no image".to_owned());
    }
    if catalogue.pooler.as_ref().is_some_and(|pooler| pooler.image.is_empty()) {
        faults.push("the pooler has no image".to_owned());
    }
    let mut seen = BTreeSet::new();
    for image in &catalogue.postgres {
        if !seen.insert(image.version.as_str()) {
            faults.push(format!("version {} is there twice", image.version));
        }
        image_faults(image, &mut faults);
    }
    for (name, template) in &catalogue.templates {
        template_faults(catalogue, name, template, &mut faults);
    }
    faults
}

fn image_faults(image: &PostgresImage, faults: &mut Vec<String>) {
    let version = &image.version;
    if !is_version(version) {
        faults.push(format!("\"{version}\" is not a version such as 17.11"));
    }
    if image.image.is_empty() {
        faults.push(format!("version {version} has no image"));
    }
    if let Some(engine) = &image.multi_active
        && !matches!(engine.as_str(), "spock" | "pglogical")
    {
        faults.push(format!("version {version}: multi_active is \"{engine}\", not spock or pglogical"));
    }
}

/// Two digits, a dot, one or two digits (reference 1.1).
fn is_version(text: &str) -> bool {
    let digits =
        |part: &str, most: usize| !part.is_empty() && part.len() <= most && part.chars().all(|c| c.is_ascii_digit());
    text.split_once('.').is_some_and(|(major, minor)| major.len() == 2 && digits(major, 2) && digits(minor, 2))
}

fn template_faults(catalogue: &Catalogue, name: &str, template: &Template, faults: &mut Vec<String>) {
    let version = template.postgres_version.as_ref().unwrap_or(&catalogue.default);
    match catalogue.postgres(version) {
        None => faults.push(format!("template {name}: version {version} is not in the catalogue")),
        Some(image) => {
            for extension in template.extensions.iter().filter(|wanted| !image.extensions.contains_key(*wanted)) {
                faults.push(format!("template {name}: {version} has no extension {extension}"));
            }
        }
    }
    if template.users.iter().filter(|user| user.db_owner).count() > 1 {
        faults.push(format!("template {name}: more than one user owns the database"));
    }
    let mut seen = BTreeSet::new();
    for user in &template.users {
        let username = &user.username;
        if username.is_empty() || !seen.insert(username) {
            faults.push(format!("template {name}: user \"{username}\" is empty or there twice"));
        }
        if super::layout::SYSTEM_ROLES.contains(&username.as_str()) {
            faults.push(format!("template {name}: user \"{username}\" is reserved"));
        }
        for attribute in user.attributes.iter().filter(|text| RoleFlags::default().with(text).is_none()) {
            faults.push(format!("template {name}: user {username}: unsupported role attribute \"{attribute}\""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalogue_holds_together() {
        let catalogue = embedded().unwrap();
        assert!(catalogue.templates.contains_key("postgres"), "small specs name this template");
    }

    #[test]
    fn every_fault_is_told() {
        let text = r#"{
            "schema_version": 2, "default": "17.9", "etcd": {"version": "3.5", "image": ""},
            "postgres": [
                {"version": "17.1", "image": "", "multi_active": "magic", "extensions": {}},
                {"version": "17.1", "image": "a", "multi_active": null, "extensions": {}},
                {"version": "17", "image": "a", "multi_active": null, "extensions": {}}
            ],
            "templates": {"t": {
                "description": "d", "visibility": "host", "postgres_version": "17.1", "extensions": ["vector"],
                "users": [
                    {"username": "a", "db_owner": true, "attributes": ["LOGIN", "ROOT"]},
                    {"username": "a", "db_owner": true}, {"username": "pgmoor"}
                ]
            }, "u": {"description": "d", "visibility": "private"}}
        }"#;
        let Err(Error::Faults(faults)) = parse(text) else { panic!("it was taken") };
        let expected = [
            "schema_version is 2, not 1",
            "the default 17.9 is not among the versions",
            "etcd has no image",
            "version 17.1 has no image",
            "version 17.1: multi_active is \"magic\", not spock or pglogical",
            "version 17.1 is there twice",
            "\"17\" is not a version such as 17.11",
            "template t: 17.1 has no extension vector",
            "template t: more than one user owns the database",
            "template t: user a: unsupported role attribute \"ROOT\"",
            "template t: user \"a\" is empty or there twice",
            "template t: user \"pgmoor\" is reserved",
            "template u: version 17.9 is not in the catalogue",
        ];
        assert_eq!(faults, expected);
        assert!(matches!(parse("{}"), Err(Error::Parse(_))));
    }
}
