//! Files, ports and disk of this host.
//!
//! The design calls this room's folder `files`; it also answers for ports and disk, hence `host`.

mod guard;
mod local;

pub use local::Local;

use async_trait::async_trait;

use super::Result;
use crate::model::Secret;

/// Permissions and owner of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// Permission bits, for example `0o700`.
    pub mode: u32,
    /// Owner's numeric user id.
    pub uid: u32,
    /// Owner's numeric group id.
    pub gid: u32,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSeen {
    /// Its content: it may be a secret.
    pub content: Secret,
    /// Its permissions.
    pub permissions: Permissions,
}

/// A disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSeen {
    /// Size in bytes.
    pub total_bytes: u64,
    /// Free for us, in bytes.
    pub free_bytes: u64,
}

/// The host that this daemon runs on. Paths are absolute.
#[async_trait]
pub trait Host: Send + Sync {
    /// The permissions of a directory, if one is there. Something else at that path is `Failed`.
    async fn directory(&self, path: &str) -> Result<Option<Permissions>>;
    /// The names of what is in a directory; empty when it is not there.
    async fn list(&self, path: &str) -> Result<Vec<String>>;
    /// Makes the directory and its parents (0700), and gives it these permissions. It may be there already.
    async fn make_directory(&self, path: &str, permissions: Permissions) -> Result<()>;
    /// Removes a directory with all in it. Refuses a path outside the data directory. It may be gone already.
    async fn remove_directory(&self, path: &str) -> Result<()>;
    /// Moves a directory (rename, same file system). `Conflict` when the target is there, `NotFound` without a source.
    async fn move_directory(&self, from: &str, to: &str) -> Result<()>;
    /// A text file, if it is there.
    async fn read(&self, path: &str) -> Result<Option<FileSeen>>;
    /// Writes a file whole or not at all: beside it, synced, renamed.
    async fn write(&self, path: &str, content: &Secret, permissions: Permissions) -> Result<()>;
    /// Removes a file. It may be gone already.
    async fn remove_file(&self, path: &str) -> Result<()>;
    /// Whether nothing listens on this TCP port of any address.
    async fn port_is_free(&self, port: u16) -> Result<bool>;
    /// Whether something is at this path (for the extra volumes of a spec).
    async fn exists(&self, path: &str) -> Result<bool>;
    /// The disk that a path is on.
    async fn disk(&self, path: &str) -> Result<DiskSeen>;
}
