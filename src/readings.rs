//! Where alerts meet engine and ledger: values of one field, what a kWh costs, how full the disk is.
//!
//! Promise: a field is that of one series, in the default database; if more than one series has the tags, that is told and none is
//! taken: also if only one of them has values in the range that is asked for, as of devices that are polled in turn. What was
//! imported is history and no such series, unless its source is named. A database,
//! measurement or field that is not there yet has no values. Values that may be missing because a part of the store cannot be
//! read are an error and no answer: a hole would look like silence.

mod prices;

use crate::import::IMPORTED;
use std::ops::Range;
use std::time::{Duration, Instant};
use wattlog_alerts::{BoxFuture, FieldOf, PriceFigure, Readings, ReadingsError, Sample, StorageFigures};
use wattlog_engine::query::{
    Order, QueryControl, QueryError, QueryRequest, QueryResult, ResultSeries, ResultValues, Shape, TagFilter,
    TagPredicate, Zone,
};
use wattlog_engine::{Engine, StorageInfo};
use wattlog_ledger::Ledger;
use wattlog_model::Timestamp;

/// A series counts as one that has the tags for so long after its last value: what was replaced stays unnamed after a day.
const KNOWN_FOR_NS: i64 = Timestamp::DAY_NS;
/// Tag that says where points come from.
const DATA_SOURCE: &str = "data_source";

/// The engine as alerts see it.
pub(crate) struct EngineReadings {
    engine: Engine,
    ledger: Ledger,
    database: String,
    /// Whose clock tariffs go by.
    home: Zone,
    query_time: Duration,
}

impl EngineReadings {
    /// `query_time` is the longest that one question may take; tariffs go by the clock of `home`.
    pub(crate) fn new(
        engine: Engine,
        ledger: Ledger,
        database: &str,
        home: Zone,
        query_time: Duration,
    ) -> Self {
        Self { engine, ledger, database: database.to_owned(), home, query_time }
    }

    async fn ask(
        &self,
        of: &FieldOf,
        range: Range<Timestamp>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Sample>, ReadingsError> {
        let mut others = Vec::new();
        if !of.tags.contains_key(DATA_SOURCE) {
            let predicate = TagPredicate::NotIn(IMPORTED.map(str::to_owned).to_vec());
            others.push(TagFilter { key: DATA_SOURCE.to_owned(), predicate });
        }
        self.ask_where(of, others, range, order, limit).await
    }

    /// Values of the series that has the tags of the field and passes the filters too.
    async fn ask_where(
        &self,
        of: &FieldOf,
        mut tags: Vec<TagFilter>,
        range: Range<Timestamp>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Sample>, ReadingsError> {
        tags.extend(of.tags.iter().map(|(key, value)| TagFilter {
            key: key.clone(),
            predicate: TagPredicate::In(vec![value.clone()]),
        }));
        let request = QueryRequest {
            fields: Some(vec![of.field.clone()]),
            tags,
            order,
            limit: Some(limit),
            ..QueryRequest::raw(&self.database, &of.measurement, range.start, range.end)
        };
        let since = range.start.min(Timestamp(range.end.0.saturating_sub(KNOWN_FOR_NS)));
        let newest = QueryRequest { start: since, shape: Shape::Last, limit: None, ..request.clone() };
        // What cannot be read of it names no series; the values that are asked for are judged below.
        let Some(known) = self.run(newest).await? else { return Ok(Vec::new()) };
        only(&known.series)?;
        let Some(answer) = self.run(request).await? else { return Ok(Vec::new()) };
        if answer.is_partial() {
            let reason = "a part of the store cannot be read: wattlog check".to_owned();
            return Err(ReadingsError::Unavailable { reason });
        }
        only(&answer.series)?.map_or_else(|| Ok(Vec::new()), |series| samples(series, &of.field))
    }

    /// The answer; none if there is no such database yet.
    async fn run(&self, request: QueryRequest) -> Result<Option<QueryResult>, ReadingsError> {
        let control =
            QueryControl { deadline: Some(Instant::now() + self.query_time), ..QueryControl::default() };
        let engine = self.engine.clone();
        match off_the_loop(move || engine.query(&request, &control)).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(QueryError::DatabaseNotFound(_)) => Ok(None),
            Err(error) => Err(ReadingsError::Unavailable { reason: error.to_string() }),
        }
    }
}

/// The one series, if there is any.
fn only(series: &[ResultSeries]) -> Result<Option<&ResultSeries>, ReadingsError> {
    if series.len() <= 1 {
        return Ok(series.first());
    }
    let shown = series.iter().take(2).map(|series| {
        let tags = series.tags.iter().map(|(key, value)| format!("{key}={value}"));
        tags.collect::<Vec<_>>().join(",")
    });
    let example = shown.collect::<Vec<_>>().join("; ");
    Err(ReadingsError::Ambiguous { count: series.len(), example })
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

    fn prices(
        &self,
        figure: PriceFigure,
        range: Range<Timestamp>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sample>, ReadingsError>> {
        Box::pin(self.prices_of(figure, range, limit))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wattlog_engine::io::sim::SimDisk;
    use wattlog_engine::{Options, WriteBatch};
    use wattlog_ledger::{Backend, LedgerOptions};
    use wattlog_model::{FieldValue, ManualClock, Point, TagSet};

    const SECOND: i64 = 1_000_000_000;

    pub(super) fn engine() -> Engine {
        let options = Options { auto_create_databases: true, ..Options::default() };
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        Engine::open(Arc::new(SimDisk::new(1)), options, clock, [1; 16]).unwrap()
    }

    fn write(engine: &Engine, device: &str, field: &str, seconds: &[i64]) {
        let values: Vec<_> = seconds.iter().map(|second| (*second, 1.0)).collect();
        write_as(engine, "energy_data", &[("device_id", device)], field, &values);
    }

    pub(super) fn write_as(
        engine: &Engine,
        measurement: &str,
        tags: &[(&str, &str)],
        field: &str,
        values: &[(i64, f64)],
    ) {
        let mut batch = WriteBatch::new("home", None);
        for (line, (second, value)) in (0..).zip(values) {
            let time = Timestamp(second * SECOND);
            let point = Point {
                measurement: measurement.into(),
                tags: TagSet::new(tags.iter().copied()).unwrap(),
                time: Some(time),
                fields: vec![(field.into(), FieldValue::Float(*value))],
            };
            batch.push(&point, time, line);
        }
        engine.write(batch).unwrap();
    }

    /// The ledger is one that nothing asks.
    async fn seconds(engine: &Engine, range: Range<i64>) -> Result<Vec<i64>, ReadingsError> {
        seconds_of(engine, &[], range).await
    }

    async fn seconds_of(
        engine: &Engine,
        tags: &[(&str, &str)],
        range: Range<i64>,
    ) -> Result<Vec<i64>, ReadingsError> {
        let folder = tempfile::tempdir().unwrap();
        let readings = readings(engine, ledger(&folder));
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let of =
            FieldOf { measurement: "energy_data".into(), tags: tags.collect(), field: "battery_soc".into() };
        let range = Timestamp(range.start * SECOND)..Timestamp(range.end * SECOND);
        let found = readings.values(&of, range, 100).await?;
        Ok(found.into_iter().map(|sample| sample.time.0 / SECOND).collect())
    }

    pub(super) fn ledger(folder: &tempfile::TempDir) -> Ledger {
        let backend = Backend::Sqlite(folder.path().join("ledger.db"));
        Ledger::new(LedgerOptions::new(backend), Arc::new(ManualClock::new(Timestamp(0)))).unwrap()
    }

    pub(super) fn readings(engine: &Engine, ledger: Ledger) -> EngineReadings {
        let home = Zone::named("Europe/Warsaw").unwrap();
        EngineReadings::new(engine.clone(), ledger, "home", home, Duration::from_secs(10))
    }

    #[tokio::test]
    async fn devices_that_are_polled_in_turn_are_not_taken_for_one() {
        // A rule without tags was judged by the values of both inverters in turn, and nobody was told.
        let engine = engine();
        assert_eq!(seconds(&engine, 0..100).await, Ok(vec![]));
        write(&engine, "roof", "battery_soc", &[0, 20, 40]);
        write(&engine, "barn", "pv_power", &[0, 10]);
        assert_eq!(seconds(&engine, 0..100).await, Ok(vec![0, 20, 40]));
        write(&engine, "barn", "battery_soc", &[10]);
        let told = seconds(&engine, 15..25).await.unwrap_err();
        assert!(matches!(&told, ReadingsError::Ambiguous { count: 2, .. }), "{told}");
        // A device that is gone for a day is another matter.
        write(&engine, "roof", "battery_soc", &[2 * 86_400]);
        assert_eq!(seconds(&engine, 2 * 86_400..2 * 86_400 + 1).await, Ok(vec![2 * 86_400]));
    }

    #[tokio::test]
    async fn what_was_imported_takes_no_rule_from_the_device_that_goes_on() {
        // The import gives the optimiser's past to the same device: for a day after it no rule of that device was evaluated.
        let engine = engine();
        let of = |source| [("device_id", "roof"), ("data_source", source)];
        for source in IMPORTED {
            write_as(&engine, "energy_data", &of(source), "battery_soc", &[(0, 50.0), (20, 50.0)]);
        }
        assert_eq!(seconds(&engine, 0..100).await, Ok(vec![]));
        write_as(&engine, "energy_data", &of("goodwe"), "battery_soc", &[(30, 9.0)]);
        assert_eq!(seconds_of(&engine, &[("device_id", "roof")], 0..100).await, Ok(vec![30]));
        // Named, it is looked at.
        assert_eq!(seconds_of(&engine, &of("migration"), 0..100).await, Ok(vec![0, 20]));
    }

    #[tokio::test]
    async fn a_part_that_cannot_be_read_is_no_silence() {
        // Values of a file that was set aside were taken for missing ones: `absent` fired.
        let engine = engine();
        write(&engine, "roof", "battery_soc", &[0, 20]);
        engine.seal().unwrap();
        write(&engine, "roof", "battery_soc", &[100]);
        let segment = engine.snapshot().segments().iter().next().unwrap().entry().id;
        engine.quarantine(segment).unwrap();
        let told = seconds(&engine, 0..200).await.unwrap_err();
        assert!(told.to_string().ends_with("wattlog check"), "{told}");
        assert_eq!(seconds(&engine, 50..200).await, Ok(vec![100]));
    }
}
