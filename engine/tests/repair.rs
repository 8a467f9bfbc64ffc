//! Repair of random damaged stores: nothing that could be read is lost, nothing is invented, what is not lost is whole
//! afterwards, and a second run does nothing.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use support::content::{Cell, Content, Exact, read_everything};
use support::history::{Author, Life, START_NS, Step, options};
use support::run::{Run, open};
use support::seeds::seeds;
use wattlog_engine::check;
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_engine::io::{Disk, ReadMode};
use wattlog_engine::options::Options;
use wattlog_engine::repair::{RepairError, RepairReport, repair};
use wattlog_engine::{OpenError, Rule};
use wattlog_model::{Clock, FieldValue, ManualClock, Timestamp};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp(START_NS)))
}

fn run(disk: &SimDisk, options: &Options) -> Result<RepairReport, RepairError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let clock: Arc<dyn Clock> = clock();
    repair(&disk, options.clone(), &clock)
}

fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let known = disk.paths().into_iter().filter(|(path, _)| path != "LOCK");
    known.map(|(path, _)| (path.clone(), disk.read_file(&path).unwrap())).collect()
}

fn content(disk: &SimDisk, options: &Options) -> (Content, bool) {
    let engine = open(disk, options, &clock()).expect("opens");
    // A question to a damaged catalog file is an error until the file was given up: nothing can be read.
    read_everything(&engine).unwrap_or_else(|_| (Content::new(), true))
}

/// Whether an opening takes the end of the manifest for one that a power cut tore.
fn has_torn_manifest(disk: &SimDisk, options: &Options) -> bool {
    let engine = open(&disk.fork(), options, &clock()).expect("opens");
    engine.recovery_report().torn.iter().any(|torn| torn.file.starts_with("manifest/"))
}

#[test]
fn whatever_is_damaged_nothing_that_could_be_read_is_lost() {
    let (mut lost, mut healed, mut last_edits_lost) = (0, 0, 0);
    for seed in seeds("repair", 40) {
        let mut rng = Rng::new(seed);
        let options = options(&mut rng, ReadMode::Pread);
        let mut life = Run::new(SimDisk::new(seed), options.clone());
        let history = Author::new(Rng::new(seed ^ 0x5a17)).history(Life::Old);
        life.live(&history);
        if rng.chance(50) {
            life.close();
        }
        life.end();
        life.disk.settle();
        let mut versions: BTreeMap<Cell, Vec<Exact>> = BTreeMap::new();
        let bodies = history.iter().flat_map(|step| match step {
            Step::Write(body) => std::slice::from_ref(body),
            Step::Burst(bodies) => bodies,
            _ => &[],
        });
        for (cell, value) in bodies.flat_map(|body| &body.cells) {
            versions.entry(*cell).or_default().push(value.clone());
        }
        let (whole, _) = content(&life.disk.fork(), &options);
        for round in 0..8 {
            let mut rng = Rng::new(seed * 1000 + round);
            let disk = life.disk.fork();
            let damages: Vec<String> = (0..=rng.index(3)).map(|_| damage(&disk, &mut rng)).collect();
            let what = format!("WATTLOG_SEED={seed} round {round}: {damages:?}");
            let damaged = disk.fork();
            let (before, _) = content(&disk.fork(), &options);
            let report = run(&disk, &options).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let (after, partial) = content(&disk.fork(), &options);
            let known =
                |(cell, value): (&Cell, &Exact)| versions.get(cell).is_some_and(|all| all.contains(value));
            assert!(after.iter().all(known), "{what}: nothing is invented\n{report:#?}");
            for (cell, value) in &before {
                assert_eq!(after.get(cell), Some(value), "{what}: {cell} could be read\n{report:#?}");
            }
            // What was at the end of a log, and attested by nothing, is missed by nobody. The last edit of a manifest that is cut
            // may have hidden something: no more than that.
            let in_log = damages.iter().any(|damage| damage.starts_with("wal/"));
            let edit_lost = has_torn_manifest(&damaged, &options);
            if report.lost {
                lost += 1;
            } else {
                assert!(report.after.is_whole() && !partial, "{what}\n{report:#?}");
                let differs = whole
                    .iter()
                    .filter(|(cell, value)| after.get(cell) != Some(value))
                    .map(|(cell, value)| format!("{cell}: {value:?}, now {:?}", after.get(cell)));
                let invented = after.keys().filter(|cell| !whole.contains_key(cell)).map(ToString::to_string);
                let shown: Vec<_> = if edit_lost { Vec::new() } else { invented.collect() };
                let differs: Vec<_> = differs.chain(shown).collect();
                assert!(in_log || differs.is_empty(), "{what}: {differs:?}\n{report:#?}");
                last_edits_lost += u32::from(edit_lost);
                healed += 1;
            }
            let kept = files(&disk);
            let again = run(&disk, &options).unwrap_or_else(|error| panic!("{what}: again: {error}"));
            assert!(again.done.is_empty() && again.report.is_none(), "{what}\n{report:#?}\n{again:#?}");
            if report.after.is_whole() {
                assert!(kept == files(&disk), "{what}: a second run touches nothing");
            }
            assert!(content(&disk, &options).0 == after, "{what}");
        }
    }
    println!(
        "{healed} stores are whole again ({last_edits_lost} without their last edit), {lost} have lost something"
    );
    // One seed by itself, as `WATTLOG_SEED` asks for, may do with one of them.
    assert!(healed + lost < 100 || (healed > 20 && lost > 20), "both happen: {healed}, {lost}");
}

fn damage(disk: &SimDisk, rng: &mut Rng) -> String {
    let files: Vec<(String, u64)> = disk
        .paths()
        .into_iter()
        .filter(|(path, len)| *len > 0 && path.contains('/') && !path.starts_with("quarantine/"))
        .collect();
    let Some((path, len)) = (!files.is_empty()).then(|| rng.pick(&files).clone()) else {
        return "nothing is left".into();
    };
    match rng.below(8) {
        0 if files.len() > 2 => {
            disk.remove_file(&path);
            format!("{path} removed")
        }
        1 => {
            let kept = len - 1 - rng.below(len.min(200));
            let bytes = disk.read_file(&path).expect("listed");
            disk.write_file(&path, bytes[..kept as usize].to_vec());
            format!("{path} cut to {kept} of {len}")
        }
        2 => {
            disk.write_file(&format!("{path}.old"), vec![7; 100]);
            format!("{path}.old made")
        }
        _ => {
            let (offset, bit) = (rng.below(len), rng.index(8) as u8);
            disk.flip_bit(&path, offset, bit);
            format!("{path} bit {bit} of byte {offset}")
        }
    }
}

/// Two days in segments, nothing in logs.
fn sealed() -> (SimDisk, Options, Content) {
    let options = Options { read_mode: ReadMode::Pread, ballast_bytes: 0, ..Options::default() };
    let mut life = Run::new(SimDisk::new(1), options.clone());
    life.open();
    let mut cells = Content::new();
    for row in 0..3000 {
        let noise = Rng::new(row as u64).next_u64();
        let cell =
            Cell { database: 0, series: row as usize % 3, time: START_NS + row * 10_000_000_000, field: 0 };
        cells.insert(cell, Exact(FieldValue::Float((noise % 5000) as f64 / 10.0)));
    }
    let engine = life.engine().expect("open");
    let body = support::content::Body::new(0, cells.clone().into_iter().collect());
    engine.write(body.batch()).expect("stored");
    engine.seal().expect("sealed");
    life.close();
    life.disk.settle();
    (life.disk.clone(), options, cells)
}

fn paths(disk: &SimDisk, folder: &str) -> Vec<String> {
    disk.paths().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(folder)).collect()
}

#[test]
fn a_whole_store_is_not_touched() {
    let (disk, options, _) = sealed();
    let before = files(&disk);
    let report = run(&disk, &options).unwrap();
    assert!(report.done.is_empty() && !report.lost && report.report.is_none(), "{report:#?}");
    assert!(before == files(&disk));
}

#[test]
fn a_segment_without_its_ends_is_written_anew() {
    let (disk, options, whole) = sealed();
    let segment = paths(&disk, "segments/").pop().unwrap();
    let bytes = disk.read_file(&segment).unwrap();
    for (what, damaged) in
        [("footer", bytes[..bytes.len() - 50].to_vec()), ("header", [&[0; 512][..], &bytes[512..]].concat())]
    {
        let disk = disk.fork();
        disk.write_file(&segment, damaged.clone());
        assert!(content(&disk.fork(), &options).1, "{what}: answers are partial before");
        let report = run(&disk, &options).unwrap();
        assert!(!report.lost && report.after.is_whole(), "{what}: {report:#?}");
        let (after, partial) = content(&disk, &options);
        assert!(after == whole && !partial, "{what}");
        let kept = files(&disk).into_iter().filter(|(_, bytes)| *bytes == damaged).map(|(path, _)| path);
        let kept: Vec<String> = kept.collect();
        assert!(kept.len() == 1 && kept[0].starts_with("quarantine/"), "{what}: {kept:?}");
        let told = String::from_utf8(disk.read_file(&report.report.unwrap()).unwrap()).unwrap();
        assert!(told.contains(&segment) && told.contains("written anew"), "{told}");
    }
}

/// Seen as: a store with a rule for a week, repaired, and nothing older was left to look at.
#[test]
fn what_is_beyond_its_age_is_not_dropped_by_a_repair() {
    let (disk, options, _) = sealed();
    let off = Options { retention: false, ..options.clone() };
    let later = Arc::new(ManualClock::new(Timestamp(START_NS + 90 * Timestamp::DAY_NS)));
    let engine = open(&disk, &off, &later).expect("opens");
    // One that is in the log only: a seal would leave it out.
    let cell = Cell { database: 0, series: 0, time: START_NS + 1, field: 0 };
    let unsealed = [(cell, Exact(FieldValue::Float(1.5)))];
    engine.write(support::content::Body::new(0, unsealed.into_iter().collect()).batch()).expect("stored");
    engine.confirm_clock().unwrap();
    let database = engine.databases()[0].name.clone();
    let rule = Rule::Keep { ns: 30 * Timestamp::DAY_NS.unsigned_abs() };
    assert!(engine.set_retention(&database, None, None, rule).unwrap().cutoff.is_some());
    engine.close().unwrap();
    disk.settle();
    let catalog = paths(&disk, "catalog/").remove(0);
    let len = disk.read_file(&catalog).unwrap().len() as u64;
    disk.flip_bit(&catalog, len / 2, 3);
    let (on, clock): (Arc<dyn Disk>, Arc<dyn Clock>) = (Arc::new(disk.clone()), later.clone());
    let report = repair(&on, options, &clock).unwrap();
    assert!(!report.done.is_empty() && report.after.is_whole(), "{report:#?}");
    assert_eq!(open(&disk, &off, &later).expect("opens").storage().points, 3001, "{report:#?}");
}

#[test]
fn a_segment_that_is_damaged_in_part_stays() {
    let (disk, options, whole) = sealed();
    let segment = paths(&disk, "segments/").pop().unwrap();
    disk.flip_bit(&segment, 700, 1);
    let report = run(&disk, &options).unwrap();
    assert!(report.lost && !report.after.is_whole(), "{report:#?}");
    assert!(report.done.is_empty() && paths(&disk, "segments/").contains(&segment));
    let (after, partial) = content(&disk, &options);
    assert!(partial && after.len() > whole.len() / 2 && after.len() < whole.len());
}

#[test]
fn a_damaged_catalog_file_is_replaced_and_kept() {
    let (disk, options, whole) = sealed();
    let catalog = paths(&disk, "catalog/").remove(0);
    // Its names, without which it is not opened; and what only a reader of that block meets.
    for offset in [70, disk.read_file(&catalog).unwrap().len() as u64 / 2] {
        let disk = disk.fork();
        disk.flip_bit(&catalog, offset, 3);
        let report = run(&disk, &options).unwrap();
        assert!(report.after.is_whole() && !report.lost, "byte {offset}: {report:#?}");
        assert!(content(&disk, &options) == (whole.clone(), false), "byte {offset}");
        assert!(paths(&disk, "catalog/") != [catalog.clone()], "byte {offset}");
        assert_eq!(paths(&disk, "quarantine/unused-cat-").len(), 1, "byte {offset}: {report:#?}");
    }
}

#[test]
fn a_lost_manifest_is_rebuilt_and_a_damaged_one_is_kept() {
    let (disk, options, whole) = sealed();
    let manifest = paths(&disk, "manifest/").remove(0);
    disk.flip_bit(&manifest, 100, 0);
    let damaged = disk.read_file(&manifest).unwrap();
    let report = run(&disk, &options).unwrap();
    assert!(report.after.is_whole(), "{report:#?}");
    assert!(files(&disk).values().any(|bytes| *bytes == damaged), "a person can still look at it");
    assert_eq!(content(&disk, &options), (whole, false));
}

#[test]
fn a_store_in_use_is_left_alone() {
    let (disk, options, _) = sealed();
    let segment = paths(&disk, "segments/").remove(0);
    disk.flip_bit(&segment, 700, 1);
    let engine = open(&disk, &options, &clock()).expect("opens");
    let error = run(&disk, &options).map(drop).unwrap_err();
    assert!(matches!(error, RepairError::Open(OpenError::InUse(_))), "{error}");
    drop(engine);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    assert!(!check::store(&disk).unwrap().is_whole());
}
