//! The handle: open, write, query, seal, close. Owns the threads and the order of locks.
//!
//! Threads: callers (any number), one writer (`ingest::writer`), one sealer (`seal`), one compactor (`compaction`), one
//! scrubber (`scrub`), which only reads. They share [`Shared`]; the writer alone gives ids and sequences, the sealer and
//! the compactor alone write segments.
//!
//! Lock order: `manifest`, then `view`; both are held for moments, never across a sync except the manifest's own.
//! Data never flows back: ingest -> WAL -> memtable -> segment; queries read a [`Snapshot`].

mod databases;
mod shared;

pub(crate) use shared::{Found, Shared};

use crate::compaction::{CompactionReport, Compactor};
use crate::error::{EngineError, OpenError, WriteError};
use crate::feed::{ChangeReader, ChangeRequest, ChangeStart, FeedReader, FeedStart};
use crate::ids::{SegmentId, StoreId};
use crate::info::StorageInfo;
use crate::ingest::{DeleteError, DeleteReceipt, DeleteRequest, Ingest, WriteBatch, WriteReceipt};
use crate::io::{Disk, Lock};
use crate::metrics::MetricsSnapshot;
use crate::options::Options;
use crate::query::{self, QueryControl, QueryError, QueryRequest, QueryResult};
use crate::recovery::{self, Orphans, RecoveryReport};
use crate::retention;
use crate::scrub::{ScrubReport, ScrubStatus, Scrubber};
use crate::seal::SealReport;
use crate::snapshot::Snapshot;
use crate::space::SpaceInfo;
use crate::status::{Background, Health};
use std::sync::Arc;
use std::time::Duration;
use wattlog_model::Clock;

pub use crate::catalog::DEFAULT_POLICY;

/// An open store. Clones are the same store; the last one to go closes it.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    ingest: Ingest,
    compactor: Compactor,
    scrubber: Scrubber,
    report: RecoveryReport,
    /// Held for as long as the store is open.
    _lock: Box<dyn Lock>,
}

impl Engine {
    /// Opens the store on `disk`, or makes one there; `seed` becomes the identity of a new store.
    ///
    /// Returns when all that was acknowledged is readable. History is not read: that takes milliseconds whatever its
    /// size; the log since the last seal is replayed.
    ///
    /// # Errors
    /// Only if the store is in use, was written by a newer version, or the disk does not answer. Damage is reported,
    /// never an error.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        clock: Arc<dyn Clock>,
        seed: [u8; 16],
    ) -> Result<Self, OpenError> {
        let lock = Self::lock(&*disk)?;
        Self::open_locked(disk, options, clock, StoreId(seed), (lock, Orphans::Remove))
    }

    /// Keeps every other process out.
    pub(crate) fn lock(disk: &dyn Disk) -> Result<Box<dyn Lock>, OpenError> {
        disk.lock("LOCK").map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::InUse(source.to_string()),
            _ => OpenError::Disk { action: "lock the store", source },
        })
    }

    /// [`Engine::open`] for who holds the lock.
    pub(crate) fn open_locked(
        disk: Arc<dyn Disk>,
        options: Options,
        clock: Arc<dyn Clock>,
        seed: StoreId,
        (lock, orphans): (Box<dyn Lock>, Orphans),
    ) -> Result<Self, OpenError> {
        let recovered = recovery::recover(&disk, &options, seed, orphans)?;
        let shared = Arc::new(Shared::new(disk, options, clock, recovered.found));
        for damage in &recovered.report.damage {
            shared.report_damage(damage);
        }
        for alarm in &recovered.report.alarms {
            shared.status.add_alarm(alarm.clone());
        }
        shared.ballast.lay(&*shared.disk);
        if let Err(error) = retention::look(&shared) {
            tracing::warn!(%error, "cutoffs could not be moved on; this is tried again");
        }
        let ingest = Ingest::start(&shared, recovered.writer);
        let compactor = Compactor::start(&shared);
        let scrubber = Scrubber::start(&shared);
        let report = recovered.report;
        Ok(Self { inner: Arc::new(Inner { shared, ingest, compactor, scrubber, report, _lock: lock }) })
    }

    /// For tools of the store itself.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Which store this is: drawn when it was made, the same for as long as it lives, in every copy of it too.
    pub fn store_id(&self) -> StoreId {
        self.inner.shared.store
    }

    /// What opening found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.inner.report
    }

    /// Stores one body, whole or not at all; waits until it is as durable as its namespace asks.
    ///
    /// Rows that do not fit (another type, too many series) are refused one by one, in the receipt.
    ///
    /// # Errors
    /// [`WriteError`]: nothing was stored, except for `OutcomeUnknown`.
    pub fn write(&self, batch: WriteBatch) -> Result<WriteReceipt, WriteError> {
        self.inner.ingest.write(&self.inner.shared, batch)
    }

    /// Answers a query from a snapshot taken now.
    pub fn query(&self, request: &QueryRequest, control: &QueryControl) -> Result<QueryResult, QueryError> {
        query::run(&self.snapshot(), request, &self.inner.shared.options.query, control)
    }

    /// Whether the answer to a request can have changed; see [`query::version`].
    ///
    /// # Errors
    /// As [`Engine::query`] for names, ranges and too many series.
    pub fn query_version(&self, request: &QueryRequest) -> Result<u64, QueryError> {
        query::version(&self.snapshot(), request, &self.inner.shared.options.query)
    }

    /// Hands the rows of a request to `sink` piece by piece, all from a snapshot taken now; see [`query::export`].
    ///
    /// # Errors
    /// As [`query::export`].
    pub fn export(
        &self,
        request: &QueryRequest,
        control: &QueryControl,
        on_damage: query::OnDamage,
        sink: &mut dyn query::ExportSink,
    ) -> Result<query::Exported, QueryError> {
        let limits = &self.inner.shared.options.query;
        query::export(&self.snapshot(), request, limits, control, on_damage, sink)
    }

    /// Tells what a query for points or functions would read, without reading it.
    pub fn explain(
        &self,
        request: &QueryRequest,
        control: &QueryControl,
    ) -> Result<query::Explanation, QueryError> {
        query::explain(&self.snapshot(), request, &self.inner.shared.options.query, control)
    }

    /// An immutable view of all that was published before this call.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.inner.shared)
    }

    /// Hides values that were committed before; durable when it returns, and nothing is rewritten until a compaction.
    ///
    /// # Errors
    /// [`DeleteError`]: nothing was deleted, except for `OutcomeUnknown`.
    pub fn delete(&self, request: &DeleteRequest) -> Result<DeleteReceipt, DeleteError> {
        self.inner.ingest.delete(&self.inner.shared, request)
    }

    /// Seals, then merges segments until there is nothing left to merge, closed days or not.
    ///
    /// # Errors
    /// If the store closes meanwhile, or the disk refuses; what was merged so far stays.
    pub fn compact(&self) -> Result<CompactionReport, EngineError> {
        self.seal()?;
        self.inner.compactor.everything()
    }

    /// Reads and verifies every sealed file now, as fast as it goes.
    ///
    /// # Errors
    /// If the store closes meanwhile. Damage is no error: it is counted, and told by [`Engine::health`].
    pub fn scrub(&self) -> Result<ScrubReport, EngineError> {
        self.inner.scrubber.full_pass()
    }

    /// How far the scrub has come, and when it last went through.
    pub fn scrub_status(&self) -> ScrubStatus {
        self.inner.scrubber.status(&self.inner.shared)
    }

    /// Waits until everything committed before the call is in segments.
    pub fn seal(&self) -> Result<SealReport, EngineError> {
        self.inner.ingest.seal()
    }

    /// Commits what waits, ends the log and stops the threads.
    ///
    /// # Errors
    /// If the log could not be ended; what was acknowledged is safe all the same.
    pub fn close(self) -> Result<(), EngineError> {
        self.inner.close()
    }

    /// What the store holds and takes.
    pub fn storage(&self) -> StorageInfo {
        StorageInfo::of(&self.inner.shared)
    }

    /// Room on the disk, at the last look: the store looks once a second.
    pub fn space(&self) -> SpaceInfo {
        self.inner.shared.space.info()
    }

    /// True if the writer thread goes round within `patience` (two seconds at least): for a watchdog. It also does so in
    /// a read-only store, and while seals are behind.
    pub fn ping(&self, patience: Duration) -> bool {
        self.inner.ingest.ping(&self.inner.shared, patience)
    }

    /// Condition of the store.
    pub fn health(&self) -> Health {
        self.inner.shared.status.health()
    }

    /// How the last seal and the last merge ended.
    pub fn background(&self) -> Background {
        self.inner.shared.status.background()
    }

    /// Counters since the store was opened.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.inner.shared.metrics.snapshot()
    }

    /// Ranges and buckets that change, from `start` on; see [`ChangeReader`] for what is promised.
    ///
    /// # Errors
    /// [`QueryError::BadBucket`] for buckets that cannot be; where there is no cursor to go on from, those of looking
    /// for the newest row.
    pub fn changes(&self, request: ChangeRequest, start: ChangeStart) -> Result<ChangeReader, QueryError> {
        ChangeReader::new(&self.inner.shared, request, start)
    }

    /// Committed bodies from `start` on.
    pub fn feed(&self, start: FeedStart) -> FeedReader {
        self.inner.shared.feed.reader(start)
    }

    /// Sets a segment aside for good: readers say "partial" where it would have counted.
    pub fn quarantine(&self, segment: SegmentId) -> Result<(), EngineError> {
        self.inner.shared.quarantine(segment)
    }
}

impl Inner {
    fn close(&self) -> Result<(), EngineError> {
        self.scrubber.stop();
        self.compactor.stop();
        self.ingest.close(&self.shared)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a word from the owner: the log ends as well as it can, the threads stop.
        let _ = self.close();
    }
}
