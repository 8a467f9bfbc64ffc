//! Retention through the public interface: what is hidden, what is refused, what goes from the disk and when.

use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{CallKind, Cut, Fault, FaultError, Lasting, SimDisk, Survives};
use wattlog_engine::query::{Function, QueryControl, QueryRequest, ResultValues, Shape};
use wattlog_engine::{Engine, Options, RejectReason, Rule, WriteBatch, WriteError};
use wattlog_model::{ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = Timestamp::DAY_NS;
/// 2026-04-01, so that thirty days before it lie in one month and part of another.
const NOW: i64 = 1_775_001_600 * SECOND;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp(NOW)))
}

fn options() -> Options {
    Options { ballast_bytes: 0, min_retention: Duration::ZERO, ..Options::default() }
}

fn open_at(disk: &SimDisk, options: &Options, clock: &Arc<ManualClock>) -> Engine {
    Engine::open(Arc::new(disk.clone()), options.clone(), clock.clone(), [7; 16]).unwrap()
}

fn open(disk: &SimDisk, options: &Options) -> Engine {
    open_at(disk, options, &clock())
}

/// Each test on files read through maps and by `pread`.
fn on_both(test: impl Fn(Options)) {
    for read_mode in [ReadMode::Map, ReadMode::Pread] {
        println!("{read_mode:?}");
        test(Options { read_mode, ..options() });
    }
}

/// Files that a pass of retention has dropped so far, one made now included; one comes each second by itself.
fn dropped(engine: &Engine) -> u64 {
    engine.retain().unwrap();
    engine.metrics().retention_segments
}

fn body(measurement: &str, times: impl Iterator<Item = i64>) -> WriteBatch {
    let mut batch = WriteBatch::new("home", None);
    let slot = batch.series(measurement, &TagSet::new([("device", "a")]).unwrap());
    for (line, time) in times.enumerate() {
        batch.row(slot, Timestamp(time), line as u32 + 1).float("watts", 1.5);
    }
    batch
}

/// One row every ten minutes.
fn every_ten_minutes(range: std::ops::Range<i64>) -> impl Iterator<Item = i64> {
    range.step_by(600 * SECOND as usize)
}

fn write(engine: &Engine, measurement: &str, range: std::ops::Range<i64>) {
    let receipt = engine.write(body(measurement, every_ten_minutes(range))).unwrap();
    assert_eq!(receipt.rejected, []);
}

fn keep_ns(days: i64) -> u64 {
    (days * DAY).unsigned_abs()
}

fn keep(days: i64) -> Rule {
    Rule::Keep { ns: keep_ns(days) }
}

fn set(engine: &Engine, measurement: Option<&str>, rule: Rule) -> Option<i64> {
    engine.set_retention("home", None, measurement, rule).unwrap().cutoff.map(|cutoff| cutoff.0)
}

fn times(engine: &Engine, measurement: &str) -> Vec<i64> {
    let request = QueryRequest::raw("home", measurement, Timestamp::MIN, Timestamp(i64::MAX));
    let result = engine.query(&request, &QueryControl::default()).unwrap();
    assert!(!result.is_partial(), "{:?}", result.partial);
    match result.series.first().map(|series| &series.columns[0].values) {
        Some(ResultValues::Time(times)) => times.iter().flatten().copied().collect(),
        _ => Vec::new(),
    }
}

/// By statistics where they may answer.
fn count(engine: &Engine, measurement: &str) -> i64 {
    let mut request = QueryRequest::raw("home", measurement, Timestamp::MIN, Timestamp(i64::MAX));
    request.shape = Shape::aggregate(vec![Function::Count], None);
    let result = engine.query(&request, &QueryControl::default()).unwrap();
    match result.series.first().map(|series| &series.columns[1].values) {
        Some(ResultValues::Integer(counts)) => counts[0].unwrap_or(0),
        _ => 0,
    }
}

fn newest(engine: &Engine, measurement: &str) -> Option<i64> {
    let mut request = QueryRequest::raw("home", measurement, Timestamp::MIN, Timestamp(i64::MAX));
    request.shape = Shape::Last;
    let result = engine.query(&request, &QueryControl::default()).unwrap();
    match result.series.first().map(|series| &series.columns[0].values) {
        Some(ResultValues::Time(times)) => times[0],
        _ => None,
    }
}

fn segments(disk: &SimDisk) -> usize {
    disk.paths().iter().filter(|(path, _)| path.starts_with("segments/")).count()
}

/// The number of the only one.
fn segment_id(disk: &SimDisk) -> u64 {
    let paths = disk.paths().into_iter().map(|(path, _)| path);
    let names: Vec<String> = paths.filter(|path| path.starts_with("segments/")).collect();
    let [name] = &names[..] else { panic!("{names:?}") };
    u64::from_str_radix(&name[13..29], 16).unwrap()
}

fn expect(range: std::ops::Range<i64>) -> Vec<i64> {
    every_ten_minutes(range).collect()
}

/// Every reader says the same: the points from `first` on, up to `NOW`.
fn check(engine: &Engine, measurement: &str, first: i64) {
    let wanted = expect(first..NOW);
    assert_eq!(times(engine, measurement), wanted);
    assert_eq!(count(engine, measurement), wanted.len() as i64);
    assert_eq!(newest(engine, measurement), wanted.last().copied());
    let info = engine.measurement("home", measurement).unwrap().unwrap();
    assert_eq!(info.first.map(|time| time.0), wanted.first().copied());
    assert_eq!(info.last.map(|time| time.0), wanted.last().copied());
}

#[test]
fn a_shorter_rule_hides_at_once_and_a_longer_one_brings_nothing_back() {
    on_both(|options| {
        let disk = SimDisk::new(1);
        let engine = open(&disk, &options);
        write(&engine, "power", NOW - 40 * DAY..NOW - 3 * DAY);
        engine.seal().unwrap();
        write(&engine, "power", NOW - 3 * DAY..NOW);
        check(&engine, "power", NOW - 40 * DAY);
        assert_eq!(set(&engine, None, keep(30)), Some(NOW - 30 * DAY));
        check(&engine, "power", NOW - 30 * DAY);
        // In the middle of a block, and of what is in memory.
        for days in [10, 2] {
            assert_eq!(set(&engine, None, keep(days)), Some(NOW - days * DAY));
            check(&engine, "power", NOW - days * DAY);
        }
        for rule in [keep(300), Rule::Forever] {
            assert_eq!(set(&engine, None, rule), Some(NOW - 2 * DAY), "{rule:?}");
            check(&engine, "power", NOW - 2 * DAY);
        }
        engine.close().unwrap();
        let engine = open(&disk, &options);
        check(&engine, "power", NOW - 2 * DAY);
        let rules = engine.retentions();
        assert_eq!((rules.len(), rules[0].rule, &*rules[0].database), (1, Rule::Forever, "home"));
        // A power cut that keeps nothing but what was synced.
        let cut = disk.cut(Cut { seed: 3, survives: Survives::Nothing });
        drop(engine);
        check(&open(&cut, &options), "power", NOW - 2 * DAY);
    });
}

#[test]
fn all_can_be_hidden_and_the_store_goes_on() {
    on_both(|options| {
        let disk = SimDisk::new(2);
        let engine = open(&disk, &options);
        write(&engine, "power", NOW - 40 * DAY..NOW - 10 * DAY);
        engine.seal().unwrap();
        assert_eq!(engine.storage().points, 30 * 144);
        engine.confirm_clock().unwrap();
        set(&engine, None, keep(5));
        assert_eq!((times(&engine, "power").len(), newest(&engine, "power")), (0, None));
        assert_eq!(engine.measurement("home", "power").unwrap().unwrap().first, None);
        let dropped = dropped(&engine);
        assert!(dropped > 0);
        assert_eq!((segments(&disk), engine.storage().points), (0, 0));
        assert_eq!(engine.retain().unwrap().segments, 0, "once is enough");
        assert_eq!(engine.metrics().retention_segments, dropped);
        engine.close().unwrap();
        let engine = open(&disk, &options);
        assert!(engine.recovery_report().damage.is_empty() && engine.recovery_report().clean);
        write(&engine, "power", NOW - DAY..NOW);
        engine.compact().unwrap();
        check(&engine, "power", NOW - DAY);
    });
}

#[test]
fn points_beyond_the_cutoff_are_refused_and_get_no_names() {
    let disk = SimDisk::new(3);
    let engine = open(&disk, &options());
    engine.create_database("home").unwrap();
    let cutoff = set(&engine, None, keep(30)).unwrap();
    let receipt = engine.write(body("power", [cutoff - 1, cutoff, NOW, i64::MIN + 1].into_iter())).unwrap();
    assert_eq!(receipt.points, 2);
    let mut refused: Vec<u32> = receipt.rejected.iter().map(|row| row.line).collect();
    refused.sort_unstable();
    assert_eq!(refused, [1, 4]);
    assert!(receipt.rejected.iter().all(|row| row.reason == RejectReason::BeyondRetention));
    assert_eq!(receipt.rejected[0].reason.to_string(), "points beyond retention policy");
    assert_eq!(times(&engine, "power"), [cutoff, NOW]);
    let receipt = engine.write(body("other", [cutoff - 1].into_iter())).unwrap();
    assert_eq!((receipt.points, receipt.rejected.len()), (0, 1));
    assert_eq!(engine.measurements("home").unwrap(), ["power"]);
    assert_eq!(engine.storage().series, 1);
    // Ahead of the clock is another matter: stored, counted, and no cutoff moves.
    let receipt =
        engine.write(body("power", [NOW + DAY, NOW + DAY + 1, NOW + 400 * DAY].into_iter())).unwrap();
    assert_eq!((receipt.points, engine.metrics().future_points), (3, 2));
    engine.retain().unwrap();
    assert_eq!(times(&engine, "power").first(), Some(&cutoff));
}

#[test]
fn a_measurement_may_have_a_rule_of_its_own_before_its_first_point() {
    let disk = SimDisk::new(4);
    let engine = open(&disk, &options());
    engine.create_database("home").unwrap();
    set(&engine, None, keep(30));
    assert_eq!(set(&engine, Some("energy"), Rule::Forever), None);
    write(&engine, "energy", NOW - 400 * DAY..NOW - 390 * DAY);
    assert_eq!(count(&engine, "energy"), 1440);
    assert!(engine.write(body("power", [NOW - 31 * DAY].into_iter())).unwrap().points == 0);
    engine.close().unwrap();
    let engine = open(&disk, &options());
    assert_eq!(count(&engine, "energy"), 1440);
    assert_eq!(set(&engine, Some("energy"), Rule::Inherited), Some(NOW - 30 * DAY));
    assert_eq!(count(&engine, "energy"), 0);
    assert_eq!(set(&engine, Some("energy"), Rule::Forever), Some(NOW - 30 * DAY), "gone is gone");
    assert_eq!(count(&engine, "energy"), 0);
    assert!(matches!(
        engine.set_retention("nowhere", None, None, keep(1)),
        Err(WriteError::DatabaseNotFound(_))
    ));
    assert!(matches!(engine.set_retention("home", None, Some(""), keep(1)), Err(WriteError::InvalidName(_))));
}

#[test]
fn files_go_with_their_last_row_and_merges_leave_out_the_rest() {
    on_both(|options| {
        let disk = SimDisk::new(5);
        let engine = open(&disk, &options);
        engine.confirm_clock().unwrap();
        for day in 0..8 {
            write(&engine, "power", NOW - (8 - day) * DAY..NOW - (7 - day) * DAY);
            engine.seal().unwrap();
        }
        let before = (segments(&disk), engine.storage().points);
        assert_eq!(before, (8, 8 * 144));
        // Five whole days and a half one.
        let cutoff = NOW - 3 * DAY + 12 * HOUR;
        engine.set_retention("home", None, None, Rule::Keep { ns: (NOW - cutoff).unsigned_abs() }).unwrap();
        assert_eq!(dropped(&engine), 5);
        assert_eq!((segments(&disk), engine.storage().points), (3, 3 * 144), "one straddles");
        check(&engine, "power", cutoff);
        engine.compact().unwrap();
        assert_eq!(engine.storage().points, 2 * 144 + 72);
        check(&engine, "power", cutoff);
        assert_eq!(engine.metrics().retention_segments, 5);
    });
}

#[test]
fn rows_that_grow_too_old_in_memory_are_not_sealed() {
    let disk = SimDisk::new(6);
    let engine = open(&disk, &options());
    engine.confirm_clock().unwrap();
    write(&engine, "power", NOW - 10 * DAY..NOW);
    set(&engine, None, keep(2));
    let report = engine.seal().unwrap();
    assert_eq!(report.rows, 2 * 144);
    check(&engine, "power", NOW - 2 * DAY);
    write(&engine, "power", NOW - DAY..NOW);
    set(&engine, None, Rule::Keep { ns: 1 });
    let report = engine.seal().unwrap();
    assert_eq!((report.rows, report.segments), (0, 0));
    engine.close().unwrap();
    assert_eq!(times(&open(&disk, &options()), "power"), [0; 0]);
}

#[test]
fn a_shared_file_loses_a_measurement_that_is_gone_and_keeps_the_other() {
    // What is kept for ever would keep what is beside it for ever too.
    let disk = SimDisk::new(7);
    let clock = clock();
    let engine = open_at(&disk, &options(), &clock);
    engine.confirm_clock().unwrap();
    for measurement in ["power", "energy"] {
        write(&engine, measurement, NOW - 20 * DAY..NOW - 19 * DAY);
    }
    engine.seal().unwrap();
    assert_eq!(segments(&disk), 1);
    set(&engine, Some("energy"), Rule::Forever);
    set(&engine, None, keep(5));
    assert_eq!(engine.retain().unwrap().segments, 0, "energy keeps the file");
    // In the background, without being asked.
    let begun = std::time::Instant::now();
    while engine.storage().points > 144 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", engine.storage());
        // Merges go at a pace that the clock tells.
        clock.advance(Duration::from_millis(50));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((count(&engine, "power"), count(&engine, "energy")), (0, 144));
    assert_eq!(engine.metrics().compactions, 1);
}

#[test]
fn a_start_between_the_edit_and_the_unlink_removes_the_file() {
    let disk = SimDisk::new(8);
    let engine = open(&disk, &options());
    engine.confirm_clock().unwrap();
    write(&engine, "power", NOW - 9 * DAY..NOW - 8 * DAY);
    engine.seal().unwrap();
    let reader = engine.snapshot();
    set(&engine, None, keep(5));
    assert_eq!(dropped(&engine), 1);
    assert_eq!(segments(&disk), 1, "a reader that began before holds it");
    let left = disk.fork().cut(Cut { seed: 1, survives: Survives::Nothing });
    drop(reader);
    assert_eq!(segments(&disk), 0);
    drop(engine);
    let engine = open(&left, &options());
    assert_eq!(engine.recovery_report().orphans_removed, 1);
    assert!(engine.recovery_report().damage.is_empty());
    assert_eq!((segments(&left), count(&engine, "power")), (0, 0));
}

#[test]
fn a_snapshot_shows_what_was_there_when_it_was_taken() {
    let disk = SimDisk::new(9);
    let engine = open(&disk, &options());
    engine.confirm_clock().unwrap();
    write(&engine, "power", NOW - 9 * DAY..NOW - 8 * DAY);
    engine.seal().unwrap();
    let snapshot = engine.snapshot();
    set(&engine, None, keep(5));
    engine.retain().unwrap();
    let request = QueryRequest::raw("home", "power", Timestamp::MIN, Timestamp(i64::MAX));
    let limits = wattlog_engine::query::QueryLimits::default();
    let control = QueryControl::default();
    let before = wattlog_engine::query::run(&snapshot, &request, &limits, &control).unwrap();
    assert_eq!(before.rows(), 144);
    assert_eq!(times(&engine, "power"), [0; 0]);
}

/// Seen as: a snapshot from before a quarantine lost the file when it was dropped by age.
#[test]
fn a_file_that_was_set_aside_and_dropped_stays_for_an_older_snapshot() {
    let disk = SimDisk::new(12);
    let engine = open(&disk, &options());
    engine.confirm_clock().unwrap();
    write(&engine, "power", NOW - 9 * DAY..NOW - 8 * DAY);
    engine.seal().unwrap();
    let snapshot = engine.snapshot();
    engine.quarantine(wattlog_engine::ids::SegmentId(segment_id(&disk))).unwrap();
    set(&engine, None, keep(5));
    assert_eq!(dropped(&engine), 1);
    assert_eq!(segments(&disk), 1, "the snapshot may open it");
    let request = QueryRequest::raw("home", "power", Timestamp::MIN, Timestamp(i64::MAX));
    let limits = wattlog_engine::query::QueryLimits::default();
    let read = wattlog_engine::query::run(&snapshot, &request, &limits, &QueryControl::default()).unwrap();
    assert!(read.rows() == 144 && !read.is_partial());
    drop(snapshot);
    assert_eq!(segments(&disk), 0);
}

#[test]
fn what_is_beyond_its_cutoff_stays_where_retention_is_off() {
    let disk = SimDisk::new(13);
    let engine = open(&disk, &options());
    engine.confirm_clock().unwrap();
    write(&engine, "power", NOW - 3 * DAY..NOW - 2 * DAY);
    engine.seal().unwrap();
    write(&engine, "power", NOW - 2 * DAY..NOW - DAY);
    set(&engine, None, keep(4));
    let cutoff = engine.retentions()[0].cutoff;
    engine.close().unwrap();
    disk.settle();
    let later = clock();
    later.advance(Duration::from_hours(10 * 24));
    let off = Options { retention: false, ..options() };
    let engine = open_at(&disk, &off, &later);
    assert_eq!(engine.retain().unwrap().segments, 0);
    engine.compact().unwrap();
    assert_eq!(engine.storage().points, 2 * 144, "neither the seal nor the merge left anything out");
    assert_eq!(engine.retentions()[0].cutoff, cutoff);
}

#[test]
fn a_first_start_at_a_wrong_time_hides_and_drops_nothing_for_good() {
    let disk = SimDisk::new(10);
    let clock = Arc::new(ManualClock::new(Timestamp(NOW + 400 * DAY)));
    let engine = open_at(&disk, &options(), &clock);
    write(&engine, "power", NOW - DAY..NOW);
    set(&engine, None, keep(30));
    assert_eq!(count(&engine, "power"), 0, "hidden, for the clock is believed until it says otherwise");
    engine.compact().unwrap();
    engine.close().unwrap();
    clock.set_wall(Timestamp(NOW));
    let engine = open_at(&disk, &options(), &clock);
    check(&engine, "power", NOW - DAY);
    assert_eq!(set(&engine, None, keep(30)), Some(NOW - 30 * DAY));
    // A day of steady running proves the clock; then it is acted on.
    write(&engine, "power", NOW - 30 * DAY..NOW - 29 * DAY);
    engine.seal().unwrap();
    for _ in 0..24 {
        assert_eq!(engine.metrics().retention_segments, 0);
        clock.advance(Duration::from_secs(3600));
        engine.retain().unwrap();
    }
    assert!(engine.retention_clock().unwrap().proven);
    assert!(engine.metrics().retention_segments > 0);
}

#[test]
fn a_disk_that_refuses_the_edit_leaves_all_as_it_was() {
    let disk = SimDisk::new(11);
    let engine = open(&disk, &options());
    engine.confirm_clock().unwrap();
    write(&engine, "power", NOW - 8 * DAY..NOW);
    engine.seal().unwrap();
    disk.inject(Fault::at(1, FaultError::NoSpace, Lasting::ForGood).on(CallKind::Write));
    assert!(matches!(engine.set_retention("home", None, None, keep(5)), Err(WriteError::DiskFull(_))));
    check(&engine, "power", NOW - 8 * DAY);
    disk.clear_faults();
    // The rule is synced, the drop that follows it is not, whoever asks for it first.
    disk.inject(Fault::at(2, FaultError::Eio, Lasting::ForGood).on(CallKind::SyncData));
    set(&engine, None, keep(5));
    check(&engine, "power", NOW - 5 * DAY);
    assert!(engine.retain().is_err());
    check(&engine, "power", NOW - 5 * DAY);
    disk.clear_faults();
    engine.retain().unwrap();
    assert_eq!(engine.metrics().retention_segments, 3);
    check(&engine, "power", NOW - 5 * DAY);
}

#[test]
fn rules_are_bounded_in_number() {
    let disk = SimDisk::new(12);
    let engine = open(&disk, &options());
    engine.create_database("home").unwrap();
    for index in 0..4096 {
        set(&engine, Some(&format!("m{index}")), Rule::Forever);
    }
    let error = engine.set_retention("home", None, Some("one more"), keep(1)).unwrap_err();
    assert!(matches!(error, WriteError::TooManyRetentions { limit: 4096 }), "{error}");
    assert!(!engine.measurements("home").unwrap().contains(&"one more".to_owned()), "no name is left behind");
    set(&engine, Some("m7"), keep(1));
}

#[test]
fn a_rule_that_keeps_nothing_is_refused_and_leaves_the_manifest_whole() {
    let disk = SimDisk::new(13);
    let engine = open(&disk, &options());
    engine.create_database("home").unwrap();
    let error = engine.set_retention("home", None, None, Rule::Keep { ns: 0 }).unwrap_err();
    assert!(matches!(error, WriteError::RetentionTooShort { .. }), "{error}");
    engine.close().unwrap();
    let engine = open(&disk, &Options { min_retention: Options::MIN_RETENTION, ..options() });
    let short = Rule::Keep { ns: keep_ns(2) - 1 };
    let error = engine.set_retention("home", None, None, short).unwrap_err();
    assert_eq!(error.to_string(), "a retention keeps 172800 s at least: to remove everything, delete it");
    engine.close().unwrap();
    let engine = open(&disk, &options());
    assert!(engine.recovery_report().damage.is_empty() && engine.retentions().is_empty());
    engine.close().unwrap();
}

#[test]
fn a_start_with_a_wrong_clock_drops_nothing_younger_than_a_day() {
    let disk = SimDisk::new(14);
    let clock = clock();
    let options = Options { min_retention: Options::MIN_RETENTION, ..options() };
    let engine = open_at(&disk, &options, &clock);
    engine.confirm_clock().unwrap();
    write(&engine, "power", NOW - DAY..NOW);
    engine.seal().unwrap();
    set(&engine, None, keep(2));
    engine.close().unwrap();
    clock.set_wall(Timestamp(NOW + DAY));
    let engine = open_at(&disk, &options, &clock);
    engine.retain().unwrap();
    engine.close().unwrap();
    clock.set_wall(Timestamp(NOW));
    check(&open_at(&disk, &options, &clock), "power", NOW - DAY);
}

#[test]
fn a_clock_that_made_a_step_is_not_proven_by_a_restart() {
    let disk = SimDisk::new(15);
    let clock = clock();
    let engine = open_at(&disk, &options(), &clock);
    write(&engine, "power", NOW - DAY..NOW);
    set(&engine, None, keep(30));
    for _ in 0..20 {
        clock.advance(Duration::from_secs(3600));
        engine.retain().unwrap();
    }
    // Twenty hours count, until the clock is set by a few seconds.
    clock.set_wall(Timestamp(NOW + 20 * HOUR + 10 * SECOND));
    engine.retain().unwrap();
    let cut = disk.cut(Cut { seed: 1, survives: Survives::Nothing });
    drop(engine);
    let engine = open_at(&cut, &options(), &clock);
    for _ in 0..5 {
        clock.advance(Duration::from_secs(3600));
        engine.retain().unwrap();
    }
    assert!(!engine.retention_clock().unwrap().proven);
}
