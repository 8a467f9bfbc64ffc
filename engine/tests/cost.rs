//! Cost of power at a price that changes, against exact fractions.

use std::sync::Arc;
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_engine::query::{
    Aggregate, Condition, Every, Function, Literal, Operator, PriceSource, QueryControl, QueryError,
    QueryRequest, ResultValues, Shape, TagFilter, TagPredicate, Zone,
};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{FieldKind, FieldMeaning, FieldValue, ManualClock, TagSet, Timestamp, Unit};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600;
/// 2026-10-24T00:00:00Z, the day before clocks go back in Warsaw.
const START_S: i64 = 1_792_800_000;

fn open() -> Engine {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(START_S * SECOND)));
    Engine::open(Arc::new(SimDisk::new(1)), options, clock, [7; 16]).expect("a store always opens")
}

/// Rows of (second, value), and what the field is counted in.
fn write(engine: &Engine, measurement: &str, tag: &str, field: &str, unit: &str, rows: &[(i64, f64)]) {
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series(measurement, &TagSet::new([("site", tag)]).unwrap());
    for (line, (second, value)) in rows.iter().enumerate() {
        batch.row(slot, Timestamp(second * SECOND), line as u32).value(field, &FieldValue::Float(*value));
    }
    assert_eq!(engine.write(batch).unwrap().rejected, []);
    let meaning = FieldMeaning { field: field.to_owned(), unit: Unit::new(unit), kind: FieldKind::Linear };
    engine.describe_fields("d", measurement, &[meaning]).unwrap();
}

fn request(start: i64, end: i64, every: Option<Every>) -> QueryRequest {
    let mut request = QueryRequest::raw("d", "power", Timestamp(start * SECOND), Timestamp(end * SECOND));
    request.fields = Some(vec!["grid".to_owned()]);
    request.shape = Shape::Aggregate(Aggregate {
        functions: vec![Function::Cost, Function::Priced, Function::Integral],
        every,
        zone: Zone::named("Europe/Warsaw").unwrap(),
        price: Some(PriceSource {
            measurement: "prices".to_owned(),
            field: "price".to_owned(),
            tags: Vec::new(),
            max_age_ns: 6 * HOUR * SECOND,
        }),
        ..Aggregate::default()
    });
    request
}

/// Time in seconds, cost, share that had a price.
fn ask(engine: &Engine, request: &QueryRequest) -> Vec<(i64, Option<f64>, Option<f64>)> {
    let result = engine.query(request, &QueryControl::default()).unwrap();
    let Some(series) = result.series.first() else { return Vec::new() };
    let floats = |name: &str| match &series.column(name).unwrap().values {
        ResultValues::Float(values) => values.clone(),
        other => panic!("{name} is {other:?}"),
    };
    let ResultValues::Time(times) = &series.columns[0].values else { panic!("times come first") };
    let rows = times.iter().zip(floats("grid_cost")).zip(floats("grid_priced"));
    rows.map(|((time, cost), priced)| (time.unwrap() / SECOND, cost, priced)).collect()
}

/// The cost of a stretch of seconds in fractions: thousandths of watts, ten-thousandths of a price per kWh. The result is a
/// numerator over twice [`STEPS`] times 3.6e6 times 1e7.
fn exact(power: &[(i64, i64)], prices: &[(i64, i64)], from: i64, to: i64, max_age: i64) -> i128 {
    let price_at = |second: i64| {
        let place = prices.partition_point(|(time, _)| *time <= second);
        place
            .checked_sub(1)
            .map(|i| prices[i])
            .filter(|(time, _)| second - time < max_age)
            .map(|(_, price)| price)
    };
    let mut sum = 0_i128;
    for pair in power.windows(2) {
        let ((t0, v0), (t1, v1)) = (pair[0], pair[1]);
        assert_eq!(STEPS % (t1 - t0), 0, "a span that divides the denominator");
        // Second by second: prices change at whole seconds.
        for second in t0.max(from)..t1.min(to) {
            let Some(price) = price_at(second) else { continue };
            let at = |t: i64| i128::from(v0 * STEPS + (v1 - v0) * (t - t0) * (STEPS / (t1 - t0)));
            sum += (at(second) + at(second + 1)) * i128::from(price);
        }
    }
    sum
}

/// A multiple of all spans between points.
const STEPS: i64 = 120;

#[test]
fn cost_is_that_of_exact_fractions_whatever_is_sealed() {
    let mut rng = Rng::new(7);
    let engine = open();
    let (mut second, mut power) = (START_S + 7, Vec::new());
    for i in 0..14_000 {
        power.push((second, rng.below(9_000_000) as i64 - 3_000_000));
        second += *rng.pick(&[5, 10, 10, 10, 15, 30, 60]);
        if i == 5000 {
            second += 2 * HOUR - 20;
        }
    }
    // A gap in the prices that is longer than a price may hold, and changes off the beat of the points.
    let end = second;
    let mut prices = Vec::new();
    let mut at = START_S - 1800;
    while at < end {
        if !(START_S + 20 * HOUR..START_S + 30 * HOUR).contains(&at) {
            prices.push((at, rng.below(20_000) as i64 - 2000));
        }
        at += *rng.pick(&[900, 900, 3600, 877]);
    }
    let float = |rows: &[(i64, i64)], scale: f64| -> Vec<(i64, f64)> {
        rows.iter().map(|(t, v)| (*t, *v as f64 / scale)).collect()
    };
    write(&engine, "prices", "x", "price", "PLN/kWh", &float(&prices, 1e4));
    write(&engine, "power", "a", "grid", "W", &float(&power, 1e3));
    // Pairs further apart than the gap allowed cover nothing.
    let runs: Vec<&[(i64, i64)]> = power.chunk_by(|a, b| b.0 - a.0 <= HOUR).collect();
    assert_eq!(runs.len(), 2);
    let check = |engine: &Engine| {
        for every in [None, Some(Every::Nanos((HOUR * SECOND) as u64)), Some(Every::Days(1))] {
            let rows = ask(engine, &request(START_S, end, every));
            let mut ends: Vec<i64> = rows.iter().skip(1).map(|(time, ..)| *time).collect();
            ends.push(end);
            let mut counted = 0;
            for ((time, cost, priced), until) in rows.iter().zip(ends) {
                let numerator: i128 =
                    runs.iter().map(|run| exact(run, &prices, (*time).max(START_S), until, 6 * HOUR)).sum();
                let expected = numerator as f64 / (2.0 * STEPS as f64 * 3.6e6 * 1e7);
                let found = cost.unwrap_or(0.0);
                assert!(
                    (found - expected).abs() <= expected.abs() * 1e-14 + 1e-12,
                    "{time}: {found}, expected {expected}"
                );
                counted += usize::from(cost.is_some());
                assert!(priced.is_none_or(|share| (0.0..=1.0).contains(&share)));
            }
            assert!(counted > 0);
        }
    };
    check(&engine);
    engine.seal().unwrap();
    check(&engine);
    engine.compact().unwrap();
    check(&engine);
}

#[test]
fn the_hour_that_comes_twice_is_priced_twice() {
    // 2026-10-25 in Warsaw: 25 hours, 1 kW throughout; each hour of UTC has its own price.
    let engine = open();
    let midnight = START_S + 22 * HOUR;
    let power: Vec<(i64, f64)> = (0..=25 * 60).map(|minute| (midnight + minute * 60, 1000.0)).collect();
    let prices: Vec<(i64, f64)> = (0..25).map(|hour| (midnight + hour * HOUR, 1.0 + hour as f64)).collect();
    write(&engine, "power", "a", "grid", "W", &power);
    write(&engine, "prices", "x", "price", "PLN/kWh", &prices);
    let day = ask(&engine, &request(midnight, midnight + 25 * HOUR, Some(Every::Days(1))));
    assert_eq!(day, [(midnight, Some((1..=25).sum::<i64>() as f64), Some(1.0))]);
    let hours =
        ask(&engine, &request(midnight, midnight + 25 * HOUR, Some(Every::Nanos((HOUR * SECOND) as u64))));
    let expected: Vec<_> =
        (0..25).map(|hour| (midnight + hour * HOUR, Some(1.0 + hour as f64), Some(1.0))).collect();
    assert_eq!(hours, expected);
}

#[test]
fn time_without_a_price_is_told_and_costs_nothing() {
    let engine = open();
    write(
        &engine,
        "power",
        "a",
        "grid",
        "kW",
        &[(START_S, 2.0), (START_S + HOUR, 2.0), (START_S + 2 * HOUR, 2.0)],
    );
    write(&engine, "prices", "x", "price", "EUR/MWh", &[(START_S + HOUR, 100.0)]);
    let found = ask(&engine, &request(START_S, START_S + 3 * HOUR, None));
    // 2 kWh at 0.1 EUR; the first hour has no price.
    assert_eq!(found, [(START_S, Some(0.2), Some(0.5))]);
    let mut before = request(START_S, START_S + HOUR, None);
    assert_eq!(ask(&engine, &before), [(START_S, None, Some(0.0))]);
    before.condition = Some(Condition::compare("grid", Operator::Greater, Literal::Integer(5)));
    assert_eq!(ask(&engine, &before), []);
}

#[test]
fn a_price_older_than_allowed_is_none() {
    let engine = open();
    let hours: Vec<(i64, f64)> = (0..=12).map(|hour| (START_S + hour * HOUR, 1000.0)).collect();
    write(&engine, "power", "a", "grid", "W", &hours);
    write(&engine, "prices", "x", "price", "PLN/kWh", &[(START_S - HOUR, 1.0)]);
    let found = ask(&engine, &request(START_S, START_S + 12 * HOUR, None));
    assert_eq!(found, [(START_S, Some(5.0), Some(5.0 / 12.0))], "six hours after it was told");
}

#[test]
fn prices_and_powers_that_do_not_fit_are_refused() {
    let engine = open();
    write(&engine, "power", "a", "grid", "W", &[(START_S, 1.0), (START_S + 10, 1.0)]);
    let mut asked = request(START_S, START_S + HOUR, None);
    let refused = |asked: &QueryRequest| engine.query(asked, &QueryControl::default()).unwrap_err();
    write(&engine, "prices", "x", "price", "PLN", &[(START_S, 1.0)]);
    let message = refused(&asked).to_string();
    assert!(
        message.contains("\"grid\" has the unit W") && message.contains("the price has the unit PLN"),
        "{message}"
    );
    write(&engine, "prices", "y", "price", "PLN/kWh", &[(START_S, 1.0)]);
    assert_eq!(refused(&asked), QueryError::SeveralPrices { found: 2 });
    let Shape::Aggregate(aggregate) = &mut asked.shape else { unreachable!() };
    let only = TagPredicate::In(vec!["y".to_owned()]);
    aggregate.price.as_mut().unwrap().tags = vec![TagFilter { key: "site".to_owned(), predicate: only }];
    assert_eq!(ask(&engine, &asked).len(), 1);
    let Shape::Aggregate(aggregate) = &mut asked.shape else { unreachable!() };
    aggregate.price = None;
    assert_eq!(refused(&asked), QueryError::NoPrice);
}
