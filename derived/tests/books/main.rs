//! Sessions and reports in a ledger against the points they come from: by arithmetic of one's own, through late points, restarts
//! and kills, and with tariffs that change.

#[path = "../../../ledger/tests/support/cluster.rs"]
mod cluster;
mod home;
mod hostile;
mod postgres;
mod random;
mod saved;

use home::{Home, PATIENCE};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use wattlog_derived::energy::{EnergyRequest, QUARTERS, RAW, answer, figures};
use wattlog_derived::price::PRICES;
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_engine::query::{Every, QueryControl, Zone};
use wattlog_engine::{DeleteRequest, WriteBatch};
use wattlog_ledger::schema::{
    Device, DeviceKind, Direction, Report, Session, SessionKind, SessionOrigin, SessionSource, SessionStatus,
    Tariff,
};
use wattlog_ledger::{Actor, Expected, Stored};
use wattlog_model::{Clock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
/// 2026-10-24T22:00:00Z: midnight in Warsaw, before the day with 25 hours.
const START: i64 = 1_792_879_200 * SECOND;

/// Power of PV, battery, grid, house, and the state of charge, so many hours into a day of 24.
///
/// From 1 to 3 the battery takes 3.6 kW of the grid, from 11 to 12 it takes 3 kW of the roof, from 18 to 19 it gives 2.5 kW, half a
/// kilowatt of it to the house.
fn plant(ns: i64) -> [f64; 5] {
    let hour = ns.rem_euclid(24 * HOUR) as f64 / HOUR as f64;
    let within = |from: f64, to: f64| from <= hour && hour < to;
    let pv = if within(11.0, 12.0) {
        4000.0
    } else if within(10.5, 12.5) {
        500.0
    } else {
        0.0
    };
    let battery = if within(1.0, 3.0) {
        -3600.0
    } else if within(11.0, 12.0) {
        -3000.0
    } else if within(18.0, 19.0) {
        2500.0
    } else {
        0.0
    };
    [pv, battery, pv + battery - 500.0, 500.0, if within(3.0, 18.0) { 80.0 } else { 20.0 }]
}

type Point = (String, i64, [f64; 5]);

fn points(device: &str, hours: i64, step: i64) -> Vec<Point> {
    (0..=hours * HOUR / step).map(|i| (device.to_owned(), START + i * step, plant(i * step))).collect()
}

impl Home {
    fn open(disk: SimDisk, folder: &tempfile::TempDir, now: i64) -> Self {
        Self::open_at(disk, folder.path(), now)
    }

    fn open_at(disk: SimDisk, folder: &Path, now: i64) -> Self {
        Self::open_in(disk, folder, now, "Europe/Warsaw")
    }

    fn write(&self, points: &[Point]) {
        let mut batch = WriteBatch::new("wattlog", None);
        for (line, (device, time, values)) in points.iter().enumerate() {
            let slot = batch.series(RAW, &TagSet::new([("device_id", device.as_str())]).unwrap());
            let mut row = batch.row(slot, Timestamp(*time), line as u32);
            let names = ["pv_power", "battery_power", "grid_power", "consumption", "battery_soc"];
            for (name, value) in names.into_iter().zip(values) {
                row.float(name, *value);
            }
        }
        assert_eq!(self.engine.write(batch).unwrap().rejected, []);
    }

    async fn tariff(
        &self,
        direction: Direction,
        price: f64,
        from: i64,
        until: Option<i64>,
    ) -> Stored<Tariff> {
        self.ledger.insert(tariff(direction, price, from, until), &Actor::new("test")).await.unwrap()
    }
}

fn tariff(direction: Direction, price: f64, from: i64, until: Option<i64>) -> Tariff {
    Tariff {
        name: format!("{} {price}", direction.as_str()),
        direction,
        valid_from: Timestamp(from),
        valid_until: until.map(Timestamp),
        currency: "PLN".to_owned(),
        definition: serde_json::json!({ "sold": true, "energy": { "fixed_pln_kwh": price } }),
        note: String::new(),
    }
}

fn close(found: Option<f64>, wanted: f64, what: &str) {
    assert!(found.is_some_and(|found| (found - wanted).abs() < 2e-6), "{what}: {found:?}, not {wanted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_plant_are_those_of_arithmetic() {
    let folder = tempfile::tempdir().unwrap();
    plant_by_arithmetic(Home::open(SimDisk::new(1), &folder, START + 80 * HOUR)).await;
}

/// Three days of the plant at 10 s, with a price that changes and somebody else's session among them.
async fn plant_by_arithmetic(home: Home) {
    // The second night's charge is under way when the price rises.
    let turn = START + 26 * HOUR;
    home.tariff(Direction::Import, 0.8, START, Some(turn)).await;
    home.tariff(Direction::Import, 1.0, turn, None).await;
    home.tariff(Direction::Export, 0.4, START, None).await;
    // Somebody else's record that has the name that the third selling session would get.
    let told_start = START + (48 + 18) * HOUR - 10 * SECOND;
    let told: Session = serde_json::from_value(serde_json::json!({
        "session_id": format!("roof/selling/{told_start}"), "kind": "selling", "device_id": "roof",
        "start": jiff::Timestamp::from_nanosecond(told_start.into()).unwrap().to_string(),
        "source": "battery", "status": "planned", "energy_kwh": 9.0,
    }))
    .unwrap();
    assert_eq!(told.origin, SessionOrigin::Reported);
    let told = home.ledger.insert(told, &Actor::new("anna")).await.unwrap();
    for body in points("roof", 72, 10 * SECOND).chunks(5000) {
        home.write(body);
    }
    home.settle().await;
    let found = home.sessions().await;
    let mut seen = Vec::new();
    for stored in &found {
        let s = &stored.record;
        if stored.id == told.id {
            assert_eq!((stored, s.energy_kwh), (&told, Some(9.0)), "left as it was");
            continue;
        }
        assert_eq!((s.origin, s.status), (SessionOrigin::Detected, SessionStatus::Completed));
        assert_eq!((stored.version, stored.created.by.as_str()), (1, "analytics"), "{s:?}");
        assert_eq!((s.device_id.as_deref(), s.coverage), (Some("roof"), Some(1.0)));
        let (from, to) = (s.start.0 - START, s.end.unwrap().0 - START);
        let (day, hour) = (from / (24 * HOUR), (from + 10 * SECOND) % (24 * HOUR) / HOUR);
        // One reading before the power, one after it.
        assert_eq!((from + 10 * SECOND) % HOUR, 0, "{s:?}");
        let length = (to - from - 10 * SECOND) / HOUR;
        seen.push((day, hour, length));
        let what = format!("day {day}, {hour} h");
        match hour {
            1 => {
                assert_eq!((s.kind, s.source), (SessionKind::Charging, SessionSource::Grid), "{what}");
                // Two flanks of ten seconds make one whole one.
                close(s.energy_kwh, 7.2, &what);
                close(s.energy_grid_kwh, 7.2, &what);
                close(s.energy_pv_kwh, 0.0, &what);
                // Up to the turn a half flank and an hour, after it an hour less ten seconds and a half flank.
                let before = (18_000.0 + 3600.0 * 3600.0) / 3.6e6;
                let cost = [7.2 * 0.8, before * 0.8 + (7.2 - before) * 1.0, 7.2][day as usize];
                close(s.total_cost, cost, &what);
                close(s.average_price, cost / 7.2, &what);
                assert_eq!((s.battery_soc_start, s.battery_soc_end), (Some(20.0), Some(80.0)), "{what}");
                assert_eq!((s.peak_power_w, s.revenue), (Some(3600.0), None), "{what}");
            }
            11 => {
                assert_eq!((s.kind, s.source), (SessionKind::Charging, SessionSource::Pv), "{what}");
                close(s.energy_kwh, 3.0, &what);
                close(s.energy_pv_kwh, 3.0, &what);
                close(s.total_cost, 0.0, &what);
                assert_eq!(s.average_price, None, "{what}");
            }
            18 => {
                assert_eq!((s.kind, s.source), (SessionKind::Selling, SessionSource::Battery), "{what}");
                close(s.energy_kwh, 2.5, &what);
                // 2 kW for an hour less ten seconds; in a flank only what is above the house's 500 W, from a fifth of it on.
                let sold = (2000.0 * 3590.0 + 2.0 * 2000.0 * 8.0 / 2.0) / 3.6e6;
                close(s.energy_grid_kwh, sold, &what);
                close(s.revenue, sold * 0.4, &what);
                assert_eq!((s.energy_pv_kwh, s.total_cost), (None, None), "{what}");
            }
            _ => panic!("no session begins then: {s:?}"),
        }
    }
    let wanted: Vec<(i64, i64, i64)> = (0..3)
        .flat_map(|day| [(day, 1, 2), (day, 11, 1), (day, 18, 1)])
        .filter(|key| *key != (2, 18, 1))
        .collect();
    assert_eq!(seen, wanted);
    assert_eq!(home.books.status().sessions_written, 8);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tariff_that_changes_prices_its_sessions_again_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    // Days of 24 hours from the beginning on: what a night saved depends on all tariffs of its day.
    let home = Home::open_in(SimDisk::new(2), folder.path(), START + 80 * HOUR, "Etc/GMT-2");
    let turn = START + 24 * HOUR;
    home.tariff(Direction::Import, 0.8, START, Some(turn)).await;
    home.write(&points("roof", 72, 60 * SECOND));
    home.settle().await;
    let first = home.sessions().await;
    let night = |sessions: &[Stored<Session>], day: usize| sessions[3 * day].record.total_cost;
    assert_eq!(first.len(), 9);
    close(night(&first, 0), 7.2 * 0.8, "with a tariff");
    assert_eq!((night(&first, 1), night(&first, 2)), (None, None), "no price is made up");
    let second = home.tariff(Direction::Import, 1.0, turn, None).await;
    home.settle().await;
    let priced = home.sessions().await;
    assert_eq!(priced[..3], first[..3], "not its time");
    close(night(&priced, 1), 7.2, "with the second tariff");
    let changed = tariff(Direction::Import, 1.5, turn, Some(turn + 24 * HOUR));
    let expected = Expected::Version(second.version);
    home.ledger.update(second.id, expected, changed, &Actor::new("test")).await.unwrap();
    home.settle().await;
    let again = home.sessions().await;
    close(night(&again, 1), 7.2 * 1.5, "another price");
    assert_eq!(night(&again, 2), None, "the tariff ends before it");
    assert_eq!((again[3].version, again[6].version, again[0].version), (3, 3, 1));
    // No price for what came from the roof or was sold: nothing differs but the versions of the two.
    let untouched = [1, 2, 5, 8];
    assert!(untouched.iter().all(|at| again[*at] == first[*at]), "{again:?}");
    // A tariff that goes while nobody looks.
    let disk = home.disk.clone();
    home.stop().await;
    {
        let home = Home::open_in(disk.clone(), folder.path(), START + 80 * HOUR, "Etc/GMT-2");
        home.task.abort();
        home.ledger.remove::<Tariff>(second.id, Expected::Any, &Actor::new("test")).await.unwrap();
        home.stop_store().await;
    }
    let home = Home::open_in(disk, folder.path(), START + 80 * HOUR, "Etc/GMT-2");
    home.settle().await;
    let bare = home.sessions().await;
    assert_eq!((night(&bare, 1), bare[3].version), (None, 4), "no price is left over");
    assert_eq!(bare[..3], first[..3]);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn market_prices_that_come_late_price_the_sessions_of_their_hours() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(8), &folder, START + 30 * HOUR);
    let market = Tariff {
        definition: serde_json::json!({ "sold": true, "energy": { "market": { "source": "test" } } }),
        ..tariff(Direction::Import, 0.0, START, None)
    };
    home.ledger.insert(market, &Actor::new("test")).await.unwrap();
    home.write(&points("roof", 24, 60 * SECOND));
    home.settle().await;
    let first = home.sessions().await;
    assert_eq!((first.len(), first[0].record.total_cost), (3, None));
    // Prices of the hours from 1 to 3; none for the half flank before them, nor for the one that ends at 3.
    let mut batch = WriteBatch::new("wattlog", None);
    let slot = batch.series(PRICES, &TagSet::new([("source", "test")]).unwrap());
    batch.row(slot, Timestamp(START + HOUR), 0).float("market_price", 0.5);
    batch.row(slot, Timestamp(START + 2 * HOUR), 1).float("market_price", -0.25);
    home.engine.write(batch).unwrap();
    home.settle().await;
    let priced = home.sessions().await;
    let night = &priced[0].record;
    let flank = 3.6 * 0.5 / 60.0;
    // An hour, and an hour less a minute and the flank.
    close(night.total_cost, 3.6 * 0.5 - (3.6 * 59.0 / 60.0 + flank) * 0.25, "cost");
    close(night.details["priced_kwh"].as_f64(), 7.2 - flank, "what has a price");
    assert_eq!((priced[0].version, &priced[1..]), (2, &first[1..]));
    home.stop().await;
}

/// The market's price of the hours of the day on which the clock goes back, from `first` on.
fn hours(home: &Home, first: i64, prices: &[f64]) {
    let mut batch = WriteBatch::new("wattlog", None);
    let slot = batch.series(PRICES, &TagSet::new([("source", "test")]).unwrap());
    for (at, price) in prices.iter().enumerate() {
        let time = Timestamp(START + (first + at as i64) * HOUR);
        batch.row(slot, time, at as u32).float("market_price", *price);
    }
    assert_eq!(home.engine.write(batch).unwrap().rejected, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_saves_what_its_energy_would_have_cost_at_the_mean_price_of_its_day() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(21), &folder, START + 30 * HOUR);
    let market = Tariff {
        definition: serde_json::json!({ "sold": true, "energy": { "market": { "source": "test" } } }),
        ..tariff(Direction::Import, 0.0, START, None)
    };
    home.ledger.insert(market, &Actor::new("test")).await.unwrap();
    home.tariff(Direction::Export, 0.3, START, None).await;
    home.write(&points("roof", 24, 60 * SECOND));
    // The day has 25 hours; the last one is not told yet.
    let prices: Vec<f64> = (0..25).map(|hour| 0.1 + 0.02 * f64::from(hour)).collect();
    hours(&home, 0, &prices[..24]);
    home.settle().await;
    let first = home.sessions().await;
    let flank = 3.6 * 0.5 / 60.0;
    let cost = flank * prices[0] + 3.6 * prices[1] + (3.6 * 59.0 / 60.0 + flank) * prices[2];
    close(first[0].record.total_cost, cost, "cost");
    assert_eq!(first[0].record.savings, None, "a price of the day is missing");
    hours(&home, 24, &prices[24..]);
    home.settle().await;
    let whole = home.sessions().await;
    close(whole[0].record.savings, 7.2 * 0.34 - cost, "with the mean of 25 hours");
    // Another price of the evening is none of the night's, but one of its day.
    hours(&home, 20, &[1.5]);
    home.settle().await;
    let dear = home.sessions().await;
    close(dear[0].record.savings, 7.2 * (0.34 + (1.5 - prices[20]) / 25.0) - cost, "a dear evening");
    assert_eq!(dear[0].record.total_cost, first[0].record.total_cost);
    assert_eq!((dear[0].version, &dear[1..]), (3, &first[1..]));
    // From the roof nothing was bought; a sale has a revenue.
    assert_eq!((dear[1].record.savings, dear[2].record.savings), (None, None));
    assert!(dear[2].record.revenue.is_some());
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_away_is_told_and_caught_up_with() {
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    let home = Home::open_at(SimDisk::new(9), &away, START + 30 * HOUR);
    home.write(&points("roof", 24, 60 * SECOND));
    home.until("the trouble to be told", || home.books.status().error.is_some()).await;
    std::fs::create_dir(&away).unwrap();
    home.until("the books to be kept", || home.books.status().sessions_written == 3).await;
    home.settle().await;
    assert_eq!((home.sessions().await.len(), home.books.status().error), (3, None));
    // One that was begun anew gets all of it again.
    let disk = home.disk.clone();
    home.stop().await;
    std::fs::remove_dir_all(&away).unwrap();
    std::fs::create_dir(&away).unwrap();
    let home = Home::open_at(disk, &away, START + 30 * HOUR);
    home.settle().await;
    assert_eq!(home.sessions().await.len(), 3);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_of_points_leaves_their_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(10), &folder, START + 240 * HOUR);
    home.write(&points("roof", 240, 300 * SECOND));
    home.settle().await;
    let before = home.sessions().await;
    assert_eq!(before.len(), 30);
    // The cutoff lies within the eighth night's charge.
    let keep = wattlog_engine::Rule::Keep { ns: (240 - 7 * 24 - 2) as u64 * HOUR as u64 };
    home.engine.set_retention("wattlog", None, Some(RAW), keep).unwrap();
    home.engine.confirm_clock().unwrap();
    home.engine.retain().unwrap();
    let first = home.engine.measurement("wattlog", RAW).unwrap().unwrap().first.unwrap();
    assert!(first.0 > START + 7 * 24 * HOUR, "points are hidden: {}", (first.0 - START) / HOUR);
    // Everything is due again, and a point came late right behind what is hidden.
    home.tariff(Direction::Import, 0.5, START, None).await;
    home.write(&[("roof".to_owned(), first.0 + 30 * SECOND, plant(first.0 - START))]);
    home.settle().await;
    let after = home.sessions().await;
    let kept = after.iter().zip(&before).take_while(|(after, before)| after == before).count();
    assert_eq!(kept, 24, "up to the eighth day: what is before the next night's charge has no price");
    assert_eq!(after.len(), 30);
    let (starts, were): (Vec<_>, Vec<_>) =
        after.iter().zip(&before).map(|(a, b)| ((a.id, a.record.start), (b.id, b.record.start))).unzip();
    assert_eq!(starts, were, "none began anew where points end");
    assert!(after[24].record.total_cost.is_some() && after[0].record.total_cost.is_none());
    home.stop().await;
}

/// Records without the numbers that the ledger gives them.
fn content(sessions: &[Stored<Session>]) -> Vec<Session> {
    sessions.iter().map(|stored| stored.record.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_points_and_restarts_gives_the_same_sessions() {
    let mut all = points("roof", 40, 60 * SECOND);
    all.extend(points("shed", 30, 300 * SECOND));
    let reference = {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(SimDisk::new(4), &folder, START + 60 * HOUR);
        home.tariff(Direction::Import, 0.8, START, None).await;
        home.tariff(Direction::Export, 0.4, START, None).await;
        home.write(&all);
        home.settle().await;
        let found = content(&home.sessions().await);
        home.stop().await;
        found
    };
    // Two days less the second evening of the roof's, one and the next morning's two of the shed's.
    assert_eq!(reference.len(), 5 + 4);
    let first = std::env::var("WATTLOG_SEED").map_or(0, |seed| seed.parse().expect("WATTLOG_SEED: a number"));
    for seed in first..first + 4 {
        let mut rng = Rng::new(seed);
        let mut rest = all.clone();
        let folder = tempfile::tempdir().unwrap();
        let mut home = Home::open(SimDisk::new(seed), &folder, START + 60 * HOUR);
        home.tariff(Direction::Import, 0.8, START, None).await;
        home.tariff(Direction::Export, 0.4, START, None).await;
        while !rest.is_empty() {
            // Stretches of some hours, from anywhere.
            let from = rng.below(rest.len() as u64) as usize;
            let count = (1 + rng.below(400) as usize).min(rest.len() - from);
            let part: Vec<Point> = rest.splice(from..from + count, []).collect();
            home.write(&part);
            match rng.below(6) {
                0 => home.settle().await,
                1 => {
                    tokio::time::sleep(Duration::from_millis(rng.below(60))).await;
                    let disk = home.disk.clone();
                    home.stop().await;
                    home = Home::open(disk, &folder, START + 60 * HOUR);
                }
                2 => {
                    tokio::time::sleep(Duration::from_millis(rng.below(60))).await;
                    let disk = home.cut(rng.next_u64()).await;
                    home = Home::open(disk, &folder, START + 60 * HOUR);
                }
                3 => drop(home.engine.seal().unwrap()),
                _ => {}
            }
        }
        home.settle().await;
        let found = home.sessions().await;
        assert_eq!(content(&found), reference, "seed {seed}");
        // A late point changes one session, and its version alone.
        let (device, time, mut values) = points("roof", 40, 60 * SECOND)[90].clone();
        values[1] -= 100.0;
        home.write(&[(device, time, values)]);
        home.settle().await;
        let changed = home.sessions().await;
        let differing: Vec<usize> = (0..found.len()).filter(|at| found[*at] != changed[*at]).collect();
        assert_eq!(differing, [0], "seed {seed}: the first night's");
        assert_eq!(changed[0].version, found[0].version + 1, "seed {seed}");
        home.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_withdrawn_and_what_goes_on_is_active_until_it_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    // Half an hour into the second night's charge.
    let now = START + 25 * HOUR + 1800 * SECOND;
    let mut home = Home::open(SimDisk::new(5), &folder, now);
    let all = points("roof", 48, 60 * SECOND);
    let upto = |end: i64| all.iter().filter(|p| p.1 <= end).cloned().collect::<Vec<_>>();
    home.write(&upto(now));
    home.settle().await;
    let found = home.sessions().await;
    assert_eq!(found.len(), 4);
    let active = &found[3];
    assert_eq!((active.record.status, active.record.end), (SessionStatus::Active, None));
    close(active.record.energy_kwh, 3.6 * (0.5 + 0.5 / 60.0), "so far");
    // A restart finds it and goes on; it is not written again before its time.
    let disk = home.disk.clone();
    home.stop().await;
    home = Home::open(disk, &folder, now + 120 * SECOND);
    home.write(&upto(now + 120 * SECOND));
    home.settle().await;
    assert_eq!(home.sessions().await, found, "written ten minutes ago at most");
    home.clock.set_wall(Timestamp(now + 900 * SECOND));
    home.write(&upto(now + 900 * SECOND));
    home.settle().await;
    let later = home.sessions().await;
    close(later[3].record.energy_kwh, 3.6 * (0.75 + 0.5 / 60.0), "a quarter later");
    assert_eq!((later[3].version, later[3].record.status), (2, SessionStatus::Active));
    // Silence ends it, at its last reading.
    home.clock.set_wall(Timestamp(now + 2 * HOUR));
    home.settle().await;
    let over = home.sessions().await;
    assert_eq!(over[3].record.status, SessionStatus::Completed);
    assert_eq!(over[3].record.end, Some(Timestamp(now + 900 * SECOND)));
    // The rest comes late: it is the same session, and longer.
    home.write(&all);
    home.settle().await;
    let whole = home.sessions().await;
    assert_eq!((whole.len(), whole[3].id), (6, over[3].id));
    close(whole[3].record.energy_kwh, 7.2, "whole");
    assert_eq!(whole[..3], found[..3]);
    // An hour of the first night is deleted.
    let request = DeleteRequest {
        database: "wattlog".to_owned(),
        retention_policy: None,
        measurement: Some(RAW.to_owned()),
        fields: None,
        tags: Vec::new(),
        start: Timestamp(START + HOUR / 2),
        end: Timestamp(START + 2 * HOUR),
    };
    home.engine.delete(&request).unwrap();
    home.settle().await;
    let left = home.sessions().await;
    assert_eq!(left.len(), 6);
    assert_eq!(left[0].record.start, Timestamp(START + 2 * HOUR), "begins with what is left");
    assert_eq!(left[1..], whole[1..]);
    let everything = DeleteRequest { start: Timestamp(i64::MIN), end: Timestamp(i64::MAX), ..request };
    home.engine.delete(&everything).unwrap();
    home.settle().await;
    assert_eq!(home.sessions().await, []);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_a_month_with_a_long_day_say_what_the_energies_say() {
    let folder = tempfile::tempdir().unwrap();
    // An hour before midnight of the first of November.
    month_by_energies(Home::open(SimDisk::new(6), &folder, START + 8 * 24 * HOUR)).await;
}

/// Reports of three days and their month, when the month is over.
async fn month_by_energies(home: Home) {
    home.tariff(Direction::Import, 0.8, START, None).await;
    home.tariff(Direction::Export, 0.4, START, None).await;
    let device = Device {
        device_id: "roof".to_owned(),
        kind: DeviceKind::Inverter,
        manufacturer: None,
        model: None,
        serial_number: None,
        location: None,
        rated_power_w: None,
        battery_capacity_kwh: Some(10.0),
        commissioned: None,
        retired: None,
        settings: serde_json::json!({}),
        note: String::new(),
    };
    home.ledger.insert(device, &Actor::new("test")).await.unwrap();
    home.write(&points("roof", 72, 60 * SECOND));
    let deadline = Instant::now() + PATIENCE;
    let reports = loop {
        home.settle().await;
        let found: BTreeMap<(String, i64), Stored<Report>> = (home.all::<Report>().await.into_iter())
            .map(|report| {
                ((report.record.report_type.clone(), (report.record.start.0 - START) / HOUR), report)
            })
            .collect();
        let last = found.get(&("monthly".to_owned(), -24 * 24));
        if last.is_some_and(|month| month.record.data["sessions"]["selling"]["count"] == 3)
            && found.len() == 4
        {
            break found;
        }
        assert!(Instant::now() < deadline, "{found:#?} {:?}", home.books.status());
    };
    let keys: Vec<(&str, i64)> = reports.keys().map(|(kind, start)| (kind.as_str(), *start)).collect();
    assert_eq!(keys, [("daily", 0), ("daily", 25), ("daily", 49), ("monthly", -24 * 24)]);
    let data = |kind: &str, start: i64| &reports[&(kind.to_owned(), start)].record.data;
    // By hand: two charges and a sale a day; the house takes half a kilowatt, from the roof for two hours a day.
    let month = data("monthly", -24 * 24);
    let number = |of: &serde_json::Value, name: &str| of[name].as_f64();
    for (name, wanted) in [("charge_kwh", 30.6), ("discharge_kwh", 7.5), ("consumption_kwh", 36.0)] {
        close(number(month, name), wanted, name);
    }
    let sessions = &month["sessions"];
    assert_eq!(sessions["charging"]["count"], 6);
    close(number(&sessions["charging"], "energy_kwh"), 30.6, "charged");
    close(number(&sessions["charging"], "cost_pln"), 3.0 * 7.2 * 0.8, "its cost");
    close(number(&month["battery"], "full_cycles"), 0.75, "cycles");
    assert_eq!(month["peak"]["import_w"], 4100.0);
    assert_eq!(month["battery"]["soc_end_percent"], 20.0);
    let long = data("daily", 0);
    // From midnight to midnight are 25 hours: the second night's first minute begins in it.
    close(number(long, "consumption_kwh"), 12.5, "the day with 25 hours");
    assert_eq!((long["coverage"].as_f64(), &long["sessions"]["charging"]["count"]), (Some(1.0), &3.into()));
    // And the same as the energies say, to the last digit.
    let zone = Zone::named("Europe/Warsaw").unwrap();
    for ((kind, start), stored) in &reports {
        let report = &stored.record;
        let every = if kind == "daily" { Every::Days(1) } else { Every::Months(1) };
        let request = EnergyRequest {
            range: report.start.0..report.end.0,
            now: home.clock.wall().0,
            every,
            zone: zone.clone(),
            device: None,
            import_prices: None,
            export_prices: None,
        };
        let (status, control) = (home.energy.status(), QueryControl::default());
        let told = answer(&home.engine, home.energy.options(), (&status, None), &request, &control).unwrap();
        let period = &told.devices[0].periods[0];
        for (name, value) in figures(period, report.end.0) {
            if name != "cost" && name != "revenue" {
                assert_eq!(report.data[&name], value, "{kind} {start}: {name}");
            }
        }
        assert_eq!(report.time_zone, "Europe/Warsaw");
    }
    let cost: f64 = [0, 25, 49].iter().filter_map(|day| data("daily", *day)["cost"]["pln"].as_f64()).sum();
    close(month["cost"]["pln"].as_f64(), cost, "the month is the sum of its days");
    // A late point makes one day and its month again, and nothing else.
    let (device, time, mut values) = points("roof", 72, 60 * SECOND)[30 * 60].clone();
    values[3] += 5000.0;
    values[2] -= 5000.0;
    home.write(&[(device, time, values)]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        home.settle().await;
        let now: BTreeMap<_, _> = (home.all::<Report>().await.into_iter())
            .map(|report| {
                ((report.record.report_type.clone(), (report.record.start.0 - START) / HOUR), report)
            })
            .collect();
        let newer: Vec<_> =
            now.iter().filter(|(key, report)| report.version > reports[*key].version).collect();
        if newer.len() == 2 {
            assert!(newer.iter().all(|((kind, start), _)| kind == "monthly" || *start == 25), "{newer:?}");
            assert!(newer.iter().all(|(_, report)| report.record.data["peak"]["consumption_w"] == 5500.0));
            break;
        }
        assert!(Instant::now() < deadline && newer.len() < 3, "{newer:#?}");
    }
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_without_a_battery_has_reports_and_no_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(7), &folder, START + 26 * HOUR);
    let mut batch = WriteBatch::new("wattlog", None);
    let slot = batch.series(RAW, &TagSet::new([("location", "cellar")]).unwrap());
    for minute in 0..=25 * 60_i64 {
        let mut row = batch.row(slot, Timestamp(START + minute * 60 * SECOND), minute as u32);
        row.float("pv_power", 0.0);
        row.float("grid_power", -1000.0);
        row.float("consumption", 1000.0);
    }
    home.engine.write(batch).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let report = loop {
        home.settle().await;
        if let [report] = home.all::<Report>().await.as_slice() {
            break report.clone();
        }
        assert!(Instant::now() < deadline, "{:?}", home.books.status());
    };
    let data = &report.record.data;
    assert_eq!((report.record.device_id.as_str(), report.record.report_type.as_str()), ("", "daily"));
    close(data["import_kwh"].as_f64(), 25.0, "a kilowatt for 25 hours");
    assert_eq!(
        (&data["sessions"]["charging"]["count"], &data["cost"]),
        (&0.into(), &serde_json::Value::Null)
    );
    assert_eq!(data["battery"]["full_cycles"], serde_json::Value::Null);
    assert_eq!(home.sessions().await, []);
    home.stop().await;
}
