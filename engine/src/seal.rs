//! Sealing: a frozen memtable becomes segments, without holding up writers or readers.
//!
//! Order (format-spec.md section 8): write each file under a temporary name, sync it, rename it, sync its folder; the
//! same for the catalog file; then one manifest edit, synced; then readers switch; only then may logs be retired.
//!
//! Invariants
//! 1. A memtable is sealed whole or not at all: all its files are named by one manifest edit.
//! 2. What a failed attempt leaves behind is named by no manifest; the next attempt uses new ids, the next opening
//!    collects the orphans.
//! 3. On a full disk the ballast is given up once, so that one seal fits; it is laid again after a seal that worked.

use crate::catalog::SeriesReader;
use crate::engine::Shared;
use crate::error::is_disk_full;
use crate::heal::Healer;
use crate::ids::{CatalogFileId, MeasurementId, NamespaceId, SegmentId, Seq};
use crate::manifest::Edit;
use crate::memtable::{FieldSet, Memtable, SeriesDay};
use crate::retention::{Purpose, Retentions};
use crate::segment::{SegmentEntry, SegmentSpec, SegmentWriter, segment_path};
use crate::status::LastWork;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use wattlog_model::Timestamp;

/// A memtable to seal.
#[derive(Debug)]
pub(crate) struct SealJob {
    pub(crate) memtable: Arc<Memtable>,
    /// Everything up to here is in it or sealed before it.
    pub(crate) through: Seq,
}

/// What the sealing thread tells the writer.
#[derive(Debug)]
pub(crate) enum SealNews {
    /// Done: readers use the segments.
    Sealed { through: Seq, manifest_edit: u64, report: SealReport },
    /// Not yet: it will be tried again.
    Failed { reason: String, full: bool },
}

/// What a seal wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SealReport {
    /// Files.
    pub segments: u64,
    /// Rows in them.
    pub rows: u64,
    /// Values in them.
    pub values: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// A measurement with more values than this in one window gets a file of its own: about 8 MiB at a byte a value.
const OWN_FILE_VALUES: u64 = 8 << 20;
/// A memtable that spans more days than this in one namespace is sealed by months: late imports touch many days.
const MOST_DAY_FILES: usize = 8;
/// Pause before a failed seal is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// An idle sealing thread looks this often for catalog files to give up.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// Rows that go to one file.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    namespace: NamespaceId,
    days: Range<i32>,
    /// Rising.
    measurements: Vec<MeasurementId>,
}

/// Seals what it is sent until the writer is gone.
pub(crate) fn run(shared: &Arc<Shared>, jobs: &Receiver<SealJob>, news: &Sender<SealNews>) {
    let mut healer = Healer::default();
    loop {
        let job = match jobs.recv_timeout(IDLE_LOOK) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                healer.look(shared);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        loop {
            let began = shared.clock.monotonic();
            match seal(shared, &job) {
                Ok((manifest_edit, report)) => {
                    shared.metrics.seals.add(1);
                    let ended = shared.clock.wall();
                    shared.status.sealed(LastWork { ended, bytes: report.bytes, error: None });
                    shared.metrics.segment_bytes_written.add(report.bytes);
                    shared.metrics.seal.observe(shared.clock.monotonic().saturating_sub(began));
                    shared.ballast.lay(&*shared.disk);
                    let _ = news.send(SealNews::Sealed { through: job.through, manifest_edit, report });
                    break;
                }
                Err(error) => {
                    shared.metrics.seal_failures.add(1);
                    let ended = shared.clock.wall();
                    shared.status.sealed(LastWork { ended, bytes: 0, error: Some(error.to_string()) });
                    if healer.look(shared) {
                        tracing::warn!(%error, "a catalog file is damaged: its names were taken from the segments");
                        continue;
                    }
                    let full = is_disk_full(&error);
                    if full && shared.ballast.release(&*shared.disk) {
                        shared.metrics.ballast_released.add(1);
                        tracing::warn!(%error, "the disk is full: the ballast was given up for this seal");
                        continue;
                    }
                    tracing::error!(%error, "sealing failed; points stay in memory and in the log, trying again");
                    let _ = news.send(SealNews::Failed { reason: error.to_string(), full });
                    if !pause(shared) {
                        return;
                    }
                }
            }
        }
    }
}

/// Waits a moment; false if the store is closing (what is not sealed is in the log).
fn pause(shared: &Shared) -> bool {
    let step = Duration::from_millis(20);
    for _ in 0..RETRY_PAUSE.as_millis() / step.as_millis() {
        if shared.status.closing() {
            return false;
        }
        std::thread::sleep(step);
    }
    !shared.status.closing()
}

/// Files that an attempt has begun. Dropped before the manifest may name them, it removes them: attempts that fail one
/// after the other must not fill the disk.
pub(crate) struct Begun<'a> {
    shared: &'a Shared,
    paths: Vec<String>,
}

impl<'a> Begun<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, paths: Vec::new() }
    }

    /// A file that is about to be made under a temporary name.
    pub(crate) fn add(&mut self, path: &str) {
        self.paths.extend([format!("{path}.tmp"), path.to_owned()]);
    }

    /// From here on a manifest may name them, also one that was begun and not finished.
    pub(crate) fn keep(&mut self) {
        self.paths.clear();
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        for path in self.paths.drain(..) {
            // One that cannot be removed stays an orphan for the next opening.
            let _ = self.shared.disk.remove(&path);
        }
    }
}

fn seal(shared: &Arc<Shared>, job: &SealJob) -> io::Result<(u64, SealReport)> {
    let memtable = &*job.memtable;
    let days = memtable.series_days();
    let mut entries = Vec::new();
    let mut report = SealReport::default();
    let mut begun = Begun::new(shared);
    let retentions = shared.view().retentions.clone();
    for window in windows(&days) {
        let file = Output { shared, job, days: &days, retentions: &retentions };
        // All of it may have become too old while it lay in memory.
        let Some(entry) = file.write(&window, &mut begun)? else { continue };
        report.segments += 1;
        report.rows += entry.rows;
        report.values += entry.values;
        report.bytes += entry.file_bytes;
        entries.push(entry);
    }
    let catalog_id = CatalogFileId(shared.next_file_id());
    let catalog_path = crate::catalog::file_path(catalog_id);
    begun.add(&catalog_path);
    let sealed_names = shared.catalog.write_unsealed(&shared.disk, shared.store, catalog_id)?;
    if let Some(names) = &sealed_names {
        shared.metrics.catalog_bytes_written.add(names.entry().file_bytes);
    }
    let mut manifest = shared.manifest.lock();
    let told = manifest.state().flushed_seq;
    let tombstones = shared.view().tombstones.clone();
    let untold = tombstones.iter().filter(|t| t.seq > told && t.seq <= job.through);
    let edit = Edit::Sealed {
        segments: entries.clone(),
        catalog: sealed_names.as_ref().map(|names| *names.entry()),
        replaces_catalogs: sealed_names.as_ref().map(|names| names.replaces().to_vec()).unwrap_or_default(),
        flushed_seq: job.through,
        next_file: shared.peek_next_file(),
        next_ids: shared.catalog.next_ids(),
        tombstones: untold.map(|tombstone| (**tombstone).clone()).collect(),
    };
    begun.keep();
    let number = manifest.append(&edit, shared.clock.wall().0)?;
    drop(manifest);
    if let Some(names) = sealed_names {
        shared.catalog.adopt(names);
    }
    shared.publish_segments(&job.memtable, entries, job.through);
    Ok((number, report))
}

/// Cuts the content of a memtable into files; `days` is sorted by namespace, then day.
fn windows(days: &[SeriesDay]) -> Vec<Window> {
    let mut out = Vec::new();
    for of_namespace in days.chunk_by(|a, b| a.namespace == b.namespace) {
        let namespace = of_namespace[0].namespace;
        let distinct = of_namespace.chunk_by(|a, b| a.day == b.day).count();
        let window_of = |day: i32| if distinct > MOST_DAY_FILES { month_of(day) } else { day..day + 1 };
        for part in of_namespace.chunk_by(|a, b| window_of(a.day) == window_of(b.day)) {
            let days = window_of(part[0].day);
            let mut sizes: BTreeMap<MeasurementId, u64> = BTreeMap::new();
            for item in part {
                *sizes.entry(item.measurement).or_default() += item.values;
            }
            let mut shared = Vec::new();
            for (id, values) in sizes {
                if values >= OWN_FILE_VALUES {
                    out.push(Window { namespace, days: days.clone(), measurements: vec![id] });
                } else {
                    shared.push(id);
                }
            }
            if !shared.is_empty() {
                out.push(Window { namespace, days, measurements: shared });
            }
        }
    }
    out
}

/// The days of the UTC month that holds `day` (days since the epoch; proleptic Gregorian, Howard Hinnant's algorithm).
pub(crate) fn month_of(day: i32) -> Range<i32> {
    let shifted = i64::from(day) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let first_of = |month: i64| (153 * month + 2) / 5;
    // Months count from March; the last one, February, ends with the year of the era.
    let year_len = {
        let next = year_of_era + 1;
        let leap = next % 4 == 0 && (next % 100 != 0 || next % 400 == 0);
        365 + i64::from(leap)
    };
    let end = if month == 11 { year_len } else { first_of(month + 1) };
    let year_start = era * 146_097 + 365 * year_of_era + year_of_era / 4 - year_of_era / 100 - 719_468;
    (year_start + first_of(month)) as i32..(year_start + end) as i32
}

/// What a seal writes files from.
struct Output<'a> {
    shared: &'a Arc<Shared>,
    job: &'a SealJob,
    days: &'a [SeriesDay],
    retentions: &'a Retentions,
}

impl Output<'_> {
    /// Writes the file of a window; none if retention has left nothing for it.
    fn write(&self, window: &Window, begun: &mut Begun<'_>) -> io::Result<Option<SegmentEntry>> {
        let Self { shared, job, days, retentions } = *self;
        let belongs = |d: &&SeriesDay| {
            d.namespace == window.namespace
                && window.days.contains(&d.day)
                && window.measurements.binary_search(&d.measurement).is_ok()
        };
        let mut series: Vec<SeriesDay> = days.iter().filter(belongs).copied().collect();
        series.sort_unstable_by_key(|d| (d.measurement, d.series));
        series.dedup_by_key(|d| d.series);

        let id = SegmentId(shared.next_file_id());
        let path = segment_path(id);
        let temporary = format!("{path}.tmp");
        begun.add(&path);
        let names = shared.catalog.namespace_name(window.namespace).unwrap_or_default();
        let spec = SegmentSpec {
            store: shared.store,
            id,
            namespace: window.namespace,
            namespace_name: (names.0.to_string(), names.1.to_string()),
            min_seq: Seq(job.memtable.base().0 + 1),
            max_seq: job.through,
            first_day: window.days.start,
            end_day: window.days.end,
            midnights: Vec::new(),
        };
        let range = Timestamp::of_utc_days(window.days.clone());
        let mut writer = SegmentWriter::create(&*shared.disk, &temporary, spec.clone())?;
        for section in series.chunk_by(|a, b| a.measurement == b.measurement) {
            let measurement = section[0].measurement;
            let name = shared.catalog.measurement_name(measurement).unwrap_or_else(|| "".into());
            let mut used = BTreeSet::new();
            section.iter().for_each(|item| job.memtable.fields_of(item.series, &mut used));
            let mut fields = shared.catalog.fields(measurement).as_ref().clone();
            fields.retain(|field| used.contains(&field.id));
            writer.begin_section(measurement, &name, &fields)?;
            let kept = retentions.cutoff(window.namespace, Some(measurement), Purpose::Drop);
            let range = range.start.max(kept)..range.end;
            let mut tags_of = SeriesReader::new(&shared.catalog);
            for item in section {
                let Some((_, tags)) = tags_of.tags(item.series).map_err(io::Error::other)? else {
                    return Err(io::Error::other(format!("series {} has rows but no name", item.series)));
                };
                if let Some(rows) = job.memtable.read(item.series, &range, FieldSet::All, job.through) {
                    writer.write_series(item.series, &tags, &rows)?;
                }
            }
        }
        let summary = writer.finish()?;
        if summary.rows == 0 {
            shared.disk.remove(&temporary)?;
            return Ok(None);
        }
        shared.disk.rename(&temporary, &path)?;
        shared.disk.sync_dir("segments")?;
        Ok(Some(summary.entry(&spec)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SeriesId;

    fn day(namespace: u32, day: i32, measurement: u32, values: u64) -> SeriesDay {
        SeriesDay {
            namespace: NamespaceId(namespace),
            day,
            measurement: MeasurementId(measurement),
            series: SeriesId(day.unsigned_abs()),
            values,
        }
    }

    #[test]
    fn months_have_their_days() {
        // Days since the epoch from any calendar: 2024-02-01 = 19754, 2024-03-01 = 19783, 1969-12-01 = -31.
        for (inside, month) in [
            (0, 0..31),
            (-1, -31..0),
            (19754, 19754..19783),
            (19782, 19754..19783),
            (19783, 19783..19814),
            (20514, 20513..20544),
        ] {
            assert_eq!(month_of(inside), month, "day {inside}");
        }
        let mut at = -20_000;
        while at < 60_000 {
            let month = month_of(at);
            assert!(month.contains(&at) && (28..=31).contains(&month.len()), "day {at}: {month:?}");
            assert_eq!(month_of(month.end).start, month.end);
            at = month.end;
        }
    }

    #[test]
    fn few_days_become_day_files_and_many_become_months() {
        let few: Vec<_> = (0..3).map(|d| day(1, d, 1, 10)).collect();
        assert_eq!(windows(&few).len(), 3);
        let many: Vec<_> = (0..59).map(|d| day(1, d, 1, 10)).collect();
        let months: Vec<_> = windows(&many).into_iter().map(|w| w.days).collect();
        assert_eq!(months, [0..31, 31..59]);
    }

    #[test]
    fn a_large_measurement_gets_its_own_file_and_the_small_ones_share() {
        let days = [day(1, 5, 1, OWN_FILE_VALUES), day(1, 5, 2, 10), day(1, 5, 3, 10), day(2, 5, 4, 1)];
        let files: Vec<Vec<u32>> =
            windows(&days).iter().map(|w| w.measurements.iter().map(|m| m.0).collect()).collect();
        assert_eq!(files, [vec![1], vec![2, 3], vec![4]]);
    }
}
