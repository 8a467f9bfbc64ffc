//! The handle: open, write, query, seal, close. Owns the threads and the order of locks.
//!
//! Threads: callers (any number), one writer (`ingest::writer`), one sealer (`seal`), one compactor (`compaction`), one
//! scrubber (`scrub`), which only reads. They share [`Shared`]; the writer alone gives ids and sequences, the sealer and
//! the compactor alone write segments.
//!
//! Lock order: `manifest`, then `view`; both are held for moments, never across a sync except the manifest's own.
//! Data never flows back: ingest -> WAL -> memtable -> segment; queries read a [`Snapshot`].

use crate::ballast::Ballast;
use crate::catalog::Catalog;
use crate::compaction::{CompactionReport, Compactor};
use crate::error::{Damage, EngineError, OpenError, WriteError};
use crate::feed::{
    ChangeReader, ChangeRequest, ChangeStart, Cursor, Extent, Feed, FeedReader, FeedSource, FeedStart,
};
use crate::ids::{MeasurementId, NamespaceId, SegmentId, Seq, StoreId};
use crate::info::{DatabaseInfo, FieldInfo, MeasurementInfo, StorageInfo};
use crate::ingest::{DeleteError, DeleteReceipt, DeleteRequest, Ingest, WriteBatch, WriteReceipt};
use crate::io::{Disk, Lock};
use crate::manifest::{Edit, Manifest};
use crate::memtable::Memtable;
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::options::{Durability, Options};
use crate::publication::Publication;
use crate::query::{self, QueryControl, QueryError, QueryRequest, QueryResult};
use crate::recovery::{self, Orphans, RecoveryReport};
use crate::retention::{
    self, NO_CUTOFF, Purpose, Retained, RetentionClockInfo, RetentionInfo, RetentionReport, Retentions, Rule,
    Watch,
};
use crate::scrub::{ScrubReport, ScrubStatus, Scrubber};
use crate::seal::SealReport;
use crate::segment::{SegmentEntry, SegmentOpener, SegmentSet};
use crate::snapshot::{Snapshot, View};
use crate::space::{SpaceGuard, SpaceInfo};
use crate::status::{Background, Health, Status};
use crate::tombstone::Tombstone;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wattlog_model::{Clock, FieldMeaning, Timestamp};

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

/// What the threads of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: StoreId,
    pub(crate) catalog: Catalog,
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) metrics: Metrics,
    pub(crate) status: Status,
    pub(crate) ballast: Ballast,
    pub(crate) space: SpaceGuard,
    pub(crate) feed: Feed,
    pub(crate) opener: Arc<SegmentOpener>,
    pub(crate) retention: Watch,
    durability: RwLock<HashMap<NamespaceId, Durability>>,
    publication: Publication<View>,
    next_file: AtomicU64,
    /// Rises with each change of the segments or the deletes of the view.
    view_version: AtomicU64,
    /// Newest manifest edit that logs are to attest, beside those that the writer knows of.
    to_attest: AtomicU64,
}

/// What recovery hands over to make a [`Shared`].
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    pub(crate) catalog: Catalog,
    pub(crate) opener: Arc<SegmentOpener>,
    pub(crate) segments: SegmentSet,
    pub(crate) active: Arc<Memtable>,
    /// Full of what a delete in the log hides; they wait for their seal, oldest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    pub(crate) tombstones: Vec<Tombstone>,
    pub(crate) feed: FeedSource,
    pub(crate) next_file: u64,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: Options, clock: Arc<dyn Clock>, found: Found) -> Self {
        let Found { manifest, catalog, opener, segments, active, frozen, tombstones, feed, next_file } =
            found;
        let published = feed.opened;
        let state = manifest.state();
        let durability = state.durability.iter().map(|(id, d)| (*id, *d)).collect();
        let sealed = state.flushed_seq;
        let tombstones = tombstones.into_iter().map(Arc::new).collect();
        let retention = Watch::new(state.retentions.clock, &*clock);
        let retentions = retention::in_force(&options, &state.retentions);
        let view = View { active, frozen, segments: Arc::new(segments), tombstones, sealed, retentions };
        Self {
            store: manifest.store(),
            retention,
            ballast: Ballast::new(options.ballast_bytes),
            space: SpaceGuard::new(options.disk_reserve_bytes, options.disk_warning_bytes),
            feed: Feed::new(feed),
            manifest: Mutex::new(manifest),
            metrics: Metrics::default(),
            status: Status::default(),
            durability: RwLock::new(durability),
            publication: Publication::new(view, published),
            next_file: AtomicU64::new(next_file),
            view_version: AtomicU64::new(1),
            to_attest: AtomicU64::new(0),
            disk,
            options,
            clock,
            catalog,
            opener,
        }
    }

    pub(crate) fn view_version(&self) -> u64 {
        self.view_version.load(Ordering::Acquire)
    }

    /// The next record of the log says that the manifest goes at least so far.
    pub(crate) fn attest(&self, edit: u64) {
        self.to_attest.fetch_max(edit, Ordering::Release);
    }

    pub(crate) fn to_attest(&self) -> u64 {
        self.to_attest.load(Ordering::Acquire)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.publication.view()
    }

    /// Everything up to `cursor` is in the memtable: readers may see it from now on.
    pub(crate) fn publish(&self, cursor: Cursor) {
        // The feed first: whoever reads the cursor may ask the feed for what follows it.
        self.feed.published(cursor);
        self.publication.publish(cursor);
    }

    pub(crate) fn published(&self) -> Cursor {
        self.publication.cursor()
    }

    /// What a reader goes by: a view that holds at least everything up to the cursor.
    pub(crate) fn cursor_and_view(&self) -> (Cursor, Arc<View>) {
        self.publication.snapshot(|view| view.sealed)
    }

    /// Puts another view in place whose segments, deletes or cutoffs differ.
    fn change_data(&self, next: impl FnOnce(&View) -> Option<View>) {
        self.publication.change(|view| {
            let next = next(view)?;
            self.view_version.fetch_add(1, Ordering::Release);
            Some(next)
        });
    }

    /// The active memtable waits for its seal from now on; `fresh` takes new rows.
    pub(crate) fn freeze(&self, fresh: Arc<Memtable>) {
        self.publication.change(|view| {
            let mut frozen = view.frozen.clone();
            frozen.push(view.active.clone());
            Some(View { active: fresh, frozen, ..view.clone() })
        });
    }

    /// Readers no longer see what `tombstones` hide.
    pub(crate) fn publish_tombstones(&self, tombstones: Vec<Tombstone>) {
        self.change_data(|view| {
            let all = view.tombstones.iter().cloned().chain(tombstones.into_iter().map(Arc::new)).collect();
            Some(View { tombstones: all, ..view.clone() })
        });
    }

    /// Readers use `entries` instead of `sealed` from now on.
    pub(crate) fn publish_segments(&self, sealed: &Arc<Memtable>, entries: Vec<SegmentEntry>, through: Seq) {
        let added: Vec<_> = entries.into_iter().map(|entry| self.opener.handle(entry)).collect();
        self.change_data(|view| {
            let frozen = view.frozen.iter().filter(|m| !Arc::ptr_eq(m, sealed)).cloned().collect();
            let segments = Arc::new(view.segments.with(added, &[]));
            Some(View { frozen, segments, sealed: through, ..view.clone() })
        });
    }

    /// Readers use `entries` instead of `replaced` from now on, and no longer look at the deletes `applied`.
    pub(crate) fn publish_compaction(
        &self,
        entries: Vec<SegmentEntry>,
        replaced: &[SegmentId],
        applied: &[Seq],
    ) {
        let added: Vec<_> = entries.into_iter().map(|entry| self.opener.handle(entry)).collect();
        self.change_data(|view| {
            for handle in view.segments.iter().filter(|handle| replaced.contains(&handle.entry().id)) {
                handle.retire();
            }
            let segments = Arc::new(view.segments.with(added, replaced));
            let live = |tombstone: &&Arc<Tombstone>| !applied.contains(&tombstone.seq);
            let tombstones = view.tombstones.iter().filter(live).cloned().collect();
            Some(View { segments, tombstones, ..view.clone() })
        });
    }

    /// Readers and writers go by these cutoffs from now on, as manifest edit `edit` says.
    pub(crate) fn publish_retentions(&self, retentions: Arc<Retentions>, edit: u64) {
        let mut moved = Vec::new();
        self.change_data(|view| {
            moved = Extent::retained(&view.retentions, &retentions);
            Some(View { retentions, ..view.clone() })
        });
        // After the view: whoever is told reads what is in force.
        self.feed.note(edit, moved);
    }

    /// A number for a new segment or catalog file, never given before.
    pub(crate) fn next_file_id(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that the next file will get.
    pub(crate) fn peek_next_file(&self) -> u64 {
        self.next_file.load(Ordering::Relaxed)
    }

    pub(crate) fn durability(&self, namespace: NamespaceId) -> Durability {
        self.durability.read().get(&namespace).copied().unwrap_or(self.options.default_durability)
    }

    /// Readers do without a segment from now on, and say so.
    pub(crate) fn quarantine(&self, segment: SegmentId) -> Result<(), EngineError> {
        let wall = self.clock.wall().0;
        let disk =
            |error: std::io::Error| EngineError::Disk { action: "quarantine", message: error.to_string() };
        // Held until readers know: a compaction looks at both under it.
        let mut manifest = self.manifest.lock();
        let edit = manifest.append(&Edit::Quarantined(segment), wall).map_err(disk)?;
        let mut lost = Vec::new();
        self.change_data(|view| {
            let handle = view.segments.iter().find(|h| h.entry().id == segment)?;
            let entry = handle.entry();
            let times = (entry.first_time, entry.last_time);
            lost = vec![Extent::damaged(entry.namespace, entry.measurement, times)];
            let segments = Arc::new(view.segments.with([handle.set_aside()], &[segment]));
            Some(View { segments, ..view.clone() })
        });
        self.feed.note(edit, lost);
        Ok(())
    }

    pub(crate) fn report_damage(&self, damage: &Damage) {
        if self.status.add_damage(damage) {
            self.metrics.damaged_parts.add(1);
            tracing::error!(
                file = %damage.file, offset = damage.offset, part = damage.part,
                "a damaged part was found: answers that need it are partial; restore the file from a backup"
            );
        }
    }
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

    /// Makes a database with its default retention policy; false if it was there.
    pub fn create_database(&self, name: &str) -> Result<bool, WriteError> {
        self.inner.ingest.create_database(&self.inner.shared, name)
    }

    /// Makes a retention policy of a database, and the database if need be; false if it was there.
    pub fn create_policy(&self, database: &str, policy: &str) -> Result<bool, WriteError> {
        self.inner.ingest.create_policy(&self.inner.shared, database, policy)
    }

    /// Sets when writers to a namespace are answered. Durable, from the next body on.
    pub fn set_durability(
        &self,
        database: &str,
        policy: Option<&str>,
        durability: Durability,
    ) -> Result<(), WriteError> {
        let shared = &self.inner.shared;
        let id = shared
            .catalog
            .namespace(database, policy)
            .ok_or_else(|| WriteError::DatabaseNotFound(database.to_owned()))?;
        let wall = shared.clock.wall().0;
        let edit = Edit::Durability(id, durability);
        if shared.durability(id) != durability {
            shared
                .manifest
                .lock()
                .append(&edit, wall)
                .map_err(|error| WriteError::Disk(error.to_string()))?;
            shared.durability.write().insert(id, durability);
        }
        Ok(())
    }

    /// Sets for how long points are kept: those of one measurement, which is made if it is not there, or of all of a
    /// namespace that have no rule of their own. Durable, in force when it returns; gives what is in force then.
    ///
    /// What is hidden once stays hidden: a longer rule brings nothing back. A wall clock that cannot be believed hides
    /// nothing; see [`Engine::retention_clock`].
    ///
    /// # Errors
    /// [`WriteError`]: nothing changed. `RetentionTooShort` for a rule below `Options::min_retention`.
    pub fn set_retention(
        &self,
        database: &str,
        policy: Option<&str>,
        measurement: Option<&str>,
        rule: Rule,
    ) -> Result<RetentionInfo, WriteError> {
        let shared = &self.inner.shared;
        let id = shared
            .catalog
            .namespace(database, policy)
            .ok_or_else(|| WriteError::DatabaseNotFound(database.to_owned()))?;
        let rule = match rule {
            Rule::Keep { ns } if ns == 0 || u128::from(ns) < shared.options.min_retention.as_nanos() => {
                return Err(WriteError::RetentionTooShort { least: shared.options.min_retention });
            }
            Rule::Inherited if measurement.is_none() => Rule::Forever,
            rule => rule,
        };
        // Before the measurement is made: a rule that is refused leaves no name behind.
        let key = match measurement {
            None => Some((id, None)),
            Some(name) => shared.catalog.measurement(id, name).map(|own| (id, Some(own))),
        };
        retention::check_room(shared, key)?;
        let own =
            measurement.map(|name| self.inner.ingest.create_measurement(shared, id, name)).transpose()?;
        let retained = retention::set(shared, (id, own), rule)?;
        Ok(self.retention_info((id, own), retained))
    }

    /// All rules, by namespace and measurement.
    pub fn retentions(&self) -> Vec<RetentionInfo> {
        let retentions = self.inner.shared.view().retentions.clone();
        retentions.entries.iter().map(|(key, entry)| self.retention_info(*key, *entry)).collect()
    }

    fn retention_info(
        &self,
        (namespace, measurement): (NamespaceId, Option<MeasurementId>),
        retained: Retained,
    ) -> RetentionInfo {
        let shared = &self.inner.shared;
        let (database, policy) = shared.catalog.namespace_name(namespace).unwrap_or_default();
        let cutoff = shared.view().retentions.cutoff(namespace, measurement, Purpose::Hide);
        RetentionInfo {
            database: database.to_string(),
            policy: policy.to_string(),
            measurement: measurement
                .map(|id| shared.catalog.measurement_name(id).unwrap_or_default().to_string()),
            rule: retained.rule,
            cutoff: (cutoff != NO_CUTOFF).then_some(Timestamp(cutoff)),
        }
    }

    /// What retention believes the time to be; none before the first rule.
    pub fn retention_clock(&self) -> Option<RetentionClockInfo> {
        retention::clock(&self.inner.shared)
    }

    /// Says that the wall clock is right: what retention held counts from now on, and for good.
    ///
    /// # Errors
    /// [`WriteError`]: nothing changed.
    pub fn confirm_clock(&self) -> Result<(), WriteError> {
        retention::confirm(&self.inner.shared)
    }

    /// Moves cutoffs on and drops the files that have nothing to show any more; happens by itself once a second.
    ///
    /// # Errors
    /// If the store closes meanwhile, or the disk refuses.
    pub fn retain(&self) -> Result<RetentionReport, EngineError> {
        self.inner.compactor.retain()
    }

    /// Tells units and kinds of fields that exist; durable, nothing is written if nothing changes. Names of fields that
    /// do not exist yet are given back: tell them again once they were written.
    pub fn describe_fields(
        &self,
        database: &str,
        measurement: &str,
        fields: &[FieldMeaning],
    ) -> Result<Vec<String>, WriteError> {
        self.inner.ingest.describe_fields(&self.inner.shared, database, measurement, fields)
    }

    /// Databases by name.
    pub fn databases(&self) -> Vec<DatabaseInfo> {
        let catalog = &self.inner.shared.catalog;
        let mut out: Vec<DatabaseInfo> = Vec::new();
        for (id, database, policy) in catalog.namespaces() {
            let measurements = catalog.measurements(id);
            let series: u64 = measurements.iter().map(|(m, _)| catalog.series_count(*m)).sum();
            match out.iter_mut().find(|info| *info.name == *database) {
                Some(info) => {
                    info.retention_policies.push(policy.to_string());
                    info.measurements += measurements.len();
                    info.series += series;
                }
                None => out.push(DatabaseInfo {
                    name: database.to_string(),
                    retention_policies: vec![policy.to_string()],
                    measurements: measurements.len(),
                    series,
                }),
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    /// Measurements of a database (all its retention policies), by name.
    pub fn measurements(&self, database: &str) -> Result<Vec<String>, QueryError> {
        let catalog = &self.inner.shared.catalog;
        let mut names: Vec<String> = self
            .namespaces_of(database)?
            .into_iter()
            .flat_map(|id| catalog.measurements(id))
            .map(|(_, name)| name.to_string())
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Fields, tag keys, series and time range of a measurement; none if there is no such measurement.
    pub fn measurement(&self, database: &str, name: &str) -> Result<Option<MeasurementInfo>, QueryError> {
        let namespaces = self.namespaces_of(database)?;
        let snapshot = self.snapshot();
        let catalog = &self.inner.shared.catalog;
        let Some((namespace, id)) =
            namespaces.into_iter().find_map(|ns| Some((ns, catalog.measurement(ns, name)?)))
        else {
            return Ok(None);
        };
        let range = query::time_range(&snapshot, namespace, id)?;
        let fields = catalog.fields(id);
        Ok(Some(MeasurementInfo {
            fields: fields
                .iter()
                .map(|f| FieldInfo {
                    name: f.name.to_string(),
                    field_type: f.field_type,
                    unit: f.unit.clone(),
                    kind: f.kind,
                })
                .collect(),
            tag_keys: catalog.tag_keys(id).map_err(QueryError::from)?,
            series: catalog.series_count(id),
            first: range.map(|(first, _)| Timestamp(first)),
            last: range.map(|(_, last)| Timestamp(last)),
        }))
    }

    /// Values of a tag, by name.
    pub fn tag_values(
        &self,
        database: &str,
        measurement: &str,
        key: &str,
    ) -> Result<Vec<String>, QueryError> {
        let catalog = &self.inner.shared.catalog;
        let mut values = Vec::new();
        for namespace in self.namespaces_of(database)? {
            if let Some(id) = catalog.measurement(namespace, measurement) {
                values.extend(catalog.tag_values(id, key).map_err(QueryError::from)?);
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn namespaces_of(&self, database: &str) -> Result<Vec<NamespaceId>, QueryError> {
        let all = self.inner.shared.catalog.namespaces();
        let ids: Vec<_> =
            all.into_iter().filter(|(_, name, _)| **name == *database).map(|(id, ..)| id).collect();
        if ids.is_empty() { Err(QueryError::DatabaseNotFound(database.to_owned())) } else { Ok(ids) }
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
