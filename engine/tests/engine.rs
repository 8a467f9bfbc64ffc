//! The handle: what is acknowledged is there, across seals, closes, kills, full disks and failed syncs.

#[macro_use]
#[path = "support/read_modes.rs"]
mod read_modes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{CallKind, Cut, Fault, FaultError, Lasting, SimDisk, Survives};
use wattlog_engine::memtable::FieldSet;
use wattlog_engine::{
    Durability, Engine, FeedEvent, FeedStart, Options, RejectReason, WriteBatch, WriteError,
};
use wattlog_model::{FieldValue, ManualClock, TagSet, Timestamp};

const T0: i64 = 1_780_272_000_000_000_000;

fn options(read_mode: ReadMode) -> Options {
    Options { read_mode, ballast_bytes: 0, queue_wait: Duration::from_secs(5), ..Options::default() }
}

fn open_with(disk: &SimDisk, options: Options) -> Engine {
    let clock = Arc::new(ManualClock::new(Timestamp(T0)));
    Engine::open(Arc::new(disk.clone()), options, clock, [7; 16]).expect("a store always opens")
}

fn open(disk: &SimDisk, read_mode: ReadMode) -> Engine {
    open_with(disk, options(read_mode))
}

fn tags(device: &str) -> TagSet {
    TagSet::new([("device_id", device)]).unwrap()
}

fn body(rows: &[(&str, i64, f64)]) -> WriteBatch {
    let mut batch = WriteBatch::new("wattlog", None);
    for (line, (device, second, value)) in rows.iter().enumerate() {
        let slot = batch.series("energy_data", &tags(device));
        let time = Timestamp(T0 + second * 1_000_000_000);
        batch.row(slot, time, line as u32).float("pv_power", *value);
    }
    batch
}

/// Every (device, second) -> value of `pv_power`, from memtables and segments as the contract orders them.
fn read(engine: &Engine) -> BTreeMap<(String, i64), FieldValue> {
    let snapshot = engine.snapshot();
    let catalog = snapshot.catalog();
    let mut out = BTreeMap::new();
    let Some(namespace) = catalog.namespace("wattlog", None) else { return out };
    let Some(measurement) = catalog.measurement(namespace, "energy_data") else { return out };
    let all = i64::MIN..i64::MAX;
    for series in catalog.select(measurement, &[]).unwrap() {
        let (_, tags) = catalog.series_tags(series).unwrap().expect("a selected series has a name");
        let device = tags.value("device_id").unwrap().to_owned();
        let mut put = |times: &[i64], row: usize, value: FieldValue| {
            out.insert((device.clone(), (times[row] - T0) / 1_000_000_000), value);
        };
        for handle in snapshot.segments().for_range(namespace, measurement, all.clone()) {
            let segment = handle.open().unwrap();
            for group in segment.row_groups(measurement, series, all.clone()).unwrap() {
                let mut times = Vec::new();
                segment.read_times(&group, &mut times).unwrap();
                for field in segment.fields_of(&group).unwrap() {
                    let mut column = wattlog_engine::column::Column {
                        presence: wattlog_engine::column::Presence::All,
                        values: wattlog_engine::column::Values::Float(Vec::new()),
                    };
                    assert!(segment.read_column(&group, field, &mut column).unwrap());
                    (0..column.values.len()).for_each(|i| put(&times, column.row(i), column.values.get(i)));
                }
            }
        }
        for memtable in snapshot.memtables() {
            if let Some(rows) = memtable.read(series, &all, FieldSet::All, snapshot.seq()) {
                let column = &rows.columns[0].1;
                (0..column.values.len()).for_each(|i| put(&rows.times, column.row(i), column.values.get(i)));
            }
        }
    }
    out
}

fn expect(rows: &[(&str, i64, f64)]) -> BTreeMap<(String, i64), FieldValue> {
    rows.iter()
        .map(|(device, second, value)| ((device.to_string(), *second), FieldValue::Float(*value)))
        .collect()
}

on_both_read_modes! {
    points_are_there_at_once_after_a_seal_and_after_reopening,
    an_acknowledged_body_survives_a_power_cut_that_keeps_nothing_unsynced,
    rows_of_another_type_are_refused_alone_and_integers_widen,
    two_bodies_that_race_for_a_new_field_agree_on_its_type,
    a_failed_sync_is_never_an_acknowledgement_and_writing_resumes,
    syncs_that_keep_failing_make_the_store_read_only_and_reads_go_on,
    a_full_disk_refuses_and_writing_resumes_when_space_returns,
    interval_bodies_are_visible_at_once_and_a_cut_takes_only_a_suffix,
    the_feed_tells_bodies_in_commit_order_and_resumes,
    a_store_is_open_once,
    small_limits_make_many_seals_and_logs_and_lose_nothing,
    what_a_failed_sync_left_in_memory_is_not_taken_for_durable_by_the_next_start,
    a_damaged_catalog_file_is_replaced_from_what_segments_tell,
}

fn points_are_there_at_once_after_a_seal_and_after_reopening(read_mode: ReadMode) {
    let disk = SimDisk::new(1);
    let engine = open(&disk, read_mode);
    assert!(engine.recovery_report().fresh);
    let receipt = engine.write(body(&[("a", 0, 1.5), ("b", 0, 2.5)])).unwrap();
    assert_eq!((receipt.points, receipt.values, receipt.rejected.len()), (2, 2, 0));
    engine.write(body(&[("a", 10, 1.25), ("a", 0, 1.75)])).unwrap();
    let wanted = expect(&[("a", 0, 1.75), ("a", 10, 1.25), ("b", 0, 2.5)]);
    assert_eq!(read(&engine), wanted);

    let sealed = engine.seal().unwrap();
    assert_eq!((sealed.segments, sealed.rows), (1, 3));
    assert_eq!(read(&engine), wanted);
    engine.write(body(&[("a", 10, 9.0)])).unwrap();
    let wanted = expect(&[("a", 0, 1.75), ("a", 10, 9.0), ("b", 0, 2.5)]);
    assert_eq!(read(&engine), wanted);
    engine.close().unwrap();

    let engine = open(&disk, read_mode);
    assert!(engine.recovery_report().clean, "{:?}", engine.recovery_report());
    assert_eq!(read(&engine), wanted);
    assert_eq!(engine.seal().unwrap().rows, 1);
    assert_eq!(read(&engine), wanted);
    drop(engine);
    assert_eq!(read(&open(&disk, read_mode)), wanted);
}

fn an_acknowledged_body_survives_a_power_cut_that_keeps_nothing_unsynced(read_mode: ReadMode) {
    let disk = SimDisk::new(2);
    let engine = open(&disk, read_mode);
    let mut wanted = Vec::new();
    for second in 0..50 {
        engine.write(body(&[("a", second, second as f64)])).unwrap();
        wanted.push(("a", second, second as f64));
        if second % 20 == 19 {
            engine.seal().unwrap();
        }
        let after =
            open(&disk.fork().cut(Cut { seed: second as u64, survives: Survives::Nothing }), read_mode);
        assert_eq!(read(&after), expect(&wanted), "after {second}");
    }
}

fn rows_of_another_type_are_refused_alone_and_integers_widen(read_mode: ReadMode) {
    let disk = SimDisk::new(3);
    let engine = open(&disk, read_mode);
    engine.write(body(&[("a", 0, 1.0)])).unwrap();
    let mut batch = WriteBatch::new("wattlog", None);
    let slot = batch.series("energy_data", &tags("a"));
    let at = |second: i64| Timestamp(T0 + second * 1_000_000_000);
    batch.row(slot, at(1), 0).integer("pv_power", 2);
    batch.row(slot, at(2), 1).string("pv_power", "three");
    batch.row(slot, at(3), 2).unsigned("pv_power", 1 << 60);
    batch.row(slot, at(4), 3).float("pv_power", 5.0);
    let receipt = engine.write(batch).unwrap();
    assert_eq!(receipt.points, 2);
    let mut refused: Vec<_> = receipt.rejected.iter().map(|r| (r.line, r.reason.label())).collect();
    refused.sort_unstable();
    assert_eq!(refused, [(1, "type_conflict"), (2, "widening_loss")]);
    assert_eq!(read(&engine), expect(&[("a", 0, 1.0), ("a", 1, 2.0), ("a", 4, 5.0)]));
}

fn two_bodies_that_race_for_a_new_field_agree_on_its_type(read_mode: ReadMode) {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let engine = open(&disk, read_mode);
        let write = |as_text: bool| {
            let mut batch = WriteBatch::new("wattlog", None);
            let slot = batch.series("energy_data", &tags(if as_text { "t" } else { "f" }));
            let mut row = batch.row(slot, Timestamp(T0), 0);
            if as_text {
                row.string("pv_power", "x");
            } else {
                row.float("pv_power", 1.0);
            }
            drop(row);
            engine.write(batch).unwrap()
        };
        let (a, b) = std::thread::scope(|scope| {
            let a = scope.spawn(|| write(true));
            let b = scope.spawn(|| write(false));
            (a.join().unwrap(), b.join().unwrap())
        });
        assert_eq!(a.points + b.points, 1, "one of them fixes the type");
        let refused: Vec<_> = a.rejected.iter().chain(&b.rejected).collect();
        assert!(matches!(refused[..], [r] if matches!(r.reason, RejectReason::TypeConflict { .. })));
    }
}

fn a_failed_sync_is_never_an_acknowledgement_and_writing_resumes(read_mode: ReadMode) {
    let disk = SimDisk::new(4);
    let engine = open(&disk, read_mode);
    engine.write(body(&[("a", 0, 1.0)])).unwrap();
    disk.inject(Fault::at(1, FaultError::Eio, Lasting::Once).on(CallKind::SyncData));
    let error = engine.write(body(&[("a", 1, 2.0)])).unwrap_err();
    assert!(matches!(error, WriteError::OutcomeUnknown(_)), "{error}");
    engine.write(body(&[("a", 2, 3.0)])).unwrap();
    assert_eq!(read(&engine), expect(&[("a", 0, 1.0), ("a", 2, 3.0)]));
    assert!(engine.health().writable);
    let after = open(&disk.fork().cut(Cut { seed: 1, survives: Survives::Nothing }), read_mode);
    assert_eq!(read(&after), expect(&[("a", 0, 1.0), ("a", 2, 3.0)]));
    drop(engine);
    let after = open(&disk.fork().cut(Cut { seed: 1, survives: Survives::Everything }), read_mode);
    assert_eq!(read(&after), expect(&[("a", 0, 1.0), ("a", 2, 3.0)]), "a body answered 'unknown' is void");
}

fn syncs_that_keep_failing_make_the_store_read_only_and_reads_go_on(read_mode: ReadMode) {
    let disk = SimDisk::new(5);
    let engine = open(&disk, read_mode);
    engine.write(body(&[("a", 0, 1.0)])).unwrap();
    disk.inject(Fault::at(1, FaultError::Eio, Lasting::ForGood).on(CallKind::SyncData));
    assert!(engine.write(body(&[("a", 1, 2.0)])).is_err());
    assert!(matches!(engine.write(body(&[("a", 2, 2.0)])), Err(WriteError::ReadOnly(_))));
    assert!(!engine.health().writable);
    assert_eq!(read(&engine), expect(&[("a", 0, 1.0)]));
    drop(engine);
    disk.clear_faults();
    let after = read(&open(&disk.fork().cut(Cut { seed: 1, survives: Survives::Nothing }), read_mode));
    // What was answered "unknown" may or may not be there; what was acknowledged is, and nothing else.
    let acknowledged = expect(&[("a", 0, 1.0)]);
    let with_unknown = expect(&[("a", 0, 1.0), ("a", 1, 2.0)]);
    assert!(after == acknowledged || after == with_unknown, "{after:?}");
}

fn a_full_disk_refuses_and_writing_resumes_when_space_returns(read_mode: ReadMode) {
    let disk = SimDisk::new(6);
    let engine = open(&disk, read_mode);
    engine.write(body(&[("a", 0, 1.0)])).unwrap();
    disk.set_capacity_bytes(Some(disk.used_bytes() + 40));
    for _ in 0..3 {
        let error = engine.write(body(&[("a", 1, 2.0)])).unwrap_err();
        assert!(matches!(error, WriteError::DiskFull(_)), "{error}");
    }
    assert_eq!(read(&engine), expect(&[("a", 0, 1.0)]));
    disk.set_capacity_bytes(None);
    engine.write(body(&[("a", 2, 3.0)])).unwrap();
    let wanted = expect(&[("a", 0, 1.0), ("a", 2, 3.0)]);
    assert_eq!(read(&engine), wanted);
    drop(engine);
    assert_eq!(read(&open(&disk, read_mode)), wanted);
}

fn interval_bodies_are_visible_at_once_and_a_cut_takes_only_a_suffix(read_mode: ReadMode) {
    let disk = SimDisk::new(7);
    let durability = Durability::Interval(Duration::from_secs(3600));
    let engine = open_with(&disk, Options { default_durability: durability, ..options(read_mode) });
    for second in 0..20 {
        engine.write(body(&[("a", second, 1.0)])).unwrap();
    }
    assert_eq!(read(&engine).len(), 20);
    for seed in 0..40 {
        let after = open(&disk.fork().cut(Cut { seed, survives: Survives::Some }), read_mode);
        let seconds: Vec<i64> = read(&after).into_keys().map(|(_, second)| second).collect();
        assert_eq!(
            seconds,
            (0..seconds.len() as i64).collect::<Vec<_>>(),
            "a prefix survives, without holes"
        );
    }
}

fn the_feed_tells_bodies_in_commit_order_and_resumes(read_mode: ReadMode) {
    let disk = SimDisk::new(8);
    let engine = open(&disk, read_mode);
    let mut feed = engine.feed(FeedStart::Now);
    let first = engine.write(body(&[("a", 0, 1.0)])).unwrap().cursor;
    engine.write(body(&[("a", 1, 1.0)])).unwrap();
    let next = |feed: &mut wattlog_engine::FeedReader| match feed.next(Duration::from_secs(5)) {
        FeedEvent::Batch(batch) => batch.batches[0].times[0],
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&mut feed), T0);
    assert_eq!(next(&mut feed), T0 + 1_000_000_000);
    let mut resumed = engine.feed(FeedStart::After(first));
    assert_eq!(next(&mut resumed), T0 + 1_000_000_000);
    assert_eq!(engine.snapshot().cursor().to_string().parse(), Ok(engine.snapshot().cursor()));
}

fn a_store_is_open_once(read_mode: ReadMode) {
    let disk = SimDisk::new(9);
    let engine = open(&disk, read_mode);
    let clock = Arc::new(ManualClock::new(Timestamp(T0)));
    let second = Engine::open(Arc::new(disk.clone()), options(read_mode), clock, [7; 16]);
    assert!(matches!(second, Err(wattlog_engine::OpenError::InUse(_))));
    engine.close().unwrap();
    open(&disk, read_mode);
}

fn small_limits_make_many_seals_and_logs_and_lose_nothing(read_mode: ReadMode) {
    let disk = SimDisk::new(10);
    let tiny = Options { memtable_bytes: 40_000, wal_bytes: 20_000, ..options(read_mode) };
    let engine = open_with(&disk, tiny.clone());
    let devices = ["a", "b", "c", "d"];
    let mut wanted = BTreeMap::new();
    for step in 0..400_i64 {
        let rows: Vec<(&str, i64, f64)> =
            devices.iter().map(|device| (*device, step * 97 % 3000, step as f64)).collect();
        engine.write(body(&rows)).unwrap();
        wanted.extend(expect(&rows));
    }
    assert_eq!(read(&engine), wanted);
    assert!(engine.metrics().seals > 2, "{:?}", engine.metrics());
    drop(engine);
    let engine = open_with(&disk, tiny);
    assert_eq!(read(&engine), wanted);
    let logs = disk.paths().iter().filter(|(path, _)| path.starts_with("wal/wal-")).count();
    assert!(logs < 6, "sealed logs are retired; {logs} are left");
}

/// What the user saw: the disk failed one sync and the next start took what memory still held of it for durable; a power
/// cut later the points acknowledged after it were there, those before them were not.
fn what_a_failed_sync_left_in_memory_is_not_taken_for_durable_by_the_next_start(read_mode: ReadMode) {
    let disk = SimDisk::new(11);
    let engine = open(&disk, read_mode);
    engine.write(body(&[("a", 0, 1.0)])).unwrap();
    disk.inject(Fault::at(1, FaultError::Eio, Lasting::ForGood).on(CallKind::SyncData));
    let lost = engine.write(body(&[("a", 1, 2.0)]));
    assert!(matches!(lost, Err(WriteError::OutcomeUnknown(_))), "{lost:?}");
    assert!(matches!(engine.write(body(&[("a", 5, 2.0)])), Err(WriteError::ReadOnly(_))));
    drop(engine);
    disk.clear_faults();

    let engine = open(&disk, read_mode);
    engine.write(body(&[("a", 2, 3.0)])).unwrap();
    let seen = read(&engine);
    let disk = disk.cut(Cut { survives: Survives::Nothing, seed: 1 });
    let engine = open(&disk, read_mode);
    assert_eq!(read(&engine), seen);
    assert!(engine.recovery_report().damage.is_empty(), "{:?}", engine.recovery_report());
}

/// What the user saw: one bit of a catalog file was wrong, and from then on nothing was sealed any more and every write
/// to the series named there was refused.
fn a_damaged_catalog_file_is_replaced_from_what_segments_tell(read_mode: ReadMode) {
    let disk = SimDisk::new(12);
    let engine = open(&disk, read_mode);
    engine.write(body(&[("a", 0, 1.0), ("b", 0, 2.0)])).unwrap();
    engine.seal().unwrap();
    drop(engine);
    let (file, bytes) = disk
        .paths()
        .into_iter()
        .find(|(path, _)| path.starts_with("catalog/"))
        .map(|(path, _)| (path.clone(), disk.read_file(&path).unwrap()))
        .unwrap();
    let key = bytes.windows(9).position(|window| window == b"device_id").expect("a series key");
    disk.flip_bit(&file, key as u64, 0);

    let clock = Arc::new(ManualClock::new(Timestamp(T0)));
    let engine = Engine::open(Arc::new(disk.clone()), options(read_mode), clock.clone(), [7; 16]).unwrap();
    // The first to need the block is refused or served; soon after, everything is.
    let stored = (0..500).any(|_| {
        clock.advance(Duration::from_secs(2));
        let stored = engine.write(body(&[("a", 1, 3.0), ("b", 1, 4.0)])).is_ok();
        if !stored {
            std::thread::sleep(Duration::from_millis(20));
        }
        stored
    });
    assert!(stored, "{:?}", engine.health());
    engine.seal().unwrap();
    let wanted = expect(&[("a", 0, 1.0), ("b", 0, 2.0), ("a", 1, 3.0), ("b", 1, 4.0)]);
    assert_eq!(read(&engine), wanted);
    assert_eq!(engine.storage().series, 2, "no series got a second id");
    assert!(engine.health().damage.iter().any(|damage| damage.file == file));
    drop(engine);
    let engine = open(&disk, read_mode);
    assert_eq!(read(&engine), wanted);
    assert!(engine.recovery_report().damage.is_empty(), "the manifest names the file no more");
}
