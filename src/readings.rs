//! Where alerts and engine meet: values of one field, how full the disk is.
//!
//! Promise: a field is that of one series, in the default database; if more than one series has the tags, that is told and none is
//! taken. A database, measurement or field that is not there yet has no values.

use std::ops::Range;
use std::time::{Duration, Instant};
use wattlog_alerts::{BoxFuture, FieldOf, Readings, ReadingsError, Sample, StorageFigures};
use wattlog_engine::query::{
    Order, QueryControl, QueryError, QueryRequest, ResultSeries, ResultValues, TagFilter, TagPredicate,
};
use wattlog_engine::{Engine, StorageInfo};
use wattlog_model::Timestamp;

/// The engine as alerts see it.
pub(crate) struct EngineReadings {
    engine: Engine,
    database: String,
    query_time: Duration,
}

impl EngineReadings {
    /// `query_time` is the longest that one question may take.
    pub(crate) fn new(engine: Engine, database: &str, query_time: Duration) -> Self {
        Self { engine, database: database.to_owned(), query_time }
    }

    async fn ask(
        &self,
        of: &FieldOf,
        range: Range<Timestamp>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Sample>, ReadingsError> {
        let tags = of.tags.iter().map(|(key, value)| TagFilter {
            key: key.clone(),
            predicate: TagPredicate::In(vec![value.clone()]),
        });
        let request = QueryRequest {
            fields: Some(vec![of.field.clone()]),
            tags: tags.collect(),
            order,
            limit: Some(limit),
            ..QueryRequest::raw(&self.database, &of.measurement, range.start, range.end)
        };
        let control =
            QueryControl { deadline: Some(Instant::now() + self.query_time), ..QueryControl::default() };
        let engine = self.engine.clone();
        let answer = match off_the_loop(move || engine.query(&request, &control)).await? {
            Ok(answer) => answer,
            Err(QueryError::DatabaseNotFound(_)) => return Ok(Vec::new()),
            Err(error) => return Err(ReadingsError::Unavailable { reason: error.to_string() }),
        };
        match answer.series.as_slice() {
            [] => Ok(Vec::new()),
            [one] => samples(one, &of.field),
            many => {
                let shown = many.iter().take(2).map(|series| {
                    let tags = series.tags.iter().map(|(key, value)| format!("{key}={value}"));
                    tags.collect::<Vec<_>>().join(",")
                });
                let example = shown.collect::<Vec<_>>().join("; ");
                Err(ReadingsError::Ambiguous { count: many.len(), example })
            }
        }
    }
}

impl Readings for EngineReadings {
    fn values<'a>(
        &'a self,
        of: &'a FieldOf,
        range: Range<Timestamp>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Sample>, ReadingsError>> {
        Box::pin(self.ask(of, range, Order::Ascending, limit))
    }

    fn newest<'a>(
        &'a self,
        of: &'a FieldOf,
        range: Range<Timestamp>,
    ) -> BoxFuture<'a, Result<Option<Sample>, ReadingsError>> {
        Box::pin(async move { Ok(self.ask(of, range, Order::Descending, 1).await?.pop()) })
    }

    fn unit<'a>(&'a self, of: &'a FieldOf) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let (engine, database, measurement) =
                (self.engine.clone(), self.database.clone(), of.measurement.clone());
            // A message without a unit is better than none.
            let found =
                off_the_loop(move || engine.measurement(&database, &measurement)).await.ok()?.ok()??;
            let field = found.fields.into_iter().find(|field| field.name == of.field)?;
            field.unit.map(|unit| unit.as_str().to_owned())
        })
    }

    fn storage(&self) -> BoxFuture<'_, Result<StorageFigures, ReadingsError>> {
        Box::pin(async move {
            let engine = self.engine.clone();
            let (space, storage) = off_the_loop(move || (engine.space(), engine.storage())).await?;
            let not_yet = || ReadingsError::Unavailable { reason: "the disk was not asked yet".to_owned() };
            let free_bytes = space.available_bytes.ok_or_else(not_yet)?;
            let disk_bytes = space.total_bytes.max(1);
            Ok(StorageFigures { free_bytes, disk_bytes, store_bytes: on_disk(&storage) })
        })
    }
}

/// Numbers of a column; a truth value is 0 or 1, a text is none.
fn samples(series: &ResultSeries, field: &str) -> Result<Vec<Sample>, ReadingsError> {
    let column = |name: &str| series.column(name).map(|column| &column.values);
    let (Some(ResultValues::Time(times)), Some(values)) = (column("time"), column(field)) else {
        return Ok(Vec::new());
    };
    let numbers: Vec<Option<f64>> = match values {
        ResultValues::Float(values) => values.clone(),
        ResultValues::Integer(values) => values.iter().map(|value| value.map(|value| value as f64)).collect(),
        ResultValues::Unsigned(values) => {
            values.iter().map(|value| value.map(|value| value as f64)).collect()
        }
        ResultValues::Boolean(values) => values.iter().map(|value| value.map(f64::from)).collect(),
        ResultValues::String(_) | ResultValues::Time(_) => {
            let reason = format!("{field} holds texts: a rule needs numbers or truth values");
            return Err(ReadingsError::Unknown { reason });
        }
    };
    let pairs = times.iter().zip(numbers);
    Ok(pairs.filter_map(|(time, value)| Some(Sample { time: Timestamp((*time)?), value: value? })).collect())
}

fn on_disk(storage: &StorageInfo) -> u64 {
    storage.data_bytes
        + storage.time_bytes
        + storage.meta_bytes
        + storage.wal_bytes
        + storage.catalog_bytes
        + storage.manifest_bytes
}

/// Engine calls wait for the disk, so they never run on a thread of the event loop.
async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ReadingsError> {
    // The one way to fail here is the runtime going down around us.
    let over = |error: tokio::task::JoinError| ReadingsError::Unavailable { reason: error.to_string() };
    tokio::task::spawn_blocking(work).await.map_err(over)
}
