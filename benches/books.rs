//! Question: how long after an import until its sessions and reports are in the ledger, and how long when all is looked at again
//! and nothing comes out differently?
//!
//! Workload: homes of `columns` for a year, sealed and merged, whose batteries charge by day and give by night and now and then
//! sell; a market price every 15 minutes under g12, a fixed price for what is sold. Energies by quarter are there already. Each
//! case is a process of its own: one device at a minute, and ten devices every 10 s (31.5 million rows).
//!
//! Not measured: PostgreSQL over a network, a cold disk, HTTP.
//!
//! `cargo bench --bench books`; `-- one` or `-- ten` for one case. The floor is reading five columns once: `read`.

mod cases;
mod columns;
mod store;

use cases::{again, with_most_anon_mb};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{DATABASE, MEASUREMENT, Plant, START_S, STEP_S, is_test};
use tokio_util::sync::CancellationToken;
use wattlog_derived::books::{BookOptions, BookStatus, Bookkeeper};
use wattlog_derived::energy::{EnergyKeeper, EnergyOptions};
use wattlog_derived::price::PRICES;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::query::{GroupBy, QueryControl, QueryRequest, TagFilter, TagPredicate, Zone};
use wattlog_engine::{DeleteRequest, Engine, Options, WriteBatch};
use wattlog_ledger::schema::{Direction, Report, Session, Tariff};
use wattlog_ledger::{Actor, Backend, Ledger, LedgerOptions, Listing};
use wattlog_model::{Clock, ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
const QUARTER: i64 = 900 * SECOND;
/// Days that a home has before it begins anew.
const PLANT_DAYS: usize = 31;
const FIELDS: [&str; 5] = ["battery_power", "grid_power", "pv_power", "consumption", "battery_soc"];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args[at].parse::<usize>().expect("a number");
    if args.get(1).is_some_and(|arg| arg == "--case") {
        return case(number(2), number(3) as i64, number(4));
    }
    let days = if is_test() { "3" } else { "365" };
    println!(
        "| devices, step | read, s | sessions first, s | and reports | sessions again, s | and reports | sessions, reports | anon, MB |\n|---|---|---|---|---|---|---|---|"
    );
    for (name, devices, step) in [("one", "1", "60"), ("ten", "10", "10")] {
        let is_other = |arg: &String| ["one", "ten"].contains(&arg.as_str()) && arg != name;
        if !args.iter().any(is_other) {
            println!("{}", again(&["--case", devices, step, days]));
        }
    }
}

fn case(devices: usize, step_s: i64, days: usize) {
    let folder = store::folder();
    // A year later all periods are over.
    let clock = Arc::new(ManualClock::new(Timestamp(START_S * SECOND + (days as i64 + 400) * DAY)));
    let disk = Arc::new(OsDisk::new(folder.path()).expect("the folder is there"));
    let engine = Engine::open(disk, Options::default(), clock.clone(), [7; 16]).expect("the store opens");
    load(&engine, &Plant::new(devices, PLANT_DAYS.min(days)), (devices, step_s, days));
    let energy = EnergyKeeper::start(engine.clone(), EnergyOptions::new(DATABASE), clock.clone());
    let energy = Arc::new(energy.expect("a thread"));
    settle(&energy, 0);
    engine.seal().expect("sealed");
    engine.compact().expect("merged");
    let begun = Instant::now();
    let rows = read(&engine, days);
    let read_s = begun.elapsed().as_secs_f64();
    assert_eq!(rows, devices * days * 86_400 / step_s as usize);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (told, most_mb) =
        with_most_anon_mb(|| runtime.block_on(keep(&engine, &energy, &clock, folder.path())));
    let [(first_s, first_all_s), (again_s, again_all_s)] = told.seconds;
    println!(
        "| {devices}, {step_s} s | {read_s:.2} | {first_s:.1} | {first_all_s:.1} | {again_s:.1} | {again_all_s:.1} | {}, {} | {most_mb:.0} |",
        told.sessions, told.reports
    );
    energy.stop();
    engine.close().expect("closed");
}

fn load(engine: &Engine, plant: &Plant, (devices, step_s, days): (usize, i64, usize)) {
    let (every, rows) = ((step_s / STEP_S) as usize, days * 86_400 / step_s as usize);
    for first in (0..rows).step_by(store::ROWS_PER_BODY) {
        let mut batch = WriteBatch::new(DATABASE, None);
        for device in 0..devices {
            let tags = TagSet::new([("device_id", format!("dev{device:03}"))]).expect("tags");
            let slot = batch.series(MEASUREMENT, &tags);
            let [soc, pv, grid, load] = [0, 2, 3, 4].map(|field| plant.column(device, field));
            for at in first..(first + store::ROWS_PER_BODY).min(rows) {
                let from = at * every % soc.len();
                // There + is taken from the grid; what is left over charges.
                let values =
                    [load[from] - pv[from] - grid[from], -grid[from], pv[from], load[from], soc[from]];
                let mut row = batch.row(slot, store::time_of(at * every), at as u32);
                for (name, value) in FIELDS.iter().zip(values) {
                    row.float(name, value);
                }
            }
        }
        assert!(engine.write(batch).expect("the disk takes it").rejected.is_empty());
    }
    let mut prices = WriteBatch::new(DATABASE, None);
    let tags = TagSet::new([("source", "pse"), ("product", "csdac-pln")]).expect("tags");
    let slot = prices.series(PRICES, &tags);
    for quarter in 0..days as i64 * 96 {
        let price = 0.4 + (quarter * 37 % 96) as f64 / 200.0;
        let time = Timestamp(START_S * SECOND + quarter * QUARTER);
        prices.row(slot, time, 0).float("market_price", price);
    }
    engine.write(prices).expect("the disk takes it");
    engine.seal().expect("sealed");
    engine.compact().expect("merged");
}

/// Reads the columns that sessions are made of, a day at a time; gives the rows.
fn read(engine: &Engine, days: usize) -> usize {
    let day = |day: usize| {
        let start = START_S * SECOND + day as i64 * DAY;
        let request = QueryRequest {
            fields: Some(FIELDS.map(str::to_owned).to_vec()),
            group_by: GroupBy::Keys(vec!["device_id".to_owned()]),
            ..QueryRequest::raw(DATABASE, MEASUREMENT, Timestamp(start), Timestamp(start + DAY))
        };
        let told = engine.query(&request, &QueryControl::default()).expect("an answer");
        told.series.iter().map(wattlog_engine::query::ResultSeries::rows).sum::<usize>()
    };
    (0..days).map(day).sum()
}

struct Told {
    sessions: usize,
    reports: usize,
    /// Until the sessions are there, and until all is: the first time, and again.
    seconds: [(f64, f64); 2],
}

async fn keep(engine: &Engine, energy: &Arc<EnergyKeeper>, clock: &Arc<ManualClock>, folder: &Path) -> Told {
    let clock: Arc<dyn Clock> = clock.clone();
    let file = Backend::Sqlite(folder.join("ledger.db"));
    let ledger = Ledger::new(LedgerOptions::new(file), clock.clone()).expect("options");
    for (direction, definition) in [
        (Direction::Import, serde_json::json!({ "builtin": "g12" })),
        (Direction::Export, serde_json::json!({ "sold": true, "energy": { "fixed_pln_kwh": 0.3 } })),
    ] {
        let tariff = Tariff {
            name: direction.as_str().to_owned(),
            direction,
            valid_from: Timestamp(START_S * SECOND - 30 * DAY),
            valid_until: None,
            currency: "PLN".to_owned(),
            definition,
            note: String::new(),
        };
        ledger.insert(tariff, &Actor::new("bench")).await.expect("stored");
    }
    let mut seconds = [(0.0, 0.0); 2];
    for (at, seconds) in seconds.iter_mut().enumerate() {
        if at > 0 {
            let rows = energy.status().rows;
            forget(engine);
            // It tells of deleted rows, not whose: energies are computed again too, and are no part of the question.
            settle(energy, rows);
        }
        let begun = Instant::now();
        let options = BookOptions::new(DATABASE, Zone::named("Europe/Warsaw").expect("a zone"));
        let books = Bookkeeper::new(engine.clone(), ledger.clone(), energy.clone(), options, clock.clone());
        let (books, over) = (Arc::new(books), CancellationToken::new());
        let (running, ended) = (books.clone(), over.clone());
        let task = tokio::spawn(async move { running.run(ended).await });
        let until = async |done: fn(&BookStatus) -> bool| {
            while !done(&books.status()) {
                assert_eq!(books.status().error, None);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            begun.elapsed().as_secs_f64()
        };
        // Before it has looked at the store nothing is due, but the reports of all times are once it has.
        let found_s = until(|s| s.sessions.is_empty() && !s.reports.is_empty()).await;
        *seconds = (found_s, until(|s| s.rounds > 0).await);
        let status = books.status();
        assert_eq!(status.reports, [], "all periods are over, and their energies are there");
        assert_eq!(status.notes, [""; 0]);
        assert_eq!(status.sessions_written + status.reports_written > 0, at == 0, "{status:?}");
        over.cancel();
        task.await.expect("it ends well");
    }
    let (sessions, reports) = (count::<Session>(&ledger).await, count::<Report>(&ledger).await);
    assert!(sessions > 0 && reports > 0, "a home that does nothing tells nothing");
    ledger.close().await;
    Told { sessions, reports, seconds }
}

/// Deletes the place of the books, and with it what is known to be done.
fn forget(engine: &Engine) {
    let predicate = TagPredicate::In(vec!["books".to_owned()]);
    let all = DeleteRequest {
        database: DATABASE.to_owned(),
        retention_policy: None,
        measurement: Some("derived_state".to_owned()),
        fields: None,
        tags: vec![TagFilter { key: "of".to_owned(), predicate }],
        start: Timestamp(i64::MIN),
        end: Timestamp(i64::MAX),
    };
    engine.delete(&all).expect("deleted");
}

/// Waits until more than so many rows of energies were computed, and none waits.
fn settle(energy: &EnergyKeeper, before: u64) {
    loop {
        let status = energy.status();
        if status.is_following && status.pending.is_empty() && status.rows > before {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn count<R: wattlog_ledger::Record>(ledger: &Ledger) -> usize {
    let mut listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() };
    let mut count = 0;
    loop {
        let page = ledger.list::<R>(&listing).await.expect("it answers");
        count += page.records.len();
        let Some(next) = page.next else { return count };
        listing.after = Some(next);
    }
}
