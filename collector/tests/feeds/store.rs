//! A store in memory that is asked and written to as the real one is, and counts what should not happen.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use wattlog_collector::{BoxFuture, Known, Sink, SinkError};
use wattlog_model::{Clock, FieldMeaning, FieldValue, Point, TagSet, Timestamp};

/// Measurement and tags, times, fields.
pub(crate) type Series = BTreeMap<i64, BTreeMap<String, FieldValue>>;

#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    series: BTreeMap<String, Series>,
    /// In which life of the program a point was written last.
    life: u32,
    written_in: BTreeMap<(String, i64), u32>,
    /// Points written again in the same life although they said nothing new.
    doubles: u64,
    is_refusing: bool,
    /// From the moment when points are in the series until the caller hears of it.
    answers_after: Duration,
    points: Vec<Point>,
    units: Vec<(String, FieldMeaning)>,
}

fn key(measurement: &str, tags: &TagSet) -> String {
    tags.iter().fold(measurement.to_owned(), |key, (name, value)| format!("{key},{name}={value}"))
}

impl Store {
    pub(crate) fn series(&self, key: &str) -> Series {
        let inner = self.0.lock();
        let known: Vec<&String> = inner.series.keys().collect();
        inner.series.get(key).unwrap_or_else(|| panic!("no series {key}, but {known:?}")).clone()
    }

    pub(crate) fn begin_new_life(&self) {
        self.0.lock().life += 1;
    }

    pub(crate) fn doubles(&self) -> u64 {
        self.0.lock().doubles
    }

    pub(crate) fn set_refusing(&self, is_refusing: bool) {
        self.0.lock().is_refusing = is_refusing;
    }

    pub(crate) fn answer_after(&self, wait: Duration) {
        self.0.lock().answers_after = wait;
    }

    /// The points of a series; none if it does not exist.
    pub(crate) fn of(&self, key: &str) -> Series {
        self.0.lock().series.get(key).cloned().unwrap_or_default()
    }

    pub(crate) fn points(&self) -> Vec<Point> {
        self.0.lock().points.clone()
    }

    pub(crate) fn unit(&self, measurement: &str, field: &str) -> Option<String> {
        let inner = self.0.lock();
        let told = inner.units.iter().find(|(of, meaning)| of == measurement && meaning.field == field);
        told.and_then(|(_, meaning)| meaning.unit.as_ref().map(|unit| unit.as_str().to_owned()))
    }
}

impl Store {
    /// Tells when the caller is to hear of it.
    fn take(&self, points: Vec<Point>) -> Result<Duration, SinkError> {
        let mut inner = self.0.lock();
        if inner.is_refusing {
            return Err(SinkError::Refused {
                retry_after: Some(Duration::from_millis(50)),
                reason: "the disk is full".to_owned(),
            });
        }
        for point in &points {
            let (key, time) = (key(&point.measurement, &point.tags), point.time.expect("a time").0);
            let life = inner.life;
            let last_life = inner.written_in.insert((key.clone(), time), life);
            let stored = inner.series.entry(key).or_default().entry(time).or_default();
            let before = stored.clone();
            stored.extend(point.fields.iter().cloned());
            if *stored == before && last_life == Some(life) {
                inner.doubles += 1;
            }
        }
        inner.points.extend(points);
        Ok(inner.answers_after)
    }
}

impl Sink for Store {
    fn store(&self, points: Vec<Point>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let wait = self.take(points)?;
            tokio::time::sleep(wait).await;
            Ok(())
        })
    }

    fn describe<'a>(
        &'a self,
        measurement: &'a str,
        fields: Vec<FieldMeaning>,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.0.lock().units.extend(fields.into_iter().map(|field| (measurement.to_owned(), field)));
            Ok(())
        })
    }
}

impl Known for Store {
    fn times<'a>(
        &'a self,
        measurement: &'a str,
        tags: &'a TagSet,
        field: &'a str,
        range: Range<Timestamp>,
    ) -> BoxFuture<'a, Result<Vec<Timestamp>, String>> {
        Box::pin(async move {
            let inner = self.0.lock();
            let Some(series) = inner.series.get(&key(measurement, tags)) else { return Ok(Vec::new()) };
            let rows = series.range(range.start.0..range.end.0);
            Ok(rows
                .filter(|(_, fields)| fields.contains_key(field))
                .map(|(time, _)| Timestamp(*time))
                .collect())
        })
    }
}

/// The machine's clock.
#[derive(Debug, Default)]
pub(crate) struct WallClock;

impl Clock for WallClock {
    fn wall(&self) -> Timestamp {
        Timestamp(i64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("this century"))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.wall().0.unsigned_abs())
    }
}
