//! Question: how long does a year of money take, energy, its cost at a price of quarter hours, and the growth of a meter?
//!
//! Workload: ten devices, power (W, one decimal) and an energy meter (kWh, one decimal) every 10 s from new year to new year in
//! Warsaw, and a price every 15 minutes: 63 million values, sealed, compacted at the midnights of Warsaw. Asked of one device and of
//! all, by month and by day of that zone: `integral`, `cost`, `increase`. A month answers a bill, a day the drawing beside it.
//!
//! The store is filled by one process; each question is asked by another, that has just opened it: its first answer, which finds
//! nothing opened yet, then the median of 11 later ones. Every number of every answer is compared with sums over all pairs of neighbours,
//! in whole numbers.
//!
//! Not measured: HTTP, a cold disk, powers that change faster than prices, meters that begin again.
//!
//! `cargo bench --bench year`; figures in milliseconds.

mod cases;

use cases::{all, files, median, timed, with_most_anon_mb};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::options::Midnights;
use wattlog_engine::query::{
    Aggregate, Every, Function, GroupBy, PriceSource, QueryRequest, ResultSeries, ResultValues, Shape,
    TagFilter, TagPredicate, Zone,
};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{FieldKind, FieldMeaning, ManualClock, TagSet, Timestamp, Unit};

const SECOND: i64 = 1_000_000_000;
const STEP_S: i64 = 10;
/// Rows in which a price holds.
const PRICE_ROWS: usize = 900 / STEP_S as usize;
const DATABASE: &str = "wattlog";
const ZONE: &str = "Europe/Warsaw";
/// Rows of a body, over all devices.
const BODY_ROWS: usize = 50_000;
/// Of devices that are asked for alone.
const DEVICE: usize = 0;

const FUNCTIONS: [Function; 3] = [Function::Integral, Function::Cost, Function::Increase];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--load") => return load(Path::new(&args[2]), &Year::of(&args[3])),
        Some("--ask") => return ask(Path::new(&args[2]), &Year::of(&args[3]), Question::of(&args[4])),
        _ => {}
    }
    let size = if args.iter().any(|arg| arg == "--bench") { "year" } else { "test" };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder can be written");
    let path = folder.path().to_str().expect("a path in UTF-8");
    println!("{}\n", cases::again(&["--load", path, size]));
    println!(
        "| | devices | by | first, ms | median of 11, ms | blocks decoded | from statistics |\n|---|---|---|---|---|---|---|"
    );
    for number in 0..Question::COUNT {
        println!("{}", cases::again(&["--ask", path, size, &number.to_string()]));
    }
}

/// One thing to ask.
#[derive(Debug, Clone, Copy)]
struct Question {
    function: Function,
    of_all: bool,
    by_day: bool,
}

impl Question {
    const COUNT: usize = FUNCTIONS.len() * 4;

    fn of(number: &str) -> Self {
        let number: usize = number.parse().expect("a number");
        Self { function: FUNCTIONS[number / 4], of_all: number % 4 >= 2, by_day: number % 2 == 1 }
    }
}

/// What is written: from the first of January on, so many days of so many devices.
struct Year {
    devices: usize,
    /// Local midnights in seconds; the last one is the end.
    midnights: Vec<i64>,
    /// Places in `midnights` of the days that begin a month.
    months: Vec<usize>,
}

impl Year {
    fn of(size: &str) -> Self {
        let (devices, days) = if size == "year" { (10, 365) } else { (2, 33) };
        let zone: TimeZone = TimeZoneDatabase::bundled().get(ZONE).expect("a zone that there is");
        let mut date = jiff::civil::date(2025, 1, 1);
        let (mut midnights, mut months) = (Vec::new(), Vec::new());
        for day in 0..=days {
            if date.day() == 1 {
                months.push(day);
            }
            let midnight = zone.to_timestamp(date.at(0, 0, 0, 0)).expect("midnight comes every day there");
            midnights.push(midnight.as_second());
            date = date.tomorrow().expect("far from the end of time");
        }
        Self { devices, midnights, months }
    }

    fn start_s(&self) -> i64 {
        self.midnights[0]
    }

    fn end_s(&self) -> i64 {
        *self.midnights.last().expect("an end")
    }

    /// Rows of a device: the last one is at the end.
    fn rows(&self) -> usize {
        self.row_at(self.end_s()) + 1
    }

    fn row_at(&self, second: i64) -> usize {
        ((second - self.start_s()) / STEP_S) as usize
    }

    fn time(&self, row: usize) -> Timestamp {
        Timestamp((self.start_s() + row as i64 * STEP_S) * SECOND)
    }

    /// Where buckets begin, and the end: as seconds.
    fn edges(&self, by_day: bool) -> Vec<i64> {
        if by_day {
            return self.midnights.clone();
        }
        let firsts = self.months.iter().map(|day| self.midnights[*day]);
        firsts.filter(|first| *first < self.end_s()).chain([self.end_s()]).collect()
    }

    fn open(&self, folder: &Path) -> Engine {
        let disk = Arc::new(OsDisk::new(folder).expect("the folder is there"));
        let clock = Arc::new(ManualClock::new(Timestamp((self.end_s() + 3600) * SECOND)));
        let midnights: Vec<i64> = self.midnights.iter().map(|second| second * SECOND).collect();
        let within = move |range: std::ops::Range<i64>| {
            midnights.iter().copied().filter(|midnight| range.contains(midnight)).collect()
        };
        let options = Options { midnights: Midnights::new(within), ..Options::default() };
        Engine::open(disk, options, clock, [7; 16]).expect("the store opens")
    }
}

/// The readings of a device, row after row, in whole numbers: tenths of a watt, and tenths of a kilowatt hour of its meter.
struct Readings {
    device: usize,
    row: usize,
    /// Watt seconds: a tenth of a watt for 10 s is one.
    total: i64,
}

impl Readings {
    fn of(device: usize) -> Self {
        Self { device, row: 0, total: device as i64 * 1_000_000_000 }
    }
}

impl Iterator for Readings {
    type Item = (i64, i64);

    fn next(&mut self) -> Option<(i64, i64)> {
        let of_day = (self.row % 8640) as i64;
        let noise = ((self.row ^ (self.device << 40)) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let power = 1500 + 5 * (4320 - (of_day - 4320).abs()) + noise as i64;
        let reading = (power, self.total / 360_000);
        self.total += power;
        self.row += 1;
        Some(reading)
    }
}

/// Ten-thousandths of PLN per kWh in a quarter of an hour; below zero now and then.
fn price(quarter: usize) -> i64 {
    (quarter * 7919 % 12_000) as i64 - 1000
}

/// Fills a store, seals and compacts it; prints what that took.
fn load(folder: &Path, year: &Year) {
    let engine = year.open(folder);
    let begun = Instant::now();
    let (values, most_anon) = with_most_anon_mb(|| {
        let values = write_prices(&engine, year) + write_readings(&engine, year);
        describe(&engine);
        values
    });
    let filled_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    engine.seal().expect("sealed");
    engine.compact().expect("compacted");
    let compacted_s = begun.elapsed().as_secs_f64();
    assert_eq!(engine.storage().values, values);
    engine.close().expect("closed");
    let (files, bytes) = all(&files(folder));
    println!(
        "{} rows of {} devices, {values} values: filled in {filled_s:.1} s ({:.2} M/s), sealed and compacted in {compacted_s:.1} s; \
         {files} files, {:.3} B/value, {most_anon:.0} MB of anonymous memory while filling",
        year.rows() * year.devices,
        year.devices,
        values as f64 / filled_s / 1e6,
        bytes as f64 / values as f64,
    );
}

fn write_prices(engine: &Engine, year: &Year) -> u64 {
    let mut batch = WriteBatch::new(DATABASE, None);
    let slot = batch.series("prices", &TagSet::new([("market", "day_ahead")]).expect("valid tags"));
    for row in (0..year.rows()).step_by(PRICE_ROWS) {
        let quarter = row / PRICE_ROWS;
        batch.row(slot, year.time(row), quarter as u32).float("price", price(quarter) as f64 / 1e4);
    }
    write(engine, batch)
}

fn write_readings(engine: &Engine, year: &Year) -> u64 {
    let tags: Vec<TagSet> =
        (0..year.devices).map(|i| TagSet::new([("device_id", name(i))]).expect("valid tags")).collect();
    let mut readings: Vec<Readings> = (0..year.devices).map(Readings::of).collect();
    let (mut values, mut first) = (0, 0);
    while first < year.rows() {
        let end = (first + BODY_ROWS / year.devices).min(year.rows());
        let mut batch = WriteBatch::new(DATABASE, None);
        let mut line = 0;
        for (tags, readings) in tags.iter().zip(&mut readings) {
            let slot = batch.series("energy_data", tags);
            for (at, (power, energy)) in (first..end).zip(readings) {
                line += 1;
                let mut row = batch.row(slot, year.time(at), line);
                row.float("consumption", power as f64 / 10.0);
                row.float("consumption_total", energy as f64 / 10.0);
            }
        }
        values += write(engine, batch);
        first = end;
    }
    values
}

fn write(engine: &Engine, batch: WriteBatch) -> u64 {
    let receipt = engine.write(batch).expect("the disk takes it");
    assert!(receipt.rejected.is_empty());
    receipt.values
}

fn describe(engine: &Engine) {
    let meaning =
        |field: &str, unit: &str, kind| FieldMeaning { field: field.to_owned(), unit: Unit::new(unit), kind };
    let energy = [
        meaning("consumption", "W", FieldKind::Linear),
        meaning("consumption_total", "kWh", FieldKind::Counter),
    ];
    engine.describe_fields(DATABASE, "energy_data", &energy).expect("described");
    let price = [meaning("price", "PLN/kWh", FieldKind::Step)];
    engine.describe_fields(DATABASE, "prices", &price).expect("described");
}

fn name(device: usize) -> String {
    format!("dev{device:02}")
}

/// Opens the store, asks one question, and prints its line of the table.
fn ask(folder: &Path, year: &Year, question: Question) {
    let engine = year.open(folder);
    let request = request(year, question);
    let (first_us, answer) = timed(&engine, &request);
    let (decoded, from_statistics) = (answer.stats.blocks_decoded, answer.stats.blocks_from_statistics);
    check(year, question, &answer.series);
    let (median_us, answer) = median(11, &engine, &request);
    check(year, question, &answer.series);
    engine.close().expect("closed");
    println!(
        "| {} | {} | {} | {:.1} | {:.1} | {decoded} | {from_statistics} |",
        question.function,
        if question.of_all { year.devices } else { 1 },
        if question.by_day { "day" } else { "month" },
        first_us / 1e3,
        median_us / 1e3,
    );
}

fn request(year: &Year, question: Question) -> QueryRequest {
    let field = if question.function == Function::Increase { "consumption_total" } else { "consumption" };
    let price = PriceSource {
        measurement: "prices".to_owned(),
        field: "price".to_owned(),
        tags: Vec::new(),
        max_age_ns: PriceSource::DEFAULT_MAX_AGE_NS,
    };
    let one = TagFilter { key: "device_id".into(), predicate: TagPredicate::In(vec![name(DEVICE)]) };
    let (start, end) = (Timestamp(year.start_s() * SECOND), Timestamp(year.end_s() * SECOND));
    QueryRequest {
        fields: Some(vec![field.to_owned()]),
        tags: if question.of_all { Vec::new() } else { vec![one] },
        group_by: GroupBy::Keys(vec!["device_id".into()]),
        shape: Shape::Aggregate(Aggregate {
            functions: vec![question.function],
            every: Some(if question.by_day { Every::Days(1) } else { Every::Months(1) }),
            zone: Zone::named(ZONE).expect("a zone that there is"),
            price: (question.function == Function::Cost).then_some(price),
            ..Aggregate::default()
        }),
        ..QueryRequest::raw(DATABASE, "energy_data", start, end)
    }
}

/// Compares the series of all devices that were asked for.
fn check(year: &Year, question: Question, found: &[ResultSeries]) {
    let asked = if question.of_all { 0..year.devices } else { DEVICE..DEVICE + 1 };
    assert_eq!(found.len(), asked.len());
    for (device, series) in asked.zip(found) {
        assert_eq!(series.tags, [("device_id".to_owned(), name(device))]);
        is_sum(year, question, device, series);
    }
}

/// Compares with sums over neighbours: buckets begin at rows, and prices change at rows.
fn is_sum(year: &Year, question: Question, device: usize, series: &ResultSeries) {
    let edges = year.edges(question.by_day);
    let ResultValues::Time(times) = &series.columns[0].values else { panic!("times come first") };
    let ResultValues::Float(found) = &series.columns[1].values else { panic!("sums are doubles") };
    assert_eq!((times.len(), found.len()), (edges.len() - 1, edges.len() - 1));
    let mut readings = Readings::of(device).enumerate().take(year.rows());
    let (mut row, mut reading) = readings.next().expect("a first row");
    for (bucket, edge) in edges.windows(2).enumerate() {
        assert_eq!(times[bucket], Some(edge[0] * SECOND));
        let mut sum = 0_i128;
        while row < year.row_at(edge[1]) {
            let (next_row, next) = readings.next().expect("a row at the end");
            let both = i128::from(reading.0 + next.0);
            sum += match question.function {
                Function::Integral => both,
                Function::Cost => both * i128::from(price(row / PRICE_ROWS)),
                Function::Increase => i128::from(next.1 - reading.1),
                other => panic!("{other} is not asked for"),
            };
            (row, reading) = (next_row, next);
        }
        // Half a sum of tenths of a watt over 10 s is a watt second; 3600 of them are a watt hour.
        let expected = match question.function {
            Function::Integral => sum as f64 / 2.0 / 3600.0,
            Function::Cost => sum as f64 / 2.0 / 3.6e6 / 1e4,
            _ => sum as f64 / 10.0,
        };
        let found = found[bucket].expect("every bucket is covered");
        assert!(
            (found - expected).abs() <= expected.abs() * 1e-12,
            "{question:?}: {found}, expected {expected}"
        );
    }
}
