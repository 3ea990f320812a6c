//! `backup_config` and `restore_config`: checked, not yet acted on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalars::{ID, SecretText};

/// Where and when backups are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupConfigSpec {
    /// Where backups go.
    #[schemars(length(min = 1))]
    pub repositories: Vec<BackupRepositorySpec>,
    /// When they are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub schedules: Vec<BackupScheduleSpec>,
}

/// When a backup is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupScheduleSpec {
    /// Its id, unique in the list.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// Full or incremental.
    #[serde(rename = "type")]
    pub kind: BackupKind,
    /// Five fields, UTC: minute, hour, day of the month, month, day of the week.
    #[schemars(length(min = 1, max = 32))]
    pub cron_expression: String,
}

/// Full or incremental.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum BackupKind {
    /// Everything.
    Full,
    /// What changed since the last backup.
    Incr,
}

/// The kinds of repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum RepositoryType {
    /// S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
    /// A directory.
    Posix,
    /// A directory on an SMB share.
    Cifs,
}

impl RepositoryType {
    /// The type as it stands in a spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
            Self::Posix => "posix",
            Self::Cifs => "cifs",
        }
    }
}

/// What `retention_full` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum RetentionType {
    /// Days.
    Time,
    /// Full backups.
    Count,
}

macro_rules! repository {
    ($(#[$doc:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Its id, unique in the list.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 36), regex(pattern = ID))]
            pub id: Option<String>,
            /// What kind of storage it is.
            #[serde(rename = "type")]
            pub kind: RepositoryType,
            /// The S3 bucket.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 3, max = 63))]
            pub s3_bucket: Option<String>,
            /// The S3 region.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 32))]
            pub s3_region: Option<String>,
            /// The S3 endpoint; left out: Amazon's of the region.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 3, max = 128))]
            pub s3_endpoint: Option<String>,
            /// The S3 access key.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = 128))]
            pub s3_key: Option<SecretText>,
            /// The S3 secret key.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = 128))]
            pub s3_key_secret: Option<SecretText>,
            /// The Google Cloud Storage bucket.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 3, max = 63))]
            pub gcs_bucket: Option<String>,
            /// The Google Cloud Storage endpoint.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 3, max = 128))]
            pub gcs_endpoint: Option<String>,
            /// The Google Cloud Storage key.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = 1024))]
            pub gcs_key: Option<SecretText>,
            /// The Azure account.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 3, max = 24))]
            pub azure_account: Option<String>,
            /// The Azure container.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 3, max = 63))]
            pub azure_container: Option<String>,
            /// The Azure endpoint.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 3, max = 128))]
            pub azure_endpoint: Option<String>,
            /// The Azure key.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = 128))]
            pub azure_key: Option<SecretText>,
            $($own)*
            /// The path in the repository; for posix and cifs an absolute one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = 256))]
            pub base_path: Option<String>,
            /// Further options of pgBackRest, without `repoN-`.
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            pub custom_options: BTreeMap<String, SecretText>,
        }
    };
}

repository!(
    /// Where backups go.
    BackupRepositorySpec {
        /// How long full backups are kept: days, or a number of them. Left out: 7.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 9_999_999))]
        pub retention_full: Option<u32>,
        /// What `retention_full` counts. Left out: time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub retention_full_type: Option<RetentionType>,
    }
);

repository!(
    /// Where a backup is restored from.
    RestoreRepositorySpec {}
);

/// The backup that a database is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreConfigSpec {
    /// The database that was backed up.
    #[schemars(length(min = 1, max = 36), regex(pattern = ID))]
    pub source_database_id: String,
    /// The node that was backed up.
    #[schemars(regex(pattern = crate::model::ids::NODE_NAME_PATTERN))]
    pub source_node_name: String,
    /// The name that the Postgres database had.
    #[schemars(length(min = 1, max = 31))]
    pub source_database_name: String,
    /// Where the backup is.
    pub repository: RestoreRepositorySpec,
    /// Options of `pgbackrest restore`: `set`, `type`, `target`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 32))]
    pub restore_options: BTreeMap<String, String>,
}
