//! A store of one series on the simulated disk, with damage just where a test wants it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::query::{Order, QueryControl, QueryRequest, QueryResult, ResultValues, Shape};
use wattlog_engine::{DeleteRequest, Engine, Options, WriteBatch, check};
use wattlog_model::{FieldValue, ManualClock, TagSet, Timestamp};

pub(crate) const SECOND: i64 = 1_000_000_000;
/// A midnight.
const START: i64 = 1_780_272_000 * SECOND;

/// So many seconds after the start of all.
pub(crate) fn at(seconds: i64) -> i64 {
    START + seconds * SECOND
}

pub(crate) struct Scene {
    pub(crate) disk: SimDisk,
    options: Options,
    engine: Option<Engine>,
    /// Paths of the segments in the order of their seals.
    pub(crate) sealed: Vec<String>,
}

impl Scene {
    pub(crate) fn new(read_mode: ReadMode) -> Self {
        Self::with(read_mode, |_| {})
    }

    /// Nothing goes on in the background, so that what is counted is the query's.
    pub(crate) fn with(read_mode: ReadMode, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            read_mode,
            ballast_bytes: 0,
            compaction_bytes_per_second: 0,
            scrub_interval: Duration::ZERO,
            ..Options::default()
        };
        change(&mut options);
        let disk = SimDisk::new(1);
        let engine = Some(open(&disk, &options));
        Self { disk, options, engine, sealed: Vec::new() }
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is closed only while it is reopened")
    }

    /// Writes cells of (time, field, value), in batches that a record can hold.
    pub(crate) fn write(&self, cells: impl IntoIterator<Item = (i64, &'static str, f64)>) {
        self.write_values(
            cells.into_iter().map(|(time, field, value)| (time, field, FieldValue::Float(value))),
        );
    }

    pub(crate) fn write_values(&self, cells: impl IntoIterator<Item = (i64, &'static str, FieldValue)>) {
        let cells: Vec<_> = cells.into_iter().collect();
        for part in cells.chunks(20_000) {
            let mut batch = WriteBatch::new("d", None);
            let slot = batch.series("m", &TagSet::default());
            for (line, (time, field, value)) in part.iter().enumerate() {
                batch.row(slot, Timestamp(*time), line as u32).value(field, value);
            }
            assert_eq!(self.engine().write(batch).unwrap().rejected, []);
        }
    }

    /// Makes one segment of what is in memory, whose rows are of one day or of many.
    pub(crate) fn seal(&mut self) {
        assert_eq!(self.seal_days(), 1, "{:?}", self.sealed);
    }

    /// Makes segments, and tells how many.
    pub(crate) fn seal_days(&mut self) -> usize {
        self.engine().seal().unwrap();
        let known = &self.sealed;
        let paths = self.disk.paths().into_iter().map(|(path, _)| path);
        let new: Vec<String> =
            paths.filter(|path| path.starts_with("segments/") && !known.contains(path)).collect();
        let count = new.len();
        self.sealed.extend(new);
        count
    }

    /// A segment of `value` in each row, one a second.
    pub(crate) fn seal_seconds(
        &mut self,
        seconds: Range<i64>,
        fields: &[&'static str],
        value: impl Fn(i64) -> f64,
    ) {
        let cells = seconds.flat_map(|second| fields.iter().map(move |field| (second, *field)));
        self.write(cells.map(|(second, field)| (at(second), field, value(second))));
        self.seal();
    }

    pub(crate) fn delete(&self, range: Range<i64>, fields: Option<&[&str]>) {
        let request = DeleteRequest {
            database: "d".to_owned(),
            retention_policy: None,
            measurement: Some("m".to_owned()),
            fields: fields.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            tags: Vec::new(),
            start: Timestamp(range.start),
            end: Timestamp(range.end),
        };
        assert_eq!(self.engine().delete(&request).unwrap().series, 1);
    }

    pub(crate) fn reopen(&mut self) {
        self.engine.take().unwrap().close().unwrap();
        self.engine = Some(open(&self.disk, &self.options));
    }

    /// Sets a segment aside, as damage beyond its blocks does.
    pub(crate) fn lose(&self, segment: usize) {
        let snapshot = self.engine().snapshot();
        let handle = snapshot.segments().iter().find(|handle| handle.entry().path() == self.sealed[segment]);
        self.engine().quarantine(handle.expect("it is among those sealed").entry().id).unwrap();
    }

    /// Where a block of a segment begins; `nth` counts those of `part` whose text has `what` in it.
    pub(crate) fn block(&self, segment: usize, part: &str, what: &str, nth: usize) -> u64 {
        let lines = check::dump(&self.disk, &self.sealed[segment]).unwrap();
        let mut found = lines.iter().filter(|line| line.part == part && line.value.contains(what));
        found.nth(nth).unwrap_or_else(|| panic!("no {part} {what} {nth}")).offset
    }

    /// Damages that block.
    pub(crate) fn damage(&self, segment: usize, part: &str, what: &str, nth: usize) {
        self.disk.flip_bit(&self.sealed[segment], self.block(segment, part, what, nth), 3);
    }

    pub(crate) fn ask(&self, request: &QueryRequest) -> QueryResult {
        self.engine().query(request, &QueryControl::default()).unwrap()
    }

    /// Answer of a request that misses nothing, or if `misses`, something.
    pub(crate) fn rows(&self, request: &QueryRequest, misses: bool) -> Vec<Row> {
        let result = self.ask(request);
        assert_eq!(result.is_partial(), misses, "{:?}", result.partial);
        rows(&result)
    }
}

fn open(disk: &SimDisk, options: &Options) -> Engine {
    let clock = Arc::new(ManualClock::new(Timestamp(START)));
    Engine::open(Arc::new(disk.clone()), options.clone(), clock, [7; 16]).expect("a store always opens")
}

/// A time, and the values of the columns asked for.
pub(crate) type Row = (i64, Vec<Option<f64>>);

/// All rows of an answer of one series.
pub(crate) fn rows(result: &QueryResult) -> Vec<Row> {
    let Some(series) = result.series.first() else { return Vec::new() };
    let columns =
        series.columns.iter().filter(|column| column.name != "time" && !column.name.ends_with("_time"));
    let columns: Vec<&ResultValues> = columns.map(|column| &column.values).collect();
    let ResultValues::Time(times) = &series.columns[0].values else { panic!("time stands first") };
    let cell = |values: &ResultValues, row: usize| match values {
        ResultValues::Float(v) => v[row],
        ResultValues::Integer(v) => v[row].map(|v| v as f64),
        other => panic!("numbers were asked for, found {other:?}"),
    };
    let row = |row: usize| (times[row].unwrap(), columns.iter().map(|values| cell(values, row)).collect());
    (0..times.len()).map(row).collect()
}

/// Asks for some fields of all time.
pub(crate) fn asked(shape: Shape, fields: &[&str]) -> QueryRequest {
    QueryRequest {
        shape,
        fields: Some(fields.iter().map(|field| (*field).to_owned()).collect()),
        ..QueryRequest::raw("d", "m", Timestamp(i64::MIN), Timestamp(i64::MAX))
    }
}

/// The same between two times.
pub(crate) fn between(range: Range<i64>, request: QueryRequest) -> QueryRequest {
    QueryRequest { start: Timestamp(range.start), end: Timestamp(range.end), ..request }
}

/// Points, the first so many of them from the end that is asked for.
pub(crate) fn limited(order: Order, limit: usize, request: QueryRequest) -> QueryRequest {
    QueryRequest { order, limit: Some(limit), ..request }
}
