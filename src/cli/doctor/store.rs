//! The data directory: permissions, the fleet key, the store's file, and whether a daemon has it.
//!
//! Invariant: the store is never opened (opening it is a start of the daemon: it takes the next epoch); its head and its
//! lock tell what is asked.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::check::Check;

/// What every file of redb begins with.
const MAGIC: &[u8] = b"redb";

/// The store's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Store {
    Absent,
    /// A daemon has it open.
    Held,
    /// Nobody has it open.
    Free,
    /// It is not what the store writes.
    Foreign,
    Unreadable(String),
}

/// What stands in the data directory; modes are none where nothing is, or nobody may look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) directory: Result<Option<u32>, String>,
    pub(super) key: Result<Option<u32>, String>,
    pub(super) store: Store,
}

pub(super) fn look(data_dir: &str) -> Seen {
    let directory = Path::new(data_dir);
    Seen {
        directory: mode(directory),
        key: mode(&directory.join("fleet.key")),
        store: store(&directory.join("pgmoor.redb")),
    }
}

fn mode(path: &Path) -> Result<Option<u32>, String> {
    match std::fs::metadata(path) {
        Ok(seen) => Ok(Some(seen.permissions().mode() & 0o7777)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn store(path: &Path) -> Store {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Store::Absent,
        Err(error) => return Store::Unreadable(error.to_string()),
    };
    // Shared, and let go of at once: a daemon that starts at this moment tries again for three seconds.
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Store::Held,
        Err(error) => return Store::Unreadable(error.to_string()),
    }
    let mut head = [0; MAGIC.len()];
    match file.read_exact(&mut head) {
        Ok(()) if head == MAGIC => Store::Free,
        Ok(()) | Err(_) => Store::Foreign,
    }
}

impl Seen {
    /// Whether a daemon runs on this data directory; none: it cannot be told.
    pub(super) fn daemon(&self) -> Option<bool> {
        match self.store {
            Store::Held => Some(true),
            Store::Absent | Store::Free | Store::Foreign => Some(false),
            Store::Unreadable(_) => None,
        }
    }
}

/// How the data directory is.
pub(super) fn judge(data_dir: &str, seen: &Seen) -> Vec<Check> {
    let fresh = seen.directory == Ok(None);
    let mut checks = vec![permissions("store.directory", data_dir, &seen.directory, 0o700)];
    if fresh {
        return checks;
    }
    let key = format!("{data_dir}/fleet.key");
    checks.push(match (&seen.key, &seen.store) {
        (Ok(None), Store::Held | Store::Free) => {
            let fix = "put your copy back; without one see docs/operations.md, \"Losing things\"";
            Check::fail("store.fleet_key", format!("{key} is gone, and the store is there"), fix)
        }
        _ => permissions("store.fleet_key", &key, &seen.key, 0o600),
    });
    let file = format!("{data_dir}/pgmoor.redb");
    checks.push(match &seen.store {
        Store::Absent => Check::skipped("store.file", format!("{file} is not there yet: the first start makes it")),
        Store::Held => Check::ok("store.file", format!("{file} is open in a running daemon")),
        Store::Free => Check::ok("store.file", format!("{file} is there, and no daemon has it open")),
        Store::Foreign => Check::fail(
            "store.file",
            format!("{file} is not a store: it does not begin as one"),
            "with the daemon stopped, move it away: records come back from Swarm (docs/operations.md, \"Losing things\")",
        ),
        Store::Unreadable(why) => Check::skipped("store.file", format!("{file} cannot be read: {why}; ask as root")),
    });
    checks
}

fn permissions(name: &'static str, path: &str, mode: &Result<Option<u32>, String>, wanted: u32) -> Check {
    match mode {
        Ok(None) => Check::skipped(name, format!("{path} is not there yet: the first start makes it")),
        Ok(Some(mode)) if mode & 0o077 == 0 => Check::ok(name, format!("{path} is private ({mode:04o})")),
        Ok(Some(mode)) => {
            let finding = format!("{path} has mode {mode:04o}: others than its owner may use it");
            Check::fail(name, finding, format!("chmod {wanted:04o} {path}"))
        }
        Err(why) => Check::skipped(name, format!("{path} cannot be looked at: {why}; ask as root")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict::{self, Fail, Ok as Good, Skipped};
    use super::*;

    fn results(data_dir: &str) -> Vec<Verdict> {
        judge(data_dir, &look(data_dir)).iter().map(|check| check.result).collect()
    }

    #[test]
    fn a_data_directory_is_private_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let set = |name: &str, mode| {
            std::fs::set_permissions(directory.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert_eq!(results("/nonexistent/pgmoor"), [Skipped]);
        set("", 0o700);
        assert_eq!(results(path), [Good, Skipped, Skipped]);
        std::fs::write(directory.path().join("pgmoor.redb"), "redb...").unwrap();
        assert_eq!(results(path), [Good, Fail, Good], "a store without its key");
        std::fs::write(directory.path().join("fleet.key"), "k").unwrap();
        set("fleet.key", 0o644);
        set("", 0o755);
        assert_eq!(results(path), [Fail, Fail, Good]);
        set("fleet.key", 0o600);
        std::fs::write(directory.path().join("pgmoor.redb"), "else").unwrap();
        assert_eq!(results(path), [Fail, Good, Fail]);
    }

    #[test]
    fn a_daemon_is_known_by_its_lock() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgmoor.redb");
        let held = redb::Database::create(&file).unwrap();
        let seen = look(directory.path().to_str().unwrap());
        assert_eq!((seen.store.clone(), seen.daemon()), (Store::Held, Some(true)));
        drop(held);
        let seen = look(directory.path().to_str().unwrap());
        assert_eq!((seen.store.clone(), seen.daemon()), (Store::Free, Some(false)));
    }
}
