//! Golden stores: files as a released format version wrote them, with the points they hold (tests/golden/README.md).
//!
//! The engine of today and the second reader must both read those of every version for ever. `WATTLOG_GOLDEN=<new folder>`
//! writes a set; a folder that is there is never touched.

use crate::canonical;
use crate::dice::Dice;
use crate::life::{copy_folder, open, tear};
use crate::python;
use crate::values::{BOOLEANS, FLOATS, INTEGERS, Kind, Presence, STRINGS, Shape, Source};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::query::{TagFilter, TagPredicate};
use wattlog_engine::{DeleteRequest, Durability, Engine, Rule, WriteBatch};
use wattlog_model::{FieldKind, FieldMeaning, FieldValue, ManualClock, TagSet, Timestamp, Unit};

const SECOND_NS: i64 = 1_000_000_000;
/// 2026-01-05T00:00:00Z.
const BEGIN_NS: i64 = 1_767_571_200 * SECOND_NS;
/// A whole mini-block and the beginning of a second one.
const ROWS: u64 = 130;
/// Bytes of all files of a set that go into the tree.
const SET_MAX_BYTES: u64 = 450_000;

/// A store of a set: its name and how it is made in an empty folder.
type Recipe = (&'static str, fn(&Path));

const RECIPES: [Recipe; 7] = [
    ("codecs", codecs),
    ("compact", compact),
    ("deletes", deletes),
    ("generations", generations),
    ("packed", packed),
    ("retention", retention),
    ("torn", torn),
];

#[test]
fn golden_stores_of_every_version_hold_their_points() {
    let room = tempfile::tempdir().unwrap();
    let mut stores = 0;
    for set in folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")) {
        let size: u64 = set_files(&set).iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(size <= SET_MAX_BYTES, "{}: {size} bytes", set.display());
        stores += check_set(&set, room.path());
    }
    assert!(stores >= RECIPES.len(), "only {stores} golden stores");
}

/// Writes a set into the folder that `WATTLOG_GOLDEN` names; else into a temporary one, to prove that it still can be done.
#[test]
fn a_set_of_golden_stores_can_be_written() {
    let room = tempfile::tempdir().unwrap();
    let set = std::env::var_os("WATTLOG_GOLDEN").map_or_else(|| room.path().join("set"), PathBuf::from);
    assert!(!set.exists(), "{} is there: a released set is never written again", set.display());
    for (name, make) in RECIPES {
        let made = room.path().join(name);
        make(&made);
        let folder = set.join(name);
        copy_folder(&made, &folder.join("store"));
        leave_out_what_says_nothing(&folder.join("store"));
        fs::write(
            folder.join("points.ndjson"),
            points_of(&folder.join("store"), &room.path().join("opened").join(name)),
        )
        .unwrap();
    }
    assert_eq!(check_set(&set, room.path()), RECIPES.len());
    let Some(python) = python::interpreter() else { return };
    let reading = python::read(&python, room.path(), &RECIPES.map(|(name, _)| set.join(name).join("store")));
    assert!(reading.whole, "{:?}", reading.said);
    // What a delete hides in the memtable is sealed at once: that only a crash in that moment leaves in a log. And a younger
    // file gets a lower id by compactions in the background alone.
    let by_chance = ["hidden value of a log", "younger file with a lower id"];
    let missing: Vec<&&str> = (crate::FORMS.iter().chain(&crate::RARE_FORMS))
        .filter(|form| !by_chance.contains(*form) && !reading.forms.contains_key(**form))
        .collect();
    assert!(missing.is_empty(), "no golden store has {missing:?}, but {:?}", reading.forms);
    assert!(reading.said.iter().any(|line| line.contains("note: log")), "no torn log: {:?}", reading.said);
}

/// Opens a copy of each store of a set and compares; gives their number.
fn check_set(set: &Path, room: &Path) -> usize {
    let stores = folders(set);
    for folder in &stores {
        let expected = fs::read_to_string(folder.join("points.ndjson")).unwrap();
        let copy = room.join("check").join(folder.file_name().unwrap());
        let found = points_of(&folder.join("store"), &copy);
        fs::remove_dir_all(room.join("check")).unwrap();
        if let Some(difference) = crate::first_difference(&found, &expected) {
            panic!("{}: {difference}", folder.display());
        }
    }
    stores.len()
}

/// All points of a store, asked of an engine that opens a copy of it.
fn points_of(store: &Path, copy: &Path) -> String {
    copy_folder(store, copy);
    let engine = open(copy, &Arc::new(ManualClock::new(Timestamp(BEGIN_NS))), 1);
    let report = engine.recovery_report();
    assert!(report.damage.is_empty() && !report.rebuilt && !report.fresh, "{}: {report:?}", store.display());
    canonical::points(&engine)
}

/// Every form of values and of presence, in row groups with statistics, and every form of times.
fn codecs(folder: &Path) {
    let (engine, mut dice) = (open(folder, &clock(), 1), Dice::new(1));
    let presences = [
        Presence::All,
        Presence::Stretch,
        Presence::Every(3),
        Presence::Share(70),
        Presence::Every(2),
        Presence::Rare,
    ];
    let kinds = (FLOATS.iter().map(|shape| Kind::Float(*shape)))
        .chain(INTEGERS.iter().map(|shape| Kind::Integer(*shape)))
        .chain(INTEGERS.iter().map(|shape| Kind::Unsigned(*shape)))
        .chain(BOOLEANS.iter().map(|shape| Kind::Boolean(*shape)))
        .chain(STRINGS.iter().map(|shape| Kind::String(*shape)));
    let mut columns: Vec<(String, Presence, Source)> = kinds
        .enumerate()
        .map(|(index, kind)| {
            let presence = match kind {
                Kind::String(Shape::LongText | Shape::AnyText) => Presence::Every(12),
                _ => presences[index % presences.len()],
            };
            (format!("f{index:02}"), presence, Source::new(kind, &mut dice))
        })
        .collect();
    let times: Vec<i64> = (0..ROWS as i64).map(|row| BEGIN_NS + 10 * SECOND_NS * row).collect();
    write(&engine, "values", "a", &times, &mut columns, &mut dice);
    for (name, times) in time_patterns(&mut dice) {
        let mut column =
            [("n".to_owned(), Presence::All, Source::new(Kind::Integer(Shape::Constant), &mut dice))];
        write(&engine, "times", name, &times, &mut column, &mut dice);
    }
    write_runs_and_lines(&engine);
    engine.seal().unwrap();
    engine.close().unwrap();
}

/// Numbers of a month that is long over, packed by a compaction: every type, values and differences, exceptions.
fn packed(folder: &Path) {
    let month = Timestamp(BEGIN_NS + 40 * 86_400 * SECOND_NS);
    let (engine, mut dice) = (open(folder, &Arc::new(ManualClock::new(month)), 4), Dice::new(4));
    let mut batch = WriteBatch::new("wattlog", None);
    let slot = batch.series("packed", &TagSet::new([("id", "a")]).unwrap());
    let (mut level, mut total) = (2300_i64, 1 << 33);
    for number in 0..240 {
        // Small steps are the rule.
        let step = dice.below(5) as i64 * dice.below(5) as i64 - 4;
        level += step;
        total += (step + 4) as u64;
        let mut row = batch.row(slot, Timestamp(BEGIN_NS + 10 * SECOND_NS * number), number as u32);
        row.float("voltage", if number % 97 == 5 { 1.0 / 3.0 } else { level as f64 / 10.0 });
        row.float("power", (dice.below(6) * dice.below(6) * dice.below(400)) as f64);
        row.integer("grid", (dice.below(6) * dice.below(6) * dice.below(99)) as i64 - 300);
        row.unsigned("total", total);
        row.float("ratio", f64::from_bits(0x3ff5_5555_5555_5000 + (step * step) as u64));
    }
    let receipt = engine.write(batch).unwrap();
    assert!(receipt.rejected.is_empty(), "{:?}", receipt.rejected);
    engine.seal().unwrap();
    engine.compact().unwrap();
    engine.close().unwrap();
}

/// What a few dozen random values seldom are: long runs, a counter with gaps, decimals among which a few are none.
fn write_runs_and_lines(engine: &Engine) {
    let mut batch = WriteBatch::new("wattlog", None);
    let slot = batch.series("shapes", &TagSet::new([("id", "a")]).unwrap());
    for number in 0..ROWS as i64 {
        let run = [3, 700, -41, 12_345][number as usize / 40];
        let mut row = batch.row(slot, Timestamp(BEGIN_NS + 10 * SECOND_NS * number), number as u32);
        row.float("fr", run as f64 / 8.0 + 1e-17);
        row.integer("ir", run);
        row.unsigned("ur", (run * 7919) as u64);
        row.integer("l", 1_000_003 + 7 * number + if number > 90 { 4900 } else { 0 });
        row.float(
            "x",
            if number == 100 || number == 120 { 1.0 / 3.0 } else { (number * 7919 % 10_007) as f64 / 10.0 },
        );
    }
    let receipt = engine.write(batch).unwrap();
    assert!(receipt.rejected.is_empty(), "{:?}", receipt.rejected);
}

fn time_patterns(dice: &mut Dice) -> Vec<(&'static str, Vec<i64>)> {
    let rows = 0..64;
    let jitter: Vec<i64> = (0..64).map(|_| dice.between(-400, 400)).collect();
    let mut random: Vec<i64> = (0..64).map(|_| dice.between(0, 86_400 * SECOND_NS - 1)).collect();
    random.sort_unstable();
    let minute = 60 * SECOND_NS;
    vec![
        ("gaps", rows.clone().map(|row| BEGIN_NS + minute * (row + row / 20 * 7)).collect()),
        (
            "jitter",
            rows.clone().map(|row| BEGIN_NS + minute * row + jitter[row as usize] * 1_000_000).collect(),
        ),
        (
            "nanoseconds",
            rows.clone().map(|row| BEGIN_NS + row + jitter[row as usize % 3].abs() % 2).collect(),
        ),
        ("random", random.into_iter().map(|time| BEGIN_NS + time).collect()),
        ("one", vec![BEGIN_NS + 123]),
        ("before 1970", rows.map(|row| -86_400 * SECOND_NS + minute * row).collect()),
    ]
}

/// Compact groups of two months, many series (their keys are compressed), databases and policies, two catalog files.
fn compact(folder: &Path) {
    let (engine, mut dice) = (open(folder, &clock(), 2), Dice::new(2));
    for seal in 0..2 {
        for series in seal * 10..seal * 10 + 14 {
            let mut columns = [
                ("power".to_owned(), Presence::All, Source::new(Kind::Float(Shape::Decimal), &mut dice)),
                ("mode".to_owned(), Presence::Every(2), Source::new(Kind::String(Shape::Word), &mut dice)),
                ("on".to_owned(), Presence::All, Source::new(Kind::Boolean(Shape::Flag), &mut dice)),
            ];
            let times =
                [BEGIN_NS + series, BEGIN_NS + 1000 + series, BEGIN_NS + 40 * 86_400 * SECOND_NS + seal];
            write(&engine, "many", &format!("series {series}"), &times, &mut columns, &mut dice);
        }
        engine.create_policy("home", "52 tygodnie").unwrap();
        let mut batch = WriteBatch::new("home", Some("52 tygodnie"));
        let slot = batch.series("empty tags", &TagSet::new::<&str, &str>([]).unwrap());
        batch.row(slot, Timestamp(seal), 0).value("żółć", &FieldValue::Integer(seal));
        engine.write(batch).unwrap();
        engine.seal().unwrap();
    }
    engine.close().unwrap();
}

/// Values written again and late over several segments and logs, meanings, durabilities, and a manifest that was begun anew.
fn generations(folder: &Path) {
    let mut dice = Dice::new(3);
    let mut columns = [
        ("pv".to_owned(), Presence::All, Source::new(Kind::Float(Shape::Decimal), &mut dice)),
        ("total".to_owned(), Presence::Share(60), Source::new(Kind::Integer(Shape::Counter), &mut dice)),
        ("state".to_owned(), Presence::Share(40), Source::new(Kind::String(Shape::Word), &mut dice)),
    ];
    for round in 0..4 {
        let engine = open(folder, &clock(), 3);
        let from = [0, 40, 20, 55][round];
        let times: Vec<i64> = (from..from + 64).map(|row| BEGIN_NS + SECOND_NS * row).collect();
        write(&engine, "energy", "inv1", &times, &mut columns, &mut dice);
        if round % 2 == 0 {
            engine.seal().unwrap();
        }
        let unit = Unit::new(["W", "kW", "MW", "GW"][round]);
        let meaning = FieldMeaning { field: "pv".to_owned(), unit, kind: FieldKind::Step };
        engine.describe_fields("wattlog", "energy", &[meaning]).unwrap();
        let durability = Durability::Interval(Duration::from_millis(10 + round as u64));
        engine.set_durability("wattlog", None, durability).unwrap();
        write(&engine, "energy", "inv1", &times[..5], &mut columns, &mut dice);
        engine.close().unwrap();
    }
}

/// Segments that compactions wrote over two months and several days, a tombstone that one has dropped, one that the
/// manifest still has, and two in the log, before rows that are written again.
fn deletes(folder: &Path) {
    let mut dice = Dice::new(5);
    let mut columns = [
        ("pv".to_owned(), Presence::All, Source::new(Kind::Float(Shape::Decimal), &mut dice)),
        ("total".to_owned(), Presence::Share(60), Source::new(Kind::Integer(Shape::Counter), &mut dice)),
        ("state".to_owned(), Presence::Every(5), Source::new(Kind::String(Shape::Word), &mut dice)),
    ];
    let minutes = |from: i64, to: i64| BEGIN_NS + 60 * SECOND_NS * from..BEGIN_NS + 60 * SECOND_NS * to;
    let alive = folder.with_extension("alive");
    let engine = open(&alive, &clock(), 5);
    let mut rows = |engine: &Engine, id: &str, from: i64, to: i64, step: usize| {
        let times: Vec<i64> = (from..to).step_by(step).map(|minute| minutes(minute, minute).start).collect();
        write(engine, "energy", id, &times, &mut columns, &mut dice);
    };
    for id in ["inv1", "inv2"] {
        rows(&engine, id, 0, 2 * 1440, 180);
        rows(&engine, id, 38 * 1440, 38 * 1440 + 60, 10);
    }
    engine.seal().unwrap();
    delete(&engine, minutes(100, 1000), &["pv"], &["inv1"]);
    rows(&engine, "inv1", 400, 500, 20);
    engine.compact().unwrap();
    rows(&engine, "inv2", 2 * 1440, 2 * 1440 + 70, 5);
    engine.seal().unwrap();
    delete(&engine, minutes(2 * 1440 + 10, 38 * 1440 + 10), &[], &[]);
    delete(&engine, minutes(-1, 60), &["state", "total"], &["inv2", "inv3"]);
    rows(&engine, "inv2", 2 * 1440 + 20, 2 * 1440 + 40, 5);
    engine.seal().unwrap();
    rows(&engine, "inv1", 38 * 1440, 38 * 1440 + 60, 3);
    delete(&engine, minutes(38 * 1440 + 30, 38 * 1440 + 50), &[], &["inv1"]);
    delete(&engine, minutes(1000, 1200), &["pv", "total", "state"], &[]);
    rows(&engine, "inv1", 38 * 1440 + 35, 38 * 1440 + 45, 3);
    copy_folder(&alive, folder);
}

/// No fields: all of them. No ids: all series.
fn delete(engine: &Engine, times: std::ops::Range<i64>, fields: &[&str], ids: &[&str]) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let of = |ids| TagFilter { key: "id".to_owned(), predicate: TagPredicate::In(owned(ids)) };
    let request = DeleteRequest {
        database: "wattlog".to_owned(),
        retention_policy: None,
        measurement: Some("energy".to_owned()),
        fields: (!fields.is_empty()).then(|| owned(fields)),
        tags: (!ids.is_empty()).then(|| of(ids)).into_iter().collect(),
        start: Timestamp(times.start),
        end: Timestamp(times.end),
    };
    assert!(engine.delete(&request).unwrap().series > 0);
}

/// Rules of a database, a measurement, and one that inherits again; a file that was dropped as a whole, rows hidden in
/// segments and in the log, and a snapshot that tells of it all.
fn retention(folder: &Path) {
    let mut dice = Dice::new(6);
    let mut columns = [
        ("pv".to_owned(), Presence::All, Source::new(Kind::Float(Shape::Decimal), &mut dice)),
        ("total".to_owned(), Presence::Share(60), Source::new(Kind::Integer(Shape::Counter), &mut dice)),
    ];
    let hours = |from: i64, to: i64| -> Vec<i64> {
        (from..to).map(|hour| BEGIN_NS + 3600 * SECOND_NS * hour).collect()
    };
    let alive = folder.with_extension("alive");
    let clock = clock();
    clock.set_wall(Timestamp(BEGIN_NS + 5 * Timestamp::DAY_NS));
    let engine = open(&alive, &clock, 6);
    engine.confirm_clock().unwrap();
    write(&engine, "energy", "inv1", &hours(0, 24), &mut columns, &mut dice);
    engine.seal().unwrap();
    for measurement in ["energy", "weather", "system"] {
        write(&engine, measurement, "inv1", &hours(24, 48), &mut columns, &mut dice);
    }
    engine.seal().unwrap();
    let keep = |hours: u64| Rule::Keep { ns: 3_600_000_000_000 * hours };
    let set =
        |engine: &Engine, own: Option<&str>, rule| engine.set_retention("wattlog", None, own, rule).unwrap();
    set(&engine, Some("weather"), Rule::Forever);
    set(&engine, Some("system"), keep(76));
    set(&engine, Some("system"), Rule::Inherited);
    engine.close().unwrap();
    let engine = open(&alive, &clock, 6);
    set(&engine, None, keep(90));
    engine.retain().unwrap();
    write(&engine, "energy", "inv1", &hours(60, 70), &mut columns, &mut dice);
    set(&engine, None, keep(56));
    set(&engine, None, Rule::Forever);
    copy_folder(&alive, folder);
}

/// What a power cut leaves: logs without their end, a step of the clock, a last record that is not whole.
fn torn(folder: &Path) {
    let mut dice = Dice::new(4);
    let clock = clock();
    let mut columns = [
        ("pv".to_owned(), Presence::All, Source::new(Kind::Float(Shape::Decimal), &mut dice)),
        ("note".to_owned(), Presence::Every(4), Source::new(Kind::String(Shape::Sentence), &mut dice)),
    ];
    let alive = folder.with_extension("alive");
    let engine = open(&alive, &clock, 4);
    for body in 0..6 {
        let times: Vec<i64> = (0..16).map(|row| BEGIN_NS + 60 * SECOND_NS * (10 * body + row)).collect();
        write(&engine, "energy", "inv1", &times, &mut columns, &mut dice);
        if body == 1 {
            engine.seal().unwrap();
        }
        if body == 3 {
            clock.set_wall(Timestamp(BEGIN_NS + 3600 * SECOND_NS));
        }
    }
    copy_folder(&alive, folder);
    tear(folder, &mut dice);
}

fn write(
    engine: &Engine,
    measurement: &str,
    id: &str,
    times: &[i64],
    columns: &mut [(String, Presence, Source)],
    dice: &mut Dice,
) {
    let mut batch = WriteBatch::new("wattlog", None);
    let slot = batch.series(measurement, &TagSet::new([("id", id)]).unwrap());
    for (number, time) in times.iter().enumerate() {
        let mut row = batch.row(slot, Timestamp(*time), number as u32);
        for (name, presence, source) in &mut *columns {
            if presence.is_there(number as u64, times.len() as u64, dice) {
                row.value(name, &source.next(dice));
            }
        }
    }
    let receipt = engine.write(batch).unwrap();
    assert!(receipt.rejected.is_empty(), "{:?}", receipt.rejected);
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp(BEGIN_NS)))
}

/// The lock names a process, the ballast and spare logs mean nothing: none of them is part of what a version promises.
fn leave_out_what_says_nothing(store: &Path) {
    for path in set_files(store) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "LOCK" || name == "ballast" || name.starts_with("spare-") {
            fs::remove_file(path).unwrap();
        }
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn set_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = folders(folder).iter().flat_map(|inner| set_files(inner)).collect();
    files.extend(
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()),
    );
    files
}
