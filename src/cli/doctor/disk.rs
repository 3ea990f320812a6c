//! Disks: room, inodes, and how long a write takes to be safe.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::Check;
use crate::runtime::{Clock, Random};

const MIB: u64 = 1 << 20;
/// Less room than this: images do not fit, and Postgres stops at its next segment.
const BYTES_FAIL: u64 = 256 * MIB;
/// Less room than this is too near.
const BYTES_WARN: u64 = 2048 * MIB;
/// Fewer free inodes than this share (of a hundred) are too few.
const INODES_PERCENT: u64 = 5;
/// etcd elects anew, and commits of Postgres crawl, when syncs take longer.
const SYNC_WARN: Duration = Duration::from_millis(100);
/// Syncs that are measured; the median counts.
const SYNCS: usize = 5;

/// What a file system has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free_bytes: u64,
    /// All and free inodes; none at all where the file system makes them as needed.
    pub(super) inodes: (u64, u64),
}

/// The room where `path` is, or will be.
pub(super) fn room(path: &str) -> Result<Room, String> {
    let there = Path::new(path).ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let seen = rustix::fs::statvfs(there).map_err(|error| error.to_string())?;
    Ok(Room { free_bytes: seen.f_bavail.saturating_mul(seen.f_frsize), inodes: (seen.f_files, seen.f_favail) })
}

pub(super) fn judge_room(name: &'static str, path: &str, room: &Result<Room, String>) -> Check {
    let room = match room {
        Ok(room) => room,
        Err(why) => return Check::skipped(name, format!("{path} could not be looked at: {why}")),
    };
    let (all, free) = room.inodes;
    let scarce = all > 0 && free.saturating_mul(100) < all.saturating_mul(INODES_PERCENT);
    let inodes = if all > 0 { format!(", {free} of {all} inodes") } else { String::new() };
    let finding = format!("{path}: {} MiB free{inodes}", room.free_bytes / MIB);
    let fix = "make room: docker image prune, old logs; or a larger disk";
    if room.free_bytes < BYTES_FAIL || (all > 0 && free == 0) {
        Check::fail(name, finding, fix)
    } else if room.free_bytes < BYTES_WARN || scarce {
        Check::warn(name, finding, fix)
    } else {
        Check::ok(name, finding)
    }
}

/// The median time of a small write until it is safe, in a file of its own that is removed again.
pub(super) fn measure_sync(directory: &str, clock: &dyn Clock, random: &Random) -> std::io::Result<Duration> {
    let path = PathBuf::from(directory).join(format!(".doctor-{:016x}", random.next_u64()));
    let measured = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let before = clock.monotonic();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            times.push(clock.monotonic().saturating_sub(before));
        }
        times.sort();
        Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
    })();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => measured,
    }
}

pub(super) fn judge_sync(directory: &str, measured: &std::io::Result<Duration>) -> Check {
    match measured {
        Err(error) => Check::skipped("disk.sync", format!("no file could be written in {directory}: {error}")),
        Ok(took) => {
            let finding = format!("{directory}: a write is safe after {:.1} ms", took.as_secs_f64() * 1000.0);
            if *took > SYNC_WARN {
                let fix = "use a disk of its own or a faster one: etcd and Postgres wait for every sync";
                Check::warn("disk.sync", finding, fix)
            } else {
                Check::ok("disk.sync", finding)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict::{Fail, Ok as Good, Skipped, Warn};
    use super::*;

    #[test]
    fn room_is_judged() {
        let judged =
            |mib: u64, inodes| judge_room("disk.data", "/d", &Ok(Room { free_bytes: mib * MIB, inodes })).result;
        assert_eq!(judged(4000, (1000, 500)), Good);
        assert_eq!(judged(4000, (0, 0)), Good);
        assert_eq!(judged(1000, (0, 0)), Warn);
        assert_eq!(judged(4000, (1000, 49)), Warn);
        assert_eq!(judged(4000, (1000, 0)), Fail);
        assert_eq!(judged(100, (1000, 500)), Fail);
        assert_eq!(judge_room("disk.data", "/d", &Err("no".to_owned())).result, Skipped);
    }

    #[test]
    fn a_sync_is_measured_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let clock = crate::runtime::SystemClock::new();
        let measured = measure_sync(path, &clock, &Random::System);
        assert!(measured.as_ref().is_ok_and(|took| !took.is_zero()), "{measured:?}");
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
        assert_eq!(judge_sync(path, &Ok(SYNC_WARN * 2)).result, Warn);
        assert_eq!(judge_sync(path, &Ok(SYNC_WARN)).result, Good);
        assert_eq!(judge_sync(path, &measure_sync("/nonexistent", &clock, &Random::System)).result, Skipped);
    }
}
