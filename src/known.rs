//! What the store has already, for feeds that fetch only what is missing.
//!
//! Promise: a time is told if a point of exactly this series has a value of the field. A range that cannot be read whole
//! tells less, so that it is fetched again; what is fetched again is the same points.

use std::ops::Range;
use std::sync::Arc;
use wattlog_collector::{BoxFuture, Known};
use wattlog_engine::Engine;
use wattlog_engine::query::{
    QueryControl, QueryError, QueryRequest, ResultSeries, ResultValues, TagFilter, TagPredicate,
};
use wattlog_model::{TagSet, Timestamp};

/// The engine as feeds ask it.
pub(crate) struct EngineKnown {
    engine: Engine,
    database: Arc<str>,
}

impl EngineKnown {
    pub(crate) fn new(engine: Engine, database: &str) -> Self {
        Self { engine, database: database.into() }
    }
}

impl Known for EngineKnown {
    fn times<'a>(
        &'a self,
        measurement: &'a str,
        tags: &'a TagSet,
        field: &'a str,
        range: Range<Timestamp>,
    ) -> BoxFuture<'a, Result<Vec<Timestamp>, String>> {
        let mut request = QueryRequest::raw(&self.database, measurement, range.start, range.end);
        request.fields = Some(vec![field.to_owned()]);
        let only = |(key, value): (&str, &str)| TagFilter {
            key: key.to_owned(),
            predicate: TagPredicate::In(vec![value.to_owned()]),
        };
        request.tags = tags.iter().map(only).collect();
        let (engine, field, tags) = (self.engine.clone(), field.to_owned(), tags.clone());
        Box::pin(async move {
            // It waits for the disk.
            let answer =
                tokio::task::spawn_blocking(move || engine.query(&request, &QueryControl::default()));
            let answer = match answer.await.map_err(|error| error.to_string())? {
                Ok(answer) => answer,
                Err(QueryError::DatabaseNotFound(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.to_string()),
            };
            let is_series = |series: &&ResultSeries| {
                series.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).eq(tags.iter())
            };
            Ok(answer.series.iter().find(is_series).map(|series| times(series, &field)).unwrap_or_default())
        })
    }
}

/// Times of the rows in which the field has a value.
fn times(series: &ResultSeries, field: &str) -> Vec<Timestamp> {
    let (Some(ResultValues::Time(times)), Some(column)) =
        (series.columns.first().map(|column| &column.values), series.column(field))
    else {
        return Vec::new();
    };
    let has_value: Vec<bool> = match &column.values {
        ResultValues::Time(values) | ResultValues::Integer(values) => {
            values.iter().map(Option::is_some).collect()
        }
        ResultValues::Float(values) => values.iter().map(Option::is_some).collect(),
        ResultValues::Unsigned(values) => values.iter().map(Option::is_some).collect(),
        ResultValues::Boolean(values) => values.iter().map(Option::is_some).collect(),
        ResultValues::String(values) => values.iter().map(Option::is_some).collect(),
    };
    times.iter().zip(has_value).filter(|(_, has)| *has).filter_map(|(time, _)| time.map(Timestamp)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::EngineSink;
    use wattlog_collector::Sink;
    use wattlog_engine::Options;
    use wattlog_engine::io::sim::SimDisk;
    use wattlog_model::{FieldValue, ManualClock, Point};

    #[tokio::test]
    async fn only_times_of_this_series_with_this_field_are_told() {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let options = Options { auto_create_databases: true, ..Options::default() };
        let engine = Engine::open(Arc::new(SimDisk::new(1)), options, clock.clone(), [1; 16]).unwrap();
        let known = EngineKnown::new(engine.clone(), "home");
        let tags = |product: &str| TagSet::new([("source", "pse"), ("product", product)]).unwrap();
        let told = async |product: &str, field: &str| {
            let tags = tags(product);
            let times = known.times("prices", &tags, field, Timestamp(0)..Timestamp(100)).await.unwrap();
            times.into_iter().map(|time| time.0).collect::<Vec<i64>>()
        };
        assert_eq!(told("rce-pln", "market_price").await, [0; 0]);
        let point = |product: &str, time: i64, field: &str| Point {
            measurement: "prices".into(),
            tags: tags(product),
            time: Some(Timestamp(time)),
            fields: vec![(field.into(), FieldValue::Float(0.5))],
        };
        let points = vec![
            point("rce-pln", 10, "market_price"),
            point("rce-pln", 20, "market_price"),
            point("rce-pln", 30, "cen_cost"),
            point("rce-pln", 100, "market_price"),
            point("csdac-pln", 40, "market_price"),
        ];
        EngineSink::new(engine, "home", clock, Arc::new(|_| {})).store(points).await.unwrap();
        assert_eq!(told("rce-pln", "market_price").await, [10, 20]);
        assert_eq!(told("rce-pln", "cen_cost").await, [30]);
        assert_eq!(told("csdac-pln", "cen_cost").await, [0; 0]);
        assert_eq!(told("csdac-pln", "never_seen").await, [0; 0]);
    }
}
