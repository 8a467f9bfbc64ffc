//! One step: segments are read, merged and written again, then the manifest names the new ones.
//!
//! Memory: what describes the new files, and of rows up to three times `compaction_memory_bytes`, of one series at a time.

use super::plan::{Step, applied, pack_before};
use super::{CompactionReport, Orders};
use crate::catalog::SeriesReader;
use crate::column::{SeriesRows, Values};
use crate::engine::Shared;
use crate::ids::{FieldId, MeasurementId, SegmentId, Seq, SeriesId};
use crate::manifest::Edit;
use crate::options::Options;
use crate::query::{MergeError, MergeSink, QueryControl, merge_series, slice};
use crate::retention::{self, BallastUse};
use crate::rows::{merge_runs, slice_rows};
use crate::seal::Begun;
use crate::segment::layout::MAX_GROUP_ROWS;
use crate::segment::{
    FieldDef, Part, SegmentEntry, SegmentError, SegmentHandle, SegmentSet, SegmentSpec, SegmentWriter,
    segment_path,
};
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wattlog_model::Timestamp;

/// Why a step was given up. Nothing has changed then.
#[derive(Debug)]
pub(super) enum Failure {
    /// The store is closing.
    Closing,
    /// An input cannot be read whole: the one named, or one of them.
    Damaged(Option<SegmentId>, String),
    /// The disk refused.
    Disk(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<SegmentError> for Failure {
    fn from(error: SegmentError) -> Self {
        match error {
            error if error.is_out_of_resources() => Self::Disk(io::Error::other(error.to_string())),
            error => Self::Damaged(None, error.to_string()),
        }
    }
}

/// A measurement whose rows make this many bytes gets a file of its own.
const OWN_FILE_BYTES: u64 = 8 << 20;

/// Rows of one measurement in the inputs.
#[derive(Debug, Default)]
struct Section {
    name: Arc<str>,
    fields: BTreeSet<FieldId>,
    series: Vec<SeriesId>,
    /// Estimated from the share of values.
    bytes: u64,
    /// Bytes of files that are left when what is hidden is taken out, estimated as if rows were evenly spread in time; 0
    /// only if no row is left.
    kept_bytes: u64,
}

pub(super) fn run(
    shared: &Arc<Shared>,
    step: &Step,
    mut pace: Pace<'_>,
) -> Result<CompactionReport, Failure> {
    let snapshot = Snapshot::take(shared);
    let inputs: Vec<Arc<SegmentHandle>> = {
        let all = snapshot.segments();
        let of_step = |handle: &&Arc<SegmentHandle>| step.inputs.contains(&handle.entry().id);
        all.iter().filter(of_step).cloned().collect()
    };
    if inputs.len() != step.inputs.len() || inputs.iter().any(|handle| handle.entry().quarantined) {
        return Err(Failure::Damaged(None, SET_ASIDE.to_owned()));
    }
    let bytes_before: u64 = inputs.iter().map(|handle| handle.entry().file_bytes).sum();
    let reading = snapshot.only(SegmentSet::new(inputs.iter().cloned()));
    let (sections, purpose) = sections(&inputs, &snapshot)?;
    let bytes_kept = sections.values().map(|section| section.kept_bytes).sum::<u64>();
    let needed = match purpose {
        _ if sections.is_empty() => 0,
        // A file, or most of many, leaves more room than it found. So it may use what is kept back for that.
        Purpose::Free if inputs.len() == 1 || bytes_kept <= bytes_before / 2 => {
            bytes_kept + shared.options.memtable_bytes.min(shared.space.info().reserve_bytes / 2)
        }
        // Twice the room for a moment, beside what a seal may need, and without ending writes.
        _ => bytes_before + shared.options.memtable_bytes.max(shared.space.info().reserve_bytes),
    };
    let room = shared.disk.available_bytes()?;
    if room < needed {
        let message = format!("{room} bytes are free, merging needs about {needed} for a moment");
        return Err(Failure::Disk(io::Error::new(io::ErrorKind::StorageFull, message)));
    }
    let mut begun = Begun::new(shared);
    let mut entries = Vec::new();
    let (own, rest): (Vec<_>, Vec<_>) =
        sections.into_iter().partition(|(_, section)| section.bytes >= OWN_FILE_BYTES);
    let files = own.into_iter().map(|section| vec![section]).chain([rest]);
    for sections in files.filter(|sections| !sections.is_empty()) {
        let file = Output { shared, step, reading: &reading, inputs: &inputs };
        entries.extend(file.write(&sections, &mut begun, &mut pace)?);
    }
    let report = CompactionReport {
        steps: 1,
        segments_before: inputs.len() as u64,
        segments_after: entries.len() as u64,
        bytes_before,
        bytes_after: entries.iter().map(|entry| entry.file_bytes).sum(),
    };
    let ballast = publish(shared, step, entries, purpose, &mut begun)?;
    // Nothing holds the inputs any more, so they are gone.
    drop((reading, snapshot, inputs));
    ballast.lay_again(shared);
    Ok(report)
}

/// What a step is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Fewer files.
    Merge,
    /// Less in them: rows that are deleted or too old.
    Free,
}

/// What the inputs hold, by measurement; without those of which nothing is left.
fn sections(
    inputs: &[Arc<SegmentHandle>],
    snapshot: &Snapshot,
) -> Result<(BTreeMap<MeasurementId, Section>, Purpose), Failure> {
    let mut out: BTreeMap<MeasurementId, Section> = BTreeMap::new();
    let mut purpose = Purpose::Merge;
    for handle in inputs {
        let segment = handle.open()?;
        let entry = handle.entry();
        for section in segment.sections()? {
            let known = out.entry(section.measurement()).or_default();
            known.name = section.name().clone();
            known.fields.extend(section.fields().iter().map(|field| field.id));
            let payload = u128::from(entry.data_bytes + entry.time_bytes);
            let share = payload * u128::from(section.values()) / u128::from(entry.values.max(1));
            known.bytes += share as u64;
            let (first, last) = section.time_range();
            let hidden = hidden(snapshot, entry, section.measurement());
            if hidden.touches(first, last) {
                purpose = Purpose::Free;
            }
            let rows_part = hidden.part_left(first, last);
            if rows_part > 0.0 {
                let part = rows_part * section.values() as f64 / entry.values.max(1) as f64;
                // One more, so that it is not taken for nothing.
                known.kept_bytes += 1 + (entry.file_bytes as f64 * part) as u64;
            }
            for ordinal in 0..section.series_count() {
                known.series.push(SeriesId(segment.series_entry(&section, ordinal)?.series.get()));
            }
        }
    }
    out.retain(|_, section| section.kept_bytes > 0);
    for section in out.values_mut() {
        section.series.sort_unstable();
        section.series.dedup();
    }
    Ok((out, purpose))
}

/// What deletes and retention hide of one measurement in one file.
#[derive(Debug, Default)]
struct Hidden {
    /// Times of which no row is left.
    whole: Vec<Range<i64>>,
    /// Times of which some series or fields are not.
    some: Vec<Range<i64>>,
}

fn hidden(snapshot: &Snapshot, entry: &SegmentEntry, measurement: MeasurementId) -> Hidden {
    let cutoff_ns = snapshot.cutoff(entry.namespace, measurement, retention::Purpose::Drop);
    let mut hidden = Hidden::default();
    hidden.whole.push(i64::MIN..cutoff_ns);
    for tombstone in snapshot.tombstones() {
        if tombstone.measurement == measurement && tombstone.concerns(entry) {
            let all = tombstone.fields.is_none() && tombstone.series.is_none();
            let ranges = if all { &mut hidden.whole } else { &mut hidden.some };
            ranges.push(tombstone.range.clone());
        }
    }
    hidden.whole.sort_unstable_by_key(|range| range.start);
    hidden
}

impl Hidden {
    /// Whether rows from `first` to `last` may be among it.
    fn touches(&self, first: i64, last: i64) -> bool {
        self.whole.iter().chain(&self.some).any(|range| range.start <= last && first < range.end)
    }

    /// The part of the time from `first` to `last` of which rows may be left; 0 only if none are.
    fn part_left(&self, first: i64, last: i64) -> f64 {
        let (mut at, mut left) = (i128::from(first), 0);
        let end = i128::from(last) + 1;
        for range in &self.whole {
            left += i128::from(range.start).min(end).saturating_sub(at).max(0);
            at = at.max(i128::from(range.end)).min(end);
        }
        left += end - at;
        left as f64 / (end - i128::from(first)) as f64
    }
}

/// One file to write.
struct Output<'a> {
    shared: &'a Arc<Shared>,
    step: &'a Step,
    reading: &'a Snapshot,
    inputs: &'a [Arc<SegmentHandle>],
}

impl Output<'_> {
    /// Writes the file; none if deletes have left nothing for it.
    fn write(
        &self,
        sections: &[(MeasurementId, Section)],
        begun: &mut Begun<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<Option<SegmentEntry>, Failure> {
        let shared = self.shared;
        let id = SegmentId(shared.next_file_id());
        let path = segment_path(id);
        let temporary = format!("{path}.tmp");
        begun.add(&path);
        let names = shared.catalog.namespace_name(self.step.namespace).unwrap_or_default();
        let window = Timestamp::of_utc_days(self.step.days.clone());
        let seqs = || self.inputs.iter().map(|handle| (handle.entry().min_seq, handle.entry().max_seq));
        let spec = SegmentSpec {
            store: shared.store,
            id,
            namespace: self.step.namespace,
            namespace_name: (names.0.to_string(), names.1.to_string()),
            min_seq: seqs().map(|(min, _)| min).min().unwrap_or_default(),
            max_seq: seqs().map(|(_, max)| max).max().unwrap_or_default(),
            first_day: self.step.days.start,
            end_day: self.step.days.end,
            midnights: shared.options.midnights.within(window),
        };
        let midnights = spec.midnights.clone();
        let today = shared.clock.wall().utc_day();
        let pack_before = pack_before(today, shared.options.pco_after)
            .map_or(i64::MIN, |day| Timestamp::of_utc_days(day..day).start);
        let mut writer =
            SegmentWriter::create(&*shared.disk, &temporary, spec.clone())?.packing_before(pack_before);
        for (measurement, section) in sections {
            let fields = self.fields(*measurement, section)?;
            writer.begin_section(*measurement, &section.name, &fields)?;
            let gathered = Vec::new();
            let mut sink = SeriesSink {
                options: &shared.options,
                names: SeriesReader::new(&shared.catalog),
                writer: &mut writer,
                pace,
                midnights: &midnights,
                gathered,
                bytes: 0,
                part: Part::Whole,
            };
            let control = QueryControl::default();
            let (namespace, series) = (self.step.namespace, &section.series);
            merge_series(self.reading, namespace, *measurement, fields, series, &control, &mut sink)
                .map_err(|error| match error {
                    MergeError::Lost(segment, reason) => Failure::Damaged(Some(segment), reason),
                    MergeError::Query(error) => Failure::Disk(io::Error::other(error.to_string())),
                    MergeError::Sink(failure) => failure,
                })?;
        }
        let summary = writer.finish()?;
        if summary.rows == 0 {
            shared.disk.remove(&temporary)?;
            return Ok(None);
        }
        shared.disk.rename(&temporary, &path)?;
        shared.disk.sync_dir("segments")?;
        let entry = summary.entry(&spec);
        // Only deletes tell: other sequences may be given a second time after a power cut.
        let applied = self.reading.tombstones().map(|tombstone| tombstone.seq).max();
        let packed = entry.last_time < pack_before;
        Ok(Some(SegmentEntry { deletes_applied: applied.unwrap_or_default(), packed, ..entry }))
    }

    /// Definitions of the fields of a section, by rising id, as the catalog knows them now.
    fn fields(&self, measurement: MeasurementId, section: &Section) -> Result<Vec<FieldDef>, Failure> {
        let mut fields = self.shared.catalog.fields(measurement).as_ref().clone();
        fields.retain(|field| section.fields.contains(&field.id));
        fields.sort_by_key(|field| field.id);
        if fields.len() == section.fields.len() {
            Ok(fields)
        } else {
            // A name that only the files know: they are left as they are.
            Err(Failure::Damaged(None, format!("a field of {} is in no catalog file", section.name)))
        }
    }
}

/// Writes the rows of one series after the other, gathered so that a day is cut as a whole.
struct SeriesSink<'a, 'p> {
    options: &'a Options,
    names: SeriesReader<'a>,
    writer: &'a mut SegmentWriter,
    pace: &'a mut Pace<'p>,
    midnights: &'a [i64],
    gathered: Vec<SeriesRows>,
    bytes: usize,
    part: Part,
}

impl SeriesSink<'_, '_> {
    /// Writes the days that are complete; of a day that is very long, whole row groups.
    fn write_some(&mut self) -> Result<(), Failure> {
        let rows = merge_runs(std::mem::take(&mut self.gathered));
        let (Some(first), Some(last)) = (rows.times.first(), rows.times.last()) else { return Ok(()) };
        let at = self.midnights.partition_point(|midnight| midnight <= last);
        let midnight = at.checked_sub(1).map(|at| self.midnights[at]).filter(|midnight| midnight > first);
        let whole_groups = rows.times.len() / MAX_GROUP_ROWS * MAX_GROUP_ROWS;
        let cut = match midnight {
            Some(midnight) => midnight,
            None if whole_groups > 0 => rows.times[whole_groups - 1] + 1,
            None => i64::MAX,
        };
        let at = rows.times.partition_point(|time| *time < cut);
        let rest = slice(&rows, at..rows.times.len());
        self.part = Part::OfMany;
        self.writer.write_rows(&slice_rows(rows, &(i64::MIN..cut)), Part::OfMany)?;
        self.bytes = bytes_of(&rest);
        self.gathered = if rest.times.is_empty() { Vec::new() } else { vec![rest] };
        Ok(())
    }
}

impl MergeSink for SeriesSink<'_, '_> {
    type Error = Failure;

    fn begin(&mut self, series: SeriesId) -> Result<(), Failure> {
        self.bytes = 0;
        self.part = Part::Whole;
        Ok(self.writer.begin_series(series)?)
    }

    fn rows(&mut self, rows: SeriesRows) -> Result<(), Failure> {
        self.bytes += bytes_of(&rows);
        self.gathered.push(rows);
        if self.bytes >= self.options.compaction_memory_bytes {
            self.write_some()?;
        }
        self.pace.spend(self.writer.bytes())
    }

    fn end(&mut self, series: SeriesId) -> Result<(), Failure> {
        let rows = merge_runs(std::mem::take(&mut self.gathered));
        self.writer.write_rows(&rows, self.part)?;
        let tags = self.names.tags(series).map_err(io::Error::other)?;
        let Some((_, tags)) = tags else {
            return Err(Failure::Damaged(None, format!("series {series} has rows but no name")));
        };
        self.writer.end_series(&tags)?;
        self.pace.spend(self.writer.bytes())
    }
}

/// Memory of plain rows, texts as if none were shared.
fn bytes_of(rows: &SeriesRows) -> usize {
    let values = rows.columns.iter().map(|(_, column)| match &column.values {
        Values::String(texts) => texts.iter().map(|text| 24 + text.len()).sum(),
        values => 8 * values.len(),
    });
    8 * rows.times.len() + values.sum::<usize>()
}

fn publish(
    shared: &Arc<Shared>,
    step: &Step,
    entries: Vec<SegmentEntry>,
    purpose: Purpose,
    begun: &mut Begun<'_>,
) -> Result<BallastUse, Failure> {
    let mut manifest = shared.manifest.lock();
    let view = shared.view();
    let is_there = |id: &SegmentId| {
        view.segments.iter().any(|handle| handle.entry().id == *id && !handle.entry().quarantined)
    };
    if !step.inputs.iter().all(is_there) {
        return Err(Failure::Damaged(None, SET_ASIDE.to_owned()));
    }
    let left = view.segments.iter().map(|handle| handle.entry());
    let left: Vec<&SegmentEntry> =
        left.filter(|entry| !step.inputs.contains(&entry.id)).chain(&entries).collect();
    let applied = applied(&left, &view.tombstones, oldest_in_memory(&view));
    let edit = Edit::Compacted {
        segments: entries.clone(),
        replaced: step.inputs.clone(),
        next_file: shared.peek_next_file(),
        applied: applied.clone(),
    };
    begun.keep();
    let ballast = if purpose == Purpose::Free {
        retention::append(shared, &mut manifest, &edit)?
    } else {
        shared.attest(manifest.append(&edit, shared.clock.wall().0)?);
        BallastUse::Kept
    };
    shared.publish_compaction(entries, &step.inputs, &applied);
    Ok(ballast)
}

const SET_ASIDE: &str = "an input was set aside meanwhile";

/// Drops deletes that hide nothing any more.
pub(super) fn forget_applied(shared: &Arc<Shared>) -> io::Result<()> {
    if shared.view().tombstones.is_empty() {
        return Ok(());
    }
    let mut manifest = shared.manifest.lock();
    let view = shared.view();
    let entries: Vec<&SegmentEntry> = view.segments.iter().map(|handle| handle.entry()).collect();
    let applied = applied(&entries, &view.tombstones, oldest_in_memory(&view));
    if applied.is_empty() {
        return Ok(());
    }
    let next_file = shared.peek_next_file();
    let edit =
        Edit::Compacted { segments: Vec::new(), replaced: Vec::new(), next_file, applied: applied.clone() };
    let number = manifest.append(&edit, shared.clock.wall().0)?;
    shared.attest(number);
    shared.publish_compaction(Vec::new(), &[], &applied);
    Ok(())
}

/// Every row that is in no segment has a sequence above this one.
fn oldest_in_memory(view: &crate::snapshot::View) -> Seq {
    let memtables = view.frozen.iter().chain([&view.active]);
    memtables
        .filter(|memtable| !memtable.is_empty())
        .map(|memtable| memtable.base())
        .min()
        .unwrap_or(Seq(u64::MAX))
}

/// How fast a step may go.
pub(super) struct Pace<'a> {
    shared: &'a Shared,
    orders: &'a Orders,
    bytes_per_second: Option<u64>,
    began: Duration,
    /// Bytes of files finished before the one being written.
    before: u64,
    written: u64,
}

impl<'a> Pace<'a> {
    /// At most so many bytes a second, read and written together; as fast as it goes if none are given.
    pub(super) fn new(shared: &'a Shared, orders: &'a Orders, bytes_per_second: Option<u64>) -> Self {
        Self { shared, orders, bytes_per_second, began: shared.clock.monotonic(), before: 0, written: 0 }
    }

    /// Notes how long the file being written has become; waits if it goes too fast.
    fn spend(&mut self, file_bytes: u64) -> Result<(), Failure> {
        if file_bytes < self.written {
            self.before += self.written;
        }
        self.written = file_bytes;
        loop {
            if self.orders.stop.load(Ordering::Relaxed) {
                return Err(Failure::Closing);
            }
            let is_waited_for = self.orders.waiting.load(Ordering::Relaxed) > 0;
            let Some(rate) = self.bytes_per_second.filter(|_| !is_waited_for) else { return Ok(()) };
            // As much was read as is written.
            let seconds = 2.0 * (self.before + self.written) as f64 / rate as f64;
            let elapsed = self.shared.clock.monotonic().saturating_sub(self.began);
            if elapsed.as_secs_f64() >= seconds {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
