//! Deletes and compaction through the public interface: what is hidden, what is not, and what is left on the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_engine::error::WriteError;
use wattlog_engine::io::sim::{CallKind, Cut, Fault, FaultError, Lasting, SimDisk, Survives, SyncName};
use wattlog_engine::io::{Disk, ReadMode};
use wattlog_engine::query::{Function, QueryControl, QueryRequest, ResultValues, Shape};
use wattlog_engine::{DeleteError, DeleteRequest, Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = Timestamp::DAY_NS;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp(1_772_322_900 * SECOND)))
}

fn options() -> Options {
    Options { ballast_bytes: 0, ..Options::default() }
}

fn open(disk: &SimDisk, options: Options) -> Engine {
    Engine::open(Arc::new(disk.clone()), options, clock(), [7; 16]).unwrap()
}

/// Each test on files read through maps and by `pread`.
fn on_both(test: impl Fn(Options)) {
    for read_mode in [ReadMode::Map, ReadMode::Pread] {
        println!("{read_mode:?}");
        test(Options { read_mode, ..options() });
    }
}

fn write(engine: &Engine, device: &str, times: impl Iterator<Item = i64>, value: f64) {
    let mut batch = WriteBatch::new("home", None);
    let slot = batch.series("power", &TagSet::new([("device", device)]).unwrap());
    for (line, time) in times.enumerate() {
        let mut row = batch.row(slot, Timestamp(time), line as u32 + 1);
        row.float("watts", value);
        row.float("volts", 230.0);
    }
    engine.write(batch).unwrap();
}

fn delete(engine: &Engine, times: std::ops::Range<i64>, fields: Option<&[&str]>) -> u64 {
    let receipt = engine.delete(&DeleteRequest {
        database: "home".to_owned(),
        retention_policy: None,
        measurement: Some("power".to_owned()),
        fields: fields.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        tags: Vec::new(),
        start: Timestamp(times.start),
        end: Timestamp(times.end),
    });
    receipt.unwrap().series
}

fn count(engine: &Engine, field: &str) -> i64 {
    let mut request = QueryRequest::raw("home", "power", Timestamp::MIN, Timestamp(i64::MAX));
    request.fields = Some(vec![field.to_owned()]);
    request.shape = Shape::aggregate(vec![Function::Count], None);
    let result = engine.query(&request, &QueryControl::default()).unwrap();
    assert!(!result.is_partial(), "{:?}", result.partial);
    let column = result.series.first().and_then(|series| series.column(&format!("{field}_count")));
    match column.map(|column| &column.values) {
        Some(ResultValues::Integer(counts)) => counts[0].unwrap_or(0),
        _ => 0,
    }
}

fn segments(disk: &SimDisk) -> usize {
    disk.paths().iter().filter(|(path, _)| path.starts_with("segments/")).count()
}

#[test]
fn a_delete_hides_what_was_written_before_it_and_nothing_written_after_it() {
    on_both(|options| {
        let disk = SimDisk::new(1);
        let engine = open(&disk, options.clone());
        write(&engine, "a", (0..100).map(|s| s * SECOND), 1.0);
        engine.seal().unwrap();
        write(&engine, "a", (100..200).map(|s| s * SECOND), 2.0);
        assert_eq!(delete(&engine, 50 * SECOND..150 * SECOND, None), 1);
        assert_eq!(count(&engine, "watts"), 100);
        write(&engine, "a", (60..70).map(|s| s * SECOND), 3.0);
        assert_eq!(count(&engine, "watts"), 110);
        engine.close().unwrap();
        let engine = open(&disk, options.clone());
        assert_eq!(count(&engine, "watts"), 110, "replayed in its place");
        engine.seal().unwrap();
        assert_eq!(count(&engine, "watts"), 110);
        engine.compact().unwrap();
        assert_eq!((count(&engine, "watts"), segments(&disk)), (110, 1));
        engine.close().unwrap();
        assert_eq!(count(&open(&disk, options), "watts"), 110);
    });
}

#[test]
fn a_delete_of_one_field_leaves_the_others_and_a_row_without_values_is_gone() {
    on_both(|options| {
        let disk = SimDisk::new(1);
        let engine = open(&disk, options);
        write(&engine, "a", (0..10).map(|s| s * SECOND), 1.0);
        delete(&engine, 0..5 * SECOND, Some(&["watts"]));
        delete(&engine, 0..2 * SECOND, Some(&["volts", "unknown"]));
        assert_eq!(delete(&engine, 0..2 * SECOND, Some(&["unknown"])), 0);
        assert_eq!((count(&engine, "watts"), count(&engine, "volts")), (5, 8));
        let info = engine.measurement("home", "power").unwrap().unwrap();
        assert_eq!(info.first, Some(Timestamp(2 * SECOND)), "the first row that still has a value");
        engine.compact().unwrap();
        assert_eq!((count(&engine, "watts"), count(&engine, "volts")), (5, 8));
        assert_eq!(engine.snapshot().segments().iter().map(|h| h.entry().rows).sum::<u64>(), 8);
    });
}

#[test]
fn a_delete_survives_a_power_cut_the_moment_it_is_answered() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, options());
    write(&engine, "a", (0..10).map(|s| s * SECOND), 1.0);
    delete(&engine, 0..5 * SECOND, None);
    let after = disk.fork().cut(Cut { seed: 3, survives: Survives::Nothing });
    assert_eq!(count(&open(&after, options()), "watts"), 5);
    drop(engine);
}

#[test]
fn deleting_everything_leaves_no_segment_and_no_tombstone() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, options());
    write(&engine, "a", (0..3).map(|d| d * DAY), 1.0);
    engine.seal().unwrap();
    delete(&engine, i64::MIN..i64::MAX, None);
    assert_eq!(count(&engine, "watts"), 0);
    engine.compact().unwrap();
    assert_eq!((segments(&disk), count(&engine, "watts")), (0, 0));
    assert_eq!(engine.storage().tombstones, 0);
    write(&engine, "a", 0..1, 1.0);
    assert_eq!(count(&engine, "watts"), 1, "the names are still known");
}

#[test]
fn too_many_deletes_are_refused_until_they_were_applied() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, Options { max_tombstones: 3, ..options() });
    write(&engine, "a", (0..10).map(|s| s * SECOND), 1.0);
    engine.seal().unwrap();
    for second in 0..3 {
        delete(&engine, second * SECOND..(second + 1) * SECOND, None);
    }
    let request = DeleteRequest {
        database: "home".to_owned(),
        retention_policy: None,
        measurement: None,
        fields: None,
        tags: Vec::new(),
        start: Timestamp(0),
        end: Timestamp(DAY),
    };
    let refused = engine.delete(&request).unwrap_err();
    assert!(matches!(refused, DeleteError::Commit(WriteError::TooManyDeletes { limit: 3 })), "{refused}");
    engine.compact().unwrap();
    assert_eq!(engine.delete(&request).unwrap().series, 1);
    assert_eq!(count(&engine, "watts"), 0);
}

#[test]
fn a_snapshot_reads_files_that_were_replaced_meanwhile() {
    on_both(|options| {
        let disk = SimDisk::new(1);
        let engine = open(&disk, options);
        for part in 0..4 {
            write(&engine, "a", (0..10).map(|s| (part * 10 + s) * SECOND), 1.0);
            engine.seal().unwrap();
        }
        let before = engine.snapshot();
        let report = engine.compact().unwrap();
        assert_eq!((report.segments_before, report.segments_after), (4, 1));
        assert_eq!(segments(&disk), 5, "the old files are there as long as the snapshot is");
        for handle in before.segments().iter() {
            assert_eq!(handle.open().unwrap().totals().0, 10);
        }
        drop(before);
        assert_eq!((segments(&disk), count(&engine, "watts")), (1, 40));
    });
}

#[test]
fn days_are_cut_at_the_midnights_of_the_home_zone() {
    let disk = SimDisk::new(1);
    let midnights = wattlog_engine::options::Midnights::new(|range| {
        (-1..40).map(|day| day * DAY - 3600 * SECOND).filter(|midnight| range.contains(midnight)).collect()
    });
    let engine = open(&disk, Options { midnights, ..options() });
    write(&engine, "a", (0..3 * 8640).map(|i| i * 10 * SECOND), 1.5);
    engine.compact().unwrap();
    let mut request =
        QueryRequest::raw("home", "power", Timestamp(-3600 * SECOND), Timestamp(3 * DAY - 3600 * SECOND));
    request.shape = Shape::aggregate(vec![Function::Sum], None);
    let result = engine.query(&request, &QueryControl::default()).unwrap();
    assert_eq!(result.stats.blocks_decoded, 0, "three local days are answered from statistics");
    let segment = engine.snapshot().segments().iter().next().unwrap().open().unwrap();
    assert_eq!(segment.spec().midnights[..2], [DAY - 3600 * SECOND, 2 * DAY - 3600 * SECOND]);
}

#[test]
fn a_damaged_block_is_never_copied_forward() {
    let disk = SimDisk::new(1);
    // The file beside it would be packed by itself.
    let options = || Options { pco_after: None, ..options() };
    let engine = open(&disk, options());
    for part in 0..2 {
        write(&engine, "a", (0..200).map(|s| (part * 200 + s) * SECOND), s_value(part));
        engine.seal().unwrap();
    }
    engine.close().unwrap();
    let (path, _) = disk.paths().into_iter().find(|(path, _)| path.starts_with("segments/")).unwrap();
    disk.flip_bit(&path, 514, 3);
    let engine = open(&disk, options());
    let report = engine.compact().unwrap();
    assert_eq!(report.steps, 0, "{report:?}");
    assert_eq!((segments(&disk), engine.metrics().compaction_failures), (2, 1));
    assert!(!engine.health().damage.is_empty());
}

fn s_value(part: i64) -> f64 {
    part as f64 + 0.5
}

#[test]
fn a_compaction_that_fails_changes_nothing_and_leaves_nothing_behind() {
    for kind in [CallKind::Write, CallKind::SyncData, CallKind::Rename, CallKind::SyncDir] {
        let disk = SimDisk::new(1);
        let engine = open(&disk, options());
        for part in 0..3 {
            write(&engine, "a", (0..10).map(|s| (part * 10 + s) * SECOND), 1.0);
            engine.seal().unwrap();
        }
        let within = match kind {
            CallKind::SyncDir => SyncName::SegmentsDir,
            _ => SyncName::SegmentFile,
        };
        let fault = Fault { within: Some(within), ..Fault::at(1, FaultError::Eio, Lasting::Once).on(kind) };
        disk.inject(fault);
        assert!(engine.compact().is_err(), "{kind:?}");
        disk.clear_faults();
        assert_eq!((segments(&disk), count(&engine, "watts")), (3, 30), "{kind:?}");
        engine.compact().unwrap();
        assert_eq!((segments(&disk), count(&engine, "watts")), (1, 30), "{kind:?}");
    }
}

#[test]
fn days_that_are_over_are_merged_in_the_background() {
    let disk = SimDisk::new(1);
    let clock = clock();
    let engine = Engine::open(Arc::new(disk.clone()), options(), clock.clone(), [7; 16]).unwrap();
    let today = clock.wall_day();
    for part in 0..3 {
        write(&engine, "a", (0..10).map(|s| today * DAY + (part * 10 + s) * SECOND), 1.0);
        engine.seal().unwrap();
    }
    clock.advance(Duration::from_secs(2 * 86_400));
    let deadline = Instant::now() + Duration::from_secs(20);
    while segments(&disk) > 1 {
        // The month is over as well, so nothing is merged before it was quiet for a while.
        clock.advance(Duration::from_secs(30));
        assert!(Instant::now() < deadline, "{} segments", segments(&disk));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count(&engine, "watts"), 30);
    assert!(disk.list("segments").unwrap().iter().all(|file| !file.name.ends_with(".tmp")));
}

trait WallDay {
    fn wall_day(&self) -> i64;
}

impl WallDay for ManualClock {
    fn wall_day(&self) -> i64 {
        use wattlog_model::Clock;
        i64::from(self.wall().utc_day())
    }
}

#[test]
fn a_flipped_bit_in_the_edit_that_names_a_merged_file_loses_nothing() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, options());
    for part in 0..3 {
        write(&engine, "a", (0..10).map(|s| (part * 10 + s) * SECOND), 1.0);
        engine.seal().unwrap();
    }
    engine.compact().unwrap();
    // As a power cut leaves it: nothing in the log attests the edit yet.
    let found = disk.fork().cut(Cut { seed: 3, survives: Survives::Nothing });
    drop(engine);
    let (path, len) = found.paths().into_iter().find(|(path, _)| path.starts_with("manifest/")).unwrap();
    for offset in len - 150..len {
        let flipped = found.fork();
        flipped.flip_bit(&path, offset, (offset % 8) as u8);
        let engine = open(&flipped, options());
        assert_eq!(count(&engine, "watts"), 30, "byte {offset}");
    }
}

#[test]
fn a_sequence_that_is_given_again_after_a_cut_does_not_make_a_delete_void() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, options());
    write(&engine, "a", (0..10).map(|s| s * SECOND), 1.0);
    engine.compact().unwrap();
    write(&engine, "a", (10..20).map(|s| s * SECOND), 1.0);
    engine.seal().unwrap();
    engine.compact().unwrap();
    for handle in engine.snapshot().segments().iter() {
        assert_eq!(handle.entry().deletes_applied.0, 0, "only deletes tell how far deletes were applied");
    }
    delete(&engine, 0..5 * SECOND, None);
    engine.compact().unwrap();
    assert_eq!(count(&engine, "watts"), 15);
}
