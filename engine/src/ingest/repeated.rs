//! Rows of a series that came before: their fields are compared with what is expected instead of being looked up.
//!
//! Promise: a row that is finished is in the batch as if it had come through [`Row`](super::Row); one that is dropped
//! before leaves nothing behind.
//!
//! Invariants
//! 1. Time and line are added last, so a row under way is no row of its series yet.
//! 2. A value goes only to a column of its name and type that has none for this row: everything else (a field given
//!    twice, a name with two types, a new field) is refused here and is for [`Row`](super::Row).

use super::batch::{BatchColumn, BatchSeries, Counts, NOWHERE, SeriesSlot, WriteBatch};
use crate::column::Values;
use wattlog_model::{MAX_FIELDS_PER_POINT, MAX_STRING_LEN_BYTES, Timestamp};

/// A row being filled. Dropping it without [`RepeatedRow::finish`] takes it back.
#[derive(Debug)]
pub struct RepeatedRow<'a> {
    series: &'a mut BatchSeries,
    counts: &'a mut Counts,
    row: u32,
    /// Column of the next value, once [`RepeatedRow::field`] found it.
    column: usize,
    /// Column of the value before; [`NOWHERE`] at first.
    before: usize,
    values: u32,
    text_bytes: usize,
}

/// From this many columns on, a name that is not the expected one is left to the table of names.
const MOST_COMPARED: usize = 24;

impl WriteBatch {
    /// Begins a row of a series that has rows already; None if values of it have to be looked at one by one.
    #[inline]
    pub fn repeated_row(&mut self, slot: SeriesSlot) -> Option<RepeatedRow<'_>> {
        self.came(slot);
        let series = &mut self.series[slot.0 as usize];
        let row = series.times.len() as u32;
        (!series.mixed_types && row > 0).then(|| RepeatedRow {
            series,
            counts: &mut self.counts,
            row,
            column: NOWHERE,
            before: NOWHERE,
            values: 0,
            text_bytes: 0,
        })
    }
}

impl RepeatedRow<'_> {
    /// Finds the field whose name, followed by the byte `end`, begins `text`, and gives the length of both; the one that
    /// came next the last time is tried first. Names that a text format has to escape are never found.
    #[inline]
    pub fn field(&mut self, text: &[u8], end: u8) -> Option<usize> {
        let named = |column: &BatchColumn| {
            let name = column.name.as_bytes();
            column.is_plain && text.get(name.len()) == Some(&end) && is_same(&text[..name.len()], name)
        };
        if self.values as usize >= MAX_FIELDS_PER_POINT {
            return None;
        }
        let columns = &mut self.series.columns;
        let expected = columns.get(self.before).map_or(self.series.first_column, |column| column.next_column);
        if let Some(column) = columns.get(expected)
            && named(column)
        {
            self.column = expected;
            return Some(column.name.len() + 1);
        }
        if columns.len() > MOST_COMPARED {
            return None;
        }
        let found = columns.iter().position(named)?;
        match columns.get_mut(self.before) {
            Some(before) => before.next_column = found,
            None => self.series.first_column = found,
        }
        self.column = found;
        Some(columns[found].name.len() + 1)
    }

    /// Sets the field just found; false if it cannot be set here.
    #[inline]
    pub fn float(&mut self, value: f64) -> bool {
        self.put(
            |column| match &mut column.values {
                Values::Float(values) if value.is_finite() => Some(values),
                _ => None,
            },
            value,
        )
    }

    /// The same for a signed integer.
    #[inline]
    pub fn integer(&mut self, value: i64) -> bool {
        self.put(
            |column| match &mut column.values {
                Values::Integer(values) => Some(values),
                _ => None,
            },
            value,
        )
    }

    /// The same for an unsigned integer.
    pub fn unsigned(&mut self, value: u64) -> bool {
        self.put(
            |column| match &mut column.values {
                Values::Unsigned(values) => Some(values),
                _ => None,
            },
            value,
        )
    }

    /// The same for a boolean.
    pub fn boolean(&mut self, value: bool) -> bool {
        self.put(
            |column| match &mut column.values {
                Values::Boolean(values) => Some(values),
                _ => None,
            },
            value,
        )
    }

    /// The same for a text.
    pub fn string(&mut self, value: &str) -> bool {
        let Some(column) = self.series.columns.get(self.column) else { return false };
        if value.len() > MAX_STRING_LEN_BYTES {
            return false;
        }
        let (text, new_bytes) = column.text(value);
        let is_set = self.put(
            |column| match &mut column.values {
                Values::String(values) => Some(values),
                _ => None,
            },
            text,
        );
        self.text_bytes += if is_set { new_bytes } else { 0 };
        is_set
    }

    /// Adds the row, if it has a value; `line` is the edge's own number for it.
    #[inline]
    pub fn finish(mut self, time: Timestamp, line: u32) {
        if self.values == 0 {
            return;
        }
        self.series.times.push(time.0);
        self.series.lines.push(line);
        self.counts.points += 1;
        self.counts.values += u64::from(self.values);
        self.counts.text_bytes += self.text_bytes;
        // Nothing is left for Drop to take back.
        self.values = 0;
    }

    #[inline]
    fn put<T>(&mut self, list: impl FnOnce(&mut BatchColumn) -> Option<&mut Vec<T>>, value: T) -> bool {
        let Some(column) = self.series.columns.get_mut(self.column) else { return false };
        if !column.takes(self.row) {
            return false;
        }
        let Some(values) = list(column) else { return false };
        values.push(value);
        if let Some(rows) = &mut column.rows {
            rows.push(self.row);
        }
        self.before = std::mem::replace(&mut self.column, NOWHERE);
        self.values += 1;
        true
    }
}

/// Whether two short texts of one length are equal. Most names have 4 to 16 bytes: two words that overlap say it sooner
/// than a call that compares any length.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    match a.len() {
        8..=16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        4..8 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        _ => a == b,
    }
}

impl BatchColumn {
    /// Whether a value of `row` can simply be appended.
    #[inline]
    fn takes(&self, row: u32) -> bool {
        match &self.rows {
            None => self.values.len() == row as usize,
            Some(rows) => rows.last().is_none_or(|last| *last < row),
        }
    }
}

impl Drop for RepeatedRow<'_> {
    fn drop(&mut self) {
        if self.values > 0 {
            self.series.take_row(self.row);
        }
    }
}
