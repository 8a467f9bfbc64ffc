//! Question: what does a condition across two fields cost, on sealed and compacted history in the page cache?
//!
//! Workload: ten devices, six fields, a row every 10 s for 60 days (31 million values), compacted. `battery_soc<20 and
//! price>0.8` leaves few row groups that can match, `battery_soc<50 and price>0.5` most, `battery_soc<0` none and
//! `battery_soc>=0` all (those are answered from statistics).
//!
//! Not measured: HTTP and JSON, a cold page cache, points in memory, overlapping segments.
//!
//! Floor: both columns as doubles in memory, compared row by row.

mod columns;
mod store;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use store::{DATABASE, MEASUREMENT, Plant, folder, is_test, open, time_of};
use wattlog_engine::query::{
    Condition, Function, Literal, Operator, QueryControl, QueryRequest, ResultValues, Shape,
};

const SOC: usize = 0;
const PRICE: usize = 5;

fn filter(c: &mut Criterion) {
    let (devices, days) = if is_test() { (4, 2) } else { (10, 60) };
    let plant = Plant::new(devices, days);
    let rows = plant.rows();
    let folder = folder();
    let engine = open(&folder);
    plant.load(&engine);
    engine.compact().expect("compacted");

    let counted = |soc: f64, price: f64| {
        let both = |device| plant.column(device, SOC).iter().zip(plant.column(device, PRICE));
        (0..devices)
            .map(|device| both(device).filter(|(s, p)| **s < soc && **p > price).count())
            .sum::<usize>()
    };
    let compare = |name: &str, operator, value| Condition::compare(name, operator, Literal::Float(value));
    let both = |soc, price| {
        Condition::All(vec![
            compare("battery_soc", Operator::Less, soc),
            compare("price", Operator::Greater, price),
        ])
    };
    let everything = devices * rows;
    let cases = [
        ("few groups can match", both(20.0, 0.8), counted(20.0, 0.8)),
        ("most groups can match", both(50.0, 0.5), counted(50.0, 0.5)),
        ("no row matches", compare("battery_soc", Operator::Less, 0.0), 0),
        ("every row matches", compare("battery_soc", Operator::GreaterOrEqual, 0.0), everything),
    ];

    let mut group = c.benchmark_group("filter");
    group.sample_size(30).measurement_time(std::time::Duration::from_secs(4));
    group.throughput(Throughput::Elements(everything as u64));
    for (name, condition, expected) in cases {
        let mut request = QueryRequest::raw(DATABASE, MEASUREMENT, time_of(0), time_of(rows));
        request.fields = Some(vec!["battery_soc".into()]);
        request.shape = Shape::aggregate(vec![Function::Count], None);
        request.condition = Some(condition);
        let ask = || engine.query(&request, &QueryControl::default()).expect("an answer");
        let answer = ask();
        assert!(!answer.is_partial());
        let found = match answer.series.first().map(|series| &series.columns[1].values) {
            None => 0,
            Some(ResultValues::Integer(counts)) => counts[0].expect("a count"),
            Some(other) => panic!("a count is {other:?}"),
        };
        assert_eq!(found, expected as i64, "{name}");
        println!("{name}: {expected} rows of {everything}, {:?}", answer.stats);
        group.bench_function(name, |b| b.iter(|| black_box(ask()).rows()));
    }
    group.bench_function("floor: two columns compared", |b| {
        b.iter(|| black_box(counted(black_box(20.0), 0.8)));
    });
    group.finish();
    engine.close().expect("closed");
}

criterion_group!(benches, filter);
criterion_main!(benches);
