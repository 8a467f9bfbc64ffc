//! Queries at their limits and over damage: what they may hold, what they read, and what one bad page costs.

#[macro_use]
#[path = "support/read_modes.rs"]
mod read_modes;

use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{CallKind, SimDisk};
use wattlog_engine::query::{
    Aggregate, Every, Fill, Function, GroupBy, Order, QueryControl, QueryError, QueryLimits, QueryRequest,
    QueryResult, ResultValues, Shape, Zone,
};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{FieldValue, ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_780_272_000 * SECOND;
const DAY: i64 = Timestamp::DAY_NS;

fn open(disk: &SimDisk, read_mode: ReadMode, query: QueryLimits) -> Engine {
    open_with(disk, Options { query, ..options(read_mode) })
}

fn options(read_mode: ReadMode) -> Options {
    Options { read_mode, ballast_bytes: 0, ..Options::default() }
}

fn open_with(disk: &SimDisk, options: Options) -> Engine {
    let clock = Arc::new(ManualClock::new(Timestamp(START)));
    Engine::open(Arc::new(disk.clone()), options, clock, [7; 16]).expect("a store always opens")
}

/// Rows of one device: (time, field, value).
fn write(engine: &Engine, device: &str, rows: impl IntoIterator<Item = (i64, &'static str, FieldValue)>) {
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series("m", &TagSet::new([("device_id", device)]).unwrap());
    for (line, (time, field, value)) in rows.into_iter().enumerate() {
        batch.row(slot, Timestamp(time), line as u32).value(field, &value);
    }
    assert_eq!(engine.write(batch).unwrap().rejected, []);
}

fn floats(start: i64, rows: i64) -> impl Iterator<Item = (i64, &'static str, FieldValue)> {
    (0..rows).map(move |i| (start + i * 10 * SECOND, "power", FieldValue::Float(i as f64 / 10.0)))
}

fn request(shape: Shape) -> QueryRequest {
    QueryRequest { shape, ..QueryRequest::raw("d", "m", Timestamp::MIN, Timestamp::MAX) }
}

fn buckets(function: Function, every_s: u64) -> Shape {
    Shape::aggregate(vec![function], Some(Duration::from_secs(every_s)))
}

fn ask(engine: &Engine, request: &QueryRequest) -> Result<QueryResult, QueryError> {
    engine.query(request, &QueryControl::default())
}

fn segments(disk: &SimDisk) -> Vec<(String, u64)> {
    disk.paths().into_iter().filter(|(path, _)| path.starts_with("segments/")).collect()
}

fn only_float(result: &QueryResult, column: &str) -> Option<f64> {
    match &result.series[0].column(column).expect("the column is there").values {
        ResultValues::Float(values) => values[0],
        other => panic!("floats were asked for, found {other:?}"),
    }
}

on_both_read_modes! {
    filled_buckets_are_those_of_the_calendar_and_are_bounded,
    the_last_value_is_found_beside_a_lost_segment_without_reading_history,
    a_field_that_a_series_never_had_costs_the_last_value_no_decoding,
    texts_in_buckets_and_rows_count_against_the_memory_of_a_query,
    groups_without_a_bucket_count_too,
    too_many_buckets_are_told_before_all_is_read,
    rows_that_a_limit_drops_do_not_count_against_the_answer,
    a_page_that_cannot_be_read_costs_what_is_in_it,
    the_time_range_of_a_measurement_opens_segments_at_its_ends_alone,
}

fn the_last_value_is_found_beside_a_lost_segment_without_reading_history(read_mode: ReadMode) {
    let disk = SimDisk::new(1);
    // History of ten days would not fit into what the query may hold.
    let limits = QueryLimits { max_bytes: 20_000, ..QueryLimits::default() };
    let engine = open(&disk, read_mode, limits);
    for day in 0..10 {
        write(&engine, "a", floats(START + day * DAY, 5000));
        if day == 0 {
            write(&engine, "a", [(START, "rare", FieldValue::Float(7.0))]);
        }
        if day == 5 {
            // What the lost segment may have overwritten must not come back; what it cannot have, must.
            write(&engine, "a", [(START + 9 * DAY + 5 * SECOND, "rare", FieldValue::Float(8.0))]);
        }
        engine.seal().unwrap();
    }
    engine.close().unwrap();
    let (path, len) = segments(&disk).pop().unwrap();
    disk.flip_bit(&path, len - 1, 0);
    let engine = open(&disk, read_mode, limits);
    let mut last = request(Shape::Last);
    last.fields = Some(vec!["power".to_owned(), "rare".to_owned()]);
    let result = ask(&engine, &last).unwrap();
    assert!(result.is_partial());
    assert_eq!(only_float(&result, "power"), Some(499.9));
    assert_eq!(only_float(&result, "rare"), Some(7.0));
}

fn a_field_that_a_series_never_had_costs_the_last_value_no_decoding(read_mode: ReadMode) {
    let disk = SimDisk::new(2);
    let engine = open(&disk, read_mode, QueryLimits::default());
    write(&engine, "b", [(START, "other", FieldValue::Float(1.0))]);
    write(&engine, "a", floats(START, 8000));
    engine.seal().unwrap();
    let mut last = request(Shape::Last);
    last.fields = Some(vec!["power".to_owned(), "other".to_owned()]);
    let result = ask(&engine, &last).unwrap();
    assert_eq!(only_float(&result, "power"), Some(799.9));
    // The one compact group of the other device: its value and its times.
    assert_eq!(result.stats.blocks_decoded, 2);
}

fn texts_in_buckets_and_rows_count_against_the_memory_of_a_query(read_mode: ReadMode) {
    let disk = SimDisk::new(3);
    let engine = open(&disk, read_mode, QueryLimits { max_bytes: 1 << 20, ..QueryLimits::default() });
    let text = |i: i64| FieldValue::String(format!("{i}{}", "x".repeat(50_000)).into());
    for i in 0..40 {
        write(&engine, "a", [(START + i * SECOND, "note", text(i))]);
    }
    for shape in [buckets(Function::Last, 1), Shape::Raw] {
        let error = ask(&engine, &request(shape)).unwrap_err();
        assert!(matches!(error, QueryError::TooManyBytes { .. }), "{error}");
    }
    // One bucket holds one text at a time.
    ask(&engine, &request(buckets(Function::Last, 3600))).unwrap();
}

fn groups_without_a_bucket_count_too(read_mode: ReadMode) {
    let disk = SimDisk::new(4);
    let engine = open(&disk, read_mode, QueryLimits { max_bytes: 4096, ..QueryLimits::default() });
    for device in 0..200 {
        write(&engine, &device.to_string(), [(START, "power", FieldValue::Float(1.0))]);
    }
    let mut empty = request(buckets(Function::Sum, 60));
    empty.start = Timestamp(START + DAY);
    empty.group_by = GroupBy::All;
    let error = ask(&engine, &empty).unwrap_err();
    assert!(matches!(error, QueryError::TooManyBytes { .. }), "{error}");
}

fn too_many_buckets_are_told_before_all_is_read(read_mode: ReadMode) {
    let disk = SimDisk::new(5);
    let limits = QueryLimits { max_buckets: 100, max_scanned: 4000, ..QueryLimits::default() };
    let engine = open(&disk, read_mode, limits);
    write(&engine, "a", floats(START, 8000));
    engine.seal().unwrap();
    let error = ask(&engine, &request(buckets(Function::Sum, 10))).unwrap_err();
    assert!(matches!(error, QueryError::TooManyBuckets { .. }), "{error}");
}

fn rows_that_a_limit_drops_do_not_count_against_the_answer(read_mode: ReadMode) {
    let disk = SimDisk::new(6);
    let engine = open(&disk, read_mode, QueryLimits { max_bytes: 60_000, ..QueryLimits::default() });
    for device in 0..30 {
        write(&engine, &device.to_string(), floats(START, 1000));
    }
    engine.seal().unwrap();
    let mut newest = request(Shape::Raw);
    (newest.order, newest.limit) = (Order::Descending, Some(1));
    for group_by in [GroupBy::All, GroupBy::Keys(Vec::new())] {
        newest.group_by = group_by;
        let result = ask(&engine, &newest).unwrap();
        assert!(result.series.iter().all(|series| series.rows() == 1));
    }
}

fn a_page_that_cannot_be_read_costs_what_is_in_it(read_mode: ReadMode) {
    let disk = SimDisk::new(7);
    let engine = open(&disk, read_mode, QueryLimits::default());
    let mut rng = wattlog_engine::io::sim::Rng::new(1);
    // Values without a pattern: eight bytes each, so that a group is longer than a page.
    let noise: Vec<f64> = (0..8192).map(|_| rng.next_u64() as f64 / 3.0).collect();
    let row = |(i, v): (usize, &f64)| (START + i as i64 * 10 * SECOND, "power", FieldValue::Float(*v));
    write(&engine, "a", noise.iter().enumerate().map(row));
    engine.seal().unwrap();
    let (path, _) = segments(&disk).pop().unwrap();
    disk.spoil_page(&path, 20_000);
    for _ in 0..2 {
        let result = ask(&engine, &request(Shape::Raw)).unwrap();
        assert_eq!(result.partial.len(), 1, "{:?}", result.partial);
        let rows = result.rows();
        assert!((6 * 1024..8192).contains(&rows), "{rows} rows are left");
    }
}

fn the_time_range_of_a_measurement_opens_segments_at_its_ends_alone(read_mode: ReadMode) {
    let disk = SimDisk::new(8);
    let engine = open_with(&disk, Options { max_open_maps: 1, ..options(read_mode) });
    for day in 0..20 {
        let mut batch = WriteBatch::new("d", None);
        for measurement in ["m", "n"] {
            let slot = batch.series(measurement, &TagSet::new([("device_id", "a")]).unwrap());
            batch.row(slot, Timestamp(START + day * DAY), 1).float("power", 1.0);
        }
        engine.write(batch).unwrap();
        engine.seal().unwrap();
    }
    let before = disk.counts().of(CallKind::Open);
    let info = engine.measurement("d", "m").unwrap().unwrap();
    assert_eq!((info.first, info.last), (Some(Timestamp(START)), Some(Timestamp(START + 19 * DAY))));
    let opened = disk.counts().of(CallKind::Open) - before;
    assert!(opened <= 4, "{opened} files were opened");
}

fn filled_buckets_are_those_of_the_calendar_and_are_bounded(read_mode: ReadMode) {
    // QuestDB 7439 and 6755: filling must not invent buckets at a change of the clock. TimescaleDB 6344, 6788, 6844 and 8851:
    // nor stay in the offset that it began with.
    let disk = SimDisk::new(9);
    let engine = open(&disk, read_mode, QueryLimits { max_buckets: 1000, ..QueryLimits::default() });
    let hour = 3600 * SECOND;
    let (start, end) = (1_382_572_800 * SECOND, 1_384_387_200 * SECOND);
    write(
        &engine,
        "a",
        (start..end).step_by(hour as usize).map(|time| (time, "power", FieldValue::Float(1.0))),
    );
    for (every, count) in [(Every::Days(1), 22), (Every::Nanos(hour as u64), 504), (Every::Months(1), 2)] {
        let mut answers = Vec::new();
        for fill in [Fill::None, Fill::Null, Fill::Previous, Fill::Linear, Fill::Number(0.0)] {
            let zone = Zone::named("America/New_York").unwrap();
            let functions = vec![Function::Count];
            let aggregate = Aggregate { functions, every: Some(every), zone, fill, ..Aggregate::default() };
            let asked = request(Shape::Aggregate(aggregate));
            let asked = QueryRequest { start: Timestamp(start), end: Timestamp(end), ..asked };
            answers.push(ask(&engine, &asked).unwrap().series);
        }
        assert_eq!(answers[0][0].rows(), count, "{every:?}");
        answers.windows(2).for_each(|pair| assert_eq!(pair[0], pair[1], "{every:?}"));
    }
    // More buckets than allowed are told although only some hold values.
    let aggregate = Aggregate {
        functions: vec![Function::Mean],
        every: Some(Every::Nanos(SECOND as u64)),
        fill: Fill::Null,
        ..Aggregate::default()
    };
    let asked = request(Shape::Aggregate(aggregate));
    let error = ask(&engine, &asked).unwrap_err();
    assert_eq!(error, QueryError::TooManyBuckets { wanted: 1001, limit: 1000 });
}
