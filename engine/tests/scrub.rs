//! Scrub on the simulated disk: a flipped bit is found within one pass, a healthy store has none, a pass goes on after a
//! restart, and nothing holds up a store that closes.

use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_engine::io::sim::{CallKind, Fault, FaultError, Lasting, SimDisk, SyncName};
use wattlog_engine::query::{QueryControl, QueryRequest};
use wattlog_engine::{Engine, Options, ScrubReport, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

const T0: i64 = 1_780_272_000_000_000_000;
const SECOND: i64 = 1_000_000_000;
const WEEK: Duration = Duration::from_hours(7 * 24);

struct Store {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    options: Options,
}

impl Store {
    fn new(seed: u64) -> Self {
        let options = Options { ballast_bytes: 0, compaction_bytes_per_second: 0, ..Options::default() };
        Self { disk: SimDisk::new(seed), clock: Arc::new(ManualClock::new(Timestamp(T0))), options }
    }

    fn open(&self) -> Engine {
        let disk = Arc::new(self.disk.clone());
        Engine::open(disk, self.options.clone(), self.clock.clone(), [7; 16]).expect("a store always opens")
    }

    fn files(&self, prefix: &str) -> Vec<String> {
        self.disk.paths().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(prefix)).collect()
    }

    /// Waits until `wanted`, while time goes by for the store.
    fn until(&self, what: &str, step: Duration, mut wanted: impl FnMut() -> bool) {
        let began = Instant::now();
        while !wanted() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            self.clock.advance(step);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A sealed day for each of `devices`.
fn fill(engine: &Engine, devices: &[&str]) {
    for device in devices {
        let mut batch = WriteBatch::new("home", None);
        let slot = batch.series("energy_data", &TagSet::new([("device_id", *device)]).unwrap());
        for i in 0..3000 {
            let mut row = batch.row(slot, Timestamp(T0 + i * SECOND), 0);
            row.float("pv_power", (i * 7919 % 5003) as f64 / 10.0);
            row.integer("mode", i / 100);
        }
        engine.write(batch).unwrap();
        engine.seal().unwrap();
    }
}

fn is_partial(engine: &Engine) -> bool {
    let request = QueryRequest::raw("home", "energy_data", Timestamp::MIN, Timestamp::MAX);
    engine.query(&request, &QueryControl::default()).unwrap().is_partial()
}

#[test]
fn a_healthy_store_has_nothing_to_find() {
    let store = Store::new(1);
    let engine = store.open();
    fill(&engine, &["a", "b", "c"]);
    let bytes: u64 = store
        .disk
        .paths()
        .iter()
        .filter(|(path, _)| path.starts_with("segments/") || path.starts_with("catalog/"))
        .map(|(_, len)| len)
        .sum();
    assert_eq!(engine.scrub().unwrap(), ScrubReport { files: 6, bytes, damaged: 0 });
    assert!(engine.health().damage.is_empty());
    let status = engine.scrub_status();
    assert_eq!((status.running, status.total_bytes), (false, bytes));
    assert_eq!(status.finished, Some(Timestamp(T0)));
    let metrics = engine.metrics();
    assert_eq!((metrics.scrub_passes, metrics.scrub_files, metrics.scrub_damaged_files), (1, 6, 0));
}

#[test]
fn a_flipped_bit_anywhere_is_found_in_one_pass() {
    let whole = Store::new(2);
    let engine = whole.open();
    fill(&engine, &["a", "b"]);
    drop(engine);
    whole.disk.settle();
    for folder in ["segments/", "catalog/"] {
        let file = whole.files(folder).remove(0);
        let len = whole.disk.read_file(&file).unwrap().len() as u64;
        for offset in (0..len).step_by(1 + len as usize / 60) {
            let store = Store { disk: whole.disk.fork(), ..Store::new(2) };
            let engine = store.open();
            // Behind the back of a reader that has the file open.
            store.disk.flip_bit(&file, offset, (offset % 8) as u8);
            let report = engine.scrub().unwrap();
            assert_eq!(report.damaged, 1, "{file} byte {offset}: {report:?}");
            let told = engine.health().damage;
            assert!(told.iter().any(|damage| damage.file == file), "{file} byte {offset}: {told:?}");
            assert_eq!(engine.metrics().scrub_damaged_files, 1);
        }
    }
}

#[test]
fn what_is_found_makes_answers_partial_or_is_healed() {
    let store = Store::new(3);
    let engine = store.open();
    fill(&engine, &["a", "b"]);
    let catalog = store.files("catalog/").remove(0);
    let len = store.disk.read_file(&catalog).unwrap().len() as u64;
    store.disk.flip_bit(&catalog, len / 2, 1);
    assert_eq!(engine.scrub().unwrap().damaged, 1);
    store.until("the catalog file is given up", Duration::from_secs(2), || {
        engine.metrics().catalog_files_lost == 1
    });
    assert!(!is_partial(&engine), "all names are known from elsewhere");
    let segment = store.files("segments/").remove(0);
    store.disk.flip_bit(&segment, 700, 1);
    assert_eq!(engine.scrub().unwrap().damaged, 1);
    assert!(is_partial(&engine));
}

/// Checksums that fit and statistics that do not: what a faulty writer, or a fault in what compares them, leaves. If each such
/// file were set aside, all history could go at once.
#[test]
fn segments_that_contradict_themselves_are_told_and_stay_in_use() {
    let store = Store::new(4);
    let engine = store.open();
    fill(&engine, &["a", "b"]);
    let segment = store.files("segments/").remove(0);
    let bytes = store.disk.read_file(&segment).unwrap();
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let footer = bytes.len() - 96;
    let meta = word(&bytes, footer + 40) as usize;
    assert_eq!(word(&bytes, footer + 48), 4096, "one page");
    let mut told = 0;
    for offset in (meta + 32..meta + 4096).step_by(3) {
        let mut wrong = bytes.clone();
        wrong[offset] ^= 1;
        let page = crc32fast::hash(&wrong[meta + 4..meta + 4096]).to_le_bytes();
        wrong[meta..meta + 4].copy_from_slice(&page);
        let pages = crc32fast::hash(&page).to_le_bytes();
        wrong[footer + 88..footer + 92].copy_from_slice(&pages);
        let end = crc32fast::hash(&wrong[footer..footer + 92]).to_le_bytes();
        wrong[footer + 92..].copy_from_slice(&end);
        let parts: Vec<&str> = {
            let disk = store.disk.fork();
            disk.write_file(&segment, wrong.clone());
            let report = wattlog_engine::check::file(&disk, &segment).unwrap();
            report.damage.iter().map(|damage| damage.part).collect()
        };
        if parts.is_empty() || parts.iter().any(|part| !matches!(*part, "statistics" | "summary")) {
            continue;
        }
        let fork = Store { disk: store.disk.fork(), ..Store::new(4) };
        fork.disk.remove_file("LOCK");
        let opened = fork.open();
        fork.disk.write_file(&segment, wrong);
        assert_eq!(opened.scrub().unwrap().damaged, 1);
        assert!(!is_partial(&opened), "byte {offset}: {parts:?}");
        opened.scrub().unwrap();
        let health = opened.health();
        assert_eq!(health.alarms.len(), 1, "told once: {:?}", health.alarms);
        assert!(health.alarms[0].contains(&segment) && health.damage[0].file == segment, "{health:?}");
        told += 1;
        if told == 3 {
            break;
        }
    }
    assert_eq!(told, 3, "statistics stand in the page");
}

/// In the background: not right after an opening, then once a week, and on from where the last run came.
#[test]
fn a_pass_goes_on_after_a_restart_and_comes_back_in_a_week() {
    let store = Store::new(5);
    let engine = store.open();
    fill(&engine, &["a", "b", "c", "d"]);
    drop(engine);
    let engine = store.open();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(engine.metrics().scrub_files, 0, "others have more to do now");
    // Each file takes longer than a position may go unsaved.
    drop(engine);
    let slow = Store { options: Options { scrub_bytes_per_second: 1, ..store.options.clone() }, ..store };
    let engine = slow.open();
    slow.until("two files are read", Duration::from_mins(1), || engine.metrics().scrub_files >= 2);
    let status = engine.scrub_status();
    assert!(status.running && status.done_bytes > 0 && status.done_bytes < status.total_bytes, "{status:?}");
    let read = engine.metrics().scrub_files;
    let began = Instant::now();
    drop(engine);
    assert!(began.elapsed() < Duration::from_secs(5), "a store that closes waits for no pass");

    let engine = slow.open();
    assert!(engine.scrub_status().running, "it goes on");
    slow.until("the pass ends", Duration::from_mins(1), || engine.metrics().scrub_passes == 1);
    assert!(engine.metrics().scrub_files <= 8 - read, "what was read is not read again");
    let finished = engine.scrub_status().finished.expect("it ended");
    slow.until("the next one begins", Duration::from_mins(20), || engine.scrub_status().running);
    let pause = Duration::from_nanos((slow.clock.wall_now() - finished.0).unsigned_abs());
    assert!(pause >= WEEK, "{pause:?}");
}

trait Wall {
    fn wall_now(&self) -> i64;
}

impl Wall for ManualClock {
    fn wall_now(&self) -> i64 {
        wattlog_model::Clock::wall(self).0
    }
}

#[test]
fn a_page_that_is_right_the_second_time_is_no_damage() {
    let store = Store::new(6);
    let engine = store.open();
    fill(&engine, &["a"]);
    let once = Fault::at(3, FaultError::Eio, Lasting::Once).on(CallKind::Read).within(SyncName::SegmentFile);
    store.disk.inject(once);
    assert_eq!(engine.scrub().unwrap().damaged, 0);
    assert!(engine.health().damage.is_empty());
}

/// Seen as: a process with too many files open, and a scrub that then called every file damaged.
#[test]
fn a_want_of_descriptors_is_no_damage_and_the_file_is_read_later() {
    for folder in [SyncName::SegmentFile, SyncName::CatalogFile] {
        let store = Store::new(8);
        let engine = store.open();
        fill(&engine, &["a", "b"]);
        let none_left =
            Fault::at(1, FaultError::NoDescriptors, Lasting::ForGood).on(CallKind::Open).within(folder);
        store.disk.inject(none_left);
        assert!(engine.scrub().unwrap_err().to_string().contains("scrub"));
        let before = engine.scrub_status();
        assert!(before.running && before.done_bytes < before.total_bytes, "{before:?}");
        assert!(engine.health().damage.is_empty() && engine.health().alarms.is_empty());
        store.clock.advance(Duration::from_mins(11));
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(engine.scrub_status(), before, "it stays where it is");
        assert_eq!(engine.metrics().scrub_damaged_files, 0);
        store.disk.clear_faults();
        store.until("it goes on", Duration::from_secs(30), || engine.metrics().scrub_passes == 1);
        assert_eq!((engine.metrics().scrub_damaged_files, engine.health().damage.len()), (0, 0));
    }
}

#[test]
fn it_can_be_switched_off() {
    for (interval, rate) in [(Duration::ZERO, 4 << 20), (WEEK, 0)] {
        let mut store = Store::new(7);
        store.options.scrub_interval = interval;
        store.options.scrub_bytes_per_second = rate;
        let engine = store.open();
        fill(&engine, &["a"]);
        store.clock.advance(3 * WEEK);
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(engine.metrics().scrub_files, 0);
        assert_eq!(engine.scrub().unwrap().files, 2, "by hand it works all the same");
    }
}
