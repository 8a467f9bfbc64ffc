//! Question: how long does a year of energy and its cost take, by month and by day, and how long does it take to keep it?
//!
//! Workload: ten devices, six fields every 10 s for a year (31.5 million rows; 31 days of homes over and over), and a market
//! price every 15 minutes, which g12 makes a tariff of. The quarters are computed from the points as they are after an import:
//! all at once. Then each question is asked by a process of its own that has opened the store and is at rest: its first answer,
//! and the median of 11 later ones.
//!
//! Not measured: HTTP and JSON, a cold disk.
//!
//! `cargo bench --bench energy`; figures in milliseconds.

mod cases;
mod columns;
mod store;

use cases::{again, anon_mb};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{DATABASE, Plant, ROWS_PER_BODY, START_S, STEP_S, is_test};
use wattlog_derived::PriceCache;
use wattlog_derived::energy::{
    EnergyCache, EnergyKeeper, EnergyOptions, EnergyRequest, EnergyStatus, QUARTER_NS, QUARTERS, answer,
};
use wattlog_derived::price::PRICES;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::query::{Every, QueryControl, Zone};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const DEVICES: usize = 10;
/// Days that the plant has before it begins anew.
const PLANT_DAYS: usize = 31;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--load") => return load(Path::new(&args[2]), days(&args[3])),
        Some("--ask") => return ask(Path::new(&args[2]), days(&args[3]), &args[4]),
        _ => {}
    }
    let days = if is_test() { "3" } else { "365" };
    let folder = store::folder();
    let path = folder.path().to_str().expect("a path in UTF-8");
    println!("{}", again(&["--load", path, days]));
    println!("| by | first, ms | median of 11, ms | anon, MB |\n|---|---|---|---|");
    for period in ["month", "day"] {
        println!("{}", again(&["--ask", path, days, period]));
    }
}

fn days(text: &str) -> usize {
    text.parse().expect("a number of days")
}

fn end_ns(days: usize) -> i64 {
    (START_S + days as i64 * 86_400) * SECOND
}

fn load(folder: &Path, days: usize) {
    let disk = Arc::new(OsDisk::new(folder).expect("the folder is there"));
    let clock = Arc::new(ManualClock::new(Timestamp(end_ns(days))));
    let engine = Engine::open(disk, Options::default(), clock.clone(), [7; 16]).expect("the store opens");
    let plant = Plant::new(DEVICES, PLANT_DAYS.min(days));
    let rows = days * 86_400 / STEP_S as usize;
    for first in (0..rows).step_by(ROWS_PER_BODY) {
        let body = plant.body(first, first, ROWS_PER_BODY.min(rows - first));
        assert!(engine.write(body).expect("the disk takes it").rejected.is_empty());
    }
    let mut prices = WriteBatch::new(DATABASE, None);
    let tags = TagSet::new([("source", "pse"), ("product", "csdac-pln")]).expect("tags");
    let slot = prices.series(PRICES, &tags);
    for quarter in 0..days as i64 * 96 {
        let price = 0.4 + (quarter * 37 % 96) as f64 / 200.0;
        let time = Timestamp(START_S * SECOND + quarter * QUARTER_NS);
        prices.row(slot, time, 0).float("market_price", price);
    }
    engine.write(prices).expect("the disk takes it");
    engine.seal().expect("sealed");
    engine.compact().expect("merged");
    let begun = Instant::now();
    let keeper = EnergyKeeper::start(engine.clone(), EnergyOptions::new(DATABASE), clock).expect("a thread");
    while {
        let status = keeper.status();
        !(status.is_following && status.pending.is_empty() && status.rows > 0)
    } {
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = begun.elapsed();
    engine.seal().expect("sealed");
    engine.compact().expect("merged");
    let kept = keeper.status().rows;
    let bytes = engine.measurement(DATABASE, QUARTERS).expect("it answers").map_or(0, |known| known.series);
    keeper.stop();
    println!(
        "{} rows of points, {kept} of quarters ({bytes} series) in {:.1} s, {:.2} us a row of points\n",
        rows * DEVICES,
        took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / (rows * DEVICES) as f64
    );
    engine.close().expect("closed");
}

fn ask(folder: &Path, days: usize, period: &str) {
    let disk = Arc::new(OsDisk::new(folder).expect("the folder is there"));
    let clock = Arc::new(ManualClock::new(Timestamp(end_ns(days))));
    let engine = Engine::open(disk, Options::default(), clock, [7; 16]).expect("the store opens");
    // As the keeper says when all is computed; what a restart costs is not the question here.
    let status = EnergyStatus { horizon: Some(end_ns(days)), is_following: true, ..EnergyStatus::default() };
    let options = EnergyOptions::new(DATABASE);
    let every = if period == "month" { Every::Months(1) } else { Every::Days(1) };
    let zone = Zone::named("Europe/Warsaw").expect("a zone that there is");
    let range = START_S * SECOND..end_ns(days);
    let (prices_known, months_known) = (PriceCache::default(), EnergyCache::default());
    let tariff = serde_json::json!({ "builtin": "g12" });
    let once = || {
        let begun = Instant::now();
        let control = QueryControl::default();
        let prices = prices_known.pieces(&tariff, (&engine, DATABASE), &range, &zone, &control);
        let prices = prices.expect("prices");
        if std::env::var_os("SPLIT").is_some() {
            println!("prices {:?}", begun.elapsed());
        }
        let request = EnergyRequest {
            range: range.clone(),
            now: range.end,
            every,
            zone: zone.clone(),
            device: None,
            import_prices: Some(prices.clone()),
            export_prices: Some(prices),
        };
        let told =
            answer(&engine, &options, (&status, Some(&months_known)), &request, &control).expect("energy");
        assert_eq!(told.devices.len(), DEVICES);
        let import: f64 = told.devices[0].periods.iter().filter_map(|period| period.values[3]).sum();
        assert!(import > 0.0, "a home that buys nothing tells nothing");
        begun.elapsed().as_secs_f64() * 1e3
    };
    let first = once();
    let mut later: Vec<f64> = (0..11).map(|_| once()).collect();
    later.sort_by(f64::total_cmp);
    println!("| {period} | {first:.1} | {:.1} | {:.0} |", later[later.len() / 2], anon_mb());
    engine.close().expect("closed");
}
