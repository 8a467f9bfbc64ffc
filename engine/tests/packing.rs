//! Old numbers are packed once, take less room, and answer as before; young ones are left alone.

use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::query::{Function, QueryControl, QueryRequest, Shape};
use wattlog_engine::{CompactionReport, Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = Timestamp::DAY_NS;
/// 2026-01-05T00:00:00Z.
const BEGIN: i64 = 1_767_571_200 * SECOND;
const DAYS: i64 = 3;

fn open(disk: &SimDisk, now: i64, pco_after: Option<Duration>) -> Engine {
    let options =
        Options { ballast_bytes: 0, pco_after, compaction_bytes_per_second: 0, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(now)));
    Engine::open(Arc::new(disk.clone()), options, clock, [7; 16]).unwrap()
}

/// Three days of a home's numbers, every ten seconds, sealed.
fn fill(engine: &Engine, from: i64) {
    let (mut state, mut volts, mut total) = (9_u64, 2300_i64, 5_000_000_u64);
    let mut dice = |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    for day in 0..DAYS {
        let mut batch = WriteBatch::new("home", None);
        let slot = batch.series("power", &TagSet::new([("device", "a")]).unwrap());
        for line in 0..8640 {
            let step = (dice(4) * dice(5)) as i64;
            volts += step - 4 + (2300 - volts) / 50;
            total += step as u64;
            let mut row = batch.row(slot, Timestamp(from + day * DAY + line * 10 * SECOND), line as u32 + 1);
            // Every hundredth is no decimal.
            let v = if line % 100 == 7 { 1.0 / 3.0 } else { volts as f64 / 10.0 };
            row.float("volts", v);
            row.integer("watts", step * step - 40);
            row.unsigned("total", total);
        }
        engine.write(batch).unwrap();
    }
    engine.seal().unwrap();
}

fn compact(engine: &Engine) -> CompactionReport {
    engine.compact().unwrap()
}

fn data_bytes(engine: &Engine) -> u64 {
    engine.storage().data_bytes
}

/// Everything that can be asked of it, as text.
fn answers(engine: &Engine) -> Vec<String> {
    let ask = |shape: Option<Shape>| {
        let mut request = QueryRequest::raw("home", "power", Timestamp(BEGIN), Timestamp(BEGIN + 9 * DAY));
        if let Some(shape) = shape {
            request.shape = shape;
        }
        let result = engine.query(&request, &QueryControl::default()).unwrap();
        assert!(!result.is_partial(), "{:?}", result.partial);
        format!("{:?}", result.series)
    };
    let functions = || vec![Function::Sum, Function::Min, Function::Max, Function::Mean, Function::Median];
    let hourly = Duration::from_secs(3600 + 7);
    vec![
        ask(None),
        ask(Some(Shape::aggregate(functions(), None))),
        ask(Some(Shape::aggregate(functions(), Some(hourly)))),
    ]
}

#[test]
fn a_month_is_packed_once_and_answers_as_before() {
    let disk = SimDisk::new(1);
    let later = BEGIN + 40 * DAY;
    let engine = open(&disk, later, None);
    fill(&engine, BEGIN);
    compact(&engine);
    let (plain, before) = (data_bytes(&engine), answers(&engine));
    engine.close().unwrap();

    let engine = open(&disk, later, Some(Duration::ZERO));
    let report = compact(&engine);
    assert_eq!((report.steps, report.segments_before, report.segments_after), (1, 1, 1), "{report:?}");
    let packed = data_bytes(&engine);
    println!("{plain} bytes of blocks became {packed}");
    assert!(packed * 100 < plain * 93, "{plain} bytes of blocks became {packed}");
    assert_eq!(answers(&engine), before);
    assert_eq!(compact(&engine).steps, 0, "it is marked");
    engine.close().unwrap();

    // The mark is in the manifest, and a file that is packed stays so.
    let engine = open(&disk, later, Some(Duration::ZERO));
    assert_eq!(compact(&engine).steps, 0);
    assert_eq!((data_bytes(&engine), answers(&engine)), (packed, before));
    engine.close().unwrap();
}

#[test]
fn rows_are_packed_by_their_age_in_whole_days() {
    let disk = SimDisk::new(1);
    let after = Some(Duration::from_hours(24 * 100));
    let last_day_ends = BEGIN + DAYS * DAY;
    let mut sizes = Vec::new();
    for days in [0, 98, 99, 100] {
        let engine = open(&disk, last_day_ends + days * DAY + DAY / 2, after);
        if days == 0 {
            fill(&engine, BEGIN);
        }
        let report = compact(&engine);
        println!("{days} days after its end: {report:?}");
        sizes.push(data_bytes(&engine));
        engine.close().unwrap();
    }
    assert!(sizes[0] == sizes[1] && sizes[1] == sizes[2], "too young: {sizes:?}");
    assert!(sizes[3] < sizes[0], "{sizes:?}");
}

#[test]
fn a_late_point_is_merged_into_a_packed_month_that_stays_packed() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, BEGIN + 40 * DAY, Some(Duration::ZERO));
    fill(&engine, BEGIN);
    compact(&engine);
    let packed = data_bytes(&engine);
    let mut batch = WriteBatch::new("home", None);
    let slot = batch.series("power", &TagSet::new([("device", "a")]).unwrap());
    batch.row(slot, Timestamp(BEGIN + 5), 1).float("volts", 231.5);
    engine.write(batch).unwrap();
    engine.seal().unwrap();
    let report = compact(&engine);
    assert_eq!((report.steps, report.segments_before, report.segments_after), (1, 2, 1), "{report:?}");
    assert!(data_bytes(&engine).abs_diff(packed) < 500, "{packed} became {}", data_bytes(&engine));
    assert_eq!(compact(&engine).steps, 0);
    engine.close().unwrap();
}
