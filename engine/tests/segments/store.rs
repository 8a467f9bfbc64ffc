//! A whole store as the engine leaves it, checked from outside.

use std::sync::Arc;
use wattlog_engine::check;
use wattlog_engine::io::Disk;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

use crate::data::{SECOND, START};

fn engine(disk: &SimDisk) -> Engine {
    let clock = Arc::new(ManualClock::new(Timestamp(START)));
    let options = Options { ballast_bytes: 0, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), options, clock, [7; 16]).expect("a store always opens")
}

fn body(first: i64) -> WriteBatch {
    let mut batch = WriteBatch::new("wattlog", None);
    for device in ["a", "b"] {
        let slot = batch.series("energy_data", &TagSet::new([("device_id", device)]).unwrap());
        for i in first..first + 2000 {
            let mut row = batch.row(slot, Timestamp(START + i * 10 * SECOND), 1);
            row.float("pv_power", i as f64 / 10.0);
            row.integer("mode", i / 100 % 4);
            row.string("state", ["idle", "charging"][(i / 50 % 2) as usize]);
        }
    }
    batch
}

#[test]
fn a_store_is_whole_at_every_stage_and_its_damage_is_told() {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let assert_whole = |stage: &str| {
        let report = check::store(&disk).unwrap();
        assert!(report.is_whole(), "{stage}: {:?}", report.damage().collect::<Vec<_>>());
        report
    };
    let open = engine(&sim);
    open.write(body(0)).unwrap();
    assert_whole("log only");
    open.seal().unwrap();
    let report = assert_whole("sealed");
    let segments: Vec<_> = report.files.iter().filter(|file| file.file.starts_with("segments/")).collect();
    assert_eq!(
        segments.iter().map(|file| (file.rows, file.values)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (4000, 12_000)
    );
    open.write(body(2000)).unwrap();
    open.close().unwrap();
    let report = assert_whole("closed");
    for file in &report.files {
        let lines = check::dump(&*disk, &file.file).unwrap();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.part != "damage"), "{}", file.file);
    }
    let segment = report.files.iter().find(|file| file.file.starts_with("segments/")).unwrap();
    sim.flip_bit(&segment.file, 700, 3);
    let damaged = check::store(&disk).unwrap();
    assert_eq!(damaged.damage().map(|damage| &damage.file).collect::<Vec<_>>(), [&segment.file]);
    sim.flip_bit(&segment.file, 700, 3);
    sim.remove_file(&segment.file);
    assert!(!check::store(&disk).unwrap().is_whole(), "a segment that the manifest names is missing");
}
