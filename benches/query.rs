//! Question: how long does the engine take from a question to its columns, on sealed history in the page cache?
//!
//! Workload: ten devices, six fields, a row every 10 s for 60 days (31 million values), sealed; one field of one device
//! as raw points of a day and of all days, as hourly means of all days, and hourly means of everything. Hours are
//! shorter than blocks, so means are a matter of decoding, not of statistics.
//!
//! Not measured: HTTP and JSON, a cold page cache, points that are still in memory, overlapping segments.
//!
//! Floor: the same column as doubles in memory, copied once (raw) and summed once (means).

mod columns;
mod store;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use store::{DATABASE, FIELDS, MEASUREMENT, Plant, STEP_S, folder, is_test, open, time_of};
use wattlog_engine::Engine;
use wattlog_engine::query::{
    Function, GroupBy, QueryControl, QueryRequest, QueryResult, ResultValues, Shape, TagFilter, TagPredicate,
};

const DEVICE: usize = 3;
/// `pv_power`.
const FIELD: usize = 2;
const HOUR_ROWS: usize = 3600 / STEP_S as usize;
const DAY_ROWS: usize = 24 * HOUR_ROWS;

fn query(c: &mut Criterion) {
    let (devices, days) = if is_test() { (4, 1) } else { (10, 60) };
    let plant = Plant::new(devices, days);
    let rows = plant.rows();
    let folder = folder();
    let engine = open(&folder);
    plant.load(&engine);
    engine.seal().expect("sealed");
    let column = plant.column(DEVICE, FIELD);

    let mut group = c.benchmark_group("query");
    group.sample_size(30).measurement_time(Duration::from_secs(4));

    for (name, asked) in [("raw, a day, one field", DAY_ROWS), ("raw, all days, one field", rows)] {
        let request = of_one_device(rows - asked, rows);
        let answer = ask(&engine, &request);
        assert_eq!(answer.series.len(), 1);
        assert_eq!(numbers(&answer, 0, "pv_power"), column[rows - asked..], "{name}");
        group.throughput(Throughput::Elements(asked as u64));
        group.bench_function(name, |b| b.iter(|| black_box(ask(&engine, &request)).rows()));
    }

    let hourly = |request: QueryRequest| QueryRequest {
        shape: Shape::aggregate(vec![Function::Mean], Some(Duration::from_secs(3600))),
        ..request
    };
    let request = hourly(of_one_device(0, rows));
    is_mean(&numbers(&ask(&engine, &request), 0, "pv_power_mean"), column);
    group.throughput(Throughput::Elements(rows as u64));
    group.bench_function("hourly mean, all days, one field", |b| {
        b.iter(|| black_box(ask(&engine, &request)).rows());
    });

    let everything = QueryRequest {
        group_by: GroupBy::Keys(vec!["device_id".into()]),
        ..hourly(QueryRequest::raw(DATABASE, MEASUREMENT, time_of(0), time_of(rows)))
    };
    let answer = ask(&engine, &everything);
    assert_eq!(answer.series.len(), devices);
    is_mean(&numbers(&answer, DEVICE, "pv_power_mean"), column);
    group.throughput(Throughput::Elements((rows * devices * FIELDS.len()) as u64));
    group.bench_function("hourly mean, all days, everything", |b| {
        b.iter(|| black_box(ask(&engine, &everything)).rows());
    });

    group.throughput(Throughput::Elements(rows as u64));
    group.bench_function("floor: column copied", |b| b.iter(|| black_box(column.to_vec()).len()));
    group.bench_function("floor: column summed", |b| b.iter(|| black_box(column).iter().sum::<f64>()));
    group.finish();
    engine.close().expect("closed");
}

/// One field of one device, in the rows `first..end` of the plant.
fn of_one_device(first: usize, end: usize) -> QueryRequest {
    let device = TagPredicate::In(vec![format!("dev{DEVICE:03}")]);
    QueryRequest {
        fields: Some(vec![FIELDS[FIELD].into()]),
        tags: vec![TagFilter { key: "device_id".into(), predicate: device }],
        ..QueryRequest::raw(DATABASE, MEASUREMENT, time_of(first), time_of(end))
    }
}

fn ask(engine: &Engine, request: &QueryRequest) -> QueryResult {
    let result = engine.query(request, &QueryControl::default()).expect("an answer");
    assert!(!result.is_partial());
    result
}

/// A column of a series that has a value in every row.
fn numbers(answer: &QueryResult, series: usize, column: &str) -> Vec<f64> {
    match &answer.series[series].column(column).expect("the column was asked for").values {
        ResultValues::Float(values) => values.iter().map(|value| value.expect("no gaps")).collect(),
        other => panic!("{column} is {other:?}"),
    }
}

fn is_mean(means: &[f64], column: &[f64]) {
    let expected = column.chunks(HOUR_ROWS).map(|hour| hour.iter().sum::<f64>() / hour.len() as f64);
    assert_eq!(means.len(), column.len() / HOUR_ROWS);
    for (mean, expected) in means.iter().zip(expected) {
        assert!((mean - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{mean}, expected {expected}");
    }
}

criterion_group!(benches, query);
criterion_main!(benches);
