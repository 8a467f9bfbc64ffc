//! Damaged catalog files: no name and no meaning is lost while anything on the disk still tells it, and nothing is given
//! up because the process lacks file descriptors or a device does not answer for a while.

#[macro_use]
#[path = "support/read_modes.rs"]
mod read_modes;

use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{CallKind, Fault, FaultError, Lasting, SimDisk, SyncName};
use wattlog_engine::query::{QueryControl, QueryRequest, ResultValues, TagFilter, TagPredicate};
use wattlog_engine::{Engine, OpenError, Options, WriteBatch};
use wattlog_model::{FieldKind, FieldMeaning, ManualClock, TagSet, Timestamp, Unit};

const T0: i64 = 1_780_272_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

on_both_read_modes! {
    a_series_with_rows_in_memory_alone_keeps_its_name,
    what_fields_mean_is_not_reverted_by_healing,
    what_fields_mean_is_taken_from_the_newest_that_tells_it,
    a_log_that_was_not_retired_does_not_revert_what_fields_mean,
    nothing_is_given_up_while_a_segment_cannot_be_read,
    a_lack_of_descriptors_is_told_and_heals_nothing,
    a_segment_that_cannot_be_read_when_the_manifest_is_rebuilt_is_set_aside,
    a_file_of_a_newer_version_is_refused_and_left_alone,
    points_whose_definition_is_lost_cost_themselves_alone,
}

struct Store {
    disk: SimDisk,
    read_mode: ReadMode,
    clock: Arc<ManualClock>,
}

impl Store {
    fn new(seed: u64, read_mode: ReadMode) -> Self {
        Self { disk: SimDisk::new(seed), read_mode, clock: Arc::new(ManualClock::new(Timestamp(T0))) }
    }

    fn try_open(&self) -> Result<Engine, OpenError> {
        let options = Options { read_mode: self.read_mode, ballast_bytes: 0, ..Options::default() };
        Engine::open(Arc::new(self.disk.clone()), options, self.clock.clone(), [7; 16])
    }

    fn open(&self) -> Engine {
        self.try_open().expect("a store always opens")
    }

    fn files(&self, prefix: &str) -> Vec<String> {
        self.disk.paths().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(prefix)).collect()
    }

    fn holds(&self, path: &str, text: &str) -> bool {
        self.disk.read_file(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Turns a bit of the first place where `text` stands in a file.
    fn damage(&self, path: &str, text: &str) {
        let bytes = self.disk.read_file(path).unwrap();
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
        self.disk.flip_bit(path, at.unwrap_or_else(|| panic!("{text} stands in {path}")) as u64, 0);
    }

    /// Waits until `wanted`, while time goes by for the store.
    fn until(&self, what: &str, mut wanted: impl FnMut() -> bool) {
        let came = (0..800).any(|_| {
            self.clock.advance(Duration::from_secs(2));
            wanted() || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
        });
        assert!(came, "{what}");
    }

    /// Seals, and waits until the logs that are not needed any more are out of use.
    fn seal(&self, engine: &Engine) {
        engine.seal().unwrap();
        self.until("sealed logs are retired", || self.files("wal/wal-").len() == 1);
    }
}

fn write(engine: &Engine, device: &str, second: i64, value: f64) {
    write_to(engine, "home", device, second, value);
}

fn write_to(engine: &Engine, database: &str, device: &str, second: i64, value: f64) {
    let mut batch = WriteBatch::new(database, None);
    let slot = batch.series("energy_data", &TagSet::new([("device_id", device)]).unwrap());
    batch.row(slot, Timestamp(T0 + second * SECOND), 0).float("pv_power", value);
    assert_eq!(engine.write(batch).unwrap().points, 1);
}

/// Values of a device, found by its tag; none if the answer is not whole.
fn values(engine: &Engine, device: &str) -> Option<Vec<f64>> {
    let mut request = QueryRequest::raw("home", "energy_data", Timestamp::MIN, Timestamp::MAX);
    let predicate = TagPredicate::In(vec![device.to_owned()]);
    request.tags = vec![TagFilter { key: "device_id".to_owned(), predicate }];
    let result =
        engine.query(&request, &QueryControl::default()).ok().filter(|result| !result.is_partial())?;
    let [series] = &result.series[..] else { return Some(Vec::new()) };
    assert_eq!(series.tags.as_slice(), [("device_id".to_owned(), device.to_owned())]);
    match &series.column("pv_power").unwrap().values {
        ResultValues::Float(values) => Some(values.iter().copied().flatten().collect()),
        other => panic!("{other:?}"),
    }
}

fn describe(engine: &Engine, unit: Option<&str>, kind: FieldKind) {
    let unit = unit.map(|unit| Unit::new(unit).unwrap());
    let meaning = FieldMeaning { field: "pv_power".to_owned(), unit, kind };
    assert_eq!(engine.describe_fields("home", "energy_data", &[meaning]).unwrap(), Vec::<String>::new());
}

fn meaning(engine: &Engine) -> (Option<String>, FieldKind) {
    let fields = engine.measurement("home", "energy_data").unwrap().unwrap().fields;
    (fields[0].unit.as_ref().map(ToString::to_string), fields[0].kind)
}

fn told(unit: &str, kind: FieldKind) -> (Option<String>, FieldKind) {
    (Some(unit.to_owned()), kind)
}

/// What the user saw: a device that was new while a seal ran had its name in the new catalog file and its points in memory
/// alone; that file turned out damaged, and from then on no seal worked, also after a restart.
fn a_series_with_rows_in_memory_alone_keeps_its_name(read_mode: ReadMode) {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Found {
        InThisOpening,
        AfterReplay,
        AtOpening,
    }
    for found in [Found::InThisOpening, Found::AfterReplay, Found::AtOpening] {
        let store = Store::new(1, read_mode);
        let mut engine = store.open();
        write(&engine, "sealed", 0, 1.0);
        let stuck = Fault::at(1, FaultError::Eio, Lasting::ForGood).on(CallKind::Rename);
        store.disk.inject(stuck.within(SyncName::SegmentFile));
        engine.seal().unwrap_err();
        write(&engine, "in-memory", 0, 2.0);
        store.disk.clear_faults();
        store.until("the seal is tried again", || engine.metrics().seals == 1);
        let (catalogs, segments) = (store.files("catalog/"), store.files("segments/"));
        assert_eq!((catalogs.len(), segments.len()), (1, 1));
        assert!(store.holds(&catalogs[0], "in-memory") && !store.holds(&segments[0], "in-memory"));

        // Bytes of its series block; or of its names block, without which the file is not opened at all.
        store.damage(&catalogs[0], if found == Found::AtOpening { "pv_power" } else { "in-memory" });
        if found != Found::InThisOpening {
            drop(engine);
            engine = store.open();
        }
        let whole = |engine: &Engine| {
            values(engine, "sealed") == Some(vec![1.0]) && values(engine, "in-memory") == Some(vec![2.0])
        };
        store.until(&format!("{found:?}: healed"), || whole(&engine));
        engine.seal().unwrap();
        assert!(whole(&engine), "{found:?}: sealed");
        assert_eq!(engine.storage().series, 2, "{found:?}: no series got a second id");
        assert!(engine.health().damage.iter().any(|damage| damage.file == catalogs[0]), "{found:?}");
        drop(engine);
        let engine = store.open();
        assert!(engine.recovery_report().damage.is_empty(), "{found:?}: {:?}", engine.recovery_report());
        assert!(whole(&engine), "{found:?}: opened again");
        assert_eq!(store.files("catalog/").iter().filter(|file| **file == catalogs[0]).count(), 0);
    }
}

fn what_fields_mean_is_not_reverted_by_healing(read_mode: ReadMode) {
    let store = Store::new(2, read_mode);
    let engine = store.open();
    write(&engine, "a", 0, 1.0);
    describe(&engine, Some("W"), FieldKind::Linear);
    store.seal(&engine);
    describe(&engine, Some("kWh"), FieldKind::Counter);
    let catalog = store.files("catalog/").remove(0);
    store.damage(&catalog, "device_id");
    store.until("healed", || values(&engine, "a").is_some());
    assert_eq!(meaning(&engine), told("kWh", FieldKind::Counter));
    write(&engine, "a", 1, 2.0);
    store.seal(&engine);
    assert_eq!(meaning(&engine), told("kWh", FieldKind::Counter), "sealed");
    write(&engine, "a", 2, 3.0);
    store.seal(&engine);
    drop(engine);
    let engine = store.open();
    assert_eq!(meaning(&engine), told("kWh", FieldKind::Counter), "opened again");
    assert_eq!(values(&engine, "a"), Some(vec![1.0, 2.0, 3.0]));
    assert!(!store.files("catalog/").contains(&catalog));
}

/// The catalog files of two seals, of which one or both are lost; the segments tell what was meant when they were written.
fn what_fields_mean_is_taken_from_the_newest_that_tells_it(read_mode: ReadMode) {
    let newer = [(Some("kWh"), FieldKind::Counter), (None, FieldKind::Linear)];
    for (unit, kind) in newer {
        for lost in [&[1][..], &[0], &[0, 1]] {
            let store = Store::new(3, read_mode);
            let engine = store.open();
            write(&engine, "a", 0, 1.0);
            describe(&engine, Some("W"), FieldKind::Step);
            store.seal(&engine);
            describe(&engine, unit, kind);
            write(&engine, "a", 1, 1.0);
            store.seal(&engine);
            drop(engine);
            let catalogs = store.files("catalog/");
            assert_eq!(catalogs.len(), 2);
            // The block of names begins behind the header.
            lost.iter().for_each(|index| store.disk.flip_bit(&catalogs[*index], 66, 0));
            let wanted = (unit.map(str::to_owned), kind);
            let engine = store.open();
            assert_eq!(engine.recovery_report().damage.len(), lost.len(), "{:?}", engine.recovery_report());
            assert_eq!(meaning(&engine), wanted, "{lost:?} lost");
            write(&engine, "a", 2, 1.0);
            store.seal(&engine);
            drop(engine);
            let engine = store.open();
            assert!(engine.recovery_report().damage.is_empty(), "{:?}", engine.recovery_report());
            assert_eq!(meaning(&engine), wanted, "{lost:?} lost, sealed and opened again");
        }
    }
}

/// Retiring a log may fail for that log alone. What it says of meanings is in a catalog file, as is what was told later.
fn a_log_that_was_not_retired_does_not_revert_what_fields_mean(read_mode: ReadMode) {
    let store = Store::new(4, read_mode);
    let engine = store.open();
    write(&engine, "a", 0, 1.0);
    describe(&engine, Some("W"), FieldKind::Step);
    let log = store.files("wal/wal-").remove(0);
    let bytes = store.disk.read_file(&log).unwrap();
    store.seal(&engine);
    describe(&engine, Some("kWh"), FieldKind::Counter);
    write(&engine, "a", 1, 1.0);
    store.seal(&engine);
    drop(engine);
    assert!(!store.files("wal/").contains(&log));
    store.disk.write_file(&log, bytes);
    let engine = store.open();
    assert_eq!(meaning(&engine), told("kWh", FieldKind::Counter));
    assert_eq!(values(&engine, "a"), Some(vec![1.0, 1.0]));
}

fn nothing_is_given_up_while_a_segment_cannot_be_read(read_mode: ReadMode) {
    let store = Store::new(5, read_mode);
    let engine = store.open();
    for (second, device) in (0..).zip(["a", "b"]) {
        write(&engine, device, second, 1.0);
        store.seal(&engine);
    }
    drop(engine);
    let catalog = store.files("catalog/").remove(0);
    store.disk.flip_bit(&catalog, 66, 0);
    let bytes = store.disk.read_file(&catalog).unwrap();
    let cannot_be_read = Fault::at(1, FaultError::Eio, Lasting::ForGood).on(CallKind::Open);
    store.disk.inject(cannot_be_read.within(SyncName::SegmentFile));
    for second in 2..4 {
        let engine = store.open();
        let damage = &engine.recovery_report().damage;
        assert!(damage.iter().any(|damage| damage.file == catalog), "{damage:?}");
        assert!(damage.iter().any(|damage| damage.file.starts_with("segments/")), "{damage:?}");
        write_to(&engine, "elsewhere", "c", second, 1.0);
        store.seal(&engine);
        drop(engine);
        assert_eq!(
            store.disk.read_file(&catalog).as_ref(),
            Some(&bytes),
            "it is not replaced by a poorer one"
        );
    }
    store.disk.clear_faults();
    let whole = |engine: &Engine| {
        assert_eq!(engine.storage().series, 3);
        let all = ["a", "b"].map(|device| values(engine, device));
        assert_eq!(all, [Some(vec![1.0]), Some(vec![1.0])]);
        assert_eq!(engine.databases().len(), 2);
    };
    let engine = store.open();
    whole(&engine);
    write(&engine, "b", 9, 1.0);
    store.seal(&engine);
    drop(engine);
    let engine = store.open();
    assert!(engine.recovery_report().damage.is_empty(), "{:?}", engine.recovery_report());
    assert_eq!(values(&engine, "a"), Some(vec![1.0]), "its name is in the file that took the place");
    assert!(store.disk.read_file(&catalog).is_none());
}

/// What the user would have seen: a service that was started with too few file descriptors took its catalog files for
/// damaged, and a store whose manifest was damaged removed the segments that it could not open.
fn a_lack_of_descriptors_is_told_and_heals_nothing(read_mode: ReadMode) {
    for (within, manifest_lost) in
        [(SyncName::CatalogFile, false), (SyncName::CatalogFile, true), (SyncName::SegmentFile, true)]
    {
        let store = Store::new(6, read_mode);
        let engine = store.open();
        engine.create_database("empty").unwrap();
        for (second, device) in (0..).zip(["a", "b"]) {
            write(&engine, device, second, 1.0);
            store.seal(&engine);
        }
        drop(engine);
        if manifest_lost {
            store.files("manifest/").iter().for_each(|file| store.disk.remove_file(file));
        }
        let sealed = [store.files("catalog/"), store.files("segments/")];
        for nth in [1, 2] {
            let refused = Fault::at(nth, FaultError::NoDescriptors, Lasting::ForGood);
            store.disk.inject(refused.on(CallKind::Open).within(within));
            let error = store.try_open().expect_err("what it lacks is told");
            let cause = std::error::Error::source(&error).expect("the system's word").to_string();
            assert!(
                matches!(error, OpenError::Disk { .. }) && cause.contains("open files"),
                "{error}: {cause}"
            );
            store.disk.clear_faults();
        }
        for _ in 0..2 {
            let engine = store.open();
            assert!(engine.recovery_report().damage.iter().all(|damage| damage.file == "manifest"));
            assert_eq!(["a", "b"].map(|device| values(&engine, device)), [Some(vec![1.0]), Some(vec![1.0])]);
            assert_eq!(engine.databases().len(), 2, "a name that no segment tells");
            assert_eq!([store.files("catalog/"), store.files("segments/")], sealed);
        }
    }
}

fn a_segment_that_cannot_be_read_when_the_manifest_is_rebuilt_is_set_aside(read_mode: ReadMode) {
    let store = Store::new(7, read_mode);
    let engine = store.open();
    for (second, device) in (0..).zip(["a", "b"]) {
        write(&engine, device, second, 1.0);
        store.seal(&engine);
    }
    drop(engine);
    store.files("manifest/").iter().for_each(|file| store.disk.remove_file(file));
    let segment = store.files("segments/").remove(0);
    let bytes = store.disk.read_file(&segment).unwrap();
    store.disk.flip_bit(&segment, bytes.len() as u64 - 1, 0);
    let damaged = store.disk.read_file(&segment).unwrap();
    for _ in 0..3 {
        let engine = store.open();
        assert_eq!(values(&engine, "b"), Some(vec![1.0]));
        let kept: Vec<_> = store
            .disk
            .paths()
            .into_iter()
            .filter(|(path, _)| store.disk.read_file(path).as_ref() == Some(&damaged))
            .collect();
        assert_eq!(kept.len(), 1, "most of it can still be read by a person: {kept:?}");
    }
}

/// What the user would have seen: an older program took the catalog file of a newer one for damaged, and put a poorer one in
/// its place; with the manifest damaged as well it moved the segments of the newer one aside.
fn a_file_of_a_newer_version_is_refused_and_left_alone(read_mode: ReadMode) {
    for (folder, manifest_lost) in [("catalog/", false), ("catalog/", true), ("segments/", true)] {
        let store = Store::new(8, read_mode);
        let engine = store.open();
        write(&engine, "a", 0, 1.0);
        store.seal(&engine);
        drop(engine);
        if manifest_lost {
            store.files("manifest/").iter().for_each(|file| store.disk.remove_file(file));
        }
        let file = store.files(folder).remove(0);
        let mut bytes = store.disk.read_file(&file).unwrap();
        // `oldest_reader`, and the checksums over it (format-spec.md sections 3 and 5.2).
        bytes[10..12].copy_from_slice(&2_u16.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]).to_le_bytes();
        bytes[60..64].copy_from_slice(&crc);
        store.disk.write_file(&file, bytes.clone());
        for _ in 0..2 {
            let error = store.try_open().expect_err("only the newer version can read it");
            let told = error.to_string();
            assert!(matches!(error, OpenError::TooNew { found: 2, supported: 1, .. }), "{told}");
            assert!(told.contains(&file), "{told}");
            assert_eq!(store.disk.read_file(&file).as_ref(), Some(&bytes), "{file} is left alone");
        }
    }
}

fn points_whose_definition_is_lost_cost_themselves_alone(read_mode: ReadMode) {
    // The record with the first series also defines database, measurement and field.
    for (text, is_lost) in [("device-a", [true, true]), ("device-b", [false, true])] {
        let store = Store::new(1, read_mode);
        let engine = store.open();
        write(&engine, "device-a", 0, 1.0);
        write(&engine, "device-b", 0, 2.0);
        write(&engine, "device-a", 1, 3.0);
        write_to(&engine, "other", "device-c", 0, 4.0);
        drop(engine);
        let log = store.files("wal/wal-").pop().unwrap();
        // The first place where it stands is the definition: points name their series and fields by numbers.
        store.damage(&log, text);
        let engine = store.open();
        let report = engine.recovery_report();
        assert!(!report.damage.is_empty(), "{report:?}");
        assert!(report.alarms.iter().any(|alarm| alarm.contains("lie in quarantine/")), "{report:?}");
        assert!(!store.files("quarantine/").is_empty());
        let (of_a, of_b) = (values(&engine, "device-a"), values(&engine, "device-b"));
        assert_eq!(of_a, Some(if is_lost[0] { vec![] } else { vec![1.0, 3.0] }), "{text}");
        assert_eq!(of_b, Some(if is_lost[1] { vec![] } else { vec![2.0] }), "{text}");
        // A new name gets no id that points in the old log have, which is read again by the next opening.
        write(&engine, "device-d", 3, 7.0);
        drop(engine);
        let engine = store.open();
        assert_eq!(values(&engine, "device-d"), Some(vec![7.0]), "{text}");
        assert_eq!(values(&engine, "device-b"), Some(if is_lost[1] { vec![] } else { vec![2.0] }), "{text}");
        // The store goes on: it seals, and takes points of the same name again.
        store.seal(&engine);
        write(&engine, "device-a", 2, 5.0);
        write(&engine, "device-b", 2, 6.0);
        store.seal(&engine);
        engine.close().unwrap();
        let engine = store.open();
        assert!(engine.recovery_report().damage.is_empty(), "{:?}", engine.recovery_report());
        assert_eq!(
            values(&engine, "device-a"),
            Some(if is_lost[0] { vec![5.0] } else { vec![1.0, 3.0, 5.0] })
        );
        assert_eq!(values(&engine, "device-b"), Some(if is_lost[1] { vec![6.0] } else { vec![2.0, 6.0] }));
        let mut request = QueryRequest::raw("other", "energy_data", Timestamp::MIN, Timestamp::MAX);
        request.limit = Some(5);
        assert_eq!(engine.query(&request, &QueryControl::default()).unwrap().rows(), 1);
    }
}
