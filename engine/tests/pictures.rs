//! `pixels`: the points that are kept draw the picture that all points draw.

use std::collections::BTreeSet;
use std::sync::Arc;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::query::{Order, QueryControl, QueryRequest, QueryResult, ResultValues, Shape};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{FieldValue, ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_780_272_000 * SECOND;
/// Pixels from the least to the greatest value.
const HEIGHT: f64 = 200.0;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn open() -> Engine {
    let clock = Arc::new(ManualClock::new(Timestamp(START)));
    let options = Options { ballast_bytes: 0, ..Options::default() };
    Engine::open(Arc::new(SimDisk::new(1)), options, clock, [7; 16]).expect("a store always opens")
}

fn write(engine: &Engine, points: &[(i64, f64)]) {
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series("m", &TagSet::default());
    for (line, (time, value)) in points.iter().enumerate() {
        batch.row(slot, Timestamp(*time), line as u32).value("power", &FieldValue::Float(*value));
    }
    assert_eq!(engine.write(batch).unwrap().rejected, []);
}

fn ask(engine: &Engine, shape: Shape, range: (i64, i64)) -> QueryResult {
    let request =
        QueryRequest { shape, ..QueryRequest::raw("d", "m", Timestamp(range.0), Timestamp(range.1)) };
    engine.query(&request, &QueryControl::default()).expect("an answer")
}

fn points(answer: &QueryResult) -> Vec<(i64, f64)> {
    let Some(series) = answer.series.first() else { return Vec::new() };
    let (ResultValues::Time(times), ResultValues::Float(values)) =
        (&series.columns[0].values, &series.column("power").unwrap().values)
    else {
        panic!("times and floats")
    };
    times.iter().zip(values).map(|(time, value)| (time.unwrap(), value.unwrap())).collect()
}

/// Pixels that a line through `points` covers on a drawing so many pixels wide.
fn draw(points: &[(i64, f64)], range: (i64, i64), width: u32, low: f64, high: f64) -> BTreeSet<(u32, u32)> {
    let scale = f64::from(width) / (range.1 - range.0) as f64;
    let x = |time: i64| {
        (
            (time - range.0) as f64 * scale,
            (i128::from(time - range.0) * i128::from(width) / i128::from(range.1 - range.0)) as u32,
        )
    };
    let y = |value: f64| (value - low) / (high - low).max(1e-9) * (HEIGHT - 1.0);
    let mut covered = BTreeSet::new();
    let mut fill = |column: u32, a: f64, b: f64| {
        covered.extend((a.min(b) as u32..=a.max(b) as u32).map(|row| (column, row)));
    };
    for (time, value) in points {
        fill(x(*time).1, y(*value), y(*value));
    }
    for pair in points.windows(2) {
        let ((from, first), (to, last)) = (x(pair[0].0), x(pair[1].0));
        let (below, above) = (y(pair[0].1), y(pair[1].1));
        let at = |x: f64| {
            if to > from {
                below + (above - below) * ((x - from) / (to - from)).clamp(0.0, 1.0)
            } else {
                above
            }
        };
        for column in first..=last {
            let (enters, leaves) = (from.max(f64::from(column)), to.min(f64::from(column + 1)));
            let (a, b) = if first == last { (below, above) } else { (at(enters), at(leaves)) };
            fill(column, a, b);
        }
    }
    covered
}

#[test]
fn the_points_that_are_kept_draw_the_same_picture() {
    for seed in 1..=6 {
        let mut random = Random(seed);
        let engine = open();
        let (mut time, mut value) = (START, 500.0);
        let mut rows = Vec::new();
        for _ in 0..6000 {
            // A gap here and there.
            time += SECOND * (1 + random.below(20) as i64 + if random.below(200) == 0 { 20_000 } else { 0 });
            value += random.below(41) as f64 - 20.0 + if random.below(300) == 0 { 900.0 } else { 0.0 };
            value = if value > 2500.0 { 0.0 } else { value };
            rows.push((time, value));
        }
        let (late, in_time): (Vec<_>, Vec<_>) = rows.iter().partition(|_| random.below(15) == 0);
        write(&engine, &in_time[..4000]);
        engine.seal().unwrap();
        write(&engine, &late);
        write(&engine, &in_time[4000..]);
        let last = rows[rows.len() - 1].0;
        for width in [1, 2, 7, 100, 333, 1000, 5000] {
            for range in [(START, last + 1), (START + 3_333_333_333_333, last - 7_777_777_777_777)] {
                let all = points(&ask(&engine, Shape::Raw, range));
                let kept = points(&ask(&engine, Shape::Pixels(width), range));
                assert!(kept.iter().all(|point| all.contains(point)), "seed {seed}: a point was invented");
                assert!(kept.len() <= 4 * width as usize && kept.is_sorted_by(|a, b| a.0 < b.0));
                let low = all.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
                let high = all.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
                let draw = |points: &[(i64, f64)]| draw(points, range, width, low, high);
                assert!(draw(&all) == draw(&kept), "seed {seed}, {width} pixels, {range:?}");
                if width == 100 {
                    // The check can fail: without its extremes a column is another.
                    let thinned: Vec<_> = kept.iter().step_by(2).copied().collect();
                    assert!(draw(&all) != draw(&thinned));
                }
            }
        }
        engine.close().unwrap();
    }
}

#[test]
fn fields_share_rows_and_have_values_only_where_they_are_kept() {
    let engine = open();
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series("m", &TagSet::default());
    for i in 0..100_i64 {
        let mut row = batch.row(slot, Timestamp(START + i * SECOND), i as u32);
        row.value("up", &FieldValue::Integer(i));
        row.value("mode", &FieldValue::String(if i < 50 { "grid".into() } else { "battery".into() }));
        row.value("peak", &FieldValue::Float(if i == 30 { 9.0 } else { 1.0 }));
    }
    assert_eq!(engine.write(batch).unwrap().rejected, []);
    let answer = ask(&engine, Shape::Pixels(1), (START, START + 100 * SECOND));
    let series = &answer.series[0];
    let times: Vec<i64> = [0, 30, 99].iter().map(|i| START + i * SECOND).collect();
    assert_eq!(series.columns[0].values, ResultValues::Time(times.into_iter().map(Some).collect()));
    let column = |name: &str| &series.column(name).unwrap().values;
    assert_eq!(*column("up"), ResultValues::Integer(vec![Some(0), None, Some(99)]));
    assert_eq!(
        *column("mode"),
        ResultValues::String(vec![Some("grid".into()), None, Some("battery".into())])
    );
    assert_eq!(*column("peak"), ResultValues::Float(vec![Some(1.0), Some(9.0), Some(1.0)]));
    let request = QueryRequest {
        shape: Shape::Pixels(1),
        order: Order::Descending,
        limit: Some(2),
        fields: Some(vec!["up".into()]),
        ..QueryRequest::raw("d", "m", Timestamp(START), Timestamp(START + 100 * SECOND))
    };
    let newest = engine.query(&request, &QueryControl::default()).unwrap();
    let up = &newest.series[0].column("up").unwrap().values;
    assert_eq!(*up, ResultValues::Integer(vec![Some(99), Some(0)]));
    engine.close().unwrap();
}

#[test]
fn a_drawing_has_pixels() {
    let engine = open();
    write(&engine, &[(START, 1.0)]);
    let request =
        QueryRequest { shape: Shape::Pixels(0), ..QueryRequest::raw("d", "m", Timestamp(0), Timestamp(9)) };
    assert!(engine.query(&request, &QueryControl::default()).is_err());
    // Parts shorter than a few nanoseconds, far from the beginning of time.
    for (width, pixels) in [(1000, 1000), (1000, 1500), (1_000_000, 1_000_000), (SECOND, u32::MAX)] {
        let fine: Vec<(i64, f64)> = (1..9).map(|i| (START + i * width / 9, (i * i % 5) as f64)).collect();
        write(&engine, &fine);
        let range = (START + 1, START + width);
        assert_eq!(
            points(&ask(&engine, Shape::Pixels(pixels), range)),
            points(&ask(&engine, Shape::Raw, range))
        );
    }
    // More pixels than nanoseconds: each of those has one.
    let wide = ask(&engine, Shape::Pixels(u32::MAX), (START - 5, START + 5));
    assert_eq!(points(&wide)[0], (START, 1.0));
    engine.close().unwrap();
}
