//! Opening: what is done for each thing that can be found on the disk. The table is in format-spec.md section 8.
//!
//! Promise: opening never fails for what is in a file (only for a disk that does not answer, or a newer version); what
//! was acknowledged is readable when it returns, or the report names the damage that took it.
//!
//! Invariants
//! 1. Files are only deleted if a whole manifest says that they are of no use.
//! 2. Opening a second time, also after a cut in the middle of the first, finds the same points.
//! 3. Nothing is appended to a file of an earlier opening.

use crate::catalog::{Catalog, CatalogError, Definition, OpenedCatalog, decode_definitions};
use crate::engine::Found;
use crate::error::{Damage, OpenError};
use crate::feed::{CommittedBatch, Cursor, Entry, Extent, FeedSource, History, Place, What};
use crate::file_header::{FILE_HEADER_LEN, FileHeader};
use crate::ids::{FieldId, LogId, NextIds, SegmentId, Seq, StoreId};
use crate::ingest::payload;
use crate::ingest::writer::WriterStart;
use crate::io::{Access, Disk, ReadMode, in_context, open_sealed, read_exact_at};
use crate::manifest::{Edit, Manifest, ManifestCondition, State};
use crate::memtable::Memtable;
use crate::options::Options;
use crate::segment::{
    Segment, SegmentEntry, SegmentError, SegmentHandle, SegmentOpener, SegmentSet, peek_identity,
};
use crate::tombstone::{Tombstone, decode_deletes};
use crate::undefined;
use crate::wal::{
    Record, RecordKind, Recycler, ReplayFloor, ReplayReport, log_path, record::LOG_MAGIC, replay, set_aside,
};
use hashbrown::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

/// The end of a file that a power cut tore; nothing in it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornEnd {
    /// Path within the store.
    pub file: String,
    /// Where the torn record begins.
    pub offset: u64,
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// True if the store was made by this opening.
    pub fresh: bool,
    /// True if it had been closed in order: every log with its sealing record.
    pub clean: bool,
    /// Records replayed from logs.
    pub replayed_records: u64,
    /// Rows in them that are in no segment yet.
    pub replayed_points: u64,
    /// Values in them.
    pub replayed_values: u64,
    /// Records that nobody was told of as stored, and that are therefore not there.
    pub void_records: u64,
    /// Ends of logs and of the manifest that a power cut tore.
    pub torn: Vec<TornEnd>,
    /// Damaged parts: points may be missing.
    pub damage: Vec<Damage>,
    /// True if the list of files was rebuilt from the files themselves.
    pub rebuilt: bool,
    /// Unfinished or unused files that were removed.
    pub orphans_removed: u64,
    /// What a person should look at.
    pub alarms: Vec<String>,
}

/// A store ready to be served.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) found: Found,
    pub(crate) writer: WriterStart,
    pub(crate) report: RecoveryReport,
}

/// How names in `quarantine/` begin of files that nothing named: others hold what is in them, or deletes took it.
pub(crate) const UNUSED: &str = "unused-";

/// What becomes of files that a whole manifest does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orphans {
    /// They are of no use.
    Remove,
    /// They are moved to `quarantine/`: something is wrong with the store, and nothing shall be deleted.
    SetAside,
}

const FOLDERS: [&str; 5] = ["manifest", "wal", "catalog", "segments", "quarantine"];
/// Pages of segment meta regions kept in memory, of 4 KiB each.
const CACHED_META_PAGES: usize = 4096;

/// Opens what is on `disk`.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    options: &Options,
    seed: StoreId,
    orphans: Orphans,
) -> Result<Recovered, OpenError> {
    for folder in FOLDERS {
        disk.create_dir(folder).map_err(OpenError::disk("make the folders of the store"))?;
    }
    disk.sync_dir("").map_err(OpenError::disk("make the folders of the store"))?;

    let mut report = RecoveryReport::default();
    let identity = existing_identity(&**disk).map_err(OpenError::disk("look for files of the store"))?;
    let (mut manifest, condition) = Manifest::open(disk, identity.unwrap_or(seed))?;
    if matches!(condition, ManifestCondition::Fresh | ManifestCondition::Damaged(_)) {
        refuse_if_nothing_is_read(&**disk)?;
    }
    let mut rebuild = false;
    match condition {
        ManifestCondition::Whole => {}
        ManifestCondition::TornTail(damage) => {
            // A torn edit took nothing away: files go only after the edit that drops them is durable. One that is gone says that
            // the edit was durable, and that it is damaged.
            if names_missing_files(&**disk, manifest.state()).map_err(OpenError::disk("list the segments"))? {
                rebuild = true;
                report.damage.push(damage);
            } else {
                report.torn.push(TornEnd { file: damage.file, offset: damage.offset });
            }
        }
        ManifestCondition::Fresh if identity.is_none() => {
            report.fresh = true;
            let first = Edit::Snapshot(manifest.state().clone());
            manifest.append(&first, 0).map_err(OpenError::disk("write the first manifest"))?;
        }
        ManifestCondition::Fresh => {
            rebuild = true;
            let damage =
                |part| Damage { file: "manifest".to_owned(), offset: 0, part, expected: 1, found: 0 };
            report.damage.push(damage("manifest file"));
        }
        ManifestCondition::Damaged(damage) => {
            rebuild = true;
            report.damage.extend(damage);
        }
    }
    let mut attempt = Attempt::new(disk, options, manifest.store(), manifest.state().clone());
    if rebuild {
        attempt.adopt_every_segment(&mut report)?;
    }
    let mut outcome = attempt.load(&mut report)?;
    if !rebuild && outcome.replay.manifest_edit_attested > manifest.state().edit {
        // The log knows of a later manifest: the end of this one is gone.
        rebuild = true;
        report.damage.push(Damage {
            file: "manifest".to_owned(),
            offset: 0,
            part: "edit_number",
            expected: outcome.replay.manifest_edit_attested,
            found: manifest.state().edit,
        });
        attempt = Attempt::new(disk, options, manifest.store(), manifest.state().clone());
        attempt.adopt_every_segment(&mut report)?;
        outcome = attempt.load(&mut report)?;
    }
    let Attempt { state, .. } = attempt;
    let Outcome { catalog, mut recent, replay, opener, segments } = outcome;
    if rebuild {
        report.rebuilt = true;
        report
            .alarms
            .push(
                "the manifest was damaged: the list of files was rebuilt from the segments; what was deleted and not yet \
                 compacted may show again: delete it once more; retention that was set over HTTP is gone: set it once more"
                    .to_owned(),
            );
        manifest.restart_above(replay.manifest_edit_attested);
        manifest
            .append(&Edit::Snapshot(state.clone()), 0)
            .map_err(OpenError::disk("write a new manifest"))?;
    } else {
        report.orphans_removed = remove_orphans(&**disk, &state, orphans);
    }
    finish_report(&**disk, &mut report, &replay, &recent);

    let last = replay.last_seq.max(state.flushed_seq);
    let next_file = next_file(&**disk, &state).map_err(OpenError::disk("list the segments"))?;
    let recycler = Recycler::open(disk).map_err(OpenError::disk("list the logs"))?;
    catalog.raise_next_ids(above_rules(state.next_ids, &state));
    let writer = WriterStart {
        last,
        next_log: LogId(replay.max_log_id.0 + 1),
        recycler,
        unsealed_logs: replay.logs.iter().map(|log| (log.id, log.last_seq)).collect(),
        seal_first: !replay.durable,
        next_ids: catalog.next_ids(),
        manifest_edit: manifest.state().edit,
        frozen: recent.frozen.clone(),
    };
    let feed = FeedSource {
        history: recent.take_feed(),
        opened: Cursor { log_id: replay.max_log_id, seq: last },
        logs: replay.logs.iter().filter_map(|log| Some((log.id, log.first_seq?))).collect(),
        edit: manifest.state().edit,
        unseen: unseen(&state, &report),
    };
    let mut tombstones = state.tombstones.clone();
    tombstones.extend(recent.tombstones);
    let frozen = recent.frozen.into_iter().map(|(memtable, _)| memtable).collect();
    let active = recent.active;
    let found = Found { manifest, catalog, opener, segments, active, frozen, tombstones, feed, next_file };
    Ok(Recovered { found, writer, report })
}

/// What a cursor of an earlier opening may not know: what is hidden by age, what lies in files that are set aside, and, after
/// damage, anything.
fn unseen(state: &State, report: &RecoveryReport) -> Vec<Extent> {
    if report.rebuilt || !report.damage.is_empty() {
        return vec![Extent::everything()];
    }
    let aside = state.segments.values().filter(|entry| entry.quarantined).map(|entry| {
        Extent::damaged(entry.namespace, entry.measurement, (entry.first_time, entry.last_time))
    });
    Extent::hidden(&state.retentions).into_iter().chain(aside).collect()
}

/// Ids above all that retention speaks of: a rule must not meet another measurement than the one it was made for, even if the
/// log that defined it was lost.
fn above_rules(mut next: NextIds, state: &State) -> NextIds {
    for (namespace, measurement) in state.retentions.entries.keys() {
        next.namespace = next.namespace.max(namespace.0.saturating_add(1));
        next.measurement = next.measurement.max(measurement.map_or(0, |id| id.0.saturating_add(1)));
    }
    next
}

/// Whether a segment that should be there is not, or has another length.
pub(crate) fn names_missing_files(disk: &dyn Disk, state: &State) -> io::Result<bool> {
    let present = disk.list("segments")?;
    Ok(state.segments.values().filter(|entry| !entry.quarantined).any(|entry| {
        let path = entry.path();
        !present.iter().any(|file| path.ends_with(&file.name) && file.len == entry.file_bytes)
    }))
}

fn finish_report(disk: &dyn Disk, report: &mut RecoveryReport, replay: &ReplayReport, recent: &Recent) {
    report.clean = replay.ended_cleanly && report.damage.is_empty() && !report.rebuilt;
    report.replayed_records = replay.records;
    report.replayed_points = recent.memtables().map(Memtable::rows).sum();
    report.replayed_values = recent.memtables().map(Memtable::values).sum();
    report.void_records = replay.void;
    let torn = replay.torn.iter().map(|torn| TornEnd { file: torn.file.clone(), offset: torn.offset });
    report.torn.extend(torn);
    for found in &replay.corrupt {
        report.damage.push(found.damage.clone());
        if let Some((first, last)) = found.lost {
            report.alarms.push(format!("the log lost the commits {first} to {last}: {}", found.damage));
        }
        if found.len > 0
            && let Err(error) = set_aside(disk, &found.damage, found.offset, found.len)
        {
            tracing::warn!(file = %found.damage.file, %error, "damaged bytes could not be copied to quarantine");
        }
    }
    for torn in &report.torn {
        tracing::info!(file = %torn.file, offset = torn.offset, "a torn end was dropped; nothing in it was acknowledged");
    }
}

/// Records of one log with points of which nothing says whose they are.
struct Nameless {
    /// The first of them.
    damage: Damage,
    /// Where the last one ends.
    end: u64,
    records: u64,
}

impl Nameless {
    fn reach(&mut self, end: u64) {
        self.end = end;
        self.records += 1;
    }
}

/// What logs hold that is in no segment.
struct Recent {
    /// Rows before a delete that hides some of them, oldest first, with the sequence up to which each goes.
    frozen: Vec<(Arc<Memtable>, Seq)>,
    active: Arc<Memtable>,
    tombstones: Vec<Tombstone>,
    /// What readers of the feed resume from.
    feed: History,
    /// Above all ids of points in the logs.
    met: NextIds,
}

impl Recent {
    fn new(base: Seq, feed_bytes: usize) -> Self {
        // Watched until the store is open: a reader may come for what goes beyond `feed_bytes`.
        let mut feed = History::new(base, feed_bytes);
        feed.watched = true;
        Self {
            frozen: Vec::new(),
            active: Arc::new(Memtable::new(base)),
            tombstones: Vec::new(),
            feed,
            met: NextIds::default(),
        }
    }

    fn take_feed(&mut self) -> History {
        self.feed.watched = false;
        std::mem::replace(&mut self.feed, History::new(Seq(0), 0))
    }

    fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        self.frozen.iter().map(|(memtable, _)| memtable).chain([&self.active]).map(|memtable| &**memtable)
    }

    fn delete(&mut self, seq: Seq, tombstones: Vec<Tombstone>) {
        if tombstones.iter().any(|tombstone| self.active.meets(tombstone)) {
            let full = std::mem::replace(&mut self.active, Arc::new(Memtable::new(seq)));
            self.frozen.push((full, Seq(seq.0 - 1)));
        }
        self.tombstones.extend(tombstones);
    }
}

/// One try to load everything that a state names.
struct Attempt<'a> {
    disk: &'a Arc<dyn Disk>,
    options: &'a Options,
    store: StoreId,
    state: State,
    /// True if the state was made from the files instead of the manifest.
    adopted: bool,
}

struct Outcome {
    catalog: Catalog,
    recent: Recent,
    replay: ReplayReport,
    opener: Arc<SegmentOpener>,
    segments: SegmentSet,
}

impl<'a> Attempt<'a> {
    fn new(disk: &'a Arc<dyn Disk>, options: &'a Options, store: StoreId, state: State) -> Self {
        Self { disk, options, store, state, adopted: false }
    }

    /// Takes every whole segment and catalog file that is there into the state. Segments hold what logs held under the same
    /// sequences, so one that a seal had not published yet does no harm. A segment that cannot be opened is set aside: the new
    /// manifest will not name it, and the next opening removes what no manifest names.
    fn adopt_every_segment(&mut self, report: &mut RecoveryReport) -> Result<(), OpenError> {
        self.adopted = true;
        self.state.segments.clear();
        let entries = self.disk.list("segments").map_err(OpenError::disk("list the segments"))?;
        for file in entries {
            let Some(id) = segment_id_of(&file.name) else { continue };
            let path = format!("segments/{}", file.name);
            match Segment::open(&**self.disk, &path, self.store, id, self.options.read_mode) {
                Ok(segment) => {
                    self.state.segments.insert(id, segment.entry());
                }
                Err(error) if refuses_opening(&error) => return Err(segment_refused(error)),
                Err(error) => {
                    report.damage.push(damage_of(&path, &error));
                    let aside = set_aside_whole(&**self.disk, &path, "");
                    let aside = aside.map_err(OpenError::disk("set a segment aside"))?;
                    report.alarms.push(format!("{path} cannot be used and lies in {aside} now: {error}"));
                }
            }
        }
        let catalogs = Catalog::list_files(self.disk, self.store, self.options.read_mode);
        self.state.catalogs = catalogs.map_err(|error| catalog_refused("list the catalog files", error))?;
        Ok(())
    }

    fn load(&mut self, report: &mut RecoveryReport) -> Result<Outcome, OpenError> {
        let present = self.disk.list("segments").map_err(OpenError::disk("list the segments"))?;
        let lens: HashMap<&str, u64> = present.iter().map(|file| (file.name.as_str(), file.len)).collect();
        // These are lost for good, with the names that nothing else holds.
        let given_up: HashSet<SegmentId> =
            self.state.segments.values().filter(|entry| entry.quarantined).map(|entry| entry.id).collect();
        for entry in self.state.segments.values_mut() {
            let path = entry.path();
            let name = path.rsplit('/').next().unwrap_or_default();
            let len = lens.get(name).copied().unwrap_or(0);
            if len != entry.file_bytes && !entry.quarantined {
                let part = "segment file";
                report.damage.push(Damage {
                    file: path,
                    offset: 0,
                    part,
                    expected: entry.file_bytes,
                    found: len,
                });
                // Its rows would be missed in silence otherwise; every answer that needs it is partial.
                entry.quarantined = true;
            }
        }
        let opener = SegmentOpener::new(
            self.disk.clone(),
            self.store,
            self.options.read_mode,
            self.options.max_open_maps,
            CACHED_META_PAGES,
        );
        let segments =
            SegmentSet::new(self.state.segments.values().map(|entry| opener.handle(entry.clone())));
        let opened = Catalog::open(self.disk, self.store, self.options.read_mode, &self.state.catalogs)
            .map_err(|error| catalog_refused("open the catalog files", error))?;
        let whole = opened.damage.is_empty() && !self.adopted;
        if !opened.damage.is_empty() {
            report.damage.extend(opened.damage.iter().cloned());
            report.alarms.push("a catalog file is damaged: names were taken from the segments".to_owned());
        }
        if !whole || self.state.catalogs.is_empty() {
            let wanted = segments.iter().filter(|handle| !given_up.contains(&handle.entry().id));
            names_from_segments(&opened, wanted, report)?;
        }
        let catalog = opened.catalog;
        catalog.raise_next_ids(self.state.next_ids);
        let mut floor = ReplayFloor {
            flushed_seq: self.state.flushed_seq,
            unknown: self.adopted,
            ..ReplayFloor::default()
        };
        let (mut recent, mut replay) = self.replay(&catalog, whole, floor, Points::All, report)?;
        let sealed = self.state.segments.values().map(|entry| entry.max_seq).max().unwrap_or_default();
        if self.adopted && replay.last_seq < sealed.max(floor.flushed_seq) {
            // Logs up to the newest segment were retired, so all they held is in segments: what is left is older.
            floor.flushed_seq = sealed;
            self.state.flushed_seq = sealed;
            (recent, replay) = self.replay(&catalog, whole, floor, Points::All, report)?;
        }
        let is_damaged = !replay.corrupt.is_empty() || !report.damage.is_empty();
        if is_damaged && recent.memtables().any(|memtable| undefined::is_in(&catalog, memtable)) {
            (recent, replay) = self.replay(&catalog, whole, floor, Points::Defined, report)?;
        }
        self.state.flushed_seq = replay.flushed_seq;
        recent.feed.raise_floor(replay.flushed_seq);
        // A rebuilt list of files may know deletes that are in a log too.
        recent.tombstones.retain(|new| self.state.tombstones.iter().all(|known| known.seq != new.seq));
        Ok(Outcome { catalog, recent, replay, opener, segments })
    }

    /// Replays the logs; `whole` says that the catalog files tell all that is sealed.
    fn replay(
        &self,
        catalog: &Catalog,
        whole: bool,
        floor: ReplayFloor,
        points: Points,
        report: &mut RecoveryReport,
    ) -> Result<(Recent, ReplayReport), OpenError> {
        let mut recent = Recent::new(floor.flushed_seq, self.options.feed_bytes);
        let mut nameless: Vec<Nameless> = Vec::new();
        let mut visit = |record: Record<'_>| {
            // A log that could not be retired must not take back what a later one said.
            let meanings = !whole || record.head.seq > floor.flushed_seq;
            if let Err(part) = apply(catalog, &mut recent, &record, meanings, points) {
                // Whole by its checksum, yet not what a record of its kind holds.
                let file = log_path(record.log);
                let (expected, found) = (record.head.seq.0, record.payload.len() as u64);
                let damage = Damage { file, offset: record.offset, part, expected, found };
                match nameless.last_mut().filter(|last| part == UNDEFINED && last.damage.file == damage.file)
                {
                    Some(last) => last.reach(record.offset + record.len),
                    None if part == UNDEFINED => {
                        nameless.push(Nameless { damage, end: record.offset + record.len, records: 1 });
                    }
                    // The other replays of this opening tell the same.
                    None if points == Points::All => report.damage.push(damage),
                    None => {}
                }
            }
            Ok(())
        };
        let replayed =
            replay(self.disk, self.store, floor, &mut visit).map_err(OpenError::disk("replay the log"))?;
        for Nameless { damage, end, records } in nameless {
            report.alarms.push(format!(
                "{records} bodies in {} have points of a series or field whose definition is damaged: they are not taken in, and lie in quarantine/",
                damage.file
            ));
            if let Err(error) = set_aside(&**self.disk, &damage, damage.offset, end - damage.offset) {
                tracing::warn!(file = %damage.file, %error, "damaged bytes could not be copied to quarantine");
            }
            report.damage.push(damage);
        }
        // An id that points once had is not given again: they would come back under another name.
        catalog.raise_next_ids(recent.met);
        Ok((recent, replayed))
    }
}

/// Segments hold the names of all they contain: what no catalog file tells is taken from them. Of what a field means the word
/// of the newest file counts, be it a segment or a catalog file. A damaged catalog file is not replaced if a segment cannot be
/// read either.
fn names_from_segments<'a>(
    opened: &OpenedCatalog,
    segments: impl Iterator<Item = &'a Arc<SegmentHandle>>,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let mut newest_first: Vec<_> = segments.collect();
    newest_first.sort_by_key(|handle| std::cmp::Reverse(handle.entry().id));
    let OpenedCatalog { catalog, told, pending, .. } = opened;
    let (mut heard, mut newer) = (HashSet::new(), Vec::new());
    for handle in newest_first {
        let mut definitions = Vec::new();
        match names_of(handle, &mut definitions) {
            Ok(()) => {}
            Err(error) if refuses_opening(&error) => return Err(segment_refused(error)),
            Err(error) => {
                report.damage.push(damage_of(&handle.entry().path(), &error));
                catalog.keep_lost_files();
            }
        }
        // Segments and catalog files are numbered in one row.
        let id = handle.entry().id.0;
        let (meanings, names): (Vec<_>, Vec<_>) =
            definitions.into_iter().partition(|d| matches!(d, Definition::Meaning { .. }));
        catalog.apply(&names);
        newer.extend(meanings.into_iter().filter(|definition| match definition {
            Definition::Meaning { field, .. } => {
                heard.insert(*field) && told.get(field).is_none_or(|file| file.0 < id)
            }
            _ => false,
        }));
    }
    catalog.apply(pending);
    catalog.apply(&newer);
    Ok(())
}

/// Adds what a segment says of the names of all it holds. On an error, what could be read of it.
pub(crate) fn names_of(
    handle: &Arc<SegmentHandle>,
    definitions: &mut Vec<Definition>,
) -> Result<(), SegmentError> {
    let segment = handle.open()?;
    let spec = segment.spec();
    let (database, policy) = &spec.namespace_name;
    let namespace = spec.namespace;
    let (database, policy) = (Arc::from(database.as_str()), Arc::from(policy.as_str()));
    definitions.push(Definition::Namespace { id: namespace, database, policy });
    let mut read = Ok(());
    for section in segment.sections()? {
        let measurement = section.measurement();
        definitions.push(Definition::Measurement {
            id: measurement,
            namespace,
            name: section.name().clone(),
        });
        for field in section.fields().iter() {
            let (id, name, field_type) = (field.id, field.name.clone(), field.field_type);
            definitions.push(Definition::Field { id, measurement, name, field_type });
            definitions.push(Definition::Meaning { field: id, unit: field.unit.clone(), kind: field.kind });
        }
        let series = segment.series_keys(&section, &mut |id, tags| {
            definitions.push(Definition::Series { id, measurement, tags });
        });
        read = read.and(series);
    }
    read
}

/// Which points of logs are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Points {
    All,
    /// Those whose series and field the catalog knows.
    Defined,
}

/// What is wrong with a record of points of which some are not [`Points::Defined`].
const UNDEFINED: &str = "definition of its points";

/// Takes one record in; the name of what is wrong with it otherwise.
///
/// What fields mean counts if `meanings` says so.
/// What changes an answer goes on to the feed.
fn apply(
    catalog: &Catalog,
    recent: &mut Recent,
    record: &Record<'_>,
    meanings: bool,
    points: Points,
) -> Result<(), &'static str> {
    let seq = record.head.seq;
    let entry = |what| Entry { place: Place::of_record(seq), log_id: record.log, what };
    match record.head.kind {
        RecordKind::Define => {
            let mut definitions = decode_definitions(record.payload).map_err(|_| "definition")?;
            definitions.retain(|definition| meanings || !matches!(definition, Definition::Meaning { .. }));
            let applied = catalog.apply(&definitions);
            let meant = Extent::meanings(catalog, &fields_told_of(&definitions));
            // Definitions below the floor are given again; what they changed was sealed.
            if !meant.is_empty() && seq > recent.feed.evicted() {
                recent.feed.push(entry(What::Extents(meant.into())));
            }
            if applied.refused > 0 { Err("definition") } else { Ok(()) }
        }
        RecordKind::Points => {
            let (namespace, mut batches) = payload::decode(record.payload).map_err(|_| "points payload")?;
            undefined::note_ids(&mut recent.met, namespace, &batches);
            let is_less = points == Points::Defined && undefined::take_out(catalog, namespace, &mut batches);
            recent.active.apply(namespace, seq, &batches);
            let (cursor, wall) = (Cursor { log_id: record.log, seq }, record.head.wall);
            let batch = CommittedBatch { cursor, wall, namespace, batches };
            recent.feed.push(entry(What::Batch(Arc::new(batch))));
            if is_less { Err(UNDEFINED) } else { Ok(()) }
        }
        RecordKind::Delete => {
            let deletes = decode_deletes(record.payload, seq).ok_or("delete payload")?;
            let extents: Vec<Extent> = deletes.iter().map(Extent::deleted).collect();
            recent.delete(seq, deletes);
            recent.feed.push(entry(What::Extents(extents.into())));
            Ok(())
        }
        RecordKind::Clock | RecordKind::End => Ok(()),
    }
}

/// No manifest tells what is true. If no other file can be read either, the disk does not answer: what would be begun here takes
/// the place of what is there, and gives its ids to other names.
fn refuse_if_nothing_is_read(disk: &dyn Disk) -> Result<(), OpenError> {
    match identity(disk).map_err(OpenError::disk("look for files of the store"))? {
        (None, Some(source)) => Err(OpenError::Disk { action: "read any file of the store", source }),
        _ => Ok(()),
    }
}

/// The fields of which something is told.
fn fields_told_of(definitions: &[Definition]) -> Vec<FieldId> {
    let field = |definition: &Definition| match definition {
        Definition::Meaning { field, .. } => Some(*field),
        _ => None,
    };
    definitions.iter().filter_map(field).collect()
}

/// The identity in the header of any file that is there.
pub(crate) fn existing_identity(disk: &dyn Disk) -> io::Result<Option<StoreId>> {
    identity(disk).map(|(found, _)| found)
}

/// The same. If none is found: why a file that may tell it could not be read, where that was the disk's error.
fn identity(disk: &dyn Disk) -> io::Result<(Option<StoreId>, Option<io::Error>)> {
    let mut unread = None;
    let mut note = |error: io::Error| {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            unread = Some(error);
        }
    };
    for entry in disk.list("wal")?.iter().rev() {
        let path = format!("wal/{}", entry.name);
        let mut header = [0; FILE_HEADER_LEN];
        match disk.open(&path, Access::Read).and_then(|file| read_exact_at(&*file, 0, &mut header)) {
            Ok(()) => {
                if let Ok(header) = FileHeader::decode(&header, &path, LOG_MAGIC, None, None) {
                    return Ok((Some(header.store), None));
                }
            }
            Err(error) => note(in_context("read", &path, &error)),
        }
    }
    for entry in disk.list("segments")? {
        let path = format!("segments/{}", entry.name);
        match open_sealed(disk, &path, ReadMode::Pread) {
            Ok(map) => {
                if let Some((store, ..)) = peek_identity(&*map) {
                    return Ok((Some(store), None));
                }
                if map.is_poisoned() {
                    note(io::Error::other(format!("read {path}: a page could not be read")));
                }
            }
            Err(error) => note(error),
        }
    }
    Ok((None, unread))
}

fn segment_id_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_prefix("seg-")?.strip_suffix(".seg")?;
    u64::from_str_radix(digits, 16).ok().map(SegmentId)
}

/// Removes what a whole manifest does not name. A file that cannot be removed stays an orphan for the next opening.
fn remove_orphans(disk: &dyn Disk, state: &State, orphans: Orphans) -> u64 {
    let mut removed = 0;
    let segments = state.segments.values().map(SegmentEntry::path);
    let named: HashSet<String> =
        segments.chain(state.catalogs.iter().map(|entry| crate::catalog::file_path(entry.id))).collect();
    for folder in ["segments", "catalog"] {
        let Ok(entries) = disk.list(folder) else { continue };
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let path = format!("{folder}/{}", entry.name);
            if named.contains(&path) {
                continue;
            }
            let gone = match orphans {
                Orphans::Remove => disk.remove(&path),
                Orphans::SetAside => set_aside_whole(disk, &path, UNUSED).map(drop),
            };
            if gone.is_ok() {
                tracing::info!(file = %path, ?orphans, "an unfinished or unused file was put out of the way");
                removed += 1;
            }
        }
    }
    removed
}

/// Moves a file to `quarantine/`, its name behind `prefix`; returns its new path, under which no other file is lost.
pub(crate) fn set_aside_whole(disk: &dyn Disk, path: &str, prefix: &str) -> io::Result<String> {
    let name = format!("{prefix}{}", path.rsplit('/').next().unwrap_or(path));
    let taken: HashSet<String> = disk.list("quarantine")?.into_iter().map(|entry| entry.name).collect();
    let numbered = (1_u32..).map(|number| format!("{name}.{number}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
    let aside = format!("quarantine/{}", free.unwrap_or_default());
    disk.rename(path, &aside)?;
    disk.sync_dir("quarantine")?;
    if let Some((folder, _)) = path.rsplit_once('/') {
        disk.sync_dir(folder)?;
    }
    Ok(aside)
}

fn next_file(disk: &dyn Disk, state: &State) -> io::Result<u64> {
    let mut next = state.next_file.max(1);
    for folder in ["segments", "catalog"] {
        for entry in disk.list(folder)? {
            let digits = entry.name.split(['-', '.']).nth(1).and_then(|d| u64::from_str_radix(d, 16).ok());
            next = next.max(digits.map_or(0, |id| id + 1));
        }
    }
    Ok(next)
}

/// The process has too many files open, or too little memory, or a newer version wrote the file: it is no damage.
fn refuses_opening(error: &SegmentError) -> bool {
    error.is_out_of_resources() || matches!(error, SegmentError::TooNew(_))
}

fn segment_refused(error: SegmentError) -> OpenError {
    let source = match error {
        SegmentError::TooNew(header) => return OpenError::too_new(header),
        SegmentError::Io { source, .. } => source,
        other @ SegmentError::Damage(_) => io::Error::other(other),
    };
    OpenError::Disk { action: "open the segments", source }
}

pub(crate) fn catalog_refused(action: &'static str, error: CatalogError) -> OpenError {
    let source = match error {
        CatalogError::TooNew(header) => return OpenError::too_new(header),
        CatalogError::Io { source, .. } => source,
        other @ CatalogError::Damage(_) => io::Error::other(other),
    };
    OpenError::Disk { action, source }
}

fn damage_of(path: &str, error: &SegmentError) -> Damage {
    match error {
        SegmentError::Damage(damage) | SegmentError::TooNew(damage) => damage.clone(),
        SegmentError::Io { .. } => {
            Damage { file: path.to_owned(), offset: 0, part: "segment file", expected: 1, found: 0 }
        }
    }
}

/// For `?` on catalog files.
impl From<CatalogError> for Damage {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Damage(damage) | CatalogError::TooNew(damage) => damage,
            CatalogError::Io { file, .. } => {
                Self { file, offset: 0, part: "catalog file", expected: 1, found: 0 }
            }
        }
    }
}
