//! Bodies at the edges of what the store takes: none of them stops it, and what was acknowledged is there.

#[macro_use]
#[path = "support/read_modes.rs"]
mod read_modes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::query::{QueryControl, QueryRequest};
use wattlog_engine::{Engine, Options, RejectReason, WriteBatch, WriteError};
use wattlog_model::{ManualClock, TagSet, Timestamp};

const T0: i64 = 1_780_272_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

fn open(disk: &SimDisk, options: Options) -> Engine {
    let clock = Arc::new(ManualClock::new(Timestamp(T0)));
    Engine::open(Arc::new(disk.clone()), options, clock, [7; 16]).expect("a store always opens")
}

fn options(read_mode: ReadMode) -> Options {
    Options { read_mode, ballast_bytes: 0, ..Options::default() }
}

fn row(batch: &mut WriteBatch, time: i64, fields: &[(&str, f64)]) {
    let slot = batch.series("m", &TagSet::default());
    let mut row = batch.row(slot, Timestamp(time), 0);
    for (name, value) in fields {
        row.float(name, *value);
    }
}

/// Rows of measurement `m`, by a raw query over all time.
fn rows(engine: &Engine) -> u64 {
    let request = QueryRequest::raw("wattlog", "m", Timestamp::MIN, Timestamp::MAX);
    let result = engine.query(&request, &QueryControl::default()).unwrap();
    assert!(result.partial.is_empty());
    result.series.iter().map(|series| series.columns[0].values.len() as u64).sum()
}

on_both_read_modes! {
    a_body_with_more_rows_of_a_series_than_one_block_takes_is_stored,
    a_measurement_takes_so_many_fields_and_no_more,
    the_limit_of_series_holds_for_bodies_that_come_together,
    a_seal_ends_although_other_records_follow_the_rows,
    the_first_and_the_last_instants_are_stored,
    a_body_scattered_over_more_days_than_memory_has_room_for_is_refused_whole,
}

/// What the user saw: one body of 65 537 lines, one of them without a field, and every later write was answered
/// "the store is closed".
fn a_body_with_more_rows_of_a_series_than_one_block_takes_is_stored(read_mode: ReadMode) {
    for known_names in [false, true] {
        let disk = SimDisk::new(1);
        let engine = open(&disk, options(read_mode));
        if known_names {
            let mut batch = WriteBatch::new("wattlog", None);
            row(&mut batch, T0 - SECOND, &[("a", 1.0), ("b", 2.0)]);
            engine.write(batch).unwrap();
        }
        let mut batch = WriteBatch::new("wattlog", None);
        let count = 65_537 + 1_000;
        for second in 0..count {
            let both = [("a", second as f64), ("b", 0.5)];
            row(&mut batch, T0 + second * SECOND, if second == 70 { &both[..1] } else { &both });
        }
        let receipt = engine.write(batch).unwrap();
        assert_eq!((receipt.points, receipt.values), (count as u64, 2 * count as u64 - 1));
        let wanted = count as u64 + u64::from(known_names);
        assert_eq!(rows(&engine), wanted);
        drop(engine);
        let engine = open(&disk, options(read_mode));
        assert_eq!(rows(&engine), wanted, "replayed");
        engine.seal().unwrap();
        assert_eq!(rows(&engine), wanted, "sealed");
    }
}

/// What the user saw: a script that made a new field name for each message was acknowledged until the first seal; from then
/// on no seal ever worked again.
fn a_measurement_takes_so_many_fields_and_no_more(read_mode: ReadMode) {
    let disk = SimDisk::new(2);
    let engine = open(&disk, Options { max_fields: 100, ..options(read_mode) });
    let mut refused = 0;
    for part in 0..6 {
        let mut batch = WriteBatch::new("wattlog", None);
        let names: Vec<String> = (0..30).map(|i| format!("f{}", part * 30 + i)).collect();
        for (second, name) in (0..).zip(&names) {
            row(&mut batch, T0 + second * SECOND, &[(name, 1.5)]);
        }
        let receipt = engine.write(batch).unwrap();
        let limit = |r: &RejectReason| matches!(r, RejectReason::TooManyMeasurementFields { limit: 100 });
        assert!(receipt.rejected.iter().all(|rejection| limit(&rejection.reason)));
        refused += receipt.rejected.len();
    }
    assert_eq!(refused, 80);
    engine.seal().unwrap();
    let fields = engine.measurement("wattlog", "m").unwrap().unwrap().fields;
    assert_eq!(fields.len(), 100);
}

fn the_limit_of_series_holds_for_bodies_that_come_together(read_mode: ReadMode) {
    let disk = SimDisk::new(3);
    let engine = open(&disk, Options { max_series: 50, ..options(read_mode) });
    let write = |from: usize| {
        let mut batch = WriteBatch::new("wattlog", None);
        for device in from..from + 40 {
            let slot = batch.series("m", &TagSet::new([("d", format!("{device}"))]).unwrap());
            batch.row(slot, Timestamp(T0), device as u32).float("a", 1.0);
        }
        engine.write(batch).map(|receipt| receipt.points).unwrap()
    };
    let stored: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4).map(|i| scope.spawn(move || write(i * 40))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(stored, 50);
    assert_eq!(rows(&engine), 50);
}

/// What the user saw: `POST /admin/seal` right after the first write to a new database did not answer.
fn a_seal_ends_although_other_records_follow_the_rows(read_mode: ReadMode) {
    let disk = SimDisk::new(4);
    let engine = open(&disk, options(read_mode));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                engine.create_database(&format!("d{number}")).unwrap();
            }
        });
        let sealers: Vec<_> = (0..3)
            .map(|part| {
                let engine = &engine;
                scope.spawn(move || {
                    for step in 0..40 {
                        let mut batch = WriteBatch::new("wattlog", None);
                        row(&mut batch, T0 + (step * 3 + part) * SECOND, &[("a", 1.0)]);
                        engine.write(batch).unwrap();
                        engine.seal().unwrap();
                    }
                })
            })
            .collect();
        for sealer in sealers {
            sealer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(rows(&engine), 120);
    assert!(engine.ping(Duration::from_secs(5)));
}

/// The first day that a timestamp can name is cut short; rows on both sides of its end are kept apart.
fn the_first_and_the_last_instants_are_stored(read_mode: ReadMode) {
    let disk = SimDisk::new(5);
    let engine = open(&disk, options(read_mode));
    let mut batch = WriteBatch::new("wattlog", None);
    let times = [Timestamp::MIN.0, -9_223_286_500 * SECOND, -9_223_286_300 * SECOND, 0, Timestamp::MAX.0 - 1];
    for time in times {
        row(&mut batch, time, &[("a", 1.0)]);
    }
    engine.write(batch).unwrap();
    assert_eq!(rows(&engine), 5);
    engine.seal().unwrap();
    assert_eq!(rows(&engine), 5);
    drop(engine);
    assert_eq!(rows(&open(&disk, options(read_mode))), 5);
}

fn a_body_scattered_over_more_days_than_memory_has_room_for_is_refused_whole(read_mode: ReadMode) {
    let disk = SimDisk::new(6);
    let engine = open(&disk, options(read_mode));
    let mut batch = WriteBatch::new("wattlog", None);
    (0..70_000).for_each(|day| row(&mut batch, day * 86_400 * SECOND, &[("a", 1.0)]));
    assert!(matches!(engine.write(batch), Err(WriteError::TooScattered { limit: 65_536 })));
    let mut batch = WriteBatch::new("wattlog", None);
    (0..9_000).for_each(|day| row(&mut batch, day * 86_400 * SECOND, &[("a", 1.0)]));
    engine.write(batch).unwrap();
    assert_eq!(rows(&engine), 9_000);
    engine.seal().unwrap();
    assert_eq!(rows(&engine), 9_000);
}
