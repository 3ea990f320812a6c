//! The real host: this machine's file system, ports and disk.
//!
//! Invariants: a file is there whole or not at all, and never readable by others before it has its permissions; nothing
//! outside the data directory is removed or moved. Disk work runs on the blocking pool, each call with a deadline.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{Gid, RenameFlags, Uid};

use super::{DiskSeen, FileSeen, Host, Permissions, guard};
use crate::drivers::{Error, Result};
use crate::model::Secret;

/// How long one call may take: a disk that hangs must not hang the daemon. Removing a large directory is the longest.
const DEADLINE: Duration = Duration::from_secs(120);
/// The most bytes of a file that is read: ours are a few kilobytes; a larger one is not one that we wrote.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// This machine.
#[derive(Debug, Clone)]
pub struct Local {
    data_dir: PathBuf,
}

impl Local {
    /// The host, whose removes and moves stay below `data_dir` (absolute; it need not exist yet).
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into() }
    }
}

/// Runs disk work on the blocking pool under the deadline, and words its failure.
async fn blocking<T: Send + 'static>(act: String, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    match tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(io_error(act, &error)),
        Ok(Err(error)) => Err(Error::Unreachable { act, why: error.to_string() }),
        Err(_) => Err(Error::Unreachable { act, why: format!("the disk took longer than {} s", DEADLINE.as_secs()) }),
    }
}

fn io_error(act: String, error: &io::Error) -> Error {
    use io::ErrorKind::{AlreadyExists, Interrupted, NotFound, StaleNetworkFileHandle, TimedOut};
    let kind = error.kind();
    if kind == NotFound {
        Error::NotFound { act }
    } else if kind == AlreadyExists {
        Error::Conflict { act, why: error.to_string() }
    } else if matches!(kind, TimedOut | Interrupted | StaleNetworkFileHandle) {
        Error::Unreachable { act, why: error.to_string() }
    } else {
        Error::Failed { act, why: error.to_string() }
    }
}

/// Turns "it is not there" into `None`.
fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        // A file where a directory should be on the way has nothing below it.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn permissions_of(metadata: &fs::Metadata) -> Permissions {
    Permissions { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }
}

fn not_a(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("something else is there, not a {what}"))
}

/// Owner first: a change of owner clears the set-id bits.
fn set_permissions(file: &File, permissions: Permissions) -> io::Result<()> {
    rustix::fs::fchown(file, Some(Uid::from_raw(permissions.uid)), Some(Gid::from_raw(permissions.gid)))?;
    file.set_permissions(fs::Permissions::from_mode(permissions.mode))
}

fn sync_directory(path: Option<&Path>) -> io::Result<()> {
    path.map_or(Ok(()), |path| File::open(path)?.sync_all())
}

/// Makes a name for a temporary file that no other write of this or another process uses now.
fn temporary_name(name: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(".{name}.{}.{number}.tmp", std::process::id())
}

fn write_whole(path: &Path, content: &Secret, permissions: Permissions) -> io::Result<()> {
    guard::plain(path)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| not_a("file"))?;
    let temporary = path.with_file_name(temporary_name(name));
    let written = write_beside(&temporary, content, permissions).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The failure that counts is the first one; a leftover is hidden, has the permissions of the file, and is
        // never read.
        drop(fs::remove_file(&temporary));
    }
    written.and_then(|()| sync_directory(path.parent()))
}

fn write_beside(temporary: &Path, content: &Secret, permissions: Permissions) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    set_permissions(&file, permissions)?;
    file.write_all(content.expose().as_bytes())?;
    file.sync_all()
}

fn read_whole(path: &Path) -> io::Result<Option<FileSeen>> {
    let Some(metadata) = optional(fs::metadata(path))? else { return Ok(None) };
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !metadata.is_file() {
        return Err(not_a("file"));
    }
    let Some(file) = optional(File::open(path))? else { return Ok(None) };
    let permissions = permissions_of(&file.metadata()?);
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    // Not a text that we wrote: it still has to read as something different, so that it is written again.
    Ok(Some(FileSeen { content: Secret::new(String::from_utf8_lossy(&content).into_owned()), permissions }))
}

fn make_directory(path: &Path, permissions: Permissions) -> io::Result<()> {
    guard::plain(path)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| if error.kind() == io::ErrorKind::AlreadyExists { not_a("directory") } else { error })?;
    let directory = File::open(path)?;
    if permissions_of(&directory.metadata()?) != permissions {
        set_permissions(&directory, permissions)?;
    }
    sync_directory(path.parent())
}

fn remove_directory(data_dir: &Path, path: &Path) -> io::Result<()> {
    let Some(path) = guard::inside(data_dir, path)? else { return Ok(()) };
    let Some(metadata) = optional(fs::symlink_metadata(&path))? else { return Ok(()) };
    if !metadata.is_dir() {
        return Err(not_a("directory"));
    }
    optional(fs::remove_dir_all(&path))?;
    sync_directory(path.parent())
}

fn remove_file(data_dir: &Path, path: &Path) -> io::Result<()> {
    let Some(path) = guard::inside(data_dir, path)? else { return Ok(()) };
    if optional(fs::remove_file(&path))?.is_some() {
        sync_directory(path.parent())?;
    }
    Ok(())
}

fn move_directory(data_dir: &Path, from: &Path, to: &Path) -> io::Result<()> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let from = guard::inside(data_dir, from)?.ok_or_else(missing)?;
    if !optional(fs::symlink_metadata(&from))?.ok_or_else(missing)?.is_dir() {
        return Err(not_a("directory"));
    }
    guard::plain(to)?;
    if let Some(parent) = to.parent()
        && to.starts_with(data_dir)
    {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let to = guard::inside(data_dir, to)?.ok_or_else(missing)?;
    // NOREPLACE: a plain rename would replace an empty directory that is there.
    rustix::fs::renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, RenameFlags::NOREPLACE)?;
    sync_directory(from.parent())?;
    sync_directory(to.parent())
}

/// Whether a listener on `port` would be in the way of one on `address`.
///
/// With SO_REUSEADDR, as Docker's proxy and Postgres set it, Linux refuses the bind only where somebody listens;
/// without it, connections that ended a minute ago would be in the way too, and a container that is replaced would
/// seem to block its own port. The socket never listens itself, so two checks do not disturb each other.
fn bind_works(address: SocketAddr) -> io::Result<bool> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    };
    let bound = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)
    });
    match bound {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
        // A machine without IPv6 has no IPv6 listener.
        Err(error)
            if address.is_ipv6()
                && (error.kind() == io::ErrorKind::AddrNotAvailable
                    || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())) =>
        {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Host for Local {
    async fn directory(&self, path: &str) -> Result<Option<Permissions>> {
        let owned = PathBuf::from(path);
        blocking(format!("look at the directory {path}"), move || match optional(fs::metadata(&owned))? {
            None => Ok(None),
            Some(metadata) if metadata.is_dir() => Ok(Some(permissions_of(&metadata))),
            Some(_) => Err(not_a("directory")),
        })
        .await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>> {
        let owned = PathBuf::from(path);
        blocking(format!("list the directory {path}"), move || {
            let Some(entries) = optional(fs::read_dir(&owned))? else { return Ok(Vec::new()) };
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn make_directory(&self, path: &str, permissions: Permissions) -> Result<()> {
        let owned = PathBuf::from(path);
        blocking(format!("make the directory {path}"), move || make_directory(&owned, permissions)).await
    }

    async fn remove_directory(&self, path: &str) -> Result<()> {
        let (data_dir, owned) = (self.data_dir.clone(), PathBuf::from(path));
        blocking(format!("remove the directory {path}"), move || remove_directory(&data_dir, &owned)).await
    }

    async fn move_directory(&self, from: &str, to: &str) -> Result<()> {
        let (data_dir, source, target) = (self.data_dir.clone(), PathBuf::from(from), PathBuf::from(to));
        let act = format!("move the directory {from} to {to}");
        blocking(act, move || move_directory(&data_dir, &source, &target)).await
    }

    async fn read(&self, path: &str) -> Result<Option<FileSeen>> {
        let owned = PathBuf::from(path);
        blocking(format!("read the file {path}"), move || read_whole(&owned)).await
    }

    async fn write(&self, path: &str, content: &Secret, permissions: Permissions) -> Result<()> {
        let (owned, content) = (PathBuf::from(path), content.clone());
        blocking(format!("write the file {path}"), move || write_whole(&owned, &content, permissions)).await
    }

    async fn remove_file(&self, path: &str) -> Result<()> {
        let (data_dir, owned) = (self.data_dir.clone(), PathBuf::from(path));
        blocking(format!("remove the file {path}"), move || remove_file(&data_dir, &owned)).await
    }

    async fn port_is_free(&self, port: u16) -> Result<bool> {
        let act = || format!("look whether port {port} is free");
        let every = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))];
        for address in every {
            if !bind_works(address).map_err(|error| io_error(act(), &error))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn exists(&self, path: &str) -> Result<bool> {
        let owned = PathBuf::from(path);
        blocking(format!("look at {path}"), move || optional(fs::metadata(&owned)).map(|seen| seen.is_some())).await
    }

    async fn disk(&self, path: &str) -> Result<DiskSeen> {
        let owned = PathBuf::from(path);
        blocking(format!("look at the disk of {path}"), move || {
            let seen = rustix::fs::statvfs(&owned)?;
            Ok(DiskSeen {
                total_bytes: seen.f_blocks.saturating_mul(seen.f_frsize),
                free_bytes: seen.f_bavail.saturating_mul(seen.f_frsize),
            })
        })
        .await
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
