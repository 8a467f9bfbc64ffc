//! Write-ahead log: a batch is safe on disk before anyone hears "yes".
//!
//! Bytes: format-spec.md, "WAL". Files: `wal/wal-<log id>.log`, owned by this module alone.
//! Promise: when [`LogWriter::sync`] returns `Ok`, every record written before it survives a power cut, and replay gives
//! the records of all logs in one order, whole or absent, without holes but those it reports as damage.
//!
//! Invariants
//! 1. Sequences rise by one through all logs; only the sealing record of a log takes none.
//! 2. A log exists only if all records below its first sequence are durable or sealed; at or above it, older logs are void.
//! 3. Nothing is ever appended to a log that was not created by this process.
//!
//! Threads: one writer; replay only at open. Not here: grouping, policies and retries (`ingest`), what a payload means.

pub mod record;
mod recycle;
mod replay;
mod scan;
mod writer;

pub use record::{MAX_PAYLOAD_LEN, RecordHead, RecordHeader, RecordKind, log_path};
pub use recycle::{MAX_SPARE_BYTES, MAX_SPARES, Recycler, Retired, set_aside};
pub use replay::{LogDamage, LogFile, Record, ReplayFloor, ReplayReport, TornTail, replay};
pub use writer::{LogHealth, LogWriter};

pub(crate) use replay::each_definition;

#[cfg(test)]
mod tests;
