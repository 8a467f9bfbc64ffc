//! Question: what does a store cost as it grows, in points and in series, to fill, to open, to hold and to ask?
//!
//! Workload: one field, one decimal, made in process and never written out as text; one row per series every 10 s (every
//! second where a single series would outlive its range of times). A body holds fifty rows of each of a thousand series, or
//! of as many as there are, whatever the store holds beside them. Each case runs in processes of its own: one writes
//! all rows, seals and compacts; another opens the store and asks for the newest value of a series, for an hour of raw
//! points in the middle of its history and for the hourly means of the 24 h around it. Answers are checked.
//!
//! `cargo bench --bench growth` prints the table up to 10^8 points; `-- --most 1000000000` goes on to 10^9 (gigabytes and
//! half an hour), `--least` leaves the smaller ones out. Latencies are medians of 101 in a warm page cache.
//!
//! Not measured: HTTP, a cold disk, several writers, bodies with one row of each of 50 000 series (6 us of
//! processor time a row, seals and merging included, where this shape takes less than one).

mod cases;

use cases::{all, anon_mb, files, median};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::query::{
    Function, QueryRequest, QueryResult, ResultValues, Shape, TagFilter, TagPredicate,
};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

/// 2000-01-01: years of seconds lie before the end of time.
const START_S: i64 = 946_684_800;
const SECOND: i64 = 1_000_000_000;
/// Rows of a body, and most series in it.
const BODY_ROWS: u64 = 50_000;
const BODY_SERIES: u64 = 1000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args[at].parse::<u64>().expect("a number");
    match args.get(1).map(String::as_str) {
        Some("--load") => return load(Path::new(&args[2]), Case { points: number(3), series: number(4) }),
        Some("--ask") => return ask(Path::new(&args[2]), Case { points: number(3), series: number(4) }),
        _ => {}
    }
    let is_test = !args.iter().any(|arg| arg == "--bench");
    let bound =
        |name: &str, other| args.iter().position(|arg| arg == name).map_or(other, |at| number(at + 1));
    let wanted = bound("--least", 0)..=bound("--most", 100_000_000);
    let (points, series): (&[u64], &[u64]) = if is_test {
        (&[20_000], &[1, 100])
    } else {
        (&[1_000_000, 10_000_000, 100_000_000, 1_000_000_000], &[1, 1000, 100_000, 1_000_000])
    };
    println!(
        "| points | series | fill, M/s | seal + compact, s | B/point | files | anon while filling, MB | open, ms | \
         anon, MB | newest, us | hour, us | day of hours, us |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for points in points.iter().filter(|points| wanted.contains(points)) {
        for series in series.iter().filter(|series| *series <= points) {
            println!("{}", row(Case { points: *points, series: *series }));
        }
    }
}

/// One line of the table.
fn row(case: Case) -> String {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder can be written");
    let (path, points, series) =
        (folder.path().to_str().expect("a path in UTF-8"), case.points.to_string(), case.series.to_string());
    let run = |what: &str| cases::again(&[what, path, &points, &series]);
    let (filled, asked) = (run("--load"), run("--ask"));
    format!("| {} | {} | {filled} | {asked} |", case.points, case.series)
}

#[derive(Debug, Clone, Copy)]
struct Case {
    points: u64,
    series: u64,
}

impl Case {
    /// Rows of each series.
    fn rows(self) -> u64 {
        self.points / self.series
    }

    fn step_s(self) -> i64 {
        if self.rows() > 200_000_000 { 1 } else { 10 }
    }

    fn time(self, row: u64) -> i64 {
        (START_S + row as i64 * self.step_s()) * SECOND
    }

    fn value(series: u64, row: u64) -> f64 {
        let noise = (row ^ series << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        ((row / 6 + series * 37) % 5000 + noise) as f64 / 10.0
    }

    fn open(folder: &Path) -> Engine {
        let disk = Arc::new(OsDisk::new(folder).expect("the folder is there"));
        let clock = Arc::new(ManualClock::new(Timestamp(4_000_000_000 * SECOND)));
        Engine::open(disk, Options::default(), clock, [7; 16]).expect("the store opens")
    }
}

/// Fills a store; prints points per second, seconds of sealing and compacting, bytes per point, files, most memory.
fn load(folder: &Path, case: Case) {
    let engine = Case::open(folder);
    let tags: Vec<TagSet> =
        (0..case.series).map(|i| TagSet::new([("id", i.to_string())]).expect("valid tags")).collect();
    let mut most_anon = 0.0_f64;
    let begun = Instant::now();
    let rows_at_once = BODY_ROWS / case.series.min(BODY_SERIES);
    let mut row = 0;
    while row < case.rows() {
        let rows = rows_at_once.min(case.rows() - row);
        for (first, tags) in tags.chunks(BODY_SERIES as usize).enumerate() {
            let mut batch = WriteBatch::new("growth", None);
            let mut line = 0;
            for (i, tags) in tags.iter().enumerate() {
                let series = first as u64 * BODY_SERIES + i as u64;
                let slot = batch.series("m", tags);
                for row in row..row + rows {
                    line += 1;
                    batch.row(slot, Timestamp(case.time(row)), line).float("v", Case::value(series, row));
                }
            }
            let receipt = engine.write(batch).expect("the disk takes it");
            assert!(receipt.rejected.is_empty());
            most_anon = most_anon.max(anon_mb());
        }
        row += rows;
    }
    let filled = begun.elapsed();
    let begun = Instant::now();
    engine.seal().expect("sealed");
    engine.compact().expect("compacted");
    let compacted = begun.elapsed();
    most_anon = most_anon.max(anon_mb());
    assert_eq!(engine.storage().values, case.points);
    engine.close().expect("closed");
    let (files, bytes) = all(&files(folder));
    println!(
        "{:.2} | {:.1} | {:.3} | {files} | {most_anon:.0}",
        case.points as f64 / filled.as_secs_f64() / 1e6,
        compacted.as_secs_f64(),
        bytes as f64 / case.points as f64,
    );
}

/// Opens a store and asks; prints milliseconds, megabytes, and microseconds of each question.
fn ask(folder: &Path, case: Case) {
    let begun = Instant::now();
    let engine = Case::open(folder);
    let opened = begun.elapsed();
    let anon = anon_mb();
    let (series, middle) = (case.series / 2, case.rows() / 2);
    let rows_of = |span_s: i64| (span_s / case.step_s()) as u64;
    let request = |shape: Shape, from: u64, to: u64| QueryRequest {
        tags: vec![TagFilter { key: "id".into(), predicate: TagPredicate::In(vec![series.to_string()]) }],
        shape,
        ..QueryRequest::raw("growth", "m", Timestamp(case.time(from)), Timestamp(case.time(to)))
    };
    let floats = |answer: &QueryResult| match &answer.series[0].columns[1].values {
        ResultValues::Float(values) => values.clone(),
        other => panic!("{other:?}"),
    };

    let newest = request(Shape::Last, 0, case.rows());
    let (newest_us, answer) = median(101, &engine, &newest);
    assert_eq!(floats(&answer), [Some(Case::value(series, case.rows() - 1))]);

    let hour = middle..(middle + rows_of(3600)).min(case.rows());
    let (hour_us, answer) = median(101, &engine, &request(Shape::Raw, hour.start, hour.end));
    assert!(floats(&answer).into_iter().eq(hour.map(|row| Some(Case::value(series, row)))));

    let day = middle.saturating_sub(rows_of(43_200))..(middle + rows_of(43_200)).min(case.rows());
    let hourly = Shape::aggregate(vec![Function::Mean, Function::Count], Some(Duration::from_secs(3600)));
    let (day_us, answer) = median(101, &engine, &request(hourly, day.start, day.end));
    let ResultValues::Integer(counts) = &answer.series[0].columns[2].values else { panic!("counts") };
    assert_eq!(counts.iter().flatten().sum::<i64>() as u64, day.end - day.start);
    println!("{:.1} | {anon:.1} | {newest_us:.0} | {hour_us:.0} | {day_us:.0}", opened.as_secs_f64() * 1e3);
    engine.close().expect("closed");
}
