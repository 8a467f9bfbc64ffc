//! Powers that come, go and pause at random, with gaps in readings and prices, against a detector that is fed all there is: every
//! reading, and the price of every minute.

use super::*;
use wattlog_analytics::session::{self, Detector, Kind, Params, Sample};

const MINUTE: i64 = 60 * SECOND;
/// Longer than what is looked at in one step, and than the rows that are read at a time.
const DAYS: i64 = 16;

/// Readings by rising time. What the battery does changes every few minutes, so that there are sessions that are merged, too short,
/// and cut off by gaps.
fn readings(rng: &mut Rng) -> Vec<Point> {
    let mut out: Vec<Point> = Vec::new();
    let (mut at, mut until, mut battery, mut grid) = (START, START, 0.0, 0.0);
    while at < START + DAYS * 24 * HOUR {
        if at >= until {
            until = at + (1 + rng.below(25) as i64) * MINUTE;
            let power = (80 + rng.below(60) + 2500 * rng.below(2)) as f64;
            battery = [0.0, 0.0, power, -power][rng.below(4) as usize];
            grid = [battery - 60.0, -500.0, 3000.0][rng.below(3) as usize];
        }
        let values =
            [if rng.below(2) == 0 { 0.0 } else { 700.0 }, battery, grid, 500.0, (at / HOUR % 100) as f64];
        out.push(("roof".to_owned(), at, values));
        at += match rng.below(2000) {
            0 => rng.below(9) as i64 * HOUR,
            1..20 => rng.below(40) as i64 * MINUTE,
            _ => (20 + rng.below(50) as i64) * SECOND,
        } + SECOND;
    }
    out
}

/// The price of each quarter of an hour, some of which have none.
fn prices(rng: &mut Rng) -> BTreeMap<i64, f64> {
    let quarters = (0..DAYS * 96).map(|quarter| START + quarter * 15 * MINUTE);
    let told = quarters.map(|time| (time, rng.below(8), rng.below(200) as f64 / 100.0 - 0.5));
    told.filter(|(_, is_known, _)| *is_known > 0).map(|(time, _, price)| (time, price)).collect()
}

/// The price that holds at an instant: for as long as to the nearer of its neighbours, an hour at most.
fn price_at(prices: &BTreeMap<i64, f64>, time: i64) -> Option<f64> {
    let (told, price) = prices.range(..=time).next_back()?;
    let before = prices.range(..told).next_back().map_or(HOUR, |(before, _)| told - before);
    let after = prices.range(told + 1..).next().map_or(HOUR, |(after, _)| after - told);
    (time - told < before.min(after).min(HOUR)).then_some(*price)
}

/// All sessions of one kind by a detector alone.
fn plain(kind: Kind, points: &[Point], prices: &BTreeMap<i64, f64>) -> Vec<session::Session> {
    let params = Params { price_max_age_ns: MINUTE, ..Params::default() };
    let mut samples: BTreeMap<i64, Sample> = BTreeMap::new();
    for (_, time, [pv, battery, grid, house, soc]) in points {
        let sample = Sample {
            battery_w: Some(*battery),
            grid_w: Some(*grid),
            pv_w: Some(*pv),
            consumption_w: Some(*house),
            soc_percent: Some(*soc),
            ..Sample::empty(Timestamp(*time))
        };
        samples.insert(*time, sample);
    }
    for minute in 0..DAYS * 1440 + 60 {
        let time = START + minute * MINUTE;
        let Some(price) = price_at(prices, time) else { continue };
        let sample = samples.entry(time).or_insert_with(|| Sample::empty(Timestamp(time)));
        (sample.import_price_pln_kwh, sample.export_price_pln_kwh) = (Some(price), Some(price));
    }
    let mut detector = Detector::new("roof", kind, params).unwrap();
    let mut found: Vec<_> = samples.values().filter_map(|sample| detector.feed(sample).unwrap()).collect();
    found.extend(detector.advance(Timestamp(START + (DAYS + 1) * 24 * HOUR)));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_random_powers_are_those_of_a_detector_that_is_fed_everything() {
    let first = std::env::var("WATTLOG_SEED").map_or(0, |seed| seed.parse().expect("WATTLOG_SEED: a number"));
    for seed in first..first + 2 {
        let mut rng = Rng::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(SimDisk::new(seed), &folder, START + (DAYS + 1) * 24 * HOUR);
        let (all, prices) = (readings(&mut rng), prices(&mut rng));
        for direction in [Direction::Import, Direction::Export] {
            let market = Tariff {
                definition: serde_json::json!({ "sold": true, "energy": { "market": { "source": "test" } } }),
                ..tariff(direction, 0.0, START, None)
            };
            home.ledger.insert(market, &Actor::new("test")).await.unwrap();
        }
        let mut batch = WriteBatch::new("wattlog", None);
        let slot = batch.series(PRICES, &TagSet::new([("source", "test")]).unwrap());
        for (line, (time, price)) in prices.iter().enumerate() {
            batch.row(slot, Timestamp(*time), line as u32).float("market_price", *price);
        }
        home.engine.write(batch).unwrap();
        for body in all.chunks(5000) {
            home.write(body);
        }
        home.settle().await;
        let found = home.all::<Session>().await;
        for (kind, name) in [(Kind::Charging, SessionKind::Charging), (Kind::Selling, SessionKind::Selling)] {
            let wanted = plain(kind, &all, &prices);
            let mut found: Vec<_> = found.iter().map(|s| &s.record).filter(|s| s.kind == name).collect();
            found.sort_by_key(|session| session.start);
            assert!(wanted.len() > 100, "seed {seed}: {} sessions prove little", wanted.len());
            let times = |start: Timestamp, end: Option<Timestamp>| (start.0, end.map(|end| end.0));
            assert_eq!(
                found.iter().map(|s| times(s.start, s.end)).collect::<Vec<_>>(),
                wanted.iter().map(|s| times(s.start, Some(s.end))).collect::<Vec<_>>(),
                "seed {seed}, {kind}"
            );
            for (found, wanted) in found.iter().zip(&wanted) {
                let what = format!("seed {seed}: {wanted:?}");
                close(found.energy_kwh, wanted.energy_kwh, &what);
                close(found.energy_grid_kwh, wanted.grid_kwh, &what);
                close(found.details["priced_kwh"].as_f64(), wanted.priced_kwh, &what);
                close(found.coverage, wanted.coverage(), &what);
                assert_eq!(found.details["readings"], wanted.sample_count, "{what}");
                let sign = if kind == Kind::Charging { 1.0 } else { -1.0 };
                match wanted.cost_pln {
                    Some(cost) => close(found.total_cost.or(found.revenue), sign * cost, &what),
                    None => assert_eq!((found.total_cost, found.revenue), (None, None), "{what}"),
                }
            }
        }
        home.stop().await;
    }
}
