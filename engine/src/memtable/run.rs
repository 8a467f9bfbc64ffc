//! The rows of one series on one UTC day: an in-order run and, if ever needed, a late run.

use super::cells::{Cells, CellsTail};
use super::{FieldSet, Scratch, SeriesBatch};
use crate::column::{Column, Presence, SeriesRows, Values};
use crate::ids::FieldId;
use crate::rows::merge_runs;
use crate::sync::{AtomicI64, AtomicU64, Mutex, OnceLock, Ordering, RwLock};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use wattlog_model::{FieldType, Timestamp};

/// Both runs of a day.
#[derive(Debug, Default)]
pub(super) struct DayRuns {
    in_order: Run,
    late: OnceLock<Box<Run>>,
}

/// Rows in commit order, column by column.
#[derive(Debug)]
struct Run {
    times: Cells,
    /// (sequence above the base) << 32 | rows of this run up to and with that batch.
    marks: Cells,
    fields: RwLock<Vec<(FieldId, Arc<FieldCells>)>>,
    writer: Mutex<RunTail>,
    /// Largest time so far; `i64::MIN` while empty. Read by the writer alone.
    last_time: AtomicI64,
    values: AtomicU64,
}

#[derive(Debug, Default)]
struct RunTail {
    times: CellsTail,
    marks: CellsTail,
    rows: u32,
    mark_count: u32,
}

#[derive(Debug)]
struct FieldCells {
    field_type: FieldType,
    cells: Cells,
    tail: Mutex<CellsTail>,
}

/// Texts of a memtable, each kept once; a cell holds its number.
#[derive(Debug, Default)]
pub(super) struct Strings {
    by_text: Mutex<HashMap<Arc<str>, u32>>,
    by_number: RwLock<Vec<Arc<str>>>,
    bytes: AtomicU64,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            times: Cells::default(),
            marks: Cells::default(),
            fields: RwLock::default(),
            writer: Mutex::default(),
            last_time: AtomicI64::new(i64::MIN),
            values: AtomicU64::new(0),
        }
    }
}

impl Strings {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn number(&self, text: &Arc<str>) -> u32 {
        let mut by_text = self.by_text.lock();
        if let Some(number) = by_text.get(text) {
            return *number;
        }
        let mut by_number = self.by_number.write();
        let number = by_number.len() as u32;
        by_number.push(text.clone());
        by_text.insert(text.clone(), number);
        // The text with its two counters, one list slot, one table slot.
        self.bytes.fetch_add(text.len() as u64 + 16 + 16 + 28, Ordering::Relaxed);
        number
    }
}

impl DayRuns {
    /// The rows of `batch` from `first` on that can be appended in one go: same day, same run, times rising strictly
    /// in the in-order run.
    pub(super) fn stretch(&self, batch: &SeriesBatch, first: usize) -> Range<usize> {
        let times = &batch.times;
        let day = Timestamp(times[first]).utc_day();
        let of_day = Timestamp::of_utc_days(day..day + 1);
        let last = self.in_order.last_time.load(Ordering::Relaxed);
        let same_day = |time: i64| of_day.contains(&time);
        let mut end = first + 1;
        if times[first] > last {
            while end < times.len() && times[end] > times[end - 1] && same_day(times[end]) {
                end += 1;
            }
        } else {
            while end < times.len() && times[end] <= last && same_day(times[end]) {
                end += 1;
            }
        }
        first..end
    }

    /// Appends one stretch as [`DayRuns::stretch`] cut it; returns the bytes newly allocated.
    pub(super) fn append(
        &self,
        batch: &SeriesBatch,
        stretch: Range<usize>,
        mark: u32,
        strings: &Strings,
        scratch: &mut Scratch,
    ) -> usize {
        let in_order = batch.times[stretch.start] > self.in_order.last_time.load(Ordering::Relaxed);
        if in_order {
            self.in_order.append(batch, stretch, mark, strings, scratch)
        } else {
            let mut bytes = 0;
            let late = self.late.get_or_init(|| {
                bytes += size_of::<Run>();
                Box::default()
            });
            late.append(batch, stretch, mark, strings, scratch) + bytes
        }
    }

    /// Rows with times in `range` among marks up to `mark`.
    pub(super) fn read(
        &self,
        range: &Range<i64>,
        fields: FieldSet<'_>,
        mark: u32,
        strings: &Strings,
    ) -> SeriesRows {
        let in_order = self.in_order.read_in_order(range, fields, mark, strings);
        match self.late.get() {
            None => in_order,
            Some(late) => merge_runs(vec![in_order, late.read_late(range, fields, mark, strings)]),
        }
    }

    /// First and last time among marks up to `mark`.
    pub(super) fn time_range(&self, mark: u32) -> Option<(i64, i64)> {
        let mut times = self.in_order.times(mark);
        if let Some(late) = self.late.get() {
            times.extend(late.times(mark));
        }
        Some((*times.iter().min()?, *times.iter().max()?))
    }

    /// Fields with values here.
    pub(super) fn fields_into(&self, fields: &mut BTreeSet<FieldId>) {
        for run in std::iter::once(&self.in_order).chain(self.late.get().map(|late| &**late)) {
            fields.extend(run.fields.read().iter().map(|(id, _)| *id));
        }
    }

    /// Rows applied, of any sequence, duplicates counted each time.
    pub(super) fn rows(&self) -> u64 {
        let late = self.late.get().map_or(0, |late| late.writer.lock().rows);
        u64::from(self.in_order.writer.lock().rows) + u64::from(late)
    }

    /// Values applied, duplicates counted each time.
    pub(super) fn values(&self) -> u64 {
        self.in_order.values.load(Ordering::Relaxed)
            + self.late.get().map_or(0, |late| late.values.load(Ordering::Relaxed))
    }
}

impl Run {
    fn append(
        &self,
        batch: &SeriesBatch,
        stretch: Range<usize>,
        mark: u32,
        strings: &Strings,
        scratch: &mut Scratch,
    ) -> usize {
        let mut tail = self.writer.lock();
        let tail = &mut *tail;
        let base = tail.rows;
        let times = &batch.times[stretch.clone()];
        let Scratch { cells: scratch, arena } = scratch;
        let new_times = times.iter().map(|t| t.cast_unsigned());
        let mut bytes = self.times.append_dense(&mut tail.times, arena, base, new_times);
        let mut added = 0;
        for (field, column) in &batch.columns {
            let (from, to) = match &column.presence {
                Presence::All => (stretch.start, stretch.end),
                Presence::Rows(rows) => (
                    rows.partition_point(|row| (*row as usize) < stretch.start),
                    rows.partition_point(|row| (*row as usize) < stretch.end),
                ),
            };
            if from == to {
                continue;
            }
            added += to - from;
            scratch.clear();
            cells_of(&column.values, from..to, strings, scratch);
            let cells = self.cells_for(*field, column.values.field_type(), &mut bytes);
            let mut cells_tail = cells.tail.lock();
            let row_of = |position: usize| base + (column.row(position) - stretch.start) as u32;
            let no_gap = (row_of(to - 1) - row_of(from)) as usize == to - 1 - from;
            if no_gap {
                bytes +=
                    cells.cells.append_dense(&mut cells_tail, arena, row_of(from), scratch.iter().copied());
            } else {
                for (position, cell) in (from..to).zip(scratch.iter()) {
                    bytes += cells.cells.append_sparse(&mut cells_tail, arena, row_of(position), *cell);
                }
            }
        }
        tail.rows = base + times.len() as u32;
        let packed = u64::from(mark) << 32 | u64::from(tail.rows);
        bytes += self.marks.append_dense(&mut tail.marks, arena, tail.mark_count, std::iter::once(packed));
        tail.mark_count += 1;
        let newest = times.iter().copied().max().unwrap_or(i64::MIN);
        self.last_time.fetch_max(newest, Ordering::Relaxed);
        self.values.fetch_add(added as u64, Ordering::Relaxed);
        bytes
    }

    fn cells_for(&self, field: FieldId, field_type: FieldType, bytes: &mut usize) -> Arc<FieldCells> {
        if let Ok(cells) = {
            let fields = self.fields.read();
            fields.binary_search_by_key(&field, |(id, _)| *id).map(|i| fields[i].1.clone())
        } {
            return cells;
        }
        let cells = Arc::new(FieldCells { field_type, cells: Cells::default(), tail: Mutex::default() });
        *bytes += size_of::<FieldCells>() + 32;
        let mut fields = self.fields.write();
        let at = fields.partition_point(|(id, _)| *id < field);
        fields.insert(at, (field, cells.clone()));
        cells
    }

    /// Rows that belong to marks up to `mark`.
    fn visible_rows(&self, mark: u32) -> u32 {
        let reached = |cell: u64| (cell >> 32) as u32 <= mark;
        let last = self.marks.chunks().take_while(|chunk| chunk.first_cell().is_some_and(reached)).last();
        let mut rows = 0;
        if let Some(chunk) = last {
            chunk.visit(u32::MAX, |_, cell| {
                if reached(cell) {
                    rows = cell as u32;
                }
            });
        }
        rows
    }

    fn times(&self, mark: u32) -> Vec<i64> {
        let rows = self.visible_rows(mark);
        let mut cells = Vec::with_capacity(rows as usize);
        for chunk in self.times.chunks() {
            chunk.copy_dense(&(0..rows), &mut cells);
        }
        cells.into_iter().map(u64::cast_signed).collect()
    }

    fn fields(&self, wanted: FieldSet<'_>) -> Vec<(FieldId, Arc<FieldCells>)> {
        self.fields.read().iter().filter(|(id, _)| wanted.contains(*id)).cloned().collect()
    }

    fn read_in_order(
        &self,
        range: &Range<i64>,
        wanted: FieldSet<'_>,
        mark: u32,
        strings: &Strings,
    ) -> SeriesRows {
        let mut times = self.times(mark);
        let start = times.partition_point(|t| *t < range.start);
        let end = times.partition_point(|t| *t < range.end);
        if start >= end {
            return SeriesRows::default();
        }
        if end - start < times.len() {
            // The room for all rows of the day goes.
            times = times[start..end].to_vec();
        }
        let rows = start as u32..end as u32;
        let columns = self
            .fields(wanted)
            .into_iter()
            .filter_map(|(id, field)| Some((id, field.read(&rows, strings)?)))
            .collect();
        SeriesRows { times, columns }
    }

    /// Late rows stand in commit order.
    fn read_late(
        &self,
        range: &Range<i64>,
        wanted: FieldSet<'_>,
        mark: u32,
        strings: &Strings,
    ) -> SeriesRows {
        let times = self.times(mark);
        let order = CommitOrder::new(&times, range);
        let columns = self.fields(wanted).into_iter().filter_map(|(id, field)| {
            let column = order.column(field.field_type, strings, |visit| {
                field.cells.chunks().for_each(|chunk| chunk.visit(times.len() as u32, &mut *visit));
            });
            Some((id, column?))
        });
        let columns = columns.collect();
        SeriesRows { times: order.into_times(), columns }
    }
}

/// Rows in commit order as a reader wants them: by time, of equal times the last value of each field.
#[derive(Debug)]
pub(super) struct CommitOrder {
    times: Vec<i64>,
    /// For each row its place among `times`; `u32::MAX` if it is not among them.
    target: Vec<u32>,
}

impl CommitOrder {
    /// The order of the rows with times in `range`.
    pub(super) fn new(all: &[i64], range: &Range<i64>) -> Self {
        let mut order: Vec<u32> =
            (0..all.len() as u32).filter(|row| range.contains(&all[*row as usize])).collect();
        // Stable: rows of one time stay in commit order.
        order.sort_by_key(|row| all[*row as usize]);
        let mut times: Vec<i64> = Vec::new();
        let mut target = vec![u32::MAX; all.len()];
        for row in &order {
            let time = all[*row as usize];
            if times.last() != Some(&time) {
                times.push(time);
            }
            target[*row as usize] = times.len() as u32 - 1;
        }
        Self { times, target }
    }

    /// One field over these rows; `cells` visits the row and the value of each of its cells in commit order. None if no
    /// row has a value.
    pub(super) fn column(
        &self,
        field_type: FieldType,
        strings: &Strings,
        cells: impl FnOnce(&mut dyn FnMut(u32, u64)),
    ) -> Option<Column> {
        let mut slots: Vec<Option<u64>> = vec![None; self.times.len()];
        // A later cell overwrites an earlier one of the same time.
        cells(&mut |row, cell| {
            if let Some(slot) = slots.get_mut(self.target[row as usize] as usize) {
                *slot = Some(cell);
            }
        });
        let present: Vec<u32> = (0..slots.len() as u32).filter(|i| slots[*i as usize].is_some()).collect();
        let cells: Vec<u64> = slots.into_iter().flatten().collect();
        let presence = crate::rows::all_if_full(present, self.times.len());
        (!cells.is_empty()).then(|| Column { presence, values: values_of(field_type, &cells, strings) })
    }

    /// The times, rising strictly.
    pub(super) fn into_times(self) -> Vec<i64> {
        self.times
    }
}

impl FieldCells {
    /// The column over `rows` of the run, renumbered from zero; none if no row has a value.
    fn read(&self, rows: &Range<u32>, strings: &Strings) -> Option<Column> {
        let mut cells = Vec::new();
        let mut present: Vec<u32> = Vec::new();
        for chunk in self.cells.chunks() {
            if chunk.first_row() >= rows.end {
                break;
            }
            let before = cells.len();
            if chunk.copy_dense(rows, &mut cells) {
                let first = chunk.first_row().max(rows.start) - rows.start;
                present.extend(first..first + (cells.len() - before) as u32);
            } else {
                chunk.visit(rows.end, |row, cell| {
                    if row >= rows.start {
                        present.push(row - rows.start);
                        cells.push(cell);
                    }
                });
            }
        }
        if cells.is_empty() {
            return None;
        }
        let presence = crate::rows::all_if_full(present, rows.len());
        Some(Column { presence, values: values_of(self.field_type, &cells, strings) })
    }
}

pub(super) fn cells_of(values: &Values, range: Range<usize>, strings: &Strings, out: &mut Vec<u64>) {
    match values {
        Values::Float(v) => out.extend(v[range].iter().map(|x| x.to_bits())),
        Values::Integer(v) => out.extend(v[range].iter().map(|x| x.cast_unsigned())),
        Values::Unsigned(v) => out.extend_from_slice(&v[range]),
        Values::Boolean(v) => out.extend(v[range].iter().map(|x| u64::from(*x))),
        Values::String(v) => out.extend(v[range].iter().map(|x| u64::from(strings.number(x)))),
    }
}

pub(super) fn values_of(field_type: FieldType, cells: &[u64], strings: &Strings) -> Values {
    match field_type {
        FieldType::Float => Values::Float(cells.iter().map(|c| f64::from_bits(*c)).collect()),
        FieldType::Integer => Values::Integer(cells.iter().map(|c| c.cast_signed()).collect()),
        FieldType::Unsigned => Values::Unsigned(cells.to_vec()),
        FieldType::Boolean => Values::Boolean(cells.iter().map(|c| *c != 0).collect()),
        FieldType::String => {
            let texts = strings.by_number.read();
            Values::String(cells.iter().map(|c| texts[*c as usize].clone()).collect())
        }
    }
}
