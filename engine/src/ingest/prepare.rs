//! From names to ids, on the caller's thread: resolves a body against the catalog and encodes its record.
//!
//! What the catalog does not know yet gets a provisional id ([`PROVISIONAL`] and above); the writer thread, which
//! alone gives ids, replaces it. A body without anything new leaves here complete, payload and checksum included.
//!
//! Invariants
//! 1. Every row that leaves here fits the types of its fields; the others are among the rejections.
//! 2. Columns of a series have rising field ids, provisional ones last.

use super::batch::{BatchColumn, BatchSeries, WriteBatch};
use super::names::Room;
use super::payload;
use super::reject::{RejectReason, Rejection};
use crate::catalog::{Catalog, CatalogError};
use crate::column::{Column, Presence, Values};
use crate::ids::{FieldId, MeasurementId, NamespaceId, SeriesId};
use crate::memtable::SeriesBatch;
use crate::retention::{Purpose, Retentions};
use crate::segment::FieldDef;
use hashbrown::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use wattlog_model::{FieldType, TagSet, Timestamp};

/// First provisional id. Given ids stay below.
pub(super) const PROVISIONAL: u32 = 1 << 31;

/// Largest integer that a float field takes.
const EXACT_IN_FLOAT: u64 = 1 << 53;

/// A body ready for the writer thread.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) namespace: NamespaceId,
    pub(super) batches: Vec<SeriesBatch>,
    /// Line of each row of each batch.
    lines: Vec<Vec<u32>>,
    pub(super) new: NewNames,
    measurements: Vec<(MeasurementId, Arc<str>)>,
    /// Encoded record and its checksum; made by the writer if there are new names.
    pub(super) payload: Option<(Vec<u8>, u32)>,
    pub(super) rejections: Vec<Rejection>,
    pub(super) points: u64,
    pub(super) values: u64,
    /// Of the points, those that are more than [`FUTURE_NS`] ahead of the clock.
    pub(super) future_points: u64,
    future_from: i64,
}

/// A point further ahead of the clock than this is stored and counted: its sender's clock, or ours, may be wrong.
const FUTURE_NS: i64 = Timestamp::DAY_NS;

/// What a body is held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Most series of the store.
    pub(super) max_series: u32,
    /// What is too old.
    pub(super) retentions: &'a Retentions,
    /// What the clock says.
    pub(super) now: Timestamp,
}

/// Names without an id; the position in a list plus [`PROVISIONAL`] is the provisional id.
#[derive(Debug, Default)]
pub(crate) struct NewNames {
    pub(super) measurements: Vec<Arc<str>>,
    pub(super) fields: Vec<(MeasurementId, Arc<str>, FieldType)>,
    pub(super) series: Vec<(MeasurementId, TagSet)>,
}

/// What the writer thread found or gave for the names of a [`NewNames`], list by list.
#[derive(Debug, Default)]
pub(super) struct GivenIds {
    pub(super) measurements: Vec<MeasurementId>,
    /// With the type that the field has: another body may have been first. None: the measurement has no room for it.
    pub(super) fields: Vec<Option<(FieldId, FieldType)>>,
    /// None: the store has no room for it.
    pub(super) series: Vec<Option<SeriesId>>,
    /// The limits that were met.
    pub(super) room: Room,
}

impl NewNames {
    pub(super) fn is_empty(&self) -> bool {
        self.measurements.is_empty() && self.fields.is_empty() && self.series.is_empty()
    }
}

impl Prepared {
    /// Puts given ids in the place of provisional ones and encodes the record. Rows that do not fit the type a field
    /// was given by an earlier body are refused here, in commit order.
    pub(super) fn complete(&mut self, given: &GivenIds) {
        let new = std::mem::take(&mut self.new);
        let batches = std::mem::take(&mut self.batches);
        let lines = std::mem::take(&mut self.lines);
        for (mut batch, lines) in batches.into_iter().zip(lines) {
            let measurement = self.measurement_name(batch.measurement, &new);
            batch.measurement = MeasurementId(final_id(batch.measurement.0, |i| given.measurements[i].0));
            let rows = batch.times.len();
            let mut refused = Vec::new();
            match batch.series.0.checked_sub(PROVISIONAL).map(|index| given.series[index as usize]) {
                None => {}
                Some(Some(id)) => batch.series = id,
                Some(None) => {
                    refused = vec![Some(RejectReason::TooManySeries { limit: given.room.series }); rows];
                }
            }
            let mut columns = Vec::with_capacity(batch.columns.len());
            for (field, column) in batch.columns {
                columns.push(if field.0 < PROVISIONAL {
                    (field, column)
                } else {
                    let index = (field.0 - PROVISIONAL) as usize;
                    let Some((field, field_type)) = given.fields[index] else {
                        refuse_rows(&column, rows, &mut refused, given.room.fields);
                        continue;
                    };
                    (field, fit(column, &new.fields[index].1, field_type, &measurement, rows, &mut refused))
                });
            }
            batch.columns = columns;
            tidy(&mut batch.columns, rows);
            if let Some((batch, lines)) = drop_refused(batch, lines, &refused, &mut self.rejections) {
                self.batches.push(batch);
                self.lines.push(lines);
            }
        }
        self.batches = all_in_parts(std::mem::take(&mut self.batches));
        self.encode();
    }

    fn measurement_name(&self, id: MeasurementId, new: &NewNames) -> Arc<str> {
        match id.0.checked_sub(PROVISIONAL) {
            Some(index) => new.measurements[index as usize].clone(),
            None => {
                self.measurements.iter().find(|(known, _)| *known == id).map_or("".into(), |(_, n)| n.clone())
            }
        }
    }

    /// Bytes of the log that a body with new names will take, about, and rather too many.
    pub(super) fn bytes_bound(&self) -> u64 {
        const HEAD_BYTES: usize = 32;
        let values = |column: &Column| match &column.values {
            Values::String(texts) => texts.iter().map(|text| text.len() + 4).sum(),
            values => HEAD_BYTES + 9 * values.len(),
        };
        let columns = |batch: &SeriesBatch| batch.columns.iter().map(|(_, c)| values(c)).sum::<usize>();
        let rows = self.batches.iter().map(|b| HEAD_BYTES + 9 * b.times.len() + columns(b)).sum::<usize>();
        let new = &self.new;
        let tags = |tags: &TagSet| tags.iter().map(|(key, value)| key.len() + value.len() + 8).sum::<usize>();
        let measurements = new.measurements.iter().map(|name| HEAD_BYTES + name.len()).sum::<usize>();
        let fields = new.fields.iter().map(|(_, name, _)| HEAD_BYTES + name.len()).sum::<usize>();
        let series = new.series.iter().map(|(_, set)| HEAD_BYTES + tags(set)).sum::<usize>();
        (rows + measurements + fields + series) as u64
    }

    fn encode(&mut self) {
        self.points = self.batches.iter().map(|b| b.times.len() as u64).sum();
        let ahead =
            |batch: &SeriesBatch| batch.times.iter().filter(|t| **t > self.future_from).count() as u64;
        self.future_points = self.batches.iter().map(ahead).sum();
        self.values = self.batches.iter().flat_map(|b| &b.columns).map(|(_, c)| c.values.len() as u64).sum();
        self.payload = (!self.batches.is_empty()).then(|| {
            let bytes = payload::encode(self.namespace, &self.batches);
            let crc = crc32fast::hash(&bytes);
            (bytes, crc)
        });
    }
}

fn final_id(id: u32, given: impl FnOnce(usize) -> u32) -> u32 {
    if id < PROVISIONAL { id } else { given((id - PROVISIONAL) as usize) }
}

/// Resolves `batch` for `namespace`.
///
/// # Errors
/// Only if a catalog file cannot be read.
pub(super) fn prepare(
    catalog: &Catalog,
    namespace: NamespaceId,
    batch: WriteBatch,
    rules: Rules<'_>,
) -> Result<Prepared, CatalogError> {
    let max_series = rules.max_series;
    let mut resolver = Resolver {
        catalog,
        namespace,
        retentions: rules.retentions,
        room: u64::from(max_series).saturating_sub(catalog.series_total()),
        max_series,
        new: NewNames::default(),
        measurements: HashMap::new(),
        last_field: None,
        fields: HashMap::new(),
        rejections: batch.rejections,
    };
    let (mut batches, mut lines) = (Vec::with_capacity(batch.series.len()), Vec::new());
    for series in batch.series {
        if !series.times.is_empty()
            && let Some((resolved, its_lines)) = resolver.series(series)?
        {
            batches.push(resolved);
            lines.push(its_lines);
        }
    }
    let Resolver { new, rejections, measurements, .. } = resolver;
    let measurements = measurements.into_iter().map(|(name, id)| (id, Arc::from(name))).collect();
    let batches = if new.is_empty() { all_in_parts(batches) } else { batches };
    let mut prepared = Prepared {
        namespace,
        batches,
        lines,
        new,
        measurements,
        payload: None,
        rejections,
        points: 0,
        values: 0,
        future_points: 0,
        future_from: rules.now.0.saturating_add(FUTURE_NS),
    };
    if prepared.new.is_empty() {
        prepared.encode();
    }
    Ok(prepared)
}

struct Resolver<'a> {
    catalog: &'a Catalog,
    namespace: NamespaceId,
    retentions: &'a Retentions,
    /// Series that may still be added.
    room: u64,
    max_series: u32,
    new: NewNames,
    measurements: HashMap<Box<str>, MeasurementId>,
    /// The field that was looked up last: series with one field have the same one, mostly.
    last_field: Option<(MeasurementId, FieldDef)>,
    /// Fields that this body is the first to name.
    fields: HashMap<(MeasurementId, Box<str>), (FieldId, FieldType)>,
    rejections: Vec<Rejection>,
}

impl Resolver<'_> {
    fn series(&mut self, series: BatchSeries) -> Result<Option<(SeriesBatch, Vec<u32>)>, CatalogError> {
        let mut refused = self.too_old(&series);
        if refused.len() == series.times.len() && refused.iter().all(Option::is_some) {
            // Nothing of it gets a name.
            let lines = series.lines.iter().zip(refused);
            let told = |(line, reason): (&u32, Option<RejectReason>)| {
                Some(Rejection { line: *line, reason: reason? })
            };
            self.rejections.extend(lines.filter_map(told));
            return Ok(None);
        }
        let measurement = self.measurement(&series.measurement);
        let known =
            if measurement.0 < PROVISIONAL { self.catalog.series(measurement, &series.tags)? } else { None };
        if known.is_none() && self.room == 0 {
            let reason = RejectReason::TooManySeries { limit: self.max_series };
            self.rejections
                .extend(series.lines.iter().map(|line| Rejection { line: *line, reason: reason.clone() }));
            return Ok(None);
        }
        let BatchSeries { measurement: name, tags, times, lines, columns, .. } = series;
        let mut resolved: Vec<(FieldId, Column)> = Vec::with_capacity(columns.len());
        for column in in_order_of_first_row(columns) {
            let (field, field_type) = self.field(measurement, &column.name, column.values.field_type());
            let presence = column.presence(times.len());
            let BatchColumn { name: field_name, values, .. } = column;
            let column = Column { presence, values };
            resolved.push((field, fit(column, &field_name, field_type, &name, times.len(), &mut refused)));
        }
        tidy(&mut resolved, times.len());
        let batch = SeriesBatch { series: known.unwrap_or_default(), measurement, times, columns: resolved };
        let Some((mut batch, lines)) = drop_refused(batch, lines, &refused, &mut self.rejections) else {
            return Ok(None);
        };
        if known.is_none() {
            self.room -= 1;
            self.new.series.push((measurement, tags));
            batch.series = SeriesId(PROVISIONAL + self.new.series.len() as u32 - 1);
        }
        Ok(Some((batch, lines)))
    }

    /// By row, those before the cutoff; empty if none is.
    fn too_old(&self, series: &BatchSeries) -> Vec<Option<RejectReason>> {
        if self.retentions.is_empty() {
            return Vec::new();
        }
        let measurement = self.catalog.measurement(self.namespace, &series.measurement);
        let cutoff_ns = self.retentions.cutoff(self.namespace, measurement, Purpose::Hide);
        if series.times.iter().all(|time| *time >= cutoff_ns) {
            return Vec::new();
        }
        series.times.iter().map(|time| (*time < cutoff_ns).then_some(RejectReason::BeyondRetention)).collect()
    }

    fn measurement(&mut self, name: &str) -> MeasurementId {
        if let Some(id) = self.measurements.get(name) {
            return *id;
        }
        let id = self.catalog.measurement(self.namespace, name).unwrap_or_else(|| {
            self.new.measurements.push(name.into());
            MeasurementId(PROVISIONAL + self.new.measurements.len() as u32 - 1)
        });
        self.measurements.insert(name.into(), id);
        id
    }

    /// Id and type of the field; a field nobody knows takes the type it has here.
    fn field(&mut self, measurement: MeasurementId, name: &str, given: FieldType) -> (FieldId, FieldType) {
        if let Some((home, field)) = &self.last_field
            && *home == measurement
            && *field.name == *name
        {
            return (field.id, field.field_type);
        }
        if measurement.0 < PROVISIONAL
            && let Some(field) = self.catalog.field(measurement, name)
        {
            let known = (field.id, field.field_type);
            self.last_field = Some((measurement, field));
            return known;
        }
        let new = &mut self.new.fields;
        *self.fields.entry((measurement, name.into())).or_insert_with(|| {
            new.push((measurement, name.into(), given));
            (FieldId(PROVISIONAL + new.len() as u32 - 1), given)
        })
    }
}

/// Columns without a value are left out; the others come in the order of their first row, so that the first write of
/// a new field fixes its type.
fn in_order_of_first_row(mut columns: Vec<BatchColumn>) -> Vec<BatchColumn> {
    columns.retain(|column| !column.values.is_empty());
    columns.sort_by_key(|column| column.rows.as_ref().map_or(0, |rows| rows[0]));
    columns
}

/// Brings a column to its field's type, or marks the rows that cannot be.
fn fit(
    column: Column,
    name: &str,
    field_type: FieldType,
    measurement: &str,
    rows: usize,
    refused: &mut Vec<Option<RejectReason>>,
) -> Column {
    let given = column.values.field_type();
    if given == field_type {
        return column;
    }
    let mut refuse = |position: usize, reason: RejectReason| {
        refused.resize(rows, None);
        refused[column.row(position)].get_or_insert(reason);
    };
    let loss = |value: i128| RejectReason::WideningLoss { field: name.to_owned(), value };
    let widened = match (field_type, &column.values) {
        (FieldType::Float, Values::Integer(integers)) => {
            for (position, value) in integers.iter().enumerate() {
                if value.unsigned_abs() > EXACT_IN_FLOAT {
                    refuse(position, loss(i128::from(*value)));
                }
            }
            integers.iter().map(|v| *v as f64).collect()
        }
        (FieldType::Float, Values::Unsigned(integers)) => {
            for (position, value) in integers.iter().enumerate() {
                if *value > EXACT_IN_FLOAT {
                    refuse(position, loss(i128::from(*value)));
                }
            }
            integers.iter().map(|v| *v as f64).collect()
        }
        _ => {
            let (measurement, field) = (measurement.to_owned(), name.to_owned());
            let conflict = RejectReason::TypeConflict { measurement, field, given, existing: field_type };
            (0..column.values.len()).for_each(|position| refuse(position, conflict.clone()));
            // Every row of this column goes; an empty column of the right type stands in until they are gone.
            return Column { presence: Presence::Rows(Vec::new()), values: Values::new(field_type) };
        }
    };
    Column { presence: column.presence, values: Values::Float(widened) }
}

/// Most days of all series of one body: the memtable keeps the rows of each series and day apart, about 1 KiB each.
pub(super) const MAX_SERIES_DAYS: usize = 1 << 16;
/// Most steps of applying a body: a column looked at for a stretch of rows on one day.
const MAX_APPLY_STEPS: usize = 1 << 24;

/// Whether applying the body would take memory or time out of all proportion to its length.
pub(super) fn is_scattered(batches: &[SeriesBatch]) -> bool {
    let (mut days, mut steps) = (0, 0);
    for batch in batches {
        let stretches: Vec<i32> = batch
            .times
            .chunk_by(|a, b| Timestamp(*a).utc_day() == Timestamp(*b).utc_day())
            .map(|stretch| Timestamp(stretch[0]).utc_day())
            .collect();
        steps += stretches.len() * (1 + batch.columns.len());
        days += if stretches.len() > 2 {
            stretches.into_iter().collect::<HashSet<_>>().len()
        } else {
            stretches.len()
        };
    }
    days > MAX_SERIES_DAYS || steps > MAX_APPLY_STEPS
}

/// Refuses the rows of a field that there is no room for.
fn refuse_rows(column: &Column, rows: usize, refused: &mut Vec<Option<RejectReason>>, limit: u32) {
    refused.resize(rows, None);
    for position in 0..column.values.len() {
        refused[column.row(position)].get_or_insert(RejectReason::TooManyMeasurementFields { limit });
    }
}

fn all_in_parts(batches: Vec<SeriesBatch>) -> Vec<SeriesBatch> {
    if batches.iter().all(|batch| batch.times.len() <= payload::MAX_ROWS) {
        return batches;
    }
    batches.into_iter().flat_map(in_parts).collect()
}

/// Cuts a batch where it has more rows than a payload takes of one series at a time.
fn in_parts(batch: SeriesBatch) -> Vec<SeriesBatch> {
    let rows = batch.times.len();
    if rows <= payload::MAX_ROWS {
        return vec![batch];
    }
    let parts = (0..rows).step_by(payload::MAX_ROWS).map(|start| start..rows.min(start + payload::MAX_ROWS));
    parts.map(|part| rows_of(&batch, part)).collect()
}

/// The rows `part` of a batch.
fn rows_of(batch: &SeriesBatch, part: Range<usize>) -> SeriesBatch {
    let mut columns = Vec::with_capacity(batch.columns.len());
    for (field, column) in &batch.columns {
        let positions = match &column.presence {
            Presence::All => part.clone(),
            Presence::Rows(rows) => {
                rows.partition_point(|row| (*row as usize) < part.start)
                    ..rows.partition_point(|row| (*row as usize) < part.end)
            }
        };
        if positions.is_empty() {
            continue;
        }
        let mut values = Values::new(column.values.field_type());
        values.extend_from(&column.values, positions.clone());
        let present = positions.map(|position| (column.row(position) - part.start) as u32).collect();
        columns.push((*field, Column { presence: crate::rows::all_if_full(present, part.len()), values }));
    }
    SeriesBatch {
        series: batch.series,
        measurement: batch.measurement,
        times: batch.times[part].to_vec(),
        columns,
    }
}

/// Puts columns in the order of their ids and joins those with one id.
fn tidy(columns: &mut Vec<(FieldId, Column)>, rows: usize) {
    columns.sort_by_key(|(field, _)| *field);
    if columns.windows(2).any(|pair| pair[0].0 == pair[1].0)
        || columns.iter().any(|(_, c)| c.values.is_empty())
    {
        join_same_field(columns, rows);
    }
}

/// Takes the refused rows out and tells them; none if no row is left.
fn drop_refused(
    batch: SeriesBatch,
    lines: Vec<u32>,
    refused: &[Option<RejectReason>],
    rejections: &mut Vec<Rejection>,
) -> Option<(SeriesBatch, Vec<u32>)> {
    if refused.is_empty() {
        return Some((batch, lines));
    }
    let mut kept = Vec::new();
    for (line, reason) in lines.iter().zip(refused) {
        match reason {
            Some(reason) => rejections.push(Rejection { line: *line, reason: reason.clone() }),
            None => kept.push(*line),
        }
    }
    let batch = without(batch, |row| refused[row].is_some());
    (!batch.times.is_empty()).then_some((batch, kept))
}

/// Joins neighbours with one field id (a float column and a widened one): their rows never meet.
fn join_same_field(columns: &mut Vec<(FieldId, Column)>, rows: usize) {
    let mut joined: Vec<(FieldId, Column)> = Vec::with_capacity(columns.len());
    for (field, column) in columns.drain(..) {
        match joined.last_mut() {
            Some((last, before)) if *last == field => {
                let mut places: Vec<(u32, usize, bool)> = (0..before.values.len())
                    .map(|p| (before.row(p) as u32, p, false))
                    .chain((0..column.values.len()).map(|p| (column.row(p) as u32, p, true)))
                    .collect();
                places.sort_unstable();
                let mut values = Values::new(before.values.field_type());
                for (_, position, second) in &places {
                    let from = if *second { &column.values } else { &before.values };
                    values.extend_from(from, *position..*position + 1);
                }
                let present = places.iter().map(|(row, _, _)| *row).collect();
                *before = Column { presence: crate::rows::all_if_full(present, rows), values };
            }
            _ => joined.push((field, column)),
        }
    }
    joined.retain(|(_, column)| !column.values.is_empty());
    *columns = joined;
}

/// The batch without the rows that `gone` names; columns left without a value go too, and rows left without any.
fn without(batch: SeriesBatch, gone: impl Fn(usize) -> bool) -> SeriesBatch {
    let rows = batch.times.len();
    let mut new_row = vec![u32::MAX; rows];
    let mut times = Vec::new();
    for row in (0..rows).filter(|row| !gone(*row)) {
        new_row[row] = times.len() as u32;
        times.push(batch.times[row]);
    }
    let mut columns = Vec::new();
    for (field, column) in batch.columns {
        let mut values = Values::new(column.values.field_type());
        let mut present = Vec::new();
        for position in 0..column.values.len() {
            let row = new_row[column.row(position)];
            if row != u32::MAX {
                values.extend_from(&column.values, position..position + 1);
                present.push(row);
            }
        }
        if !values.is_empty() {
            columns
                .push((field, Column { presence: crate::rows::all_if_full(present, times.len()), values }));
        }
    }
    SeriesBatch { times, columns, ..batch }
}
