//! Energies by quarter against the points they come from: through late points, deletes, restarts and power cuts; and what is
//! answered from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_derived::energy::{
    EnergyKeeper, EnergyOptions, EnergyRequest, FIELDS, QUARTER_NS, QUARTERS, RAW, STATE, Values, answer,
    quarters,
};
use wattlog_derived::price::{PRICES, StoredTariff};
use wattlog_engine::io::sim::{Cut, Rng, SimDisk};
use wattlog_engine::query::{
    Every, GroupBy, QueryControl, QueryRequest, ResultValues, Shape, TagFilter, TagPredicate, Zone,
};
use wattlog_engine::{DeleteRequest, Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
/// 2026-10-24T22:00:00Z: midnight in Warsaw, before the day with 25 hours.
const START: i64 = 1_792_879_200 * SECOND;
const GAP: i64 = 600 * SECOND;
const PATIENCE: Duration = Duration::from_secs(60);

struct Home {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    engine: Engine,
    keeper: EnergyKeeper,
}

fn options() -> EnergyOptions {
    EnergyOptions::new("wattlog")
}

impl Home {
    fn open(disk: SimDisk, now: i64) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(now)));
        let engine =
            Engine::open(Arc::new(disk.clone()), Options::default(), clock.clone(), [7; 16]).unwrap();
        let keeper = EnergyKeeper::start(engine.clone(), options(), clock.clone()).unwrap();
        Self { disk, clock, engine, keeper }
    }

    fn write(&self, device: &str, points: impl IntoIterator<Item = (i64, [Option<f64>; 4])>) {
        let mut batch = WriteBatch::new("wattlog", None);
        let tags = [("device_id", device), ("data_source", "test")];
        let tags = TagSet::new(tags.into_iter().filter(|(_, value)| !value.is_empty())).unwrap();
        let slot = batch.series(RAW, &tags);
        for (line, (time, powers)) in points.into_iter().enumerate() {
            let mut row = batch.row(slot, Timestamp(time), line as u32);
            let names = ["pv_power", "battery_power", "grid_power", "consumption"];
            for (name, power) in names.into_iter().zip(powers) {
                if let Some(power) = power {
                    row.float(name, power);
                }
            }
        }
        if !batch.is_empty() {
            assert_eq!(self.engine.write(batch).unwrap().rejected, []);
        }
    }

    /// A state of charge at these times and nothing else.
    fn write_soc(&self, device: &str, times: impl IntoIterator<Item = i64>) {
        let mut batch = WriteBatch::new("wattlog", None);
        let slot = batch.series(RAW, &TagSet::new([("device_id", device)]).unwrap());
        for (line, time) in times.into_iter().enumerate() {
            batch.row(slot, Timestamp(time), line as u32).float("battery_soc", 50.0);
        }
        assert_eq!(self.engine.write(batch).unwrap().rejected, []);
    }

    fn stored(&self) -> BTreeMap<(String, i64), Values> {
        let request = QueryRequest {
            group_by: GroupBy::Keys(vec!["device_id".to_owned()]),
            ..QueryRequest::raw("wattlog", QUARTERS, Timestamp(i64::MIN), Timestamp(i64::MAX))
        };
        let mut out = BTreeMap::new();
        for series in self.engine.query(&request, &QueryControl::default()).unwrap().series {
            let ResultValues::Time(times) = &series.columns[0].values else { panic!("times come first") };
            for (row, time) in times.iter().enumerate() {
                let values = FIELDS.map(|name| match &series.column(name)?.values {
                    ResultValues::Float(values) => values[row],
                    _ => panic!("floats"),
                });
                out.insert((series.tags[0].1.clone(), time.unwrap()), values);
            }
        }
        out
    }

    fn expected(&self, upto: i64) -> BTreeMap<(String, i64), Values> {
        let range = START - 100 * HOUR..upto;
        let rows = quarters(&self.engine, &options(), &range, None, &QueryControl::default()).unwrap();
        let of = |d: wattlog_derived::energy::DeviceQuarters| {
            d.rows.into_iter().map(move |row| ((d.device.clone(), row.start), row.values))
        };
        assert_eq!(rows.lost, []);
        rows.devices.into_iter().flat_map(of).collect()
    }

    /// Waits until the rows are as the points are, up to the quarter in which `newest` less the gap lies.
    fn settle(&self, newest: i64, context: &str) -> BTreeMap<(String, i64), Values> {
        let horizon = (newest - GAP).div_euclid(QUARTER_NS) * QUARTER_NS;
        let until = Instant::now() + PATIENCE;
        loop {
            let (stored, expected) = (self.stored(), self.expected(horizon));
            if stored == expected {
                return stored;
            }
            if Instant::now() > until {
                let differs = expected.iter().find(|(key, values)| stored.get(*key) != Some(values));
                let extra = stored.iter().find(|(key, _)| !expected.contains_key(*key));
                panic!(
                    "{context}: {} rows, {} expected; first that differs {differs:?} (stored {:?}), extra {extra:?}, {:?}",
                    stored.len(),
                    expected.len(),
                    differs.map(|(key, _)| stored.get(key)),
                    self.keeper.status()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn powers(rng: &mut Rng) -> [Option<f64>; 4] {
    let mut one = |most: u64| rng.chance(95).then(|| rng.below(most * 10) as f64 / 10.0);
    let (pv, battery, grid, house) = (one(6000), one(8000), one(8000), one(3000));
    [pv, battery.map(|w| w - 4000.0), grid.map(|w| w - 4000.0), house]
}

#[test]
fn rows_follow_the_points_through_late_points_deletes_restarts_and_power_cuts() {
    let first = std::env::var("WATTLOG_SEED").map_or(0, |seed| seed.parse().expect("WATTLOG_SEED: a number"));
    for seed in first..first + 10 {
        let mut rng = Rng::new(seed);
        let mut disk = SimDisk::new(seed);
        let mut head = START;
        for life in 0..4 {
            let home = Home::open(disk.clone(), head + SECOND);
            for _ in 0..12 {
                let device = *rng.pick(&["a", "b", ""]);
                let step = *rng.pick(&[10 * SECOND, 60 * SECOND, 314 * SECOND, 700 * SECOND]);
                let count = rng.below(60) as i64;
                match rng.below(10) {
                    0..5 => {
                        let first = head;
                        head += step * count;
                        home.clock.set_wall(Timestamp(head + SECOND));
                        home.write(device, (0..count).map(|i| (first + i * step, powers(&mut rng))));
                    }
                    5 | 6 => {
                        let back = rng.below((head - START + HOUR) as u64) as i64;
                        home.write(device, (0..count).map(|i| (head - back + i * step, powers(&mut rng))));
                        head = head.max(head - back + count * step);
                        home.clock.set_wall(Timestamp(head + SECOND));
                    }
                    7 => {
                        let start = head - rng.below((head - START + HOUR) as u64) as i64;
                        let request = DeleteRequest {
                            database: "wattlog".to_owned(),
                            retention_policy: None,
                            measurement: Some(RAW.to_owned()),
                            fields: None,
                            tags: Vec::new(),
                            start: Timestamp(start),
                            end: Timestamp(start + rng.below(5 * HOUR as u64) as i64 + 1),
                        };
                        // Before anything was written there is nothing to delete from.
                        let _ = home.engine.delete(&request);
                    }
                    8 => drop(home.engine.seal().unwrap()),
                    _ => std::thread::sleep(Duration::from_millis(rng.below(60))),
                }
            }
            if rng.chance(50) {
                disk = home.disk.cut(Cut::from_seed(rng.next_u64()));
                drop(home);
            } else {
                home.keeper.stop();
                drop(home.keeper);
                home.engine.close().unwrap();
            }
            assert!(life < 4);
        }
        // The clock of the last life may have been lost with points that nobody was told of.
        let home = Home::open(disk, head + HOUR);
        let newest = head + HOUR;
        home.write("a", [(newest, [Some(1.0), Some(1.0), Some(1.0), Some(1.0)])]);
        let rows = home.settle(newest, &format!("seed {seed}"));
        assert!(!rows.is_empty(), "seed {seed} has points");
    }
}

#[test]
fn what_is_there_already_is_computed_and_deleting_points_takes_their_rows() {
    let disk = SimDisk::new(1);
    let flat = |hours: i64| {
        (0..=hours * 60).map(|m| (START + m * 60 * SECOND, [Some(0.0), None, Some(-2000.0), Some(2000.0)]))
    };
    {
        let clock = Arc::new(ManualClock::new(Timestamp(START + 100 * HOUR)));
        let engine =
            Engine::open(Arc::new(disk.clone()), Options::default(), clock.clone(), [7; 16]).unwrap();
        let home = Home {
            disk: disk.clone(),
            clock: clock.clone(),
            keeper: EnergyKeeper::start(engine.clone(), EnergyOptions::new("other"), clock).unwrap(),
            engine,
        };
        home.write("a", flat(72));
        assert!(home.stored().is_empty());
        home.keeper.stop();
        home.engine.clone().close().unwrap();
    }
    let home = Home::open(disk, START + 100 * HOUR);
    let newest = START + 72 * HOUR;
    let rows = home.settle(newest, "history");
    assert_eq!(rows.len(), 72 * 4 - 1, "the last quarter is not over");
    let row = &rows[&("a".to_owned(), START)];
    let value = |name: &str| row[FIELDS.iter().position(|field| *field == name).unwrap()];
    assert_eq!(value("import_kwh"), Some(0.5));
    assert_eq!(value("grid_to_house_kwh"), Some(0.5), "a house without a battery has flows");
    assert_eq!((value("charge_kwh"), value("covered_s")), (Some(0.0), Some(900.0)));
    let request = DeleteRequest {
        database: "wattlog".to_owned(),
        retention_policy: None,
        measurement: Some(RAW.to_owned()),
        fields: None,
        tags: Vec::new(),
        start: Timestamp(START + 10 * HOUR),
        end: Timestamp(START + 20 * HOUR + 1),
    };
    home.engine.delete(&request).unwrap();
    let rows = home.settle(newest, "deleted");
    assert_eq!(rows.len(), 62 * 4 - 1, "the quarters of the hole are gone, those beside it stay");
}

/// A log that was sealed took the place in the feed along, and each restart after it computed the rows of all time again.
#[test]
fn a_restart_computes_what_was_written_since_and_nothing_else() {
    let flat = [Some(0.0), Some(0.0), Some(-1000.0), Some(1000.0)];
    let mut disk = SimDisk::new(6);
    let newest = START + 100 * HOUR;
    {
        let home = Home::open(disk.clone(), newest);
        home.write("a", (0..=100 * 60).map(|m| (START + m * 60 * SECOND, flat)));
        home.settle(newest, "first life");
        home.keeper.stop();
        home.engine.close().unwrap();
    }
    for (life, is_sealed) in [true, false, true].into_iter().enumerate() {
        let home = Home::open(disk.clone(), newest + HOUR);
        // The first step that it computes ends the wait; all rows would be hundreds.
        home.write("a", [(START + 30 * SECOND, flat)]);
        let until = Instant::now() + PATIENCE;
        while (home.keeper.status().rows == 0 || !home.keeper.status().pending.is_empty())
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(
            home.keeper.status().rows,
            2,
            "life {life}: the late point's quarter and the one beside it"
        );
        if is_sealed {
            home.engine.seal().unwrap();
        }
        home.keeper.stop();
        home.engine.close().unwrap();
    }
    // Killed after a seal, with and without a point that nobody computed yet.
    for life in 0..4_i64 {
        let later = newest + (1 + life) * HOUR;
        let home = Home::open(disk.clone(), later);
        home.write("a", [(START + (31 + life) * SECOND, flat), (later, flat)]);
        if life % 2 == 0 {
            home.settle(later, "killed later");
        }
        home.engine.seal().unwrap();
        disk = home.disk.cut(Cut::from_seed(life as u64));
        drop(home);
        let home = Home::open(disk.clone(), later + 1800 * SECOND);
        home.write("a", [(later + 1800 * SECOND, flat)]);
        home.settle(later + 1800 * SECOND, &format!("after kill {life}"));
        home.keeper.stop();
        home.engine.close().unwrap();
    }
}

#[test]
fn a_battery_that_came_later_changes_nothing_before_it() {
    let home = Home::open(SimDisk::new(4), START + 200 * HOUR);
    let flat = |first: i64, battery: Option<f64>| {
        (0..=120).map(move |m| {
            (START + first * HOUR + m * 60 * SECOND, [Some(900.0), battery, Some(-100.0), Some(1000.0)])
        })
    };
    home.write("a", flat(0, None));
    home.write("a", flat(100, Some(0.0)));
    home.settle(START + 102 * HOUR, "with and without");
    // A late point has the first hours computed again.
    home.write("a", [(START + 30 * SECOND, [Some(900.0), None, Some(-100.0), Some(1000.0)])]);
    let rows = home.settle(START + 102 * HOUR, "computed again");
    let flows = rows[&("a".to_owned(), START)][FIELDS.iter().position(|f| *f == "pv_to_house_kwh").unwrap()];
    assert!(flows.is_some_and(|kwh| (kwh - 0.225).abs() < 1e-6), "{flows:?}");
}

/// Months that an import brought had a state of charge and no power of the battery, and showed 0 kWh charged.
#[test]
fn a_battery_of_which_only_the_charge_is_known_gave_and_took_what_is_not_known() {
    let home = Home::open(SimDisk::new(8), START + 200 * HOUR);
    let points = || (0..=120).map(|m| START + m * 60 * SECOND);
    let flat = points().map(|time| (time, [Some(900.0), None, Some(-100.0), Some(1000.0)]));
    home.write("a", flat.clone());
    home.write("bare", flat);
    home.write_soc("a", points());
    home.write("a", [(START + 100 * HOUR, [Some(1.0), Some(1.0), Some(1.0), Some(1.0)])]);
    let rows = home.settle(START + 100 * HOUR, "charge alone");
    let value = |device: &str, name: &str| {
        rows[&(device.to_owned(), START + 2 * QUARTER_NS)][FIELDS.iter().position(|f| *f == name).unwrap()]
    };
    for name in ["charge_kwh", "discharge_kwh", "pv_to_house_kwh", "grid_to_battery_kwh"] {
        assert_eq!(value("a", name), None, "{name}");
        assert!(value("bare", name).is_some(), "{name} without a battery");
    }
    assert_eq!((value("a", "import_kwh"), value("a", "consumption_kwh")), (Some(0.025), Some(0.25)));
    assert_eq!(value("bare", "charge_kwh"), Some(0.0));
}

/// Rows that an older wattlog computed stay wrong for ever if nothing tells that the computation changed.
#[test]
fn rows_of_an_older_computation_are_computed_again() {
    let flat = [Some(0.0), Some(0.0), Some(-1000.0), Some(1000.0)];
    let (disk, newest) = (SimDisk::new(9), START + 10 * HOUR);
    let state = |engine: &Engine| {
        let request = QueryRequest {
            tags: vec![TagFilter {
                key: "of".to_owned(),
                predicate: TagPredicate::In(vec!["energy".to_owned()]),
            }],
            shape: Shape::Last,
            ..QueryRequest::raw("wattlog", STATE, Timestamp(i64::MIN), Timestamp(i64::MAX))
        };
        let result = engine.query(&request, &QueryControl::default()).unwrap();
        let series = result.series.first()?;
        match &series.column("state")?.values {
            ResultValues::String(texts) => Some(texts[0].as_ref().unwrap().to_string()),
            _ => panic!("a text"),
        }
    };
    {
        let home = Home::open(disk.clone(), newest);
        home.write("a", (0..=10 * 60).map(|m| (START + m * 60 * SECOND, flat)));
        home.settle(newest, "first life");
        home.keeper.stop();
        let told: serde_json::Value = serde_json::from_str(&state(&home.engine).unwrap()).unwrap();
        let mut older = told.clone();
        older.as_object_mut().unwrap().remove("version").expect("a version is told");
        // A row as it may have been, and a state that knows of no version.
        let mut batch = WriteBatch::new("wattlog", None);
        let slot = batch.series(QUARTERS, &TagSet::new([("device_id", "a")]).unwrap());
        batch.row(slot, Timestamp(START + 4 * QUARTER_NS), 0).float("import_kwh", 7.0);
        let slot = batch.series(STATE, &TagSet::new([("of", "energy")]).unwrap());
        batch.row(slot, Timestamp(newest + SECOND), 1).string("state", &older.to_string());
        assert_eq!(home.engine.write(batch).unwrap().rejected, []);
        home.engine.close().unwrap();
    }
    let home = Home::open(disk, newest + HOUR);
    let rows = home.settle(newest, "computed again");
    assert_eq!(rows[&("a".to_owned(), START + 4 * QUARTER_NS)][3], Some(0.25));
}

#[test]
fn retention_of_points_leaves_their_rows() {
    let home = Home::open(SimDisk::new(5), START + 240 * HOUR);
    let points = (0..=240 * 12)
        .map(|i| (START + i * 300 * SECOND, [Some(0.0), Some(0.0), Some(-1000.0), Some(1000.0)]));
    for body in points.collect::<Vec<_>>().chunks(1000) {
        home.write("a", body.iter().copied());
    }
    let rows = home.settle(START + 240 * HOUR, "before");
    let keep = wattlog_engine::Rule::Keep { ns: 48 * HOUR as u64 };
    home.engine.set_retention("wattlog", None, Some(RAW), keep).unwrap();
    home.engine.confirm_clock().unwrap();
    home.engine.retain().unwrap();
    let first = home.engine.measurement("wattlog", RAW).unwrap().unwrap().first.unwrap();
    assert!(first.0 > START + 100 * HOUR, "points are hidden");
    // Something to do for the keeper, so that it has surely heard of it.
    home.write("a", [(START + 239 * HOUR + SECOND, [Some(0.0), Some(0.0), Some(-1000.0), Some(1000.0)])]);
    let until = Instant::now() + PATIENCE;
    while home.keeper.status().rows <= rows.len() as u64 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(home.stored().len(), rows.len());
}

/// A year begins and a clock goes back: hours that are asked for are those of the zone, and a quarter that is not over counts.
#[test]
fn days_months_and_money_are_those_of_the_zone() {
    let home = Home::open(SimDisk::new(2), START + 49 * HOUR);
    // 2 kW bought all the time, from midnight to 1 h before midnight two days later; 10 s apart.
    let newest = START + 48 * HOUR;
    let points = (0..=48 * 360)
        .map(|i| (START + i * 10 * SECOND, [Some(0.0), Some(-500.0), Some(-2000.0), Some(1500.0)]));
    for body in points.collect::<Vec<_>>().chunks(5000) {
        home.write("a", body.iter().copied());
    }
    home.settle(newest, "flat");
    let units = || {
        let known = home.engine.measurement("wattlog", QUARTERS).unwrap().unwrap();
        let unit = |field: wattlog_engine::FieldInfo| field.unit.map(|unit| unit.as_str().to_owned());
        known.fields.into_iter().map(unit).collect::<Vec<_>>()
    };
    let until = Instant::now() + PATIENCE;
    while units().contains(&None) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = units();
    let kwh = told.iter().filter(|unit| unit.as_deref() == Some("kWh")).count();
    assert_eq!((told.len(), kwh), (FIELDS.len(), FIELDS.len() - 1), "{told:?}");
    let zone = Zone::named("Europe/Warsaw").unwrap();
    let tariff = serde_json::json!({ "builtin": "g12", "energy": { "fixed_pln_kwh": 0.5 } });
    let tariff = StoredTariff::parse(&tariff).unwrap();
    let range = START..START + 49 * HOUR;
    let pieces = tariff.pieces(&home.engine, "wattlog", &range, &zone, &QueryControl::default()).unwrap();
    let ask = |every, device: Option<&str>| {
        let request = EnergyRequest {
            range: range.clone(),
            now: range.end,
            every,
            zone: zone.clone(),
            device: device.map(str::to_owned),
            import_prices: Some(pieces.clone()),
            export_prices: None,
        };
        let status = home.keeper.status();
        answer(&home.engine, home.keeper.options(), (&status, None), &request, &QueryControl::default())
            .unwrap()
    };
    let days = ask(Every::Days(1), None);
    let [device] = days.devices.as_slice() else { panic!("{days:?}") };
    let spans: Vec<i64> = device.periods.iter().map(|p| (p.times.end - p.times.start) / HOUR).collect();
    assert_eq!(spans, [25, 24], "the clock goes back in the first night");
    let import = |p: &wattlog_derived::energy::Period| p.values[3].unwrap();
    assert!((import(&device.periods[0]) - 50.0).abs() < 1e-9, "{}", import(&device.periods[0]));
    assert!(
        (import(&device.periods[1]) - 46.0).abs() < 1e-9,
        "up to the newest point: {}",
        import(&device.periods[1])
    );
    assert!((device.periods[1].values[15].unwrap() - 23.0 * 3600.0).abs() < 1e-6);
    // Cost by hand: energy of each piece of the tariff.
    let cost: f64 = pieces
        .iter()
        .map(|p| 2.0 * (p.end.min(newest) - p.start.min(newest)) as f64 / HOUR as f64 * p.pln_kwh)
        .sum();
    assert!(pieces.iter().any(|p| (p.pln_kwh - pieces[0].pln_kwh).abs() > 0.1), "day and night differ");
    let month = ask(Every::Months(1), Some("a"));
    let [period] = month.devices[0].periods.as_slice() else { panic!("{month:?}") };
    let money = period.cost.unwrap();
    assert!((money.pln - cost).abs() < 1e-6, "{} {cost}", money.pln);
    let [direct, battery] = [money.direct_pln, money.battery_pln].map(Option::unwrap);
    assert!((direct - cost * 0.75).abs() < 1e-6 && (battery - cost * 0.25).abs() < 1e-6);
    assert!((money.priced_kwh - 96.0).abs() < 1e-9);
    assert!(period.revenue.is_none());
    assert!(ask(Every::Days(1), Some("b")).devices.is_empty());
}

#[test]
fn market_prices_make_a_price_only_where_they_are() {
    let home = Home::open(SimDisk::new(3), START + 49 * HOUR);
    let mut batch = WriteBatch::new("wattlog", None);
    for (product, price) in [("csdac-pln", 0.4), ("rce-pln", -0.1)] {
        let slot = batch.series(PRICES, &TagSet::new([("source", "pse"), ("product", product)]).unwrap());
        for quarter in (0..96).filter(|quarter| !(40..44).contains(quarter)) {
            batch.row(slot, Timestamp(START + quarter * QUARTER_NS), 0).float("market_price", price);
        }
    }
    assert!(home.engine.write(batch).unwrap().rejected.is_empty());
    let range = START..START + 24 * HOUR;
    let control = QueryControl::default();
    let ask = |definition: serde_json::Value| {
        let tariff = StoredTariff::parse(&definition).unwrap();
        tariff.pieces(&home.engine, "wattlog", &range, &Zone::UTC, &control)
    };
    let sold = serde_json::json!({ "sold": true, "energy": { "market": { "product": "rce-pln" } } });
    let pieces = ask(sold).unwrap();
    assert!(pieces.iter().all(|piece| piece.pln_kwh == -0.1));
    let covered: i64 = pieces.iter().map(|piece| piece.end - piece.start).sum();
    // A price holds for its own quarter: what stands before a hole of an hour says nothing of it.
    assert_eq!(covered, 23 * HOUR);
    let hole = START + 10 * HOUR..START + 11 * HOUR;
    assert!(pieces.iter().all(|piece| piece.end <= hole.start || piece.start >= hole.end), "{pieces:?}");
    // A question that begins or ends in the middle has the same prices.
    for range in [hole.start - 1..hole.end, hole.clone(), hole.start..hole.end + 1] {
        let tariff = serde_json::json!({ "sold": true, "energy": { "market": { "product": "rce-pln" } } });
        let tariff = StoredTariff::parse(&tariff).unwrap();
        let part = tariff.pieces(&home.engine, "wattlog", &range, &Zone::UTC, &control).unwrap();
        let outside = range.end - range.start - HOUR;
        assert_eq!(part.iter().map(|piece| piece.end - piece.start).sum::<i64>(), outside, "{range:?}");
    }
    // Where the first has no price, the second counts.
    let both = [serde_json::json!({ "product": "rce-pln" }), serde_json::json!({ "product": "gone" })];
    let several = ask(serde_json::json!({ "sold": true, "energy": { "market": both } })).unwrap();
    assert_eq!(several, pieces);
    let mut batch = WriteBatch::new("wattlog", None);
    let slot = batch.series(PRICES, &TagSet::new([("source", "old")]).unwrap());
    for hour in 0..24 {
        batch.row(slot, Timestamp(START + hour * HOUR), 0).float("market_price", 0.25);
    }
    home.engine.write(batch).unwrap();
    let both = [serde_json::json!({ "product": "rce-pln" }), serde_json::json!({ "source": "old" })];
    let several = ask(serde_json::json!({ "sold": true, "energy": { "market": both } })).unwrap();
    assert!(several.windows(2).all(|pair| pair[0].end == pair[1].start), "no hole, no overlap");
    let filled: i64 = several.iter().filter(|p| p.pln_kwh == 0.25).map(|p| p.end - p.start).sum();
    assert_eq!(filled, HOUR, "all four quarters are those of the second");
    // The day after is not published yet.
    let tomorrow = START + 24 * HOUR..START + 25 * HOUR;
    let sold = serde_json::json!({ "sold": true, "energy": { "market": { "product": "rce-pln" } } });
    let tariff = StoredTariff::parse(&sold).unwrap();
    assert_eq!(tariff.pieces(&home.engine, "wattlog", &tomorrow, &Zone::UTC, &control).unwrap(), []);
    let error = ask(serde_json::json!({ "builtin": "g11", "energy": { "market": { "source": "pse" } } }))
        .unwrap_err()
        .to_string();
    assert!(error.contains("2 series of prices fit"), "{error}");
    for (bad, wanted) in [
        (serde_json::json!({}), "either `builtin` or `tariff`"),
        (serde_json::json!({ "builtin": "g99" }), "g99"),
        (serde_json::json!({ "builtin": "g11", "energy": { "fixed_pln_kwh": 600 } }), "at most 100"),
        (serde_json::json!({ "builtin": "g11", "colour": 1 }), "colour"),
    ] {
        let error = StoredTariff::parse(&bad).unwrap_err().to_string();
        assert!(error.contains(wanted), "{bad}: {error}");
    }
}
