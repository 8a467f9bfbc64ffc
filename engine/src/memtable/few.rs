//! Few rows of one series: two short lists in the place of the chunks of [`DayRuns`](super::run::DayRuns).
//!
//! A store of many series has a row or two of each in a memtable; chunks for them would cost a kibibyte a series.
//!
//! Invariants
//! 1. Rows stand in commit order with the mark of their batch, so those of marks up to a given one are the first ones.
//! 2. A series that grows beyond [`FEW_ROWS`] or [`FEW_VALUES`] goes over to runs, once, with all rows and their marks.

use super::run::{CommitOrder, Strings, cells_of, values_of};
use super::{FieldSet, SeriesBatch, meets};
use crate::column::{Column, Presence, SeriesRows};
use crate::ids::{FieldId, MeasurementId, SeriesId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use wattlog_model::{FieldType, Timestamp};

/// Most rows kept here.
const FEW_ROWS: usize = 8;
/// Most values kept here.
const FEW_VALUES: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct FewRows {
    /// Time and mark of each row.
    rows: Vec<(i64, u32)>,
    /// By batch, field and row.
    values: Vec<Value>,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    cell: u64,
    field: FieldId,
    row: u16,
    field_type: FieldType,
}

impl FewRows {
    /// Whether the rows of `batch` have room here too.
    pub(super) fn takes(&self, batch: &SeriesBatch) -> bool {
        let values: usize = batch.columns.iter().map(|(_, column)| column.values.len()).sum();
        self.rows.len() + batch.times.len() <= FEW_ROWS && self.values.len() + values <= FEW_VALUES
    }

    /// Appends them; returns the bytes newly allocated.
    pub(super) fn append(&mut self, batch: &SeriesBatch, mark: u32, strings: &Strings) -> usize {
        let before = self.bytes();
        let first = self.rows.len();
        self.rows.reserve_exact(batch.times.len());
        self.rows.extend(batch.times.iter().map(|time| (*time, mark)));
        self.values.reserve_exact(batch.columns.iter().map(|(_, column)| column.values.len()).sum());
        let mut cells = Vec::new();
        for (field, column) in &batch.columns {
            cells.clear();
            cells_of(&column.values, 0..column.values.len(), strings, &mut cells);
            let field_type = column.values.field_type();
            self.values.extend(cells.iter().enumerate().map(|(position, cell)| {
                let row = (first + column.row(position)) as u16;
                Value { cell: *cell, field: *field, row, field_type }
            }));
        }
        self.bytes() - before
    }

    /// Memory of the lists.
    pub(super) fn bytes(&self) -> usize {
        /// What an allocation costs besides its room.
        const ALLOCATION_BYTES: usize = 16;
        let list = |bytes: usize| if bytes > 0 { bytes + ALLOCATION_BYTES } else { 0 };
        list(self.rows.capacity() * size_of::<(i64, u32)>())
            + list(self.values.capacity() * size_of::<Value>())
    }

    /// The batches that were appended, with their marks.
    pub(super) fn batches(
        &self,
        series: SeriesId,
        measurement: MeasurementId,
        strings: &Strings,
    ) -> Vec<(u32, SeriesBatch)> {
        let mut first = 0;
        let of_mark = self.rows.chunk_by(|a, b| a.1 == b.1).map(|rows| {
            let range = first..first + rows.len();
            first = range.end;
            let times = rows.iter().map(|(time, _)| *time).collect();
            (rows[0].1, SeriesBatch { series, measurement, times, columns: self.columns(&range, strings) })
        });
        of_mark.collect()
    }

    /// Columns over the rows `range`, by rising field.
    fn columns(&self, range: &Range<usize>, strings: &Strings) -> Vec<(FieldId, Column)> {
        let mut fields: BTreeMap<FieldId, (FieldType, Vec<u32>, Vec<u64>)> = BTreeMap::new();
        for value in self.values.iter().filter(|value| range.contains(&usize::from(value.row))) {
            let (_, rows, cells) =
                fields.entry(value.field).or_insert((value.field_type, Vec::new(), Vec::new()));
            rows.push(u32::from(value.row) - range.start as u32);
            cells.push(value.cell);
        }
        let column = |(field, (field_type, rows, cells)): (_, (_, _, Vec<u64>))| {
            let presence: Presence = crate::rows::all_if_full(rows, range.len());
            (field, Column { presence, values: values_of(field_type, &cells, strings) })
        };
        fields.into_iter().map(column).collect()
    }

    /// Rows with times in `range` among marks up to `mark`, in time order.
    pub(super) fn read(
        &self,
        range: &Range<i64>,
        wanted: FieldSet<'_>,
        mark: u32,
        strings: &Strings,
    ) -> SeriesRows {
        let times: Vec<i64> = self.visible(mark).iter().map(|(time, _)| *time).collect();
        let order = CommitOrder::new(&times, range);
        let mut fields: BTreeMap<FieldId, FieldType> = BTreeMap::new();
        let visible = |value: &&Value| usize::from(value.row) < times.len() && wanted.contains(value.field);
        fields.extend(self.values.iter().filter(visible).map(|value| (value.field, value.field_type)));
        let columns = fields.into_iter().filter_map(|(field, field_type)| {
            let cells = self.values.iter().filter(|value| value.field == field).filter(visible);
            let column = order.column(field_type, strings, |visit| {
                cells.for_each(|value| visit(u32::from(value.row), value.cell));
            });
            Some((field, column?))
        });
        let columns = columns.collect();
        SeriesRows { times: order.into_times(), columns }
    }

    /// First and last time among marks up to `mark`.
    pub(super) fn time_range(&self, mark: u32) -> Option<(i64, i64)> {
        let times = || self.visible(mark).iter().map(|(time, _)| *time);
        Some((times().min()?, times().max()?))
    }

    fn visible(&self, mark: u32) -> &[(i64, u32)] {
        &self.rows[..self.rows.partition_point(|(_, own)| *own <= mark)]
    }

    /// Fields with values here.
    pub(super) fn fields_into(&self, fields: &mut BTreeSet<FieldId>) {
        fields.extend(self.values.iter().map(|value| value.field));
    }

    /// Rows and values, of any sequence, if a row is of a day that `range` meets.
    pub(super) fn rows_near(&self, range: &Range<i64>) -> (u64, u64) {
        if self.is_near(range) { (self.rows.len() as u64, self.values.len() as u64) } else { (0, 0) }
    }

    /// Whether a row, of any sequence, is of a day that `range` meets.
    pub(super) fn is_near(&self, range: &Range<i64>) -> bool {
        self.rows.iter().any(|(time, _)| meets(Timestamp(*time).utc_day(), range))
    }

    /// Values, of any sequence, by UTC day.
    pub(super) fn days(&self) -> BTreeMap<i32, u64> {
        let mut days: BTreeMap<i32, u64> =
            self.rows.iter().map(|(time, _)| (Timestamp(*time).utc_day(), 0)).collect();
        for value in &self.values {
            *days.entry(Timestamp(self.rows[usize::from(value.row)].0).utc_day()).or_default() += 1;
        }
        days
    }
}
