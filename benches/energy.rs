//! Question: how long does a year of energy and its cost take, by month and by day, and how long does it take to keep it?
//!
//! Workload: ten devices, six fields every 10 s for a year (31.5 million rows; 31 days of homes over and over), and a market
//! price every 15 minutes, which g12 makes a tariff of. The quarters are computed from the points as they are after an import:
//! all at once. Then each question is asked by a process of its own that has opened the store and is at rest: its first answer,
//! and the median of 11 later ones. Then the same of the binary over HTTP, a new process at rest each time: with the files in the
//! page cache, and with nothing of them there when it was started (GNU dd asks the kernel to let them go; the line says so where
//! that cannot be done), but for what a start reads by itself.
//!
//! Not measured: a slow disk.
//!
//! `cargo bench --bench energy`; figures in milliseconds.

mod cases;
mod columns;
mod store;
#[path = "../tests/support/mod.rs"]
mod support;

use cases::{again, anon_mb};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{DATABASE, Plant, ROWS_PER_BODY, START_S, STEP_S, is_test};
use support::Server;
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
    // The binary's configuration lies beside its data.
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let path = data.to_str().expect("a path in UTF-8");
    println!("{}", again(&["--load", path, days]));
    println!("| by | first, ms | median of 11, ms | anon, MB |\n|---|---|---|---|");
    for period in ["month", "day"] {
        println!("{}", again(&["--ask", path, days, period]));
    }
    over_http(&data, days.parse().expect("a number"));
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

/// The same questions to the binary, which has a tariff for either direction.
fn over_http(data: &Path, days: usize) {
    println!("\n| HTTP, by | page cache | first, ms | median of 11, ms | kB |\n|---|---|---|---|---|");
    let server = serve(data);
    for direction in ["import", "export"] {
        let tariff = serde_json::json!({
            "name": format!("g12 {direction}"),
            "direction": direction,
            "valid_from": "2020-01-01T00:00:00Z",
            "definition": { "builtin": "g12" },
        });
        let (status, told) = server.post("/api/v1/tariffs", tariff.to_string().as_bytes());
        assert_eq!(status, 201, "{told}");
    }
    // What is new to it (the tariffs, all those quarters) makes work for the background. Another time it finds it done.
    rest(&server);
    assert!(server.stop().success());
    let at = |seconds: i64| jiff::Timestamp::from_second(seconds).expect("a time");
    let bounds = format!("start={}&end={}&tz=Europe/Warsaw", at(START_S), at(end_ns(days) / SECOND));
    for period in ["month", "day"] {
        let target = format!("/api/v1/energy?period={period}&{bounds}");
        for is_cold in [false, true] {
            if is_cold && !let_go(data) {
                println!("| {period} | empty | not measured: GNU dd is not here | | |");
                continue;
            }
            let server = serve(data);
            // What it does by itself after a start is done.
            rest(&server);
            let (first, len) = ask_http(&server, &target);
            let mut later: Vec<f64> = (0..11).map(|_| ask_http(&server, &target).0).collect();
            later.sort_by(f64::total_cmp);
            let (cache, kilobytes) = (if is_cold { "empty" } else { "full" }, len / 1000);
            println!("| {period} | {cache} | {first:.1} | {:.1} | {kilobytes} |", later[later.len() / 2]);
            assert!(server.stop().success());
        }
    }
}

fn serve(data: &Path) -> Server {
    Server::start(
        data,
        "server: { home_zone: Europe/Warsaw }\ncollector: { system_metrics: { enabled: false } }\n",
    )
}

/// Milliseconds and bytes of an answer that has all devices, and money.
fn ask_http(server: &Server, target: &str) -> (f64, usize) {
    let begun = Instant::now();
    let (status, text) = server.try_get(target).expect("an answer");
    let took = begun.elapsed().as_secs_f64() * 1e3;
    assert_eq!(status, 200, "{text}");
    let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["devices"].as_array().map(Vec::len), Some(DEVICES));
    let paid = told["devices"][0]["periods"][0]["cost"]["pln"].as_f64();
    assert!(paid.is_some_and(|paid| paid > 0.0), "{}", told["notes"]);
    (took, text.len())
}

/// Until the process has used no processor time to speak of for a second.
fn rest(server: &Server) {
    let used_ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it runs");
        let fields: Vec<i64> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        // Behind the state, which is no number: user and system time are the 14th and 15th of all fields.
        fields[10] + fields[11]
    };
    let (begun, mut before) = (Instant::now(), used_ticks());
    loop {
        assert!(begun.elapsed() < Duration::from_secs(600), "it does not come to rest");
        std::thread::sleep(Duration::from_secs(1));
        let now = used_ticks();
        if now - before <= 1 {
            return;
        }
        before = now;
    }
}

/// Asks the kernel to forget the files of a folder; false where that cannot be done.
fn let_go(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("a folder").flatten().all(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return let_go(&path);
        }
        let input = format!("if={}", path.display());
        let dropped = Command::new("dd").args([&input, "iflag=nocache", "count=0", "status=none"]).status();
        dropped.is_ok_and(|status| status.success())
    })
}
