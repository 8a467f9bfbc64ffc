//! What can go wrong, told to callers. Damage found in a file is the same type everywhere.

use std::io;
use std::time::Duration;

/// Bytes of a file that are not what was written there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} at byte {offset}, {part}: expected {expected:#x}, found {found:#x}")]
pub struct Damage {
    /// Path within the store.
    pub file: String,
    /// Offset of the damaged part in the file.
    pub offset: u64,
    /// Name of the part, as format-spec.md calls it.
    pub part: &'static str,
    /// What the file's own structure promises there (a checksum, a length, a magic).
    pub expected: u64,
    /// What stands there.
    pub found: u64,
}

/// Why a body was not stored, or not certainly.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// No such database, and databases are not created by writing.
    #[error("database not found: \"{0}\"")]
    DatabaseNotFound(String),
    /// The database has no such retention policy.
    #[error("retention policy not found: {0}")]
    RetentionPolicyNotFound(String),
    /// A database or policy name that cannot be one.
    #[error("invalid name: {0}")]
    InvalidName(String),
    /// The queue stayed full for as long as a caller may wait.
    #[error("timeout: the write queue is full, try again in {} s", retry_after.as_secs_f64())]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The body encodes to more than one record can hold.
    #[error("the body encodes to {len} bytes, one record holds {limit}: send it in parts")]
    TooLarge {
        /// Bytes of the encoded body.
        len: usize,
        /// Most bytes of one record.
        limit: usize,
    },
    /// The rows lie on so many days, or go to and fro between days so often, that one body would take the memory of many.
    #[error("the rows of the body lie on too many days (limit {limit}): send them by time, in parts")]
    TooScattered {
        /// Most days of all series of a body.
        limit: usize,
    },
    /// So many deletes wait for a compaction that one more would make every answer slow.
    #[error(
        "{limit} deletes wait until segments are rewritten: try again in a minute, or ask for a compaction"
    )]
    TooManyDeletes {
        /// Most that may wait.
        limit: usize,
    },
    /// A retention rule so short that the day which a start with a wrong clock may add could drop all that it keeps.
    #[error(
        "a retention keeps {} s at least: to remove everything, delete it", least.as_secs_f64()
    )]
    RetentionTooShort {
        /// The shortest that may be set.
        least: Duration,
    },
    /// So many retention rules that one more would make every manifest long.
    #[error("{limit} retention rules are set, no more can be")]
    TooManyRetentions {
        /// Most of a store.
        limit: usize,
    },
    /// The disk is full: nothing of the body was stored. Writes resume by themselves when space returns.
    #[error("the disk is full, nothing was stored: {0}")]
    DiskFull(String),
    /// A sync failed after the bytes were written: the body may or may not be there after a restart.
    #[error("outcome unknown, the disk failed to sync: {0}")]
    OutcomeUnknown(String),
    /// The disk refused the write.
    #[error("the disk refused the write, nothing was stored: {0}")]
    Disk(String),
    /// The store takes no writes any more until it is opened again.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// The store is closing or closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a store did not open. A damaged file never is a reason: it is set aside and reported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the store open.
    #[error("the store is in use by another process ({0}): stop it, or choose another data folder")]
    InUse(String),
    /// A file was written by a newer version.
    #[error("{file} has format version {found}, this build reads up to {supported}: use the newer build")]
    TooNew {
        /// Path within the store.
        file: String,
        /// Version in its header.
        found: u32,
        /// Highest version known here.
        supported: u32,
    },
    /// The disk failed.
    #[error("{action}")]
    Disk {
        /// What was being done.
        action: &'static str,
        /// What the disk said.
        source: io::Error,
    },
}

/// Why an operation on an open store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The disk failed; what was stored before is still there.
    #[error("{action}: {message}")]
    Disk {
        /// What was being done.
        action: &'static str,
        /// What the disk said.
        message: String,
    },
    /// The store is closing or closed.
    #[error("the store is closed")]
    Closed,
}

impl OpenError {
    /// For a header that names a newer version.
    pub(crate) fn too_new(header: Damage) -> Self {
        Self::TooNew { file: header.file, found: header.found as u32, supported: header.expected as u32 }
    }

    /// For `map_err` on a call of the disk.
    pub(crate) fn disk(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { action, source }
    }
}

/// True if the disk has no room left.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
