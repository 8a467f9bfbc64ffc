//! What is remembered of months against what is read anew, while rows, prices and tariffs change in between.

use std::sync::Arc;
use wattlog_derived::PriceCache;
use wattlog_derived::energy::{
    EnergyAnswer, EnergyCache, EnergyOptions, EnergyRequest, EnergyStatus, FIELDS, QUARTER_NS, QUARTERS,
    answer,
};
use wattlog_derived::price::{PRICES, PricePiece, StoredTariff};
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_engine::query::{Every, QueryControl, Zone};
use wattlog_engine::{DeleteRequest, Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

/// 2026-08-20T00:00:00Z.
const START: i64 = 1_787_184_000_000_000_000;
/// Some eleven weeks, with two ends of months and a clock that goes back.
const QUARTERS_IN_ALL: u64 = 75 * 96;

struct Home {
    engine: Engine,
    energies: EnergyCache,
    prices: PriceCache,
}

impl Home {
    fn open(disk: SimDisk) -> Self {
        let end = Timestamp(START + QUARTERS_IN_ALL as i64 * QUARTER_NS);
        let clock = Arc::new(ManualClock::new(end));
        let engine = Engine::open(Arc::new(disk), Options::default(), clock, [7; 16]).unwrap();
        engine.create_database("wattlog").unwrap();
        Self { engine, energies: EnergyCache::default(), prices: PriceCache::default() }
    }

    fn write(&self, measurement: &str, tags: &[(&str, &str)], rows: &[(u64, Vec<(&str, f64)>)]) {
        let mut batch = WriteBatch::new("wattlog", None);
        let slot = batch.series(measurement, &TagSet::new(tags.iter().copied()).unwrap());
        for (quarter, values) in rows {
            let time = Timestamp(START + *quarter as i64 * QUARTER_NS);
            let mut row = batch.row(slot, time, 0);
            for (name, value) in values {
                row.float(name, *value);
            }
        }
        assert_eq!(self.engine.write(batch).unwrap().rejected, []);
    }

    fn change(&self, rng: &mut Rng) {
        let first = rng.below(QUARTERS_IN_ALL);
        let quarters: Vec<u64> = (first..QUARTERS_IN_ALL).take(1 + rng.below(400) as usize).collect();
        let device = *rng.pick(&["a", "b"]);
        match rng.below(6) {
            0..2 => {
                let mut row = |quarter| {
                    let value = |name| (name, rng.below(1_000_000) as f64 / 1e6);
                    (quarter, FIELDS.map(value).to_vec())
                };
                let rows: Vec<_> = quarters.into_iter().map(&mut row).collect();
                self.write(QUARTERS, &[("device_id", device)], &rows);
            }
            2 => {
                let mut row =
                    |quarter| (quarter, vec![("market_price", rng.below(2000) as f64 / 1000.0 - 0.5)]);
                let rows: Vec<_> = quarters.into_iter().map(&mut row).collect();
                self.write(PRICES, &[("source", "pse")], &rows);
            }
            3 => {
                let request = DeleteRequest {
                    database: "wattlog".to_owned(),
                    retention_policy: None,
                    measurement: Some((*rng.pick(&[QUARTERS, PRICES])).to_owned()),
                    fields: None,
                    tags: Vec::new(),
                    start: Timestamp(START + quarters[0] as i64 * QUARTER_NS),
                    end: Timestamp(START + quarters[quarters.len() / 3] as i64 * QUARTER_NS + 1),
                };
                // Before there is anything there is nothing to delete.
                let _ = self.engine.delete(&request);
            }
            4 => drop(self.engine.seal().unwrap()),
            _ => drop(self.engine.compact().unwrap()),
        }
    }

    /// The same question to what is remembered, and anew.
    fn ask(&self, rng: &mut Rng) -> [EnergyAnswer; 2] {
        let [first, second] = [rng.below(QUARTERS_IN_ALL), rng.below(QUARTERS_IN_ALL)];
        // Often the same, so that there is something to remember.
        let (first, last) =
            if rng.chance(70) { (0, QUARTERS_IN_ALL) } else { (first.min(second), first.max(second) + 1) };
        let range = START + first as i64 * QUARTER_NS..START + last as i64 * QUARTER_NS;
        let zone = Zone::named(rng.pick::<&str>(&["Europe/Warsaw", "UTC"])).unwrap();
        let definition = match rng.below(3) {
            0 => serde_json::json!({ "builtin": "g12" }),
            1 => serde_json::json!({ "builtin": "g12", "energy": { "fixed_pln_kwh": 0.5 } }),
            _ => serde_json::json!({ "sold": true }),
        };
        let control = QueryControl::default();
        let known =
            self.prices.pieces(&definition, (&self.engine, "wattlog"), &range, &zone, &control).unwrap();
        let tariff = StoredTariff::parse(&definition).unwrap();
        let anew = tariff.pieces(&self.engine, "wattlog", &range, &zone, &control).unwrap();
        let every = *rng.pick(&[Every::Days(1), Every::Months(1), Every::Months(12)]);
        let device = rng.chance(30).then(|| "a".to_owned());
        // Also the same prices once for this and once for that: what is remembered of one is not told of the other.
        let who = rng.below(4);
        let ask = |prices: Vec<PricePiece>, cache: Option<&EnergyCache>| {
            let request = EnergyRequest {
                range: range.clone(),
                now: range.end,
                every,
                zone: zone.clone(),
                device: device.clone(),
                import_prices: Some(if who == 3 { Vec::new() } else { prices.clone() }),
                export_prices: match who {
                    0 => None,
                    1 => Some(Vec::new()),
                    _ => Some(prices),
                },
            };
            let status = EnergyStatus { horizon: Some(range.end), is_following: true, ..Default::default() };
            answer(&self.engine, &EnergyOptions::new("wattlog"), (&status, cache), &request, &control)
                .unwrap()
        };
        [ask(known, Some(&self.energies)), ask(anew, None)]
    }
}

#[test]
fn what_is_remembered_is_what_is_read_anew() {
    let first = std::env::var("WATTLOG_SEED").map_or(0, |seed| seed.parse().expect("WATTLOG_SEED: a number"));
    let mut priced = 0;
    for seed in first..first + 20 {
        let mut rng = Rng::new(seed);
        let home = Home::open(SimDisk::new(seed));
        for step in 0..100 {
            if rng.chance(40) {
                home.change(&mut rng);
            }
            let [known, anew] = home.ask(&mut rng);
            assert_eq!(known, anew, "seed {seed}, step {step}");
            let periods = anew.devices.iter().flat_map(|device| &device.periods);
            priced += periods.filter(|period| period.cost.is_some_and(|cost| cost.pln != 0.0)).count();
        }
        home.engine.close().unwrap();
    }
    assert!(priced > 1000, "{priced} periods had a cost");
}
