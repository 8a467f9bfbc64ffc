//! The disk-space guard: writes end before the room does, all else goes on, and writes come back by themselves.
//!
//! On the simulated disk, and on a real file system of 24 MiB where one may be mounted (as root; else that test says that it
//! was skipped).

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_engine::io::Disk;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::io::sim::{CallKind, Fault, FaultError, Lasting, SimDisk, SyncName};
use wattlog_engine::query::{Function, QueryControl, QueryRequest, ResultValues, Shape};
use wattlog_engine::{DeleteRequest, Engine, Options, Rule, WriteBatch, WriteError};
use wattlog_model::{Clock, ManualClock, TagSet, Timestamp};

const NOW: i64 = 1_775_001_600_000_000_000;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn open(disk: Arc<dyn Disk>, options: &Options, clock: &Arc<ManualClock>) -> Engine {
    Engine::open(disk, options.clone(), clock.clone(), [7; 16]).unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp(NOW)))
}

/// `rows` that no codec makes small, `number` seconds of history ago.
fn body(number: i64, rows: i64) -> WriteBatch {
    let mut batch = WriteBatch::new("home", None);
    let slot = batch.series("power", &TagSet::default());
    for row in 0..rows {
        let time = NOW - 20 * Timestamp::DAY_NS + 1_000_000_000 * number + 1_000_000 * row;
        let bits = (number * 1000 + row).unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        batch.row(slot, Timestamp(time), row as u32).float("watts", f64::from_bits(bits >> 2));
    }
    batch
}

fn count(engine: &Engine) -> i64 {
    let mut request = QueryRequest::raw("home", "power", Timestamp::MIN, Timestamp(i64::MAX));
    request.shape = Shape::aggregate(vec![Function::Count], None);
    let result = engine.query(&request, &QueryControl::default()).unwrap();
    assert!(!result.is_partial());
    match result.series.first().map(|series| &series.columns[1].values) {
        Some(ResultValues::Integer(counts)) => counts[0].unwrap_or(0),
        _ => 0,
    }
}

fn everything() -> DeleteRequest {
    DeleteRequest {
        database: "home".to_owned(),
        retention_policy: None,
        measurement: Some("power".to_owned()),
        fields: None,
        tags: Vec::new(),
        start: Timestamp::MIN,
        end: Timestamp(i64::MAX),
    }
}

fn delete_all(engine: &Engine) {
    engine.delete(&everything()).unwrap();
}

#[test]
fn writes_end_at_the_reserve_and_seals_deletes_and_retention_go_on() {
    let (disk, clock) = (SimDisk::new(1), clock());
    let options = Options {
        ballast_bytes: 0,
        disk_reserve_bytes: Some(256 * KIB),
        disk_warning_bytes: Some(512 * KIB),
        ..Options::default()
    };
    let engine = open(Arc::new(disk.clone()), &options, &clock);
    disk.set_capacity_bytes(Some(2 * MIB));
    let mut stored = 0;
    let error = loop {
        match engine.write(body(stored, 1000)) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "nothing ends the writes");
    };
    assert!(matches!(error, WriteError::DiskFull(_)), "{error}");
    assert!(error.to_string().contains("are kept back for what must go on"), "{error}");
    assert_eq!((engine.space().full, engine.metrics().disk_full), (true, 1));
    assert!(matches!(engine.create_database("more"), Err(WriteError::DiskFull(_))));

    // All that frees room, or only reads, works.
    assert_eq!(count(&engine), 1000 * stored);
    engine.confirm_clock().unwrap();
    engine.seal().unwrap();
    assert_eq!((count(&engine), engine.metrics().seal_failures), (1000 * stored, 0));
    let available = disk.available_bytes().unwrap();
    assert!((240 * KIB..400 * KIB).contains(&available), "{available} bytes are left when all is sealed");
    assert!(matches!(engine.write(body(stored, 1)), Err(WriteError::DiskFull(_))) || available >= 320 * KIB);
    let health = engine.health();
    assert!(health.alarms.len() == 1, "{health:?}");
    delete_all(&engine);
    assert_eq!(count(&engine), 0);
    engine
        .set_retention("home", None, None, Rule::Keep { ns: 2 * Timestamp::DAY_NS.unsigned_abs() })
        .unwrap();
    engine.retain().unwrap();
    // By that pass, or by the one that comes each second by itself.
    assert!(engine.metrics().retention_segments > 0);
    assert_eq!(engine.storage().points, 0);

    // The file is gone: there is room, and nobody has to say so.
    let mut batch = WriteBatch::new("home", None);
    let slot = batch.series("power", &TagSet::default());
    batch.row(slot, Timestamp(NOW), 1).float("watts", 1.0);
    engine.write(batch).unwrap();
    assert!(engine.health().writable);
    assert_eq!(count(&engine), 1);
    engine.close().unwrap();
    let engine = open(Arc::new(disk.clone()), &options, &clock);
    assert!(engine.recovery_report().damage.is_empty());
    assert_eq!(count(&engine), 1);
}

#[test]
fn a_log_that_cannot_be_written_leaves_nothing_counted_behind() {
    let (disk, clock) = (SimDisk::new(4), clock());
    let options = Options { ballast_bytes: 0, disk_reserve_bytes: Some(256 * KIB), ..Options::default() };
    let engine = open(Arc::new(disk.clone()), &options, &clock);
    engine.write(body(0, 1)).unwrap();
    engine.seal().unwrap();
    // The old log is retired behind the seal's answer, with a record of its own in a new one: what is used stands still then.
    let deadline = Instant::now() + Duration::from_mins(1);
    while !disk.paths().iter().any(|(path, _)| path.contains("spare")) {
        assert!(Instant::now() < deadline, "{:?}", disk.paths());
        std::thread::sleep(Duration::from_millis(1));
    }
    // Fits twice, not once more beside what was never written.
    disk.set_capacity_bytes(Some(disk.used_bytes() + 2 * MIB));
    let mut stored = 1;
    for number in 1..40 {
        clock.advance(Duration::from_secs(2));
        // A failed write ends its log. Now and then there is one to fail in; else the next one cannot begin.
        if number % 8 == 1 {
            engine.write(body(1000 + number, 1)).unwrap();
            stored += 1;
        }
        // For as long as the body is on its way: the writer's own look whether a log can begin again may be the first to write.
        let fault = Fault::at(1, FaultError::Eio, Lasting::ForGood).on(CallKind::Write);
        disk.inject(fault.within(SyncName::WalFile));
        let answer = engine.write(body(number, 20_000));
        assert!(matches!(answer, Err(WriteError::Disk(_))), "{number}: {answer:?}");
        disk.clear_faults();
    }
    clock.advance(Duration::from_secs(2));
    engine.write(body(50, 1)).unwrap();
    assert_eq!(count(&engine), stored + 1);
    engine.close().unwrap();
}

#[test]
fn bodies_with_new_names_are_held_against_the_room_before_they_are_taken() {
    let (disk, clock) = (SimDisk::new(5), clock());
    let options = Options { ballast_bytes: 0, disk_reserve_bytes: Some(MIB), ..Options::default() };
    let engine = open(Arc::new(disk.clone()), &options, &clock);
    engine.create_database("home").unwrap();
    disk.set_capacity_bytes(Some(disk.used_bytes() + MIB + 512 * KIB));
    clock.advance(Duration::from_secs(2));
    assert!(matches!(engine.write(body(1, 200_000)), Err(WriteError::DiskFull(_))));
    assert!(engine.measurements("home").unwrap().is_empty());
    engine.write(body(2, 100)).unwrap();
    assert_eq!(count(&engine), 100);
}

#[test]
fn long_bodies_that_do_not_fit_seal_once_a_minute() {
    let (disk, clock) = (SimDisk::new(6), clock());
    let options = Options { ballast_bytes: 0, disk_reserve_bytes: Some(MIB), ..Options::default() };
    let engine = open(Arc::new(disk.clone()), &options, &clock);
    engine.write(body(0, 1)).unwrap();
    disk.set_capacity_bytes(Some(disk.used_bytes() + MIB + 512 * KIB));
    for number in 1..20 {
        clock.advance(Duration::from_secs(2));
        assert!(matches!(engine.write(body(1000, 200_000)), Err(WriteError::DiskFull(_))));
        engine.write(body(number, 1)).unwrap();
    }
    assert!(engine.metrics().seals <= 1, "{} seals", engine.metrics().seals);
    assert_eq!(count(&engine), 20);
}

#[test]
fn deletes_are_applied_and_old_files_go_within_the_reserve_and_without_any_room() {
    let (disk, clock) = (SimDisk::new(7), clock());
    let options =
        Options { ballast_bytes: 64 * KIB, disk_reserve_bytes: Some(64 * MIB), ..Options::default() };
    let engine = open(Arc::new(disk.clone()), &options, &clock);
    engine.confirm_clock().unwrap();
    for number in 0..20 {
        engine.write(body(1000 * number, 1000)).unwrap();
    }
    engine.seal().unwrap();
    let half = DeleteRequest {
        start: Timestamp(NOW - 20 * Timestamp::DAY_NS),
        end: Timestamp(NOW - 20 * Timestamp::DAY_NS + 9_900 * 1_000_000_000),
        ..everything()
    };
    engine.delete(&half).unwrap();
    // Far below the reserve: enough for the half that stays.
    let stored = engine.storage().data_bytes;
    disk.set_capacity_bytes(Some(disk.used_bytes() + 33 * MIB));
    clock.advance(Duration::from_secs(2));
    assert!(matches!(engine.write(body(1, 1)), Err(WriteError::DiskFull(_))));
    engine.compact().unwrap();
    assert_eq!((engine.storage().points, count(&engine)), (10_000, 10_000));
    assert!(engine.storage().data_bytes < stored * 3 / 4);
    // And of what is left nothing needs to be written; the manifest gets the room of the ballast.
    engine
        .set_retention("home", None, None, Rule::Keep { ns: 3 * Timestamp::DAY_NS.unsigned_abs() })
        .unwrap();
    disk.set_capacity_bytes(Some(disk.used_bytes()));
    engine.retain().unwrap();
    // By that pass, or by the one that comes each second by itself.
    assert!(engine.metrics().retention_segments > 0);
    assert_eq!((engine.storage().points, engine.metrics().ballast_released), (0, 1));
    assert!(disk.paths().iter().any(|(path, _)| path == "ballast"), "laid again");
    engine.close().unwrap();
}

#[test]
fn an_idle_store_tells_that_somebody_else_fills_the_disk_and_that_there_is_room_again() {
    let (disk, clock) = (SimDisk::new(2), clock());
    let options = Options { ballast_bytes: 0, disk_reserve_bytes: Some(MIB), ..Options::default() };
    let engine = open(Arc::new(disk.clone()), &options, &clock);
    engine.write(body(0, 10)).unwrap();
    let becomes = |writable: bool| {
        let begun = Instant::now();
        while engine.health().writable != writable {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", engine.health());
            clock.advance(Duration::from_millis(500));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    becomes(true);
    disk.set_capacity_bytes(Some(disk.used_bytes() + MIB - 1));
    becomes(false);
    // As much as the reserve is not enough to go back.
    disk.set_capacity_bytes(Some(disk.used_bytes() + MIB + 1));
    clock.advance(Duration::from_secs(5));
    assert!(matches!(engine.write(body(1, 1)), Err(WriteError::DiskFull(_))));
    disk.set_capacity_bytes(Some(disk.used_bytes() + 2 * MIB));
    becomes(true);
    engine.write(body(1, 10)).unwrap();
    assert_eq!(count(&engine), 20);
}

#[test]
fn a_body_that_would_reach_into_the_reserve_is_refused_and_a_smaller_one_is_not() {
    let disk = SimDisk::new(3);
    let options = Options { ballast_bytes: 0, disk_reserve_bytes: Some(MIB), ..Options::default() };
    let clock = clock();
    let engine = open(Arc::new(disk.clone()), &options, &clock);
    engine.write(body(0, 1)).unwrap();
    disk.set_capacity_bytes(Some(disk.used_bytes() + MIB + 512 * KIB));
    // The disk is asked once a second.
    clock.advance(Duration::from_secs(2));
    assert!(matches!(engine.write(body(1, 200_000)), Err(WriteError::DiskFull(_))));
    engine.write(body(2, 100)).unwrap();
    assert_eq!(count(&engine), 101);
}

/// A file system of its own, gone with this value.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(mib: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => {
                println!(
                    "skipped: no tmpfs may be mounted: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                None
            }
            Err(error) => {
                println!("skipped: no tmpfs may be mounted: {error}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg(self.0.path()).status();
        assert!(gone.is_ok_and(|status| status.success()), "{} stays mounted", self.0.path().display());
    }
}

/// Wall and monotonic time of this machine, which the engine itself never asks.
#[derive(Debug)]
struct Running(Instant);

impl Clock for Running {
    fn wall(&self) -> Timestamp {
        Timestamp(NOW + self.monotonic().as_nanos() as i64)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

#[test]
fn a_small_real_disk_fills_up_and_is_used_again_without_a_restart() {
    let Some(mounted) = Mounted::new(24) else { return };
    let store = mounted.0.path().join("store");
    let disk = OsDisk::new(&store).unwrap();
    let options = Options {
        ballast_bytes: MIB,
        memtable_bytes: 4 * MIB,
        wal_bytes: MIB,
        disk_reserve_bytes: Some(6 * MIB),
        ..Options::default()
    };
    let engine = Engine::open(Arc::new(disk), options, Arc::new(Running(Instant::now())), [7; 16]).unwrap();
    let mut stored = 0;
    let begun = Instant::now();
    loop {
        match engine.write(body(stored, 1000)) {
            Ok(_) => stored += 1,
            Err(WriteError::DiskFull(reason)) => {
                println!("full after {stored} bodies: {reason}");
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "24 MiB are not full after {stored} bodies");
    }
    assert!(stored > 100, "only {stored} bodies");
    assert!(!engine.health().writable);
    assert_eq!(count(&engine), 1000 * stored);
    engine.seal().unwrap();
    assert_eq!((engine.metrics().seal_failures, engine.metrics().ballast_released), (0, 0));
    assert_eq!(count(&engine), 1000 * stored);
    engine.confirm_clock().unwrap();
    engine
        .set_retention("home", None, None, Rule::Keep { ns: 2 * Timestamp::DAY_NS.unsigned_abs() })
        .unwrap();
    engine.retain().unwrap();
    // By that pass, or by the one that comes each second by itself.
    assert!(engine.metrics().retention_segments > 0);
    let begun = Instant::now();
    let recent = || {
        let mut batch = WriteBatch::new("home", None);
        let slot = batch.series("power", &TagSet::default());
        batch.row(slot, Timestamp(NOW), 1).float("watts", 1.0);
        batch
    };
    while let Err(error) = engine.write(recent()) {
        assert!(
            matches!(error, WriteError::DiskFull(_)) && begun.elapsed() < Duration::from_secs(20),
            "{error}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(count(&engine), 1);
    engine.close().unwrap();
}
