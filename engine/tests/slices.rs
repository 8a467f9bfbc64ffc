//! A large query over few series is computed in parts of time, by several threads; no bit of its answer depends on it.

use std::sync::Arc;
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_engine::query::{
    Aggregate, Condition, Every, Function, GroupBy, Literal, Operator, QueryControl, QueryRequest,
    ResultSeries, ResultValues, Shape, Zone,
};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{FieldValue, ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_780_272_000 * SECOND;
const ROWS: usize = 130_000;

/// Two series of readings that are no decimals, with gaps, late rows and rewrites, in two segments and in memory. More than
/// 200 000 rows in all: so many are shared among threads.
fn engine() -> Engine {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(START)));
    let engine =
        Engine::open(Arc::new(SimDisk::new(1)), options, clock, [7; 16]).expect("a store always opens");
    let mut rng = Rng::new(42);
    for part in 0..3 {
        for device in ["a", "b"] {
            let mut time = START + part * 1_000 * SECOND;
            for _ in 0..ROWS / 3 / 10_000 {
                let mut batch = WriteBatch::new("d", None);
                let slot = batch.series("m", &TagSet::new([("device", device)]).unwrap());
                for line in 0..10_000 {
                    time += if rng.below(5000) == 0 { 40_000 } else { 10 + rng.below(30) as i64 } * SECOND;
                    let value = (rng.below(1 << 40) as f64).sqrt() / 1e3 - 400.0;
                    batch.row(slot, Timestamp(time), line).value("power", &FieldValue::Float(value));
                }
                assert_eq!(engine.write(batch).unwrap().rejected, []);
            }
        }
        if part < 2 {
            engine.seal().unwrap();
        }
    }
    engine
}

fn ask(engine: &Engine, request: &QueryRequest) -> Vec<ResultSeries> {
    let result = engine.query(request, &QueryControl::default()).unwrap();
    assert!(!result.is_partial());
    result.series
}

/// Bits of all cells, row by row.
fn rows(series: &ResultSeries) -> Vec<Vec<u64>> {
    let cell = |values: &ResultValues, row: usize| match values {
        ResultValues::Time(v) | ResultValues::Integer(v) => v[row].map_or(u64::MAX, |v| v as u64),
        ResultValues::Float(v) => v[row].map_or(u64::MAX, f64::to_bits),
        other => panic!("{other:?} was not asked for"),
    };
    (0..series.rows()).map(|row| series.columns.iter().map(|c| cell(&c.values, row)).collect()).collect()
}

#[test]
fn each_bucket_has_the_bits_it_has_when_it_is_asked_for_alone() {
    let engine = engine();
    let functions = vec![
        Function::Count,
        Function::Sum,
        Function::Mean,
        Function::Min,
        Function::Max,
        Function::First,
        Function::Last,
        Function::Stddev,
        Function::Median,
    ];
    let zone = Zone::named("Europe/Warsaw").unwrap();
    for every in [Every::Nanos(3 * 3600 * SECOND as u64), Every::Days(1), Every::Days(7)] {
        for condition in [None, Some(Condition::compare("power", Operator::Greater, Literal::Integer(-100)))]
        {
            let aggregate = Aggregate {
                functions: functions.clone(),
                every: Some(every),
                offset_ns: 1800 * SECOND,
                zone: zone.clone(),
                ..Aggregate::default()
            };
            let whole = QueryRequest {
                shape: Shape::Aggregate(aggregate),
                condition,
                group_by: GroupBy::All,
                ..QueryRequest::raw("d", "m", Timestamp(START + 5_000 * SECOND), Timestamp::MAX)
            };
            let told = engine.explain(&whole, &QueryControl::default()).unwrap();
            assert!(told.threads > 1 || std::thread::available_parallelism().unwrap().get() == 1);
            let found = ask(&engine, &whole);
            assert_eq!(found.len(), 2);
            let table: Vec<_> = found.iter().map(rows).collect();
            assert!(table[0].len() > 1, "{} buckets", table[0].len());
            let starts: Vec<i64> = table.iter().flatten().map(|row| row[0] as i64).collect();
            // Some buckets, the first and the last among them.
            let mut chosen = starts.clone();
            chosen.sort_unstable();
            chosen.dedup();
            let ends: Vec<i64> = chosen.iter().skip(1).copied().chain([i64::MAX]).collect();
            let step = (chosen.len() / 40).max(1);
            for (start, end) in chosen.iter().zip(ends).step_by(step) {
                let part = QueryRequest {
                    start: Timestamp((*start).max(whole.start.0)),
                    end: Timestamp(end),
                    ..whole.clone()
                };
                let alone: Vec<_> = ask(&engine, &part).iter().map(rows).collect();
                let expected: Vec<Vec<Vec<u64>>> = table
                    .iter()
                    .map(|rows| {
                        rows.iter().filter(|row| row[0] as i64 == *start).cloned().collect::<Vec<_>>()
                    })
                    .filter(|rows: &Vec<_>| !rows.is_empty())
                    .collect();
                assert_eq!(alone, expected, "{every:?} at {start}");
            }
        }
    }
}
