//! A body on its way in: rows grouped by series and held as columns, built by an edge without any lock.
//!
//! Promise: whatever an edge pushes, the batch holds whole rows only; a row that was abandoned or that holds a value
//! no field may have leaves nothing behind but its rejection.
//!
//! Invariants
//! 1. Row numbers of a column rise; a column without a list of rows has a value in every row up to its last one.
//! 2. In one row a field has at most one value: the last that was given.
//! 3. A batch is for one namespace; series are in the order of their first row.
//! 4. What is expected next (series, columns) is only ever a guess that saves a look-up: whoever uses it compares names.

use super::reject::{RejectReason, Rejection};
use crate::column::{Presence, Values};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;
use wattlog_model::{FieldType, FieldValue, MAX_FIELDS_PER_POINT, MAX_KEY_LEN_BYTES, MAX_STRING_LEN_BYTES};
use wattlog_model::{Point, TagSet, Timestamp};

/// From this many columns on, a series looks its columns up by a table instead of by comparing names.
const WIDE_COLUMNS: usize = 24;

/// Memory of a series in a batch besides its names and rows: itself, the first room of its lists, its place in both maps.
const SERIES_BYTES: usize = 512;
/// Memory of a column besides its name and values.
const COLUMN_BYTES: usize = 160;

/// Rows of one body.
#[derive(Debug)]
pub struct WriteBatch {
    pub(super) database: String,
    pub(super) policy: Option<String>,
    pub(super) series: Vec<BatchSeries>,
    pub(super) rejections: Vec<Rejection>,
    /// Slot by the raw bytes of a key; several spellings may name one series.
    by_raw: HashTable<(u64, RawKey)>,
    raw_bytes: Vec<u8>,
    /// Slot by measurement and tags.
    by_key: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Series of the last row.
    last_slot: u32,
    pub(super) counts: Counts,
}

/// What a batch holds.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) points: u64,
    pub(super) values: u64,
    pub(super) text_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct RawKey {
    start: u32,
    end: u32,
    slot: SeriesSlot,
}

/// A series within one [`WriteBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesSlot(pub(super) u32);

/// The rows of one series.
#[derive(Debug)]
pub(super) struct BatchSeries {
    pub(super) measurement: Box<str>,
    pub(super) tags: TagSet,
    pub(super) times: Vec<i64>,
    /// Line of each row, as the edge counts them.
    pub(super) lines: Vec<u32>,
    pub(super) columns: Vec<BatchColumn>,
    /// Columns by name, once there are more than [`WIDE_COLUMNS`].
    wide: HashMap<Box<str>, Vec<usize>>,
    /// True once one name stands with two types.
    pub(super) mixed_types: bool,
    /// A spelling of its key, as a range of [`WriteBatch::raw_bytes`]; empty if no edge gave one.
    raw: Range<usize>,
    /// Series of the row that came after the last row of this one.
    next_slot: u32,
    /// Column of the first value of the last row.
    pub(super) first_column: usize,
}

/// One field of one type over the rows of a series.
#[derive(Debug)]
pub(super) struct BatchColumn {
    pub(super) name: Box<str>,
    pub(super) values: Values,
    /// Row of each value; none while every row up to the last has one.
    pub(super) rows: Option<Vec<u32>>,
    /// True if no text format has to quote or escape a byte of the name.
    pub(super) is_plain: bool,
    /// Column of the value that came after the last value of this one in its row.
    pub(super) next_column: usize,
}

/// Of a series or a column: not known.
pub(super) const NOWHERE: usize = usize::MAX;

/// A row being filled. Dropping it ends the row; a row without a value is removed.
#[derive(Debug)]
pub struct Row<'a> {
    batch: &'a mut WriteBatch,
    slot: SeriesSlot,
    row: u32,
    /// Column of the last value; [`NOWHERE`] before the first.
    last_column: usize,
    values: u32,
    refused: Option<RejectReason>,
}

impl WriteBatch {
    /// An empty body for `database` and its retention policy (None: the default one).
    pub fn new(database: &str, retention_policy: Option<&str>) -> Self {
        Self {
            database: database.to_owned(),
            policy: retention_policy.filter(|name| !name.is_empty()).map(str::to_owned),
            series: Vec::new(),
            rejections: Vec::new(),
            by_raw: HashTable::new(),
            raw_bytes: Vec::new(),
            by_key: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            last_slot: 0,
            counts: Counts::default(),
        }
    }

    /// The slot of that series, made at its first use.
    pub fn series(&mut self, measurement: &str, tags: &TagSet) -> SeriesSlot {
        let Self { series, by_key, hasher, .. } = self;
        let hash = hasher.hash_one((measurement, tags));
        let same = |slot: &u32| {
            let known = &series[*slot as usize];
            *known.measurement == *measurement && known.tags == *tags
        };
        let next = series.len() as u32;
        let slot = by_key.find(hash, same).copied().unwrap_or(next);
        if slot == next {
            by_key.insert_unique(hash, next, |slot| {
                let known = &series[*slot as usize];
                hasher.hash_one((&*known.measurement, &known.tags))
            });
            let names = measurement.len() + tags.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
            self.counts.text_bytes += names + SERIES_BYTES;
            self.series.push(BatchSeries {
                measurement: measurement.into(),
                tags: tags.clone(),
                times: Vec::new(),
                lines: Vec::new(),
                columns: Vec::new(),
                wide: HashMap::new(),
                mixed_types: false,
                raw: 0..0,
                next_slot: 0,
                first_column: NOWHERE,
            });
        }
        SeriesSlot(slot)
    }

    /// The same, found by the exact bytes that name the series in the body: one hash look-up for a spelling seen
    /// before, one call of `parse` for a new one.
    ///
    /// # Errors
    /// What `parse` says; nothing is changed then.
    pub fn series_by_raw<E>(
        &mut self,
        raw: &[u8],
        parse: impl FnOnce() -> Result<(String, TagSet), E>,
    ) -> Result<SeriesSlot, E> {
        let hash = self.hasher.hash_one(raw);
        if let Some(slot) = self.by_raw(hash, raw) {
            return Ok(slot);
        }
        let (measurement, tags) = parse()?;
        let slot = self.series(&measurement, &tags);
        let start = self.raw_bytes.len() as u32;
        self.raw_bytes.extend_from_slice(raw);
        let key = RawKey { start, end: self.raw_bytes.len() as u32, slot };
        self.by_raw.insert_unique(hash, (hash, key), |(hash, _)| *hash);
        self.series[slot.0 as usize].raw = start as usize..self.raw_bytes.len();
        Ok(slot)
    }

    /// The same for a spelling seen before; None for a new one.
    pub fn known_series(&self, raw: &[u8]) -> Option<SeriesSlot> {
        self.by_raw(self.hasher.hash_one(raw), raw)
    }

    /// The series whose row probably comes next, since it did the last time, and a spelling of its key.
    #[inline]
    pub fn expected_series(&self) -> Option<(SeriesSlot, &[u8])> {
        let slot = self.series.get(self.last_slot as usize)?.next_slot;
        let raw = self.series.get(slot as usize)?.raw.clone();
        (!raw.is_empty()).then(|| (SeriesSlot(slot), &self.raw_bytes[raw]))
    }

    fn by_raw(&self, hash: u64, raw: &[u8]) -> Option<SeriesSlot> {
        let same = |(_, key): &(u64, RawKey)| &self.raw_bytes[key.start as usize..key.end as usize] == raw;
        self.by_raw.find(hash, same).map(|(_, key)| key.slot)
    }

    /// Notes that a row of this series came.
    #[inline]
    pub(super) fn came(&mut self, slot: SeriesSlot) {
        if let Some(before) = self.series.get_mut(self.last_slot as usize) {
            before.next_slot = slot.0;
        }
        self.last_slot = slot.0;
    }

    /// Begins a row. `line` is the edge's own number for it and comes back in a rejection.
    pub fn row(&mut self, slot: SeriesSlot, time: Timestamp, line: u32) -> Row<'_> {
        let series = &mut self.series[slot.0 as usize];
        let row = series.times.len() as u32;
        series.times.push(time.0);
        series.lines.push(line);
        Row { batch: self, slot, row, last_column: NOWHERE, values: 0, refused: None }
    }

    /// Adds one point; `receive_time` is its time if it has none of its own.
    pub fn push(&mut self, point: &Point, receive_time: Timestamp, line: u32) {
        if point.measurement.is_empty() || point.measurement.len() > MAX_KEY_LEN_BYTES {
            self.rejections.push(Rejection { line, reason: RejectReason::InvalidName });
            return;
        }
        let slot = self.series(&point.measurement, &point.tags);
        let mut row = self.row(slot, point.time.unwrap_or(receive_time), line);
        for (name, value) in &point.fields {
            row.value(name, value);
        }
    }

    /// Database this body is for.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Whole rows.
    pub fn points(&self) -> u64 {
        self.counts.points
    }

    /// Values in them.
    pub fn values(&self) -> u64 {
        self.counts.values
    }

    /// True if there is no row.
    pub fn is_empty(&self) -> bool {
        self.counts.points == 0
    }

    /// The rows as points, in the order of their lines, each with its line; fields in the order in which the series
    /// first named them. For tests and tools: every value is copied.
    pub fn to_points(&self) -> Vec<(u32, Point)> {
        let mut points: Vec<(u32, Point)> = Vec::new();
        for series in &self.series {
            let first = points.len();
            points.extend(series.times.iter().zip(&series.lines).map(|(time, line)| {
                let (measurement, tags) = (series.measurement.to_string(), series.tags.clone());
                (*line, Point { measurement, tags, time: Some(Timestamp(*time)), fields: Vec::new() })
            }));
            for column in &series.columns {
                for position in 0..column.values.len() {
                    let row = column.rows.as_ref().map_or(position, |rows| rows[position] as usize);
                    points[first + row].1.fields.push((column.name.to_string(), column.values.get(position)));
                }
            }
        }
        points.sort_by_key(|(line, _)| *line);
        points
    }

    /// Memory held, roughly: what an edge compares with its limit.
    pub fn bytes(&self) -> usize {
        let Counts { points, values, text_bytes } = self.counts;
        points as usize * 12 + values as usize * 8 + text_bytes + self.raw_bytes.len()
    }
}

impl Row<'_> {
    /// Sets a float. NaN and infinities refuse the whole row.
    pub fn float(&mut self, name: &str, value: f64) {
        if !value.is_finite() {
            self.refuse(RejectReason::NotFinite { field: name.to_owned() });
            return;
        }
        let row = self.row;
        if let Some(column) = self.column(name, FieldType::Float) {
            column.put(row, FieldValue::Float(value));
        }
    }

    /// Sets a signed integer.
    pub fn integer(&mut self, name: &str, value: i64) {
        let row = self.row;
        if let Some(column) = self.column(name, FieldType::Integer) {
            column.put(row, FieldValue::Integer(value));
        }
    }

    /// Sets an unsigned integer.
    pub fn unsigned(&mut self, name: &str, value: u64) {
        let row = self.row;
        if let Some(column) = self.column(name, FieldType::Unsigned) {
            column.put(row, FieldValue::Unsigned(value));
        }
    }

    /// Sets a boolean.
    pub fn boolean(&mut self, name: &str, value: bool) {
        let row = self.row;
        if let Some(column) = self.column(name, FieldType::Boolean) {
            column.put(row, FieldValue::Boolean(value));
        }
    }

    /// Sets a text; one longer than [`MAX_STRING_LEN_BYTES`] refuses the whole row.
    pub fn string(&mut self, name: &str, value: &str) {
        if value.len() > MAX_STRING_LEN_BYTES {
            self.refuse(RejectReason::StringTooLong { field: name.to_owned(), len: value.len() });
            return;
        }
        let row = self.row;
        let Some(column) = self.column(name, FieldType::String) else { return };
        let (text, new_bytes) = column.text(value);
        column.put(row, FieldValue::String(text));
        self.batch.counts.text_bytes += new_bytes;
    }

    /// Sets a value of any type.
    pub fn value(&mut self, name: &str, value: &FieldValue) {
        match value {
            FieldValue::Float(v) => self.float(name, *v),
            FieldValue::Integer(v) => self.integer(name, *v),
            FieldValue::Unsigned(v) => self.unsigned(name, *v),
            FieldValue::Boolean(v) => self.boolean(name, *v),
            FieldValue::String(v) => self.string(name, v),
        }
    }

    /// Takes the row back, as if it had never begun: for an edge that finds an error later in the line.
    pub fn abandon(mut self) {
        self.values = 0;
        self.refused = None;
        self.roll_back();
        // Nothing is left for Drop to do: the row's place holds no row any more.
        self.row = u32::MAX;
    }

    fn refuse(&mut self, reason: RejectReason) {
        self.refused.get_or_insert(reason);
    }

    /// The column for `name`, ready for a value of this row; none if the row has too many fields or a bad name.
    fn column(&mut self, name: &str, field_type: FieldType) -> Option<&mut BatchColumn> {
        if name.is_empty() || name.len() > MAX_KEY_LEN_BYTES {
            self.refuse(RejectReason::InvalidName);
            return None;
        }
        if self.values as usize >= MAX_FIELDS_PER_POINT {
            self.refuse(RejectReason::TooManyFields);
            return None;
        }
        let series = &mut self.batch.series[self.slot.0 as usize];
        let columns = series.columns.len();
        let index = series.column_for(name, field_type, self.row, self.last_column, &mut self.values);
        self.batch.counts.text_bytes += (series.columns.len() - columns) * (name.len() + COLUMN_BYTES);
        self.last_column = index;
        self.values += 1;
        Some(&mut series.columns[index])
    }

    fn roll_back(&mut self) {
        let series = &mut self.batch.series[self.slot.0 as usize];
        series.take_row(self.row);
        series.times.pop();
        series.lines.pop();
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        if self.row == u32::MAX {
            return;
        }
        if let Some(reason) = self.refused.take() {
            let line = self.batch.series[self.slot.0 as usize].lines[self.row as usize];
            self.batch.rejections.push(Rejection { line, reason });
            self.roll_back();
        } else if self.values == 0 {
            self.roll_back();
        } else {
            self.batch.counts.points += 1;
            self.batch.counts.values += u64::from(self.values);
            self.batch.came(self.slot);
        }
    }
}

impl BatchSeries {
    /// Finds or makes the column. A value that this row already has for the name is taken out of the row and of
    /// `values`, whatever its type was: the last one given counts.
    fn column_for(
        &mut self,
        name: &str,
        field_type: FieldType,
        row: u32,
        before: usize,
        values: &mut u32,
    ) -> usize {
        let expected = self.columns.get(before).map_or(self.first_column, |column| column.next_column);
        if let Some(column) = self.columns.get(expected)
            && column.values.field_type() == field_type
            && &*column.name == name
            && column.last_row() != Some(row)
            && !self.mixed_types
        {
            return expected;
        }
        let index = self.column_named(name, field_type, row, values);
        match self.columns.get_mut(before) {
            Some(column) => column.next_column = index,
            None => self.first_column = index,
        }
        index
    }

    fn column_named(&mut self, name: &str, field_type: FieldType, row: u32, values: &mut u32) -> usize {
        let same_name = self.columns_named(name);
        let mut found = None;
        for index in &same_name {
            let column = &mut self.columns[*index];
            *values -= u32::from(column.take_row(row));
            if column.values.field_type() == field_type {
                found = Some(*index);
            }
        }
        if let Some(index) = found {
            return index;
        }
        self.mixed_types |= !same_name.is_empty();
        let index = self.columns.len();
        let rows = (row > 0).then(Vec::new);
        if index == 0 {
            // Most series of a body with many have one field.
            self.columns.reserve_exact(1);
        }
        let is_plain = name.bytes().all(|byte| byte > b' ' && !b"\",=\\\x7f".contains(&byte));
        self.columns.push(BatchColumn {
            name: name.into(),
            values: Values::new(field_type),
            rows,
            is_plain,
            next_column: NOWHERE,
        });
        if self.columns.len() > WIDE_COLUMNS {
            let first_unlisted = if self.wide.is_empty() { 0 } else { index };
            for (i, column) in self.columns.iter().enumerate().skip(first_unlisted) {
                self.wide.entry(column.name.clone()).or_default().push(i);
            }
        }
        index
    }

    /// Takes the values of the row out, if it is the last one.
    pub(super) fn take_row(&mut self, row: u32) {
        for column in &mut self.columns {
            column.take_row(row);
        }
    }

    fn columns_named(&self, name: &str) -> Vec<usize> {
        if self.wide.is_empty() {
            let named = self.columns.iter().enumerate().filter(|(_, c)| &*c.name == name);
            return named.map(|(i, _)| i).collect();
        }
        self.wide.get(name).cloned().unwrap_or_default()
    }
}

impl BatchColumn {
    fn last_row(&self) -> Option<u32> {
        match &self.rows {
            Some(rows) => rows.last().copied(),
            None => (self.values.len() as u32).checked_sub(1),
        }
    }

    /// `value` as this column keeps it, and the memory it takes anew: one that repeats the text before shares it.
    pub(super) fn text(&self, value: &str) -> (Arc<str>, usize) {
        if let Values::String(texts) = &self.values
            && let Some(last) = texts.last()
            && &**last == value
        {
            return (last.clone(), 0);
        }
        (Arc::from(value), value.len() + 16)
    }

    /// Appends the value of `row`, which is above every row that has one.
    fn put(&mut self, row: u32, value: FieldValue) {
        let len = self.values.len() as u32;
        if self.rows.is_none() && len != row {
            self.rows = Some((0..len).collect());
        }
        if let Some(rows) = &mut self.rows {
            rows.push(row);
        }
        let fits = self.values.push(value);
        debug_assert!(fits.is_ok(), "columns are found by their type");
    }

    /// Takes the value of `row` out, if it is the last one; true if it was.
    fn take_row(&mut self, row: u32) -> bool {
        if self.last_row() != Some(row) {
            return false;
        }
        if let Some(rows) = &mut self.rows {
            rows.pop();
        }
        self.values.truncate(self.values.len() - 1);
        true
    }

    /// The column's presence over `rows` rows.
    pub(super) fn presence(&self, rows: usize) -> Presence {
        match &self.rows {
            None if self.values.len() == rows => Presence::All,
            None => Presence::Rows((0..self.values.len() as u32).collect()),
            Some(list) => crate::rows::all_if_full(list.clone(), rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> (WriteBatch, SeriesSlot) {
        let mut batch = WriteBatch::new("db", None);
        let slot = batch.series("m", &TagSet::default());
        (batch, slot)
    }

    fn columns(batch: &WriteBatch) -> Vec<(String, Values, Presence)> {
        let series = &batch.series[0];
        let rows = series.times.len();
        series.columns.iter().map(|c| (c.name.to_string(), c.values.clone(), c.presence(rows))).collect()
    }

    #[test]
    fn gaps_and_new_fields_keep_their_rows() {
        let (mut batch, slot) = batch();
        for (i, names) in [&["a", "b"][..], &["b"], &["a", "c"]].iter().enumerate() {
            let mut row = batch.row(slot, Timestamp(i as i64), i as u32);
            names.iter().for_each(|name| row.float(name, i as f64));
        }
        assert_eq!(
            columns(&batch),
            [
                ("a".into(), Values::Float(vec![0.0, 2.0]), Presence::Rows(vec![0, 2])),
                ("b".into(), Values::Float(vec![0.0, 1.0]), Presence::Rows(vec![0, 1])),
                ("c".into(), Values::Float(vec![2.0]), Presence::Rows(vec![2])),
            ]
        );
        assert_eq!((batch.points(), batch.values()), (3, 5));
    }

    #[test]
    fn the_last_of_two_values_counts_even_if_its_type_differs() {
        let (mut batch, slot) = batch();
        let mut row = batch.row(slot, Timestamp(1), 0);
        row.float("v", 1.0);
        row.integer("v", 2);
        row.integer("v", 3);
        drop(row);
        assert_eq!(batch.values(), 1);
        let kept: Vec<_> = columns(&batch).into_iter().filter(|(_, values, _)| !values.is_empty()).collect();
        assert_eq!(kept, [("v".into(), Values::Integer(vec![3]), Presence::All)]);
    }

    #[test]
    fn abandoned_empty_and_refused_rows_leave_no_trace() {
        let (mut batch, slot) = batch();
        batch.row(slot, Timestamp(1), 0).float("v", 1.0);
        let mut row = batch.row(slot, Timestamp(2), 1);
        row.float("v", 2.0);
        row.abandon();
        drop(batch.row(slot, Timestamp(3), 2));
        let mut row = batch.row(slot, Timestamp(4), 3);
        row.float("v", 4.0);
        row.float("w", f64::NAN);
        drop(row);
        batch.row(slot, Timestamp(5), 4).float("v", 5.0);
        assert_eq!(batch.series[0].times, [1, 5]);
        assert_eq!(columns(&batch)[0], ("v".into(), Values::Float(vec![1.0, 5.0]), Presence::All));
        assert_eq!(batch.rejections.len(), 1);
        assert_eq!(batch.rejections[0].line, 3);
    }

    #[test]
    fn two_spellings_of_one_key_are_one_series() {
        let (mut batch, _) = batch();
        let tags = TagSet::new([("a", "1"), ("b", "2")]).unwrap();
        let key = || Ok::<_, ()>(("m".to_owned(), tags.clone()));
        let one = batch.series_by_raw(b"m,a=1,b=2", key).unwrap();
        let two = batch.series_by_raw(b"m,b=2,a=1", key).unwrap();
        let again = batch.series_by_raw(b"m,a=1,b=2", || Err("parsed a known key again")).unwrap();
        assert_eq!((one, one), (two, again));
        assert_eq!(batch.series_by_raw(b"m,,", || Err("bad")), Err("bad"));
    }

    #[test]
    fn wide_rows_find_their_columns_by_name() {
        let (mut batch, slot) = batch();
        for i in 0..3_i64 {
            let mut row = batch.row(slot, Timestamp(i), 0);
            for field in 0..200 {
                let field = if i % 2 == 0 { field } else { 199 - field };
                row.integer(&format!("f{field}"), i * 1000 + field);
            }
        }
        assert_eq!(batch.values(), 600);
        for (name, values, presence) in columns(&batch) {
            let field: i64 = name[1..].parse().unwrap();
            assert_eq!(values, Values::Integer(vec![field, 1000 + field, 2000 + field]));
            assert_eq!(presence, Presence::All);
        }
    }
}
