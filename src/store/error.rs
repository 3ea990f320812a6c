//! Why the store did not do what it was asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A result of the store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store did not do what it was asked. Errors of redb are shared, since one failed commit answers many.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The directory of the file cannot be made.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The file cannot be made or opened, or its permissions cannot be set.
    #[error("cannot open the store {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// redb cannot open the file.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<redb::Error>,
    },
    /// Another process has the file open.
    #[error("the store {} is in use by another process; is pgmoor running already?", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer pgmoor.
    #[error("the store was written by a newer pgmoor: its schema is {found}, this one knows up to {known}")]
    TooNew {
        /// The version in the file.
        found: u32,
        /// The newest that this build knows.
        known: u32,
    },
    /// The file belongs to another fleet.
    #[error("the store belongs to the fleet {found}, not to {wanted}")]
    OtherFleet {
        /// The fleet in the file.
        found: String,
        /// The fleet of the configuration.
        wanted: String,
    },
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes to the store")]
    Thread(#[source] Arc<std::io::Error>),
    /// A table cannot be read.
    #[error("cannot read the table {table}")]
    Read {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: Arc<redb::Error>,
    },
    /// A row cannot be changed.
    #[error("cannot write to the table {table}")]
    Write {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: Arc<redb::Error>,
    },
    /// A transaction cannot be started.
    #[error("cannot start a transaction")]
    Begin(#[source] Arc<redb::Error>),
    /// The transaction was not committed: nothing of it happened.
    #[error("cannot commit")]
    Commit(#[source] Arc<redb::Error>),
    /// A value of ours cannot be written as JSON.
    #[error("cannot encode a row of the table {table}")]
    Encode {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// A row is not what we write. The text of serde names fields and types, never their values' content.
    #[error("cannot decode a row of the table {table}: {why}")]
    Decode {
        /// The table.
        table: &'static str,
        /// The kind of mistake and where it is, without the row's content.
        why: String,
    },
    /// A row was written by a newer pgmoor.
    #[error("a row of the table {table} has version {found}, this build knows up to {known}")]
    RowTooNew {
        /// The table.
        table: &'static str,
        /// The row's version.
        found: u32,
        /// The newest that this build knows.
        known: u32,
    },
    /// The work that was handed in refused: nothing of it was kept.
    #[error("refused: {why}")]
    Refused {
        /// Its reason, as a sentence for people.
        why: String,
    },
    /// The work that was handed in panicked: nothing of it was kept.
    #[error("the work for the store panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// An earlier commit failed; nothing more is written until the store is opened again.
    #[error("the store stopped writing after a failed commit; it has to be opened again")]
    Broken,
    /// The store was closed before the answer came; whether the work was done is not known.
    #[error("the store was closed")]
    Closed,
    /// The disk took too long; whether the work was done is not known.
    #[error("the store did not answer within {limit_s} s")]
    Slow {
        /// How long was waited, in seconds.
        limit_s: u64,
    },
    /// A commit failed because a test asked for it.
    #[error("commit {commit} failed on purpose")]
    Injected {
        /// Which commit since the store was opened, from 1.
        commit: u64,
    },
}

impl Error {
    pub(super) fn file(path: &Path) -> impl Fn(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path: path.clone(), source: Arc::new(source) }
    }

    pub(super) fn read(table: &'static str) -> impl Fn(redb::Error) -> Self {
        move |source| Self::Read { table, source: Arc::new(source) }
    }

    pub(super) fn write(table: &'static str) -> impl Fn(redb::Error) -> Self {
        move |source| Self::Write { table, source: Arc::new(source) }
    }

    /// Undoes the work with a reason of its own.
    #[must_use]
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }
}
