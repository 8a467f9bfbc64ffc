//! Question: what does a week of Home Assistant's habit cost, many measurements with many fields of which a row has few?
//!
//! Workload: 1000 entities with 200 fields each, 3 to 8 values in a row, numbers and texts (`home_assistant` tells what is in them);
//! 1.7 million rows in a week, at irregular times, those of all entities mixed; a body is what changed in a minute. Once with the
//! entity as the measurement (1000 measurements, 200 000 columns), once with the unit (20 measurements of 50 series). Default
//! options. The clock of the store goes with the data, so that seals come when they would. A week passes in a minute or two;
//! therefore the background gets time at each midnight of the data, until it changes no file for two of its looks.
//!
//! Each case runs in processes of its own: one writes everything, waits for the background, then seals and compacts; another opens the
//! store and asks. Answers are checked, and the number of values of every field is asked for and added up. Bounds: see `Bounds`.
//!
//! Not measured: HTTP and parsing, bodies of a second (as the integration sends them: sixty times as many syncs), a cold disk.
//!
//! `cargo bench --bench sparse_week`. Latencies are medians of 101 in a warm page cache.

mod cases;
mod home_assistant;

use cases::{all, anon_mb, files, median, with_most_anon_mb};
use home_assistant::{Changes, DATABASE, Entity, House, Naming, START_S};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::query::{
    Function, GroupBy, QueryControl, QueryRequest, QueryResult, ResultValues, Shape, TagFilter, TagPredicate,
};
use wattlog_engine::{Engine, Options, StorageInfo};
use wattlog_model::{ManualClock, Timestamp};

const SECOND: i64 = 1_000_000_000;
const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

/// What the week must not exceed; a small store is mostly names, of which only the files are bounded.
struct Bounds {
    /// Files once compacted.
    files: u64,
    /// Anonymous memory at any time of filling, and of compacting: in MB of 2^20 bytes.
    filling_mb: f64,
    compacting_mb: f64,
    /// Bytes of all files but logs, whose room is bounded whatever the values, for each value.
    bytes_a_value: f64,
}

const BY_ENTITY: Bounds = Bounds { files: 40, filling_mb: 300.0, compacting_mb: 400.0, bytes_a_value: 9.5 };
const BY_UNIT: Bounds = Bounds { files: 20, filling_mb: 200.0, compacting_mb: 200.0, bytes_a_value: 6.5 };

/// The background looks for work once a second.
const QUIET: Duration = Duration::from_millis(2500);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--load") => return load(Path::new(&args[2]), Case::of(&args[3], &args[4])),
        Some("--ask") => return ask(Path::new(&args[2]), Case::of(&args[3], &args[4])),
        _ => {}
    }
    let size = if args.iter().any(|arg| arg == "--bench") { "week" } else { "test" };
    let columns = ["entity", "unit"].map(|naming| column(naming, size));
    println!("| | measurement = entity | measurement = unit |\n|---|---|---|");
    for ((what, by_entity), (same, by_unit)) in columns[0].iter().zip(&columns[1]) {
        assert_eq!(what, same);
        println!("| {what} | {by_entity} | {by_unit} |");
    }
}

/// What a case costs, by name.
fn column(naming: &str, size: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder can be written");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let printed = ["--load", "--ask"].map(|what| cases::again(&[what, path, naming, size]));
    let lines = printed.iter().flat_map(|text| text.lines());
    let pair = |line: &str| line.split_once('\t').map(|(what, figure)| (what.to_owned(), figure.to_owned()));
    lines.map(|line| pair(line).expect("a name and a figure")).collect()
}

#[derive(Debug, Clone, Copy)]
struct Case {
    naming: Naming,
    is_week: bool,
}

impl Case {
    fn of(naming: &str, size: &str) -> Self {
        let naming = if naming == "entity" { Naming::ByEntity } else { Naming::ByUnit };
        Self { naming, is_week: size == "week" }
    }

    fn house(self) -> House {
        if self.is_week { House::new(1000, 200, self.naming) } else { House::new(40, 50, self.naming) }
    }

    fn days(self) -> u64 {
        if self.is_week { 7 } else { 1 }
    }

    fn seconds(self) -> u64 {
        self.days() * DAY_S
    }

    fn open(folder: &Path, clock: Arc<ManualClock>) -> Engine {
        let disk = Arc::new(OsDisk::new(folder).expect("the folder is there"));
        Engine::open(disk, Options::default(), clock, [7; 16]).expect("the store opens")
    }
}

fn time_of(second: u64) -> Timestamp {
    Timestamp((START_S + second as i64) * SECOND)
}

fn tell(what: &str, figure: impl std::fmt::Display) {
    println!("{what}\t{figure}");
}

/// Fills a store and compacts it; prints what that took and what is there.
fn load(folder: &Path, case: Case) {
    let house = case.house();
    let clock = Arc::new(ManualClock::new(time_of(0)));
    let engine = Case::open(folder, clock.clone());
    let ((written, filling), most_filling) = with_most_anon_mb(|| fill(&engine, &clock, &house, case));
    let metrics = engine.metrics();
    assert_eq!(engine.storage().values, written.values);
    tell("rows", written.rows);
    tell("values", written.values);
    tell("fill, values/s", format!("{:.0}", written.values as f64 / filling.as_secs_f64()));
    tell("seals", metrics.seals);
    tell("files, background at rest", told(folder));
    tell("anon while filling, at most, MB", format!("{most_filling:.0}"));
    let written_bytes = [
        ("log", metrics.wal_bytes_written),
        ("seals", metrics.segment_bytes_written),
        ("catalog", metrics.catalog_bytes_written),
        ("compactions", metrics.compaction_bytes_written),
    ];
    let a_value = |bytes: u64| bytes as f64 / written.values as f64;
    let parts = written_bytes.map(|(what, bytes)| format!("{what} {:.2}", a_value(bytes))).join(", ");
    tell("B/value written while filling", parts);

    let begun = Instant::now();
    let ((), most_compacting) = with_most_anon_mb(|| {
        engine.seal().expect("sealed");
        engine.compact().expect("compacted");
    });
    tell("seal + compact, s", format!("{:.1}", begun.elapsed().as_secs_f64()));
    tell("anon while compacting, at most, MB", format!("{most_compacting:.0}"));
    let storage = engine.storage();
    assert_eq!(
        (storage.values, storage.memtable_values),
        (written.values, 0),
        "nothing is lost, nothing twice"
    );
    engine.close().expect("closed");
    let there = files(folder);
    let (count, bytes) = all(&there);
    let logs = there.get("wal").map_or(0, |(_, bytes)| *bytes);
    tell("files, compacted and closed", told(folder));
    tell("MB of all files, of which logs", format!("{}, {}", bytes / 1_000_000, logs / 1_000_000));
    tell("B/value, all files but logs", format!("{:.2}", a_value(bytes - logs)));
    let StorageInfo { data_bytes, time_bytes, meta_bytes, catalog_bytes, .. } = storage;
    for (what, bytes) in
        [("data", data_bytes), ("time", time_bytes), ("meta", meta_bytes), ("catalog", catalog_bytes)]
    {
        tell(&format!("B/value, {what}"), format!("{:.2}", a_value(bytes)));
    }
    let bounds = if case.naming == Naming::ByEntity { BY_ENTITY } else { BY_UNIT };
    assert!(count < bounds.files, "{count} files");
    if case.is_week {
        let (filling_mb, compacting_mb) = (most_filling, most_compacting);
        assert!(filling_mb < bounds.filling_mb, "{filling_mb:.0} MB of anonymous memory while filling");
        assert!(compacting_mb < bounds.compacting_mb, "{compacting_mb:.0} MB while compacting");
        assert!(a_value(bytes - logs) < bounds.bytes_a_value, "{:.2} bytes a value", a_value(bytes - logs));
    }
}

struct Written {
    rows: u64,
    values: u64,
}

/// Writes all days; what that was, and the time that writing took, without the waits at midnight.
fn fill(engine: &Engine, clock: &ManualClock, house: &House, case: Case) -> (Written, Duration) {
    let mut changes = Changes::of(house);
    let (mut written, mut filling) = (Written { rows: 0, values: 0 }, Duration::ZERO);
    for day in 0..case.days() {
        let begun = Instant::now();
        for minute in 1..=DAY_S / MINUTE_S {
            clock.advance(Duration::from_secs(MINUTE_S));
            let batch = changes.until(day * DAY_S + minute * MINUTE_S);
            let rows = batch.points();
            let receipt = engine.write(batch).expect("the disk takes it");
            assert!(receipt.rejected.is_empty(), "{:?}", receipt.rejected);
            written.rows += rows;
            written.values += receipt.values;
        }
        filling += begun.elapsed();
        settle(engine);
    }
    (written, filling)
}

/// Waits until the background has nothing to do.
fn settle(engine: &Engine) {
    let state = || {
        let metrics = engine.metrics();
        (metrics.seals, metrics.compactions, metrics.compaction_bytes_written, engine.storage().segments)
    };
    let (mut last, mut since) = (state(), Instant::now());
    while since.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(50));
        let now = state();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// How many files there are, and of what.
fn told(folder: &Path) -> String {
    let files = files(folder);
    let parts: Vec<String> = files.iter().map(|(name, (count, _))| format!("{name} {count}")).collect();
    format!("{} ({})", all(&files).0, parts.join(", "))
}

/// Opens a store and asks; prints how long that took.
fn ask(folder: &Path, case: Case) {
    let house = case.house();
    let begun = Instant::now();
    let engine = Case::open(folder, Arc::new(ManualClock::new(time_of(case.seconds()))));
    tell("open, ms", format!("{:.1}", begun.elapsed().as_secs_f64() * 1e3));
    tell("anon after opening, MB", format!("{:.1}", anon_mb()));

    let entity = house.busy_entity();
    let (_, id) = house.tags(entity).iter().find(|(key, _)| *key == "entity_id").expect("a tag of each");
    let request = |shape: Shape| QueryRequest {
        fields: Some(vec!["value".into()]),
        tags: vec![TagFilter { key: "entity_id".into(), predicate: TagPredicate::In(vec![id.into()]) }],
        shape,
        ..QueryRequest::raw(DATABASE, &house.measurement(entity), time_of(0), time_of(case.seconds()))
    };
    let changes: Vec<(Timestamp, f64)> = Entity::changes(&house, entity, case.seconds())
        .map(|change| (change.time(), change.value.expect("a number")))
        .collect();

    let (newest_us, answer) = median(101, &engine, &request(Shape::Last));
    let newest = changes.last().expect("some changes");
    assert_eq!(floats(&answer, "value"), [Some(newest.1)]);
    tell("newest value of a field, us", format!("{newest_us:.0}"));

    let hourly = Shape::aggregate(vec![Function::Mean, Function::Count], Some(Duration::from_secs(HOUR_S)));
    let (means_us, answer) = median(101, &engine, &request(hourly));
    is_mean(&answer, &changes);
    tell("hourly means of a field, all days, us", format!("{means_us:.0}"));

    let begun = Instant::now();
    let measurements = house.measurements();
    let counted: u64 = measurements.iter().map(|name| count(&engine, &house, name, case)).sum();
    let all_ms = begun.elapsed().as_secs_f64() * 1e3;
    let written = (0..house.entities).flat_map(|entity| Entity::changes(&house, entity, case.seconds()));
    assert_eq!(counted, written.map(|change| change.values()).sum::<u64>());
    tell("every field of every measurement counted, ms", format!("{all_ms:.0}"));
    tell("anon after that, MB", format!("{:.1}", anon_mb()));
    engine.close().expect("closed");
}

/// Values of a measurement, all fields and series; each field is there.
fn count(engine: &Engine, house: &House, measurement: &str, case: Case) -> u64 {
    let request = QueryRequest {
        shape: Shape::aggregate(vec![Function::Count], None),
        group_by: GroupBy::Keys(Vec::new()),
        ..QueryRequest::raw(DATABASE, measurement, time_of(0), time_of(case.seconds()))
    };
    let answer = engine.query(&request, &QueryControl::default()).expect("an answer");
    assert!(!answer.is_partial() && answer.series.len() == 1);
    let counts = answer.series[0].columns[1..].iter().map(|column| match &column.values {
        ResultValues::Integer(values) => values.iter().flatten().sum::<i64>() as u64,
        other => panic!("{} is {other:?}", column.name),
    });
    let counts: Vec<u64> = counts.collect();
    // A measurement of one entity lacks `value`, `state`, or neither.
    assert!(!case.is_week || counts.len() + 1 >= house.fields(), "{measurement}: {} fields", counts.len());
    counts.iter().sum()
}

/// One row for each hour that has a change.
fn is_mean(answer: &QueryResult, changes: &[(Timestamp, f64)]) {
    let ResultValues::Time(hours) = &answer.series[0].columns[0].values else { panic!("times come first") };
    let hour_of = |time: Timestamp| time.0.div_euclid(HOUR_S as i64 * SECOND);
    let expected: Vec<_> = changes.chunk_by(|a, b| hour_of(a.0) == hour_of(b.0)).collect();
    let means = floats(answer, "value_mean");
    let ResultValues::Integer(counts) = &answer.series[0].column("value_count").expect("asked for").values
    else {
        panic!("counts")
    };
    assert_eq!(expected.len(), means.len());
    for (i, hour) in expected.iter().enumerate() {
        assert_eq!(hours[i], Some(hour_of(hour[0].0) * HOUR_S as i64 * SECOND));
        assert_eq!(counts[i], Some(hour.len() as i64));
        let mean = hour.iter().map(|(_, value)| value).sum::<f64>() / hour.len() as f64;
        let found = means[i].expect("a value in this hour");
        assert!((found - mean).abs() <= 1e-9 * mean.abs().max(1.0), "{found}, expected {mean}");
    }
}

fn floats(answer: &QueryResult, column: &str) -> Vec<Option<f64>> {
    match &answer.series[0].column(column).expect("the column was asked for").values {
        ResultValues::Float(values) => values.clone(),
        other => panic!("{column} is {other:?}"),
    }
}
