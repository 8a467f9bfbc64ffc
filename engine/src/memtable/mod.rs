//! Recent points: columnar, readable at once, and what a seal turns into segments.
//!
//! Promise: a row is visible to a reader whose sequence reaches it, whole or not at all; readers copy what they ask
//! for and never hold up the writer (of a series with few rows: for as long as those are copied); a frozen memtable does not
//! change any more.
//!
//! Invariants
//! 1. One writer (the ingest thread, or replay at open) applies batches in commit order.
//! 2. Rows are parted by series and, once they are more than a few, by UTC day. In the in-order run of a day times rise strictly; every other row goes
//!    to the late run in commit order. So at an equal time the late run is always the younger one.
//! 3. A mark (sequence, rows so far) follows the cells of its batch: a reader that honours marks sees whole batches.
//!
//! Memory: 8 bytes a value, 8 a row for its time and 8 a (batch, series) for the mark, plus at most the unused part of
//! the last chunk of each column; all of it goes back to the system with the memtable (`arena`). A series with few rows
//! has two short lists instead (`few`). Not here: which rows are durable (`ingest`), segments (`seal`).

mod arena;
mod cells;
mod few;
mod run;

use crate::column::{Column, SeriesRows};
use crate::ids::{FieldId, MeasurementId, NamespaceId, Seq, SeriesId};
use crate::rows::merge_runs;
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};
use crate::tombstone::Tombstone;
use arena::Arena;
use few::FewRows;
use hashbrown::HashMap;
use run::{DayRuns, Strings};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use wattlog_model::Timestamp;

/// Rows of one series in the order in which a body gave them (times need not rise, nor differ).
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesBatch {
    /// Whose rows they are.
    pub series: SeriesId,
    /// Measurement of that series.
    pub measurement: MeasurementId,
    /// One time per row, in nanoseconds.
    pub times: Vec<i64>,
    /// Columns over these rows, by rising field id.
    pub columns: Vec<(FieldId, Column)>,
}

/// Which fields a reader wants.
#[derive(Debug, Clone, Copy)]
pub enum FieldSet<'a> {
    /// Every field there is.
    All,
    /// These, by rising id.
    Only(&'a [FieldId]),
}

impl FieldSet<'_> {
    /// True if `field` is wanted.
    pub fn contains(&self, field: FieldId) -> bool {
        match self {
            Self::All => true,
            Self::Only(fields) => fields.binary_search(&field).is_ok(),
        }
    }
}

/// Points that are in the WAL but in no segment yet.
#[derive(Debug)]
pub struct Memtable {
    /// Every sequence in here is above this one; marks hold the difference.
    base: Seq,
    series: RwLock<HashMap<SeriesId, Arc<SeriesRuns>>>,
    strings: Strings,
    bytes: AtomicU64,
    rows: AtomicU64,
    values: AtomicU64,
    max_seq: AtomicU64,
    /// The writer's own; also proves that there is one writer at a time.
    scratch: Mutex<Scratch>,
}

/// What the writer works with.
#[derive(Debug, Default)]
struct Scratch {
    /// Values of one column of one batch.
    cells: Vec<u64>,
    arena: Arena,
}

/// All rows of one series in this memtable.
#[derive(Debug)]
struct SeriesRuns {
    namespace: NamespaceId,
    measurement: MeasurementId,
    content: RwLock<Content>,
}

/// Rows of one series.
#[derive(Debug)]
enum Content {
    Few(FewRows),
    Days(Arc<Days>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Few(FewRows::default())
    }
}

/// Runs by rising day; nearly always one or two.
#[derive(Debug, Default)]
struct Days(RwLock<Vec<(i32, Arc<DayRuns>)>>);

/// One series of a frozen memtable, as the seal plans with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesDay {
    /// Namespace of the series.
    pub namespace: NamespaceId,
    /// UTC day since the epoch.
    pub day: i32,
    /// Measurement of the series.
    pub measurement: MeasurementId,
    /// The series.
    pub series: SeriesId,
    /// Values of it on that day.
    pub values: u64,
}

impl Memtable {
    /// An empty memtable for records after `base`.
    pub fn new(base: Seq) -> Self {
        Self {
            base,
            series: RwLock::default(),
            strings: Strings::default(),
            bytes: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            values: AtomicU64::new(0),
            max_seq: AtomicU64::new(base.0),
            scratch: Mutex::default(),
        }
    }

    /// Adds the rows of one committed body. Called by one writer, in commit order.
    pub fn apply(&self, namespace: NamespaceId, seq: Seq, batches: &[SeriesBatch]) {
        let mut scratch = self.scratch.lock();
        debug_assert!(seq.0 >= self.max_seq.load(Ordering::Relaxed), "bodies arrive in commit order");
        let mark = (seq.0 - self.base.0) as u32;
        let mut bytes = 0;
        for batch in batches {
            let runs = self.runs_for(namespace, batch, &mut bytes);
            bytes += runs.append(batch, mark, &self.strings, &mut scratch);
            self.rows.fetch_add(batch.times.len() as u64, Ordering::Relaxed);
            let values: usize = batch.columns.iter().map(|(_, column)| column.values.len()).sum();
            self.values.fetch_add(values as u64, Ordering::Relaxed);
        }
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.max_seq.store(seq.0, Ordering::Release);
    }

    /// The rows of `series` with times in `range` that are part of commits up to `seq`: in time order, duplicates
    /// merged. None if there is no such row.
    pub fn read(
        &self,
        series: SeriesId,
        range: &Range<i64>,
        fields: FieldSet<'_>,
        seq: Seq,
    ) -> Option<SeriesRows> {
        let runs = self.series.read().get(&series)?.clone();
        let mark = self.mark(seq)?;
        let days = match &*runs.content.read() {
            Content::Few(few) => {
                let rows = few.read(range, fields, mark, &self.strings);
                return (!rows.times.is_empty()).then_some(rows);
            }
            Content::Days(days) => days.list(),
        };
        let rows: Vec<SeriesRows> = days
            .iter()
            .filter(|(day, _)| meets(*day, range))
            .map(|(_, day)| day.read(range, fields, mark, &self.strings))
            .collect();
        let merged = merge_runs(rows);
        (!merged.times.is_empty()).then_some(merged)
    }

    /// Rows of `series` on the days of `range` and their values: what a read may find, from above.
    pub fn rows_near(&self, series: SeriesId, range: &Range<i64>) -> (u64, u64) {
        let Some(runs) = self.series.read().get(&series).cloned() else { return (0, 0) };
        match &*runs.content.read() {
            Content::Few(few) => few.rows_near(range),
            Content::Days(days) => {
                let days = days.list();
                let near = days.iter().filter(|(day, _)| meets(*day, range));
                near.fold((0, 0), |(rows, values), (_, runs)| (rows + runs.rows(), values + runs.values()))
            }
        }
    }

    /// First and last time of `series` among commits up to `seq`.
    pub fn time_range(&self, series: SeriesId, seq: Seq) -> Option<(i64, i64)> {
        let runs = self.series.read().get(&series)?.clone();
        let mark = self.mark(seq)?;
        let days = match &*runs.content.read() {
            Content::Few(few) => return few.time_range(mark),
            Content::Days(days) => days.list(),
        };
        let first = days.iter().find_map(|(_, day)| day.time_range(mark))?.0;
        let last = days.iter().rev().find_map(|(_, day)| day.time_range(mark))?.1;
        Some((first, last))
    }

    /// Time of the newest row of a namespace here (of any sequence).
    pub(crate) fn newest(&self, namespace: NamespaceId) -> Option<i64> {
        let of_series = |runs: &SeriesRuns| {
            let range = match &*runs.content.read() {
                Content::Few(few) => few.time_range(u32::MAX),
                Content::Days(days) => days.list().iter().rev().find_map(|(_, day)| day.time_range(u32::MAX)),
            };
            range.map(|(_, last)| last)
        };
        let series = self.series.read();
        series.values().filter(|runs| runs.namespace == namespace).filter_map(|runs| of_series(runs)).max()
    }

    /// True if `series` has rows here (of any sequence).
    pub fn holds(&self, series: SeriesId) -> bool {
        self.series.read().contains_key(&series)
    }

    /// What a seal of this (frozen) memtable has to write, sorted as [`SeriesDay`] orders.
    pub fn series_days(&self) -> Vec<SeriesDay> {
        let mut out = Vec::new();
        for (id, runs) in &*self.series.read() {
            let SeriesRuns { namespace, measurement, .. } = **runs;
            let of_day = |day, values| SeriesDay { namespace, day, measurement, series: *id, values };
            match &*runs.content.read() {
                Content::Few(few) => {
                    out.extend(few.days().into_iter().map(|(day, values)| of_day(day, values)));
                }
                Content::Days(days) => {
                    out.extend(days.list().iter().map(|(day, runs)| of_day(*day, runs.values())));
                }
            }
        }
        out.sort_unstable();
        out
    }

    /// Whether a row here (of any sequence) may be hidden by `tombstone`.
    pub(crate) fn meets(&self, tombstone: &Tombstone) -> bool {
        let of_measurement = |runs: &SeriesRuns| {
            runs.measurement == tombstone.measurement
                && match &*runs.content.read() {
                    Content::Few(few) => few.is_near(&tombstone.range),
                    Content::Days(days) => days.list().iter().any(|(day, _)| meets(*day, &tombstone.range)),
                }
        };
        self.series.read().iter().any(|(id, runs)| tombstone.covers(*id) && of_measurement(runs))
    }

    /// The series that have rows here.
    pub fn series_ids(&self) -> Vec<SeriesId> {
        self.series.read().keys().copied().collect()
    }

    /// Fields of `series` that have values here, added to `fields`.
    pub fn fields_of(&self, series: SeriesId, fields: &mut BTreeSet<FieldId>) {
        let Some(runs) = self.series.read().get(&series).cloned() else { return };
        match &*runs.content.read() {
            Content::Few(few) => few.fields_into(fields),
            Content::Days(days) => days.list().iter().for_each(|(_, day)| day.fields_into(fields)),
        }
    }

    /// Bytes of memory held by cells, texts and the structures around them (an estimate from above).
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) + self.strings.bytes()
    }

    /// Rows applied, duplicates counted each time.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Values applied, duplicates counted each time.
    pub fn values(&self) -> u64 {
        self.values.load(Ordering::Relaxed)
    }

    /// Highest sequence applied (the base, if none was).
    pub fn max_seq(&self) -> Seq {
        Seq(self.max_seq.load(Ordering::Acquire))
    }

    /// Sequence that all rows here are above.
    pub fn base(&self) -> Seq {
        self.base
    }

    /// True if nothing was applied.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    fn mark(&self, seq: Seq) -> Option<u32> {
        let above = seq.0.checked_sub(self.base.0).filter(|above| *above > 0)?;
        Some(u32::try_from(above).unwrap_or(u32::MAX))
    }

    fn runs_for(&self, namespace: NamespaceId, batch: &SeriesBatch, bytes: &mut usize) -> Arc<SeriesRuns> {
        if let Some(runs) = self.series.read().get(&batch.series) {
            return runs.clone();
        }
        let content = RwLock::default();
        let runs = Arc::new(SeriesRuns { namespace, measurement: batch.measurement, content });
        *bytes += size_of::<SeriesRuns>() + 48;
        self.series.write().insert(batch.series, runs.clone());
        runs
    }
}

impl SeriesRuns {
    /// Appends the rows of a batch; returns the bytes newly allocated.
    fn append(&self, batch: &SeriesBatch, mark: u32, strings: &Strings, scratch: &mut Scratch) -> usize {
        let known = match &*self.content.read() {
            Content::Days(days) => Some(days.clone()),
            Content::Few(_) => None,
        };
        if let Some(days) = known {
            return days.append(batch, mark, strings, scratch);
        }
        let mut content = self.content.write();
        let mut bytes = 0;
        let days = match &mut *content {
            Content::Days(days) => days.clone(),
            Content::Few(few) if few.takes(batch) => return few.append(batch, mark, strings),
            Content::Few(few) => {
                // Readers wait for a moment: they are never more than a few rows.
                let days = Arc::new(Days::default());
                for (mark, batch) in few.batches(batch.series, batch.measurement, strings) {
                    bytes += days.append(&batch, mark, strings, scratch);
                }
                bytes = bytes.saturating_sub(few.bytes());
                days
            }
        };
        *content = Content::Days(days.clone());
        drop(content);
        bytes + days.append(batch, mark, strings, scratch)
    }
}

impl Days {
    fn append(&self, batch: &SeriesBatch, mark: u32, strings: &Strings, scratch: &mut Scratch) -> usize {
        let mut bytes = 0;
        let mut row = 0;
        while row < batch.times.len() {
            let day = Timestamp(batch.times[row]).utc_day();
            let day_runs = self.day(day, &mut bytes);
            let stretch = day_runs.stretch(batch, row);
            bytes += day_runs.append(batch, stretch.clone(), mark, strings, scratch);
            row = stretch.end;
        }
        bytes
    }

    /// The runs there are now.
    fn list(&self) -> Vec<(i32, Arc<DayRuns>)> {
        self.0.read().clone()
    }

    fn day(&self, day: i32, bytes: &mut usize) -> Arc<DayRuns> {
        {
            let days = self.0.read();
            if let Ok(at) = days.binary_search_by_key(&day, |(d, _)| *d) {
                return days[at].1.clone();
            }
        }
        let runs = Arc::new(DayRuns::default());
        *bytes += size_of::<DayRuns>() + 32;
        let mut days = self.0.write();
        let at = days.partition_point(|(d, _)| *d < day);
        days.insert(at, (day, runs.clone()));
        runs
    }
}

/// True if the UTC day holds an instant of `range`.
fn meets(day: i32, range: &Range<i64>) -> bool {
    let day = Timestamp::of_utc_days(day..day + 1);
    range.start < day.end && day.start < range.end
}

#[cfg(test)]
mod tests;
