//! Users and extensions of a spec.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalars::SecretText;

/// A role of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseUserSpec {
    /// The role's name; at most 63 bytes, as Postgres has it.
    #[schemars(length(min = 1, max = 63))]
    pub username: String,
    /// The password. Left out: one is generated, or the one that the role has is kept. Whoever may read the topic
    /// reads it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub password: Option<SecretText>,
    /// Whether it owns the database; one user at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_owner: Option<bool>,
    /// Attributes, each one of SUPERUSER, CREATEDB, CREATEROLE, INHERIT, LOGIN, REPLICATION, BYPASSRLS, or the same
    /// with NO before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32)))]
    pub attributes: Vec<String>,
    /// Roles that it is a member of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub roles: Vec<String>,
}

/// An extension: its name, or an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ExtensionEntry {
    /// The extension in the image's version and its own schema.
    Name(#[schemars(length(min = 1, max = 63))] String),
    /// The extension with wishes.
    Object(ExtensionObject),
}

/// An extension with wishes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtensionObject {
    /// The extension's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The version; left out: the image's, and it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub version: Option<String>,
    /// The schema that its objects are created in; left out: the extension's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub schema: Option<String>,
}

impl ExtensionEntry {
    /// The extension's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Object(object) => &object.name,
        }
    }
}
