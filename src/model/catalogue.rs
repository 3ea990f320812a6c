//! The version catalogue: which image runs which Postgres version, what it can do, and the templates.
//!
//! `deploy/catalogue.json` is embedded; a path in the configuration replaces it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The whole catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// 1.
    pub schema_version: u32,
    /// The Postgres version that a spec without one gets.
    pub default: String,
    /// The etcd that Patroni uses.
    pub etcd: EtcdImage,
    /// The pooler on offer; none: a spec that asks for one names its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooler: Option<PoolerImage>,
    /// One entry for each version on offer.
    pub postgres: Vec<PostgresImage>,
    /// Templates by name.
    pub templates: BTreeMap<String, Template>,
}

/// The etcd image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdImage {
    /// etcd's version.
    pub version: String,
    /// The image reference.
    pub image: String,
}

/// The pgbouncer image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolerImage {
    /// pgbouncer's version, major and minor.
    pub version: String,
    /// The image reference.
    pub image: String,
}

/// A Postgres image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresImage {
    /// For example `17.11`.
    pub version: String,
    /// The image reference.
    pub image: String,
    /// `spock`, `pglogical` or none: what carries writes between nodes.
    pub multi_active: Option<String>,
    /// Extensions in the image, by name.
    pub extensions: BTreeMap<String, ExtensionInfo>,
}

/// An extension in an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtensionInfo {
    /// The version that `CREATE EXTENSION` gives.
    #[serde(default)]
    pub version: Option<String>,
    /// The library it needs in `shared_preload_libraries`.
    #[serde(default)]
    pub preload: Option<String>,
}

/// A template: what a small spec leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// One sentence for people.
    pub description: String,
    /// Postgres version; none: the catalogue's default.
    #[serde(default)]
    pub postgres_version: Option<String>,
    /// Port to publish as in a spec; none: as `visibility` says.
    #[serde(default)]
    pub port: Option<u16>,
    /// `private` publishes no port, `host` publishes a chosen one.
    pub visibility: Visibility,
    /// Users that the database gets when the spec names none; their passwords are generated.
    #[serde(default)]
    pub users: Vec<TemplateUser>,
    /// Extensions that the database gets besides the spec's.
    #[serde(default)]
    pub extensions: Vec<String>,
}

/// Who can reach a database made from a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Only what joins the database's network, and the host itself.
    Private,
    /// Whoever reaches the host: a port is published.
    Host,
}

/// A user of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateUser {
    /// The role's name.
    pub username: String,
    /// Whether it owns the database.
    #[serde(default)]
    pub db_owner: bool,
    /// Role attributes, as in a spec.
    #[serde(default)]
    pub attributes: Vec<String>,
}

impl Catalogue {
    /// The entry of a version.
    #[must_use]
    pub fn postgres(&self, version: &str) -> Option<&PostgresImage> {
        self.postgres.iter().find(|image| image.version == version)
    }
}
