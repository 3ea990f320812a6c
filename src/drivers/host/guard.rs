//! What may be removed or moved: only what really lies below the data directory.
//!
//! Invariant: the answer is about the canonical path, so neither `..` nor a symbolic link leads out.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Why a path is refused.
fn refuse(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("refused: {} {why}", path.display()))
}

/// The canonical path of an entry (which itself may be missing) below the data directory; `None` when the directory
/// that it would be in is not there, so that neither is the entry.
///
/// # Errors
/// The path is not absolute, has `..` in it, is the data directory itself, or leads out of it.
pub(super) fn inside(data_dir: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    plain(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refuse(path, "has no name"));
    };
    let root = match data_dir.canonicalize() {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Nothing is below a directory that is not there; only a path that claims to be is gone already.
            return if path.starts_with(data_dir) && path != data_dir {
                Ok(None)
            } else {
                Err(refuse(path, "is outside the data directory"))
            };
        }
        Err(error) => return Err(error),
    };
    let parent = match parent.canonicalize() {
        Ok(parent) => parent,
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.starts_with(data_dir) => return Ok(None),
        Err(error) => return Err(error),
    };
    let whole = parent.join(name);
    if whole.starts_with(&root) && whole != root {
        Ok(Some(whole))
    } else {
        Err(refuse(path, "is outside the data directory"))
    }
}

/// Refuses a path that is not absolute or has `..` in it.
///
/// # Errors
/// It is one of these.
pub(super) fn plain(path: &Path) -> io::Result<()> {
    if !path.is_absolute() {
        return Err(refuse(path, "is not absolute"));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(refuse(path, "has .. in it"));
    }
    Ok(())
}
