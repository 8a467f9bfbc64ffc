//! Series of a measurement, told apart by device, and the rows of one of them as numbers.
//!
//! Invariants
//! 1. Rows rise in time, one for each instant: of points of one device at one instant the first that has a value gives it.
//! 2. What rows hold of the memory that queries share is given back with them.

use crate::energy::{DEVICE, number};
use std::ops::Range;
use wattlog_engine::query::{
    GroupBy, QueryControl, QueryError, QueryRequest, QueryResult, ResultSeries, ResultValues, Shape,
    TagFilter, TagPredicate,
};
use wattlog_engine::{Engine, MeasurementInfo};
use wattlog_model::Timestamp;

/// Which series are meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Name of the database.
    pub database: String,
    /// Name of the measurement.
    pub measurement: String,
    /// Conditions on tags.
    pub tags: Vec<TagFilter>,
}

/// Tags of a series as told, by key; one that it does not have is empty.
pub type Tags = Vec<(String, String)>;

/// Keys of the tags by which series are told apart: the device if points have one, otherwise all.
pub(crate) fn keys(info: &MeasurementInfo) -> Vec<String> {
    if info.tag_keys.iter().any(|key| key == DEVICE) {
        return vec![DEVICE.to_owned()];
    }
    info.tag_keys.clone()
}

impl Selection {
    /// What is known of the measurement; none if there is no such measurement, or no database yet.
    pub(crate) fn info(&self, engine: &Engine) -> Result<Option<MeasurementInfo>, QueryError> {
        match engine.measurement(&self.database, &self.measurement) {
            Err(QueryError::DatabaseNotFound(_)) => Ok(None),
            known => known,
        }
    }

    /// A question about its series, told apart by `keys`.
    pub(crate) fn request(
        &self,
        fields: &[&str],
        range: &Range<i64>,
        shape: Shape,
        keys: &[String],
    ) -> QueryRequest {
        QueryRequest {
            fields: Some(fields.iter().map(|name| (*name).to_owned()).collect()),
            tags: self.tags.clone(),
            shape,
            group_by: GroupBy::Keys(keys.to_vec()),
            ..QueryRequest::raw(
                &self.database,
                &self.measurement,
                Timestamp(range.start),
                Timestamp(range.end),
            )
        }
    }

    /// The one series of these tags.
    pub(crate) fn only(&self, tags: &[(String, String)]) -> Self {
        let one = tags.iter().map(|(key, value)| TagFilter {
            key: key.clone(),
            predicate: TagPredicate::In(vec![value.clone()]),
        });
        Self { tags: self.tags.iter().cloned().chain(one).collect(), ..self.clone() }
    }
}

/// Rows of one series.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) times: Vec<i64>,
    /// By field, in the order asked for; as long as `times`, or empty if the series does not have the field.
    columns: Vec<Vec<Option<f64>>>,
    /// Where something could not be read.
    pub(crate) lost: Vec<Range<i64>>,
    _held: QueryControl,
}

impl Rows {
    /// Reads `fields` of the series of `selection` that has `tags`.
    pub(crate) fn read(
        engine: &Engine,
        selection: &Selection,
        tags: &[(String, String)],
        fields: &[&str],
        range: &Range<i64>,
        control: &QueryControl,
    ) -> Result<Self, QueryError> {
        let control = QueryControl { memory: control.memory.another(), ..control.clone() };
        let keys: Vec<String> = tags.iter().map(|(key, _)| key.clone()).collect();
        let request = selection.only(tags).request(fields, range, Shape::Raw, &keys);
        let result = engine.query(&request, &control)?;
        let lost = lost_of(&result);
        let mut rows =
            Self { columns: vec![Vec::new(); fields.len()], lost, _held: control, ..Self::default() };
        if let Some(series) = result.series.first() {
            rows.take(series, fields);
        }
        Ok(rows)
    }

    fn take(&mut self, series: &ResultSeries, fields: &[&str]) {
        let values: Vec<Option<&ResultValues>> =
            fields.iter().map(|name| series.column(name).map(|column| &column.values)).collect();
        for (row, time) in times(series).enumerate() {
            let is_new = self.times.last() != Some(&time);
            if is_new {
                self.times.push(time);
            }
            for (column, values) in self.columns.iter_mut().zip(&values) {
                let Some(values) = values else { continue };
                let value = number(values, row).filter(|value| value.is_finite());
                match column.last_mut() {
                    Some(last) if !is_new => *last = last.or(value),
                    _ => column.push(value),
                }
            }
        }
    }

    /// The value of a field in a row.
    pub(crate) fn value(&self, field: usize, row: usize) -> Option<f64> {
        *self.columns.get(field)?.get(row)?
    }

    /// The points of a field.
    pub(crate) fn points(&self, field: usize) -> Vec<(Timestamp, f64)> {
        let column = self.columns.get(field).map(Vec::as_slice).unwrap_or_default();
        let known = self.times.iter().zip(column);
        known.filter_map(|(time, value)| Some((Timestamp(*time), (*value)?))).collect()
    }
}

/// Times of the rows of a series.
pub(crate) fn times(series: &ResultSeries) -> impl Iterator<Item = i64> {
    let times = match series.columns.first().map(|column| &column.values) {
        Some(ResultValues::Time(times)) => times.as_slice(),
        _ => &[],
    };
    times.iter().map(|time| time.unwrap_or_default())
}

/// Times in which something that belongs to an answer could not be read.
pub(crate) fn lost_of(result: &QueryResult) -> Vec<Range<i64>> {
    result.partial.iter().map(|lost| lost.first..lost.last.saturating_add(1)).collect()
}
