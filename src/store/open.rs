//! Opening the file: directory and permissions, the lock, the schema's version, the fleet, the epoch.
//!
//! Invariants: the file is 0600, and a directory that we make is 0700; it has its name only once all of it is on the
//! disk; a file of a newer schema or of another fleet is refused before anything is changed in it; every start takes a
//! higher epoch than any start before it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::{Error, Result};
use super::reader;
use super::tables::Table;
use super::writer::{self, Opened, Writer};
use crate::model::FleetId;

/// A step from one schema version to the next.
pub(super) type Migration = fn(&mut Writer<'_>) -> Result<()>;

/// The steps: the first leads from version 1 to 2, so their number tells this build's version of the file's layout.
/// A step is needed when a table is split, renamed or keyed differently. All that are needed run in the transaction
/// that opens the file.
pub(super) const MIGRATIONS: &[Migration] = &[];

/// Memory that redb may use to keep pages. Its default of 1 GiB is for other machines than an edge host; a thousand
/// databases are about 20 MB of rows.
const CACHE_BYTES: usize = 8 << 20;

/// How long a lock left by a killed process is waited for: `LOCK_TRIES` times this. After SIGKILL the kernel needs a
/// moment to let go of it (mqtt.md).
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const LOCK_TRIES: u32 = 60;

const SCHEMA_KEY: &[u8] = b"schema_version";
const FLEET_KEY: &[u8] = b"fleet";
const EPOCH_KEY: &[u8] = b"epoch";

/// Opens or makes the file.
pub(super) fn file(path: &Path) -> Result<redb::Database> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| Error::Directory { path: directory.to_owned(), source: Arc::new(source) })?;
    if !path.try_exists().map_err(Error::file(path))? {
        make(directory, path)?;
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match builder().create_file(private_file(path)?) {
            Ok(database) => return Ok(database),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) if tries < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(Error::InUse { path: path.to_owned() }),
            Err(source) => return Err(Error::Open { path: path.to_owned(), source: Arc::new(source.into()) }),
        }
    }
}

/// Makes the file under another name, and gives it its own when it is whole: redb refuses for ever what a power cut
/// leaves of a file that was just being made.
fn make(directory: &Path, path: &Path) -> Result<()> {
    let locked = lock(directory, path)?;
    // Who had the lock before may have made it.
    if path.try_exists().map_err(Error::file(path))? {
        return Ok(());
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let file = private_file(&new)?;
    // What a start that was cut off left.
    file.set_len(0).map_err(Error::file(&new))?;
    let database = builder().create_file(file);
    drop(database.map_err(|source| Error::Open { path: new.clone(), source: Arc::new(source.into()) })?);
    let placed = File::open(&new).and_then(|file| file.sync_all()).and_then(|()| std::fs::rename(&new, path));
    placed.and_then(|()| locked.sync_all()).map_err(Error::file(path))
}

/// The directory, locked as long as the answer lives: one process makes the file.
fn lock(directory: &Path, path: &Path) -> Result<File> {
    let opened = File::open(directory).map_err(Error::file(directory))?;
    let mut tries = 0;
    loop {
        tries += 1;
        match opened.try_lock() {
            Ok(()) => return Ok(opened),
            Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(Error::file(directory)(source)),
        }
    }
}

/// A store that is gone with the process: for the fake drivers and for simulations.
pub(super) fn memory() -> Result<redb::Database> {
    on(redb::backends::InMemoryBackend::new())
}

/// A store on a backend that is no file.
pub(super) fn on(backend: impl redb::StorageBackend) -> Result<redb::Database> {
    let opened = builder().create_with_backend(backend);
    opened.map_err(|source| Error::Open { path: "(backend)".into(), source: Arc::new(source.into()) })
}

fn builder() -> redb::Builder {
    let mut builder = redb::Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn private_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(Error::file(path))?;
    // The mode above counts only for a new file.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(Error::file(path))?;
    Ok(file)
}

/// Checks the file, brings it to this build's schema, and takes the next epoch.
pub(super) fn prepare(database: &redb::Database, fleet: &FleetId, migrations: &[Migration]) -> Result<u64> {
    let transaction = writer::begin(database)?;
    let tables = Opened::new(&transaction);
    let mut writer = Writer::new(&tables);
    let known = 1 + u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    // A table exists from the first time it is opened for writing; readers would not find it otherwise.
    for table in Table::ALL {
        let _rows = writer.rows(table)?;
    }
    let found: u32 = reader::row(&writer, Table::Meta, SCHEMA_KEY)?.unwrap_or(known);
    if found > known {
        return Err(Error::TooNew { found, known });
    }
    let owner = reader::row::<_, FleetId>(&writer, Table::Meta, FLEET_KEY)?;
    if let Some(owner) = owner.filter(|owner| owner != fleet) {
        return Err(Error::OtherFleet { found: owner.to_string(), wanted: fleet.to_string() });
    }
    let done = usize::try_from(found.saturating_sub(1)).unwrap_or(usize::MAX);
    for migration in migrations.iter().skip(done) {
        migration(&mut writer)?;
    }
    let epoch = reader::row::<_, u64>(&writer, Table::Meta, EPOCH_KEY)?.unwrap_or(0).saturating_add(1);
    writer.put(Table::Meta, SCHEMA_KEY.to_vec(), &known)?;
    writer.put(Table::Meta, FLEET_KEY.to_vec(), fleet)?;
    writer.put(Table::Meta, EPOCH_KEY.to_vec(), &epoch)?;
    drop(tables);
    transaction.commit().map_err(|source| Error::Commit(Arc::new(source.into())))?;
    Ok(epoch)
}
