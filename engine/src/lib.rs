//! The time-series store of wattlog: append-only, checksummed, mmap-read.
//!
//! Promise, in this order: an acknowledged point survives any power cut; a wrong value is never served; no input ends
//! the process; it always starts; it is fast and small. Bytes on disk: format-spec.md.
//!
//! Pure and synchronous: threads and files, no async, no network, no environment variables, no wall clock of its own.

mod ballast;
mod bytes;
pub mod catalog;
pub mod check;
pub mod codec;
pub mod column;
pub mod compaction;
mod engine;
pub mod error;
pub mod feed;
pub mod file_header;
mod heal;
pub mod ids;
mod info;
pub mod ingest;
pub mod io;
pub mod manifest;
pub mod memtable;
pub mod metrics;
pub mod options;
mod publication;
pub mod query;
mod recovery;
pub mod repair;
pub mod retention;
pub mod rows;
pub mod salvage;
mod scrub;
mod seal;
pub mod segment;
mod snapshot;
mod space;
mod status;
mod sync;
pub mod tombstone;
mod undefined;
pub mod wal;

pub use compaction::CompactionReport;
pub use engine::{DEFAULT_POLICY, Engine};
pub use error::{Damage, EngineError, OpenError, WriteError};
pub use feed::{
    BucketRule, Cause, ChangeCursor, ChangeEvent, ChangeReader, ChangeRequest, ChangeStart, Changes,
    CommittedBatch, Cursor, FeedEvent, FeedReader, FeedStart, Subject,
};
pub use info::{DatabaseInfo, FieldInfo, MeasurementInfo, StorageInfo};
pub use ingest::{
    DeleteError, DeleteReceipt, DeleteRequest, RejectReason, Rejection, Row, SeriesSlot, WriteBatch,
    WriteReceipt,
};
pub use metrics::{DURATION_BUCKETS_S, HistogramSnapshot, MetricsSnapshot};
pub use options::{Durability, Options};
pub use recovery::{RecoveryReport, TornEnd};
pub use retention::{ClockCondition, RetentionClockInfo, RetentionInfo, RetentionReport, Rule};
pub use scrub::{ScrubReport, ScrubStatus};
pub use seal::SealReport;
pub use snapshot::Snapshot;
pub use space::SpaceInfo;
pub use status::{Background, Health, LastWork};
