//! Functions over results against a plain reading of their definitions, in whole numbers.

use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::query::{
    Function, HistogramEdges, Order, QueryControl, QueryError, QueryRequest, QueryResult, ResultValues,
    Shape, Step,
};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{FieldValue, ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;

/// A row: seconds since the row before, tenths of the float field if it has one, the integer field if it has one.
type Row = (i64, Option<i64>, Option<i64>);

fn engine(rows: &[Row]) -> Engine {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let engine = Engine::open(Arc::new(SimDisk::new(1)), options, clock, [7; 16]).unwrap();
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series("m", &TagSet::default());
    let mut time = 0;
    for (line, (gap, tenths, integer)) in rows.iter().enumerate() {
        time += gap * SECOND;
        if tenths.is_none() && integer.is_none() {
            continue;
        }
        let mut row = batch.row(slot, Timestamp(time), line as u32);
        if let Some(tenths) = tenths {
            row.float("f", *tenths as f64 / 10.0);
        }
        if let Some(integer) = integer {
            row.value("i", &FieldValue::Integer(*integer));
        }
    }
    assert_eq!(engine.write(batch).unwrap().rejected, []);
    engine
}

fn request(steps: Vec<Step>, field: &str) -> QueryRequest {
    let mut request = QueryRequest::raw("d", "m", Timestamp(0), Timestamp(i64::MAX));
    request.fields = Some(vec![field.to_owned()]);
    request.steps = steps;
    request
}

fn ask(engine: &Engine, request: &QueryRequest) -> QueryResult {
    engine.query(request, &QueryControl::default()).unwrap()
}

/// Time and value of each row of the only column.
fn column(result: &QueryResult) -> Vec<(i64, FieldValue)> {
    let Some(series) = result.series.first() else { return Vec::new() };
    let ResultValues::Time(times) = &series.columns[0].values else { panic!("times come first") };
    let value = |row: usize| match &series.columns[1].values {
        ResultValues::Float(v) => FieldValue::Float(v[row].expect("one column, so no row without a value")),
        ResultValues::Integer(v) => {
            FieldValue::Integer(v[row].expect("one column, so no row without a value"))
        }
        other => panic!("numbers were asked for, found {other:?}"),
    };
    times.iter().enumerate().map(|(row, time)| (time.unwrap(), value(row))).collect()
}

/// Time and value in whole numbers: tenths for the float field, ones for the other.
fn points(rows: &[Row], float: bool) -> Vec<(i64, i64)> {
    let mut time = 0;
    let all = rows.iter().filter_map(|(gap, tenths, integer)| {
        time += gap * SECOND;
        Some((time, if float { (*tenths)? } else { (*integer)? }))
    });
    all.collect()
}

fn tenths(value: i64, float: bool) -> FieldValue {
    if float { FieldValue::Float(value as f64 / 10.0) } else { FieldValue::Integer(value) }
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let value = || prop::option::weighted(0.8, -200_i64..200);
    prop::collection::vec((1_i64..4, value(), value()), 1..60)
        .prop_filter("at least one value each", |rows| {
            rows.iter().any(|row| row.1.is_some()) && rows.iter().any(|row| row.2.is_some())
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn differences_sums_and_means_are_exact(rows in any_rows(), n in 1_usize..6) {
        let engine = engine(&rows);
        for (float, field) in [(true, "f"), (false, "i")] {
            let points = points(&rows, float);
            let found = |step| column(&ask(&engine, &request(vec![step], field)));
            let pairs = || points.windows(2).map(|pair| (pair[1].0, pair[1].1 - pair[0].1));
            let expected: Vec<_> = pairs().map(|(t, d)| (t, tenths(d, float))).collect();
            prop_assert_eq!(found(Step::Difference { non_negative: false }), expected);
            let expected: Vec<_> = pairs().filter(|(_, d)| *d >= 0).map(|(t, d)| (t, tenths(d, float))).collect();
            prop_assert_eq!(found(Step::Difference { non_negative: true }), expected);
            let mut sum = 0;
            let expected: Vec<_> = points.iter().map(|(t, v)| { sum += v; (*t, tenths(sum, float)) }).collect();
            prop_assert_eq!(found(Step::CumulativeSum), expected);
            let scale = if float { 10.0 } else { 1.0 };
            let mean = |window: &[(i64, i64)]| {
                let sum = window.iter().map(|(_, v)| v).sum::<i64>() as f64 / scale;
                (window[n - 1].0, FieldValue::Float(sum / n as f64))
            };
            prop_assert_eq!(found(Step::MovingAverage(n as u32)), points.windows(n).map(mean).collect::<Vec<_>>());
            let slope = |pair: &[(i64, i64)]| {
                let difference = (pair[1].1 - pair[0].1) as f64 / scale;
                (pair[1].0, FieldValue::Float(difference * 60e9 / (pair[1].0 - pair[0].0) as f64))
            };
            let derivative = Step::Derivative { unit_ns: 60 * SECOND, non_negative: false };
            prop_assert_eq!(found(derivative), points.windows(2).map(slope).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_stands_out_is_kept_in_order_of_time(rows in any_rows(), n in 1_usize..6) {
        let engine = engine(&rows);
        for (float, field) in [(true, "f"), (false, "i")] {
            for greatest in [true, false] {
                let mut ranked = points(&rows, float);
                ranked.sort_by_key(|(time, value)| (if greatest { -value } else { *value }, *time));
                ranked.truncate(n);
                ranked.sort_unstable();
                let step = if greatest { Step::Top(n as u32) } else { Step::Bottom(n as u32) };
                let mut asked = request(vec![step], field);
                let expected: Vec<_> = ranked.iter().map(|(t, v)| (*t, tenths(*v, float))).collect();
                prop_assert_eq!(column(&ask(&engine, &asked)), expected.clone());
                asked.order = Order::Descending;
                asked.limit = Some(2);
                let newest: Vec<_> = expected.into_iter().rev().take(2).collect();
                prop_assert_eq!(column(&ask(&engine, &asked)), newest);
            }
        }
    }

    #[test]
    fn a_histogram_counts_every_value_once(rows in any_rows(), bins in 1_u32..8) {
        let engine = engine(&rows);
        let points = points(&rows, true);
        let counted = |edges: HistogramEdges| {
            let result = ask(&engine, &request(vec![Step::Histogram(edges)], "f"));
            let floats = |name: &str| match &result.series[0].column(name).unwrap().values {
                ResultValues::Float(v) => v.iter().map(|v| v.unwrap()).collect::<Vec<_>>(),
                other => panic!("edges are floats: {other:?}"),
            };
            let counts = match &result.series[0].column("f_histogram").unwrap().values {
                ResultValues::Integer(v) => v.iter().map(|v| v.unwrap()).collect::<Vec<_>>(),
                other => panic!("counts are integers: {other:?}"),
            };
            (floats("f_from"), floats("f_to"), counts)
        };
        let (from, to, counts) = counted(HistogramEdges::Equal(bins));
        let values: Vec<f64> = points.iter().map(|(_, v)| *v as f64 / 10.0).collect();
        let (low, high) = (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(f64::MIN, f64::max));
        prop_assert_eq!((from[0], to[to.len() - 1]), (low, high));
        prop_assert_eq!(counts.len(), if low == high { 1 } else { bins as usize });
        prop_assert_eq!(counts.iter().sum::<i64>(), values.len() as i64);
        for (i, count) in counts.iter().enumerate() {
            let is_last = i + 1 == counts.len();
            let inside = |v: &&f64| **v >= from[i] && (**v < to[i] || is_last && **v <= to[i]);
            prop_assert_eq!(*count, values.iter().filter(inside).count() as i64);
        }
        let (.., counts) = counted(HistogramEdges::Given(vec![-10.0, 0.0, 5.0]));
        let within = |low: i64, high: i64| points.iter().filter(|(_, v)| (low..high).contains(v)).count() as i64;
        prop_assert_eq!(counts, vec![within(-100, 0), within(0, 51)]);
    }
}

#[test]
fn steps_follow_each_other_over_buckets_and_pass_over_missing_values() {
    // Means of ten seconds: 1, 3, none, 9.
    let rows = [(0, Some(10), None), (10, Some(30), None), (20, Some(90), None)];
    let engine = engine(&rows);
    let mut asked = request(vec![Step::Difference { non_negative: false }, Step::CumulativeSum], "f");
    asked.shape = Shape::aggregate(vec![Function::Mean], Some(Duration::from_secs(10)));
    let found = ask(&engine, &asked);
    assert_eq!(found.series[0].columns[1].name, "f_mean_difference_cumulative_sum");
    let at = |s: i64, v: f64| (s * SECOND, FieldValue::Float(v));
    assert_eq!(column(&found), [at(10, 2.0), at(30, 8.0)]);
}

#[test]
fn a_moving_average_forgets_what_has_left_its_window() {
    let engine = engine(&[(0, Some(0), None)]);
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series("m", &TagSet::default());
    // 1e300 and a third are no short decimals: taking 1e300 off a running sum would leave nothing of the third.
    for (i, value) in [1e300, 1.0 / 3.0, 1.0 / 3.0].into_iter().enumerate() {
        batch.row(slot, Timestamp((i as i64 + 1) * SECOND), 1).float("f", value);
    }
    engine.write(batch).unwrap();
    let found = column(&ask(&engine, &request(vec![Step::MovingAverage(2)], "f")));
    assert_eq!(found.last(), Some(&(3 * SECOND, FieldValue::Float(1.0 / 3.0))));
}

#[test]
fn whole_numbers_that_leave_64_bits_become_floats() {
    let engine = engine(&[(0, None, Some(i64::MAX)), (1, None, Some(i64::MIN))]);
    let found = column(&ask(&engine, &request(vec![Step::Difference { non_negative: false }], "i")));
    assert_eq!(found, [(SECOND, FieldValue::Float(-18_446_744_073_709_551_615.0))]);
}

#[test]
fn steps_that_cannot_be_taken_are_refused() {
    let engine = engine(&[(0, Some(1), None)]);
    let refused =
        |steps: Vec<Step>| engine.query(&request(steps, "f"), &QueryControl::default()).unwrap_err();
    let histogram = |edges: &[f64]| Step::Histogram(HistogramEdges::Given(edges.to_vec()));
    for steps in [
        vec![Step::MovingAverage(0)],
        vec![Step::MovingAverage(Step::MAX_WINDOW + 1)],
        vec![Step::Top(0)],
        vec![Step::Derivative { unit_ns: 0, non_negative: false }],
        vec![Step::Histogram(HistogramEdges::Equal(Step::MAX_BINS + 1))],
        vec![histogram(&[1.0])],
        vec![histogram(&[1.0, 1.0])],
        vec![histogram(&[1.0, f64::INFINITY])],
        vec![histogram(&[1.0, 2.0]), Step::CumulativeSum],
        vec![Step::CumulativeSum; Step::MAX_STEPS + 1],
    ] {
        assert!(matches!(refused(steps), QueryError::BadStep { .. }));
    }
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series("m", &TagSet::default());
    batch.row(slot, Timestamp(0), 1).value("mode", &FieldValue::String("a".into()));
    engine.write(batch).unwrap();
    let error =
        engine.query(&request(vec![Step::CumulativeSum], "mode"), &QueryControl::default()).unwrap_err();
    assert!(error.to_string().contains("cumulative_sum is not defined for \"mode\""), "{error}");
    let mut all = request(vec![Step::CumulativeSum], "f");
    all.fields = None;
    assert_eq!(ask(&engine, &all).series[0].columns.len(), 2, "a text is left out if it was not named");
}
